"""ADAE.

Adverse events with analysis dates, treatment emergence, causality and the worst record per term (CTCAE 5).
"""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

from fhir_adapter.accounting import Finding
from fhir_adapter.derive.dates import impute_dates, read_dates
from fhir_adapter.derive.findings import of_subjects, per_subject
from fhir_adapter.derive.numbering import flag, number, study_day
from fhir_adapter.study import Study

__all__ = ["adverse_events"]

#: Causality that says nothing for or against (WHO-UMC's last two categories, and the usual words): unknown,
#: not "no".
_UNKNOWN_CAUSALITY: Final = (
    "UNKNOWN",
    "UNASSESSABLE",
    "UNASSESSABLE-UNCLASSIFIABLE",
    "UNASSESSABLE/UNCLASSIFIABLE",
    "CONDITIONAL",
    "CONDITIONAL-CLASSIFIED",
    "CONDITIONAL/UNCLASSIFIED",
    "UNCLASSIFIED",
    "NOT ASSESSABLE",
    "NOT ASSESSED",
    "NA",
)


def adverse_events(
    ae: pd.DataFrame, study: Study, subjects: pd.DataFrame
) -> tuple[pd.DataFrame, list[Finding]]:
    """Rows of ADAE with ASEQ, one per event.

    - ASTDT: partial dates by `imputation.ae_start`, not before birth nor, within what was written, before the
      first dose, nor after the end of the event or death.
    - TRTEMFL: from the first dose to `toxicity.window_days` after the last. An event whose date is not known
      to the day counts as emergent unless what is known excludes it (the conservative reading); that is a
      finding.
    - AREL: Y for a value of `toxicity.related_values`; null where causality is absent or unknown; else N.
    - AOCCIFL: the first record at the worst grade of a subject and term, among the events that the toxicity
      tables count (emergent and, with `toxicity.related_only`, related); a missing grade is below every
      grade.

    Args:
        ae: AE up to the cut-off.
        study: imputation and toxicity.
        subjects: on USUBJID: STUDYID, BIRTH, TRTSDT, TRTEDT, DTHDT.
    """
    rows = ae[ae["USUBJID"].isin(subjects.index)].reset_index(drop=True)
    subject = rows["USUBJID"]
    birth, first, last, death = (
        subject.map(subjects[name]) for name in ("BIRTH", "TRTSDT", "TRTEDT", "DTHDT")
    )
    start, end = read_dates(rows["AESTDTC"]), read_dates(rows["AEENDTC"])
    made = impute_dates(start, study.imputation.ae_start, lower=(birth, first), upper=(end["LAST"], death))
    date = made["DATE"]
    window_end = last + pd.to_timedelta(study.toxicity.window_days, unit="D")
    emergent = (date >= first) & (date <= window_end)
    # What is possible of an event that has no day.
    earliest, latest = start["FIRST"].fillna(pd.Timestamp.min), start["LAST"].fillna(pd.Timestamp.max)
    before = end["LAST"] < first
    possible = (latest >= first) & (earliest <= window_end) & ~before & first.notna()
    doubtful = date.isna() & possible
    text = "no complete start date: the event counts as emergent unless what is known excludes it"
    findings = of_subjects("event-without-date", text, subject[date.isna()], "events")
    for code, text, bad in (
        ("event-before-birth", "an adverse event is dated before birth", start["LAST"] < birth),
        ("event-after-death", "an adverse event starts after death", date > death),
        ("event-ends-before-start", "an adverse event ends before it starts", end["LAST"] < start["FIRST"]),
    ):
        findings += per_subject(code, text, subject[bad])

    causality = rows["AEREL"].astype("string").str.strip().str.upper()
    related = causality.isin([value.upper() for value in study.toxicity.related_values])
    unknown = causality.isna() | (causality.isin(_UNKNOWN_CAUSALITY) & ~related)
    table = pd.DataFrame(
        {
            "STUDYID": subject.map(subjects["STUDYID"]),
            "USUBJID": subject,
            "AETERM": rows["AETERM"],
            "AEDECOD": rows["AEDECOD"].where(rows["AEDECOD"].notna(), rows["AETERM"]),
            "AEBODSYS": rows["AEBODSYS"],
            "ATOXGR": rows["AETOXGR"],
            "AESER": rows["AESER"],
            "AREL": flag(related).mask(~related & ~unknown, "N"),
            "AEACN": rows["AEACN"],
            "ASTDT": date,
            "ASTDTF": made["FLAG"],
            "AENDT": end["FIRST"].where(end["PRECISION"] == "D"),
            "ASTDY": study_day(date, first),
            "TRTEMFL": flag(emergent | doubtful),
            "SRCDOM": "AE",
            "SRCVAR": "AETERM",
            "SRCSEQ": rows["AESEQ"],
        }
    )
    numbered = number("ADAE", table)
    numbered["AOCCIFL"] = _worst(numbered, related_only=study.toxicity.related_only)
    return numbered, findings


def _worst(rows: pd.DataFrame, *, related_only: bool) -> pd.Series[Any]:
    counts = rows["TRTEMFL"].eq("Y") & rows["AEDECOD"].notna()
    if related_only:
        counts &= rows["AREL"].eq("Y")
    grade = pd.to_numeric(rows["ATOXGR"]).astype("float64").fillna(-1)
    order = (
        rows.assign(GRADE=grade)[counts]
        .sort_values(
            ["USUBJID", "AEDECOD", "GRADE", "ASTDT", "ASEQ"],
            ascending=[True, True, False, True, True],
            kind="stable",
        )
        .drop_duplicates(["USUBJID", "AEDECOD"])
    )
    return flag(pd.Series(rows.index.isin(order.index), index=rows.index))
