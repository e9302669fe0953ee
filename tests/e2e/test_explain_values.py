"""Random values of two cohorts: `explain` names the resource and element, and the value follows from it.

Of the hundred that `make soak` explains the first 25 are among the ordinary tests.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

import fhirpathpy
import pandas as pd
import pytest
from fhirpathpy.models import models
from typer.testing import CliRunner

from fhir_adapter.assets import asset
from fhir_adapter.cli import app
from fhir_adapter.datasets import metadata
from fhir_adapter.mapping.origins import origin
from fhir_adapter.pipeline import opening

from .conftest import Adapter

SDTM = [name for name, dataset in metadata().items() if dataset.model == "SDTM"]
ADAM = [name for name, dataset in metadata().items() if dataset.model == "ADaM" and name != "LINEAGE"]


def explained(run: Path, dataset: str, variable: str, subject: str, seq: int) -> dict[str, Any]:
    """The answer of the command line, in this process because many are wanted."""
    done = CliRunner().invoke(
        app, ["explain", str(run), f"{dataset}.{variable}", "--subject", subject, "--seq", str(seq), "--json"]
    )
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.output)
    return found


def source_of(run: Path) -> dict[str, dict[str, Any]]:
    """Every resource of the source folder beside the runs, by `Type/id`."""
    folder = run.parents[2] / "source"
    return {
        f"{item['resourceType']}/{item['id']}": item
        for path in folder.glob("*.ndjson")
        for item in map(json.loads, path.read_text("utf-8").splitlines())
    }


def folded(text: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip().casefold()


@cache
def concept_map(name: str) -> dict[str, list[tuple[str, dict[str, str]]]]:
    """Code or word → its targets and their properties, read from the file and not by the program under test."""
    tree = json.loads(asset("mappings", "concepts", f"{name}.json").read_text("utf-8"))
    table: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for group in tree["group"]:
        for element in group["element"]:
            for target in element.get("target", []):
                if target.get("code"):
                    products = {
                        item["property"].rpartition("/")[2]: item["value"]
                        for item in target.get("product", [])
                    }
                    table.setdefault(folded(element["code"]), []).append((target["code"], products))
    return table


def looked_up(raw: Any, maps: str) -> Iterator[tuple[str, dict[str, str]]]:
    text = folded(str(raw))
    for name in maps.split():
        for key in dict.fromkeys(
            (text, text.split("|", maxsplit=1)[0], text.split(".", maxsplit=1)[0], text[:1])
        ):
            yield from concept_map(name).get(key, [])


def number(text: Any) -> Decimal | None:
    try:
        return Decimal(str(text)).normalize()
    except InvalidOperation:
        return None


#: What the documented conversion makes of what stands there, where it is neither a copy nor a look-up.
CONSTANTS = {
    ("DM", "DTHFL"): {"Y"},
    ("DM", "CONSENT"): {"permit", "deny", "withdrawn"},
    ("DS", "DSTERM"): {"ENROLLED", "PERMIT", "DENY", "WITHDRAWN"},
    ("DS", "DSDECOD"): {"ENROLLED", "INFORMED CONSENT OBTAINED", "CONSENT DENIED", "CONSENT WITHDRAWN"},
    ("TU", "TUNODAL"): {"Y"},
    ("TR", "TRSTAT"): {"NOT DONE"},
    ("AE", "AESER"): {"Y"},
    ("AE", "AEACN"): {"DRUG WITHDRAWN"},
}
#: What holds where nothing stands there.
OTHERWISE = {"TREVAL": "INVESTIGATOR", "TUEVAL": "INVESTIGATOR", "RSEVAL": "INVESTIGATOR", "CMCAT": "OTHER",
             "MHCAT": "OTHER", "PRCAT": "OTHER"}  # fmt: skip


def made_of(dataset: str, variable: str, element: dict[str, Any], resource: dict[str, Any]) -> Iterator[str]:
    """Every value that the documented conversion can make of an element."""
    found = origin(dataset, variable)
    assert found is not None
    for raw in element["values"]:
        yield str(raw)
        for target, _ in looked_up(raw, found.concept_map):
            yield target
            if variable == "AEBODSYS":
                yield from (organ for organ, _ in looked_up(target, "system-organ-class"))
        if variable == "CMCAT":
            yield from (products.get("category", "OTHER") for _, products in looked_up(raw, "drug"))
        if variable in {"TUSTRESC", "TUORRES"}:
            prefix = re.match(r"(NEW|NT|T)", str(raw))
            yield {"T": "TARGET", "NT": "NON-TARGET", "NEW": "NEW"}.get(prefix[1], "") if prefix else ""
            yield str(raw)
        if variable == "EXAEREF":
            yield re.sub(r"/_history/.*", "", str(raw))
        length = number(raw)
        if length is not None and variable in {"TRSTRESN", "TRSTRESC"}:
            yield format((length * (10 if '"cm"' in json.dumps(resource) else 1)).normalize(), "f")
    if any(column in element["column"] for column in ("comparator",)):
        yield "TOO SMALL TO MEASURE"


def same(value: str, made: str) -> bool:
    return value == made or (number(value) is not None and number(value) == number(made))


def follows(
    value: str, dataset: str, variable: str, found: list[dict[str, Any]], source: dict[str, Any]
) -> bool:
    """Whether a value follows from the elements that `explain` names."""
    elements = [item for item in found if item["variable"] == variable]
    if not elements:
        return OTHERWISE.get(variable) == value
    for item in elements:
        resource = source[item["resource"].partition("/_history")[0]]
        if any(same(value, made) for made in made_of(dataset, variable, item, resource)):
            return True
    parts = {str(raw) for item in elements for raw in item["values"]}
    if variable == "TRORRES" and all(part in parts for part in re.findall(r"[<>=]+|[\d.]+", value)):
        return True
    return value in CONSTANTS.get((dataset, variable), set()) or OTHERWISE.get(variable) == value


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for parent in node.get("parents", []):
        yield from nodes(parent)


def stands_there(element: dict[str, Any], source: dict[str, Any]) -> None:
    """Another FHIRPath engine finds, at the path that is named, exactly what is said to stand there."""
    resource = source[element["resource"].partition("/_history")[0]]
    there = [str(item) for item in fhirpathpy.evaluate(resource, element["path"], [], model=models["r4"])]
    said = [str(item).lower() if isinstance(item, bool) else str(item) for item in element["values"]]
    wrong = [
        item
        for item in said
        if not any(same(item, one) or item == one.lower() for one in there)
    ]  # fmt: skip
    assert [] == wrong, element["path"]


def picked(run: Path, seed: int, count: int) -> Iterator[tuple[str, str, str, int]]:
    """Random values that are there: dataset, variable, subject, sequence number."""
    choose = random.Random(seed)
    frames = {name: pd.read_parquet(run / "datasets" / f"{name.lower()}.parquet") for name in (*SDTM, *ADAM)}
    filled = [name for name, frame in frames.items() if len(frame)]
    lineage = pd.read_parquet(run / "datasets" / "lineage.parquet")
    made = set(zip(lineage["USUBJID"], lineage["DATASET"], lineage["SEQ"], strict=True))
    while count:
        name = choose.choice(filled)
        row = frames[name].iloc[choose.randrange(len(frames[name]))]
        if name in SDTM:
            known = [
                item for item in row.index if (found := origin(name, item)) is not None and found.columns
            ]
        else:
            known = [
                item for item in ("AVAL", "AVALC", "AETERM", "AEDECOD", "ATOXGR", "SEX") if item in row.index
            ]
        there = [item for item in known if pd.notna(row[item])]
        seq = row["ASEQ" if name in ADAM else f"{name}SEQ"]
        # A row of an analysis that says that nothing happened (no dose was missed) was made of nothing.
        nothing = name == "ADEX" and row["AVAL"] == 0
        if (
            there
            and pd.notna(seq)
            and (name in SDTM or ((row["USUBJID"], name, seq) in made and not nothing))
        ):
            count -= 1
            yield name, choose.choice(there), str(row["USUBJID"]), int(seq)


@pytest.mark.parametrize(
    ("cohort", "seed", "count"),
    [
        ("six_run", 6, 10),
        ("reference_run", 57, 15),
        pytest.param("six_run", 6, 40, marks=pytest.mark.soak),
        pytest.param("reference_run", 57, 60, marks=pytest.mark.soak),
    ],
)
def test_random_values_are_traced_to_their_elements(
    cohort: str, seed: int, count: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each leads to resources of the source; what is said to stand there does; the value follows from it."""
    # Of an answer the study file takes longest, and it is the same for all.
    monkeypatch.setattr(opening, "load_study", cache(opening.load_study))
    run: Path = request.getfixturevalue(cohort)
    source = source_of(run)
    for dataset, variable, subject, seq in picked(run, seed, count):
        where = f"{dataset}.{variable} {subject} {seq}"
        answer = explained(run, dataset, variable, subject, seq)
        tree = list(nodes(answer["row"]))
        resources = {item for node in tree for item in node.get("resources", [])}
        assert resources, where
        assert resources <= {*source, *(f"{key}/_history/1" for key in source)}, where
        for node in tree:
            for element in node.get("elements", []):
                stands_there(element, source)
            if node["dataset"] in SDTM:
                told = {
                    name: value
                    for name, value in node["says"].items()
                    if _has_elements(node["dataset"], name)
                }
                asked = {item["variable"] for item in node.get("elements", [])}
                for name in asked & set(told):
                    assert follows(told[name], node["dataset"], name, node["elements"], source), (
                        f"{where}: {name}"
                    )
        if dataset in SDTM:
            assert follows(answer["value"], dataset, variable, answer["row"].get("elements", []), source), (
                where
            )
        elif (dataset, variable) == ("ADTR", "AVAL"):
            parts = [
                Decimal(item["says"]["TRSTRESN"])
                for item in answer["row"]["parents"]
                if item["role"] == "sum"
            ]
            assert number(answer["value"]) == sum(parts).normalize(), where  # type: ignore[union-attr]
        elif dataset == "ADAE":
            (parent,) = answer["row"]["parents"]
            name = {"ATOXGR": "AETOXGR"}.get(variable, variable)
            assert same(answer["value"], parent["says"].get(name, answer["value"])), where


def _has_elements(dataset: str, variable: str) -> bool:
    found = origin(dataset, variable)
    return found is not None and bool(found.columns)


def test_every_variable_of_the_mapping_has_an_origin() -> None:
    """Each variable of the SDTM-like datasets comes from elements, or it is said why it does not."""
    common = {"STUDYID", "DOMAIN", "USUBJID", "SRCVIEW", "SRCREF"}
    missing = [
        f"{name}.{variable}"
        for name in SDTM
        for variable in (item.name for item in metadata()[name].variables)
        if variable not in common and variable != f"{name}SEQ" and origin(name, variable) is None
    ]
    assert [] == missing


def test_a_value_that_is_not_there(six_run: Path, adapter: Adapter) -> None:
    """A usage error that says what is missing: the row, the variable, or the options."""
    row = ("--subject", "SIX-002", "--seq", "99")
    assert "no row 99" in adapter("explain", six_run, "TR.TRSTRESN", *row, status=2).err
    assert "no variable NOTHING" in adapter("explain", six_run, "TR.NOTHING", *row, status=2).err
    assert "--subject and --seq" in adapter("explain", six_run, "TR.TRSTRESN", status=2).err


def test_the_words_of_an_explained_value(six_run: Path, adapter: Adapter) -> None:
    """Value, element, what stands there, and what was made of it, for a person to read."""
    said = adapter("explain", six_run, "DM.SEX", "--subject", "SIX-002", "--seq", "1").out
    assert "DM.SEX = " in said
    assert "SEX: Patient.gender of Patient/six-pr" in said
    assert "by the concept map sex" in said
