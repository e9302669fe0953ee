"""Two small datasets by hand: an SDTM domain and an ADaM dataset, with what is hard to write."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from fhir_adapter.datasets import Dataset, Variable
from fhir_adapter.export.tables import Table

LONG = "Doxorubicin " * 20 + "and ifosfamide"


def table(name: str, model: Any, keys: tuple[str, ...], variables: list[Variable], rows: list[Any]) -> Table:
    """A dataset of rows in the order of the variables, in the types of the metadata."""
    frame = pd.DataFrame(rows, columns=[one.name for one in variables], dtype="object")
    for one in variables:
        if one.type == "integer":
            frame[one.name] = frame[one.name].astype("Int64")
        elif one.type == "float":
            frame[one.name] = frame[one.name].astype("float64")
        elif one.type == "date":
            frame[one.name] = pd.to_datetime(frame[one.name]).astype("datetime64[ns]")
    return Table(Dataset(name, f"Data of {name}", model, keys, tuple(variables)), frame)


@pytest.fixture
def cm() -> Table:
    """Three medications: ASCII, a Chinese name with a partial date, a text of 254 bytes."""
    return table(
        "CM",
        "SDTM",
        ("STUDYID", "USUBJID", "CMSEQ"),
        [
            Variable("STUDYID", "Study Identifier", "text", 40),
            Variable("USUBJID", "Unique Subject Identifier", "text", 64),
            Variable("CMSEQ", "Sequence Number", "integer", 8),
            Variable("CMTRT", "Medication as Recorded", "text", 200),
            Variable("CMSTDTC", "Start Date/Time", "datetime", 25),
        ],
        [
            ("example", "S-01", 1, "Doxorubicin", "2021-06-15T08:30:00+08:00"),
            ("example", "S-01", 2, "安罗替尼", "2021-06"),
            ("example", "S-02", 1, LONG, None),
        ],
    )


@pytest.fixture
def adtr() -> Table:
    """Two sums of diameters: with decimals and dates before and after 1960, and with nothing."""
    return table(
        "ADTR",
        "ADaM",
        ("STUDYID", "USUBJID"),
        [
            Variable("STUDYID", "Study Identifier", "text", 40),
            Variable("USUBJID", "Unique Subject Identifier", "text", 64),
            Variable("ADT", "Analysis Date", "date", 10),
            Variable("ADY", "Day from Baseline Examination", "integer", 8),
            Variable("AVAL", "Sum of Diameters (mm)", "float", 8),
            Variable("ABLFL", "Baseline Record", "flag", 1),
        ],
        [
            ("example", "S-01", "2020-02-29", -1, 43.125, "Y"),
            ("example", "S-02", "1959-12-31", 1, 0.0, None),
            ("example", "S-03", None, None, None, None),
        ],
    )
