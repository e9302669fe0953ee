"""iRECIST beside RECIST 1.1, from a study file to ADRS, ADTTE and the report's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from derive_frames import BASE, day, derived, lesion, row, size, state, study, subject, sums

from fhir_adapter.analysis.stage import analyse
from fhir_adapter.derive.stage import Derived
from fhir_adapter.report.methods import methods
from fhir_adapter.study import load_study

STUDY, _ = load_study(Path(__file__).parent.parent / "data" / "recist" / "irecist.yaml")

# Sum of diameters at 6, 12, 18, 24 weeks (100 mm at baseline), and what is expected: responses by RECIST 1.1 and
# iRECIST, best responses, days of PFS and iPFS with CNSR, clinical benefit at 150 days.
DAYS = ["2021-02-12", "2021-03-26", "2021-05-07", "2021-06-18"]
SUBJECTS: dict[str, tuple[list[float], str, str, tuple[str, str], tuple[Any, ...], str]] = {
    # Pseudoprogression: iUPD is reset by a response, which RECIST 1.1 no longer counts.
    "PSEUDO": (
        [125.0, 65.0, 60.0, 60.0],
        "PD PR PR PR",
        "iUPD iPR iPR iPR",
        ("PD", "iPR"),
        (42, 0, 168, 1),
        "N",
    ),
    # Confirmed by 5 mm more: iPFS dates from the first iUPD.
    "CONFIRMED": (
        [100.0, 125.0, 131.0, 40.0],
        "SD PD PD PR",
        "iSD iUPD iCPD iCPD",
        ("SD", "iSD"),
        (84, 0, 84, 0),
        "N",
    ),
    # Neither confirmed nor reset.
    "PENDING": (
        [70.0, 95.0, 96.0, 97.0],
        "PR PD PD PD",
        "iPR iUPD iUPD iUPD",
        ("PR", "iPR"),
        (84, 0, 84, 0),
        "Y",
    ),
    "STABLE": (
        [100.0, 95.0, 90.0, 90.0],
        "SD SD SD SD",
        "iSD iSD iSD iSD",
        ("SD", "iSD"),
        (168, 1, 168, 1),
        "Y",
    ),
}


@pytest.fixture(scope="module")
def result() -> Derived:
    """Four subjects with visits every six weeks, one with a baseline alone."""
    names = [*SUBJECTS, "ALONE"]
    tr = [
        one
        for name in names
        for one in sums(*zip(DAYS, SUBJECTS[name][0] if name in SUBJECTS else [], strict=False), usubjid=name)
    ]
    return derived(
        DM=[subject(name) for name in names],
        EX=[BASE["EX"][0] | {"USUBJID": name} for name in names],
        TU=[lesion(link, usubjid=name) for name in names for link in ("T1", "T2")],
        TR=tr,
        study_file=STUDY,
    )


@pytest.mark.parametrize("name", SUBJECTS)
def test_responses_and_endpoints(result: Derived, name: str) -> None:
    """Responses by visit, best responses, PFS, iPFS and clinical benefit of each subject."""
    _, recist, immune, best, (pfs, censored, ipfs, icensored), benefit = SUBJECTS[name]
    adrs = result.datasets["ADRS"]
    own = adrs[adrs["USUBJID"] == name]
    for code, expected in (("OVR", recist), ("IOVR", immune)):
        assert list(own.loc[own["PARAMCD"] == code, "AVALC"]) == expected.split()
    assert (row(own, PARAMCD="BOR")["AVALC"], row(own, PARAMCD="IBOR")["AVALC"]) == best
    times = result.datasets["ADTTE"]
    for code, days, cnsr in (("PFS", pfs, censored), ("IPFS", ipfs, icensored)):
        found = row(times, USUBJID=name, PARAMCD=code)
        assert (found["AVAL"], found["CNSR"]) == (days, cnsr)
        source = adrs[(adrs["USUBJID"] == name) & (adrs["ASEQ"] == found["SRCSEQ"])]
        assert set(source["PARAMCD"]) == {"OVR" if code == "PFS" else "IOVR"}
    assert row(own, PARAMCD="CB")["AVALC"] == benefit
    assert row(result.datasets["ADSL"], USUBJID=name)["CBFL"] == (benefit if benefit == "Y" else None)


def test_a_subject_with_a_baseline_alone(result: Derived) -> None:
    """The best response is MISSING as BOR is, without a date, and iPFS is censored at its start."""
    own = result.datasets["ADRS"]
    own = own[own["USUBJID"] == "ALONE"]
    for code in ("BOR", "IBOR"):
        found = row(own, PARAMCD=code)
        assert (found["AVALC"], day(found["ADT"]), found["SRCDOM"]) == ("MISSING", None, None)
    assert row(result.datasets["ADTTE"], USUBJID="ALONE", PARAMCD="IPFS")["CNSR"] == 4


def test_every_row_leads_to_its_visit_and_measurements(result: Derived) -> None:
    """IBOR leads to its visit, the visit to its sum; the event of iPFS to its iUPD."""
    links, adrs = result.datasets["LINEAGE"], result.datasets["ADRS"]
    own = adrs[adrs["USUBJID"] == "PSEUDO"]
    visit = own[own["PARAMCD"] == "IOVR"].iloc[1]
    best = row(own, PARAMCD="IBOR")
    mine = links[(links["USUBJID"] == "PSEUDO") & (links["DATASET"] == "ADRS")]
    assert list(mine.loc[mine["SEQ"] == best["ASEQ"], "PARENTSEQ"]) == [visit["ASEQ"]]
    assert set(mine.loc[mine["SEQ"] == visit["ASEQ"], "PARENT"]) == {"ADTR"}


def test_the_report_has_both_beside_each_other(result: Derived) -> None:
    """A table with BOR and iBOR, whose counts add up to the subjects; the methods name iRECIST."""
    results = analyse(result.datasets, STUDY, data_cutoff="2022-06-30")
    (table,) = [display for display in results.displays if display.id == "response_irecist"]
    assert table.columns == ("RECIST 1.1", "iRECIST")
    counts = {id_: results[f"irecist.{id_}.n"].value for id_ in (
        "bor.pd", "bor.pr", "bor.sd", "bor.ne", "ibor.ipr", "ibor.isd", "ibor.iupd", "ibor.icpd", "ibor.missing", "orr",
        "iorr",
    )}  # fmt: skip
    assert counts == {
        "bor.pd": 1, "bor.pr": 1, "bor.sd": 2, "bor.ne": 1, "ibor.ipr": 2, "ibor.isd": 2, "ibor.iupd": 0,
        "ibor.icpd": 0, "ibor.missing": 1, "orr": 1, "iorr": 2,
    }  # fmt: skip
    assert results["response.total.cbr.n"].value == 2
    text = " ".join(str(part) for part in methods(STUDY, results, lambda text: text))
    assert "iRECIST" in text
    assert "Clinical benefit" in text


def test_without_the_setting_there_is_nothing_of_it() -> None:
    """RECIST 1.1 alone derives no iRECIST, and iPFS without it is refused."""
    rows = BASE | {"TR": sums(("2021-03-05", 100.0))}
    assert not set(derived(**rows).datasets["ADRS"]["PARAMCD"]) & {"IOVR", "IBOR", "IPD", "CB"}
    with pytest.raises(ValueError, match="iPFS needs criteria"):
        study(endpoints=[{"id": "IPFS", "label": "iPFS", "kind": "IPFS"}])


def test_new_lesions_confirm_and_death_ends() -> None:
    """A new lesion is iUPD, a second one iCPD; after a death nothing is graded, and it is the event of iPFS."""
    tu = [*BASE["TU"], lesion("N1", "NEW"), lesion("N2", "NEW")]
    tr = sums(("2021-03-05", 100.0), ("2021-05-05", 100.0))
    tr += [state("N1", "2021-03-05", "PRESENT"), state("N1", "2021-05-05", "PRESENT")]
    tr += [state("N2", "2021-05-05", "PRESENT"), size("N1", "2021-05-05", 12.0)]
    result = derived(**BASE | {"TU": tu, "TR": tr}, study_file=STUDY)
    adrs = result.datasets["ADRS"]
    assert list(adrs.loc[adrs["PARAMCD"] == "IOVR", "AVALC"]) == ["iUPD", "iCPD"]
    found = row(result.datasets["ADTTE"], PARAMCD="IPFS")
    assert (day(found["ADT"]), found["EVNTDESC"]) == ("2021-03-05", "Progressive disease by iRECIST")
    died = BASE | {"DM": [subject(DTHDTC="2021-02-20")], "TU": tu, "TR": tr}
    found = row(derived(**died, study_file=STUDY).datasets["ADTTE"], PARAMCD="IPFS")
    assert (day(found["ADT"]), found["EVNTDESC"]) == ("2021-02-20", "Death")


def test_scans_are_not_graded_twice(result: Derived) -> None:
    """RECIST 1.1 is the same with and without iRECIST."""
    rows = BASE | {"TR": sums(("2021-03-05", 100.0), ("2021-05-05", 130.0))}
    both, alone = derived(**rows, study_file=STUDY), derived(**rows)
    kept = ["USUBJID", "PARAMCD", "VISIT", "ADT", "AVALC", "RULE", "ANL01FL"]
    shown = [
        one.datasets["ADRS"].loc[
            one.datasets["ADRS"]["PARAMCD"].isin(["OVR", "TRG", "NEWL", "BOR", "RSP"]), kept
        ]
        for one in (both, alone)
    ]
    pd.testing.assert_frame_equal(*[frame.reset_index(drop=True) for frame in shown])
