"""Visits graded by hand, each with the section that gives the answer (visit_sequences.txt)."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pytest

from fhir_adapter.derive.recist import visit_responses
from fhir_adapter.derive.recist.vocabulary import RULES

DAY_0 = date(2021, 1, 4)
KINDS = {
    "TN": ("TARGET", True),
    "T": ("TARGET", False),
    "NN": ("NON-TARGET", True),
    "N": ("NON-TARGET", False),
}
KINDS["X"] = ("NEW", False)
STATES = {"A": "ABSENT", "P": "PRESENT", "E": "EQUIVOCAL", "U": "UNEQUIVOCAL"}
COLUMNS = {"TRG": "TRGRESP", "NTR": "NTRGRESP", "OVR": "OVRLRESP", "ADT": "ADT", "RULE": "RULE"}


@dataclass
class Case:
    """One sequence of visits and what is expected of it."""

    name: str
    rule: str
    settings: dict[str, bool]
    tu: list[dict] = field(default_factory=list)
    tr: list[dict] = field(default_factory=list)
    expected: list[dict] = field(default_factory=list)


def read_cases(text: str) -> list[Case]:
    """The cases of the file; its head says how they are written."""
    cases: list[Case] = []
    for block in re.split(r"^== ", text, flags=re.MULTILINE)[1:]:
        head, table, *lines = [line for line in block.splitlines() if line.strip()]
        name, rule, *settings = (part.strip() for part in head.split("|"))
        pairs = [pair.split("=") for pair in " ".join(settings).split()]
        case = Case(name, rule, {key: ast.literal_eval(value) for key, value in pairs})
        lesions, columns = (part.split() for part in table.split("|"))
        kinds = {lesion: KINDS[lesion.rstrip("0123456789")] for lesion in lesions}
        case.tu = [
            {"USUBJID": name, "TULNKID": lesion, "TUSTRESC": role, "NODAL": nodal}
            for lesion, (role, nodal) in kinds.items()
        ]
        for number, line in enumerate(lines):
            findings, answers = line.split("|")
            visit, *cells = findings.split()
            for lesion, cell in zip(lesions, cells, strict=True):
                for scan in cell.split("+"):
                    case.tr += finding(name, visit, lesion, *kinds[lesion], scan, 42 * number)
            if all(
                cell == "." for cell in cells
            ):  # the visit took place: its scan showed nothing of the lesions
                role, nodal = kinds[lesions[0]]
                case.tr += finding(name, visit, lesions[0], role, nodal, "-", 42 * number)
            answer = dict(zip(columns, answers.split(), strict=True))
            case.expected.append({"VISIT": visit} | {COLUMNS[key]: value for key, value in answer.items()})
        cases.append(case)
    return cases


def finding(name: str, visit: str, lesion: str, role: str, nodal: bool, scan: str, day: int) -> list[dict]:
    """The row of TR of one cell, if it has one."""
    value, _, own_day = scan.partition("@")
    if value == ".":
        return []
    row = {"USUBJID": name, "TRLNKID": lesion, "VISIT": visit, "TRSTRESN": None, "TRSTRESC": None}
    row["ADT"] = DAY_0 + timedelta(days=int(own_day or day))
    row["TRTESTCD"] = "LPERP" if nodal else "LDIAM" if role == "TARGET" else "TUMSTATE"
    if value in STATES:
        return [row | {"TRSTRESC": STATES[value]}]
    if value == "<":
        return [row | {"TRSTRESC": "TOO SMALL TO MEASURE"}]
    return [row if value == "-" else row | {"TRSTRESN": float(value), "TRSTRESC": value}]


CASES = read_cases((Path(__file__).parent / "visit_sequences.txt").read_text(encoding="utf-8"))


def answers(case: Case, graded: pd.DataFrame) -> list[dict]:
    """The graded visits in the words of the file."""
    out = []
    for (_, row), wanted in zip(graded.iterrows(), case.expected, strict=True):
        answer = {column: row[column] or "~" for column in wanted if column != "ADT"}
        if "ADT" in wanted:
            answer["ADT"] = str((row["ADT"].date() - DAY_0).days)
        out.append({column: answer[column] for column in wanted})
    return out


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
