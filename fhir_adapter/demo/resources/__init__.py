"""Builders of synthetic FHIR R4 resources, in the encodings that the shipped views read.

Each function returns one resource as a plain dict: mCODE 4.0 for tumours, conditions, performance status and
disease status, the Vulcan adverse event research back-port 1.0.1 for adverse events, and two small code
systems of ours for what no published profile has (the state of a non-target or new lesion; a short axis).
Nothing here is random and nothing reads a clock: the same arguments give the same resource.

Dates are ISO 8601 strings and may be partial. References are `Type/id` strings. Every resource is marked as
synthetic (HTEST) both as a security label and as a tag.
"""

from __future__ import annotations

from fhir_adapter.demo.resources.events import adverse_event
from fhir_adapter.demo.resources.history import condition, procedure
from fhir_adapter.demo.resources.medication import administration, medication, medication_statement
from fhir_adapter.demo.resources.observations import ecog, fnclcc, observation_lab, vital_sign
from fhir_adapter.demo.resources.parts import (
    DICOM,
    HTEST,
    ICD_10,
    ICD_O_3,
    LOINC,
    MEDDRA,
    NCIT,
    OBSERVATION_CODES,
    SNOMED,
    TUMOR_STATE,
    UCUM,
    Code,
    Resource,
    bundle,
    code,
    concept,
    reference,
)
from fhir_adapter.demo.resources.subjects import consent, patient, research_study, research_subject
from fhir_adapter.demo.resources.tumour import (
    Role,
    State,
    body_structure,
    investigator_response,
    tumor_size,
    tumor_state,
)
from fhir_adapter.demo.resources.visits import encounter, imaging_study

__all__ = [
    "DICOM",
    "HTEST",
    "ICD_10",
    "ICD_O_3",
    "LOINC",
    "MEDDRA",
    "NCIT",
    "OBSERVATION_CODES",
    "SNOMED",
    "TUMOR_STATE",
    "UCUM",
    "Code",
    "Resource",
    "Role",
    "State",
    "administration",
    "adverse_event",
    "body_structure",
    "bundle",
    "code",
    "concept",
    "condition",
    "consent",
    "ecog",
    "encounter",
    "fnclcc",
    "imaging_study",
    "investigator_response",
    "medication",
    "medication_statement",
    "observation_lab",
    "patient",
    "procedure",
    "reference",
    "research_study",
    "research_subject",
    "tumor_size",
    "tumor_state",
    "vital_sign",
]
