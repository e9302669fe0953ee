"""One batch of arrivals becoming rows of the index and bytes of a segment."""

from __future__ import annotations

import datetime as dt
import itertools
import sqlite3
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from typing import Any

import msgspec

from fhir_adapter.arrivals import Arrival, Outcome
from fhir_adapter.landing.index import DELETED, OWN_OUTPUT, RESOURCE, UNREADABLE

__all__ = ["Batch"]

_KIND = {"resource": RESOURCE, "deleted": DELETED, "own-output": OWN_OUTPUT, "unreadable": UNREADABLE}
_COLUMNS = (
    "sequence", "type", "id", "version", "last_updated", "subject", "kind", "sha256", "segment", "offset", "length",
    "origin", "superseded_by",
)  # fmt: skip
_INSERT = f"INSERT INTO landed ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - names of columns
#: What differs between new resources, in the order of the columns: the kind and what superseded it are known. A value
#: that is None or bytes goes through `sqlite3`'s adapters and costs as much as ten others; a bytearray does not.
_NEW = "?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, NULL"
_NEW_VALUES = _NEW.count("?")
#: Rows of one statement, as coins: few statements for a batch of round pages, and each of a few texts, which are
#: compiled once. SQLite takes at least 32,766 values in one (SQLITE_MAX_VARIABLE_NUMBER since 3.32).
_ROWS = (3000, 2000, 1000, 500, 200, 100, 50, 20, 10, 5, 2, 1)


@cache
def _insert_new(rows: int) -> str:
    return f"INSERT INTO landed ({', '.join(_COLUMNS)}) VALUES {', '.join([f'({_NEW})'] * rows)}"  # noqa: S608 - names of columns


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
        self._new: list[Any] = []  # values of new resources, one row after the other
        self._others: list[tuple[Any, ...]] = []  # whole rows
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
        if current or not self._all_new(arrivals):
            for item in arrivals:
                self._add(item, current)
        refs = dict.fromkeys(itertools.chain.from_iterable([item.refs for item in arrivals]))
        self._insert_all()
        if self._superseded:
            self._connection.executemany(
                "UPDATE landed SET superseded_by = ? WHERE sequence = ?", self._superseded
            )
        if refs:
            self._connection.executemany("INSERT OR IGNORE INTO reference (type, id) VALUES (?, ?)", refs)

    def _insert_all(self) -> None:
        done = 0
        for rows in _ROWS:
            size = rows * _NEW_VALUES
            while len(self._new) - done >= size:
                self._connection.execute(_insert_new(rows), self._new[done : done + size])
                done += size
        if self._others:
            self._connection.executemany(_INSERT, self._others)

    def _all_new(self, arrivals: list[Arrival]) -> bool:
        """Lands arrivals column by column if they are resources, each another one; of none a row is current.

        A first pull has these by the million: one by one takes three times as long.
        """
        if not arrivals or {item.state for item in arrivals} != {"resource"}:
            return False
        # Lists of texts and numbers: tuples by the thousand would set off Python's garbage collector.
        if len({f"{item.type}/{item.id}" for item in arrivals}) < len(arrivals):
            return False
        row = self._new.extend
        sequence, position = self._sequence, self._position
        for sequence, item in enumerate(arrivals, start=sequence + 1):  # noqa: B020 - goes on
            length = len(item.body)
            row((
                sequence, item.type, item.id, item.version, item.last_updated, item.subject,
                bytearray(item.sha256 or sha256(item.body).digest()), self._segment, position, length, item.origin,
            ))  # fmt: skip
            position += length + 1
        self._lines = [item.body for item in arrivals]
        self._sequence, self._position = sequence, position
        self.outcome.new = len(arrivals)
        return True

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
        if item.body and not item.sha256:
            item = msgspec.structs.replace(item, sha256=sha256(item.body).digest())
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
        # Rows that stand in `_new` are of a batch in which nothing is older than anything.
        others = ((*one[1:6], one[7]) for one in self._others)
        return row is not None or any(key == (one[0], one[1], one[5]) for one in others)

    def _insert(
        self, item: Arrival, kind: int, *, supersedes: int | None = None, superseded_by: int | None = None
    ) -> _Row:
        self._sequence += 1
        body, stored, position = item.body, bool(item.body), self._position
        self._others.append(
            (
                self._sequence, item.type, item.id, item.version, item.last_updated, item.subject,
                kind, item.sha256, self._segment if stored else None,
                position if stored else None, len(body), item.origin, superseded_by,
            )
        )  # fmt: skip
        if stored:
            self._lines.append(body)
            self._position = position + len(body) + 1
        if supersedes is not None:
            self._superseded.append((self._sequence, supersedes))
        return (self._sequence, kind, item.sha256, item.version, item.last_updated)
