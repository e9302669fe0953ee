"""Another study is another YAML file: two arms, confirmed responses and other dialects, with no line of Python changed.

The answers stand by hand in tests/data/second.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.statistics import logrank_test
from scipy.stats import fisher_exact

from fhir_adapter.datasets import read_dataset

from .conftest import call, not_in_the_metadata, results_of, write_site, write_source

DATA = Path(__file__).parent.parent / "data" / "second"
ROOT = Path(__file__).parent.parent.parent
STUDY = ROOT / "mappings" / "studies" / "two-arm-sarcoma.yaml"
MONTH = 30.4375


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
    assert 9 == found["survival.dor.n"]


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
