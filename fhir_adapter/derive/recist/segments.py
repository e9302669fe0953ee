"""Cumulative operations over runs of sorted rows; a run is a subject, a visit, or a lesion at a visit.

Each works on all runs at once; none loops over subjects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

__all__ = [
    "any_before",
    "cumulative_max",
    "cumulative_sum",
    "in_order",
    "last_before",
    "min_before",
    "run_starts",
    "stable_order",
    "start_positions",
]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def stable_order(keys: Ints) -> Ints:
    """The positions that sort `keys`, equal ones in the order in which they stand.

    Keys that are not much more spread than they are many are counted, which is linear in their number; any others
    are sorted.
    """
    count, greatest = len(keys), int(keys.max(initial=0))
    if not count or keys.min() < 0 or greatest > 8 * count or count > np.iinfo(np.int32).max:
        return np.argsort(keys, kind="stable")
    # The columns of a matrix with a one per row, in the order of columns, are the rows in order of their key.
    cells = (np.ones(count, dtype=np.bool_), keys.astype(np.int32), np.arange(count + 1, dtype=np.int32))
    return np.asarray(
        scipy.sparse.csr_array(cells, shape=(count, greatest + 1)).tocsc().indices, dtype=np.int64
    )


def in_order(order: Ints, *columns: Ints) -> tuple[Ints, ...]:
    """Columns in another order; each is made as narrow as its values allow, so that more of it is at hand."""

    def narrow(column: Ints) -> npt.NDArray[Any]:
        least, greatest = int(column.min(initial=0)), int(column.max(initial=0))
        for kind in (np.int8, np.int16, np.int32):
            if np.iinfo(kind).min <= least and greatest <= np.iinfo(kind).max:
                return column.astype(kind)
        return column

    return tuple(narrow(column)[order].astype(np.int64) for column in columns)


def run_starts(keys: npt.NDArray[Any]) -> Bools:
    """True at the first row of each run of equal `keys`."""
    starts = np.ones(len(keys), dtype=np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=starts[1:])
    return starts


def start_positions(starts: Bools) -> Ints:
    """For each row the position of its run's first row."""
    return np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))


def any_before(flag: Bools, starts: Bools) -> Bools:
    """True where an earlier row of the same run has the flag."""
    before: Ints = np.cumsum(flag) - flag
    return np.asarray(before > before[start_positions(starts)])


def last_before(flag: Bools, starts: Bools) -> Ints:
    """The position of the last earlier row of the same run with the flag; -1 where there is none."""
    positions = np.where(flag, np.arange(len(flag)), -1)
    before: Ints = np.empty_like(positions)
    before[:1] = -1
    before[1:] = np.maximum.accumulate(positions)[:-1]
    return np.where(before >= start_positions(starts), before, -1)


def min_before(values: Ints, starts: Bools, ceiling: int) -> Ints:
    """The smallest value of the earlier rows of the same run, `ceiling` where there is none.

    Args:
        values: from 0 to `ceiling`.
        starts: the first row of each run.
        ceiling: the greatest value.
    """
    # Each run is moved below all runs before it, so one running minimum over everything starts anew with each
    # run.
    lift = (np.cumsum(starts) - 1) * (ceiling + 1)
    running = np.minimum.accumulate(values - lift) + lift
    before: Ints = np.empty_like(running)
    before[1:] = running[:-1]
    before[starts] = ceiling
    return before


def cumulative_max(values: Ints, starts: Bools) -> Ints:
    """The greatest value so far in the run; values are not negative."""
    lift = (np.cumsum(starts) - 1) * (int(values.max(initial=0)) + 1)
    return np.asarray(np.maximum.accumulate(values + lift) - lift)


def cumulative_sum(values: Ints, starts: Bools) -> Ints:
    """The sum so far in the run."""
    total = np.cumsum(values)
    first = start_positions(starts)
    return np.asarray(total - total[first] + values[first])
