"""Taking rows out of the index, and their bytes out of the segments, so that nothing of them is left on disk.

The segments that hold them are written anew without them; one transaction then moves the index to the new segments
and forgets the rows, and the old files go. What SQLite keeps of deleted rows (free pages, the write-ahead log) is
overwritten and cut. A process that is killed on the way leaves the landing as it was, or a clean-up that is done when
the landing is next opened for writing.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from fhir_adapter.errors import LandingError
from fhir_adapter.landing.segments import SegmentReader, segment_path
from fhir_adapter.rundir import FILE_MODE, sync_dir

__all__ = ["begin", "finish", "forget_checkpoints", "take_out"]

_COPY = 4 * 1024 * 1024


def begin(connection: sqlite3.Connection) -> None:
    """Makes the empty table `doomed` (sequence), which takes the rows that are to go."""
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS doomed (sequence INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM doomed")


def take_out(
    connection: sqlite3.Connection, folder: Path, segments: Iterable[int], also: Callable[[], None]
) -> None:
    """Takes out the rows of `doomed`, and all bytes of some segments that belong to no other row.

    Args:
        connection: the index; `begin` was called.
        folder: the folder of segments; no writer has one open.
        segments: numbers of the segments to write anew: each that holds a doomed row.
        also: what else is forgotten in the same transaction.

    Raises:
        LandingError: a segment cannot be read or written; then nothing was taken out.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Numbers are never given twice: an older run reads the landing at its own number.
        connection.execute(
            "INSERT INTO meta SELECT 'sequence', coalesce(max(sequence), 0) FROM landed WHERE true "
            "ON CONFLICT (key) DO UPDATE SET value = max(CAST(value AS INTEGER), CAST(excluded.value AS INTEGER))"
        )
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('purging', '1')")
        for segment in segments:
            _rewrite(connection, folder, segment)
        connection.execute("DELETE FROM landed WHERE sequence IN (SELECT sequence FROM doomed)")
        also()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.execute("DROP TABLE IF EXISTS doomed")
    finish(connection, folder)


def forget_checkpoints(connection: sqlite3.Connection, prefix: str) -> int:
    """Deletes the checkpoints whose key begins with a text that ends in `|`; how many there were."""
    return connection.execute(
        "DELETE FROM checkpoint WHERE key >= ? AND key < ?", (prefix, prefix[:-1] + "}")
    ).rowcount


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
