"""Access tokens: OAuth 2.0 client credentials (RFC 6749, 4.4) and SMART Backend Services (SMART App Launch 2.2).

Authlib makes the requests and joserfc signs them; the sending is ours, because answers have to be bounded, and
because a token must not follow a redirect. A token is renewed before it expires and once when the server refuses
it. Assertions are dated by the authorization server's clock, as its Date header tells it: a client whose clock is
off would otherwise be refused with a message about its signature.
"""

from __future__ import annotations

import email.utils
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_token_request
from authlib.oauth2.rfc7523 import private_key_jwt_sign
from authlib.oauth2.rfc7523.client import ASSERTION_TYPE
from joserfc.errors import JoseError

from fhir_adapter.connectors.auth.discovery import Endpoint, token_endpoint
from fhir_adapter.connectors.auth.keys import SigningKey, signing_key
from fhir_adapter.connectors.auth.scopes import Access, scopes
from fhir_adapter.connectors.http.transport import Answer, BrokenOffError, Transport, seconds_to_wait
from fhir_adapter.connectors.paging import safe_url
from fhir_adapter.connectors.secrets import read_secret
from fhir_adapter.errors import SiteFileError, SourceNotFhir, SourceRefused, SourceUnreachable
from fhir_adapter.site import Site
from fhir_adapter.undecodable import UNDECODABLE

__all__ = ["TokenSource"]

#: Longest answer of a token endpoint, and longest token, in bytes.
_LIMIT = 1024 * 1024
_LONGEST_TOKEN = 32 * 1024
#: Life of an assertion in seconds; SMART allows 300, the rest is for clocks that differ.
_ASSERTION_LIFE = 240
_BACKDATED = 10
#: A token is renewed so many seconds before it expires, or a quarter of its life if that is less.
_EARLY = 60.0
#: Clock differences in seconds: up to the first the Date header is just coarse; beyond the second it is nonsense.
_COARSE, _MOST_SKEW = 5.0, 3600.0

#: Errors of a token endpoint (RFC 6749, 5.2), in our words and with what helps.
_ERRORS: dict[str, tuple[str, str]] = {
    "invalid_request": (
        "the token endpoint finds our request malformed (invalid_request)",
        "Does it offer the method of `auth.kind`? Some want another `auth.audience`.",
    ),
    "invalid_client": (
        "the token endpoint does not accept us (invalid_client)",
        "",  # depends on the method
    ),
    "invalid_grant": (
        "the token endpoint does not accept our assertion (invalid_grant)",
        "Compare `auth.audience` with what the authorization server calls itself, and the clocks.",
    ),
    "unauthorized_client": (
        "our client may not ask for tokens by itself (unauthorized_client)",
        "The server's team has to allow it the client credentials grant.",
    ),
    "unsupported_grant_type": (
        "the token endpoint does not know the client credentials grant (unsupported_grant_type)",
        "Is `auth.token_url` the right endpoint?",
    ),
    "invalid_scope": (
        "the token endpoint does not grant the scopes that we ask for (invalid_scope)",
        "Ask the server's team for them, or name those that our client has in `auth.scopes`.",
    ),
}


class _Granted(msgspec.Struct):
    """A token response (RFC 6749, 5.1); some servers write `expires_in` as a string."""

    access_token: str | None = None
    token_type: str | None = None
    expires_in: float | str | None = None
    scope: str | None = None


class _Refused(msgspec.Struct):
    """An error response (RFC 6749, 5.2). Its description is not read: it may quote what we sent."""

    error: str | None = None


class _Token(msgspec.Struct, frozen=True):
    """A token that was issued.

    Attributes:
        value: the token.
        renew_at: local time (seconds of the epoch) from which it is renewed; None if its life is not known.
        scopes: what was granted.
    """

    value: str
    renew_at: float | None
    scopes: tuple[str, ...]

    def __repr__(self) -> str:
        return "_Token()"


class TokenSource:
    """Fetches and keeps the access token of a site. Safe to be used by several threads.

    Args:
        site: the site; `auth.kind` is `client-credentials` or `smart-backend`.
        transport: sends requests.
        access: what the token is for.

    Raises:
        SiteFileError: key or secret is missing or unusable.
    """

    def __init__(self, site: Site, transport: Transport, access: Access) -> None:
        self._site = site
        self._transport = transport
        self._access = access
        self._lock = threading.Lock()
        self._endpoint: Endpoint | None = None
        self._token: _Token | None = None
        self._ahead = 0.0  # the authorization server's clock minus ours, in seconds
        self._key: SigningKey | None = None
        auth = site.auth
        if auth.kind == "smart-backend":
            self._key = signing_key(auth)
        else:
            # Read now for an early error; read again for each token, so that a rotated secret is picked up.
            self._secret()

    def header(self) -> str:
        """The Authorization header, with a token that has not expired.

        Raises:
            AdapterError: what `renew` raises.
        """
        with self._lock:
            if self._token is None or (
                self._token.renew_at is not None and time.time() >= self._token.renew_at
            ):
                self._token = self._fetch()
            return f"Bearer {self._token.value}"

    def renew(self, refused: str) -> bool:
        """Fetches another token after the server refused one; False never: there is always one to try.

        Args:
            refused: the header that was refused; if another thread has renewed it since, nothing is fetched.

        Raises:
            SiteFileError: key, secret or endpoint is unusable.
            SourceRefused: the token endpoint refuses us.
            SourceUnreachable: it does not answer.
            SourceNotFhir: it answers with something that is no token.
        """
        with self._lock:
            if self._token is None or f"Bearer {self._token.value}" == refused:
                self._token = self._fetch()
            return True

    def scopes(self) -> tuple[str, ...]:
        """What was granted with the token; fetches one if there is none."""
        self.header()
        with self._lock:
            return self._token.scopes if self._token else ()

    def __repr__(self) -> str:
        return f"TokenSource({self._site.auth.kind})"

    # Asking

    def _secret(self) -> str:
        auth = self._site.auth
        return read_secret(auth.client_secret_env, auth.client_secret_file, "client secret")

    def _wanted(self, endpoint: Endpoint) -> tuple[str, ...]:
        auth = self._site.auth
        if auth.scopes or auth.kind == "client-credentials":
            return tuple(auth.scopes)
        return scopes(self._access, endpoint.capabilities, endpoint.scopes_supported)

    def _fetch(self) -> _Token:
        """One token, with further attempts where they can help."""
        if self._endpoint is None:
            self._endpoint = token_endpoint(self._site, self._transport)
            self._learn_clock(self._endpoint.date)
        endpoint, retry = self._endpoint, self._site.retry
        wanted = self._wanted(endpoint)
        # Some endpoints refuse a renewal now and then without a reason: once more, with another assertion.
        spare = 1 if self._token is not None else 0
        failure = ""
        for attempt in range(1, retry.attempts + 1):
            before = self._ahead
            try:
                answer = self._ask(endpoint, wanted)
            except (BrokenOffError, SourceUnreachable) as error:
                if attempt == retry.attempts:
                    raise SourceUnreachable(
                        f"the token endpoint gives no answer ({retry.attempts} attempts)",
                        where=safe_url(endpoint.url),
                    ) from error
                time.sleep(min(0.5 * 2 ** (attempt - 1), retry.max_wait_s))
                continue
            self._learn_clock(answer.date)
            if answer.status == 200:
                return self._granted(answer, wanted)
            if answer.status == 429 or answer.status >= 500:
                failure = f"the token endpoint goes on answering {answer.status}"
                if attempt < retry.attempts:
                    pause = (
                        seconds_to_wait(answer.retry_after, retry.max_wait_s) if answer.retry_after else 0.5
                    )
                    time.sleep(min(pause, retry.max_wait_s))
                continue
            if answer.status in {400, 401} and attempt < retry.attempts:
                misdated = self._key is not None and abs(self._ahead - before) > _COARSE
                if misdated or spare:
                    spare -= 0 if misdated else 1
                    continue
            raise self._refused(answer, wanted)
        raise SourceUnreachable(failure, where=safe_url(endpoint.url))

    def _ask(self, endpoint: Endpoint, wanted: tuple[str, ...]) -> Answer:
        body: str = prepare_token_request("client_credentials", **({"scope": list(wanted)} if wanted else {}))
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        try:
            _, headers, body = self._client_auth(endpoint).prepare("POST", endpoint.url, headers, body)
        except (JoseError, ValueError) as error:
            raise SiteFileError(
                "our key or secret cannot be used for a token request", where="auth"
            ) from error
        return self._transport.send(
            "POST", endpoint.url, headers=headers, body=body, certificate=True, limit=_LIMIT
        )

    def _client_auth(self, endpoint: Endpoint) -> Any:
        auth = self._site.auth
        if self._key is None:
            return ClientAuth(auth.client_id, self._secret(), f"client_secret_{auth.client_auth}")
        return ClientAuth(auth.client_id, None, self._assertion(self._key, endpoint.audience))

    def _assertion(self, key: SigningKey, audience: str) -> Callable[..., tuple[str, dict[str, str], str]]:
        """Client authentication by a signed assertion (RFC 7523; SMART App Launch 2.2, asymmetric)."""

        def prepare(
            client: Any, method: str, uri: str, headers: dict[str, str], body: str
        ) -> tuple[str, dict[str, str], str]:
            now = int(time.time() + self._ahead)
            assertion = private_key_jwt_sign(
                key.key,
                client.client_id,
                audience,
                alg=key.algorithm,
                header={"kid": key.kid},
                issued_at=now - _BACKDATED,
                expires_at=now + _ASSERTION_LIFE,
            )
            # Neither value has a letter that a form would have to escape, but for the colons of the type.
            type_ = ASSERTION_TYPE.replace(":", "%3A")
            return uri, headers, f"{body}&client_assertion_type={type_}&client_assertion={assertion}"

        return prepare

    # Answers

    def _learn_clock(self, date: str) -> None:
        """Notes how far the server's clock is ahead of ours, by a Date header."""
        try:
            ahead = email.utils.parsedate_to_datetime(date).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return
        if abs(ahead) <= _MOST_SKEW:
            self._ahead = ahead if abs(ahead) > _COARSE else 0.0

    def _granted(self, answer: Answer, wanted: tuple[str, ...]) -> _Token:
        where = safe_url(answer.url)
        try:
            said = msgspec.json.decode(answer.body, type=_Granted)
            life = float(said.expires_in) if said.expires_in is not None else None
        except (*UNDECODABLE, ValueError) as error:
            raise SourceNotFhir("the token endpoint's answer is no token", where=where) from error
        value = said.access_token or ""
        if not value or len(value) > _LONGEST_TOKEN or not all("!" <= letter <= "~" for letter in value):
            raise SourceNotFhir("the token endpoint's answer holds no usable access_token", where=where)
        if (said.token_type or "").lower() != "bearer":
            raise SourceNotFhir("the token endpoint issues tokens of another type than Bearer", where=where)
        renew_at = None
        if life is not None and 0 < life < float("inf"):
            renew_at = time.time() + life - min(_EARLY, life / 4)
        granted = tuple(said.scope.split()) if said.scope else wanted
        return _Token(value, renew_at, granted)

    def _refused(self, answer: Answer, wanted: tuple[str, ...]) -> SourceRefused | SourceNotFhir:
        where = safe_url(answer.url)
        if answer.location is not None:
            return SourceRefused(
                "the token endpoint redirects, and what we show it goes nowhere else",
                where=where,
                remedy="Name the right one as `auth.token_url`.",
            )
        try:
            error = msgspec.json.decode(answer.body, type=_Refused).error
        except UNDECODABLE:
            error = None
        known = _ERRORS.get(error or "")
        if known is None:
            if answer.status in {400, 401, 403}:
                return SourceRefused(
                    f"the token endpoint refuses us ({answer.status}) and does not say why", where=where
                )
            return SourceNotFhir(f"the token endpoint answers {answer.status}", where=where)
        what, remedy = known
        if error == "invalid_client":
            remedy = (
                "Is `auth.client_id` registered, with the public half of our key under the kid that we send?"
                if self._key is not None
                else "Compare `auth.client_id`, the secret and `auth.client_auth` with the registration."
            )
        if error == "invalid_scope" and wanted:
            what += f": {' '.join(wanted)}"
        if abs(self._ahead) > _EARLY:
            what += f"; its clock and ours differ by {abs(round(self._ahead))} s"
        return SourceRefused(what, where=where, remedy=remedy)
