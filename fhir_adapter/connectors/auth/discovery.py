"""Where a server's token endpoint is: `.well-known/smart-configuration` (SMART App Launch 2.2, Conformance).

Discovery is read without a credential, and believed only as far as the site allows: an endpoint of another origin
than the source's is refused unless the site file names that origin.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import msgspec

from fhir_adapter.connectors.http.proxies import is_loopback
from fhir_adapter.connectors.http.transport import BrokenOffError, Transport
from fhir_adapter.connectors.paging import safe_url
from fhir_adapter.errors import SiteFileError, SourceNotFhir, SourceRefused, SourceUnreachable
from fhir_adapter.site import Site, checked_endpoint, origin
from fhir_adapter.undecodable import UNDECODABLE

__all__ = ["Endpoint", "token_endpoint"]

#: Longest smart-configuration that is read.
_LIMIT = 1024 * 1024
_REMEDY = "Name the token endpoint in the site file, as `auth.token_url`."


class Endpoint(msgspec.Struct, frozen=True):
    """A token endpoint.

    Attributes:
        url: where tokens are asked for.
        audience: the URL by which the authorization server knows itself: as it was advertised.
        capabilities: `capabilities` of the SMART configuration.
        scopes_supported: `scopes_supported` of it.
        date: header Date of the answer, or "".
    """

    url: str
    audience: str
    capabilities: frozenset[str] = frozenset()
    scopes_supported: frozenset[str] = frozenset()
    date: str = ""


class _Configuration(msgspec.Struct):
    """What is needed of a SMART configuration."""

    token_endpoint: str | None = None
    capabilities: list[str] | None = None
    scopes_supported: list[str] | None = None


def _confidential(url: str, site: Site, where: str) -> None:
    """A token endpoint is https, or http on loopback if the site allows that.

    Raises:
        SiteFileError: it is not.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() == "https" or (site.auth.allow_http and is_loopback(parts.hostname or "")):
        return
    raise SiteFileError(
        "the token endpoint is not https",
        where=where,
        remedy="On loopback `auth.allow_http` allows http; elsewhere nothing does.",
    )


def token_endpoint(site: Site, transport: Transport) -> Endpoint:
    """Finds the token endpoint: `auth.token_url` of the site file, else by discovery at the source.

    Raises:
        SiteFileError: the endpoint is not https.
        SourceNotFhir: the server has no SMART configuration, or one without a usable token endpoint.
        SourceRefused: the endpoint is of an origin that the site does not trust, or discovery was refused.
        SourceUnreachable: there is no answer.
    """
    auth = site.auth
    if auth.token_url is not None:
        _confidential(auth.token_url, site, "auth.token_url")
        return Endpoint(auth.token_url, auth.audience or auth.token_url)
    base = site.source.url or ""
    place = f"{base}/.well-known/smart-configuration"
    configuration, date = _read(place, site, transport)
    advertised = configuration.token_endpoint or ""
    try:
        url, found = checked_endpoint(advertised), origin(advertised)
    except ValueError as error:
        raise SourceNotFhir(
            "the SMART configuration names no token endpoint that is a URL",
            where=safe_url(place),
            remedy=_REMEDY,
        ) from error
    home = origin(base)
    if found in site.aliases:
        own, parts = urlsplit(base), urlsplit(url)
        url = urlunsplit((own.scheme, own.netloc, parts.path, parts.query, ""))
    elif found != home and found not in auth.trusted_origins:
        raise SourceRefused(
            f"discovery names a token endpoint elsewhere ({found})",
            where=safe_url(place),
            remedy="If that is the authorization server of this source, name it in `auth.trusted_origins`.",
        )
    _confidential(url, site, safe_url(place))
    return Endpoint(
        url,
        auth.audience or advertised,
        frozenset(configuration.capabilities or ()),
        frozenset(configuration.scopes_supported or ()),
        date,
    )


def _read(place: str, site: Site, transport: Transport) -> tuple[_Configuration, str]:
    where = safe_url(place)
    headers = {"Accept": "application/json"}
    for _ in range(site.retry.attempts):
        try:
            answer = transport.send("GET", place, headers=headers, certificate=True, limit=_LIMIT)
        except BrokenOffError:
            continue
        break
    else:
        raise SourceUnreachable("the answer to discovery broke off every time", where=where)
    if answer.status in {401, 403}:
        raise SourceRefused(
            f"the server does not allow discovery ({answer.status})", where=where, remedy=_REMEDY
        )
    if answer.status == 429 or answer.status >= 500:
        raise SourceUnreachable(f"the server goes on answering {answer.status}", where=where)
    if answer.status != 200:
        raise SourceNotFhir(
            f"the server publishes no SMART configuration ({answer.status})", where=where, remedy=_REMEDY
        )
    try:
        return msgspec.json.decode(answer.body, type=_Configuration), answer.date
    except UNDECODABLE as error:
        raise SourceNotFhir("the SMART configuration is not one", where=where, remedy=_REMEDY) from error
