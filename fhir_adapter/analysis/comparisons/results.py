"""What tests and intervals return, and how a table of counts is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = [
    "Counts",
    "Interval",
    "ReadTable",
    "Table",
    "TestResult",
    "read_table",
]

Counts = npt.NDArray[np.int64]
Table = pd.DataFrame | npt.NDArray[Any] | Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class TestResult:
    """A test: chi-square statistic and degrees of freedom where it has them, and P.

    Attributes:
        statistic: None for exact tests, and with `reason` if not estimable.
        df: degrees of freedom, as `statistic`.
        p: two-sided P, None with `reason` if not estimable.
        method: the test's name in words, for print beside P.
        reason: why there is no P.
        dropped: rows and columns of the table without subjects, left out.
        n_missing: rows without a value (log-rank only; tables have none).
    """

    __test__: ClassVar[bool] = False  # not a test class, whatever pytest thinks of the name

    statistic: float | None
    df: int | None
    p: float | None
    method: str
    reason: str | None = None
    dropped: tuple[str, ...] = ()
    n_missing: int = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval, on the estimate's own scale (a proportion is 0 to 1).

    Attributes:
        estimate: None with `reason` if not estimable; so are the bounds.
        lower: lower bound.
        upper: upper bound; None if infinite.
        level: confidence level.
        method: the interval's name in words.
        reason: why something is None.
    """

    estimate: float | None
    lower: float | None
    upper: float | None
    level: float
    method: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ReadTable:
    """Counts without empty rows and columns; `rows` and `columns` are the positions that are left."""

    counts: Counts
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    shape: tuple[int, int]
    dropped: tuple[str, ...]
    reason: str | None


def read_table(table: Table) -> ReadTable:
    """Check the counts, and drop and name rows and columns without subjects.

    Raises:
        ValueError: not two-dimensional, or a value that is not a whole number of 0 or more.
    """
    values = np.asarray(table.to_numpy() if isinstance(table, pd.DataFrame) else table)
    if values.ndim != 2:
        raise ValueError("a table has rows (groups) and columns (outcomes)")
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("a table holds counts") from error
    if not np.isfinite(numbers).all() or (numbers < 0).any() or (numbers != np.floor(numbers)).any():
        raise ValueError("a table holds whole numbers of 0 or more")
    counts = numbers.astype(np.int64)
    by_row, by_column = counts.sum(axis=1) > 0, counts.sum(axis=0) > 0
    if isinstance(table, pd.DataFrame):
        row_names, column_names = [str(one) for one in table.index], [str(one) for one in table.columns]
    else:
        row_names = [f"row {i + 1}" for i in range(counts.shape[0])]
        column_names = [f"column {j + 1}" for j in range(counts.shape[1])]
    dropped = [name for name, used in zip(row_names, by_row, strict=True) if not used]
    dropped += [name for name, used in zip(column_names, by_column, strict=True) if not used]
    reason = None
    if not counts.sum():
        reason = "no subject"
    elif by_row.sum() < 2:
        reason = "fewer than two groups have subjects"
    elif by_column.sum() < 2:
        reason = "all subjects have the same outcome"
    return ReadTable(
        counts=counts[np.ix_(by_row, by_column)],
        rows=tuple(int(i) for i in np.flatnonzero(by_row)),
        columns=tuple(int(j) for j in np.flatnonzero(by_column)),
        shape=(counts.shape[0], counts.shape[1]),
        dropped=tuple(dropped),
        reason=reason,
    )
