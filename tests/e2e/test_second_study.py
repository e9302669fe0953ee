"""Another study is another YAML file: two arms, confirmed responses and other dialects, with no line of Python changed.

The answers stand by hand in tests/data/second.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.statistics import logrank_test
from scipy.stats import fisher_exact
from scipy.stats.contingency import odds_ratio
from statsmodels.duration.hazard_regression import PHReg

from fhir_adapter.datasets import read_dataset

from .conftest import call, not_in_the_metadata, results_of, write_site, write_source

DATA = Path(__file__).parent.parent / "data" / "second"
ROOT = Path(__file__).parent.parent.parent
STUDY = ROOT / "mappings" / "studies" / "two-arm-sarcoma.yaml"
MONTH = 30.4375
#: The 97.5% point of the normal distribution.
NORMAL = 1.959963984540054


def _build() -> ModuleType:
    specification = importlib.util.spec_from_file_location("second_build", DATA / "build.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["second_build"] = module
    specification.loader.exec_module(module)
    return module


BUILD = _build()
SUBJECTS: list[Any] = BUILD.subjects()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the second study."""
    folder = tmp_path_factory.mktemp("second")
    write_source(folder / "source", BUILD.resources())
    return call("run", STUDY, "--site", write_site(folder), "--out", folder, "--quiet", "--json").run


@pytest.fixture(scope="module")
def found(run: Path) -> dict[str, Any]:
    """Id → value."""
    return results_of(run)


def test_every_value_is_as_the_metadata_plan(run: Path) -> None:
    """Each column of each dataset is in the metadata, its text is not longer, and its codes are listed."""
    assert [] == not_in_the_metadata(run)


def test_nothing_is_lost_and_nothing_is_odd(run: Path) -> None:
    """No resource is quarantined, and the mapping found no code that it does not know."""
    rows = json.loads((run / "accounting.json").read_text("utf-8"))["disposed"].values()
    assert [] == [row["quarantined"] for row in rows if row["quarantined"]]
    codes = {item["code"] for item in json.loads((run / "findings.json").read_text("utf-8"))}
    assert "unknown-code" not in codes


def test_each_subject_has_the_answers_of_its_pattern(run: Path) -> None:
    """Arm, confirmed best response, PFS and death of 32 subjects."""
    adsl = read_dataset(run / "datasets", "ADSL").set_index("USUBJID")
    times = read_dataset(run / "datasets", "ADTTE")
    pfs = times[times["PARAMCD"] == "PFS"].set_index("USUBJID")
    computed = {
        id_: (
            row["TRT01A"],
            row["BOR"],
            (int(pfs.at[id_, "AVAL"]), int(pfs.at[id_, "CNSR"] == 0)),
            row["DTHFL"] == "Y",
        )
        for id_, row in adsl.iterrows()
    }
    expected = {
        one.usubjid: (one.arm.lower(), one.pattern.best, one.pattern.pfs, one.pattern.dead is not None)
        for one in SUBJECTS
    }
    assert expected == computed


def test_responses_as_recorded(run: Path) -> None:
    """The investigator's responses come in NCIt alone: each is read, with the criteria."""
    rs = read_dataset(run / "datasets", "RS")
    expected = sorted((one.usubjid, said) for one in SUBJECTS for said in one.pattern.said)
    assert expected == sorted(rs[["USUBJID", "RSSTRESC"]].itertuples(index=False, name=None))
    assert {"RECIST 1.1"} == set(rs["RSCAT"])


def test_responses_by_arm(found: dict[str, Any]) -> None:
    """7 of 16 against 2 of 16, with Fisher's test; disease control 13 and 9 of 16."""
    for arm in "AB":
        best = [one.pattern.best for one in SUBJECTS if one.arm == arm]
        for name in ("CR", "PR", "SD", "PD"):
            assert best.count(name) == found[f"response.arm.{arm.lower()}.{name.lower()}.n"]
    assert (7, 2) == (found["response.arm.a.orr.n"], found["response.arm.b.orr.n"])
    assert (13, 9) == (found["response.arm.a.dcr.n"], found["response.arm.b.dcr.n"])
    assert pytest.approx(fisher_exact([[7, 9], [2, 14]]).pvalue, rel=1e-9) == found["response.arm.orr_test.p"]


def test_survival_by_arm(found: dict[str, Any]) -> None:
    """Kaplan-Meier rates and the log-rank test, by lifelines from the table of answers."""
    table = pd.DataFrame(
        {"arm": one.arm, "days": one.pattern.pfs[0], "event": one.pattern.pfs[1]} for one in SUBJECTS
    )
    arms = dict(list(table.groupby("arm")))
    for arm, rows in arms.items():
        fit = KaplanMeierFitter().fit(rows["days"] / MONTH, rows["event"])
        assert (
            pytest.approx(100 * float(fit.predict(3)))
            == found[f"survival.pfs.by.arm.{str(arm).lower()}.at.3.rate"]
        )
    test = logrank_test(arms["A"]["days"], arms["B"]["days"], arms["A"]["event"], arms["B"]["event"])
    assert pytest.approx(test.p_value, rel=1e-9) == found["survival.pfs.by.arm.logrank.p"]


def _overall_survival() -> pd.DataFrame:
    """Arm, days and event of each subject from the README's table: death, else the last record of life.

    That is the last visit (its scans and the clinic's encounter) or the last of the doses every 21 days: eight,
    or three where the subject progressed or died.
    """
    rows = []
    for one in SUBJECTS:
        pattern = one.pattern
        doses = 3 if pattern.dead or pattern.pfs[1] else 8
        alive = max(BUILD.DAYS[len(pattern.target) - 1], 21 * (doses - 1))
        dead = pattern.dead is not None
        rows.append({"arm": one.arm, "days": pattern.dead if dead else alive, "event": int(dead)})
    return pd.DataFrame(rows)


def _kaplan_meier(days: pd.Series, event: pd.Series, at: float) -> float:
    """S(at) by the product over the distinct days."""
    survival = 1.0
    for day in sorted(set(days[(event == 1) & (days <= at)])):
        survival *= 1 - ((days == day) & (event == 1)).sum() / (days >= day).sum()
    return survival


def test_overall_survival(run: Path, found: dict[str, Any]) -> None:
    """Each subject's time, the events, the curve and the log-rank test, from the table of answers."""
    expected = _overall_survival()
    times = read_dataset(run / "datasets", "ADTTE")
    os = times[times["PARAMCD"] == "OS"].set_index("USUBJID")
    computed = [(int(os.at[one.usubjid, "AVAL"]), int(os.at[one.usubjid, "CNSR"] == 0)) for one in SUBJECTS]
    assert list(zip(expected["days"], expected["event"], strict=True)) == computed
    assert int(expected["event"].sum()) == found["survival.os.events"]
    arms = dict(list(expected.groupby("arm")))
    for arm, rows in arms.items():
        stem = f"survival.os.by.arm.{str(arm).lower()}"
        assert (len(rows), int(rows["event"].sum())) == (found[f"{stem}.n"], found[f"{stem}.events"])
        # More than half of each arm lives at the end of the curve.
        assert _kaplan_meier(rows["days"], rows["event"], 1000) > 0.5
        assert found[f"{stem}.median"] is None
    test = logrank_test(arms["A"]["days"], arms["B"]["days"], arms["A"]["event"], arms["B"]["event"])
    assert pytest.approx(test.test_statistic, rel=1e-9) == found["survival.os.by.arm.logrank.statistic"]
    assert pytest.approx(test.p_value, rel=1e-9) == found["survival.os.by.arm.logrank.p"]


def test_cox_model_of_the_arms(found: dict[str, Any]) -> None:
    """PFS by arm, B the reference: statsmodels' Efron estimate, and the subgroup table's ratio of all subjects."""
    table = pd.DataFrame(
        {"arm": one.arm == "A", "days": one.pattern.pfs[0], "event": one.pattern.pfs[1]} for one in SUBJECTS
    ).astype("float64")
    fit = PHReg(table["days"], table[["arm"]], status=table["event"], ties="efron").fit(tol=1e-12)
    (coefficient,), (error,) = fit.params, fit.bse
    ratio = [math.exp(coefficient + z * error) for z in (0, -NORMAL, NORMAL)]
    for stem in ("models.pfs.trt01a.a", "subgroups.pfs.all"):
        computed = [found[f"{stem}.{name}"] for name in ("hr", "lower", "upper")]
        assert pytest.approx(ratio, rel=1e-6) == computed
        assert pytest.approx(float(fit.pvalues[0]), rel=1e-6) == found[f"{stem}.p"]
    assert (32, int(table["event"].sum())) == (found["models.pfs.model.n"], found["models.pfs.model.events"])
    # Half of the subjects are women, in both arms; the events of each cell are counted by hand.
    for sex, even in (("m", 0), ("f", 1)):
        for arm in "AB":
            own = [
                one.pattern.pfs[1]
                for place, one in enumerate(SUBJECTS)
                if one.arm == arm and place % 2 == even
            ]
            stem = f"subgroups.pfs.sex.{sex}.{arm.lower()}"
            assert (len(own), sum(own)) == (found[f"{stem}.n"], found[f"{stem}.events"])


def test_duration_of_confirmed_response(run: Path, found: dict[str, Any]) -> None:
    """Nine responses from day 56, all still there at the last assessment on day 168: 112 days, no event."""
    times = read_dataset(run / "datasets", "ADTTE")
    dor = times[times["PARAMCD"] == "DOR"].set_index("USUBJID")
    responders = {one.usubjid for one in SUBJECTS if one.pattern.best in {"CR", "PR"}}
    assert responders == set(dor.index)
    assert {(112, 1, "Last adequate assessment")} == set(
        zip(dor["AVAL"], dor["CNSR"], dor["CNSDTDSC"], strict=True)
    )
    assert (9, 0, None) == tuple(found[f"survival.dor.{name}"] for name in ("n", "events", "median"))


def test_randomisation(run: Path, found: dict[str, Any]) -> None:
    """The participation starts on the day of the baseline examination; PFS from it is the same."""
    adsl = read_dataset(run / "datasets", "ADSL")
    assert adsl["RANDDT"].notna().all()
    assert (adsl["RANDDT"] == adsl["BASEDT"]).all()
    times = read_dataset(run / "datasets", "ADTTE")
    main, other = (
        times[times["PARAMCD"] == name].set_index("USUBJID")["AVAL"]
        for name in ("PFS", "PFS_FROM_RANDOMISATION")
    )
    assert (main == other).all()
    same = [key for key in found if key.startswith("sensitivity.from_randomisation.")]
    assert len(same) > 30
    for key in same:
        assert found[key] == found[key.replace("sensitivity.from_randomisation", "survival.pfs")], key


def test_differences_of_the_arms(found: dict[str, Any]) -> None:
    """7 of 16 against 2 of 16: 31.25 points; the exact odds ratio as scipy computes it."""
    assert 31.25 == found["response.arm.orr_difference.estimate"]
    reference = odds_ratio([[7, 9], [2, 14]])
    bounds = reference.confidence_interval()
    expected = (reference.statistic, bounds.low, bounds.high)
    computed = [found[f"response.arm.orr_odds_ratio.{name}"] for name in ("estimate", "lower", "upper")]
    assert pytest.approx(expected, rel=1e-6) == computed


def test_landmark(found: dict[str, Any]) -> None:
    """Beyond 2 months (60.875 days) only those who responded on day 56 are responders."""
    limit = 2 * MONTH
    responding = [BUILD.PATTERNS[name] for name in ("CR", "PR", "PR?")]
    table = _overall_survival().assign(response=[one.pattern in responding for one in SUBJECTS])
    rest = table[table["days"] > limit]
    for name, rows in (("responders", rest[rest["response"]]), ("others", rest[~rest["response"]])):
        expected = (len(rows), int(rows["event"].sum()))
        assert expected == (found[f"landmark.os.{name}.n"], found[f"landmark.os.{name}.events"])
    gone = table[table["days"] <= limit]
    assert int((gone["event"] == 0).sum()) == found["landmark.os.excluded.censored.n"]


def test_events_by_arm(found: dict[str, Any]) -> None:
    """Worst grades of related events, by arm and in total; the unlikely one is not related."""
    for arm in "AB":
        own = [one for one in SUBJECTS if one.arm == arm]
        for term, slug in (("nausea", "nausea"), ("neutrophils", "neutrophil_count_decreased")):
            grades = [grade for one in own for name, grade, _ in one.events if name == term]
            id_ = f"toxicity.{arm.lower()}.term.{slug}"
            assert len(grades) == found.get(f"{id_}.any.n", 0), id_
            assert sum(grade >= 3 for grade in grades) == found.get(f"{id_}.g3_4.n", 0), id_
    assert 12 == found["toxicity.term.nausea.any.n"]
    assert "toxicity.term.fatigue.any.n" not in found
    assert 13 == found["toxicity.emergent.n"]


def test_no_python_knows_the_study() -> None:
    """Neither its drugs nor its systems stand in the package."""
    for path in (ROOT / "fhir_adapter").rglob("*.py"):
        text = path.read_text("utf-8").lower()
        for word in ("second.example", "trabectedin", "dacarbazine", "two-arm"):
            assert word not in text, (path.name, word)
