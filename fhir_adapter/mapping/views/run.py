"""What a view gives: columns, the resource of each row, and the resources that could not be used."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa

from fhir_adapter.mapping.fhirpath.elements import family

__all__ = ["MAX_DIGITS", "Column", "Failure", "RunResult"]

#: Digits before or after the point that a number may have (FHIR's have 18, Arrow's at most 76 in all).
MAX_DIGITS = 38

#: Decimals in complex values stay numbers, with their digits as written.
_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True)
class Column:
    """A column of a view: `type` is its FHIR type, if it is known; `tags` are its tags by name."""

    name: str
    path: str
    type: str | None = None
    collection: bool = False
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A resource that could not be used.

    Attributes:
        index: its place among the resources that were given.
        json_path: where, for example `$.component.valueQuantity.value`.
        reason: what is wrong, one sentence that quotes nothing of the resource.
        code: `json`, `shape`, `type`, `no-id`, `depth` or `several`.
    """

    index: int
    json_path: str
    reason: str
    code: str


def _arrow_type(column: Column, values: list[Any]) -> pa.DataType:
    kind = family(column.type)
    if kind == "boolean":
        base = pa.bool_()
    elif kind == "number" and column.type != "decimal":
        base = pa.int64()
    elif kind == "number":
        base = _decimal_type(values)
    else:
        base = pa.string()
    return pa.list_(base) if column.collection else base


def _decimal_type(values: list[Any]) -> pa.DataType:
    """The narrowest decimal that holds all values with their digits as written."""
    # Each object once: numbers that are written alike are mostly one. 1.0 and 1.00 are equal and not written alike.
    told = {id(item): item for value in values for item in (value if isinstance(value, list) else (value,))}
    scale, whole = 0, 1
    for item in told.values():
        if item is None:
            continue
        _, digits, exponent = Decimal(item).as_tuple()
        places = max(-exponent, 0) if isinstance(exponent, int) else 0
        scale = max(scale, places)
        whole = max(whole, len(digits) + (exponent if isinstance(exponent, int) else 0), 1)
    precision = whole + scale
    return (
        pa.decimal128(precision, scale)
        if precision <= 38
        else pa.decimal256(min(precision, 76), min(scale, 76))
    )


def _plain(column: Column, value: Any, kind: str | None) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        return [_plain(column, item, kind) for item in value]
    if kind == "number" and column.type == "decimal":
        return Decimal(value)
    if kind is None and not isinstance(value, str):
        return _encode(value).decode()
    return value


@dataclass
class RunResult:
    """Rows of a run, by column.

    Attributes:
        columns: name to values, in the order of the view; a collection is a list, decimals are `Decimal` (or
            `int` if written without a fraction), dates are the text as written.
        row_resource: for each row the index of its resource.
        failures: resources that could not be used.
        definition: the columns of the view.
    """

    columns: dict[str, list[Any]]
    row_resource: list[int]
    failures: list[Failure]
    definition: tuple[Column, ...]

    def __len__(self) -> int:
        return len(self.row_resource)

    def rows(self) -> list[dict[str, Any]]:
        """The rows as dicts."""
        names = list(self.columns)
        if not names:
            return [{} for _ in self.row_resource]
        return [dict(zip(names, values, strict=True)) for values in zip(*self.columns.values(), strict=True)]

    def to_arrow(self) -> pa.RecordBatch:
        """The rows as an Arrow batch: decimals as decimals, dates as written, complex values as JSON text."""
        arrays, names = [], []
        for column in self.definition:
            values = self.columns[column.name]
            kind = family(column.type)
            # Texts, booleans and whole numbers are taken as they are.
            as_they_are = kind is not None and column.type != "decimal"
            plain = values if as_they_are else [_plain(column, value, kind) for value in values]
            arrays.append(pa.array(plain, type=_arrow_type(column, plain)))
            names.append(column.name)
        return pa.RecordBatch.from_arrays(arrays, names=names)
