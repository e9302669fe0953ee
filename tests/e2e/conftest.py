"""The command line as an operator uses it: a process, its exit status, its output and its files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fhir_adapter.datasets import metadata, read_dataset
from fhir_adapter.export.definition import definition, shipped_codelists
from fhir_adapter.export.tables import longer_than_planned, study_tables
from fhir_adapter.study import load_study

from .commands import Commands

SIX = Path(__file__).parent.parent / "data" / "six"


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    status: int
    out: str
    err: str

    @property
    def run(self) -> Path:
        """The run folder of a `--json` answer."""
        return Path(json.loads(self.out)["run"])


Adapter = Callable[..., Ended]

_COMMANDS = Commands()


def call(
    *arguments: str | Path,
    status: int | None = 0,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    given: bytes = b"",
) -> Ended:
    """Runs the command line; an exit status other than the expected one fails the test with its output.

    `given` stands on standard input. With variables of the environment it begins with an interpreter of its own,
    else it is forked.
    """
    words = [str(argument) for argument in arguments]
    if env is None:
        ended = Ended(*_COMMANDS.run(words, cwd=cwd, timeout=600, given=given))
    else:
        done = subprocess.run(
            [sys.executable, "-m", "fhir_adapter", *words],
            capture_output=True, text=True, timeout=600, check=False, cwd=cwd, env=os.environ | env,
            input=given.decode(),
        )  # fmt: skip
        ended = Ended(done.returncode, done.stdout, done.stderr)
    if status is not None:
        assert status == ended.status, f"exit {ended.status}\n{ended.out}\n{ended.err}"
    return ended


@pytest.fixture(scope="session", autouse=True)
def _commands(pytestconfig: pytest.Config) -> Iterator[None]:
    """Has what the commands print searched for what is planted, and ends the process that forks them."""
    leaks: Any = pytestconfig.pluginmanager.get_plugin("leaks")
    _COMMANDS.ended = leaks.command
    yield
    _COMMANDS.close()


@pytest.fixture(scope="session")
def adapter() -> Adapter:
    """Runs `fhir-adapter` with arguments."""
    return call


def six_patients() -> list[dict[str, Any]]:
    """The resources of the six hand-written patients."""
    files = sorted(SIX.glob("*.json"))
    resources = [
        entry["resource"] for path in files for entry in json.loads(path.read_text("utf-8"))["entry"]
    ]
    for item in resources:
        if item["resourceType"] == "Patient":
            # Marks that `tests/leaks.py` searches every log, message and report of the test run for.
            item["name"] = [{"family": "Zqcanaryson", "given": ["Zqcanary"]}]
            item["identifier"] = [
                *item.get("identifier", []),
                {"system": "urn:mrn", "value": "ZQCANARY-4711"},
            ]
    return resources


def write_source(folder: Path, resources: Iterable[dict[str, Any]]) -> Path:
    """A folder of NDJSON, as an integration engine would drop it."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(item, ensure_ascii=False) for item in resources]
    (folder / "resources.ndjson").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_site(folder: Path, **settings: Any) -> Path:
    """A site file; by default its source is the folder `source` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    site: dict[str, Any] = {"id": "test", "source": {"kind": "files", "path": "source"}}
    site |= {"state_dir": str(folder / "state")} | settings
    path = folder / "site.yaml"
    path.write_text(json.dumps(site), encoding="utf-8")  # JSON is YAML
    return path


def results_of(run: Path) -> dict[str, Any]:
    """Id → value of every result of a run."""
    found = json.loads((run / "results.json").read_text("utf-8"))["results"]
    return {id_: item["value"] for id_, item in found.items()}


def not_in_the_metadata(run: Path) -> list[str]:
    """What the datasets of a run hold and their metadata do not plan for, each with the line that it lacks."""
    study, _ = load_study(run / "study.yaml")
    frames = {name: read_dataset(run / "datasets", name) for name in metadata()}
    lists = shipped_codelists()
    lacking = []
    for table in study_tables(frames, study):
        name = table.dataset.name
        path = run / "datasets" / f"{name.lower()}.parquet"
        known = {one.name for one in table.dataset.variables}
        planned = {one.name for one in metadata()[name].variables}
        labelled = {
            one.name for one in table.dataset.variables if one.label != one.name or one.name in planned
        }
        lacking += [
            f"mappings/datasets.yaml, {name}: {column}: [Label of at most 40 characters, type, length]"
            for column in pq.ParquetFile(path).schema_arrow.names
            if column not in known or column not in labelled
        ]
        lacking += [
            f"mappings/datasets.yaml, {name}.{note.variable}: a greater length, for {note.text}"
            for note in longer_than_planned(table)
        ]
        for one in table.dataset.variables:
            codes = definition(table.dataset, one.name).codes
            if codes and not lists[codes].concepts:
                found = set(table.frame[one.name].dropna().astype(str)) - set(lists[codes].terms)
                lacking += [f"mappings/definitions.yaml, codelists.{codes}: {code}" for code in sorted(found)]
    return lacking


@pytest.fixture(scope="session")
def six_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the six patients as they are."""
    folder = tmp_path_factory.mktemp("six")
    write_source(folder / "source", six_patients())
    site = write_site(folder)
    return call("run", SIX / "six.yaml", "--site", site, "--out", folder / "runs", "--quiet", "--json").run


def copy_of(run: Path, folder: Path, **settings: Any) -> tuple[Path, Path]:
    """A run with its landing and its site, copied, so that it can be changed; the site file and the run folder."""
    base = run.parents[2]
    for part in ("state", "runs"):
        shutil.copytree(base / part, folder / part)
    copied = folder / run.relative_to(base)
    for path in (folder / "site.yaml", copied / "site.yaml"):
        site = json.loads((base / "site.yaml").read_bytes())
        path.write_text(json.dumps(site | {"state_dir": str(folder / "state")} | settings), encoding="utf-8")
    return folder / "site.yaml", copied


@pytest.fixture(scope="session")
def reference_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of `fhir-adapter demo`: the reference study on its synthetic cohort."""
    folder = tmp_path_factory.mktemp("demo")
    return call("demo", "--out", folder, "--quiet", "--json").run
