"""Synthetic subjects at random, one after the other: any number of them in the memory of one.

Each subject has a random generator of its own, seeded by the cohort's seed and its number. So the hundredth subject
is the same in a cohort of 100 and of a million, and a cohort can be made in parts. Nothing reads a clock.

The course of a subject follows a plain model: a sum of diameters that shrinks by a fraction and then grows again,
non-target and new lesions that follow it, doses in cycles of three weeks that are reduced, held or stopped for
events. No outcome of the course (best response, survival times) is kept: these are for the pipeline to find.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

from fhir_adapter.demo.synthetic.facts import (
    Action,
    Causality,
    Dose,
    Drug,
    Event,
    Finding,
    Lesion,
    Outcome,
    Participation,
    Place,
    PriorTherapy,
    Response,
    Result,
    Scan,
    Serious,
    Size,
    State,
    Statement,
    Study,
    Subject,
    Visit,
)

__all__ = ["DEFAULT_STUDY", "LAST_DAY", "synthetic_subject", "synthetic_subjects"]

#: The study that the cohorts belong to unless another is given: that of `retroperitoneal-sarcoma.yaml`.
DEFAULT_STUDY: Final = Study(
    key="rps-study",
    title="Anlotinib plus camrelizumab in retroperitoneal sarcoma (synthetic)",
    identifier=("https://fhir-adapter.org/rps/study", "RPS"),
    subject_system="https://fhir-adapter.org/rps/subject",
    lesion_system="https://fhir-adapter.org/lesion",
    drugs=(Drug("anlotinib", 12, "oral", 14), Drug("camrelizumab", 200, "intravenous", 1)),
)
#: Nothing happens after this day.
LAST_DAY: Final = dt.date(2022, 7, 31)

_FIRST_DAY: Final = dt.date(2018, 7, 1)
_CYCLE: Final = 21
_HISTOLOGY: Final = (
    ("8858/3", 30), ("8851/3", 14), ("8890/3", 24), ("8852/3", 5), ("8854/3", 5), ("9040/3", 6), ("8802/3", 10),
    ("9540/3", 6),
)  # fmt: skip
_METASTATIC: Final[tuple[Place, ...]] = ("Lung", "Liver", "Peritoneum", "Lymph node")
_EARLIER: Final = ("Doxorubicin", "Ifosfamide", "Gemcitabine", "Docetaxel", "Pazopanib")
_BESIDE: Final = ("Levothyroxine", "Amlodipine")
#: Terms with how often a subject has one, and their highest usual grade.
_EVENTS: Final = (
    ("Hypertension", 0.45, 3), ("Hypothyroidism", 0.35, 2), ("Proteinuria", 0.25, 3), ("Fatigue", 0.35, 3),
    ("Palmar-plantar erythrodysesthesia syndrome", 0.25, 3), ("Diarrhea", 0.2, 3), ("Nausea", 0.2, 3),
    ("Anemia", 0.2, 4), ("Neutrophil count decreased", 0.2, 4), ("Platelet count decreased", 0.12, 4),
    ("Alanine aminotransferase increased", 0.15, 3), ("Rash maculo-papular", 0.12, 2), ("Mucositis oral", 0.12, 3),
    ("Pneumonitis", 0.04, 5), ("Abdominal pain", 0.12, 3), ("Weight loss", 0.1, 2),
)  # fmt: skip
#: LOINC code, display, unit, usual value, spread.
_LABORATORY: Final = (
    ("718-7", "Hemoglobin [Mass/volume] in Blood", "g/L", 124.0, 14.0),
    ("6690-2", "Leukocytes [#/volume] in Blood by Automated count", "10*9/L", 6.1, 1.8),
    ("777-3", "Platelets [#/volume] in Blood by Automated count", "10*9/L", 228.0, 60.0),
    ("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "umol/L", 71.0, 12.0),
    ("1742-6", "Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma", "U/L", 27.0, 11.0),
    ("3016-3", "Thyrotropin [Units/volume] in Serum or Plasma", "m[IU]/L", 2.6, 1.2),
)
_VITAL: Final = (
    ("8480-6", "Systolic blood pressure", "mm[Hg]", 129.0, 14.0),
    ("8462-4", "Diastolic blood pressure", "mm[Hg]", 78.0, 9.0),
    ("29463-7", "Body weight", "kg", 66.0, 11.0),
)


@dataclass
class _Course:
    """A subject in the making: its random generator, its days, and what has been written of it so far."""

    random: Random
    baseline: dt.date
    end: dt.date
    lesions: list[Lesion] = field(default_factory=list)
    scans: list[Scan] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    responses: list[Statement] = field(default_factory=list)
    doses: list[Dose] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    death: dt.date | None = None

    def chance(self, probability: float) -> bool:
        """True with a probability."""
        return self.random.random() < probability


def _pick(random: Random, weighted: tuple[tuple[str, int], ...]) -> str:
    values, weights = zip(*weighted, strict=True)
    return str(random.choices(values, weights)[0])


def _later(day: dt.date, days: int) -> dt.date:
    return day + dt.timedelta(days=days)


def _baseline_lesions(course: _Course) -> None:
    """One to four target lesions (RECIST 1.1 allows five, two per organ), none to two non-target lesions."""
    random = course.random
    places: list[Place] = ["Retroperitoneum"]
    places += random.sample(_METASTATIC, random.choice((0, 1, 1, 2, 3)))
    for number, place in enumerate(places, start=1):
        course.lesions.append(Lesion(f"T{number:02}", "TARGET", place))
    others: list[Place] = ["Peritoneum", "Lung"]
    for number in range(1, random.choice((0, 1, 1, 2)) + 1):
        course.lesions.append(Lesion(f"NT{number:02}", "NON-TARGET", others[number - 1]))


def _shape(course: _Course) -> tuple[float, int, float]:
    """(deepest relative size, scan of it, growth per scan afterwards) of the subject's targets."""
    random = course.random
    kind = random.choices(("cr", "pr", "sd", "pd"), (4, 22, 46, 28))[0]
    low, high = {"cr": (0.0, 0.0), "pr": (0.35, 0.68), "sd": (0.75, 1.05), "pd": (1.15, 1.6)}[kind]
    return random.uniform(low, high), 1 if kind == "pd" else random.randint(1, 3), random.uniform(0.04, 0.22)


def _diameters(course: _Course, weeks: int) -> None:
    """Scans every `weeks` weeks until the end or progression, with sizes, states and the investigator's response."""
    random = course.random
    targets = [lesion for lesion in course.lesions if lesion.role == "TARGET"]
    others = [lesion for lesion in course.lesions if lesion.role == "NON-TARGET"]
    start = {
        lesion.name: random.randint(16, 32) if lesion.nodal else random.randint(12, 140) for lesion in targets
    }
    deepest, turn, growth = _shape(course)
    appears = random.randint(2, 8) if course.chance(0.25) else None
    smallest = sum(start.values())
    method: Literal["CT", "MRI"] = "MRI" if course.chance(0.15) else "CT"
    for number in range(24):
        day = _later(course.baseline, number * weeks * 7 + (random.randint(-3, 4) if number else 0))
        if day > course.end:
            break
        label = f"Week {number * weeks}" if number else "Baseline"
        course.scans.append(Scan(day.isoformat(), label, method))
        if number == 0:
            factor = 1.0
        elif number <= turn:
            factor = 1 + (deepest - 1) * number / turn
        else:
            factor = (deepest or 0.001) + growth * (number - turn)
        total, missing = 0, False
        for lesion in targets:
            wobble = factor * random.uniform(0.96, 1.04) if number else 1.0
            size = round(start[lesion.name] * wobble)
            if lesion.nodal and size < 4:
                size = 4
            if number and course.chance(0.01):
                course.sizes.append(Size(number, lesion.name, None))
                missing = True
                continue
            small = number > 0 and not lesion.nodal and 0 < size < 5
            course.sizes.append(Size(number, lesion.name, 5 if small else size, small))
            total += size
        worse = _states(course, others, number, factor)
        new = appears is not None and number >= appears
        if new:
            worse = _new_lesion(course, number, first=number == appears) or worse
        if number:
            course.responses.append(
                Statement(number, _response(course, total, sum(start.values()), smallest, missing, worse))
            )
            if not missing:
                smallest = min(smallest, total)
            if course.responses[-1].response == "PD" and not course.chance(0.3):
                break


def _states(course: _Course, others: list[Lesion], number: int, factor: float) -> bool:
    """States of the non-target lesions; True for unequivocal progression."""
    worse = False
    for lesion in others:
        state: State = "present"
        if number and factor < 0.2:
            state = "absent"
        elif number and course.chance(0.02):
            state = "not-assessed"
        elif number and factor > 1.3 and course.chance(0.3):
            state, worse = "unequivocal", True
        course.findings.append(Finding(number, lesion.name, state))
    return worse


def _new_lesion(course: _Course, number: int, *, first: bool) -> bool:
    """A new lesion, equivocal at first in some; True where it is unequivocal."""
    if first:
        course.lesions.append(Lesion("NEW01", "NEW", course.random.choice(("Liver", "Lung", "Peritoneum"))))
    state: State = "equivocal" if first and course.chance(0.25) else "unequivocal"
    course.findings.append(Finding(number, "NEW01", state))
    return state == "unequivocal"


def _response(course: _Course, total: int, start: int, smallest: int, missing: bool, worse: bool) -> Response:
    """What the investigator wrote: mostly by the rules, sometimes as it looked."""
    if worse or (total >= 1.2 * smallest and total - smallest >= 5):
        return "PD"
    if missing:
        return "NE"
    if total == 0:
        return "CR"
    shrunk = total <= 0.7 * start
    if course.chance(0.04):
        shrunk = not shrunk
    return "PR" if shrunk else "SD"


def _treatment(course: _Course, drugs: tuple[Drug, ...], first: dt.date) -> dt.date:
    """Doses in cycles until the last scan, with missed, held, reduced and stopped ones; the last day of treatment."""
    random = course.random
    until = min(course.end, _later(dt.date.fromisoformat(course.scans[-1].date), random.randint(0, 14)))
    reduced = random.randint(2, 6) if course.chance(0.25) else 0
    day, cycle, last = first, 1, first
    while day <= until and cycle <= 34:
        course.visits.append(Visit(day.isoformat(), f"Cycle {cycle}", _results(course)))
        stops = course.chance(0.03)
        for drug in drugs:
            end = None if drug.days == 1 else min(_later(day, drug.days - 1), course.end).isoformat()
            mg = drug.dose
            if drug.route == "oral" and reduced and cycle >= reduced:
                mg = round(drug.dose * 5 / 6, 1)
            start = day.isoformat()
            if cycle > 1 and course.chance(0.03):
                course.doses.append(Dose(drug.name, drug.route, start, end, None, "not-done", "Hypertension"))
            elif cycle > 1 and drug.route == "oral" and course.chance(0.03):
                course.doses.append(Dose(drug.name, drug.route, start, end, None, "on-hold", "Proteinuria"))
            elif stops and drug.route == "oral":
                course.doses.append(
                    Dose(drug.name, drug.route, start, end, mg, "stopped", "Treatment not tolerated")
                )
            else:
                course.doses.append(Dose(drug.name, drug.route, start, end, mg))
            last = max(last, dt.date.fromisoformat(end or start))
        if stops:
            break
        day, cycle = _later(day, _CYCLE + random.choice((0, 0, 0, 1, 3, 7))), cycle + 1
    return last


def _results(course: _Course) -> tuple[Result, ...]:
    found = []
    for table, vital in ((_LABORATORY, False), (_VITAL, True)):
        for code, display, unit, usual, spread in table:
            value = round(max(course.random.gauss(usual, spread), usual / 10), 1)
            found.append(Result(code, display, value, unit, vital))
    return tuple(found)


def _adverse_events(course: _Course, drugs: tuple[Drug, ...], first: dt.date, last: dt.date) -> None:
    random = course.random
    span = max((last - first).days, 1)
    for term, often, worst in _EVENTS:
        for _ in range(2):
            if not course.chance(often / 1.5):
                continue
            day = _later(first, random.randint(0, span))
            grade = min(random.choices((1, 2, 3, 4, 5), (46, 32, 16, 4, 2))[0], worst)
            _event(course, term, day, grade, random.choice(drugs))
            if course.death is not None:
                return
    course.events.sort(key=lambda event: (event.date, event.term))


def _event(course: _Course, term: str, day: dt.date, grade: int, drug: Drug) -> None:
    random = course.random
    serious: Serious | None = None
    outcome: Outcome = "resolved"
    action: Action = random.choice(
        ("dose-not-changed", "dose-not-changed", "drug-interrupted", "dose-reduced")
    )
    causality: Causality | None = random.choices(
        ("not-related", "unlikely", "possible", "probable", "related", None), (8, 8, 34, 24, 22, 4)
    )[0]
    resolved: dt.date | None = _later(day, random.randint(2, 60))
    if grade == 5:
        course.death, course.end = day, day
        serious, outcome, resolved, action = "death", "fatal", None, "drug-withdrawn"
    elif grade == 4:
        serious, action = "life-threatening", "drug-withdrawn"
    elif grade == 3 and course.chance(0.5):
        serious = random.choice(("hospitalisation", "medically-important"))
    if resolved is not None and (resolved > course.end or course.chance(0.2)):
        resolved, outcome = None, random.choice(("ongoing", "recovering"))
    elif grade < 5 and course.chance(0.04):
        outcome = "sequelae"
    course.events.append(
        Event(
            term, day.isoformat(), None if resolved is None else resolved.isoformat(), grade, causality, drug.name,
            outcome, serious, action,
        )
    )  # fmt: skip


def _prior(random: Random, onset: dt.date, enrolled: dt.date) -> tuple[PriorTherapy, ...]:
    found: list[PriorTherapy] = []
    room = (enrolled - onset).days
    for line in range(random.choice((0, 1, 1, 2))):
        start = _later(onset, 30 + line * room // 3)
        end = _later(start, max(20, room // 6))
        if end < enrolled:
            found += [
                PriorTherapy(drug, start.isoformat(), end.isoformat()) for drug in random.sample(_EARLIER, 2)
            ]
    return tuple(found)


def _truncated(course: _Course) -> None:
    """Drops what would have happened after the end."""
    end = course.end.isoformat()
    course.scans = [scan for scan in course.scans if scan.date <= end]
    kept = len(course.scans)
    course.sizes = [item for item in course.sizes if item.scan < kept]
    course.findings = [item for item in course.findings if item.scan < kept]
    course.responses = [item for item in course.responses if item.scan < kept]
    course.doses = [dose for dose in course.doses if dose.start <= end]
    course.visits = [visit for visit in course.visits if visit.date <= end]
    course.events = [event for event in course.events if event.date <= end]
    seen = {item.lesion for item in course.sizes} | {item.lesion for item in course.findings}
    course.lesions = [lesion for lesion in course.lesions if lesion.name in seen]


def _ending(course: _Course, last: dt.date) -> tuple[Participation, dt.date | None]:
    """Whether the subject is still in the study, and since when not; some die of their disease."""
    random = course.random
    if course.death is None and course.chance(0.35):
        died = _later(last, random.randint(30, 500))
        if died <= LAST_DAY:
            course.death = died
    if course.death is not None:
        return "off-study", course.death
    gone = _later(last, random.randint(1, 30))
    if gone >= LAST_DAY:
        return "on-study", None
    return random.choices((("follow-up", None), ("off-study", gone), ("withdrawn", gone)), (5, 4, 1))[0]


def synthetic_subject(
    number: int, *, seed: int, study: Study = DEFAULT_STUDY, prefix: str = "syn"
) -> Subject:
    """One subject; the same number and seed give the same one.

    Args:
        number: which, from 1.
        seed: of the cohort.
        study: the study it takes part in.
        prefix: of ids and identifiers.
    """
    random = Random(f"{seed}/{number}")
    onset = _later(_FIRST_DAY, random.randint(0, 900))
    enrolled = _later(onset, random.randint(60, 400))
    baseline = _later(enrolled, random.randint(0, 10))
    first = _later(baseline, random.randint(1, 14))
    course = _Course(random, baseline, min(LAST_DAY, _later(baseline, random.randint(70, 900))))
    _baseline_lesions(course)
    metastases = tuple(sorted({lesion.place for lesion in course.lesions if lesion.place in _METASTATIC}))
    surgery = _later(onset, random.randint(5, 50)).isoformat() if course.chance(0.6) else None
    prior = _prior(random, onset, enrolled)
    _diameters(course, random.choice((6, 8, 9)))
    last = _treatment(course, study.drugs, first)
    _adverse_events(course, study.drugs, first, last)
    _truncated(course)
    participation, left = _ending(course, last)
    beside = tuple(
        PriorTherapy(drug, _later(first, random.randint(5, 60)).isoformat(), None)
        for drug in _BESIDE
        if course.chance(0.25)
    )
    return Subject(
        key=f"{prefix}-{number:06}",
        usubjid=f"{prefix.upper()}-{number:06}",
        sex=random.choice(("male", "female")),
        birth_date=_later(enrolled, -round(365.25 * random.triangular(21, 84, 57))).isoformat(),
        consented=_later(enrolled, -random.randint(0, 5)).isoformat(),
        enrolled=enrolled.isoformat(),
        left=None if left is None else left.isoformat(),
        participation=participation,
        arm=random.choice(study.arms) if study.arms else None,
        death=None if course.death is None else course.death.isoformat(),
        onset=onset.isoformat(),
        histology=_pick(random, _HISTOLOGY),
        grade=random.choices((1, 2, 3), (14, 38, 48))[0],
        ecog=random.choices((0, 1, 2), (45, 45, 10))[0],
        metastases=metastases,
        surgery=surgery,
        prior=(*prior, *beside),
        lesions=tuple(course.lesions),
        scans=tuple(course.scans),
        sizes=tuple(course.sizes),
        findings=tuple(course.findings),
        responses=tuple(course.responses),
        doses=tuple(course.doses),
        visits=tuple(course.visits),
        events=tuple(course.events),
    )


def synthetic_subjects(
    count: int, *, seed: int, study: Study = DEFAULT_STUDY, prefix: str = "syn"
) -> Iterator[Subject]:
    """Subjects 1 to `count`, one at a time.

    Args:
        count: how many.
        seed: of the cohort; another seed gives other people.
        study: the study they take part in.
        prefix: of ids and identifiers.
    """
    for number in range(1, count + 1):
        yield synthetic_subject(number, seed=seed, study=study, prefix=prefix)
