"""Bulk Data Access: one export job from kick-off to its deletion (HL7 FHIR Bulk Data Access 2.0, Export).

The URL of a job is a checkpoint, so that a pull that was interrupted goes on waiting for the same job. Files are
read as streams, line by line; one that does not come whole is read again, and one that has expired ends the job.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import msgspec

from fhir_adapter.arrivals import Arrival, Checkpoint, Landing, arrival
from fhir_adapter.connectors.bundles import explode
from fhir_adapter.connectors.client import Client, ExpiredFileError, issue_codes
from fhir_adapter.connectors.http.transport import Answer, BrokenOffError, seconds_to_wait
from fhir_adapter.connectors.paging import allowed_url, safe_url
from fhir_adapter.connectors.reports import PullReport
from fhir_adapter.errors import AdapterError, SourceIncomplete, SourceNotFhir
from fhir_adapter.undecodable import UNDECODABLE

__all__ = ["Export", "ExportFile", "RefusedError", "kick_off_url"]

_FIRST_WAIT = 1.0
_LONGEST_OWN_WAIT = 60.0
_MOST_FILES = 1_000_000


class RefusedError(Exception):
    """The server does not take the job; `error` says why."""

    def __init__(self, error: AdapterError) -> None:
        super().__init__(str(error))
        self.error = error


class _UselessError(RefusedError):
    """What the job has made cannot be used; `error` says why."""


class ExportFile(msgspec.Struct, frozen=True):
    """A file of a manifest.

    Attributes:
        url: where it is.
        type: resource type that the manifest names, or "".
        count: number of its resources by the manifest, or None.
    """

    url: str
    type: str
    count: int | None


class _Manifest(msgspec.Struct, frozen=True):
    """What a finished job says it has."""

    time: str
    token: bool
    output: tuple[ExportFile, ...]
    deleted: tuple[ExportFile, ...]
    error: tuple[ExportFile, ...]


def kick_off_url(client: Client, types: list[str], since: str) -> str:
    """URL that starts an export as the site asks for it.

    A filter of a type that is not asked for is left out: a server may refuse the job for it (Bulk Data Access 2.0,
    `_typeFilter`), and one site serves several studies.

    Args:
        client: the client.
        types: resource types.
        since: instant, or "" for everything.
    """
    bulk = client.site.bulk
    place = {"system": "", "patient": "/Patient", "group": f"/Group/{bulk.group}"}[bulk.level]
    parameters = [("_outputFormat", "application/fhir+ndjson"), ("_type", ",".join(types))]
    if since:
        parameters.append(("_since", since))
    parameters += [("_typeFilter", item) for item in bulk.type_filters if item.partition("?")[0] in types]
    return f"{client.base}{place}/$export?{urlencode(parameters)}"


def _instant(text: Any) -> str:
    """The time of an export in UTC with milliseconds; "" if it is none."""
    try:
        moment = dt.datetime.fromisoformat(str(text))
    except ValueError:
        return ""
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds") if moment.tzinfo else ""


class Export:
    """An export job.

    Args:
        client: the client; its site says how long is waited.
        landing: where the URL of the job is kept.
        report: takes findings.
        stop: set when the pull ends.
    """

    def __init__(self, client: Client, landing: Landing, report: PullReport, stop: threading.Event) -> None:
        self._client = client
        self._landing = landing
        self._report = report
        self._stop = stop
        self._job = ""
        self._key = ""
        self.time = ""

    def read(self, url: str, land: Callable[[list[Arrival]], None], batch: int = 1000) -> None:
        """Runs a job to its end, a stored one if there is one, and hands over what its files hold.

        Args:
            url: of the kick-off.
            land: takes resources and news of deletions in batches; some may come more than once.
            batch: most of them at once.

        Raises:
            RefusedError: the server does not take the job.
            SourceIncomplete: it takes longer than `bulk.max_poll_s`, or a file is not there or not whole.
            AdapterError: what `Client.get` raises.
        """
        self._key = f"export|{hashlib.sha256(url.encode()).hexdigest()[:16]}"
        for _ in range(2):
            try:
                manifest = self._finished(url)
                self._files(manifest, land, batch)
            except _UselessError as useless:
                # A job that has ended stays as it is: the next pull begins another one.
                self._remember("")
                raise useless.error from useless
            except ExpiredFileError:
                # A job or a file that is gone: once more, from the beginning.
                self._remember("")
                self._report.find(
                    "export-expired", "an export or a file of it had expired and was made again"
                )
                continue
            self.time = manifest.time
            self._remember("")
            self._delete()
            return
        raise SourceIncomplete("the files of the export expired twice", where=safe_url(url))

    # The job

    def _remember(self, job: str) -> None:
        self._landing.append([], [Checkpoint(self._key, {"job": job})])

    def _finished(self, url: str) -> _Manifest:
        stored = str((self._landing.checkpoint(self._key) or {}).get("job") or "")
        if stored:
            self._job = allowed_url(stored, self._client.base, self._client.site)
            self._report.find("export-resumed", "an export that was begun earlier was taken up again")
        else:
            self._job = self._begin(url)
            self._remember(self._job)
        return self._manifest(self._wait())

    def _begin(self, url: str) -> str:
        answer = self._client.raw("GET", url, {"Accept": "application/fhir+json", "Prefer": "respond-async"})
        if answer.status == 202 and answer.content_location:
            return allowed_url(answer.content_location, url, self._client.site)
        if answer.status == 202:
            raise RefusedError(SourceNotFhir("the export has no Content-Location", where=safe_url(url)))
        if answer.status in {401, 403, 429} or answer.status >= 500:
            self._client.judged(answer)
        raise RefusedError(self._client.unexpected(answer))

    def _wait(self) -> Answer:
        site = self._client.site
        latest = time.monotonic() + site.bulk.max_poll_s
        pause = _FIRST_WAIT
        while not self._stop.is_set():
            answer = self._client.raw("GET", self._job, {"Accept": "application/json"})
            if answer.status == 200:
                return answer
            if answer.status in {404, 410}:
                raise ExpiredFileError
            if answer.status not in {202, 429, 503}:
                if answer.status not in {401, 403, 502, 504}:  # these say nothing of the job
                    self._remember("")
                self._client.judged(answer)
                raise self._client.unexpected(answer)
            asked = seconds_to_wait(answer.retry_after, site.retry.max_wait_s)
            wait = asked or min(pause, site.retry.max_wait_s)
            pause = min(2 * pause, _LONGEST_OWN_WAIT)
            if time.monotonic() + wait > latest:
                raise SourceIncomplete(
                    f"the export takes longer than bulk.max_poll_s ({site.bulk.max_poll_s:g})",
                    where=safe_url(self._job),
                    remedy="The next pull waits for the same job.",
                )
            self._stop.wait(wait)
        raise SourceIncomplete("the export was interrupted", where=safe_url(self._job))

    def _delete(self) -> None:
        try:
            self._client.raw("DELETE", self._job, {})
        except (AdapterError, BrokenOffError):
            self._report.find("export-not-deleted", "the finished export could not be deleted at the server")

    # Its files

    def _manifest(self, answer: Answer) -> _Manifest:
        def useless(what: str) -> _UselessError:
            return _UselessError(SourceNotFhir(what, where=safe_url(answer.url)))

        try:
            tree: Any = msgspec.json.decode(answer.body)
        except UNDECODABLE as error:
            raise useless("the manifest of the export is not JSON") from error
        if not isinstance(tree, dict) or not isinstance(tree.get("output"), list):
            raise useless("the manifest of the export names no output")
        moment = _instant(tree.get("transactionTime"))
        if not moment:
            raise useless("the manifest of the export has no transactionTime")

        def files(name: str) -> tuple[ExportFile, ...]:
            found = tree.get(name)
            items = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
            if len(items) > _MOST_FILES:
                raise useless("the manifest of the export names too many files")
            if not all(isinstance(item.get("url"), str) and item["url"].strip() for item in items):
                raise useless("the manifest of the export names a file without URL")
            return tuple(
                ExportFile(
                    allowed_url(item["url"], answer.url, self._client.site),
                    str(item.get("type") or "")[:64],
                    item["count"] if type(item.get("count")) is int else None,
                )
                for item in items
            )

        return _Manifest(
            moment,
            tree.get("requiresAccessToken") is not False,
            files("output"),
            files("deleted"),
            files("error"),
        )

    def _files(self, manifest: _Manifest, land: Callable[[list[Arrival]], None], batch: int) -> None:
        for file in manifest.output:
            for items in self._batches(file, manifest, batch):
                land([arrival(line, origin="$export", base=self._client.base) for line in items])
        for file in manifest.deleted:
            for items in self._batches(file, manifest, batch):
                news = [item for line in items for item in explode(line, "$export deleted")]
                land([item for item in news if item.state == "deleted"])
        for file in manifest.error:
            for items in self._batches(file, manifest, batch):
                for line in items:
                    codes = issue_codes(line) or "unspecified"
                    self._report.find("export-error", f"the server reports a problem of its export: {codes}")

    def _batches(self, file: ExportFile, manifest: _Manifest, batch: int) -> Iterator[list[bytes]]:
        """Lines of a file in batches; a file that breaks off begins again."""
        site = self._client.site
        for attempt in range(1, site.retry.attempts + 1):
            number = 0
            lines: list[bytes] = []
            size = 0
            last = b"}"
            whole = False
            try:
                for line in self._client.lines(file.url, anonymous=not manifest.token):
                    number += 1
                    size += len(line)
                    last = line
                    lines.append(line)
                    if len(lines) >= batch or size > 8 * 1024 * 1024:
                        yield lines[:-1]  # the last line is known to be whole when another one follows
                        lines, size = lines[-1:], len(line)
                whole = True
                if last.endswith(b"}") and (file.count is None or number >= file.count):
                    yield lines
                    return
            except BrokenOffError:
                pass
            if attempt == site.retry.attempts:
                break
        stated = "" if file.count is None else f", which has {file.count} lines by the manifest"
        error = SourceIncomplete(
            f"a file of the export{stated}, did not come whole {site.retry.attempts} times (last time {number} lines)",
            where=safe_url(file.url),
        )
        # The connection may do better next time; a file that the server ended is all that there will be.
        raise _UselessError(error) if whole else error
