"""Verifying a landing, and repairing one that is damaged.

An index row holds what no segment does (origin, tombstones, checkpoints), so an index is not made anew from segments.
What a repair can honestly do is to take out the rows whose bytes are not what landed, and to forget the checkpoints
that vouch for them: the next pull then brings them again. Where the index itself cannot be read, the landing is set
aside as it is, and the next pull makes a new one.

A repair that takes something out gives the landing a new identity: what an earlier run read at its sequence number is
not there any more, and such a run has to pull again before it is mapped.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from fhir_adapter.connectors.plan import SUBJECT_PARAMETER
from fhir_adapter.errors import LandingError
from fhir_adapter.landing import journal, removal
from fhir_adapter.landing.index import UNREADABLE, connect, segment_lengths
from fhir_adapter.landing.lock import landing_lock
from fhir_adapter.landing.segments import SegmentReader, segment_path
from fhir_adapter.rundir import private_dir, sync_dir

__all__ = ["Repaired", "Verified", "repair", "require", "set_asides", "verify"]

_INDEX = "index.sqlite"
_CHUNK = 1000


class Verified(msgspec.Struct, frozen=True):
    """What was found in a landing, in numbers.

    Attributes:
        bodies: versions whose bytes were compared with their hash.
        damaged: of these, how many are not what landed, by resource type.
        segments: segments that are missing or shorter than the index says.
        index: whether SQLite finds its file whole.
        history: journal of the landing: migrations, purges, repairs.
    """

    bodies: int
    damaged: dict[str, int]
    segments: int
    index: bool
    history: list[dict[str, Any]]

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged."""
        return self.index and not self.segments and not self.damaged


class Repaired(msgspec.Struct, frozen=True):
    """What a repair did, in numbers.

    Attributes:
        versions: damaged resource versions that were taken out.
        current: of these, what was current and is to be pulled again; the rest was older versions, now lost.
        checkpoints: checkpoints that were forgotten, so that the next pull brings them.
        set_aside: name of the folder to which a landing with an unreadable index was moved, or "".
    """

    versions: int = 0
    current: int = 0
    checkpoints: int = 0
    set_aside: str = ""


def set_asides(folder: Path) -> list[Path]:
    """Folders to which repairs have moved landings whose index could not be read."""
    return sorted(path for path in folder.glob("set-aside-*") if path.is_dir())


def verify(folder: Path) -> Verified:
    """Compares all that is stored with its hash, superseded versions too; changes nothing that landed.

    Args:
        folder: `state/<site>/`.

    Raises:
        RunLocked: a pull is under way.
        LandingError: there is no landing, or its index cannot be read.
    """
    require(folder)
    lock = landing_lock(folder)
    try:
        connection = connect(folder / _INDEX, read_only=True)
        try:
            whole = connection.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok"
            place = folder / "segments"
            bodies, damaged = 0, dict[str, int]()
            for _, type_, intact in _compared(connection, place):
                bodies += 1
                if not intact:
                    damaged[type_] = damaged.get(type_, 0) + 1
            return Verified(
                bodies, damaged, len(_cut_segments(connection, place)), whole, journal.read(connection)
            )
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise LandingError(f"the index cannot be read ({error})", where=_INDEX) from error
    finally:
        lock.release()


def repair(folder: Path) -> Repaired:
    """Takes out what is damaged, so that the next pull brings it again.

    Args:
        folder: `state/<site>/`.

    Raises:
        RunLocked: a pull is under way.
        LandingError: there is no landing, it is of a newer version, or it cannot be written.
    """
    require(folder)
    lock = landing_lock(folder)
    try:
        connection = _usable(folder)
        if connection is None:
            return Repaired(set_aside=_set_aside(folder))
        try:
            return _taken_out(connection, private_dir(folder / "segments"))
        finally:
            connection.close()
    finally:
        lock.release()


def require(folder: Path) -> None:
    """Sees that there is a landing.

    Raises:
        LandingError: there is none.
    """
    if not (folder / _INDEX).exists():
        raise LandingError(
            "there is no landing here", where=folder.name, remedy="`fhir-adapter pull` makes one."
        )


def _compared(connection: sqlite3.Connection, folder: Path) -> Iterator[tuple[int, str, bool]]:
    """Sequence number and type of every stored version, and whether its bytes are what landed."""
    last = 0
    with SegmentReader(folder) as reader:
        while rows := connection.execute(
            "SELECT sequence, type, segment, offset, length, sha256 FROM landed "
            "WHERE segment IS NOT NULL AND sequence > ? ORDER BY sequence LIMIT ?",
            (last, _CHUNK),
        ).fetchall():
            for sequence, type_, segment, offset, length, digest in rows:
                try:
                    line = reader.read(segment, offset, length + 1)
                except LandingError:
                    line = b""
                intact = line[-1:] == b"\n" and hashlib.sha256(line[:-1]).digest() == digest
                yield sequence, type_, intact
            last = rows[-1][0]


def _cut_segments(connection: sqlite3.Connection, folder: Path) -> list[int]:
    found = []
    for number, length in segment_lengths(connection).items():
        path = segment_path(folder, number)
        if not path.exists() or path.stat().st_size < length:
            found.append(number)
    return found


def _usable(folder: Path) -> sqlite3.Connection | None:
    """The index, if it can be read, or after its own indexes were made anew; None if it cannot."""
    path = folder / _INDEX
    try:
        plain = sqlite3.connect(f"file:{path.absolute()}?mode=rw".replace("#", "%23"), uri=True)
        try:
            if plain.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
                plain.execute("REINDEX")
                plain.commit()
                if plain.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
                    return None
            if plain.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                return None
        finally:
            plain.close()
    except sqlite3.DatabaseError:
        return None
    return connect(path, read_only=False)


def _set_aside(folder: Path) -> str:
    number = 1
    while (folder / f"set-aside-{number}").exists():
        number += 1
    aside = private_dir(folder / f"set-aside-{number}")
    # The index goes last: without it the segments would be taken for the leavings of a killed run.
    for name in ("segments", f"{_INDEX}-wal", f"{_INDEX}-shm", _INDEX):
        if (folder / name).exists():
            (folder / name).rename(aside / name)
    sync_dir(aside)
    sync_dir(folder)
    return aside.name


def _taken_out(connection: sqlite3.Connection, folder: Path) -> Repaired:
    removal.begin(connection)
    connection.executemany(
        "INSERT INTO doomed VALUES (?)",
        ((sequence,) for sequence, _, intact in _compared(connection, folder) if not intact),
    )
    versions, current = connection.execute(
        "SELECT count(*), coalesce(sum(superseded_by IS NULL), 0) FROM landed "
        "WHERE sequence IN (SELECT sequence FROM doomed)"
    ).fetchone()
    touched = connection.execute(
        "SELECT DISTINCT segment FROM landed WHERE sequence IN (SELECT sequence FROM doomed)"
    ).fetchall()
    segments = sorted({row[0] for row in touched} | set(_cut_segments(connection, folder)))
    if not segments:
        removal.finish(connection, folder)
        return Repaired()
    forgotten = 0

    def also() -> None:
        nonlocal forgotten
        forgotten = _forget(connection, prefixes) if current else 0
        if versions:
            connection.execute("UPDATE meta SET value = lower(hex(randomblob(8))) WHERE key = 'identity'")
        journal.enter(connection, "repaired", {"versions": versions, "current": current})

    prefixes = _vouching(connection)
    removal.take_out(connection, folder, segments, also)
    return Repaired(versions, current, forgotten)


def _vouching(connection: sqlite3.Connection) -> list[str] | None:
    """Subjects whose checkpoints vouch for what is damaged and current; None for those of all subjects and files."""
    source = connection.execute("SELECT value FROM checkpoint WHERE key = 'source'").fetchone()
    if source is None or json.loads(source[0]).get("kind") == "files":
        return None  # one file after the other decides what is current: all are read again
    rows = connection.execute(
        "SELECT DISTINCT type, subject, kind FROM landed WHERE superseded_by IS NULL "
        "AND sequence IN (SELECT sequence FROM doomed)"
    ).fetchall()
    # Candidates and what is found by reference are searched by every pull; of an unreadable item, and of what names
    # no patient, nobody knows which subject's query brought it.
    if any(
        subject is None and (kind == UNREADABLE or type_ in SUBJECT_PARAMETER)
        for type_, subject, kind in rows
    ):
        return None
    return sorted({subject for _, subject, _ in rows if subject is not None})


def _forget(connection: sqlite3.Connection, subjects: list[str] | None) -> int:
    if subjects is not None:
        return sum(removal.forget_checkpoints(connection, f"{subject}|") for subject in subjects)
    # A manifest's files may have been cleared away; that they are then missing has to be seen.
    marks = ("file|", "content|", "manifest|")
    forgotten = sum(removal.forget_checkpoints(connection, prefix) for prefix in marks)
    return (
        forgotten + connection.execute("DELETE FROM checkpoint WHERE substr(key, 1, 8) = 'Patient/'").rowcount
    )
