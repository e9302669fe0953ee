"""The baseline examination, and which visits count after it.

The baseline is the last complete assessment in [start - `baseline_window_days`, start] (Eisenhauer 2009, 4.2,
asks for at most four weeks; rules.md, Dates). Scans before it are not needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from fhir_adapter.accounting import Finding
from fhir_adapter.derive.findings import per_subject
from fhir_adapter.derive.recist.eligibility import target_findings
from fhir_adapter.derive.recist.visits import assessed_lesions
from fhir_adapter.derive.visits import Assessments

__all__ = ["NO_BASELINE", "Graded", "choose_visits", "unmeasurable_targets"]

#: Name of the empty visit that stands in for a missing baseline, so that the visits after it can be graded.
NO_BASELINE: Final = "(NO BASELINE)"


@dataclass
class Graded:
    """What is graded.

    Attributes:
        tu: lesions, as `recist.visit_responses` takes them, with TUSEQ.
        tr: rows of the baseline visit and those after it, with TRSEQ, ROLE and ASSESSED; the first visit is
            the baseline.
        visits: USUBJID, VISIT, FIRST, LAST (days of the visit's scans), COMPLETE (every target measured),
            ABLFL (bool).
        baseline: on USUBJID: VISIT and BASEDT (latest scan of the baseline visit).
        earlier: number of visits before the baseline or between it and the start, which are not needed.
        findings: subjects without a baseline, or with an incomplete one.
    """

    tu: pd.DataFrame
    tr: pd.DataFrame
    visits: pd.DataFrame
    baseline: pd.DataFrame
    earlier: int
    findings: list[Finding]


def _visit_table(data: Assessments) -> pd.DataFrame:
    """One row per visit: dates, and how many targets and non-targets were assessed."""
    columns = ["USUBJID", "TRLNKID", "VISIT", "ADT", "TRTESTCD", "TRSTRESN", "TRSTRESC"]
    table = assessed_lesions(data.tu[["USUBJID", "TULNKID", "TUSTRESC", "NODAL"]], data.tr[columns])
    return table.sort_values(["USUBJID", "VISIT"], kind="stable", ignore_index=True)


def choose_visits(data: Assessments, start: pd.Series[Any], window_days: int) -> Graded:
    """Finds each subject's baseline visit and the visits after it.

    In the window, a visit where all targets and non-targets were assessed comes before one with all targets,
    and that before an incomplete one; of equals the last counts. A visit of one label whose scans lie on both
    sides of the start is taken if it has all targets and no visit lies wholly before; that is a finding.

    Args:
        data: assessments with their visits.
        start: on USUBJID, the first dose (or randomisation); subjects without one are not graded.
        window_days: length of the window before the start.
    """
    visits = _visit_table(data)
    visits["START"] = visits["USUBJID"].map(start)
    visits = visits[visits["START"].notna()]
    opened = visits["START"] - pd.to_timedelta(window_days, unit="D")
    inside = (visits["FIRST"] >= opened) & (visits["LAST"] <= visits["START"])
    straddles = (visits["FIRST"] >= opened) & (visits["FIRST"] <= visits["START"]) & ~inside
    targets = visits["TARGETS_SEEN"] == visits["TARGETS"]
    everything = targets & (visits["NONTARGETS_SEEN"] == visits["NONTARGETS"])
    tier = np.select([inside & everything, inside & targets, straddles & targets, inside], [0, 1, 2, 3], 9)
    visits = visits.assign(TIER=tier, COMPLETE=targets & (visits["TARGETS"] > 0))
    best = (
        visits[visits["TIER"] < 9]
        .sort_values(
            ["USUBJID", "TIER", "TARGETS_SEEN", "LAST", "FIRST"],
            ascending=[True, True, False, False, False],
            kind="stable",
        )
        .drop_duplicates("USUBJID")
        .set_index("USUBJID")
    )
    findings = [
        Finding(
            "baseline-after-start",
            "the scans of the baseline visit reach beyond the first dose",
            "derive",
            usubjid=name,
        )
        for name in best.index[best["TIER"] == 2]
    ]
    # An incomplete baseline leaves a target without its baseline measurement.
    short = best.index[(best["TARGETS_SEEN"] < best["TARGETS"])]
    findings += [
        Finding(
            "target-without-baseline",
            "a target has no measurement at baseline: no baseline sum, responses not evaluable",
            "derive",
            usubjid=str(name),
        )
        for name in short
    ]
    first = visits["USUBJID"].map(best["FIRST"])
    last = visits["USUBJID"].map(best["LAST"])
    has_baseline = first.notna()
    is_baseline = visits["VISIT"] == visits["USUBJID"].map(best["VISIT"])
    later = (visits["FIRST"] > first) | ((visits["FIRST"] == first) & (visits["LAST"] > last))
    counts = is_baseline | ((visits["LAST"] > visits["START"]) & (later | ~has_baseline))
    earlier = int((~counts).sum())
    visits = visits.assign(ABLFL=is_baseline)[counts].reset_index(drop=True)
    missing = sorted(set(visits["USUBJID"]) - set(best.index))
    findings += [
        Finding(
            "no-baseline",
            f"no tumour assessment in the {window_days} days before the start: responses not evaluable",
            "derive",
            usubjid=name,
        )
        for name in missing
    ]
    kept = pd.MultiIndex.from_frame(visits[["USUBJID", "VISIT"]])
    tr = data.tr[pd.MultiIndex.from_frame(data.tr[["USUBJID", "VISIT"]]).isin(kept)]
    tu = data.tu[data.tu["USUBJID"].isin(set(visits["USUBJID"]))]
    baseline = best[["VISIT", "LAST"]].rename(columns={"LAST": "BASEDT"})
    columns = ["USUBJID", "VISIT", "FIRST", "LAST", "COMPLETE", "ABLFL"]
    return Graded(
        tu.reset_index(drop=True),
        pd.concat([tr, _stand_ins(tr, missing)], ignore_index=True) if missing else tr.reset_index(drop=True),
        visits[columns],
        baseline,
        earlier,
        findings,
    )


def unmeasurable_targets(graded: Graded) -> list[Finding]:
    """Findings for targets that were not measurable at baseline (Eisenhauer 2009, 3.1); they are graded all the same.

    A target must be 10 mm long, a node 15 mm on its short axis.
    """
    columns = ["USUBJID", "TRLNKID", "VISIT", "ADT", "TRTESTCD", "TRSTRESN", "TRSTRESC"]
    found = target_findings(graded.tu[["USUBJID", "TULNKID", "TUSTRESC", "NODAL"]], graded.tr[columns])
    cases = (
        ("TARGET-NOT-MEASURABLE", "target-not-measurable", "a target is smaller than 10 mm at baseline"),
        (
            "TARGET-NODE-NOT-MEASURABLE",
            "node-not-measurable",
            "the short axis of a target node is shorter than 15 mm at baseline",
        ),
    )
    return [
        finding
        for name, code, text in cases
        for finding in per_subject(code, text, found.loc[found["FINDING"] == name, "USUBJID"])
    ]


def _stand_ins(tr: pd.DataFrame, subjects: list[str]) -> pd.DataFrame:
    """An empty visit the day before the first scan of each subject without a baseline.

    It is taken out after grading.
    """
    first = tr[tr["USUBJID"].isin(subjects)].sort_values(["USUBJID", "ADT"], kind="stable")
    rows = first.drop_duplicates("USUBJID").copy()
    rows["ADT"] = rows["ADT"] - pd.to_timedelta(1, unit="D")
    rows["VISIT"] = NO_BASELINE
    rows["TRSTRESN"] = np.nan
    rows["TRSTRESC"] = None
    rows["ASSESSED"] = False
    return rows
