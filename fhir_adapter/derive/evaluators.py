"""Who read the scans: several evaluators, each graded alone.

An evaluator is named by TREVALID where there is one (`RADIOLOGIST 1`), else by TREVAL (`INVESTIGATOR`). Rows that
name nobody belong to every evaluator. Measurements of two evaluators are never mixed: each has lesions, visits,
baseline and responses of their own. Where readers disagree: `adjudication`.
"""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

from fhir_adapter.accounting import Finding
from fhir_adapter.study import Study

__all__ = ["absent_evaluators", "choose_evaluator", "evaluator_names", "evaluators", "read_by"]

_INVESTIGATOR: Final = "INVESTIGATOR"


def evaluator_names(rows: pd.DataFrame, domain: str) -> pd.Series[Any]:
    """Per row the evaluator's name, missing where the row names nobody.

    Args:
        rows: TU, TR or RS.
        domain: its name.
    """
    own = rows[f"{domain}EVALID"] if f"{domain}EVALID" in rows.columns else None
    name = rows[f"{domain}EVAL"] if own is None else own.where(own.notna(), rows[f"{domain}EVAL"])
    return name.astype("object")


def evaluators(tr: pd.DataFrame) -> list[str]:
    """The evaluators who measured something, by name."""
    return sorted({str(name) for name in evaluator_names(tr, "TR").dropna()})


def read_by(rows: pd.DataFrame, domain: str, evaluator: str) -> pd.DataFrame:
    """The rows of an evaluator, and those that name nobody."""
    name = evaluator_names(rows, domain)
    return rows[name.isna() | name.eq(evaluator)]


def choose_evaluator(names: list[str], study: Study) -> tuple[str, list[Finding]]:
    """Whose measurements are the response that counts.

    `measured_by` of the study file, else the evaluator whom `evaluator` names, else the investigator, else the
    first by name. More than one evaluator is a finding that names the one that counts, unless the study file
    does.
    """
    asked = study.response.measured_by
    wanted = [name for name in names if asked is not None and name.upper() == asked.upper()]
    named = [name for name in names if name == study.response.evaluator]
    investigator = [name for name in names if name.upper().startswith(_INVESTIGATOR)]
    chosen = [*wanted, *named, *investigator, *names][0]
    if wanted:
        return chosen, []
    text = f"measurements of {len(names)} evaluators; each is graded, those of one count"
    if asked is not None:
        text = f"nobody of the name that `measured_by` gives measured anything; {text}"
    return chosen, [Finding("several-evaluators", text, "derive", detail=f"{chosen} of {', '.join(names)}")]


def absent_evaluators(names: list[str], study: Study) -> list[Finding]:
    """Findings for evaluators of the study file who measured nothing, where one evaluator (or nobody named) did.

    Args:
        names: what `evaluators` returned.
        study: `measured_by` and `adjudication`.
    """
    response = study.response
    asked = [] if response.measured_by is None else [response.measured_by]
    asked += [] if response.adjudication is None else response.adjudication.readers
    known = {name.upper() for name in names}
    text = "an evaluator of the study file measured nothing; the only measurements that there are count"
    return [
        Finding("reader-without-readings", text, "derive", detail=name)
        for name in asked
        if names and name.upper() not in known
    ]
