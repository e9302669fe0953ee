"""ADSL: last contact, death, age, cohort and flow, consent, arms, status.

Characteristics and analysis sets.
"""

from __future__ import annotations

from typing import Any

import pytest
from derive_frames import BASE, codes, day, derived, dose, row, study, subject, sums

from fhir_adapter.errors import StudyFileError


def test_last_contact_is_the_latest_evidence_of_life() -> None:
    """The latest listed date by the cut-off counts; a partial date counts by its first day.

    Missed doses do not count.
    """
    rows = BASE | {
        "TR": sums(("2021-03-05", 100.0)),
        "EX": [dose("2021-01-02"), dose("2021-09-01", EXOCCUR="N")],
        "SV": [{"USUBJID": "S1", "SVSTDTC": "2021-04", "SVENDTC": "2023-01-01"}],
        "DS": [{"USUBJID": "S1", "DSDECOD": "LOST TO FOLLOW-UP", "DSSTDTC": "2021-12-01"}],
        "AE": [{"USUBJID": "S1", "AETERM": "x", "AESTDTC": "2021-11-01"}],
    }
    adsl = row(derived(**rows).datasets["ADSL"])
    assert (day(adsl["LSTALVDT"]), adsl["FUPDUR"]) == ("2021-04-01", 90)
    adsl = row(derived(**rows, study_file=study(last_contact=["AE.AESTDTC"])).datasets["ADSL"])
    assert day(adsl["LSTALVDT"]) == "2021-11-01"


def test_last_contact_of_an_unknown_source() -> None:
    """A source that no dataset has is an error of the study file."""
    with pytest.raises(StudyFileError, match=r"AE\.AEXDTC"):
        derived(**BASE, study_file=study(last_contact=["AE.AEXDTC"]))


def test_follow_up_ends_with_death() -> None:
    """FUPDUR of the dead runs to death; last contact is not after it."""
    rows = BASE | {"DM": [subject(DTHDTC="2021-05-01", DTHFL="Y")], "TR": sums(("2021-03-05", 100.0))}
    adsl = row(derived(**rows).datasets["ADSL"])
    assert (adsl["FUPDUR"], day(adsl["LSTALVDT"]), adsl["DTHFL"], adsl["EOSSTT"]) == (
        120,
        "2021-03-05",
        "Y",
        "DEATH",
    )


@pytest.mark.parametrize(
    ("born", "age", "code"),
    [
        ("1960-01-01", 61, set()),
        ("1960-01-02", 60, set()),
        ("1960-02", 60, {"partial-birth-date"}),
        ("1960", 60, {"partial-birth-date"}),
    ],
)
def test_age_at_baseline(born: str, age: int, code: set[str]) -> None:
    """Whole years at the baseline examination (2021-01-01); a partial birth date counts from its middle."""
    result = derived(**BASE | {"DM": [subject(BRTHDTC=born)], "TR": sums()})
    assert row(result.datasets["ADSL"])["AGE"] == age
    assert codes(result) == code


def test_impossible_sequences() -> None:
    """A dose before birth, a dose after death, an event before birth, death before birth.

    Findings, not errors.
    """
    rows = BASE | {
        "DM": [subject(BRTHDTC="1960-05-01"), subject("S2", DTHDTC="1950-01-01")],
        "EX": [dose("2021-01-02"), dose("1950-01-02"), dose("2021-01-02", "S2")],
        "AE": [{"USUBJID": "S1", "AETERM": "x", "AESTDTC": "1950"}],
    }
    found = codes(derived(**rows))
    assert {"dose-before-birth", "event-before-birth", "death-before-birth", "dose-after-death"} <= found


def test_a_row_of_nobody_and_a_subject_twice_are_findings() -> None:
    """Rows of a subject that DM does not have are left out; of two rows of one subject the first counts."""
    result = derived(DM=[subject(), subject(SEX="M")], EX=[dose("2021-01-02", "S9")])
    assert codes(result) == {"subject-without-demographics", "subject-twice"}
    assert list(result.datasets["ADSL"]["SEX"]) == ["F"]


def test_death_without_any_contact() -> None:
    """The day of death is no evidence of life: last contact stays unknown."""
    adsl = row(derived(DM=[subject(DTHDTC="2021-05-01")]).datasets["ADSL"])
    assert (day(adsl["LSTALVDT"]), day(adsl["DTHDT"])) == (None, "2021-05-01")


def _flow(**more: Any) -> list[tuple[str, tuple[str, ...]]]:
    rows = {
        "DM": [subject(f"S{n}") for n in range(1, 6)],
        "EX": [dose("2021-01-02", f"S{n}") for n in range(1, 5)]
        + [dose("2021-01-23", f"S{n}") for n in (1, 2)],
        "MH": [{"USUBJID": name, "MHCAT": "PRIMARY", "MHMORPH": "wrong"} for name in ("S2", "S3")],
    }
    return [(step.id, step.usubjids) for step in derived(**rows, **more).flow]


def test_flow() -> None:
    """A subject counts at the first exclusion that holds; exclusions may ask ADSL or any other dataset."""
    cohort = {
        "candidates": {"all_patients": True},
        "exclusions": [
            {
                "id": "one-cycle",
                "label": "One cycle",
                "condition": {"variable": "CYCLES", "op": "le", "value": 1},
            },
            {
                "id": "histology",
                "label": "Histology",
                "condition": {"dataset": "MH", "variable": "MHMORPH", "value": "wrong"},
            },
        ],
    }
    assert _flow(study_file=study(cohort=cohort)) == [
        ("candidates", ("S1", "S2", "S3", "S4", "S5")),
        ("treated", ("S1", "S2", "S3", "S4")),
        ("excluded.one-cycle", ("S3", "S4")),
        ("excluded.histology", ("S2",)),
        ("analysed", ("S1",)),
    ]


def test_refused_consent_leaves_the_analysis() -> None:
    """Who denied or withdrew consent is counted and not analysed.

    Where consent is required, silence is none.
    """
    rows = BASE | {
        "DM": [
            subject(),
            subject("S2", CONSENT="deny"),
            subject("S3", CONSENT="withdrawn"),
            subject("S4", CONSENT="permit"),
        ],
        "EX": [dose("2021-01-02", f"S{n}") for n in range(1, 5)],
    }
    result = derived(**rows)
    adsl = result.datasets["ADSL"].set_index("USUBJID")
    assert dict(adsl["ANALFL"]) == {"S1": "Y", "S2": None, "S3": None, "S4": "Y"}
    assert ("excluded.consent", 2) in [(step.id, step.n_subjects) for step in result.flow]
    required = {
        "study": {"id": "x", "title": "X", "data_cutoff": "2022-06-30", "consent": {"policy": "required"}}
    }
    adsl = derived(**rows, study_file=study(**required)).datasets["ADSL"].set_index("USUBJID")
    assert dict(adsl["ANALFL"]) == {"S1": None, "S2": None, "S3": None, "S4": "Y"}


def test_analysis_sets() -> None:
    """Flags are Y among the analysed that satisfy the condition, else null."""
    sets = [
        {"id": "safety", "label": "Safety", "flag": "SAFFL"},
        {
            "id": "full",
            "label": "Evaluable",
            "flag": "EVALFL",
            "condition": {"variable": "NASSESS", "op": "ge", "value": 1},
        },
    ]
    rows = BASE | {
        "DM": [subject(), subject("S2"), subject("S3")],
        "EX": [dose("2021-01-02"), dose("2021-01-02", "S2")],
    }
    result = derived(**rows | {"TR": sums(("2021-03-05", 100.0))}, study_file=study(analysis_sets=sets))
    adsl = result.datasets["ADSL"].set_index("USUBJID")
    assert dict(adsl["SAFFL"]) == {"S1": "Y", "S2": "Y", "S3": None}
    assert dict(adsl["EVALFL"]) == {"S1": "Y", "S2": None, "S3": None}


def test_arm_and_status() -> None:
    """The arm's id by its value; an arm no one knows is a finding.

    The last disposition event is the status.
    """
    treatment = {
        "drugs": [{"id": "a", "label": "A", "concept": "drug-a"}],
        "arms": [{"id": "x", "label": "X", "value": "Arm X"}],
    }
    rows = {
        "DM": [subject(ACTARM="Arm X", SUBJSTAT="on-study"), subject("S2", ARM="Arm Z", SUBJSTAT="on-study")],
        "DS": [
            {"USUBJID": "S1", "DSCAT": "DISPOSITION EVENT", "DSDECOD": "COMPLETED", "DSSTDTC": "2021-02-01"},
            {"USUBJID": "S1", "DSCAT": "DISPOSITION EVENT", "DSDECOD": "ENROLLED", "DSSTDTC": "2021-01-01"},
        ],
    }
    result = derived(**rows, study_file=study(treatment=treatment))
    adsl = result.datasets["ADSL"]
    assert list(adsl["TRT01A"]) == ["x", None]
    assert list(adsl["EOSSTT"]) == ["COMPLETED", "on-study"]
    assert codes(result) == {"unknown-arm"}


def _characteristic(rows: dict[str, Any], *definitions: dict[str, Any]) -> tuple[list[Any], set[str]]:
    baseline = {"characteristics": [{"label": "x"} | definition for definition in definitions]}
    result = derived(**BASE | rows, study_file=study(baseline=baseline))
    return list(result.datasets["ADSL"][definitions[-1]["variable"]]), codes(result)


GRADES = [
    {"USUBJID": "S1", "SCTESTCD": "FNCLCC", "SCSTRESC": "3", "SCSTRESN": 3.0, "SCDTC": "2020-12-01"},
    {"USUBJID": "S1", "SCTESTCD": "FNCLCC", "SCSTRESC": "2", "SCSTRESN": 2.0, "SCDTC": "2020-12-20"},
    {"USUBJID": "S1", "SCTESTCD": "FNCLCC", "SCSTRESC": "1", "SCSTRESN": 1.0, "SCDTC": "2021-05-01"},
    {"USUBJID": "S1", "SCTESTCD": "ECOG", "SCSTRESC": "0", "SCSTRESN": 0.0, "SCDTC": "2021-05-01"},
]


def test_characteristics() -> None:
    """Which row is picked, by which date, and the level its value gets."""
    cases: list[tuple[dict[str, Any], object]] = [
        ({"pick": "first"}, "3"),
        ({"pick": "last"}, "1"),
        ({"pick": "last", "on_or_before": "first_dose"}, "2"),
        ({"pick": "worst"}, "3"),
        ({"pick": "all"}, "1;2;3"),
        ({"source": "SCSTRESN", "type": "number", "pick": "last"}, 1.0),
        ({"source": "SCSTRESN", "levels": [{"value": "low", "lt": 2}, {"value": "high", "ge": 2}]}, "low"),
        ({"pick": "first", "levels": [{"value": "high", "values": ["2", "3"]}, {"value": "1"}]}, "high"),
        ({"pick": "all", "levels": [{"value": "high", "values": ["2", "3"]}, {"value": "1"}]}, "high;1"),
        ({"pick": "worst", "levels": [{"value": "3"}, {"value": "2"}, {"value": "1"}]}, "1"),
    ]
    common = {"dataset": "SC", "source": "SCSTRESC", "where": {"variable": "SCTESTCD", "value": "FNCLCC"}}
    definitions = [
        {"variable": f"GRADE{n}", "label": "x"} | common | more for n, (more, _) in enumerate(cases)
    ]
    result = derived(**BASE | {"SC": GRADES}, study_file=study(baseline={"characteristics": definitions}))
    adsl = row(result.datasets["ADSL"])
    assert [adsl[f"GRADE{n}"] for n in range(len(cases))] == [expected for _, expected in cases]
    assert codes(result) == set()


def test_a_value_without_a_level_is_kept_and_found() -> None:
    """The raw value stays visible."""
    definition = {
        "variable": "GRADE",
        "dataset": "SC",
        "source": "SCSTRESC",
        "pick": "first",
        "levels": [{"value": "1"}],
    }
    assert _characteristic({"SC": GRADES[:1]}, definition) == (["3"], {"unmapped-level"})


def test_flag_characteristic_and_one_made_of_another() -> None:
    """A flag is Y or N; a later characteristic may read an earlier one from ADSL."""
    rows = {
        "DM": [subject(), subject("S2")],
        "PR": [
            {"USUBJID": "S1", "PRCAT": "SURGERY", "PRSTDTC": "2020-01"},
            {"USUBJID": "S2", "PRCAT": "SURGERY", "PRSTDTC": "2021-06-01"},
        ],
        "EX": [dose("2021-01-02"), dose("2021-01-02", "S2")],
    }
    surgery = {
        "variable": "PRIORSURG",
        "dataset": "PR",
        "where": {"variable": "PRCAT", "value": "SURGERY"},
        "pick": "any",
        "type": "flag",
        "on_or_before": "first_dose",
    }
    assert _characteristic(rows, surgery)[0] == ["Y", "N"]
    group = {
        "variable": "SURGGR",
        "source": "PRIORSURG",
        "levels": [{"value": "operated", "values": ["Y"]}, {"value": "not", "values": ["N"]}],
    }
    assert _characteristic(rows, surgery, group)[0] == ["operated", "not"]


def test_an_undated_row_is_not_before_the_start() -> None:
    """A row without a date cannot be placed: it does not count and is a finding."""
    rows = {"PR": [{"USUBJID": "S1", "PRCAT": "SURGERY"}]}
    definition = {"variable": "OPER", "dataset": "PR", "type": "flag", "on_or_before": "baseline"}
    assert _characteristic(rows | {"TR": sums()}, definition) == (["N"], {"undated-characteristic"})


@pytest.mark.parametrize(
    "definition",
    [
        {"variable": "X1", "dataset": "ZZ", "source": "A"},
        {"variable": "X1", "dataset": "SC"},
        {"variable": "X1", "dataset": "SC", "source": "NOTHERE"},
        {"variable": "CYCLES", "dataset": "SC", "source": "SCSTRESC"},
    ],
)
def test_a_characteristic_that_cannot_be(definition: dict[str, Any]) -> None:
    """A dataset or variable that is not there, or a name that ADSL computes.

    Is an error of the study file.
    """
    with pytest.raises(StudyFileError, match=definition["variable"]):
        _characteristic({}, definition)
