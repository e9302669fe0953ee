"""Investigator's responses beside those computed from measurements.

Ids: `disagreement.visits.compared`, `disagreement.visits.differ`, `disagreement.subjects.n`,
`disagreement.pair.<investigator>.<computed>`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from fhir_adapter.analysis.selection import Analysis, equals, slug
from fhir_adapter.results import Cell, Display, Row

__all__ = ["disagreement"]

_ORDER = ("CR", "PR", "SD", "NON-CR/NON-PD", "PD", "NE")


def disagreement(analysis: Analysis) -> None:
    """Cross table of the analysed subjects' visits that have both an investigator's and a computed response.

    An investigator's response belongs to the computed visit of the same name, else of the same date.
    """
    investigator = analysis.rows("ADRS", "analysed", equals("PARAMCD", "INV"))
    computed = analysis.rows("ADRS", "analysed", equals("PARAMCD", "OVR"))
    computed = computed[computed["AVALC"].notna()]
    if investigator.empty or computed.empty:
        return
    keys = ["USUBJID", "VISIT"] if investigator["VISIT"].notna().all() else ["USUBJID", "ADT"]
    pairs = investigator.merge(computed, on=keys, suffixes=("_INV", "_OVR"))
    differ = pairs[pairs["AVALC_INV"] != pairs["AVALC_OVR"]]
    selector: dict[str, Any] = {
        "dataset": "ADRS",
        "population": "analysed",
        "condition": equals("PARAMCD", "INV"),
    }
    for name, number in (
        ("visits.compared", len(pairs)), ("visits.differ", len(differ)), ("subjects.n", differ["USUBJID"].nunique()),
    ):  # fmt: skip
        analysis.add(
            f"disagreement.{name}", number, "disagreement", unit="n", digits=0, variable="AVALC", **selector
        )
    counts = Counter(zip(pairs["AVALC_INV"], pairs["AVALC_OVR"], strict=True))
    found = {level for pair in counts for level in pair}
    levels = [level for level in _ORDER if level in found]
    rows = []
    for row in levels:
        cells = []
        for column in levels:
            number = counts.get((row, column), 0)
            id_ = f"disagreement.pair.{slug(row)}.{slug(column)}"
            analysis.add(id_, number, "disagreement", unit="n", digits=0, variable="AVALC", **selector)
            cells.append(Cell("n", (id_,)))
        rows.append(Row(label=f"Investigator {row}", cells=tuple(cells)))
    analysis.results.displays.append(
        Display(
            id="disagreement", title="Response at each visit: investigator against computed", section="response",
            stub="", columns=tuple(f"Computed {level}" for level in levels), rows=tuple(rows),
            notes=("The computed response counts; the investigator's is shown and changes no number.",)
            if analysis.study.response.evaluator == "COMPUTED" else (),
        )
    )  # fmt: skip
    analysis.results.displays.append(
        Display(
            id="disagreement_counts", title="Visits on which the investigator and the computation differ",
            section="response", stub="Measure", columns=("n",),
            rows=(
                Row(label="Visits with both responses", cells=(Cell("n", ("disagreement.visits.compared",)),)),
                Row(label="Visits that differ", cells=(Cell("n", ("disagreement.visits.differ",)),)),
                Row(label="Subjects concerned", cells=(Cell("n", ("disagreement.subjects.n",)),)),
            ),
        )
    )  # fmt: skip
