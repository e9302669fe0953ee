"""`fhir-adapter generate`: synthetic cohorts, the same bytes for the same seed."""

from __future__ import annotations

import importlib
import itertools
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fhir_adapter.cli import app
from fhir_adapter.demo.synthetic.cohort import synthetic_subject, synthetic_subjects
from fhir_adapter.demo.synthetic.dialects import DIALECTS
from fhir_adapter.demo.synthetic.releases import RELEASES, Release
from fhir_adapter.demo.synthetic.stream import cohort_resources
from fhir_adapter.errors import UsageError

RUNNER = CliRunner()


def generate(out: str | Path, *options: str) -> Any:
    """Runs the command."""
    return RUNNER.invoke(app, ["generate", "--out", str(out), *options], catch_exceptions=True)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """Twice the same; another seed is another cohort; files are private."""
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        assert generate(tmp_path / name, "--patients", "3", "--seed", seed).exit_code == 0
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"Patient.ndjson", "Observation.ndjson", "AdverseEvent.ndjson", "Consent.ndjson"} <= set(files)
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert (tmp_path / "a" / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a" / "Patient.ndjson").read_bytes() != (
        tmp_path / "c" / "Patient.ndjson"
    ).read_bytes()


def test_one_file_or_standard_output(tmp_path: Path) -> None:
    """The same resources, in one file or to a pipe; the counts as JSON."""
    answer = generate(tmp_path / "all.ndjson", "--patients", "2", "--json")
    lines = (tmp_path / "all.ndjson").read_bytes()
    assert sum(json.loads(answer.output).values()) == lines.count(b"\n")
    assert generate("-", "--patients", "2").stdout_bytes == lines


@pytest.mark.parametrize(("option", "value"), [("--dialect", "klingon"), ("--release", "R6")])
def test_what_is_not_there_is_named(tmp_path: Path, option: str, value: str) -> None:
    """A usage error that says what there is."""
    answer = generate(tmp_path / "x", option, value)
    assert isinstance(answer.exception, UsageError)


def test_a_subject_does_not_depend_on_the_size_of_its_cohort() -> None:
    """The fifth subject is the same alone and among ten."""
    alone = synthetic_subject(5, seed=3)
    assert next(itertools.islice(synthetic_subjects(10, seed=3), 4, None)) == alone


@pytest.mark.parametrize("release", RELEASES)
def test_every_resource_is_fhir_and_marked_as_synthetic(release: Release) -> None:
    """fhir.resources' models (R4B for R4, which has its structure here) take every resource of every dialect."""
    base = "fhir.resources." if release == "R5" else "fhir.resources.R4B."
    subject = synthetic_subject(51, seed=0)
    for name, dialect in DIALECTS.items():
        seen: set[str] = set()
        for resource in cohort_resources([subject], dialect=dialect, release=release):
            assert resource["meta"]["security"][0]["code"] == "HTEST"
            kind = resource["resourceType"]
            if kind == "Observation" and resource["code"].get("text") is None:
                # One of each code is enough.
                code = resource["code"]["coding"][0]["code"]
                if code in seen:
                    continue
                seen.add(code)
            model = getattr(importlib.import_module(f"{base}{kind.lower()}"), kind)
            assert model.model_validate(resource).id == resource["id"], name


def test_memory_does_not_grow_with_the_cohort() -> None:
    """Ten times the subjects, about the same peak: one subject is held at a time."""
    peaks = []
    for number in (5, 50):
        tracemalloc.start()
        for _ in cohort_resources(synthetic_subjects(number, seed=1)):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0] + 1_000_000
