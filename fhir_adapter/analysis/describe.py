"""Descriptive statistics of a variable as results: median, range, quartiles, mean and SD."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fhir_adapter.analysis import descriptive
from fhir_adapter.analysis.selection import Analysis
from fhir_adapter.conditions import Condition
from fhir_adapter.results import Cell

__all__ = ["describe"]

_PARTS = {
    "median_range": ("median", "min", "max"),
    "median_iqr": ("median", "q1", "q3"),
    "mean_sd": ("mean", "sd"),
    "range": ("min", "max"),
}


def describe(
    analysis: Analysis,
    id_: str,
    form: str,
    *,
    dataset: str,
    population: str,
    variable: str,
    condition: Condition | None = None,
    divide_by: float = 1.0,
    digits: int = 1,
    unit: str = "",
    reason: str = "no values",
) -> Cell:
    """Describes a variable over the selected rows: one result per statistic, and the cell that shows them.

    Values that are missing are left out and counted in `<id>.missing` when there are any; `reason` is why there
    may be none.
    """
    rows = analysis.rows(dataset, population, condition)
    column = pd.to_numeric(rows[variable])
    values = [float(value) / divide_by for value in column.dropna()]
    missing = int(column.isna().sum())
    selector: dict[str, Any] = {
        "dataset": dataset,
        "population": population,
        "condition": condition,
        "variable": variable,
    }
    known = descriptive.describe(values, analysis.study.quantile_type)
    named = {"min": known.minimum, "max": known.maximum, "median": known.median, "q1": known.q1, "q3": known.q3,
             "mean": known.mean, "sd": known.sd}  # fmt: skip
    ids = []
    for name in _PARTS[form]:
        value = named[name]
        why = "" if value is not None else (reason if not values else "one value only")
        ids.append(
            analysis.add(f"{id_}.{name}", value, name, unit=unit, digits=digits, reason=why, **selector)
        )
    if missing:
        analysis.add(f"{id_}.missing", missing, "n_missing", unit="n", digits=0, **selector)
    return Cell(form, tuple(ids))
