"""Lesions that split or merged: what holds of any of them, and what is refused (hand-made: visit_sequences.txt)."""

from __future__ import annotations

import random
from datetime import date, timedelta
from typing import Any

import pandas as pd
import pytest

from fhir_adapter.derive.recist import visit_responses
from fhir_adapter.derive.recist.eligibility import target_findings
from fhir_adapter.derive.recist.irecist import immune_visit_responses
from fhir_adapter.derive.recist.pieces import named_parts
from fhir_adapter.derive.recist.visits import assessed_lesions

DAY_0 = date(2021, 1, 4)


def measured(name: str, link: str, visit: int, size: float | None, test: str = "LDIAM") -> dict[str, Any]:
    """A row of TR; the lesions of a visit are scanned on the days after its first, by their number."""
    return {
        "USUBJID": name,
        "TRLNKID": link,
        "VISIT": f"V{visit}",
        "ADT": DAY_0 + timedelta(days=42 * visit + int(link[1])),
        "TRTESTCD": test,
        "TRSTRESN": size,
        "TRSTRESC": None if size is None else str(size),
    }


def lesions(name: str, *links: str, nodal: bool = False) -> list[dict[str, Any]]:
    """Targets in TU."""
    return [{"USUBJID": name, "TULNKID": link, "TUSTRESC": "TARGET", "NODAL": nodal} for link in links]


def whole_and_pieces(rng: random.Random, name: str) -> tuple[list[dict], list[dict], list[dict]]:
    """TU, and TR of the same disease twice: in whole lesions, and with T1 split and T2 and T3 merged at times."""
    whole, pieces = [], []
    split_from = rng.randint(0, 4)
    for visit in range(rng.randint(2, 7)):
        sizes = {
            link: None
            if visit and rng.random() < 0.1
            else rng.choice([20, 25, 50] if not visit else [0, 0, 5, 10, 14, 20, 24, 30, 36, 40])
            for link in ("T1", "T2", "T3")
        }
        whole += [measured(name, link, visit, size) for link, size in sizes.items()]
        first, second, third = sizes.values()
        if first is not None and visit >= split_from:
            part = rng.randint(0, first)
            fragments = [("T1.1", part), ("T1.2", first - part)]
            pieces += [measured(name, link, visit, size) for link, size in fragments]
        else:
            pieces.append(measured(name, "T1", visit, first))
        if second is not None and third is not None and visit and rng.random() < 0.5:
            # The whole is scanned with its last part.
            merged = measured(name, "T2/T3", visit, second + third)
            pieces.append(merged)
            whole = [row | {"ADT": merged["ADT"]} if row["VISIT"] == merged["VISIT"] and row["TRLNKID"] in ("T2", "T3")
                     else row for row in whole]  # fmt: skip
        else:
            pieces += [measured(name, "T2", visit, second), measured(name, "T3", visit, third)]
    return lesions(name, "T1", "T2", "T3"), whole, pieces


@pytest.mark.parametrize("seed", range(4))
def test_pieces_count_as_the_lesions_that_they_are_of(seed: int) -> None:
    """Fragments whose sizes add up to the lesion's, and a merged lesion as large as its parts, change nothing."""
    rng = random.Random(seed)
    tu, whole, pieces = [], [], []
    for number in range(250):
        for rows, more in zip((tu, whole, pieces), whole_and_pieces(rng, f"S{number:03d}"), strict=True):
            rows += more
    rng.shuffle(pieces)
    settings = {"sustained_pr": rng.random() < 0.5, "reappearance_is_pd": rng.random() < 0.5}
    expected = visit_responses(pd.DataFrame(tu), pd.DataFrame(whole), **settings)
    found = visit_responses(pd.DataFrame(tu), pd.DataFrame(pieces), **settings)
    pd.testing.assert_frame_equal(found, expected)
    assert {"CR", "PR", "SD", "PD", "NE"} <= set(found["OVRLRESP"].dropna())


def test_tu_may_list_the_pieces() -> None:
    """The same visits whether or not TU lists fragments and merged lesions; they are no targets more."""
    rows = [measured("A", link, 0, 30.0) for link in ("T1", "T2", "T3")]
    rows += [measured("A", link, 1, 10.0) for link in ("T1.1", "T1.2")] + [measured("A", "T2/T3", 1, 25.0)]
    own, all_ = lesions("A", "T1", "T2", "T3"), lesions("A", "T1", "T2", "T3", "T1.1", "T1.2", "T2/T3")
    tr = pd.DataFrame(rows)
    expected = visit_responses(pd.DataFrame(own), tr)
    assert expected["SUMDIAM"].tolist() == [90.0, 45.0]
    pd.testing.assert_frame_equal(visit_responses(pd.DataFrame(all_), tr), expected)
    assert target_findings(pd.DataFrame(all_), tr).empty
    seen = assessed_lesions(pd.DataFrame(all_), tr)
    assert seen[["TARGETS", "TARGETS_SEEN"]].to_numpy().tolist() == [[3, 3], [3, 3]]


def test_pieces_of_one_subject_are_not_anothers() -> None:
    """`T1.1` is a fragment where the subject has a `T1`, and a lesion of its own where not."""
    tu = lesions("A", "T1", "T2") + lesions("B", "T1.1", "T1.2")
    rows = [measured("A", link, 0, 30.0) for link in ("T1", "T2")]
    rows += [measured("A", link, 1, 10.0) for link in ("T1.1", "T1.2", "T2")]
    rows += [measured("B", link, visit, 30.0) for link in ("T1.1", "T1.2") for visit in (0, 1)]
    graded = visit_responses(pd.DataFrame(tu), pd.DataFrame(rows))
    assert graded[["USUBJID", "SUMDIAM", "OVRLRESP"]].to_numpy().tolist() == [
        ["A", 60.0, None],
        ["A", 30.0, "PR"],
        ["B", 60.0, None],
        ["B", 60.0, "SD"],
    ]


def test_a_piece_of_nothing_is_refused() -> None:
    """A merged lesion of which TU does not list a part is a lesion that nobody knows."""
    rows = [measured("A", "T1", 0, 30.0), measured("A", "T1/T9", 1, 30.0)]
    with pytest.raises(ValueError, match="1 rows of lesions that tu does not list"):
        visit_responses(pd.DataFrame(lesions("A", "T1")), pd.DataFrame(rows))


def test_a_fragment_that_fragments_again() -> None:
    """`T1.2.1` and `T1.2.2` are fragments of the fragment `T1.2`: all that was seen is added."""
    rows = [measured("A", "T1", 0, 60.0)]
    rows += [measured("A", link, 1, 20.0) for link in ("T1.1", "T1.2")]
    rows += [measured("A", link, 2, 10.0) for link in ("T1.1", "T1.2.1", "T1.2.2")]
    graded = visit_responses(pd.DataFrame(lesions("A", "T1")), pd.DataFrame(rows))
    assert graded["SUMDIAM"].tolist() == [60.0, 40.0, 30.0]
    assert graded["OVRLRESP"].tolist() == [None, "PR", "PR"]


def test_new_lesions_in_pieces_are_no_further_new_lesions() -> None:
    """A new lesion of 20 mm that splits into 12 and 10 mm is 22 mm: neither a new lesion nor 5 mm of growth."""
    tu = pd.DataFrame(
        [*lesions("A", "T1"), {"USUBJID": "A", "TULNKID": "X1", "TUSTRESC": "NEW", "NODAL": False}]
    )
    rows = [measured("A", "T1", visit, 50.0) for visit in range(4)] + [measured("A", "X1", 1, 20.0)]
    rows += [measured("A", "X1.1", 2, 12.0), measured("A", "X1.2", 2, 10.0)]
    rows += [measured("A", "X1.1", 3, 15.0), measured("A", "X1.2", 3, 10.0)]
    graded = immune_visit_responses(tu, pd.DataFrame(rows))
    assert graded["NEWSUM"].tolist()[1:] == [20.0, 22.0, 25.0]
    assert graded["OVRLRESP"].tolist() == [None, "iUPD", "iUPD", "iCPD"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("T01", ()),
        ("T01.1", ("T01",)),
        ("T01.12", ("T01",)),
        ("T01.1.2", ("T01.1",)),
        ("T01/T02", ("T01", "T02")),
        ("T01.1/T01.2", ("T01.1", "T01.2")),
        ("T01.x", ()),
        ("/T01", ()),
        (".1", ()),
    ],
)
def test_names(name: str, parts: tuple[str, ...]) -> None:
    """What a name says of the lesions that it is made of."""
    assert named_parts(name) == parts
