"""Conditions on small hand-written frames, the expected rows beside them."""

from __future__ import annotations

import pandas as pd
import pytest
from pydantic import TypeAdapter

from fhir_adapter.conditions import Condition, evaluate, subjects_where, used_variables
from fhir_adapter.errors import StudyFileError

ADSL = pd.DataFrame(
    {
        "USUBJID": ["a", "b", "c"],
        "AGE": [40, 60, None],
        "SEX": ["M", "F", "F"],
        "SITES": ["liver;lung", "lungs", None],
        "DTHDT": pd.to_datetime(["2021-03-01", None, "2021-05-01"]),
    }
)
ADAE = pd.DataFrame(
    {
        "USUBJID": ["a", "a", "b"],
        "TERM": ["Fatigue", "Rash", "Fatigue"],
        "GRADE": [1, 3, 2],
    }
)
FRAMES = {"ADSL": ADSL, "ADAE": ADAE}


def holds(condition: object, base: str = "ADSL") -> list[str]:
    return subjects_where(TypeAdapter(Condition).validate_python(condition), FRAMES, base)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"variable": "SEX", "value": "F"}, ["b", "c"]),
        ({"variable": "AGE", "op": "ge", "value": 60}, ["b"]),
        ({"variable": "AGE", "op": "lt", "value": 60}, ["a"]),
        ({"variable": "AGE", "op": "ne", "value": 60}, ["a"]),
        ({"variable": "AGE", "op": "is_null"}, ["c"]),
        ({"variable": "AGE", "op": "not_null"}, ["a", "b"]),
        ({"variable": "SEX", "op": "in", "value": ["M", "X"]}, ["a"]),
        ({"variable": "AGE", "op": "not_in", "value": [40]}, ["b"]),
        ({"variable": "SITES", "op": "contains", "value": "lung"}, ["a", "b"]),
        ({"variable": "SITES", "op": "has", "value": "lung"}, ["a"]),
        ({"variable": "DTHDT", "op": "gt", "value": "2021-04-01"}, ["c"]),
        ({"variable": "DTHDT", "value": "2021-03-01"}, ["a"]),
        ({"not": {"variable": "SEX", "value": "F"}}, ["a"]),
        ({"all": [{"variable": "SEX", "value": "F"}, {"variable": "AGE", "op": "ge", "value": 50}]}, ["b"]),
        ({"any": [{"variable": "SEX", "value": "M"}, {"variable": "AGE", "value": 60}]}, ["a", "b"]),
        ({"all": []}, ["a", "b", "c"]),
        ({"any": []}, []),
        ({"dataset": "ADAE", "variable": "TERM", "value": "Fatigue"}, ["a", "b"]),
    ],
)
def test_conditions_select_subjects(condition: dict[str, object], expected: list[str]) -> None:
    """Each operator selects the subjects that a reader expects; a missing value satisfies only is_null."""
    assert expected == holds(condition)


def test_a_group_with_a_dataset_asks_for_one_row() -> None:
    """Fatigue of grade 3 is nobody's, although somebody has fatigue and somebody has a grade 3."""
    parts = [{"variable": "TERM", "value": "Fatigue"}, {"variable": "GRADE", "op": "ge", "value": 2}]
    assert ["b"] == holds({"dataset": "ADAE", "all": parts})
    apart = [{"dataset": "ADAE", **part} for part in parts]
    assert ["a", "b"] == holds({"all": apart})


def test_rows_of_another_base_can_ask_about_the_subject() -> None:
    """The rows of ADAE whose subject is a man."""
    condition = TypeAdapter(Condition).validate_python({"dataset": "ADSL", "variable": "SEX", "value": "M"})
    assert [True, True, False] == evaluate(condition, FRAMES, "ADAE").tolist()


@pytest.mark.parametrize(
    ("condition", "word"),
    [
        ({"variable": "AEG"}, "AEG"),
        ({"dataset": "ADXX", "variable": "AGE", "value": 1}, "ADXX"),
        ({"variable": "SEX", "op": "lt", "value": 3}, "order"),
        ({"variable": "SEX"}, "no value"),
        ({"variable": "SEX", "value": ["M"]}, "list"),
    ],
)
def test_a_condition_that_cannot_be_asked_is_an_error_of_the_study_file(
    condition: dict[str, object], word: str
) -> None:
    """The message names the dataset, the variable or what is wrong with the value."""
    with pytest.raises(StudyFileError, match=word):
        holds(condition)


def test_used_variables_are_found_at_any_depth() -> None:
    """A study file can be checked before a run."""
    condition = {
        "all": [
            {"variable": "SEX", "value": "M"},
            {"not": {"dataset": "ADAE", "variable": "GRADE", "value": 3}},
        ]
    }
    found = used_variables(TypeAdapter(Condition).validate_python(condition), "ADSL")
    assert {("ADSL", "SEX"), ("ADAE", "GRADE")} == found
