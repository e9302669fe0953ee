"""Drugs with their schedules, arms and randomisation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fhir_adapter.study.parts import Model, Slug

__all__ = ["Arm", "BodySize", "Drug", "Randomisation", "Treatment"]


class Drug(Model):
    """A study drug: its concept (target code of the concept map `drug`) and label."""

    id: Slug
    label: str
    concept: str = Field(description="EXTRT: the target code in the concept map `drug`.")
    dose: float | None = Field(default=None, gt=0, description="Planned dose per administration.")
    unit: str = Field(default="", description="UCUM unit of the planned dose: mg, mg/m2, mg/kg …")
    days: list[int] = Field(
        default=[],
        description="Days of the cycle on which it is planned (1 is the first); without them no dose intensity.",
    )
    per_day: int = Field(default=1, ge=1, description="Planned administrations on each of these days.")
    cycle_length_days: int | None = Field(default=None, ge=1, description="If its cycle is not the study's.")
    record: Literal["administration", "day"] = Field(
        default="administration",
        description="What the dose of one record is: that of the whole record, or, in a record over several days "
        "(a course of tablets), that of each planned day within it.",
    )


class BodySize(Model):
    """Body size for doses by mg/m2 or mg/kg, from SC (WEIGHT, HEIGHT, BSA)."""

    at: Literal["baseline", "dose"] = Field(
        default="baseline", description="The last value up to the first dose, or up to each dose."
    )
    formula: Literal["mosteller", "dubois"] = Field(
        default="mosteller", description="Body surface area where none is recorded."
    )


class Arm(Model):
    """An arm, as ResearchSubject names it."""

    id: Slug
    label: str
    value: str = Field(description="ResearchSubject.actualArm or assignedArm.")


class Treatment(Model):
    """Drugs, cycle and arms."""

    drugs: list[Drug]
    cycle_length_days: int = 21
    cycles_from: str | None = Field(
        default=None, description="Drug (id) whose courses count as cycles; else any."
    )
    body_size: BodySize = BodySize()
    reduction_tolerance: float = Field(
        default=0.05, ge=0, lt=1,
        description="A dose is reduced if it is lower than this share below the planned dose.",
    )  # fmt: skip
    arms: list[Arm] = []


class Randomisation(Model):
    """Where the date of randomisation (DM.RANDDTC) stands; of several the earliest counts.

    - `research_subject`: `period.start` of the study's ResearchSubject.
    - `extension`: a date or dateTime extension of the study's ResearchSubject, by its URL.
    - `observation`: an Observation with one of the codes; its date value, else its effective time.
    - `procedure`: a Procedure with one of the codes; when it was performed.
    - `encounter`: an Encounter with one of the codes as its type; the start of its period.
    """

    source: Literal["research_subject", "extension", "observation", "procedure", "encounter"]
    codes: list[Annotated[str, Field(pattern=r"^[^|]+\|[^|]+$")]] = Field(
        default=[], description="`system|code`; for an observation, procedure or encounter."
    )
    url: str | None = Field(default=None, description="URL of the extension.")

    @model_validator(mode="after")
    def _is_complete(self) -> Randomisation:
        coded = self.source in {"observation", "procedure", "encounter"}
        if coded != bool(self.codes):
            wanted = "needs `codes`" if coded else "has no `codes`"
            raise ValueError(f"randomisation by {self.source} {wanted}")
        if (self.source == "extension") != (self.url is not None):
            wanted = "needs the `url` of the extension" if self.url is None else "has no `url`"
            raise ValueError(f"randomisation by {self.source} {wanted}")
        return self
