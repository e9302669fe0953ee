"""Dialects: the ways in which hospitals and guides write the same fact, one choice per kind of fact.

Each choice is a way that was met in a published guide or in data (`docs/dialects.md` has the sources). A dialect is
one choice of each; the named ones are close to a guide or a kind of system, and together they hold every choice at
least once. A fact is written in one way only, so that a reader that does not know the way loses the fact.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, Literal, get_args, get_type_hints

__all__ = ["DIALECTS", "Dialect", "choices"]

Grade = Literal[
    "vulcan-r4", "vulcan-r5", "vulcan-r5-severity", "ctcae", "ctcae-mcode", "codexrt", "codexrt-1.0", "onconova",
    "onconova-older", "mii-severity", "words",
]  # fmt: skip
Event = Literal["meddra", "meddra-tho", "words"]
Resolved = Literal["vulcan", "ctcae", "onconova", "r5", "r5-misspelt"]
Causality = Literal["vulcan", "core", "core-tho", "core-words", "e2b"]
Seriousness = Literal["tho", "r4", "ncit", "words"]
AeOutcome = Literal["both", "core", "ncit", "e2b"]
Response = Literal["loinc", "ncit", "snomed-trend", "radlex", "omop", "words", "string"]
Question = Literal["97509-4", "88040-1", "21976-6", "C96613"]
Shape = Literal["component", "additional", "value"]
Unit = Literal["mm", "cm"]
Role = Literal["dicom", "prefix", "category", "words"]
Identity = Literal["focus", "logical", "tracking", "identifier"]
State = Literal["code", "snomed", "words", "string"]
Visit = Literal["encounter", "imaging", "time-point", "date"]
Drug = Literal["words", "synonym", "code", "reference", "contained"]
Ecog = Literal["integer", "quantity", "loinc", "snomed", "mii", "interpretation", "words"]
Grading = Literal["mcode", "gold", "mii", "integer", "words"]
Histology = Literal["extension", "code", "words"]
Reference = Literal["relative", "absolute", "versioned"]


@dataclass(frozen=True)
class Dialect:
    """One way of writing each kind of fact.

    Attributes:
        grade: place and code of the CTCAE grade of an adverse event.
        event: code of its term.
        resolved: place of its end.
        causality: place and code of its relatedness to a drug.
        seriousness: code of its seriousness.
        outcome: code of its outcome.
        response: code of the investigator's response.
        question: code of the Observation that holds it.
        shape: a diameter as component of mCODE's Tumor Size (the short axis of a node with our code), with a node's
            short axis as additional dimension, or as the value of the Observation.
        unit: of diameters.
        role: how a lesion is said to be target, non-target or new.
        identity: how a measurement says which lesion it is of.
        state: code of the state of a non-target or new lesion.
        visit: how an assessment says at which visit it was.
        drug: how a drug is named.
        ecog: how the ECOG performance status is written.
        grading: how the FNCLCC grade is written.
        histology: where the histology stands.
        reference: the form of literal references.
    """

    grade: Grade = "vulcan-r4"
    event: Event = "meddra"
    resolved: Resolved = "vulcan"
    causality: Causality = "vulcan"
    seriousness: Seriousness = "tho"
    outcome: AeOutcome = "both"
    response: Response = "loinc"
    question: Question = "97509-4"
    shape: Shape = "component"
    unit: Unit = "mm"
    role: Role = "dicom"
    identity: Identity = "focus"
    state: State = "code"
    visit: Visit = "encounter"
    drug: Drug = "words"
    ecog: Ecog = "integer"
    grading: Grading = "mcode"
    histology: Histology = "extension"
    reference: Reference = "relative"


#: The named dialects.
DIALECTS: Final[dict[str, Dialect]] = {
    "mcode": Dialect(),
    "vulcan": Dialect(
        grade="vulcan-r5", causality="core-tho", outcome="ncit", response="ncit", unit="cm", visit="imaging",
        drug="reference", ecog="loinc", reference="absolute",
    ),
    "icaredata": Dialect(
        grade="vulcan-r5-severity", event="meddra-tho", response="snomed-trend", question="88040-1", role="prefix",
        shape="additional", visit="time-point", ecog="interpretation", drug="contained",
    ),
    "ctcae": Dialect(
        grade="ctcae", resolved="ctcae", causality="core", seriousness="ncit", outcome="core", response="ncit",
        question="C96613", role="category", drug="code",
    ),
    "ctcae-mcode": Dialect(
        grade="ctcae-mcode", resolved="ctcae", seriousness="r4", outcome="core", shape="value", identity="logical",
        role="category", state="snomed", visit="date", ecog="snomed",
    ),
    "codex": Dialect(
        grade="codexrt", event="meddra-tho", response="loinc", question="88040-1", identity="tracking",
        visit="time-point", drug="reference", reference="versioned",
    ),
    "codex-1.0": Dialect(
        grade="codexrt-1.0", causality="core-words", seriousness="words", role="words", shape="value", unit="cm",
        ecog="quantity", grading="integer", drug="synonym",
    ),
    "onconova": Dialect(
        grade="onconova", resolved="onconova", causality="core-tho", outcome="core", question="88040-1",
        role="prefix", identity="identifier", histology="code",
    ),
    "onconova-0.1": Dialect(
        grade="onconova-older", resolved="onconova", seriousness="r4", response="string", question="21976-6",
        role="category", state="string", visit="imaging", ecog="loinc", drug="contained",
    ),
    "gold": Dialect(
        grade="vulcan-r4", resolved="r5", response="radlex", question="88040-1", shape="additional", unit="cm",
        role="prefix", visit="imaging", grading="gold", histology="code", drug="code",
    ),
    "mii": Dialect(
        grade="mii-severity", resolved="r5", causality="core", outcome="core", response="omop", question="88040-1",
        role="category", unit="cm", identity="tracking", grading="mii", ecog="mii",
        reference="absolute",
    ),
    "idea4rc": Dialect(
        grade="ctcae", resolved="r5-misspelt", causality="e2b", outcome="e2b", response="omop", question="88040-1",
        role="words", identity="identifier", visit="date", grading="words",
    ),
    "hospital": Dialect(
        grade="words", event="words", causality="core-words", seriousness="words", outcome="core", response="words",
        question="21976-6", shape="value", unit="cm", role="words", identity="identifier", state="words",
        visit="date", drug="synonym", ecog="words", grading="words", histology="words",
    ),
}  # fmt: skip


def choices() -> dict[str, tuple[str, ...]]:
    """Kind of fact → the ways to write it, the first is that of the dialect `mcode`."""
    hints = get_type_hints(Dialect)
    return {
        field.name: (
            getattr(DIALECTS["mcode"], field.name),
            *(way for way in get_args(hints[field.name]) if way != field.default),
        )
        for field in fields(Dialect)
    }
