"""The HTTP client of a site: bounded retries, bounded answers, errors in the adapter's own words."""

from __future__ import annotations

import email.utils
import threading
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import msgspec
import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from fhir_adapter import __version__
from fhir_adapter.connectors.auth import BoundCredential
from fhir_adapter.connectors.paging import allowed_url, safe_url
from fhir_adapter.errors import (
    AdapterError,
    SourceIncomplete,
    SourceNotFhir,
    SourceRefused,
    SourceUnreachable,
)
from fhir_adapter.site import Site, origin

__all__ = ["Answer", "Client", "issue_codes", "search_url"]

_RETRIED = frozenset({429, 500, 502, 503, 504})
_REDIRECTS = 5
_CHUNK = 256 * 1024
# A server that drips a byte at a time never times out; a page may take so many times the allowed silence.
_SLOWEST = 10


class _BoundedRetry(Retry):
    """Retry with a ceiling for Retry-After in both its forms; a header that is neither form is left aside."""

    def parse_retry_after(self, retry_after: str) -> float:
        if not retry_after.strip().isdecimal() and email.utils.parsedate_tz(retry_after) is None:
            return 0.0
        return min(super().parse_retry_after(retry_after), float(self.backoff_max))


class Answer(msgspec.Struct, frozen=True):
    """One answer, read to its end."""

    url: str
    status: int
    body: bytes
    date: str


class _SpoiltError(Exception):
    """The body of an answer did not come whole; worth another attempt."""


def search_url(base: str, type_: str, parameters: list[tuple[str, str]]) -> str:
    """URL of a search."""
    query = "&".join(f"{quote(name, safe='_:.-')}={quote(value, safe='/,:.-')}" for name, value in parameters)
    return f"{base}/{type_}?{query}"


def issue_codes(body: bytes) -> str:
    """Severity and code of an OperationOutcome's issues; not the texts, which may quote what was asked."""
    try:
        tree: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    if not isinstance(tree, dict) or tree.get("resourceType") != "OperationOutcome":
        return ""
    issues = tree.get("issue")
    words = [
        f"{item.get('severity', '')} {item.get('code', '')}".strip()
        for item in (issues if isinstance(issues, list) else [])
        if isinstance(item, dict)
    ]
    return ", ".join(word[:60] for word in dict.fromkeys(words))


class Client:
    """Talks to the server of a site; a context manager. Safe to be used by several threads for GET.

    Args:
        site: the site, of kind rest.

    Raises:
        SiteFileError: the credential is missing.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.base = site.source.url or ""
        self.requests = 0
        self._lock = threading.Lock()
        self._origin = origin(self.base)
        self._credential = BoundCredential(site)
        self._home = self._session(inside=True)
        self._abroad = self._session(inside=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._home.close()
        self._abroad.close()

    def _session(self, *, inside: bool) -> requests.Session:
        site = self.site
        session = requests.Session()
        session.headers.update(
            {
                "Accept": "application/fhir+json",
                "Cache-Control": "no-cache",
                "User-Agent": f"fhir-adapter/{__version__}",
            }
        )
        session.auth = self._credential
        session.verify = str(site.tls.ca_file) if site.tls.ca_file else True
        if inside and site.tls.client_cert is not None:
            cert = str(site.tls.client_cert)
            session.cert = (cert, str(site.tls.client_key)) if site.tls.client_key else cert
        retry = _BoundedRetry(
            total=site.retry.attempts - 1,
            status_forcelist=_RETRIED,
            allowed_methods=frozenset({"GET"}),
            backoff_factor=0.5,
            backoff_max=site.retry.max_wait_s,
            raise_on_status=False,
            redirect=False,
        )
        adapter = HTTPAdapter(
            max_retries=retry, pool_maxsize=site.concurrency, pool_connections=site.concurrency
        )
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session

    def get(self, url: str) -> Answer:
        """Gets a URL.

        Args:
            url: absolute; on the source's origin or an allowed host.

        Returns:
            The answer, with a status of 200, or one that the caller knows better how to judge (400, 404, 410
            …).

        Raises:
            SourceUnreachable: no connection, a time-out, TLS, 429 or 5xx after all attempts.
            SourceRefused: 401, 403, or a redirect to another host.
            SourceNotFhir: an answer larger than `max_page_bytes`.
            SourceIncomplete: the answer broke off, at every attempt.
        """
        failure: Exception | None = None
        for _ in range(self.site.retry.attempts):
            try:
                answer = self._follow(url)
            except _SpoiltError as error:
                failure = error
                continue
            if answer.status == 401 and self._credential.renew():
                # A token file that was written anew while we were at work.
                answer = self._follow(url)
            return self._judged(answer)
        raise SourceIncomplete(
            f"the answer broke off {self.site.retry.attempts} times", where=safe_url(url)
        ) from failure

    def _follow(self, url: str) -> Answer:
        for _ in range(_REDIRECTS + 1):
            answer, location = self._once(url)
            if location is None:
                return answer
            url = allowed_url(location, url, self.site)
        raise SourceRefused("the server redirects without end", where=safe_url(url))

    def _once(self, url: str) -> tuple[Answer, str | None]:
        session = self._home if origin(url) == self._origin else self._abroad
        timeout = self.site.retry.timeout_s
        try:
            with session.get(
                url, stream=True, timeout=(min(timeout, 30), timeout), allow_redirects=False
            ) as response:
                with self._lock:
                    self.requests += 1
                body = self._body(response, url)
                location = response.headers.get("Location") if response.is_redirect else None
                return Answer(url, response.status_code, body, response.headers.get("Date", "")), location
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
            raise _SpoiltError from error
        except requests.exceptions.SSLError as error:
            raise SourceUnreachable(
                "the TLS connection was not trusted",
                where=safe_url(url),
                remedy="See `tls.ca_file` of the site file.",
            ) from error
        except requests.exceptions.Timeout as error:
            raise SourceUnreachable("the server did not answer in time", where=safe_url(url)) from error
        except requests.exceptions.InvalidHeader as error:
            raise SourceNotFhir(
                "the server's answer has a header that is none", where=safe_url(url)
            ) from error
        except requests.exceptions.RequestException as error:
            # Not the library's text: it repeats the URL with its values.
            raise SourceUnreachable(
                f"there is no connection ({type(error).__name__})", where=safe_url(url)
            ) from error

    def _body(self, response: requests.Response, url: str) -> bytes:
        limit = self.site.max_page_bytes
        latest = time.monotonic() + _SLOWEST * self.site.retry.timeout_s
        data = bytearray()
        try:
            for part in response.iter_content(_CHUNK):
                data += part
                if len(data) > limit:
                    raise SourceNotFhir(
                        f"the answer is longer than max_page_bytes ({limit})", where=safe_url(url)
                    )
                if time.monotonic() > latest:
                    raise SourceUnreachable("the answer takes too long", where=safe_url(url))
        except requests.exceptions.ConnectionError as error:
            raise _SpoiltError from error
        return bytes(data)

    @staticmethod
    def _judged(answer: Answer) -> Answer:
        where = safe_url(answer.url)
        if answer.status == 401:
            raise SourceRefused(
                "the server does not accept our credential (401)",
                where=where,
                remedy="See `auth` of the site file.",
            )
        if answer.status == 403:
            raise SourceRefused("the server does not allow us this (403)", where=where)
        if answer.status == 429 or answer.status >= 500:
            raise SourceUnreachable(f"the server goes on answering {answer.status}", where=where)
        if answer.status == 200:
            start = answer.body.lstrip(b" \t\r\n\xef\xbb\xbf")[:1]
            if start == b"<":
                raise SourceNotFhir(
                    "the answer is HTML or XML, not JSON", where=where, remedy="Is this the FHIR base URL?"
                )
            if start != b"{":
                raise SourceNotFhir("the answer is not JSON", where=where)
        return answer

    def unexpected(self, answer: Answer) -> AdapterError:
        """The error for a status that nobody expected of a search or a read."""
        codes = issue_codes(answer.body)
        return SourceNotFhir(
            f"the server answers {answer.status}" + (f" ({codes})" if codes else ""),
            where=safe_url(answer.url),
        )
