"""A folder of exported datasets: `sdtm/` and `adam/`, the definition page, and `export.json` that lists them."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from fhir_adapter.errors import RunDirError, UsageError
from fhir_adapter.export.dataset_json import encode_dataset_json, encode_ndjson
from fhir_adapter.export.definition import render_definition
from fhir_adapter.export.parquet import encode_parquet
from fhir_adapter.export.tables import Note, Table, longer_than_planned, study_tables
from fhir_adapter.export.xpt import encode_xpt, transport
from fhir_adapter.rundir import private_dir, read_json, write_atomic, write_json
from fhir_adapter.study import Study

__all__ = ["FORMATS", "Exported", "export_datasets"]

#: Format → ending of its files.
FORMATS: Mapping[str, str] = {
    "xpt": ".xpt",
    "dataset-json": ".json",
    "ndjson": ".ndjson",
    "parquet": ".parquet",
}
_LIST = "export.json"
_EARLIER = re.compile(r"(sdtm|adam)/[a-z0-9]{1,12}\.(xpt|json|ndjson|parquet)")


class Exported(msgspec.Struct, frozen=True):
    """What an export wrote.

    Attributes:
        folder: the folder.
        files: per file: path (relative), dataset, format, records, bytes, sha256.
        notes: what the files say otherwise than the run folder's datasets, in numbers.
    """

    folder: str
    files: list[dict[str, Any]]
    notes: list[Note]


def export_datasets(
    frames: Mapping[str, pd.DataFrame],
    study: Study,
    *,
    formats: Sequence[str],
    run: str,
    started: dt.datetime,
    out: Path,
) -> Exported:
    """Writes the datasets of a run in each of the formats; the same run gives the same bytes.

    Args:
        frames: dataset by name, in the metadata's form.
        study: the study of the run.
        formats: of `FORMATS`; those of an earlier export into the folder are written again as well.
        run: id of the run.
        started: the time of the run, which the files carry as that of their making.
        out: a folder that is new, empty, or holds an earlier export of the same run, whose files are replaced.

    Returns:
        What was written; also in `export.json`.

    Raises:
        UsageError: an unknown format, a folder that holds something else, a value that the format cannot hold.
        RunDirError: a file cannot be written.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats:
        raise UsageError(
            f"no such format: {', '.join(unknown) or 'none'}", remedy=f"There are {', '.join(FORMATS)}."
        )
    earlier, before = _earlier(out, run)
    formats = [one for one in FORMATS if one in {*formats, *before}]
    tables = study_tables(frames, study)
    notes = [note for table in tables for note in longer_than_planned(table)]
    contents: dict[str, bytes] = {}
    files: list[dict[str, Any]] = []
    for name in formats:
        for table in tables:
            for written, content in _encoded(table, name, started, run, notes):
                path = f"{table.dataset.model.lower()}/{written.dataset.name.lower()}{FORMATS[name]}"
                contents[path] = content
                files.append(
                    {
                        "path": path,
                        "dataset": written.dataset.name,
                        "format": name,
                        "records": len(written.frame),
                        "bytes": len(content),
                        "sha256": hashlib.sha256(content).hexdigest(),
                    }
                )
    page = render_definition(tables, study, notes).encode()
    private_dir(out)
    for path in earlier - set(contents):
        (out / path).unlink(missing_ok=True)
    for path, content in contents.items():
        write_atomic(out / path, content)
    write_atomic(out / "define.html", page)
    exported = Exported(str(out), files, notes)
    write_json(
        out / _LIST,
        {
            "run": run,
            "study": study.study.id,
            "formats": formats,
            "files": files,
            "notes": msgspec.to_builtins(notes),
        },
    )
    return exported


def _encoded(
    table: Table, name: str, started: dt.datetime, run: str, notes: list[Note]
) -> Iterator[tuple[Table, bytes]]:
    """The files of a dataset in one format, each with what it holds."""
    if name == "xpt":
        made = transport(table)
        notes += made.notes
        for part in made.tables:
            yield part, encode_xpt(part, created=started)
    elif name == "parquet":
        yield table, encode_parquet(table)
    else:
        encode = encode_dataset_json if name == "dataset-json" else encode_ndjson
        created = started.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        yield table, encode(table, created=created, file_oid=f"{run}.{table.dataset.name}")


def _earlier(out: Path, run: str) -> tuple[set[str], set[str]]:
    """Files and formats of an earlier export of the same run.

    Raises:
        UsageError: the folder holds anything else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return set(), set()
    try:
        listed = read_json(out / _LIST)
        same = listed["run"] == run
        paths = {str(item["path"]) for item in listed["files"]}
        formats = {str(item) for item in listed["formats"]}
    except (RunDirError, KeyError, TypeError):
        same, paths, formats = False, set(), set()
    if not same or not all(map(_EARLIER.fullmatch, paths)):
        raise UsageError(
            "the folder is not empty, and holds no export of this run",
            where="--out",
            remedy="Name a new folder.",
        )
    return paths, formats
