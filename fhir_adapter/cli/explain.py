"""`fhir-adapter explain`: from a number of the report to the resources behind it."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from fhir_adapter.cli.options import Json, RunFolder
from fhir_adapter.datasets import metadata
from fhir_adapter.explain import explain as explain_result
from fhir_adapter.explain import lines
from fhir_adapter.pipeline import Settings, open_run

__all__ = ["explain"]


def explain(
    run: RunFolder,
    result: Annotated[str, typer.Argument(metavar="RESULT", help="Id of a result, as in results.json.")],
    subject: Annotated[str | None, typer.Option("--subject", help="Only this USUBJID.")] = None,
    as_json: Json = False,
) -> None:
    """Show the subjects, rows, rules, measurements and resources behind a result."""
    current = open_run(run, Settings(quiet=True))
    with current.log:
        datasets = current.datasets(tuple(metadata()))
        explanation = explain_result(current.results(), datasets, current.study, result, subject=subject)
    if as_json:
        typer.echo(msgspec.json.encode(explanation).decode())
        return
    for line in lines(explanation):
        typer.echo(line)
