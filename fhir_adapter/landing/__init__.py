"""The landing: every resource that came over the wire, as it came, with an index that knows every version.

    state/<site>/
      landing.lock            held by the one run that may write
      writer.lock             held by the process that writes for it, where much comes at once
      index.sqlite            type, id, version, sequence, place, subject, state, hash; checkpoints; references
      segments/000001.ndjson  resources, one per line, append-only
      barred.json             keyed hashes of the subjects who may not land again
      index.v1.sqlite         the index as it was before it was brought to this release's version
      set-aside-1/            a landing whose index could not be read, put there by a repair

Segments are written and synced first; then the index rows and checkpoints follow in one transaction. A run
that is killed leaves at most a tail that the index does not know, which is cut when the landing is opened
again.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock
import msgspec

from fhir_adapter.arrivals import Arrival, Checkpoint, Outcome, gone
from fhir_adapter.errors import LandingError
from fhir_adapter.landing import checkpoints, removal, segments
from fhir_adapter.landing import purge as purging
from fhir_adapter.landing.appender import Appender
from fhir_adapter.landing.bars import BarList
from fhir_adapter.landing.index import REMEDY, connect, identity, last_sequence, segment_lengths
from fhir_adapter.landing.lock import landing_lock
from fhir_adapter.landing.purge import Purged
from fhir_adapter.rundir import private_dir

__all__ = ["Landed", "Landing", "LeftOut", "Purged"]

_CHUNK = 1000

# A row is current at :at if it had come by then and was not yet superseded.
_CURRENT = "sequence <= :at AND (superseded_by IS NULL OR superseded_by > :at)"
_COLUMNS = "type, id, version, sequence, subject, last_updated, origin, segment, offset, length, sha256"


class Landed(msgspec.Struct, frozen=True):
    """One resource of the landing.

    Attributes:
        type: resource type ("" for an unreadable item that names none).
        id: logical id.
        version: `meta.versionId`, or "".
        sequence: number of its arrival, unique in the landing.
        subject: `Patient/<id>`, or None for a shared resource.
        body: the bytes as they came, on one line.
        last_updated: `meta.lastUpdated` as written, or "".
        origin: where it came from: file and line, or the search without its values.
    """

    type: str
    id: str
    version: str
    sequence: int
    subject: str | None
    body: bytes
    last_updated: str = ""
    origin: str = ""


class LeftOut(msgspec.Struct, frozen=True):
    """A resource version that landed and is not handed to the mapping.

    `reason` is `own-output`, `superseded`, `deleted` or `unreadable`.
    """

    type: str
    id: str
    version: str
    sequence: int
    subject: str | None
    reason: str
    origin: str = ""


class Landing:
    """The landing of one site; made by `Landing.open`, and a context manager.

    Reading is possible at any earlier sequence number. What is yielded comes in a fixed order (type, id), in
    memory bounded by a few resources.
    """

    def __init__(
        self,
        folder: Path,
        connection: sqlite3.Connection,
        lock: filelock.BaseFileLock | None,
        appender: Appender | None,
    ) -> None:
        self.folder = folder
        self.lock = lock
        self.bars = BarList(folder)
        self._connection = connection
        self._appender = appender

    @classmethod
    def open(
        cls, folder: Path, *, read_only: bool = False, segment_bytes: int = segments.SEGMENT_BYTES
    ) -> Landing:
        """Opens a landing, making it if need be, and checks it.

        Args:
            folder: `state/<site>/`.
            read_only: for the stages that only read; takes no lock, makes and cuts nothing.
            segment_bytes: length after which a new segment begins.

        Returns:
            The landing; with the lock, unless it is read only.

        Raises:
            RunLocked: another run holds the lock.
            LandingError: the landing is missing (read only), damaged, or of another version.
        """
        lock: filelock.BaseFileLock | None = None
        if not read_only:
            lock = landing_lock(folder)
        try:
            connection = connect(folder / "index.sqlite", read_only=read_only)
            try:
                place = folder / "segments"
                appender = None
                if not read_only:
                    private_dir(place)
                segments.settle(place, segment_lengths(connection), cut=not read_only)
                if not read_only:
                    removal.finish(connection, place)  # a purge that was killed
                    appender = Appender(folder, connection, segment_bytes)
            except BaseException:
                connection.close()
                raise
        except sqlite3.DatabaseError as error:
            if lock is not None:
                lock.release()
            raise LandingError(
                f"the index cannot be read ({error})", where="index.sqlite", remedy=REMEDY
            ) from error
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        return cls(folder, connection, lock, appender)

    def close(self) -> None:
        """Closes files and gives the lock back.

        Raises:
            LandingError: what was under way cannot be written.
        """
        try:
            if self._appender is not None:
                self._appender.wait()
        finally:
            self._close()

    def _close(self) -> None:
        if self._appender is not None:
            self._appender.close()
        self._connection.close()
        if self.lock is not None:
            self.lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:  # there is an error already; what is under way is waited for all the same
            self._close()

    # Writing

    def append(
        self,
        items: Iterable[Arrival],
        checkpoint: Checkpoint | Iterable[Checkpoint] = (),
        *,
        apart: bool = False,
    ) -> Outcome:
        """Lands a batch and its checkpoints, all or nothing.

        Content that is current already (same type, id and SHA-256) appends nothing. An older version than the
        current one is kept as superseded. The batch is held in memory: hand over pages, not whole pulls.

        Args:
            items: the arrivals, in the order in which they came.
            checkpoint: checkpoints that become true with this batch.
            apart: other threads have something to do meanwhile, so that a large batch may be written by another
                process. It is waited for when the landing is next read or written: at the end, or where it must be
                sure that the batch has landed, the caller calls `settle`.

        Returns:
            What became of the arrivals. Of those that are with the other process, `settle` or the next call tells.

        Raises:
            LandingError: the landing was opened read only, or it cannot be written, or what was with the other process
                cannot; then nothing of this batch landed either.
        """
        marks = [checkpoint] if isinstance(checkpoint, Checkpoint) else list(checkpoint)
        return self._writing.append(list(items), marks, apart=apart)

    def settle(self) -> Outcome:
        """Waits for what was handed over to another process.

        Returns:
            What became of it, as far as no call has told yet.

        Raises:
            LandingError: it cannot be written.
        """
        return Outcome() if self._appender is None else self._appender.settle()

    @property
    def _writing(self) -> Appender:
        if self._appender is None:
            raise LandingError("this landing was opened for reading only", where=self.folder.name)
        return self._appender

    @property
    def _index(self) -> sqlite3.Connection:
        """The index, with everything that was handed over."""
        if self._appender is not None:
            self._appender.wait()
        return self._connection

    def mark_deleted(self, type_: str, id_: str) -> bool:
        """Records that a resource was deleted at the source; True if it was current until now."""
        return self._writing.write([gone(type_, id_)], []).deleted == 1

    def retire_unreadable(self, origin: str, keep: set[str]) -> int:
        """Ends the unreadable items of an origin that were not met again when it was read anew.

        Args:
            origin: what the origins begin with: a file's name, or a search.
            keep: ids (as the arrivals had them) that are still there.

        Returns:
            How many were ended.
        """
        rows = self._index.execute(
            "SELECT type, id FROM landed WHERE kind = 3 AND superseded_by IS NULL AND (origin = ? "
            "OR substr(origin, 1, ?) = ?) ORDER BY sequence",
            (origin, len(origin) + 1, f"{origin}:"),
        ).fetchall()
        lost = [gone(type_, id_) for type_, id_ in rows if id_ not in keep]
        return self._writing.write(lost, []).deleted if lost else 0

    # Purging

    def keys_of(self, subjects: Iterable[str]) -> tuple[set[str], set[tuple[str, str]]]:
        """Who is meant by some subjects, and what landed of them.

        Args:
            subjects: keys (`Patient/<id>`).

        Returns:
            The subjects with every Patient that is linked to them, and `(type, id)` of all of theirs.
        """
        rows = self._index.execute(
            f"SELECT {_COLUMNS} FROM landed WHERE type = 'Patient' AND kind = 0 ORDER BY sequence"  # noqa: S608 - names of columns
        )
        with segments.SegmentReader(self.folder / "segments") as reader:
            persons = purging.linked_patients((self._landed(reader, row).body for row in rows), subjects)
        keys = {
            (type_, id_)
            for subject in persons
            for type_, id_ in self._index.execute(
                "SELECT DISTINCT type, id FROM landed WHERE subject = ?", (subject,)
            )
        }
        return persons, keys

    def purge(self, subjects: Iterable[str]) -> Purged:
        """Takes subjects out of the landing, at every sequence number, and proves it.

        Args:
            subjects: keys (`Patient/<id>`); every Patient that is linked to one of them goes too.

        Returns:
            What was taken out, in numbers.

        Raises:
            LandingError: the landing was opened read only, cannot be written, or the proof fails.
        """
        with self._writing.stopped():
            persons, _ = self.keys_of(subjects)
            source = self.checkpoint("source") or {}
            place = self.folder / "segments"
            return purging.purge(self._connection, place, persons, base=source.get("url") or None)

    # Checkpoints and what is known

    def checkpoint(self, key: str) -> dict[str, Any] | None:
        """Value of a checkpoint, or None if there is none."""
        return checkpoints.get(self._index, key)

    def set_checkpoint(self, key: str, value: dict[str, Any]) -> None:
        """Writes a checkpoint by itself, when nothing landed with it."""
        self.append([], Checkpoint(key, value))

    def known(
        self,
        type_: str,
        subjects: Iterable[str] | None = None,
        *,
        until: int | None = None,
    ) -> set[str]:
        """Ids of a type that are current, own output included.

        Args:
            type_: the resource type.
            subjects: subject keys; None for all, with and without a subject.
            until: only what came at or before this sequence number; None for all. Without it what is under way is
                waited for.
        """
        # Named, because SQLite would rather go through all of the type.
        index = "landed_key" if subjects is None else "landed_subject"
        sql = f"SELECT id FROM landed INDEXED BY {index} WHERE type = ? AND kind IN (0, 2) AND superseded_by IS NULL"  # noqa: S608 - names of indexes
        values: list[str | int] = [type_]
        if subjects is not None:
            sql += " AND subject IN (SELECT value FROM json_each(?))"
            values.append(msgspec.json.encode(list(subjects)).decode())
        if until is not None:
            sql += " AND sequence <= ?"
            values.append(until)
        connection = self._index if until is None else self._connection
        return {row[0] for row in connection.execute(sql, values)}

    def versions(self, type_: str, subjects: Iterable[str]) -> dict[str, str]:
        """Ids of a type that are current for these subjects, own output included, with `meta.versionId` or ""."""
        sql = (
            "SELECT id, version FROM landed WHERE type = ? AND subject = ? AND kind IN (0, 2) "
            "AND superseded_by IS NULL"
        )
        return {
            id_: version
            for subject in subjects
            for id_, version in self._index.execute(sql, (type_, subject))
        }

    # Who may land

    @property
    def bars_anyone(self) -> bool:
        """Whether any subject is barred."""
        return len(self.bars) > 0

    def admits(self, item: Arrival) -> bool:
        """Whether an arrival may land: nothing that is about a barred subject, or that cannot be read and names one."""
        if not self.bars_anyone:
            return True
        named = purging.named_patients(item.body) if item.state == "unreadable" else {item.subject}
        return not any(self.bars.holds(subject) for subject in named)

    def barred(self, subjects: Iterable[str]) -> set[str]:
        """Those of some subjects who are barred."""
        return {subject for subject in subjects if self.bars.holds(subject)}

    def linked_to_barred(self) -> set[str]:
        """Patients with a link to a barred one: another record of someone who was taken out."""
        if not len(self.bars):
            return set()
        return {
            f"Patient/{item.id}"
            for item in self.current(types=["Patient"])
            if any(
                self.bars.holds(other)
                for other in purging.linked_patients([item.body], [f"Patient/{item.id}"])
            )
        }

    def missing_references(self, types: Iterable[str]) -> list[tuple[str, str]]:
        """References to resources of these types that have not landed, in order."""
        found: list[tuple[str, str]] = []
        for type_ in sorted(set(types)):
            found += self._index.execute(
                "SELECT r.type, r.id FROM reference r WHERE r.type = ? AND NOT EXISTS ("
                "SELECT 1 FROM landed l WHERE l.type = r.type AND l.id = r.id AND l.superseded_by IS NULL) "
                "ORDER BY r.id",
                (type_,),
            ).fetchall()
        return found

    def bodies(self, type_: str) -> Iterator[bytes]:
        """Bodies of the current resources of a type, in the order of their ids."""
        for landed in self.current(types=[type_]):
            yield landed.body

    # Reading

    @property
    def identity(self) -> str:
        """Name of this landing and of its sequence numbers; another one after a repair that lost something."""
        return identity(self._index)

    @property
    def sequence(self) -> int:
        """Latest sequence number; 0 if nothing has landed."""
        return last_sequence(self._index)

    def counts(self, sequence: int | None = None) -> dict[str, dict[str, int]]:
        """What landed, by type, counted in the index.

        Args:
            sequence: the state to count; default: the latest.

        Returns:
            `{type: {current, superseded, deleted, own_output, unreadable, total}}`. Every version that landed
            is in exactly one of the five: `deleted` is the last version of what was deleted since,
            `superseded` an older version of what is still there.
        """
        names = ("current", "superseded", "deleted", "own_output", "unreadable")
        table: dict[str, dict[str, int]] = {}
        for type_, name, number in self._index.execute(
            f"SELECT type, state, count(*) FROM ({_STATES}) GROUP BY type, state ORDER BY type",  # noqa: S608 - put together from constants of this module
            self._at(sequence),
        ):
            row = table.setdefault(type_, dict.fromkeys((*names, "total"), 0))
            row[name] += number
            row["total"] += number
        return table

    def left_out(self, sequence: int | None = None) -> Iterator[LeftOut]:
        """What landed and is not handed to the mapping, with its reason, in the order of type, id, arrival.

        Together with `current` this is every version that landed, each once.
        """
        cursor = self._index.execute(
            f"SELECT type, id, version, sequence, subject, replace(state, '_', '-'), origin FROM ({_STATES}) "  # noqa: S608 - put together from constants of this module
            "WHERE state <> 'current' ORDER BY type, id, sequence",
            self._at(sequence),
        )
        for row in cursor:
            yield LeftOut(*row)

    def current(self, sequence: int | None = None, *, types: Iterable[str] | None = None) -> Iterator[Landed]:
        """Current resources with their bodies, in the order of type and id.

        Args:
            sequence: the state to read; default: the latest.
            types: only these types.
        """
        at = self._at(sequence)
        names = self._types(at) if types is None else sorted(set(types))
        with segments.SegmentReader(self.folder / "segments") as reader:
            for type_ in names:
                yield from self._pages(reader, "type = :type AND kind = 0", {**at, "type": type_}, "id")

    def unreadable(self, sequence: int | None = None) -> Iterator[Landed]:
        """Items that are not a resource with type and id, as they came, in the order of their arrival."""
        at = self._at(sequence)
        with segments.SegmentReader(self.folder / "segments") as reader:
            yield from self._pages(reader, "kind = 3", dict(at), "sequence")

    def subject_keys(self, sequence: int | None = None) -> list[str]:
        """Keys (`Patient/<id>`) of all subjects with a current resource, sorted."""
        return [
            row[0]
            for row in self._index.execute(
                f"SELECT DISTINCT subject FROM landed WHERE subject IS NOT NULL AND kind = 0 AND {_CURRENT} "  # noqa: S608 - put together from constants of this module
                "ORDER BY subject",
                self._at(sequence),
            )
        ]

    def by_subject(self, subjects: Iterable[str], sequence: int | None = None) -> Iterator[Landed]:
        """Current resources of these subjects, subject after subject as given, each by type and id."""
        at = self._at(sequence)
        with segments.SegmentReader(self.folder / "segments") as reader:
            for subject in subjects:
                rows = self._index.execute(
                    f"SELECT {_COLUMNS} FROM landed WHERE subject = :subject AND kind = 0 AND {_CURRENT} "  # noqa: S608 - put together from constants of this module
                    "ORDER BY type, id",
                    {**at, "subject": subject},
                ).fetchall()
                for row in rows:
                    yield self._landed(reader, row)

    def shared(self, sequence: int | None = None) -> Iterator[Landed]:
        """Current resources without a patient (Medication, ResearchStudy, Organization …), by type and id."""
        at = self._at(sequence)
        with segments.SegmentReader(self.folder / "segments") as reader:
            for type_ in self._types(at):
                yield from self._pages(
                    reader, "type = :type AND subject IS NULL AND kind = 0", {**at, "type": type_}, "id"
                )

    def get(self, type_: str, id_: str, sequence: int | None = None) -> Landed | None:
        """One current resource, or None."""
        row = self._index.execute(
            f"SELECT {_COLUMNS} FROM landed WHERE type = :type AND id = :id AND kind = 0 AND {_CURRENT}",  # noqa: S608 - put together from constants of this module
            {**self._at(sequence), "type": type_, "id": id_},
        ).fetchone()
        if row is None:
            return None
        with segments.SegmentReader(self.folder / "segments") as reader:
            return self._landed(reader, row)

    def verify(self) -> int:
        """Reads everything that is stored, superseded versions too, and compares it with its hash.

        Returns:
            Number of bodies that were compared.

        Raises:
            LandingError: one does not agree.
        """
        number = 0
        with segments.SegmentReader(self.folder / "segments") as reader:
            for row in self._index.execute(
                f"SELECT {_COLUMNS} FROM landed WHERE segment IS NOT NULL ORDER BY sequence"  # noqa: S608 - put together from constants of this module
            ):
                self._landed(reader, row)
                number += 1
        return number

    def _at(self, sequence: int | None) -> dict[str, int]:
        return {"at": self.sequence if sequence is None else sequence}

    def _types(self, at: dict[str, int]) -> list[str]:
        return [
            row[0]
            for row in self._index.execute(
                "SELECT DISTINCT type FROM landed WHERE kind = 0 AND sequence <= :at ORDER BY type", at
            )
        ]

    def _pages(
        self, reader: segments.SegmentReader, where: str, values: dict[str, Any], by: str
    ) -> Iterator[Landed]:
        # Page after page by key, not one long cursor: a reader that takes its time must not hold a
        # transaction open.
        last: Any = "" if by == "id" else 0
        while True:
            rows = self._index.execute(
                f"SELECT {_COLUMNS} FROM landed WHERE {where} AND {by} > :last AND {_CURRENT} "  # noqa: S608 - put together from constants of this module
                f"ORDER BY {by} LIMIT {_CHUNK}",
                {**values, "last": last},
            ).fetchall()
            if not rows:
                return
            for row in rows:
                yield self._landed(reader, row)
            last = rows[-1][1] if by == "id" else rows[-1][3]

    @staticmethod
    def _landed(reader: segments.SegmentReader, row: tuple[Any, ...]) -> Landed:
        type_, id_, version, sequence, subject, last_updated, origin, segment, offset, length, digest = row
        body = reader.read(segment, offset, length)
        if hashlib.sha256(body).digest() != digest:
            raise LandingError(
                f"what is stored of a {type_ or 'resource'} is not what landed (its hash differs)",
                where=f"{segments.segment_path(Path(), segment)}, byte {offset}",
                remedy=REMEDY,
            )
        return Landed(type_, id_, version, sequence, subject, body, last_updated, origin)


# Every version that landed with what it is at :at; tombstones are no resources and are not counted.
_STATES = """
SELECT r.type, r.id, r.version, r.sequence, r.subject, r.origin, CASE
    WHEN r.superseded_by IS NULL OR r.superseded_by > :at
        THEN CASE r.kind WHEN 0 THEN 'current' WHEN 2 THEN 'own_output' ELSE 'unreadable' END
    WHEN t.kind = 1 AND (t.superseded_by IS NULL OR t.superseded_by > :at) THEN 'deleted'
    ELSE 'superseded' END AS state
FROM landed r LEFT JOIN landed t ON t.sequence = r.superseded_by
WHERE r.sequence <= :at AND r.kind <> 1
"""
