"""A pull from standard input: one document or NDJSON, packed or not.

It is kept in an unnamed file until it has landed, so that its hash is known before anything lands, and nothing is left
of it when the process is killed. What comes adds to the landing; what it does not hold stays. Content that was read
before is not read again.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from fhir_adapter.arrivals import Checkpoint, Landing
from fhir_adapter.connectors.files.batches import land_file
from fhir_adapter.connectors.files.reading import Reading, arrivals_of
from fhir_adapter.connectors.files.unpacking import BLOCK, unpacked, whole
from fhir_adapter.connectors.reports import Progress, PullReport, Tally
from fhir_adapter.errors import SourceIncomplete, SourceNotFhir, UsageError
from fhir_adapter.rundir import private_dir
from fhir_adapter.site import Site

__all__ = ["pull_input"]

_PIECE = 1024 * 1024
_MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}


def pull_input(
    site: Site,
    landing: Landing,
    report: PullReport,
    tally: Tally,
    reading: Reading,
    progress: Progress | None,
) -> None:
    """Lands what stands on standard input."""
    # Unnamed: when the process is killed, nothing is left of it.
    with tempfile.TemporaryFile(dir=private_dir(site.landing_dir)) as file:
        digest = _take_input(cast("BinaryIO", file), site)
        mark = Checkpoint(f"content|{digest}", {"done": True})
        if not report.full and landing.checkpoint(mark.key) is not None:
            report.skipped += 1
            return
        report.requests += 1
        name = f"stdin-{digest[:12]}"
        kind = _kind_of(cast("BinaryIO", file), name, site)
        items = arrivals_of(cast("BinaryIO", file), kind, name, reading)
        land_file(items, name, site, landing, report, tally, 0, progress)
        landing.append([], [mark])


def _take_input(file: BinaryIO, site: Site) -> str:
    """Copies standard input, within the limits of the site, and gives its SHA-256."""
    if sys.stdin.isatty():
        raise UsageError(
            "standard input is a terminal", where="--source -", remedy="Send a Bundle or NDJSON to it."
        )
    digest = hashlib.sha256()
    size = 0
    while piece := sys.stdin.buffer.read(_PIECE):
        size += len(piece)
        _refuse_more(size, site)
        digest.update(piece)
        file.write(piece)
    if not size:
        raise SourceNotFhir("nothing stands on standard input", where="--source -")
    file.seek(0)
    return digest.hexdigest()


def _refuse_more(size: int, site: Site) -> None:
    """Ends a pull from standard input that brings more than the site allows, before anything has landed."""
    limit = site.max_pull_bytes or site.max_page_bytes
    if size > limit:
        name = "max_pull_bytes" if site.max_pull_bytes else "max_page_bytes"
        raise SourceIncomplete(
            f"more than {name} ({limit}) stands on standard input; nothing landed",
            where="--source -",
            remedy="Set max_pull_bytes in the site file, or send it in parts.",
        )


def _kind_of(file: BinaryIO, name: str, site: Site) -> Path:
    """What a file of this content would be called: NDJSON has a whole JSON value on its first line, and more lines.

    Packed content is unpacked to its end, so that what is damaged or too much is known before anything lands.
    """
    start = file.read(4)
    file.seek(0)
    packed = next((ending for magic, ending in _MAGIC.items() if start.startswith(magic)), "")
    kind = Path(f"{name}.json{packed}")
    limit = site.max_page_bytes
    with whole(name):
        if packed:
            size = 0
            content = unpacked(kind.name, file)
            while piece := content.read(BLOCK):
                size += len(piece)
                _refuse_more(size, site)
            file.seek(0)
        content = unpacked(kind.name, file)
        first, second = _filled(content, limit), _filled(content, limit)
    if second and _is_json(first):
        kind = Path(f"{name}.ndjson{packed}")
    file.seek(0)
    return kind


def _filled(content: BinaryIO, limit: int) -> bytes:
    """The next line that is not empty; b"" at the end."""
    while line := content.readline(limit + 1):
        if text := line.removeprefix(b"\xef\xbb\xbf").strip():
            return text
    return b""


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
