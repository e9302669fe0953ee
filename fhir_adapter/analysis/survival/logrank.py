"""The log-rank test and its relatives: k groups, strata, trend, Fleming-Harrington weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from .inputs import Bools, Column, Floats, Ints, prepare
from .results import LogRankResult

__all__ = ["log_rank"]


def _stratum(
    time: Floats, event: Bools, group: Ints, k: int, p: float, q: float
) -> tuple[Floats, Floats, Floats]:
    """Weighted observed and expected events per group, and the covariance of their difference (k x k)."""
    times, position = np.unique(time, return_inverse=True)
    deaths = np.zeros((times.size, k))
    leaving = np.zeros((times.size, k))
    np.add.at(leaving, (position, group), 1.0)
    np.add.at(deaths, (position[event], group[event]), 1.0)
    risk = leaving[::-1].cumsum(axis=0)[::-1]
    d = deaths.sum(axis=1)
    n = risk.sum(axis=1)
    before = np.concatenate(([1.0], np.cumprod((n - d) / n)[:-1]))  # pooled S(t-), as in R's survdiff
    weight = before**p * (1.0 - before) ** q
    at = d > 0
    deaths, risk, d, n, weight = deaths[at], risk[at], d[at], n[at], weight[at]
    share = risk / n[:, None]
    observed = (weight[:, None] * deaths).sum(axis=0)
    expected = (weight[:, None] * d[:, None] * share).sum(axis=0)
    # hypergeometric; a single subject at risk has no variance
    factor = weight**2 * d * (n - d) / np.maximum(n - 1.0, 1.0)
    covariance = np.diag((factor[:, None] * share).sum(axis=0)) - np.einsum(
        "t,ti,tj->ij", factor, share, share
    )
    return observed, expected, covariance


def _method(*, stratified: bool, trend: bool, p: float, q: float) -> str:
    name = "log-rank test" if p == 0 and q == 0 else f"Fleming-Harrington ({p:g}, {q:g}) test"
    if trend:
        name += " for trend"
    return ("stratified " if stratified else "") + name


def log_rank(
    time: Column,
    event: Column,
    group: Column,
    *,
    strata: Column | None = None,
    trend: bool | Sequence[float] = False,
    p: float = 0,
    q: float = 0,
) -> LogRankResult:
    """Log-rank test of k groups (Mantel 1966; Peto and Peto 1972), as R's `survdiff`.

    Args:
        time: n follow-up times, any one unit.
        event: n values 0/1 or boolean.
        group: n group values; rows where it is missing are dropped and counted. Rows are paired by position.
        strata: n stratum values; the differences are summed over the strata.
        trend: True for the one-degree test for trend with scores 1, 2, ... in the order of the levels, or the
            scores themselves, one per level that has subjects.
        p: Fleming-Harrington exponent of S(t-) (R's `rho`); 1 is Peto's modification of the Gehan-Wilcoxon
            test.
        q: Fleming-Harrington exponent of 1 - S(t-); S is the pooled estimate of the stratum.

    Returns:
        Chi-square, degrees of freedom, P, and (weighted) observed and expected events in the order of the
        levels. A group that leaves before the first event has no expected events and does not count as a
        degree of freedom. Without events, or with fewer than two such groups, the statistic is None with its
        reason.

    Raises:
        ValueError: negative exponents, lengths that differ, event not 0/1, or a wrong number of scores.
    """
    if p < 0 or q < 0:
        raise ValueError("p and q must not be negative")
    sample = prepare(time, event, group, strata)
    k = len(sample.levels)
    by_trend = not isinstance(trend, bool) or trend
    scores = np.arange(1.0, k + 1.0) if isinstance(trend, bool) else np.asarray(trend, dtype=np.float64)
    if scores.size != k:
        raise ValueError(f"trend has {scores.size} scores for {k} levels")
    observed = np.zeros(k)
    expected = np.zeros(k)
    covariance = np.zeros((k, k))
    for code in np.unique(sample.stratum):
        mine = sample.stratum == code
        parts = _stratum(sample.time[mine], sample.event[mine], sample.group[mine], k, float(p), float(q))
        observed += parts[0]
        expected += parts[1]
        covariance += parts[2]

    statistic: float | None = None
    df: int | None = None
    reason: str | None = None
    counted = expected > 0.0
    if not sample.event.any():
        reason = "no event" if sample.time.size else "no subject with time, event and group"
    elif k < 2:
        reason = "fewer than two groups"
    elif counted.sum() < 2:
        reason = "fewer than two groups have subjects at risk at an event"
    else:
        difference = (observed - expected)[counted]
        inner = covariance[np.ix_(counted, counted)]
        if by_trend:
            centred = scores[counted] - scores[counted].mean()
            variance = float(centred @ inner @ centred)
            if variance > 1e-12 * max(float(np.trace(inner)), 1e-300):
                statistic, df = float(centred @ difference) ** 2 / variance, 1
        else:
            # the differences sum to zero: one group is left out
            matrix = inner[1:, 1:]
            if np.linalg.matrix_rank(matrix) == matrix.shape[0]:
                statistic = float(difference[1:] @ np.linalg.solve(matrix, difference[1:]))
                df = int(counted.sum()) - 1
        if statistic is None:
            reason = "the variance of observed minus expected events is zero"
    return LogRankResult(
        statistic=statistic,
        df=df,
        p=None if statistic is None else float(scipy.stats.chi2.sf(statistic, df)),
        observed=tuple(float(one) for one in observed),
        expected=tuple(float(one) for one in expected),
        levels=sample.levels,
        n=tuple(int(one) for one in np.bincount(sample.group, minlength=k)),
        method=_method(stratified=strata is not None, trend=by_trend, p=p, q=q),
        n_missing=sample.n_missing,
        empty_levels=sample.empty_levels,
        reason=reason,
    )
