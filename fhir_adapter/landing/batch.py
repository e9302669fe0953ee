"""One batch of arrivals becoming rows of the index and bytes of a segment."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec

from fhir_adapter.connectors.arrivals import Arrival, Outcome
from fhir_adapter.landing.index import DELETED, OWN_OUTPUT, RESOURCE, UNREADABLE

__all__ = ["Batch"]

_KIND = {"resource": RESOURCE, "deleted": DELETED, "own-output": OWN_OUTPUT, "unreadable": UNREADABLE}
_COLUMNS = (
    "sequence", "type", "id", "version", "last_updated", "subject", "kind", "sha256", "segment", "offset", "length",
    "origin", "superseded_by",
)  # fmt: skip
#: Rows of one statement: few texts, so that each is compiled once. SQLite takes at least 32,766 values in one
#: (SQLITE_MAX_VARIABLE_NUMBER since 3.32).
_ROWS = (1000, 50, 1)


@cache
def _insert(rows: int) -> str:
    row = f"({', '.join('?' * len(_COLUMNS))})"
    return f"INSERT INTO landed ({', '.join(_COLUMNS)}) VALUES {', '.join([row] * rows)}"  # noqa: S608 - names of columns


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


#: What of a current row decides about an arrival: sequence, kind, SHA-256, version, last update.
_Row = tuple[int, int, bytes, str, str]


class Batch:
    """Rows and bytes of one batch, inside a transaction.

    What is current of a batch's keys is asked for at once, and its rows are inserted by a few long statements:
    SQLite works on a statement without holding the interpreter, so that the next pages are read meanwhile.

    Args:
        connection: in a transaction.
        segment: number of the segment that the bytes go to.
        offset: its length now.
        sequence: the last number that was given.
    """

    def __init__(self, connection: sqlite3.Connection, segment: int, offset: int, sequence: int) -> None:
        self.outcome = Outcome()
        self._connection = connection
        self._segment = segment
        self._sequence = sequence
        self._position = offset
        self._lines: list[bytes] = []
        self._values: list[Any] = []
        self._superseded: list[tuple[int, int]] = []

    @property
    def sequence(self) -> int:
        """The last number that was given."""
        return self._sequence

    @property
    def data(self) -> bytes:
        """What goes to the end of the segment."""
        return b"\n".join([*self._lines, b""])

    def land(self, items: Iterable[Arrival]) -> None:
        """Lands arrivals, in the order in which they came; once for a batch."""
        arrivals = list(items)
        current = self._current(arrivals)
        refs: dict[tuple[str, str], None] = {}
        # New resources, which a first pull has by the million, are landed here without a call for each.
        sequence, position, values, lines = self._sequence, self._position, self._values, self._lines
        for item in arrivals:
            key = (item.type, item.id)
            if item.state == "resource" and key not in current:
                sequence += 1
                body, digest, version, last_updated = item.body, item.sha256, item.version, item.last_updated
                values += (
                    sequence, item.type, item.id, version, last_updated, item.subject, RESOURCE, digest,
                    self._segment, position, len(body), item.origin, None,
                )  # fmt: skip
                lines.append(body)
                position += len(body) + 1
                current[key] = (sequence, RESOURCE, digest, version, last_updated)
                self.outcome.new += 1
            else:
                self._sequence, self._position = sequence, position
                self._add(item, current)
                sequence, position = self._sequence, self._position
            if item.refs and item.state != "deleted":
                refs.update(dict.fromkeys(item.refs))
        self._sequence, self._position = sequence, position
        done = 0
        for rows in _ROWS:
            size = rows * len(_COLUMNS)
            while len(self._values) - done >= size:
                self._connection.execute(_insert(rows), self._values[done : done + size])
                done += size
        self._connection.executemany(
            "UPDATE landed SET superseded_by = ? WHERE sequence = ?", self._superseded
        )
        self._connection.executemany("INSERT OR IGNORE INTO reference (type, id) VALUES (?, ?)", refs)

    def _current(self, arrivals: list[Arrival]) -> dict[tuple[str, str], _Row]:
        """The current rows of the keys of some arrivals."""
        ids: dict[str, list[str]] = {}
        for item in arrivals:
            ids.setdefault(item.type, []).append(item.id)
        found: dict[tuple[str, str], _Row] = {}
        for type_, wanted in ids.items():
            for row in self._connection.execute(
                "SELECT id, sequence, kind, sha256, version, last_updated FROM landed WHERE type = ? "
                "AND superseded_by IS NULL AND id IN (SELECT value FROM json_each(?))",
                (type_, msgspec.json.encode(wanted).decode()),
            ):
                found[type_, row[0]] = row[1:]
        return found

    def _add(self, item: Arrival, current: dict[tuple[str, str], _Row]) -> None:
        key = (item.type, item.id)
        now = current.get(key)
        kind = _KIND[item.state]
        if now is None:
            if kind != DELETED:
                current[key] = self._insert(item, kind)
                self._count(kind, changed=False)
            return
        sequence, was, digest, version, last_updated = now
        if kind == DELETED:
            if was != DELETED:
                current[key] = self._insert(item, kind, supersedes=sequence)
                self.outcome.deleted += 1
        elif was == kind and digest == item.sha256:
            self.outcome.unchanged += 1
        elif was != DELETED and _is_older(item, version, last_updated):
            if self._has(item):
                self.outcome.unchanged += 1
            else:
                # It was superseded before it came: the row that did it has the lower number.
                self._insert(item, kind, superseded_by=sequence)
                self.outcome.older += 1
        else:
            current[key] = self._insert(item, kind, supersedes=sequence)
            self._count(kind, changed=was != DELETED)

    def _count(self, kind: int, *, changed: bool) -> None:
        if kind == OWN_OUTPUT:
            self.outcome.own_output += 1
        elif kind == UNREADABLE:
            self.outcome.unreadable += 1
        elif changed:
            self.outcome.changed += 1
        else:
            self.outcome.new += 1

    def _has(self, item: Arrival) -> bool:
        """Whether this very content has landed, in this batch or before."""
        key = (item.type, item.id, item.sha256)
        row = self._connection.execute(
            "SELECT 1 FROM landed WHERE type = ? AND id = ? AND sha256 = ? LIMIT 1", key
        ).fetchone()
        width = len(_COLUMNS)
        here = (tuple(self._values[at + 1 : at + 8]) for at in range(0, len(self._values), width))
        return row is not None or any(key == (one[0], one[1], one[6]) for one in here)

    def _insert(
        self, item: Arrival, kind: int, *, supersedes: int | None = None, superseded_by: int | None = None
    ) -> _Row:
        self._sequence += 1
        body, stored, position = item.body, bool(item.body), self._position
        self._values += (
            self._sequence, item.type, item.id, item.version, item.last_updated, item.subject,
            kind, item.sha256, self._segment if stored else None,
            position if stored else None, len(body), item.origin, superseded_by,
        )  # fmt: skip
        if stored:
            self._lines.append(body)
            self._position = position + len(body) + 1
        if supersedes is not None:
            self._superseded.append((self._sequence, supersedes))
        return (self._sequence, kind, item.sha256, item.version, item.last_updated)
