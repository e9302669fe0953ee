"""Reading packed files: gzip and Zstandard, whole or said to be damaged, and never more than a site allows."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import zstandard

from fhir_adapter.connectors.http.bounds import Bounds
from fhir_adapter.errors import SourceNotFhir, SourceUnreachable

__all__ = ["BLOCK", "PACKED", "counted", "unpacked", "whole"]

#: Endings of packed files.
PACKED = (".gz", ".zst")
#: Bytes that are read at once.
BLOCK = 128 * 1024
# A block of 4 bytes may become 128 KiB: what one read can become is bounded by what it takes in.
_ZSTANDARD_READ = 1024
_ZSTANDARD_WINDOW = 128 * 1024 * 1024


class _Counted(io.RawIOBase):
    """The unpacked content of a file, counted while it is read: a bomb costs no more than the site allows."""

    def __init__(self, content: BinaryIO, bounds: Bounds, name: str) -> None:
        self._content = content
        self._bounds = bounds
        self._name = name

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer, at most `BLOCK` of it; 0 at the end.

        Raises:
            SourceIncomplete: it is more than `max_pull_bytes`, or takes longer than `max_pull_s`.
        """
        data = self._content.read(min(len(buffer), BLOCK))
        buffer[: len(data)] = data
        self._bounds.came(len(data), self._name)
        return len(data)


def unpacked(name: str, file: BinaryIO) -> BinaryIO:
    """The content of an open file; packed if its name says so; to close it does not close the file."""
    if name.lower().endswith(".gz"):
        return gzip.GzipFile(fileobj=file, mode="rb")  # type: ignore[return-value]  # it reads as one
    if name.lower().endswith(".zst"):
        return cast("BinaryIO", io.BufferedReader(_Zstandard(file)))
    return file


class _Zstandard(io.RawIOBase):
    """The content of a Zstandard file, of all its frames; a file that ends within a frame is an error.

    The library's own reader takes a cut frame for the end of the file, which would lose resources silently.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer; 0 at the end.

        Raises:
            EOFError: the file ends within a frame.
        """
        while not self._ready:
            if not self._packed:
                self._packed = self._file.read(_ZSTANDARD_READ)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError
                return 0
            frame = (
                self._frame or zstandard.ZstdDecompressor(max_window_size=_ZSTANDARD_WINDOW).decompressobj()
            )
            self._ready = memoryview(frame.decompress(self._packed))
            self._packed = frame.unused_data if frame.eof else b""
            self._frame = None if frame.eof else frame
        part = self._ready[: len(buffer)]
        buffer[: len(part)] = part
        self._ready = self._ready[len(part) :]
        return len(part)


@contextlib.contextmanager
def whole(name: str) -> Iterator[None]:
    """What is wrong with a file that cannot be unpacked or read, said of it."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceNotFhir("the compressed file is damaged or cut short", where=name) from error
    except zstandard.ZstdError as error:
        raise SourceNotFhir("the Zstandard file is damaged", where=name) from error
    except OSError as error:
        raise SourceUnreachable(f"the file cannot be read ({error.strerror})", where=name) from error


def counted(file: BinaryIO, name: str, bounds: Bounds, *, where: str) -> BinaryIO:
    """The unpacked content of an open file, counted while it is read.

    Args:
        file: the file.
        name: which says how it is packed.
        bounds: what counts it.
        where: for messages.
    """
    return cast("BinaryIO", io.BufferedReader(_Counted(unpacked(name, file), bounds, where), BLOCK))
