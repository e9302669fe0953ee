"""Taking subjects out of everything that the adapter keeps: the landing of a site and the folders of its runs.

In a run folder the tables and datasets lose the rows of the subjects, the quarantine and the findings their
entries. What was made of many subjects at once (results, report, figures, exports, the transaction that was
written back) shows single subjects too and can be made anew, so it goes as a whole: run `map`, `derive`,
`analyse` and `report` again. Run folders come before the landing, so that a purge which is killed can be repeated.

Of a run whose results stand on a server their identities stay, so that they can still be retracted.
"""

from __future__ import annotations

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
from fhir_adapter.landing.purge import named_patients
from fhir_adapter.mapping.domains.consent import REFUSED
from fhir_adapter.rundir import RunDir, private_dir, read_json, site_lock, write_atomic, write_json
from fhir_adapter.site import Site

__all__ = [
    "PurgeReport",
    "forget_withdrawn",
    "purge_all",
    "purge_run",
    "purge_subjects",
    "readmit",
    "subject_keys",
    "withdrawn",
]

# Files, and the folder of the study's own views and maps, which hold nothing of a subject.
_KEPT = frozenset(
    {"manifest.json", "accounting.json", "study.yaml", "site.yaml", "run.log.jsonl", "findings.json", "study",
     "retraction.json"}
)  # fmt: skip


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
    """

    landing: Purged
    runs: int = 0
    rows: int = 0
    quarantined: int = 0
    files: int = 0
    barred: int = 0
    standing: int = 0


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


def withdrawn(run: Path) -> set[str]:
    """Subjects who denied or withdrew consent by the datasets of a run.

    Args:
        run: a run folder.

    Raises:
        RunDirError: its datasets cannot be read.
    """
    folder = RunDir.open(run, needs=["datasets/dm.parquet", "tables/subjects.parquet"])
    dm = _read(folder.datasets / "dm.parquet")
    refused = set(dm.loc[dm["CONSENT"].isin(REFUSED), "USUBJID"])
    subjects = _read(folder.tables / "subjects.parquet")
    return set(subjects.loc[subjects["USUBJID"].isin(refused), "PATKEY"])


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
        holding = [run for run in runs if _holds(run, persons, keys)]
        for run in holding:
            if _stands(run, runs):
                raise WriteBackRefused(
                    "what was written of this run still stands on the server; nothing was purged",
                    where=run.id,
                    remedy="Run `fhir-adapter retract` on it first.",
                )
        return _purge(landing, holding, persons, keys, bar=bar)


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
        holding = [one for one in runs if _holds(one, persons, keys)]
        standing = [one for one in holding if _stands(one, runs) and (run is None or one.path != run.path)]
        report = _purge(landing, holding, persons, keys, bar=True)
    report.standing = len(standing)
    return report


def readmit(site: Site, subjects: Iterable[str]) -> int:
    """Takes subjects off the bar list, so that the next pull brings them; gives how many were on it.

    Raises:
        RunLocked: a run is under way.
    """
    with site_lock(site.landing_dir):
        return BarList(site.landing_dir).remove(subjects)


def _purge(
    landing: Landing, runs: Iterable[RunDir], persons: set[str], keys: set[tuple[str, str]], *, bar: bool
) -> PurgeReport:
    report = PurgeReport(Purged())
    if bar:  # first: a purge that is killed is repeated, and until then nothing of them lands
        report.barred = landing.bars.add(persons)
    for run in runs:
        rows, quarantined, files = purge_run(run, persons, keys)
        report.runs += 1
        report.rows += rows
        report.quarantined += quarantined
        report.files += files
        if _holds(run, persons, keys):
            raise RunDirError("the run folder still holds a purged subject", where=run.id)
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
        shutil.rmtree(folder / "segments", ignore_errors=True)
        for path in files:
            path.unlink(missing_ok=True)
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


def purge_run(run: RunDir, persons: set[str], keys: set[tuple[str, str]]) -> tuple[int, int, int]:
    """Takes subjects out of a run folder.

    Args:
        run: the folder.
        persons: keys (`Patient/<id>`).
        keys: `(type, id)` of their resources.

    Returns:
        Rows that left tables and datasets, entries that left the quarantine, files that were removed.
    """
    usubjids = _usubjids(run, persons)
    rows = files = 0
    # Last comes the table that says who is who: a purge that is killed can be repeated.
    tables = sorted(_parquet(run), key=lambda path: (path.name == "subjects.parquet", path))
    for path in tables:
        frame = _read(path)
        doomed = _rows_of(frame, persons, usubjids, keys)
        if doomed.any():
            rows += int(doomed.sum())
            write_dataset(path.parent, path.stem, frame[~doomed])
    quarantined = _purge_quarantine(run, persons, keys)
    _purge_findings(run, persons, usubjids, keys)
    written = _written(run)
    for path in sorted(run.path.rglob("*")):
        inner = path.relative_to(run.path)
        if path.is_file() and inner.parts[0] not in {"tables", "datasets", "quarantine", *_KEPT}:
            path.unlink()
            files += 1
    if written is not None:
        write_json(run.writeback, written)
    manifest = read_json(run.manifest)
    for stage in ("derive", "analyse", "report", "write-back"):
        manifest["stages"].pop(stage, None)
    manifest["purged"] = manifest.get("purged", 0) + len(usubjids)
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


def _rows_of(
    frame: pd.DataFrame, persons: set[str], usubjids: set[str], keys: set[tuple[str, str]]
) -> pd.Series[bool]:
    found = pd.Series(False, index=frame.index)
    if "USUBJID" in frame.columns:
        found |= frame["USUBJID"].isin(usubjids)
    if "PATKEY" in frame.columns:
        found |= frame["PATKEY"].isin(persons)
    if {"type", "id"} <= set(frame.columns):
        pairs = [pair in keys for pair in zip(frame["type"], frame["id"], strict=True)]
        found |= pd.Series(pairs, index=frame.index, dtype=bool)
    return found


def _quarantine(run: RunDir) -> list[bytes]:
    path = run.quarantine / "quarantine.ndjson"
    return path.read_bytes().splitlines() if path.exists() else []


def _names(line: bytes, persons: set[str], keys: set[tuple[str, str]]) -> bool:
    entry = msgspec.json.decode(line)
    return (entry["type"], entry["id"]) in keys or bool(named_patients(line) & persons)


def _purge_quarantine(run: RunDir, persons: set[str], keys: set[tuple[str, str]]) -> int:
    lines = _quarantine(run)
    kept = [line for line in lines if not _names(line, persons, keys)]
    if len(kept) < len(lines):
        write_atomic(run.quarantine / "quarantine.ndjson", b"".join(line + b"\n" for line in kept))
    return len(lines) - len(kept)


def _purge_findings(run: RunDir, persons: set[str], usubjids: set[str], keys: set[tuple[str, str]]) -> None:
    path = run.path / "findings.json"
    if not path.exists():
        return
    ids = persons | usubjids | {f"{type_}/{id_}" for type_, id_ in keys}
    findings = read_json(path)
    kept = [
        item for item in findings if not any(name in str(value) for value in item.values() for name in ids)
    ]
    if len(kept) < len(findings):
        write_json(path, kept)


def _holds(run: RunDir, persons: set[str], keys: set[tuple[str, str]]) -> bool:
    """Whether a run folder has a row or an entry of one of the subjects."""
    usubjids = _usubjids(run, persons)
    return (
        bool(usubjids)
        or any(_rows_of(_read(path), persons, usubjids, keys).any() for path in _parquet(run))
        or any(_names(line, persons, keys) for line in _quarantine(run))
    )


def _written(run: RunDir) -> dict[str, Any] | None:
    """Identities and versions of what a run has on a server, without their content; None if it has nothing there."""
    if not run.writeback.exists() or (run.path / "retraction.json").exists():
        return None
    found = read_json(run.writeback)
    if found.get("mode") != "yes":
        return None
    return {name: found[name] for name in ("mode", "actions", "readBack") if name in found}


def _stands(run: RunDir, runs: Iterable[RunDir]) -> bool:
    """Whether a run's results stand on a server: written, not retracted, not replaced by a later run's."""
    written = _written(run)
    if written is None:
        return False
    later = [one for one in runs if one.path.parent == run.path.parent and one.id > run.id]
    return not any(
        set(written["actions"]) <= set((_written(one) or {"actions": {}})["actions"]) for one in later
    )
