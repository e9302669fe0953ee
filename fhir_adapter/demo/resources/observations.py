"""Builders of performance status, histological grade, laboratory results and vital signs."""

from __future__ import annotations

from fhir_adapter.demo.resources.parts import (
    LOINC,
    MCODE,
    NCIT,
    OBSERVATION_CATEGORY,
    SNOMED,
    UCUM,
    Code,
    Resource,
    concept,
    make_resource,
    optional_reference,
    reference,
)

__all__ = ["FNCLCC_CODES", "ecog", "fnclcc", "observation_lab", "vital_sign"]

FNCLCC_CODES: dict[int, Code] = {
    1: (SNOMED, "54102005", "G1 grade"),
    2: (SNOMED, "1663004", "G2 grade"),
    3: (SNOMED, "61026006", "G3 grade"),
}


def ecog(id_: str, *, patient: str, date: str, value: int, encounter: str | None = None) -> Resource:
    """An mCODE ECOG performance status, 0 to 5."""
    answers = ["LA9622-7", "LA9623-5", "LA9624-3", "LA9625-0", "LA9626-8", "LA9627-6"]
    return make_resource(
        "Observation",
        id_,
        f"{MCODE}mcode-ecog-performance-status",
        status="final",
        category=[concept((OBSERVATION_CATEGORY, "survey", "Survey"))],
        code=concept((LOINC, "89247-1", "ECOG Performance Status score")),
        subject=reference(patient),
        encounter=optional_reference(encounter),
        effectiveDateTime=date,
        valueInteger=value,
        interpretation=[concept((LOINC, answers[value], ""))],
    )


def fnclcc(id_: str, *, patient: str, date: str, grade: int) -> Resource:
    """An mCODE histologic grade by the FNCLCC system, 1 to 3."""
    return make_resource(
        "Observation",
        id_,
        f"{MCODE}mcode-histologic-grade",
        status="final",
        category=[concept((OBSERVATION_CATEGORY, "laboratory", "Laboratory"))],
        code=concept((NCIT, "C18000", "Histologic Grade")),
        subject=reference(patient),
        effectiveDateTime=date,
        valueCodeableConcept=concept(FNCLCC_CODES[grade]),
        method=concept(
            (SNOMED, "426757001", "French Federation of Cancer Centers Sarcoma Group grading system")
        ),
    )


def observation_lab(
    id_: str,
    *,
    patient: str,
    date: str,
    test: Code,
    value: float | None,
    unit: str = "",
    encounter: str | None = None,
    status: str = "final",
) -> Resource:
    """A laboratory result (LOINC code, UCUM unit); the study of response needs none, hospitals have many."""
    return make_resource(
        "Observation",
        id_,
        status=status,
        category=[concept((OBSERVATION_CATEGORY, "laboratory", "Laboratory"))],
        code=concept(test),
        subject=reference(patient),
        encounter=optional_reference(encounter),
        effectiveDateTime=date,
        valueQuantity=None if value is None else {"value": value, "unit": unit, "system": UCUM, "code": unit},
    )


def vital_sign(
    id_: str, *, patient: str, date: str, test: Code, value: float, unit: str, encounter: str | None = None
) -> Resource:
    """A vital sign (LOINC code, UCUM unit)."""
    resource = observation_lab(
        id_, patient=patient, date=date, test=test, value=value, unit=unit, encounter=encounter
    )
    return resource | {"category": [concept((OBSERVATION_CATEGORY, "vital-signs", "Vital Signs"))]}
