"""Partial dates, imputation and the cut-off."""

from __future__ import annotations

import pandas as pd
import pytest
from derive_frames import BASE, codes, day, derived, dose, row, size, study, subject, sums

from fhir_adapter.derive.dates import impute_dates, read_dates


@pytest.mark.parametrize(
    ("text", "first", "last", "precision"),
    [
        ("2021", "2021-01-01", "2021-12-31", "Y"),
        ("2020-02", "2020-02-01", "2020-02-29", "M"),
        ("2021-03-04", "2021-03-04", "2021-03-04", "D"),
        # 23:30 in Beijing is 15:30 UTC: the day is the one that is written.
        ("2021-03-04T23:30:00+08:00", "2021-03-04", "2021-03-04", "D"),
        ("2021-03-04T00:30:00+08:00", "2021-03-04", "2021-03-04", "D"),
        ("2021-02-30", None, None, None),
        ("soon", None, None, None),
        (None, None, None, None),
    ],
)
def test_a_date_is_read_as_written(text: str, first: str, last: str, precision: str) -> None:
    """First and last possible day of each FHIR precision, without shift by an offset."""
    read = read_dates(pd.Series([text], dtype="object")).iloc[0]
    assert (day(read["FIRST"]), day(read["LAST"]), read["PRECISION"]) == (first, last, precision)
    assert read["WRONG"] == (text in {"2021-02-30", "soon"})


@pytest.mark.parametrize(
    ("rule", "month", "year"),
    [
        ("first", ("2021-03-01", "D"), ("2021-01-01", "M")),
        ("middle", ("2021-03-15", "D"), ("2021-06-30", "M")),
        ("last", ("2021-03-31", "D"), ("2021-12-31", "M")),
        ("none", (None, None), (None, None)),
    ],
)
def test_imputation(rule: str, month: tuple[str, str], year: tuple[str, str]) -> None:
    """Each rule on a month and on a year; a complete date is left alone and has no flag."""
    read = read_dates(pd.Series(["2021-03", "2021", "2021-05-05"]))
    made = impute_dates(read, rule)  # type: ignore[arg-type]
    found = [(day(date), flag) for date, flag in made.itertuples(index=False)]
    assert found == [month, year, ("2021-05-05", None)]


def test_bounds_move_an_imputed_date_only_within_what_is_written() -> None:
    """A lower bound inside the month counts; one after the month does not; a complete date is not moved."""
    read = read_dates(pd.Series(["2021-03", "2021-03", "2021-03-02"]))
    lower = pd.to_datetime(pd.Series(["2021-03-10", "2021-04-10", "2021-03-10"]))
    made = impute_dates(read, "first", lower=(lower,))
    assert [day(date) for date in made["DATE"]] == ["2021-03-10", "2021-03-01", "2021-03-02"]
    upper = pd.to_datetime(pd.Series(["2021-03-10", "2021-02-10", "2021-02-01"]))
    made = impute_dates(read, "last", upper=(upper,))
    assert [day(date) for date in made["DATE"]] == ["2021-03-10", "2021-03-31", "2021-03-02"]


def test_nothing_after_the_cut_off_counts() -> None:
    """A scan after the cut-off makes no visit, is counted, and a death after it is alive at it."""
    rows = BASE | {
        "DM": [subject(DTHDTC="2021-06-02", DTHFL="Y")],
        "TR": sums(("2021-03-05", 100.0), ("2021-06-01", 200.0)),
    }
    result = derived(**rows, cutoff="2021-05-31")
    adsl = row(result.datasets["ADSL"])
    assert (adsl["BOR"], adsl["DTHFL"], day(adsl["DTHDT"]), day(adsl["LSTALVDT"])) == (
        "SD",
        None,
        None,
        "2021-03-05",
    )
    assert {f.detail for f in result.findings if f.code == "after-cut-off"} == {"TR: 2", "DM: 1"}
    survival = row(result.datasets["ADTTE"], PARAMCD="OS")
    assert (day(survival["ADT"]), survival["CNSR"], survival["CNSDTDSC"]) == (
        "2021-03-05",
        1,
        "Alive at last contact",
    )


def test_the_day_of_the_cut_off_counts() -> None:
    """A scan and a death on the day of the cut-off count."""
    rows = BASE | {"DM": [subject(DTHDTC="2021-06-01")], "TR": sums(("2021-06-01", 200.0))}
    adsl = row(derived(**rows, cutoff="2021-06-01").datasets["ADSL"])
    assert (adsl["BOR"], day(adsl["DTHDT"])) == ("PD", "2021-06-01")


@pytest.mark.parametrize(
    ("written", "rule", "expected", "flag"),
    [
        ("2021-06", "middle", "2021-06-15", "D"),
        ("2021-06", "none", None, None),
        # Alive on 5 March: a death in March was not before that.
        ("2021-03", "first", "2021-03-05", "D"),
        ("2021", "middle", "2021-06-30", "M"),
    ],
)
def test_partial_death(written: str, rule: str, expected: str | None, flag: str | None) -> None:
    """A partial date of death is imputed by the study's rule, never before the last contact."""
    rows = BASE | {"DM": [subject(DTHDTC=written, DTHFL="Y")], "TR": sums(("2021-03-05", 100.0))}
    result = derived(**rows, study_file=study(imputation={"death": rule}))
    adsl = row(result.datasets["ADSL"])
    assert (day(adsl["DTHDT"]), adsl["DTHDTF"]) == (expected, flag)
    assert ("partial-death-date" in codes(result)) == (expected is None)


def test_partial_dose() -> None:
    """Without imputation a partial dose does not count and is a finding.

    With it, it never precedes the first dose.
    """
    rows = BASE | {"EX": [dose("2021-01-02"), dose("2021-01"), dose("2021-02")], "TR": sums()}
    result = derived(**rows)
    assert day(row(result.datasets["ADSL"])["TRTEDT"]) == "2021-01-02"
    assert "dose-without-date" in codes(result)
    result = derived(**rows, study_file=study(imputation={"dose": "first"}))
    adsl = row(result.datasets["ADSL"])
    assert (day(adsl["TRTSDT"]), day(adsl["TRTEDT"])) == ("2021-01-02", "2021-02-01")


def test_partial_scan_date() -> None:
    """A scan without a complete date is a finding and makes no visit, unless the study imputes it."""
    rows = BASE | {"TR": [*sums(), size("T1", "2021-03", 50.0), size("T2", "2021-03", 50.0)]}
    result = derived(**rows)
    assert "assessment-without-date" in codes(result)
    assert row(result.datasets["ADSL"])["NASSESS"] == 0
    result = derived(**rows, study_file=study(imputation={"response": "middle"}))
    overall = row(result.datasets["ADRS"], PARAMCD="OVR")
    assert (overall["AVALC"], day(overall["ADT"])) == ("SD", "2021-03-15")
