"""Intervals of a proportion, of a difference of two, and of their odds ratio."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy

from fhir_adapter.analysis.survival.inputs import z_value

from .results import Interval

__all__ = [
    "clopper_pearson",
    "miettinen_nurminen",
    "newcombe",
    "odds_ratio_exact",
    "odds_ratio_wald",
    "wilson",
]

Floats = npt.NDArray[np.float64]


def _check(x: int, n: int) -> tuple[int, int]:
    """Whole numbers with 0 <= x <= n.

    Raises:
        ValueError: otherwise.
    """
    if x != int(x) or n != int(n) or not 0 <= x <= n:
        raise ValueError("a proportion needs whole numbers with 0 <= x <= n")
    return int(x), int(n)


def _nobody(level: float, method: str) -> Interval:
    return Interval(None, None, None, level, method, "no subject")


def clopper_pearson(x: int, n: int, level: float = 0.95) -> Interval:
    """Exact interval of x/n (Clopper and Pearson 1934).

    Args:
        x: subjects with the outcome.
        n: subjects.
        level: confidence level.

    Raises:
        ValueError: not 0 <= x <= n, or a level outside 0 to 1.
    """
    z_value(level)
    x, n = _check(x, n)
    method = "Clopper-Pearson"
    if n == 0:
        return _nobody(level, method)
    tail = (1.0 - level) / 2.0
    lower = 0.0 if x == 0 else float(scipy.stats.beta.ppf(tail, x, n - x + 1))
    upper = 1.0 if x == n else float(scipy.stats.beta.isf(tail, x + 1, n - x))
    return Interval(x / n, lower, upper, level, method)


def _wilson(x: int, n: int, z: float) -> tuple[float, float]:
    p = x / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (0.0 if x == 0 else centre - half), (1.0 if x == n else centre + half)


def wilson(x: int, n: int, level: float = 0.95) -> Interval:
    """Score interval of x/n (Wilson 1927) without continuity correction.

    Args:
        x: subjects with the outcome.
        n: subjects.
        level: confidence level.

    Raises:
        ValueError: not 0 <= x <= n, or a level outside 0 to 1.
    """
    z = z_value(level)
    x, n = _check(x, n)
    method = "Wilson"
    if n == 0:
        return _nobody(level, method)
    lower, upper = _wilson(x, n, z)
    return Interval(x / n, lower, upper, level, method)


def newcombe(x1: int, n1: int, x2: int, n2: int, level: float = 0.95) -> Interval:
    """Interval of x1/n1 - x2/n2 from the two Wilson intervals (Newcombe 1998, method 10).

    Args:
        x1: subjects with the outcome in the first group.
        n1: subjects in the first group.
        x2: subjects with the outcome in the second group.
        n2: subjects in the second group.
        level: confidence level.

    Raises:
        ValueError: not 0 <= x <= n, or a level outside 0 to 1.
    """
    z = z_value(level)
    (x1, n1), (x2, n2) = _check(x1, n1), _check(x2, n2)
    method = "Newcombe"
    if n1 == 0 or n2 == 0:
        return _nobody(level, method)
    p1, p2 = x1 / n1, x2 / n2
    (l1, u1), (l2, u2) = _wilson(x1, n1, z), _wilson(x2, n2, z)
    difference = p1 - p2
    lower = difference - math.hypot(p1 - l1, u2 - p2)
    upper = difference + math.hypot(u1 - p1, p2 - l2)
    return Interval(difference, max(lower, -1.0), min(upper, 1.0), level, method)


def _restricted(x1: int, n1: int, x2: int, n2: int, delta: float) -> tuple[float, float]:
    """Maximum likelihood proportions given that they differ by delta: the root of a cubic in closed form."""
    n = n1 + n2
    c2 = ((n1 + 2 * n2) * delta - n - x1 - x2) / (3 * n)
    c1 = (n2 * delta * delta - (n + 2 * x2) * delta + x1 + x2) / n
    c0 = x2 * delta * (1 - delta) / n
    q = c2**3 - c1 * c2 / 2 + c0 / 2
    r = math.copysign(math.sqrt(max(c2 * c2 - c1 / 3, 0.0)), q)
    angle = 0.0 if r == 0 else (math.pi + math.acos(min(1.0, max(-1.0, q / r**3)))) / 3
    p2 = 2 * r * math.cos(angle) - c2
    p2 = min(max(p2, max(0.0, -delta)), min(1.0, 1.0 - delta))
    return p2 + delta, p2


def miettinen_nurminen(x1: int, n1: int, x2: int, n2: int, level: float = 0.95) -> Interval:
    """Score interval of x1/n1 - x2/n2 with the factor N/(N-1) (Miettinen and Nurminen 1985).

    Args:
        x1: subjects with the outcome in the first group.
        n1: subjects in the first group.
        x2: subjects with the outcome in the second group.
        n2: subjects in the second group.
        level: confidence level.

    Raises:
        ValueError: not 0 <= x <= n, or a level outside 0 to 1.
    """
    z = z_value(level)
    (x1, n1), (x2, n2) = _check(x1, n1), _check(x2, n2)
    method = "Miettinen-Nurminen"
    if n1 == 0 or n2 == 0:
        return _nobody(level, method)
    n = n1 + n2
    difference = x1 / n1 - x2 / n2

    def excess(delta: float) -> float:
        """Squared score minus its critical value, times the variance so that it is finite everywhere."""
        p1, p2 = _restricted(x1, n1, x2, n2, delta)
        variance = (p1 * (1 - p1) / n1 + p2 * (1 - p2) / n2) * n / (n - 1)
        return (difference - delta) ** 2 - z * z * variance

    def bound(end: float) -> float:
        if abs(end - difference) < 1e-12 or excess(end) <= 0.0:
            return end
        inner = difference + (end - difference) * 1e-9
        if excess(inner) >= 0.0:
            return difference
        return float(scipy.optimize.brentq(excess, inner, end, xtol=1e-14, rtol=1e-14))

    return Interval(difference, bound(-1.0), bound(1.0), level, method)


def odds_ratio_wald(x1: int, n1: int, x2: int, n2: int, level: float = 0.95) -> Interval:
    """Sample odds ratio with the interval of its logarithm (Woolf 1955); a cell of 0 is not corrected.

    Args:
        x1: subjects with the outcome in the first group.
        n1: subjects in the first group.
        x2: subjects with the outcome in the second group.
        n2: subjects in the second group.
        level: confidence level.

    Raises:
        ValueError: not 0 <= x <= n, or a level outside 0 to 1.
    """
    z = z_value(level)
    (x1, n1), (x2, n2) = _check(x1, n1), _check(x2, n2)
    method = "odds ratio, Wald"
    if n1 == 0 or n2 == 0:
        return _nobody(level, method)
    cells = (x1, n1 - x1, x2, n2 - x2)
    if 0 in cells:
        return Interval(None, None, None, level, method, "a cell of the table is 0")
    log = math.log(cells[0]) - math.log(cells[1]) - math.log(cells[2]) + math.log(cells[3])
    se = math.sqrt(sum(1 / cell for cell in cells))
    return Interval(math.exp(log), math.exp(log - z * se), math.exp(log + z * se), level, method)


def odds_ratio_exact(x1: int, n1: int, x2: int, n2: int, level: float = 0.95) -> Interval:
    """Conditional maximum likelihood odds ratio with its exact interval (Cornfield 1956; R's fisher.test).

    Given the margins x1 has Fisher's non-central hypergeometric distribution.

    Args:
        x1: subjects with the outcome in the first group.
        n1: subjects in the first group.
        x2: subjects with the outcome in the second group.
        n2: subjects in the second group.
        level: confidence level.

    Returns:
        The estimate is 0 at the smallest possible x1 and None (infinite, with its reason) at the largest, as
        is the upper bound there.

    Raises:
        ValueError: not 0 <= x <= n, or a level outside 0 to 1.
    """
    z_value(level)
    (x1, n1), (x2, n2) = _check(x1, n1), _check(x2, n2)
    method = "odds ratio, conditional exact"
    if n1 == 0 or n2 == 0:
        return _nobody(level, method)
    m = x1 + x2
    low, high = max(0, m - n2), min(n1, m)
    if low == high:
        return Interval(None, None, None, level, method, "all subjects have the same outcome")
    support = np.arange(low, high + 1, dtype=np.float64)
    central = -(
        scipy.special.gammaln(support + 1)
        + scipy.special.gammaln(n1 - support + 1)
        + scipy.special.gammaln(m - support + 1)
        + scipy.special.gammaln(n2 - m + support + 1)
    )

    def density(log_ratio: float) -> Floats:
        logs = central + support * log_ratio
        weights = np.exp(logs - logs.max())
        return np.asarray(weights / weights.sum(), dtype=np.float64)

    def solve(value: float, what: str) -> float:
        def gap(log_ratio: float) -> float:
            d = density(log_ratio)
            if what == "mean":
                return float(d @ support) - value
            return float(d[support >= x1].sum() if what == "above" else d[support <= x1].sum()) - value

        edge = 1.0
        while gap(-edge) * gap(edge) > 0.0:
            edge *= 2.0
        return math.exp(scipy.optimize.brentq(gap, -edge, edge, xtol=1e-14, rtol=1e-14))

    tail = (1.0 - level) / 2.0
    lower = 0.0 if x1 == low else solve(tail, "above")
    upper = None if x1 == high else solve(tail, "below")
    if x1 == high:
        return Interval(None, lower, None, level, method, "the odds ratio is infinite")
    return Interval(0.0 if x1 == low else solve(float(x1), "mean"), lower, upper, level, method)
