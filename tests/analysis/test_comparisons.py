"""Tests of tables and intervals of proportions: published values, R's, and what cannot be estimated."""

from __future__ import annotations

import itertools
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fhir_adapter.analysis import comparisons
from fhir_adapter.analysis.comparisons import (
    DIFFERENCES,
    INTERVALS,
    ODDS_RATIOS,
    TESTS,
    clopper_pearson,
    cochran_armitage,
    fisher_exact,
    linear_by_linear,
    log_rank,
    miettinen_nurminen,
    newcombe,
    odds_ratio_exact,
    odds_ratio_wald,
    pearson_chi2,
    wilson,
)
from fhir_adapter.analysis.survival import log_rank as survival_log_rank

DATA = Path(__file__).parents[1] / "data" / "comparisons"
RESPONSE = [[5, 33], [10, 9]]
TREND = [[0, 11], [7, 14], [8, 14]]


# --- published values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "n", "lower", "upper"),
    [(15, 57, 15.54, 39.66), (46, 57, 68.09, 89.95), (0, 11, 0.0, 28.49), (10, 19, 28.86, 75.55)],
)
def test_clopper_pearson_of_the_paper(x: int, n: int, lower: float, upper: float) -> None:
    """The exact intervals of the reference study, in percent."""
    found = clopper_pearson(x, n)
    assert (round(100 * (found.lower or 0), 2), round(100 * (found.upper or 0), 2)) == (lower, upper)
    assert found.estimate == x / n


def test_tests_of_the_paper() -> None:
    """P = 0.0031 is Fisher's test, P = 0.0486 the linear-by-linear association test."""
    fisher = fisher_exact(RESPONSE)
    assert fisher.p == pytest.approx(0.0030766, rel=2e-5)
    assert (fisher.statistic, fisher.df, fisher.method) == (None, None, "Fisher exact test")
    assert pearson_chi2(RESPONSE).p == pytest.approx(0.0014208, rel=2e-5)
    assert linear_by_linear(TREND).p == pytest.approx(0.0486202, rel=2e-6)
    assert linear_by_linear([[0, 11], [7, 17], [8, 14]]).p == pytest.approx(0.0386, rel=2e-3)


@pytest.mark.parametrize(
    ("counts", "hybrid", "score"),
    [
        ((56, 70, 48, 80), (0.0524, 0.3339), (0.0528, 0.3382)),
        ((9, 10, 3, 10), (0.1705, 0.8090), (0.1700, 0.8406)),
        ((6, 7, 2, 7), (0.0582, 0.8062), (0.0342, 0.8534)),
        ((5, 56, 0, 29), (-0.0381, 0.1926), (-0.0326, 0.1933)),
        ((0, 10, 0, 20), (-0.1611, 0.2775), (-0.1658, 0.2844)),
        ((0, 10, 0, 10), (-0.2775, 0.2775), (-0.2879, 0.2879)),
        ((10, 10, 0, 20), (0.6791, 1.0), (0.7156, 1.0)),
        ((10, 10, 0, 10), (0.6075, 1.0), (0.6636, 1.0)),
    ],
)
def test_difference_of_two_proportions(
    counts: tuple[int, int, int, int], hybrid: tuple[float, float], score: tuple[float, float]
) -> None:
    """The eight contrasts of Newcombe (1998, Table II): methods 10 (hybrid score) and 6 (Miettinen-Nurminen)."""
    for interval, expected in ((newcombe(*counts), hybrid), (miettinen_nurminen(*counts), score)):
        assert interval.estimate == pytest.approx(counts[0] / counts[1] - counts[2] / counts[3])
        assert (interval.lower, interval.upper) == pytest.approx(expected, abs=5.1e-5)


# --- R ----------------------------------------------------------------------------------------------


def _ours(counts: np.ndarray[Any, Any]) -> dict[str, float | None]:
    """The numbers of one table under the names that the R script gives them."""
    found: dict[str, float | None] = {}
    names = ["pearson_chi2", "fisher_exact", "likelihood_ratio", "linear_by_linear"]
    for name in [*names, "cochran_armitage"] if counts.shape[1] == 2 else names:
        result = TESTS[name](counts)
        found[f"{name}.p"] = result.p
        if result.statistic is not None:
            found[f"{name}.statistic"] = result.statistic
    if counts.shape[1] == 2:
        for i, (x, rest) in enumerate(counts):
            for name, interval in INTERVALS.items():
                both = interval(int(x), int(x + rest))
                found |= {f"{name}.{i}.lower": both.lower, f"{name}.{i}.upper": both.upper}
    return found


def _differences(expected: pd.DataFrame) -> list[str]:
    """What does not agree with R, one line each."""
    wrong = []
    rows: Any = pd.read_csv(DATA / "tables.csv").itertuples(index=False)
    for row in rows:
        counts = np.array([int(one) for one in row.counts.split()]).reshape(row.rows, row.columns)
        ours = _ours(counts)
        theirs = expected[expected["table"] == row.table].set_index("quantity")["value"]
        if set(ours) != set(theirs.index):
            wrong.append(f"table {row.table}: {sorted(set(ours) ^ set(theirs.index))} on one side only")
        for quantity, value in theirs.items():
            mine = ours.get(str(quantity))
            # the tail of R's network algorithm is summed in single steps of 1e-7
            digits = 1e-6 if quantity == "fisher_exact.p" else 1e-9
            if mine is None or not math.isclose(mine, value, rel_tol=digits, abs_tol=1e-12):
                wrong.append(f"table {row.table}: {quantity} {mine} here, {value} in R")
    return wrong


def test_agrees_with_r() -> None:
    """Tests and intervals of forty tables are those of base R 4.2.2."""
    assert _differences(pd.read_csv(DATA / "expected.csv")) == []


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed")
def test_agrees_with_the_installed_r(tmp_path: Path) -> None:
    """The R of this machine gives the same numbers."""
    script = Path(__file__).with_name("r_comparisons.R")
    done = subprocess.run(
        ["Rscript", str(script), str(DATA / "tables.csv")], capture_output=True, text=True, check=True
    )
    fresh = tmp_path / "expected.csv"
    fresh.write_text(done.stdout)
    assert _differences(pd.read_csv(fresh)) == []


# --- the exact test ---------------------------------------------------------------------------------

cells = st.integers(0, 9)


@settings(deadline=None)
@given(st.tuples(cells, cells, cells, cells))
def test_fisher_agrees_with_scipy(counts: tuple[int, int, int, int]) -> None:
    """On 2 x 2 tables the enumeration is scipy's test."""
    table = np.array(counts).reshape(2, 2)
    found = fisher_exact(table)
    if (table.sum(axis=0) == 0).any() or (table.sum(axis=1) == 0).any():
        assert found.p is None
        assert found.reason
    else:
        assert found.p == pytest.approx(stats.fisher_exact(table).pvalue, rel=1e-9)


def _tables(rows: tuple[int, ...], columns: tuple[int, ...]) -> list[np.ndarray[Any, Any]]:
    """All tables with the given margins, by trying everything."""
    if len(rows) == 1:
        return [np.array([columns])] if sum(columns) == rows[0] else []
    found = []
    for first in itertools.product(*(range(one + 1) for one in columns)):
        if sum(first) == rows[0]:
            left = tuple(one - taken for one, taken in zip(columns, first, strict=True))
            found += [np.vstack([first, rest]) for rest in _tables(rows[1:], left)]
    return found


def _probability(table: np.ndarray[Any, Any]) -> float:
    factorials = [math.lgamma(one + 1) for one in (*table.sum(axis=0), *table.sum(axis=1))]
    cells_ = [math.lgamma(one + 1) for one in (*table.ravel(), table.sum())]
    return math.exp(math.fsum(factorials) - math.fsum(cells_))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=3, max_size=3))
def test_r_by_c_is_the_sum_over_all_tables(rows: list[list[int]]) -> None:
    """P is what trying all tables gives; the most probable table has P = 1: everything adds up."""
    table = np.array(rows)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(table.shape) < 2:
        return
    every = _tables(tuple(table.sum(axis=1)), tuple(table.sum(axis=0)))
    chances = [_probability(one) for one in every]
    assert math.fsum(chances) == pytest.approx(1.0, rel=1e-9)
    expected = math.fsum(one for one in chances if one <= _probability(table) * (1 + 1e-7))
    assert fisher_exact(table).p == pytest.approx(expected, rel=1e-8)
    assert fisher_exact(every[int(np.argmax(chances))]).p == pytest.approx(1.0, rel=1e-8)


@settings(deadline=None)
@given(st.permutations(range(4)), st.permutations(range(3)), st.booleans())
def test_order_of_rows_and_columns_does_not_matter(rows: list[int], columns: list[int], turn: bool) -> None:
    """The exact and the Pearson test know no order."""
    table = np.array([[3, 1, 2], [1, 5, 2], [0, 2, 6], [2, 2, 0]])
    other = table[np.ix_(rows, columns)]
    other = other.T if turn else other
    assert fisher_exact(other).p == pytest.approx(fisher_exact(table).p, rel=1e-9)
    assert pearson_chi2(other).p == pytest.approx(pearson_chi2(table).p, rel=1e-9)


def test_a_table_beyond_the_limit_says_so() -> None:
    """No simulation and no approximation takes the exact test's place."""
    found = fisher_exact([[10, 20, 30], [15, 15, 20], [30, 10, 14]], max_nodes=100)
    assert found.p is None
    assert found.reason == "the table is too large to enumerate (limit 100 partial tables)"


# --- tests of tables --------------------------------------------------------------------------------


def test_groups_without_subjects_are_dropped_and_named() -> None:
    """An arm nobody is in does not change the test; it is named."""
    table = pd.DataFrame([[5, 33], [0, 0], [10, 9]], index=["A", "B", "C"], columns=["yes", "no"])
    found = pearson_chi2(table)
    assert (found.p, found.df, found.dropped) == (pearson_chi2(RESPONSE).p, 1, ("B",))


@pytest.mark.parametrize("name", [name for name in TESTS if name != "log_rank"])
@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ([[0, 0], [0, 0]], "no subject"),
        ([[3, 4], [0, 0]], "fewer than two groups have subjects"),
        ([[0, 4], [0, 7]], "all subjects have the same outcome"),
    ],
)
def test_poor_tables_give_reasons(name: str, table: list[list[int]], reason: str) -> None:
    """Nobody, one group, one outcome: no statistic, no P, and why."""
    found = TESTS[name](table)
    assert (found.statistic, found.df, found.p, found.reason) == (None, None, None, reason)


@pytest.mark.parametrize("table", [[[1, -1], [2, 3]], [[1.5, 1], [2, 3]], [1, 2], [["a", 1], [2, 3]]])
def test_what_is_no_table_of_counts_is_refused(table: Any) -> None:
    """Negative, broken, flat or text."""
    with pytest.raises(ValueError, match="table"):
        pearson_chi2(table)


def test_trend_scores() -> None:
    """Scores may be named; only their spacing counts. Groups may lie in the columns."""
    assert cochran_armitage(TREND, scores=[10, 20, 30]).p == pytest.approx(cochran_armitage(TREND).p)
    turned = np.array(TREND).T
    assert cochran_armitage(turned).statistic == pytest.approx(cochran_armitage(TREND).statistic)
    # N r^2 against (N - 1) r^2
    ratio = (linear_by_linear(TREND).statistic or 0) / (cochran_armitage(TREND).statistic or 1)
    assert ratio == pytest.approx(53 / 54)
    assert cochran_armitage(TREND, scores=[1, 1, 1]).reason == "all scores are the same"
    with pytest.raises(ValueError, match="scores needs 3 finite numbers"):
        cochran_armitage(TREND, scores=[1, 2])
    with pytest.raises(ValueError, match="binary outcome"):
        cochran_armitage([[1, 2, 3], [3, 2, 1], [4, 4, 4]])


def test_log_rank_is_the_survival_test() -> None:
    """The named test delegates."""
    time, event, group = [1, 2, 3, 4, 5, 6], [1, 0, 1, 1, 1, 0], list("aababb")
    ours, theirs = log_rank(time, event, group), survival_log_rank(time, event, group)
    assert (ours.statistic, ours.df, ours.p) == (theirs.statistic, theirs.df, theirs.p)
    assert ours.method == "log-rank test"
    assert log_rank([1, 2], [0, 0], ["a", "b"]).reason == "no event"


# --- intervals --------------------------------------------------------------------------------------


def test_wilson() -> None:
    """81/263 and 0/20 of Newcombe (1998, method 3)."""
    found = wilson(81, 263)
    assert (found.lower, found.upper) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20).lower == 0.0
    assert wilson(0, 20).upper == pytest.approx(0.1611, abs=5e-5)


@settings(deadline=None)
@given(st.integers(1, 60), st.data())
def test_intervals_hold_their_estimate(n: int, data: st.DataObject) -> None:
    """Bounds lie in 0 to 1 around x/n, and mirror when outcomes are exchanged."""
    x = data.draw(st.integers(0, n))
    for interval in INTERVALS.values():
        found, mirrored = interval(x, n), interval(n - x, n)
        assert found.lower is not None
        assert found.upper is not None
        assert 0.0 <= found.lower <= x / n <= found.upper <= 1.0
        assert mirrored.lower == pytest.approx(1 - found.upper, abs=1e-9)


@settings(deadline=None)
@given(st.integers(1, 25), st.integers(1, 25), st.data())
def test_differences_hold_their_estimate_and_change_sign(n1: int, n2: int, data: st.DataObject) -> None:
    """Exchanging the groups mirrors the interval of the difference."""
    x1, x2 = data.draw(st.integers(0, n1)), data.draw(st.integers(0, n2))
    for interval in DIFFERENCES.values():
        found, mirrored = interval(x1, n1, x2, n2), interval(x2, n2, x1, n1)
        assert found.lower is not None
        assert found.upper is not None
        assert -1.0 <= found.lower <= x1 / n1 - x2 / n2 + 1e-12
        assert x1 / n1 - x2 / n2 - 1e-12 <= found.upper <= 1.0
        assert mirrored.lower == pytest.approx(-found.upper, abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 25), st.integers(2, 25), st.data())
def test_score_interval_inverts_its_test(n1: int, n2: int, data: st.DataObject) -> None:
    """At a bound inside -1 to 1 the score test of Miettinen and Nurminen is at its critical value.

    The restricted proportions are found here by maximising the likelihood numerically.
    """
    x1, x2 = data.draw(st.integers(1, n1 - 1)), data.draw(st.integers(1, n2 - 1))
    found = miettinen_nurminen(x1, n1, x2, n2)
    for bound in (found.lower, found.upper):
        assert bound is not None
        low, high = max(0.0, -bound) + 1e-12, min(1.0, 1.0 - bound) - 1e-12

        def slope(p2: float, delta: float = bound) -> float:
            p1 = p2 + delta
            return x1 / p1 - (n1 - x1) / (1 - p1) + x2 / p2 - (n2 - x2) / (1 - p2)

        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if slope(middle) > 0 else (low, middle)
        p2 = (low + high) / 2
        p1 = p2 + bound
        n = n1 + n2
        variance = (p1 * (1 - p1) / n1 + p2 * (1 - p2) / n2) * n / (n - 1)
        z = (x1 / n1 - x2 / n2 - bound) / math.sqrt(variance)
        assert abs(z) == pytest.approx(1.959963984540054, rel=1e-5)


def test_odds_ratios() -> None:
    """Woolf's interval by hand; the conditional estimate and exact interval as scipy computes them."""
    wald = odds_ratio_wald(56, 70, 48, 80)
    log, se = math.log(56 * 32 / (14 * 48)), math.sqrt(1 / 56 + 1 / 14 + 1 / 48 + 1 / 32)
    assert wald.estimate == pytest.approx(math.exp(log))
    assert wald.lower == pytest.approx(math.exp(log - 1.959963984540054 * se))
    exact = odds_ratio_exact(56, 70, 48, 80)
    reference = stats.contingency.odds_ratio([[56, 14], [48, 32]])
    bounds = reference.confidence_interval()
    assert (exact.estimate, exact.lower, exact.upper) == pytest.approx(
        (reference.statistic, bounds.low, bounds.high), rel=1e-8
    )


def test_odds_ratios_at_the_edge() -> None:
    """A cell of 0: no Wald interval; the exact one has the bound that exists."""
    assert odds_ratio_wald(0, 10, 5, 10).reason == "a cell of the table is 0"
    low = odds_ratio_exact(0, 10, 5, 10)
    assert (low.estimate, low.lower) == (0.0, 0.0)
    assert low.upper == pytest.approx(
        stats.contingency.odds_ratio([[0, 10], [5, 5]]).confidence_interval().high
    )
    high = odds_ratio_exact(10, 10, 5, 10)
    assert (high.estimate, high.upper, high.reason) == (None, None, "the odds ratio is infinite")
    assert high.lower is not None
    assert odds_ratio_exact(0, 10, 0, 10).reason == "all subjects have the same outcome"


@pytest.mark.parametrize("name", [*INTERVALS, *DIFFERENCES, *ODDS_RATIOS])
def test_intervals_of_nobody(name: str) -> None:
    """Without subjects there is no estimate; x > n is a mistake."""
    interval = getattr(comparisons, name)
    nobody, wrong = ((0, 0), (3, 2)) if name in INTERVALS else ((0, 0, 1, 2), (3, 2, 1, 2))
    found = interval(*nobody)
    assert (found.estimate, found.lower, found.upper, found.reason) == (None, None, None, "no subject")
    with pytest.raises(ValueError, match="0 <= x <= n"):
        interval(*wrong)
    with pytest.raises(ValueError, match="level"):
        interval(*nobody, level=95)
