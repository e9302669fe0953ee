"""Cox proportional hazards regression with R's conventions (`coxph`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy

from .design import Design, DesignColumn, build
from .inputs import Floats, z_value
from .likelihood import Fit, Ties, fit, independent, moments
from .results import CoxResult, CoxTerm, ModelTest

__all__ = ["CoxModel", "Ties", "cox", "fit_model"]

MONOTONE = "the likelihood is monotone: the estimate is infinite"
ALIASED = "no information beyond the covariates before it"
CONSTANT = "the same value in all subjects"


@dataclass(frozen=True, slots=True)
class CoxModel:
    """A fit with what it was made of; `used` columns are in the fit, `dropped` says why others are not."""

    design: Design
    used: tuple[int, ...]
    dropped: Mapping[int, str]
    fit: Fit | None
    ties: Ties
    reason: str | None


def fit_model(
    data: pd.DataFrame,
    time: str,
    event: str,
    covariates: Sequence[str] | str,
    ties: Ties,
    strata: str | Sequence[str] | pd.Series | None,
    reference: Mapping[str, object] | None,
) -> CoxModel:
    """Build the design, set aside columns without information, and maximise the likelihood."""
    if ties not in ("efron", "breslow"):
        raise ValueError(f"ties must be efron or breslow, not {ties!r}")
    design = build(data, time, event, covariates, strata, reference)
    x = design.matrix
    if not design.event.any():
        reason = "no event" if design.time.size else "no complete row"
        return CoxModel(design, (), dict.fromkeys(range(x.shape[1]), reason), None, ties, reason)
    spread = x.std(axis=0)
    varying = spread > 1e-12 * (1.0 + np.abs(x).max(axis=0))
    dropped = {j: CONSTANT for j in range(x.shape[1]) if not varying[j]}
    candidates = np.flatnonzero(varying)
    z = (x[:, candidates] - x[:, candidates].mean(axis=0)) / spread[candidates]
    start = moments(z, design.time, design.event, design.stratum, np.zeros(candidates.size), ties)
    information = start.information
    # a column that varies, but never among those at risk at an event, has only rounding noise for information
    noise = 1e-14 * design.event.sum() * (z**2).max(axis=0, initial=0.0)
    least = np.maximum(1e-11 * np.diag(information), noise)
    kept = independent(information, least)
    dropped |= {int(candidates[j]): ALIASED for j in range(candidates.size) if j not in kept}
    for j in dropped:
        own = np.flatnonzero(candidates == j)
        if own.size and information[own[0], own[0]] <= noise[own[0]]:
            dropped[j] = "the same value in all subjects at risk at every event"
    used = tuple(int(candidates[j]) for j in kept)
    if not used:
        reason = next(iter(dropped.values()), next(iter(design.notes.values()), "no covariate"))
        return CoxModel(design, (), dropped, None, ties, reason)
    result = fit(x[:, list(used)], design.time, design.event, design.stratum, ties)
    return CoxModel(design, used, dropped, result, ties, None)


def _empty(column: DesignColumn, reason: str) -> CoxTerm:
    return CoxTerm(
        name=column.name,
        coef=None,
        hr=None,
        lower=None,
        upper=None,
        se=None,
        z=None,
        p=None,
        covariate=column.covariate,
        level=column.level,
        reference=column.reference,
        reason=reason,
    )


def _term(column: DesignColumn, coef: float, se: float, quantile: float) -> CoxTerm:
    with np.errstate(over="ignore"):
        hr, lower, upper = (
            float(np.exp(value)) for value in (coef, coef - quantile * se, coef + quantile * se)
        )
    z = coef / se
    return CoxTerm(
        name=column.name,
        coef=coef,
        hr=hr,
        lower=lower,
        upper=upper if np.isfinite(upper) else None,
        se=se,
        z=z,
        p=float(2.0 * scipy.stats.norm.sf(abs(z))),
        covariate=column.covariate,
        level=column.level,
        reference=column.reference,
    )


def _test(statistic: float, df: int, method: str) -> ModelTest:
    return ModelTest(statistic, df, float(scipy.stats.chi2.sf(statistic, df)), method)


def _terms(model: CoxModel, quantile: float) -> tuple[CoxTerm, ...]:
    terms: list[CoxTerm] = []
    by_covariate: dict[str, list[tuple[int, DesignColumn]]] = {name: [] for name in model.design.covariates}
    for j, column in enumerate(model.design.columns):
        by_covariate[column.covariate].append((j, column))
    for name, columns in by_covariate.items():
        if not columns:
            empty = DesignColumn(name, name, None, None)
            terms.append(_empty(empty, model.reason or model.design.notes.get(name, CONSTANT)))
        for j, column in columns:
            if model.fit is None or j in model.dropped:
                terms.append(_empty(column, model.dropped.get(j, model.reason or CONSTANT)))
                continue
            i = model.used.index(j)
            variance = float(model.fit.covariance[i, i])
            if model.fit.drifting[i] or not variance > 0.0:
                terms.append(_empty(column, MONOTONE))
            else:
                terms.append(_term(column, float(model.fit.beta[i]), float(np.sqrt(variance)), quantile))
    return tuple(terms)


def _null_loglik(model: CoxModel) -> float | None:
    """The log partial likelihood without covariates, None without events."""
    design = model.design
    if model.fit is not None:
        return model.fit.at_null.loglik
    if not design.event.any():
        return None
    nothing = np.empty((design.time.size, 0))
    return moments(nothing, design.time, design.event, design.stratum, np.zeros(0), model.ties).loglik


def _model_tests(found: Fit, spread: Floats) -> tuple[ModelTest, ModelTest, ModelTest]:
    """Likelihood ratio, Wald and score test; the first two have no value where the likelihood is monotone."""
    df = found.beta.size
    names = ("likelihood ratio test", "Wald test", "score test")
    score = float(found.at_null.score @ np.linalg.solve(found.at_null.information, found.at_null.score))
    if found.drifting.any():
        empty = [ModelTest(None, None, None, name, MONOTONE) for name in names[:2]]
        return empty[0], empty[1], _test(score, df, names[2])
    wald = float((found.beta * spread) @ found.at_maximum.information @ (found.beta * spread))
    ratio = 2.0 * (found.at_maximum.loglik - found.at_null.loglik)
    return _test(max(ratio, 0.0), df, names[0]), _test(wald, df, names[1]), _test(score, df, names[2])


def cox(
    data: pd.DataFrame,
    time: str,
    event: str,
    covariates: Sequence[str] | str,
    *,
    ties: Ties = "efron",
    strata: str | Sequence[str] | pd.Series | None = None,
    reference: Mapping[str, object] | None = None,
    level: float = 0.95,
) -> CoxResult:
    """Cox model (Cox 1972) with Wald intervals and P, as R's `coxph` with tight convergence.

    Args:
        data: one row per subject.
        time: column of follow-up times.
        event: column of 0/1 or boolean.
        covariates: columns; numbers and booleans are used as they are, text and categoricals as factors
            against their first level (a categorical's order, else sorted). "a:b" is the product of a and b.
        ties: "efron" or "breslow".
        strata: columns of `data`, or a Series paired with its rows by position; each has its own baseline
            hazard.
        reference: reference level by factor, where it is not the first.
        level: confidence level.

    Returns:
        One term per coefficient. A constant or aliased covariate, and one in which the likelihood is monotone
        (some level without events, say), has None and its reason; `converged` is then False for the latter.
        Without events everything is None.

    Raises:
        ValueError: unknown columns, ties or reference levels; event not 0/1; times that are no numbers.
    """
    quantile = z_value(level)
    model = fit_model(data, time, event, covariates, ties, strata, reference)
    terms = _terms(model, quantile)
    found = model.fit
    null = _null_loglik(model)
    events = int(model.design.event.sum())
    failed = list(dict.fromkeys(f"{term.name}: {term.reason}" for term in terms if term.reason))
    reason = model.reason or ("; ".join(failed) or None)
    if found is None:
        tests = tuple(
            ModelTest(None, None, None, name, reason)
            for name in ("likelihood ratio test", "Wald test", "score test")
        )
    else:
        if not found.converged and not found.drifting.any():
            reason = "the likelihood was not maximised within the step limit"
        tests = _model_tests(found, model.design.matrix[:, list(model.used)].std(axis=0))
    return CoxResult(
        terms=terms,
        loglik=found.at_maximum.loglik if found else null,
        loglik_null=null,
        ties=ties,
        converged=bool(found and found.converged),
        n=int(model.design.time.size),
        events=events,
        n_missing=model.design.n_missing,
        missing_by_covariate=model.design.missing_by_covariate,
        events_per_variable=events / len(model.used) if model.used else None,
        likelihood_ratio=tests[0],
        wald=tests[1],
        score=tests[2],
        iterations=found.iterations if found else 0,
        reason=reason,
    )
