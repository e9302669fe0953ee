"""What the public functions accept, return and refuse."""

from __future__ import annotations

import inspect
import itertools
from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest

from fhir_adapter.derive import recist
from fhir_adapter.derive.recist import (
    best_overall_response,
    confirmed_best_overall_response,
    confirmed_objective_response,
    objective_response,
    visit_responses,
)

BEST_FUNCTIONS = [
    best_overall_response,
    confirmed_best_overall_response,
    objective_response,
    confirmed_objective_response,
]
TU = pd.DataFrame(
    {
        "USUBJID": ["A", "A", "A"],
        "TULNKID": ["T01", "NT01", "NEW01"],
        "TUSTRESC": ["TARGET", "NON-TARGET", "NEW"],
        "NODAL": [False, False, False],
    }
)
TR = pd.DataFrame(
    [
        ("A", "T01", "BASELINE", "2021-01-04", "LDIAM", 50.0, "50"),
        ("A", "NT01", "BASELINE", "2021-01-04", "TUMSTATE", np.nan, "PRESENT"),
        ("A", "T01", "WEEK 6", "2021-02-15", "LDIAM", 30.0, "30"),
        ("A", "NT01", "WEEK 6", "2021-02-17", "TUMSTATE", np.nan, "PRESENT"),
    ],
    columns=["USUBJID", "TRLNKID", "VISIT", "ADT", "TRTESTCD", "TRSTRESN", "TRSTRESC"],
)
RS = pd.DataFrame({"USUBJID": ["A", "A"], "ADT": ["2021-02-15", "2021-03-29"], "AVALC": ["PR", "PR"]})
REFERENCE = pd.DataFrame({"USUBJID": ["B", "A"], "ADT": ["2021-01-04", "2021-01-04"]})


def test_signatures() -> None:
    """The five functions have the names, order and defaults of their arguments that notebooks rely on."""
    assert {function.__name__ for function in [visit_responses, *BEST_FUNCTIONS]} <= set(recist.__all__)
    window, confirming = {"ref_start_window": 42}, {"ref_confirm": 28, "max_nr_ne": 1, "accept_sd": False}
    expected = {
        visit_responses: {"tu": ..., "tr": ..., "sustained_pr": True, "reappearance_is_pd": True},
        best_overall_response: {"rs": ..., "reference": ..., "pd": None, **window, "missing_as_ne": False},
        confirmed_best_overall_response: {
            "rs": ...,
            "reference": ...,
            "pd": None,
            **window,
            **confirming,
            "missing_as_ne": False,
        },
        objective_response: {"rs": ..., "reference": ..., "pd": None},
        confirmed_objective_response: {"rs": ..., "reference": ..., "pd": None, **confirming},
    }
    for function, arguments in expected.items():
        found = {
            name: ... if parameter.default is parameter.empty else parameter.default
            for name, parameter in inspect.signature(function).parameters.items()
        }
        assert list(found.items()) == list(arguments.items())


def test_columns_and_types_of_the_visits() -> None:
    """One row per visit with all columns; sizes in mm, datetime64 dates, None where there is no response."""
    graded = visit_responses(TU, TR)
    expected = pd.DataFrame(
        {
            "USUBJID": ["A", "A"],
            "VISIT": ["BASELINE", "WEEK 6"],
            "ADT": pd.to_datetime(["2021-01-04", "2021-02-17"]),
            "SUMDIAM": [50.0, 30.0],
            "BASE": [50.0, 50.0],
            "NADIR": [np.nan, 50.0],
            "TRGRESP": [None, "PR"],
            "NTRGRESP": [None, "NON-CR/NON-PD"],
            "NEWLPROG": [None, "N"],
            "OVRLRESP": [None, "PR"],
            "RULE": ["BASELINE", "PR-TARGET"],
        }
    )
    pd.testing.assert_frame_equal(graded, expected)


@pytest.mark.parametrize(
    "read",
    [
        pd.to_datetime,
        lambda column: pd.to_datetime(column).astype("datetime64[s]"),
        lambda column: pd.to_datetime(column).dt.tz_localize("Asia/Shanghai"),
        lambda column: [date.fromisoformat(value) for value in column],
        lambda column: [datetime.fromisoformat(value + "T23:30:00") for value in column],
        lambda column: column + "T23:30:00+08:00",
        lambda column: column.astype("category"),
        lambda column: column.astype("string"),
    ],
    ids=["ns", "s", "zone", "date", "datetime", "text with time", "category", "string"],
)
def test_dates_are_calendar_days_as_written(read) -> None:
    """Dates come in any of these forms; the calendar day counts as written, not shifted by an offset."""
    expected = visit_responses(TU, TR)
    pd.testing.assert_frame_equal(visit_responses(TU, TR.assign(ADT=read(TR["ADT"]))), expected)
    best = best_overall_response(RS, REFERENCE)
    pd.testing.assert_frame_equal(best_overall_response(RS.assign(ADT=read(RS["ADT"])), REFERENCE), best)


def test_other_kinds_of_columns() -> None:
    """Nullable, categorical and string columns, and number columns of objects, give the same visits."""
    tu = TU.astype({"NODAL": "boolean", "TUSTRESC": "category", "USUBJID": "string"})
    tr = TR.astype({"TRSTRESN": "Float64", "TRTESTCD": "category", "TRSTRESC": "string", "USUBJID": "string"})
    for sizes in (tr["TRSTRESN"], tr["TRSTRESN"].astype(object).where(tr["TRSTRESN"].notna(), None)):
        graded = visit_responses(tu, tr.assign(TRSTRESN=sizes))
        pd.testing.assert_frame_equal(graded, visit_responses(TU, TR), check_dtype=False)


@pytest.mark.parametrize(
    "text", ["TOO SMALL TO MEASURE", "too small to measure", "TSTM", "<5", "< 5 mm", "<5.0 mm", "< 0.5 cm"]
)
def test_words_for_too_small_to_measure(text: str) -> None:
    """Each of these counts 5 mm, also where a number stands beside it."""
    for number in (np.nan, 4.0):
        tr = TR.copy()
        tr.loc[2, ["TRSTRESN", "TRSTRESC"]] = [number, text]
        assert visit_responses(TU, tr)["SUMDIAM"].tolist() == [50.0, 5.0]


def test_other_tests_are_no_findings() -> None:
    """A reader's own sum, and a longest diameter of a node, are not the sizes that RECIST adds up."""
    more = pd.DataFrame([["A", None, "WEEK 6", "2021-02", "SUMDIAM", 99.0, "99"]], columns=TR.columns)
    pd.testing.assert_frame_equal(visit_responses(TU, pd.concat([TR, more])), visit_responses(TU, TR))
    node = TU.assign(NODAL=[True, False, False])
    assert visit_responses(node, TR)["RULE"].tolist() == ["BASELINE", "NE-BASE"]


def test_sizes_of_new_and_non_target_lesions() -> None:
    """A new lesion that has a size and no state is seen; a stated EQUIVOCAL stands beside a size."""
    row = {"USUBJID": "A", "TRLNKID": "NEW01", "VISIT": "WEEK 6", "ADT": "2021-02-16"}
    size = pd.DataFrame([{**row, "TRTESTCD": "LDIAM", "TRSTRESN": 12.0, "TRSTRESC": "12"}])
    state = pd.DataFrame([{**row, "TRTESTCD": "TUMSTATE", "TRSTRESN": np.nan, "TRSTRESC": "EQUIVOCAL"}])
    assert visit_responses(TU, pd.concat([TR, size]))["OVRLRESP"].tolist() == [None, "PD"]
    assert visit_responses(TU, pd.concat([TR, size, state]))["OVRLRESP"].tolist() == [None, "PR"]


def test_empty_frames() -> None:
    """Nothing in, nothing out, with all columns and types."""
    graded = visit_responses(TU.iloc[:0], TR.iloc[:0])
    assert list(graded.columns) == list(visit_responses(TU, TR).columns)
    assert len(graded) == 0
    assert graded["ADT"].dtype == "datetime64[ns]"
    assert len(visit_responses(TU, TR.iloc[:0])) == 0
    for function in BEST_FUNCTIONS:
        assert function(RS, REFERENCE.iloc[:0]).columns.tolist() == ["USUBJID", "AVALC", "ADT"]
        nothing = function(RS.iloc[:0], REFERENCE)
        assert nothing["USUBJID"].tolist() == ["A", "B"]
        assert set(nothing["AVALC"]) <= {"MISSING", "N"}
        assert nothing["ADT"].isna().all()
        assert nothing["ADT"].dtype == "datetime64[ns]"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"TRTESTCD": None}, None),
        ({"TRLNKID": "T99"}, "rows of lesions that tu does not list"),
        ({"USUBJID": None}, "USUBJID is missing"),
        ({"VISIT": None}, "VISIT is missing"),
        ({"ADT": None}, None),
        ({"ADT": "2021-02"}, "not a complete calendar date"),
        ({"TRSTRESN": -1.0}, "negative"),
        ({"TRSTRESN": np.inf}, "infinite"),
    ],
)
def test_visits_refuse_what_they_cannot_read(change: dict, message: str | None) -> None:
    """A row without a date of its own is no error; a value that has no meaning is."""
    tr = TR.astype({"TRSTRESN": "object"})
    for column, value in change.items():
        tr.loc[2, column] = value
    if message is None:
        assert visit_responses(TU, tr)["VISIT"].tolist() == ["BASELINE", "WEEK 6"]
    else:
        with pytest.raises(ValueError, match=message):
            visit_responses(TU, tr)


def test_visits_refuse_unknown_words_and_missing_columns() -> None:
    """Unknown roles, states, units and missing columns are named; a visit without a date is refused."""
    with pytest.raises(ValueError, match="TUSTRESC is 'LESION'"):
        visit_responses(TU.assign(TUSTRESC="LESION"), TR)
    with pytest.raises(ValueError, match="TUMSTATE is 'GROWING'"):
        visit_responses(TU, TR.replace("PRESENT", "GROWING"))
    with pytest.raises(ValueError, match="TRSTRESU is 'INCH'"):
        visit_responses(TU, TR.assign(TRSTRESU="INCH"))
    with pytest.raises(ValueError, match="tr has no column VISIT"):
        visit_responses(TU, TR.drop(columns="VISIT"))
    with pytest.raises(ValueError, match="1 visits without any date"):
        visit_responses(TU, TR.assign(ADT=TR["ADT"].where(TR["VISIT"] == "BASELINE")))
    with pytest.raises(ValueError, match="twice with different"):
        visit_responses(pd.concat([TU, TU.assign(TUSTRESC="TARGET")]), TR)
    with pytest.raises(ValueError, match="NODAL is missing for a target"):
        visit_responses(TU.assign(NODAL=[None, False, False]), TR)


def test_a_lesion_may_be_listed_again() -> None:
    """TU may list a lesion more than once; lesions of subjects without visits do not count."""
    others = TU.assign(USUBJID="WITHOUT VISITS")
    pd.testing.assert_frame_equal(visit_responses(pd.concat([TU, others, TU]), TR), visit_responses(TU, TR))


@pytest.mark.parametrize("function", BEST_FUNCTIONS)
@pytest.mark.parametrize("word", ["iCR", "cr", "", None, np.nan])
def test_unknown_responses_are_named(function, word) -> None:
    """An AVALC that is not a response is a ValueError that names it."""
    rs = RS.assign(AVALC=["PR", word])
    with pytest.raises(ValueError, match=f"AVALC is {word!r}"):
        function(rs, REFERENCE)


@pytest.mark.parametrize("function", BEST_FUNCTIONS)
def test_best_responses_refuse_what_they_cannot_place(function) -> None:
    """A record without a date and a subject twice in the reference are refused."""
    with pytest.raises(ValueError, match="1 records without ADT"):
        function(RS.assign(ADT=["2021-02-15", None]), REFERENCE)
    with pytest.raises(ValueError, match="a subject twice"):
        function(RS, pd.concat([REFERENCE, REFERENCE]))


@pytest.mark.parametrize("function", BEST_FUNCTIONS)
def test_subjects_are_those_of_the_reference(function) -> None:
    """One row per subject of the reference, ascending; others are not used, and no frame is changed."""
    rs = pd.concat([RS, RS.assign(USUBJID="C")], ignore_index=True)
    kept = rs.copy(deep=True), REFERENCE.copy(deep=True)
    got = function(rs, REFERENCE)
    assert got["USUBJID"].tolist() == ["A", "B"]
    assert got["AVALC"].tolist() in (["PR", "MISSING"], ["Y", "N"])
    assert got["ADT"].tolist() == [pd.Timestamp("2021-02-15"), pd.NaT]
    pd.testing.assert_frame_equal(rs, kept[0])
    pd.testing.assert_frame_equal(REFERENCE, kept[1])


def test_dates_of_progression_that_do_not_cut() -> None:
    """Of several dates of a subject the earliest cuts; a missing date does not cut."""
    cuts = pd.DataFrame({"USUBJID": ["A", "A"], "ADT": ["2021-03-01", "2021-02-16"]})
    assert confirmed_best_overall_response(RS, REFERENCE, cuts)["AVALC"].tolist() == ["SD", "MISSING"]
    assert confirmed_best_overall_response(RS, REFERENCE, cuts.assign(ADT=None))["AVALC"][0] == "PR"


def test_a_reference_without_a_date_has_no_window() -> None:
    """SD of a subject without a reference date counts as NE, as no window can be met; a response stands."""
    undated = REFERENCE.assign(ADT=pd.NaT)
    assert best_overall_response(RS.assign(AVALC="SD"), undated)["AVALC"].tolist() == ["NE", "MISSING"]
    assert best_overall_response(RS, undated)["AVALC"].tolist() == ["PR", "MISSING"]


def test_visits_are_ordered_by_date_not_by_label() -> None:
    """The first visit by date is the baseline, whatever its label; visits of one day are ordered by label."""
    labels = {"BASELINE": "Z", "WEEK 6": "M"}
    third = TR.iloc[2:3].assign(VISIT="A", ADT="2021-06-01", TRSTRESN=60.0)
    same_day = third.assign(VISIT="B", TRSTRESN=70.0)
    tr = pd.concat([same_day, third, TR.replace({"VISIT": labels})])
    graded = visit_responses(TU, tr)
    assert graded["VISIT"].tolist() == ["Z", "M", "A", "B"]
    assert graded["TRGRESP"].tolist() == [None, "PR", "PD", "PD"]


def test_a_target_has_no_state() -> None:
    """TUMSTATE of a target is not read, whatever it says: a target is graded by its size."""
    state = TR.iloc[2:3].assign(TRTESTCD="TUMSTATE", TRSTRESN=np.nan, TRSTRESC="SMALLER")
    pd.testing.assert_frame_equal(visit_responses(TU, pd.concat([TR, state])), visit_responses(TU, TR))


@pytest.mark.parametrize("function", BEST_FUNCTIONS)
@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.astype("category"),
        lambda frame: frame.astype({"USUBJID": "string"}),
        lambda frame: frame.set_axis([7] * len(frame)),
        lambda frame: frame.iloc[::-1],
        lambda frame: frame.assign(ADT=pd.to_datetime(frame["ADT"]) + pd.Timedelta(hours=23)),
        lambda frame: frame.assign(MORE="a column that nobody asked for"),
        lambda frame: pd.concat([frame, frame]).drop_duplicates(),
    ],
    ids=["category", "string", "one index for all", "reversed", "time of day", "more columns", "copies"],
)
def test_any_form_of_records(function, change) -> None:
    """The form of the frames is of no account to best and objective responses."""
    expected = function(RS, REFERENCE)
    pd.testing.assert_frame_equal(function(change(RS), REFERENCE), expected, check_dtype=False)
    pd.testing.assert_frame_equal(function(RS, change(REFERENCE)), expected, check_dtype=False)


def test_records_said_twice_and_ties_of_a_day() -> None:
    """A record that is there twice counts once; of several on a day the worst counts, whatever their order."""
    twice = pd.concat([RS, RS])
    for function in BEST_FUNCTIONS:
        pd.testing.assert_frame_equal(function(twice, REFERENCE), function(RS, REFERENCE))
    worst = ["ND", "NE", "CR", "PR", "SD", "NON-CR/NON-PD", "PD"]
    for better, worse in itertools.pairwise(worst):
        for pair in ([better, worse], [worse, better]):
            day = RS.assign(ADT="2021-03-29", AVALC=pair)
            assert best_overall_response(day, REFERENCE)["AVALC"][0] == worse


def test_visits_of_any_index() -> None:
    """A duplicate index, or one in any order, gives the same visits."""
    expected = visit_responses(TU, TR)
    found = visit_responses(TU.set_axis([0] * len(TU)), TR.set_axis([3, 1, 1, 2]))
    pd.testing.assert_frame_equal(found, expected)
    pd.testing.assert_frame_equal(visit_responses(TU, TR.iloc[::-1]), expected)


def test_a_nadir_without_a_baseline_sum() -> None:
    """BASE is missing and responses are NE, but the nadir is the smallest sum of the fully assessed visits."""
    tu = TU.iloc[:1].assign(TULNKID="T02")
    later = TR.iloc[2:3].assign(VISIT="WEEK 12", ADT="2021-04-01", TRSTRESN=20.0)
    tr = pd.concat([TR, later])
    second = pd.concat([TR.iloc[[2]], later]).assign(TRLNKID="T02", TRSTRESN=10.0)
    graded = visit_responses(pd.concat([TU, tu]), pd.concat([tr, second]))
    assert graded["BASE"].isna().all()
    assert graded["NADIR"].tolist()[2] == 40.0
    assert graded["TRGRESP"].tolist() == [None, "NE", "NE"]
