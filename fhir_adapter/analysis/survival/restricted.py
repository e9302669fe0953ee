"""Restricted mean survival time (Royston and Parmar 2013): the area under the curve up to tau."""

from __future__ import annotations

from typing import overload

import numpy as np

from .curves import curve_of
from .inputs import TOLERANCE, Bools, Column, Floats, prepare, z_value
from .results import RmstResult

__all__ = ["rmst"]


def _area(time: Floats, event: Bools, tau: float) -> tuple[float, float, int]:
    """Area, its variance (sum of (area right of t)^2 * d / (n(n-d))) and the events up to tau."""
    curve = curve_of(time, event)
    use = curve.time <= tau
    edges = np.concatenate(([0.0], curve.time[use], [tau]))
    pieces = np.diff(edges) * np.concatenate(([1.0], curve.surv[use]))
    right = pieces[1:][::-1].cumsum()[::-1]  # area from each time to tau
    n, d = curve.n_risk[use], curve.n_event[use]
    some = (d > 0) & (n > d)  # where S falls to 0 nothing is left on the right
    variance = np.sum(right[some] ** 2 * d[some] / (n[some] * (n[some] - d[some])))
    return float(pieces.sum()), float(variance), int(d.sum())


@overload
def rmst(
    time: Column, event: Column, tau: float, *, group: None = None, level: float = 0.95
) -> RmstResult: ...


@overload
def rmst(
    time: Column, event: Column, tau: float, *, group: Column, level: float = 0.95
) -> list[RmstResult]: ...


def rmst(
    time: Column, event: Column, tau: float, *, group: Column | None = None, level: float = 0.95
) -> RmstResult | list[RmstResult]:
    """Restricted mean survival time with its normal interval, as R's `print(survfit, rmean = tau)`.

    Args:
        time: n follow-up times, not negative, any one unit.
        event: n values 0/1 or boolean.
        tau: the restriction, in the unit of the times.
        group: n group values; None for one result.
        level: confidence level.

    Returns:
        One result, or a list in the order of the levels. Without an event up to tau the mean is tau and its
        standard error 0, and `reason` says so.

    Raises:
        ValueError: tau is not positive, or beyond the last time of a group (the curve is unknown there); a
            negative time; lengths that differ; event not 0/1.
    """
    z = z_value(level)
    tau = float(tau)
    if not np.isfinite(tau) or tau <= 0.0:
        raise ValueError("tau must be a positive number")
    sample = prepare(time, event, group)
    if (sample.time < 0.0).any():
        raise ValueError("time must not be negative")
    if sample.time.size == 0:
        if group is not None:
            return []
        nobody = "no subject with time and event"
        return RmstResult(None, None, (None, None), tau, "All", 0, 0, level, sample.n_missing, nobody)
    last = min(float(sample.time[sample.group == code].max()) for code in range(len(sample.levels)))
    if tau > last + TOLERANCE * max(1.0, last):
        raise ValueError(f"tau {tau:g} lies beyond the smallest last time {last:g}")
    results = []
    for code, label in enumerate(sample.levels):
        mine = sample.group == code
        mean, variance, events = _area(sample.time[mine], sample.event[mine], tau)
        se = float(np.sqrt(variance))
        results.append(
            RmstResult(
                rmst=mean,
                se=se,
                ci=(mean - z * se, mean + z * se),
                tau=tau,
                label=label,
                n=int(mine.sum()),
                events=events,
                level=level,
                n_missing=sample.n_missing,
                reason=None if events else "no event up to tau: the standard error is 0",
            )
        )
    return results if group is not None else results[0]
