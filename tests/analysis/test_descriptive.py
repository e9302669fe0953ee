"""Quantiles, summaries and rounding for print."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_adapter.analysis.descriptive import describe, percent, quantile, round_half_away


@pytest.mark.parametrize(
    ("value", "digits", "printed"),
    [
        (2.675, 2, "2.68"),
        (-2.675, 2, "-2.68"),
        (0.5, 0, "1"),
        (1.5, 0, "2"),
        (2.5, 0, "3"),
        (-0.04, 1, "0.0"),
        (7, 1, "7.0"),
        (1e22, 1, "10000000000000000000000.0"),
        (1e-7, 3, "0.000"),
        (10**17 + 1, 0, "100000000000000001"),
        (Fraction(1, 8), 2, "0.13"),
        (Fraction(-1, 8), 2, "-0.13"),
        (Fraction(-1, 1000), 1, "0.0"),
        (Decimal("0.25"), 1, "0.3"),
        (np.float64(26.35), 1, "26.4"),
    ],
)
def test_round_half_away(value: float, digits: int, printed: str) -> None:
    """Halves go away from zero on the decimal digits; no negative zero, no exponent."""
    assert str(round_half_away(value, digits)) == printed


def test_rounding_refuses_what_is_no_number() -> None:
    """None stays None; NaN and infinity never reach a report."""
    assert round_half_away(None, 1) is None
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not finite"):
            round_half_away(value, 1)


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(1, 400), st.integers(0, 3))
def test_percent_is_exact(n: int, d: int, digits: int) -> None:
    """The printed percentage is within half a unit of its last digit, the upper half at a tie."""
    printed = percent(n, d, digits)
    assert printed is not None
    error = (Fraction(printed) - Fraction(100 * n, d)) * 10**digits
    assert Fraction(-1, 2) < error <= Fraction(1, 2)
    assert -printed.as_tuple().exponent == digits  # type: ignore[operator]


def test_percent_of_the_paper() -> None:
    """15 of 57 is 26.3 %; 1 of 16 is 6.25 and prints 6.3; nobody has no percentage."""
    assert [str(percent(*one)) for one in ((15, 57), (1, 16), (0, 11), (11, 11))] == [
        "26.3",
        "6.3",
        "0.0",
        "100.0",
    ]
    assert percent(0, 0) is None
    with pytest.raises(ValueError, match="negative"):
        percent(-1, 5)


def test_quantiles_by_type() -> None:
    """R: quantile(1:10, .25, type = 7) is 3.25, type 2 is 3; of 1:4 it is 1.75 and 1.5."""
    ten, four = list(range(1, 11)), [4, 2, 3, 1]
    assert (quantile(ten, 0.25), quantile(ten, 0.25, 2)) == (3.25, 3.0)
    assert (quantile(four, 0.25), quantile(four, 0.25, 2)) == (1.75, 1.5)
    assert (quantile(four, 0.0, 2), quantile(four, 1.0, 2), quantile([], 0.5)) == (1.0, 4.0, None)
    with pytest.raises(ValueError, match="quantile_type"):
        quantile(four, 0.5, 6)
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile(four, 50)


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30),
    st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.3, 0.5, 0.75, 0.9, 1.0]),
)
def test_quantiles_agree_with_numpy(values: list[float], q: float) -> None:
    """Types 7 and 2 are numpy's linear and averaged inverted distribution."""
    assert quantile(values, q) == pytest.approx(float(np.quantile(values, q)), rel=1e-9, abs=1e-6)
    median = quantile(values, 0.5, 2)
    assert median == pytest.approx(float(np.median(values)), rel=1e-12, abs=1e-9)
    expected = float(np.quantile(values, q, method="averaged_inverted_cdf"))
    position = len(values) * q
    if abs(position - round(position)) > 1e-9 or position == round(position):
        assert quantile(values, q, 2) == pytest.approx(expected, rel=1e-12, abs=1e-9)


def test_describe() -> None:
    """Known values only; SD with n - 1; one subject has no SD, none has nothing."""
    found = describe([4, None, 1, 3, 2])
    assert (found.n, found.n_missing, found.mean, found.median) == (4, 1, 2.5, 2.5)
    assert found.sd == pytest.approx((5 / 3) ** 0.5)
    assert (found.q1, found.q3, found.iqr) == (1.75, 3.25, 1.5)
    assert (found.minimum, found.maximum, found.range) == (1.0, 4.0, 3.0)
    assert (describe([4, 1, 3, 2], 2).q1, describe([4, 1, 3, 2], 2).q3) == (1.5, 3.5)
    assert (describe([7]).sd, describe([7]).mean) == (None, 7.0)
    assert (describe([]).n, describe([]).mean, describe([None]).n_missing) == (0, None, 1)
    with pytest.raises(ValueError, match="not a number"):
        describe(["x"])
