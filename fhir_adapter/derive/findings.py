"""Findings of the derive stage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from fhir_adapter.accounting import Finding

__all__ = ["of_subjects", "per_subject"]


def per_subject(code: str, text: str, subjects: Iterable[Any]) -> list[Finding]:
    """One finding for each different subject, in their order."""
    return [Finding(code, text, "derive", usubjid=str(name)) for name in sorted(set(subjects))]


def of_subjects(code: str, text: str, column: pd.Series[Any], noun: str) -> list[Finding]:
    """One finding for each subject of a column of USUBJIDs, with the number of its rows (`3 doses`)."""
    counts = column.value_counts().sort_index()
    return [
        Finding(code, text, "derive", usubjid=str(name), detail=f"{number} {noun}")
        for name, number in counts.items()
    ]
