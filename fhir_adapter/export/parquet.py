"""Parquet with labels: dates as dates, and the metadata of each column with the file."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

from fhir_adapter.export.tables import Table

__all__ = ["encode_parquet"]

_TYPE = {
    "text": pa.string(),
    "datetime": pa.string(),
    "flag": pa.string(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "date": pa.date32(),
}


def encode_parquet(table: Table) -> bytes:
    """A Parquet file; its schema has label, type and length of each column, and name, label and keys of the dataset."""
    schema = pa.schema(
        [
            pa.field(
                variable.name,
                _TYPE[variable.type],
                metadata={
                    "label": variable.label,
                    "type": variable.type,
                    "length": str(variable.length),
                },
            )
            for variable in table.dataset.variables
        ],
        metadata={
            "name": table.dataset.name,
            "label": table.dataset.label,
            "keys": json.dumps(table.dataset.keys),
        },
    )
    arrays = [
        pa.Array.from_pandas(table.frame[variable.name], type=_TYPE[variable.type])
        for variable in table.dataset.variables
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), sink, compression="zstd")
    return sink.getvalue()
