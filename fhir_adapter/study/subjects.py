"""Who is in a study: consent, identity, candidates, exclusions and analysis sets."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import Field, model_validator

from fhir_adapter.conditions import Condition
from fhir_adapter.study.parts import Model, Slug, Variable

__all__ = ["AnalysisSet", "Candidates", "Coded", "Cohort", "Consent", "Exclusion", "Identity", "StudyInfo"]


class Consent(Model):
    """Consent policy of the study."""

    policy: Literal["required", "opt-out", "waived"]
    reference: str = Field(default="", description="Approval under which consent is waived or assumed.")

    @model_validator(mode="after")
    def _waiver_has_a_reference(self) -> Consent:
        if self.policy == "waived" and not self.reference:
            raise ValueError("a waived consent needs the reference of its approval")
        return self


class StudyInfo(Model):
    """What the study is."""

    id: Slug
    title: str
    reference: str = Field(default="", description="Citation of the publication or protocol.")
    data_cutoff: dt.date | Literal["rolling"]
    consent: Consent
    exploratory: bool = Field(default=True, description="P values are exploratory; the report says so.")
    synthetic: bool = Field(
        default=False, description="The data are synthetic; the report says so on every page."
    )


class Identity(Model):
    """How subjects are named in datasets."""

    usubjid_system: str | None = Field(
        default=None, description="System of the ResearchSubject (or Patient) identifier that becomes USUBJID; "
        "without it, an HMAC of the patient key with the site's key file."
    )  # fmt: skip


class Coded(Model):
    """A system and a value."""

    system: str
    value: str


class Candidates(Model):
    """Where candidate subjects come from; exactly one of these."""

    research_study: Coded | None = Field(default=None, description="Identifier of a ResearchStudy.")
    group: Coded | None = None
    condition: list[str] | None = Field(default=None, description="`system|code` of Conditions.")
    all_patients: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> Candidates:
        given = [self.research_study, self.group, self.condition, self.all_patients or None]
        if sum(item is not None for item in given) != 1:
            raise ValueError("name exactly one of research_study, group, condition, all_patients")
        return self


class Exclusion(Model):
    """One step of the flow; steps are applied in order and a subject counts at the first that holds."""

    id: Slug
    label: str
    condition: Condition


class Cohort(Model):
    """Who is studied: candidates, those treated, and ordered exclusions (conditions on ADSL or any dataset)."""

    candidates: Candidates
    treated_label: str = "Treated"
    analysed_label: str = "Analysed"
    exclusions: list[Exclusion] = []


class AnalysisSet(Model):
    """An analysis set: `safety`, `full`, `response_evaluable` or any other id. Among the analysed subjects."""

    id: Slug
    label: str
    flag: Variable = Field(description="Flag variable in ADSL, for example SAFFL.")
    condition: Condition | None = None
