"""`fhir-adapter purge`: takes subjects, or everything, out of what the adapter keeps, and proves it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fhir_adapter.cli.options import Json, OfSource, Out, Site, site_of
from fhir_adapter.errors import UsageError
from fhir_adapter.purge import purge_all, purge_subjects, readmit, subject_keys, withdrawn

__all__ = ["purge"]


def purge(
    site: Site,
    subjects: Annotated[
        typer.FileText | None,
        typer.Option(
            "--subjects", metavar="FILE|-", help="A file, or standard input, with a Patient id per line."
        ),
    ] = None,
    withdrawn_in: Annotated[
        Path | None,
        typer.Option("--withdrawn", metavar="RUN", help="Those who denied or withdrew consent by this run."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole landing of the site.")] = False,
    readmitted: Annotated[
        typer.FileText | None,
        typer.Option("--readmit", metavar="FILE|-", help="Take these off the list of barred subjects again."),
    ] = None,
    bar: Annotated[
        bool, typer.Option("--bar", help="Bar the subjects as well: no later pull brings them again.")
    ] = False,
    source: OfSource = None,
    out: Out = Path("runs"),
    as_json: Json = False,
) -> None:
    """Take subjects out of the landing of a site and of its run folders, and look whether anything is left."""
    if (subjects is not None) + (withdrawn_in is not None) + everything + (readmitted is not None) != 1:
        raise UsageError("one of --subjects, --withdrawn, --all and --readmit is needed", where="purge")
    if bar and subjects is None and withdrawn_in is None:
        raise UsageError("--bar goes with --subjects or --withdrawn", where="purge")
    where = site_of(site, source)
    if readmitted is not None:
        admitted = readmit(where, subject_keys(readmitted))
        typer.echo(
            msgspec.json.encode({"readmitted": admitted}) if as_json else f"{admitted:>10}  readmitted"
        )
        return
    if everything:
        numbers: dict[str, object] = {"files": purge_all(where)}
    else:
        found = subject_keys(subjects) if subjects is not None else withdrawn(where, withdrawn_in or Path())
        report = msgspec.to_builtins(purge_subjects(where, out, found, bar=bar))
        landing = {f"landing.{name}": number for name, number in report.pop("landing").items()}
        numbers = landing | report
    if as_json:
        typer.echo(msgspec.json.encode(numbers))
        return
    for name, number in numbers.items():
        typer.echo(f"{number:>10}  {name}")
    typer.echo("nothing of it is left")
