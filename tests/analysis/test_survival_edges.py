"""Edge cases beside R's `survival`: curves that end or rest at one half, ties, jitter, zero times, strata.

`tests/data/survival/edges.csv` holds the cases; `r_edges.R` wrote `edges_expected.csv` (R 4.2.2, survival
3.5-3), and the soak test runs it again. The median is the one that R prints (`summary(fit)$table`): where a
curve ends at exactly one half it is the first time there, where it rests there and falls later the middle;
R's `quantile` takes the middle up to the last time in the first case too.

Where R gives a number that is none (a monotone likelihood, a variance of 0) the R script leaves it out and
the functions give None with a reason.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from fhir_adapter.analysis.survival import cox, kaplan_meier, log_rank, proportional_hazards

DATA = Path(__file__).parents[1] / "data" / "survival"
EDGES = pd.read_csv(DATA / "edges.csv")
NAMES = list(EDGES["case"].unique())


def _ours(data: pd.DataFrame) -> dict[str, float | None]:
    """All quantities of one case under the names that the R script gives them."""
    time, event = data["time"], data["event"]
    found: dict[str, float | None] = {}
    for kind in ("log-log", "log", "plain"):
        curve = kaplan_meier(time, event, conf_type=kind)  # type: ignore[call-overload]
        found |= {f"km.{kind}.median": curve.median}
        found |= {f"km.{kind}.lower": curve.median_ci[0], f"km.{kind}.upper": curve.median_ci[1]}
        for place, step in enumerate(curve.steps, start=1):
            for name in ("n_risk", "surv", "lower", "upper"):
                found[f"km.{kind}.{place}.{name}"] = getattr(step, name)
    for strata in ("no", "yes"):
        for rho in (0, 1):
            test = log_rank(
                time, event, data["group"], strata=data["stratum"] if strata == "yes" else None, p=rho
            )
            if test.statistic is not None:
                at = f"logrank.{rho}.{strata}"
                found |= {f"{at}.statistic": test.statistic, f"{at}.df": test.df}
                found |= {f"{at}.expected{i}": value for i, value in enumerate(test.expected, start=1)}
        for ties in ("efron", "breslow"):
            by = "stratum" if strata == "yes" else None
            model = cox(data, "time", "event", "x", ties=ties, strata=by)  # type: ignore[arg-type]
            term = model.terms[0]
            if term.coef is not None:
                at = f"cox.{ties}.{strata}"
                found |= {f"{at}.coef": term.coef, f"{at}.se": term.se, f"{at}.loglik": model.loglik}
                found[f"{at}.score"] = model.score.statistic
                zph = proportional_hazards(data, "time", "event", "x", ties=ties, strata=by)  # type: ignore[arg-type]
                found[f"{at}.zph"] = zph.statistic
    return found


def _differences(expected: pd.DataFrame, name: str) -> list[str]:
    """What does not agree, one line each; empty if everything does."""
    ours = _ours(EDGES[EDGES["case"] == name].reset_index(drop=True))
    theirs = expected[expected["case"] == name].set_index("quantity")["value"]
    wrong = [f"{quantity}: only on one side" for quantity in sorted(set(ours) ^ set(theirs.index))]
    for quantity, value in theirs.items():
        mine = ours.get(str(quantity))
        if pd.isna(value) or mine is None:
            if not (pd.isna(value) and mine is None):
                wrong.append(f"{quantity}: {mine} here, {value} in R")
        elif not math.isclose(mine, value, rel_tol=1e-8, abs_tol=1e-10):
            wrong.append(f"{quantity}: {mine!r} here, {value!r} in R")
    return wrong


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_r(name: str) -> None:
    """Medians, curves, tests and models of the case are R's to 1e-8; nothing is only on one side."""
    assert _differences(pd.read_csv(DATA / "edges_expected.csv"), name) == []


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed")
def test_agrees_with_the_installed_r(tmp_path: Path) -> None:
    """The R of this machine gives the same numbers."""
    script = Path(__file__).with_name("r_edges.R")
    done = subprocess.run(
        ["Rscript", str(script), str(DATA / "edges.csv")], capture_output=True, text=True, check=True
    )
    fresh = tmp_path / "expected.csv"
    fresh.write_text(done.stdout)
    expected = pd.read_csv(fresh)
    assert [line for name in NAMES for line in _differences(expected, name)] == []


@pytest.mark.parametrize("name", NAMES)
def test_nobody_is_lost(name: str) -> None:
    """At every step those at risk are all less those who left before; it falls at events only."""
    data = EDGES[EDGES["case"] == name]
    curve = kaplan_meier(data["time"], data["event"])
    before, height = curve.n, 1.0
    for step in curve.steps:
        assert step.n_risk == before
        assert (step.surv < height) == (step.n_event > 0)
        before, height = before - step.n_event - step.n_censor, step.surv
    assert before == 0
    assert curve.n == sum(step.n_event + step.n_censor for step in curve.steps)
    assert curve.events == int(data["event"].sum())
