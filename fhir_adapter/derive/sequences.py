"""Impossible sequences of dates, as findings: nothing is moved or left out for them.

Only complete dates are compared. Scans and doses before birth or after death are found where they are read
(`visits`, `adex`), adverse events in `adae`, and other records after death as `contact-after-death`.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from fhir_adapter.accounting import Finding
from fhir_adapter.derive.dates import complete_dates
from fhir_adapter.derive.findings import per_subject

__all__ = ["impossible_sequences"]


def impossible_sequences(cut: Mapping[str, pd.DataFrame], subjects: pd.DataFrame) -> list[Finding]:
    """Findings for each subject whose records contradict each other in time.

    Args:
        cut: SDTM-like datasets up to the cut-off.
        subjects: on USUBJID: BIRTH (first possible day), RANDDT, TRTSDT, DTHDT.
    """
    birth, death = subjects["BIRTH"], subjects["DTHDT"]
    randomised, first = subjects["RANDDT"], subjects["TRTSDT"]
    cases = [
        ("death-before-first-dose", "death is dated before the first dose", death < first),
        ("dose-before-randomisation", "the first dose is dated before the randomisation", first < randomised),
        ("randomisation-after-death", "the randomisation is dated after death", randomised > death),
        ("randomisation-before-birth", "the randomisation is dated before birth", randomised < birth),
    ]
    findings = [
        finding for code, text, bad in cases for finding in per_subject(code, text, subjects.index[bad])
    ]
    for dataset, variable, code, what in (
        ("RS", "RSDTC", "response", "a recorded response"),
        ("CM", "CMSTDTC", "medication", "a medication"),
        ("PR", "PRSTDTC", "procedure", "a procedure"),
    ):
        rows = cut[dataset]
        day, subject = complete_dates(rows[variable]), rows["USUBJID"]
        late, early = day > subject.map(death), day < subject.map(birth)
        findings += per_subject(f"{code}-after-death", f"{what} is dated after death", subject[late])
        findings += per_subject(f"{code}-before-birth", f"{what} is dated before birth", subject[early])
    return findings
