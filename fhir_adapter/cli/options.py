"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fhir_adapter import site as site_file

__all__ = [
    "DryRun",
    "Full",
    "Json",
    "OfSource",
    "Out",
    "Quiet",
    "RunFolder",
    "Site",
    "Source",
    "StudyFile",
    "WriteBack",
    "site_of",
    "write_mode",
]

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="Study file (YAML).", show_default=False)]
Site = Annotated[Path, typer.Option("--site", help="Site file (YAML).", show_default=False)]
Source = Annotated[
    str | None,
    typer.Option(
        "--source", metavar="URL|FOLDER|-", help="In place of the site's source; `-`: standard input."
    ),
]
OfSource = Annotated[
    str | None,
    typer.Option("--source", metavar="URL|FOLDER|-", help="The landing of runs that were given this source."),
]
Out = Annotated[Path, typer.Option("--out", help="Folder of all runs.")]
WriteBack = Annotated[bool, typer.Option("--write-back", help="Write the results to the server.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Put the transaction into the run folder, send nothing.")
]
Full = Annotated[bool, typer.Option("--full", help="Pull everything again, whatever the checkpoints say.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
Json = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.", show_default=False)]


def write_mode(write_back: bool, dry_run: bool) -> str:
    """`yes`, `dry-run` or `no`; a dry run wins, because it is the careful reading of both."""
    return "dry-run" if dry_run else "yes" if write_back else "no"


def site_of(path: Path, source: str | None) -> site_file.Site:
    """The site of a site file, or the one that its runs had that were given another source; it need not be there now.

    Raises:
        SiteFileError: the file, or the source, is not usable.
    """
    site = site_file.load_site(path)
    return site if source is None else site.with_source(source)
