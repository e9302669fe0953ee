"""ADAE and ADEX."""

from __future__ import annotations

from typing import Any

import pytest
from derive_frames import codes, day, derived, dose, study, subject


def _events(*events: dict[str, Any], **settings: Any) -> tuple[list[dict[str, Any]], set[str]]:
    """First dose 2021-01-10, last dose 2021-03-10."""
    rows = {
        "DM": [subject()],
        "EX": [dose("2021-01-10"), dose("2021-03-10")],
        "AE": [
            {"USUBJID": "S1", "AETERM": "x", "AEDECOD": f"Term {n}"} | event for n, event in enumerate(events)
        ],
    }
    result = derived(**rows, study_file=study(**settings))
    return result.datasets["ADAE"].to_dict("records"), codes(result)


def test_treatment_emergent() -> None:
    """From first dose to 30 days after the last; not known to the day: unless what is known excludes it."""
    cases = [
        ("2021-01-09", None, None),
        ("2021-01-10", None, "Y"),
        ("2021-04-09", None, "Y"),
        ("2021-04-10", None, None),
        ("2021-02", None, "Y"),
        ("2020-12", None, None),
        ("2021-01", "2021-01-05", None),
        ("2021-05", None, None),
        (None, None, "Y"),
    ]
    events = [{"AESTDTC": start, "AEENDTC": end, "AETERM": str(n)} for n, (start, end, _) in enumerate(cases)]
    found, findings = _events(*events)
    assert {r["AETERM"]: r["TRTEMFL"] for r in found} == {str(n): case[2] for n, case in enumerate(cases)}
    assert findings == {"event-without-date"}


@pytest.mark.parametrize(
    ("written", "rule", "expected", "flag"),
    [
        ("2021-01", "first", "2021-01-10", "D"),
        ("2021-02", "first", "2021-02-01", "D"),
        ("2021-02", "middle", "2021-02-15", "D"),
        ("2020", "last", "2020-12-31", "M"),
        ("2021-02", "none", None, None),
    ],
)
def test_imputed_start(written: str, rule: str, expected: str | None, flag: str | None) -> None:
    """A partial start is imputed by the study's rule; in the month of the first dose not before it."""
    found, _ = _events({"AESTDTC": written}, imputation={"ae_start": rule})
    assert (day(found[0]["ASTDT"]), found[0]["ASTDTF"]) == (expected, flag)


def test_related() -> None:
    """At least possible by the study's list; absent or unknown causality is unknown, not unrelated."""
    expected = {
        "POSSIBLE": "Y",
        "related": "Y",
        "UNLIKELY": "N",
        "NOT RELATED": "N",
        None: None,
        "UNKNOWN": None,
    }
    events = [{"AESTDTC": "2021-02-01", "AEREL": value, "AETERM": str(value)} for value in expected]
    found, _ = _events(*events)
    assert {r["AETERM"]: r["AREL"] for r in found} == {str(value): flag for value, flag in expected.items()}


def test_one_record_per_term_at_the_worst_grade() -> None:
    """AOCC03FL marks the first record at the worst grade of a term among related, emergent events."""
    common = {"AEDECOD": "Fatigue", "AEREL": "POSSIBLE"}
    found, _ = _events(
        common | {"AETOXGR": 2, "AESTDTC": "2021-01-20"},
        common | {"AETOXGR": 3, "AESTDTC": "2021-02-20"},
        common | {"AETOXGR": 3, "AESTDTC": "2021-02-10"},
        common | {"AETOXGR": 4, "AESTDTC": "2021-02-12", "AEREL": "NOT RELATED"},
        common | {"AETOXGR": 4, "AESTDTC": "2020-02-12"},
        common | {"AEDECOD": "Nausea", "AESTDTC": "2021-02-12"},
    )
    marked = [(r["AEDECOD"], day(r["ASTDT"])) for r in found if r["AOCC03FL"] == "Y"]
    assert marked == [("Fatigue", "2021-02-10"), ("Nausea", "2021-02-12")]


def _exposure(*rows: dict[str, Any], **settings: Any) -> dict[tuple[str | None, str], Any]:
    """(drug, parameter) → value."""
    result = derived(DM=[subject()], EX=list(rows), study_file=study(**settings))
    table = result.datasets["ADEX"]
    return {
        (r["EXTRT"], r["PARAMCD"]): r["AVALC"] if r["AVALC"] is not None else r["AVAL"]
        for r in table.to_dict("records")
    }


def test_cycles() -> None:
    """A cycle begins with the first dose at least three quarters of its length after the one before began."""
    cases = {
        "EVERY-21": (["2021-01-01", "2021-01-22", "2021-02-12"], 3),
        "DELAYED-AND-EARLY": (["2021-01-01", "2021-02-05", "2021-02-24"], 3),
        "DAYS-1-8-15": (
            ["2021-01-01", "2021-01-08", "2021-01-15", "2021-01-22", "2021-01-29", "2021-02-05"],
            2,
        ),
        # Tablets on fourteen days of 21, each day recorded.
        "DAILY": ([f"2021-01-{n:02d}" for n in range(1, 15)] + [f"2021-01-{n}" for n in range(22, 32)], 2),
        "TWICE-A-DAY": (["2021-01-01", "2021-01-01"], 1),
    }
    result = derived(
        DM=[subject(name) for name in cases],
        EX=[dose(at, name) for name, (doses, _) in cases.items() for at in doses],
    )
    expected = {name: cycles for name, (_, cycles) in cases.items()}
    assert dict(result.datasets["ADSL"].set_index("USUBJID")["CYCLES"]) == expected
    by_drug = result.datasets["ADEX"].query("PARAMCD == 'CYCLES' and EXTRT == 'drug-a'")
    assert dict(by_drug.set_index("USUBJID")["AVAL"]) == expected


def test_one_long_record_holds_several_cycles() -> None:
    """A record over 63 days is three cycles of 21."""
    assert _exposure(dose("2021-01-01", EXENDTC="2021-03-05"))[None, "CYCLES"] == 3
    assert _exposure(dose("2021-01-01", EXENDTC="2021-01-14"))[None, "CYCLES"] == 1


TWO_DRUGS = {
    "treatment": {
        "drugs": [
            {"id": "a", "label": "A", "concept": "drug-a"},
            {"id": "b", "label": "B", "concept": "drug-b"},
        ],
        "cycles_from": "b",
    }
}


def test_exposure_by_drug() -> None:
    """Reductions, interruptions, missed and stopped administrations, by drug and over all drugs."""
    found = _exposure(
        dose("2021-01-01", EXDOSE=12.0),
        dose("2021-01-22", EXDOSE=10.0),
        dose("2021-02-12", EXDOSE=10.0),
        dose("2021-03-05", EXDOSE=8.0),
        dose("2021-03-26", EXOCCUR="H"),
        dose("2021-04-16", EXOCCUR="N"),
        dose("2021-01-01", EXTRT="drug-b", EXDOSE=200.0),
        dose(
            "2021-01-22",
            EXTRT="drug-b",
            EXOCCUR="S",
            EXREASND="Hypophysitis",
            EXAEREF="AdverseEvent/1",
            EXDOSE=None,
        ),
        dose("2021-01-01", EXTRT="drug-z"),
        **TWO_DRUGS,
    )
    assert {name: value for (drug, name), value in found.items() if drug == "drug-a"} == {
        "CYCLES": 4,
        "DOSES": 4,
        "TDOSE": 40.0,
        "REDUCT": 2,
        "REDUCTAE": 0,
        "INTERR": 1,
        "INTERRAE": 0,
        "MISSED": 1,
        "MISSEDAE": 0,
        "STOPFL": "N",
        "STOPAE": "N",
        "DURD": 64,
    }
    assert {name: value for (drug, name), value in found.items() if drug == "drug-b"} == {
        "CYCLES": 2,
        "DOSES": 2,
        "TDOSE": 200.0,
        "REDUCT": 0,
        "REDUCTAE": 0,
        "INTERR": 0,
        "INTERRAE": 0,
        "MISSED": 0,
        "MISSEDAE": 0,
        "STOPFL": "Y",
        "STOPAE": "Y",
        "STOPRSN": "Hypophysitis",
        "DURD": 22,
    }
    # Cycles are those of the drug that the study names; a dose over different drugs says nothing.
    assert (found[None, "CYCLES"], found[None, "REDUCT"], (None, "TDOSE") in found) == (2, 2, False)


def test_a_missed_dose_is_no_treatment() -> None:
    """Who only has missed or held administrations was not treated."""
    result = derived(DM=[subject()], EX=[dose("2021-01-01", EXOCCUR="N"), dose("2021-01-22", EXOCCUR="H")])
    assert [step.n_subjects for step in result.flow] == [1, 0, 0]
    assert result.datasets["ADSL"]["CYCLES"].tolist() == [0]


def test_a_drug_that_the_study_does_not_name() -> None:
    """Its administrations are a finding and no treatment."""
    result = derived(DM=[subject()], EX=[dose("2021-01-01", EXTRT="drug-z")])
    assert codes(result) == {"not-a-study-drug"}
    assert [step.n_subjects for step in result.flow] == [1, 0, 0]
