"""The journal of a landing: when it was migrated, purged or repaired, in numbers; nothing that names a patient."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from typing import Any

__all__ = ["enter", "read"]


def enter(connection: sqlite3.Connection, action: str, numbers: dict[str, int]) -> None:
    """Enters what was done, in the transaction that does it.

    Args:
        connection: the index.
        action: `migrated`, `purged` or `repaired`.
        numbers: what was done, counted.
    """
    moment = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    connection.execute(
        "INSERT INTO journal (moment, action, numbers) VALUES (?, ?, ?)",
        (moment, action, json.dumps(numbers, sort_keys=True)),
    )


def read(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """All entries in their order: `moment` (UTC), `action`, and the numbers."""
    return [
        {"moment": moment, "action": action, **json.loads(numbers)}
        for moment, action, numbers in connection.execute(
            "SELECT moment, action, numbers FROM journal ORDER BY number"
        )
    ]
