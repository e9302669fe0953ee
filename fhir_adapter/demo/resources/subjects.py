"""Builders of what says who takes part: Patient, ResearchStudy, ResearchSubject, Consent."""

from __future__ import annotations

from typing import Literal

from fhir_adapter.demo.resources.parts import (
    LOINC,
    Resource,
    concept,
    make_resource,
    optional_reference,
    period,
    reference,
)

__all__ = ["consent", "patient", "research_study", "research_subject"]


def patient(
    id_: str,
    *,
    gender: Literal["male", "female", "other", "unknown"],
    birth_date: str,
    deceased: str | bool | None = None,
    name: tuple[str, str] = ("Synthetic", "Patient"),
    identifier: tuple[str, str] | None = None,
    replaced_by: str | None = None,
) -> Resource:
    """A Patient.

    Args:
        id_: logical id.
        gender: administrative gender.
        birth_date: date of birth.
        deceased: date of death, or True where only the fact is known.
        name: family and given name, plainly synthetic.
        identifier: system and value.
        replaced_by: `Patient/id` of the surviving record, for a patient that was merged.
    """
    death: Resource = {}
    if isinstance(deceased, str):
        death = {"deceasedDateTime": deceased}
    elif deceased is not None:
        death = {"deceasedBoolean": deceased}
    link = None if replaced_by is None else [{"other": reference(replaced_by), "type": "replaced-by"}]
    return make_resource(
        "Patient",
        id_,
        identifier=None if identifier is None else [{"system": identifier[0], "value": identifier[1]}],
        active=None if replaced_by is None else False,
        name=[{"use": "official", "family": name[0], "given": [name[1]]}],
        gender=gender,
        birthDate=birth_date,
        **death,
        link=link,
    )


def research_study(
    id_: str,
    *,
    identifier: tuple[str, str],
    title: str,
    status: str = "completed",
    part_of: str | None = None,
) -> Resource:
    """A ResearchStudy with its identifier (system, value)."""
    return make_resource(
        "ResearchStudy",
        id_,
        identifier=[{"system": identifier[0], "value": identifier[1]}],
        title=title,
        status=status,
        partOf=None if part_of is None else [reference(part_of)],
    )


def research_subject(
    id_: str,
    *,
    patient: str,
    study: str,
    identifier: tuple[str, str],
    start: str,
    end: str | None = None,
    status: str = "on-study",
    arm: str | None = None,
    consent: str | None = None,
) -> Resource:
    """A ResearchSubject: `start` is the date of enrolment, `arm` both the assigned and the actual arm."""
    return make_resource(
        "ResearchSubject",
        id_,
        identifier=[{"system": identifier[0], "value": identifier[1]}],
        status=status,
        period=period(start, end),
        study=reference(study),
        individual=reference(patient),
        assignedArm=arm,
        actualArm=arm,
        consent=optional_reference(consent),
    )


def consent(
    id_: str,
    *,
    patient: str,
    date: str,
    status: Literal["active", "inactive", "rejected"] = "active",
    provision: Literal["permit", "deny"] = "permit",
) -> Resource:
    """A research Consent; `inactive` is one that was withdrawn."""
    return make_resource(
        "Consent",
        id_,
        status=status,
        scope=concept(("http://terminology.hl7.org/CodeSystem/consentscope", "research", "Research")),
        category=[concept((LOINC, "57016-8", "Privacy policy acknowledgment Document"))],
        patient=reference(patient),
        dateTime=date,
        policyRule=concept(("http://terminology.hl7.org/CodeSystem/v3-ActCode", "OPTIN", "opt-in")),
        provision={"type": provision},
    )
