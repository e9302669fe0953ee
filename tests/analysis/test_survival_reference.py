"""Every number of the survival functions beside R's `survival` on public data sets.

The data are those that come with R's package: lung, veteran, ovarian, leukemia, kidney, colon (deaths),
pbc, gbsg, rats. `cases.csv` says what is computed on each. `r_reference.R` wrote `expected.csv` (R 4.2.2,
survival 3.5-3); the soak test runs it again.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fhir_adapter.analysis.survival import (
    KaplanMeierResult,
    cox,
    kaplan_meier,
    log_rank,
    proportional_hazards,
    reverse_km,
    rmst,
)

DATA = Path(__file__).parents[1] / "data" / "survival"
CASES = pd.read_csv(DATA / "cases.csv", keep_default_na=False)
COX_DIGITS = 1e-8
DIGITS = 1e-9


def _curve(result: KaplanMeierResult, name: str) -> dict[str, float | None]:
    """The numbers of one curve under the names that the R script gives them."""
    lower = [step.lower for step in result.steps if step.lower is not None]
    upper = [step.upper for step in result.steps if step.upper is not None]
    found: dict[str, float | None] = {
        "n": result.n,
        "events": result.events,
        "median": result.median,
        "median_lower": result.median_ci[0],
        "median_upper": result.median_ci[1],
        "steps": len(result.steps),
        "sum_surv": math.fsum(step.surv for step in result.steps),
        "sum_lower": math.fsum(lower),
        "sum_upper": math.fsum(upper),
        "sum_risk": sum(step.n_risk for step in result.steps),
    }
    for i, mark in enumerate(result.landmarks):
        if result.steps and mark.time <= result.steps[-1].time:
            found |= {f"at{i}.{what}": getattr(mark, what) for what in ("n_risk", "surv", "lower", "upper")}
    return {f"{name}.{key}": value for key, value in found.items()}


def _ours(case: pd.Series) -> dict[str, float | None]:
    """All quantities of one case."""
    data = pd.read_csv(DATA / f"{case.dataset}.csv")
    data["T"] = data[case.time]
    data["E"] = data[case.event] == int(case.code)
    group = data[case.group]
    marks = [float(np.quantile(data["T"], q, method="inverted_cdf")) for q in (0.1, 0.4, 0.75)]
    marks += [0.0, marks[1] + 0.5]
    found: dict[str, float | None] = {}
    for conf_type in ("log-log", "log", "plain"):
        found |= _curve(
            kaplan_meier(data["T"], data["E"], conf_type=conf_type, landmarks=marks), f"km.{conf_type}.All"
        )
        for result in kaplan_meier(data["T"], data["E"], group=group, conf_type=conf_type, landmarks=marks):
            found |= _curve(result, f"km.{conf_type}.{result.label}")
        found |= _curve(
            reverse_km(data["T"], data["E"], conf_type=conf_type, landmarks=marks), f"reverse.{conf_type}.All"
        )
    tests: dict[str, tuple[Any, float]] = {
        "logrank": (None, 0.0),
        "logrank.rho1": (None, 1.0),
        "logrank.rho05": (None, 0.5),
    }
    if case.stratum:
        strata = data[case.stratum]
        tests |= {"logrank.strata": (strata, 0.0), "logrank.strata.rho1": (strata, 1.0)}
    for name, (strata, rho) in tests.items():
        test = log_rank(data["T"], data["E"], group, strata=strata, p=rho)
        found |= {f"{name}.statistic": test.statistic, f"{name}.p": test.p}
        found |= {f"{name}.observed{i}": value for i, value in enumerate(test.observed)}
        found |= {f"{name}.expected{i}": value for i, value in enumerate(test.expected)}
        found[f"{name}.trend"] = log_rank(
            data["T"], data["E"], group, strata=strata, p=rho, trend=True
        ).statistic
    for area in rmst(data["T"], data["E"], float(case.tau), group=group):
        found |= {f"rmst.{area.label}.rmst": area.rmst, f"rmst.{area.label}.se": area.se}
    found |= _models(case, data)
    return found


def _models(case: pd.Series, data: pd.DataFrame) -> dict[str, float | None]:
    """Coefficients, tests and proportional hazards of the case's models."""
    covariates = case.covariates.split()
    if case.factor:
        values = data[case.factor]
        data["F"] = pd.Categorical(values, categories=sorted(values.dropna().unique()))
        covariates.append("F")
    found: dict[str, float | None] = {}
    models: dict[str, dict[str, Any]] = {"efron": {}, "breslow": {"ties": "breslow"}}
    if case.stratum and case.stratum != case.factor:
        models["strata"] = {"strata": case.stratum}
    for name, arguments in models.items():
        model = cox(data, "T", "E", covariates, **arguments)
        for i, term in enumerate(model.terms):
            for what in ("coef", "se", "z", "p", "hr", "lower", "upper"):
                found[f"cox.{name}.{i}.{what}"] = getattr(term, what)
        for what in ("n", "events", "loglik_null", "loglik"):
            found[f"cox.{name}.{what}"] = getattr(model, what)
        found[f"cox.{name}.lr"] = model.likelihood_ratio.statistic
        found[f"cox.{name}.wald"] = model.wald.statistic
        found[f"cox.{name}.score"] = model.score.statistic
        zph = proportional_hazards(data, "T", "E", covariates, **arguments)
        for i, row in enumerate((*zph.terms, zph.overall)):
            for what in ("statistic", "df", "p"):
                found[f"zph.{name}.{i}.{what}"] = getattr(row, what)
    return found


def _differences(expected: pd.DataFrame, number: int) -> list[str]:
    """What does not agree, one line each; empty if everything does."""
    ours = _ours(CASES.iloc[number])
    wrong = []
    theirs = expected[expected["case"] == number].set_index("quantity")["value"]
    wrong += [f"{quantity}: only on one side" for quantity in sorted(set(ours) ^ set(theirs.index))]
    for quantity, value in theirs.items():
        mine = ours.get(str(quantity))
        if pd.isna(value) or mine is None:
            if not (pd.isna(value) and mine is None):
                wrong.append(f"{quantity}: {mine} here, {value} in R")
            continue
        digits = COX_DIGITS if str(quantity).startswith(("cox", "zph")) else DIGITS
        if not math.isclose(mine, value, rel_tol=digits, abs_tol=1e-12):
            wrong.append(f"{quantity}: {mine!r} here, {value!r} in R")
    return wrong


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda i: f"{CASES.dataset[i]}-{CASES.group[i]}")
def test_agrees_with_r(number: int) -> None:
    """Curves, medians, landmarks, tests, models and means are R's to 1e-9 (models 1e-8)."""
    assert _differences(pd.read_csv(DATA / "expected.csv"), number) == []


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed")
def test_agrees_with_the_installed_r(tmp_path: Path) -> None:
    """The R of this machine gives the same numbers, so that the reference itself is reproducible."""
    script = Path(__file__).with_name("r_reference.R")
    done = subprocess.run(["Rscript", str(script), str(DATA)], capture_output=True, text=True, check=True)
    fresh = tmp_path / "expected.csv"
    fresh.write_text(done.stdout)
    expected = pd.read_csv(fresh)
    assert [line for number in range(len(CASES)) for line in _differences(expected, number)] == []
