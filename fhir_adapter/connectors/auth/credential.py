"""Credentials, each bound to one origin.

A credential is added to a request only if the request goes to the origin of the source; a link, a redirect or an
absolute reference cannot send it elsewhere. Secrets come from the environment or from files at the time of use,
and are in no message and no representation.
"""

from __future__ import annotations

import base64
import threading
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from fhir_adapter.connectors.auth.scopes import Access, readable
from fhir_adapter.connectors.http.proxies import is_loopback
from fhir_adapter.connectors.http.transport import Transport
from fhir_adapter.connectors.secrets import read_secret
from fhir_adapter.errors import SiteFileError, SourceRefused
from fhir_adapter.site import Auth, Site, origin

if TYPE_CHECKING:
    from fhir_adapter.connectors.auth.oauth import TokenSource

__all__ = ["BoundCredential"]


class _Credential(Protocol):
    """What makes an Authorization header."""

    def header(self) -> str:
        """The header as it is now."""

    def renew(self, refused: str) -> bool:
        """Gets another one after the server refused this; False if there is no other."""


class _Fixed:
    """A credential of the environment or of files.

    A file is read again when it changes and when the server refuses what was in it; while it cannot be read, being
    replaced, the last content holds.
    """

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._file = auth.token_file if auth.kind == "bearer" else auth.password_file
        self._lock = threading.Lock()
        self._stamp = self._stamped()
        self._header = self._made()

    def _stamped(self) -> tuple[int, int, int] | None:
        """What changes when the file does."""
        if self._file is None:
            return None
        try:
            state = self._file.stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_ino, state.st_size

    def _made(self) -> str:
        auth = self._auth
        if auth.kind == "bearer":
            token = read_secret(auth.token_env, auth.token_file, "token")
            if not all("!" <= letter <= "~" for letter in token):
                raise SiteFileError("the token has letters that no token has (RFC 6750, 2.1)", where="auth")
            return f"Bearer {token}"
        user = read_secret(auth.user_env, None, "user name")
        if ":" in user:
            raise SiteFileError("a user name has no colon (RFC 7617, 2)", where="auth.user_env")
        password = read_secret(auth.password_env, auth.password_file, "password")
        return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"

    def header(self) -> str:
        with self._lock:
            stamp = self._stamped()
            if stamp is not None and stamp != self._stamp:
                try:
                    self._header, self._stamp = self._made(), stamp
                except SiteFileError:
                    return (
                        self._header
                    )  # it is being written; a server that refuses the old one makes us look again
            return self._header

    def renew(self, refused: str) -> bool:
        with self._lock:
            self._stamp, self._header = self._stamped(), self._made()
            return self._header != refused


class BoundCredential:
    """The site's credential, for requests to the source's origin and for no others.

    Args:
        site: the site, of kind rest.
        transport: sends requests to a token endpoint.
        access: what the credential is used for; scopes follow from it.

    Raises:
        SiteFileError: a secret is missing or unusable, or would be sent where others can read it.
    """

    def __init__(self, site: Site, transport: Transport, access: Access | None = None) -> None:
        self._kind = site.auth.kind
        self._home = site.source.url or ""
        self._origin = origin(self._home)
        self._credential: _Credential | None = None
        self._tokens: TokenSource | None = None
        if self._kind == "none":
            return
        self._no_listener(site, transport)
        if self._kind in {"basic", "bearer"}:
            self._credential = _Fixed(site.auth)
        else:
            # OAuth's libraries take longer to load than a small pull; most sites need none of them.
            from fhir_adapter.connectors.auth.oauth import TokenSource

            self._credential = self._tokens = TokenSource(site, transport, access or Access())

    def _no_listener(self, site: Site, transport: Transport) -> None:
        parts = urlsplit(self._home)
        if parts.scheme.lower() == "https":
            return
        if transport.proxied(self._home):
            raise SiteFileError(
                "over plain http the proxy would read the credential",
                where="proxy",
                remedy="Use https, or put the source's host in `proxy.no_proxy`.",
            )
        if not (site.auth.allow_http or is_loopback(parts.hostname or "")):
            raise SiteFileError(
                "the credential would travel over plain http, where others can read it",
                where="source.url",
                remedy="Use https; `auth.allow_http` allows it where the way is protected otherwise.",
            )

    def covers(self, url: str) -> bool:
        """Whether a URL is on the origin that the credential is for."""
        return origin(url) == self._origin

    def headers(self, url: str) -> dict[str, str]:
        """The headers that carry the credential to a URL; none if it is not for there.

        Raises:
            AdapterError: a token cannot be had.
        """
        if self._credential is None or not self.covers(url):
            return {}
        return {"Authorization": self._credential.header()}

    def renew(self, refused: str | None) -> bool:
        """Gets another credential after a 401; True if there is another one to try.

        Args:
            refused: the header that was refused, or None if none was sent.

        Raises:
            AdapterError: it cannot be read or had.
        """
        return self._credential is not None and refused is not None and self._credential.renew(refused)

    def refusal(self, where: str) -> SourceRefused:
        """The error for a 401 that lasts."""
        if self._tokens is not None:
            return SourceRefused(
                "the server does not accept our credential (401), not even a token that was just issued",
                where=where,
                remedy="Is the token endpoint the one of this server, and our client allowed to use this server?",
            )
        return SourceRefused(
            "the server does not accept our credential (401)",
            where=where,
            remedy="See `auth` of the site file.",
        )

    def require(self, types: tuple[str, ...]) -> None:
        """Checks that what was granted allows reading some types, as far as the token says.

        Raises:
            SourceRefused: it does not; a search would come back empty, or refused.
        """
        if self._tokens is None:
            return
        granted = self._tokens.scopes()
        lacking = [type_ for type_ in types if not readable(granted, type_)]
        if lacking:
            raise SourceRefused(
                f"our token does not allow reading all of {', '.join(lacking)}",
                where=self._home,
                remedy=f"Ask the server's team for {', '.join(f'system/{type_}.rs' for type_ in lacking)}.",
            )

    def __repr__(self) -> str:
        return f"BoundCredential({self._kind})"
