"""Taking subjects out of a landing, and the proof that they are out.

The segments that hold them are written anew without them; one transaction then moves the index to the new
segments and forgets the subjects, and the old files go. What SQLite keeps of deleted rows (free pages, the
write-ahead log) is overwritten and cut. A purge that is killed is finished when the landing is next opened for
writing. Copies that lie elsewhere (backups, blocks that a disk has set aside) are out of its reach.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from fhir_adapter.connectors.arrivals import references, subject_key
from fhir_adapter.errors import LandingError
from fhir_adapter.landing.index import DELETED, UNREADABLE
from fhir_adapter.landing.segments import SegmentReader, segment_path
from fhir_adapter.rundir import FILE_MODE, sync_dir

__all__ = ["Purged", "finish", "linked_patients", "named_patients", "purge"]

_NAMED = re.compile(rb"Patient\\?/([A-Za-z0-9\-.]{1,64})")
_ID = re.compile(rb'"id"\s*:\s*"([A-Za-z0-9\-.]{1,64})"')
_COPY = 4 * 1024 * 1024


class Purged(msgspec.Struct, frozen=True):
    """What a purge took out of a landing, in numbers only.

    Attributes:
        subjects: subjects of whom something had landed.
        versions: resource versions, tombstones and own output of theirs.
        unreadable: unreadable items that name one of them.
        unattributed: unreadable items that stay, because they name no patient at all.
        naming: resources that stay though they name one of them, such as a Group with its members.
        checkpoints: checkpoints of theirs.
        bytes: bytes that left the segments.
    """

    subjects: int = 0
    versions: int = 0
    unreadable: int = 0
    unattributed: int = 0
    naming: int = 0
    checkpoints: int = 0
    bytes: int = 0


class _Link(msgspec.Struct):
    class Other(msgspec.Struct):
        """`Patient.link.other`."""

        reference: str | None = None

    other: Other | None = None


class _Patient(msgspec.Struct):
    id: str = ""
    link: list[_Link] | None = None


def named_patients(body: bytes) -> set[str]:
    """Keys (`Patient/<id>`) of the patients that some bytes name by a reference."""
    return {f"Patient/{id_.decode()}" for id_ in _NAMED.findall(body)}


def linked_patients(bodies: Iterable[bytes], subjects: Iterable[str]) -> set[str]:
    """The subjects, and every Patient that is linked to one of them: other records of one person.

    Args:
        bodies: Patient resources, superseded versions too.
        subjects: keys (`Patient/<id>`).
    """
    pairs: list[tuple[str, str]] = []
    for body in bodies:
        try:
            patient = msgspec.json.decode(body, type=_Patient)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # of odd shape: it has no link that could be read
        for link in patient.link or ():
            other = subject_key(link.other.reference if link.other else None)
            if other is not None:
                pairs.append((f"Patient/{patient.id}", other))
    found = set(subjects)
    while True:
        more = {name for pair in pairs if found.intersection(pair) for name in pair} - found
        if not more:
            return found
        found |= more


def purge(
    connection: sqlite3.Connection, folder: Path, subjects: set[str], *, base: str | None = None
) -> Purged:
    """Takes subjects out of the index and the segments, at every sequence number.

    Args:
        connection: the index, open for writing; nobody else has it open.
        folder: the folder of segments; no writer has one open.
        subjects: keys (`Patient/<id>`).
        base: base URL of the server, as in `references`.

    Returns:
        What was taken out.

    Raises:
        LandingError: a segment cannot be read or written, or the proof fails.
    """
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS doomed (sequence INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM doomed")
    _doom(connection, subjects)
    digests: set[bytes] = set()
    refs: set[tuple[str, str]] = set()
    kept_refs: set[tuple[str, str]] = set()
    unreadable = unattributed = naming = 0
    with SegmentReader(folder) as reader:
        for sequence, type_, kind, place, doomed, digest in _stored(connection):
            body = reader.read(*place)
            names = named_patients(body)
            if kind == UNREADABLE:
                if type_ == "Patient":
                    names |= {f"Patient/{id_.decode()}" for id_ in _ID.findall(body)}
                if names & subjects:
                    connection.execute("INSERT OR IGNORE INTO doomed VALUES (?)", (sequence,))
                    unreadable += 1
                    doomed = True
                elif not names:
                    unattributed += 1
            if doomed:
                digests.add(digest)
                refs.update(references(body, base))
                continue
            naming += bool(names & subjects)
            kept_refs.update(references(body, base))
    found = connection.execute(
        "SELECT count(DISTINCT subject) FROM landed WHERE sequence IN (SELECT sequence FROM doomed)"
    ).fetchone()[0]
    number, size = connection.execute(
        "SELECT count(*), coalesce(sum(CASE WHEN segment IS NULL THEN 0 ELSE length + 1 END), 0) "
        "FROM landed WHERE sequence IN (SELECT sequence FROM doomed)"
    ).fetchone()
    keys = connection.execute(
        "SELECT DISTINCT type, id FROM landed WHERE sequence IN (SELECT sequence FROM doomed)"
    ).fetchall()
    with_segment = [
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT segment FROM landed WHERE segment IS NOT NULL AND sequence IN "
            "(SELECT sequence FROM doomed) ORDER BY segment"
        )
    ]
    checkpoints = 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Numbers are never given twice: an older run reads the landing at its own number.
        connection.execute(
            "INSERT INTO meta SELECT 'sequence', coalesce(max(sequence), 0) FROM landed WHERE true "
            "ON CONFLICT (key) DO UPDATE SET value = max(CAST(value AS INTEGER), CAST(excluded.value AS INTEGER))"
        )
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('purging', '1')")
        for segment in with_segment:
            _rewrite(connection, folder, segment)
        connection.execute("DELETE FROM landed WHERE sequence IN (SELECT sequence FROM doomed)")
        connection.executemany(
            "DELETE FROM reference WHERE type = ? AND id = ?", sorted((refs | set(keys)) - kept_refs)
        )
        for subject in sorted(subjects):
            checkpoints += connection.execute(
                "DELETE FROM checkpoint WHERE substr(key, 1, ?) = ?", (len(subject) + 1, f"{subject}|")
            ).rowcount
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.execute("DROP TABLE IF EXISTS doomed")
    finish(connection, folder)
    _prove(connection, folder, subjects, digests)
    return Purged(found, number - unreadable, unreadable, unattributed, naming, checkpoints, size)


def finish(connection: sqlite3.Connection, folder: Path) -> None:
    """Ends a purge whose transaction is through: old segments go, free pages and the log are cut.

    Raises:
        LandingError: another process reads the index, so that its log cannot be cut.
    """
    if connection.execute("SELECT 1 FROM meta WHERE key = 'purging'").fetchone() is None:
        return
    known = {row[0] for row in connection.execute("SELECT number FROM segment")}
    for path in folder.glob("*.ndjson"):
        if path.stem.isdigit() and int(path.stem) not in known:
            path.unlink()
    sync_dir(folder)
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("VACUUM")
    _cut_log(connection)
    connection.execute("DELETE FROM meta WHERE key = 'purging'")
    _cut_log(connection)


def _cut_log(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        raise LandingError(
            "another process reads the index, so its log still holds what was purged",
            where="index.sqlite-wal",
            remedy="Let it end and purge again.",
        )


def _doom(connection: sqlite3.Connection, subjects: Iterable[str]) -> None:
    for subject in sorted(subjects):
        connection.execute(
            "INSERT OR IGNORE INTO doomed SELECT sequence FROM landed WHERE subject = ?", (subject,)
        )
        # A tombstone of a patient of whom nothing else is left.
        connection.execute(
            "INSERT OR IGNORE INTO doomed SELECT sequence FROM landed WHERE type = 'Patient' AND id = ?",
            (subject.partition("/")[2],),
        )
    # News of a deletion names no subject; it goes with what was deleted.
    connection.execute(
        "INSERT OR IGNORE INTO doomed SELECT t.sequence FROM landed t WHERE t.kind = ? AND EXISTS ("
        "SELECT 1 FROM landed r JOIN doomed d ON d.sequence = r.sequence WHERE r.type = t.type AND r.id = t.id)",
        (DELETED,),
    )


def _stored(
    connection: sqlite3.Connection,
) -> Iterator[tuple[int, str, int, tuple[int, int, int], bool, bytes]]:
    last = 0
    while rows := connection.execute(
        "SELECT l.sequence, l.type, l.kind, l.segment, l.offset, l.length, d.sequence IS NOT NULL, l.sha256 "
        "FROM landed l LEFT JOIN doomed d ON d.sequence = l.sequence "
        "WHERE l.segment IS NOT NULL AND l.sequence > ? ORDER BY l.sequence LIMIT 1000",
        (last,),
    ).fetchall():
        for sequence, type_, kind, segment, offset, length, doomed, digest in rows:
            yield sequence, type_, kind, (segment, offset, length), bool(doomed), digest
        last = rows[-1][0]


def _rewrite(connection: sqlite3.Connection, folder: Path, old: int) -> None:
    """Copies what stays of a segment into a new one, and moves the index there."""
    number = int(connection.execute("SELECT max(number) FROM segment").fetchone()[0]) + 1
    rows = connection.execute(
        "SELECT sequence, offset, length FROM landed WHERE segment = ? AND sequence NOT IN "
        "(SELECT sequence FROM doomed) ORDER BY offset",
        (old,),
    ).fetchall()
    moved: list[tuple[int, int, int]] = []
    position = 0
    descriptor = os.open(segment_path(folder, number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb", buffering=_COPY) as target, SegmentReader(folder) as reader:
            for sequence, offset, length in rows:
                target.write(reader.read(old, offset, length) + b"\n")
                moved.append((number, position, sequence))
                position += length + 1
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        raise LandingError(
            f"the segment cannot be written anew ({error.strerror})",
            where=segment_path(Path(), number).name,
            remedy="Nothing was purged; make room on the disk and purge again.",
        ) from error
    sync_dir(folder)
    connection.executemany("UPDATE landed SET segment = ?, offset = ? WHERE sequence = ?", moved)
    connection.execute("DELETE FROM segment WHERE number = ?", (old,))
    connection.execute("INSERT INTO segment VALUES (?, ?)", (number, position))


def _prove(connection: sqlite3.Connection, folder: Path, subjects: set[str], digests: set[bytes]) -> None:
    """Looks for what was purged in every line that is on disk and in every row.

    Raises:
        LandingError: something is left.
    """
    left = sum(
        connection.execute(
            "SELECT (SELECT count(*) FROM landed WHERE subject = ? OR (type = 'Patient' AND id = ?)) + "
            "(SELECT count(*) FROM checkpoint WHERE substr(key, 1, ?) = ?)",
            (subject, subject.partition("/")[2], len(subject) + 1, f"{subject}|"),
        ).fetchone()[0]
        for subject in subjects
    )
    left += connection.execute("PRAGMA freelist_count").fetchone()[0]
    for path in sorted(folder.iterdir()):
        with path.open("rb") as handle:
            left += sum(hashlib.sha256(line.rstrip(b"\n")).digest() in digests for line in handle)
    if left or connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise LandingError(
            "the landing still holds something of what was purged",
            where=folder.parent.name,
            remedy="Purge again; if it stays so, remove the site's state folder and pull again.",
        )
