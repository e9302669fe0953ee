"""What the survival functions return: frozen records of plain numbers, None where there is no answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "CoxResult",
    "CoxTerm",
    "KaplanMeierResult",
    "Landmark",
    "LogRankResult",
    "ModelTest",
    "ProportionalHazardsResult",
    "RmstResult",
    "Step",
    "ZphTerm",
]


class Step(NamedTuple):
    """One observed time of a curve: counts just before and at it, S(t) from it on.

    `lower` and `upper` are None where the interval's formula has no value (S = 0; S = 1 with log-log).
    """

    time: float
    n_risk: int
    n_event: int
    n_censor: int
    surv: float
    lower: float | None
    upper: float | None


@dataclass(frozen=True, slots=True)
class Landmark:
    """The curve at a time that was asked for; None beyond the last time unless S is 0."""

    time: float
    n_risk: int
    surv: float | None
    lower: float | None
    upper: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class KaplanMeierResult:
    """A Kaplan-Meier curve of one group.

    Attributes:
        label: the group's level, "All" without groups.
        n: subjects used.
        events: of them with the event.
        median: in the unit of the times; None if S(t) does not reach 0.5.
        median_ci: bounds of the median, each None if not reached.
        landmarks: in the order asked for.
        steps: the curve, one row per distinct time (event or censoring), ascending.
        conf_type: "log-log", "log" or "plain".
        level: confidence level.
        n_missing: rows of the whole input without time, event or group; the same on every group of a call.
        empty_levels: levels of the whole input without a subject; they have no result.
        reason: why the median is None.
    """

    label: str
    n: int
    events: int
    median: float | None
    median_ci: tuple[float | None, float | None]
    landmarks: tuple[Landmark, ...]
    steps: tuple[Step, ...]
    conf_type: str
    level: float
    n_missing: int = 0
    empty_levels: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class LogRankResult:
    """A (weighted) log-rank test.

    Attributes:
        statistic: chi-square.
        df: degrees of freedom.
        p: two-sided P.
        observed: (weighted) events per level, in the order of `levels`, summed over the strata.
        expected: what the null hypothesis expects, as `observed`.
        levels: the groups.
        n: subjects per level.
        method: the test's name in words.
        n_missing: rows without time, event, group or stratum.
        empty_levels: levels without a subject.
        reason: why there is no statistic.
    """

    statistic: float | None
    df: int | None
    p: float | None
    observed: tuple[float, ...]
    expected: tuple[float, ...]
    levels: tuple[str, ...]
    n: tuple[int, ...]
    method: str
    n_missing: int = 0
    empty_levels: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ModelTest:
    """A chi-square test of a whole model or of a term."""

    statistic: float | None
    df: int | None
    p: float | None
    method: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class CoxTerm:
    """One coefficient of a Cox model.

    Attributes:
        name: the covariate; for a level of a factor the covariate followed by the level, as R names it.
        coef: log hazard ratio; None with `reason` if not estimable. So are the numbers that follow from it.
        hr: hazard ratio per unit, or against the reference level.
        lower: Wald bound of `hr`.
        upper: Wald bound of `hr`.
        se: standard error of `coef`.
        z: coef / se.
        p: two-sided Wald P.
        covariate: the column (columns joined by ":" for an interaction).
        level: the factor's level, None for a numeric covariate.
        reference: the factor's reference level, None for a numeric covariate.
        reason: why there is no estimate.
    """

    name: str
    coef: float | None
    hr: float | None
    lower: float | None
    upper: float | None
    se: float | None
    z: float | None
    p: float | None
    covariate: str
    level: str | None = None
    reference: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class CoxResult:
    """A Cox model.

    Attributes:
        terms: the coefficients in the order of the covariates and levels.
        loglik: log partial likelihood at the estimate, its limit if monotone; None without events.
        loglik_null: the same with all coefficients 0.
        ties: "efron" or "breslow".
        converged: whether every term that can be estimated has a finite maximum that was reached.
        n: subjects used.
        events: of them with the event.
        n_missing: rows without time, event, stratum or a covariate.
        missing_by_covariate: (column, rows in which it is missing), for each covariate column.
        events_per_variable: events divided by estimable coefficients; below 10 the model needs a warning.
        likelihood_ratio: test that all coefficients are 0.
        wald: the same by the Wald statistic.
        score: the same by the score statistic (for one factor without ties: the log-rank test).
        iterations: Newton-Raphson steps.
        reason: why something is not estimable, None if everything is.
    """

    terms: tuple[CoxTerm, ...]
    loglik: float | None
    loglik_null: float | None
    ties: str
    converged: bool
    n: int
    events: int
    n_missing: int
    missing_by_covariate: tuple[tuple[str, int], ...]
    events_per_variable: float | None
    likelihood_ratio: ModelTest
    wald: ModelTest
    score: ModelTest
    iterations: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ZphTerm:
    """The proportional hazards test of one covariate (all levels of a factor together), or GLOBAL."""

    name: str
    statistic: float | None
    df: int | None
    p: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ProportionalHazardsResult:
    """The score test of proportional hazards.

    Attributes:
        terms: one per covariate, in order.
        overall: all covariates together (GLOBAL); `statistic`, `df` and `p` repeat its numbers.
        transform: the function of time, "km".
        n_missing: rows dropped by the model.
        reason: why something is not estimable.
    """

    terms: tuple[ZphTerm, ...]
    overall: ZphTerm
    transform: str
    n_missing: int = 0
    reason: str | None = None

    @property
    def statistic(self) -> float | None:
        """Chi-square of the global test."""
        return self.overall.statistic

    @property
    def df(self) -> int | None:
        """Degrees of freedom of the global test."""
        return self.overall.df

    @property
    def p(self) -> float | None:
        """P of the global test."""
        return self.overall.p


@dataclass(frozen=True, slots=True)
class RmstResult:
    """Restricted mean survival time of one group.

    Attributes:
        rmst: area under the Kaplan-Meier curve from 0 to tau, in the unit of the times.
        se: its standard error.
        ci: normal interval (lower, upper).
        tau: the restriction.
        label: the group's level, "All" without groups.
        n: subjects used.
        events: events up to tau.
        level: confidence level.
        n_missing: rows of the whole input without time, event or group.
        reason: why something is not estimable, or why the standard error is 0.
    """

    rmst: float | None
    se: float | None
    ci: tuple[float | None, float | None]
    tau: float
    label: str
    n: int
    events: int
    level: float
    n_missing: int = 0
    reason: str | None = None
