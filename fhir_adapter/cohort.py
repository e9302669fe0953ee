"""The cohort: candidates, treated, ordered exclusions, analysed, and the analysis sets among them.

The steps make the flow diagram of STROBE (item 13, von Elm et al. 2007). Who denied or withdrew consent leaves
first. A subject counts at the first exclusion that holds; who is treated and has no exclusion is analysed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fhir_adapter.conditions import evaluate
from fhir_adapter.study import AnalysisSet, Cohort

__all__ = ["CONSENT", "FlowStep", "flag_analysis_sets", "flow_steps", "select_analysed"]

#: EXCLID of a subject who denied or withdrew consent.
CONSENT = "consent"

Frames = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class FlowStep:
    """One step of the flow.

    Attributes:
        id: `candidates`, `excluded.consent` (if there is one), `treated`, `excluded.<exclusion>`, `analysed`.
        label: as the study file names it.
        n_subjects: number of subjects.
        usubjids: the subjects, sorted.
    """

    id: str
    label: str
    n_subjects: int
    usubjids: tuple[str, ...]


def select_analysed(frames: Frames, cohort: Cohort, refused: pd.Series[bool]) -> pd.DataFrame:
    """Finds the exclusion of each subject, and who is analysed.

    Args:
        frames: ADSL (with TRTSDT) and every other dataset a condition may name.
        cohort: the ordered exclusions.
        refused: per row of ADSL whether the subject denied or withdrew consent; such a subject is never
            analysed.

    Returns:
        On the index of ADSL: EXCLID, the id of the first exclusion that holds among those treated; ANALFL, Y
        or null.

    Raises:
        StudyFileError: a condition names a dataset or variable that is not there.
    """
    adsl = frames["ADSL"]
    treated = adsl["TRTSDT"].notna()
    excluded = _text(refused, CONSENT)
    for exclusion in cohort.exclusions:
        holds = evaluate(exclusion.condition, frames, "ADSL") & treated & excluded.isna()
        excluded = excluded.mask(holds, exclusion.id)
    analysed = _text(treated & excluded.isna(), "Y")
    return pd.DataFrame({"EXCLID": excluded, "ANALFL": analysed})


def flag_analysis_sets(frames: Frames, sets: list[AnalysisSet]) -> pd.DataFrame:
    """The flag of each analysis set: Y for the analysed (ANALFL) that satisfy its condition.

    Raises:
        StudyFileError: a condition names a dataset or variable that is not there.
    """
    adsl = frames["ADSL"]
    flags: dict[str, pd.Series[Any]] = {}
    for item in sets:
        inside = adsl["ANALFL"].eq("Y")
        if item.condition is not None:
            inside &= evaluate(item.condition, frames, "ADSL")
        flags[item.flag] = _text(inside, "Y")
    return pd.DataFrame(flags, index=adsl.index)


def _text(condition: pd.Series[bool], text: str) -> pd.Series[Any]:
    values = np.full(len(condition), None, dtype=object)
    values[condition.to_numpy(dtype=bool)] = text
    return pd.Series(values, index=condition.index)


def flow_steps(adsl: pd.DataFrame, cohort: Cohort) -> list[FlowStep]:
    """The flow: candidates, treated, each exclusion, analysed.

    Args:
        adsl: USUBJID, TRTSDT, EXCLID, ANALFL of all candidates.
        cohort: labels and order.
    """

    def step(id_: str, label: str, inside: pd.Series[bool]) -> FlowStep:
        subjects = tuple(sorted(adsl.loc[inside, "USUBJID"]))
        return FlowStep(id_, label, len(subjects), subjects)

    refused = adsl["EXCLID"].eq(CONSENT)
    steps = [step("candidates", "Candidates", pd.Series(True, index=adsl.index))]
    if refused.any():
        steps.append(step(f"excluded.{CONSENT}", "Consent denied or withdrawn", refused))
    steps.append(step("treated", cohort.treated_label, adsl["TRTSDT"].notna() & ~refused))
    steps += [
        step(f"excluded.{item.id}", item.label, adsl["EXCLID"].eq(item.id)) for item in cohort.exclusions
    ]
    steps.append(step("analysed", cohort.analysed_label, adsl["ANALFL"].eq("Y")))
    return steps
