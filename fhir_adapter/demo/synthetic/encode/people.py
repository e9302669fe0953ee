"""Who takes part, their consent and history: Patient, ResearchSubject, Consent, Condition, Procedure, Observation."""

from __future__ import annotations

from collections.abc import Iterator

from fhir_adapter.demo import resources as r
from fhir_adapter.demo.resources import Code, Resource
from fhir_adapter.demo.synthetic.dialects import Dialect
from fhir_adapter.demo.synthetic.facts import Place, Study, Subject

__all__ = ["TOPOGRAPHY", "people", "study_resource"]

#: Place → ICD-O-3 topography.
TOPOGRAPHY: dict[Place, Code] = {
    "Retroperitoneum": (r.ICD_O_3, "C48.0", "Retroperitoneum"),
    "Peritoneum": (r.ICD_O_3, "C48.2", "Peritoneum, NOS"),
    "Liver": (r.ICD_O_3, "C22.0", "Liver"),
    "Lung": (r.ICD_O_3, "C34.9", "Lung, NOS"),
    "Lymph node": (r.ICD_O_3, "C77.2", "Intra-abdominal lymph nodes"),
}
_PRIMARY = (r.ICD_10, "C48.0", "Malignant neoplasm of retroperitoneum")
_SECONDARY: dict[Place, Code] = {
    "Lung": (r.ICD_10, "C78.0", "Secondary malignant neoplasm of lung"),
    "Liver": (r.ICD_10, "C78.7", "Secondary malignant neoplasm of liver"),
    "Peritoneum": (r.ICD_10, "C78.6", "Secondary malignant neoplasm of retroperitoneum and peritoneum"),
    "Lymph node": (r.ICD_10, "C77.2", "Secondary malignant neoplasm of intra-abdominal lymph nodes"),
}
_MORPHOLOGY = "http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-histology-morphology-behavior"
_WORDS = {
    "8858/3": "Dedifferentiated liposarcoma",
    "8851/3": "Well-differentiated liposarcoma",
    "8890/3": "Leiomyosarcoma",
    "8852/3": "Myxoid liposarcoma",
    "8854/3": "Pleomorphic liposarcoma",
    "9040/3": "Synovial sarcoma",
    "8802/3": "Undifferentiated pleomorphic sarcoma",
    "9540/3": "Malignant peripheral nerve sheath tumour",
}
_MII = "https://www.medizininformatik-initiative.de/fhir/ext/modul-onko/CodeSystem/"
#: Grade 1 to 3 in mCODE's histologic grades.
_MCODE_GRADES = ("1155708003", "1286893008", "1155707008")
#: ECOG 0 to 5 as SNOMED CT findings.
_ECOG_SNOMED = ("425389002", "422512005", "422894000", "423053003", "423237006", "423409001")
_ECOG_LOINC = ("LA9622-7", "LA9623-5", "LA9624-3", "LA9625-0", "LA9626-8", "LA9627-6")


def study_resource(study: Study) -> Resource:
    """The ResearchStudy, with its arms."""
    made = r.research_study(study.key, identifier=study.identifier, title=study.title)
    return made | ({"arm": [{"name": arm} for arm in study.arms]} if study.arms else {})


def _primary(subject: Subject, dialect: Dialect) -> Resource:
    morphology = (r.ICD_O_3, subject.histology, "")
    made = r.condition(
        f"{subject.key}-primary", patient=f"Patient/{subject.key}", kind="primary", diagnosis=_PRIMARY,
        onset=subject.onset, site=TOPOGRAPHY["Retroperitoneum"],
        morphology=morphology if dialect.histology == "extension" else None,
    )  # fmt: skip
    if dialect.histology == "code":
        made["code"] = r.concept(_PRIMARY, morphology)
    elif dialect.histology == "words":
        words = r.concept(text=_WORDS[subject.histology])
        made["extension"] = [{"url": _MORPHOLOGY, "valueCodeableConcept": words}]
    return made


def _grading(subject: Subject, dialect: Dialect) -> Resource:
    made = r.fnclcc(
        f"{subject.key}-fnclcc", patient=f"Patient/{subject.key}", date=subject.onset, grade=subject.grade
    )
    if dialect.grading == "mcode":
        made["valueCodeableConcept"] = r.concept((r.SNOMED, _MCODE_GRADES[subject.grade - 1], ""))
    elif dialect.grading == "gold":
        made["code"] = r.concept((r.LOINC, "33732-9", "Histology grade [Identifier] in Cancer specimen"))
    elif dialect.grading == "mii":
        made["code"] = r.concept((r.SNOMED, "371469007", "Histologic grade of neoplasm"))
        made["valueCodeableConcept"] = r.concept((f"{_MII}mii-cs-onko-grading", str(subject.grade), ""))
    elif dialect.grading == "integer":
        del made["valueCodeableConcept"]
        made["valueInteger"] = subject.grade
    else:
        made["code"] = r.concept(text="FNCLCC grade")
        made["valueCodeableConcept"] = r.concept(text=f"Grade {subject.grade}")
        del made["method"]
    return made


def _ecog(subject: Subject, date: str, dialect: Dialect) -> Resource:
    made = r.ecog(f"{subject.key}-ecog", patient=f"Patient/{subject.key}", date=date, value=subject.ecog)
    del made["valueInteger"], made["interpretation"]
    ways: dict[str, Resource] = {
        "integer": {"valueInteger": subject.ecog},
        "quantity": {"valueQuantity": {"value": subject.ecog, "unit": "{score}", "system": r.UCUM, "code": "{score}"}},
        "loinc": {"valueCodeableConcept": r.concept((r.LOINC, _ECOG_LOINC[subject.ecog], ""))},
        "snomed": {
            "code": r.concept((r.SNOMED, "423740007", "ECOG performance status")),
            "valueCodeableConcept": r.concept((r.SNOMED, _ECOG_SNOMED[subject.ecog], "")),
        },
        "mii": {
            "code": r.concept((r.LOINC, "89262-0", "ECOG Performance Status [Interpretation]")),
            "valueCodeableConcept": r.concept(
                (f"{_MII}mii-cs-onko-allgemeiner-leistungszustand-ecog", str(subject.ecog), "")
            ),
        },
        "interpretation": {"interpretation": [r.concept((r.LOINC, _ECOG_LOINC[subject.ecog], ""))]},
        "words": {
            "code": r.concept(text="ECOG performance status"),
            "valueCodeableConcept": r.concept(text=f"ECOG {subject.ecog}"),
        },
    }  # fmt: skip
    return made | ways[dialect.ecog]


def people(subject: Subject, study: Study, dialect: Dialect) -> Iterator[Resource]:
    """Patient, Consent, ResearchSubject, diagnoses, performance status, grade and earlier surgery of a subject."""
    key, patient = subject.key, f"Patient/{subject.key}"
    yield r.patient(
        key, gender=subject.sex, birth_date=subject.birth_date, deceased=subject.death,
        name=("Synthetic", subject.usubjid), identifier=("https://hospital.example/mrn", f"M-{key}"),
    )  # fmt: skip
    yield r.consent(f"{key}-consent", patient=patient, date=subject.consented)
    yield r.research_subject(
        f"{key}-rsub", patient=patient, study=f"ResearchStudy/{study.key}",
        identifier=(study.subject_system, subject.usubjid), start=subject.enrolled, end=subject.left,
        status=subject.participation, arm=subject.arm, consent=f"Consent/{key}-consent",
    )  # fmt: skip
    yield _primary(subject, dialect)
    baseline = subject.scans[0].date if subject.scans else subject.enrolled
    for place in subject.metastases:
        yield r.condition(
            f"{key}-met-{place.lower().replace(' ', '-')}", patient=patient, kind="secondary",
            diagnosis=_SECONDARY[place], site=TOPOGRAPHY[place], recorded=baseline,
        )  # fmt: skip
    yield _grading(subject, dialect)
    yield _ecog(subject, baseline, dialect)
    if subject.surgery is not None:
        yield r.procedure(
            f"{key}-surgery", patient=patient, kind="SURGERY", date=subject.surgery, text="Tumour resection"
        )
