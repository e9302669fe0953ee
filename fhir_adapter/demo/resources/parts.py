"""Codes, references and the synthetic mark: what every builder of a resource shares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = [
    "AEB",
    "DICOM",
    "HTEST",
    "ICD_10",
    "ICD_O_3",
    "LOINC",
    "MCODE",
    "MEDDRA",
    "NCIT",
    "OBSERVATION_CATEGORY",
    "OBSERVATION_CODES",
    "SNOMED",
    "TUMOR_STATE",
    "UCUM",
    "Code",
    "Resource",
    "bundle",
    "code",
    "concept",
    "make_resource",
    "optional_reference",
    "period",
    "reference",
    "references",
]

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

MCODE = "http://hl7.org/fhir/us/mcode/StructureDefinition/"

AEB = "http://hl7.org/fhir/uv/ae-research-backport-ig/StructureDefinition/"

OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"

#: The mark of synthetic data.
HTEST: dict[str, str] = {"system": _ACT_REASON, "code": "HTEST", "display": "test health data"}


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


def make_resource(type_: str, id_: str, *profiles: str, **elements: Any) -> Resource:
    """A resource marked as synthetic; elements that are None are left out."""
    meta: Resource = {"profile": list(profiles)} if profiles else {}
    meta |= {"security": [dict(HTEST)], "tag": [dict(HTEST)]}
    return {"resourceType": type_, "id": id_, "meta": meta} | {
        name: value for name, value in elements.items() if value is not None
    }


def optional_reference(target: str | None) -> dict[str, str] | None:
    """A reference, or None for None."""
    return None if target is None else reference(target)


def references(targets: Iterable[str]) -> list[dict[str, str]] | None:
    """References, or None where there is no target."""
    return [reference(target) for target in targets] or None


def period(start: str | None, end: str | None) -> dict[str, str] | None:
    """A Period, or None where neither end is known."""
    known = {key: value for key, value in (("start", start), ("end", end)) if value is not None}
    return known or None


def bundle(resources: Iterable[Resource], *, id_: str | None = None) -> Resource:
    """A transaction Bundle that puts each resource under its own id."""
    entries = []
    for resource in resources:
        url = f"{resource['resourceType']}/{resource['id']}"
        entries.append({"resource": resource, "request": {"method": "PUT", "url": url}})
    head: Resource = {"resourceType": "Bundle"} | ({} if id_ is None else {"id": id_})
    return head | {"type": "transaction", "entry": entries}
