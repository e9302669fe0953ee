"""What a check answers, as data: needs, counts, codes that no map knows, what a code filter would lose.

Nothing here names a patient. Systems, codes and displays come from the source and may be anything; they are
bounded and their control characters are written out (`plain`).
"""

from __future__ import annotations

import unicodedata
from typing import Any, Literal

import msgspec

from fhir_adapter.errors import AdapterError

__all__ = [
    "MAX_CODE",
    "MAX_DISPLAY",
    "Blocked",
    "CodeFilter",
    "Need",
    "QueryCount",
    "Report",
    "State",
    "TextOnly",
    "UnknownCode",
    "Unselected",
    "plain",
]

#: Longest code or system, and longest display, that is shown.
MAX_CODE = 200
MAX_DISPLAY = 100

#: `supported`: stated, or shown by asking. `not stated`: the server says nothing of it, and asking does not
#: tell. `refused`: it says no, or does another thing than it was asked.
State = Literal["supported", "not stated", "refused"]


def plain(text: str, limit: int = MAX_DISPLAY) -> str:
    """A text of a server's as it may be shown: one line, bounded, without control or invisible characters.

    Characters of the Unicode categories C (controls, bidirectional marks, surrogates), Zl and Zp become
    their number in hexadecimal, so that none of them can move a cursor or turn the reading direction.
    """
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(
        f"\\u{ord(one):04x}" if unicodedata.category(one)[0] == "C" or one in "\u2028\u2029" else one
        for one in cut
    )


class Need(msgspec.Struct, frozen=True):
    """Something that the run needs of the source.

    Attributes:
        subject: `server`, a resource type, or `write-back`.
        need: what is needed.
        state: whether it is there.
        means: what that means for the run.
    """

    subject: str
    need: str
    state: State
    means: str


class QueryCount(msgspec.Struct, frozen=True):
    """How many resources a query of the plan brings, over all candidates.

    Attributes:
        query: the search without its values, for example `Observation?patient`.
        type: resource type.
        number: how many; None if nobody knows.
        how: `_summary=count`, `_total=accurate`, `read` (the pages were read), `files`, or empty.
    """

    query: str
    type: str
    number: int | None
    how: str


class UnknownCode(msgspec.Struct, frozen=True):
    """A code that the map of its element does not know.

    Attributes:
        element: where it stands.
        concept_map: the map that was asked.
        variable: the variable it is for, or empty.
        system: its code system; empty if it has none.
        code: the code.
        display: what the source calls it; a text where there is no code and texts were asked for.
        count: resources that carry it, of those read.
        reported: whether a run makes a finding of it; if not, the study does without this element.
    """

    element: str
    concept_map: str
    variable: str
    system: str
    code: str
    display: str
    count: int
    reported: bool


class TextOnly(msgspec.Struct, frozen=True):
    """Resources whose element has a wording and no code, and the map does not know the wording.

    The wording is not shown: free text may name a person. `reported`: a run makes a finding of some of them.
    """

    element: str
    concept_map: str
    count: int
    reported: bool


class Unselected(msgspec.Struct, frozen=True):
    """A code by which no view selects a resource: what is coded so is pulled and then not needed."""

    element: str
    system: str
    code: str
    display: str
    count: int


class CodeFilter(msgspec.Struct, frozen=True):
    """What a search by code would lose.

    Attributes:
        query: the search without its values.
        type: resource type.
        codes: how many codes the filter has.
        without: resources without the filter, as the source counts them.
        filtered: resources with the filter, as the server counts them; None for files.
        needed: of the resources read, those that the study uses; None where the filter finds the candidates.
        lost: of these, how many carry none of the codes.
        subjects: subjects who would lose a resource.
    """

    query: str
    type: str
    codes: int
    without: int | None
    filtered: int | None
    needed: int | None
    lost: int
    subjects: int


class Blocked(msgspec.Struct, frozen=True):
    """Why a run would end early, with the exit status it would end with."""

    status: int
    code: str
    what: str

    @classmethod
    def of(cls, error: AdapterError) -> Blocked:
        """The same of an error."""
        return cls(error.exit_status, error.code, str(error))


class Report(msgspec.Struct):
    """The answer of a check.

    Attributes:
        study, site: their ids.
        source: `rest` or `files`.
        server: what the server says of itself.
        subjects: number of candidates.
        limit: most resources of a type that were read for the census; None for all.
        read: resources read, by type.
        complete: whether the census is of all resources.
        needs, counts, unknown, text_only, unselected, filters: the answers.
        blocked: why a run would end early; empty if it would not.
    """

    study: str
    site: str
    source: str
    server: dict[str, str] = msgspec.field(default_factory=dict)
    subjects: int = 0
    limit: int | None = None
    read: dict[str, int] = msgspec.field(default_factory=dict)
    complete: bool = False
    needs: list[Need] = msgspec.field(default_factory=list)
    counts: list[QueryCount] = msgspec.field(default_factory=list)
    unknown: list[UnknownCode] = msgspec.field(default_factory=list)
    text_only: list[TextOnly] = msgspec.field(default_factory=list)
    unselected: list[Unselected] = msgspec.field(default_factory=list)
    filters: list[CodeFilter] = msgspec.field(default_factory=list)
    blocked: list[Blocked] = msgspec.field(default_factory=list)

    def status(self, *, strict: bool = False) -> int:
        """Exit status: that of the first thing that would end a run; 3 with `strict` and something amiss.

        Args:
            strict: codes that a run reports as unknown, and needs that are refused, count.
        """
        if self.blocked:
            return self.blocked[0].status
        amiss = (
            any(item.reported for item in self.unknown)
            or any(item.reported for item in self.text_only)
            or any(item.state == "refused" for item in self.needs)
        )
        return 3 if strict and amiss else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain_data: dict[str, Any] = msgspec.to_builtins(self)
        return plain_data
