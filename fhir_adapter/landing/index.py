"""The index of a landing: one SQLite row per resource version that landed.

A row is never changed except to say which later row superseded it, so the state of the landing at any earlier
sequence number can be read: a row is current at sequence S if it came at or before S and what superseded it
came after S. A run keeps its sequence number and reads the same resources for as long as it is kept.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from fhir_adapter.errors import LandingError
from fhir_adapter.landing.migrate import SCHEMA_VERSION, migrate
from fhir_adapter.rundir import FILE_MODE

__all__ = [
    "DELETED",
    "OWN_OUTPUT",
    "REMEDY",
    "RESOURCE",
    "UNREADABLE",
    "connect",
    "identity",
    "last_sequence",
    "reopen",
    "segment_lengths",
]

#: What an operator does about a damaged landing.
REMEDY = "`fhir-adapter landing repair` takes out what is damaged, and the next pull brings it again."

RESOURCE, DELETED, OWN_OUTPUT, UNREADABLE = 0, 1, 2, 3


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Opens the index, making it or bringing it to this release's version where it may be written.

    Args:
        path: the SQLite file.
        read_only: whether nothing may be written.

    Returns:
        A connection in autocommit mode; transactions are begun in so many words.

    Raises:
        LandingError: the file is missing, not an index, damaged, or of another version.
    """
    if read_only and not path.exists():
        raise LandingError(
            "there is no landing here", where=path.parent.name, remedy="`fhir-adapter pull` makes one."
        )
    if not path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, FILE_MODE))
    try:
        connection = _open(path, read_only=read_only)
        if not read_only:
            if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                connection.close()
                raise LandingError("the index is damaged", where=path.name, remedy=REMEDY)
            version = migrate(connection, path)
        else:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise LandingError(
            f"the index cannot be read ({error})",
            where=path.name,
            remedy=REMEDY,
        ) from error
    if version != SCHEMA_VERSION:
        connection.close()
        raise LandingError(
            f"the index has version {version}; this release reads {SCHEMA_VERSION}",
            where=path.name,
            remedy="`fhir-adapter landing migrate` or the next pull brings it to this version, and keeps a copy."
            if version < SCHEMA_VERSION
            else "Use the release that wrote it, or pull into a new state folder.",
        )
    return connection


def reopen(path: Path) -> sqlite3.Connection:
    """Another connection for writing, of the run that has checked the index and holds its lock.

    Args:
        path: the SQLite file.
    """
    return _open(path, read_only=False)


def _open(path: Path, *, read_only: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{path.absolute()}?mode={'ro' if read_only else 'rw'}".replace("#", "%23"),
        uri=True,
        isolation_level=None,
        timeout=30,
    )
    connection.execute("PRAGMA busy_timeout = 30000")
    if not read_only:
        # Readers go on while a pull writes; FULL, because a checkpoint must not be newer than what it vouches for.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # Pages of the two indexes are written again and again while a pull goes on; 32 MB of them are copied
        # from the journal to the file at once, and 16 MB kept in memory.
        connection.execute("PRAGMA wal_autocheckpoint = 8000")
        connection.execute("PRAGMA cache_size = -16000")
    return connection


def segment_lengths(connection: sqlite3.Connection) -> dict[int, int]:
    """Length in bytes of each segment, by its number, in their order."""
    return dict(connection.execute("SELECT number, length FROM segment ORDER BY number").fetchall())


def last_sequence(connection: sqlite3.Connection) -> int:
    """Latest sequence number that was given; 0 if nothing has landed.

    A number is never given twice, not even if a purge has taken the last rows out.
    """
    row = connection.execute(
        "SELECT max(coalesce((SELECT max(sequence) FROM landed), 0), "
        "coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'sequence'), 0))"
    ).fetchone()
    return int(row[0])


def identity(connection: sqlite3.Connection) -> str:
    """Name of the landing: sequence numbers of one landing say nothing about another."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'identity'").fetchone()
    return str(row[0]) if row else ""
