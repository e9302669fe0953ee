"""Fisher's exact test by complete enumeration, for tables of any shape within a stated limit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

from .results import Counts, Table, TestResult, read_table

__all__ = ["MAX_NODES", "fisher_exact"]

#: Partial tables, beyond which the enumeration is given up (some seconds, at most 300 MB).
MAX_NODES = 5_000_000

#: Partial tables that are collected before equal ones are joined.
_CHUNK = 1_000_000

#: Tables count as at least as extreme up to this much more probable than the observed one, as in R's
#: fisher.test.
RELATIVE_ERROR = 1e-7

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class _TooLargeError(Exception):
    """The enumeration would exceed its limit."""


def _log_factorial(values: npt.ArrayLike) -> Floats:
    return np.asarray(scipy.special.gammaln(np.asarray(values, dtype=np.float64) + 1.0), dtype=np.float64)


def _fillings(total: int, room: Ints, limit: int) -> Ints:
    """All ways to put `total` subjects into cells with the given room: ways x cells."""
    partial = np.zeros((1, 0), dtype=np.int64)
    left = np.array([total], dtype=np.int64)
    for i, most in enumerate(room):
        behind = int(room[i + 1 :].sum())
        low = np.maximum(left - behind, 0)
        high = np.minimum(left, most)
        sizes = np.maximum(high - low + 1, 0)
        if int(sizes.sum()) > limit:
            raise _TooLargeError
        index = np.repeat(np.arange(left.size), sizes)
        offset = np.arange(index.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        value = low[index] + offset
        partial = np.column_stack((partial[index], value))
        left = left[index] - value
    return partial


def _balanced(total: int, cells: int) -> float:
    """The largest -log of a product of factorials of `cells` numbers that add up to `total`."""
    each, more = divmod(total, cells)
    return -float(more * _log_factorial(each + 1) + (cells - more) * _log_factorial(each))


def _merge(parts: list[tuple[Ints, Floats, Floats]]) -> tuple[Ints, Floats, Floats]:
    """Join partial tables with the same margins left and the same probability (to 1e-11 relative)."""
    keys, logs, counts = (np.concatenate([part[i] for part in parts]) for i in range(3))
    rounded = np.round(logs * 1e11)
    order = np.lexsort((rounded, keys))
    keys, logs, counts, rounded = keys[order], logs[order], counts[order], rounded[order]
    new = np.concatenate(([True], (keys[1:] != keys[:-1]) | (rounded[1:] != rounded[:-1])))
    start = np.flatnonzero(new)
    return keys[start], logs[start], np.add.reduceat(counts, start)


def _pairs(room: Ints, first: int, logs: Floats, limit: float, max_nodes: int) -> tuple[Floats, int]:
    """Sums of 1/prod(n_ij!) over the last two columns, per partial table, of the tables within the limit.

    The two columns' tables depend on the room alone: they are sorted once and every partial table looks up
    its share.
    """
    cells = _fillings(first, room, max_nodes)
    values = -(_log_factorial(cells) + _log_factorial(room - cells)).sum(axis=1)
    values.sort()
    sums = np.concatenate(([0.0], np.cumsum(np.exp(values - values[-1]))))
    found = np.searchsorted(values, limit - logs, side="right")
    with np.errstate(divide="ignore"):
        return np.log(sums[found]) + values[-1], cells.shape[0]


def _tail(counts: Counts, max_nodes: int) -> float:
    """Sum of the probabilities of the tables with these margins that are at most as probable as this one.

    Tables are built column by column. What matters of a partial table is which row totals are left (their
    order does not) and the product of the factorials so far, so equal ones are joined (Mehta and Patel's
    network, 1983). A partial table of which every completion counts is summed in closed form, one of which
    none counts is dropped, and the last two columns are looked up.
    """
    table = counts if counts.shape[0] <= counts.shape[1] else counts.T
    rows = np.sort(table.sum(axis=1))
    columns = np.sort(table.sum(axis=0))
    n = int(rows.sum())
    base = n + 1
    if float(base) ** rows.size >= 2.0**62:
        raise _TooLargeError
    powers = base ** np.arange(rows.size, dtype=np.int64)
    constant = float(_log_factorial(rows).sum() + _log_factorial(columns).sum() - _log_factorial(n))
    limit = -float(_log_factorial(table).sum()) + np.log1p(RELATIVE_ERROR)

    nodes = (np.array([rows @ powers], dtype=np.int64), np.zeros(1), np.ones(1))
    total = 0.0
    made = 0
    for j in range(columns.size - 1):
        behind = columns[j:]
        lost_behind = float(_log_factorial(behind).sum())
        keys, logs, ways = nodes
        pending: list[tuple[Ints, Floats, Floats]] = []
        collected, room_to_collect = 0, _CHUNK
        starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
        for start, end in zip(starts, [*starts[1:], keys.size], strict=True):
            room = (keys[start] // powers) % base
            log, way = logs[start:end], ways[start:end]
            if behind.size == 2:
                sums, size = _pairs(room, int(behind[0]), log, limit, max_nodes)
                total += float((way * np.exp(log + sums + constant)).sum())
                made += size + log.size
                if made > max_nodes:
                    raise _TooLargeError
                continue
            lost = float(_log_factorial(room).sum())
            highest = min(
                sum(_balanced(int(one), room.size) for one in behind),
                sum(_balanced(int(one), behind.size) for one in room),
            )
            every = log + highest <= limit
            if every.any():
                # sum over all completions of 1 / prod(n_ij!) = M! / (prod(room!) prod(behind!))
                closed = float(_log_factorial(behind.sum())) - lost - lost_behind
                total += float((way[every] * np.exp(log[every] + closed + constant)).sum())
            some = ~every & (log + max(-lost, -lost_behind) <= limit)
            if not some.any():
                continue
            cells = _fillings(int(behind[0]), room, max_nodes)
            made += cells.shape[0] * int(some.sum())
            if made > max_nodes:
                raise _TooLargeError
            after = np.sort(room - cells, axis=1) @ powers
            gain = -_log_factorial(cells).sum(axis=1)
            pending.append(
                (
                    np.repeat(after, int(some.sum())),
                    (gain[:, None] + log[some]).ravel(),
                    np.tile(way[some], cells.shape[0]),
                )
            )
            collected += cells.shape[0] * int(some.sum())
            if collected > room_to_collect:
                pending = [_merge(pending)]
                collected = 0
                room_to_collect = max(_CHUNK, pending[0][0].size)
        if not pending:
            break
        nodes = _merge(pending)
    return min(total, 1.0)


def fisher_exact(table: Table, *, max_nodes: int = MAX_NODES) -> TestResult:
    """Fisher's exact test, two-sided, for r x c tables (Freeman and Halton 1951), exact and never simulated.

    P is the sum of the probabilities, given the margins, of the tables with a probability of at most
    (1 + 1e-7) times the observed one's.

    Args:
        table: r x c counts; rows and columns without subjects are dropped and named.
        max_nodes: partial tables to look at; a larger problem is not estimable, with that reason.

    Returns:
        P; an exact test has neither statistic nor degrees of freedom.

    Raises:
        ValueError: not a table of counts.
    """
    method = "Fisher exact test"
    read = read_table(table)
    if read.reason:
        return TestResult(None, None, None, method, read.reason, read.dropped)
    try:
        p = _tail(read.counts, max_nodes)
    except _TooLargeError:
        reason = f"the table is too large to enumerate (limit {max_nodes} partial tables)"
        return TestResult(None, None, None, method, reason, read.dropped)
    return TestResult(None, None, p, method, None, read.dropped)
