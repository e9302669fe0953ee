"""Following a search from page to page: which next link may be followed, and when a search runs in a circle.

Next links are followed as given, never made by hand. What is mended is only what servers behind proxies get
wrong: a relative link, http where the base is https, `:443:443`, and an inner name of the server that the
    site file lists.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urljoin, urlsplit, urlunsplit

from fhir_adapter.connectors.bundles import Bundle
from fhir_adapter.errors import SourceIncomplete, SourceNotFhir, SourceRefused
from fhir_adapter.site import Site, origin

__all__ = ["EMPTY_PAGES", "Trail", "allowed_url", "ignored_parameters", "link", "safe_url"]

#: So many pages in a row without anything new are a circle, not a search.
EMPTY_PAGES = 10

_REPEATED_PORT = re.compile(r"^(https?://[^/?#:]+)(:\d+)(?:\2)+(?=[/?#]|$)")
#: Longest link that is followed; the longest that real servers make are a few kilobytes.
_LONGEST_LINK = 64 * 1024
_SHOWN_NAMES = 8
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.:\-]{0,63}")
_UNPRINTABLE = re.compile(r"[^!-~]")
_ID_IN_PATH = re.compile(r"/([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}")
# What a server may ignore without sending the wrong resources (without `_lastUpdated` more comes, not less).
_CONTROL = {"_lastUpdated", "_count", "_format", "_total", "_summary", "_elements", "_pretty", "_sort"}


def safe_url(url: str) -> str:
    """A URL for messages: no values of parameters, no ids, no user; bounded, and nothing a terminal would obey."""
    parts = urlsplit(url)
    path = _ID_IN_PATH.sub(r"/\1/[id]", parts.path)
    given = dict.fromkeys(name for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    names = [name if _PARAMETER.fullmatch(name) else "[name]" for name in given]
    more = ["[more]"] if len(names) > _SHOWN_NAMES else []
    host = parts.netloc.rpartition("@")[2]
    place = _shown(f"{parts.scheme}://{host}{path}")
    return place + (f"?{','.join([*names[:_SHOWN_NAMES], *more])}" if names else "")


def _shown(text: str) -> str:
    """Text of a server's that may stand in a message: printable, and not long."""
    return _UNPRINTABLE.sub("?", text if len(text) <= 200 else f"{text[:200]}[...]")


def link(bundle: Bundle, relation: str) -> str | None:
    """URL of a link of a Bundle."""
    for item in bundle.link or ():
        if item.relation == relation and item.url:
            return item.url
    return None


def allowed_url(url: str, current: str, site: Site) -> str:
    """The URL to follow for a link that a server gave.

    Args:
        url: the link, absolute or relative.
        current: URL of the page that it stands in.
        site: the site; its base, `aliases` and `allowed_hosts` say where a link may lead.

    Returns:
        An absolute URL on the source's origin, or on a host that the site allows.

    Raises:
        SourceRefused: the link leads elsewhere.
        SourceNotFhir: it is no http or https URL.
    """
    base = site.source.url or ""
    if len(url) > _LONGEST_LINK:
        raise SourceNotFhir(f"a link is longer than {_LONGEST_LINK} characters", where=safe_url(current))
    try:
        absolute = _REPEATED_PORT.sub(r"\1\2", urljoin(current, url.strip()))
        target, home = origin(absolute), origin(base)
    except ValueError as error:
        raise SourceNotFhir("a link is no http or https URL", where=safe_url(current)) from error
    parts, ours = urlsplit(absolute), urlsplit(base)
    if parts.username or parts.password:
        raise SourceRefused("a link carries a user or password", where=safe_url(current))
    if target == home:
        return absolute
    downgraded = ours.scheme == "https" and parts.scheme == "http" and parts.hostname == ours.hostname
    if target in site.aliases or (downgraded and parts.port in {None, 80, ours.port}):
        return urlunsplit((ours.scheme, ours.netloc, parts.path, parts.query, ""))
    hosts = {host.lower() for host in site.allowed_hosts}
    if (parts.hostname or "").lower() in hosts or parts.netloc.lower() in hosts:
        return absolute
    raise SourceRefused(
        f"a link leads to another host ({_shown(target)})",
        where=safe_url(current),
        remedy="The same server under another name belongs in `aliases`; another one, to be followed "
        "without our credential, in `allowed_hosts`.",
    )


def ignored_parameters(bundle: Bundle, sent: list[tuple[str, str]]) -> list[str]:
    """Search parameters that the self link does not repeat: the server ignored them (R4, 3.1.1.5.1).

    A parameter counts as repeated if its name is there, or its value under another name (`subject` for
    `patient`). Without a self link nothing can be said.
    """
    own = link(bundle, "self")
    if own is None:
        return []
    query = parse_qsl(urlsplit(own).query, keep_blank_values=True)
    names = {name.partition(":")[0] for name, _ in query}
    values = {frozenset(value.split(",")) for _, value in query}
    return [
        name
        for name, value in sent
        if name not in _CONTROL
        and name.partition(":")[0] not in names
        and frozenset(value.split(",")) not in values
    ]


class Trail:
    """Where a search has been, so that it ends.

    Args:
        where: what is searched, for messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._seen: set[str] = set()
        self._empty = 0

    def visit(self, url: str) -> None:
        """Notes a page.

        Raises:
            SourceIncomplete: it has been visited in this search.
        """
        if url in self._seen:
            raise SourceIncomplete("the next link leads in a circle", where=self._where)
        self._seen.add(url)

    def brought(self, new: int) -> None:
        """Notes how many new resources a page brought.

        Raises:
            SourceIncomplete: too many pages in a row brought none.
        """
        self._empty = 0 if new else self._empty + 1
        if self._empty > EMPTY_PAGES:
            raise SourceIncomplete(
                f"more than {EMPTY_PAGES} pages in a row brought nothing new and there is still a next one",
                where=self._where,
            )
