"""The plain facts of a subject, before any coding: what a person who reads the chart would write down.

A fact says nothing of FHIR, of a release or of a code system: the same facts can be written in every dialect, and
the mapping has to bring back the same datasets from each. Dates are ISO 8601 strings, sizes are in mm, doses in mg.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Action",
    "Causality",
    "Dose",
    "Drug",
    "Event",
    "Finding",
    "Lesion",
    "Outcome",
    "Participation",
    "Place",
    "PriorTherapy",
    "Response",
    "Result",
    "Role",
    "Scan",
    "Serious",
    "Size",
    "State",
    "Statement",
    "Study",
    "Subject",
    "Visit",
]

Role = Literal["TARGET", "NON-TARGET", "NEW"]
State = Literal["absent", "present", "unequivocal", "equivocal", "not-assessed"]
Response = Literal["CR", "PR", "SD", "PD", "NE"]
Causality = Literal["not-related", "unlikely", "possible", "probable", "related"]
Action = Literal["dose-not-changed", "dose-reduced", "drug-interrupted", "drug-withdrawn"]
Outcome = Literal["resolved", "recovering", "ongoing", "sequelae", "fatal"]
Serious = Literal["death", "life-threatening", "hospitalisation", "medically-important"]
Participation = Literal["on-study", "off-study", "withdrawn", "follow-up"]
Place = Literal["Retroperitoneum", "Peritoneum", "Liver", "Lung", "Lymph node"]


@dataclass(frozen=True)
class Drug:
    """A study drug: `days` of each cycle on which it is taken, 1 for an infusion."""

    name: str
    dose: float
    route: Literal["oral", "intravenous"]
    days: int


@dataclass(frozen=True)
class Study:
    """A study: the identifiers (system, value) by which its subjects are found, its drugs and its arms."""

    key: str
    title: str
    identifier: tuple[str, str]
    subject_system: str
    lesion_system: str
    drugs: tuple[Drug, ...]
    arms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lesion:
    """A lesion: its name in the study (`T01`, `NT01`, `NEW01`), its role, and where it is."""

    name: str
    role: Role
    place: Place

    @property
    def nodal(self) -> bool:
        """Whether it is a lymph node, which is measured by its short axis (RECIST 1.1, 3.1.1)."""
        return self.place == "Lymph node"


@dataclass(frozen=True)
class Scan:
    """A tumour assessment on one day."""

    date: str
    label: str
    method: Literal["CT", "MRI"] = "CT"


@dataclass(frozen=True)
class Size:
    """A diameter at a scan: mm; None where the lesion could not be evaluated; `too_small` is known to be less."""

    scan: int
    lesion: str
    mm: int | None
    too_small: bool = False


@dataclass(frozen=True)
class Finding:
    """The state of a non-target or new lesion at a scan."""

    scan: int
    lesion: str
    state: State


@dataclass(frozen=True)
class Statement:
    """The investigator's response at a scan, as the investigator recorded it."""

    scan: int
    response: Response


@dataclass(frozen=True)
class Dose:
    """A dose of a study drug: one day, or a course from `start` to `end`."""

    drug: str
    route: Literal["oral", "intravenous"]
    start: str
    end: str | None
    mg: float | None
    status: Literal["completed", "in-progress", "stopped", "not-done", "on-hold"] = "completed"
    reason: str | None = None


@dataclass(frozen=True)
class Event:
    """An adverse event with its CTCAE grade; `suspect` is a study drug."""

    term: str
    date: str
    resolved: str | None
    grade: int
    causality: Causality | None
    suspect: str
    outcome: Outcome
    serious: Serious | None = None
    action: Action | None = None


@dataclass(frozen=True)
class PriorTherapy:
    """A drug of an earlier line, or one taken beside the study drugs."""

    drug: str
    start: str
    end: str | None


@dataclass(frozen=True)
class Result:
    """A laboratory result or vital sign: LOINC code, display, UCUM unit."""

    code: str
    display: str
    value: float
    unit: str
    vital: bool = False


@dataclass(frozen=True)
class Visit:
    """A visit to the clinic with what was measured at it."""

    date: str
    label: str
    results: tuple[Result, ...] = ()


@dataclass(frozen=True)
class Subject:
    """All facts of one subject; `key` is the logical id of the Patient, `arm` one of the study's."""

    key: str
    usubjid: str
    sex: Literal["male", "female"]
    birth_date: str
    consented: str
    enrolled: str
    left: str | None
    participation: Participation
    arm: str | None
    death: str | None
    onset: str
    histology: str
    grade: int
    ecog: int
    metastases: tuple[Place, ...]
    surgery: str | None
    prior: tuple[PriorTherapy, ...]
    lesions: tuple[Lesion, ...]
    scans: tuple[Scan, ...]
    sizes: tuple[Size, ...]
    findings: tuple[Finding, ...]
    responses: tuple[Statement, ...]
    doses: tuple[Dose, ...]
    visits: tuple[Visit, ...]
    events: tuple[Event, ...]
