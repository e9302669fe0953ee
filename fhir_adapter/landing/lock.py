"""The lock of a landing: one process at a time writes it."""

from __future__ import annotations

from pathlib import Path

import filelock

from fhir_adapter.errors import RunLocked
from fhir_adapter.rundir import private_dir

__all__ = ["landing_lock", "writer_lock"]

#: Seconds that the writing process of a run that was killed has for the batch it is at.
_LAST_BATCH_S = 30.0


def writer_lock(folder: Path) -> filelock.BaseFileLock:
    """The lock that the writing process of a landing holds as long as it lives; not taken yet.

    Args:
        folder: `state/<site>/`.
    """
    return filelock.FileLock(folder / "writer.lock", mode=0o600)


def landing_lock(folder: Path) -> filelock.BaseFileLock:
    """Takes the lock of a landing, making its folder if need be; the caller gives it back.

    Args:
        folder: `state/<site>/`.

    Raises:
        RunLocked: another process holds it, or still writes for a run that was killed.
    """
    private_dir(folder)
    lock = filelock.FileLock(folder / "landing.lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise RunLocked(
            "another run holds the lock of this site",
            where=str(folder / "landing.lock"),
            remedy="Wait for it to end; the lock goes with the process that holds it.",
        ) from error
    if (folder / "writer.lock").exists():
        # No run is there any more that could start one: a process that has not taken its lock by now gets no batch.
        try:
            with writer_lock(folder).acquire(timeout=_LAST_BATCH_S):
                pass
        except filelock.Timeout as error:
            lock.release()
            raise RunLocked(
                "a process of a run that was killed still writes",
                where=str(folder / "writer.lock"),
                remedy="Wait for it to end; it ends with the batch that it has.",
            ) from error
    return lock
