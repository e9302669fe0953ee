"""A landing of an earlier release: what opening it does, what is kept, and what a kill on the way leaves."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fhir_adapter.arrivals import arrival
from fhir_adapter.errors import LandingError
from fhir_adapter.landing import Landing
from fhir_adapter.landing.migrate import SCHEMA_VERSION

OLD = Path(__file__).parent.parent / "data" / "landing-v1.sql"
SEGMENT = b"""\
{"resourceType":"Patient","id":"a","meta":{"versionId":"1"}}
{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/a"}}
{"resourceType":"Patient","id":"a","meta":{"versionId":"2"}}
{"resourceType":"Patient","id":"b"}
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A landing as version 1 left it."""
    folder = tmp_path / "site"
    (folder / "segments").mkdir(parents=True, mode=0o700)
    (folder / "segments" / "000001.ndjson").write_bytes(SEGMENT)
    index = sqlite3.connect(folder / "index.sqlite")
    index.executescript(OLD.read_text("utf-8"))
    index.close()
    return folder


def tables(path: Path) -> set[tuple[str, str]]:
    """Name and statement of every table and index of a database."""
    index = sqlite3.connect(path)
    try:
        rows = index.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        return {(name, " ".join(sql.split())) for name, sql in rows}
    finally:
        index.close()


def version(path: Path) -> int:
    """`user_version` of a database."""
    index = sqlite3.connect(path)
    try:
        return int(index.execute("PRAGMA user_version").fetchone()[0])
    finally:
        index.close()


def test_opening_brings_it_to_this_version(old: Path, tmp_path: Path) -> None:
    """Everything is as it was, at each sequence number; the tables are those of a new landing; a copy is kept."""
    with Landing.open(old) as landing:
        assert [f"{item.type}/{item.id}@{item.version}" for item in landing.current()] == [
            "Patient/a@2",
            "Patient/b@",
        ]
        assert [f"{item.type}/{item.id}@{item.version}" for item in landing.current(2)] == [
            "Observation/o@",
            "Patient/a@1",
        ]
        assert [(item.id, item.reason) for item in landing.left_out()] == [
            ("fa-g", "own-output"),
            ("o", "deleted"),
            ("a", "superseded"),
        ]
        assert landing.verify() == 4
        assert landing.checkpoint("Patient/a|0123456789abcdef") == {"since": "2024-05-01T12:00:00.000+00:00"}
        assert landing.missing_references(["Organization"]) == [("Organization", "x")]
        assert (landing.sequence, len(landing.identity)) == (6, 16)
        identity = landing.identity
    Landing.open(tmp_path / "new").close()
    assert tables(old / "index.sqlite") == tables(tmp_path / "new" / "index.sqlite")
    assert version(old / "index.sqlite") == SCHEMA_VERSION
    kept = old / "index.v1.sqlite"
    assert (version(kept), stat.S_IMODE(kept.stat().st_mode)) == (1, 0o600)
    with Landing.open(old) as landing:
        assert landing.identity == identity


def test_the_copy_can_be_put_back(old: Path) -> None:
    """With the copy in its place the landing is what it was; what landed later is cut as a tail."""
    with Landing.open(old) as landing:
        landing.append([arrival(b'{"resourceType":"Patient","id":"later"}', origin="test")])
    for name in ("index.sqlite-wal", "index.sqlite-shm"):
        (old / name).unlink(missing_ok=True)
    (old / "index.v1.sqlite").replace(old / "index.sqlite")
    with Landing.open(old) as landing:
        assert (old / "segments" / "000001.ndjson").read_bytes() == SEGMENT
        assert (landing.sequence, landing.verify()) == (6, 4)


def test_a_reader_says_what_to_do(old: Path) -> None:
    """What only reads changes nothing, and names the command."""
    with pytest.raises(LandingError, match=r"version 1; .*landing migrate"):
        Landing.open(old, read_only=True)
    assert version(old / "index.sqlite") == 1


def test_a_newer_version_is_not_touched(old: Path) -> None:
    """The index of a later release stays as it is."""
    index = sqlite3.connect(old / "index.sqlite")
    index.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    index.close()
    with pytest.raises(LandingError, match="Use the release that wrote it"):
        Landing.open(old)
    assert version(old / "index.sqlite") == SCHEMA_VERSION + 1
    assert not list(old.glob("index.v*"))


def test_a_strange_database_is_not_touched(tmp_path: Path) -> None:
    """A database that is no index gets no tables."""
    (tmp_path / "site").mkdir()
    index = sqlite3.connect(tmp_path / "site" / "index.sqlite")
    index.execute("CREATE TABLE other (a)")
    index.close()
    with pytest.raises(LandingError, match="no index of a landing"):
        Landing.open(tmp_path / "site")
    assert {name for name, _ in tables(tmp_path / "site" / "index.sqlite")} == {"other"}


@pytest.mark.parametrize("moment", ["copying", "copied", "step", "commit"])
def test_killed_on_the_way(old: Path, moment: str) -> None:
    """SIGKILL while the copy is made, after it, within the step, or after it: the next opening finishes."""
    script = f"""
import os, pathlib, signal
from fhir_adapter.landing import Landing, journal, migrate

die = lambda: os.kill(os.getpid(), signal.SIGKILL)
moment = {moment!r}
if moment == "copying":
    os.fsync = lambda descriptor: die()
if moment == "copied":
    migrate.sync_dir = lambda folder: die()
if moment == "step":
    journal.enter = lambda *arguments: die()  # the statements of the step are through, its COMMIT is not
if moment == "commit":
    from fhir_adapter.landing import segments
    segments.settle = lambda *arguments, **more: die()
Landing.open(pathlib.Path({str(old)!r}))
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False)
    assert ended.returncode == -signal.SIGKILL
    reached = {"commit": SCHEMA_VERSION, "step": SCHEMA_VERSION - 1}  # each step is whole by itself
    assert version(old / "index.sqlite") == reached.get(moment, 1)
    with Landing.open(old) as landing:
        assert (landing.sequence, landing.verify()) == (6, 4)
    assert version(old / "index.sqlite") == SCHEMA_VERSION
    assert version(old / "index.v1.sqlite") == 1
    assert not list(old.glob(".index*"))
