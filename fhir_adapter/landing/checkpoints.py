"""Checkpoints: how far each query has been pulled, kept in the index beside what it brought.

A checkpoint belongs to one subject and one query (its hash), not to a resource type: a subject who joins
later, or a query that changes, has no checkpoint and is pulled in full. It is written in the transaction that
lands the last page, so it never vouches for a page that did not land.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from fhir_adapter.arrivals import Checkpoint
from fhir_adapter.errors import LandingError

__all__ = ["get", "put"]


def get(connection: sqlite3.Connection, key: str) -> dict[str, Any] | None:
    """Value of a checkpoint, or None if its query has never been pulled to the end.

    Raises:
        LandingError: what is stored is not a checkpoint.
    """
    row = connection.execute("SELECT value FROM checkpoint WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    value = json.loads(row[0])
    if not isinstance(value, dict):
        raise LandingError("a checkpoint is damaged", remedy="Pull again with --full.")
    return value


def put(connection: sqlite3.Connection, items: Iterable[Checkpoint]) -> None:
    """Writes checkpoints; the caller has begun the transaction."""
    connection.executemany(
        "INSERT INTO checkpoint (key, value) VALUES (?, ?) "
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [(item.key, json.dumps(item.value, sort_keys=True)) for item in items],
    )
