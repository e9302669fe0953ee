"""Builders of synthetic FHIR R4 resources, in the encodings that the shipped views read.

Each function returns one resource as a plain dict: mCODE 4.0 for tumours, conditions, performance status and
disease status, the Vulcan adverse event research back-port 1.0.1 for adverse events, and two small code
systems of ours for what no published profile has (the state of a non-target or new lesion; a short axis).
Nothing here is random and nothing reads a clock: the same arguments give the same resource.

Dates are ISO 8601 strings and may be partial. References are `Type/id` strings. Every resource is marked as
synthetic (HTEST) both as a security label and as a tag.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

__all__ = [
    "HTEST",
    "ICD_O_3",
    "MEDDRA",
    "NCIT",
    "OBSERVATION_CODES",
    "TUMOR_STATE",
    "Code",
    "Resource",
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
]  # fmt: skip

Resource = dict[str, Any]
Code = tuple[str, str, str]
"""System, code, display."""

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
NCIT = "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl"
MEDDRA = "https://www.meddra.org"
ICD_10 = "http://hl7.org/fhir/sid/icd-10"
ICD_O_3 = "http://terminology.hl7.org/CodeSystem/icd-o-3"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
UCUM = "http://unitsofmeasure.org"
TUMOR_STATE = "https://fhir-adapter.org/CodeSystem/tumor-state"
OBSERVATION_CODES = "https://fhir-adapter.org/CodeSystem/observation"

_ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_MCODE = "http://hl7.org/fhir/us/mcode/StructureDefinition/"
_AEB = "http://hl7.org/fhir/uv/ae-research-backport-ig/StructureDefinition/"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"

#: The mark of synthetic data.
HTEST: dict[str, str] = {"system": _ACT_REASON, "code": "HTEST", "display": "test health data"}

Role = Literal["TARGET", "NON-TARGET", "NEW"]
State = Literal["absent", "present", "unequivocal", "equivocal", "not-assessed"]

_ROLE: dict[str, Code] = {
    "TARGET": (DICOM, "112074", "Target Lesion at Baseline"),
    "NON-TARGET": (DICOM, "112075", "Non-Target Lesion at Baseline"),
}

#: Response to the three codings of mCODE's value sets and NCIt (LOINC answer, NCIt, SNOMED trend).
_RESPONSE: dict[str, list[Code]] = {
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
_METHOD: dict[str, Code] = {
    "CT": (SNOMED, "77477000", "Computed tomography"),
    "MRI": (SNOMED, "113091000", "Magnetic resonance imaging"),
    "PET": (SNOMED, "82918005", "Positron emission tomography"),
    "US": (SNOMED, "16310003", "Ultrasonography"),
    "EXAM": (SNOMED, "5880005", "Physical examination"),
}
_GRADE: dict[int, Code] = {
    1: (NCIT, "C41338", "Grade 1 Mild Adverse Event"),
    2: (NCIT, "C41339", "Grade 2 Moderate Adverse Event"),
    3: (NCIT, "C41340", "Grade 3 Severe Adverse Event"),
    4: (NCIT, "C41337", "Grade 4 Life Threatening or Disabling Adverse Event"),
    5: (NCIT, "C48275", "Grade 5 Death Related to Adverse Event"),
}
_CAUSALITY: dict[str, Code] = {
    "not-related": (NCIT, "C53256", "Not Related"),
    "unlikely": (NCIT, "C53257", "Unlikely Related"),
    "possible": (NCIT, "C53258", "Possibly Related"),
    "probable": (NCIT, "C53259", "Probably Related"),
    "related": (NCIT, "C53260", "Definitely Related"),
}
_AE_OUTCOME: dict[str, tuple[str, Code]] = {
    "resolved": ("resolved", (NCIT, "C49498", "Recovered or Resolved")),
    "recovering": ("recovering", (NCIT, "C49496", "Recovering or Resolving")),
    "ongoing": ("ongoing", (NCIT, "C49494", "Not Recovered or Not Resolved")),
    "sequelae": ("resolvedWithSequelae", (NCIT, "C49495", "Recovered or Resolved with Sequelae")),
    "fatal": ("fatal", (NCIT, "C48275", "Fatal")),
}
_ACTION: dict[str, Code] = {
    "dose-not-changed": (NCIT, "C49504", "Dose Not Changed"),
    "dose-reduced": (NCIT, "C49505", "Dose Reduced"),
    "drug-interrupted": (NCIT, "C49501", "Drug Interrupted"),
    "drug-withdrawn": (NCIT, "C49502", "Drug Withdrawn"),
}
_SERIOUSNESS: dict[str, Code] = {
    "death": (NCIT, "C48275", "Death Related to Adverse Event"),
    "life-threatening": (NCIT, "C84266", "Life Threatening Adverse Event"),
    "hospitalisation": (NCIT, "C83052", "Hospitalization Related to Adverse Event"),
    "medically-important": (NCIT, "C82521", "Other Medically Important Serious Event"),
}
_FNCLCC: dict[int, Code] = {
    1: (SNOMED, "54102005", "G1 grade"),
    2: (SNOMED, "1663004", "G2 grade"),
    3: (SNOMED, "61026006", "G3 grade"),
}
_PROCEDURE: dict[str, Code] = {
    "SURGERY": (SNOMED, "387713003", "Surgical procedure"),
    "RADIOTHERAPY": (SNOMED, "108290001", "Radiation oncology AND/OR radiotherapy"),
    "IMAGING": (SNOMED, "363679005", "Imaging"),
}


def reference(target: Resource | str) -> dict[str, str]:
    """A literal reference: to a resource, or to a `Type/id` string."""
    return {"reference": target if isinstance(target, str) else f"{target['resourceType']}/{target['id']}"}


def code(value: Code) -> dict[str, str]:
    """A Coding of (system, code, display); an empty display is left out."""
    system, symbol, display = value
    coding = {"system": system, "code": symbol}
    return coding | {"display": display} if display else coding


def concept(*codes: Code, text: str | None = None) -> Resource:
    """A CodeableConcept of some codings and a text; either may be left out."""
    result: Resource = {"coding": [code(item) for item in codes]} if codes else {}
    return result | ({"text": text} if text is not None else {})


def _resource(type_: str, id_: str, *profiles: str, **elements: Any) -> Resource:
    """A resource marked as synthetic; elements that are None are left out."""
    meta: Resource = {"profile": list(profiles)} if profiles else {}
    meta |= {"security": [dict(HTEST)], "tag": [dict(HTEST)]}
    return {"resourceType": type_, "id": id_, "meta": meta} | {
        name: value for name, value in elements.items() if value is not None
    }


def _ref(target: str | None) -> dict[str, str] | None:
    return None if target is None else reference(target)


def _refs(targets: Iterable[str]) -> list[dict[str, str]] | None:
    return [reference(target) for target in targets] or None


def _period(start: str | None, end: str | None) -> dict[str, str] | None:
    period = {key: value for key, value in (("start", start), ("end", end)) if value is not None}
    return period or None


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
    return _resource(
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
    return _resource(
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
    return _resource(
        "ResearchSubject",
        id_,
        identifier=[{"system": identifier[0], "value": identifier[1]}],
        status=status,
        period=_period(start, end),
        study=reference(study),
        individual=reference(patient),
        assignedArm=arm,
        actualArm=arm,
        consent=_ref(consent),
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
    return _resource(
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
        url = f"{_MCODE}mcode-histology-morphology-behavior"
        extension = [{"url": url, "valueCodeableConcept": concept(morphology)}]
    active = (
        None if verification == "entered-in-error" else concept((f"{status}clinical", "active", "Active"))
    )
    return _resource(
        "Condition",
        id_,
        *(_MCODE + item for item in profile.get(kind, [])),
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


def encounter(
    id_: str, *, patient: str, start: str, end: str | None = None, label: str, status: str = "finished"
) -> Resource:
    """An Encounter; its label (`Baseline`, `Week 9` …) is the text of its type."""
    kind = ("http://terminology.hl7.org/CodeSystem/v3-ActCode", "AMB", "ambulatory")
    return _resource(
        "Encounter",
        id_,
        status=status,
        **{"class": code(kind)},
        type=[concept(text=label)],
        subject=reference(patient),
        period=_period(start, start if end is None else end),
    )


def imaging_study(
    id_: str,
    *,
    patient: str,
    started: str,
    modality: Literal["CT", "MR", "PT", "US"] = "CT",
    encounter: str | None = None,
    description: str | None = None,
    status: str = "available",
) -> Resource:
    """An ImagingStudy, one per scan."""
    return _resource(
        "ImagingStudy",
        id_,
        status=status,
        modality=[code((DICOM, modality, ""))],
        subject=reference(patient),
        encounter=_ref(encounter),
        started=started,
        description=description,
    )


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
    return _resource(
        "BodyStructure",
        id_,
        f"{_MCODE}mcode-tumor",
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
        "encounter": _ref(encounter),
        "effectiveDateTime": date,
        "partOf": None if imaging is None else [reference(imaging)],
        "method": None if method is None else concept(_METHOD[method]),
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
    if role in _ROLE:
        components.append({"code": concept(_ROLE[role]), "valueBoolean": True})
    if time_point is not None:
        label = (DICOM, "126070", "Subject Time Point Identifier")
        components.append({"code": concept(label), "valueString": time_point})
    return _resource(
        "Observation",
        id_,
        f"{_MCODE}mcode-tumor-size",
        category=[concept((_CATEGORY, "imaging", "Imaging"))],
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
    return _resource(
        "Observation",
        id_,
        category=[concept((_CATEGORY, "imaging", "Imaging"))],
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
    return _resource(
        "Observation",
        id_,
        f"{_MCODE}mcode-cancer-disease-status",
        status=status,
        category=[concept((_CATEGORY, "therapy", "Therapy"))],
        code=concept(
            (LOINC, "97509-4", "Cancer disease progression"),
            (LOINC, "88040-1", "Response to cancer treatment"),
        ),
        subject=reference(patient),
        focus=None if condition is None else [reference(condition)],
        encounter=_ref(encounter),
        effectiveDateTime=date,
        valueCodeableConcept=concept(*_RESPONSE[response], text=response),
        method=concept((DICOM, "126081", "RECIST 1.1")),
        derivedFrom=_refs(derived_from),
    )


def medication(id_: str, *, name: str, codes: Sequence[Code] = ()) -> Resource:
    """A Medication, to be referenced."""
    return _resource("Medication", id_, status="active", code=concept(*codes, text=name))


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
        elements["effectivePeriod"] = _period(start, end)
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
    return _resource(
        "MedicationAdministration",
        id_,
        f"{_MCODE}mcode-cancer-related-medication-administration",
        status=status,
        statusReason=why,
        subject=reference(patient),
        context=_ref(encounter),
        **elements,
        reasonReference=_refs(reason),
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
    return _resource(
        "MedicationStatement",
        id_,
        status=status,
        medicationCodeableConcept=concept(text=drug) if isinstance(drug, str) else concept(drug),
        subject=reference(patient),
        effectivePeriod=_period(start, end),
    )


def adverse_event(
    id_: str,
    *,
    patient: str,
    study: str,
    term: str,
    date: str,
    grade: int | None,
    codes: Sequence[Code] = (),
    resolved: str | None = None,
    outcome: Literal["resolved", "recovering", "ongoing", "sequelae", "fatal"] = "resolved",
    causality: Literal["not-related", "unlikely", "possible", "probable", "related"] | None = "possible",
    suspects: Sequence[str] = ("Anlotinib",),
    action: Literal["dose-not-changed", "dose-reduced", "drug-interrupted", "drug-withdrawn"] | None = None,
    discontinued: bool | None = None,
    serious: Literal["death", "life-threatening", "hospitalisation", "medically-important"] | None = None,
    status: Literal["completed", "in-progress", "entered-in-error", "unknown"] = "completed",
    actuality: Literal["actual", "potential"] = "actual",
) -> Resource:
    """An AdverseEvent of the research back-port (R4): status, grade, causality and action as its extensions.

    Args:
        id_: logical id.
        patient: `Patient/id`.
        study: `ResearchStudy/id`.
        term: CTCAE term, as the text of the event.
        date: date of onset; may be partial.
        grade: CTCAE grade 1 to 5.
        codes: codes of the event (MedDRA, NCIt).
        resolved: date of resolution.
        outcome: outcome, coded twice: the base binding and the profile's are both required.
        causality: relatedness to each suspect; None leaves it out.
        suspects: the suspected drugs, as text.
        action: what was done with the study treatment.
        discontinued: whether the event made the subject leave the study.
        serious: the criterion that makes it serious; None is non-serious.
        status: the profile's status, a modifier extension.
        actuality: `potential` is an event that nearly happened.
    """
    extensions: list[Resource] = []
    if grade is not None:
        extensions.append({"url": f"{_AEB}ae-grade", "valueCodeableConcept": concept(_GRADE[grade])})
    for suspect in suspects:
        parts: list[Resource] = [{"url": "instance", "valueCodeableConcept": concept(text=suspect)}]
        if causality is not None:
            relatedness = {"url": "entityRelatedness", "valueCodeableConcept": concept(_CAUSALITY[causality])}
            parts.append({"url": "causality", "extension": [relatedness]})
        extensions.append({"url": f"{_AEB}suspect-entity", "extension": parts})
    if serious is not None:
        criterion = [
            {"url": "criterionCode", "valueCodeableConcept": concept(_SERIOUSNESS[serious])},
            {"url": "criterionPresent", "valueBoolean": True},
        ]
        extensions.append({"url": f"{_AEB}seriousness-criteria", "extension": criterion})
    if resolved is not None:
        extensions.append({"url": f"{_AEB}resolve-date", "valueDateTime": resolved})
    if discontinued is not None:
        extensions.append({"url": f"{_AEB}caused-subject-to-discontinue-study", "valueBoolean": discontinued})
    if action is not None:
        item = {"url": "item", "valueCodeableConcept": concept(_ACTION[action])}
        extensions.append({"url": f"{_AEB}mitigating-action", "extension": [item]})
    seriousness = "non-serious" if serious is None else "serious"
    base, ncit = _AE_OUTCOME[outcome]
    base_outcome = ("http://terminology.hl7.org/CodeSystem/adverse-event-outcome", base, "")
    return _resource(
        "AdverseEvent",
        id_,
        f"{_AEB}AdverseEvent-clinical-research",
        extension=extensions or None,
        modifierExtension=[{"url": f"{_AEB}status", "valueCode": status}],
        actuality=actuality,
        event=concept(*codes, text=term),
        subject=reference(patient),
        date=date,
        seriousness=concept(
            ("http://terminology.hl7.org/CodeSystem/adverse-event-seriousness", seriousness, "")
        ),
        outcome=concept(ncit, base_outcome),
        study=[reference(study)],
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
        {"performedDateTime": date} if end is None else {"performedPeriod": _period(date, end)}
    )
    surgical = [f"{_MCODE}mcode-cancer-related-surgical-procedure"] if kind == "SURGERY" else []
    return _resource(
        "Procedure",
        id_,
        *surgical,
        status=status,
        code=concept(_PROCEDURE[kind], text=text),
        subject=reference(patient),
        **performed,
    )


def ecog(id_: str, *, patient: str, date: str, value: int, encounter: str | None = None) -> Resource:
    """An mCODE ECOG performance status, 0 to 5."""
    answers = ["LA9622-6", "LA9623-4", "LA9624-2", "LA9625-9", "LA9626-7", "LA9627-5"]
    return _resource(
        "Observation",
        id_,
        f"{_MCODE}mcode-ecog-performance-status",
        status="final",
        category=[concept((_CATEGORY, "survey", "Survey"))],
        code=concept((LOINC, "89247-1", "ECOG Performance Status score")),
        subject=reference(patient),
        encounter=_ref(encounter),
        effectiveDateTime=date,
        valueInteger=value,
        interpretation=[concept((LOINC, answers[value], ""))],
    )


def fnclcc(id_: str, *, patient: str, date: str, grade: int) -> Resource:
    """An mCODE histologic grade by the FNCLCC system, 1 to 3."""
    return _resource(
        "Observation",
        id_,
        f"{_MCODE}mcode-histologic-grade",
        status="final",
        category=[concept((_CATEGORY, "laboratory", "Laboratory"))],
        code=concept((NCIT, "C18000", "Histologic Grade")),
        subject=reference(patient),
        effectiveDateTime=date,
        valueCodeableConcept=concept(_FNCLCC[grade]),
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
    return _resource(
        "Observation",
        id_,
        status=status,
        category=[concept((_CATEGORY, "laboratory", "Laboratory"))],
        code=concept(test),
        subject=reference(patient),
        encounter=_ref(encounter),
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
    return resource | {"category": [concept((_CATEGORY, "vital-signs", "Vital Signs"))]}


def bundle(resources: Iterable[Resource], *, id_: str | None = None) -> Resource:
    """A transaction Bundle that puts each resource under its own id."""
    entries = []
    for resource in resources:
        url = f"{resource['resourceType']}/{resource['id']}"
        entries.append({"resource": resource, "request": {"method": "PUT", "url": url}})
    head: Resource = {"resourceType": "Bundle"} | ({} if id_ is None else {"id": id_})
    return head | {"type": "transaction", "entry": entries}
