"""The design matrix of a Cox model: numeric columns, treatment-coded factors and their products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .inputs import Bools, Column, Floats, Ints, as_events, as_levels, as_numbers, level_text, tie

__all__ = ["Design", "DesignColumn", "build"]


@dataclass(frozen=True, slots=True)
class DesignColumn:
    """Where a column of the matrix comes from."""

    name: str
    covariate: str
    level: str | None
    reference: str | None


@dataclass(frozen=True, slots=True)
class Design:
    """Complete rows with the n x k `matrix` of `columns`; `notes` say why a covariate has no column."""

    time: Floats
    event: Bools
    stratum: Ints
    matrix: Floats
    columns: tuple[DesignColumn, ...]
    covariates: tuple[str, ...]
    n_missing: int
    missing_by_covariate: tuple[tuple[str, int], ...]
    notes: Mapping[str, str]


def _strata(data: pd.DataFrame, strata: str | Sequence[str] | pd.Series | None) -> Ints:
    """Stratum numbers, -1 where any part is missing."""
    size = len(data)
    if strata is None:
        return np.zeros(size, dtype=np.int64)
    if isinstance(strata, str):
        parts: list[Column] = [data[strata]]
    elif isinstance(strata, pd.Series | np.ndarray):
        parts = [strata]
    else:
        parts = [data[one] for one in strata]
    number = np.zeros(size, dtype=np.int64)
    missing = np.zeros(size, dtype=np.bool_)
    for part in parts:
        codes, levels = as_levels(part)
        if codes.size != size:
            raise ValueError(f"strata has {codes.size} rows, data has {size}")
        missing |= codes < 0
        number = number * (len(levels) + 1) + codes
    number[missing] = -1
    return number


def _is_factor(series: pd.Series) -> bool:
    if isinstance(series.dtype, pd.CategoricalDtype):
        return True
    return not (pd.api.types.is_numeric_dtype(series) or pd.api.types.is_bool_dtype(series))


def _expand(
    name: str, series: pd.Series, keep: Bools, reference: object | None
) -> tuple[Floats, list[DesignColumn], str | None]:
    """The columns of one covariate over the complete rows, and a note if there are none."""
    if not _is_factor(series):
        if reference is not None:
            raise ValueError(f"{name} is numeric and has no reference level")
        return as_numbers(series, name)[keep][:, None], [DesignColumn(name, name, None, None)], None
    codes, levels = as_levels(series)
    codes = codes[keep]
    present = [int(code) for code in np.unique(codes)]
    if reference is not None:
        first = [code for code in present if levels[code] == reference]
        if not first:
            raise ValueError(f"{name} has no subject at the reference level {reference!r}")
        present = first + [code for code in present if code != first[0]]
    if len(present) < 2:
        return np.empty((codes.size, 0)), [], "fewer than two levels have subjects"
    base = level_text(levels[present[0]])
    columns = [
        DesignColumn(f"{name}{level_text(levels[code])}", name, level_text(levels[code]), base)
        for code in present[1:]
    ]
    return (codes[:, None] == np.asarray(present[1:])).astype(np.float64), columns, None


def build(
    data: pd.DataFrame,
    time: str,
    event: str,
    covariates: Sequence[str] | str,
    strata: str | Sequence[str] | pd.Series | None,
    reference: Mapping[str, object] | None,
) -> Design:
    """Read the columns, drop and count incomplete rows, and code the covariates.

    A name with ":" that is no column is the product of its parts, which must be covariates too for the usual
    meaning. The reference level of a factor is `reference[column]`, else its first level.

    Raises:
        ValueError: a column that does not exist, no covariate, a reference level without subjects.
    """
    names = [covariates] if isinstance(covariates, str) else [str(one) for one in covariates]
    if not names:
        raise ValueError("at least one covariate is needed")
    if len(set(names)) != len(names):
        raise ValueError("a covariate is named twice")
    parts = {name: [name] if name in data.columns else name.split(":") for name in names}
    sources = list(dict.fromkeys(part for name in names for part in parts[name]))
    wanted = dict(reference or {})
    for column in [time, event, *sources, *wanted]:
        if column not in data.columns:
            raise ValueError(f"data has no column {column!r}")
    times = as_numbers(data[time], time)
    events = as_events(data[event])
    stratum = _strata(data, strata)
    missing = {one: data[one].isna().to_numpy(dtype=np.bool_) for one in sources}
    keep = ~np.isnan(times) & ~np.isnan(events) & (stratum >= 0)
    for absent in missing.values():
        keep &= ~absent

    single = {one: _expand(one, data[one], keep, wanted.get(one)) for one in sources}
    blocks: list[Floats] = []
    columns: list[DesignColumn] = []
    notes: dict[str, str] = {}
    for name in names:
        matrix, described, note = single[parts[name][0]]
        for part in parts[name][1:]:
            other, other_columns, other_note = single[part]
            product = other[:, :, None] * matrix[:, None, :]
            matrix = product.reshape(matrix.shape[0], other.shape[1] * matrix.shape[1])
            described = [
                DesignColumn(
                    f"{left.name}:{right.name}",
                    name,
                    ":".join(x.level for x in (left, right) if x.level is not None) or None,
                    ":".join(x.reference for x in (left, right) if x.reference is not None) or None,
                )
                for right in other_columns
                for left in described
            ]
            note = note or other_note
        blocks.append(matrix)
        columns.extend(described)
        if note:
            notes[name] = note
    return Design(
        time=tie(times[keep]),
        event=events[keep] == 1.0,
        stratum=np.unique(stratum[keep], return_inverse=True)[1].astype(np.int64).reshape(-1),
        matrix=np.hstack(blocks),
        columns=tuple(columns),
        covariates=tuple(names),
        n_missing=int(keep.size - keep.sum()),
        missing_by_covariate=tuple((one, int(absent.sum())) for one, absent in missing.items()),
        notes=notes,
    )
