"""Exposure-adjusted incidence: first events per 100 patient-years at risk (rules.md, Toxicity).

Ids: `toxicity.rate.any.ge<k>.n|years|rate|lower|upper` and `toxicity.rate.term.<term>.ge<k>...`, with the
thresholds of the study file; `toxicity.rate.left_out.n`, subjects without a known time at risk.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from fhir_adapter.analysis.comparisons import poisson_exact
from fhir_adapter.analysis.selection import both, equals
from fhir_adapter.analysis.toxicity.onset import at_least, threshold_label
from fhir_adapter.analysis.toxicity.scope import Scope
from fhir_adapter.conditions import Comparison, Condition
from fhir_adapter.results import Cell, Row

__all__ = ["DAYS_PER_YEAR", "rates"]

DAYS_PER_YEAR = 365.25


def rates(scope: Scope) -> None:
    """Adds the table of rates: any event, and each term, by least grade.

    A subject is at risk from the first dose (its day counts with `count_first_day`) to the first such event,
    else to RISKEDT: the end of the emergent window, death, last contact or cut-off, whichever is first. A
    subject with such an event on no known day has no known time at risk and is left out of that rate.
    """
    settings = scope.analysis.study.toxicity
    subjects = scope.analysis.rows("ADSL", scope.population, scope.within).set_index("USUBJID")
    days = (subjects["RISKEDT"] - subjects["TRTSDT"]).dt.days + int(settings.count_first_day)
    whole = days.astype("float64")
    unknown = int(whole.isna().sum())
    if unknown:
        never = both(
            scope.within,
            Comparison(variable="RISKEDT", op="is_null"),
        )
        scope.analysis.add(
            f"{scope.stem}.rate.left_out.n", unknown, "n_subjects", dataset="ADSL", population=scope.population,
            condition=never, variable="RISKEDT", unit="n", digits=0,
        )  # fmt: skip
    rows = [_row(scope, whole.dropna(), "any", "Any event", None, 0)]
    for term in scope.terms:
        only = equals("AEDECOD", term)
        rows.append(_row(scope, whole.dropna(), scope.term_id(term), scope.label(term), only, 1))
    heads: list[str] = []
    for grade in settings.thresholds:
        name = threshold_label(grade)
        heads += [f"{name}, n", f"{name}, patient-years", f"{name}, rate (95% CI)"]
    scope.show(
        "rates", f"{scope.words.capitalize()} adverse events per 100 patient-years at risk", "Event", tuple(heads),
        rows if scope.terms else [],
        "First events of a subject per 100 patient-years from the first dose to the event, else to the end of the "
        f"emergent window ({settings.window_days} days after the last dose), death, last contact or cut-off; exact "
        "Poisson intervals.",
        *([f"Subjects without a known time at risk, left out: {unknown}."] if unknown else []),
    )  # fmt: skip


def _row(
    scope: Scope, whole: pd.Series[Any], id_: str, label: str, extra: Condition | None, level: int
) -> Row:
    cells: list[Cell] = []
    for grade in scope.analysis.study.toxicity.thresholds:
        condition = both(scope.counted(), extra, at_least(grade))
        stem = f"{scope.stem}.rate.{id_}.ge{grade}"
        events = scope.rows(condition)[["USUBJID", "TTONSET"]]
        events = events[events["USUBJID"].isin(whole.index)]
        undated = set(events.loc[events["TTONSET"].isna(), "USUBJID"])
        first = events[~events["USUBJID"].isin(undated)].groupby("USUBJID")["TTONSET"].min().astype("float64")
        free = whole[~whole.index.isin(undated) & ~whole.index.isin(first.index)]
        years = float(first.sum() + free.sum()) / DAYS_PER_YEAR
        rate = poisson_exact(len(first), years)
        dated = both(condition, Comparison(variable="TTONSET", op="not_null"))
        selector: dict[str, Any] = {
            "dataset": "ADAE", "population": scope.population, "condition": dated, "variable": "TTONSET",
        }  # fmt: skip
        add = scope.analysis.add
        n = add(f"{stem}.n", len(first), "n_first_events", unit="n", digits=0, **selector)
        time = add(
            f"{stem}.years",
            years,
            "patient_years_at_risk",
            unit="years",
            digits=1,
            method="days / 365.25",
            **selector,
        )
        parts = {"rate": rate.estimate, "lower": rate.lower, "upper": rate.upper}
        ids = tuple(
            add(
                f"{stem}.{name}", None if value is None else 100 * value, f"{name}_per_100_patient_years",
                unit="per 100 patient-years", digits=1, method=rate.method, reason=rate.reason or "", **selector,
            )
            for name, value in parts.items()
        )  # fmt: skip
        cells += [Cell("n", (n,)), Cell("value", (time,)), Cell("estimate_ci", ids)]
    return Row(label=label, cells=tuple(cells), level=level)
