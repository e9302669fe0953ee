"""How many resources a page may have, learnt from the server: half as many after a fault, slowly more again."""

from __future__ import annotations

import threading

__all__ = ["SMALLEST", "PageSizes"]

#: Smaller pages are not asked for: what fails with these does not fail for its size.
SMALLEST = 10
_GROWS_AFTER = 8


class PageSizes:
    """The size of the pages of each resource type. Thread-safe.

    Args:
        largest: what the site asks for, and what a size grows back to.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._good: dict[str, int] = {}

    def of(self, type_: str) -> int:
        """The size to ask for."""
        with self._lock:
            return self._sizes.get(type_, self._largest)

    def smaller(self, type_: str, used: int) -> bool:
        """Notes that pages of a size failed; False if they cannot be made smaller."""
        with self._lock:
            if used <= SMALLEST:
                return False
            # Searches that ran at the same time and failed with the same size halve it once.
            self._sizes[type_] = min(self._sizes.get(type_, self._largest), max(SMALLEST, used // 2))
            self._good[type_] = 0
            return True

    def went_well(self, type_: str) -> None:
        """Notes a search that came to its end; after some of them the size is doubled."""
        with self._lock:
            if type_ not in self._sizes:
                return
            self._good[type_] += 1
            if self._good[type_] >= _GROWS_AFTER:
                self._good[type_] = 0
                self._sizes[type_] = min(self._largest, 2 * self._sizes[type_])
                if self._sizes[type_] == self._largest:
                    del self._sizes[type_]
