"""What is derived for each subject: response, dates, endpoints, adverse events and exposure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fhir_adapter.study.analyses import Grouping
from fhir_adapter.study.parts import Model, Slug

__all__ = [
    "Adjudication",
    "BestResponse",
    "Endpoint",
    "Exposure",
    "Imputation",
    "Impute",
    "Response",
    "Toxicity",
]


class BestResponse(Model):
    """Arguments of the best overall response (`rules.md`, Best overall response)."""

    confirmed: bool = False
    reference: Literal["baseline", "first_dose", "randomisation"] = "baseline"
    ref_start_window: int = 42
    ref_confirm: int = 28
    max_nr_ne: int = 1
    accept_sd: bool = False
    missing_as_ne: bool = False


class Adjudication(Model):
    """Independent review: whose reading counts where readers disagree."""

    readers: list[str] = Field(
        min_length=2,
        description="TREVALID (or TREVAL) of the readers; where they agree the first one's counts.",
    )
    adjudicator: str = Field(description="TREVALID, or RSEVALID of recorded responses, of the adjudicator.")
    on: list[Literal["best_response", "progression_date", "response_date"]] = Field(
        default=["best_response", "progression_date"],
        description="What readers must agree on; dates at most `visit_window_days` apart are the same.",
    )


class Response(Model):
    """Response criteria, windows and evaluators."""

    criteria: Literal["RECIST 1.1"] | list[Literal["RECIST 1.1", "iRECIST"]] = Field(
        default="RECIST 1.1",
        description="RECIST 1.1, or [RECIST 1.1, iRECIST] for iRECIST beside it.",
    )
    evaluator: str = Field(
        default="COMPUTED",
        description="COMPUTED from measurements, or the RSEVAL (RSEVALID) whose recorded responses count.",
    )
    measured_by: str | None = Field(
        default=None,
        description="TREVAL (TREVALID) whose measurements count; default: the investigator, else the first by name.",
    )
    adjudication: Adjudication | None = Field(
        default=None,
        description="Readers and adjudicator; their result then counts instead of `measured_by`.",
    )
    baseline_window_days: int = 28
    visit_window_days: int = 14
    visit_date: Literal["latest"] = "latest"
    assessment_interval_days: int = 63
    sustained_pr: bool = True
    reappearance_is_pd: bool = True
    best: BestResponse = BestResponse()
    clinical_benefit_days: int | None = Field(
        default=None,
        ge=0,
        description="Clinical benefit: CR, PR, or at least stable disease so many days after the reference or later.",
    )

    @property
    def irecist(self) -> bool:
        """Whether iRECIST is derived beside RECIST 1.1."""
        return not isinstance(self.criteria, str) and "iRECIST" in self.criteria

    @property
    def criteria_label(self) -> str:
        """The criteria in words."""
        return self.criteria if isinstance(self.criteria, str) else " and ".join(self.criteria)

    @model_validator(mode="after")
    def _recist_is_first(self) -> Response:
        if not isinstance(self.criteria, str) and self.criteria[:1] != ["RECIST 1.1"]:
            raise ValueError("criteria begin with RECIST 1.1: iRECIST stands beside it")
        if self.adjudication is not None and self.measured_by is not None:
            raise ValueError("give measured_by or adjudication, not both")
        return self


Impute = Literal["first", "middle", "last", "none"]


class Imputation(Model):
    """How a partial date becomes a date."""

    death: Impute = "none"
    ae_start: Impute = "none"
    dose: Impute = "none"
    response: Impute = "none"


class Endpoint(Model):
    """A time-to-event endpoint, and what the report says of it."""

    id: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{0,7}$", description="PARAMCD in ADTTE.")]
    label: str
    kind: Literal["PFS", "OS", "DOR", "TTR", "EFS", "TOT", "IPFS"]
    start: Literal["baseline", "first_dose", "randomisation"] = Field(
        default="baseline", description="The first dose where time on treatment (TOT) names none."
    )
    evaluator: str | None = Field(
        default=None, description="Whose responses count, if not those of `response.evaluator`: COMPUTED from "
        "measurements, INVESTIGATOR, or the RSEVAL of a reader.",
    )  # fmt: skip
    count_first_day: bool = False
    censor_at: Literal["last_adequate_assessment", "last_contact"] = "last_adequate_assessment"
    censor_new_therapy: bool = False
    censor_missed_assessments: bool = False
    response: Literal["confirmed", "unconfirmed"] = "unconfirmed"
    unit: Literal["months", "days"] = "months"
    landmarks: list[float] = Field(default=[], description="In the unit of the endpoint.")
    conf_type: Literal["log-log", "log", "plain"] = "log-log"
    median_on_plateau: Literal["middle", "first"] = Field(
        default="middle",
        description="Where the curve rests at exactly one half: the middle of the plateau (R), or its first time.",
    )
    by: list[Slug] = Field(default=[], description="Subgroups (ids) with a curve each and a log-rank test.")
    population: Slug = "full"

    @model_validator(mode="before")
    @classmethod
    def _treatment_starts_with_its_first_dose(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("kind") == "TOT" and "start" not in values:
            return values | {"start": "first_dose"}
        return values


class Toxicity(Model):
    """Adverse events: what counts as treatment-emergent and related, and how grades are grouped."""

    dictionary: str = "CTCAE 5.0"
    related_values: list[str] = Field(
        default=["RELATED", "PROBABLE", "POSSIBLE", "DEFINITE"],
        description="AEREL values that count as related.",
    )
    window_days: int = Field(default=30, description="Emergent: first dose to last dose plus these days.")
    related_only: bool = Field(
        default=True, description="The tables by term count related events; else all emergent ones."
    )
    count_first_day: bool = Field(default=False, description="The day of the first dose is day 1 at risk.")
    tables: list[Literal["terms", "classes", "grades", "consequences", "onset", "rates", "listing"]] = Field(
        default=["terms", "classes", "grades", "consequences", "onset", "rates", "listing"],
        description="Tables that follow the overview.",
    )
    thresholds: list[Annotated[int, Field(ge=1, le=5)]] = Field(
        default=[1, 3], description="Least grades for onset and rates; 1 counts events without a grade too."
    )
    listing_min_grade: int = Field(default=3, ge=1, le=5)
    listing_rows: int = Field(
        default=500, ge=1, description="The list stops after so many events, and says so."
    )
    groupings: list[Grouping] = [
        Grouping(id="any", label="Total", low=1, high=5),
        Grouping(id="g1_2", label="Grade 1–2", low=1, high=2),
        Grouping(id="g3_4", label="Grade 3–4", low=3, high=4),
        Grouping(id="g5", label="Grade 5", low=5, high=5),
    ]
    term_labels: dict[str, str] = {}
    organ_classes: dict[str, str] = Field(
        default={},
        description="Term (AEDECOD) to system organ class, before what the data or CTCAE's categories say.",
    )
    by_arm: bool = False
    population: Slug = "safety"


class Exposure(Model):
    """The table of exposure by drug."""

    by_drug: bool = Field(default=True, description="Show the table by drug (and by arm, if there are arms).")
    intensity_levels: list[float] = Field(
        default=[70, 90, 110], description="Bounds of the groups of relative dose intensity, in %."
    )
    population: Slug = "safety"

    @model_validator(mode="after")
    def _rises(self) -> Exposure:
        if self.intensity_levels != sorted(set(self.intensity_levels)):
            raise ValueError("intensity_levels have to rise")
        return self
