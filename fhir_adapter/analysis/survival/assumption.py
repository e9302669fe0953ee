"""The score test of proportional hazards (Grambsch and Therneau 1994, exact form of `survival` >= 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import scipy

from .curves import curve_of
from .inputs import Floats
from .regression import MONOTONE, CoxModel, Ties, fit_model
from .results import ProportionalHazardsResult, ZphTerm

__all__ = ["proportional_hazards"]


def _km_transform(model: CoxModel, event_times: Floats) -> Floats:
    """1 - S(t-) of all subjects together (strata ignored, as R does), centred over the events."""
    curve = curve_of(model.design.time, model.design.event)
    before = np.searchsorted(curve.time, event_times, side="left")
    transformed = 1.0 - np.concatenate(([1.0], curve.surv))[before]
    return np.asarray(transformed - transformed.mean(), dtype=np.float64)


def _score_test(
    name: str, columns: list[int], score: Floats, blocks: tuple[Floats, Floats, Floats]
) -> ZphTerm:
    """Score test that the columns' coefficients do not change with g(t).

    `blocks` are the information of beta, of beta with beta*g(t), and of beta*g(t). The score of beta is 0 at
    the maximum, so the statistic is that of the Schur complement.
    """
    base, cross, interaction = blocks
    part = cross[:, columns]
    inner = interaction[np.ix_(columns, columns)] - part.T @ np.linalg.solve(base, part)
    u = score[columns]
    if np.linalg.matrix_rank(inner) < len(columns) or np.trace(inner) <= 1e-10 * np.trace(base):
        return ZphTerm(name, None, None, None, "the events give no information on change with time")
    statistic = float(u @ np.linalg.solve(inner, u))
    return ZphTerm(name, statistic, len(columns), float(scipy.stats.chi2.sf(statistic, len(columns))))


def proportional_hazards(
    data: pd.DataFrame,
    time: str,
    event: str,
    covariates: Sequence[str] | str,
    *,
    ties: Ties = "efron",
    strata: str | Sequence[str] | pd.Series | None = None,
    reference: Mapping[str, object] | None = None,
) -> ProportionalHazardsResult:
    """Test whether the hazard ratios of a Cox model change with time, as R's `cox.zph(transform = "km")`.

    Args:
        data: see `cox`, as for all other arguments.
        time: column of follow-up times.
        event: column of 0/1 or boolean.
        covariates: columns.
        ties: "efron" or "breslow".
        strata: columns of `data`, or a Series.
        reference: reference level by factor.

    Returns:
        A chi-square test per covariate (a factor's levels together) and one of all together. None with a
        reason where the model itself is not estimable.

    Raises:
        ValueError: as `cox`.
    """
    model = fit_model(data, time, event, covariates, ties, strata, reference)
    names = model.design.covariates
    found = model.fit
    reason = model.reason
    if found is not None and found.drifting.any():
        reason = MONOTONE
    elif found is not None and not found.converged:
        reason = "the likelihood was not maximised within the step limit"
    if found is None or reason is not None:
        nothing = tuple(ZphTerm(name, None, None, None, reason) for name in names)
        overall = ZphTerm("GLOBAL", None, None, None, reason)
        return ProportionalHazardsResult(nothing, overall, "km", model.design.n_missing, reason)

    at = found.at_maximum
    g = _km_transform(model, at.time)
    score = np.asarray((g[:, None] * at.residual).sum(axis=0))
    cross = np.einsum("e,eij->ij", g, at.variance)
    interaction = np.einsum("e,eij->ij", g**2, at.variance)
    blocks = (at.information, cross, interaction)
    terms = []
    for name in names:
        columns = [i for i, j in enumerate(model.used) if model.design.columns[j].covariate == name]
        if columns:
            terms.append(_score_test(name, columns, score, blocks))
        else:
            terms.append(ZphTerm(name, None, None, None, "the covariate is not estimable in the model"))
    overall = _score_test("GLOBAL", list(range(len(model.used))), score, blocks)
    failed = [f"{term.name}: {term.reason}" for term in (*terms, overall) if term.reason]
    return ProportionalHazardsResult(
        tuple(terms), overall, "km", model.design.n_missing, "; ".join(failed) or None
    )
