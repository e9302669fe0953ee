"""What every format needs: a dataset's frame beside the metadata of each of its columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pandas as pd

from fhir_adapter.datasets import Dataset, Kind, Variable, metadata
from fhir_adapter.study import Study

__all__ = ["Note", "Table", "longer_than_planned", "study_tables"]

#: Length of text variables that the study file adds to ADSL: what SDTM and SAS transport files have at most.
_TEXT_LENGTH = 200
_NUMBER_LENGTH, _DATE_LENGTH = 8, 10


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that a reader of an exported file has to know; it counts values and never quotes one.

    Attributes:
        code: stable name of what is noted.
        text: what it means, a sentence.
        dataset: name of the dataset.
        variable: name of the variable in the run folder, or empty.
        number: how many values it concerns.
        format: of which format, or empty for all.
    """

    code: str
    text: str
    dataset: str
    variable: str = ""
    number: int = 0
    format: str = ""


@dataclass(frozen=True)
class Table:
    """A dataset with its rows.

    Attributes:
        dataset: metadata; its variables are exactly the columns of the frame, in their order.
        frame: rows in the metadata's form (`datasets.conform`): text, datetime and flag as object with None,
            integer as Int64, float as float64, date as datetime64.
    """

    dataset: Dataset
    frame: pd.DataFrame


def study_tables(frames: Mapping[str, pd.DataFrame], study: Study) -> list[Table]:
    """Pairs the datasets of a run with their metadata, in the order of the metadata file.

    What the study file adds to ADSL (characteristics, flags of analysis sets) takes its label from there.

    Args:
        frames: dataset by name, in the metadata's form.
        study: the study of the run.
    """
    labels = {item.variable: item.label for item in study.baseline.characteristics}
    labels |= {item.flag: item.label for item in study.analysis_sets}
    flags = {item.flag for item in study.analysis_sets}
    tables = []
    for name, dataset in metadata().items():
        if name not in frames:
            continue
        frame = frames[name]
        known = {variable.name: variable for variable in dataset.variables}
        variables = tuple(
            known[column]
            if column in known
            else _variable(str(column), labels.get(column, str(column)), frame[column], flag=column in flags)
            for column in frame.columns
        )
        tables.append(Table(msgspec.structs.replace(dataset, variables=variables), frame))
    return tables


def _variable(name: str, label: str, column: pd.Series[Any], *, flag: bool) -> Variable:
    kind: Kind
    if flag:
        return Variable(name, label, "flag", 1)
    if pd.api.types.is_datetime64_any_dtype(column):
        kind, length = "date", _DATE_LENGTH
    elif pd.api.types.is_integer_dtype(column):
        kind, length = "integer", _NUMBER_LENGTH
    elif pd.api.types.is_float_dtype(column):
        kind, length = "float", _NUMBER_LENGTH
    else:
        kind, length = "text", _TEXT_LENGTH
    return Variable(name, label, kind, length)


def longer_than_planned(table: Table) -> list[Note]:
    """Texts with more characters than the metadata plan for; no format cuts them."""
    notes = []
    for variable in table.dataset.variables:
        if variable.type not in {"text", "datetime", "flag"}:
            continue
        lengths = table.frame[variable.name].dropna().map(len)
        number = int((lengths > variable.length).sum())
        if number:
            text = f"{number} values have more than the {variable.length} characters planned, up to {lengths.max()}"
            notes.append(Note("longer-than-planned", text, table.dataset.name, variable.name, number))
    return notes
