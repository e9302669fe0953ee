"""What the report shows beside its tables: figures, published values, settings and limits."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fhir_adapter.study.parts import Model, Slug, Variable

__all__ = ["Figure", "KnownDifference", "Limits", "Published", "ReportSettings"]


class Figure(Model):
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


class Published(Model):
    """A published value, to stand beside the computed one."""

    result: str = Field(description="Id of the computed result.")
    value: int | float | str | None
    digits: int | None = Field(default=None, description="Decimals printed; default: those of the value.")
    where: str = Field(default="", description="Where it is printed.")


class KnownDifference(Model):
    """Why a computed value differs from the published one."""

    result: str
    reason: str


class ReportSettings(Model):
    """Sections, figures and the comparison with published values."""

    sections: list[str] = ["summary", "flow", "baseline", "response", "survival", "subgroups", "landmark",
                           "toxicity", "exposure", "models", "sensitivity", "published", "methods",
                           "accounting", "findings"]  # fmt: skip
    figures: list[Figure] = []
    published: list[Published] = []
    known_differences: list[KnownDifference] = []
    language: str = "en"


class Limits(Model):
    """Findings above these counts end the run with status 3; None: no limit."""

    quarantined: int | None = None
    unknown_codes: int | None = None
    findings: int | None = None
