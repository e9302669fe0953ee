"""What tells an incremental pull that something is gone: the history of a type, and a list of all ids.

Neither decides: what they name is read by its id, or pulled in full, before the landing is told of a deletion.
A server need not offer either; the counts of every query still show that something is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlencode

import msgspec

from fhir_adapter.connectors.bundles import Bundle, read_bundle
from fhir_adapter.connectors.client import Client, ServerFault
from fhir_adapter.connectors.http.transport import TimedOut
from fhir_adapter.connectors.paging import Trail, allowed_url, link, safe_url
from fhir_adapter.connectors.rest.searches import Search, Searched, pages
from fhir_adapter.errors import SourceNotFhir, SourceRefused

__all__ = ["MOST_PAGES", "deleted_ids", "listed"]

#: A history that goes on for longer than that says more about other patients than about deletions.
MOST_PAGES = 200

_DELETED = re.compile(
    r"(?:^|/)([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?$"
)


def _deleted_in(bundle: Bundle, type_: str) -> set[str]:
    found: set[str] = set()
    for entry in bundle.entry or ():
        if entry is None or entry.request is None or entry.request.method != "DELETE":
            continue
        for url in (entry.request.url, entry.fullUrl):
            match = _DELETED.search(url or "")
            if match and match[1] == type_:
                found.add(match[2])
    return found


def deleted_ids(client: Client, type_: str, since: str, stop: Callable[[], bool]) -> set[str] | None:
    """Ids of a type that were deleted since an instant, by the server's history (R4, RESTful API, history).

    Args:
        client: the client.
        type_: resource type.
        since: instant, for `_since`.
        stop: asked between pages; True ends it early.

    Returns:
        The ids, of whatever patient; one of them may have been written again since. None if the server has no
        history of the type, does not allow it, or has more of it than `MOST_PAGES` pages.

    Raises:
        AdapterError: what `Client.get` raises, but a refusal.
    """
    size = client.page_sizes.of(type_)
    first = f"{client.base}/{type_}/_history?{urlencode({'_since': since, '_count': size})}"
    url: str | None = first
    trail = Trail(safe_url(first))
    found: set[str] = set()
    for _ in range(MOST_PAGES):
        if url is None or stop():
            return found
        try:
            trail.visit(url)
            answer = client.get(url)
            if answer.status != 200:
                return None
            bundle = read_bundle(answer.body)
            trail.brought(len(bundle.entry or ()))
        except (SourceRefused, SourceNotFhir, ServerFault, TimedOut, ValueError):
            return None
        found |= _deleted_in(bundle, type_)
        following = link(bundle, "next")
        url = None if following is None else allowed_url(following, answer.url, client.site)
    return found if url is None else None


def listed(client: Client, search: Search, stop: Callable[[], bool]) -> dict[str, str] | None:
    """Ids and versions (`meta.versionId`, or "") of all that a search finds; nothing of it may land.

    The server is asked for ids alone (`_elements`), which it may heed or not. None if it does not take that.

    Raises:
        AdapterError: what `pages` raises, but an answer that is not a page.
    """
    ids = msgspec.structs.replace(search, parameters=(*search.parameters, ("_elements", "id")))
    found: dict[str, str] = {}
    so_far = Searched()
    try:
        for page in pages(client, ids, so_far, stop):
            found.update({item.id: item.version for item in page.items if item.id in so_far.matched})
    except SourceNotFhir:
        return None
    return None if so_far.refused else found
