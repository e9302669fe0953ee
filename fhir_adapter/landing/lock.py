"""The lock of a landing: one process at a time writes it."""

from __future__ import annotations

from pathlib import Path

import filelock

from fhir_adapter.errors import RunLocked
from fhir_adapter.rundir import private_dir

__all__ = ["landing_lock"]


def landing_lock(folder: Path) -> filelock.BaseFileLock:
    """Takes the lock of a landing, making its folder if need be; the caller gives it back.

    Args:
        folder: `state/<site>/`.

    Raises:
        RunLocked: another process holds it.
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
    return lock
