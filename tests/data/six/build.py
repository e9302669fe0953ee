"""Writes the six patients of this folder, one transaction Bundle each, from the clinical facts below.

Run it after a change: `python tests/data/six/build.py`. A test compares what it makes with what is committed.
Dates, sizes and expected answers stand in README.md.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

from fhir_adapter.demo import resources as r

HERE = Path(__file__).parent
STUDY = "ResearchStudy/six-study"
RETROPERITONEUM = (r.ICD_O_3, "C48.0", "Retroperitoneum")
PERITONEUM = (r.ICD_O_3, "C48.2", "Peritoneum, NOS")
LUNG = (r.ICD_O_3, "C34.9", "Lung, NOS")
LIVER = (r.ICD_O_3, "C22.0", "Liver")
NODE = (r.ICD_O_3, "C77.2", "Intra-abdominal lymph nodes")
DIAGNOSIS = (r.ICD_10, "C48.0", "Malignant neoplasm of retroperitoneum")
MEDDRA_CODES = {
    "Hypertension": "10020772",
    "Hypothyroidism": "10021114",
    "Palmar-plantar erythrodysesthesia syndrome": "10033554",
    "Anemia": "10002272",
    "Abdominal pain": "10000081",
    "Fatigue": "10016256",
    "Nausea": "10028813",
    "Proteinuria": "10037032",
}


def days(date: str, number: int) -> str:
    """The date some days later."""
    return (dt.date.fromisoformat(date) + dt.timedelta(days=number)).isoformat()


class Patient:
    """Collects the resources of one patient under one prefix."""

    def __init__(self, key: str, number: int) -> None:
        self.key = key
        self.ref = f"Patient/{key}"
        self.number = number
        self.resources: list[r.Resource] = []

    def add(self, resource: r.Resource) -> str:
        """Adds a resource and gives its reference."""
        self.resources.append(resource)
        return f"{resource['resourceType']}/{resource['id']}"

    def id(self, name: str) -> str:
        """A logical id of this patient."""
        return f"{self.key}-{name}"

    def person(
        self,
        gender: Any,
        birth: str,
        morphology: tuple[str, str],
        grade: int,
        baseline: str,
        *,
        deceased: str | None = None,
        surgery: str | None = None,
        end: str | None = None,
        status: str = "on-study",
        ecog: int = 1,
    ) -> None:
        """Who it is: Patient, ResearchSubject, Condition, grade, ECOG, prior surgery."""
        name = ("Synthetic", self.key.split("-")[1].upper())
        self.add(r.patient(self.key, gender=gender, birth_date=birth, deceased=deceased, name=name))
        identifier = ("https://fhir-adapter.org/six/subject", f"SIX-{self.number:03d}")
        enrolled = days(baseline, -3)
        self.add(
            r.research_subject(
                self.id("subject"),
                patient=self.ref,
                study=STUDY,
                identifier=identifier,
                start=enrolled,
                end=end,
                status=status,
                arm="Anlotinib and camrelizumab",
            )
        )
        self.condition = self.add(
            r.condition(
                self.id("primary"),
                patient=self.ref,
                kind="primary",
                diagnosis=DIAGNOSIS,
                onset=days(baseline, -200),
                morphology=(r.ICD_O_3, *morphology),
                site=RETROPERITONEUM,
            )
        )
        self.add(r.fnclcc(self.id("grade"), patient=self.ref, date=days(baseline, -190), grade=grade))
        self.add(r.ecog(self.id("ecog"), patient=self.ref, date=baseline, value=ecog))
        haemoglobin = ("http://loinc.org", "718-7", "Hemoglobin [Mass/volume] in Blood")
        self.add(
            r.observation_lab(
                self.id("haemoglobin"),
                patient=self.ref,
                date=baseline,
                test=haemoglobin,
                value=12.1,
                unit="g/dL",
            )
        )
        if surgery is not None:
            text = "Resection of retroperitoneal sarcoma"
            self.add(
                r.procedure(self.id("surgery"), patient=self.ref, kind="SURGERY", date=surgery, text=text)
            )

    def lesion(self, lesion: str, location: r.Code) -> None:
        """A lesion."""
        self.add(
            r.body_structure(self.id(lesion.lower()), patient=self.ref, lesion=lesion, location=location)
        )

    def scan(
        self,
        visit: str,
        date: str,
        sizes: dict[str, dict[str, Any]],
        states: dict[str, dict[str, Any]] | None = None,
        response: Any = None,
    ) -> None:
        """A scan: Encounter, ImagingStudy, one Observation per lesion, and the investigator's response."""
        slug = visit.lower().replace(" ", "")
        encounter = self.add(r.encounter(self.id(f"visit-{slug}"), patient=self.ref, start=date, label=visit))
        imaging = self.add(
            r.imaging_study(
                self.id(f"scan-{slug}"),
                patient=self.ref,
                started=date,
                encounter=encounter,
                description="CT of chest, abdomen and pelvis",
            )
        )
        made = []
        for lesion, facts in sizes.items():
            role: Any = "TARGET" if lesion.startswith("T") else None
            made.append(
                self.add(
                    r.tumor_size(
                        self.id(f"{slug}-{lesion.lower()}"),
                        patient=self.ref,
                        lesion=f"BodyStructure/{self.id(lesion.lower())}",
                        date=date,
                        encounter=encounter,
                        imaging=imaging,
                        role=role,
                        **facts,
                    )
                )
            )
        for lesion, facts in (states or {}).items():
            made.append(
                self.add(
                    r.tumor_state(
                        self.id(f"{slug}-{lesion.lower()}"),
                        patient=self.ref,
                        lesion=f"BodyStructure/{self.id(lesion.lower())}",
                        date=date,
                        encounter=encounter,
                        imaging=imaging,
                        **facts,
                    )
                )
            )
        if response is not None:
            self.add(
                r.investigator_response(
                    self.id(f"{slug}-response"),
                    patient=self.ref,
                    date=date,
                    response=response,
                    condition=self.condition,
                    encounter=encounter,
                    derived_from=made,
                )
            )

    def cycles(self, first: str, number: int, reduced_from: int | None = None) -> None:
        """Cycles of 21 days: anlotinib for 14 days, camrelizumab on the first day."""
        for cycle in range(1, number + 1):
            start = days(first, 21 * (cycle - 1))
            dose = 10 if reduced_from is not None and cycle >= reduced_from else 12
            self.add(
                r.administration(
                    self.id(f"anlotinib-{cycle}"),
                    patient=self.ref,
                    medication="Medication/six-anlotinib",
                    start=start,
                    end=days(start, 13),
                    dose=dose,
                    route="oral",
                )
            )
            drug = ("Camrelizumab", "SHR-1210", "卡瑞利珠单抗")[cycle % 3]
            self.add(
                r.administration(
                    self.id(f"camrelizumab-{cycle}"),
                    patient=self.ref,
                    drug=drug,
                    start=start,
                    dose=200,
                    route="intravenous",
                )
            )

    def event(self, name: str, term: str, date: str, grade: int, **facts: Any) -> None:
        """An adverse event."""
        codes = [(r.MEDDRA, MEDDRA_CODES[term], term)] if term in MEDDRA_CODES else []
        self.add(
            r.adverse_event(
                self.id(name),
                patient=self.ref,
                study=STUDY,
                term=term,
                date=date,
                grade=grade,
                codes=codes,
                **facts,
            )
        )

    def contact(self, date: str) -> None:
        """The last visit to the clinic."""
        self.add(r.encounter(self.id("follow-up"), patient=self.ref, start=date, label="Follow-up"))


def mm(value: float, **more: Any) -> dict[str, Any]:
    """A diameter in mm."""
    return {"value": value, **more}


def complete_response() -> Patient:
    """Two targets (one a node) and a non-target; all gone or normal from week 18."""
    p = Patient("six-cr", 1)
    p.person(
        "female",
        "1965-04-12",
        ("8858/3", "Dedifferentiated liposarcoma"),
        2,
        "2021-02-01",
        surgery="2020-09-15",
    )
    p.lesion("T01", RETROPERITONEUM)
    p.lesion("T02", NODE)
    p.lesion("NT01", PERITONEUM)
    present, absent = {"NT01": {"state": "present"}}, {"NT01": {"state": "absent"}}
    p.scan("Baseline", "2021-02-01", {"T01": mm(30), "T02": mm(18, short_axis=True)}, present)
    p.scan("Week 9", "2021-04-05", {"T01": mm(12), "T02": mm(11, short_axis=True)}, present, "PR")
    p.scan("Week 18", "2021-06-07", {"T01": mm(0), "T02": mm(8, short_axis=True)}, absent, "CR")
    p.scan("Week 27", "2021-08-09", {"T01": mm(0), "T02": mm(7, short_axis=True)}, absent, "CR")
    p.cycles("2021-02-02", 10)
    p.event("hypertension", "Hypertension", "2021-02-20", 2, resolved="2021-03-15")
    p.event("hypothyroidism", "Hypothyroidism", "2021-05-04", 1, outcome="ongoing", causality="probable")
    p.event("mistake", "Nausea", "2021-03-01", 3, status="entered-in-error")
    p.contact("2022-05-30")
    return p


def partial_response() -> Patient:
    """A lesion in cm, one too small to measure; progression at week 27; a death known to the month."""
    p = Patient("six-pr", 2)
    p.person(
        "male",
        "1958-11-03",
        ("8890/3", "Leiomyosarcoma"),
        3,
        "2021-03-01",
        deceased="2022-03",
        surgery="2019-05-20",
        end="2021-09-10",
        status="off-study",
    )
    p.lesion("T01", RETROPERITONEUM)
    p.lesion("T02", LUNG)
    p.scan("Baseline", "2021-03-01", {"T01": mm(6.0, unit="cm"), "T02": mm(25)})
    p.scan("Week 9", "2021-05-03", {"T01": mm(4.2, unit="cm"), "T02": mm(15)}, response="PR")
    p.scan("Week 18", "2021-07-05", {"T01": mm(3.8, unit="cm"), "T02": mm(5, comparator="<")}, response="PR")
    p.scan("Week 27", "2021-09-06", {"T01": mm(5.5, unit="cm"), "T02": mm(5, comparator="<")}, response="PD")
    p.cycles("2021-03-02", 9, reduced_from=5)
    p.event(
        "hand-foot",
        "Palmar-plantar erythrodysesthesia syndrome",
        "2021-05-10",
        3,
        resolved="2021-06-21",
        causality="related",
        action="dose-reduced",
    )
    p.event("fatigue", "Fatigue", "2021-03-20", 2, resolved="2021-04-20")
    chemotherapy = r.medication_statement(
        p.id("chemotherapy"), patient=p.ref, drug="Doxorubicin", start="2021-10-01", end="2021-12-20"
    )
    p.add(chemotherapy)
    return p


def stable_disease() -> Patient:
    """A missed scan, a non-target described in local words, an event known to the month."""
    p = Patient("six-sd", 3)
    p.person("female", "1972-07-30", ("8851/3", "Well-differentiated liposarcoma"), 1, "2021-04-06")
    p.lesion("T01", RETROPERITONEUM)
    p.lesion("NT01", PERITONEUM)
    present = {"NT01": {"state": "present"}}
    p.scan("Baseline", "2021-04-06", {"T01": mm(80)}, present)
    p.scan("Week 9", "2021-06-08", {"T01": mm(76)}, present, "SD")
    missed = r.tumor_size(
        p.id("week18-t01"),
        patient=p.ref,
        lesion=f"BodyStructure/{p.id('t01')}",
        date="2021-08-10",
        value=None,
        absent="not-performed",
        role="TARGET",
    )
    # The scan was not done at all: the reason stands on the Observation, not on a component.
    absent = missed.pop("component")[0]["dataAbsentReason"]
    p.add(missed | {"dataAbsentReason": absent})
    p.scan(
        "Week 27",
        "2021-10-12",
        {"T01": mm(78)},
        {"NT01": {"state": None, "text": "im Wesentlichen unverändert"}},
        "SD",
    )
    p.cycles("2021-04-07", 8)
    p.event("proteinuria", "Proteinuria", "2021-05", 1, outcome="ongoing")
    p.contact("2022-06-14")
    return p


def progressive_disease() -> Patient:
    """Growth and a new lesion at the first scan; an event that was not related."""
    p = Patient("six-pd", 4)
    p.person(
        "male",
        "1949-01-21",
        ("8802/3", "Undifferentiated pleomorphic sarcoma"),
        3,
        "2021-05-10",
        deceased="2021-12-20",
        surgery="2020-12-01",
        end="2021-07-13",
        status="off-study",
        ecog=2,
    )
    p.lesion("T01", RETROPERITONEUM)
    p.lesion("NEW01", LIVER)
    p.scan("Baseline", "2021-05-10", {"T01": mm(50)})
    p.scan("Week 9", "2021-07-12", {"T01": mm(64)}, {"NEW01": {"state": "unequivocal"}}, "PD")
    p.cycles("2021-05-11", 3)
    p.event("anaemia", "Anemia", "2021-06-02", 3, outcome="ongoing")
    p.event("pain", "Abdominal pain", "2021-06-20", 2, outcome="ongoing", causality="not-related")
    return p


def not_evaluable() -> Patient:
    """One target could not be evaluated at the only scan after baseline."""
    p = Patient("six-ne", 5)
    p.person(
        "female",
        "1980-10-09",
        ("9540/3", "Malignant peripheral nerve sheath tumour"),
        2,
        "2021-06-01",
        deceased="2021-08-15",
        surgery="2018-02-11",
        end="2021-08-15",
        status="off-study",
    )
    p.lesion("T01", RETROPERITONEUM)
    p.lesion("T02", LUNG)
    p.scan("Baseline", "2021-06-01", {"T01": mm(45), "T02": mm(30)})
    p.scan(
        "Week 9", "2021-08-03", {"T01": mm(0, absent="error") | {"value": None}, "T02": mm(28)}, response="NE"
    )
    p.cycles("2021-06-02", 3)
    p.event("fatigue", "Fatigue", "2021-06-15", 1, outcome="ongoing")
    return p


def excluded() -> Patient:
    """One cycle only."""
    p = Patient("six-ex", 6)
    p.person(
        "male",
        "1990-03-17",
        ("8810/3", "Fibrosarcoma"),
        2,
        "2021-07-01",
        status="withdrawn",
        end="2021-07-20",
    )
    p.lesion("T01", RETROPERITONEUM)
    p.scan("Baseline", "2021-07-01", {"T01": mm(40)})
    p.cycles("2021-07-02", 1)
    p.contact("2021-09-01")
    return p


def bundles() -> dict[str, r.Resource]:
    """File name → transaction Bundle: what all share first, then the six patients."""
    study = r.research_study(
        "six-study",
        identifier=("https://fhir-adapter.org/six/study", "SIX"),
        title="Six synthetic patients with retroperitoneal sarcoma",
    )
    anlotinib = r.medication("six-anlotinib", name="盐酸安罗替尼胶囊")
    made = {"0-shared.json": r.bundle([study, anlotinib], id_="six-shared")}
    for number, build in enumerate(
        (complete_response, partial_response, stable_disease, progressive_disease, not_evaluable, excluded),
        start=1,
    ):
        patient = build()
        made[f"{number}-{patient.key.removeprefix('six-')}.json"] = r.bundle(
            patient.resources, id_=patient.key
        )
    return made


def text(bundle: r.Resource) -> str:
    """The file's text: indented, characters as they are."""
    return json.dumps(bundle, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, content in bundles().items():
        (HERE / name).write_text(text(content), encoding="utf-8")
