"""Doses against the plan: units, body size, cycles, intensity, reductions; each number counted by hand."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from derive_frames import derived, dose, study, subject

from fhir_adapter.derive.doses import body_surface, dose_factor

PLAN = {"id": "a", "label": "A", "concept": "drug-a", "dose": 12, "unit": "mg", "days": [1]}


def found(
    *rows: dict[str, Any], sc: list[dict[str, Any]] | None = None, treatment: Any = None, **plan: Any
) -> dict[str, Any]:
    """Parameter of drug A → value, or the reason why there is none."""
    settings = {"drugs": [PLAN | plan]} | (treatment or {})
    result = derived(DM=[subject()], EX=list(rows), SC=sc or [], study_file=study(treatment=settings))
    table = result.datasets["ADEX"]
    return {
        r["PARAMCD"]: r["REASND"] if pd.isna(r["AVAL"]) else r["AVAL"]
        for r in table[table["EXTRT"] == "drug-a"].to_dict("records")
    }


def size(code: str, value: float, day: str = "2020-12-20") -> dict[str, Any]:
    """A row of SC."""
    return {"USUBJID": "S1", "SCTESTCD": code, "SCSTRESC": str(value), "SCSTRESN": value, "SCDTC": day}


@pytest.mark.parametrize(
    ("unit", "planned", "factor", "body"),
    [
        ("mg", "mg", 1.0, ""),
        ("g", "mg", 1000.0, ""),
        ("ug", "mg", 0.001, ""),
        ("mg", "g/m2", 0.001, "/m2"),
        ("mg/kg", "mg", 1.0, "*kg"),
        ("mg/m2", "mg/m2", 1.0, ""),
        ("[iU]", "[iU]", 1.0, ""),
        ("mL", "mg", None, ""),
        ("mg/kg", "mg/m2", None, ""),
        (None, "mg", None, ""),
        ("mg", "", None, ""),
    ],
)
def test_units(unit: str | None, planned: str, factor: float | None, body: str) -> None:
    """UCUM masses convert, body size divides or multiplies, and anything else has its reason."""
    got, size_, reason = dose_factor(unit, planned)
    assert (got, size_, bool(reason)) == (
        factor if factor is None else pytest.approx(factor),
        body,
        factor is None,
    )


def test_body_surface() -> None:
    """70 kg and 175 cm: 1.8447 m2 by Mosteller, 1.8481 by DuBois."""
    weight, height = pd.Series([70.0]), pd.Series([175.0])
    assert body_surface(weight, height, "mosteller")[0] == pytest.approx(math.sqrt(70 * 175 / 3600))
    assert body_surface(weight, height, "dubois")[0] == pytest.approx(1.8481, abs=1e-4)


def test_full_dose_on_time() -> None:
    """Three infusions every 21 days: 36 mg in 9 weeks, 100 %."""
    got = found(*(dose(day, EXDOSE=12.0) for day in ("2021-01-01", "2021-01-22", "2021-02-12")))
    assert got["DOSEGVN"] == got["DOSEPLN"] == 36
    assert (got["DINT"], got["RDI"], got["LOWLVL"]) == (4, 100, 100)
    assert (got["CYCLES"], got["CYCCOMP"], got["PLANNED"], got["UNRECD"]) == (3, 3, 3, 0)


def test_a_delay_and_a_reduction_lower_the_intensity() -> None:
    """12 + 12 + 6 mg over 77 days (a cycle two weeks late): 30 mg of 44 planned."""
    got = found(
        dose("2021-01-01", EXDOSE=12.0),
        dose("2021-02-05", EXDOSE=12000.0, EXDOSU="ug"),
        dose("2021-02-26", EXDOSE=6.0),
    )
    assert got["DOSEGVN"] == pytest.approx(30)
    assert got["DOSEPLN"] == pytest.approx(12 / 21 * 77)
    assert got["RDI"] == pytest.approx(100 * 30 / 44)
    assert (got["LOWLVL"], got["REDUCT"]) == (50, 1)


def test_a_course_recorded_once_is_a_dose_a_day() -> None:
    """14 tablets of 12 mg in one record: 168 mg; a course of 7 days is no complete cycle."""
    courses = (
        dose("2021-01-01", EXDOSE=12.0, EXENDTC="2021-01-14"),
        dose("2021-01-22", EXDOSE=12.0, EXENDTC="2021-01-28"),
    )
    got = found(*courses, days=list(range(1, 15)), record="day")
    assert (got["DOSEGVN"], got["DOSEPLN"], got["RDI"]) == (252, 336, 75)
    assert (got["CYCLES"], got["CYCCOMP"], got["PLANNED"], got["UNRECD"]) == (2, 1, 28, 7)
    assert found(*courses)["DOSEGVN"] == 24  # by default the dose is that of the whole record


def test_a_long_record_is_cut_into_cycles() -> None:
    """A record over 42 days with 14 planned days of 21: 28 doses, the rest of each cycle is no dose."""
    got = found(dose("2021-01-01", EXDOSE=12.0, EXENDTC="2021-02-11"), days=list(range(1, 15)), record="day")
    assert (got["CYCLES"], got["DOSEGVN"], got["RDI"]) == (2, 336, 100)


def test_missed_and_held_doses_are_recorded_ones() -> None:
    """Days 1 and 8 planned: what was missed or held has a record; what has none is counted as such."""
    got = found(
        dose("2021-01-01", EXDOSE=12.0),
        dose("2021-01-08", EXOCCUR="N", EXDOSE=None),
        dose("2021-01-22", EXDOSE=12.0),
        dose("2021-01-29", EXOCCUR="H", EXDOSE=None),
        dose("2021-02-12", EXDOSE=12.0),
        days=[1, 8],
    )
    assert (got["PLANNED"], got["UNRECD"], got["MISSED"], got["INTERR"], got["CYCCOMP"]) == (6, 1, 1, 1, 0)
    assert got["RDI"] == 50


@pytest.mark.parametrize(
    ("planned", "sizes", "expected"),
    [
        ("mg/m2", [size("WEIGHT", 80), size("HEIGHT", 180)], 100 * 24 / 12 / 2),
        ("mg/m2", [size("BSA", 2.4), size("WEIGHT", 80), size("HEIGHT", 180)], 100 * 24 / 12 / 2.4),
        ("mg/kg", [size("WEIGHT", 70, "2020-11-01"), size("WEIGHT", 80)], 100 * 24 / 12 / 80),
        ("mg/kg", [size("WEIGHT", 80, "2021-01-02")], "no body weight on record"),
        ("mg/m2", [size("WEIGHT", 80)], "no body surface on record"),
    ],
)
def test_body_size(planned: str, sizes: list[dict[str, Any]], expected: float | str) -> None:
    """The recorded surface before a formula, the last value up to the first dose; none: not estimable."""
    assert found(dose("2021-01-01", EXDOSE=24.0), sc=sizes, unit=planned)["RDI"] == (
        expected if isinstance(expected, str) else pytest.approx(expected)
    )


def test_body_size_at_each_dose() -> None:
    """With `at: dose` the later weight counts for the later dose."""
    rows = (dose("2021-01-01", EXDOSE=80.0), dose("2021-01-22", EXDOSE=80.0))
    sizes = [size("WEIGHT", 80), size("WEIGHT", 100, "2021-01-20")]
    at_dose = {"body_size": {"at": "dose"}}
    assert found(*rows, sc=sizes, treatment=at_dose, dose=1, unit="mg/kg")["DOSEGVN"] == pytest.approx(1.8)
    assert found(*rows, sc=sizes, dose=1, unit="mg/kg")["DOSEGVN"] == pytest.approx(2)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"EXDOSE": None}, "a dose that is not recorded"),
        ({"EXDOSU": None}, "a dose without a unit"),
        ({"EXDOSU": "mL"}, "a dose in mL, planned in mg"),
        ({"EXOCCUR": "N"}, "no dose was given"),
    ],
)
def test_not_estimable_has_its_reason(more: dict[str, Any], reason: str) -> None:
    """One dose that cannot be compared makes the intensity not estimable; nothing is assumed."""
    got = found(dose("2021-01-01", **more))
    assert {got["DOSEGVN"], got["DINT"], got["RDI"], got["LOWLVL"]} == {reason}


def test_without_a_plan_nothing_is_planned() -> None:
    """A drug without planned days has no planned figures, one without a dose none of doses."""
    planned = {"CYCCOMP", "PLANNED", "UNRECD", "DOSEPLN", "RDI"}
    assert not planned & set(found(dose("2021-01-01"), days=[]))
    assert not {"DOSEGVN", "DINT", "RDI"} & set(found(dose("2021-01-01"), dose=None))


@pytest.mark.parametrize(
    ("doses", "reductions"),
    [
        ((12, 12, 12), 0),
        ((12, 10, 10), 1),
        ((12, 10, 8), 2),
        ((12, 10, 12, 10), 2),
        ((10, 10), 1),
        ((15, 12), 0),
        ((12, 11.7), 0),
    ],
)
def test_reductions_against_the_plan(doses: tuple[float, ...], reductions: int) -> None:
    """Below the planned 12 mg by more than 5 %, each time the dose falls; a start below the plan is one."""
    rows = [
        dose(str(day.date()), EXDOSE=float(mg))
        for day, mg in zip(pd.date_range("2021-01-01", freq="21D", periods=9), doses, strict=False)
    ]
    assert found(*rows)["REDUCT"] == reductions


def test_a_stop_without_a_dose_gives_nothing() -> None:
    """The administration that ends the treatment has no dose: it is none, not an unknown one."""
    got = found(dose("2021-01-01", EXDOSE=12.0), dose("2021-01-22", EXOCCUR="S", EXDOSE=None))
    assert (got["DOSEGVN"], got["RDI"], got["REDUCT"], got["STOPFL"]) == (12, 100, 0, 1)


def test_a_change_because_of_an_event() -> None:
    """By naming the event or by the kind of the reason; another reason is none."""
    got = found(
        dose("2021-01-01", EXDOSE=12.0),
        dose("2021-01-22", EXDOSE=10.0, EXAEREF="AdverseEvent/1"),
        dose("2021-02-12", EXOCCUR="H", EXADJ="ADVERSE EVENT"),
        dose("2021-02-13", EXOCCUR="H", EXADJ="FINANCIAL"),
        dose("2021-03-05", EXOCCUR="N"),
        dose("2021-03-26", EXOCCUR="S", EXADJ="ADVERSE EVENT"),
    )
    names = ("REDUCT", "REDUCTAE", "INTERR", "INTERRAE", "MISSED", "MISSEDAE", "STOPFL", "STOPAE")
    assert [got[name] for name in names] == [1, 1, 2, 1, 1, 0, 1, 1]
