"""Survival statistics: examples by hand, the published check values, and what cannot be estimated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.statistics import logrank_test

from fhir_adapter.analysis.survival import (
    at_risk,
    cox,
    cumulative_events,
    kaplan_meier,
    log_rank,
    proportional_hazards,
    reverse_km,
    rmst,
)

DATA = Path(__file__).parents[1] / "data" / "survival"


@pytest.fixture(scope="module")
def lung() -> pd.DataFrame:
    """The lung data of R's survival package; E is death."""
    data = pd.read_csv(DATA / "lung.csv")
    data["E"] = data["status"] == 2
    return data


@pytest.fixture(scope="module")
def veteran() -> pd.DataFrame:
    """The veteran data of R's survival package."""
    return pd.read_csv(DATA / "veteran.csv")


def _numbers(value: object) -> Iterator[float]:
    """Every float in a result, however deep."""
    if isinstance(value, float):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _numbers(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(one)


# --- check values ---------------------------------------------------------------------------------


def test_lung_medians_by_sex(lung: pd.DataFrame) -> None:
    """Medians and their intervals of both types are R's."""
    found = {
        conf_type: [
            (one.label, one.median, one.median_ci)
            for one in kaplan_meier(lung["time"], lung["E"], group=lung["sex"], conf_type=conf_type)
        ]
        for conf_type in ("log-log", "log")
    }
    assert found["log-log"] == [("1", 270.0, (210.0, 306.0)), ("2", 426.0, (345.0, 524.0))]
    assert found["log"] == [("1", 270.0, (212.0, 310.0)), ("2", 426.0, (348.0, 550.0))]


def test_lung_tests_and_models(lung: pd.DataFrame) -> None:
    """Log-rank, Cox, reverse Kaplan-Meier, restricted mean and proportional hazards are R's."""
    test = log_rank(lung["time"], lung["E"], lung["sex"])
    assert test.statistic == pytest.approx(10.326742, rel=1e-7)
    assert test.df == 1
    assert test.p == pytest.approx(0.00131116, rel=1e-5)
    stratified = log_rank(lung["time"], lung["E"], lung["sex"], strata=lung["ph.ecog"])
    assert stratified.statistic == pytest.approx(10.79506, rel=1e-6)
    assert stratified.n_missing == 1

    term = cox(lung, "time", "E", ["sex"]).terms[0]
    assert (term.hr, term.lower, term.upper) == pytest.approx((0.588003, 0.423718, 0.815984), rel=2e-6)
    assert term.p == pytest.approx(0.00149123, rel=1e-5)
    assert cox(lung, "time", "E", ["sex"], ties="breslow").terms[0].hr == pytest.approx(0.58837, rel=1e-5)

    follow_up = reverse_km(lung["time"], lung["E"])
    assert (follow_up.median, follow_up.median_ci) == (588.0, (511.0, 821.0))
    means = rmst(lung["time"], lung["E"], 365, group=lung["sex"])
    assert [one.rmst for one in means] == pytest.approx([241.495, 297.465], rel=2e-6)
    assert [one.se for one in means] == pytest.approx([10.358, 10.791], rel=5e-5)
    zph = proportional_hazards(lung, "time", "E", ["sex"])
    assert (zph.statistic, zph.p) == pytest.approx((2.86324, 0.09063), rel=1e-4)


def test_veteran(veteran: pd.DataFrame) -> None:
    """Median, four-sample and stratified tests, and a median on a plateau are R's."""
    time, event = veteran["time"], veteran["status"]
    overall = kaplan_meier(time, event)
    assert (overall.median, overall.median_ci) == (80.0, (52.0, 100.0))
    assert kaplan_meier(time, event, conf_type="log").median_ci == (52.0, 105.0)
    test = log_rank(time, event, veteran["celltype"])
    assert test.df == 3
    assert test.statistic == pytest.approx(25.40370, rel=1e-6)
    assert test.p == pytest.approx(1.27125e-05, rel=1e-5)
    stratified = log_rank(time, event, veteran["trt"], strata=veteran["celltype"])
    assert (stratified.statistic, stratified.p) == pytest.approx((0.701743, 0.402199), rel=1e-5)
    assert [one.median for one in kaplan_meier(time, event, group=veteran["trt"])] == [103.0, 52.5]
    assert cox(veteran, "time", "status", "trt").terms[0].coef == pytest.approx(0.0177426, rel=3e-6)


# --- the curve ------------------------------------------------------------------------------------


def test_curve_by_hand() -> None:
    """Five subjects, events at 2 and 4 (tied with a censoring): S is 4/5, then 4/5 * 2/3."""
    result = kaplan_meier([2, 3, 4, 4, 6], [1, 0, 1, 0, 0], conf_type="plain")
    rows = [(s.time, s.n_risk, s.n_event, s.n_censor, round(s.surv, 12)) for s in result.steps]
    assert rows == [
        (2.0, 5, 1, 0, 0.8),
        (3.0, 4, 0, 1, 0.8),
        (4.0, 3, 1, 1, round(0.8 * 2 / 3, 12)),
        (6.0, 1, 0, 1, round(0.8 * 2 / 3, 12)),
    ]
    half = 1.959963984540054 * 0.8 * math.sqrt(1 / 20)
    assert result.steps[0].lower == pytest.approx(0.8 - half)
    assert result.steps[0].upper == 1.0
    assert (result.n, result.events, result.median) == (5, 2, None)
    assert result.reason == "the survival function does not reach 0.5"


@pytest.mark.parametrize(
    ("time", "event", "median"),
    [
        ([1, 2, 3, 4], [1, 1, 1, 1], 2.5),  # S is 0.5 from 2 to 3
        ([1, 2, 3], [1, 1, 1], 2.0),
        ([1, 2, 3, 4, 5], [1, 1, 0, 1, 1], 4.0),
        ([1, 2, 3, 4], [1, 1, 0, 0], 2.0),  # a plateau that nothing ends
        (list(range(1, 21)), [1] * 20, 10.5),  # the product is 0.5 only to rounding
        ([5], [1], 5.0),
        ([5, 6], [0, 0], None),
    ],
)
def test_median(time: list[float], event: list[int], median: float | None) -> None:
    """The first time below one half, or the middle of a plateau at it."""
    assert kaplan_meier(time, event).median == median


def test_landmarks() -> None:
    """S(t) with the number at risk (time >= t); beyond the last time only if S is 0."""
    open_end = kaplan_meier([1, 2, 3, 4], [1, 0, 1, 0], landmarks=[3, 0.5, 3.5, 5])
    assert [(m.time, m.n_risk) for m in open_end.landmarks] == [(3.0, 2), (0.5, 4), (3.5, 1), (5.0, 0)]
    assert [m.surv for m in open_end.landmarks] == [0.375, 1.0, 0.375, None]
    assert (open_end.landmarks[3].lower, open_end.landmarks[3].upper) == (None, None)
    assert open_end.landmarks[3].reason == "beyond the last observed time"
    closed = kaplan_meier([1, 2], [1, 1], landmarks=[9])
    assert (closed.landmarks[0].surv, closed.landmarks[0].lower, closed.landmarks[0].n_risk) == (0.0, None, 0)


def test_noisy_ties_are_ties() -> None:
    """0.1 + 0.2 and 0.3 are one time, as R's timefix has it."""
    result = kaplan_meier([0.1 + 0.2, 0.3, 1.0], [1, 1, 0])
    assert [(s.n_risk, s.n_event) for s in result.steps] == [(3, 2), (1, 0)]


def test_groups_come_in_their_order_and_missing_rows_are_counted() -> None:
    """A categorical's order; levels without subjects are named, rows without group or time counted."""
    group = pd.Categorical(["low", "high", None, "low"], categories=["low", "mid", "high"])
    results = kaplan_meier([1.0, 2.0, 3.0, None], [1, 1, 1, 1], group=pd.Series(group))
    assert [(one.label, one.n) for one in results] == [("low", 1), ("high", 1)]
    assert {one.n_missing for one in results} == {2}
    assert results[0].empty_levels == ("mid",)


def test_columns_pair_by_position() -> None:
    """Index labels do not matter."""
    time = pd.Series([1, 2, 3, 4], index=[3, 2, 1, 0])
    group = pd.Series(["a", "a", "b", "b"], index=[9, 8, 7, 6])
    assert [one.median for one in kaplan_meier(time, [1, 1, 1, 1], group=group)] == [1.5, 3.5]


def test_numbers_below_a_plot() -> None:
    """At risk is time >= t; events are counted up to and including t."""
    assert at_risk([1, 2, 2, 5, None], [0, 2, 3, 6]) == (4, 3, 1, 0)
    assert cumulative_events([1, 2, 2, 5], [1, 1, 0, 1], [0, 2, 6]) == (0, 2, 3)


times = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=40)


@settings(deadline=None)
@given(times)
def test_steps_only_at_events_and_nobody_is_lost(rows: list[tuple[int, bool]]) -> None:
    """The curve falls exactly at events; at risk + events + censored before is n at every time."""
    result = kaplan_meier([t for t, _ in rows], [e for _, e in rows])
    gone, before = 0, 1.0
    for step in result.steps:
        assert step.n_risk + gone == result.n
        assert (step.surv < before) == (step.n_event > 0)
        assert step.n_risk == at_risk([t for t, _ in rows], [step.time])[0]
        gone += step.n_event + step.n_censor
        before = step.surv
    assert gone == result.n
    assert sum(step.n_event for step in result.steps) == result.events


@settings(deadline=None)
@given(times, st.randoms(use_true_random=False))
def test_order_of_rows_changes_nothing(rows: list[tuple[int, bool]], random: Any) -> None:
    """Shuffled rows give the same curve and the same test."""
    shuffled = list(enumerate(rows))
    random.shuffle(shuffled)
    time, event = [t for t, _ in rows], [e for _, e in rows]
    group = [i % 2 for i in range(len(rows))]
    time2, event2 = [t for _, (t, _) in shuffled], [e for _, (_, e) in shuffled]
    group2 = [i % 2 for i, _ in shuffled]
    assert kaplan_meier(time, event) == kaplan_meier(time2, event2)
    one, other = log_rank(time, event, group).statistic, log_rank(time2, event2, group2).statistic
    assert (one is None) == (other is None)
    assert one is None or one == pytest.approx(other, rel=1e-9, abs=1e-12)


# --- tests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p", "q"), [(0.0, 1.0), (1.0, 1.0), (0.5, 0.5), (1.0, 0.0)])
def test_fleming_harrington_agrees_with_lifelines(lung: pd.DataFrame, p: float, q: float) -> None:
    """The two-sample weighted test is lifelines' (data without ties, where its left limit is the same)."""
    data = lung.drop_duplicates("time")
    male = data["sex"] == 1
    theirs = logrank_test(
        data["time"][male],
        data["time"][~male],
        data["E"][male],
        data["E"][~male],
        weightings="fleming-harrington",
        p=p,
        q=q,
    )
    ours = log_rank(data["time"], data["E"], data["sex"], p=p, q=q)
    assert ours.statistic == pytest.approx(theirs.test_statistic, rel=1e-9)
    assert ours.method == f"Fleming-Harrington ({p:g}, {q:g}) test"


def test_trend_of_two_groups_is_the_log_rank_test(lung: pd.DataFrame) -> None:
    """With two groups the trend has no choice; scores may be named, and only their spacing counts."""
    plain = log_rank(lung["time"], lung["E"], lung["sex"])
    assert log_rank(lung["time"], lung["E"], lung["sex"], trend=True).statistic == pytest.approx(
        plain.statistic, rel=1e-12
    )
    ecog = [log_rank(lung["time"], lung["E"], lung["ph.ecog"], trend=t) for t in (True, [0, 10, 20, 30])]
    assert ecog[0].statistic == pytest.approx(ecog[1].statistic, rel=1e-12)
    assert (ecog[0].df, ecog[0].method) == (1, "log-rank test for trend")


def test_score_test_of_a_model_is_the_log_rank_test() -> None:
    """Without ties the score test of one factor is the log-rank test of its levels."""
    data = pd.DataFrame({"t": range(1, 13), "e": [1, 0] * 6, "g": list("abcabbcabcca")})
    test = log_rank(data["t"], data["e"], data["g"])
    score = cox(data, "t", "e", ["g"]).score
    assert score.df == 2
    assert score.statistic == pytest.approx(test.statistic, rel=1e-12)


# --- models ---------------------------------------------------------------------------------------


def test_factor_levels_and_references() -> None:
    """Text is coded against its first level or the named one; the terms carry level and reference."""
    data = pd.DataFrame({"t": range(1, 13), "e": [1] * 12, "g": list("abcabbcabcca"), "x": [3, 1, 2] * 4})
    terms = cox(data, "t", "e", ["g", "x"]).terms
    assert [(one.name, one.covariate, one.level, one.reference) for one in terms] == [
        ("gb", "g", "b", "a"),
        ("gc", "g", "c", "a"),
        ("x", "x", None, None),
    ]
    turned = cox(data, "t", "e", ["g", "x"], reference={"g": "b"}).terms
    assert [one.name for one in turned] == ["ga", "gc", "x"]
    assert terms[0].coef is not None
    assert turned[0].coef == pytest.approx(-terms[0].coef, rel=1e-9)


def test_interaction_is_the_product(lung: pd.DataFrame) -> None:
    """The term "sex:age" is what a product column gives."""
    data = lung.assign(product=lung["sex"] * lung["age"])
    by_name = cox(lung, "time", "E", ["sex", "age", "sex:age"])
    by_column = cox(data, "time", "E", ["sex", "age", "product"])
    assert by_name.terms[2].name == "sex:age"
    assert by_name.terms[2].coef == pytest.approx(by_column.terms[2].coef, rel=1e-9)


def test_strata_by_name_or_series(veteran: pd.DataFrame) -> None:
    """A column, two columns and a Series of their combinations are the same strata."""
    both = veteran["celltype"] + veteran["prior"].astype(str)
    by_name = cox(veteran, "time", "status", ["trt"], strata=["celltype", "prior"])
    assert cox(veteran, "time", "status", ["trt"], strata=both).terms == by_name.terms
    assert cox(veteran, "time", "status", ["trt"], strata="celltype").terms != by_name.terms


def test_missing_covariates_and_events_per_variable(lung: pd.DataFrame) -> None:
    """Incomplete rows are dropped and counted, by covariate and in all."""
    model = cox(lung, "time", "E", ["ph.ecog", "wt.loss"])
    assert (model.n, model.n_missing) == (213, 15)
    assert model.missing_by_covariate == (("ph.ecog", 1), ("wt.loss", 14))
    assert model.events_per_variable == model.events / 2


def test_monotone_likelihood_is_not_estimable() -> None:
    """A level without events has no hazard ratio, and says so; the other level has one."""
    data = pd.DataFrame({"t": range(1, 10), "e": [1, 1, 1, 1, 1, 1, 0, 0, 0], "g": list("aabbabccc")})
    model = cox(data, "t", "e", ["g"])
    assert [(one.name, one.coef is None, one.p is None) for one in model.terms] == [
        ("gb", False, False),
        ("gc", True, True),
    ]
    assert model.terms[1].reason == "the likelihood is monotone: the estimate is infinite"
    assert not model.converged
    assert model.likelihood_ratio.p is None
    zph = proportional_hazards(data, "t", "e", ["g"])
    assert (zph.p, zph.reason) == (None, "the likelihood is monotone: the estimate is infinite")


def test_aliased_and_constant_covariates() -> None:
    """What adds nothing has no coefficient; the rest of the model is unchanged."""
    data = pd.DataFrame({"t": range(1, 9), "e": [1] * 8, "x": [1, 3, 2, 5, 4, 1, 2, 2]})
    data["twice"], data["one"] = 2 * data["x"], 1
    model = cox(data, "t", "e", ["x", "twice", "one"])
    alone = cox(data, "t", "e", ["x"])
    assert model.terms[0].coef == pytest.approx(alone.terms[0].coef, rel=1e-12)
    assert [one.reason for one in model.terms[1:]] == [
        "no information beyond the covariates before it",
        "the same value in all subjects",
    ]
    assert model.converged


def test_scale_of_a_covariate_changes_nothing(lung: pd.DataFrame) -> None:
    """Age in days gives the same test as age in years; so does time in months."""
    years = cox(lung, "time", "E", ["age", "sex"])
    days = cox(
        lung.assign(age=lung["age"] * 365.25, time=lung["time"] / 30.4375), "time", "E", ["age", "sex"]
    )
    assert days.loglik == pytest.approx(years.loglik, rel=1e-12)
    assert days.terms[0].z == pytest.approx(years.terms[0].z, rel=1e-9)


# --- what cannot be estimated ---------------------------------------------------------------------

EDGES: dict[str, tuple[Any, Any, Any]] = {
    "empty": ([], [], []),
    "one subject with event": ([5], [1], ["a"]),
    "one subject censored": ([5], [0], ["a"]),
    "no event": ([1, 2, 3, 4], [0, 0, 0, 0], list("aabb")),
    "all tied": ([1, 1, 1, 1], [1, 1, 1, 1], list("abab")),
    "all events": ([1, 2, 3, 4], [1, 1, 1, 1], list("abab")),
    "one level": ([1, 2, 3, 4], [1, 0, 1, 1], list("aaaa")),
    "monotone": ([1, 2, 3, 4, 5, 6], [1, 1, 1, 0, 0, 0], list("aaabbb")),
    "separated": ([1, 2, 3, 4], [1, 1, 1, 1], list("aabb")),
    "a group leaves early": ([1, 2, 10, 11, 12], [0, 0, 1, 1, 0], list("aabbb")),
    "all missing": ([None, None], [None, None], [None, None]),
    "at time zero": ([0, 0, 0], [1, 0, 1], list("abb")),
}


@pytest.mark.parametrize("name", EDGES)
def test_poor_inputs_give_reasons_never_nan(name: str) -> None:
    """Every function answers, without NaN or infinity, and a None comes with its reason."""
    time, event, group = EDGES[name]
    data = pd.DataFrame({"t": time, "e": event, "g": group, "x": np.arange(len(time)) % 3})
    single = kaplan_meier(time, event, landmarks=[0, 2.5, 100])
    tests = [
        log_rank(time, event, group),
        log_rank(time, event, group, trend=True),
        log_rank(time, event, group, q=1),
        log_rank(time, event, group, strata=group),
    ]
    models = [cox(data, "t", "e", names) for names in (["g"], ["g", "x"], ["x"], ["g", "x", "g:x"])]
    zphs = [proportional_hazards(data, "t", "e", names) for names in (["g"], ["g", "x"])]
    everything = [
        single,
        reverse_km(time, event),
        kaplan_meier(time, event, group=group),
        tests,
        models,
        zphs,
    ]
    assert all(math.isfinite(number) for number in _numbers(everything))
    assert single.median is not None or single.reason
    for test in tests:
        assert (test.p is None) == (test.reason is not None)
    for model in models:
        for term in model.terms:
            assert (term.coef is None) == (term.reason is not None)
    for zph in zphs:
        for row in (*zph.terms, zph.overall):
            assert (row.p is None) == (row.reason is not None)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.booleans(), st.sampled_from("abc"), st.integers(0, 3)),
        min_size=1,
        max_size=12,
    )
)
def test_small_samples_never_fail(rows: list[tuple[int, bool, str, int]]) -> None:
    """Whatever a few subjects look like, there is an answer or a reason."""
    data = pd.DataFrame(rows, columns=["t", "e", "g", "x"])
    model = cox(data, "t", "e", ["g", "x"])
    zph = proportional_hazards(data, "t", "e", ["g", "x"])
    test = log_rank(data["t"], data["e"], data["g"])
    assert all(math.isfinite(number) for number in _numbers([model, zph, test]))
    assert (test.p is None) == (test.reason is not None)


def test_restricted_mean_by_hand() -> None:
    """S is 1 to 2, then 2/3 to 4: the area to 4 is 2 + 4/3, its variance (4/3)^2 / 6."""
    result = rmst([2, 4, 5], [1, 0, 1], 4)
    assert result.rmst == pytest.approx(2 + 4 / 3)
    assert result.se == pytest.approx(math.sqrt((4 / 3) ** 2 / 6))
    assert (result.n, result.events) == (3, 1)
    without = rmst([2, 4, 5], [0, 0, 0], 4)
    assert (without.rmst, without.se) == (4.0, 0.0)
    assert without.reason == "no event up to tau: the standard error is 0"
    nobody = rmst([], [], 4)
    assert (nobody.rmst, nobody.se, nobody.ci) == (None, None, (None, None))
    assert nobody.reason == "no subject with time and event"


def test_tau_beyond_the_smallest_last_time_is_refused() -> None:
    """The curve is not known there."""
    with pytest.raises(ValueError, match="beyond the smallest last time 3"):
        rmst([1, 3, 2, 9], [1, 1, 1, 1], 4, group=["a", "a", "b", "b"])
    with pytest.raises(ValueError, match="positive"):
        rmst([1, 3], [1, 1], 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [1, 2]), "event must be 0 or 1"),
        (([1, 2], [1]), "event has 1 rows, time has 2"),
        ((["x", 2], [1, 0]), "time holds values that are not numbers"),
        (([math.inf, 2], [1, 0]), "infinite"),
        ((pd.to_datetime(pd.Series(["2020-01-01"])), [1]), "not dates"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: tuple[Any, Any], message: str) -> None:
    """A status of 1/2, unequal lengths, text, infinity and dates are the caller's mistakes."""
    with pytest.raises(ValueError, match=message):
        kaplan_meier(*arguments)


def test_settings_that_do_not_exist_are_refused(lung: pd.DataFrame) -> None:
    """Unknown interval types, ties, columns and reference levels are named."""
    with pytest.raises(ValueError, match="conf_type must be one of log-log, log, plain"):
        kaplan_meier([1], [1], conf_type="arcsin")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="ties must be"):
        cox(lung, "time", "E", ["sex"], ties="exact")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no column 'gender'"):
        cox(lung, "time", "E", ["gender"])
    with pytest.raises(ValueError, match="reference level 'x'"):
        cox(lung.assign(g="a"), "time", "E", ["g"], reference={"g": "x"})
    with pytest.raises(ValueError, match="2 scores for 4 levels"):
        log_rank(lung["time"], lung["E"], lung["ph.ecog"], trend=[1, 2])


def test_events_may_be_boolean_with_gaps() -> None:
    """Nullable booleans and None are read; the gap is a missing row."""
    nullable = pd.Series([True, None, False], dtype="boolean")
    for event in (nullable, [True, None, False]):
        result = kaplan_meier([1, 2, 3], event)
        assert (result.n, result.events, result.n_missing) == (2, 1, 1)
