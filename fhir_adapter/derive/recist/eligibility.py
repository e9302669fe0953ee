"""Findings about the choice of target lesions at baseline (Eisenhauer 2009, 3.1, 3.2 and 4.2).

None of them stops the grading: a study decides what to do with a subject who has one.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from fhir_adapter.derive.recist.lesions import TARGET, Lesions, read_lesions
from fhir_adapter.derive.recist.segments import run_starts

__all__ = ["FINDINGS", "MAX_TARGETS", "MAX_TARGETS_PER_ORGAN", "target_findings"]

Bools = npt.NDArray[np.bool_]

MAX_TARGETS: Final = 5
MAX_TARGETS_PER_ORGAN: Final = 2
MEASURABLE_UM: Final = 10_000
MEASURABLE_NODE_UM: Final = 15_000

FINDINGS: Final[dict[str, str]] = {
    "TARGETS-TOO-MANY": "4.2: more than 5 targets",
    "TARGETS-TOO-MANY-IN-ORGAN": "4.2: more than 2 targets in an organ",
    "TARGET-NO-BASELINE": "4.2: a target has no baseline measurement; target responses are NE",
    "TARGET-NOT-MEASURABLE": "3.1: a target is smaller than 10 mm at baseline",
    "TARGET-NODE-NOT-MEASURABLE": "3.1: the short axis of a target node is shorter than 15 mm at baseline",
}
"""The codes of the column FINDING of `target_findings`, each with its guideline section and sentence."""


def target_findings(tu: pd.DataFrame, tr: pd.DataFrame) -> pd.DataFrame:
    """Lists what is wrong with the choice of targets (Eisenhauer 2009, 3.1 and 4.2).

    Args:
        tu: as in `visit_responses`; with a column TULOC the targets of an organ are counted too. The organ is
            the text of TULOC; nodes of all regions are one organ (FAQ, two target lesions).
        tr: as in `visit_responses`.

    Returns:
        One row per finding, by USUBJID, FINDING and TULNKID: USUBJID; TULNKID of the lesion, None if the
        finding is of the subject; FINDING, a key of `FINDINGS`. Subjects without visits are not looked at.

    Raises:
        ValueError: as `visit_responses`.
    """
    lesions = read_lesions(tu, tr)
    targets = np.flatnonzero((lesions.lesion_role == TARGET) & (lesions.lesion_subject >= 0))
    subject = lesions.lesion_subject[targets]
    baseline = _baseline_sizes(lesions)[targets]
    nodal = lesions.lesion_nodal[targets]
    links = lesions.lesion_link[targets]

    found: list[pd.DataFrame] = []

    def add(name: str, subjects: npt.NDArray[np.int64], lesion_links: Any) -> None:
        frame = {"USUBJID": lesions.subjects.take(subjects), "TULNKID": lesion_links, "FINDING": name}
        found.append(pd.DataFrame(frame, index=range(len(subjects)), dtype=object))

    def add_lesions(name: str, chosen: Bools) -> None:
        add(name, subject[chosen], links[chosen])

    add_lesions("TARGET-NO-BASELINE", baseline < 0)
    add_lesions("TARGET-NOT-MEASURABLE", ~nodal & (baseline >= 0) & (baseline < MEASURABLE_UM))
    add_lesions("TARGET-NODE-NOT-MEASURABLE", nodal & (baseline >= 0) & (baseline < MEASURABLE_NODE_UM))
    too_many = np.flatnonzero(lesions.lesions_per_subject(TARGET) > MAX_TARGETS)
    add("TARGETS-TOO-MANY", too_many, None)
    if "TULOC" in tu.columns:
        places = tu.loc[tu["TULOC"].notna(), ["USUBJID", "TULNKID", "TULOC"]].drop_duplicates(
            ["USUBJID", "TULNKID"]
        )
        own = pd.DataFrame({"USUBJID": lesions.subjects.take(subject), "TULNKID": links, "NODE": nodal})
        placed = own.merge(places)
        organ = placed["TULOC"].astype(str).str.strip().str.upper().where(~placed["NODE"], "LYMPH NODE")
        counts = placed.groupby([placed["USUBJID"], organ.rename("ORGAN")]).size()
        crowded = counts[counts > MAX_TARGETS_PER_ORGAN].index.get_level_values("USUBJID").unique()
        add("TARGETS-TOO-MANY-IN-ORGAN", lesions.subjects.get_indexer(crowded), None)
    out = pd.concat(found, ignore_index=True)
    return out.sort_values(["USUBJID", "FINDING", "TULNKID"], ignore_index=True, kind="stable")


def _baseline_sizes(lesions: Lesions) -> npt.NDArray[np.int64]:
    """Per lesion its size at the subject's first visit in 0.001 mm, -1 if it was not measured there."""
    size = np.full(len(lesions.lesion_role), -1, dtype=np.int64)
    rows = np.flatnonzero(run_starts(lesions.visit_subject)[lesions.row_visit])
    np.maximum.at(size, lesions.row_lesion[rows], lesions.row_um[rows])
    # What was measured in pieces at baseline was measured; how large the whole is nobody said.
    pieces = lesions.pieces_lesion[run_starts(lesions.visit_subject)[lesions.pieces_visit]]
    size[pieces] = np.where(size[pieces] < 0, MEASURABLE_NODE_UM, size[pieces])
    return size
