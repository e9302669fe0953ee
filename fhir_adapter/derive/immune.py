"""iRECIST beside RECIST 1.1, where the study asks for it: rows of ADRS.

IOVR is the response at a visit, IBOR the best overall response, IPD whether and when disease progressed for iPFS
(Seymour 2017, Lancet Oncol 18:e143-e152). Lesions, visits and baseline are those of RECIST 1.1. Nothing of
RECIST 1.1 is changed by it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fhir_adapter.derive.baseline import NO_BASELINE, Graded
from fhir_adapter.derive.recist.irecist import (
    immune_best_overall_response,
    immune_progression,
    immune_visit_responses,
)
from fhir_adapter.study import Study

__all__ = ["IMMUNE_PARAMETERS", "immune_responses"]

#: PARAMCD of the rows and their labels.
IMMUNE_PARAMETERS = {
    "IOVR": "Overall response by visit, iRECIST",
    "IBOR": "Best overall response, iRECIST",
    "IPD": "Progression for iPFS, iRECIST",
}


def immune_responses(
    graded: Graded, study: Study, start: pd.Series[Any], death: pd.Series[Any]
) -> pd.DataFrame:
    """Rows of ADRS by iRECIST, not yet numbered.

    Args:
        graded: the readings that count.
        study: settings of RECIST 1.1, which iRECIST shares.
        start: on USUBJID, the start of treatment; subjects without one have no rows.
        death: on USUBJID, the day of death; visits dated after it do not count.

    Returns:
        The columns of ADRS by visit with ANL01FL (IOVR: up to iCPD); IBOR and IPD have one row
        per subject with a start, IBOR with the date of the visit that makes it, IPD (Y or N) with that of the iUPD.
    """
    lesions = ["USUBJID", "TULNKID", "TUSTRESC", "NODAL", "TULOC"]
    columns = ["USUBJID", "TRLNKID", "VISIT", "ADT", "TRTESTCD", "TRSTRESN", "TRSTRESC"]
    visits = immune_visit_responses(
        graded.tu[lesions],
        graded.tr[columns],
        sustained_pr=study.response.sustained_pr,
        reappearance_is_pd=study.response.reappearance_is_pd,
    )
    visits = visits[~(visits["ADT"] > visits["USUBJID"].map(death))]
    # A subject without a baseline has responses too: all but the stand-in for it.
    whole = visits
    visits = visits[visits["VISIT"] != NO_BASELINE]
    shown = visits[visits["OVRLRESP"].notna()]
    final = shown["OVRLRESP"].eq("iCPD").astype("int64")
    earlier = final.groupby(shown["USUBJID"]).cumsum() - final
    by_visit = pd.DataFrame(
        {
            "USUBJID": shown["USUBJID"],
            "PARAMCD": "IOVR",
            "VISIT": shown["VISIT"],
            "ADT": shown["ADT"],
            "AVALC": shown["OVRLRESP"],
            "RULE": shown["RULE"],
            "ANL01FL": earlier.eq(0).map({True: "Y", False: None}),
        }
    )
    subjects = pd.DataFrame({"USUBJID": start.dropna().index})
    best = subjects.merge(immune_best_overall_response(whole), on="USUBJID", how="left")
    best = best.assign(AVALC=best["AVALC"].fillna("MISSING"), PARAMCD="IBOR")
    progressed = subjects.merge(immune_progression(whole), on="USUBJID", how="left")
    progressed = progressed.assign(AVALC=progressed["AVALC"].fillna("N"), PARAMCD="IPD")
    summary = pd.concat([best, progressed], ignore_index=True)
    summary = summary.assign(ANL01FL="Y", SRCDOM="ADRS", SRCVAR="AVALC")
    parts = [part.astype(object) for part in (by_visit, summary) if len(part)]
    table = pd.concat(parts, ignore_index=True) if parts else by_visit
    table["ADT"] = pd.to_datetime(table["ADT"])
    return table.assign(EVAL="COMPUTED", RSSEQ=np.nan)
