"""Doses, other medication, and visits to the clinic with their laboratory results."""

from __future__ import annotations

from collections.abc import Iterator

from fhir_adapter.demo import resources as r
from fhir_adapter.demo.resources import Code, Resource
from fhir_adapter.demo.synthetic.dialects import Dialect
from fhir_adapter.demo.synthetic.facts import Study, Subject

__all__ = ["medications", "treatment"]

_ATC = "http://www.whocc.no/atc"
_LOCAL = "https://hospital.example/drugs"
_ATC_CODES = {
    "doxorubicin": "L01DB01", "ifosfamide": "L01AA06", "gemcitabine": "L01BC05", "docetaxel": "L01CD02",
    "pazopanib": "L01EX03", "levothyroxine": "H03AA01", "amlodipine": "C08CA01",
}  # fmt: skip
#: Other names of a drug, in several scripts.
_SYNONYMS = {
    "anlotinib": ("安罗替尼", "AL3818", "Catequentinib", "盐酸安罗替尼胶囊", " ANLOTINIB  hydrochloride"),
    "camrelizumab": ("卡瑞利珠单抗", "SHR-1210", "AiRuiKa", "注射用卡瑞利珠单抗"),
    "doxorubicin": ("阿霉素", "Adriamycin", "多柔比星"), "ifosfamide": ("异环磷酰胺",),
    "gemcitabine": ("吉西他滨",), "docetaxel": ("多西他赛",), "pazopanib": ("培唑帕尼",),
    "levothyroxine": ("左甲状腺素",), "amlodipine": ("氨氯地平",),
}  # fmt: skip


def _medication_id(study: Study, drug: str) -> str:
    return f"{study.key}-{drug.lower()}"


def _concept(drug: str, dialect: Dialect, number: int) -> Resource:
    """A drug as a CodeableConcept."""
    name = drug.lower()
    if dialect.drug == "synonym":
        known = _SYNONYMS.get(name, (drug,))
        return r.concept(text=known[number % len(known)])
    if dialect.drug == "code":
        # Where no code of a public system is known, hospitals have one of their own with a display.
        code: Code = (_ATC, _ATC_CODES[name], "") if name in _ATC_CODES else (_LOCAL, f"D-{name[:3]}", drug)
        return r.concept(code)
    return r.concept(text=drug.capitalize())


def _named(made: Resource, drug: str, study: Study, dialect: Dialect, number: int) -> Resource:
    """A resource with `medication[x]` in the form of the dialect."""
    made.pop("medicationCodeableConcept", None)
    if dialect.drug == "reference":
        made["medicationReference"] = r.reference(f"Medication/{_medication_id(study, drug)}")
    elif dialect.drug == "contained":
        inside = {"resourceType": "Medication", "id": "drug", "code": _concept(drug, dialect, number)}
        made["contained"] = [inside]
        made["medicationReference"] = {"reference": "#drug"}
    else:
        made["medicationCodeableConcept"] = _concept(drug, dialect, number)
    return made


def medications(study: Study, dialect: Dialect) -> Iterator[Resource]:
    """The Medications that a dialect refers to."""
    if dialect.drug == "reference":
        for name in sorted({*(drug.name for drug in study.drugs), *_ATC_CODES}):
            yield r.medication(_medication_id(study, name), name=name.capitalize())


def treatment(subject: Subject, study: Study, dialect: Dialect) -> Iterator[Resource]:
    """Earlier and other drugs, doses of the study drugs, and visits with results."""
    key, patient = subject.key, f"Patient/{subject.key}"
    for number, prior in enumerate(subject.prior):
        statement = r.medication_statement(
            f"{key}-drug-{number}", patient=patient, drug=prior.drug, start=prior.start, end=prior.end,
            status="active" if prior.end is None else "completed",
        )  # fmt: skip
        yield _named(statement, prior.drug, study, dialect, number)
    for number, dose in enumerate(subject.doses):
        made = r.administration(
            f"{key}-dose-{number}", patient=patient, drug=dose.drug, start=dose.start, end=dose.end, dose=dose.mg,
            route=dose.route, status=dose.status, status_reason=dose.reason,
        )  # fmt: skip
        yield _named(made, dose.drug, study, dialect, number)
    for number, visit in enumerate(subject.visits):
        encounter = f"{key}-visit-{number}"
        yield r.encounter(encounter, patient=patient, start=visit.date, label=visit.label)
        for result in visit.results:
            make = r.vital_sign if result.vital else r.observation_lab
            yield make(
                f"{key}-obs-{number}-{result.code}", patient=patient, date=visit.date,
                test=(r.LOINC, result.code, result.display), value=result.value, unit=result.unit,
                encounter=f"Encounter/{encounter}",
            )  # fmt: skip
