"""Taking subjects out of a landing, and the proof that they are out.

How they leave the disk stands in `removal`. Copies that lie elsewhere (backups, blocks that a disk has set aside) are
out of its reach.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from fhir_adapter.arrivals import references, subject_key
from fhir_adapter.errors import LandingError
from fhir_adapter.landing import journal, removal
from fhir_adapter.landing.index import DELETED, UNREADABLE
from fhir_adapter.landing.segments import SegmentReader

__all__ = ["Purged", "linked_patients", "named_patients", "purge", "whom_it_names"]

_NAMED = re.compile(rb"Patient\\?/([A-Za-z0-9\-.]{1,64})")
_PATIENT = re.compile(rb'"resourceType"\s*:\s*"Patient"')
_ID = re.compile(rb'"id"\s*:\s*"([A-Za-z0-9\-.]{1,64})"')


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


def whom_it_names(type_: str, body: bytes) -> set[str]:
    """Keys of the patients whom an unreadable item names; one of a Patient, cut or not, names it by its id as well."""
    names = named_patients(body)
    if type_ == "Patient" or (not type_ and _PATIENT.search(body)):
        names |= {f"Patient/{id_.decode()}" for id_ in _ID.findall(body)}
    return names


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
    removal.begin(connection)
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
                names = whom_it_names(type_, body)
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

    def also() -> None:
        nonlocal checkpoints
        connection.executemany(
            "DELETE FROM reference WHERE type = ? AND id = ?", sorted((refs | set(keys)) - kept_refs)
        )
        checkpoints = sum(
            removal.forget_checkpoints(connection, f"{subject}|") for subject in sorted(subjects)
        )
        if number or checkpoints:
            journal.enter(connection, "purged", {"subjects": found, "versions": number})

    removal.take_out(connection, folder, with_segment, also)
    _prove(connection, folder, subjects, digests)
    return Purged(found, number - unreadable, unreadable, unattributed, naming, checkpoints, size)


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
