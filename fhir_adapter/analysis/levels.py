"""Levels of a subgroup or a characteristic: which there are, in which order, with which labels."""

from __future__ import annotations

import pandas as pd

from fhir_adapter.study import Level, Study, Subgroup

__all__ = ["characteristic_levels", "subgroup_levels"]


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


def characteristic_levels(study: Study, variable: str, rows: pd.DataFrame, *, multiple: bool) -> list[Level]:
    """Levels of an ADSL variable for a baseline table: those of its definition, then any others that occur."""
    defined = next((c.levels for c in study.baseline.characteristics if c.variable == variable), [])
    if variable == "SEX" and not defined:
        defined = [Level(value="M", label="Male"), Level(value="F", label="Female")]
    known = {level.value for level in defined}
    present = _present(rows, variable)
    if multiple:
        present = sorted({part for value in present for part in value.split(";")})
    return [*defined, *(Level(value=value) for value in present if value not in known)]
