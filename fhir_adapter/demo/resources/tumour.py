"""Builders of lesions, what is measured of them, and responses (mCODE 4.0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fhir_adapter.demo.resources.parts import (
    DICOM,
    LOINC,
    MCODE,
    NCIT,
    OBSERVATION_CATEGORY,
    OBSERVATION_CODES,
    SNOMED,
    TUMOR_STATE,
    UCUM,
    Code,
    Resource,
    concept,
    make_resource,
    optional_reference,
    reference,
    references,
)

__all__ = [
    "METHOD_CODES",
    "RESPONSE_CODES",
    "ROLE_CODES",
    "Role",
    "State",
    "body_structure",
    "investigator_response",
    "tumor_size",
    "tumor_state",
]

Role = Literal["TARGET", "NON-TARGET", "NEW"]

State = Literal["absent", "present", "unequivocal", "equivocal", "not-assessed"]

ROLE_CODES: dict[str, Code] = {
    "TARGET": (DICOM, "112074", "Target Lesion at Baseline"),
    "NON-TARGET": (DICOM, "112075", "Non-Target Lesion at Baseline"),
}

#: Response to the three codings of mCODE's value sets and NCIt (LOINC answer, NCIt, SNOMED trend).
RESPONSE_CODES: dict[str, list[Code]] = {
    "CR": [
        (LOINC, "LA28366-5", "Complete response"),
        (NCIT, "C4870", "Complete Remission"),
        (SNOMED, "268910001", "Patient's condition improved"),
    ],
    "PR": [
        (LOINC, "LA28369-9", "Partial response"),
        (NCIT, "C18058", "Partial Remission"),
        (SNOMED, "268910001", "Patient's condition improved"),
    ],
    "SD": [
        (LOINC, "LA28371-5", "Stable disease"),
        (NCIT, "C18213", "Stable Disease"),
        (SNOMED, "359746009", "Patient's condition stable"),
    ],
    "PD": [
        (LOINC, "LA28370-7", "Progressive disease"),
        (NCIT, "C35571", "Progressive Disease"),
        (SNOMED, "271299001", "Patient's condition worsened"),
    ],
    "NE": [
        (NCIT, "C62222", "Not Evaluable"),
        (SNOMED, "709137006", "Patient condition undetermined"),
    ],
}

METHOD_CODES: dict[str, Code] = {
    "CT": (SNOMED, "77477000", "Computed tomography"),
    "MRI": (SNOMED, "113091000", "Magnetic resonance imaging"),
    "PET": (SNOMED, "82918005", "Positron emission tomography"),
    "US": (SNOMED, "16310003", "Ultrasonography"),
    "EXAM": (SNOMED, "5880005", "Physical examination"),
}


def body_structure(
    id_: str,
    *,
    patient: str,
    lesion: str,
    location: Code,
    identifier_system: str = "https://fhir-adapter.org/lesion",
    text: str | None = None,
) -> Resource:
    """An mCODE Tumor: the lesion's identifier (`T01`, `NT01`, `NEW01`) and location."""
    kind = ("http://hl7.org/fhir/resource-types", "BodyStructure", "")
    return make_resource(
        "BodyStructure",
        id_,
        f"{MCODE}mcode-tumor",
        identifier=[{"use": "usual", "type": concept(kind), "system": identifier_system, "value": lesion}],
        active=True,
        location=concept(location, text=text),
        patient=reference(patient),
    )


def _tumour_common(
    patient: str,
    lesion: str | None,
    date: str,
    encounter: str | None,
    imaging: str | None,
    method: str | None,
    status: str,
) -> Resource:
    return {
        "status": status,
        "subject": reference(patient),
        "focus": None if lesion is None else [reference(lesion)],
        "encounter": optional_reference(encounter),
        "effectiveDateTime": date,
        "partOf": None if imaging is None else [reference(imaging)],
        "method": None if method is None else concept(METHOD_CODES[method]),
    }


def tumor_size(
    id_: str,
    *,
    patient: str,
    lesion: str | None,
    date: str,
    value: float | str | None,
    unit: Literal["mm", "cm"] = "mm",
    comparator: Literal["<"] | None = None,
    short_axis: bool = False,
    role: Role | None = None,
    absent: Literal["not-performed", "unknown", "not-asked", "error"] | None = None,
    encounter: str | None = None,
    imaging: str | None = None,
    method: str | None = "CT",
    time_point: str | None = None,
    status: str = "final",
) -> Resource:
    """An mCODE TumorSize: one diameter of one lesion at one scan.

    Args:
        id_: logical id.
        patient: `Patient/id`.
        lesion: `BodyStructure/id`.
        date: date of the scan.
        value: diameter in `unit`, or None with `absent`.
        unit: UCUM mm or cm.
        comparator: `<` for a lesion that is too small to measure.
        short_axis: the diameter is the short axis of a node (our code; mCODE has none).
        role: role at baseline, as a DICOM component; NEW has no code and is left to the lesion's identifier.
        absent: why there is no value: the lesion was looked for and could not be evaluated.
        encounter: `Encounter/id`.
        imaging: `ImagingStudy/id`.
        method: CT, MRI, PET, US or EXAM.
        time_point: label as a DICOM time point component.
        status: status of the Observation.
    """
    axis = (OBSERVATION_CODES, "short-axis", "Short axis of a lymph node")
    longest = (LOINC, "33728-7", "Size.maximum dimension in Tumor")
    measure: Resource = {"code": concept(axis if short_axis else longest)}
    if absent is not None:
        reason = ("http://terminology.hl7.org/CodeSystem/data-absent-reason", absent, "")
        measure["dataAbsentReason"] = concept(reason)
    else:
        quantity: Resource = {"value": value} | ({"comparator": comparator} if comparator else {})
        measure["valueQuantity"] = quantity | {"unit": unit, "system": UCUM, "code": unit}
    components = [measure]
    if role in ROLE_CODES:
        components.append({"code": concept(ROLE_CODES[role]), "valueBoolean": True})
    if time_point is not None:
        label = (DICOM, "126070", "Subject Time Point Identifier")
        components.append({"code": concept(label), "valueString": time_point})
    return make_resource(
        "Observation",
        id_,
        f"{MCODE}mcode-tumor-size",
        category=[concept((OBSERVATION_CATEGORY, "imaging", "Imaging"))],
        code=concept((LOINC, "21889-1", "Size Tumor")),
        **_tumour_common(patient, lesion, date, encounter, imaging, method, status),
        component=components,
    )


def tumor_state(
    id_: str,
    *,
    patient: str,
    lesion: str | None,
    date: str,
    state: State | None,
    text: str | None = None,
    encounter: str | None = None,
    imaging: str | None = None,
    method: str | None = "CT",
    status: str = "final",
) -> Resource:
    """The state of a non-target or new lesion at one scan, in our code system; `text` alone is local."""
    codes = () if state is None else ((TUMOR_STATE, state, state.capitalize()),)
    return make_resource(
        "Observation",
        id_,
        category=[concept((OBSERVATION_CATEGORY, "imaging", "Imaging"))],
        code=concept((OBSERVATION_CODES, "tumor-state", "State of a tumour lesion")),
        **_tumour_common(patient, lesion, date, encounter, imaging, method, status),
        valueCodeableConcept=concept(*codes, text=text),
    )


def investigator_response(
    id_: str,
    *,
    patient: str,
    date: str,
    response: Literal["CR", "PR", "SD", "PD", "NE"],
    condition: str | None = None,
    encounter: str | None = None,
    derived_from: Sequence[str] = (),
    status: str = "final",
) -> Resource:
    """An mCODE Cancer Disease Status with the investigator's RECIST 1.1 response at a time point."""
    return make_resource(
        "Observation",
        id_,
        f"{MCODE}mcode-cancer-disease-status",
        status=status,
        category=[concept((OBSERVATION_CATEGORY, "therapy", "Therapy"))],
        code=concept(
            (LOINC, "97509-4", "Cancer disease progression"),
            (LOINC, "88040-1", "Response to cancer treatment"),
        ),
        subject=reference(patient),
        focus=None if condition is None else [reference(condition)],
        encounter=optional_reference(encounter),
        effectiveDateTime=date,
        valueCodeableConcept=concept(*RESPONSE_CODES[response], text=response),
        method=concept((DICOM, "126081", "RECIST 1.1")),
        derivedFrom=references(derived_from),
    )
