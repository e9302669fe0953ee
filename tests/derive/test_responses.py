"""ADTR and ADRS: sums, changes, responses by visit and best responses, and the lineage of every row."""

from __future__ import annotations

import pandas as pd
import pytest
from derive_frames import BASE, day, derived, dose, lesion, row, size, state, study, subject, sums

from fhir_adapter.datasets import conform
from fhir_adapter.derive.stage import Derived

VISITS = [
    ("2021-03-05", 60.0),
    ("2021-05-05", None),
    ("2021-07-05", 50.0),
    ("2021-09-05", 75.0),
    ("2021-11-05", 40.0),
]


@pytest.fixture(scope="module")
def result() -> Derived:
    """One subject: PR, a missed target, PR again, PD, and a visit after it."""
    tu = [*BASE["TU"], lesion("N1", "NON-TARGET"), lesion("X1", "NEW")]
    tr = sums(*VISITS)
    tr += [state("N1", at, "PRESENT") for at, _ in [("2021-01-01", 0), *VISITS]]
    tr += [
        state("X1", "2021-09-05", "PRESENT"),
        {"USUBJID": "S1", "TRLNKID": "N1", "TRTESTCD": "TUMSTATE", "TRDTC": "2021-05-05"},
    ]
    ae = [{"USUBJID": "S1", "AETERM": "x", "AESTDTC": "2021-02-01"}]
    return derived(**BASE | {"TU": tu, "TR": tr, "AE": ae})


def test_sums_and_changes(result: Derived) -> None:
    """Sum, changes from baseline and nadir, and which rows count for the best change."""
    table = result.datasets["ADTR"]
    columns = ["ADT", "AVAL", "BASE", "PCHG", "NADIR", "PCHGNAD", "ABLFL", "ANL01FL"]
    found = [
        tuple(None if pd.isna(value) else day(value) if name == "ADT" else value for name, value in r.items())
        for r in table[columns].to_dict("records")
    ]
    assert found == [
        ("2021-01-01", 100.0, 100.0, None, None, None, "Y", None),
        ("2021-03-05", 60.0, 100.0, -40.0, 100.0, -40.0, None, "Y"),
        # A partial sum keeps its value and has no change from baseline.
        ("2021-05-05", 50.0, 100.0, None, 60.0, None, None, None),
        ("2021-07-05", 50.0, 100.0, -50.0, 60.0, pytest.approx(-50 / 3), None, "Y"),
        ("2021-09-05", 75.0, 100.0, -25.0, 50.0, 50.0, None, "Y"),
        # After the first progression.
        ("2021-11-05", 40.0, 100.0, -60.0, 50.0, -20.0, None, None),
    ]
    assert row(result.datasets["ADSL"])["BESTPCHG"] == -50.0


def test_responses_by_visit(result: Derived) -> None:
    """Overall, target, non-target and new lesions at each visit; ANL01FL up to the first PD."""
    table = result.datasets["ADRS"]
    found = {
        code: [(r["AVALC"], r["ANL01FL"]) for r in table[table["PARAMCD"] == code].to_dict("records")]
        for code in ("OVR", "TRG", "NTRG", "NEWL")
    }
    assert found == {
        "OVR": [("PR", "Y"), ("NE", "Y"), ("PR", "Y"), ("PD", "Y"), ("PR", None)],
        "TRG": [("PR", "Y"), ("NE", "Y"), ("PR", "Y"), ("PD", "Y"), ("PR", None)],
        "NTRG": [("NON-CR/NON-PD", "Y")] * 4 + [("NON-CR/NON-PD", None)],
        "NEWL": [("N", "Y"), ("N", "Y"), ("N", "Y"), ("Y", "Y"), ("N", None)],
    }


def test_best_responses(result: Derived) -> None:
    """BOR, CBOR, RSP and CRSP with the date and the visit that made them."""
    table = result.datasets["ADRS"]
    first = table[table["PARAMCD"] == "OVR"].iloc[0]
    for code, value in (("BOR", "PR"), ("CBOR", "PR"), ("RSP", "Y"), ("CRSP", "Y")):
        found = row(table, PARAMCD=code)
        assert (found["AVALC"], day(found["ADT"]), found["SRCDOM"], found["SRCSEQ"]) == (
            value,
            "2021-03-05",
            "ADRS",
            first["ASEQ"],
        )


def test_confirmation_is_a_setting() -> None:
    """A PR that no later scan confirms is SD where the study asks for confirmation."""
    rows = BASE | {"TR": sums(("2021-03-05", 60.0))}
    confirmed = study(response={"best": {"confirmed": True}})
    found = [row(derived(**rows, study_file=s).datasets["ADSL"]) for s in (study(), confirmed)]
    assert [(adsl["BOR"], adsl["RSPFL"], adsl["DCFL"]) for adsl in found] == [
        ("PR", "Y", "Y"),
        ("SD", None, "Y"),
    ]


def test_without_visits_the_best_response_is_missing() -> None:
    """A treated subject without a visit after baseline is MISSING (or NE by setting).

    An untreated one has none.
    """
    rows = BASE | {"DM": [subject(), subject("S2")], "TR": sums()}
    adsl = derived(**rows).datasets["ADSL"]
    assert list(adsl["BOR"]) == ["MISSING", None]
    as_ne = study(response={"best": {"missing_as_ne": True}})
    assert list(derived(**rows, study_file=as_ne).datasets["ADSL"]["BOR"]) == ["NE", None]


def test_early_stable_disease_is_not_evaluable() -> None:
    """SD before 42 days after the reference is NE; the reference is a setting."""
    rows = BASE | {"TR": sums(("2021-02-12", 100.0))}
    assert row(derived(**rows).datasets["ADSL"])["BOR"] == "SD"
    first_dose = study(response={"best": {"reference": "first_dose"}})
    assert row(derived(**rows, study_file=first_dose).datasets["ADSL"])["BOR"] == "NE"


def test_a_recorded_response_that_no_one_knows_is_a_finding() -> None:
    """It is left out and named."""
    rows = BASE | {
        "TR": sums(("2021-03-05", 100.0)),
        "RS": [{"USUBJID": "S1", "RSSTRESC": "BETTER", "RSDTC": "2021-03-05"}],
    }
    result = derived(**rows)
    assert [(f.code, f.detail) for f in result.findings] == [("unknown-response", "BETTER")]
    assert "INV" not in set(result.datasets["ADRS"]["PARAMCD"])


def _parents(result: Derived, dataset: str, seq: int) -> set[tuple[str, int, str]]:
    links = result.datasets["LINEAGE"]
    own = links[(links["DATASET"] == dataset) & (links["SEQ"] == seq)]
    return set(own[["PARENT", "PARENTSEQ", "ROLE"]].itertuples(index=False, name=None))


def test_lineage_of_a_sum(result: Derived) -> None:
    """A sum leads to its measurements, the baseline row and the nadir row."""
    assert _parents(result, "ADTR", 1) == {("TR", 1, "sum"), ("TR", 2, "sum")}
    # The visit with the missed target counts one measurement; the nadir is the visit before it.
    assert _parents(result, "ADTR", 3) == {("TR", 5, "sum"), ("ADTR", 1, "baseline"), ("ADTR", 2, "nadir")}
    assert _parents(result, "ADTR", 5) == {
        ("TR", 9, "sum"),
        ("TR", 10, "sum"),
        ("ADTR", 1, "baseline"),
        ("ADTR", 4, "nadir"),
    }


def test_lineage_of_responses_and_endpoints(result: Derived) -> None:
    """From the best response over the visit to sums and states.

    From PFS to the visit of the event and the baseline.
    """
    adrs = result.datasets["ADRS"]
    seq = {(r["PARAMCD"], day(r["ADT"])): r["ASEQ"] for r in adrs.to_dict("records")}
    assert _parents(result, "ADRS", seq["BOR", "2021-03-05"]) == {("ADRS", seq["OVR", "2021-03-05"], "best")}
    assert _parents(result, "ADRS", seq["OVR", "2021-09-05"]) == {
        ("ADTR", 5, "target"),
        ("TR", 17, "non-target"),
        ("TU", 3, "non-target"),
        ("TR", 19, "new"),
        ("TU", 4, "new"),
    }
    assert ("TR", 6, "not-assessed") in _parents(result, "ADRS", seq["OVR", "2021-05-05"])
    pfs = row(result.datasets["ADTTE"], PARAMCD="PFS")
    assert _parents(result, "ADTTE", pfs["ASEQ"]) == {
        ("ADRS", seq["OVR", "2021-09-05"], "event"),
        ("ADTR", 1, "start"),
    }
    assert _parents(result, "ADAE", 1) == {("AE", 1, "source")}
    assert _parents(result, "ADSL", 1) == {
        ("DM", 1, "source"),
        ("EX", 1, "start"),
        ("EX", 1, "last"),
        ("TR", 11, "last"),
        ("ADTR", 1, "baseline"),
        ("ADRS", seq["BOR", "2021-03-05"], "best"),
    }


def test_every_link_leads_to_a_row_and_numbers_are_unique(result: Derived) -> None:
    """No link to nothing; ASEQ is unique within subject and dataset; datasets keep their form."""
    for name, frame in result.datasets.items():
        pd.testing.assert_frame_equal(frame, conform(name, frame))
        if name != "LINEAGE":
            assert not frame.duplicated(["USUBJID", "ASEQ"]).any()
    for dataset, rows in result.datasets["LINEAGE"].groupby("DATASET"):
        own = result.datasets[dataset][["USUBJID", "ASEQ"]].to_records(index=False).tolist()
        assert set(zip(rows["USUBJID"], rows["SEQ"], strict=True)) <= set(own)


def test_order_of_rows_does_not_matter() -> None:
    """Shuffled rows of TR, and lengths recorded in another order, give equal datasets."""
    tr = [r | {"TRSEQ": n + 1} for n, r in enumerate(sums(*VISITS))]
    straight, shuffled = derived(**BASE | {"TR": tr}), derived(**BASE | {"TR": tr[::-1]})
    for name, frame in straight.datasets.items():
        pd.testing.assert_frame_equal(frame, shuffled.datasets[name])


def test_no_subject_and_no_data() -> None:
    """Empty input gives empty datasets and a flow of zeros."""
    result = derived()
    assert {len(frame) for frame in result.datasets.values()} == {0}
    assert [step.n_subjects for step in result.flow] == [0, 0, 0]


def test_nodes_and_small_lesions() -> None:
    """A node counts by its short axis; below 10 mm it is normal; too small to measure counts 5 mm."""
    rows = {
        "DM": [subject()],
        "EX": [dose("2021-01-02")],
        "TU": [lesion("T1"), lesion("LN", TUNODAL="Y")],
        "TR": [
            size("T1", "2021-01-01", 40.0),
            size("LN", "2021-01-01", 20.0, TRTESTCD="LPERP"),
            size("T1", "2021-03-05", None, TRSTRESC="TOO SMALL TO MEASURE"),
            size("LN", "2021-03-05", 9.0, TRTESTCD="LPERP"),
            size("T1", "2021-05-05", 0.0),
            size("LN", "2021-05-05", 9.0, TRTESTCD="LPERP"),
        ],
    }
    result = derived(**rows)
    assert list(result.datasets["ADTR"]["AVAL"]) == [60.0, 14.0, 9.0]
    overall = result.datasets["ADRS"].query("PARAMCD == 'OVR'")
    assert list(overall["AVALC"]) == ["PR", "CR"]
