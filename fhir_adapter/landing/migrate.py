"""The tables of the index, as the steps that lead from each version to the next.

A new index is made by all steps; an older one is brought to this release's version when it is opened for writing, each
step in one transaction with the number of its version, so that a process that is killed leaves the index of a version
and not between two. Before the first step a copy of the index is kept beside it (`index.v1.sqlite`): with that copy in
the place of the index, the release that wrote it goes on from where it ended, for what landed later is cut as a tail.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from fhir_adapter.errors import LandingError
from fhir_adapter.landing import journal
from fhir_adapter.rundir import FILE_MODE, sync_dir

__all__ = ["SCHEMA_VERSION", "STEPS", "copies", "migrate"]

#: Version → the statements that make it of the one before.
STEPS: Mapping[int, str] = {
    1: """
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
""",
    # A run keeps a sequence number; the identity says of which landing, so that after a loss nobody takes the number
    # of one for that of another. The journal keeps what purges and repairs did.
    2: """
CREATE TABLE journal (
    number  INTEGER PRIMARY KEY,
    moment  TEXT NOT NULL,
    action  TEXT NOT NULL,
    numbers TEXT NOT NULL
);
INSERT INTO meta VALUES ('identity', lower(hex(randomblob(8))));
""",
    # Shorter entries in the order in which resources come: an entry ends with the sequence anyway, and what a subject
    # has is sorted when it is read. What has no subject is little, and is read page by page.
    3: """
DROP INDEX landed_key;
CREATE INDEX landed_key ON landed (type, id);
DROP INDEX landed_subject;
CREATE INDEX landed_subject ON landed (subject, type) WHERE subject IS NOT NULL;
CREATE INDEX landed_shared ON landed (type, id) WHERE subject IS NULL;
""",
}

#: Version of the index that this release reads and writes.
SCHEMA_VERSION = max(STEPS)


def copies(folder: Path) -> list[Path]:
    """Copies of the index that were kept before it was brought to another version, and unfinished ones."""
    return sorted([*folder.glob("index.v*.sqlite"), *folder.glob(".index.v*.sqlite.tmp*")])


def migrate(connection: sqlite3.Connection, path: Path) -> int:
    """Makes the tables of a new index, or brings an older one to this release's version.

    Args:
        connection: the index, open for writing; the lock is held.
        path: its file; a copy is kept beside it before anything is changed.

    Returns:
        The version afterwards: that of this release, or the greater one of a newer release, which is not touched.

    Raises:
        LandingError: the copy or a step cannot be written; the index is then as it was after the step before.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    first = version
    if not version:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise LandingError("the file is a database, but no index of a landing", where=path.name)
    elif version < SCHEMA_VERSION:
        _keep_copy(connection, path, version)
    try:
        while version < SCHEMA_VERSION:
            connection.executescript(
                f"BEGIN IMMEDIATE; {STEPS[version + 1]} PRAGMA user_version = {version + 1};"
            )
            version += 1
            if first and version == SCHEMA_VERSION:
                journal.enter(connection, "migrated", {"before": first, "after": version})
            connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise LandingError(
            f"the index cannot be brought to version {SCHEMA_VERSION} ({error})",
            where=path.name,
            remedy="It is as it was; mend the disk and try again.",
        ) from error
    return version


def _keep_copy(connection: sqlite3.Connection, path: Path, version: int) -> None:
    kept = path.with_name(f"index.v{version}.sqlite")
    begun = path.with_name(f".{kept.name}.tmp")
    try:
        begun.unlink(missing_ok=True)  # of a migration that was killed
        descriptor = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        try:
            connection.execute("VACUUM INTO ?", (str(begun),))  # it takes a file that is empty
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        begun.replace(kept)
        sync_dir(path.parent)
    except (OSError, sqlite3.OperationalError) as error:
        raise LandingError(
            f"the copy that is kept of the index cannot be written ({error})",
            where=kept.name,
            remedy="Nothing was changed; make room on the disk and try again.",
        ) from error
