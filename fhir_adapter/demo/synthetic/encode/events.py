"""Adverse events: the grade in any place where one was seen, and the rest of an event in any code."""

from __future__ import annotations

from collections.abc import Iterator

from fhir_adapter.demo import resources as r
from fhir_adapter.demo.resources import Code, Resource
from fhir_adapter.demo.resources.events import CAUSALITY_CODES, GRADE_CODES, OUTCOME_CODES
from fhir_adapter.demo.synthetic.dialects import Dialect
from fhir_adapter.demo.synthetic.facts import Event, Study, Subject

__all__ = ["MEDDRA_TERMS", "events"]

_AEB = "http://hl7.org/fhir/uv/ae-research-backport-ig/StructureDefinition/"
_AER = "http://hl7.org/fhir/uv/ae-research-ig/StructureDefinition/"
_CODEX = "http://hl7.org/fhir/us/codex-radiation-therapy/StructureDefinition/"
_ONCONOVA = "http://onconova.github.io/fhir/StructureDefinition/onconova-ext-"
_CTCAE = "http://hl7.org/fhir/us/ctcae/StructureDefinition/"
_CTCAE_GRADE = "http://hl7.org/fhir/us/ctcae/CodeSystem/ctcae-grade-code-system"
_MII_GRADE = "https://www.medizininformatik-initiative.de/fhir/ext/modul-onko/CodeSystem/mii-vs-onko-nebenwirkung-ctcae-grad"
_E2B = "urn:oid:2.16.840.1.113883.3.989.2.1.1.19"
_ASSESSMENT = "http://terminology.hl7.org/CodeSystem/adverse-event-causality-assess"
_SERIOUS = "http://terminology.hl7.org/CodeSystem/adverse-event-seriousness"
_OUTCOME = "http://terminology.hl7.org/CodeSystem/adverse-event-outcome"

#: Term → MedDRA code.
MEDDRA_TERMS = {
    "Hypertension": "10020772", "Hypothyroidism": "10021114", "Proteinuria": "10037032", "Fatigue": "10016256",
    "Palmar-plantar erythrodysesthesia syndrome": "10033554", "Diarrhea": "10012727", "Nausea": "10028813",
    "Anemia": "10002272", "Neutrophil count decreased": "10029366", "Platelet count decreased": "10035528",
    "Alanine aminotransferase increased": "10001551", "Rash maculo-papular": "10037868",
    "Mucositis oral": "10028130", "Pneumonitis": "10035742", "Abdominal pain": "10000081", "Weight loss": "10047900",
}  # fmt: skip
#: Grade written as an extension: way → (URL, code system; none for an integer).
_EXTENSIONS = {
    "vulcan-r4": (f"{_AEB}ae-grade", r.NCIT),
    "vulcan-r5": (f"{_AER}ae-grade", r.NCIT),
    "vulcan-r5-severity": (f"{_AER}ae-severity", r.NCIT),
    "ctcae": (f"{_CTCAE}ctcae-grade", _CTCAE_GRADE),
    "ctcae-mcode": ("http://hl7.org/fhir/us/mcode/StructureDefinition/ctcae-grade", _CTCAE_GRADE),
    "codexrt": (f"{_CODEX}codexrt-radiotherapy-adverse-event-severity-or-grade", r.NCIT),
    "codexrt-1.0": (f"{_CODEX}codexrt-radiotheraphy-adverse-event-severity-or-grade", "words"),
    "onconova": (f"{_ONCONOVA}adverse-event-ctc-grade", None),
    "onconova-older": (f"{_ONCONOVA}ctc-grade", None),
}
_RESOLVED: dict[str, tuple[str, str]] = {
    "vulcan": (f"{_AEB}resolve-date", "valueDateTime"),
    "ctcae": (f"{_CTCAE}adverse-event-resolved-date", "valueDateTime"),
    "onconova": (f"{_ONCONOVA}adverse-event-resolved-date", "valueDate"),
    "r5": ("http://hl7.org/fhir/5.0/StructureDefinition/extension-AdverseEvent.occurrence[x]", "valuePeriod"),
    "r5-misspelt": (
        "http://hl7.org/fhir/5.0/StructureDefinition/extension-AdverseEvent.occurence[x]",
        "valuePeriod",
    ),
}
_WORDS = {
    "not-related": "Not related", "unlikely": "Unlikely related", "possible": "Possibly related",
    "probable": "Probably related", "related": "Related",
}  # fmt: skip
_ASSESSED = {"unlikely": "Unlikely", "possible": "Possible", "probable": "Probably-Likely"}
_E2B_RELATED = {
    "not-related": "notrelated",
    "unlikely": "unlikely",
    "possible": "possibly",
    "related": "related",
}
_E2B_OUTCOME = {
    "resolved": "recoveredorresolved", "recovering": "roveringorresolving", "ongoing": "notrecoveredorresolved",
    "sequelae": "resolvedwithsequelae", "fatal": "fatal",
}  # fmt: skip
_SERIOUS_R4 = {
    "death": "SeriousResultsInDeath", "life-threatening": "SeriousIsLifeThreatening",
    "hospitalisation": "SeriousResultsInHospitalization", "medically-important": "Serious", None: "Non-serious",
}  # fmt: skip


def _grade(made: Resource, grade: int, dialect: Dialect) -> None:
    way = dialect.grade
    if way in _EXTENSIONS:
        url, system = _EXTENSIONS[way]
        value: Resource = {"valueInteger": grade}
        if system == "words":
            value = {"valueCodeableConcept": r.concept(text=f"Grade {grade}")}
        elif system == r.NCIT:
            value = {"valueCodeableConcept": r.concept((*GRADE_CODES[grade][:2], ""))}
        elif system is not None:
            value = {"valueCodeableConcept": r.concept((system, str(grade), ""))}
        made["extension"].append({"url": url} | value)
    elif way == "mii-severity":
        made["severity"] = r.concept((_MII_GRADE, str(grade), ""))
    else:
        made["event"]["text"] += f", CTCAE grade {grade}"


def _causality(made: Resource, event: Event, dose: str | None, dialect: Dialect) -> None:
    way, cause = dialect.causality, event.causality
    if way == "vulcan" or dose is None:
        drug = r.concept(text=event.suspect.capitalize())
        parts: list[Resource] = [{"url": "instance", "valueCodeableConcept": drug}]
        if cause is not None:
            related = {"url": "entityRelatedness", "valueCodeableConcept": r.concept(CAUSALITY_CODES[cause])}
            parts.append({"url": "causality", "extension": [related]})
        made["extension"].append({"url": f"{_AEB}suspect-entity", "extension": parts})
        return
    suspect: Resource = {"instance": r.reference(f"MedicationAdministration/{dose}")}
    if cause is not None:
        judged: Resource
        if way == "e2b" and cause in _E2B_RELATED:
            judged = {"assessment": r.concept((_E2B, _E2B_RELATED[cause], ""))}
        elif way in {"core", "core-tho"} and cause in _ASSESSED:
            code = _ASSESSED[cause]
            judged = {"assessment": r.concept((_ASSESSMENT, code if way == "core" else code.lower(), ""))}
        else:
            judged = {"productRelatedness": _WORDS[cause]}
        suspect["causality"] = [judged]
    made["suspectEntity"] = [suspect]


def _seriousness(event: Event, dialect: Dialect) -> Resource:
    serious = event.serious is not None
    way = dialect.seriousness
    if way == "r4":
        return r.concept((_SERIOUS, _SERIOUS_R4[event.serious], ""))
    if way == "ncit":
        return r.concept((r.NCIT, "C41335" if serious else "C41336", ""))
    if way == "words":
        return r.concept(text="Serious" if serious else "Not serious")
    return r.concept((_SERIOUS, "serious" if serious else "non-serious", ""))


def _outcome(event: Event, dialect: Dialect) -> Resource:
    base, ncit = OUTCOME_CODES[event.outcome]
    core: Code = (_OUTCOME, base, "")
    return {
        "both": r.concept(ncit, core),
        "core": r.concept(core),
        "ncit": r.concept(ncit),
        "e2b": r.concept((_E2B, _E2B_OUTCOME[event.outcome], "")),
    }[dialect.outcome]


def _term(event: Event, dialect: Dialect) -> Resource:
    system = {"meddra": r.MEDDRA, "meddra-tho": "http://terminology.hl7.org/CodeSystem/mdr"}.get(
        dialect.event
    )
    if system is None or dialect.grade == "words":
        return r.concept(text=event.term)
    return r.concept((system, MEDDRA_TERMS[event.term], ""))


def _event(subject: Subject, study: Study, number: int, event: Event, dialect: Dialect) -> Resource:
    made = r.adverse_event(
        f"{subject.key}-ae-{number}", patient=f"Patient/{subject.key}", study=f"ResearchStudy/{study.key}",
        term=event.term, date=event.date, grade=None, suspects=(), action=event.action, serious=event.serious,
        outcome=event.outcome,
    )  # fmt: skip
    made.setdefault("extension", [])
    made["event"] = _term(event, dialect)
    _grade(made, event.grade, dialect)
    dose = next(
        (f"{subject.key}-dose-{n}" for n, one in enumerate(subject.doses) if one.drug == event.suspect), None
    )
    _causality(made, event, dose, dialect)
    made["seriousness"] = _seriousness(event, dialect)
    made["outcome"] = _outcome(event, dialect)
    if event.resolved is not None:
        url, key = _RESOLVED[dialect.resolved]
        period = {"start": event.date, "end": event.resolved}
        made["extension"].append({"url": url, key: period if key == "valuePeriod" else event.resolved})
    if not made["extension"]:
        del made["extension"]
    return made


def events(subject: Subject, study: Study, dialect: Dialect) -> Iterator[Resource]:
    """The adverse events of a subject."""
    for number, event in enumerate(subject.events):
        yield _event(subject, study, number, event, dialect)
