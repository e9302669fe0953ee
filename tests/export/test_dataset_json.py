"""Dataset-JSON 1.1: whole files against files written by hand, and the structure that the specification asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest

from fhir_adapter.errors import UsageError
from fhir_adapter.export.dataset_json import encode_dataset_json, encode_ndjson
from fhir_adapter.export.tables import Table

from .conftest import LONG

CREATED = "2026-11-22T23:00:00Z"
DATA = Path(__file__).parent.parent / "data" / "export"
SCHEMA: dict[str, Any] = json.loads((DATA / "dataset-json-1.1.schema.json").read_text(encoding="utf-8"))


def test_an_adam_dataset_as_it_stands_in_the_file(adtr: Table) -> None:
    """Attributes in the order of the specification, dates as ISO text to be made integers, null for what is missing."""
    text = encode_dataset_json(adtr, created=CREATED, file_oid="run.ADTR").decode()
    version = json.loads(text)["sourceSystem"]["version"]
    assert (DATA / "adtr.json").read_text(encoding="utf-8").replace("VERSION", version) == text


def test_an_sdtm_domain_keeps_dates_as_written_and_any_text(cm: Table) -> None:
    """Partial dates, characters outside ASCII and long text need nothing special; the keys are numbered."""
    found = json.loads(encode_dataset_json(cm, created=CREATED, file_oid="run.CM"))
    assert [
        ["example", "S-01", 1, "Doxorubicin", "2021-06-15T08:30:00+08:00"],
        ["example", "S-01", 2, "安罗替尼", "2021-06"],
        ["example", "S-02", 1, LONG, None],
    ] == found["rows"]
    columns = {one["name"]: one for one in found["columns"]}
    assert {"STUDYID": 1, "USUBJID": 2, "CMSEQ": 3} == {
        name: one["keySequence"] for name, one in columns.items() if "keySequence" in one
    }
    assert ("datetime", False) == (columns["CMSTDTC"]["dataType"], "targetDataType" in columns["CMSTDTC"])
    assert ("string", len(LONG)) == (columns["CMTRT"]["dataType"], columns["CMTRT"]["length"])


def test_ndjson_has_the_same_content_line_by_line(cm: Table, adtr: Table) -> None:
    """The first line is everything but the rows, each further line is a row."""
    for table in (cm, adtr):
        whole = json.loads(encode_dataset_json(table, created=CREATED, file_oid="x"))
        first, *rows = map(json.loads, encode_ndjson(table, created=CREATED, file_oid="x").splitlines())
        assert whole.pop("rows") == rows
        assert whole == first


def test_a_dataset_without_rows_is_valid(adtr: Table) -> None:
    """Nothing but the metadata, with 0 records."""
    empty = Table(adtr.dataset, adtr.frame.iloc[:0])
    found = json.loads(encode_dataset_json(empty, created=CREATED, file_oid="x"))
    jsonschema.validate(found, SCHEMA)
    assert (0, []) == (found["records"], found["rows"])
    assert [] == encode_ndjson(empty, created=CREATED, file_oid="x").splitlines()[1:]


def test_the_structure_of_the_specification_holds(cm: Table, adtr: Table) -> None:
    """Required attributes, patterns and data types, and a value of the column's type in each row."""
    for table in (cm, adtr):
        found = json.loads(encode_dataset_json(table, created=CREATED, file_oid="x"))
        jsonschema.validate(found, SCHEMA)
        kinds = {"string": str, "date": str, "datetime": str, "integer": int, "float": float}
        for row in found["rows"]:
            assert len(row) == len(found["columns"])
            for value, column in zip(row, found["columns"], strict=True):
                assert value is None or isinstance(value, kinds[column["dataType"]])


def test_the_schema_refuses_what_the_specification_does() -> None:
    """A decimal without its targetDataType and a moment without seconds are found."""
    column = {"itemOID": "IT.A.B", "name": "B", "label": "", "dataType": "decimal"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(column, SCHEMA["$defs"]["column"] | {"$defs": SCHEMA["$defs"]})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate("2026-11-22T23:00Z", SCHEMA["$defs"]["moment"])


def test_an_infinite_number_is_refused(adtr: Table) -> None:
    """JSON has no infinity; the message names the variable and no value."""
    frame = adtr.frame.assign(AVAL=pd.Series([float("inf"), 1.0, None]))
    with pytest.raises(UsageError, match=r"ADTR\.AVAL: an infinite number"):
        encode_dataset_json(Table(adtr.dataset, frame), created=CREATED, file_oid="x")
