"""Levels of a subgroup or a characteristic: which there are, in which order, with which labels."""

from __future__ import annotations

import pandas as pd

from fhir_adapter.study import Level, Study, Subgroup

__all__ = ["characteristic_levels", "level_labels", "subgroup_levels"]


def _present(rows: pd.DataFrame, variable: str) -> list[str]:
    return sorted({str(value) for value in rows[variable].dropna()})


def subgroup_levels(subgroup: Subgroup, rows: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Levels with subjects, in the study's order (others follow, sorted), and levels without any.

    A group without subjects is dropped and named (rules.md, Proportions).
    """
    present = _present(rows, subgroup.variable)
    ordered = [level for level in subgroup.levels if level in present]
    ordered += [level for level in present if level not in subgroup.levels]
    return ordered, [level for level in subgroup.levels if level not in present]


def _defined(study: Study, variable: str) -> list[Level]:
    """Levels of a characteristic as the study file defines them; SEX has CDISC's."""
    defined = next((c.levels for c in study.baseline.characteristics if c.variable == variable), [])
    if variable == "SEX" and not defined:
        return [Level(value="M", label="Male"), Level(value="F", label="Female")]
    return defined


def level_labels(study: Study, variable: str) -> dict[str, str]:
    """Value → label of the levels of a characteristic."""
    return {level.value: level.label or level.value for level in _defined(study, variable)}


def characteristic_levels(study: Study, variable: str, rows: pd.DataFrame, *, multiple: bool) -> list[Level]:
    """Levels of an ADSL variable for a baseline table: those of its definition, then any others that occur."""
    defined = _defined(study, variable)
    known = {level.value for level in defined}
    present = _present(rows, variable)
    if multiple:
        present = sorted({part for value in present for part in value.split(";")})
    return [*defined, *(Level(value=value) for value in present if value not in known)]
