"""The connector for files: NDJSON, Bundles, arrays and single resources, plain, gzipped or with Zstandard.

Files are read in the order of their names. A line of NDJSON that is not a resource lands as unreadable and
the rest goes on; a JSON document that is cut or is no FHIR ends the pull, because nobody can say what it
lacks. A file that has not changed since it was read to its end is not read again, nor is one whose content was
read to its end under another name: done files are known by their SHA-256. Whoever fills the folder writes a file
under a name that ends in `.part`, `.tmp` or `.filepart`, or begins with a dot, and renames it when it is whole;
a file that changes while it is read ends the pull. Where two files carry one resource,
the version that is newer by `meta` is current, and without versions the one that came later.

A manifest beside the files (`fhir_adapter.connectors.file_sets`) says what should be there: nothing of the folder
lands while a file that it names is not there, and its numbers are compared with what was read. What a site wants of
a difference holds as for a server.

The path `-` is standard input: one document or NDJSON, packed or not. It is kept in an unnamed file until it has
landed, so that its hash is known before anything lands, and nothing is left of it when the process is killed. What
comes adds to the landing; what it does not hold stays. Content that was read before is not read again.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import msgspec

from fhir_adapter.connectors import bundles
from fhir_adapter.connectors.arrivals import Arrival, Checkpoint, Landing, unreadable
from fhir_adapter.connectors.bounds import Bounds
from fhir_adapter.connectors.client import issue_codes
from fhir_adapter.connectors.file_sets import FileSet, is_manifest, read_file_set
from fhir_adapter.connectors.reports import Difference, PullReport, Tally
from fhir_adapter.connectors.searchsets import Searchsets
from fhir_adapter.connectors.unpacking import BLOCK, PACKED, counted, unpacked, whole
from fhir_adapter.errors import SourceIncomplete, SourceNotFhir, SourceUnreachable, UsageError
from fhir_adapter.rundir import private_dir
from fhir_adapter.site import STANDARD_INPUT, Site

__all__ = ["SourceFiles", "pull_files", "read_files", "source_files"]

_NDJSON = (".ndjson", ".jsonl")
_ENDINGS = (*_NDJSON, ".json")
#: What a file is called while it is being written.
_UNDER_WAY = (".part", ".tmp", ".filepart")
_BATCH = 1000
_BATCH_BYTES = 8 * 1024 * 1024
_PIECE = 1024 * 1024
#: Types whose numbers are kept of a file; FHIR has fewer than 200.
_MOST_TYPES = 500
_MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}

Progress = Callable[[str, int], None]


def _ending(path: Path) -> str:
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return next((ending for ending in _ENDINGS if name.endswith(ending)), "")


class SourceFiles(NamedTuple):
    """Files of a source, in the order of their names.

    Attributes:
        data: what holds resources.
        manifests: which say what should be there; a source that is one file has none.
        others: how many other files lie among them.
    """

    data: list[Path]
    manifests: list[Path]
    others: int


def source_files(place: Path) -> SourceFiles:
    """The files of a source.

    Hidden files, and links that lead out of the folder, are not part of the source.

    Raises:
        SourceUnreachable: there is no such folder or file.
    """
    if place.is_file():
        return SourceFiles([place], [], 0) if _ending(place) else SourceFiles([], [], 1)
    if not place.is_dir():
        raise SourceUnreachable("there is no such folder or file", where=str(place))
    root = place.resolve()
    data: list[Path] = []
    manifests: list[Path] = []
    others = 0
    for path in sorted(place.rglob("*"), key=lambda item: item.relative_to(place).parts):
        relative = path.relative_to(place)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        if _ending(path) and path.resolve().is_relative_to(root):
            (manifests if is_manifest(path) else data).append(path)
        else:
            others += 1
    return SourceFiles(data, manifests, others)


def _name(path: Path, place: Path) -> str:
    """A file's name within the source, for messages and marks; a name need not be UTF-8."""
    inner = path.name if place.is_file() else path.relative_to(place).as_posix()
    return os.fsencode(inner).decode("utf-8", "replace")


def _under_way(place: Path) -> int:
    if not place.is_dir():
        return 0
    return sum(
        path.suffix.lower() in _UNDER_WAY and path.is_file()
        for path in place.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(place).parts)
    )


class _Reading:
    """What all files of a pull share while they are read: its limits, and the search results met in them."""

    def __init__(self, site: Site) -> None:
        self.limit = site.max_page_bytes
        self.bounds = Bounds(None)
        self.bounds.limit(site.max_pull_s, site.max_pull_bytes)
        self.searchsets = Searchsets()


def _digest(path: Path, name: str) -> str:
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise SourceUnreachable(f"the file cannot be read ({error.strerror})", where=name) from error


def _lines(handle: BinaryIO, name: str, reading: _Reading) -> Iterator[Arrival]:
    limit = reading.limit
    idle = 0
    number = 0
    while line := handle.readline(limit + 1):
        number += 1
        if len(line) > limit:
            raise SourceNotFhir(f"a line is longer than max_page_bytes ({limit})", where=f"{name}:{number}")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        text = line.strip()
        came = False
        for item in _of_line(text, f"{name}:{number}", reading):
            came = True
            yield item
        if came:
            continue
        # No limit on resources ends a file of lines without any, which may be packed to next to nothing.
        idle += len(line)
        if idle > limit:
            raise SourceNotFhir(
                f"more than max_page_bytes ({limit}) of lines without a resource", where=f"{name}:{number}"
            )


def _of_line(text: bytes, place: str, reading: _Reading) -> Iterator[Arrival]:
    if text.startswith(b"{"):
        reading.searchsets.see(text)
        yield from bundles.explode(text, place)
    elif text:
        yield unreadable(text, place)


def _of_file(path: Path, name: str, reading: _Reading) -> Iterator[Arrival]:
    try:
        with path.open("rb") as file:
            yield from _arrivals(file, path, name, reading)
    except OSError as error:
        raise SourceUnreachable(f"the file cannot be read ({error.strerror})", where=name) from error


def _arrivals(file: BinaryIO, kind: Path, name: str, reading: _Reading) -> Iterator[Arrival]:
    """What an open file holds, which is read as one that is called `kind`."""
    with whole(name):
        handle = counted(file, kind.name, reading.bounds, where=name)
        if _ending(kind) in _NDJSON:
            yield from _lines(handle, name, reading)
            return
        limit = reading.limit
        data = handle.read(limit + 1)
    if len(data) > limit:
        raise SourceNotFhir(f"the file is longer than max_page_bytes ({limit})", where=name)
    try:
        yield from bundles.document(data, name)
    except ValueError as error:
        raise SourceNotFhir(str(error), where=name, remedy="Bring the file again, whole.") from error
    reading.searchsets.see(data)


def read_files(site: Site) -> Iterator[Arrival]:
    """Everything that the files of a site hold, in the order of their names; nothing is landed.

    Raises:
        SourceUnreachable: the folder or a file cannot be read.
        SourceNotFhir: a file is damaged, cut short, too large, or no FHIR.
        SourceIncomplete: they hold more than `max_pull_bytes`, or take longer than `max_pull_s`.
    """
    place = site.source.path or Path()
    reading = _Reading(site)
    found = source_files(place)
    sets = [read_file_set(path, _name(path, place), found.data) for path in found.manifests]
    errors = _errors(sets)
    for path in found.data:
        if path not in errors:
            yield from _of_file(path, _name(path, place), reading)


def _errors(sets: list[FileSet]) -> set[Path]:
    """Files in which an export says what went wrong; they hold no data."""
    return {part.path for one in sets for part in one.parts if part.role == "error" and part.path is not None}


def pull_files(
    site: Site,
    landing: Landing,
    *,
    full: bool = False,
    progress: Progress | None = None,
    keep: Callable[[PullReport], None] | None = None,
) -> PullReport:
    """Lands what a folder or file holds, and compares it with the manifests that lie beside the files.

    Args:
        site: the site; `source.path` says where.
        landing: where it lands.
        full: read files again that have not changed.
        progress: called with the type of a batch's last resource and the number landed so far.
        keep: called with the report of a pull that ends early, which says what came.

    Returns:
        What came.

    Raises:
        SourceUnreachable: folder or file missing or not readable.
        SourceNotFhir: a file is cut, damaged or not FHIR, or there is none; files before it have landed.
        SourceIncomplete: there is more than `max_resources` or `max_pull_bytes` (unpacked), or it takes longer than
            `max_pull_s`; files before the one that is too much have landed and are done. Or a manifest names what
            is not there (nothing has landed), or other numbers than came, and the site's `on_difference` is `fail`.
        UsageError: standard input is a terminal.
    """
    place = site.source.path
    if place is None:
        raise SourceUnreachable("the site's source has no path")
    report = PullReport("files", full=full, before=landing.sequence)
    tally = Tally()
    reading = _Reading(site)
    try:
        if place == STANDARD_INPUT:
            _pull_input(site, landing, report, tally, reading, progress)
        else:
            _Folder(site, place, landing, report, tally, reading).pull(progress)
    except BaseException:
        report.complete = False
        raise
    finally:
        tally.into(report)
        reading.searchsets.into(report)
        report.after = landing.sequence
        if not report.complete and keep is not None:
            keep(report)
    report.subjects = len(landing.known("Patient"))
    return report


class _Folder:
    """A pull from a folder, or from one file."""

    def __init__(
        self, site: Site, place: Path, landing: Landing, report: PullReport, tally: Tally, reading: _Reading
    ) -> None:
        self._site = site
        self._place = place
        self._landing = landing
        self._report = report
        self._tally = tally
        self._reading = reading
        self._landed = 0
        #: Resources by type of each file that was read to its end, now or before.
        self._counts: dict[Path, dict[str, int]] = {}

    def pull(self, progress: Progress | None) -> None:
        """Reads what is not done, and reconciles."""
        found = source_files(self._place)
        if not found.data and not found.manifests:
            raise SourceNotFhir("no .ndjson or .json file lies here", where=str(self._place))
        waiting = _under_way(self._place)
        if waiting:
            self._report.find(
                "files-under-way",
                f"{waiting} files were still being written and were left for the next pull",
            )
        if found.others > waiting:
            self._report.find(
                "files-left-out",
                f"{found.others - waiting} files of another kind lie in the folder and were not read",
            )
        sets = [read_file_set(path, _name(path, self._place), found.data) for path in found.manifests]
        # Before anything lands: a set that is still being filled waits for the pull that finds it whole.
        agreed = [one for one in sets if not self._lacks(one)]
        errors = _errors(sets)
        named = {part.path for one in sets for part in one.parts if part.count is not None}
        for path in found.data:
            self._file(path, is_error=path in errors, is_counted=path in named, progress=progress)
        for one in sets:
            differences = one.differences(self._counts)
            self._differ(one, differences, "count-differs", "a manifest's number of {} is not what came")
            if one in agreed and not differences:
                self._landing.append([], [Checkpoint(_mark(one), {"done": True})])

    def _lacks(self, one: FileSet) -> bool:
        """Whether files of a set are not there; what was whole once and is cleared away lacks nothing."""
        missing = one.missing()
        if not missing or self._landing.checkpoint(_mark(one)) is not None:
            return False
        self._differ(one, missing, "file-missing", "a file of {} that a manifest names is not there")
        return True

    def _differ(self, one: FileSet, differences: list[Difference], code: str, text: str) -> None:
        self._report.differences.extend(differences)
        if differences and self._site.on_difference == "fail":
            first = differences[0]
            said = "some" if first.expected is None else str(first.expected)
            more = f"; {len(differences) - 1} more files differ" if len(differences) > 1 else ""
            raise SourceIncomplete(
                f"{text.format(first.type)}: it says {said}, {first.received} came{more}",
                where=one.name,
                remedy="Bring the files again, whole; set `on_difference: finding` to go on with what came.",
            )
        for item in differences:
            self._report.find(code, text.format(item.type))

    def _file(self, path: Path, *, is_error: bool, is_counted: bool, progress: Progress | None) -> None:
        """Lands a file that is not done."""
        landing, report = self._landing, self._report
        name = _name(path, self._place)
        if is_error:  # it may have come before its manifest, and then it was taken for data
            report.outcome.deleted += landing.retire_unreadable(name, set())
        state = path.stat()
        stamp = {"size": state.st_size, "mtime_ns": state.st_mtime_ns}
        key = f"file|{name}"
        known = landing.checkpoint(key)
        # What was read by a version that kept no counts is read again where they are needed.
        needed = {"counts"} if is_counted else set()
        if (
            not report.full
            and known is not None
            and {part: known.get(part) for part in stamp} == stamp
            and needed <= known.keys()
        ):
            report.skipped += 1
            self._counts[path] = known.get("counts", {})
            return
        digest = _digest(path, name)
        content = landing.checkpoint(f"content|{digest}")
        # Under its own name an earlier content may come back, and then it counts; under a new name it is a file
        # that was read already and was moved, or dropped twice.
        done = content if known is None else known if known.get("sha256") == digest else None
        if not report.full and done is not None and needed <= done.keys():
            landing.append([], _marks(key, stamp, digest, done.get("counts")))
            report.skipped += 1
            self._counts[path] = done.get("counts", {})
            return
        report.requests += 1
        counts: Counter[str] = Counter()
        items = _of_file(path, name, self._reading)
        if is_error:
            for item in items:
                codes = issue_codes(item.body) or "unspecified"
                report.find("export-error", f"the server reports a problem of its export: {codes}")
        else:
            self._landed += _pull_file(
                _tallied(items, counts),
                name,
                self._site,
                landing,
                report,
                self._tally,
                self._landed,
                progress,
            )
        after = path.stat()
        if (after.st_size, after.st_mtime_ns) != (state.st_size, state.st_mtime_ns):
            raise SourceNotFhir(
                "the file changed while it was read",
                where=name,
                remedy="Write files under a name that ends in .part and rename them when they are whole.",
            )
        self._counts[path] = dict(counts)
        # The marks come last and by themselves: a file that was read half has none.
        landing.append([], _marks(key, stamp, digest, dict(counts.most_common(_MOST_TYPES))))


def _mark(one: FileSet) -> str:
    return f"manifest|{one.sha256}"


def _marks(key: str, stamp: dict[str, int], digest: str, counts: dict[str, int] | None) -> list[Checkpoint]:
    """That a file was read to its end, by its name and by its content."""
    kept = {} if counts is None else {"counts": counts}
    return [
        Checkpoint(key, {**stamp, "sha256": digest, **kept}),
        Checkpoint(f"content|{digest}", {"done": True, **kept}),
    ]


def _tallied(items: Iterator[Arrival], counts: Counter[str]) -> Iterator[Arrival]:
    """The items, counted by type; what deletes is no resource."""
    for item in items:
        if item.state != "deleted":
            counts[item.type] += 1
        yield item


def _pull_input(
    site: Site,
    landing: Landing,
    report: PullReport,
    tally: Tally,
    reading: _Reading,
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
        items = _arrivals(cast("BinaryIO", file), kind, name, reading)
        _pull_file(items, name, site, landing, report, tally, 0, progress)
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
