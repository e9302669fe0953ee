"""iRECIST by hand (irecist_sequences.txt), Table 3 of Seymour 2017, and the date of progression."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from recist_sequences import Case, answers, read_cases

from fhir_adapter.derive.recist.irecist import (
    IRECIST_RULES,
    immune_best_overall_response,
    immune_progression,
    immune_visit_responses,
)

CASES = read_cases((Path(__file__).parent / "irecist_sequences.txt").read_text(encoding="utf-8"))

# Table 3: five time points, the alternatives of each, and the best overall response.
TABLE_3 = """
1 | iCR  | iCR iPR iUPD NE  | iCR iPR iUPD NE | iUPD                 | iCPD                      | iCR
2 | iUPD | iPR iSD NE       | iCR             | iCR iUPD NE          | iCR iPR iSD iUPD iCPD NE  | iCR
3 | iUPD | iPR              | iPR iSD iUPD NE | iPR iSD iUPD NE iCPD | iPR iSD iUPD NE iCPD      | iPR
4 | iUPD | iSD NE           | iPR             | iPR iSD iUPD NE      | iPR iSD iUPD iCPD NE      | iPR
5 | iUPD | iSD              | iSD iUPD NE     | iSD iUPD iCPD NE     | iSD iUPD iCPD NE          | iSD
6 | iUPD | iCPD             | iCR iPR iSD NE  | iCR iPR iUPD NE      | iCR iPR iUPD iCPD NE      | iCPD
7 | iUPD | iUPD             | iCPD            | iCR iPR iSD iUPD NE  | iCR iPR iSD iUPD iCPD NE  | iCPD
8 | iUPD | NE               | NE              | NE                   | NE                        | iUPD
"""


def in_words(case: Case) -> list[dict]:
    """The graded visits of a case in the words of the file."""
    graded = immune_visit_responses(pd.DataFrame(case.tu), pd.DataFrame(case.tr), **case.settings)
    return answers(case, graded)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sequence(case: Case) -> None:
    """Each visit has the response, rule and date of the pending iUPD that the guideline gives."""
    assert in_words(case) == case.expected, case.rule


def test_every_rule_is_met_by_a_sequence() -> None:
    """Each code of RULE occurs among the sequences."""
    met: set[str] = set()
    for case in CASES:
        met |= set(immune_visit_responses(pd.DataFrame(case.tu), pd.DataFrame(case.tr))["RULE"])
    assert met == set(IRECIST_RULES)


@pytest.mark.parametrize("line", TABLE_3.strip().splitlines(), ids=lambda line: f"example {line.split()[0]}")
def test_best_overall_response_of_table_3(line: str) -> None:
    """Every combination of the alternatives of an example of Table 3 has its best overall response."""
    _, *points, best = (part.split() for part in line.split("|"))
    rows = [
        {
            "USUBJID": f"S{number:04d}",
            "ADT": pd.Timestamp("2021-01-04") + pd.Timedelta(days=42 * n),
            "OVRLRESP": word,
        }
        for number, words in enumerate(product(*points))
        for n, word in enumerate([None, *words])
    ]
    assert set(immune_best_overall_response(pd.DataFrame(rows))["AVALC"]) == set(best)


def test_best_overall_response_without_visits() -> None:
    """A subject with a baseline alone is MISSING; a word that iRECIST does not have is refused."""
    visits = pd.DataFrame({"USUBJID": ["A"], "ADT": [pd.Timestamp("2021-01-04")], "OVRLRESP": [None]})
    assert immune_best_overall_response(visits)["AVALC"].tolist() == ["MISSING"]
    with pytest.raises(ValueError, match="OVRLRESP is 'PD'"):
        immune_best_overall_response(visits.assign(OVRLRESP="PD"))


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("as-recist-without-progression", None),
        ("target-confirmed-by-5-mm", 42),
        ("target-reset", 126),
        ("non-target-reset", None),
        ("scenario-f", 84),
        ("no-targets", None),
    ],
)
def test_date_of_progression(name: str, day: int | None) -> None:
    """Progression dates from the first iUPD that was confirmed or never reset; a reset iUPD is no event."""
    (case,) = [case for case in CASES if case.name == name]
    visits = immune_visit_responses(pd.DataFrame(case.tu), pd.DataFrame(case.tr))
    (row,) = immune_progression(visits).itertuples()
    assert row.AVALC == ("N" if day is None else "Y")
    assert (None if pd.isna(row.ADT) else (row.ADT - visits["ADT"][0]).days) == day


def test_new_target_lesions_are_limited() -> None:
    """At most five new target lesions, and two of an organ, the largest first; nodes count from 15 mm."""
    sizes = {"X1": 11.0, "X2": 30.0, "X3": 20.0, "X4": 40.0, "X5": 12.0, "X6": 13.0, "X7": 14.0, "X8": 14.9}
    tu = pd.DataFrame(
        [("A", "T1", "TARGET", False, "LUNG")]
        + [("A", x, "NEW", x == "X8", "LIVER" if x in ("X2", "X3", "X4") else x) for x in sizes],
        columns=["USUBJID", "TULNKID", "TUSTRESC", "NODAL", "TULOC"],
    )
    tr = pd.DataFrame(
        [("A", "T1", f"V{n}", f"2021-0{n + 1}-04", "LDIAM", 50.0, "50") for n in (0, 1)]
        + [
            ("A", x, "V1", "2021-02-04", "LPERP" if x == "X8" else "LDIAM", size, str(size))
            for x, size in sizes.items()
        ],
        columns=["USUBJID", "TRLNKID", "VISIT", "ADT", "TRTESTCD", "TRSTRESN", "TRSTRESC"],
    )
    # 40 and 30 of the liver, then 14, 13, 12; not the third of the liver, the sixth, and the node of 14.9.
    assert immune_visit_responses(tu, tr)["NEWSUM"].tolist()[1] == 40 + 30 + 14 + 13 + 12
    assert (
        immune_visit_responses(tu.drop(columns="TULOC"), tr)["NEWSUM"].tolist()[1] == 40 + 30 + 20 + 14 + 13
    )
