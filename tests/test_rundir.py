"""Run folders: private, and every file whole or not there."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from fhir_adapter.errors import RunDirError
from fhir_adapter.rundir import RunDir, append_line, private_dir, read_json, write_atomic, write_json


def mode(path: Path) -> int:
    """Permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_layout_and_modes(tmp_path: Path) -> None:
    """A new run has its folders, all of them private whatever the umask is."""
    before = os.umask(0)
    try:
        run = RunDir.create(tmp_path / "runs", "six", "2024-05-01T120000")
        write_json(run.manifest, {})
        append_line(run.log, b"{}")
    finally:
        os.umask(before)
    assert run.path == tmp_path / "runs" / "six" / "2024-05-01T120000"
    assert run.id == "2024-05-01T120000"
    assert sorted(path.name for path in run.path.iterdir()) == [
        "datasets", "figures", "manifest.json", "quarantine", "run.log.jsonl", "tables",
    ]  # fmt: skip
    assert {mode(path) for path in run.path.iterdir() if path.is_dir()} == {0o700}
    assert {mode(path) for path in run.path.iterdir() if path.is_file()} == {0o600}
    assert mode(tmp_path / "runs") == 0o700
    names = [run.accounting, run.results, run.report, run.writeback]
    assert [path.name for path in names] == [
        "accounting.json",
        "results.json",
        "report.html",
        "writeback.json",
    ]


def test_a_run_is_made_once(tmp_path: Path) -> None:
    """A run id that exists, or is a path, is refused."""
    RunDir.create(tmp_path, "six", "1")
    with pytest.raises(RunDirError, match="exists already"):
        RunDir.create(tmp_path, "six", "1")
    for name in ("../x", "", ".hidden", "a/b"):
        with pytest.raises(RunDirError, match="letters, digits"):
            RunDir.create(tmp_path, "six", name)


def test_opening_needs_what_the_stage_needs(tmp_path: Path) -> None:
    """A folder that is not there, or lacks a file of an earlier stage, is told before the stage begins."""
    run = RunDir.create(tmp_path, "six", "1")
    with pytest.raises(RunDirError, match=r"lacks results\.json, report\.html") as caught:
        RunDir.open(run.path, needs=["datasets", "results.json", "report.html"])
    assert caught.value.exit_status == 60
    with pytest.raises(RunDirError, match="no such run folder"):
        RunDir.open(tmp_path / "none")
    assert RunDir.open(run.path, needs=["datasets"]).path == run.path


def test_atomic_write_replaces_as_a_whole(tmp_path: Path) -> None:
    """A file is replaced as a whole, and no temporary file stays."""
    path = write_atomic(tmp_path / "new" / "a.bin", b"one")
    assert write_atomic(path, b"two").read_bytes() == b"two"
    assert mode(path) == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["a.bin"]


def test_failed_write_leaves_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk is full the old content stays and no half file is left."""
    path = write_atomic(tmp_path / "a.bin", b"one")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunDirError, match="No space left"):
        write_atomic(path, b"two")
    assert [(item.name, item.read_bytes()) for item in tmp_path.iterdir()] == [("a.bin", b"one")]


def test_json_is_equal_for_equal_values(tmp_path: Path) -> None:
    """Key order does not matter, letters stay letters, NaN is refused; what is read is what was written."""
    one = write_json(tmp_path / "1.json", {"b": "ä", "a": [1, None]})
    two = write_json(tmp_path / "2.json", {"a": [1, None], "b": "ä"})
    assert one.read_bytes() == two.read_bytes()
    assert "ä".encode() in one.read_bytes()
    assert read_json(one) == {"a": [1, None], "b": "ä"} == json.loads(two.read_bytes())
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "3.json", float("nan"))


def test_json_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is missing or no JSON is an error of the run folder."""
    with pytest.raises(RunDirError, match="no such file"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(RunDirError, match="cannot be read as JSON"):
        read_json(tmp_path / "bad.json")


def test_lines_are_appended(tmp_path: Path) -> None:
    """Each line ends with exactly one line break."""
    append_line(tmp_path / "q" / "a.jsonl", b"1")
    append_line(tmp_path / "q" / "a.jsonl", b"2\n")
    assert (tmp_path / "q" / "a.jsonl").read_bytes() == b"1\n2\n"


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    """A folder that cannot be made is an error that says why."""
    (tmp_path / "x").write_text("")
    with pytest.raises(RunDirError, match="cannot be made"):
        private_dir(tmp_path / "x" / "y")
