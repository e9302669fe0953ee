"""The data definition page: datasets, keys, variables, codes, and where each value comes from.

It is to a reader what Define-XML is to a program (Define-XML 2.1, 4.3.2: origins). Everything stands in
`mappings/datasets.yaml`, `mappings/definitions.yaml`, the concept maps and the study file; of the data it shows the
number of records and of notes alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from ruamel.yaml import YAML

from fhir_adapter.assets import asset
from fhir_adapter.datasets import Dataset, Variable
from fhir_adapter.export.tables import Note, Table, longer_than_planned
from fhir_adapter.export.xpt import transport_names
from fhir_adapter.study import Characteristic, Study

__all__ = ["Codelist", "Definition", "definition", "render_definition", "shipped_codelists"]

_TEMPLATE, _STYLE = "define.html.j2", "style.css"
_TYPE = {
    "text": "text",
    "flag": "text",
    "integer": "integer",
    "float": "float",
    "date": "date",
    "datetime": "datetime",
}


@dataclass(frozen=True)
class Codelist:
    """Values that a variable can have: code → meaning (empty where the code says it)."""

    id: str
    label: str
    terms: dict[str, str]
    concepts: str = ""


@dataclass(frozen=True)
class Definition:
    """Where the values of a variable come from.

    Attributes:
        origin: Collected, Derived, Assigned or Predecessor; empty if nothing is known.
        source: how it is made, a sentence in which `…` marks names.
        codes: id of its codelist, or empty.
    """

    origin: str = ""
    source: str = ""
    codes: str = ""


@cache
def _tree() -> dict[str, Any]:
    text = asset("mappings", "definitions.yaml").read_text(encoding="utf-8")
    tree: dict[str, Any] = YAML(typ="safe").load(text)
    return tree


@cache
def shipped_codelists() -> dict[str, Codelist]:
    """Codelists by id; those of concept maps hold the map's target codes."""
    found = {}
    for id_, entry in _tree()["codelists"].items():
        name = entry.get("concepts", "")
        terms = entry.get("terms") or _targets(name)
        found[id_] = Codelist(
            id_, entry["label"], {str(code): str(text) for code, text in terms.items()}, name
        )
    return found


def _targets(name: str) -> dict[str, str]:
    """Target codes of a concept map that ships, with their displays."""
    tree = json.loads(asset("mappings", "concepts", f"{name}.json").read_text(encoding="utf-8"))
    targets = (
        target
        for group in tree.get("group", ())
        for element in group["element"]
        for target in element.get("target", ())
        if target.get("code")
    )
    terms: dict[str, str] = {}
    for target in targets:
        terms.setdefault(target["code"], target.get("display", ""))
    return dict(sorted(terms.items()))


def definition(dataset: Dataset, name: str) -> Definition:
    """The definition of a variable: its own, that of its kind in SDTM domains (`--SEQ`), or that of its name.

    An SDTM variable that has none is collected; any other has an empty one.
    """
    entries = _tree()["variables"]
    kind = f"--{name[2:]}" if dataset.model == "SDTM" and name.startswith(dataset.name) else ""
    for key in (f"{dataset.name}.{name}", kind, name):
        if key in entries:
            entry = entries[key]
            return Definition(entry["origin"], entry.get("from", ""), entry.get("codes", ""))
    if dataset.model == "SDTM":
        return Definition("Collected", "As in the source")
    return Definition()


def render_definition(tables: Sequence[Table], study: Study, notes: Sequence[Note] | None = None) -> str:
    """The page as HTML: one file, no script, no request.

    Args:
        tables: datasets with their rows.
        study: the study of the run, for its title and what it adds to ADSL.
        notes: what exported files say otherwise than the datasets; without them, texts that are longer than planned.
    """
    if notes is None:
        notes = [note for table in tables for note in longer_than_planned(table)]
    own, lists = _of_study(study)
    lists = shipped_codelists() | lists
    datasets = []
    used: dict[str, Codelist] = {}
    for table in tables:
        rows = []
        for variable in table.dataset.variables:
            said = own.get(variable.name) if table.dataset.open else None
            said = said or definition(table.dataset, variable.name)
            if said.codes:
                used[said.codes] = lists[said.codes]
            rows.append(_row(variable, said, table.dataset, lists))
        datasets.append(
            {
                "name": table.dataset.name,
                "label": table.dataset.label,
                "model": table.dataset.model,
                "keys": table.dataset.keys,
                "records": len(table.frame),
                "rows": rows,
            }
        )
    environment = Environment(
        loader=FileSystemLoader(str(asset("templates"))),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style = asset("templates", _STYLE).read_text(encoding="utf-8")
    return environment.get_template(_TEMPLATE).render(
        study=study,
        datasets=datasets,
        codelists=sorted(used.values(), key=lambda one: one.id),
        notes=notes,
        style=Markup(style),  # noqa: S704 - our own style sheet
    )


def _row(
    variable: Variable, said: Definition, dataset: Dataset, lists: dict[str, Codelist]
) -> dict[str, Any]:
    short = transport_names([one.name for one in dataset.variables])[variable.name]
    return {
        "name": variable.name,
        "short": "" if short == variable.name else short,
        "label": variable.label,
        "type": _TYPE[variable.type],
        "length": variable.length if variable.type in {"text", "flag", "datetime"} else "",
        "key": variable.name in dataset.keys,
        "codes": lists[said.codes] if said.codes else None,
        "origin": said.origin,
        "source": said.source.split("`"),
    }


def _of_study(study: Study) -> tuple[dict[str, Definition], dict[str, Codelist]]:
    """Definitions and codelists of the variables that the study file adds to ADSL."""
    own: dict[str, Definition] = {}
    lists: dict[str, Codelist] = {}
    for item in study.baseline.characteristics:
        codes = ""
        if item.levels:
            codes = f"STUDY.{item.variable}"
            lists[codes] = Codelist(codes, item.label, {level.value: level.label for level in item.levels})
        own[item.variable] = Definition("Derived", _how(item), codes)
    for chosen in study.analysis_sets:
        own[chosen.flag] = Definition(
            "Derived", f"Y if in the analysis set `{chosen.id}` of the study file", "Y"
        )
    return own, lists


def _how(item: Characteristic) -> str:
    when = {"first_dose": ", by the first dose", "baseline": ", by the baseline visit", "any": ""}
    which = {
        "first": "first value of ", "last": "last value of ", "worst": "worst value of ",
        "any": "any value of ", "all": "all values of ",
    }  # fmt: skip
    rows = f", of rows that satisfy the condition of `{item.variable}`" if item.where is not None else ""
    what = f"{item.dataset}.{item.source}" if item.source else f"rows of {item.dataset}"
    start = "Y if there are " if item.type == "flag" else which[item.pick]
    text = f"{start}{what}{rows}{when[item.on_or_before]} (study file)"
    return text[0].upper() + text[1:]
