"""A process that writes batches for a pull, so that reading pages and writing them to disk do not share an interpreter.

It is there for nothing but speed: it writes what `writing.write` writes, and the landing writes by itself until it
is ready, where it cannot be started, and whatever is small.

Two processes never write at once. The run that holds `landing.lock` writes nothing, and hands over nothing more, before
it has the answer; meanwhile it reads on, and packs the next batch. The process holds
`writer.lock` as long as it lives: if its run is killed it ends, at the latest with the batch that it has, and whoever
takes `landing.lock` next waits for that.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import select
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import filelock
import msgspec

from fhir_adapter.arrivals import Arrival, Checkpoint, Outcome
from fhir_adapter.defects import defect
from fhir_adapter.landing.index import reopen
from fhir_adapter.landing.lock import writer_lock
from fhir_adapter.landing.segments import SegmentWriter
from fhir_adapter.landing.writing import UnwritableError, write

__all__ = ["LARGE", "MANY", "EndedError", "WritingProcess", "main"]

#: A batch of so many arrivals is worth the way to another process and back.
MANY = 1000
#: A batch of more bytes than these is not: it would be in memory five times.
LARGE = 32 * 1024 * 1024

_PROGRAM = "import sys; sys.path[:] = {path!r}; from fhir_adapter.landing.process import main; main()"
_LENGTH = struct.Struct("<Q")
# Before a batch: its length, and where the landing ends: sequence, segment, its length and limit.
_HEAD = struct.Struct("<QQQQQ")
_READY = b"\1"
# Bytes that a pipe holds; by default a sixteenth.
_PIPE = 1024 * 1024
_LOCK_S = 60.0
_LOOK_S = 1.0


class EndedError(Exception):
    """The process is no longer there; what became of the batch that it had is not known."""


class _Job(msgspec.Struct, frozen=True, array_like=True):
    """A batch."""

    items: list[Arrival]
    marks: list[Checkpoint]


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    """What became of a batch, and where the landing ends now; why it could not be written, or ""."""

    outcome: Outcome
    sequence: int
    segment: int
    length: int
    failure: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode_job = msgspec.msgpack.Decoder(_Job).decode
_decode_answer = msgspec.msgpack.Decoder(_Answer).decode


class WritingProcess:
    """The process, as the run sees it that started it.

    Args:
        folder: `state/<site>/`, of which this process holds the lock.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(path=sys.path), str(folder.absolute()), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            process_group=0,  # what is typed at the terminal is for the run alone
        )
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        self._to, self._from = self._process.stdin, self._process.stdout
        self._ready = False
        with contextlib.suppress(AttributeError, OSError):  # Linux has it, within a limit of the system
            fcntl.fcntl(self._to, fcntl.F_SETPIPE_SZ, _PIPE)

    def ready(self, seconds: float = 0.0) -> bool:
        """Whether it holds its lock and waits for a batch; so long is waited for that."""
        if not self._ready and select.select([self._from], [], [], seconds)[0]:
            self._ready = os.read(self._from.fileno(), 1) == _READY
        return self._ready

    @staticmethod
    def packed(items: list[Arrival], marks: list[Checkpoint]) -> bytes:
        """A batch as `hand_over` takes it."""
        return _encode(_Job(items, marks))

    def hand_over(self, batch: bytes, writer: SegmentWriter, sequence: int) -> None:
        """Has a batch written, as `writing.write` does; `answer` tells what became of it, and comes next.

        Args:
            batch: as `packed` has it.
            writer: at the place that the index knows; it writes nothing meanwhile.
            sequence: the last number that was given.

        Raises:
            EndedError: the process is no longer there.
        """
        try:
            for part in (_HEAD.pack(len(batch), sequence, writer.number, writer.length, writer.limit), batch):
                view = memoryview(part)
                while view:
                    view = view[os.write(self._to.fileno(), view) :]
        except BrokenPipeError as error:
            raise EndedError from error

    def answer(self, writer: SegmentWriter) -> tuple[Outcome, int]:
        """What became of the batch, as `writing.write` has it; waits for that.

        Args:
            writer: is moved to where the process left its own.

        Raises:
            UnwritableError: as `writing.write`.
            EndedError: the process is no longer there.
        """
        answer = _decode_answer(self._read(_LENGTH.unpack(self._read(_LENGTH.size))[0]))
        if answer.failure:
            raise UnwritableError(answer.failure)
        writer.move(answer.segment, answer.length)
        return answer.outcome, answer.sequence

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = os.read(self._from.fileno(), size - len(data))
            if not part:
                raise EndedError
            data += part
        return data

    def close(self) -> None:
        """Ends it, and waits for that."""
        self._to.close()
        self._process.wait()
        self._from.close()

    def kill(self) -> None:
        """Ends it at once, whatever it does, and waits for that."""
        self._process.kill()
        self.close()


def main() -> None:
    """The process itself: writes the batches that come by standard input, until its run closes that or is gone."""
    folder, parent = Path(sys.argv[1]), int(sys.argv[2])
    gc.disable()  # arrivals and rows are no cycles
    try:
        with writer_lock(folder).acquire(timeout=_LOCK_S):
            _serve(folder, parent)
    except filelock.Timeout:
        return  # the run goes on without
    except BrokenPipeError:
        return  # it is gone
    except Exception as error:  # noqa: BLE001 - the run tells the rest; a traceback might quote a resource
        sys.stderr.write(f"fhir-adapter, writing the landing: {defect(error)}\n")
        sys.exit(70)


def _serve(folder: Path, parent: int) -> None:
    connection = reopen(folder / "index.sqlite")
    try:
        os.write(1, _READY)
        while (head := _part(_HEAD.size, parent)) is not None:
            size, *place = _HEAD.unpack(head)
            data = _part(size, parent)
            if data is None:
                return
            job = _decode_job(data)
            del data
            text = _encode(_done(connection, folder / "segments", job, *place))
            del job
            os.write(1, _LENGTH.pack(len(text)) + text)
    finally:
        connection.close()


def _done(
    connection: sqlite3.Connection,
    segments: Path,
    job: _Job,
    sequence: int,
    segment: int,
    length: int,
    limit: int,
) -> _Answer:
    # No file is kept open between batches: a purge may put another one in its place.
    writer = SegmentWriter(segments, segment, length, limit)
    try:
        outcome, sequence = write(connection, writer, sequence, job.items, job.marks)
    except UnwritableError as error:
        return _Answer(Outcome(), sequence, segment, length, str(error))
    finally:
        writer.close()
    return _Answer(outcome, sequence, writer.number, writer.length)


def _part(size: int, parent: int) -> bytearray | None:
    """So many bytes of standard input; None if it ends before, or the run is gone."""
    data = bytearray(size)
    view, position = memoryview(data), 0
    while position < size:
        # Whoever else has the other end of the pipe: a process whose parent is gone has another one.
        while not select.select([0], [], [], _LOOK_S)[0]:
            if os.getppid() != parent:
                return None
        number = os.readv(0, [view[position:]])
        if not number:
            return None
        position += number
    return data
