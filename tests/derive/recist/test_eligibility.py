"""What is wrong with the choice of targets."""

from __future__ import annotations

import pandas as pd

from fhir_adapter.derive.recist.eligibility import FINDINGS, target_findings

TU = pd.DataFrame(
    [
        ("A", "T1", "TARGET", False, "LIVER"),
        ("A", "T2", "TARGET", False, "Liver"),
        ("A", "T3", "TARGET", False, "LIVER"),
        ("A", "T4", "TARGET", True, "NECK"),
        ("A", "T5", "TARGET", True, "AXILLA"),
        ("A", "T6", "TARGET", False, "LUNG"),
        ("B", "T1", "TARGET", False, None),
        ("C", "T1", "TARGET", True, "NECK"),
        ("C", "T2", "TARGET", True, "AXILLA"),
        ("C", "T3", "TARGET", True, "GROIN"),
    ],
    columns=["USUBJID", "TULNKID", "TUSTRESC", "NODAL", "TULOC"],
)
TR = pd.DataFrame(
    [
        ("A", "T1", "BASELINE", "2021-01-04", "LDIAM", 9.999, "9.999"),
        ("A", "T2", "BASELINE", "2021-01-04", "LDIAM", 10.0, "10"),
        ("A", "T3", "BASELINE", "2021-01-04", "LDIAM", None, "TOO SMALL TO MEASURE"),
        ("A", "T4", "BASELINE", "2021-01-04", "LPERP", 14.9, "14.9"),
        ("A", "T5", "BASELINE", "2021-01-04", "LPERP", 15.0, "15"),
        ("A", "T6", "WEEK 6", "2021-02-15", "LDIAM", 20.0, "20"),
        ("B", "T1", "BASELINE", "2021-01-04", "LDIAM", 10.0, "10"),
        ("C", "T1", "BASELINE", "2021-01-04", "LPERP", 15.0, "15"),
        ("C", "T2", "BASELINE", "2021-01-04", "LPERP", 15.0, "15"),
        ("C", "T3", "BASELINE", "2021-01-04", "LPERP", 15.0, "15"),
    ],
    columns=["USUBJID", "TRLNKID", "VISIT", "ADT", "TRTESTCD", "TRSTRESN", "TRSTRESC"],
)


def test_findings() -> None:
    """More than five targets, or two in an organ (nodes are one); baselines too small or missing."""
    assert target_findings(TU, TR).to_dict("split")["data"] == [
        ["A", "T6", "TARGET-NO-BASELINE"],
        ["A", "T4", "TARGET-NODE-NOT-MEASURABLE"],
        ["A", "T1", "TARGET-NOT-MEASURABLE"],
        ["A", "T3", "TARGET-NOT-MEASURABLE"],
        ["A", None, "TARGETS-TOO-MANY"],
        ["A", None, "TARGETS-TOO-MANY-IN-ORGAN"],
        ["C", None, "TARGETS-TOO-MANY-IN-ORGAN"],
    ]
    assert set(target_findings(TU, TR)["FINDING"]) == set(FINDINGS)


def test_no_findings() -> None:
    """Two targets in an organ are allowed; without TULOC organs are not counted; nothing in, nothing out."""
    fine = TU[TU["USUBJID"] == "B"], TR[TR["USUBJID"] == "B"]
    assert target_findings(*fine).empty
    assert "TARGETS-TOO-MANY-IN-ORGAN" not in set(target_findings(TU.drop(columns="TULOC"), TR)["FINDING"])
    assert target_findings(TU.iloc[:0], TR.iloc[:0]).columns.tolist() == ["USUBJID", "TULNKID", "FINDING"]


def test_a_target_measured_in_pieces_at_baseline() -> None:
    """Two fragments at baseline are one target, which has its baseline."""
    tu = pd.DataFrame([{"USUBJID": "A", "TULNKID": "T1", "TUSTRESC": "TARGET", "NODAL": False}])
    tr = pd.DataFrame(
        [("A", link, "BASE", "2021-01-04", "LDIAM", 8.0, "8") for link in ("T1.1", "T1.2")],
        columns=["USUBJID", "TRLNKID", "VISIT", "ADT", "TRTESTCD", "TRSTRESN", "TRSTRESC"],
    )
    assert target_findings(tu, tr).empty
