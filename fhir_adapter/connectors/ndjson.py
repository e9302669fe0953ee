"""Lines of a stream of NDJSON, plain or packed by gzip."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from fhir_adapter.connectors.http.transport import BrokenOffError
from fhir_adapter.errors import SourceNotFhir

__all__ = ["ndjson"]

_GZIP = b"\x1f\x8b"
_STEP = 1024 * 1024


def _unpacked(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The parts, unpacked if they are a gzip file; in steps, so that a bomb costs a bounded amount."""
    unpack = None
    first = True
    for part in parts:
        if first and part:
            first = False
            if part.startswith(_GZIP):
                unpack = zlib.decompressobj(wbits=31)
        if unpack is None:
            yield part
            continue
        try:
            rest = part
            while rest:
                yield unpack.decompress(rest, _STEP)
                rest = unpack.unconsumed_tail
                if unpack.eof:
                    rest = unpack.unused_data  # another member follows
                    if rest:
                        unpack = zlib.decompressobj(wbits=31)
        except zlib.error as error:
            raise BrokenOffError from error
    if unpack is not None and not unpack.eof:
        raise BrokenOffError


def ndjson(parts: Iterable[bytes], longest: int, where: str) -> Iterator[bytes]:
    """Lines of a stream, without empty ones.

    Args:
        parts: the stream.
        longest: longest line in bytes.
        where: for messages.

    Raises:
        BrokenOffError: a gzip stream that is cut or damaged.
        SourceNotFhir: a line is too long.
    """
    rest = bytearray()  # grows in place: a line in many small parts costs no more than one in few
    for part in _unpacked(parts):
        cut = part.rfind(b"\n")
        lines: list[bytes] = []
        if cut >= 0:
            rest += part[:cut]
            lines = bytes(rest).split(b"\n")
            rest = bytearray(part[cut + 1 :])
        else:
            rest += part
        if len(rest) > longest:
            raise SourceNotFhir(f"a line is longer than max_page_bytes ({longest})", where=where)
        for line in lines:
            if text := line.strip():
                yield text
    if text := bytes(rest).strip():
        yield text
