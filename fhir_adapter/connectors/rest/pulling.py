"""What every part of a pull from a server shares: landing, counting, reconciling, settling what is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import msgspec

from fhir_adapter.arrivals import Arrival, Checkpoint, Landing, arrival, gone
from fhir_adapter.connectors.client import URL_LENGTH, Client, search_url
from fhir_adapter.connectors.plan import SUBJECT_PARAMETER, PullPlan
from fhir_adapter.connectors.reports import Difference, Progress, PullReport, Tally
from fhir_adapter.connectors.rest.searches import Page, Search, Searched, count, pages, takes_post
from fhir_adapter.errors import SourceIncomplete
from fhir_adapter.site import Site

__all__ = ["Pulling", "chunks"]


def chunks(items: Iterable[str], size: int) -> Iterator[tuple[str, ...]]:
    """Items in batches of a size, in their order."""
    batch: list[str] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield tuple(batch)
            batch = []
    if batch:
        yield tuple(batch)


class Pulling:
    """A pull that is under way.

    Args:
        site: the site.
        plan: candidates, types by subject, types by reference.
        landing: where everything lands.
        client: of the site's server.
        full: leave checkpoints aside.
        progress: called with the type of a page's last resource and the number that came so far.

    Attributes:
        report: what came so far.
        stop: set where the pull ends early.
        tally: distinct resources that came, for the report.
        candidates: keys of the subjects, once they are known.
    """

    def __init__(
        self,
        site: Site,
        plan: PullPlan,
        landing: Landing,
        client: Client,
        *,
        full: bool,
        progress: Progress | None,
    ) -> None:
        self.site = site
        self.plan = plan
        self.landing = landing
        self.client = client
        self.full = full
        self.progress = progress
        self.report = PullReport("rest", full=full, before=landing.sequence)
        self.stop = threading.Event()
        self.tally = Tally()
        self._number = 0
        self._post_asked: bool | None = None
        self.candidates: set[str] | None = None

    def land(
        self, items: list[Arrival], checkpoints: Iterable[Checkpoint] = (), *, apart: bool = False
    ) -> None:
        """Lands arrivals with checkpoints that become true by them, counted; what is barred is left out.

        Args:
            items: the arrivals.
            checkpoints: theirs.
            apart: other threads read on meanwhile.

        Raises:
            SourceIncomplete: the source sends more than `max_resources`.
        """
        if self.landing.bars_anyone:
            for item in items:
                if not self.landing.admits(item):
                    self.report.bar(item)
            items = [item for item in items if self.landing.admits(item)]
        self.tally.add(items)
        self._number += len(items)
        if self._number > self.site.max_resources:
            raise SourceIncomplete(
                f"the source sends more than max_resources ({self.site.max_resources})",
                where=self.client.base,
                remedy="Raise it in the site file, if the source is that large.",
            )
        self.report.outcome.add(self.landing.append(items, checkpoints, apart=apart))
        if items and self.progress is not None:
            self.progress(items[-1].type, self._number)

    def note(self, page: Page) -> None:
        """Keeps the server's notes of a page as findings."""
        for note in page.notes:
            self.report.find("server-note", f"the server adds a note to its results: {note}")

    def differs(self, type_: str, expected: int, received: int, subjects: int) -> None:
        """Keeps that the server counts another number than came, for a query of so many subjects.

        Raises:
            SourceIncomplete: if the site says `on_difference: fail`.
        """
        difference = Difference(type_, expected, received, subjects)
        self.report.differences.append(difference)
        if self.site.on_difference == "fail":
            raise SourceIncomplete(
                f"the server counts {expected} {type_}, {received} came",
                where=self.client.base,
                remedy="Pull again; set `on_difference: finding` to go on with what came.",
            )
        self.report.find("count-differs", f"the server's count of {type_} is not what came")

    def search(self, search: Search) -> tuple[list[Arrival], bool]:
        """A search in this thread, landed: what it brought, and whether the server's count agrees."""
        for attempt in (1, 2):
            found: dict[str, Arrival] = {}
            searched = Searched()
            for page in pages(self.client, search, searched, self.stop.is_set):
                self.note(page)
                self.land(page.items)
                for item in page.items:
                    # Candidates may be many: of these only the members of a Group are read.
                    kept = item if item.type == "Group" else msgspec.structs.replace(item, body=b"")
                    found[f"{item.type}/{item.id}"] = kept
            if searched.shrunk:
                self.shrunk(search.type)
            total = count(self.client, search)
            total = searched.total if total is None else total
            if total is None:
                self.report.find("no-count", f"the server does not say how many {search.type} it has")
                return list(found.values()), False
            if total == len(searched.matched):
                return list(found.values()), True
            if attempt == 2:
                self.differs(search.type, total, len(searched.matched), 0)
        return list(found.values()), False

    def fits(self, search: Search) -> bool:
        """Whether a search can be sent: by GET, or if that is too long by POST where the server takes it."""
        url = search_url(
            self.client.base, search.type, [*search.parameters, ("_count", str(self.site.page_size))]
        )
        if len(url) <= URL_LENGTH:
            return True
        if self._post_asked is None:
            self._post_asked = takes_post(self.client, search)
            if not self._post_asked:
                self.report.find(
                    "post-search-not-supported",
                    "the server takes no search by POST; long ones were cut into short ones",
                )
        return self._post_asked

    def shrunk(self, type_: str) -> None:
        """Keeps that pages were too large for the server."""
        self.report.find("page-too-large", f"pages of {type_} failed and were asked for in smaller ones")

    def link_too_long(self, type_: str) -> None:
        """Keeps that a next link was too long for the server."""
        self.report.find(
            "next-link-too-long", f"the server did not take its own next link; {type_} was searched in parts"
        )

    def settle_lost(
        self, type_: str, ids: Iterable[str], subjects: tuple[str, ...] = (), *, sought: bool = True
    ) -> None:
        """Reads by id what a search no longer finds: gone is deleted, there is landed as it is now.

        Args:
            type_: resource type.
            ids: of what is known.
            subjects: whom the search was for.
            sought: whether a search should have found them.
        """
        for id_ in sorted(ids):
            answer = self.client.get(f"{self.client.base}/{type_}/{id_}")
            if answer.status in {404, 410}:
                self.land([gone(type_, id_)])
            elif answer.status == 200:
                item = arrival(answer.body, origin=f"{type_}/[id]", base=self.client.base)
                candidates = self.candidates
                theirs = type_ in SUBJECT_PARAMETER and item.subject is not None
                if theirs and candidates is not None and item.subject not in candidates:
                    # Of a person who is not ours it is none of our business what it says now.
                    self.land([gone(type_, id_)])
                    self.report.find("moved-away", f"a {type_} now belongs to a patient outside of the study")
                    continue
                self.land([item])
                if sought and (not subjects or item.subject in subjects):
                    self.report.find(
                        "not-found-by-search", f"a {type_} that no search found any longer was read by id"
                    )
            else:
                raise self.client.unexpected(answer)
