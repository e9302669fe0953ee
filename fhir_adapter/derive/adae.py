"""ADAE.

Adverse events with analysis dates, treatment emergence, causality and the worst record per term (CTCAE 5).
"""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

from fhir_adapter.accounting import Finding
from fhir_adapter.derive.dates import impute_dates, read_dates
from fhir_adapter.derive.findings import of_subjects, per_subject
from fhir_adapter.derive.numbering import flag, none_for_missing, number, study_day
from fhir_adapter.lineage import Link
from fhir_adapter.study import Study

__all__ = ["actions_of_administrations", "adae_lineage", "adverse_events", "risk_ends"]

#: Flags of the worst record: (variable, within which variable of a subject, related events only).
_WORST: Final = (
    ("AOCCIFL", None, False),
    ("AOCCSIFL", "AEBODSYS", False),
    ("AOCCPIFL", "AEDECOD", False),
    ("AOCC01FL", None, True),
    ("AOCC02FL", "AEBODSYS", True),
    ("AOCC03FL", "AEDECOD", True),
)
#: EXOCCUR of an administration that an event was the reason of → what was done with the drug.
_ACTION: Final = {
    "H": "DRUG INTERRUPTED",
    "N": "DRUG INTERRUPTED",
    "S": "DRUG WITHDRAWN",
    "Y": "DOSE REDUCED",
}
#: From the least to the gravest (CDISC's codelist ACN).
_GRAVITY: Final = (
    "UNKNOWN", "NOT APPLICABLE", "DOSE NOT CHANGED", "DOSE INCREASED", "DRUG INTERRUPTED", "DOSE REDUCED",
    "DRUG WITHDRAWN",
)  # fmt: skip

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


def actions_of_administrations(exposure: pd.DataFrame) -> pd.DataFrame:
    """What was done with the drug because of an event, as the administrations say.

    A held or missed administration is an interruption, a stopped one a withdrawal, a lower dose a reduction,
    each only where the administration names the event (rules.md, Toxicity): nothing is inferred from dates.

    Args:
        exposure: rows of `adex.read_exposure`, with IS_REDUCED.

    Returns:
        USUBJID, KEY (`AdverseEvent/id`), ACTION, EXSEQ.
    """
    named = exposure[exposure["EXAEREF"].notna()]
    acted = named["EXOCCUR"].isin(["H", "N", "S"]) | named["IS_REDUCED"]
    named = named[acted]
    table = pd.DataFrame(
        {
            "USUBJID": named["USUBJID"],
            "KEY": named["EXAEREF"].str.split(" "),
            "ACTION": named["EXOCCUR"].map(_ACTION),
            "EXSEQ": named["EXSEQ"],
        }
    )
    return table.explode("KEY", ignore_index=True)


def _keys(references: pd.Series[Any]) -> pd.Series[Any]:
    """`Type/id` of the first resource of each SRCREF, without its version."""
    return references.astype("string").str.split(" ").str[0].str.replace(r"/_history/.*$", "", regex=True)


def _all_actions(rows: pd.DataFrame, administrations: pd.DataFrame) -> pd.Series[Any]:
    """Every action of each event, of the event itself and of the administrations, joined by `;`."""
    own = rows["AEACNALL"].where(rows["AEACNALL"].notna(), rows["AEACN"])
    if administrations.empty:
        return own
    told = (
        administrations.groupby(["USUBJID", "KEY"])["ACTION"]
        .agg(lambda found: ";".join(found))
        .rename("TOLD")
    )
    keys = pd.DataFrame({"USUBJID": rows["USUBJID"], "KEY": _keys(rows["SRCREF"])})
    others = keys.join(told, on=["USUBJID", "KEY"])["TOLD"]

    def joined(pair: tuple[Any, Any]) -> str | None:
        names = {name for text in pair if isinstance(text, str) for name in text.split(";")}
        # An action that is known takes the place of one recorded as unknown.
        names = names - {"UNKNOWN"} or names
        return ";".join(sorted(names, key=_rank)) or None

    known = others.notna()
    merged = own.copy()
    merged[known] = [joined(pair) for pair in zip(own[known], others[known], strict=True)]
    return merged


def _rank(action: str) -> tuple[int, str]:
    return (_GRAVITY.index(action) if action in _GRAVITY else -1, action)


def risk_ends(subjects: pd.DataFrame, study: Study, cutoff: pd.Timestamp) -> pd.Series[Any]:
    """The last day on which an event would count: end of the emergent window, death, last contact, cut-off.

    Args:
        subjects: on USUBJID: TRTEDT, DTHDT, LSTALVDT.
        study: `toxicity.window_days`.
        cutoff: the data cut-off.
    """
    last = subjects["TRTEDT"]
    window = last + pd.to_timedelta(study.toxicity.window_days, unit="D")
    # Whoever got a dose was there, whatever the study counts as contact.
    contact = subjects["LSTALVDT"].mask(subjects["LSTALVDT"] < last, last)
    bounds = pd.DataFrame({"W": window, "D": subjects["DTHDT"], "C": contact})
    end = bounds.min(axis=1).where(last.notna())
    return end.mask(end > cutoff, cutoff)


def adverse_events(
    ae: pd.DataFrame,
    study: Study,
    subjects: pd.DataFrame,
    administrations: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, list[Finding]]:
    """Rows of ADAE with ASEQ, one per event.

    - ASTDT: partial dates by `imputation.ae_start`, not before birth nor, within what was written, before the
      first dose, nor after the end of the event or death.
    - TRTEMFL: from the first dose to `toxicity.window_days` after the last. An event whose date is not known
      to the day counts as emergent unless what is known excludes it (the conservative reading); that is a
      finding.
    - TTONSET: days from the first dose to an emergent event, plus 1 with `toxicity.count_first_day`.
    - AREL: Y for a value of `toxicity.related_values`; null where causality is absent or unknown; else N.
    - AEACNALL: every action with the study treatment, of the event's own record and of the administrations
      that name it; AEACN the gravest of them; null where none is recorded.
    - AOCCIFL, AOCCSIFL, AOCCPIFL (ADaM's structure for occurrence data): the first record at the worst grade
      of a subject, of a subject and system organ class, of a subject and term, among the emergent events;
      AOCC01FL, AOCC02FL, AOCC03FL the same among the related ones. A missing grade is below every grade, a
      class that is not stated is one of its own.

    Args:
        ae: AE up to the cut-off.
        study: imputation and toxicity.
        subjects: on USUBJID: STUDYID, BIRTH, TRTSDT, TRTEDT, DTHDT.
        administrations: what `actions_of_administrations` returned.
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

    onset = (date - first).dt.days + int(study.toxicity.count_first_day)
    actions = _all_actions(rows, pd.DataFrame() if administrations is None else administrations)
    gravest = none_for_missing(actions.astype("string").str.split(";").str[-1])
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
            "AESDTH": rows["AESDTH"],
            "AREL": flag(related).mask(~related & ~unknown, "N"),
            "AEACN": gravest,
            "AEACNALL": none_for_missing(actions),
            "AEOUT": rows["AEOUT"],
            "ASTDT": date,
            "ASTDTF": made["FLAG"],
            "AENDT": end["FIRST"].where(end["PRECISION"] == "D"),
            "ASTDY": study_day(date, first),
            "TTONSET": onset.where(emergent),
            "TRTEMFL": flag(emergent | doubtful),
            "SRCDOM": "AE",
            "SRCVAR": "AETERM",
            "SRCSEQ": rows["AESEQ"],
        }
    )
    numbered = number("ADAE", table)
    for name, within, related_only in _WORST:
        numbered[name] = _worst(numbered, within, related_only=related_only)
    return numbered, findings


def _worst(rows: pd.DataFrame, within: str | None, *, related_only: bool) -> pd.Series[Any]:
    counts = rows["TRTEMFL"].eq("Y") & rows["AEDECOD"].notna()
    if related_only:
        counts &= rows["AREL"].eq("Y")
    table = pd.DataFrame(
        {
            "USUBJID": rows["USUBJID"],
            "WITHIN": "" if within is None else rows[within].fillna(""),
            "GRADE": -pd.to_numeric(rows["ATOXGR"]).astype("float64").fillna(-1),
            "ASTDT": rows["ASTDT"],
            "ASEQ": rows["ASEQ"],
        }
    )[counts]
    order = table.sort_values(["USUBJID", "WITHIN", "GRADE", "ASTDT", "ASEQ"], kind="stable").drop_duplicates(
        ["USUBJID", "WITHIN"]
    )
    return flag(pd.Series(rows.index.isin(order.index), index=rows.index))


def adae_lineage(adae: pd.DataFrame, ae: pd.DataFrame, administrations: pd.DataFrame) -> list[Link]:
    """Links from each row of ADAE to its event, and to the administrations that say what was done about it."""
    links: list[Link] = [
        (subject, "ADAE", int(seq), "AE", int(parent), "source")
        for subject, seq, parent in adae[["USUBJID", "ASEQ", "SRCSEQ"]].itertuples(index=False)
    ]
    if administrations.empty:
        return links
    keys = pd.DataFrame({"USUBJID": ae["USUBJID"], "SRCSEQ": ae["AESEQ"], "KEY": _keys(ae["SRCREF"])})
    told = adae[["USUBJID", "ASEQ", "SRCSEQ"]].merge(keys, on=["USUBJID", "SRCSEQ"])
    told = told.merge(administrations, on=["USUBJID", "KEY"])
    return links + [
        (subject, "ADAE", int(seq), "EX", int(parent), "action")
        for subject, seq, parent in told[["USUBJID", "ASEQ", "EXSEQ"]].itertuples(index=False)
    ]
