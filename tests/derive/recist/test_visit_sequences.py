"""Visits graded by hand, each with the section that gives the answer (visit_sequences.txt)."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from recist_sequences import Case, answers, read_cases

from fhir_adapter.derive.recist import visit_responses
from fhir_adapter.derive.recist.vocabulary import RULES

CASES = read_cases((Path(__file__).parent / "visit_sequences.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sequence(case: Case) -> None:
    """Each visit has the target, non-target and overall response, date and rule that the guideline gives."""
    graded = visit_responses(pd.DataFrame(case.tu), pd.DataFrame(case.tr), **case.settings)
    assert answers(case, graded) == case.expected, case.rule


def test_all_sequences_in_one_call() -> None:
    """Subjects do not influence each other: all sequences at once, rows reversed, give the same answers."""
    cases = [case for case in CASES if not case.settings]
    tu = pd.DataFrame([row for case in cases for row in case.tu])
    tr = pd.DataFrame([row for case in cases for row in case.tr])
    graded = visit_responses(tu, tr.iloc[::-1])
    assert list(graded["USUBJID"].unique()) == sorted(case.name for case in cases)
    for case in cases:
        assert answers(case, graded[graded["USUBJID"] == case.name]) == case.expected


def test_there_are_enough_sequences_and_each_cites_its_rule() -> None:
    """At least sixty sequences, each with a section of the guideline, the FAQ or the setting that decides."""
    assert len({case.name for case in CASES}) == len(CASES) >= 60
    cites = re.compile(r"\b4\.[2-4]|FAQ|Table [123]|setting|several|visits")
    assert [case.name for case in CASES if not cites.search(case.rule)] == []


def test_every_rule_is_met_by_a_sequence() -> None:
    """Each code of RULE occurs among the sequences."""
    met: set[str] = set()
    for case in CASES:
        met |= set(visit_responses(pd.DataFrame(case.tu), pd.DataFrame(case.tr), **case.settings)["RULE"])
    assert met == set(RULES)
