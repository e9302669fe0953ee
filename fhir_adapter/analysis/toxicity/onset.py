"""Time from the first dose to the first event.

Ids: `toxicity.onset.any.ge<k>.n|median|min|max` and `toxicity.onset.term.<term>.ge<k>...`, with the thresholds
of the study file; `.undated.n` counts subjects whose first such event has no known day.
"""

from __future__ import annotations

from typing import Any

from fhir_adapter.analysis.descriptive import describe
from fhir_adapter.analysis.selection import both, equals
from fhir_adapter.analysis.toxicity.scope import Scope
from fhir_adapter.conditions import Comparison, Condition
from fhir_adapter.results import Cell, Row

__all__ = ["at_least", "onset", "threshold_label"]


def at_least(grade: int) -> Condition | None:
    """Events of that grade or worse; grade 1 asks for nothing, so that a missing grade counts."""
    return None if grade == 1 else Comparison(variable="ATOXGR", op="ge", value=grade)


def threshold_label(grade: int) -> str:
    """A threshold in words."""
    return "Any grade" if grade == 1 else f"Grade ≥{grade}" if grade < 5 else "Grade 5"


def onset(scope: Scope) -> None:
    """Adds the table of days to the first event: any, and of each term, by least grade.

    Descriptive, among those who had the event: it estimates no risk over time. A subject with an event of which
    the day is not known has no first event and is counted apart.
    """
    thresholds = scope.analysis.study.toxicity.thresholds
    rows = [_row(scope, "any", "Any event", None, 0)]
    rows += [
        _row(scope, scope.term_id(term), scope.label(term), equals("AEDECOD", term), 1)
        for term in scope.terms
    ]
    heads: list[str] = []
    for grade in thresholds:
        heads += [f"{threshold_label(grade)}, n", f"{threshold_label(grade)}, days, median [range]"]
    first = "day 1" if scope.analysis.study.toxicity.count_first_day else "day 0"
    undated = _undated(scope)
    scope.show(
        "onset", f"Time to onset of the first {scope.words} adverse event", "Event", tuple(heads),
        rows if scope.terms else [],
        f"Days from the first dose, which is {first}, among subjects with the event and a known day of onset.",
        *([f"Subjects with an event of which the day of onset is not known, left out: {undated}."] if undated else []),
    )  # fmt: skip


def _undated(scope: Scope) -> int:
    unknown = both(scope.counted(), Comparison(variable="TTONSET", op="is_null"))
    return int(scope.rows(unknown)["USUBJID"].nunique())


def _row(scope: Scope, id_: str, label: str, extra: Condition | None, level: int) -> Row:
    cells: list[Cell] = []
    for grade in scope.analysis.study.toxicity.thresholds:
        condition = both(scope.counted(), extra, at_least(grade))
        stem = f"{scope.stem}.onset.{id_}.ge{grade}"
        days = scope.rows(condition)[["USUBJID", "TTONSET"]]
        unknown = set(days.loc[days["TTONSET"].isna(), "USUBJID"])
        first = days[~days["USUBJID"].isin(unknown)].groupby("USUBJID")["TTONSET"].min()
        known = describe([float(value) for value in first])
        selector: dict[str, Any] = {"dataset": "ADAE", "population": scope.population, "variable": "TTONSET"}
        dated = both(condition, Comparison(variable="TTONSET", op="not_null"))
        add = scope.analysis.add
        n = add(f"{stem}.n", len(first), "n_first_events", condition=dated, unit="n", digits=0, **selector)
        if unknown:
            missing = both(condition, Comparison(variable="TTONSET", op="is_null"))
            add(
                f"{stem}.undated.n",
                len(unknown),
                "n_subjects",
                condition=missing,
                unit="n",
                digits=0,
                **selector,
            )
        reason = "" if len(first) else "nobody had it on a known day"
        parts = {"median": known.median, "min": known.minimum, "max": known.maximum}
        digits = {"median": 1 if known.median is not None and known.median % 1 else 0}
        ids = tuple(
            add(
                f"{stem}.{name}", value, f"{name}_of_first_onset", condition=dated, unit="days",
                digits=digits.get(name, 0), reason=reason, **selector,
            )
            for name, value in parts.items()
        )  # fmt: skip
        cells += [Cell("n", (n,)), Cell("median_range", ids)]
    return Row(label=label, cells=tuple(cells), level=level)
