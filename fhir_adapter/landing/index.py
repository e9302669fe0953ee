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
from fhir_adapter.rundir import FILE_MODE

__all__ = [
    "DELETED",
    "OWN_OUTPUT",
    "REMEDY",
    "RESOURCE",
    "SCHEMA_VERSION",
    "UNREADABLE",
    "connect",
    "last_sequence",
]

#: Version of the index; a landing of another version is not touched.
SCHEMA_VERSION = 1

#: What an operator does about a damaged landing.
REMEDY = "Restore the landing from a backup, or remove the site's state folder and pull again in full."

RESOURCE, DELETED, OWN_OUTPUT, UNREADABLE = 0, 1, 2, 3

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE segment (number INTEGER PRIMARY KEY, length INTEGER NOT NULL);
CREATE TABLE landed (
    sequence      INTEGER PRIMARY KEY,
    type          TEXT NOT NULL,
    id            TEXT NOT NULL,
    version       TEXT NOT NULL,
    last_updated  TEXT NOT NULL,
    subject       TEXT,
    kind          INTEGER NOT NULL,
    sha256        BLOB NOT NULL,
    segment       INTEGER,
    offset        INTEGER,
    length        INTEGER NOT NULL,
    origin        TEXT NOT NULL,
    superseded_by INTEGER
);
CREATE INDEX landed_key ON landed (type, id, sequence);
CREATE INDEX landed_subject ON landed (subject, type, id);
CREATE INDEX landed_unreadable ON landed (origin) WHERE kind = 3 AND superseded_by IS NULL;
CREATE TABLE reference (type TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (type, id)) WITHOUT ROWID;
CREATE TABLE checkpoint (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Opens the index, making it if it is not there and may be made.

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
    mode = "ro" if read_only else "rw"
    try:
        connection = sqlite3.connect(
            f"file:{path.absolute()}?mode={mode}".replace("#", "%23"),
            uri=True,
            isolation_level=None,
            timeout=30,
        )
        connection.execute("PRAGMA busy_timeout = 30000")
        if not read_only:
            # Readers go on while a pull writes; FULL, because a checkpoint must not be newer than what it
            # vouches for.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables == 0 and version == 0 and not read_only:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            version = SCHEMA_VERSION
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
            remedy="Use the release that wrote it, or pull into a new state folder.",
        )
    return connection


def last_sequence(connection: sqlite3.Connection) -> int:
    """Latest sequence number that was given; 0 if nothing has landed.

    A number is never given twice, not even if a purge has taken the last rows out.
    """
    row = connection.execute(
        "SELECT max(coalesce((SELECT max(sequence) FROM landed), 0), "
        "coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'sequence'), 0))"
    ).fetchone()
    return int(row[0])
