"""Reads sequences of visits from text tables; the head of visit_sequences.txt says how they are written."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import pandas as pd

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
COLUMNS |= {"UPD": "IUPDDT", "NEWSUM": "NEWSUM"}
DAYS = ("ADT", "IUPDDT")


@dataclass
class Case:
    """One sequence of visits and what is expected of it."""

    name: str
    rule: str
    settings: dict[str, Any]
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
        kinds = {lesion: KINDS[re.match("[A-Z]+", lesion)[0]] for lesion in lesions}
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
    sized = role == "TARGET" or value[0].isdigit()
    row["TRTESTCD"] = "LPERP" if nodal else "LDIAM" if sized else "TUMSTATE"
    if value in STATES:
        return [row | {"TRSTRESC": STATES[value]}]
    if value == "<":
        return [row | {"TRSTRESC": "TOO SMALL TO MEASURE"}]
    return [row if value == "-" else row | {"TRSTRESN": float(value), "TRSTRESC": value}]


def answers(case: Case, graded: pd.DataFrame) -> list[dict]:
    """The graded visits of a case in the words of the file."""
    out = []
    for (_, row), wanted in zip(graded.iterrows(), case.expected, strict=True):
        out.append({column: in_words(column, row[column]) for column in wanted})
    return out


def in_words(column: str, value: Any) -> str:
    """A value of a result as the file writes it."""
    if pd.isna(value):
        return "~"
    return (
        str((value.date() - DAY_0).days) if column in DAYS else f"{value:g}" if column == "NEWSUM" else value
    )
