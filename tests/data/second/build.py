"""Makes the resources of the second study (README.md), and holds its answers by hand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fhir_adapter.demo import resources as r

Resource = dict[str, Any]
LESIONS = "https://second.example/lesion"
SUBJECTS = "https://second.example/subject"
STUDY = ("https://second.example/study", "TWO-ARM")
DAYS = (0, 56, 112, 168)
MEDDRA = {"nausea": "10028813", "neutrophils": "10029366", "fatigue": "10016256"}


@dataclass(frozen=True)
class Pattern:
    """Diameters by visit (None: not evaluable), and the answers by hand."""

    target: tuple[float | None, ...]
    best: str
    pfs: tuple[int, int]
    dead: int | None = None
    node: tuple[float, ...] = ()
    new: bool = False
    non_target: tuple[r.State, ...] = ()
    said: tuple[str, ...] = ()  # the investigator's responses, from the second visit on


PATTERNS = {
    "CR": Pattern(
        (40, 0, 0, 0),
        "CR",
        (168, 0),
        node=(20, 8, 8, 8),
        non_target=("present", "absent", "absent", "absent"),
        said=("CR", "CR", "CR"),
    ),
    "PR": Pattern((60, 40, 38, 38), "PR", (168, 0), said=("PR", "PR", "PR")),
    "PR?": Pattern((60, 40, 62), "SD", (112, 1), said=("PR", "PD")),
    "SD": Pattern((60, 58, 57, 59), "SD", (168, 0), non_target=("present",) * 4, said=("SD",) * 3),
    "PD": Pattern((60, 80), "PD", (56, 1), dead=140, said=("PD",)),
    "NEW": Pattern((60, 55), "PD", (56, 1), new=True, said=("PD",)),
    "DEATH": Pattern((60, 58), "SD", (100, 1), dead=100, said=("SD",)),
    "NE": Pattern((60, None), "NE", (0, 0), said=("NE",)),
}
ARMS = {
    "A": ["CR"] * 2 + ["PR"] * 5 + ["PR?"] + ["SD"] * 4 + ["PD", "NEW", "DEATH", "NE"],
    "B": ["PR"] * 2 + ["PR?"] + ["SD"] * 5 + ["PD"] * 4 + ["NEW"] * 2 + ["DEATH", "NE"],
}
DRUG = {"A": "Trabectedin", "B": "Dacarbazine"}


@dataclass(frozen=True)
class Subject:
    """One subject: who, which pattern, which events (term, grade)."""

    usubjid: str
    arm: str
    pattern: Pattern
    events: tuple[tuple[str, int, str], ...]


def subjects() -> list[Subject]:
    """The 32 subjects."""
    found = []
    for arm, names in ARMS.items():
        for number, name in enumerate(names):
            events: list[tuple[str, int, str]] = []
            if arm == "A" and number % 2 == 0:
                events.append(("nausea", 2, "possible"))
            if arm == "A" and number % 4 == 0:
                events.append(("neutrophils", 4, "certain"))
            if arm == "B" and number % 4 == 0:
                events.append(("nausea", 3, "probably-likely"))
            if arm == "B" and number == 1:
                events.append(("fatigue", 2, "unlikely"))
            found.append(Subject(f"TWO-{arm}{number + 1:02d}", arm, PATTERNS[name], tuple(events)))
    return found


def _size(
    id_: str, patient: str, lesion: str, date: str, value: float | None, *, node: bool, label: str | None
) -> Resource:
    """A TumorSize without focus and without role: the identifier says both."""
    cm = not node and value is not None and int(id_[-1]) % 2 == 1  # every other visit
    resource = r.tumor_size(
        id_, patient=patient, lesion=None, date=date, value=value / 10 if cm and value is not None else value,
        unit="cm" if cm else "mm", absent="error" if value is None else None, time_point=label,
    )  # fmt: skip
    resource["identifier"] = [{"system": LESIONS, "value": lesion}]
    if node:
        resource["component"][0]["code"] = {"text": "Short axis"}
        resource["bodySite"] = {"coding": [{"system": "http://snomed.info/sct", "code": "59441001"}]}
    return resource


def _state(id_: str, patient: str, lesion: str, date: str, state: r.State, arm: str, visit: int) -> Resource:
    """The state of a non-target or new lesion; the identifier's prefix is its role."""
    resource = r.tumor_state(id_, patient=patient, lesion=None, date=date, state=state)
    resource["identifier"] = [{"system": LESIONS, "value": lesion}]
    if arm == "A":
        label = {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "126070"}
        resource["component"] = [{"code": {"coding": [label]}, "valueString": f"Visit {visit}"}]
    return resource


#: Responses in NCIt (CDISC terminology C96785), as an answer to NCIt's own question.
NCIT = {"CR": "C4870", "PR": "C18058", "SD": "C18213", "PD": "C35571", "NE": "C62222"}


def _response(id_: str, patient: str, date: str, response: str) -> Resource:
    """The investigator's response: NCIt alone, without display, text or visit."""
    return {
        "resourceType": "Observation",
        "id": id_,
        "meta": {"security": [r.HTEST], "tag": [r.HTEST]},
        "status": "final",
        "code": {"coding": [{"system": r.NCIT, "code": "C96613"}]},
        "subject": {"reference": patient},
        "effectiveDateTime": date,
        "valueCodeableConcept": {"coding": [{"system": r.NCIT, "code": NCIT[response]}]},
        "method": {"coding": [{"system": r.NCIT, "code": "C124415"}]},
    }


def _event(id_: str, patient: str, drug: str, date: str, event: tuple[str, int, str]) -> Resource:
    term, grade, causality = event
    assess = "http://terminology.hl7.org/CodeSystem/adverse-event-causality-assess"
    return {
        "resourceType": "AdverseEvent",
        "id": id_,
        "meta": {"security": [r.HTEST], "tag": [r.HTEST]},
        "extension": [
            {
                "url": "http://onconova.github.io/fhir/StructureDefinition/onconova-ext-adverse-event-ctc-grade",
                "valueInteger": grade,
            }
        ],
        "actuality": "actual",
        "event": {"coding": [{"system": r.MEDDRA, "code": MEDDRA[term]}]},
        "subject": {"reference": patient},
        "date": date,
        "suspectEntity": [
            {
                "instance": {"reference": drug},
                "causality": [{"assessment": {"coding": [{"system": assess, "code": causality}]}}],
            }
        ],
    }


def resources() -> Iterator[Resource]:
    """All resources, the shared ones first."""
    yield r.research_study("two-study", identifier=STUDY, title="Two arms (synthetic)", status="active")
    for arm, name in DRUG.items():
        yield r.medication(f"two-drug-{arm.lower()}", name=name)
    for number, one in enumerate(subjects()):
        key = one.usubjid.lower()
        patient, base = f"Patient/{key}", dt.date(2021, 1, 4) + dt.timedelta(days=3 * number)
        dates = [(base + dt.timedelta(days=day)).isoformat() for day in DAYS]
        pattern = one.pattern
        death = None if pattern.dead is None else (base + dt.timedelta(days=pattern.dead)).isoformat()
        yield r.patient(
            key,
            gender="female" if number % 2 else "male",
            birth_date=f"19{50 + number}-05-05",
            deceased=death,
        )
        yield r.research_subject(
            f"{key}-rs", patient=patient, study="ResearchStudy/two-study", identifier=(SUBJECTS, one.usubjid),
            start=dates[0], arm=f"Arm {one.arm}",
        )  # fmt: skip
        drug = f"Medication/two-drug-{one.arm.lower()}"
        for cycle in range(3 if pattern.dead or pattern.pfs[1] else 8):
            start = (base + dt.timedelta(days=21 * cycle)).isoformat()
            yield r.administration(
                f"{key}-dose-{cycle}", patient=patient, medication=drug, start=start, dose=1.5
            )
        for visit, value in enumerate(pattern.target):
            label = f"Visit {visit}" if one.arm == "A" else None
            common = {"date": dates[visit], "label": label}
            yield _size(f"{key}-t-{visit}", patient, "T01", value=value, node=False, **common)
            if pattern.node:
                yield _size(
                    f"{key}-n-{visit}", patient, "T02", value=pattern.node[visit], node=True, **common
                )
        for visit, state in enumerate(pattern.non_target):
            yield _state(f"{key}-nt-{visit}", patient, "NT01", dates[visit], state, one.arm, visit)
        for visit, response in enumerate(pattern.said, start=1):
            yield _response(f"{key}-said-{visit}", patient, dates[visit], response)
        if pattern.new:
            yield _state(f"{key}-new", patient, "NEW01", dates[1], "unequivocal", one.arm, 1)
        yield r.encounter(
            f"{key}-last", patient=patient, start=dates[len(pattern.target) - 1], label="Clinic"
        )
        for place, event in enumerate(one.events):
            onset = (base + dt.timedelta(days=10 + place)).isoformat()
            yield _event(f"{key}-ae-{place}", patient, drug, onset, event)
