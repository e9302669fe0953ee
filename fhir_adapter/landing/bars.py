"""The bar list: subjects who were taken out for good, so that no pull brings them again.

    state/<site>/barred.json    a key, and one keyed hash (HMAC-SHA-256, RFC 2104) per subject

It holds no id: whoever reads it learns of a subject only by trying the ids that they know already. It outlives a
purge of the whole landing.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from pathlib import Path

from fhir_adapter.errors import LandingError, RunDirError
from fhir_adapter.rundir import read_json, write_json

__all__ = ["BARRED", "BarList"]

#: Name of the file within `state/<site>/`.
BARRED = "barred.json"


class BarList:
    """The barred subjects of a landing.

    Args:
        folder: `state/<site>/`; without a list nobody is barred.

    Raises:
        LandingError: the list cannot be read; nothing may be pulled then.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / BARRED
        self._key = b""
        self._hashes: set[str] = set()
        self._known: dict[str, bool] = {}
        if not self._path.exists():
            return
        try:
            stored = read_json(self._path)
            self._key = bytes.fromhex(stored["key"])
            self._hashes = {str(item) for item in stored["subjects"]}
        except (RunDirError, KeyError, TypeError, ValueError) as error:
            raise LandingError(
                "the list of barred subjects cannot be read, so nobody can say who must not be pulled",
                where=BARRED,
                remedy="Restore it from a backup; without it subjects who withdrew may come back.",
            ) from error

    def __len__(self) -> int:
        return len(self._hashes)

    def holds(self, subject: str | None) -> bool:
        """Whether a subject (`Patient/<id>`) is barred."""
        if subject is None or not self._hashes:
            return False
        if subject not in self._known:
            self._known[subject] = self._hash(subject) in self._hashes
        return self._known[subject]

    def add(self, subjects: Iterable[str]) -> int:
        """Bars subjects; gives how many were not barred before."""
        if not self._key:
            self._key = secrets.token_bytes(32)
        return self._keep(self._hashes | {self._hash(subject) for subject in subjects})

    def remove(self, subjects: Iterable[str]) -> int:
        """Admits subjects again; gives how many were barred."""
        return -self._keep(self._hashes - {self._hash(subject) for subject in subjects})

    def _hash(self, subject: str) -> str:
        return hmac.digest(self._key, subject.encode(), "sha256").hex()

    def _keep(self, hashes: set[str]) -> int:
        change = len(hashes) - len(self._hashes)
        if change:
            write_json(self._path, {"key": self._key.hex(), "subjects": sorted(hashes)})
            self._hashes = hashes
            self._known = {}
        return change
