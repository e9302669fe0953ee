"""`fhir-adapter run`: every stage of one study at one site."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from fhir_adapter.cli.options import (
    DryRun,
    Full,
    Json,
    Out,
    Quiet,
    Site,
    Source,
    StudyFile,
    WriteBack,
    write_mode,
)  # fmt: skip
from fhir_adapter.pipeline import Run, Settings, new_run, run_all

__all__ = ["finish", "run"]


def finish(current: Run, status: int, *, as_json: bool) -> None:
    """Says where everything is, and leaves with the exit status."""
    answer = {
        "run": str(current.folder.path),
        "report": str(current.folder.report),
        "results": str(current.folder.results),
        "exit": status,
        "exceeded": current.manifest["exit"]["exceeded"],
    }
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        typer.echo(answer["report"])
        for sentence in answer["exceeded"]:
            typer.echo(f"above the study's limits: {sentence}", err=True)
    raise typer.Exit(status)


def run(
    study: StudyFile,
    site: Site,
    source: Source = None,
    out: Out = Path("runs"),
    write_back: WriteBack = False,
    dry_run: DryRun = False,
    full: Full = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Pull, map, derive, analyse, report, and write back where asked; prints the path of the report."""
    settings = Settings(source=source, full=full, write=write_mode(write_back, dry_run), quiet=quiet)
    current = new_run(study, site, out, settings)
    finish(current, run_all(current), as_json=as_json)
