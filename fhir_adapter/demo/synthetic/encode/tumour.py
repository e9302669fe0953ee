"""Scans, lesions, what was measured of them, and the investigator's response."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhir_adapter.demo import resources as r
from fhir_adapter.demo.resources import Code, Resource
from fhir_adapter.demo.resources.tumour import METHOD_CODES, RESPONSE_CODES, ROLE_CODES
from fhir_adapter.demo.synthetic.dialects import Dialect
from fhir_adapter.demo.synthetic.encode.people import TOPOGRAPHY
from fhir_adapter.demo.synthetic.facts import Finding, Lesion, Size, Statement, Study, Subject

__all__ = ["NEUTRAL", "lesion_name", "tumour"]

#: What stands before the name of a lesion where its name shall not tell its role.
NEUTRAL = "L-"

_LONGEST = (r.LOINC, "33728-7", "Size.maximum dimension in Tumor")
_ADDITIONAL = (r.LOINC, "33729-5", "Size additional dimension in Tumor")
_SHORT_AXIS = (r.OBSERVATION_CODES, "short-axis", "Short axis of a lymph node")
_QUESTION: dict[str, Code] = {
    "97509-4": (r.LOINC, "97509-4", "Cancer disease progression"),
    "88040-1": (r.LOINC, "88040-1", "Response to cancer treatment"),
    "21976-6": (r.LOINC, "21976-6", "Cancer outcome status"),
    "C96613": (r.NCIT, "C96613", "RECIST Overall Response"),
}
#: Place of each coding among those of `RESPONSE_CODES`.
_CODING = {"loinc": 0, "ncit": 1, "snomed-trend": 2}
_RADLEX = {"CR": "11511", "PR": "11513", "SD": "11514", "PD": "11515"}
_OMOP = {"CR": "32946", "PR": "32947", "SD": "32948", "PD": "32949"}
_RESPONSE_WORDS = {
    "CR": ("Complete response", "完全缓解"), "PR": ("Partial response", "部分缓解"),
    "SD": ("Stable disease", "疾病稳定"), "PD": ("Progressive disease", "疾病进展"), "NE": ("Not evaluable", "NE"),
}  # fmt: skip
_ROLE_WORDS = {
    "TARGET": ("Target lesion", "靶病灶"),
    "NON-TARGET": ("Non-target lesion", "非靶病灶"),
    "NEW": ("New lesion", "新病灶"),
}
_STATE_SNOMED: dict[str, Code] = {
    "present": (r.SNOMED, "52101004", "Present"),
    "absent": (r.SNOMED, "2667000", "Absent"),
    "equivocal": (r.SNOMED, "42425007", "Equivocal"),
}
_STATE_WORDS = {
    "present": "Present", "absent": "Disappeared", "equivocal": "Equivocal",
    "unequivocal": "Unequivocal progression", "not-assessed": "Not assessed",
}  # fmt: skip


def lesion_name(lesion: Lesion, dialect: Dialect) -> str:
    """The name of a lesion in the data; it tells the role only where the dialect says the role by it."""
    return lesion.name if dialect.role == "prefix" else f"{NEUTRAL}{lesion.name}"


def _quantity(mm: float, dialect: Dialect, *, comparator: str | None = None) -> Resource:
    value = mm if dialect.unit == "mm" else mm / 10
    number = int(value) if float(value).is_integer() else value
    quantity: Resource = {"value": number} | ({"comparator": comparator} if comparator else {})
    return quantity | {"unit": dialect.unit, "system": r.UCUM, "code": dialect.unit}


def _string(code: Code, value: str) -> Resource:
    return {"code": r.concept(code), "valueString": value}


class _Writer:
    """Writes the Observations of one subject."""

    def __init__(self, subject: Subject, study: Study, dialect: Dialect) -> None:
        self.subject, self.study, self.dialect = subject, study, dialect
        self.lesions = {lesion.name: lesion for lesion in subject.lesions}

    def structure(self, lesion: Lesion) -> str:
        """Logical id of a lesion's BodyStructure."""
        return f"{self.subject.key}-{lesion.name.lower()}"

    def _at(self, made: Resource, number: int) -> None:
        """Says at which visit an Observation was made."""
        key = self.subject.key
        if self.dialect.visit == "encounter":
            made["encounter"] = r.reference(f"Encounter/{key}-scan-{number}")
        elif self.dialect.visit == "imaging":
            made["partOf"] = [r.reference(f"ImagingStudy/{key}-img-{number}")]
        elif self.dialect.visit == "time-point":
            label = (r.DICOM, "126070", "Subject Time Point Identifier")
            made.setdefault("component", []).append(_string(label, self.subject.scans[number].label))

    def _of(self, made: Resource, lesion: Lesion) -> None:
        """Says of which lesion an Observation is, and of which role."""
        dialect, name = self.dialect, lesion_name(lesion, self.dialect)
        if dialect.identity == "focus":
            made["focus"] = [r.reference(f"BodyStructure/{self.structure(lesion)}")]
        else:
            made["bodySite"] = r.concept(TOPOGRAPHY[lesion.place])
        if dialect.identity == "logical":
            named = {"system": self.study.lesion_system, "value": name}
            made["focus"] = [{"type": "BodyStructure", "identifier": named}]
        elif dialect.identity == "identifier":
            made["identifier"] = [{"system": self.study.lesion_system, "value": name}]
        elif dialect.identity == "tracking":
            made.setdefault("component", []).append(_string((r.DICOM, "121151", "Lesion Identifier"), name))
        if dialect.role == "prefix":
            return
        code = ROLE_CODES.get(lesion.role)
        if dialect.role == "dicom" and code is not None:
            made.setdefault("component", []).append({"code": r.concept(code), "valueBoolean": True})
        elif dialect.role == "category" and code is not None:
            made["category"] = [r.concept(code)]
        else:
            # No code system has a code for a new lesion: words.
            words = _ROLE_WORDS[lesion.role]
            made["category"] = [r.concept(text=words[len(self.subject.scans) % 2])]

    def size(self, number: int, item: Size) -> Resource:
        """A diameter."""
        lesion, scan = self.lesions[item.lesion], self.subject.scans[item.scan]
        made = r.tumor_size(
            f"{self.subject.key}-size-{number}", patient=f"Patient/{self.subject.key}", lesion=None, date=scan.date,
            value=0, method=None,
        )  # fmt: skip
        made["method"] = r.concept(METHOD_CODES[scan.method])
        value: Resource
        if item.mm is None:
            reason = ("http://terminology.hl7.org/CodeSystem/data-absent-reason", "error", "")
            value = {"dataAbsentReason": r.concept(reason)}
        else:
            value = {
                "valueQuantity": _quantity(item.mm, self.dialect, comparator="<" if item.too_small else None)
            }
        axis = _SHORT_AXIS if lesion.nodal else _LONGEST
        if self.dialect.shape == "value":
            made["code"] = r.concept(axis)
            del made["component"]
            made |= value
        elif self.dialect.shape == "additional" and lesion.nodal:
            longest = {} if item.mm is None else {"valueQuantity": _quantity(item.mm + 6, self.dialect)}
            made["component"] = [
                {"code": r.concept(_LONGEST)} | (longest or value),
                {"code": r.concept(_ADDITIONAL)} | value,
            ]
        else:
            made["component"] = [{"code": r.concept(axis)} | value]
        self._of(made, lesion)
        self._at(made, item.scan)
        return made

    def finding(self, number: int, item: Finding) -> Resource:
        """The state of a lesion."""
        lesion, scan = self.lesions[item.lesion], self.subject.scans[item.scan]
        made = r.tumor_state(
            f"{self.subject.key}-state-{number}", patient=f"Patient/{self.subject.key}", lesion=None, date=scan.date,
            state=item.state, method=None,
        )  # fmt: skip
        made["method"] = r.concept(METHOD_CODES[scan.method])
        way, words = self.dialect.state, _STATE_WORDS[item.state]
        if way == "string":
            del made["valueCodeableConcept"]
            made["valueString"] = words
        elif way == "snomed" and item.state in _STATE_SNOMED:
            made["valueCodeableConcept"] = r.concept(_STATE_SNOMED[item.state])
        elif way != "code":
            made["valueCodeableConcept"] = r.concept(text=words)
        self._of(made, lesion)
        self._at(made, item.scan)
        return made

    def response(self, number: int, item: Statement) -> Resource:
        """The investigator's response."""
        key, scan = self.subject.key, self.subject.scans[item.scan]
        made = r.investigator_response(
            f"{key}-response-{number}", patient=f"Patient/{key}", date=scan.date, response=item.response,
            condition=f"Condition/{key}-primary",
        )  # fmt: skip
        made["code"] = r.concept(_QUESTION[self.dialect.question])
        made |= self._value(item)
        if "valueString" in made:
            del made["valueCodeableConcept"]
        self._at(made, item.scan)
        return made

    def _value(self, item: Statement) -> dict[str, Any]:
        way, response = self.dialect.response, item.response
        words = _RESPONSE_WORDS[response]
        if way == "string":
            return {"valueString": response}
        if way == "words":
            return {"valueCodeableConcept": r.concept(text=words[item.scan % 2])}
        codes: tuple[Code, ...] = ()
        text: str | None = None
        if way == "radlex" and response in _RADLEX:
            codes = (("http://radlex.org/RID", _RADLEX[response], ""),)
        elif way == "omop" and response in _OMOP:
            codes = (("http://fhir.ohdsi.org/CodeSystem/concepts", _OMOP[response], ""),)
        elif way in _CODING and not (way == "loinc" and response == "NE"):
            system, code, display = RESPONSE_CODES[response][
                min(_CODING[way], len(RESPONSE_CODES[response]) - 1)
            ]
            if way == "ncit":
                system, code, display = next(one for one in RESPONSE_CODES[response] if one[0] == r.NCIT)
            codes = ((system, code, display),)
        if way == "snomed-trend" or not codes:
            # A trend is no response: `improved` is CR or PR. What it is, is told in words beside it.
            text = response
        return {"valueCodeableConcept": r.concept(*codes, text=text)}


def tumour(subject: Subject, study: Study, dialect: Dialect) -> Iterator[Resource]:
    """Encounters and scans, lesions (where the dialect has BodyStructures), diameters, states and responses."""
    key, patient, writer = subject.key, f"Patient/{subject.key}", _Writer(subject, study, dialect)
    for number, scan in enumerate(subject.scans):
        yield r.encounter(f"{key}-scan-{number}", patient=patient, start=scan.date, label=scan.label)
        yield r.imaging_study(
            f"{key}-img-{number}", patient=patient, started=scan.date, encounter=f"Encounter/{key}-scan-{number}",
            modality="MR" if scan.method == "MRI" else "CT",
        )  # fmt: skip
    if dialect.identity == "focus":
        for lesion in subject.lesions:
            yield r.body_structure(
                writer.structure(lesion), patient=patient, lesion=lesion_name(lesion, dialect),
                location=TOPOGRAPHY[lesion.place], identifier_system=study.lesion_system,
            )  # fmt: skip
    for number, size in enumerate(subject.sizes):
        yield writer.size(number, size)
    for number, finding in enumerate(subject.findings):
        yield writer.finding(number, finding)
    for number, response in enumerate(subject.responses):
        yield writer.response(number, response)
