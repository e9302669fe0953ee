"""The reference study on its synthetic cohort: every published cell from raw FHIR resources.

`tests/data/reference/published.json` holds the publication's numbers, `cohort.csv` and `cohort_ae.csv` the subjects'
answers; neither is part of the package. The tests read results.json, not the page.
"""

from __future__ import annotations

import ast
import csv
import json
import re
import runpy
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test
from lifelines.utils import median_survival_times, qth_survival_times

from fhir_adapter.analysis.selection import replay
from fhir_adapter.datasets import metadata, read_dataset
from fhir_adapter.demo.reference import reference_cohort
from fhir_adapter.results import read_results
from fhir_adapter.study import load_study

from .conftest import Adapter, results_of, write_site, write_source

DATA = Path(__file__).parent.parent / "data" / "reference"
PACKAGE = Path(__file__).parent.parent.parent / "fhir_adapter"
STUDY = PACKAGE.parent / "mappings" / "studies" / "retroperitoneal-sarcoma.yaml"
MONTH = 30.4375
PUBLISHED = json.loads((DATA / "published.json").read_text("utf-8"))

#: published.json, findings: the publication disagrees with itself; the computed values are given here.
KNOWN = {
    "response.grade.g2.pd.n": "6",
    "response.grade.g2.orr.pct": "29.2",
    "response.grade.g2.dcr.pct": "75.0",
    "response.grade.orr_test.p": "0.0386",
    "response.grade.g3.dcr.pct": "81.8",
}

_SLUGS = {
    "PPE": "palmar_plantar_erythrodysesthesia_syndrome",
    "RCCEP": "reactive_cutaneous_capillary_endothelial_proliferation",
    "Pituititis": "hypophysitis",
    "High-grade sarcomas (NOS)": "high_grade_sarcoma",
}


def slug(text: str) -> str:
    return _SLUGS.get(text) or re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def printed() -> dict[str, str]:
    """Result id → the text that the publication prints."""
    cells: dict[str, str] = {}

    def put(id_: str, value: Any, digits: int | None = None) -> None:
        cells[id_] = str(value) if digits is None else f"{value:.{digits}f}"

    flow, treatment, one = PUBLISHED["flow"], PUBLISHED["treatment"], PUBLISHED["table1"]
    put("flow.treated.n", flow["treated"])
    put("flow.analysed.n", flow["analysed"])
    for id_, number in zip(
        ("one_cycle", "sarcomatoid_carcinoma", "lost_to_follow_up"), flow["excluded"].values(), strict=True
    ):
        put(f"flow.excluded.{id_}.n", number)
    put("exposure.cycles.median", treatment["median_cycles"])
    put("exposure.cycles.min", treatment["cycles_range"][0])
    put("exposure.cycles.max", treatment["cycles_range"][1])
    put("exposure.cycles_ge_9.n", treatment["cycles_>=9"])
    put("exposure.anlotinib_reduced.n", treatment["anlotinib_dose_reductions"])
    put("exposure.anlotinib_interrupted.n", treatment["anlotinib_interruptions"])
    put("exposure.camrelizumab_stopped.n", treatment["camrelizumab_discontinued_for_AE"])
    put("baseline.n", one["n"])
    put("baseline.sex.m.n", one["sex"]["Male"])
    put("baseline.sex.f.n", one["sex"]["Female"])
    for name in ("median", "min", "max"):
        put(f"baseline.age.{name}", one["age_years"][name])
    for id_, name in (("lt_60", "<60"), ("60_70", "60-70"), ("gt_70", ">70")):
        put(f"baseline.age_group.{id_}.n", one["age_years"][name])
    for name, number in one["histology"].items():
        put(f"baseline.histology.{slug(name)}.n", number)
    for name, number in one["fnclcc_grade"].items():
        put(f"baseline.grade.{slug(name)}.n", number)
    disease = one["type_of_disease"]
    put("baseline.disease.local_advanced.n", disease["Local advanced"])
    put("baseline.disease.metastases.n", disease["Metastases"])
    for name, number in disease["metastases_by_site"].items():
        put(f"baseline.metastases.{slug(name)}.n", number)
    put("baseline.prior_surgery.y.n", one["prior_surgery"]["Yes"])
    put("baseline.prior_surgery.n.n", one["prior_surgery"]["No"])
    put("baseline.line.first_line.n", one["line_of_treatment"]["First-line"])
    put("baseline.line.second_line.n", one["line_of_treatment"]["Second-line"])
    for name, *numbers in PUBLISHED["table2"]["rows"]:
        for part, number in zip(("any", "g1_2", "g3_4"), numbers, strict=True):
            put(f"toxicity.term.{slug(name)}.{part}.n", number)
    put("toxicity.related.n", PUBLISHED["table2"]["any_TRAE"][0])
    put("toxicity.related.pct", PUBLISHED["table2"]["any_TRAE"][1], 1)
    put("toxicity.any_g3.n", PUBLISHED["table2"]["any_grade_3"][0])
    put("toxicity.any_g3.pct", PUBLISHED["table2"]["any_grade_3"][1], 1)
    put("toxicity.any_g4.n", PUBLISHED["table2"]["grade_4"])
    for name, cr, pr, sd, pd_, orr, dcr in PUBLISHED["table3"]["rows"]:
        kind = "sarcoma_type." if name.endswith("sarcoma") else "grade." if name != "Total" else ""
        stem = f"response.{kind}{slug(name)}"
        for part, number in (("cr", cr), ("pr", pr), ("sd", sd), ("pd", pd_)):
            put(f"{stem}.{part}.n", number)
        put(f"{stem}.orr.pct", orr, 1)
        put(f"{stem}.dcr.pct", dcr, 1)
    put("response.sarcoma_type.orr_test.p", PUBLISHED["table3"]["p_ORR_sarcoma_type"], 4)
    put("response.grade.orr_test.p", PUBLISHED["table3"]["p_ORR_grade"], 4)
    for name, cr, pr, sd, pd_, orr in PUBLISHED["table4"]["rows"]:
        stem = f"response.{'lps_subtype' if name in {'WDLPS', 'DDLPS', 'MLS', 'PLS'} else 'histology'}.{slug(name)}"
        for part, number in (("cr", cr), ("pr", pr), ("sd", sd), ("pd", pd_)):
            put(f"{stem}.{part}.n", number)
        put(f"{stem}.orr.pct", orr, 1)
    pfs, follow = PUBLISHED["pfs"], PUBLISHED["follow_up_months"]
    put("survival.pfs.events", pfs["events"])
    put("survival.pfs.median", pfs["median_months"], 1)
    put("survival.pfs.lower", pfs["median_ci95"][0], 1)
    put("survival.pfs.upper", pfs["median_ci95"][1], 1)
    put("survival.pfs.at.3.rate", pfs["rate_3_months_pct"], 1)
    put("survival.pfs.at.6.rate", pfs["rate_6_months_pct"], 1)
    for kind, part in (("sarcoma_type", pfs["by_sarcoma_type"]), ("grade", pfs["by_grade"])):
        for name, value in part.items():
            if name == "p":
                put(f"survival.pfs.by.{kind}.logrank.p", value, 4)
            else:
                put(f"survival.pfs.by.{kind}.{slug(name)}.median", value, 1)
    responders = pfs["PR_patients"]
    put("survival.pr_pfs.median", responders["median_months"], 1)
    put("survival.pr_pfs.min", responders["range"][0], 1)
    put("survival.pr_pfs.max", responders["range"][1], 1)
    put("survival.pr_progressed.n", responders["progressed"])
    put("survival.pr_progressed_pfs.min", responders["progressed_pfs_range"][0], 1)
    put("survival.pr_progressed_pfs.max", responders["progressed_pfs_range"][1], 1)
    put("survival.os.events", PUBLISHED["os"]["deaths"])
    put("survival.followup.observed.median", follow["median"], 1)
    put("survival.followup.observed.min", follow["range"][0], 1)
    put("survival.followup.observed.max", follow["range"][1], 1)
    return cells


def shown(value: float, as_in: str) -> str:
    """A computed value at the precision of a printed one, half away from zero."""
    digits = len(as_in.partition(".")[2])
    return str(Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP))


@pytest.fixture(scope="module")
def found(reference_run: Path) -> dict[str, Any]:
    """Id → value."""
    return results_of(reference_run)


@pytest.fixture(scope="module")
def cohort() -> pd.DataFrame:
    """The subjects' answers."""
    return pd.read_csv(DATA / "cohort.csv").set_index("subject")


@pytest.fixture(scope="module")
def datasets(reference_run: Path) -> dict[str, pd.DataFrame]:
    """All datasets of the run."""
    return {name: read_dataset(reference_run / "datasets", name) for name in metadata()}


def test_every_published_cell_is_computed(found: dict[str, Any]) -> None:
    """Tables 1 to 4, flow, treatment and survival; the known findings have the values that 57 patients give."""
    cells = printed()
    assert len(cells) > 220
    wrong = {
        id_: (KNOWN.get(id_, text), found.get(id_))
        for id_, text in cells.items()
        if found.get(id_) is None or shown(found[id_], text) != KNOWN.get(id_, text)
    }
    assert {} == wrong
    assert found["survival.os.median"] is None
    assert 0 < found["models.os_multivariate.sarctype.non_l_sarcoma.p"] < 1


def test_the_sensitivity_analysis_gives_the_figures_of_the_findings(found: dict[str, Any]) -> None:
    """Censoring at the last contact: 11.07 months, 84.2 and 64.2 %, 7.3 and 16.8 by type, P 0.0866."""
    expected = {"median": "11.07", "at.3.rate": "84.2", "at.6.rate": "64.2", "by.sarcoma_type.l_sarcoma.median": "7.3",
                "by.sarcoma_type.non_l_sarcoma.median": "16.8", "by.sarcoma_type.logrank.p": "0.0866"}  # fmt: skip
    assert expected == {
        name: shown(found[f"sensitivity.last_contact.{name}"], text) for name, text in expected.items()
    }


def test_every_difference_has_its_reason_in_the_report(found: dict[str, Any], reference_run: Path) -> None:
    """Nothing differs without a reason, and the page says it."""
    assert 0 == found["published.unexplained.n"]
    assert set(KNOWN) <= {item.result for item in load_study(STUDY)[0].report.known_differences}
    page = (reference_run / "report.html").read_text("utf-8")
    for item in load_study(STUDY)[0].report.known_differences:
        assert item.reason.split(".")[0][:60].replace("'", "&#39;") in page.replace("&#x27;", "&#39;"), (
            item.result
        )


def test_each_subject_arrives_at_its_row(datasets: dict[str, pd.DataFrame], cohort: pd.DataFrame) -> None:
    """Best response, PFS, follow-up, death, cycles, sex, age and grade of 57 subjects."""
    adsl = datasets["ADSL"][datasets["ADSL"]["ANALFL"] == "Y"].set_index("USUBJID")
    assert list(cohort.index) == list(adsl.index)
    pfs = datasets["ADTTE"][datasets["ADTTE"]["PARAMCD"] == "PFS"].set_index("USUBJID").loc[cohort.index]
    computed = pd.DataFrame(
        {
            "sex": adsl["SEX"].map({"M": "male", "F": "female"}),
            "age": adsl["AGE"],
            "fnclcc_grade": adsl["GRADE"].str[1].astype(int),
            "sarcoma_type": adsl["SARCTYPE"],
            "cycles": adsl["CYCLES"],
            "best_overall_response": adsl["BOR"],
            "pfs_days": pfs["AVAL"],
            "pfs_event": 1 - pfs["CNSR"].clip(upper=1),
            "follow_up_days": adsl["FUPDUR"],
            "dead": adsl["DTHFL"].eq("Y").astype(int),
        }
    )
    for column in computed:
        differs = computed[column].astype(str) != cohort[column].astype(str)
        assert [] == list(cohort.index[differs]), column


def test_each_related_event_arrives_at_its_grade(datasets: dict[str, pd.DataFrame]) -> None:
    """Subject, term and worst grade of the 54 related events, and no other."""
    adae = datasets["ADAE"]
    analysed = set(datasets["ADSL"].loc[datasets["ADSL"]["ANALFL"] == "Y", "USUBJID"])
    worst = adae[(adae["AOCC03FL"] == "Y") & adae["USUBJID"].isin(analysed)]
    computed = {(r.USUBJID, r.AEDECOD, int(r.ATOXGR)) for r in worst.itertuples()}
    with (DATA / "cohort_ae.csv").open(newline="", encoding="utf-8") as handle:
        expected = {(row["subject"], row["term"], int(row["grade"])) for row in csv.DictReader(handle)}
    assert expected == computed


def test_lifelines_gives_the_same_survival_figures(found: dict[str, Any], cohort: pd.DataFrame) -> None:
    """Called directly on the cohort table: medians, interval, landmarks and log-rank tests."""
    months = cohort["pfs_days"] / MONTH
    curve = KaplanMeierFitter().fit(months, cohort["pfs_event"])
    interval = median_survival_times(curve.confidence_interval_)
    expected = {
        "median": curve.median_survival_time_,
        "lower": float(interval.iloc[0, 0]),
        "upper": float(interval.iloc[0, 1]),
        "at.3.rate": 100 * float(curve.predict(3)),
        "at.6.rate": 100 * float(curve.predict(6)),
    }
    for kind, column in (("sarcoma_type", "sarcoma_type"), ("grade", "fnclcc_grade")):
        test = multivariate_logrank_test(months, cohort[column], cohort["pfs_event"])
        expected[f"by.{kind}.logrank.p"] = test.p_value
        for level, rows in cohort.groupby(column):
            fit = KaplanMeierFitter().fit(rows["pfs_days"] / MONTH, rows["pfs_event"])
            name = slug(str(level)) if kind == "sarcoma_type" else f"g{level}"
            # `first` on a plateau is lifelines' own reading of a median, and the study file names it.
            expected[f"by.{kind}.{name}.median"] = float(qth_survival_times(0.5, fit.survival_function_))
    for name, value in expected.items():
        assert pytest.approx(value, rel=1e-9) == found[f"survival.pfs.{name}"], name


def test_explain_reaches_as_many_subjects_as_each_cell_counts(
    reference_run: Path, datasets: dict[str, pd.DataFrame], adapter: Adapter
) -> None:
    """For every count of Tables 1 to 4 the replayed selection has that many subjects; the command line agrees."""
    results = read_results(reference_run / "results.json")
    study = load_study(STUDY)[0]
    counts = [
        id_
        for id_ in printed()
        if id_.endswith(".n") and id_.startswith(("baseline", "toxicity", "response"))
    ]
    assert len(counts) > 150
    for id_ in counts:
        assert results[id_].value == replay(results[id_], datasets, study)["USUBJID"].nunique(), id_
    for id_ in (
        "baseline.metastases.lung.n",
        "toxicity.term.hypertension.g3_4.n",
        "response.histology.mpnst.cr.n",
    ):
        tree = json.loads(adapter("explain", reference_run, id_, "--json").out)
        assert results[id_].value == len(tree["subjects"]) == len(tree["rows"])
        assert all(_resources(node) for nodes in tree["rows"].values() for node in nodes), id_


def _resources(node: dict[str, Any]) -> list[str]:
    return [
        *node.get("resources", []),
        *(item for parent in node.get("parents", []) for item in _resources(parent)),
    ]


def run_edited(
    folder: Path, adapter: Adapter, resources: list[dict[str, Any]], study: Path = STUDY
) -> dict[str, Any]:
    write_source(folder / "source", resources)
    done = adapter(
        "run", study, "--site", write_site(folder), "--out", folder, "--quiet", "--json", status=None
    )
    assert done.status in {0, 3}, done.err
    return results_of(done.run)


def test_published_values_and_investigators_change_no_number(
    found: dict[str, Any], tmp_path: Path, adapter: Adapter
) -> None:
    """Without `published` in the study and without investigators' responses, every computed number is the same."""
    text = STUDY.read_text("utf-8")
    study = tmp_path / "study.yaml"
    study.write_text(text[: text.index("  published:")], encoding="utf-8")
    resources = [
        item for item in reference_cohort()
        if not (item["resourceType"] == "Observation" and item["code"].get("coding", [{}])[0].get("code") == "97509-4")
    ]  # fmt: skip
    bare = run_edited(tmp_path, adapter, resources, study)
    gone = ("published.", "disagreement.")
    assert {id_: value for id_, value in found.items() if not id_.startswith(gone)} == bare


def test_one_patients_measurements_turn_exactly_the_predicted_cells_red(
    tmp_path: Path, adapter: Adapter, found: dict[str, Any]
) -> None:
    """RPS-040, synovial sarcoma, G2, PR: her only responding lesions made stable turn these cells and no other."""
    resources = json.loads(msgspec.json.encode(list(reference_cohort())))
    baseline: dict[str, Any] = {}
    for item in resources:
        if item["id"].startswith("rps-040-size-"):
            lesion, component = item["focus"][0]["reference"], item["component"][0]
            component.pop("dataAbsentReason", None)
            component["valueQuantity"] = baseline.setdefault(lesion, component.get("valueQuantity"))
    after = run_edited(tmp_path, adapter, resources)
    red = {
        id_ for id_, text in printed().items()
        if after.get(id_) is None or shown(after[id_], text) != KNOWN.get(id_, text)
    }  # fmt: skip
    stems = (
        "response.total",
        "response.sarcoma_type.non_l_sarcoma",
        "response.grade.g2",
        "response.histology.synovial_sarcoma",
    )
    expected = {f"{stem}.{part}" for stem in stems for part in ("pr.n", "sd.n", "orr.pct")}
    expected |= {"response.sarcoma_type.orr_test.p", "response.grade.orr_test.p"}
    # One of 13 PFS times of responders less; whether the median or the range moves is computed from the cohort table.
    cohort = pd.read_csv(DATA / "cohort.csv")
    times = (
        cohort[(cohort["best_overall_response"] == "PR") & (cohort["subject"] != "RPS-040")]["pfs_days"]
        / MONTH
    )
    figures = {"median": times.median(), "min": times.min(), "max": times.max()}
    cells = printed()
    expected |= {
        f"survival.pr_pfs.{name}" for name, value in figures.items()
        if shown(float(value), cells[f"survival.pr_pfs.{name}"]) != cells[f"survival.pr_pfs.{name}"]
    }  # fmt: skip
    assert expected == red
    # The study file also compares the percentages of PR and SD in the total, which the text prints.
    assert after["published.unexplained.n"] == len(expected - set(KNOWN)) + 2


def test_no_answer_of_the_cohort_stands_in_the_package() -> None:
    """No column of an answer, and no number of the publication that only an answer could be."""
    answers = {"best_overall_response", "bor", "pfs_days", "pfs_event", "follow_up_days", "os_days", "dead"}
    for path in PACKAGE.rglob("*.csv"):
        with path.open(newline="", encoding="utf-8") as handle:
            assert set() == answers & {name.lower() for name in next(csv.reader(handle))}, path.name
    telling = {float(text) for text in printed().values() if "." in text and float(text) % 1}
    for path in PACKAGE.rglob("*.py"):
        numbers = {
            node.value for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, float)
        }  # fmt: skip
        assert set() == telling & numbers, path.name
    for word in ("retroperitoneal-sarcoma", "anlotinib", "RPS-0"):
        hits = [path for path in PACKAGE.rglob("*.py") if word in path.read_text("utf-8")]
        assert [] == [path for path in hits if not {"demo", "cli"} & set(path.relative_to(PACKAGE).parts)], (
            word
        )


def test_the_cohort_is_the_one_that_the_planner_makes(tmp_path: Path) -> None:
    """The committed facts are reproducible from the answers by `scripts/plan_cohort.py`."""
    planned = runpy.run_path(str(PACKAGE.parent / "scripts" / "plan_cohort.py"))
    planned["main"](DATA, tmp_path)
    committed = PACKAGE / "demo" / "cohort"
    assert sorted(path.name for path in committed.glob("*.csv")) == sorted(
        path.name for path in tmp_path.glob("*.csv")
    )
    for path in sorted(tmp_path.glob("*.csv")):
        assert path.read_bytes() == (committed / path.name).read_bytes(), path.name
