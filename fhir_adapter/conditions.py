"""Conditions as data: `{dataset, variable, op, value}` and all / any / not over them.

One language for cohort exclusions, analysis sets, characteristics, table rows and the selector that every
result carries. A condition is evaluated on the rows of one dataset (the base). A part that names another dataset
is true for a row when that row's subject has at least one row there that satisfies it; a group that names a
dataset asks for one row that satisfies the whole group.

A missing value satisfies nothing but `is_null`: `ne` and `not_in` too need a value to be present.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from fhir_adapter.errors import StudyFileError

__all__ = [
    "AllOf",
    "AnyOf",
    "Comparison",
    "Condition",
    "Mask",
    "NotOf",
    "Op",
    "Truth",
    "evaluate",
    "subjects_where",
    "used_variables",
]

Scalar = str | int | float | bool
Op = Literal["eq", "ne", "lt", "le", "gt", "ge", "in", "not_in", "contains", "has", "is_null", "not_null"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Comparison(_Part):
    """One variable compared with a value; `has` asks for an element of a list that is joined by `;`."""

    dataset: str | None = Field(default=None, description="Dataset of the variable; the base where absent.")
    variable: str
    op: Op = "eq"
    value: Scalar | list[Scalar] | None = None


class AllOf(_Part):
    """Every part holds; with `dataset`, on one and the same row of it."""

    dataset: str | None = None
    all: list[Condition]


class AnyOf(_Part):
    """At least one part holds."""

    dataset: str | None = None
    any: list[Condition]


class NotOf(_Part):
    """The part does not hold."""

    dataset: str | None = None
    not_: Condition = Field(alias="not")


def _kind(value: Any) -> str:
    keys = value if isinstance(value, dict) else {f.alias or n for n, f in type(value).model_fields.items()}
    for name in ("all", "any", "not"):
        if name in keys:
            return name
    return "comparison"


Condition = Annotated[
    Annotated[Comparison, Tag("comparison")]
    | Annotated[AllOf, Tag("all")]
    | Annotated[AnyOf, Tag("any")]
    | Annotated[NotOf, Tag("not")],
    Discriminator(_kind),
]
AllOf.model_rebuild()
AnyOf.model_rebuild()
NotOf.model_rebuild()

Frames = Mapping[str, pd.DataFrame]
Mask = NDArray[np.bool_]

_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def _frame(frames: Frames, name: str) -> pd.DataFrame:
    try:
        return frames[name]
    except KeyError:
        raise StudyFileError(
            f"a condition names the dataset {name}, which this study does not have",
            remedy=f"It has {', '.join(sorted(frames))}.",
        ) from None


def _compare(condition: Comparison, rows: pd.DataFrame, dataset: str) -> pd.Series[bool]:
    if condition.variable not in rows.columns:
        raise StudyFileError(
            f"a condition names the variable {condition.variable}, which {dataset} does not have",
            remedy=f"It has {', '.join(map(str, rows.columns))}.",
        )
    column = rows[condition.variable]
    present = column.notna()
    value, op = condition.value, condition.op
    if op == "is_null":
        return ~present
    if op == "not_null":
        return present
    if value is None:
        raise StudyFileError(f"the condition on {dataset}.{condition.variable} has no value for {op}")
    if op in {"in", "not_in"}:
        values = value if isinstance(value, list) else [value]
        inside = column.isin(values)
        return present & (inside if op == "in" else ~inside)
    if isinstance(value, list):
        raise StudyFileError(f"the condition on {dataset}.{condition.variable} has a list for {op}")
    if op == "contains":
        return present & column.astype("string").str.contains(str(value), regex=False).fillna(False).astype(
            bool
        )
    if op == "has":
        return present & column.map(lambda held: str(value) in str(held).split(";"), na_action="ignore").eq(
            True
        )
    if op in {"eq", "ne"}:
        target: Any = pd.Timestamp(str(value)) if pd.api.types.is_datetime64_any_dtype(column) else value
        same: pd.Series[bool] = (column == target).fillna(False).astype(bool)
        return present & (same if op == "eq" else ~same)
    if present.any():
        known = column[present]
        target = pd.Timestamp(str(value)) if pd.api.types.is_datetime64_any_dtype(column) else value
        try:
            held = _ORDER[op](known, target).astype(bool)
        except TypeError:
            raise StudyFileError(
                f"{dataset}.{condition.variable} cannot be put in order with the value of the condition ({op})"
            ) from None
        whole: pd.Series[bool] = held.reindex(rows.index, fill_value=False)
        return whole
    return pd.Series(False, index=rows.index)


class Truth:
    """Truth of conditions on datasets that do not change meanwhile; what was asked once is remembered.

    Args:
        frames: datasets by name; each has USUBJID.
    """

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self._known: dict[tuple[str, str], Mask] = {}

    def of(self, condition: Condition, base: str) -> Mask:
        """Truth of a condition for each row of the base dataset, in its order; not to be written to.

        Args:
            condition: the condition.
            base: name of the dataset whose rows are asked.

        Raises:
            StudyFileError: for a dataset or variable that is not there, or values that cannot be compared.
        """
        key = (base, condition.model_dump_json())
        if key not in self._known:
            self._known[key] = self._evaluated(condition, base)
        return self._known[key]

    def _evaluated(self, condition: Condition, base: str) -> Mask:
        rows = _frame(self.frames, base)
        other = condition.dataset
        if other is not None and other != base:
            subjects = _frame(self.frames, other)["USUBJID"].to_numpy()[self.of(condition, other)]
            return rows["USUBJID"].isin(subjects).to_numpy()
        if isinstance(condition, Comparison):
            return _compare(condition, rows, base).to_numpy(dtype=bool)
        if isinstance(condition, NotOf):
            return ~self.of(condition.not_, base)
        every = isinstance(condition, AllOf)
        result = np.full(len(rows), every)
        for part in condition.all if isinstance(condition, AllOf) else condition.any:
            held = self.of(part, base)
            result = result & held if every else result | held
        return result


def evaluate(condition: Condition, frames: Frames, base: str) -> pd.Series[bool]:
    """Truth of a condition for each row of the base dataset.

    Args:
        condition: the condition.
        frames: datasets by name; each has USUBJID.
        base: name of the dataset whose rows are asked.

    Returns:
        Booleans on the index of `frames[base]`.

    Raises:
        StudyFileError: for a dataset or variable that is not there, or values that cannot be compared.
    """
    return pd.Series(Truth(frames).of(condition, base), index=_frame(frames, base).index)


def subjects_where(condition: Condition | None, frames: Frames, base: str = "ADSL") -> list[str]:
    """USUBJIDs, sorted, with at least one base row that satisfies the condition (all of them without one)."""
    rows = _frame(frames, base)
    held = rows if condition is None else rows[evaluate(condition, frames, base)]
    return sorted(set(held["USUBJID"]))


def used_variables(condition: Condition, base: str) -> set[tuple[str, str]]:
    """(dataset, variable) pairs that a condition reads, so that a study file can be checked before a run."""
    where = condition.dataset or base
    if isinstance(condition, Comparison):
        return {(where, condition.variable)}
    if isinstance(condition, NotOf):
        return used_variables(condition.not_, where)
    parts = condition.all if isinstance(condition, AllOf) else condition.any
    return set().union(*(used_variables(part, where) for part in parts)) if parts else set()
