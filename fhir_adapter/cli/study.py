"""`fhir-adapter study new|validate|schema`: study files."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from fhir_adapter import site as site_file
from fhir_adapter.cli.options import Json, StudyFile
from fhir_adapter.cli.study_new import new
from fhir_adapter.study import json_schema, load_study
from fhir_adapter.yamlfile import open_questions

__all__ = [
    "schema",
    "study_app",
    "validate",
]

study_app = typer.Typer(
    help="Study files: start one, validate one, or print their JSON schema.", no_args_is_help=True
)
study_app.command()(new)


@study_app.command()
def validate(study: StudyFile, as_json: Json = False) -> None:
    """Check a study file; each problem is named with its line, and so is each question that is still open.

    An open question (a line marked `# DECIDE:`) is no mistake: the status is 0, and `run` refuses the study.
    """
    found, digest = load_study(study)
    questions = open_questions(study.read_bytes())
    if as_json:
        answer = {
            "study": found.study.id,
            "sha256": digest,
            "endpoints": [item.id for item in found.endpoints],
            "open": [item._asdict() for item in questions],
        }
        typer.echo(json.dumps(answer))
        return
    typer.echo(f"{found.study.id}: valid" + (f", {len(questions)} to decide" if questions else ""))
    for item in questions:
        typer.echo(f"{study.name}:{item.line}: decide {item.question}")


@study_app.command()
def schema(
    site: Annotated[bool, typer.Option("--site", help="That of a site file instead.")] = False,
) -> None:
    """Print the JSON schema of a study file."""
    found = site_file.json_schema() if site else json_schema()
    typer.echo(json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False))
