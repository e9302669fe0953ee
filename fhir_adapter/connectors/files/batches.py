"""What a file holds, landed in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator

from fhir_adapter.arrivals import Arrival, Landing
from fhir_adapter.connectors.reports import Progress, PullReport, Tally
from fhir_adapter.errors import SourceIncomplete
from fhir_adapter.site import Site

__all__ = ["land_file"]

_BATCH = 1000
_BATCH_BYTES = 8 * 1024 * 1024


def land_file(
    items: Iterator[Arrival],
    name: str,
    site: Site,
    landing: Landing,
    report: PullReport,
    tally: Tally,
    before: int,
    progress: Progress | None,
) -> int:
    """Lands what one file holds.

    Args:
        items: what the file holds.
        name: of the file, for messages.
        site: whose `max_resources` counts.
        landing: where it lands.
        report: counts what became of it.
        tally: counts what came.
        before: number of resources that came from files before this one.
        progress: called after each batch.

    Returns:
        Number of resources that the file holds.

    Raises:
        SourceIncomplete: with those before they are more than `max_resources`.
    """
    batch: list[Arrival] = []
    odd: set[str] = set()
    size = number = 0

    def land() -> None:
        nonlocal size
        if batch:
            tally.add(batch)
            report.outcome.add(landing.append(batch))
            if progress is not None:
                progress(batch[-1].type, before + number)
        batch.clear()
        size = 0

    for item in items:
        number += 1
        if before + number > site.max_resources:
            raise SourceIncomplete(
                f"more than max_resources ({site.max_resources})",
                where=name,
                remedy="Raise it in the site file.",
            )
        if not landing.admits(item):
            report.bar(item)
            continue
        if item.state == "unreadable":
            odd.add(item.id)
        batch.append(item)
        size += len(item.body)
        if len(batch) >= _BATCH or size >= _BATCH_BYTES:
            land()
    land()
    report.outcome.deleted += landing.retire_unreadable(name, odd)
    return number
