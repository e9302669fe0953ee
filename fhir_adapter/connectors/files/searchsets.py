"""Saved search results in files: whether one states more matches than it holds.

`Bundle.total` is the number of matches of the whole search, over all its pages (FHIR R4, Bundle.total), so a page of
several holds fewer than it states. Which page that is tell its links; those are optional, so what is found is
worth a look and no proof.
"""

from __future__ import annotations

from collections import Counter

from fhir_adapter.connectors.bundles import read_bundle
from fhir_adapter.connectors.reports import PullReport

__all__ = ["Searchsets"]

_OTHER_PAGES = frozenset({"next", "previous", "prev"})


class Searchsets:
    """The search results that a pull met in files."""

    def __init__(self) -> None:
        self._short: Counter[int] = Counter()
        self._paged: set[int] = set()

    def see(self, data: bytes) -> None:
        """Looks at a JSON value; what is no search result, or states no total, is passed over."""
        if b'"searchset"' not in data:
            return
        try:
            bundle = read_bundle(data.removeprefix(b"\xef\xbb\xbf"))
        except ValueError:
            return
        if bundle.type != "searchset" or bundle.total is None:
            return
        if any(link.relation in _OTHER_PAGES for link in bundle.link or ()):
            self._paged.add(bundle.total)
            return
        matches = sum(
            entry is not None
            and bool(bytes(entry.resource))
            and (entry.search is None or entry.search.mode in {None, "match"})
            for entry in bundle.entry or ()
        )
        if matches < bundle.total:
            self._short[bundle.total] += 1

    def into(self, report: PullReport) -> None:
        """Adds findings; a last page, whose total a page with a next link has too, is none."""
        for total, number in self._short.items():
            if total not in self._paged:
                for _ in range(number):
                    report.find("bundle-total", "a search result in a file states more matches than it holds")
