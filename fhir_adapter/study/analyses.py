"""What is computed over subjects: tables, summaries, subgroups, landmarks, models and sensitivity analyses."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from fhir_adapter.conditions import Condition
from fhir_adapter.study.parts import Model, Slug, Variable

__all__ = [
    "Baseline",
    "Characteristic",
    "Covariate",
    "CoxModel",
    "Grouping",
    "LandmarkAnalysis",
    "Level",
    "ResponseTable",
    "Sensitivity",
    "Subgroup",
    "SubgroupAnalysis",
    "Summary",
    "TableRow",
]


class Level(Model):
    """A level of a characteristic: its value, label, and the raw values or range that make it."""

    value: str
    label: str = ""
    values: list[str] = Field(default=[], description="Raw values that become this level (default: `value`).")
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None


class Characteristic(Model):
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


class TableRow(Model):
    """Part of a baseline table: a characteristic, summarised."""

    variable: Variable
    label: str = ""
    show: list[Literal["levels", "median_range", "median_iqr", "mean_sd"]] = ["levels"]
    id: Slug = Field(description="Dotted ids start with this name: `baseline.<id>.<level>.n`.")
    multiple: bool = Field(default=False, description="The variable holds several values joined by ';'.")
    condition: Condition | None = Field(default=None, description="Only these subjects are counted.")


class Baseline(Model):
    """Characteristics (ADSL variables) and the baseline table made of them."""

    characteristics: list[Characteristic] = []
    table: list[TableRow] = []
    population: Slug = "full"
    by_arm: bool = False


class Summary(Model):
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


class Subgroup(Model):
    """A partition of the subjects by an ADSL variable, in the order of `levels`, and the tests between them."""

    id: Slug
    label: str
    variable: Variable
    levels: list[str] = Field(default=[], description="Order of the levels; default: sorted.")
    level_labels: dict[str, str] = {}
    parent: dict[str, str] = Field(default={}, description="Sub-level → the level it is shown under.")
    orr_test: str | None = Field(default=None, description="Name of the test on responders by level.")
    dcr_test: str | None = None


class SubgroupAnalysis(Model):
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


class LandmarkAnalysis(Model):
    """Survival after a landmark by the response that was reached until then (Anderson, Cain and Gelber 1983)."""

    id: Slug
    label: str
    endpoint: str
    landmark: float = Field(gt=0, description="In the unit of the endpoint, from its start.")


class ResponseTable(Model):
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


class Grouping(Model):
    """A column of the toxicity table: grades from `low` to `high`."""

    id: Slug
    label: str
    low: int = Field(ge=1, le=5)
    high: int = Field(ge=1, le=5)


class Covariate(Model):
    """A covariate of a Cox model: an ADSL variable; with `reference` it is categorical."""

    variable: Variable
    label: str = ""
    reference: str | None = None


class CoxModel(Model):
    """A Cox model; `univariate` fits one model per covariate, else one with all of them."""

    id: Slug
    label: str
    endpoint: str
    covariates: list[Covariate]
    univariate: bool = False
    strata: Variable | None = None
    ties: Literal["efron", "breslow"] = "efron"
    population: Slug = "full"


class Sensitivity(Model):
    """A named variation: an endpoint derived again with other settings, reported beside the main one."""

    id: Slug
    label: str
    endpoint: str
    changes: dict[str, Any]
