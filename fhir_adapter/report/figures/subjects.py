"""What the figures of single subjects share: who is shown, in which groups, under which labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from fhir_adapter.analysis.levels import subgroup_levels
from fhir_adapter.study import Figure, Study

__all__ = ["Groups", "groups", "level_labels", "population", "shorten"]


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of a figure: their heading, levels in order, and labels; no levels without a subgroup."""

    heading: str
    variable: str
    levels: tuple[str, ...]
    labels: Mapping[str, str]

    def index(self, value: object) -> int | None:
        """Position of a subject's level; None where it is not recorded."""
        text = None if pd.isna(value) else str(value)  # type: ignore[call-overload]
        return self.levels.index(text) if text in self.levels else None


def population(datasets: Mapping[str, pd.DataFrame], study: Study, name: str) -> pd.DataFrame:
    """ADSL rows of an analysis set, by USUBJID."""
    adsl = datasets["ADSL"]
    flag = study.analysis_set(name).flag
    return adsl[adsl[flag] == "Y"].sort_values("USUBJID", kind="stable", ignore_index=True)


def level_labels(study: Study, variable: str) -> dict[str, str]:
    """Labels of a variable's levels: those of a subgroup on it, else of its characteristic."""
    labels: dict[str, str] = {}
    for characteristic in study.baseline.characteristics:
        if characteristic.variable == variable:
            labels |= {level.value: level.label for level in characteristic.levels if level.label}
    for subgroup in study.subgroups:
        if subgroup.variable == variable:
            labels |= subgroup.level_labels
    return labels


def groups(study: Study, figure: Figure, subjects: pd.DataFrame) -> Groups:
    """The groups that `figure.by` names; one without a name when it names none."""
    if figure.by is None:
        return Groups("", "", (), {})
    subgroup = study.subgroup(figure.by)
    levels, _ = subgroup_levels(subgroup, subjects)
    known = level_labels(study, subgroup.variable)
    return Groups(
        subgroup.label, subgroup.variable, tuple(levels), {level: known.get(level, level) for level in levels}
    )


def shorten(text: str, width: int) -> str:
    """At most `width` characters; what is cut ends with an ellipsis and stands in full in the tooltip."""
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"
