"""Taking subjects out of everything that the adapter keeps: the landing of a site and the folders of its runs.

In a run folder the tables and datasets lose the rows of the subjects, the quarantine and the findings their
entries. What was made of many subjects at once (accounting, results, report, figures, exports, the transaction that
was written back) counts or shows single subjects too and can be made anew, so it goes as a whole: run `map`, `derive`,
`analyse` and `report` again. Copies of older indexes and landings that a repair has set aside hold everybody, so they
go as well. Run folders come before the landing, so that a purge which is killed can be repeated.

The proof is a search: no cell of a table and no byte of another file of the runs may name a subject or a resource of
one, and the landing proves itself (`fhir_adapter.landing.purge`).

Of a run whose results stand on a server their identities stay, so that they can still be retracted.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fhir_adapter.datasets import write_dataset
from fhir_adapter.errors import LandingError, RunDirError, UsageError, WriteBackRefused
from fhir_adapter.landing import Landing, Purged
from fhir_adapter.landing.bars import BARRED, BarList
from fhir_adapter.landing.migrate import copies
from fhir_adapter.landing.purge import named_patients, whom_it_names
from fhir_adapter.landing.repair import set_asides
from fhir_adapter.mapping.domains.consent import REFUSED
from fhir_adapter.rundir import RunDir, private_dir, read_json, site_lock, write_atomic, write_json
from fhir_adapter.site import Site

__all__ = [
    "PurgeReport",
    "forget_withdrawn",
    "purge_all",
    "purge_subjects",
    "readmit",
    "subject_keys",
    "withdrawn",
]

# `study` is the folder of the study's own views and concept maps.
_KEPT = frozenset({"manifest.json", "study.yaml", "site.yaml", "run.log.jsonl", "findings.json", "study"})
_QUARANTINE = "quarantine/quarantine.ndjson"
_REFERENCE = re.compile(rb"([A-Z][A-Za-z]{1,63})(?:\\?/|%2F)([A-Za-z0-9\-.]{1,64})")


class _Names(msgspec.Struct, frozen=True):
    """What a run folder may call the subjects: keys of patients, `(type, id)` of theirs, USUBJIDs."""

    persons: set[str]
    keys: set[tuple[str, str]]
    usubjids: set[str]

    @property
    def references(self) -> set[str]:
        """`Type/id` of the subjects and of their resources."""
        return self.persons | {f"{type_}/{id_}" for type_, id_ in self.keys}


class PurgeReport(msgspec.Struct):
    """What a purge took out, in numbers; no identifier.

    Attributes:
        landing: what left the landing.
        runs: run folders that held one of the subjects.
        rows: rows that left tables and datasets of those.
        quarantined: entries that left their quarantines.
        files: other files that were removed from them.
        barred: subjects who were not barred before and will not be pulled again.
        standing: run folders whose results, with one of the subjects, stand on a server.
        copies: copies of the index and landings set aside that were removed with all that they held.
    """

    landing: Purged
    runs: int = 0
    rows: int = 0
    quarantined: int = 0
    files: int = 0
    barred: int = 0
    standing: int = 0
    copies: int = 0


def subject_keys(lines: Iterable[str]) -> set[str]:
    """Subjects from lines of text: `Patient/<id>` or the logical id alone; empty lines do not count.

    Raises:
        UsageError: a line is no id, or there is none at all; the message gives its number only.
    """
    found: set[str] = set()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        key = text if "/" in text else f"Patient/{text}"
        if named_patients(key.encode()) != {key}:
            raise UsageError("not a Patient/<id>", where=f"line {number}")
        found.add(key)
    if not found:
        raise UsageError("no subject is named", where="--subjects")
    return found


def withdrawn(site: Site, run: Path) -> set[str]:
    """Subjects who denied or withdrew consent by the datasets of a run.

    Args:
        site: the site whose subjects are meant.
        run: a run folder of that site.

    Raises:
        UsageError: the run is of another site, whose ids may be those of other persons, or nobody withdrew by it.
        RunDirError: its datasets cannot be read.
    """
    folder = RunDir.open(run, needs=["manifest.json", "datasets/dm.parquet", "tables/subjects.parquet"])
    if read_json(folder.manifest).get("site") != site.id:
        raise UsageError(f"the run is not of the site {site.id}", where="--withdrawn")
    dm = _read(folder.datasets / "dm.parquet")
    refused = set(dm.loc[dm["CONSENT"].isin(REFUSED), "USUBJID"])
    subjects = _read(folder.tables / "subjects.parquet")
    found = set(subjects.loc[subjects["USUBJID"].isin(refused), "PATKEY"])
    if not found:
        raise UsageError("nobody denied or withdrew consent by this run", where="--withdrawn")
    return found


def purge_subjects(
    site: Site, out: Path | None, subjects: Iterable[str], *, bar: bool = False
) -> PurgeReport:
    """Takes subjects out of the landing of a site and of the folders of its runs, and proves it.

    Args:
        site: the site.
        out: folder of all runs; None if there is none.
        subjects: keys (`Patient/<id>`); every Patient that is linked to one of them goes too.
        bar: whether they are barred, so that no pull brings them again.

    Returns:
        What was taken out.

    Raises:
        RunLocked: a run is under way.
        WriteBackRefused: a run with one of them was written to a server and not retracted.
        LandingError: there is no landing, or something is left.
        RunDirError: a run folder cannot be read, or something is left.
    """
    if not (site.landing_dir / "index.sqlite").exists():
        raise LandingError("there is no landing here", where=site.id)
    with site_lock(site.landing_dir), Landing.open(site.landing_dir) as landing:
        persons, keys = landing.keys_of(subjects)
        runs = _runs(site, out)
        holding = _holding(runs, persons, keys)
        for run, _ in holding:
            if _stands(run, runs):
                raise WriteBackRefused(
                    "what was written of this run still stands on the server; nothing was purged",
                    where=run.id,
                    remedy="Run `fhir-adapter retract` on it first.",
                )
        return _purge(site, landing, holding, persons, bar=bar)


def forget_withdrawn(
    site: Site, out: Path, subjects: Iterable[str], run: RunDir | None = None
) -> PurgeReport:
    """Takes subjects who withdrew out of landing and run folders, and bars them; for a run that holds the lock.

    Nothing stops it: results that stand on a server are counted (`standing`), and can still be retracted.

    Args:
        site: the site.
        out: folder of all runs.
        subjects: keys (`Patient/<id>`); every Patient that is linked to one of them goes too.
        run: the run that asks; its results are about to be made anew, so they do not count as standing.

    Returns:
        What was taken out.

    Raises:
        LandingError: something is left.
        RunDirError: a run folder cannot be read, or something is left.
    """
    with Landing.open(site.landing_dir) as landing:
        persons, keys = landing.keys_of(subjects)
        runs = _runs(site, out)
        holding = _holding(runs, persons, keys)
        standing = [one for one, _ in holding if _stands(one, runs) and (run is None or one.path != run.path)]
        report = _purge(site, landing, holding, persons, bar=True)
    report.standing = len(standing)
    return report


def readmit(site: Site, subjects: Iterable[str]) -> int:
    """Takes subjects off the bar list, so that the next pull brings them; gives how many were on it.

    Raises:
        RunLocked: a run is under way.
    """
    with site_lock(site.landing_dir):
        return BarList(site.landing_dir).remove(subjects)


def _holding(
    runs: Iterable[RunDir], persons: set[str], keys: set[tuple[str, str]]
) -> list[tuple[RunDir, _Names]]:
    """The run folders that hold something of the subjects, with what they call them."""
    named = [(run, _Names(persons, keys, _usubjids(run, persons))) for run in runs]
    return [(run, names) for run, names in named if _left(run, names)]


def _purge(
    site: Site, landing: Landing, runs: Iterable[tuple[RunDir, _Names]], persons: set[str], *, bar: bool
) -> PurgeReport:
    report = PurgeReport(Purged())
    if bar:  # first: a purge that is killed is repeated, and until then nothing of them lands
        report.barred = landing.bars.add(persons)
    for run, names in runs:
        rows, quarantined, files = _purge_run(run, names)
        report.runs += 1
        report.rows += rows
        report.quarantined += quarantined
        report.files += files
        left = _left(run, names)
        if left:
            raise RunDirError(f"{left} still holds a purged subject", where=run.id)
    for path in [*copies(site.landing_dir), *set_asides(site.landing_dir)]:
        _remove(path)
        report.copies += 1
    report.landing = landing.purge(persons)
    return report


def purge_all(site: Site) -> int:
    """Removes the whole landing of a site; its run folders stay, and can no longer be mapped anew.

    The bar list stays too: it holds no id, and without it subjects who withdrew would come back.

    Returns:
        Number of files that were removed.

    Raises:
        RunLocked: a run is under way.
        LandingError: something is left.
    """
    folder = site.landing_dir
    if not folder.is_dir():
        return 0
    with site_lock(folder):
        # Not by opening it: a damaged landing is purged too. The lock of the runs is held.
        files = _landing_files(folder)
        for path in sorted(folder.iterdir()):
            if path.suffix != ".lock" and path.name != BARRED:
                _remove(path)
        left = _landing_files(folder)
    if left:
        raise LandingError(f"{len(left)} files of the landing could not be removed", where=site.id)
    return len(files)


def _landing_files(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name != BARRED
    ]


def _purge_run(run: RunDir, names: _Names) -> tuple[int, int, int]:
    """Takes subjects out of a run folder: rows, entries of the quarantine, and files that left it."""
    rows = files = 0
    quarantined = _purge_quarantine(run, names)
    _purge_findings(run, names)
    written = _written(run)
    tables = set(_parquet(run))
    for path in sorted(run.path.rglob("*")):
        inner = path.relative_to(run.path)
        if (
            path.is_file()
            and path not in tables
            and inner.parts[0] not in _KEPT
            and inner.as_posix() != _QUARANTINE
        ):
            _remove(path)
            files += 1
    if written is not None:
        write_json(run.writeback, written)
    # Last comes the table that says who is who: a purge that is killed can be repeated.
    for path in sorted(tables, key=lambda path: (path.name == "subjects.parquet", path)):
        frame = _read(path)
        doomed = _rows_of(frame, names)
        if doomed.any():
            rows += int(doomed.sum())
            write_dataset(path.parent, path.stem, frame[~doomed])
    manifest = read_json(run.manifest)
    for stage in ("map", "derive", "analyse", "report", "write-back"):
        manifest["stages"].pop(stage, None)
    manifest["purged"] = manifest.get("purged", 0) + len(names.usubjids)
    write_json(run.manifest, manifest)
    private_dir(run.figures)
    return rows, quarantined, files


def _runs(site: Site, out: Path | None) -> list[RunDir]:
    if out is None or not out.is_dir():
        return []
    return [
        RunDir(path.parent)
        for path in sorted(out.glob("*/*/manifest.json"))
        if read_json(path).get("site") == site.id
    ]


def _read(path: Path) -> pd.DataFrame:
    try:
        frame: pd.DataFrame = pq.ParquetFile(path).read().to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise RunDirError(
            "a table cannot be read, so nobody can say whom it holds", where=path.name
        ) from error
    return frame


def _parquet(run: RunDir) -> list[Path]:
    return [*run.tables.rglob("*.parquet"), *run.datasets.rglob("*.parquet")]


def _usubjids(run: RunDir, persons: set[str]) -> set[str]:
    path = run.tables / "subjects.parquet"
    if not path.exists():
        return set()
    frame = _read(path)
    return set(frame.loc[frame["PATKEY"].isin(persons), "USUBJID"])


def _named(data: bytes, references: set[str]) -> bool:
    """Whether some bytes hold one of the references."""
    for type_, id_ in _REFERENCE.findall(data):
        reference = f"{type_.decode()}/{id_.decode()}"
        if reference in references or reference.rstrip(".") in references:
            return True
    return False


def _rows_of(frame: pd.DataFrame, names: _Names) -> pd.Series[bool]:
    """Rows of the subjects, rows about a resource of theirs, and rows with a cell that refers to one."""
    found = pd.Series(False, index=frame.index)
    references = names.references
    for name in frame.columns:
        if frame[name].dtype == object or isinstance(frame[name].dtype, pd.StringDtype):
            texts = frame[name].astype(str)
            found |= texts.isin([text for text in texts.unique() if _named(text.encode(), references)])
    if "USUBJID" in frame.columns:
        found |= frame["USUBJID"].isin(names.usubjids)
    if {"type", "id"} <= set(frame.columns):
        pairs = [pair in names.keys for pair in zip(frame["type"], frame["id"], strict=True)]
        found |= pd.Series(pairs, index=frame.index, dtype=bool)
    return found


def _quarantine(run: RunDir) -> list[bytes]:
    path = run.path / _QUARANTINE
    return path.read_bytes().splitlines() if path.exists() else []


def _of_them(line: bytes, names: _Names) -> bool:
    """Whether an entry of the quarantine is about one of the subjects, or names one."""
    entry = msgspec.json.decode(line)
    whom: set[str] = set()
    if str(entry["id"]).startswith("unreadable-"):
        whom = whom_it_names(entry["type"], str(entry.get("resource", "")).encode())
    return (
        (entry["type"], entry["id"]) in names.keys
        or bool(whom & names.persons)
        or _named(line, names.references)
    )


def _purge_quarantine(run: RunDir, names: _Names) -> int:
    lines = _quarantine(run)
    kept = [line for line in lines if not _of_them(line, names)]
    if len(kept) < len(lines):
        write_atomic(run.path / _QUARANTINE, b"".join(line + b"\n" for line in kept))
    return len(lines) - len(kept)


def _findings(run: RunDir) -> list[dict[str, str]]:
    path = run.path / "findings.json"
    return read_json(path) if path.exists() else []


def _is_finding_of(item: dict[str, str], names: _Names) -> bool:
    return item.get("usubjid") in names.usubjids or _named(msgspec.json.encode(item), names.references)


def _purge_findings(run: RunDir, names: _Names) -> None:
    findings = _findings(run)
    kept = [item for item in findings if not _is_finding_of(item, names)]
    if len(kept) < len(findings):
        write_json(run.path / "findings.json", kept)


def _left(run: RunDir, names: _Names) -> str:
    """Name of a file of a run that holds something of the subjects, or ""."""
    if any(_of_them(line, names) for line in _quarantine(run)):
        return _QUARANTINE
    if any(_is_finding_of(item, names) for item in _findings(run)):
        return "findings.json"
    tables = set(_parquet(run))
    references = names.references
    for path in sorted(run.path.rglob("*")):
        if path in tables:
            if _rows_of(_read(path), names).any():
                return path.name
        elif path.is_file() and _named(path.read_bytes(), references):
            return path.name
    return ""


def _remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it.

    Raises:
        LandingError: it cannot be removed.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise LandingError(
            f"a file cannot be removed ({error.strerror})",
            where=path.name,
            remedy="Mend the rights of the folder and purge again.",
        ) from error


def _written(run: RunDir) -> dict[str, Any] | None:
    """Identities and versions of what a run has on a server, without their content; None if it has nothing there."""
    stands = read_json(run.manifest).get("written_back")
    if stands is None:  # a run of an earlier release
        stands = not (run.path / "retraction.json").exists()
    if not stands or not run.writeback.exists():
        return None
    found = read_json(run.writeback)
    if found.get("mode") != "yes":
        return None
    return {name: found[name] for name in ("mode", "actions", "readBack") if name in found}


def _stands(run: RunDir, runs: Iterable[RunDir]) -> bool:
    """Whether a run's results stand on a server: written, not retracted, not replaced by a later run's."""
    written = _written(run)
    if written is None:
        # What was written and can no longer be named may stand there all the same.
        return read_json(run.manifest).get("written_back") is True
    later = [one for one in runs if one.path.parent == run.path.parent and one.id > run.id]
    return not any(
        set(written["actions"]) <= set((_written(one) or {"actions": {}})["actions"]) for one in later
    )
