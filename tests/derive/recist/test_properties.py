"""What must hold of every sequence of visits and records, whatever they are."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_adapter.derive.recist import (
    best_overall_response,
    confirmed_best_overall_response,
    confirmed_objective_response,
    objective_response,
    visit_responses,
)

DAY_0 = date(2021, 1, 4)
ORDER = ["CR", "PR", "SD", "NON-CR/NON-PD", "PD", "NE", "ND", "MISSING"]
STATES = ["ABSENT", "PRESENT", "EQUIVOCAL", "UNEQUIVOCAL", None]

# Sizes in 0.1 mm, near each other so that thresholds are met exactly; None: not assessed, -1: too small.
SIZES = st.sampled_from([0, 35, 49, 50, 70, 95, 99, 100, 105, 120, 140, 150, 200, 240, 250, 300, -1, None])


@st.composite
def subjects(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame]:
    """TU and TR of one to three subjects, each with a baseline and up to five visits."""
    tu, tr = [], []
    for number in range(draw(st.integers(1, 3))):
        name = f"S{number}"
        lesions = [(f"T{n}", "TARGET", draw(st.booleans())) for n in range(draw(st.integers(0, 3)))]
        lesions += [(f"N{n}", "NON-TARGET", False) for n in range(draw(st.integers(0, 2)))]
        lesions += [("X0", "NEW", False)]
        tu += [
            {"USUBJID": name, "TULNKID": link, "TUSTRESC": role, "NODAL": nodal}
            for link, role, nodal in lesions
        ]
        for visit in range(draw(st.integers(1, 6))):
            for link, role, nodal in lesions:
                row = {
                    "USUBJID": name,
                    "TRLNKID": link,
                    "VISIT": f"V{visit}",
                    "TRSTRESN": None,
                    "TRSTRESC": None,
                }
                row["ADT"] = DAY_0 + timedelta(days=42 * visit + draw(st.integers(0, 9)))
                if role == "TARGET":
                    row["TRTESTCD"] = "LPERP" if nodal else "LDIAM"
                    size = draw(SIZES)
                    if visit == 0:
                        size = 200
                    if size == -1:
                        row["TRSTRESC"] = "TOO SMALL TO MEASURE"
                    elif size is not None:
                        row["TRSTRESN"] = size / 10
                else:
                    row["TRTESTCD"] = "TUMSTATE"
                    common = ["PRESENT"] if visit == 0 else STATES
                    row["TRSTRESC"] = draw(
                        st.sampled_from([None] * 3 + STATES[:4] if role == "NEW" else common)
                    )
                tr.append(row)
    return pd.DataFrame(tu), pd.DataFrame(tr)


@st.composite
def records(draw: st.DrawFn, words: tuple[str, ...] = tuple(ORDER[:-1])) -> pd.DataFrame:
    """Response records of one subject on different days."""
    gaps = draw(st.lists(st.sampled_from([7, 14, 21, 28, 42]), max_size=8))
    days = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    return pd.DataFrame(
        [("S", pd.Timestamp(DAY_0 + timedelta(days=day)), draw(st.sampled_from(words))) for day in days],
        columns=["USUBJID", "ADT", "AVALC"],
    )


REFERENCE = pd.DataFrame({"USUBJID": ["S"], "ADT": [pd.Timestamp(DAY_0)]})
CONFIRMING = st.fixed_dictionaries(
    {
        "ref_confirm": st.sampled_from([14, 28, 42]),
        "max_nr_ne": st.integers(0, 2),
        "accept_sd": st.booleans(),
    }
)


def four_results(rs: pd.DataFrame, confirming: dict[str, Any]) -> list[pd.DataFrame]:
    """The results of the four functions."""
    return [
        best_overall_response(rs, REFERENCE),
        confirmed_best_overall_response(rs, REFERENCE, **confirming),
        objective_response(rs, REFERENCE),
        confirmed_objective_response(rs, REFERENCE, **confirming),
    ]


@settings(max_examples=80, deadline=None)
@given(subjects(), st.randoms(use_true_random=False))
def test_the_order_of_rows_is_of_no_account(frames: tuple[pd.DataFrame, pd.DataFrame], rng: Any) -> None:
    """Shuffled rows, and an index of any kind, change nothing; nor are the frames changed."""
    tu, tr = frames
    kept = tu.copy(deep=True), tr.copy(deep=True)
    graded = visit_responses(tu, tr)
    pd.testing.assert_frame_equal(tu, kept[0])
    pd.testing.assert_frame_equal(tr, kept[1])
    shuffled = [frame.iloc[rng.sample(range(len(frame)), len(frame))] for frame in frames]
    pd.testing.assert_frame_equal(visit_responses(*shuffled), graded)


@settings(max_examples=60, deadline=None)
@given(subjects())
def test_centimetres_and_millimetres_are_the_same(frames: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """The same lengths in cm give the same visits."""
    tu, tr = frames
    in_cm = tr.assign(TRSTRESN=tr["TRSTRESN"].astype("float64") / 10, TRSTRESU="cm")
    pd.testing.assert_frame_equal(visit_responses(tu, in_cm), visit_responses(tu, tr))


@settings(max_examples=120, deadline=None)
@given(subjects(), st.data())
def test_a_larger_sum_is_never_a_better_response(
    frames: tuple[pd.DataFrame, pd.DataFrame], data: st.DataObject
) -> None:
    """A target that is larger at the last visit never makes that visit's response better."""
    tu, tr = frames
    rank = {"CR": 0, "PR": 1, "SD": 2, "PD": 3}
    before = visit_responses(tu, tr)
    last = before.groupby("USUBJID")["VISIT"].transform("last") == before["VISIT"]
    ends = before[last & before["SUMDIAM"].notna() & before["OVRLRESP"].notna()]
    measured = tr[tr["TRSTRESN"].notna()].merge(ends[["USUBJID", "VISIT"]])
    if measured.empty:
        return
    row = measured.iloc[data.draw(st.integers(0, len(measured) - 1))]
    larger = tr.copy()
    same = (larger["USUBJID"] == row["USUBJID"]) & (larger["VISIT"] == row["VISIT"])
    chosen = same & (larger["TRLNKID"] == row["TRLNKID"])
    larger.loc[chosen, "TRSTRESN"] = row["TRSTRESN"] + data.draw(st.integers(1, 200)) / 10
    after = visit_responses(tu, larger)
    for column in ("TRGRESP", "OVRLRESP"):
        pairs = zip(before[column], after[column], strict=True)
        assert all(rank[b] <= rank[a] for b, a in pairs if b in rank and a in rank)


@settings(max_examples=150, deadline=None)
@given(records(), records(), CONFIRMING)
def test_what_follows_the_first_pd_changes_nothing(
    rs: pd.DataFrame, more: pd.DataFrame, confirming: dict[str, Any]
) -> None:
    """Records after the first PD change none of the four results."""
    end = DAY_0 + timedelta(days=10 + max([(day.date() - DAY_0).days for day in rs["ADT"]], default=0))
    stop = pd.DataFrame({"USUBJID": ["S"], "ADT": [pd.Timestamp(end)], "AVALC": ["PD"]})
    with_pd = stop if rs.empty else pd.concat([rs, stop])
    if more.empty:
        return
    later = more.assign(ADT=more["ADT"] + timedelta(days=(end - DAY_0).days))
    for short, long in zip(
        four_results(with_pd, confirming), four_results(pd.concat([with_pd, later]), confirming), strict=True
    ):
        pd.testing.assert_frame_equal(short, long)


@settings(max_examples=200, deadline=None)
@given(records(), CONFIRMING)
def test_confirmed_is_never_better(rs: pd.DataFrame, confirming: dict[str, Any]) -> None:
    """BOR is never better than the best record, nor confirmed better than unconfirmed; responders agree."""
    best, confirmed, responds, sure = (frame.iloc[0] for frame in four_results(rs, confirming))
    best_record = min((ORDER.index(word) for word in rs["AVALC"]), default=ORDER.index("MISSING"))
    assert best_record <= ORDER.index(best["AVALC"]) <= ORDER.index(confirmed["AVALC"])
    assert (responds["AVALC"] == "Y") == (best["AVALC"] in ("CR", "PR"))
    assert (sure["AVALC"] == "Y") == (confirmed["AVALC"] in ("CR", "PR"))
    if sure["AVALC"] == "Y":
        assert responds["ADT"] <= sure["ADT"] <= confirmed["ADT"]


@settings(max_examples=100, deadline=None)
@given(subjects())
def test_best_response_of_visits_is_never_better_than_the_best_visit(
    frames: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    """From lesions to BOR: never better than the best visit."""
    graded = visit_responses(*frames)
    baseline = graded.drop_duplicates("USUBJID")[["USUBJID", "ADT"]]
    rs = graded[graded["OVRLRESP"].notna()].rename(columns={"OVRLRESP": "AVALC"})
    best = best_overall_response(rs, baseline).set_index("USUBJID")["AVALC"]
    for name, word in best.items():
        visits = [ORDER.index(w) for w in rs.loc[rs["USUBJID"] == name, "AVALC"]]
        assert min(visits, default=ORDER.index("MISSING")) <= ORDER.index(word)


@settings(max_examples=60, deadline=None)
@given(subjects())
def test_a_later_visit_changes_no_earlier_one(frames: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """What was graded stays when a visit is added: no response depends on what comes after it."""
    tu, tr = frames
    last = tr.groupby("USUBJID")["VISIT"].transform("max")
    earlier = tr[tr["VISIT"] < last]
    graded = visit_responses(tu, tr)
    before = visit_responses(tu, earlier)
    if before.empty:
        return
    same = graded.merge(before[["USUBJID", "VISIT"]])
    pd.testing.assert_frame_equal(same, before)
