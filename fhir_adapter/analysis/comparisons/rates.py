"""Interval of a rate: events in person-time."""

from __future__ import annotations

import math

import scipy

from fhir_adapter.analysis.survival.inputs import z_value

from .results import Interval

__all__ = ["poisson_exact"]


def poisson_exact(events: int, time: float, level: float = 0.95) -> Interval:
    """Events per unit of time with the exact Poisson interval (Garwood 1936).

    Args:
        events: number of events, 0 or more.
        time: person-time, in whatever unit the rate is to have.
        level: confidence level.

    Raises:
        ValueError: a number of events that is not whole or is negative, a time that is negative or not finite,
            or a level outside 0 to 1.
    """
    z_value(level)
    if events != int(events) or events < 0:
        raise ValueError("a rate needs a whole number of events, 0 or more")
    if not math.isfinite(time) or time < 0:
        raise ValueError("a rate needs a time of 0 or more")
    method = "exact Poisson"
    if time == 0:
        return Interval(None, None, None, level, method, "no time at risk")
    tail = (1.0 - level) / 2.0
    lower = 0.0 if events == 0 else float(scipy.stats.chi2.ppf(tail, 2 * events)) / 2
    upper = float(scipy.stats.chi2.isf(tail, 2 * events + 2)) / 2
    return Interval(events / time, lower / time, upper / time, level, method)
