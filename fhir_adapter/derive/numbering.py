"""Sequence numbers of derived rows, and small helpers that every derived dataset shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fhir_adapter.datasets import conform, metadata

__all__ = ["finish", "flag", "none_for_missing", "number", "study_day"]


def number(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of the dataset's keys, with ASEQ from 1 within each subject.

    The order is that of `conform`, so that numbers and rows agree; columns that the dataset does not have
    stay (they tell the caller which row became which).
    """
    keys = [key for key in metadata()[name].keys if key in rows.columns]
    ordered = rows.sort_values(keys, kind="stable", na_position="last", ignore_index=True)
    ordered["ASEQ"] = ordered.groupby("USUBJID", sort=False).cumcount() + 1
    return ordered


def finish(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The numbered rows in the metadata's form, without columns that the dataset does not have."""
    known = [variable.name for variable in metadata()[name].variables]
    return conform(name, rows[[column for column in rows.columns if column in known]])


def flag(condition: pd.Series[bool]) -> pd.Series[Any]:
    """Y where the condition holds, else null."""
    values = np.full(len(condition), None, dtype=object)
    values[condition.to_numpy(dtype=bool)] = "Y"
    return pd.Series(values, index=condition.index)


def none_for_missing(column: pd.Series[Any]) -> pd.Series[Any]:
    """The column as objects, with None for every missing value."""
    values = column.astype("object")
    values[values.isna()] = None
    return values


def study_day(date: pd.Series[Any], start: pd.Series[Any]) -> pd.Series[Any]:
    """Relative day in CDISC's count: the start is day 1, the day before it is day -1; there is no day 0."""
    days = (date - start).dt.days
    return days.where(days < 0, days + 1)
