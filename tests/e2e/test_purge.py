"""`fhir-adapter purge` on whole runs: what is left of a subject on disk, and what the others keep."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from .conftest import SIX, Adapter, six_patients, write_site, write_source


def _usubjids(run: Path) -> set[str]:
    return {
        value
        for path in run.rglob("*.parquet")
        for name in ("USUBJID", "PATKEY")
        if name in pq.ParquetFile(path).schema_arrow.names
        for value in pq.ParquetFile(path).read().column(name).to_pylist()
    }


def test_a_subject_leaves_landing_and_run_folders(tmp_path: Path, adapter: Adapter) -> None:
    """No row and no byte of the subject stays; the run can be made anew without the subject; ids are not echoed."""
    resources = six_patients()
    leaving = sorted(item["id"] for item in resources if item["resourceType"] == "Patient")[0]
    write_source(tmp_path / "source", resources)
    site = write_site(tmp_path)
    run = adapter(
        "run", SIX / "six.yaml", "--site", site, "--out", tmp_path / "runs", "--quiet", "--json"
    ).run
    before = _usubjids(run)
    gone = {
        row["USUBJID"]
        for row in pq.ParquetFile(run / "tables" / "subjects.parquet").read().to_pylist()
        if row["PATKEY"] == f"Patient/{leaving}"
    } | {f"Patient/{leaving}"}
    assert gone < before
    (tmp_path / "list").write_text(f"{leaving}\n")
    ended = adapter(
        "purge", "--site", site, "--out", tmp_path / "runs", "--subjects", tmp_path / "list", "--json"
    )
    numbers = json.loads(ended.out)
    assert (numbers["landing.subjects"], numbers["runs"]) == (1, 1)
    assert numbers["rows"] > 0
    assert leaving not in ended.out + ended.err
    assert _usubjids(run) == before - gone
    kept = [path for folder in (tmp_path / "state", run) for path in folder.rglob("*") if path.is_file()]
    for name in gone:
        assert not [path.name for path in kept if name.encode() in path.read_bytes()]
    assert not (run / "report.html").exists()
    for stage in ("map", "derive", "analyse", "report"):
        adapter(stage, run, "--quiet")
    assert _usubjids(run) == before - gone
    # A second purge finds nothing, and says so by its numbers.
    again = adapter(
        "purge", "--site", site, "--out", tmp_path / "runs", "--subjects", tmp_path / "list", "--json"
    )
    assert set(json.loads(again.out).values()) == {0}


def test_what_purge_refuses(tmp_path: Path, adapter: Adapter) -> None:
    """A line that is no id is named by its number alone; one of the three ways is needed."""
    site = write_site(tmp_path)
    (tmp_path / "list").write_text("a\nnot an id\n")
    ended = adapter("purge", "--site", site, "--subjects", tmp_path / "list", status=2)
    assert "line 2" in ended.err
    assert "not an id" not in ended.err
    adapter("purge", "--site", site, status=2)


def test_the_whole_landing(tmp_path: Path, adapter: Adapter) -> None:
    """`--all` leaves no file of the landing but its locks."""
    write_source(tmp_path / "source", six_patients())
    site = write_site(tmp_path)
    adapter("run", SIX / "six.yaml", "--site", site, "--out", tmp_path / "runs", "--quiet", "--json")
    adapter("purge", "--site", site, "--all")
    assert {path.suffix for path in (tmp_path / "state").rglob("*") if path.is_file()} <= {".lock"}
