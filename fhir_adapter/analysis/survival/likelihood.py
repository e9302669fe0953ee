"""Cox's partial likelihood with its derivatives, and its maximum by Newton-Raphson.

lifelines stops too early to agree with R beyond four digits and cannot be told how to treat a monotone
likelihood; the arithmetic is short enough to own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .inputs import Bools, Floats, Ints

__all__ = ["Fit", "Moments", "Ties", "fit", "independent", "moments"]

Ties = Literal["efron", "breslow"]

_MAX_STEPS = 200

#: Largest change of the log hazards between two subjects in one step.
_LARGEST_STEP = 10.0

#: Log hazards further apart than this (a hazard ratio of 5e21) come from a likelihood without maximum.
_LARGEST_SPREAD = 50.0


@dataclass(frozen=True, slots=True)
class Moments:
    """The likelihood at one beta, one row per event, rows ordered by stratum and time.

    Attributes:
        loglik: log partial likelihood.
        time: event times.
        residual: covariates of the event minus the risk set's mean (summed: the score), events x k.
        variance: covariance of the covariates in the risk set (summed: the information), events x k x k.
    """

    loglik: float
    time: Floats
    residual: Floats
    variance: Floats

    @property
    def score(self) -> Floats:
        """First derivative."""
        return np.asarray(self.residual.sum(axis=0), dtype=np.float64)

    @property
    def information(self) -> Floats:
        """Negative second derivative."""
        return np.asarray(self.variance.sum(axis=0), dtype=np.float64)


def moments(x: Floats, time: Floats, event: Bools, stratum: Ints, beta: Floats, ties: Ties) -> Moments:
    """Evaluate the partial likelihood (Efron 1977 or Breslow 1974 for ties).

    With d tied events Efron's k-th risk set (k = 0..d-1) has the events' weight reduced by k/d; the mean of
    the events' covariates stands in for the covariates of the event, so that the sums over a time are exact.
    """
    k = x.shape[1]
    loglik = 0.0
    times: list[Floats] = []
    residuals: list[Floats] = []
    variances: list[Floats] = []
    for code in np.unique(stratum):
        mine = stratum == code
        order = np.argsort(time[mine], kind="stable")
        t, z, dead = time[mine][order], x[mine][order], event[mine][order]
        if not dead.any():
            continue
        eta = z @ beta
        shift = float(eta.max())
        weight = np.exp(eta - shift)
        wz = weight[:, None] * z
        wzz = wz[:, :, None] * z[:, None, :]
        first = np.searchsorted(t, t[dead], side="left")
        starts, row = np.unique(first, return_inverse=True)

        def over_risk(values: Floats, starts: Ints = starts) -> Floats:
            return np.asarray(values[::-1].cumsum(axis=0)[::-1][starts], dtype=np.float64)

        def over_events(
            values: Floats, row: Ints = row, dead: Bools = dead, size: int = starts.size
        ) -> Floats:
            total = np.zeros((size, *values.shape[1:]))
            np.add.at(total, row, values[dead])
            return total

        count = np.bincount(row, minlength=starts.size)
        begin = np.concatenate(([0], np.cumsum(count)[:-1]))
        rank = np.arange(row.size) - begin[row]
        share = rank / count[row] if ties == "efron" else np.zeros(row.size)
        s0 = over_risk(weight)[row] - share * over_events(weight)[row]
        s1 = over_risk(wz)[row] - share[:, None] * over_events(wz)[row]
        s2 = over_risk(wzz)[row] - share[:, None, None] * over_events(wzz)[row]
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = s1 / s0[:, None]
            loglik += float(np.sum(eta[dead] - shift) - np.sum(np.log(s0)))
            variances.append(s2 / s0[:, None, None] - mean[:, :, None] * mean[:, None, :])
        residuals.append(over_events(z)[row] / count[row][:, None] - mean)
        times.append(t[dead])
    if not times:
        return Moments(0.0, np.empty(0), np.empty((0, k)), np.empty((0, k, k)))
    return Moments(loglik, np.concatenate(times), np.concatenate(residuals), np.concatenate(variances))


def independent(information: Floats, least: Floats) -> list[int]:
    """Columns that add information, in order; a vanishing Cholesky pivot means aliased with earlier ones."""
    left = information.copy()
    kept = []
    for j in range(left.shape[0]):
        pivot = left[j, j]
        if pivot <= least[j]:
            continue
        kept.append(j)
        left = left - np.outer(left[:, j], left[j, :]) / pivot
    return kept


@dataclass(frozen=True, slots=True)
class Fit:
    """The maximum over the given columns; `drifting` columns run away (monotone likelihood)."""

    beta: Floats
    covariance: Floats
    at_maximum: Moments
    at_null: Moments
    converged: bool
    drifting: Bools
    iterations: int


def fit(x: Floats, time: Floats, event: Bools, stratum: Ints, ties: Ties) -> Fit:
    """Newton-Raphson with step halving on standardised columns, until a step is below 1e-11 standard units.

    Where the likelihood has stopped rising (1e-12) but steps have not shrunk, it is monotone in the columns
    that still move (Bryson and Johnson 1981).
    """
    centre = x.mean(axis=0)
    spread = x.std(axis=0)
    z = (x - centre) / spread
    k = z.shape[1]
    beta = np.zeros(k)
    null = now = moments(z, time, event, stratum, beta, ties)
    converged = False
    stalled = 0
    drifting = np.zeros(k, dtype=np.bool_)
    previous = np.full(k, np.inf)
    iterations = 0
    for iterations in range(1, _MAX_STEPS + 1):  # noqa: B007 - reported
        try:
            step = np.linalg.solve(now.information, now.score)
        except np.linalg.LinAlgError:
            drifting = np.abs(beta) > 3.0
            break
        # a nearly singular start can throw the first step far into the flat region
        step = step * min(1.0, _LARGEST_STEP / max(float(np.ptp(z @ step)), 1e-300))
        if np.max(np.abs(step)) < 1e-11 * (1.0 + np.max(np.abs(beta))):
            converged = True
            break
        for _ in range(40):
            following = moments(z, time, event, stratum, beta + step, ties)
            if np.isfinite(following.loglik) and following.loglik >= now.loglik - 1e-10 * (
                1 + abs(now.loglik)
            ):
                break
            step = step / 2.0
        gain = following.loglik - now.loglik
        beta, now = beta + step, following
        moving = (np.abs(step) > 1e-2) & (np.abs(step) > 0.5 * previous)
        previous = np.abs(step)
        flat = gain < 1e-12 * max(1.0, abs(now.loglik))
        stalled = stalled + 1 if flat and moving.any() else 0
        if stalled >= 2:
            drifting = moving
            break
        if flat and np.max(np.abs(step)) < 1e-7:
            # rounding noise of the sums keeps the last digits from settling
            converged = True
            break
    else:
        drifting = np.abs(step) > 1e-2
    covariance = np.linalg.pinv(now.information)
    try:
        covariance = np.linalg.inv(now.information)
    except np.linalg.LinAlgError:
        converged = False
    if not drifting.any() and float(np.ptp(z @ beta)) > _LARGEST_SPREAD:
        drifting = np.abs(beta) > 3.0
    if drifting.any():
        converged = False
        # what is identified only through the subjects that drift away has no estimate either
        usual = np.diag(np.linalg.pinv(null.information))
        drifting |= ~(np.diag(covariance) < 1e6 * usual)
    return Fit(
        beta=beta / spread,
        covariance=covariance / np.outer(spread, spread),
        at_maximum=now,
        at_null=null,
        converged=converged,
        drifting=drifting,
        iterations=iterations,
    )
