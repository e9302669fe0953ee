"""Kaplan-Meier curves (1958) with Greenwood's variance, medians, landmarks and numbers at risk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np

from .inputs import (
    TOLERANCE,
    Bools,
    Column,
    Floats,
    Ints,
    Sample,
    as_events,
    as_numbers,
    prepare,
    tie,
    z_value,
)
from .results import KaplanMeierResult, Landmark, Step

__all__ = [
    "CONF_TYPES",
    "ConfType",
    "Curve",
    "at_risk",
    "cumulative_events",
    "curve_of",
    "kaplan_meier",
    "reverse_km",
]

ConfType = Literal["log-log", "log", "plain"]
CONF_TYPES: tuple[ConfType, ...] = ("log-log", "log", "plain")


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve over its distinct times; `variance` is Greenwood's sum, the variance of log S(t)."""

    time: Floats
    n_risk: Ints
    n_event: Ints
    n_censor: Ints
    surv: Floats
    variance: Floats


def curve_of(time: Floats, event: Bools) -> Curve:
    """The product-limit estimate of tied, complete data; events precede censorings of the same time."""
    times, position = np.unique(time, return_inverse=True)
    n_event = np.bincount(position, weights=event, minlength=times.size).astype(np.int64)
    n_all = np.bincount(position, minlength=times.size).astype(np.int64)
    n_risk = n_all[::-1].cumsum()[::-1]
    surv = np.cumprod((n_risk - n_event) / n_risk)
    left = n_risk * (n_risk - n_event)
    with np.errstate(divide="ignore"):
        hazard_variance = np.where(n_event > 0, n_event / left, 0.0)
    return Curve(times, n_risk, n_event, n_all - n_event, surv, np.cumsum(hazard_variance))


def _bounds(curve: Curve, conf_type: ConfType, z: float) -> tuple[Floats, Floats]:
    """Interval of S(t), NaN where the formula has no value."""
    surv = curve.surv
    inside = surv > 0.0
    if conf_type == "log-log":
        inside &= surv < 1.0
    lower = np.full(surv.size, np.nan)
    upper = np.full(surv.size, np.nan)
    s = surv[inside]
    width = z * np.sqrt(curve.variance[inside])
    if conf_type == "plain":
        lower[inside] = np.maximum(s - width * s, 0.0)
        upper[inside] = np.minimum(s + width * s, 1.0)
    elif conf_type == "log":
        lower[inside] = np.exp(np.log(s) - width)
        upper[inside] = np.minimum(np.exp(np.log(s) + width), 1.0)
    else:
        scale = np.log(-np.log(s))
        shift = width / np.log(s)
        lower[inside] = np.exp(-np.exp(scale - shift))
        upper[inside] = np.exp(-np.exp(scale + shift))
    return lower, upper


def _half_time(time: Floats, height: Floats) -> float | None:
    """Where a step function first meets 0.5: the drop below it, or the middle of a plateau at it.

    As R's `print` and `summary` of a survfit (its `quantile` differs where a bound rises again). A plateau
    that no later drop ends has no middle: its first time counts.
    """
    known = ~np.isnan(height)
    time, height = time[known], height[known]
    reached = np.flatnonzero(height < 0.5 + TOLERANCE)
    if reached.size == 0:
        return None
    first = reached[0]
    later = np.flatnonzero(height[first:] < height[first])
    if abs(height[first] - 0.5) < TOLERANCE and later.size:
        return float((time[first] + time[first + later[0]]) / 2.0)
    return float(time[first])


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _landmark(curve: Curve, lower: Floats, upper: Floats, at: float) -> Landmark:
    index = int(np.searchsorted(curve.time, at, side="right")) - 1
    following = int(np.searchsorted(curve.time, at, side="left"))
    n_risk = int(curve.n_risk[following]) if following < curve.time.size else 0
    if index < 0:
        # nothing was observed yet: S is 1 by definition, not by estimation (R gives 1, 1, 1 here for every
        # type)
        return Landmark(at, n_risk, 1.0, 1.0, 1.0)
    surv = float(curve.surv[index])
    if at > curve.time[-1] and surv > 0.0:
        return Landmark(at, n_risk, None, None, None, "beyond the last observed time")
    bounds = _number(lower[index]), _number(upper[index])
    reason = f"no interval at S = {surv:.0f}" if None in bounds else None
    return Landmark(at, n_risk, surv, *bounds, reason)


def _result(
    sample: Sample, code: int, conf_type: ConfType, level: float, at: tuple[float, ...]
) -> KaplanMeierResult:
    mine = sample.group == code
    curve = curve_of(sample.time[mine], sample.event[mine])
    lower, upper = _bounds(curve, conf_type, z_value(level))
    median = _half_time(curve.time, curve.surv)
    events = int(curve.n_event.sum())
    reason = None
    if median is None:
        reason = "no event" if events == 0 else "the survival function does not reach 0.5"
    return KaplanMeierResult(
        label=sample.levels[code],
        n=int(mine.sum()),
        events=events,
        median=median,
        median_ci=(_half_time(curve.time, lower), _half_time(curve.time, upper)),
        landmarks=tuple(_landmark(curve, lower, upper, one) for one in at),
        steps=tuple(
            Step(float(t), int(n), int(d), int(c), float(s), _number(lo), _number(up))
            for t, n, d, c, s, lo, up in zip(
                curve.time, curve.n_risk, curve.n_event, curve.n_censor, curve.surv, lower, upper, strict=True
            )
        ),
        conf_type=conf_type,
        level=level,
        n_missing=sample.n_missing,
        empty_levels=sample.empty_levels,
        reason=reason,
    )


@overload
def kaplan_meier(
    time: Column,
    event: Column,
    *,
    group: None = None,
    conf_type: ConfType = "log-log",
    landmarks: Iterable[float] = (),
    level: float = 0.95,
) -> KaplanMeierResult: ...


@overload
def kaplan_meier(
    time: Column,
    event: Column,
    *,
    group: Column,
    conf_type: ConfType = "log-log",
    landmarks: Iterable[float] = (),
    level: float = 0.95,
) -> list[KaplanMeierResult]: ...


def kaplan_meier(
    time: Column,
    event: Column,
    *,
    group: Column | None = None,
    conf_type: ConfType = "log-log",
    landmarks: Iterable[float] = (),
    level: float = 0.95,
) -> KaplanMeierResult | list[KaplanMeierResult]:
    """Kaplan-Meier estimate with Greenwood's variance.

    The median is the first time with S(t) < 0.5; where S(t) is 0.5 (within 1.5e-8) on a plateau, the
    plateau's middle. Its bounds are the same of the interval's curves (Brookmeyer and Crowley 1982). A
    landmark has S(t), its interval and the number of subjects with time >= t; beyond the last time it is
    None unless S is 0.

    Args:
        time: n follow-up times, any one unit.
        event: n values 0/1 or boolean; 1 is the event, 0 censored.
        group: n group values; None for one curve. The rows of the arguments are paired by position.
        conf_type: "log-log" (R's `conf.type = "log-log"`, SAS' default), "log" (R's default) or "plain".
        landmarks: times at which the curve is read.
        level: confidence level.

    Returns:
        One result without `group`; else a list in the order of the levels (a categorical's order, else
        sorted), levels without subjects left out and named in `empty_levels`.

    Raises:
        ValueError: unknown `conf_type`, lengths that differ, values that are no numbers, event not 0/1.
    """
    if conf_type not in CONF_TYPES:
        raise ValueError(f"conf_type must be one of {', '.join(CONF_TYPES)}, not {conf_type!r}")
    z_value(level)
    at = tuple(float(one) for one in landmarks)
    if not np.isfinite(at).all():
        raise ValueError("landmarks must be finite numbers")
    sample = prepare(time, event, group)
    if group is not None:
        return [_result(sample, code, conf_type, level, at) for code in range(len(sample.levels))]
    if sample.time.size:
        return _result(sample, 0, conf_type, level, at)
    nobody = "no subject with time and event"
    return KaplanMeierResult(
        label="All",
        n=0,
        events=0,
        median=None,
        median_ci=(None, None),
        landmarks=tuple(Landmark(one, 0, None, None, None, nobody) for one in at),
        steps=(),
        conf_type=conf_type,
        level=level,
        n_missing=sample.n_missing,
        reason=nobody,
    )


@overload
def reverse_km(
    time: Column,
    event: Column,
    *,
    group: None = None,
    conf_type: ConfType = "log-log",
    landmarks: Iterable[float] = (),
    level: float = 0.95,
) -> KaplanMeierResult: ...


@overload
def reverse_km(
    time: Column,
    event: Column,
    *,
    group: Column,
    conf_type: ConfType = "log-log",
    landmarks: Iterable[float] = (),
    level: float = 0.95,
) -> list[KaplanMeierResult]: ...


def reverse_km(
    time: Column,
    event: Column,
    *,
    group: Column | None = None,
    conf_type: ConfType = "log-log",
    landmarks: Iterable[float] = (),
    level: float = 0.95,
) -> KaplanMeierResult | list[KaplanMeierResult]:
    """Follow-up by the reverse Kaplan-Meier method: censoring is the event (Schemper and Smith 1996).

    Args and errors are those of `kaplan_meier`; `events` of the result counts censored subjects.
    """
    flipped = 1.0 - as_events(event)
    if group is None:
        return kaplan_meier(time, flipped, conf_type=conf_type, landmarks=landmarks, level=level)
    return kaplan_meier(time, flipped, group=group, conf_type=conf_type, landmarks=landmarks, level=level)


def at_risk(time: Column, at: Sequence[float]) -> tuple[int, ...]:
    """Subjects at risk just before each time: those with time >= t.

    Args:
        time: n follow-up times; missing ones are not counted.
        at: times of the table below a plot.

    Returns:
        One number per element of `at`.
    """
    times = as_numbers(time, "time")
    ordered = np.sort(tie(times[~np.isnan(times)]))
    return tuple(int(ordered.size - np.searchsorted(ordered, float(one), side="left")) for one in at)


def cumulative_events(time: Column, event: Column, at: Sequence[float]) -> tuple[int, ...]:
    """Events up to and including each time.

    Args:
        time: n follow-up times.
        event: n values 0/1; rows with a missing value are not counted.
        at: times of the table below a plot.

    Returns:
        One number per element of `at`.
    """
    sample = prepare(time, event)
    ordered = np.sort(sample.time[sample.event])
    return tuple(int(np.searchsorted(ordered, float(one), side="right")) for one in at)
