"""The HTTP client of a site: the credential where it belongs, redirects, judgement of what comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from fhir_adapter.connectors.auth.credential import BoundCredential
from fhir_adapter.connectors.auth.scopes import Access
from fhir_adapter.connectors.http.transport import RETRIED, Answer, BrokenOffError, Transport, seconds_to_wait
from fhir_adapter.connectors.ndjson import ndjson
from fhir_adapter.connectors.page_size import PageSizes
from fhir_adapter.connectors.paging import allowed_url, safe_url
from fhir_adapter.errors import (
    AdapterError,
    SourceIncomplete,
    SourceNotFhir,
    SourceRefused,
    SourceUnreachable,
)
from fhir_adapter.site import Site
from fhir_adapter.undecodable import UNDECODABLE

__all__ = ["URL_LENGTH", "Answer", "Client", "ExpiredFileError", "ServerFault", "issue_codes", "search_url"]

#: Longest URL of a search by GET; longer ones are answered with 404 or 414 by some servers.
URL_LENGTH = 1900

_Asked = TypeVar("_Asked")

_REDIRECTS = 5
_CODES = 5
# IssueSeverity and IssueType of R4 and R5. A closed list: whatever else a server writes there might name a patient.
_ISSUE_CODES = frozenset(
    {"fatal", "error", "warning", "information", "success", "invalid", "structure", "required", "value",
     "invariant", "security", "login", "unknown", "expired", "forbidden", "suppressed", "processing",
     "not-supported", "duplicate", "multiple-matches", "not-found", "deleted", "too-long", "code-invalid",
     "extension", "too-costly", "business-rule", "conflict", "limited-filter", "transient", "lock-error",
     "no-store", "exception", "timeout", "incomplete", "throttled", "informational"}
)  # fmt: skip


def search_url(base: str, type_: str, parameters: list[tuple[str, str]]) -> str:
    """URL of a search."""
    query = "&".join(f"{quote(name, safe='_:.-')}={quote(value, safe='/,:.-')}" for name, value in parameters)
    return f"{base}/{type_}?{query}"


def issue_codes(body: bytes) -> str:
    """Severity and code of an OperationOutcome's issues; not the texts, which may quote what was asked.

    What is no code of FHIR's is left out, and so is what comes after a handful of them.
    """
    try:
        tree: Any = msgspec.json.decode(body)
    except UNDECODABLE:
        return ""
    if not isinstance(tree, dict) or tree.get("resourceType") != "OperationOutcome":
        return ""
    issues = tree.get("issue")
    words = [
        " ".join(
            part
            for part in (item.get("severity"), item.get("code"))
            if isinstance(part, str) and part in _ISSUE_CODES
        )
        for item in (issues if isinstance(issues, list) else [])
        if isinstance(item, dict)
    ]
    return ", ".join(list(dict.fromkeys(filter(None, words)))[:_CODES])


class ExpiredFileError(Exception):
    """A file is no longer there (404, 410)."""


class ServerFault(SourceUnreachable):
    """The server goes on answering 500, 502 or 504; a smaller page may come."""


class Client:
    """Talks to the server of a site; a context manager. Safe to be used by several threads for GET.

    Args:
        site: the site, of kind rest.
        access: the types that are read and written, from which the scopes of a token follow.

    Raises:
        SiteFileError: the credential is missing.
    """

    def __init__(self, site: Site, access: Access | None = None) -> None:
        self.site = site
        self.base = site.source.url or ""
        self.requests = 0
        self.page_sizes = PageSizes(site.page_size)
        self.posts = False
        self._lock = threading.Lock()
        self._transport = Transport(site)
        self._credential = BoundCredential(site, self._transport, access)
        # A search has one request under way, whether it waits for it or reads the page before it meanwhile.
        self._ahead = ThreadPoolExecutor(site.concurrency, thread_name_prefix="page")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ahead.shutdown(cancel_futures=True)
        self._transport.close()

    def ahead(self, ask: Callable[[], _Asked]) -> Future[_Asked]:
        """Asks for something in a thread of its own, for the time while what came before is read."""
        return self._ahead.submit(ask)

    def bound(self) -> None:
        """Begins to count the time and size that the site allows a pull."""
        self._transport.bound(seconds=self.site.max_pull_s, size=self.site.max_pull_bytes)

    def search(self, type_: str, parameters: list[tuple[str, str]]) -> Answer:
        """First page of a search; by POST if the URL is too long for GET and `posts` says that the server takes it.

        Raises:
            AdapterError: what `get` raises.
        """
        url = search_url(self.base, type_, parameters)
        if len(url) <= URL_LENGTH or not self.posts:
            return self.get(url)
        return self._judged(self.post_search(type_, parameters))

    def post_search(self, type_: str, parameters: list[tuple[str, str]]) -> Answer:
        """A search by POST (R4, 3.1.1.1): safe, so it is repeated like a GET; whatever its status.

        Raises:
            SourceUnreachable: no connection, a time-out, TLS.
            SourceIncomplete: the answer broke off, at every attempt.
        """
        url = f"{self.base}/{type_}/_search"
        body = urlencode(parameters).encode()
        headers = {"Accept": "application/fhir+json", "Content-Type": "application/x-www-form-urlencoded"}
        ceiling = self.site.retry.max_wait_s
        answer: Answer | None = None
        for attempt in range(self.site.retry.attempts):
            if attempt:
                asked = seconds_to_wait(answer.retry_after, ceiling) if answer is not None else 0.0
                time.sleep(asked or min(0.5 * 2**attempt, ceiling))
            try:
                answer = self._send("POST", url, headers, body=body)
            except BrokenOffError:
                answer = None
                continue
            except SourceUnreachable:
                # The library repeats a GET by itself, and nothing else.
                if attempt + 1 == self.site.retry.attempts:
                    raise
                answer = None
                continue
            if answer.status not in RETRIED:
                return answer
        if answer is None:
            raise SourceIncomplete(
                f"the answer broke off {self.site.retry.attempts} times", where=safe_url(url)
            )
        return answer

    def raw(self, method: str, url: str, headers: dict[str, str]) -> Answer:
        """One request with the credential, whatever its status; redirects are not followed.

        Raises:
            SourceUnreachable: no connection, a time-out, TLS.
            SourceIncomplete: the answer broke off, at every attempt.
        """
        for _ in range(self.site.retry.attempts):
            try:
                return self._send(method, url, headers)
            except BrokenOffError:
                continue
        raise SourceIncomplete(f"the answer broke off {self.site.retry.attempts} times", where=safe_url(url))

    def lines(self, url: str, *, anonymous: bool) -> Iterator[bytes]:
        """Lines of a file of NDJSON, packed by gzip or not, as they come; empty ones left out.

        Args:
            url: as `allowed_url` gave it; the credential goes to the source's origin alone.
            anonymous: leave the credential out even there.

        Raises:
            BrokenOffError: the file did not come whole.
            ExpiredFileError: it is not there any more.
            SourceNotFhir: a line is longer than `max_page_bytes`.
            AdapterError: what `get` raises.
        """
        renewed = False
        redirects = 0
        while True:
            shown = {} if anonymous else self._credential.headers(url)
            wanted = {"Accept": "application/fhir+ndjson", "Cache-Control": "no-cache", **shown}
            certificate = not anonymous and self._credential.covers(url)
            with self._transport.stream(url, headers=wanted, certificate=certificate) as (
                status,
                location,
                parts,
            ):
                with self._lock:
                    self.requests += 1
                if status == 200:
                    yield from ndjson(parts, self.site.max_page_bytes, safe_url(url))
                    return
            if location is not None and redirects < _REDIRECTS:
                redirects += 1
                url = allowed_url(location, url, self.site)
            elif status == 401 and not renewed and self._credential.renew(shown.get("Authorization")):
                renewed = True
            elif status in {404, 410}:
                raise ExpiredFileError
            else:
                empty = Answer(url, status, b"")
                self.judged(empty)
                raise self.unexpected(empty)

    def judged(self, answer: Answer) -> Answer:
        """The answer, unless its status is an error of its own (401, 403, 429, 5xx).

        Raises:
            SourceUnreachable: 429 or 5xx.
            SourceRefused: 401 or 403.
        """
        return self._judged(answer)

    def require(self, types: tuple[str, ...]) -> None:
        """Checks that our token allows reading some types, as far as it says.

        Raises:
            SourceRefused: it does not.
        """
        self._credential.require(types)

    def get(self, url: str, *, accept: str = "application/fhir+json", anonymous: bool = False) -> Answer:
        """Gets a URL.

        Args:
            url: absolute; on the source's origin or an allowed host. The credential goes to the origin alone.
            accept: what is wanted.
            anonymous: leave the credential out (a file of `$export` that needs no access token).

        Returns:
            The answer, with a status of 200, or one that the caller knows better how to judge (400, 404, 410,
            501 …).

        Raises:
            SourceUnreachable: no connection, a time-out, TLS, 429 or 5xx after all attempts.
            SourceRefused: 401, 403, or a redirect to another host.
            SourceNotFhir: an answer larger than `max_page_bytes`.
            SourceIncomplete: the answer broke off, at every attempt.
        """
        failure: Exception | None = None
        for _ in range(self.site.retry.attempts):
            try:
                return self._judged(self._follow(url, accept, anonymous))
            except BrokenOffError as error:
                failure = error
        raise SourceIncomplete(
            f"the answer broke off {self.site.retry.attempts} times", where=safe_url(url)
        ) from failure

    def _follow(self, url: str, accept: str, anonymous: bool) -> Answer:
        for _ in range(_REDIRECTS + 1):
            answer = self._send("GET", url, {"Accept": accept}, anonymous=anonymous)
            if answer.location is None:
                return answer
            url = allowed_url(answer.location, url, self.site)
        raise SourceRefused("the server redirects without end", where=safe_url(url))

    def _send(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        *,
        body: bytes | None = None,
        anonymous: bool = False,
    ) -> Answer:
        """Sends a request with the credential; after a 401, which did nothing, once more with a new one."""
        answer, shown = self._once(method, url, headers, body, anonymous)
        if answer.status == 401 and self._credential.renew(shown):
            answer, _ = self._once(method, url, headers, body, anonymous)
        return answer

    def _once(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None, anonymous: bool
    ) -> tuple[Answer, str | None]:
        """One request; the Authorization header that went along, if one did."""
        shown = {} if anonymous else self._credential.headers(url)
        answer = self._transport.send(
            method,
            url,
            headers={"Cache-Control": "no-cache", **headers, **shown},
            certificate=self._credential.covers(url),
            limit=self.site.max_page_bytes,
            body=body,
        )
        with self._lock:
            self.requests += 1
        return answer, shown.get("Authorization")

    def _judged(self, answer: Answer) -> Answer:
        where = safe_url(answer.url)
        if answer.status == 401:
            if not self._credential.covers(answer.url):
                raise SourceRefused(
                    "a host that a link leads to wants a credential, and gets none of ours (401)", where=where
                )
            raise self._credential.refusal(where)
        if answer.status == 403:
            raise SourceRefused("the server does not allow us this (403)", where=where)
        if answer.status in {500, 502, 504}:
            raise ServerFault(f"the server goes on answering {answer.status}", where=where)
        # 501 is no fault: the server has not got what was asked for, and the caller knows another way.
        if answer.status == 429 or (answer.status > 500 and answer.status != 501):
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
