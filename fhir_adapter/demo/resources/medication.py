"""Builders of drugs, doses and statements of medication."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fhir_adapter.demo.resources.parts import (
    MCODE,
    SNOMED,
    UCUM,
    Code,
    Resource,
    concept,
    make_resource,
    optional_reference,
    period,
    reference,
    references,
)

__all__ = ["administration", "medication", "medication_statement"]


def medication(id_: str, *, name: str, codes: Sequence[Code] = ()) -> Resource:
    """A Medication, to be referenced."""
    return make_resource("Medication", id_, status="active", code=concept(*codes, text=name))


def administration(
    id_: str,
    *,
    patient: str,
    drug: str | Code | None = None,
    medication: str | None = None,
    start: str,
    end: str | None = None,
    dose: float | None = None,
    unit: str = "mg",
    route: Literal["oral", "intravenous"] | None = None,
    status: Literal[
        "completed", "in-progress", "stopped", "not-done", "on-hold", "entered-in-error"
    ] = "completed",
    status_reason: str | Code | None = None,
    reason: Sequence[str] = (),
    encounter: str | None = None,
) -> Resource:
    """An mCODE cancer-related medication administration: one infusion, or one course (`start` to `end`).

    Args:
        id_: logical id.
        patient: `Patient/id`.
        drug: the drug as text or code; or
        medication: `Medication/id`.
        start: date of the infusion, or first day of the course.
        end: last day of the course.
        dose: dose per administration.
        unit: UCUM unit of the dose.
        route: oral or intravenous.
        status: not-done is a missed dose, on-hold an interruption, stopped a discontinuation.
        status_reason: why it was not done, held or stopped.
        reason: references that were the reason (R4 allows Condition, Observation and DiagnosticReport only).
        encounter: `Encounter/id`.
    """
    elements: Resource = {}
    if medication is not None:
        elements["medicationReference"] = reference(medication)
    elif drug is not None:
        elements["medicationCodeableConcept"] = concept(text=drug) if isinstance(drug, str) else concept(drug)
    if end is None:
        elements["effectiveDateTime"] = start
    else:
        elements["effectivePeriod"] = period(start, end)
    routes: dict[str, Code] = {
        "oral": (SNOMED, "26643006", "Oral route"),
        "intravenous": (SNOMED, "47625008", "Intravenous route"),
    }
    dosage: Resource = {}
    if route is not None:
        dosage["route"] = concept(routes[route])
    if dose is not None:
        dosage["dose"] = {"value": dose, "unit": unit, "system": UCUM, "code": unit}
    why = None
    if status_reason is not None:
        why = [concept(text=status_reason) if isinstance(status_reason, str) else concept(status_reason)]
    return make_resource(
        "MedicationAdministration",
        id_,
        f"{MCODE}mcode-cancer-related-medication-administration",
        status=status,
        statusReason=why,
        subject=reference(patient),
        context=optional_reference(encounter),
        **elements,
        reasonReference=references(reason),
        dosage=dosage if "dose" in dosage else None,
    )


def medication_statement(
    id_: str,
    *,
    patient: str,
    drug: str | Code,
    start: str,
    end: str | None = None,
    status: str = "completed",
) -> Resource:
    """A MedicationStatement: an earlier line, or a concomitant drug."""
    return make_resource(
        "MedicationStatement",
        id_,
        status=status,
        medicationCodeableConcept=concept(text=drug) if isinstance(drug, str) else concept(drug),
        subject=reference(patient),
        effectivePeriod=period(start, end),
    )
