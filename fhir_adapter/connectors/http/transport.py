"""What every request of a site has in common: TLS, proxy, retries, bounded answers, errors in our own words.

Nothing here knows a credential. `.netrc`, proxies and certificate bundles of the environment are left aside: what
a nightly run trusts and whom it asks stands in the site file.
"""

from __future__ import annotations

import email.utils
import functools
import io
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, Self

import msgspec
import requests
from urllib3.exceptions import DecodeError, ProtocolError, ReadTimeoutError
from urllib3.response import BaseHTTPResponse
from urllib3.util.retry import Retry

from fhir_adapter import __version__
from fhir_adapter.connectors.http.bounds import Bounds
from fhir_adapter.connectors.http.proxies import Proxies
from fhir_adapter.connectors.http.wire import TimedOut, Watch, WatchedAdapter, watched
from fhir_adapter.connectors.paging import safe_url
from fhir_adapter.errors import AdapterError, SiteFileError, SourceNotFhir, SourceUnreachable
from fhir_adapter.site import Site, Tls

__all__ = ["RETRIED", "Answer", "BrokenOffError", "TimedOut", "TooLong", "Transport", "seconds_to_wait"]

#: Statuses after which a request that changes nothing is repeated.
RETRIED = frozenset({429, 500, 502, 503, 504})
_CHUNK = 256 * 1024
# A server that drips a byte at a time never times out; a page may take so many times the allowed silence.
_SLOWEST = 10


class Answer(msgspec.Struct, frozen=True):
    """One answer, read to its end.

    Attributes:
        url: what was asked.
        status: HTTP status.
        body: unpacked.
        date: header Date, or "".
        location: where a redirect leads, or None.
        retry_after: header Retry-After, or "".
        content_location: header Content-Location, or "".
    """

    url: str
    status: int
    body: bytes
    date: str = ""
    location: str | None = None
    retry_after: str = ""
    content_location: str = ""


class TooLong(SourceNotFhir):
    """The answer is longer than it may be; a smaller page may be short enough."""


class BrokenOffError(Exception):
    """The body of an answer did not come whole; worth another attempt."""


def seconds_to_wait(value: str, ceiling: float) -> float:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3), at most `ceiling`; 0 if it is nonsense."""
    text = value.strip()
    if text.isdecimal():
        return min(float(text[:12]), ceiling)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return max(0.0, min(moment.timestamp() - time.time(), ceiling))


class _BoundedRetry(Retry):
    """Retry with a ceiling for Retry-After in both its forms; a header that is neither form is left aside.

    An attempt is a request like any other: `turn` lets it wait for its turn, and ends a pull whose time is over.
    """

    def __init__(self, *arguments: Any, turn: Callable[[], None] | None = None, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._turn = turn

    def new(self, **settings: Any) -> Self:
        return super().new(turn=self._turn, **settings)

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        super().sleep(response)
        if self._turn is not None:
            self._turn()

    def parse_retry_after(self, retry_after: str) -> float:
        return seconds_to_wait(retry_after, float(self.backoff_max))


def _arriving(response: requests.Response, watch: Watch) -> Iterator[bytes]:
    """The body of an answer, unpacked, in the parts in which it arrives.

    `iter_content` waits until a part is full. A server that drips would keep it waiting for days, and no bound of
    ours would be looked at meanwhile.
    """
    try:
        while True:
            watch.begin()
            part = response.raw.read1(_CHUNK, decode_content=True)
            if not part:
                return
            yield part
    except ProtocolError as error:
        raise requests.exceptions.ChunkedEncodingError(error) from error
    except DecodeError as error:
        raise requests.exceptions.ContentDecodingError(error) from error
    except ReadTimeoutError as error:
        raise requests.exceptions.ConnectionError(error) from error


def _no_prompt() -> str:
    """Stands where OpenSSL would ask at the terminal for the passphrase of a key."""
    return ""


def _check_tls(tls: Tls) -> None:
    """Loads the certificates once, for an error that says which file is wrong.

    Raises:
        SiteFileError: a file is missing, or does not hold what it should.
    """

    def wrong(name: str, file: Path, error: Exception) -> NoReturn:
        why = error.strerror if type(error) in {FileNotFoundError, PermissionError, IsADirectoryError} else ""  # type: ignore[attr-defined]
        raise SiteFileError(
            f"{file.name} cannot be used" + (f" ({why})" if why else ""),
            where=f"tls.{name}",
            remedy="ca_file holds PEM certificates; client_cert a PEM certificate chain; client_key its private key "
            "in PEM without passphrase.",
        ) from error

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.ca_file is not None:
        try:
            context.load_verify_locations(tls.ca_file)
        except (OSError, ValueError) as error:
            wrong("ca_file", tls.ca_file, error)
    if tls.client_cert is not None:
        try:
            context.load_cert_chain(tls.client_cert, tls.client_key, password=_no_prompt)
        except (OSError, ValueError) as error:
            wrong("client_cert", tls.client_cert, error)


def _tls_error(error: Exception, url: str) -> SourceUnreachable:
    """Of a TLS failure the library's text is looked at, never shown: it may quote what the server sent."""
    text = str(error)
    if "CERTIFICATE_REQUIRED" in text.upper().replace(" ", "_") or "HANDSHAKE_FAILURE" in text.upper():
        return SourceUnreachable(
            "the server ends the TLS handshake; it may want a client certificate, or another one",
            where=safe_url(url),
            remedy="See `tls.client_cert` of the site file.",
        )
    return SourceUnreachable(
        "the TLS connection was not trusted",
        where=safe_url(url),
        remedy="See `tls.ca_file` of the site file.",
    )


class Transport:
    """Sends the requests of a site, one by one; a context manager. Safe to be used by several threads.

    All requests of a site go through `send`: the place for whatever bounds them as a whole.

    Args:
        site: the site.

    Raises:
        SiteFileError: a certificate or the proxy's credential cannot be read.
    """

    def __init__(self, site: Site) -> None:
        _check_tls(site.tls)
        self._site = site
        self._proxies = Proxies(site.proxy)
        self._bounds = Bounds(site.requests_per_second)
        self._certified = self._session(certificate=True)
        self._plain = self._session(certificate=False)

    def bound(self, *, seconds: float | None, size: int | None) -> None:
        """Bounds everything that is sent from now on: time in seconds, bytes of all answers together."""
        self._bounds.limit(seconds, size)

    def _session(self, *, certificate: bool) -> requests.Session:
        site = self._site
        session = requests.Session()
        session.trust_env = False
        session.headers.update({"User-Agent": f"fhir-adapter/{__version__}"})
        session.verify = str(site.tls.ca_file) if site.tls.ca_file else True
        if certificate and site.tls.client_cert is not None:
            cert = str(site.tls.client_cert)
            session.cert = (cert, str(site.tls.client_key)) if site.tls.client_key else cert
        retry = _BoundedRetry(
            total=site.retry.attempts - 1,
            status_forcelist=RETRIED,
            allowed_methods=frozenset({"GET"}),
            backoff_factor=0.5,
            backoff_max=site.retry.max_wait_s,
            raise_on_status=False,
            redirect=False,
            turn=functools.partial(self._bounds.wait, safe_url(site.source.url or "")),
        )
        adapter = WatchedAdapter(
            max_retries=retry, pool_maxsize=site.concurrency, pool_connections=site.concurrency
        )
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session

    def close(self) -> None:
        """Gives the connections back."""
        self._certified.close()
        self._plain.close()

    def proxied(self, url: str) -> bool:
        """Whether a URL is reached through a proxy."""
        return bool(self._proxies.for_url(url))

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        certificate: bool,
        limit: int,
        body: bytes | str | None = None,
    ) -> Answer:
        """Sends one request; a GET is repeated on 429 and 5xx as the site allows, nothing else is.

        Redirects are not followed: the caller knows where one may lead.

        Args:
            method: HTTP method.
            url: absolute.
            headers: the credential among them, if it may go there.
            certificate: whether our client certificate may be shown to this server.
            limit: longest answer in bytes, unpacked.
            body: of the request.

        Returns:
            The answer, whatever its status.

        Raises:
            BrokenOffError: the answer did not come whole.
            SourceUnreachable: no connection, a time-out, TLS.
            SourceNotFhir: the answer is too long, or no HTTP.
        """
        try:
            response, watch = self._asked(method, url, headers, certificate, body)
            with response:
                data = self._body(response, url, limit, watch)
                return Answer(
                    url,
                    response.status_code,
                    data,
                    response.headers.get("Date", ""),
                    response.headers.get("Location") if response.is_redirect else None,
                    response.headers.get("Retry-After", ""),
                    response.headers.get("Content-Location", ""),
                )
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
            raise BrokenOffError from error
        except requests.exceptions.RequestException as error:
            raise self._explained(error, url) from error

    @contextmanager
    def stream(
        self, url: str, *, headers: Mapping[str, str], certificate: bool
    ) -> Iterator[tuple[int, str | None, Iterator[bytes]]]:
        """Opens a GET whose answer is too large to hold: status, where a redirect leads, and the body in parts.

        Raises:
            BrokenOffError: the body does not come whole.
            SourceUnreachable: no connection, a time-out, TLS.
            SourceIncomplete: a bound of the site is reached.
        """
        try:
            response, watch = self._asked("GET", url, headers, certificate)
            with response:
                location = response.headers.get("Location") if response.is_redirect else None
                yield response.status_code, location, self._parts(response, url, watch)
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
            raise BrokenOffError from error
        except requests.exceptions.RequestException as error:
            raise self._explained(error, url) from error

    def _asked(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        certificate: bool,
        body: bytes | str | None = None,
    ) -> tuple[requests.Response, Watch]:
        """An answer whose body is still to come, and the watch that its bytes pass."""
        session = self._certified if certificate else self._plain
        where = safe_url(url)
        timeout = self._site.retry.timeout_s
        self._bounds.wait(where)
        watch = Watch(_SLOWEST * timeout, where, functools.partial(self._bounds.in_time, where))
        with watched(watch):
            response = session.request(
                method, url, headers=dict(headers), data=body, stream=True, allow_redirects=False,
                timeout=(min(timeout, 30), timeout), proxies=self._proxies.for_url(url),
            )  # fmt: skip
        return response, watch

    def _parts(self, response: requests.Response, url: str, watch: Watch) -> Iterator[bytes]:
        try:
            for part in _arriving(response, watch):
                self._bounds.came(len(part), safe_url(url))
                yield part
        except requests.exceptions.ConnectionError as error:
            raise BrokenOffError from error

    @staticmethod
    def _explained(error: requests.exceptions.RequestException, url: str) -> AdapterError:
        """Our own words for a failure; the library's text repeats the URL with its values."""
        if isinstance(error, requests.exceptions.ProxyError):
            return SourceUnreachable(
                "the proxy does not let us through",
                where=safe_url(url),
                remedy="See `proxy` of the site file.",
            )
        if isinstance(error, requests.exceptions.SSLError) or "SSLError" in str(error):
            return _tls_error(error, url)
        if isinstance(error, requests.exceptions.Timeout):
            return TimedOut("the server did not answer in time", where=safe_url(url))
        if error.args and isinstance(getattr(error.args[0], "reason", None), ReadTimeoutError):
            # After retries the library calls a time-out a failed connection.
            return TimedOut("the server did not answer in time", where=safe_url(url))
        if isinstance(error, requests.exceptions.InvalidHeader):
            return SourceNotFhir("the server's answer has a header that is none", where=safe_url(url))
        return SourceUnreachable(f"there is no connection ({type(error).__name__})", where=safe_url(url))

    def _body(self, response: requests.Response, url: str, limit: int, watch: Watch) -> bytes:
        latest = time.monotonic() + _SLOWEST * self._site.retry.timeout_s
        where = safe_url(url)
        data = io.BytesIO()  # its value is no copy, as that of a bytearray would be
        try:
            for part in _arriving(response, watch):
                data.write(part)
                self._bounds.came(len(part), where)
                if data.tell() > limit:
                    ours = limit == self._site.max_page_bytes
                    raise TooLong(
                        f"the answer is longer than {'max_page_bytes' if ours else 'it may be'} ({limit})",
                        where=where,
                    )
                if time.monotonic() > latest:
                    raise TimedOut("the answer takes too long", where=where)
        except requests.exceptions.ConnectionError as error:
            raise BrokenOffError from error
        return data.getvalue()
