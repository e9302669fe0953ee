"""Descriptive statistics and the one way numbers are rounded for print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["Summary", "describe", "percent", "quantile", "round_half_away"]

Values = pd.Series | npt.NDArray[Any] | Sequence[Any]


@dataclass(frozen=True, slots=True)
class Summary:
    """A numeric variable in one group; None where there is no value (SD of one subject, anything of none)."""

    n: int
    n_missing: int
    mean: float | None
    sd: float | None
    median: float | None
    q1: float | None
    q3: float | None
    iqr: float | None
    minimum: float | None
    maximum: float | None
    range: float | None
    quantile_type: int


def _known(values: Values) -> tuple[npt.NDArray[np.float64], int]:
    """The finite numbers and the count of missing ones.

    Raises:
        ValueError: a value that is no number, or infinite.
    """
    try:
        numbers = pd.to_numeric(pd.Series(values)).to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ValueError("values hold something that is not a number") from error
    known = numbers[~np.isnan(numbers)]
    if np.isinf(known).any():
        raise ValueError("values hold an infinite number")
    return known, int(numbers.size - known.size)


def _quantile(ordered: npt.NDArray[np.float64], q: float, quantile_type: int) -> float:
    n = ordered.size
    if quantile_type == 7:
        position = (n - 1) * q
        low = math.floor(position + 4 * np.finfo(float).eps)
        fraction = max(position - low, 0.0)
        if fraction < 4 * np.finfo(float).eps:
            return float(ordered[low])
        high = min(low + 1, n - 1)
        return float((1.0 - fraction) * ordered[low] + fraction * ordered[high])
    # type 2: the inverse of the empirical distribution, averaged where it jumps; R's fuzz guards n*q against
    # rounding
    position = n * q
    nearest = round(position)
    if abs(position - nearest) < 4 * np.finfo(float).eps * max(1.0, position):
        low, high = max(nearest - 1, 0), min(nearest, n - 1)
        return float((ordered[low] + ordered[high]) / 2.0)
    return float(ordered[min(math.ceil(position) - 1, n - 1)])


def quantile(values: Values, q: float, quantile_type: int = 7) -> float | None:
    """A quantile by Hyndman and Fan's (1996) definition 7 (R's default) or 2 (SAS' default, PCTLDEF=5).

    Args:
        values: n numbers; missing ones are left out.
        q: the probability, 0 to 1.
        quantile_type: 7 or 2.

    Returns:
        The quantile, None without values.

    Raises:
        ValueError: q outside 0 to 1, another type, or values that are no numbers.
    """
    if quantile_type not in (2, 7):
        raise ValueError(f"quantile_type must be 7 or 2, not {quantile_type!r}")
    if not 0.0 <= q <= 1.0:
        raise ValueError("q must lie between 0 and 1")
    known, _ = _known(values)
    return _quantile(np.sort(known), float(q), quantile_type) if known.size else None


def describe(values: Values, quantile_type: int = 7) -> Summary:
    """Count, mean, standard deviation (n - 1), median, quartiles and range of the known values.

    Args:
        values: n numbers; missing ones are counted.
        quantile_type: 7 or 2, for the quartiles.

    Raises:
        ValueError: another type, or values that are no numbers.
    """
    if quantile_type not in (2, 7):
        raise ValueError(f"quantile_type must be 7 or 2, not {quantile_type!r}")
    known, missing = _known(values)
    if known.size == 0:
        return Summary(0, missing, None, None, None, None, None, None, None, None, None, quantile_type)
    ordered = np.sort(known)
    q1, q3 = _quantile(ordered, 0.25, quantile_type), _quantile(ordered, 0.75, quantile_type)
    return Summary(
        n=int(known.size),
        n_missing=missing,
        mean=float(known.mean()),
        sd=float(known.std(ddof=1)) if known.size > 1 else None,
        median=float(np.median(ordered)),
        q1=q1,
        q3=q3,
        iqr=q3 - q1,
        minimum=float(ordered[0]),
        maximum=float(ordered[-1]),
        range=float(ordered[-1] - ordered[0]),
        quantile_type=quantile_type,
    )


def round_half_away(value: float | Decimal | Fraction | None, digits: int = 0) -> Decimal | None:
    """Round to `digits` decimals, halves away from zero, on the decimal digits that the number prints with.

    A float is taken as its shortest decimal text: 2.675 rounds to 2.68, although the binary number is a
    little less. A Fraction is rounded exactly. The result keeps its trailing zeros and is never a negative
    zero.

    Args:
        value: the number; None stays None.
        digits: decimals to keep, 0 or more.

    Raises:
        ValueError: the value is NaN or infinite, or `digits` is negative.
    """
    if value is None:
        return None
    if digits < 0:
        raise ValueError("digits must not be negative")
    if isinstance(value, Fraction):
        scaled = abs(value) * 10**digits
        whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
        text = str(whole).rjust(digits + 1, "0")
        rounded = Decimal(f"{text[:-digits]}.{text[-digits:]}" if digits else text)
        return rounded if value >= 0 or not rounded else rounded.copy_negate()
    exact = Decimal(value) if isinstance(value, Decimal | int) else Decimal(repr(float(value)))
    if not exact.is_finite():
        raise ValueError("a number that is not finite cannot be rounded for print")
    with localcontext(prec=1000):  # a float may have 309 digits before the point
        rounded = exact.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)
    return rounded if rounded else rounded.copy_abs()


def percent(n: int, d: int, digits: int = 1) -> Decimal | None:
    """Percentage of n in d, rounded exactly, halves away from zero; None if d is 0.

    Args:
        n: the count.
        d: the denominator.
        digits: decimals.

    Raises:
        ValueError: a negative count or denominator.
    """
    if n < 0 or d < 0:
        raise ValueError("counts must not be negative")
    if d == 0:
        return None
    return round_half_away(Fraction(100 * int(n), int(d)), digits)
