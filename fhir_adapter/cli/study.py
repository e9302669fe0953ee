"""`fhir-adapter study validate|schema`: study files."""

from __future__ import annotations

import json

import typer

from fhir_adapter.cli.options import Json, StudyFile
from fhir_adapter.study import json_schema, load_study

__all__ = [
    "schema",
    "study_app",
    "validate",
]

study_app = typer.Typer(help="Study files: validate one, or print their JSON schema.", no_args_is_help=True)


@study_app.command()
def validate(study: StudyFile, as_json: Json = False) -> None:
    """Check a study file; each problem is named with its line."""
    found, digest = load_study(study)
    answer = {"study": found.study.id, "sha256": digest, "endpoints": [item.id for item in found.endpoints]}
    typer.echo(json.dumps(answer) if as_json else f"{found.study.id}: valid")


@study_app.command()
def schema() -> None:
    """Print the JSON schema of a study file."""
    typer.echo(json.dumps(json_schema(), indent=2, sort_keys=True, ensure_ascii=False))
