"""One batch of arrivals becoming rows of the index and bytes of a segment."""

from __future__ import annotations

import datetime as dt
import sqlite3

from fhir_adapter.connectors.arrivals import Arrival, Outcome
from fhir_adapter.landing.index import DELETED, OWN_OUTPUT, RESOURCE, UNREADABLE, last_sequence

__all__ = ["Batch"]

_KIND = {"resource": RESOURCE, "deleted": DELETED, "own-output": OWN_OUTPUT, "unreadable": UNREADABLE}


def _instant(text: str) -> dt.datetime | None:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _is_older(item: Arrival, version: str, last_updated: str) -> bool:
    """Whether an arrival is an older version than the one that is current.

    `meta.lastUpdated` decides, then a numeric `meta.versionId`; without either the later arrival is the newer
    one.
    """
    ours, theirs = _instant(item.last_updated), _instant(last_updated)
    if ours is not None and theirs is not None and ours != theirs:
        return ours < theirs
    if item.version.isdecimal() and version.isdecimal():
        return int(item.version) < int(version)
    return False


class Batch:
    """Rows and bytes of one batch, inside a transaction."""

    def __init__(self, connection: sqlite3.Connection, segment: int, offset: int) -> None:
        self.outcome = Outcome()
        self.data = bytearray()
        self._connection = connection
        self._segment = segment
        self._offset = offset
        self._sequence = last_sequence(connection)

    def add(self, item: Arrival) -> None:
        """Lands one arrival."""
        current = self._connection.execute(
            "SELECT sequence, kind, sha256, version, last_updated FROM landed "
            "WHERE type = ? AND id = ? AND superseded_by IS NULL",
            (item.type, item.id),
        ).fetchone()
        if item.state == "deleted":
            if current is not None and current[1] != DELETED:
                self._insert(item, None, current[0])
                self.outcome.deleted += 1
            return
        if item.refs:
            self._connection.executemany(
                "INSERT OR IGNORE INTO reference (type, id) VALUES (?, ?)", item.refs
            )
        kind = _KIND[item.state]
        if current is not None and current[1] == kind and current[2] == item.sha256:
            self.outcome.unchanged += 1
            return
        if current is not None and current[1] != DELETED and _is_older(item, current[3], current[4]):
            if self._connection.execute(
                "SELECT 1 FROM landed WHERE type = ? AND id = ? AND sha256 = ? LIMIT 1",
                (item.type, item.id, item.sha256),
            ).fetchone():
                self.outcome.unchanged += 1
                return
            # It was superseded before it came: the row that did it has the lower number.
            self._insert(item, current[0], None)
            self.outcome.older += 1
            return
        self._insert(item, None, None if current is None else current[0])
        if item.state == "own-output":
            self.outcome.own_output += 1
        elif item.state == "unreadable":
            self.outcome.unreadable += 1
        elif current is None or current[1] == DELETED:
            self.outcome.new += 1
        else:
            self.outcome.changed += 1

    def _insert(self, item: Arrival, superseded_by: int | None, supersedes: int | None) -> None:
        self._sequence += 1
        stored = bool(item.body)
        self._connection.execute(
            "INSERT INTO landed (sequence, type, id, version, last_updated, subject, kind, sha256, segment, "
            "offset, length, origin, superseded_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._sequence, item.type, item.id, item.version, item.last_updated, item.subject,
                _KIND[item.state], item.sha256, self._segment if stored else None,
                self._offset + len(self.data) if stored else None, len(item.body), item.origin, superseded_by,
            ),
        )  # fmt: skip
        if stored:
            self.data += item.body
            self.data += b"\n"
        if supersedes is not None:
            self._connection.execute(
                "UPDATE landed SET superseded_by = ? WHERE sequence = ?", (self._sequence, supersedes)
            )
