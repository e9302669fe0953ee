"""`fhir-adapter check`: what a source supports, brings, and codes in ways that no map knows, before a study runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fhir_adapter.check import check_study, draft_concept_map
from fhir_adapter.check.table import lines
from fhir_adapter.cli.options import Json, Quiet, Site, Source, StudyFile
from fhir_adapter.errors import UsageError
from fhir_adapter.pipeline import with_source
from fhir_adapter.rundir import write_json
from fhir_adapter.site import load_site
from fhir_adapter.study import load_study

__all__ = ["check"]


def check(
    study: StudyFile,
    site: Site,
    source: Source = None,
    sample: Annotated[
        int,
        typer.Option("--sample", min=1, metavar="N", help="Read at most N resources of each type for codes."),
    ] = 1000,
    everything: Annotated[
        bool, typer.Option("--all", help="Read all resources for codes, not a sample.")
    ] = False,
    draft: Annotated[
        Path | None,
        typer.Option("--draft", metavar="FILE", help="Write unknown codes as the draft of a ConceptMap."),
    ] = None,
    show_text: Annotated[
        bool, typer.Option("--show-text", help="Show wordings without a code too; they may name people.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Status 3 for codes that a run reports, and for refused needs.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say before a run what the source supports, what each query brings, and which codes no map knows.

    Nothing is written to the server. The status is 0; that with which a run would end early; or, with
    --strict, 3 where a run would go through with unknown codes or something refused.
    """
    if draft is not None and (draft.is_dir() or not draft.absolute().parent.is_dir()):
        raise UsageError("nothing can be written there", where="--draft")
    found, _ = load_study(study)
    place = with_source(load_site(site), source)

    def progress(text: str) -> None:
        if not quiet and not as_json and sys.stderr.isatty():
            typer.echo(f"asking for {text}", err=True)

    report = check_study(
        found, place, limit=None if everything else sample, texts=show_text, progress=progress
    )
    if draft is not None:
        write_json(draft, draft_concept_map(found.study.id, report.unknown))
    status = report.status(strict=strict)
    if as_json:
        typer.echo(json.dumps(report.to_dict() | {"status": status}))
    else:
        for line in lines(report):
            typer.echo(line)
    raise typer.Exit(status)
