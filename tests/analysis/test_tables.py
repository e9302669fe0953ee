"""The analyse stage on six hand-written subjects: every number can be counted on the page."""

from __future__ import annotations

import pandas as pd
import pytest

from fhir_adapter.analysis.selection import replay
from fhir_adapter.analysis.stage import analyse
from fhir_adapter.datasets import conform, empty
from fhir_adapter.explain import explain
from fhir_adapter.results import Results
from fhir_adapter.study import Study, load_study

STUDY = """\
study:
  id: small
  title: A small study
  data_cutoff: 2022-01-31
  consent: {policy: required}
cohort:
  candidates: {all_patients: true}
  exclusions:
    - {id: one-cycle, label: one cycle, condition: {variable: CYCLES, op: le, value: 1}}
treatment:
  drugs: [{id: drug, label: Drug, concept: drug}]
baseline:
  characteristics:
    - {variable: GRADE, label: Grade, levels: [{value: G1}, {value: G2}]}
    - {variable: SITES, label: Sites, levels: [{value: liver}, {value: lung}]}
  table:
    - {id: sex, variable: SEX, label: Sex}
    - {id: age, variable: AGE, label: Age, show: [median_range, mean_sd]}
    - {id: sites, variable: SITES, multiple: true}
subgroups:
  - {id: grade, label: Grade, variable: GRADE, levels: [G1, G2, G3], orr_test: fisher_exact}
response_tables:
  - {id: response, title: Response, subgroups: [grade]}
endpoints:
  - {id: PFS, label: PFS, kind: PFS, unit: days, landmarks: [100], by: [grade]}
summaries:
  - {id: cycles, label: Cycles, variable: CYCLES, show: [median_range]}
  - {id: many, label: Many cycles, condition: {variable: CYCLES, op: ge, value: 5}}
toxicity: {related_only: true}
models:
  - {id: one, label: One, endpoint: PFS, covariates: [{variable: GRADE, reference: G1}]}
report:
  published:
    - {result: baseline.sex.m.n, value: 2, where: Table 1}
    - {result: response.total.orr.pct, value: 41.0, where: Table 2}
    - {result: response.total.dcr.pct, value: 99.9, where: Table 2}
    - {result: no.such.result, value: 1, where: Table 2}
  known_differences:
    - {result: response.total.orr.pct, reason: a printing error}
"""
#           subject sex age grade sites         cycles excluded analysed BOR
SUBJECTS = """\
            s1      M   40  G1    liver         6      .        Y        CR
            s2      M   50  G1    liver;lung    4      .        Y        SD
            s3      F   60  G2    .             5      .        Y        PR
            s4      F   70  G2    lung          2      .        Y        PD
            s5      F   80  .     .             2      .        Y        NE
            s6      M   30  G1    .             1      one-cycle .       ."""
#          subject days censored
TIMES = """\
           s1      200  1
           s2      50   0
           s3      150  0
           s4      30   0
           s5      0    1
           s6      10   1"""
#           subject term     grade related emergent worst
EVENTS = """\
            s1      Rash     1     Y       Y        .
            s1      Rash     3     Y       Y        Y
            s2      Rash     2     Y       Y        Y
            s3      Nausea   4     N       Y        .
            s4      Nausea   .     Y       Y        Y
            s5      Fatigue  2     .       Y        .
            s6      Rash     5     Y       Y        Y"""


def frame(text: str, *names: str) -> pd.DataFrame:
    rows = [[None if cell == "." else cell for cell in line.split()] for line in text.splitlines()]
    return pd.DataFrame(rows, columns=list(names))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    path = tmp_path_factory.mktemp("study") / "study.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return load_study(path)[0]


@pytest.fixture(scope="module")
def datasets() -> dict[str, pd.DataFrame]:
    adsl = frame(SUBJECTS, "USUBJID", "SEX", "AGE", "GRADE", "SITES", "CYCLES", "EXCLID", "ANALFL", "BOR")
    adsl["SAFFL"] = adsl["FASFL"] = adsl["ANALFL"]
    adsl["TRTSDT"] = pd.Timestamp("2021-01-01")
    adsl["RSPFL"] = adsl["BOR"].isin(["CR", "PR"]).map({True: "Y", False: None})
    adsl["DCFL"] = adsl["BOR"].isin(["CR", "PR", "SD"]).map({True: "Y", False: None})
    adsl["FUPDUR"] = [200, 60, 160, 40, 0, 10]
    adtte = frame(TIMES, "USUBJID", "AVAL", "CNSR").assign(PARAMCD="PFS")
    adtte["EVNTDESC"] = adtte["CNSR"].map({"0": "Progression"})
    adtte["CNSDTDSC"] = adtte["CNSR"].map({"1": "Last adequate assessment"})
    adae = frame(EVENTS, "USUBJID", "AEDECOD", "ATOXGR", "AREL", "TRTEMFL", "AOCC03FL")
    frames = {"ADSL": adsl, "ADTTE": adtte, "ADAE": adae}
    return {name: conform(name, rows) for name, rows in frames.items()} | {"ADRS": empty("ADRS")}


@pytest.fixture(scope="module")
def results(datasets: dict[str, pd.DataFrame], study: Study) -> Results:
    return analyse(datasets, study, "2022-01-31")


@pytest.mark.parametrize(
    ("id_", "expected"),
    [
        ("flow.candidates.n", 6),
        ("flow.excluded.one_cycle.n", 1),
        ("flow.analysed.n", 5),
        ("baseline.sex.m.n", 2),
        ("baseline.sex.m.pct", 40.0),
        ("baseline.age.median", 60.0),
        ("baseline.age.min", 40.0),
        ("baseline.age.sd", 15.811388300841896),
        ("baseline.sites.lung.n", 2),
        ("baseline.sites.liver.n", 2),
        ("response.total.n", 5),
        ("response.total.cr.n", 1),
        ("response.total.ne.n", 1),
        ("response.total.orr.pct", 40.0),
        ("response.total.dcr.n", 3),
        ("response.grade.g1.orr.n", 1),
        ("response.grade.orr_test.p", 1.0),
        ("survival.pfs.n", 5),
        ("survival.pfs.events", 3),
        ("survival.pfs.median", 100.0),  # S = 0.5 from day 50 to 150: the middle of the plateau
        ("survival.pfs.at.100.rate", 50.0),
        ("survival.pfs.at.100.n_risk", 2),
        ("survival.pfs.by.grade.g2.events", 2),
        ("survival.pfs.reason.event.progression.n", 3),
        ("survival.followup.observed.median", 60 / 30.4375),
        ("toxicity.related.n", 3),
        ("toxicity.any_ge3.n", 1),
        ("toxicity.unknown_grade.n", 1),
        ("toxicity.unknown_causality.n", 1),
        ("toxicity.term.rash.any.n", 2),
        ("toxicity.term.rash.g1_2.n", 1),
        ("toxicity.term.rash.g3_4.n", 1),
        ("toxicity.term.nausea.any.n", 1),
        ("exposure.cycles.median", 4.0),
        ("exposure.many.n", 2),
        ("published.matched.n", 1),
        ("published.explained.n", 1),
        ("published.unexplained.n", 2),
    ],
)
def test_each_number_is_what_the_page_says(results: Results, id_: str, expected: float) -> None:
    """Counted by hand from the tables above."""
    assert pytest.approx(expected, rel=1e-12) == results[id_].value


def test_a_selector_reaches_as_many_subjects_as_were_counted(
    results: Results, datasets: dict[str, pd.DataFrame], study: Study
) -> None:
    """Replaying every count gives its number: explain can never contradict the report."""
    counted = [result for result in results.results.values() if result.rule == "n_subjects"]
    assert len(counted) > 40
    for result in counted:
        assert result.value == replay(result, datasets, study)["USUBJID"].nunique(), result.id


def test_nothing_is_ever_not_a_number(results: Results) -> None:
    """A value that cannot be estimated is null and has a reason."""
    for result in results.results.values():
        assert result.value == result.value, result.id
        if result.value is None:
            assert result.reason, result.id


def test_an_empty_study_has_no_traceback(study: Study, datasets: dict[str, pd.DataFrame]) -> None:
    """No subjects: every result is zero or not estimable, with its reason."""
    none = {name: rows.iloc[:0] for name, rows in datasets.items()}
    results = analyse(none, study, "2022-01-31")
    assert 0 == results["flow.analysed.n"].value
    assert (None, "no subjects") == (
        results["response.total.orr.pct"].value,
        results["response.total.orr.pct"].reason,
    )
    assert results["survival.pfs.median"].value is None


def test_results_are_the_same_bytes_every_time(datasets: dict[str, pd.DataFrame], study: Study) -> None:
    """Shuffled rows change nothing."""
    shuffled = {name: rows.sample(frac=1, random_state=3) for name, rows in datasets.items()}
    assert analyse(datasets, study, "2022-01-31").encode() == analyse(shuffled, study, "2022-01-31").encode()


def test_a_removed_person_is_not_in_the_toxicity_of_the_others(results: Results) -> None:
    """The excluded subject's fatal rash counts nowhere."""
    assert 0 == results["toxicity.any_g5.n"].value


def test_rows_after_the_cut_off_are_in_no_summary(study: Study, datasets: dict[str, pd.DataFrame]) -> None:
    """A summary of an SDTM-like dataset counts up to the cut-off; so does its explanation."""
    name = str(datasets["ADSL"].loc[datasets["ADSL"]["FASFL"] == "Y", "USUBJID"].iloc[0])
    rows = [
        {"STUDYID": "X", "DOMAIN": "PR", "USUBJID": name, "PRSEQ": place, "PRTRT": "x", "PRSTDTC": date}
        for place, date in enumerate(("2022-02-01", "2022-02"), start=1)
    ]
    given = {**datasets, "PR": conform("PR", rows), "LINEAGE": empty("LINEAGE")}
    summary = {"id": "procedures", "label": "Procedures", "dataset": "PR"}
    changed = Study.model_validate(study.model_dump(by_alias=True) | {"summaries": [summary]})
    early, late = (analyse(given, changed, day) for day in ("2022-01-31", "2022-02-28"))
    assert [0, 1] == [found["exposure.procedures.n"].value for found in (early, late)]
    explained = [explain(found, given, changed, "exposure.procedures.n").subjects for found in (early, late)]
    assert [(), (name,)] == explained
