"""Builder of adverse events of the research back-port (R4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fhir_adapter.demo.resources.parts import AEB, NCIT, Code, Resource, concept, make_resource, reference

__all__ = ["CAUSALITY_CODES", "GRADE_CODES", "OUTCOME_CODES", "adverse_event"]

GRADE_CODES: dict[int, Code] = {
    1: (NCIT, "C41338", "Grade 1 Mild Adverse Event"),
    2: (NCIT, "C41339", "Grade 2 Moderate Adverse Event"),
    3: (NCIT, "C41340", "Grade 3 Severe Adverse Event"),
    4: (NCIT, "C41337", "Grade 4 Life Threatening or Disabling Adverse Event"),
    5: (NCIT, "C48275", "Grade 5 Death Related to Adverse Event"),
}

CAUSALITY_CODES: dict[str, Code] = {
    "not-related": (NCIT, "C53256", "Not Related"),
    "unlikely": (NCIT, "C53257", "Unlikely Related"),
    "possible": (NCIT, "C53258", "Possibly Related"),
    "probable": (NCIT, "C53259", "Probably Related"),
    "related": (NCIT, "C53260", "Definitely Related"),
}

OUTCOME_CODES: dict[str, tuple[str, Code]] = {
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
        extensions.append({"url": f"{AEB}ae-grade", "valueCodeableConcept": concept(GRADE_CODES[grade])})
    for suspect in suspects:
        parts: list[Resource] = [{"url": "instance", "valueCodeableConcept": concept(text=suspect)}]
        if causality is not None:
            relatedness = {
                "url": "entityRelatedness",
                "valueCodeableConcept": concept(CAUSALITY_CODES[causality]),
            }
            parts.append({"url": "causality", "extension": [relatedness]})
        extensions.append({"url": f"{AEB}suspect-entity", "extension": parts})
    if serious is not None:
        criterion = [
            {"url": "criterionCode", "valueCodeableConcept": concept(_SERIOUSNESS[serious])},
            {"url": "criterionPresent", "valueBoolean": True},
        ]
        extensions.append({"url": f"{AEB}seriousness-criteria", "extension": criterion})
    if resolved is not None:
        extensions.append({"url": f"{AEB}resolve-date", "valueDateTime": resolved})
    if discontinued is not None:
        extensions.append({"url": f"{AEB}caused-subject-to-discontinue-study", "valueBoolean": discontinued})
    if action is not None:
        item = {"url": "item", "valueCodeableConcept": concept(_ACTION[action])}
        extensions.append({"url": f"{AEB}mitigating-action", "extension": [item]})
    seriousness = "non-serious" if serious is None else "serious"
    base, ncit = OUTCOME_CODES[outcome]
    base_outcome = ("http://terminology.hl7.org/CodeSystem/adverse-event-outcome", base, "")
    return make_resource(
        "AdverseEvent",
        id_,
        f"{AEB}AdverseEvent-clinical-research",
        extension=extensions or None,
        modifierExtension=[{"url": f"{AEB}status", "valueCode": status}],
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
