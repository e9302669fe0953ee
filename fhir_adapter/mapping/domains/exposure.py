"""EX and CM: study drugs, and all other medications.

A drug is matched here, on the concept map `drug`, whatever way it is named: by code, by text in any script,
by a Medication that is referenced or contained. Servers cannot search for all of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fhir_adapter.mapping.domains.context import Context, Row, codings, first, texts
from fhir_adapter.mapping.references import key_of
from fhir_adapter.mapping.terminology import Match

__all__ = ["Drug", "drug_of", "exposure"]

#: EXADJ of a change that an adverse event was the reason of.
_ADVERSE_EVENT = "ADVERSE EVENT"


class _Coding(msgspec.Struct):
    system: str | None = None
    code: str | None = None
    display: str | None = None


class _Concept(msgspec.Struct):
    coding: list[_Coding] = []
    text: str | None = None


class _Contained(msgspec.Struct):
    id: str | None = None
    code: _Concept = msgspec.field(default_factory=_Concept)


class _Holder(msgspec.Struct):
    contained: list[_Contained] = []


class Drug(msgspec.Struct, frozen=True):
    """A drug as found: its concept (None where no map knows it), words, and the Medication that names it."""

    concept: str | None
    words: str | None
    category: str | None = None
    medication: int | None = None


def drug_of(context: Context, row: Mapping[str, Any], number: int, *, count: bool = True) -> Drug:
    """The drug of a row with the columns `drug_…` and `drug_reference`.

    Args:
        context: the partition.
        row: of a view on a resource with `medication[x]`.
        number: that resource.
        count: whether an unknown drug is counted as an unknown code.
    """
    reference = row["drug_reference"]
    if reference is None:
        return _drug(context, row, None, count)
    local = context.is_contained(reference)
    if local is not None:
        holder = msgspec.json.decode(context.resources[number].body, type=_Holder)
        for item in holder.contained:
            if item.id == local:
                columns = {
                    "drug_system": [coding.system for coding in item.code.coding],
                    "drug_code": [coding.code for coding in item.code.coding],
                    "drug_display": [coding.display for coding in item.code.coding],
                    "drug_text": item.code.text,
                }
                return _drug(context, columns, None, count)
        return Drug(None, None)
    medication = context.resolve(reference)
    found = None if medication is None else context.medications.get(medication)
    if medication is None or found is None:
        return Drug(None, None)  # counted with all references that lead nowhere
    return _drug(context, found, medication, count)


def _drug(context: Context, row: Mapping[str, Any], medication: int | None, count: bool) -> Drug:
    match: Match | None = context.terminology.translate(
        "drug", codings(row, "drug"), first(row, "drug_text"), count=count
    )
    return Drug(
        concept=None if match is None else match.target,
        words=texts(row, "drug"),
        category=None if match is None else match.properties.get("category"),
        medication=medication,
    )


def _dates(row: Row) -> tuple[str | None, str | None]:
    """Start and end; a dose at one time has no end."""
    return first(row, "start", "period_start"), row["period_end"]


def _cm(context: Context, row: Row, drug: Drug, usubjid: str) -> None:
    start, end = _dates(row)
    context.emit(
        "CM",
        row.view,
        [row.resource, drug.medication],
        usubjid,
        CMTRT=drug.words,
        CMDECOD=drug.concept,
        CMCAT=drug.category or "OTHER",
        CMSTDTC=start,
        CMENDTC=end,
    )


def _why(row: Row) -> str | None:
    """Reason a dose was missed, held or stopped."""
    return texts(row, "status_reason") or texts(row, "reason")


def _adjustment(context: Context, row: Row) -> str | None:
    """Kind of the reason in `statusReason`; a term of the adverse event map is an adverse event too."""
    match = context.translate("adjustment-reason", row, "status_reason", count=False)
    if match is not None:
        return match.target
    event = context.translate("adverse-event", row, "status_reason", count=False)
    if event is not None and event.target is not None:
        return _ADVERSE_EVENT
    # Nothing knows it: counted as an unknown code.
    return context.target("adjustment-reason", row, "status_reason")


def _caused_by_events(context: Context) -> dict[str, list[str]]:
    """Key of a resource → keys of the adverse events that it stands for.

    R4 lets `reasonReference` of an administration name a Condition, not an AdverseEvent; the two meet in
    `AdverseEvent.resultingCondition`. The research profile's mitigating action may name the administration.
    An event that does not count stands for nothing.
    """
    found: dict[str, list[str]] = {}
    for row in context.table("ae_adverse_event"):
        event = context.keys[row.resource]
        for reference in (event, *(row["resulting_condition"] or []), *(row["action_reference"] or [])):
            number = context.resolve(reference)
            key = key_of(reference) if number is None else context.keys[number]
            if key is not None and event not in found.setdefault(key, []):
                found[key].append(event)
    return found


def _events(context: Context, row: Row, caused: Mapping[str, list[str]]) -> list[str]:
    """Keys of the adverse events that were the reason for what an administration says."""
    found = list(caused.get(context.keys[row.resource], []))
    for reference in row.get("reason_reference") or []:
        number = context.resolve(reference)
        key = key_of(reference) if number is None else context.keys[number]
        if key is None:
            continue
        # An event that did not land is still the reason; one that landed and does not count is not.
        told = [key] if number is None and key.startswith("AdverseEvent/") else caused.get(key, [])
        found += told
    return list(dict.fromkeys(found))


def _ex(
    context: Context, row: Row, drug: Drug, usubjid: str, given: str, caused: Mapping[str, list[str]]
) -> None:
    start, end = _dates(row)
    if start is None:
        context.quarantine(row.resource, "no-date", "$.effective", "a dose of a study drug without a date")
        return
    route = context.target("route", row, "route") or texts(row, "route")
    context.emit(
        "EX",
        row.view,
        [row.resource, drug.medication],
        usubjid,
        EXTRT=drug.concept,
        EXDOSE=None if row.get("dose") is None else float(row["dose"]),
        EXDOSU=first(row, "dose_unit", "dose_unit_text"),
        EXROUTE=route,
        EXOCCUR=given,
        EXREASND=_why(row) if given != "Y" else None,
        EXADJ=_adjustment(context, row),
        EXAEREF=" ".join(_events(context, row, caused)) or None,
        EXSTDTC=start,
        EXENDTC=end,
    )


def exposure(context: Context) -> None:
    """Makes EX and CM.

    A MedicationStatement of a study drug counts as exposure only for a subject of whom there is no
    administration of that drug: the two would tell of the same doses twice.
    """
    drugs = {drug.concept for drug in context.study.treatment.drugs}
    context.medications = {row.resource: row for row in context.table("ref_medication")}
    administered: set[tuple[str, str | None]] = set()
    caused = _caused_by_events(context)
    for row in context.table("ex_medication_administration"):
        usubjid = context.subject(row.resource)
        if usubjid is None:
            continue
        drug = drug_of(context, row, row.resource)
        if drug.concept in drugs:
            match = context.terminology.symbol("administration-status", row["status"])
            if match is None or match.target is None:
                context.dismiss(row.resource, "status")
                continue
            administered.add((usubjid, drug.concept))
            _ex(context, row, drug, usubjid, match.target, caused)
        elif row["status"] == "not-done":
            context.dismiss(row.resource, "status")
        else:
            _cm(context, row, drug, usubjid)
    for row in context.table("cm_medication_statement"):
        usubjid = context.subject(row.resource)
        if usubjid is None:
            continue
        # R5 says in `adherence` what R4's status says; `taking-as-directed` is a kind of `taking`.
        taken = str(first(row, "adherence") or "")
        if taken.startswith("not-taking"):
            context.dismiss(row.resource, "status")
            continue
        drug = drug_of(context, row, row.resource)
        if drug.concept in drugs and (usubjid, drug.concept) not in administered:
            status = row["status"] if row["status"] != "recorded" else taken
            given = "H" if status.startswith("on-hold") else "S" if status.startswith("stopped") else "Y"
            _ex(context, row, drug, usubjid, given, caused)
        else:
            _cm(context, row, drug, usubjid)
