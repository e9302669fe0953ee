"""A pull from a folder or from one file: what is done, what is new, and what a manifest says should be there."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fhir_adapter.arrivals import Arrival, Checkpoint, Landing
from fhir_adapter.connectors.client import issue_codes
from fhir_adapter.connectors.files.batches import land_file
from fhir_adapter.connectors.files.file_sets import FileSet, error_files, read_file_set
from fhir_adapter.connectors.files.listing import name_within, source_files
from fhir_adapter.connectors.files.reading import Reading, of_file
from fhir_adapter.connectors.reports import Difference, Progress, PullReport, Tally
from fhir_adapter.errors import SourceIncomplete, SourceNotFhir, SourceUnreachable
from fhir_adapter.site import Site

__all__ = ["Folder"]

# Types whose numbers are kept of a file; FHIR has fewer than 200.
_MOST_TYPES = 500


def _digest(path: Path, name: str) -> str:
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise SourceUnreachable(f"the file cannot be read ({error.strerror})", where=name) from error


class Folder:
    """A pull from a folder, or from one file."""

    def __init__(
        self, site: Site, place: Path, landing: Landing, report: PullReport, tally: Tally, reading: Reading
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
        if found.under_way:
            self._report.find(
                "files-under-way",
                f"{found.under_way} files were still being written and were left for the next pull",
            )
        if found.others:
            self._report.find(
                "files-left-out",
                f"{found.others} files of another kind lie in the folder and were not read",
            )
        sets = [read_file_set(path, name_within(path, self._place), found.data) for path in found.manifests]
        # Before anything lands: a set that is still being filled waits for the pull that finds it whole.
        agreed = [one for one in sets if not self._lacks(one)]
        errors = error_files(sets)
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
            numbers = "" if first.expected is None else f": it says {first.expected}, {first.received} came"
            more = f"; {len(differences) - 1} more files differ" if len(differences) > 1 else ""
            raise SourceIncomplete(
                f"{text.format(first.type)}{numbers}{more}",
                where=one.name,
                remedy="Bring the files again, whole; set `on_difference: finding` to go on with what came.",
            )
        for item in differences:
            self._report.find(code, text.format(item.type))

    def _file(self, path: Path, *, is_error: bool, is_counted: bool, progress: Progress | None) -> None:
        """Lands a file that is not done."""
        landing, report = self._landing, self._report
        name = name_within(path, self._place)
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
        items = of_file(path, name, self._reading)
        if is_error:
            for item in items:
                codes = issue_codes(item.body) or "unspecified"
                report.find("export-error", f"the server reports a problem of its export: {codes}")
        else:
            self._landed += land_file(
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
