"""`fhir-adapter explain`: from a number of the report to the resources behind it."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from fhir_adapter.cli.options import Json, RunFolder
from fhir_adapter.datasets import metadata
from fhir_adapter.errors import UsageError
from fhir_adapter.explain import explain as explain_result
from fhir_adapter.explain import explain_value, lines, value_lines
from fhir_adapter.pipeline import Settings, open_run

__all__ = ["explain"]


def explain(
    run: RunFolder,
    result: Annotated[
        str,
        typer.Argument(metavar="RESULT", help="Id of a result, as in results.json; or DATASET.VARIABLE."),
    ],
    subject: Annotated[str | None, typer.Option("--subject", help="Only this USUBJID.")] = None,
    seq: Annotated[
        int | None, typer.Option("--seq", help="Row of the dataset: --SEQ or ASEQ of the subject.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the subjects, rows, rules, measurements and resources behind a result.

    With DATASET.VARIABLE (TR.TRSTRESN, ADTR.AVAL), `--subject` and `--seq`: the resources and elements behind one
    value of a dataset, with what stands in them and how the value was made of it.
    """
    current = open_run(run, Settings(quiet=True))
    with current.log:
        datasets = current.datasets(tuple(metadata()))
        dataset, _, variable = result.partition(".")
        if dataset in metadata():
            if subject is None or seq is None:
                raise UsageError("a value of a dataset needs --subject and --seq")
            with current.resources() as find:
                value = explain_value(datasets, find, dataset, variable, subject=subject, seq=seq)
            for line in [msgspec.json.encode(value).decode()] if as_json else value_lines(value):
                typer.echo(line)
            return
        explanation = explain_result(current.results(), datasets, current.study, result, subject=subject)
    if as_json:
        typer.echo(msgspec.json.encode(explanation).decode())
        return
    for line in lines(explanation):
        typer.echo(line)
