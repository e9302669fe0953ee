"""One search, from its first page to its last, and what the server says it should have brought."""

from __future__ import annotations

import datetime as dt
import email.utils
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import msgspec

from fhir_adapter.arrivals import Arrival, arrivals
from fhir_adapter.connectors.bundles import Bundle, read_bundle
from fhir_adapter.connectors.client import URL_LENGTH, Answer, Client, ServerFault, issue_codes, search_url
from fhir_adapter.connectors.http.transport import TimedOut, TooLong
from fhir_adapter.connectors.paging import Trail, allowed_url, ignored_parameters, link, safe_url
from fhir_adapter.errors import SourceIncomplete, SourceNotFhir

__all__ = ["LinkTooLong", "Page", "Search", "Searched", "count", "instant", "pages", "since", "takes_post"]

_FIRST_YEAR, _LAST_YEAR = 2000, 2200
#: How far back a pull begins before the mark that the last one left: servers index with a delay.
OVERLAP = dt.timedelta(minutes=5)
#: Search modes of entries that are no matches.
_BESIDE = frozenset({"include", "outcome"})


class LinkTooLong(SourceNotFhir):
    """The server does not take a next link of its own, which is long; a narrower search may need none."""


class Search(msgspec.Struct, frozen=True):
    """A search.

    Attributes:
        type: resource type.
        parameters: without `_count`.
        origin: how arrivals say where they came from; no values.
    """

    type: str
    parameters: tuple[tuple[str, str], ...]
    origin: str


class Page(msgspec.Struct, frozen=True):
    """A page: what was new in it within its search, and notes (severity and code) of the server's."""

    items: list[Arrival]
    notes: list[str]


class Searched(msgspec.Struct):
    """What a search has brought so far.

    Attributes:
        matched: ids of the searched type, included resources left out.
        total: what the first page says there is, or None.
        started: the server's time at the first page (ISO 8601), or "".
        restarts: times the search began again because its cursor had expired.
        shrunk: it began again because pages were too large for the server.
        refused: the server does not know `_lastUpdated`; nothing was searched.
    """

    matched: set[str] = msgspec.field(default_factory=set)
    total: int | None = None
    started: str = ""
    restarts: int = 0
    refused: bool = False
    shrunk: bool = False


def instant(bundle: Bundle, answer: Answer) -> str:
    """The server's time of a search: `Bundle.meta.lastUpdated`, else the Date header; "" if neither."""
    stated = bundle.meta.lastUpdated if bundle.meta else None
    readers: tuple[tuple[str | None, Callable[[str], dt.datetime]], ...] = (
        (stated, dt.datetime.fromisoformat),
        (answer.date, email.utils.parsedate_to_datetime),
    )
    for text, read in readers:
        try:
            moment = read(text or "")
        except (TypeError, ValueError, OverflowError):
            continue
        # A clock that far off would be no mark to begin from, and at the ends of the calendar no date either.
        if moment.tzinfo is not None and _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds")
    return ""


def since(mark: str) -> str:
    """Value of `_lastUpdated` that begins before a mark; with milliseconds, for HAPI skips whole seconds."""
    moment = dt.datetime.fromisoformat(mark) - OVERLAP
    return f"ge{moment.astimezone(dt.UTC).strftime('%Y-%m-%dT%H:%M:%S.')}{moment.microsecond // 1000:03d}Z"


def _bundle(client: Client, answer: Answer) -> Bundle:
    if answer.status != 200:
        raise client.unexpected(answer)
    try:
        return read_bundle(answer.body)
    except ValueError as error:
        codes = issue_codes(answer.body)
        raise SourceNotFhir(
            f"instead of a page the server sent {error}" + (f" ({codes})" if codes else ""),
            where=safe_url(answer.url),
        ) from error


def _whole(client: Client, ask: Callable[[], Answer]) -> Answer:
    """A page; one that ends too early is asked for again: without a length nobody else notices a cut."""
    for _ in range(client.site.retry.attempts - 1):
        answer = ask()
        if answer.status != 200 or answer.body.rstrip().endswith(b"}"):
            return answer
    return ask()


def _items(
    bundle: Bundle, search: Search, client: Client, so_far: Searched, seen: set[str]
) -> tuple[list[Arrival], list[str]]:
    """The arrivals of a page that have not come before, and notes of the server's."""
    entries = bundle.entry or []
    bodies = [bytes(entry.resource) or b"null" if entry is not None else b"null" for entry in entries]
    items = arrivals(bodies, type_=search.type, origin=search.origin, base=client.base)
    beside = {
        number
        for number, entry in enumerate(entries)
        if entry is not None and entry.search is not None and entry.search.mode in _BESIDE
    }
    kept, notes = items, list[str]()
    if beside or not {item.type for item in items} <= {search.type}:
        kept = []
        for number, item in enumerate(items):
            if item.type == "OperationOutcome" and search.type != item.type:
                notes.append(issue_codes(bodies[number]) or "unspecified")
                continue
            if number not in beside and item.type in {search.type, ""}:
                so_far.matched.add(item.id)
            kept.append(item)
    else:  # nearly every page, and in less time
        so_far.matched.update([item.id for item in items])
    return _unseen(kept, seen), notes


def _unseen(items: list[Arrival], seen: set[str]) -> list[Arrival]:
    """Those whose version has not come before, each once, and noted from now on."""
    names = [f"{item.type}/{item.id}/{item.version or item.sha256.hex()}" for item in items]
    if len(set(names)) == len(names) and seen.isdisjoint(names):
        seen.update(names)
        return items
    fresh: list[Arrival] = []
    for name, item in zip(names, items, strict=True):
        if name not in seen:
            seen.add(name)
            fresh.append(item)
    return fresh


def _page(client: Client, type_: str, sent: list[tuple[str, str]], url: str | None) -> Answer:
    """The page that a link leads to, or the first one."""
    return _whole(client, lambda: client.search(type_, sent) if url is None else client.get(url))


def _follow(
    client: Client, type_: str, sent: list[tuple[str, str]], trail: Trail, following: str, current: str
) -> tuple[str, Answer]:
    """The page that a link leads to, and its URL."""
    url = allowed_url(following, current, client.site)
    trail.visit(url)
    return url, _page(client, type_, sent, url)


def _new_since(bundle: Bundle, known: set[int]) -> int:
    """How many entries of a page were not among those known, which they now are."""
    before = len(known)
    known.update(hash(bytes(entry.resource)) for entry in bundle.entry or () if entry is not None)
    return len(known) - before


def takes_post(client: Client, search: Search) -> bool:
    """Whether the server answers a search by POST; asked once with its count alone."""
    if not client.posts:
        answer = client.post_search(search.type, [*search.parameters, ("_summary", "count")])
        if answer.status == 200:
            try:
                read_bundle(answer.body)
                client.posts = True
            except ValueError:
                client.posts = False
    return client.posts


def pages(client: Client, search: Search, so_far: Searched, stop: Callable[[], bool]) -> Iterator[Page]:
    """Runs a search to its end.

    Args:
        client: the client.
        search: what to search.
        so_far: filled on the way; complete when the iterator ends.
        stop: asked between pages; True ends the iterator early.

    Yields:
        Page after page. A search whose cursor expires (410) begins again; what came before does not come
        twice. So does one whose pages are too large for the server (413, 500, 502, 504, a time-out, more bytes
        than a page may have), with pages half as large.

    Raises:
        SourceIncomplete: it runs in a circle, or its cursor expires at every attempt.
        LinkTooLong: the server does not take its own next link.
        SourceNotFhir: the server ignores a parameter, does not know it, or sends no Bundle.
        AdapterError: what `Client.get` raises.
    """
    site = client.site
    size = client.page_sizes.of(search.type)
    sent = [*search.parameters, ("_count", str(size))]
    first = search_url(client.base, search.type, sent)
    where = safe_url(first)
    seen: set[str] = set()
    since_start: set[int] | None = None
    trail = Trail(where)
    upcoming: Future[tuple[str, Answer]] | None = None
    while not stop():
        beginning = upcoming is None
        answer: Answer | None = None
        try:
            if upcoming is None:
                trail.visit(first)
                url, answer = first, _page(client, search.type, sent, None)
            else:
                url, answer = upcoming.result()
        except (ServerFault, TimedOut, TooLong):
            if not client.page_sizes.smaller(search.type, size):
                raise
        upcoming = None
        if answer is not None and answer.status == 413 and client.page_sizes.smaller(search.type, size):
            answer = None
        if answer is None:
            so_far.shrunk = True
            size = client.page_sizes.of(search.type)
            sent = [*search.parameters, ("_count", str(size))]
            first = search_url(client.base, search.type, sent)
            trail, since_start = Trail(where), set()
            continue
        if answer.status == 410 and not beginning:
            so_far.restarts += 1
            if so_far.restarts >= site.retry.attempts:
                raise SourceIncomplete(f"the paging cursor expired {so_far.restarts} times", where=where)
            trail, since_start = Trail(where), set()
            continue
        if not beginning and answer.status in {404, 414} and len(url) > URL_LENGTH:
            raise LinkTooLong(
                f"the server answers {answer.status} to its own next link of {len(url)} characters",
                where=where,
                remedy="Raise `page_size`, so that fewer pages are needed.",
            )
        if beginning and answer.status in {400, 422, 501} and any(n == "_lastUpdated" for n, _ in sent):
            so_far.refused = True
            return
        bundle = _bundle(client, answer)
        if beginning:
            posted = client.posts and len(first) > URL_LENGTH
            ignored = (
                [] if posted and "?" not in (link(bundle, "self") or "") else ignored_parameters(bundle, sent)
            )
            if ignored:
                raise SourceNotFhir(
                    f"the server ignores the search parameter {', '.join(ignored)} and would send everything",
                    where=where,
                )
            so_far.total = bundle.total
            so_far.started = so_far.started or instant(bundle, answer)
        following = link(bundle, "next")
        if following is not None:
            # On its way while this page is read. What is wrong with the link is said after this page has landed.
            upcoming = client.ahead(
                functools.partial(_follow, client, search.type, sent, trail, following, url)
            )
        items, notes = _items(bundle, search, client, so_far, seen)
        # After a new beginning what came before comes again, and only what comes twice since then is a circle.
        trail.brought(len(items) if since_start is None else _new_since(bundle, since_start))
        if items or notes:
            yield Page(items, notes)
        if upcoming is None:
            client.page_sizes.went_well(search.type)
            return


def count(client: Client, search: Search) -> int | None:
    """What the server says the search has (`_summary=count`); None if it does not say."""
    answer = client.search(search.type, [*search.parameters, ("_summary", "count")])
    if answer.status != 200:
        return None
    return _bundle(client, answer).total
