"""Chi-square tests of a table of counts, rows being groups and columns outcomes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy

from fhir_adapter.analysis.survival import log_rank as survival_log_rank
from fhir_adapter.analysis.survival.inputs import Column

from .results import ReadTable, Table, TestResult, read_table

__all__ = ["cochran_armitage", "likelihood_ratio", "linear_by_linear", "log_rank", "pearson_chi2"]

Floats = npt.NDArray[np.float64]


def _no_test(read: ReadTable, method: str, reason: str | None = None) -> TestResult:
    return TestResult(None, None, None, method, reason or read.reason, read.dropped)


def _chi_square(statistic: float, df: int, method: str, read: ReadTable) -> TestResult:
    return TestResult(statistic, df, float(scipy.stats.chi2.sf(statistic, df)), method, None, read.dropped)


def _expected(read: ReadTable) -> Floats:
    counts = read.counts
    return np.asarray(np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum(), dtype=np.float64)


def pearson_chi2(table: Table) -> TestResult:
    """Pearson's chi-square test without continuity correction.

    Args:
        table: r x c counts; rows and columns without subjects are dropped and named.

    Raises:
        ValueError: not a table of counts.
    """
    method = "Pearson chi-square test"
    read = read_table(table)
    if read.reason:
        return _no_test(read, method)
    expected = _expected(read)
    statistic = float(((read.counts - expected) ** 2 / expected).sum())
    return _chi_square(statistic, (expected.shape[0] - 1) * (expected.shape[1] - 1), method, read)


def likelihood_ratio(table: Table) -> TestResult:
    """Likelihood ratio chi-square test (G-squared), a cell of 0 adding nothing.

    Args:
        table: r x c counts; rows and columns without subjects are dropped and named.

    Raises:
        ValueError: not a table of counts.
    """
    method = "likelihood ratio chi-square test"
    read = read_table(table)
    if read.reason:
        return _no_test(read, method)
    expected = _expected(read)
    some = read.counts > 0
    statistic = 2.0 * float((read.counts[some] * np.log(read.counts[some] / expected[some])).sum())
    return _chi_square(max(statistic, 0.0), (expected.shape[0] - 1) * (expected.shape[1] - 1), method, read)


def _scores(given: Sequence[float] | None, positions: tuple[int, ...], size: int, what: str) -> Floats:
    """Scores of what is left of the table; without given ones 1, 2, ... in order."""
    if given is None:
        return np.arange(1.0, len(positions) + 1.0)
    scores = np.asarray(given, dtype=np.float64)
    if scores.shape != (size,) or not np.isfinite(scores).all():
        raise ValueError(f"{what} needs {size} finite numbers")
    return scores[list(positions)]


def _squared_correlation(counts: npt.NDArray[np.int64], rows: Floats, columns: Floats) -> float | None:
    """r^2 of the scores over the subjects, None if one of them does not vary."""
    n = counts.sum()
    row_part = rows - counts.sum(axis=1) @ rows / n
    column_part = columns - counts.sum(axis=0) @ columns / n
    spread = float(counts.sum(axis=1) @ row_part**2) * float(counts.sum(axis=0) @ column_part**2)
    if spread <= 0.0:
        return None
    return float(row_part @ counts @ column_part) ** 2 / spread


def linear_by_linear(
    table: Table, *, row_scores: Sequence[float] | None = None, column_scores: Sequence[float] | None = None
) -> TestResult:
    """Linear-by-linear association test, (N - 1) r^2 on 1 df (Mantel 1963; SAS' Mantel-Haenszel).

    Args:
        table: r x c counts, ordered groups by ordered outcomes; empty rows and columns are dropped and named.
        row_scores: one per row of the table, by default 1, 2, ... of the rows with subjects.
        column_scores: one per column, likewise.

    Raises:
        ValueError: not a table of counts, or a wrong number of scores.
    """
    method = "linear-by-linear association test"
    read = read_table(table)
    rows = _scores(row_scores, read.rows, read.shape[0], "row_scores")
    columns = _scores(column_scores, read.columns, read.shape[1], "column_scores")
    if read.reason:
        return _no_test(read, method)
    squared = _squared_correlation(read.counts, rows, columns)
    if squared is None:
        return _no_test(read, method, "all scores are the same")
    return _chi_square(float(read.counts.sum() - 1) * squared, 1, method, read)


def cochran_armitage(table: Table, *, scores: Sequence[float] | None = None) -> TestResult:
    """Cochran-Armitage test for trend in proportions, N r^2 on 1 df (R's prop.trend.test).

    The square root of the statistic is the Z of SAS.

    Args:
        table: k x 2 counts, ordered groups by a binary outcome; 2 x k with k > 2 is turned round.
        scores: one per group, by default 1, 2, ... of the groups with subjects.

    Raises:
        ValueError: not such a table, or a wrong number of scores.
    """
    method = "Cochran-Armitage test for trend"
    read = read_table(table)
    if 2 not in read.shape:
        raise ValueError("the Cochran-Armitage test needs a binary outcome: k x 2 counts")
    turned = read.shape[1] != 2
    groups, size = (read.columns, read.shape[1]) if turned else (read.rows, read.shape[0])
    values = _scores(scores, groups, size, "scores")
    if read.reason:
        return _no_test(read, method)
    counts = read.counts.T if turned else read.counts
    squared = _squared_correlation(counts, values, np.array([0.0, 1.0]))
    if squared is None:
        return _no_test(read, method, "all scores are the same")
    return _chi_square(float(counts.sum()) * squared, 1, method, read)


def log_rank(
    time: Column,
    event: Column,
    group: Column,
    *,
    strata: Column | None = None,
    trend: bool | Sequence[float] = False,
    p: float = 0,
    q: float = 0,
) -> TestResult:
    """Log-rank test as a named test; arguments and errors are those of `survival.log_rank`."""
    result = survival_log_rank(time, event, group, strata=strata, trend=trend, p=p, q=q)
    return TestResult(
        result.statistic,
        result.df,
        result.p,
        result.method,
        result.reason,
        result.empty_levels,
        result.n_missing,
    )
