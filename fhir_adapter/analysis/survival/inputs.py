"""From what a caller hands over to clean arrays: missing counted, levels ordered, noisy ties made equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy

__all__ = [
    "TOLERANCE",
    "Bools",
    "Column",
    "Floats",
    "Ints",
    "Sample",
    "as_events",
    "as_levels",
    "as_numbers",
    "level_text",
    "prepare",
    "tie",
    "z_value",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Column = pd.Series | npt.NDArray[Any] | Sequence[Any]

#: sqrt of the double's epsilon: R's tolerance for tied times and for S(t) = 0.5.
TOLERANCE = float(np.sqrt(np.finfo(float).eps))


@dataclass(frozen=True, slots=True)
class Sample:
    """Complete rows only; `group` and `stratum` are codes into `levels` and consecutive strata."""

    time: Floats
    event: Bools
    group: Ints
    levels: tuple[str, ...]
    stratum: Ints
    n_missing: int
    empty_levels: tuple[str, ...]


def as_numbers(values: Column, what: str) -> Floats:
    """Floats with NaN for missing; anything but a finite number is a ValueError that names the column."""
    series = pd.Series(values).reset_index(drop=True)
    if series.dtype.kind in "mM":
        raise ValueError(f"{what} must be numbers in one unit, not dates or durations")
    try:
        numbers = pd.to_numeric(series).to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} holds values that are not numbers") from error
    if np.isinf(numbers).any():
        raise ValueError(f"{what} holds an infinite value")
    return numbers


def as_events(values: Column) -> Floats:
    """0, 1 or NaN. Status codes such as 1/2 are refused: guessing which one is the event is not safe."""
    numbers = as_numbers(values, "event")
    if not np.isin(numbers[~np.isnan(numbers)], (0.0, 1.0)).all():
        raise ValueError("event must be 0 or 1, or boolean")
    return numbers


def as_levels(values: Column) -> tuple[Ints, tuple[Any, ...]]:
    """Codes (-1 for missing) and levels: a categorical's order, else sorted (mixed types by their text)."""
    series = pd.Series(values).reset_index(drop=True)
    if isinstance(series.dtype, pd.CategoricalDtype):
        given: Ints = np.asarray(series.cat.codes, dtype=np.int64)
        return given, tuple(series.cat.categories)
    found = list(pd.unique(series.dropna()))
    try:
        found.sort()
    except TypeError:
        found.sort(key=str)
    codes = np.asarray(pd.Categorical(series, categories=found).codes, dtype=np.int64)
    return codes, tuple(found)


def level_text(level: object) -> str:
    """The level as text; a whole number read as float (a column with gaps) loses its ".0"."""
    if isinstance(level, float | np.floating) and float(level).is_integer():
        return str(int(level))
    return str(level)


def tie(time: Floats) -> Floats:
    """Times that differ by rounding noise only become equal (the earliest of them), as R's `timefix` does."""
    distinct = np.unique(time)
    if distinct.size < 2:
        return time
    gap = np.diff(distinct)
    close = (gap <= TOLERANCE) | (gap / np.mean(np.abs(distinct)) <= TOLERANCE)
    if not close.any():
        return time
    starts = distinct[np.concatenate(([True], ~close))]
    return np.asarray(starts[np.searchsorted(starts, time, side="right") - 1], dtype=np.float64)


def prepare(time: Column, event: Column, group: Column | None = None, strata: Column | None = None) -> Sample:
    """Pair the columns by position, drop and count incomplete rows, and number groups and strata.

    Raises:
        ValueError: lengths differ, time is not a finite number, or event is not 0/1.
    """
    times = as_numbers(time, "time")
    events = as_events(event)
    size = times.size
    codes, found = (np.zeros(size, dtype=np.int64), ("All",)) if group is None else as_levels(group)
    blocks = np.zeros(size, dtype=np.int64) if strata is None else as_levels(strata)[0]
    for name, column in (("event", events), ("group", codes), ("strata", blocks)):
        if column.size != size:
            raise ValueError(f"{name} has {column.size} rows, time has {size}")
    keep = ~np.isnan(times) & ~np.isnan(events) & (codes >= 0) & (blocks >= 0)
    codes = codes[keep]
    present = np.unique(codes)
    used = [int(code) for code in present]
    empty = [level_text(level) for code, level in enumerate(found) if code not in set(used)]
    return Sample(
        time=tie(times[keep]),
        event=events[keep] == 1.0,
        group=np.searchsorted(present, codes).astype(np.int64),
        levels=tuple(level_text(found[code]) for code in used),
        stratum=np.unique(blocks[keep], return_inverse=True)[1].astype(np.int64).reshape(-1),
        n_missing=int(size - keep.sum()),
        empty_levels=tuple(empty) if group is not None else (),
    )


def z_value(level: float) -> float:
    """The normal quantile of a two-sided interval.

    Raises:
        ValueError: level is not strictly between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise ValueError("level must lie strictly between 0 and 1")
    return float(scipy.stats.norm.ppf(1.0 - (1.0 - level) / 2.0))
