"""Labels, types, lengths and keys of every dataset, from one metadata file; reading and writing of datasets.

The metadata stand in `mappings/datasets.yaml`. A frame is brought into the metadata's form (columns, order, types,
row order) once, when a stage leaves it; every later stage and every export can rely on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from fhir_adapter.assets import asset
from fhir_adapter.errors import RunDirError

__all__ = ["Dataset", "Kind", "Variable", "conform", "empty", "metadata", "read_dataset", "write_dataset"]

Kind = Literal["text", "integer", "float", "date", "datetime", "flag"]

_DTYPE: dict[str, str] = {
    "text": "object",
    "datetime": "object",
    "flag": "object",
    "integer": "Int64",
    "float": "float64",
    "date": "datetime64[ns]",
}


class Variable(msgspec.Struct, frozen=True):
    """One variable: `type` is text, integer, float, date, datetime (ISO 8601 as written) or flag (Y or null)."""

    name: str
    label: str
    type: Kind
    length: int


class Dataset(msgspec.Struct, frozen=True):
    """One dataset; an `open` one may carry further variables after its own (ADSL's characteristics)."""

    name: str
    label: str
    model: Literal["SDTM", "ADaM"]
    keys: tuple[str, ...]
    variables: tuple[Variable, ...]
    open: bool = False


@cache
def metadata() -> dict[str, Dataset]:
    """All datasets by name, in the order of the metadata file."""
    tree = YAML(typ="safe").load(asset("mappings", "datasets.yaml").read_text(encoding="utf-8"))
    return {
        name: Dataset(
            name=name,
            label=entry["label"],
            model=entry["class"],
            keys=tuple(entry["keys"]),
            variables=tuple(Variable(key, *values) for key, values in entry["variables"].items()),
            open=entry.get("open", False),
        )
        for name, entry in tree.items()
    }


def empty(name: str) -> pd.DataFrame:
    """The dataset of that name without rows."""
    return conform(name, pd.DataFrame())


def conform(name: str, rows: pd.DataFrame | Iterable[dict[str, object]]) -> pd.DataFrame:
    """Brings rows into the form of the metadata: columns, their order and types, rows sorted by the keys.

    A variable that is not in the rows becomes a column of nulls; a column that is not in the metadata is an error,
    except in an open dataset, where it follows the others.

    Raises:
        ValueError: a column that the metadata do not know.
    """
    dataset = metadata()[name]
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    known = [variable.name for variable in dataset.variables]
    others = [column for column in frame.columns if column not in known]
    if others and not dataset.open:
        raise ValueError(f"{name} has no variable {', '.join(map(str, others))}")
    columns: dict[str, pd.Series[Any]] = {}
    for variable in dataset.variables:
        dtype: Any = _DTYPE[variable.type]
        if variable.name not in frame.columns:
            columns[variable.name] = pd.Series([None] * len(frame), dtype=dtype, index=frame.index)
            continue
        column: pd.Series[Any] = frame[variable.name]
        if dtype == "object":
            column = column.astype("object")
            columns[variable.name] = column.where(column.notna(), cast("Any", None))
        elif dtype == "datetime64[ns]":
            columns[variable.name] = pd.to_datetime(column).astype(dtype)
        else:
            columns[variable.name] = pd.to_numeric(column).astype(dtype)
    columns |= {column: frame[column] for column in others}
    result = pd.DataFrame(columns, index=frame.index, columns=[*known, *others])
    return result.sort_values(list(dataset.keys), kind="stable", na_position="last", ignore_index=True)


def write_dataset(folder: Path, name: str, frame: pd.DataFrame) -> Path:
    """Writes a dataset as Parquet with private mode; the caller has brought it into form with `conform`."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    path = folder / f"{name.lower()}.parquet"
    partial = path.with_suffix(".parquet.part")
    pq.write_table(table, partial, compression="zstd", store_schema=False)
    partial.chmod(0o600)
    partial.replace(path)
    return path


def read_dataset(folder: Path, name: str) -> pd.DataFrame:
    """Reads a dataset that `write_dataset` wrote, in the metadata's form.

    Raises:
        RunDirError: the file is missing or not a Parquet file.
    """
    path = folder / f"{name.lower()}.parquet"
    try:
        # One file, not a dataset of many: the path is never taken for a partitioning.
        frame = pq.ParquetFile(path).read().to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise RunDirError(
            f"the dataset {name} cannot be read",
            where=path.name,
            remedy="Run the stage before this one again.",
        ) from error
    return conform(name, frame)
