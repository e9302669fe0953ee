"""What a pull says of itself: counts at the wire, differences, findings; nothing that names a patient."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np

from fhir_adapter.arrivals import Arrival, Landing, Outcome, State

__all__ = ["Difference", "Keep", "Progress", "PullFinding", "PullReport", "Tally", "ended"]

#: Called with the type of a batch's last resource and the number that came so far.
Progress = Callable[[str, int], None]


class Tally:
    """Counts distinct resources as they come over the wire; several searches may bring one of them.

    Eight bytes of a hash, which is this process's own, are kept for each, so that a pull of millions stays small.
    """

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], array[int]] = {}

    def add(self, items: Iterable[Arrival]) -> None:
        """Counts arrivals; news of a deletion is none."""
        arrived = list(items)
        kinds = {(item.type, item.state) for item in arrived}
        for kind in kinds:
            if kind[1] != "deleted":
                # A batch of a pull is nearly always of one kind.
                same = arrived if len(kinds) == 1 else [i for i in arrived if (i.type, i.state) == kind]
                self._ids.setdefault(kind, array("q")).extend(array("q", [hash(i.id) for i in same]))

    def distinct(self, *states: State) -> dict[str, int]:
        """Number of distinct ids by type, of arrivals in these states."""
        found: dict[str, list[array[int]]] = {}
        for (type_, state), ids in sorted(self._ids.items()):
            if state in states:
                found.setdefault(type_, []).append(ids)
        return {type_: _distinct(parts) for type_, parts in found.items()}

    def into(self, report: PullReport) -> None:
        """Writes the counts into a report."""
        report.received = self.distinct("resource", "own-output", "unreadable")
        report.own_output = self.distinct("own-output")
        report.unreadable = sum(self.distinct("unreadable").values())


def _distinct(parts: list[array[int]]) -> int:
    """Number of distinct values in some arrays; sorted and compared, for `numpy.unique` takes twenty times as long."""
    values = np.sort(np.concatenate([np.frombuffer(part, dtype=np.int64) for part in parts]))
    return int(values.size and 1 + np.count_nonzero(values[1:] != values[:-1]))


class Difference(msgspec.Struct, frozen=True):
    """A query, or a file, for which the source counts something else than what came.

    Attributes:
        type: resource type.
        expected: what the source says it has; None if it names a file without a number, and the file is not there.
        received: distinct resources that came.
        subjects: number of subjects in the query; 0 if it was not by subject.
    """

    type: str
    expected: int | None
    received: int
    subjects: int = 0


class PullFinding(msgspec.Struct, frozen=True):
    """Something that deserves a look; `number` times."""

    code: str
    text: str
    number: int = 1


class PullReport(msgspec.Struct):
    """Counts of one pull.

    Attributes:
        kind: `rest`, `bulk` or `files`.
        subjects: candidates found; for files the patients in the landing afterwards.
        requests: HTTP requests answered, or files read.
        received: distinct resources that came over the wire, by type (own output and unreadable included).
        own_output: of these, what the adapter itself wrote, by type.
        unreadable: items that are not a resource with type and id.
        outcome: what the landing did with them.
        skipped: queries or files that had nothing new since the last pull.
        full: whether checkpoints were left aside.
        before: sequence number of the landing before the pull.
        after: sequence number after it.
        differences: queries whose count does not agree with what came.
        findings: what deserves a look.
        not_needed: what an export brought of others than the subjects, or of other types, by type; it did not land.
        barred: what the source still sent of subjects who were taken out for good, by type; it did not land.
        missing: of a pull that ended early, by resource type the number of subjects whose query did not come to
            its end; a type that is not there came whole. Types that are found by reference count as 0.
        complete: False if the pull ended early.
        server: name, version and FHIR version by the server's own statement.
    """

    kind: str
    subjects: int = 0
    requests: int = 0
    received: dict[str, int] = msgspec.field(default_factory=dict)
    own_output: dict[str, int] = msgspec.field(default_factory=dict)
    unreadable: int = 0
    outcome: Outcome = msgspec.field(default_factory=Outcome)
    skipped: int = 0
    full: bool = False
    before: int = 0
    after: int = 0
    differences: list[Difference] = msgspec.field(default_factory=list)
    findings: list[PullFinding] = msgspec.field(default_factory=list)
    server: dict[str, str] = msgspec.field(default_factory=dict)
    not_needed: dict[str, int] = msgspec.field(default_factory=dict)
    barred: dict[str, int] = msgspec.field(default_factory=dict)
    missing: dict[str, int] = msgspec.field(default_factory=dict)
    complete: bool = True

    def bar(self, item: Arrival) -> None:
        """Counts an arrival that was not admitted to the landing."""
        self.barred[item.type] = self.barred.get(item.type, 0) + 1

    def find(self, code: str, text: str) -> None:
        """Adds a finding, or counts it once more."""
        for position, finding in enumerate(self.findings):
            if (finding.code, finding.text) == (code, text):
                self.findings[position] = PullFinding(code, text, finding.number + 1)
                return
        self.findings.append(PullFinding(code, text))

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, for the manifest."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data


#: Called with the report of a pull that ended early.
Keep = Callable[[PullReport], None]


@contextmanager
def ended(report: PullReport, tally: Tally, landing: Landing, keep: Keep | None) -> Iterator[None]:
    """Ends a report when its pull has ended, and hands over that of one that ended early.

    Args:
        report: of the pull that is made meanwhile.
        tally: what came.
        landing: where it landed.
        keep: gets the report of a pull that ended by an error, before the error goes on.
    """
    try:
        try:
            yield
        finally:
            report.outcome.add(landing.settle())
    except BaseException:
        report.complete = False
        raise
    finally:
        tally.into(report)
        report.after = landing.sequence
        if not report.complete and keep is not None:
            keep(report)
