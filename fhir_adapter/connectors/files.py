"""The connector for files: NDJSON, Bundles, arrays and single resources, plain, gzipped or with Zstandard.

Files are read in the order of their names. A line of NDJSON that is not a resource lands as unreadable and
the rest goes on; a JSON document that is cut or is no FHIR ends the pull, because nobody can say what it
lacks. A file that has not changed since it was read to its end is not read again, nor is one whose content was
read to its end under another name: done files are known by their SHA-256. Whoever fills the folder writes a file
under a name that ends in `.part`, `.tmp` or `.filepart`, or begins with a dot, and renames it when it is whole;
a file that changes while it is read ends the pull. Where two files carry one resource,
the version that is newer by `meta` is current, and without versions the one that came later.

The path `-` is standard input: one document or NDJSON, packed or not. It is kept in an unnamed file until it has
landed, so that its hash is known before anything lands, and nothing is left of it when the process is killed. What
comes adds to the landing; what it does not hold stays. Content that was read before is not read again.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import zstandard

from fhir_adapter.connectors import bundles
from fhir_adapter.connectors.arrivals import Arrival, Checkpoint, Landing, unreadable
from fhir_adapter.connectors.bounds import Bounds
from fhir_adapter.connectors.reports import PullReport, Tally
from fhir_adapter.errors import SourceIncomplete, SourceNotFhir, SourceUnreachable, UsageError
from fhir_adapter.rundir import private_dir
from fhir_adapter.site import STANDARD_INPUT, Site

__all__ = ["pull_files", "read_files", "source_files"]

_NDJSON = (".ndjson", ".jsonl")
_ENDINGS = (*_NDJSON, ".json")
_PACKED = (".gz", ".zst")
#: What a file is called while it is being written.
_UNDER_WAY = (".part", ".tmp", ".filepart")
# A block of 4 bytes may become 128 KiB: what one read can become is bounded by what it takes in.
_ZSTANDARD_READ = 1024
_ZSTANDARD_WINDOW = 128 * 1024 * 1024
_BATCH = 1000
_BATCH_BYTES = 8 * 1024 * 1024
_PIECE = 1024 * 1024
_BLOCK = 128 * 1024
_MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}

Progress = Callable[[str, int], None]


def _ending(path: Path) -> str:
    name = path.name.lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return next((ending for ending in _ENDINGS if name.endswith(ending)), "")


def source_files(place: Path) -> tuple[list[Path], int]:
    """Files of a source, in the order of their names, and how many other files lie among them.

    Hidden files, and links that lead out of the folder, are not part of the source.

    Raises:
        SourceUnreachable: there is no such folder or file.
    """
    if place.is_file():
        return ([place], 0) if _ending(place) else ([], 1)
    if not place.is_dir():
        raise SourceUnreachable("there is no such folder or file", where=str(place))
    root = place.resolve()
    found: list[Path] = []
    others = 0
    for path in sorted(place.rglob("*"), key=lambda item: item.relative_to(place).parts):
        relative = path.relative_to(place)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        if _ending(path) and path.resolve().is_relative_to(root):
            found.append(path)
        else:
            others += 1
    return found, others


def _under_way(place: Path) -> int:
    if not place.is_dir():
        return 0
    return sum(
        path.suffix.lower() in _UNDER_WAY and path.is_file()
        for path in place.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(place).parts)
    )


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
        """Fills a buffer, at most `_BLOCK` of it; 0 at the end.

        Raises:
            SourceIncomplete: it is more than `max_pull_bytes`, or takes longer than `max_pull_s`.
        """
        data = self._content.read(min(len(buffer), _BLOCK))
        buffer[: len(data)] = data
        self._bounds.came(len(data), self._name)
        return len(data)


def _bounds(site: Site) -> Bounds:
    bounds = Bounds(None)
    bounds.limit(site.max_pull_s, site.max_pull_bytes)
    return bounds


def _unpacked(name: str, file: BinaryIO) -> BinaryIO:
    """The content of an open file; to close it does not close the file."""
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


def _digest(path: Path, name: str) -> str:
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise SourceUnreachable(f"the file cannot be read ({error.strerror})", where=name) from error


def _lines(handle: BinaryIO, name: str, limit: int) -> Iterator[Arrival]:
    number = 0
    while line := handle.readline(limit + 1):
        number += 1
        if len(line) > limit:
            raise SourceNotFhir(f"a line is longer than max_page_bytes ({limit})", where=f"{name}:{number}")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        text = line.strip()
        if not text:
            continue
        place = f"{name}:{number}"
        if text.startswith(b"{"):
            yield from bundles.explode(text, place)
        else:
            yield unreadable(text, place)


def _of_file(path: Path, name: str, limit: int, bounds: Bounds) -> Iterator[Arrival]:
    try:
        with path.open("rb") as file:
            yield from _arrivals(file, path, name, limit, bounds)
    except OSError as error:
        raise SourceUnreachable(f"the file cannot be read ({error.strerror})", where=name) from error


@contextlib.contextmanager
def _whole(name: str) -> Iterator[None]:
    """What is wrong with a file that cannot be unpacked or read, said of it."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceNotFhir("the compressed file is damaged or cut short", where=name) from error
    except zstandard.ZstdError as error:
        raise SourceNotFhir("the Zstandard file is damaged", where=name) from error
    except OSError as error:
        raise SourceUnreachable(f"the file cannot be read ({error.strerror})", where=name) from error


def _content(file: BinaryIO, kind: Path, name: str, bounds: Bounds) -> BinaryIO:
    """The unpacked content of an open file that is read as one called `kind`, counted."""
    counted = _Counted(_unpacked(kind.name, file), bounds, name)
    return cast("BinaryIO", io.BufferedReader(counted, _BLOCK))


def _arrivals(file: BinaryIO, kind: Path, name: str, limit: int, bounds: Bounds) -> Iterator[Arrival]:
    """What an open file holds, which is read as one that is called `kind`."""
    with _whole(name):
        handle = _content(file, kind, name, bounds)
        if _ending(kind) in _NDJSON:
            yield from _lines(handle, name, limit)
            return
        data = handle.read(limit + 1)
    if len(data) > limit:
        raise SourceNotFhir(f"the file is longer than max_page_bytes ({limit})", where=name)
    try:
        yield from bundles.document(data, name)
    except ValueError as error:
        raise SourceNotFhir(str(error), where=name, remedy="Bring the file again, whole.") from error


def read_files(site: Site) -> Iterator[Arrival]:
    """Everything that the files of a site hold, in the order of their names; nothing is landed.

    Raises:
        SourceUnreachable: the folder or a file cannot be read.
        SourceNotFhir: a file is damaged, cut short, too large, or no FHIR.
        SourceIncomplete: they hold more than `max_pull_bytes`, or take longer than `max_pull_s`.
    """
    place = site.source.path or Path()
    bounds = _bounds(site)
    for path in source_files(place)[0]:
        name = path.name if place.is_file() else path.relative_to(place).as_posix()
        yield from _of_file(path, name, site.max_page_bytes, bounds)


def pull_files(
    site: Site, landing: Landing, *, full: bool = False, progress: Progress | None = None
) -> PullReport:
    """Lands what a folder or file holds.

    Args:
        site: the site; `source.path` says where.
        landing: where it lands.
        full: read files again that have not changed.
        progress: called with the type of a batch's last resource and the number landed so far.

    Returns:
        What came.

    Raises:
        SourceUnreachable: folder or file missing or not readable.
        SourceNotFhir: a file is cut, damaged or not FHIR, or there is none; files before it have landed.
        SourceIncomplete: there is more than `max_resources` or `max_pull_bytes` (unpacked), or it takes longer than
            `max_pull_s`; files before the one that is too much have landed and are done.
        UsageError: standard input is a terminal.
    """
    place = site.source.path
    if place is None:
        raise SourceUnreachable("the site's source has no path")
    report = PullReport("files", full=full, before=landing.sequence)
    if place == STANDARD_INPUT:
        return _pull_input(site, landing, report, progress)
    files, others = source_files(place)
    if not files:
        raise SourceNotFhir("no .ndjson or .json file lies here", where=str(place))
    waiting = _under_way(place)
    if waiting:
        report.find(
            "files-under-way", f"{waiting} files were still being written and were left for the next pull"
        )
    others -= waiting
    if others:
        report.find("files-left-out", f"{others} files of another kind lie in the folder and were not read")
    landed = 0
    tally = Tally()
    bounds = _bounds(site)
    for path in files:
        inner = path.name if place.is_file() else path.relative_to(place).as_posix()
        name = os.fsencode(inner).decode("utf-8", "replace")  # a name need not be UTF-8
        state = path.stat()
        stamp = {"size": state.st_size, "mtime_ns": state.st_mtime_ns}
        key = f"file|{name}"
        known = landing.checkpoint(key)
        if not full and known is not None and {part: known.get(part) for part in stamp} == stamp:
            report.skipped += 1
            continue
        digest = _digest(path, name)
        marks = [
            Checkpoint(key, {**stamp, "sha256": digest}),
            Checkpoint(f"content|{digest}", {"done": True}),
        ]
        # Under its own name an earlier content may come back, and then it counts; under a new name it is a file
        # that was read already and was moved, or dropped twice.
        if not full and (
            known.get("sha256") == digest
            if known is not None
            else landing.checkpoint(marks[1].key) is not None
        ):
            landing.append([], marks)
            report.skipped += 1
            continue
        report.requests += 1
        items = _of_file(path, name, site.max_page_bytes, bounds)
        landed += _pull_file(items, name, site, landing, report, tally, landed, progress)
        after = path.stat()
        if (after.st_size, after.st_mtime_ns) != (state.st_size, state.st_mtime_ns):
            raise SourceNotFhir(
                "the file changed while it was read",
                where=name,
                remedy="Write files under a name that ends in .part and rename them when they are whole.",
            )
        # The marks come last and by themselves: a file that was read half has none.
        landing.append([], marks)
    return _ended(report, tally, landing)


def _ended(report: PullReport, tally: Tally, landing: Landing) -> PullReport:
    tally.into(report)
    report.subjects = len(landing.known("Patient"))
    report.after = landing.sequence
    return report


def _pull_input(site: Site, landing: Landing, report: PullReport, progress: Progress | None) -> PullReport:
    """Lands what stands on standard input."""
    tally = Tally()
    # Unnamed: when the process is killed, nothing is left of it.
    with tempfile.TemporaryFile(dir=private_dir(site.landing_dir)) as file:
        digest = _take_input(cast("BinaryIO", file), site)
        mark = Checkpoint(f"content|{digest}", {"done": True})
        if not report.full and landing.checkpoint(mark.key) is not None:
            report.skipped += 1
            return _ended(report, tally, landing)
        report.requests += 1
        name = f"stdin-{digest[:12]}"
        bounds = _bounds(site)
        kind = _kind_of(cast("BinaryIO", file), name, site)
        items = _arrivals(cast("BinaryIO", file), kind, name, site.max_page_bytes, bounds)
        _pull_file(items, name, site, landing, report, tally, 0, progress)
        landing.append([], [mark])
    return _ended(report, tally, landing)


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
    with _whole(name):
        if packed:
            size = 0
            content = _unpacked(kind.name, file)
            while piece := content.read(_BLOCK):
                size += len(piece)
                _refuse_more(size, site)
            file.seek(0)
        content = _unpacked(kind.name, file)
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


def _pull_file(
    items: Iterator[Arrival],
    name: str,
    site: Site,
    landing: Landing,
    report: PullReport,
    tally: Tally,
    before: int,
    progress: Progress | None,
) -> int:
    batch: list[Arrival] = []
    odd: set[str] = set()
    size = number = 0

    def land() -> None:
        nonlocal size
        if batch:
            tally.add(batch)
            report.outcome.add(landing.append(batch))
            if progress is not None:
                progress(batch[-1].type, before + number)
        batch.clear()
        size = 0

    for item in items:
        number += 1
        if before + number > site.max_resources:
            raise SourceIncomplete(
                f"more than max_resources ({site.max_resources})",
                where=name,
                remedy="Raise it in the site file.",
            )
        if not landing.admits(item):
            report.bar(item)
            continue
        if item.state == "unreadable":
            odd.add(item.id)
        batch.append(item)
        size += len(item.body)
        if len(batch) >= _BATCH or size >= _BATCH_BYTES:
            land()
    land()
    report.outcome.deleted += landing.retire_unreadable(name, odd)
    return number
