"""Best overall response and objective response by hand, each with its rule (best_response_sequences.txt)."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fhir_adapter.derive.recist import (
    best_overall_response,
    confirmed_best_overall_response,
    confirmed_objective_response,
    objective_response,
)

DAY_0 = date(2021, 1, 4)
WINDOW = ("ref_start_window", "missing_as_ne")
CONFIRMING = ("ref_confirm", "max_nr_ne", "accept_sd")


@dataclass(frozen=True)
class Case:
    """One sequence of records, its settings, and the four results expected."""

    name: str
    records: list[tuple[str, int]]
    settings: dict[str, Any]
    expected: list[str]
    rule: str


def read_cases(text: str) -> list[Case]:
    """The cases of the file; its head says how they are written."""
    cases = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, records, settings, *expected, rule = (part.strip() for part in line.split("|"))
        pairs = [pair.split("=") for pair in settings.split()]
        cases.append(
            Case(
                name,
                [(word, int(day)) for word, day in (record.split("@") for record in records.split())],
                {key: ast.literal_eval(value.capitalize()) for key, value in pairs},
                expected,
                rule,
            )
        )
    return cases


CASES = read_cases((Path(__file__).parent / "best_response_sequences.txt").read_text(encoding="utf-8"))


def results(case: Case) -> list[str]:
    """The four results in the words of the file."""
    rs = pd.DataFrame(
        [(case.name, DAY_0 + timedelta(days=day), word) for word, day in case.records],
        columns=["USUBJID", "ADT", "AVALC"],
    )
    reference = pd.DataFrame({"USUBJID": [case.name], "ADT": [pd.Timestamp(DAY_0)]})
    settings = dict(case.settings)
    progressions = None
    if "pd" in settings:
        day = settings.pop("pd")
        known = [] if day is None else [(case.name, DAY_0 + timedelta(days=day))]
        progressions = pd.DataFrame([("SOMEONE ELSE", DAY_0), *known], columns=["USUBJID", "ADT"])
    window = {key: settings[key] for key in WINDOW if key in settings}
    confirming = {key: settings[key] for key in CONFIRMING if key in settings}
    frames = (
        best_overall_response(rs, reference, progressions, **window),
        confirmed_best_overall_response(rs, reference, progressions, **window, **confirming),
        objective_response(rs, reference, progressions),
        confirmed_objective_response(rs, reference, progressions, **confirming),
    )
    out = []
    for frame in frames:
        (row,) = frame.itertuples()
        out.append(row.AVALC if pd.isna(row.ADT) else f"{row.AVALC}@{(row.ADT.date() - DAY_0).days}")
    return out


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sequence(case: Case) -> None:
    """Best response and objective response, unconfirmed and confirmed, are those that the rule gives."""
    assert results(case) == case.expected, case.rule
