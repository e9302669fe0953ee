"""The connection that writes: the connectors' client, with requests that are never sent twice by themselves.

A read is retried; a write is not, because a lost answer does not say whether the write happened. The next run reads
what is there and sends only what is missing.
"""

from __future__ import annotations

from fhir_adapter.connectors.auth.scopes import Access
from fhir_adapter.connectors.client import Answer, Client
from fhir_adapter.connectors.http.transport import BrokenOffError
from fhir_adapter.connectors.paging import safe_url
from fhir_adapter.errors import SourceRefused, SourceUnreachable
from fhir_adapter.site import Site, Source

__all__ = ["WriteClient"]

#: Types that the write-back writes, reads back and may delete; what a token has to allow.
_WRITTEN = ("Binary", "Device", "DiagnosticReport", "DocumentReference", "Group", "Provenance")


class WriteClient(Client):
    """Talks to the server that takes the results.

    Args:
        site: the site; its credential goes along only if `url` has the source's origin.
        url: base URL of the server.
    """

    def __init__(self, site: Site, url: str) -> None:
        target = site.with_source(url) if site.source.url != url else site
        super().__init__(
            target.model_copy(update={"source": Source(kind="rest", url=url)}),
            Access(write=_WRITTEN),
        )

    def request(self, method: str, path: str, *, body: bytes | None = None) -> Answer:
        """Sends one request below the base; gives back the answer whatever its status, except 401 and 403.

        Raises:
            SourceUnreachable: no answer came; a write may or may not have happened.
            SourceRefused: 401 or 403.
        """
        url = f"{self.base}/{path}" if path else self.base
        if method == "GET":
            return self.get(url)
        headers = {
            "Accept": "application/fhir+json",
            "Content-Type": "application/fhir+json",
            "Prefer": "return=minimal",
        }
        try:
            answer = self._send(method, url, headers, body=body)
        except (BrokenOffError, SourceUnreachable) as error:
            raise SourceUnreachable(
                "no answer to a write; it may or may not have happened",
                where=safe_url(url),
                remedy="Run the write-back again: it reads first and sends only what is missing.",
            ) from error
        if answer.status in {401, 403}:
            raise SourceRefused(f"the server does not allow the write ({answer.status})", where=safe_url(url))
        return answer
