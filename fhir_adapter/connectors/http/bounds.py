"""What bounds all requests of a pull together: requests per second, total time, total size."""

from __future__ import annotations

import threading
import time

from fhir_adapter.errors import SourceIncomplete

__all__ = ["Bounds"]


class Bounds:
    """Paces the requests of a site, and ends a pull that takes too long or brings too much. Thread-safe.

    Args:
        per_second: most requests per second; None for no pace.
    """

    def __init__(self, per_second: float | None) -> None:
        self._lock = threading.Lock()
        self._gap = 1 / per_second if per_second else 0.0
        self._next = 0.0
        self._latest: float | None = None
        self._seconds: float | None = None
        self._size: int | None = None
        self._bytes = 0

    def limit(self, seconds: float | None, size: int | None) -> None:
        """Counts time (seconds) and size (bytes) from now on; None does not limit."""
        with self._lock:
            self._seconds, self._size, self._bytes = seconds, size, 0
            self._latest = None if seconds is None else time.monotonic() + seconds

    def wait(self, where: str) -> None:
        """Waits until the next request may be sent.

        Raises:
            SourceIncomplete: the time is over.
        """
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap
        self.in_time(where, turn)
        if turn > now:
            time.sleep(turn - now)

    def came(self, number: int, where: str) -> None:
        """Counts bytes that came.

        Raises:
            SourceIncomplete: they are too many, or the time is over.
        """
        with self._lock:
            self._bytes += number
            over = self._size is not None and self._bytes > self._size
        if over:
            raise SourceIncomplete(
                f"the source sends more than max_pull_bytes ({self._size})",
                where=where,
                remedy="What landed stays. Raise it in the site file, if the source is that large.",
            )
        self.in_time(where)

    def in_time(self, where: str, moment: float | None = None) -> None:
        """Ends a pull at a moment (monotonic; default: now) that is too late.

        Raises:
            SourceIncomplete: the time is over.
        """
        if self._latest is not None and (time.monotonic() if moment is None else moment) > self._latest:
            raise SourceIncomplete(
                f"the pull takes longer than max_pull_s ({self._seconds:g})",
                where=where,
                remedy="What landed stays, and the next pull goes on from there.",
            )
