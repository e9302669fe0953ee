"""`fhir-adapter pull|map|derive|analyse|report|write-back RUN`: one stage of an existing run folder."""

from __future__ import annotations

import json

import typer

from fhir_adapter.cli.options import DryRun, Full, Json, Quiet, RunFolder
from fhir_adapter.pipeline import Settings, open_run

__all__ = ["analyse", "derive", "map_", "pull", "report", "write_back"]


def _stage(folder: RunFolder, name: str, settings: Settings, *, as_json: bool) -> None:
    current = open_run(folder, settings)
    with current.log, current.locked():
        current.stage(name)
    if as_json:
        typer.echo(json.dumps(current.manifest["stages"].get(name, {})))


def pull(run: RunFolder, full: Full = False, quiet: Quiet = False, as_json: Json = False) -> None:
    """Bring what is new from the source of a run into the landing, and let the run see it."""
    _stage(run, "pull", Settings(full=full, quiet=quiet), as_json=as_json)


def map_(run: RunFolder, quiet: Quiet = False, as_json: Json = False) -> None:
    """Map the landed resources of a run to SDTM-like datasets, and account for each of them."""
    _stage(run, "map", Settings(quiet=quiet), as_json=as_json)


def derive(run: RunFolder, quiet: Quiet = False, as_json: Json = False) -> None:
    """Derive the ADaM datasets of a run: RECIST, endpoints, adverse events."""
    _stage(run, "derive", Settings(quiet=quiet), as_json=as_json)


def analyse(run: RunFolder, quiet: Quiet = False, as_json: Json = False) -> None:
    """Compute the results of a run from its datasets."""
    _stage(run, "analyse", Settings(quiet=quiet), as_json=as_json)


def report(run: RunFolder, quiet: Quiet = False, as_json: Json = False) -> None:
    """Render the report of a run from its results."""
    _stage(run, "report", Settings(quiet=quiet), as_json=as_json)


def write_back(run: RunFolder, dry_run: DryRun = False, quiet: Quiet = False, as_json: Json = False) -> None:
    """Write the results of a run to the server (or the transaction into the run folder) and read them back."""
    settings = Settings(write="dry-run" if dry_run else "yes", quiet=quiet)
    _stage(run, "write-back", settings, as_json=as_json)
