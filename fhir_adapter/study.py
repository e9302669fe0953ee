"""The study definition: the typed model of a study YAML file, and its JSON schema.

Everything that differs between two studies stands here: who is in it, which drugs, which response rules, endpoints,
tables, figures, models, and the published values to compare with. No study needs a line of Python.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fhir_adapter.conditions import Condition
from fhir_adapter.errors import StudyFileError
from fhir_adapter.yamlfile import line_of, read_yaml

__all__ = [
    "Adjudication",
    "AnalysisSet",
    "Arm",
    "Baseline",
    "BestResponse",
    "BodySize",
    "Candidates",
    "Characteristic",
    "Coded",
    "Cohort",
    "Consent",
    "Covariate",
    "CoxModel",
    "Drug",
    "Endpoint",
    "Exclusion",
    "Exposure",
    "Figure",
    "Grouping",
    "Identity",
    "Imputation",
    "KnownDifference",
    "LandmarkAnalysis",
    "Level",
    "Limits",
    "Mapping",
    "Published",
    "Randomisation",
    "ReportSettings",
    "Response",
    "ResponseTable",
    "Sensitivity",
    "Study",
    "StudyInfo",
    "Subgroup",
    "SubgroupAnalysis",
    "Summary",
    "TableRow",
    "Toxicity",
    "Treatment",
    "json_schema",
    "load_study",
]

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Variable = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,31}$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Consent(_Model):
    """Consent policy of the study."""

    policy: Literal["required", "opt-out", "waived"]
    reference: str = Field(default="", description="Approval under which consent is waived or assumed.")

    @model_validator(mode="after")
    def _waiver_has_a_reference(self) -> Consent:
        if self.policy == "waived" and not self.reference:
            raise ValueError("a waived consent needs the reference of its approval")
        return self


class StudyInfo(_Model):
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


class Identity(_Model):
    """How subjects are named in datasets."""

    usubjid_system: str | None = Field(
        default=None, description="System of the ResearchSubject (or Patient) identifier that becomes USUBJID; "
        "without it, an HMAC of the patient key with the site's key file."
    )  # fmt: skip


class Mapping(_Model):
    """Views and concept maps; without these lists, all that ship."""

    views: list[str] | None = None
    concepts: list[str] | None = None
    preliminary: bool = Field(default=False, description="Count preliminary Observations.")
    lesion_identifier_system: str | None = None
    view_files: list[Path] = Field(
        default=[],
        description="ViewDefinitions of this study, from its folder; one takes the place of the shipped view that its "
        "file is named like.",
    )
    concept_files: list[Path] = Field(
        default=[],
        description="ConceptMaps of this study, from its folder; one is asked before the shipped map that its file is "
        "named like.",
    )

    @field_validator("view_files", "concept_files")
    @classmethod
    def _below(cls, value: list[Path]) -> list[Path]:
        for path in value:
            if not path.is_absolute() and (".." in path.parts or path.suffix != ".json"):
                raise ValueError("a JSON file in the folder of the study file, or below it")
        return value


class Coded(_Model):
    """A system and a value."""

    system: str
    value: str


class Candidates(_Model):
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


class Exclusion(_Model):
    """One step of the flow; steps are applied in order and a subject counts at the first that holds."""

    id: Slug
    label: str
    condition: Condition


class Cohort(_Model):
    """Who is studied: candidates, those treated, and ordered exclusions (conditions on ADSL or any dataset)."""

    candidates: Candidates
    treated_label: str = "Treated"
    analysed_label: str = "Analysed"
    exclusions: list[Exclusion] = []


class Drug(_Model):
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


class BodySize(_Model):
    """Body size for doses by mg/m2 or mg/kg, from SC (WEIGHT, HEIGHT, BSA)."""

    at: Literal["baseline", "dose"] = Field(
        default="baseline", description="The last value up to the first dose, or up to each dose."
    )
    formula: Literal["mosteller", "dubois"] = Field(
        default="mosteller", description="Body surface area where none is recorded."
    )


class Arm(_Model):
    """An arm, as ResearchSubject names it."""

    id: Slug
    label: str
    value: str = Field(description="ResearchSubject.actualArm or assignedArm.")


class Treatment(_Model):
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


class Randomisation(_Model):
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


class BestResponse(_Model):
    """Arguments of the best overall response (`rules.md`, Best overall response)."""

    confirmed: bool = False
    reference: Literal["baseline", "first_dose", "randomisation"] = "baseline"
    ref_start_window: int = 42
    ref_confirm: int = 28
    max_nr_ne: int = 1
    accept_sd: bool = False
    missing_as_ne: bool = False


class Adjudication(_Model):
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


class Response(_Model):
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


class Imputation(_Model):
    """How a partial date becomes a date."""

    death: Impute = "none"
    ae_start: Impute = "none"
    dose: Impute = "none"
    response: Impute = "none"


class Endpoint(_Model):
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


class AnalysisSet(_Model):
    """An analysis set: `safety`, `full`, `response_evaluable` or any other id. Among the analysed subjects."""

    id: Slug
    label: str
    flag: Variable = Field(description="Flag variable in ADSL, for example SAFFL.")
    condition: Condition | None = None


class Level(_Model):
    """A level of a characteristic: its value, label, and the raw values or range that make it."""

    value: str
    label: str = ""
    values: list[str] = Field(default=[], description="Raw values that become this level (default: `value`).")
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None


class Characteristic(_Model):
    """An ADSL variable: where its raw value comes from, and its levels.

    The raw value is `source.variable` of the rows of `source.dataset` (in the subject's rows that satisfy `where`);
    `pick` says which row if several (`first`/`last` by date, `any` for a yes/no, `all` for a list joined by ';').
    """

    variable: Variable
    label: str
    dataset: str = "ADSL"
    source: Variable | None = None
    where: Condition | None = None
    pick: Literal["first", "last", "worst", "any", "all"] = "last"
    on_or_before: Literal["first_dose", "baseline", "any"] = "any"
    type: Literal["text", "number", "flag"] = "text"
    levels: list[Level] = []
    unit: str = ""


class TableRow(_Model):
    """Part of a baseline table: a characteristic, summarised."""

    variable: Variable
    label: str = ""
    show: list[Literal["levels", "median_range", "median_iqr", "mean_sd"]] = ["levels"]
    id: Slug = Field(description="Dotted ids start with this name: `baseline.<id>.<level>.n`.")
    multiple: bool = Field(default=False, description="The variable holds several values joined by ';'.")
    condition: Condition | None = Field(default=None, description="Only these subjects are counted.")


class Baseline(_Model):
    """Characteristics (ADSL variables) and the baseline table made of them."""

    characteristics: list[Characteristic] = []
    table: list[TableRow] = []
    population: Slug = "full"
    by_arm: bool = False


class Summary(_Model):
    """A named line of a summary: subjects that satisfy a condition, or a variable described over them.

    `n_pct` counts subjects of the population with a row of `dataset` that satisfies `condition`; the other forms
    describe `variable` over those rows, divided by `divide_by` (30.4375 gives months from days).
    """

    id: Slug
    label: str
    section: Literal["exposure", "response", "survival", "toxicity"] = "exposure"
    dataset: str = "ADSL"
    variable: Variable | None = None
    condition: Condition | None = None
    show: list[Literal["n_pct", "median_range", "median_iqr", "mean_sd", "range"]] = ["n_pct"]
    unit: str = ""
    divide_by: float = 1.0
    digits: int = 1
    population: Slug = "full"

    @model_validator(mode="after")
    def _has_a_variable(self) -> Summary:
        if self.variable is None and self.show != ["n_pct"]:
            raise ValueError(f"summary {self.id} describes a variable but names none")
        return self


class Subgroup(_Model):
    """A partition of the subjects by an ADSL variable, in the order of `levels`, and the tests between them."""

    id: Slug
    label: str
    variable: Variable
    levels: list[str] = Field(default=[], description="Order of the levels; default: sorted.")
    level_labels: dict[str, str] = {}
    parent: dict[str, str] = Field(default={}, description="Sub-level → the level it is shown under.")
    orr_test: str | None = Field(default=None, description="Name of the test on responders by level.")
    dcr_test: str | None = None


class SubgroupAnalysis(_Model):
    """An endpoint by the levels of subgroups, as a table and, on request, a forest plot.

    With two arms: subjects and events of each arm, hazard ratio, and the test of the interaction of arm and
    subgroup. Without: median and objective response rate of each level, and the log-rank test between them.
    """

    id: Slug
    label: str
    endpoint: str
    subgroups: list[Slug]
    arms: list[Slug] = Field(
        default=[],
        description="Two arms (ids): the first compared with the second. Default: the study's two.",
    )
    ties: Literal["efron", "breslow"] = "efron"
    interval: Literal["clopper_pearson", "wilson"] = "clopper_pearson"


class LandmarkAnalysis(_Model):
    """Survival after a landmark by the response that was reached until then (Anderson, Cain and Gelber 1983)."""

    id: Slug
    label: str
    endpoint: str
    landmark: float = Field(gt=0, description="In the unit of the endpoint, from its start.")


class ResponseTable(_Model):
    """A table of best response by subgroup (the paper's Tables 3 and 4).

    Where a subgroup of the table has two levels, `difference` and `odds_ratio` compare the first with the
    second, for each of ORR and DCR that the table shows.
    """

    id: Slug
    title: str
    subgroups: list[Slug] = []
    total: bool = True
    columns: list[str] = ["CR", "PR", "SD", "PD", "NE", "ORR", "DCR"]
    interval: Literal["clopper_pearson", "wilson"] | None = "clopper_pearson"
    difference: Literal["newcombe", "miettinen_nurminen"] | None = None
    odds_ratio: Literal["odds_ratio_wald", "odds_ratio_exact"] | None = None
    population: Slug = "full"


class Grouping(_Model):
    """A column of the toxicity table: grades from `low` to `high`."""

    id: Slug
    label: str
    low: int = Field(ge=1, le=5)
    high: int = Field(ge=1, le=5)


class Toxicity(_Model):
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


class Exposure(_Model):
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


class Covariate(_Model):
    """A covariate of a Cox model: an ADSL variable; with `reference` it is categorical."""

    variable: Variable
    label: str = ""
    reference: str | None = None


class CoxModel(_Model):
    """A Cox model; `univariate` fits one model per covariate, else one with all of them."""

    id: Slug
    label: str
    endpoint: str
    covariates: list[Covariate]
    univariate: bool = False
    strata: Variable | None = None
    ties: Literal["efron", "breslow"] = "efron"
    population: Slug = "full"


class Sensitivity(_Model):
    """A named variation: an endpoint derived again with other settings, reported beside the main one."""

    id: Slug
    label: str
    endpoint: str
    changes: dict[str, Any]


class Figure(_Model):
    """A figure of the report."""

    id: Slug
    kind: Literal["waterfall", "kaplan_meier", "swimmer", "forest", "flow"]
    title: str
    endpoint: str | None = None
    by: Slug | None = Field(default=None, description="Subgroup (id) that colours bars or makes curves.")
    analysis: Slug | None = Field(
        default=None, description="Subgroup analysis (id) that a forest plot shows; else the models."
    )
    label_variable: Variable | None = None
    population: Slug = "full"


class Published(_Model):
    """A published value, to stand beside the computed one."""

    result: str = Field(description="Id of the computed result.")
    value: int | float | str | None
    digits: int | None = Field(default=None, description="Decimals printed; default: those of the value.")
    where: str = Field(default="", description="Where it is printed.")


class KnownDifference(_Model):
    """Why a computed value differs from the published one."""

    result: str
    reason: str


class ReportSettings(_Model):
    """Sections, figures and the comparison with published values."""

    sections: list[str] = ["summary", "flow", "baseline", "response", "survival", "subgroups", "landmark",
                           "toxicity", "exposure", "models", "sensitivity", "published", "methods",
                           "accounting", "findings"]  # fmt: skip
    figures: list[Figure] = []
    published: list[Published] = []
    known_differences: list[KnownDifference] = []
    language: str = "en"


class Limits(_Model):
    """Findings above these counts end the run with status 3; None: no limit."""

    quarantined: int | None = None
    unknown_codes: int | None = None
    findings: int | None = None


class Study(_Model):
    """A whole study file."""

    study: StudyInfo
    identity: Identity = Identity()
    mapping: Mapping = Mapping()
    cohort: Cohort
    treatment: Treatment
    randomisation: Randomisation | None = None
    response: Response = Response()
    imputation: Imputation = Imputation()
    last_contact: list[str] = Field(
        default=["SV.SVENDTC", "SV.SVSTDTC", "TR.TRDTC", "EX.EXENDTC", "EX.EXSTDTC", "PR.PRSTDTC", "SC.SCDTC",
                 "DS.DSSTDTC"],
        description="DATASET.VARIABLE of dates that show the subject alive.",
    )  # fmt: skip
    analysis_sets: list[AnalysisSet] = [
        AnalysisSet(id="safety", label="Safety set", flag="SAFFL"),
        AnalysisSet(id="full", label="Full analysis set", flag="FASFL"),
    ]
    quantile_type: Literal[7, 2] = Field(
        default=7, description="Quartiles by Hyndman and Fan's definition 7 (R) or 2 (SAS)."
    )
    baseline: Baseline = Baseline()
    subgroups: list[Subgroup] = []
    response_tables: list[ResponseTable] = []
    endpoints: list[Endpoint] = []
    subgroup_analyses: list[SubgroupAnalysis] = []
    landmark_analyses: list[LandmarkAnalysis] = []
    summaries: list[Summary] = []
    toxicity: Toxicity = Toxicity()
    exposure: Exposure = Exposure()
    models: list[CoxModel] = []
    sensitivity: list[Sensitivity] = []
    limits: Limits = Limits()
    report: ReportSettings = ReportSettings()

    def subgroup(self, id_: str) -> Subgroup:
        """The subgroup of that id."""
        return next(item for item in self.subgroups if item.id == id_)

    def endpoint(self, id_: str) -> Endpoint:
        """The endpoint of that id."""
        return next(item for item in self.endpoints if item.id == id_)

    def analysis_set(self, id_: str) -> AnalysisSet:
        """The analysis set of that id."""
        return next(item for item in self.analysis_sets if item.id == id_)

    @model_validator(mode="after")
    def _names_exist(self) -> Study:
        subgroups = {item.id for item in self.subgroups}
        sets = {item.id for item in self.analysis_sets}
        endpoints = {item.id for item in self.endpoints}
        wrong: list[str] = []
        for endpoint in self.endpoints:
            wrong += [
                f"endpoint {endpoint.id}: no subgroup {by}" for by in endpoint.by if by not in subgroups
            ]
            wrong += [f"endpoint {endpoint.id}: no analysis set {endpoint.population}"] * (
                endpoint.population not in sets
            )
            if endpoint.kind == "IPFS" and not self.response.irecist:
                wrong.append(f"endpoint {endpoint.id}: iPFS needs criteria: [RECIST 1.1, iRECIST]")
        for table in self.response_tables:
            if "CBR" in table.columns and self.response.clinical_benefit_days is None:
                wrong.append(f"response table {table.id}: CBR needs response.clinical_benefit_days")
            wrong += [
                f"response table {table.id}: no subgroup {by}"
                for by in table.subgroups
                if by not in subgroups
            ]
        for model in self.models:
            wrong += [f"model {model.id}: no endpoint {model.endpoint}"] * (model.endpoint not in endpoints)
        for item in self.sensitivity:
            wrong += [f"sensitivity {item.id}: no endpoint {item.endpoint}"] * (
                item.endpoint not in endpoints
            )
        analyses = {item.id for item in self.subgroup_analyses}
        arms = {arm.id for arm in self.treatment.arms}
        for part in self.subgroup_analyses:
            at = f"subgroup analysis {part.id}"
            wrong += [f"{at}: no endpoint {part.endpoint}"] * (part.endpoint not in endpoints)
            wrong += [f"{at}: no subgroup {by}" for by in part.subgroups if by not in subgroups]
            wrong += [f"{at}: no arm {arm}" for arm in part.arms if arm not in arms]
            if (part.arms or len(arms) > 1) and len(set(part.arms or arms)) != 2:
                wrong.append(f"{at}: name the two arms that are compared")
        for mark in self.landmark_analyses:
            wrong += [f"landmark analysis {mark.id}: no endpoint {mark.endpoint}"] * (
                mark.endpoint not in endpoints
            )
        for figure in self.report.figures:
            if figure.analysis is not None and (figure.kind != "forest" or figure.analysis not in analyses):
                wrong.append(f"figure {figure.id}: no subgroup analysis {figure.analysis} for a forest plot")
            if figure.endpoint is not None and figure.endpoint not in endpoints:
                wrong.append(f"figure {figure.id}: no endpoint {figure.endpoint}")
            if figure.by is not None and figure.by not in subgroups:
                wrong.append(f"figure {figure.id}: no subgroup {figure.by}")
        for drug in [self.treatment.cycles_from]:
            if drug is not None and drug not in {item.id for item in self.treatment.drugs}:
                wrong.append(f"treatment.cycles_from: no drug {drug}")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def _with_files(study: Study, raw: bytes, folder: Path) -> tuple[Study, str]:
    """The study with its own files found in a folder, and the SHA-256 of its bytes and theirs."""
    digest = hashlib.sha256(raw)
    found: dict[str, list[Path]] = {}
    for name in ("view_files", "concept_files"):
        found[name] = [folder / path for path in getattr(study.mapping, name)]
        for path in found[name]:
            try:
                digest.update(path.read_bytes())
            except OSError as error:
                raise StudyFileError(
                    f"{path.name} cannot be read ({error.strerror})", where=f"mapping.{name}"
                ) from error
    return study.model_copy(update={"mapping": study.mapping.model_copy(update=found)}), digest.hexdigest()


def load_study(path: Path, *, files: Path | None = None) -> tuple[Study, str]:
    """Reads and checks a study file.

    Args:
        path: the YAML file.
        files: folder of the study's own views and concept maps; None for that of the file.

    Returns:
        The study, its own files as absolute paths, and the SHA-256 (hex) of all their bytes.

    Raises:
        StudyFileError: the file is missing, not YAML, or not a study; each problem with its line.
    """
    tree, raw = read_yaml(path, StudyFileError, "the study file")
    try:
        study = Study.model_validate(tree)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            line = line_of(tree, item["loc"])
            place = ".".join(str(part) for part in item["loc"])
            problems.append(f"{path.name}:{line}: {place}: {item['msg']}")
        raise StudyFileError(
            "; ".join(problems), remedy="`fhir-adapter study schema` prints what a study file may hold."
        ) from error
    _check_randomisation(study, tree, path.name)
    return _with_files(study, raw, (files or path.parent).absolute())


def _check_randomisation(study: Study, tree: Any, name: str) -> None:
    """Refuses a study that counts from the randomisation and does not say where its date stands.

    Raises:
        StudyFileError: with the line of each setting that asks for it.
    """
    if study.randomisation is not None:
        return
    asking: list[tuple[int | str, ...]] = [
        ("endpoints", place, "start")
        for place, endpoint in enumerate(study.endpoints)
        if endpoint.start == "randomisation"
    ]
    asking += [
        ("sensitivity", place, "changes", "start")
        for place, item in enumerate(study.sensitivity)
        if item.changes.get("start") == "randomisation"
    ]
    if study.response.best.reference == "randomisation":
        asking.append(("response", "best", "reference"))
    if asking:
        places = (f"{name}:{line_of(tree, path)}: {'.'.join(map(str, path))}" for path in asking)
        raise StudyFileError(
            "; ".join(
                f"{place}: the study does not say where the date of randomisation stands" for place in places
            ),
            remedy="Add a `randomisation:` section that names its source.",
        )


def json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a study file."""
    schema = Study.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "fhir_adapter study file"
    return schema
