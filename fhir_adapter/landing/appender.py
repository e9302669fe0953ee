"""Batches at the end of a landing, one after the other: written here, or if they are large by a process of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fhir_adapter.arrivals import Arrival, Checkpoint, Outcome
from fhir_adapter.errors import LandingError
from fhir_adapter.landing import segments
from fhir_adapter.landing.index import last_sequence, segment_lengths
from fhir_adapter.landing.process import LARGE, MANY, EndedError, WritingProcess
from fhir_adapter.landing.writing import UnwritableError, write

__all__ = ["Appender"]


class Appender:
    """What writes to a landing, for the run that holds its lock.

    Args:
        folder: `state/<site>/`.
        connection: the index; checked.
        limit: length after which a new segment begins.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection, limit: int) -> None:
        self._folder = folder
        self._connection = connection
        self._writer = self._at_the_end(limit)
        #: The last number that was given, once it is known; nobody else gives one while the lock is held.
        self._sequence: int | None = None
        self._process: WritingProcess | None = None
        #: A batch is with the process, which has not said yet what became of it.
        self._under_way = False
        #: What became of batches that were with the process, and has not been told.
        self._settled = Outcome()

    def append(self, items: list[Arrival], marks: list[Checkpoint], *, apart: bool) -> Outcome:
        """Writes a batch, here or in the process.

        Args:
            items: the arrivals, in the order in which they came.
            marks: checkpoints that become true with them.
            apart: a large batch may be with the process when this returns.

        Returns:
            What became of this batch and of those before, as far as it is known and was not told.

        Raises:
            LandingError: it cannot be written, or the batch cannot that was with the process; then this one is not.
        """
        process = self._apart(items) if apart else None
        if process is None:
            self._settled.add(self.write(items, marks))
        else:
            # Before the last batch is waited for: the process works on that meanwhile.
            packed = process.packed(items, marks)
            self.wait()
            with self._telling(process):
                process.hand_over(packed, self._writer, self._last())
            self._under_way = True
        return self._told()

    def write(self, items: list[Arrival], marks: list[Checkpoint]) -> Outcome:
        """Writes a batch here; what became of this one alone.

        Raises:
            LandingError: as `append`.
        """
        self.wait()
        with self._telling(None):
            outcome, self._sequence = write(self._connection, self._writer, self._last(), items, marks)
        return outcome

    def settle(self) -> Outcome:
        """Waits for what the process has; what became of it, as far as no call has told yet.

        Raises:
            LandingError: it cannot be written.
        """
        self.wait()
        return self._told()

    def wait(self) -> None:
        """Waits for what the process has, and keeps what became of it.

        Raises:
            LandingError: it cannot be written.
        """
        if self._under_way and self._process is not None:
            self._under_way = False
            with self._telling(self._process):
                outcome, self._sequence = self._process.answer(self._writer)
                self._settled.add(outcome)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Has nothing open while something else changes the landing, and then goes on from where that ends.

        Raises:
            LandingError: as `wait`.
        """
        self.wait()
        self.close()
        try:
            yield
        finally:
            self._writer = self._at_the_end(self._writer.limit)

    def close(self) -> None:
        """Ends the process, with the batch that it has, and closes files."""
        if self._process is not None:
            self._process.close()
            self._process = None
        self._under_way = False
        self._writer.close()

    def _last(self) -> int:
        return last_sequence(self._connection) if self._sequence is None else self._sequence

    def _told(self) -> Outcome:
        told, self._settled = self._settled, Outcome()
        return told

    def _at_the_end(self, limit: int) -> segments.SegmentWriter:
        """A writer that goes on where the landing ends by the index."""
        lengths = segment_lengths(self._connection)
        last = max(lengths, default=1)
        return segments.SegmentWriter(self._folder / "segments", last, lengths.get(last, 0), limit)

    def _apart(self, items: list[Arrival]) -> WritingProcess | None:
        """The process, once it is ready, if the batch is one for it."""
        if len(items) < MANY or sum([len(item.body) for item in items]) > LARGE:
            return None
        if self._process is None:
            try:
                self._process = WritingProcess(self._folder)
            except OSError:  # the system allows no more processes: it goes on alone
                return None
        return self._process if self._process.ready() else None

    @contextmanager
    def _telling(self, process: WritingProcess | None) -> Iterator[None]:
        """Tells why a batch could not be written; a process that did not say so is left."""
        try:
            yield
        except UnwritableError as error:
            raise LandingError(
                f"the landing cannot be written ({error})",
                where=self._folder.name,
                remedy="What landed before is whole; mend the disk and pull again.",
            ) from error
        except BaseException as error:
            if process is not None:
                self._leave(process)
            if isinstance(error, EndedError):
                raise LandingError(
                    "the process that writes the landing has ended",
                    where=self._folder.name,
                    remedy="What landed is whole; pull again. Was it killed for want of memory?",
                ) from error
            raise

    def _leave(self, process: WritingProcess) -> None:
        """Goes on without the process, from where the landing ends by the index: its last batch is there or not."""
        process.kill()
        self._process = self._sequence = None
        self._writer.close()
        segments.settle(self._folder / "segments", segment_lengths(self._connection), cut=True)
        self._writer = self._at_the_end(self._writer.limit)
