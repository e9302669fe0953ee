"""Builders of the history: Condition and Procedure."""

from __future__ import annotations

from typing import Literal

from fhir_adapter.demo.resources.parts import (
    MCODE,
    SNOMED,
    Code,
    Resource,
    concept,
    make_resource,
    period,
    reference,
)

__all__ = ["condition", "procedure"]

_PROCEDURE: dict[str, Code] = {
    "SURGERY": (SNOMED, "387713003", "Surgical procedure"),
    "RADIOTHERAPY": (SNOMED, "108290001", "Radiation oncology AND/OR radiotherapy"),
    "IMAGING": (SNOMED, "363679005", "Imaging"),
}


def condition(
    id_: str,
    *,
    patient: str,
    kind: Literal["primary", "secondary", "other"],
    diagnosis: Code,
    onset: str | None = None,
    recorded: str | None = None,
    morphology: Code | None = None,
    site: Code | None = None,
    text: str | None = None,
    verification: str = "confirmed",
) -> Resource:
    """A Condition: mCODE primary or secondary cancer condition, or any other one.

    Args:
        id_: logical id.
        patient: `Patient/id`.
        kind: which profile it follows.
        diagnosis: for example ICD-10 C48.0, or SNOMED CT.
        onset: date of onset.
        recorded: date of recording.
        morphology: ICD-O-3 morphology, as mCODE's histology extension.
        site: ICD-O-3 topography or SNOMED CT body structure.
        text: the wording of the source.
        verification: verification status.
    """
    profile = {
        "primary": ["mcode-primary-cancer-condition"],
        "secondary": ["mcode-secondary-cancer-condition"],
    }
    status = "http://terminology.hl7.org/CodeSystem/condition-"
    extension = None
    if morphology is not None:
        url = f"{MCODE}mcode-histology-morphology-behavior"
        extension = [{"url": url, "valueCodeableConcept": concept(morphology)}]
    active = (
        None if verification == "entered-in-error" else concept((f"{status}clinical", "active", "Active"))
    )
    return make_resource(
        "Condition",
        id_,
        *(MCODE + item for item in profile.get(kind, [])),
        extension=extension,
        clinicalStatus=active,
        verificationStatus=concept((f"{status}ver-status", verification, "")),
        category=[concept((f"{status}category", "problem-list-item", "Problem List Item"))],
        code=concept(diagnosis, text=text),
        bodySite=None if site is None else [concept(site)],
        subject=reference(patient),
        onsetDateTime=onset,
        recordedDate=recorded,
    )


def procedure(
    id_: str,
    *,
    patient: str,
    kind: Literal["SURGERY", "RADIOTHERAPY", "IMAGING"],
    date: str,
    end: str | None = None,
    text: str | None = None,
    status: str = "completed",
) -> Resource:
    """A Procedure: surgery, radiotherapy or imaging."""
    performed: Resource = (
        {"performedDateTime": date} if end is None else {"performedPeriod": period(date, end)}
    )
    surgical = [f"{MCODE}mcode-cancer-related-surgical-procedure"] if kind == "SURGERY" else []
    return make_resource(
        "Procedure",
        id_,
        *surgical,
        status=status,
        code=concept(_PROCEDURE[kind], text=text),
        subject=reference(patient),
        **performed,
    )
