"""Run folders: their paths, their private modes, and writes that are whole or not there.

Everything the adapter writes may hold patient data, so folders are 0700 and files 0600 whatever the umask is,
and a file appears under its name only when it is complete: it is written beside it, synced and renamed.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from fhir_adapter.errors import RunDirError, RunLocked

__all__ = [
    "DIR_MODE",
    "FILE_MODE",
    "RunDir",
    "append_line",
    "private_dir",
    "read_json",
    "site_lock",
    "sync_dir",
    "write_atomic",
    "write_json",
]

#: Mode of every folder that the adapter makes.
DIR_MODE = 0o700
#: Mode of every file that the adapter writes.
FILE_MODE = 0o600

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def private_dir(path: Path) -> Path:
    """Makes a folder, and the missing ones above it, readable by the owner alone.

    Args:
        path: the folder. One that exists keeps its content and gets the private mode; folders above it that
            exist are left as they are.

    Returns:
        The same path.

    Raises:
        RunDirError: it cannot be made, or a file is in its place.
    """
    missing = [path]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    try:
        for folder in reversed(missing):
            folder.mkdir(mode=DIR_MODE, exist_ok=True)
            folder.chmod(DIR_MODE)
    except OSError as error:
        raise RunDirError(f"the folder cannot be made ({error.strerror})", where=str(path)) from error
    return path


def sync_dir(path: Path) -> None:
    """Makes the names in a folder durable (POSIX: a rename is on disk once its folder is synced)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes) -> Path:
    """Writes a file that is either complete or not there.

    Args:
        path: the file; missing folders above it are made (0700).
        data: its whole content.

    Returns:
        The same path, now with mode 0600.

    Raises:
        RunDirError: the file cannot be written; what stood under the name before is untouched.
    """
    private_dir(path.parent)
    temporary: Path | None = None
    try:
        # mkstemp makes the file 0600 from the start: there is no moment in which others can read it.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
        sync_dir(path.parent)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise RunDirError(f"the file cannot be written ({error.strerror})", where=str(path)) from error
    return path


def write_json(path: Path, value: Any) -> Path:
    """Writes a value as JSON, whole or not at all, in a form that is equal byte for byte for equal values.

    Args:
        path: the file.
        value: plain data; NaN is refused, for it is not JSON.

    Returns:
        The same path.
    """
    text = json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False)
    return write_atomic(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads a JSON file of a run folder.

    Raises:
        RunDirError: it is not there, or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise RunDirError(
            "the run folder has no such file", where=str(path), remedy="Run the stage that writes it."
        ) from error
    except (OSError, ValueError) as error:
        raise RunDirError("the file cannot be read as JSON", where=str(path)) from error


def append_line(path: Path, line: bytes) -> None:
    """Appends one line to a private file (the log, a quarantine); a line is written in one call."""
    private_dir(path.parent)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, FILE_MODE)
    try:
        os.write(descriptor, line.rstrip(b"\n") + b"\n")
    finally:
        os.close(descriptor)


@contextmanager
def site_lock(folder: Path) -> Iterator[None]:
    """Holds the lock of the runs of a site: one process at a time works on them.

    Args:
        folder: `state/<site>/`.

    Raises:
        RunLocked: another process holds it.
    """
    private_dir(folder)
    lock = filelock.FileLock(folder / "run.lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise RunLocked(
            "another run holds the lock of this site",
            where=str(folder / "run.lock"),
            remedy="Wait for it to end; the lock goes with the process that holds it.",
        ) from error
    try:
        yield
    finally:
        lock.release()


class RunDir:
    """The folder of one run, `runs/<study>/<run id>/`, with a name for everything in it.

    Args:
        path: the folder of the run itself.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, out: Path, study: str, run_id: str) -> RunDir:
        """Makes the folder of a new run under `out`.

        Args:
            out: the folder of all runs.
            study: id of the study.
            run_id: id of the run, unique in the study.

        Raises:
            RunDirError: a run of this id exists, or the id is not a plain name.
        """
        for part in (study, run_id):
            if not _RUN_ID.fullmatch(part):
                raise RunDirError("a study id and a run id are letters, digits, '.', '_' and '-'", where=part)
        path = out / study / run_id
        if path.exists():
            raise RunDirError("a run of this id exists already", where=str(path))
        private_dir(path)
        run = cls(path)
        for folder in (run.quarantine, run.tables, run.datasets, run.figures):
            private_dir(folder)
        return run

    @classmethod
    def open(cls, path: Path, *, needs: Iterable[str] = ()) -> RunDir:
        """Opens the folder of an earlier run.

        Args:
            path: the folder.
            needs: names (relative to the folder) that must be there for the stage that is to run.

        Raises:
            RunDirError: there is no such folder, or it lacks one of the names.
        """
        if not path.is_dir():
            raise RunDirError("there is no such run folder", where=str(path))
        lacking = [name for name in needs if not (path / name).exists()]
        if lacking:
            raise RunDirError(
                f"the run folder lacks {', '.join(lacking)}",
                where=str(path),
                remedy="Run the stage that writes it first.",
            )
        return cls(path)

    @property
    def id(self) -> str:
        """Id of the run: the name of its folder."""
        return self.path.name

    @property
    def manifest(self) -> Path:
        """What ran: versions, study hash, server, cut-off, landing sequence, times, counts, exit status."""
        return self.path / "manifest.json"

    @property
    def accounting(self) -> Path:
        """What became of every resource that landed."""
        return self.path / "accounting.json"

    @property
    def quarantine(self) -> Path:
        """Folder of what could not be used, each with its reason."""
        return self.path / "quarantine"

    @property
    def tables(self) -> Path:
        """Folder of the rows that views emit (Parquet)."""
        return self.path / "tables"

    @property
    def datasets(self) -> Path:
        """Folder of SDTM- and ADaM-like datasets and lineage (Parquet)."""
        return self.path / "datasets"

    @property
    def results(self) -> Path:
        """Every number of the report, by its dotted id."""
        return self.path / "results.json"

    @property
    def figures(self) -> Path:
        """Folder of the figures (SVG)."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The self-contained report."""
        return self.path / "report.html"

    @property
    def definition(self) -> Path:
        """The page that defines every variable of the datasets."""
        return self.path / "define.html"

    @property
    def writeback(self) -> Path:
        """The transaction sent, the answers, the read-back."""
        return self.path / "writeback.json"

    @property
    def log(self) -> Path:
        """The structured log, free of identifiers."""
        return self.path / "run.log.jsonl"
