"""Writing a batch: its bytes to the segment, its rows and checkpoints to the index, all or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from fhir_adapter.arrivals import Arrival, Checkpoint, Outcome
from fhir_adapter.landing import checkpoints
from fhir_adapter.landing.batch import Batch
from fhir_adapter.landing.segments import SegmentWriter

__all__ = ["UnwritableError", "write"]


class UnwritableError(Exception):
    """The disk does not take a batch; the text is that of the system, or of SQLite."""


def write(
    connection: sqlite3.Connection,
    writer: SegmentWriter,
    sequence: int,
    items: Iterable[Arrival],
    marks: Iterable[Checkpoint],
) -> tuple[Outcome, int]:
    """Writes a batch and its checkpoints in one transaction, after its bytes.

    Args:
        connection: the index.
        writer: of the segments; at the place that the index knows.
        sequence: the last number that was given.
        items: the arrivals, in the order in which they came.
        marks: checkpoints that become true with this batch.

    Returns:
        What became of the arrivals, and the last number that is given now.

    Raises:
        UnwritableError: the disk is full, or does not take it for another reason. Nothing of it landed.
    """
    writer.roll()
    before = writer.length
    connection.execute("BEGIN IMMEDIATE")
    try:
        batch = Batch(connection, writer.number, writer.length, sequence)
        batch.land(items)
        data = batch.data
        if data:
            writer.write(data)
            connection.execute(
                "INSERT INTO segment (number, length) VALUES (?, ?) "
                "ON CONFLICT (number) DO UPDATE SET length = excluded.length",
                (writer.number, writer.length),
            )
        checkpoints.put(connection, marks)
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:  # SQLite itself rolls back when the disk is full
            connection.execute("ROLLBACK")
        writer.rewind(before)
        if isinstance(error, OSError | sqlite3.OperationalError):
            raise UnwritableError(str(error)) from error
        raise
    return batch.outcome, batch.sequence
