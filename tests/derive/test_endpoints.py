"""Time to event.

Every kind of endpoint and every setting, with the reason and the source record of each row.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from derive_frames import codes, day, derived, dose, lesion, row, size, study, subject, sums

from fhir_adapter.errors import StudyFileError

Case = dict[str, Any]


def _rows(cases: dict[str, Case]) -> dict[str, list[dict[str, Any]]]:
    """Subjects with a baseline sum of 100 mm on 2021-01-01 and a first dose on 2021-01-02."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("DM", "EX", "TU", "TR", "CM", "SV", "DS")}
    for name, case in cases.items():
        rows["DM"].append(subject(name, RANDDTC="2020-12-30", **case.get("dm", {})))
        rows["EX"] += [dose("2021-01-02", name), *(dose(at, name) for at in case.get("doses", ()))]
        rows["TU"] += [lesion("T1", usubjid=name), lesion("T2", usubjid=name)]
        rows["TR"] += sums(*case.get("sums", ()), usubjid=name)
        rows["CM"] += [
            {"USUBJID": name, "CMCAT": "ANTICANCER", "CMTRT": "x", "CMSTDTC": at} for at in case.get("cm", ())
        ]
        rows["SV"] += [{"USUBJID": name, "SVCAT": "ENCOUNTER", "SVSTDTC": at} for at in case.get("sv", ())]
        rows["DS"] += [
            {"USUBJID": name, "DSCAT": "DISPOSITION EVENT", "DSDECOD": "COMPLETED", "DSSTDTC": at}
            for at in case.get("ds", ())
        ]
    return rows


def _endpoint(kind: str, **settings: Any) -> dict[str, Any]:
    return {"endpoints": [{"id": kind, "label": kind, "kind": kind} | settings]}


def _derive(cases: dict[str, Case], kind: str, **settings: Any) -> pd.DataFrame:
    result = derived(**_rows(cases), study_file=study(**_endpoint(kind, **settings)))
    return result.datasets["ADTTE"]


def _short(table: pd.DataFrame) -> dict[str, tuple[Any, ...]]:
    """USUBJID → (date, days, CNSR, reason, source dataset)."""
    return {
        r["USUBJID"]: (day(r["ADT"]), r["AVAL"], r["CNSR"], r["EVNTDESC"] or r["CNSDTDSC"], r["SRCDOM"])
        for _, r in table.iterrows()
    }


PFS_CASES: dict[str, Case] = {
    "PD": {"sums": [("2021-03-05", 100.0), ("2021-05-05", 130.0), ("2021-07-05", 60.0)]},
    "PD-BEFORE-DEATH": {"sums": [("2021-03-05", 130.0)], "dm": {"DTHDTC": "2021-03-20"}},
    "PD-ON-DEATH": {"sums": [("2021-03-05", 130.0)], "dm": {"DTHDTC": "2021-03-05"}},
    "DEATH": {"sums": [("2021-03-05", 100.0)], "dm": {"DTHDTC": "2021-04-01"}},
    "CENSORED": {"sums": [("2021-03-05", 100.0), ("2021-05-05", None)], "sv": ["2021-06-01"]},
    "NO-SCAN": {"sv": ["2021-06-01"]},
    "NO-SCAN-DEATH": {"dm": {"DTHDTC": "2021-02-01"}},
    "DEATH-UNDATED": {"sums": [("2021-03-05", 100.0)], "dm": {"DTHFL": "Y"}},
    "ONLY-NE": {"sums": [("2021-03-05", None)]},
}


def test_pfs() -> None:
    """First PD or death; else the last adequate assessment (NE is none); without one, the start."""
    assert _short(_derive(PFS_CASES, "PFS")) == {
        "PD": ("2021-05-05", 124, 0, "Progressive disease", "ADRS"),
        "PD-BEFORE-DEATH": ("2021-03-05", 63, 0, "Progressive disease", "ADRS"),
        "PD-ON-DEATH": ("2021-03-05", 63, 0, "Progressive disease", "ADRS"),
        "DEATH": ("2021-04-01", 90, 0, "Death", "DM"),
        "CENSORED": ("2021-03-05", 63, 1, "Last adequate assessment", "ADRS"),
        "NO-SCAN": ("2021-01-01", 0, 4, "No assessment after the start", "ADSL"),
        "NO-SCAN-DEATH": ("2021-02-01", 31, 0, "Death", "DM"),
        "DEATH-UNDATED": ("2021-03-05", 63, 1, "Last adequate assessment", "ADRS"),
        "ONLY-NE": ("2021-01-01", 0, 4, "No assessment after the start", "ADSL"),
    }


def test_pfs_censored_at_last_contact() -> None:
    """`censor_at: last_contact` moves the censored ones alone; who was never assessed stays at the start."""
    found = _short(_derive(PFS_CASES, "PFS", censor_at="last_contact"))
    assert found["CENSORED"] == ("2021-06-01", 151, 1, "Alive at last contact", "SV")
    assert found["NO-SCAN"] == ("2021-01-01", 0, 4, "No assessment after the start", "ADSL")
    assert found["ONLY-NE"][3] == "Alive at last contact"
    assert found["DEATH-UNDATED"] == ("2021-03-05", 63, 1, "Death without a date: last contact", "TR")
    assert found["PD"] == ("2021-05-05", 124, 0, "Progressive disease", "ADRS")


@pytest.mark.parametrize(
    ("settings", "start", "days"),
    [
        ({}, "2021-01-01", 124),
        ({"start": "first_dose"}, "2021-01-02", 123),
        ({"start": "randomisation"}, "2020-12-30", 126),
        ({"count_first_day": True}, "2021-01-01", 125),
    ],
)
def test_start_and_first_day(settings: dict[str, Any], start: str, days: int) -> None:
    """Each start, and CDISC's count that adds one day."""
    # The baseline of a study that counts from the randomisation ends on it.
    rows = _rows({"S1": {"sums": [("2021-05-05", 130.0)]}})
    if settings.get("start") == "randomisation":
        rows["TR"] = [r | {"TRDTC": r["TRDTC"].replace("2021-01-01", "2020-12-29")} for r in rows["TR"]]
    table = derived(**rows, study_file=study(**_endpoint("PFS", **settings))).datasets["ADTTE"]
    found = row(table)
    assert (day(found["STARTDT"]), found["AVAL"], found["CNSR"]) == (start, days, 0)


def test_os() -> None:
    """Death; else last contact; a death without its day is censored there and is a finding."""
    result = derived(**_rows(PFS_CASES), study_file=study(**_endpoint("OS")))
    found = _short(result.datasets["ADTTE"])
    assert found["DEATH"] == ("2021-04-01", 90, 0, "Death", "DM")
    assert found["CENSORED"] == ("2021-06-01", 151, 1, "Alive at last contact", "SV")
    assert found["DEATH-UNDATED"] == ("2021-03-05", 63, 1, "Death without a date: last contact", "TR")
    assert [f.usubjid for f in result.findings if f.code == "death-without-date"] == ["DEATH-UNDATED"]


NEW_THERAPY: dict[str, Case] = {
    "BEFORE-PD": {"sums": [("2021-03-05", 100.0), ("2021-05-05", 130.0)], "cm": ["2021-04-01"]},
    "AFTER-PD": {"sums": [("2021-03-05", 130.0)], "cm": ["2021-04-01"]},
    "ON-PD": {"sums": [("2021-02-05", 100.0), ("2021-03-05", 130.0)], "cm": ["2021-03-05"]},
    "NO-PD": {"sums": [("2021-03-05", 100.0), ("2021-05-05", 100.0)], "cm": ["2021-04-01"]},
    "NO-SCAN-BEFORE": {"sums": [("2021-03-05", 130.0)], "cm": ["2021-02-01"]},
    "BEFORE-FIRST-DOSE": {"sums": [("2021-03-05", 130.0)], "cm": ["2020-06-01"]},
}


def test_censored_by_new_therapy() -> None:
    """Off by default.

    With it, the last adequate assessment before the therapy censors what comes on or after it.
    """
    assert _short(_derive(NEW_THERAPY, "PFS"))["BEFORE-PD"][:3] == ("2021-05-05", 124, 0)
    text = "Last adequate assessment before new anti-cancer therapy"
    assert _short(_derive(NEW_THERAPY, "PFS", censor_new_therapy=True)) == {
        "BEFORE-PD": ("2021-03-05", 63, 2, text, "ADRS"),
        "AFTER-PD": ("2021-03-05", 63, 0, "Progressive disease", "ADRS"),
        "ON-PD": ("2021-02-05", 35, 2, text, "ADRS"),
        "NO-PD": ("2021-03-05", 63, 2, text, "ADRS"),
        "NO-SCAN-BEFORE": ("2021-01-01", 0, 2, text, "ADSL"),
        "BEFORE-FIRST-DOSE": ("2021-03-05", 63, 0, "Progressive disease", "ADRS"),
    }


def test_new_therapy_is_an_event_of_efs() -> None:
    """EFS: PD, death or new anti-cancer therapy, whichever is first."""
    found = _short(_derive(NEW_THERAPY, "EFS"))
    assert found["BEFORE-PD"] == ("2021-04-01", 90, 0, "New anti-cancer therapy", "CM")
    assert found["ON-PD"] == ("2021-03-05", 63, 0, "Progressive disease", "ADRS")
    assert found["NO-PD"] == ("2021-04-01", 90, 0, "New anti-cancer therapy", "CM")


def test_missed_assessments() -> None:
    """More than 2 x 63 + 14 = 140 days after the last adequate assessment (or the start) is censored there.

    Ore than 2 x 63 + 14 = 140 days after the last adequate assessment (or the start) is censored there.
    """
    cases: dict[str, Case] = {
        # 2021-03-05 + 140 days is 2021-07-23.
        "EXACTLY": {"sums": [("2021-03-05", 100.0), ("2021-07-23", 130.0)]},
        "ONE-MORE": {"sums": [("2021-03-05", 100.0), ("2021-07-24", 130.0)]},
        "NE-BETWEEN": {"sums": [("2021-03-05", 100.0), ("2021-05-05", None), ("2021-07-24", 130.0)]},
        "DEATH": {"sums": [("2021-03-05", 100.0)], "dm": {"DTHDTC": "2021-07-24"}},
        "NEVER": {"dm": {"DTHDTC": "2021-07-24"}},
        "SCAN-ON-DEATH": {"sums": [("2021-07-24", 100.0)], "dm": {"DTHDTC": "2021-07-24"}},
        "CENSORED": {"sums": [("2021-09-24", 100.0)]},
    }
    assert _short(_derive(cases, "PFS"))["ONE-MORE"][2] == 0
    text = "Assessments missed before the event"
    assert _short(_derive(cases, "PFS", censor_missed_assessments=True)) == {
        "EXACTLY": ("2021-07-23", 203, 0, "Progressive disease", "ADRS"),
        "ONE-MORE": ("2021-03-05", 63, 3, text, "ADRS"),
        "NE-BETWEEN": ("2021-03-05", 63, 3, text, "ADRS"),
        "DEATH": ("2021-03-05", 63, 3, text, "ADRS"),
        "NEVER": ("2021-01-01", 0, 3, text, "ADSL"),
        "SCAN-ON-DEATH": ("2021-07-24", 204, 0, "Death", "DM"),
        "CENSORED": ("2021-09-24", 266, 1, "Last adequate assessment", "ADRS"),
    }


RESPONDERS: dict[str, Case] = {
    # PR that the next scan 61 days later confirms.
    "CONFIRMED": {"sums": [("2021-03-05", 60.0), ("2021-05-05", 60.0), ("2021-07-05", 90.0)]},
    # PR at one scan alone.
    "ONCE": {"sums": [("2021-03-05", 60.0)], "sv": ["2021-04-01"]},
    "DEATH": {"sums": [("2021-03-05", 60.0), ("2021-05-05", 60.0)], "dm": {"DTHDTC": "2021-06-01"}},
    "NONE": {"sums": [("2021-03-05", 100.0)]},
}


def test_duration_of_response() -> None:
    """Responders alone, from the first response; without a later assessment it is censored on its own day."""
    table = _derive(RESPONDERS, "DOR")
    assert _short(table) == {
        "CONFIRMED": ("2021-07-05", 122, 0, "Progressive disease", "ADRS"),
        "ONCE": ("2021-03-05", 0, 1, "Last adequate assessment", "ADRS"),
        "DEATH": ("2021-06-01", 88, 0, "Death", "DM"),
    }
    assert {day(value) for value in table["STARTDT"]} == {"2021-03-05"}


def test_duration_of_confirmed_response() -> None:
    """`response: confirmed` starts at the response that was confirmed, and leaves out the others."""
    assert set(_short(_derive(RESPONDERS, "DOR", response="confirmed"))) == {"CONFIRMED", "DEATH"}


def test_time_to_response() -> None:
    """Responders, from the start to the first response; every row is an event."""
    assert _short(_derive(RESPONDERS, "TTR")) == dict.fromkeys(
        ("CONFIRMED", "ONCE", "DEATH"), ("2021-03-05", 63, 0, "Response", "ADRS")
    )


def test_time_on_treatment() -> None:
    """To the last dose: ended by death, disposition, new therapy or more than a cycle without a dose.

    Else censored.
    """
    cases: dict[str, Case] = {
        "ONGOING": {"doses": ["2021-03-01"], "sv": ["2021-03-20"]},
        "LEFT": {"doses": ["2021-03-01"], "sv": ["2021-03-23"]},
        "DEATH": {"doses": ["2021-03-01"], "dm": {"DTHDTC": "2021-03-05"}},
        "DISPOSED": {"doses": ["2021-03-01"], "ds": ["2021-03-02"]},
        "NEW": {"doses": ["2021-03-01"], "cm": ["2021-03-04"]},
    }
    found = _short(_derive(cases, "TOT", start="first_dose"))
    assert found.pop("ONGOING") == ("2021-03-01", 58, 1, "On treatment at last contact", "EX")
    assert set(found.values()) == {("2021-03-01", 58, 0, "End of treatment", "EX")}
    assert len(found) == 4


def test_sensitivity_analyses_are_endpoints_of_their_own() -> None:
    """Changes override the endpoint's settings; the parameter has the analysis' id."""
    settings = _endpoint("PFS") | {
        "sensitivity": [
            {
                "id": "last-contact",
                "label": "At last contact",
                "endpoint": "PFS",
                "changes": {"censor_at": "last_contact"},
            }
        ]
    }
    table = derived(**_rows({"S1": PFS_CASES["CENSORED"]}), study_file=study(**settings)).datasets["ADTTE"]
    found = {r["PARAMCD"]: (r["AVAL"], r["PARAM"]) for _, r in table.iterrows()}
    assert found == {"PFS": (63, "PFS"), "PFS_LAST_CONTACT": (151, "At last contact")}


@pytest.mark.parametrize("changes", [{"censor_when": "x"}, {"censor_at": "never"}, {"kind": "OS"}])
def test_a_sensitivity_analysis_that_cannot_be(changes: dict[str, str]) -> None:
    """An unknown setting, or a value it cannot have, is an error that names the analysis."""
    settings = _endpoint("PFS") | {
        "sensitivity": [{"id": "s1", "label": "S", "endpoint": "PFS", "changes": changes}]
    }
    with pytest.raises(StudyFileError, match=r"sensitivity\.s1\.changes"):
        derived(**_rows({"S1": {}}), study_file=study(**settings))


def test_responses_by_the_evaluator() -> None:
    """With an evaluator, recorded responses count; the computed ones stand beside them."""
    rows = _rows({"S1": {"sums": [("2021-03-05", 100.0), ("2021-05-05", 100.0)]}})
    recorded = [("2021-03-06", "SD"), ("2021-05-04", "PD"), ("2021-01-01", "SD")]
    rows["RS"] = [
        {"USUBJID": "S1", "RSEVAL": "INVESTIGATOR", "RSSTRESC": value, "RSDTC": at} for at, value in recorded
    ]
    by_investigator = study(response={"evaluator": "INVESTIGATOR"}, **_endpoint("PFS"))
    result = derived(**rows, study_file=by_investigator)
    adrs = result.datasets["ADRS"]
    assert list(adrs.query("PARAMCD == 'OVR'")["AVALC"]) == ["SD", "PD"]
    assert list(adrs.query("PARAMCD == 'COMP'")["AVALC"]) == ["SD", "SD"]
    assert row(adrs, PARAMCD="BOR")["AVALC"] == "SD"
    assert _short(result.datasets["ADTTE"])["S1"] == ("2021-05-04", 123, 0, "Progressive disease", "ADRS")
    computed = derived(**rows, study_file=study(**_endpoint("PFS")))
    adrs = computed.datasets["ADRS"]
    investigator = adrs.query("PARAMCD == 'INV'")
    assert list(investigator["VISIT"]) == list(adrs.query("PARAMCD == 'OVR'")["VISIT"])
    assert _short(computed.datasets["ADTTE"])["S1"][2] == 1


def test_source_records() -> None:
    """SRCSEQ is the row of the dataset that decided."""
    rows = _rows({"S1": PFS_CASES["PD"]})
    result = derived(**rows)
    found = row(result.datasets["ADTTE"], PARAMCD="PFS")
    source = row(result.datasets["ADRS"], ASEQ=found["SRCSEQ"])
    assert (source["PARAMCD"], source["AVALC"], source["ADT"]) == ("OVR", "PD", found["ADT"])
    assert codes(result) == set()


def test_visits_after_progression_change_nothing() -> None:
    """Scans after the first PD leave the endpoints and the best response alone."""
    before = derived(**_rows({"S1": {"sums": [("2021-03-05", 60.0), ("2021-05-05", 130.0)]}}))
    after = derived(
        **_rows({"S1": {"sums": [("2021-03-05", 60.0), ("2021-05-05", 130.0), ("2021-07-05", 0.0)]}})
    )
    columns = ["PARAMCD", "ADT", "AVAL", "CNSR"]
    pfs = [r.datasets["ADTTE"].query("PARAMCD == 'PFS'")[columns] for r in (before, after)]
    pd.testing.assert_frame_equal(pfs[0], pfs[1])
    adsl = [row(r.datasets["ADSL"]) for r in (before, after)]
    assert adsl[0]["BOR"] == adsl[1]["BOR"] == "PR"
    assert adsl[0]["BESTPCHG"] == adsl[1]["BESTPCHG"] == -40.0


def test_one_subject_with_one_lesion() -> None:
    """A subject without any dose has no start and no endpoint."""
    rows = {"DM": [subject()], "TU": [lesion("T1")], "TR": [size("T1", "2021-01-01", 10.0)]}
    result = derived(**rows)
    assert result.datasets["ADTTE"].empty
    assert [(step.id, step.n_subjects) for step in result.flow] == [
        ("candidates", 1),
        ("treated", 0),
        ("analysed", 0),
    ]


def _with_readers() -> dict[str, list[dict[str, Any]]]:
    """The measurements are stable; the investigator sees PR then PD, a reader CR and PD a visit later."""
    rows = _rows({"S1": {"sums": [("2021-03-05", 100.0), ("2021-05-05", 100.0), ("2021-07-05", 100.0)]}})
    recorded = {
        "INVESTIGATOR": [("2021-03-05", "PR"), ("2021-05-05", "PD"), ("2021-07-05", "PD")],
        "READER 1": [("2021-03-05", "SD"), ("2021-05-05", "CR"), ("2021-07-05", "PD")],
    }
    rows["RS"] = [
        {"USUBJID": "S1", "RSEVAL": name, "RSSTRESC": value, "RSDTC": at}
        for name, values in recorded.items()
        for at, value in values
    ]
    return rows


@pytest.mark.parametrize(
    ("evaluator", "pfs", "dor"),
    [
        (None, ("2021-07-05", 185, 1, "Last adequate assessment", "ADRS"), None),
        ("COMPUTED", ("2021-07-05", 185, 1, "Last adequate assessment", "ADRS"), None),
        ("INVESTIGATOR", ("2021-05-05", 124, 0, "Progressive disease", "ADRS"), ("2021-03-05", 61)),
        ("READER 1", ("2021-07-05", 185, 0, "Progressive disease", "ADRS"), ("2021-05-05", 61)),
    ],
)
def test_an_endpoint_of_another_evaluator(
    evaluator: str | None, pfs: tuple[Any, ...], dor: tuple[str, int] | None
) -> None:
    """Progression and response of the evaluator whom the endpoint names, beside those of the study."""
    settings = {
        "endpoints": [
            {"id": kind, "label": kind, "kind": kind, "evaluator": evaluator} for kind in ("PFS", "DOR")
        ]
    }
    result = derived(**_with_readers(), study_file=study(**settings))
    table = result.datasets["ADTTE"]
    assert _short(table[table["PARAMCD"] == "PFS"])["S1"] == pfs
    own = table[table["PARAMCD"] == "DOR"]
    assert [(day(r["STARTDT"]), r["AVAL"]) for _, r in own.iterrows()] == ([] if dor is None else [dor])
    assert "evaluator-without-responses" not in codes(result)


def test_an_evaluator_without_responses_is_a_finding() -> None:
    """Nobody progressed in the eyes of somebody who never looked."""
    result = derived(**_with_readers(), study_file=study(**_endpoint("PFS", evaluator="READER 7")))
    assert "evaluator-without-responses" in codes(result)
    assert _short(result.datasets["ADTTE"])["S1"][2] == 4


def test_new_therapy_is_an_event_of_efs_whatever_was_missed() -> None:
    """The rule on missed assessments looks at progression and death alone."""
    cases: dict[str, Case] = {"S1": {"sums": [("2021-03-05", 100.0)], "cm": ["2021-12-01"]}}
    found = _short(_derive(cases, "EFS", censor_missed_assessments=True))
    assert found["S1"] == ("2021-12-01", 334, 0, "New anti-cancer therapy", "CM")


def test_time_on_treatment_starts_with_the_first_dose() -> None:
    """Unless the study says otherwise."""
    table = _derive({"S1": {"doses": ["2021-03-01"]}}, "TOT")
    assert (day(row(table)["STARTDT"]), row(table)["AVAL"]) == ("2021-01-02", 58)


def test_an_imputed_death_is_flagged() -> None:
    """ADTF says that the day was imputed; other rows have none."""
    cases: dict[str, Case] = {"S1": {"dm": {"DTHDTC": "2021-04"}}, "S2": {"dm": {"DTHDTC": "2021-04-02"}}}
    settings = _endpoint("OS") | {"imputation": {"death": "middle"}}
    table = derived(**_rows(cases), study_file=study(**settings)).datasets["ADTTE"]
    found = {r["USUBJID"]: (day(r["ADT"]), r["ADTF"]) for _, r in table.iterrows()}
    assert found == {"S1": ("2021-04-15", "D"), "S2": ("2021-04-02", None)}


def test_impossible_sequences_are_findings() -> None:
    """Each contradiction is named; nothing is moved for it."""
    rows = _rows(
        {
            "DEAD-FIRST": {"dm": {"DTHDTC": "2021-01-01"}},
            "LATE": {"dm": {"DTHDTC": "2021-02-01"}, "cm": ["2021-03-01"]},
            "UNBORN": {"dm": {"BRTHDTC": "2021-06-01"}},
        }
    )
    rows["DM"][1] |= {"RANDDTC": "2021-02-02"}
    rows["RS"] = [{"USUBJID": "LATE", "RSEVAL": "INVESTIGATOR", "RSSTRESC": "PD", "RSDTC": "2021-03-01"}]
    rows["PR"] = [{"USUBJID": "UNBORN", "PRTRT": "x", "PRSTDTC": "2021-02-01"}]
    found = {(item.code, item.usubjid) for item in derived(**rows).findings}
    for expected in (
        ("death-before-first-dose", "DEAD-FIRST"),
        ("dose-after-death", "DEAD-FIRST"),
        ("dose-before-randomisation", "LATE"),
        ("randomisation-after-death", "LATE"),
        ("response-after-death", "LATE"),
        ("medication-after-death", "LATE"),
        ("procedure-before-birth", "UNBORN"),
        ("dose-before-birth", "UNBORN"),
        ("scan-before-birth", "UNBORN"),
        ("randomisation-before-birth", "UNBORN"),
    ):
        assert expected in found


def test_the_date_of_randomisation() -> None:
    """A partial one, and one after the cut-off, start nothing and are findings; so is its absence."""
    rows = _rows({"PARTIAL": {}, "LATER": {}, "GOOD": {}, "NONE": {}})
    for own, value in zip(rows["DM"], ("2020-12", "2022-07-01", "2020-12-30", None), strict=True):
        own["RANDDTC"] = value
    result = derived(**rows, study_file=study(**_endpoint("OS", start="randomisation")))
    assert list(result.datasets["ADTTE"]["USUBJID"]) == ["GOOD"]
    found = {(item.code, item.usubjid) for item in result.findings}
    assert {
        ("partial-randomisation-date", "PARTIAL"),
        ("randomised-after-cut-off", "LATER"),
        ("not-randomised", "NONE"),
    } <= found
