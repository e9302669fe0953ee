"""The six patients, mapped: every number stands in tests/data/six/README.md."""

from __future__ import annotations

import importlib
import random
import runpy
from collections import Counter

import pandas as pd
import pytest
from mapping_support import SIX, landed, mapped, rows, six, six_study

from fhir_adapter.accounting import summary
from fhir_adapter.mapping.stage import Mapped, map_resources


@pytest.fixture(scope="module")
def result() -> Mapped:
    """The six patients, mapped once."""
    return mapped()


def test_the_files_are_what_the_clinical_facts_make():
    """The committed Bundles are what build.py writes."""
    made = runpy.run_path(str(SIX / "build.py"))
    for name, bundle in made["bundles"]().items():
        assert (SIX / name).read_text("utf-8") == made["text"](bundle), name


def test_every_resource_is_marked_as_synthetic():
    """HTEST stands on every resource, as a security label and as a tag."""
    for resource in six():
        for part in ("security", "tag"):
            assert resource["meta"][part][0]["code"] == "HTEST"


def test_every_resource_is_fhir():
    """fhir.resources' models take every resource (R4B has R4's structure for these types)."""
    for resource in six():
        kind = resource["resourceType"]
        model = getattr(importlib.import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)
        assert model.model_validate(resource).id == resource["id"]


def test_subjects(result: Mapped):
    """USUBJID is the identifier of the study's system; death may be partial; the study is a source."""
    assert rows(result, "DM", "USUBJID", "SEX", "BRTHDTC", "DTHDTC", "DTHFL", "SUBJSTAT") == [
        ("SIX-001", "F", "1965-04-12", None, None, "on-study"),
        ("SIX-002", "M", "1958-11-03", "2022-03", "Y", "off-study"),
        ("SIX-003", "F", "1972-07-30", None, None, "on-study"),
        ("SIX-004", "M", "1949-01-21", "2021-12-20", "Y", "off-study"),
        ("SIX-005", "F", "1980-10-09", "2021-08-15", "Y", "off-study"),
        ("SIX-006", "M", "1990-03-17", None, None, "withdrawn"),
    ]
    assert result.datasets["DM"].loc[0, "SRCREF"] == (
        "Patient/six-cr/_history/1 ResearchSubject/six-cr-subject/_history/1 "
        "ResearchStudy/six-study/_history/1"
    )
    assert result.subjects.to_dict("records")[0] == {"PATKEY": "Patient/six-cr", "USUBJID": "SIX-001"}


def test_targets_in_mm(result: Mapped):
    """Cm become mm, a node is measured by its short axis, `< 5 mm` is too small to measure."""
    columns = ("TRLNKID", "VISIT", "TRTESTCD", "TRORRES", "TRORRESU", "TRSTRESC", "TRSTRESN")
    found = rows(result, "TR", *columns, USUBJID="SIX-002")
    assert found == [
        ("T01", "Baseline", "LDIAM", "6", "cm", "60", 60.0),
        ("T01", "Week 9", "LDIAM", "4.2", "cm", "42", 42.0),
        ("T01", "Week 18", "LDIAM", "3.8", "cm", "38", 38.0),
        ("T01", "Week 27", "LDIAM", "5.5", "cm", "55", 55.0),
        ("T02", "Baseline", "LDIAM", "25", "mm", "25", 25.0),
        ("T02", "Week 9", "LDIAM", "15", "mm", "15", 15.0),
        ("T02", "Week 18", "LDIAM", "<5", "mm", "TOO SMALL TO MEASURE", None),
        ("T02", "Week 27", "LDIAM", "<5", "mm", "TOO SMALL TO MEASURE", None),
    ]
    nodes = rows(result, "TR", "TRTESTCD", "TRSTRESN", USUBJID="SIX-001", TRLNKID="T02")
    assert nodes == [("LPERP", 18.0), ("LPERP", 11.0), ("LPERP", 8.0), ("LPERP", 7.0)]


def test_a_lesion_that_could_not_be_evaluated_is_not_done(result: Mapped):
    """A component's dataAbsentReason is a row without result; the reason is kept."""
    found = rows(
        result, "TR", "TRSTRESN", "TRSTAT", "TRREASND", USUBJID="SIX-005", TRLNKID="T01", VISIT="Week 9"
    )
    assert found == [(None, "NOT DONE", "error")]


def test_states_of_lesions(result: Mapped):
    """States come by code; words that no map knows are kept, have no result, and are a finding."""
    states = rows(result, "TR", "USUBJID", "TRLNKID", "VISIT", "TRSTRESC", "TRORRES", TRTESTCD="TUMSTATE")
    assert states == [
        ("SIX-001", "NT01", "Baseline", "PRESENT", "Present"),
        ("SIX-001", "NT01", "Week 9", "PRESENT", "Present"),
        ("SIX-001", "NT01", "Week 18", "ABSENT", "Absent"),
        ("SIX-001", "NT01", "Week 27", "ABSENT", "Absent"),
        ("SIX-003", "NT01", "Baseline", "PRESENT", "Present"),
        ("SIX-003", "NT01", "Week 9", "PRESENT", "Present"),
        ("SIX-003", "NT01", "Week 27", None, "im Wesentlichen unverändert"),
        ("SIX-004", "NEW01", "Week 9", "UNEQUIVOCAL", "Unequivocal"),
    ]
    assert [(item.code, item.detail) for item in result.findings] == [
        (
            "unknown-code",
            (
                '{"concept_map":"tumor-state","system":"","code":"",'
                '"display":"im Wesentlichen unverändert","count":1}'
            ),
        )
    ]


def test_lesions(result: Mapped):
    """Role by DICOM component or by the prefix of the identifier; place and node by the location."""
    assert rows(result, "TU", "USUBJID", "TULNKID", "TUSTRESC", "TULOC", "TUNODAL", "TUDTC")[:3] == [
        ("SIX-001", "NT01", "NON-TARGET", "Peritoneum", None, "2021-02-01"),
        ("SIX-001", "T01", "TARGET", "Retroperitoneum", None, "2021-02-01"),
        ("SIX-001", "T02", "TARGET", "Lymph node", "Y", "2021-02-01"),
    ]
    assert rows(result, "TU", "TULNKID", "TUSTRESC", "TUDTC", USUBJID="SIX-004") == [
        ("NEW01", "NEW", "2021-07-12"),
        ("T01", "TARGET", "2021-05-10"),
    ]


def test_responses_as_recorded(result: Mapped):
    """The investigator's responses, by whichever of three codings is known."""
    assert rows(result, "RS", "USUBJID", "VISIT", "RSSTRESC", "RSEVAL", "RSCAT", USUBJID="SIX-002") == [
        ("SIX-002", "Week 9", "PR", "INVESTIGATOR", "RECIST 1.1"),
        ("SIX-002", "Week 18", "PR", "INVESTIGATOR", "RECIST 1.1"),
        ("SIX-002", "Week 27", "PD", "INVESTIGATOR", "RECIST 1.1"),
    ]


def test_exposure_and_other_medications(result: Mapped):
    """A drug is found by Medication reference and in three names; another drug is no exposure."""
    doses = Counter(rows(result, "EX", "USUBJID", "EXTRT"))
    assert doses == {
        (f"SIX-{number:03d}", drug): cycles
        for number, cycles in ((1, 10), (2, 9), (3, 8), (4, 3), (5, 3), (6, 1))
        for drug in ("anlotinib", "camrelizumab")
    }
    anlotinib = rows(
        result, "EX", "EXDOSE", "EXOCCUR", "EXSTDTC", "EXENDTC", USUBJID="SIX-002", EXTRT="anlotinib"
    )
    assert anlotinib[0] == (12.0, "Y", "2021-03-02", "2021-03-15")
    assert anlotinib[4] == (10.0, "Y", "2021-05-25", "2021-06-07")
    assert rows(result, "CM", "USUBJID", "CMDECOD", "CMCAT") == [("SIX-002", "doxorubicin", "ANTICANCER")]


def test_adverse_events(result: Mapped):
    """Grade, causality, action and outcome by the research profile; one entered in error is not there."""
    columns = ("USUBJID", "AEDECOD", "AETOXGR", "AEREL", "AEACN", "AESTDTC", "AEENDTC")
    assert rows(result, "AE", *columns) == [
        ("SIX-001", "Hypertension", 2, "POSSIBLE", None, "2021-02-20", "2021-03-15"),
        ("SIX-001", "Hypothyroidism", 1, "PROBABLE", None, "2021-05-04", None),
        ("SIX-002", "Fatigue", 2, "POSSIBLE", None, "2021-03-20", "2021-04-20"),
        ("SIX-002", "Palmar-plantar erythrodysesthesia syndrome", 3, "RELATED", "DOSE REDUCED", "2021-05-10",
         "2021-06-21"),
        ("SIX-003", "Proteinuria", 1, "POSSIBLE", None, "2021-05", None),
        ("SIX-004", "Abdominal pain", 2, "NOT RELATED", None, "2021-06-20", None),
        ("SIX-004", "Anemia", 3, "POSSIBLE", None, "2021-06-02", None),
        ("SIX-005", "Fatigue", 1, "POSSIBLE", None, "2021-06-15", None),
    ]  # fmt: skip
    assert rows(result, "AE", "AEBODSYS", "AESER", "AEOUT")[0] == (
        "Vascular disorders",
        "N",
        "RECOVERED/RESOLVED",
    )


def test_history(result: Mapped):
    """Histology and site of the cancer; grade by FNCLCC; ECOG; prior surgery."""
    assert rows(result, "MH", "MHCAT", "MHMORPH", "MHLOC", USUBJID="SIX-002") == [
        ("PRIMARY", "Leiomyosarcoma", "Retroperitoneum")
    ]
    assert rows(result, "SC", "USUBJID", "SCTESTCD", "SCSTRESC", "SCSTRESN", USUBJID="SIX-004") == [
        ("SIX-004", "ECOG", "2", 2.0),
        ("SIX-004", "FNCLCC", "3", 3.0),
    ]
    assert [row[0] for row in rows(result, "PR", "USUBJID", PRCAT="SURGERY")] == [
        "SIX-001", "SIX-002", "SIX-004", "SIX-005",
    ]  # fmt: skip


def test_visits_and_disposition(result: Mapped):
    """Encounters and scans with their label; enrolment and the end of participation."""
    assert rows(result, "SV", "SVCAT", "VISIT", "SVSTDTC", USUBJID="SIX-005") == [
        ("ENCOUNTER", "Baseline", "2021-06-01"),
        ("IMAGING", "Baseline", "2021-06-01"),
        ("ENCOUNTER", "Week 9", "2021-08-03"),
        ("IMAGING", "Week 9", "2021-08-03"),
    ]
    assert rows(result, "DS", "DSDECOD", "DSSTDTC", USUBJID="SIX-005") == [
        ("ENROLLED", "2021-05-29"),
        ("OFF STUDY", "2021-08-15"),
    ]


def test_accounting(result: Mapped):
    """Each resource has one disposition, and what is not used has its reason."""
    table = summary(result.dispositions)
    assert len(result.dispositions) == len(six()) == 212
    assert {kind: row["not_needed"] for kind, row in table.items() if row["not_needed"]} == {
        "AdverseEvent": {"entered-in-error": 1},
        "Observation": {"not-selected": 6, "not-done": 1},
    }
    assert not any(row["quarantined"] for row in table.values())


def test_every_row_has_its_sources(result: Mapped):
    """SRCVIEW and SRCREF stand on every row, and every source was given."""
    given = {f"{item['resourceType']}/{item['id']}/_history/1" for item in six()}
    for frame in result.datasets.values():
        assert frame["SRCVIEW"].notna().all()
        assert {part for text in frame["SRCREF"] for part in text.split()} <= given


def test_the_order_of_arrival_changes_nothing(result: Mapped):
    """Datasets and findings are the same whatever order the resources come in."""
    shuffled = six()
    random.Random(7).shuffle(shuffled)
    again = map_resources(landed(shuffled), six_study(), key=None)
    for name, frame in result.datasets.items():
        pd.testing.assert_frame_equal(frame, again.datasets[name])
    assert again.findings == result.findings
