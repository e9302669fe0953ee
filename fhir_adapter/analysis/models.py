"""Cox models of the study file, univariate and multivariate.

Ids: `models.<id>.model.n|events|missing|events_per_variable` (in a univariate model
`models.<id>.<covariate>.model.…`), `models.<id>.<covariate>[.<level>].hr|lower|upper|p`, and the test of
proportional hazards `….model.zph.p|statistic|df` and `models.<id>.<covariate>.zph.p|statistic|df`.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from fhir_adapter.analysis.endpoints import endpoint_times, immortal_time_notes
from fhir_adapter.analysis.levels import level_labels
from fhir_adapter.analysis.selection import Analysis, both, equals, slug
from fhir_adapter.analysis.survival import CoxResult, CoxTerm, cox, proportional_hazards
from fhir_adapter.conditions import Comparison, Condition
from fhir_adapter.results import Cell, Display, Row
from fhir_adapter.study import Covariate, CoxModel

__all__ = ["models"]

#: rules.md, Survival statistics: a warning below ten events per variable.
_EVENTS_PER_VARIABLE = 10


def _frame(analysis: Analysis, model: CoxModel) -> pd.DataFrame:
    endpoint = analysis.study.endpoint(model.endpoint)
    rows = analysis.rows("ADTTE", model.population, equals("PARAMCD", endpoint.id))
    time, event = endpoint_times(rows, endpoint)
    adsl = analysis.population(model.population).set_index("USUBJID")
    columns: dict[str, Any] = {"time": time.to_numpy(), "event": event.to_numpy()}
    for covariate in model.covariates:
        values = rows["USUBJID"].map(adsl[covariate.variable])
        if covariate.reference is None:
            columns[covariate.variable] = pd.to_numeric(values).astype("float64").to_numpy()
        else:
            levels = sorted({str(value) for value in values.dropna()} - {covariate.reference})
            columns[covariate.variable] = pd.Categorical(values, categories=[covariate.reference, *levels])
    if model.strata is not None:
        columns[model.strata] = rows["USUBJID"].map(adsl[model.strata]).to_numpy()
    return pd.DataFrame(columns)


def _term(
    analysis: Analysis, stem: str, term: CoxTerm, model: CoxModel, condition: Condition, label: str
) -> Row:
    id_ = f"{stem}.{slug(term.covariate)}" + (f".{slug(term.level)}" if term.level is not None else "")
    parts = []
    for name, value, unit, digits in (
        ("hr", term.hr, "ratio", 2), ("lower", term.lower, "ratio", 2), ("upper", term.upper, "ratio", 2),
        ("p", term.p, "p", 4), ("coef", term.coef, "", 4), ("se", term.se, "", 4),
    ):  # fmt: skip
        parts.append(
            analysis.add(
                f"{id_}.{name}", value, "cox", dataset="ADTTE", population=model.population, condition=condition,
                variable="AVAL", unit=unit, digits=digits, method=f"Cox, {model.ties} ties, Wald interval and P",
                reason="" if value is not None else (term.reason or "not estimable"),
            )
        )  # fmt: skip
    told = level_labels(analysis.study, term.covariate)
    against = " (per unit)"
    if term.level is not None and term.reference is not None:
        against = f" ({told.get(term.level, term.level)} against {told.get(term.reference, term.reference)})"
    cells = (Cell("estimate_ci", tuple(parts[:3])), Cell("p", (parts[3],)))
    return Row(label=label + against, cells=cells, level=1)


def _fit(
    analysis: Analysis, model: CoxModel, frame: pd.DataFrame, covariates: list[Covariate], stem: str
) -> CoxResult:
    known = [Comparison(dataset="ADSL", variable=item.variable, op="not_null") for item in covariates]
    condition = both(equals("PARAMCD", model.endpoint), *known)
    fit = cox(
        frame, "time", "event", [item.variable for item in covariates], ties=model.ties, strata=model.strata
    )  # fmt: skip
    more: dict[str, Any] = {"dataset": "ADTTE", "population": model.population, "condition": condition}
    analysis.add(f"{stem}.n", fit.n, "n_subjects", unit="n", digits=0, **more)
    analysis.add(f"{stem}.events", fit.events, "n_events", unit="n", digits=0, **more)
    every = more | {"condition": equals("PARAMCD", model.endpoint)}
    analysis.add(f"{stem}.missing", fit.n_missing, "n_missing", unit="n", digits=0, **every)
    analysis.add(
        f"{stem}.events_per_variable", fit.events_per_variable, "events_per_variable", unit="ratio", digits=1,
        reason="" if fit.events_per_variable is not None else (fit.reason or "not estimable"), **more,
    )  # fmt: skip
    return fit


def _proportionality(
    analysis: Analysis, model: CoxModel, frame: pd.DataFrame, covariates: list[Covariate], stem: str, at: str
) -> dict[str, str]:
    """Adds the score test of proportional hazards; returns covariate → id of its P ("" for all together)."""
    names = [item.variable for item in covariates]
    test = proportional_hazards(frame, "time", "event", names, ties=model.ties, strata=model.strata)
    ids: dict[str, str] = {}
    for name, term in (*zip(names, test.terms, strict=True), ("", test.overall)):
        id_ = f"{stem}.{slug(name)}.zph" if name else f"{at}.zph"
        for part, value, unit, digits in (
            ("p", term.p, "p", 4), ("statistic", term.statistic, "", 4), ("df", term.df, "", 0),
        ):  # fmt: skip
            analysis.add(
                f"{id_}.{part}", value, "cox_zph", dataset="ADTTE", population=model.population,
                condition=equals("PARAMCD", model.endpoint), variable="AVAL", unit=unit, digits=digits,
                method="score test of proportional hazards, Kaplan-Meier transform of time",
                reason="" if value is not None else (term.reason or test.reason or "not estimable"),
            )  # fmt: skip
        ids[name] = f"{id_}.p"
    return ids


def models(analysis: Analysis) -> None:
    """Fits every Cox model of the study file.

    Covariates and reference levels come from the study file and no model selects by P. Events per variable stand
    with each model, with a warning below ten (rules.md, Survival statistics).
    """
    for model in analysis.study.models:
        frame = _frame(analysis, model)
        stem = f"models.{slug(model.id)}"
        label = {item.variable: item.label or item.variable for item in model.covariates}
        rows: list[Row] = []
        notes = [f"Cox proportional hazards, {model.ties.title()} ties, Wald 95% intervals."]
        groups = [[item] for item in model.covariates] if model.univariate else [list(model.covariates)]
        few = False
        for group in groups:
            at = f"{stem}.{slug(group[0].variable)}.model" if model.univariate else f"{stem}.model"
            fit = _fit(analysis, model, frame, group, at)
            few = few or (fit.events_per_variable or 0) < _EVENTS_PER_VARIABLE
            heading = label[group[0].variable] if model.univariate else "All covariates together"
            zph = _proportionality(analysis, model, frame, group, stem, at)
            head = (
                Cell("text"),
                Cell("text"),
                Cell("n", (f"{at}.events",)),
                Cell("value", (f"{at}.events_per_variable",)),
                Cell("p", (zph[""],)),
            )
            rows.append(Row(label=heading, cells=head))
            condition = equals("PARAMCD", model.endpoint)
            for term in fit.terms:
                row = _term(analysis, stem, term, model, condition, label[term.covariate])
                # With several covariates each has its own test, shown once for all levels of a factor.
                own = zph.pop(term.covariate, "") if len(group) > 1 else ""
                tail = (Cell("text"), Cell("text"), Cell("p", (own,))) if own else ()
                rows.append(Row(label=row.label, cells=(*row.cells, *tail), level=row.level))
            if fit.n_missing:
                missing = ", ".join(
                    f"{label.get(name, name)} {n}" for name, n in fit.missing_by_covariate if n
                )
                notes.append(f"{heading}: {fit.n_missing} subjects left out (missing: {missing or 'time'}).")
            if fit.reason:
                notes.append(f"{heading}: {fit.reason}.")
        notes += immortal_time_notes([item.variable for item in model.covariates], model.label)
        if few:
            notes.append("Fewer than 10 events per variable: the estimates are unstable.")
        analysis.results.displays.append(
            Display(
                id=f"models_{slug(model.id)}", title=model.label, section="models", stub="Covariate",
                columns=("HR (95% CI)", "P (Wald)", "Events", "Events per variable", "P (proportional hazards)"),
                rows=tuple(rows),
                notes=tuple(notes),
            )
        )  # fmt: skip
