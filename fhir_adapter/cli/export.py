"""`fhir-adapter export`: the datasets of a run as SAS transport files, Dataset-JSON or Parquet."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fhir_adapter.cli.options import Json, Quiet, RunFolder
from fhir_adapter.datasets import metadata
from fhir_adapter.errors import RunDirError
from fhir_adapter.export import export_datasets
from fhir_adapter.pipeline import Settings, open_run

__all__ = ["Format", "export"]


class Format(StrEnum):
    """What the datasets are written as."""

    XPT = "xpt"
    DATASET_JSON = "dataset-json"
    NDJSON = "ndjson"
    PARQUET = "parquet"


def export(
    run: RunFolder,
    formats: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="xpt (SAS transport, version 5; the default), dataset-json, ndjson (Dataset-JSON 1.1), parquet; "
            "more than once for several.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder to write to; by default `export` in the run folder.", show_default=False
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the SDTM-like and ADaM datasets of a run for a statistician, with a page that defines them."""
    current = open_run(run, Settings(quiet=quiet))
    with current.log:
        if "derive" not in current.manifest["stages"]:
            raise RunDirError("the derive stage of this run did not end", remedy="Run `derive` first.")
        exported = export_datasets(
            current.datasets(tuple(metadata())),
            current.study,
            formats=[str(one) for one in formats or (Format.XPT,)],
            run=current.folder.id,
            started=dt.datetime.fromisoformat(current.manifest["started"]),
            out=out or current.folder.path / "export",
        )
    if not quiet:
        for note in exported.notes:
            typer.echo(f"{note.format or 'all'} {note.dataset}.{note.variable}: {note.text}", err=True)
    typer.echo(msgspec.json.encode(exported).decode() if as_json else exported.folder)
