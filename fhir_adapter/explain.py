"""From a number of the report, or a value of a dataset, to the resources and elements behind it.

A result carries its selector; replaying it gives the rows that were counted. From each row the lineage leads to its
parents, down to SDTM-like rows, whose SRCREF names the source resources with their versions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import pandas as pd

from fhir_adapter.analysis.selection import replay, up_to_cut_off
from fhir_adapter.datasets import metadata
from fhir_adapter.errors import UsageError
from fhir_adapter.mapping.domains.context import RawResource
from fhir_adapter.mapping.origins import Element, elements, origin
from fhir_adapter.results import Result, Results
from fhir_adapter.study import Study

__all__ = ["Explanation", "Node", "ValueExplanation", "explain", "explain_value", "lines", "value_lines"]

#: Variables that tell what a row says, by dataset, in the order shown.
_TELLING = {
    "ADSL": ("BASEDT", "TRTSDT", "BOR", "BORDT", "EXCLID"),
    "ADRS": ("PARAMCD", "VISIT", "ADT", "AVALC", "EVAL", "RULE"),
    "ADTR": ("VISIT", "ADT", "AVAL", "BASE", "NADIR", "PCHG"),
    "ADTTE": ("PARAMCD", "STARTDT", "ADT", "AVAL", "CNSR", "EVNTDESC", "CNSDTDSC"),
    "ADAE": ("AEDECOD", "AEBODSYS", "ATOXGR", "AREL", "AESER", "AEACNALL", "ASTDT", "TRTEMFL"),
    "ADEX": ("PARAMCD", "EXTRT", "AVAL", "AVALC", "AVALU", "REASND"),
    "DM": ("SEX", "DTHFL", "DTHDTC"),
    "MH": ("MHCAT", "MHDECOD", "MHMORPH", "MHLOC", "MHSTDTC"),
    "SC": ("SCTESTCD", "SCSTRESC", "SCDTC"),
    "TU": ("TULNKID", "TUSTRESC", "TULOC"),
    "TR": ("TRLNKID", "TRTESTCD", "TRORRES", "TRORRESU", "TRSTRESN", "TRSTRESC", "TRSTAT", "TRDTC"),
    "RS": ("RSSTRESC", "RSEVAL", "RSDTC"),
    "EX": ("EXTRT", "EXDOSE", "EXDOSU", "EXOCCUR", "EXREASND", "EXADJ", "EXAEREF", "EXSTDTC", "EXENDTC"),
    "CM": ("CMDECOD", "CMCAT", "CMSTDTC"),
    "AE": ("AEDECOD", "AETOXGR", "AEREL", "AESTDTC"),
    "PR": ("PRDECOD", "PRCAT", "PRSTDTC"),
    "SV": ("SVCAT", "VISIT", "SVSTDTC", "SVENDTC"),
    "DS": ("DSCAT", "DSDECOD", "DSSTDTC"),
}


class Node(msgspec.Struct, omit_defaults=True):
    """A row in the tree: dataset, sequence number, what it says, its source, and the rows it was made from."""

    dataset: str
    seq: int
    role: str
    says: dict[str, str]
    view: str = ""
    resources: tuple[str, ...] = ()
    parents: tuple[Node, ...] = ()
    elements: tuple[Element, ...] = ()


class Explanation(msgspec.Struct):
    """A result, the number of subjects behind it, and a tree per selected row and subject."""

    result: Result
    subjects: tuple[str, ...]
    rows: dict[str, tuple[Node, ...]]


class ValueExplanation(msgspec.Struct):
    """A value of a row, where its variable comes from, and the tree of the rows and resources it was made of."""

    dataset: str
    variable: str
    usubjid: str
    seq: int
    value: str | None
    origin: str
    row: Node


#: Finds a resource by its reference (`Type/id`, with or without a version); None where it is gone.
Find = Callable[[str], RawResource | None]


def _seq_name(dataset: str) -> str:
    return "ASEQ" if metadata()[dataset].model == "ADaM" else f"{dataset}SEQ"


def _says(row: Mapping[str, Any], dataset: str, variable: str) -> dict[str, str]:
    names = [*_TELLING.get(dataset, ()), *([variable] if variable else [])]
    told = {}
    for name in dict.fromkeys(names):
        value = row.get(name)
        if value is None or pd.isna(value):
            continue
        told[name] = value.date().isoformat() if isinstance(value, pd.Timestamp) else str(value)
    return told


class _Tree:
    """Rows by (dataset, subject, sequence) and their parents, made once per explanation."""

    def __init__(
        self, datasets: Mapping[str, pd.DataFrame], subjects: set[str], find: Find | None = None
    ) -> None:
        self._find = find
        self._rows: dict[tuple[str, str, int], dict[str, Any]] = {}
        for name, frame in datasets.items():
            if name == "LINEAGE":
                continue
            seq = _seq_name(name)
            for row in frame[frame["USUBJID"].isin(subjects)].to_dict("records"):
                if pd.notna(row[seq]):
                    self._rows[name, str(row["USUBJID"]), int(row[seq])] = {
                        str(key): value for key, value in row.items()
                    }
        self._parents: dict[tuple[str, str, int], list[tuple[str, int, str]]] = defaultdict(list)
        lineage = datasets["LINEAGE"]
        for link in lineage[lineage["USUBJID"].isin(subjects)].itertuples(index=False):
            key = (str(link.DATASET), str(link.USUBJID), int(str(link.SEQ)))
            self._parents[key].append((str(link.PARENT), int(str(link.PARENTSEQ)), str(link.ROLE)))

    def node(
        self, dataset: str, subject: str, seq: int, role: str, variable: str, above: frozenset[Any]
    ) -> Node:
        """The node of one row with everything below it; a row is never its own ancestor."""
        key = (dataset, subject, seq)
        row = self._rows.get(key, {})
        parents = self._parents.get(key, [])
        source = row.get("SRCDOM")
        if not parents and source is not None and pd.notna(source) and pd.notna(row.get("SRCSEQ")):
            parents = [(str(source), int(row["SRCSEQ"]), "source")]
        below = above | {key}
        copied = str(row["SRCVAR"]) if pd.notna(row.get("SRCVAR")) else ""
        references = row.get("SRCREF")
        view = row.get("SRCVIEW")
        says = _says(row, dataset, variable)
        return Node(
            dataset=dataset,
            seq=seq,
            role=role,
            says=says,
            elements=self._elements(dataset, [variable] if variable else list(says), view, references),
            view=str(view) if view is not None and pd.notna(view) else "",
            resources=tuple(str(references).split(" "))
            if references is not None and pd.notna(references)
            else (),
            parents=tuple(
                # Of a row that was copied or summed, the variable that was; else all that it says.
                self.node(parent, subject, number, how, copied if parent == source else "", below)
                for parent, number, how in parents
                if (parent, subject, number) not in below
            ),
        )

    def _elements(
        self, dataset: str, variables: list[str], view: Any, references: Any
    ) -> tuple[Element, ...]:
        """Elements behind some variables of a row that was mapped; none without resources to look into."""
        if self._find is None or pd.isna(references) or pd.isna(view):
            return ()
        held = [
            (reference, resource)
            for reference in str(references).split(" ")
            if (resource := self._find(reference)) is not None
        ]
        views = str(view).split(" ")
        return tuple(one for variable in variables for one in elements(dataset, variable, views, held))


def explain_value(
    datasets: Mapping[str, pd.DataFrame], find: Find, dataset: str, variable: str, *, subject: str, seq: int
) -> ValueExplanation:
    """Follows one value of a row to the resources and elements that it was made of.

    Args:
        datasets: all datasets of the run, LINEAGE included.
        find: finds a resource of the run's landing by its reference.
        dataset: for example `TR` or `ADTR`.
        variable: of that dataset.
        subject: USUBJID of the row.
        seq: its sequence number (`--SEQ` or ASEQ).

    Raises:
        UsageError: there is no such dataset, variable or row.
    """
    frame = datasets.get(dataset)
    if frame is None or dataset == "LINEAGE":
        raise UsageError(f"no dataset {dataset}", remedy=f"There are {', '.join(sorted(metadata()))}.")
    if variable not in frame:
        raise UsageError(f"{dataset} has no variable {variable}")
    rows = frame[(frame["USUBJID"] == subject) & (frame[_seq_name(dataset)] == seq)]
    if len(rows) != 1:
        raise UsageError(f"{dataset} has no row {seq} of that subject")
    tree = _Tree(datasets, {subject}, find)
    node = tree.node(dataset, subject, seq, "selected", variable, frozenset())
    row = {str(name): item for name, item in rows.iloc[0].items()}
    value = _says(row, "", variable).get(variable)
    found = origin(dataset, variable)
    if found is None:
        label = "derived from the rows below" if node.parents else "not written down"
    else:
        label = f"assigned: {found.assigned}" if found.assigned else "from elements"
    return ValueExplanation(dataset, variable, subject, seq, value, label, node)


def explain(
    results: Results,
    datasets: Mapping[str, pd.DataFrame],
    study: Study,
    id_: str,
    *,
    subject: str | None = None,
) -> Explanation:
    """Replays the selector of a result and follows the lineage of every selected row.

    Args:
        results: the results of the run.
        datasets: all datasets of the run, LINEAGE included.
        study: the study definition.
        id_: id of the result.
        subject: only this USUBJID.

    Raises:
        UsageError: there is no such result.
    """
    result = results.results.get(id_)
    if result is None:
        near = [known for known in results.results if id_.split(".", maxsplit=1)[0] in known][:5]
        raise UsageError(
            f"no result has the id {id_!r}", remedy=f"Some that do: {', '.join(near)}." if near else ""
        )  # fmt: skip
    rows = replay(result, up_to_cut_off(datasets, results.data_cutoff), study)
    subjects = tuple(sorted(set(rows["USUBJID"])))
    chosen = set(subjects) if subject is None else {subject} & set(subjects)
    tree = _Tree(datasets, chosen)
    found: dict[str, tuple[Node, ...]] = {}
    if result.dataset:
        seq = _seq_name(result.dataset)
        for usubjid, part in rows[rows["USUBJID"].isin(chosen)].groupby("USUBJID", sort=True):
            found[str(usubjid)] = tuple(
                tree.node(result.dataset, str(usubjid), int(number), "selected", result.variable, frozenset())
                for number in sorted(part[seq].dropna().astype(int))
            )
    return Explanation(result=result, subjects=subjects, rows=found)


def _node_lines(node: Node, depth: int) -> Iterator[str]:
    says = ", ".join(f"{name} {value}" for name, value in node.says.items())
    yield f"{'  ' * depth}{node.role}: {node.dataset} {node.seq}  {says}".rstrip()
    if node.resources:
        yield f"{'  ' * (depth + 1)}from {', '.join(node.resources)}  (view {node.view})"
    for element in node.elements:
        values = ", ".join(str(value) for value in element.values)
        place = f"{element.path} of {element.resource}"
        yield f"{'  ' * (depth + 1)}{element.variable}: {place} = {values}  ({element.how})"
    for parent in node.parents:
        yield from _node_lines(parent, depth + 1)


def value_lines(explanation: ValueExplanation) -> Iterator[str]:
    """The explanation of a value as text, one line at a time."""
    value = "missing" if explanation.value is None else explanation.value
    yield f"{explanation.dataset}.{explanation.variable} = {value}  ({explanation.origin})"
    yield explanation.usubjid
    yield from _node_lines(explanation.row, 1)


def lines(explanation: Explanation) -> Iterator[str]:
    """The explanation as text, one line at a time."""
    result = explanation.result
    value = "not estimable" if result.value is None else result.value
    yield f"{result.id} = {value} {result.unit}".rstrip() + (f"  ({result.reason})" if result.reason else "")
    yield f"rule: {result.rule}" + (f"; {result.method}" if result.method else "")
    if result.dataset:
        condition = (
            "every row" if result.condition is None else msgspec.json.encode(result.condition).decode()
        )
        yield f"selection: {result.dataset}, population {result.population or 'all'}, {condition}"
    yield f"subjects: {len(explanation.subjects)}"
    for usubjid, nodes in explanation.rows.items():
        yield f"\n{usubjid}"
        for node in nodes:
            yield from _node_lines(node, 1)
