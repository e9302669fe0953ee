"""Descriptive statistics of a variable as results: median, range, quartiles, mean and SD."""

from __future__ import annotations

from collections.abc import Sequence

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


def _statistic(values: Sequence[float], name: str) -> float | None:
    if name == "min":
        return min(values)
    if name == "max":
        return max(values)
    if name == "mean":
        return descriptive.mean(values)
    if name == "sd":
        return descriptive.sd(values)
    return descriptive.quantile(values, {"median": 0.5, "q1": 0.25, "q3": 0.75}[name])


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
) -> Cell:
    """Describes a variable over the selected rows: one result per statistic, and the cell that shows them.

    Values that are missing are left out and counted in `<id>.missing` when there are any.
    """
    rows = analysis.rows(dataset, population, condition)
    column = pd.to_numeric(rows[variable])
    values = [float(value) / divide_by for value in column.dropna()]
    missing = int(column.isna().sum())
    selector = {"dataset": dataset, "population": population, "condition": condition, "variable": variable}
    ids = []
    for name in _PARTS[form]:
        value = _statistic(values, name) if values else None
        reason = "" if value is not None else ("no values" if not values else "one value only")
        ids.append(
            analysis.add(f"{id_}.{name}", value, name, unit=unit, digits=digits, reason=reason, **selector)  # type: ignore[arg-type]
        )
    if missing:
        analysis.add(f"{id_}.missing", missing, "n_missing", unit="n", digits=0, **selector)  # type: ignore[arg-type]
    return Cell(form, tuple(ids))
