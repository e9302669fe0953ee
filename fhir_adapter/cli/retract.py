"""`fhir-adapter retract`: takes back what a run's study and site wrote to the server."""

from __future__ import annotations

import json

import typer

from fhir_adapter.cli.options import Json, RunFolder
from fhir_adapter.pipeline import Settings, open_run

__all__ = ["retract"]


def retract(run: RunFolder, as_json: Json = False) -> None:
    """Delete the outputs of this study and site from the server; nothing else is touched."""
    current = open_run(run, Settings(quiet=True))
    with current.log, current.locked():
        outcome = current.retract()
    if as_json:
        typer.echo(json.dumps(outcome))
        return
    for key, action in outcome.items():
        typer.echo(f"{action}  {key}")
