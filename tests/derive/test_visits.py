"""Visits, baseline, lesions that cannot be used, evaluators."""

from __future__ import annotations

import pandas as pd
import pytest
from derive_frames import BASE, codes, day, derived, dose, lesion, row, size, state, study, sums

from fhir_adapter.derive.visits import assign_visits

START = pd.Series(pd.to_datetime(["2021-01-02"]), index=["S1"])


def _visits(*rows: tuple[str | None, str]) -> list[str]:
    table = pd.DataFrame(
        {
            "USUBJID": "S1",
            "VISIT": [label for label, _ in rows],
            "ADT": pd.to_datetime([at for _, at in rows]),
        }
    )
    return list(assign_visits(table, 14, START))


def test_one_label_within_the_window_is_one_visit() -> None:
    """14 days after the first scan still belong to the visit, 15 do not.

    The window starts with each visit's first scan.
    """
    found = _visits(
        ("W9", "2021-03-01"),
        ("W9", "2021-03-15"),
        ("W9", "2021-03-16"),
        ("W9", "2021-03-30"),
        ("W9", "2021-03-31"),
    )
    assert found == ["W9", "W9", "W9 (2)", "W9 (2)", "W9 (3)"]


def test_different_labels_are_different_visits() -> None:
    """Labels that lie close together are not put together."""
    assert _visits(("W9", "2021-03-01"), ("UNSCHEDULED", "2021-03-03")) == ["W9", "UNSCHEDULED"]


def test_scans_without_a_label_are_clustered_by_date() -> None:
    """Without labels the date decides, and a scan after the first dose never joins one before it."""
    found = _visits(
        (None, "2021-01-01"),
        (None, "2021-01-08"),
        (None, "2021-03-01"),
        (None, "2021-03-15"),
        (None, "2021-03-16"),
    )
    assert found == ["ASSESSMENT 1", "ASSESSMENT 2", "ASSESSMENT 3", "ASSESSMENT 3", "ASSESSMENT 4"]


def test_a_scan_without_a_label_joins_the_labelled_visit_before_it() -> None:
    """A scan without a label up to 14 days after the first scan of a labelled visit belongs to it."""
    assert _visits(("W9", "2021-03-01"), (None, "2021-03-10"), (None, "2021-03-16")) == [
        "W9",
        "W9",
        "ASSESSMENT 1",
    ]


def test_order_of_rows_does_not_matter() -> None:
    """Shuffled rows get the same visits."""
    rows = [("W9", "2021-03-16"), (None, "2021-05-01"), ("W9", "2021-03-01"), (None, "2021-03-02")]
    assert _visits(*rows) == ["W9 (2)", "ASSESSMENT 1", "W9", "W9"]


@pytest.mark.parametrize(
    ("scans", "baseline"),
    [
        # The last complete one in the 28 days up to the first dose (2021-01-31).
        ({"2020-12-01": 2, "2021-01-05": 2, "2021-01-20": 2}, "2021-01-20"),
        # The last one is incomplete.
        ({"2021-01-05": 2, "2021-01-20": 1}, "2021-01-05"),
        # 28 days before still count, 29 do not.
        ({"2021-01-03": 2}, "2021-01-03"),
        ({"2021-01-02": 2}, None),
        # The day of the first dose counts, the day after does not.
        ({"2021-01-31": 2}, "2021-01-31"),
        ({"2021-02-01": 2}, None),
        # Nothing complete: the incomplete one, with a finding.
        ({"2021-01-05": 1}, "2021-01-05"),
    ],
)
def test_baseline(scans: dict[str, int], baseline: str | None) -> None:
    """The baseline is the last complete assessment in the window before the first dose."""
    tr = [size(f"T{n + 1}", at, 50.0) for at, measured in scans.items() for n in range(measured)]
    result = derived(**BASE | {"EX": [dose("2021-01-31")], "TR": [*tr, size("T1", "2021-04-01", 50.0)]})
    assert day(row(result.datasets["ADSL"])["BASEDT"]) == baseline
    assert ("no-baseline" in codes(result)) == (baseline is None)
    assert ("target-without-baseline" in codes(result)) == (scans == {"2021-01-05": 1})


def test_earlier_scans_are_counted_and_no_finding() -> None:
    """Scans of an earlier line are not needed."""
    tr = [size("T1", "2019-01-01", 10.0), size("T2", "2019-01-01", 10.0), *sums(("2021-03-05", 100.0))]
    result = derived(**BASE | {"TR": tr})
    assert (result.counts, codes(result)) == ({"visits-before-baseline": 1}, set())
    assert list(result.datasets["ADTR"]["AVAL"]) == [100.0, 100.0]


def test_without_a_baseline_nothing_is_evaluable_but_a_new_lesion() -> None:
    """No baseline: NE by the rule that names it, PD with a definite new lesion; no PFS from baseline."""
    rows = {
        "EX": [dose("2021-01-02")],
        "TU": [lesion("T1"), lesion("X1", "NEW")],
        "TR": [
            size("T1", "2021-03-01", 50.0),
            size("T1", "2021-05-01", 20.0),
            state("X1", "2021-05-01", "PRESENT"),
        ],
    }
    result = derived(**BASE | rows)
    overall = result.datasets["ADRS"].query("PARAMCD == 'OVR'")
    assert list(overall["AVALC"]) == ["NE", "PD"]
    assert list(overall["RULE"]) == ["NE-BASE", "PD-NEW-LESION"]
    assert result.datasets["ADTTE"].empty
    assert row(result.datasets["ADSL"])["BOR"] == "PD"


def test_a_visit_that_reaches_beyond_the_first_dose_is_taken_with_a_finding() -> None:
    """The only complete assessment is of one label and ends after the first dose.

    It is the baseline, and a finding.
    """
    tr = [size("T1", "2021-01-01", 50.0, VISIT="BASELINE"), size("T2", "2021-01-05", 50.0, VISIT="BASELINE")]
    result = derived(**BASE | {"TR": tr})
    assert day(row(result.datasets["ADSL"])["BASEDT"]) == "2021-01-05"
    assert codes(result) == {"baseline-after-start"}


@pytest.mark.parametrize(
    ("tu", "tr", "code"),
    [
        ([], [size("T9", "2021-03-01", 10.0)], "lesion-without-role"),
        ([lesion("T9", role=None)], [size("T9", "2021-03-01", 10.0)], "lesion-without-role"),  # type: ignore[arg-type]
        ([], [size(None, "2021-03-01", 10.0)], "lesion-without-identity"),  # type: ignore[arg-type]
        ([], [size("T1", "2021-03-01", -1.0)], "impossible-size"),
        ([lesion("N", "NON-TARGET")], [state("N", "2021-03-01", "BETTER")], "unknown-tumour-state"),
        ([lesion("N", TUNODAL="Y")], [size("N", "2021-01-01", 20.0)], "target-on-other-axis"),
        ([lesion("T1", "NON-TARGET")], [], "lesion-with-two-roles"),
        ([lesion(f"L{n}") for n in range(4)], [], "too-many-targets"),
        ([lesion(f"L{n}", TULOC="LIVER") for n in range(3)], [], "too-many-targets-in-organ"),
        ([], [size("T1", "1950-01-01", 10.0)], "scan-before-birth"),
    ],
)
def test_findings_of_lesions(tu: list[dict[str, object]], tr: list[dict[str, object]], code: str) -> None:
    """What cannot be used, or breaks the guideline's limits, is a finding and stops nothing."""
    result = derived(**BASE | {"TU": [*BASE["TU"], *tu], "TR": [*sums(), *tr]})
    assert code in codes(result)


def test_five_targets_and_two_in_an_organ_are_no_finding() -> None:
    """The limits themselves are allowed."""
    tu = [lesion(f"T{n}", TULOC="LIVER" if n < 3 else "LUNG" if n < 5 else "BONE") for n in range(1, 6)]
    result = derived(**BASE | {"TU": tu, "TR": [size(f"T{n}", "2021-01-01", 10.0) for n in range(1, 6)]})
    assert codes(result) == set()


def test_scan_after_death() -> None:
    """A scan after death is a finding and its response does not count."""
    rows = BASE | {"TR": sums(("2021-03-05", 100.0), ("2021-06-05", 200.0))}
    rows["DM"] = [rows["DM"][0] | {"DTHDTC": "2021-05-01"}]
    result = derived(**rows)
    assert {"scan-after-death", "contact-after-death"} <= codes(result)
    survival = row(result.datasets["ADTTE"], PARAMCD="PFS")
    assert (day(survival["ADT"]), survival["EVNTDESC"]) == ("2021-05-01", "Death")


def test_several_evaluators() -> None:
    """Two readers' measurements: the investigator's are graded, and a finding says so."""
    tr = [r | {"TREVAL": "INVESTIGATOR"} for r in sums(("2021-03-05", 100.0))]
    tr += [r | {"TREVAL": "READER 1"} for r in sums(("2021-03-05", 200.0))]
    result = derived(**BASE | {"TR": tr})
    assert codes(result) == {"several-evaluators"}
    assert row(result.datasets["ADRS"], PARAMCD="OVR")["AVALC"] == "SD"


def test_window_is_a_setting() -> None:
    """`visit_window_days: 0` makes each day a visit."""
    rows = BASE | {"TR": [*sums(), size("T1", "2021-03-05", 50.0), size("T2", "2021-03-06", 50.0)]}
    assert row(derived(**rows).datasets["ADSL"])["NASSESS"] == 1
    assert (
        row(derived(**rows, study_file=study(response={"visit_window_days": 0})).datasets["ADSL"])["NASSESS"]
        == 2
    )


def test_targets_that_were_not_measurable() -> None:
    """A target below 10 mm and a node below 15 mm at baseline are findings; they are graded all the same."""
    tu = [lesion("T1"), lesion("T2", TUNODAL="Y")]
    tr = [size("T1", at, 9.0) for at in ("2021-01-01", "2021-03-05")]
    tr += [size("T2", at, 14.0, TRTESTCD="LPERP") for at in ("2021-01-01", "2021-03-05")]
    result = derived(**BASE | {"TU": tu, "TR": tr})
    assert codes(result) == {"target-not-measurable", "node-not-measurable"}
    assert row(result.datasets["ADRS"], PARAMCD="OVR")["AVALC"] == "SD"


def test_pieces_are_no_targets_more() -> None:
    """Five targets, of which one split and two merged, are five; nodes of all regions are one organ."""
    names = [f"T{n}" for n in range(1, 6)]
    tu = [lesion(name) for name in names]
    tr = [size(name, "2021-01-01", 20.0) for name in names]
    tr += [size(name, "2021-03-05", 10.0) for name in ("T1.1", "T1.2", "T2/T3", "T4", "T5")]
    result = derived(**BASE | {"TU": tu, "TR": tr})
    assert codes(result) == set()
    assert row(result.datasets["ADTR"], VISIT="ASSESSMENT 2")["AVAL"] == 50.0
    nodes = [lesion(name, TUNODAL="Y", TULOC=f"Region {name}") for name in ("T1", "T2", "T3")]
    tr = [size(name, "2021-01-01", 20.0, TRTESTCD="LPERP") for name in ("T1", "T2", "T3")]
    assert codes(derived(**BASE | {"TU": nodes, "TR": tr})) == {"too-many-targets-in-organ"}
