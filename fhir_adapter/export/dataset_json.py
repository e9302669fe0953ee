"""CDISC Dataset-JSON 1.1, as one JSON document and as NDJSON.

Source: Dataset-JSON Version 1.1 (CDISC), "Top-level Metadata Attributes", "Column Metadata", "Supported Column Data
Type Combinations", "Row Data" and "NDJSON Representation". Attributes stand in the order of the specification, which
lets a reader stream the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pandas as pd

from fhir_adapter import __version__
from fhir_adapter.datasets import Variable
from fhir_adapter.errors import UsageError
from fhir_adapter.export.tables import Table

__all__ = ["columns", "encode_dataset_json", "encode_ndjson", "header"]

_VERSION = "1.1.0"
_encode = msgspec.json.Encoder().encode
#: dataType of each type of the metadata; a datetime is ISO 8601 as written and may be partial.
_TYPE = {
    "text": "string",
    "flag": "string",
    "integer": "integer",
    "float": "float",
    "date": "date",
    "datetime": "datetime",
}


def columns(table: Table) -> list[dict[str, Any]]:
    """Column metadata: itemOID, name, label, dataType, targetDataType, length, displayFormat, keySequence.

    A date of ADaM is a number in SAS, hence `targetDataType` integer and a display format; an SDTM date is text in
    both. `length` is the planned one, or that of the longest value if it is longer.
    """
    keys = {name: place for place, name in enumerate(table.dataset.keys, start=1)}
    found = []
    for variable in table.dataset.variables:
        column: dict[str, Any] = {
            "itemOID": f"IT.{table.dataset.name}.{variable.name}",
            "name": variable.name,
            "label": variable.label,
            "dataType": _TYPE[variable.type],
        }
        if variable.type == "date":
            column |= {"targetDataType": "integer", "displayFormat": "DATE9."}
        elif _TYPE[variable.type] == "string":
            column["length"] = _length(table.frame, variable)
        if variable.name in keys:
            column["keySequence"] = keys[variable.name]
        found.append(column)
    return found


def header(table: Table, *, created: str, file_oid: str) -> dict[str, Any]:
    """Everything but the rows.

    Args:
        table: the dataset.
        created: ISO 8601 date and time of the run; the clock has no part in a file.
        file_oid: unique name of the file.
    """
    study = table.frame["STUDYID"].iloc[0] if "STUDYID" in table.frame and len(table.frame) else None
    named = {"studyOID": study} if study else {}
    return {
        "datasetJSONCreationDateTime": created,
        "datasetJSONVersion": _VERSION,
        "fileOID": file_oid,
        "originator": "fhir-adapter",
        "sourceSystem": {"name": "fhir-adapter", "version": __version__},
        **named,
        "metaDataRef": "../define.html",
        "itemGroupOID": f"IG.{table.dataset.name}",
        "records": len(table.frame),
        "name": table.dataset.name,
        "label": table.dataset.label,
        "columns": columns(table),
    }


def encode_dataset_json(table: Table, *, created: str, file_oid: str) -> bytes:
    """One JSON document: the header, then a row per line.

    Raises:
        UsageError: a number that JSON does not have (an infinity).
    """
    head = _encode(header(table, created=created, file_oid=file_oid))
    rows = b",\n".join(_encode(row) for row in _rows(table))
    return head[:-1] + b',"rows":[' + (b"\n" + rows + b"\n" if rows else b"") + b"]}\n"


def encode_ndjson(table: Table, *, created: str, file_oid: str) -> bytes:
    """The header on the first line, then an array per row.

    Raises:
        UsageError: a number that JSON does not have (an infinity).
    """
    lines = [_encode(header(table, created=created, file_oid=file_oid))]
    lines += [_encode(row) for row in _rows(table)]
    return b"\n".join(lines) + b"\n"


def _length(frame: pd.DataFrame, variable: Variable) -> int:
    longest = frame[variable.name].dropna().map(len).max() if len(frame) else math.nan
    return variable.length if pd.isna(longest) else max(variable.length, int(longest))


def _rows(table: Table) -> Iterator[list[Any]]:
    """Rows of plain values: text, int, float, ISO dates, None for whatever is missing."""
    lists = [_values(table, variable) for variable in table.dataset.variables]
    return map(list, zip(*lists, strict=True)) if lists else iter(())


def _values(table: Table, variable: Variable) -> list[Any]:
    column = table.frame[variable.name]
    present = column.notna()
    values: list[Any]
    if variable.type == "date":
        values = column.dt.strftime("%Y-%m-%d").tolist()
    elif variable.type == "integer":
        return [int(value) if held else None for value, held in zip(column, present, strict=True)]
    elif variable.type == "float":
        values = column.astype("float64").tolist()
        if any(map(math.isinf, values)):
            raise UsageError(
                "an infinite number cannot be written as JSON", where=f"{table.dataset.name}.{variable.name}"
            )
    else:
        values = column.tolist()
    return [value if held else None for value, held in zip(values, present, strict=True)]
