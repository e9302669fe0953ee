"""The table of exposure by drug, on a few rows of ADEX."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from fhir_adapter.analysis.exposure import exposure_table
from fhir_adapter.analysis.selection import Analysis, replay
from fhir_adapter.datasets import conform
from fhir_adapter.report.formatting import format_cell, plain
from fhir_adapter.results import Results
from fhir_adapter.study import Study

DRUGS: list[dict[str, Any]] = [
    {"id": "a", "label": "A", "concept": "drug-a", "dose": 10, "unit": "mg/m2", "days": [1]},
    {"id": "b", "label": "B", "concept": "drug-b"},
]
#             drug      parameter   s1    s2    s3
ROWS: list[tuple[Any, ...]] = [
    ("drug-a", "DOSES", 3.0, 2.0, 0.0),
    ("drug-a", "CYCLES", 3.0, 2.0, 0.0),
    ("drug-a", "CYCCOMP", 3.0, 1.0, None),
    ("drug-a", "DURD", 61.0, 31.0, None),
    ("drug-a", "RDI", 95.0, 60.0, None),
    ("drug-a", "DINT", 9.5, 6.0, None),
    ("drug-a", "UNRECD", 0.0, 2.0, None),
    ("drug-a", "REDUCT", 0.0, 2.0, 0.0),
    ("drug-a", "REDUCTAE", 0.0, 1.0, 0.0),
    ("drug-a", "MISSED", 0.0, 1.0, 1.0),
    ("drug-a", "STOPFL", 0.0, 1.0, 0.0),
    ("drug-b", "DOSES", 1.0, None, None),
    (None, "DOSES", 4.0, 2.0, 0.0),
    (None, "DURD", 61.0, 31.0, None),
    (None, "CYCLES", 3.0, 2.0, 0.0),
]


def analysed(
    rows: list[tuple[Any, ...]], arms: bool = False
) -> tuple[Results, dict[str, pd.DataFrame], Study]:
    """The table of three subjects; s3 of the second arm was never treated."""
    arm = [{"id": "one", "label": "One", "value": "1"}, {"id": "two", "label": "Two", "value": "2"}]
    study = Study.model_validate(
        {
            "study": {
                "id": "x",
                "title": "X",
                "data_cutoff": "2023-01-01",
                "consent": {"policy": "required"},
            },
            "cohort": {"candidates": {"all_patients": True}},
            "treatment": {"drugs": DRUGS, "arms": arm if arms else []},
            "exposure": {"intensity_levels": [70, 90]},
        }
    )
    adex = [
        {
            "USUBJID": f"s{number}", "ASEQ": place, "PARAMCD": code, "EXTRT": drug, "AVAL": value,
            "REASND": "no dose was given" if value is None else None,
        }
        for place, (drug, code, *values) in enumerate(rows)
        for number, value in enumerate(values, start=1)
        if value is not None or (drug == "drug-a" and code in {"RDI", "DINT", "CYCCOMP", "UNRECD"})
    ]  # fmt: skip
    adsl = [
        {"USUBJID": f"s{number}", "ANALFL": "Y", "SAFFL": "Y", "TRT01A": "two" if number == 3 else "one"}
        for number in range(1, 4)
    ]
    datasets = {"ADSL": conform("ADSL", adsl), "ADEX": conform("ADEX", adex)}
    results = Results(study="x", data_cutoff="2023-01-01")
    exposure_table(Analysis(study, datasets, results))
    return results, datasets, study


def shown(results: Results, display: str) -> dict[str, list[str]]:
    """Row → its cells as printed."""
    table = next(item for item in results.displays if item.id == display)
    return {row.label: [plain(format_cell(cell, results)) for cell in row.cells] for row in table.rows}


def test_the_table() -> None:
    """A column for all drugs and one per drug; what is not planned or not estimable says so."""
    results, datasets, study = analysed(ROWS)
    table = shown(results, "exposure_drugs")
    assert table["Subjects with a record"] == ["3", "3", "1"]
    assert table["Subjects treated, n (%)"] == ["2 (66.7)", "2 (66.7)", "1 (100.0)"]
    assert table["Time on treatment, months, median [range]"][0] == "1.5 [1.0–2.0] months"
    assert table["Cycles with every planned administration, median [range]"][1:] == ["2 [1–3]", "NE [NE–NE]"]
    assert table["Relative dose intensity, %, median [range]"] == ["–", "77.5 [60.0–95.0]%", "NE [NE–NE]"]
    assert table["<70%, n (%)"] == ["–", "1 (33.3)", "–"]
    assert table["70 to <90%, n (%)"] == ["–", "0 (0.0)", "–"]
    assert table["≥90%, n (%)"] == ["–", "1 (33.3)", "–"]
    assert table["Not estimable, n (%)"] == ["–", "1 (33.3)", "–"]
    assert table["Dose reduced, n (%)"][1] == "1 (33.3)"
    assert table["Administration missed, n (%)"][1] == "2 (66.7)"
    notes = results.displays[0].notes
    assert notes[-1] == (
        "Not estimable: A: no dose was given (1); B: the study file names no days of the cycle; "
        "B: the study file plans no dose."
    )
    assert results["exposure.drug.b.relative_intensity.median"].reason == "the study file plans no dose"
    for result in results.results.values():
        if result.rule == "n_subjects":
            assert result.value == replay(result, datasets, study)["USUBJID"].nunique(), result.id


def test_by_arm() -> None:
    """An arm has the columns of the drugs that its subjects have records of."""
    results = analysed(ROWS, arms=True)[0]
    heads = {item.id: item.columns for item in results.displays}
    assert heads == {
        "exposure_drugs": ("All drugs", "A (mg/m2)", "B"),
        "exposure_one_drugs": ("All drugs", "A (mg/m2)", "B"),
        "exposure_two_drugs": ("A (mg/m2)",),
    }
    assert shown(results, "exposure_two_drugs")["Not estimable, n (%)"] == ["1 (100.0)"]


@pytest.mark.parametrize("rows", [[], ROWS[:1]])
def test_little_is_not_estimable(rows: list[tuple[Any, ...]]) -> None:
    """No administrations, or nothing but their number: zeros, or null with the reason."""
    results = analysed(rows)[0]
    for result in results.results.values():
        assert result.value == result.value, result.id
        assert result.value is not None or result.reason, result.id
