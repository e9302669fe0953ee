"""`fhir-adapter generate`: synthetic cohorts of any size, for tests and benchmarks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fhir_adapter.cli.options import Json
from fhir_adapter.demo.synthetic.cohort import synthetic_subjects
from fhir_adapter.demo.synthetic.dialects import DIALECTS
from fhir_adapter.demo.synthetic.releases import RELEASES
from fhir_adapter.demo.synthetic.stream import cohort_resources, write_files, write_lines
from fhir_adapter.errors import UsageError

__all__ = ["generate"]


def generate(
    out: Annotated[
        str,
        typer.Option(
            "--out",
            metavar="FOLDER|FILE.ndjson|-",
            help="One file per type in a folder, one file of all types, or standard output.",
            show_default=False,
        ),
    ],
    patients: Annotated[int, typer.Option("--patients", min=1, help="How many subjects.")] = 100,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same bytes.")] = 1,
    dialect: Annotated[
        str, typer.Option("--dialect", metavar="NAME", help=f"How facts are written: {', '.join(DIALECTS)}.")
    ] = "mcode",
    release: Annotated[
        str, typer.Option("--release", metavar="RELEASE", help=f"FHIR release: {', '.join(RELEASES)}.")
    ] = "R4",
    as_json: Json = False,
) -> None:
    """Write a synthetic cohort as NDJSON, subject by subject; the shipped reference study runs on it."""
    if dialect not in DIALECTS:
        raise UsageError("no such dialect", where="--dialect", remedy=f"There are {', '.join(DIALECTS)}.")
    wanted = next((one for one in RELEASES if one == release.upper()), None)
    if wanted is None:
        raise UsageError("no such release", where="--release", remedy=f"There are {', '.join(RELEASES)}.")
    resources = cohort_resources(
        synthetic_subjects(patients, seed=seed), dialect=DIALECTS[dialect], release=wanted
    )
    if out == "-":
        write_lines(resources, sys.stdout.buffer)
        return
    counts = write_files(resources, Path(out))
    if as_json:
        typer.echo(json.dumps(dict(sorted(counts.items()))))
    else:
        typer.echo(f"{sum(counts.values())} resources of {patients} synthetic subjects")
