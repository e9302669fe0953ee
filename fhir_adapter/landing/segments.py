"""Segments: append-only NDJSON files that hold the resources as they came, one per line.

A segment is written to its end and synced before the index says what is in it. What stands behind the length
that the index knows is the tail of a run that was killed; it is cut when the landing is opened for writing.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from fhir_adapter.errors import LandingError
from fhir_adapter.landing.index import REMEDY
from fhir_adapter.rundir import FILE_MODE, private_dir, sync_dir

__all__ = ["SEGMENT_BYTES", "SegmentReader", "SegmentWriter", "segment_path", "settle"]

#: A segment that has reached this length is followed by a new one.
SEGMENT_BYTES = 256 * 1024 * 1024


def segment_path(folder: Path, number: int) -> Path:
    """Path of a segment by its number (from 1)."""
    return folder / f"{number:06d}.ndjson"


def settle(folder: Path, lengths: dict[int, int], *, cut: bool) -> int:
    """Compares the segments with what the index knows, and cuts orphan tails.

    Args:
        folder: the folder of segments.
        lengths: length in bytes of each segment by the index.
        cut: whether tails may be cut (the lock is held).

    Returns:
        Bytes that were cut.

    Raises:
        LandingError: a segment is missing or shorter than the index says.
    """
    removed = 0
    for number, length in lengths.items():
        path = segment_path(folder, number)
        try:
            size = path.stat().st_size
        except FileNotFoundError as error:
            raise LandingError(
                "a segment that the index names is missing", where=path.name, remedy=REMEDY
            ) from error
        if size < length:
            raise LandingError(
                f"a segment is shorter ({size} bytes) than the index says ({length})",
                where=path.name,
                remedy=REMEDY,
            )
        if cut and size > length:
            with path.open("r+b") as handle:
                handle.truncate(length)
                os.fsync(handle.fileno())
            removed += size - length
    if cut:
        for path in folder.glob("*.ndjson"):
            # A segment that was begun, and whose transaction never came.
            if path.stem.isdigit() and int(path.stem) not in lengths:
                removed += path.stat().st_size
                path.unlink()
    return removed


class SegmentWriter:
    """Appends to the last segment.

    Args:
        folder: the folder of segments.
        number: the segment to go on with.
        length: its length by the index.
        limit: length after which a new segment begins.
    """

    def __init__(self, folder: Path, number: int, length: int, limit: int = SEGMENT_BYTES) -> None:
        self._folder = private_dir(folder)
        self.limit = limit
        self.number = number
        self.length = length
        self._descriptor: int | None = None

    def roll(self) -> None:
        """Begins a new segment if this one is full; called between batches: a batch is in one segment."""
        if self.length >= self.limit:
            self.close()
            self.number += 1
            self.length = 0

    def move(self, number: int, length: int) -> None:
        """Goes on where another writer left off."""
        if number != self.number:
            self.close()
        self.number, self.length = number, length

    def write(self, data: bytes) -> None:
        """Appends whole lines and waits until they are on disk."""
        if self._descriptor is None:
            path = segment_path(self._folder, self.number)
            fresh = not path.exists()
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, FILE_MODE)
            if fresh:
                sync_dir(self._folder)
        view = memoryview(data)
        position = self.length
        while view:
            written = os.pwrite(self._descriptor, view, position)
            position += written
            view = view[written:]
        os.fsync(self._descriptor)
        self.length = position

    def rewind(self, length: int) -> None:
        """Forgets what was written behind `length`: its transaction failed."""
        self.length = length
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, length)

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class SegmentReader:
    """Reads lines by their place; a context manager that keeps the files it reads open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptors: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, number: int, offset: int, length: int) -> bytes:
        """The bytes at a place.

        Raises:
            LandingError: the segment is missing or too short.
        """
        descriptor = self._descriptors.get(number)
        if descriptor is None:
            path = segment_path(self._folder, number)
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise LandingError("a segment cannot be read", where=path.name, remedy=REMEDY) from error
            self._descriptors[number] = descriptor
        data = os.pread(descriptor, length, offset)
        if len(data) != length:
            place = segment_path(self._folder, number).name
            raise LandingError("a segment ends before a resource does", where=place, remedy=REMEDY)
        return data

    def close(self) -> None:
        """Closes all files."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
