"""Which views and concept maps a study is read with."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from fhir_adapter.study.parts import Model

__all__ = ["Mapping"]


class Mapping(Model):
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
