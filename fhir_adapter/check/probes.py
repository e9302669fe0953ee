"""Asking a server what its statement may have wrong: every search of the plan is tried, counted and sampled.

A query of the plan is asked three things: whether it heeds its parameter (a patient who does not exist must
bring nothing), how many resources it brings for the candidates, and for its first pages. Only GET is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from fhir_adapter.arrivals import Arrival, subject_key
from fhir_adapter.check.census import Seen
from fhir_adapter.check.filters import Wanted
from fhir_adapter.check.report import Blocked, Need, QueryCount, State
from fhir_adapter.connectors.bundles import read_bundle
from fhir_adapter.connectors.client import Client, search_url
from fhir_adapter.connectors.plan import CandidateSearch, PullPlan, SubjectQuery
from fhir_adapter.connectors.rest.capability import Capability
from fhir_adapter.connectors.rest.searches import Search, Searched, count, pages
from fhir_adapter.errors import AdapterError, SourceIncomplete

__all__ = ["NOBODY", "Probed", "probe_server"]

#: Id of a patient who does not exist.
NOBODY = "fhir-adapter-check-nobody"

_URL_LENGTH = 1900
_IDS_PER_QUERY = 50
#: Nothing was changed after this; a server that knows `_lastUpdated` finds nothing.
_FUTURE = "ge2999-01-01T00:00:00.000Z"

Progress = Callable[[str], None]


class Probed(msgspec.Struct):
    """What the probes of a server found.

    Attributes:
        subjects: number of candidates.
        needs, counts, blocked: as in the report.
        resources: what was read for the census.
        complete: whether that is everything.
        without, filtered: by type, the number of resources without and with the code filter.
    """

    subjects: int = 0
    needs: list[Need] = msgspec.field(default_factory=list)
    counts: list[QueryCount] = msgspec.field(default_factory=list)
    blocked: list[Blocked] = msgspec.field(default_factory=list)
    resources: list[Seen] = msgspec.field(default_factory=list)
    complete: bool = True
    without: dict[str, int | None] = msgspec.field(default_factory=dict)
    filtered: dict[str, int | None] = msgspec.field(default_factory=dict)


class _Member(msgspec.Struct):
    class Entity(msgspec.Struct):
        """`Group.member.entity`."""

        reference: str | None = None

    entity: Entity | None = None
    inactive: bool | None = None


class _Group(msgspec.Struct):
    member: list[_Member] = []


class _Brought(msgspec.Struct):
    """What the probe of one query brought."""

    needs: list[Need] = msgspec.field(default_factory=list)
    counted: QueryCount | None = None
    items: list[Arrival] = msgspec.field(default_factory=list)
    complete: bool = True
    blocked: Blocked | None = None


def _never() -> bool:
    return False


def _search_all(client: Client, search: Search, limit: int | None = None) -> tuple[list[Arrival], bool]:
    """What a search brings, each resource once, and whether that is all of it."""
    found: dict[tuple[str, str], Arrival] = {}
    searched = Searched()
    for page in pages(client, search, searched, _never):
        for item in page.items:
            found[(item.type, item.id)] = item
        if limit is not None and len(found) >= limit:
            return list(found.values())[:limit], False
    return list(found.values()), True


def _total(client: Client, search: Search) -> tuple[int | None, str]:
    """How many resources a search has, and how that was learnt.

    Asked for with `_summary=count`, else with `_total=accurate`; a server that tells neither is read.
    """
    number = count(client, search)
    if number is not None:
        return number, "_summary=count"
    url = search_url(client.base, search.type, [*search.parameters, ("_total", "accurate"), ("_count", "1")])
    answer = client.get(url)
    if answer.status == 200:
        try:
            number = read_bundle(answer.body).total
        except ValueError:
            number = None
        if number is not None:
            return number, "_total=accurate"
    searched = Searched()
    for _ in pages(client, search, searched, _never):
        pass
    return len(searched.matched), "read"


def _by_subject(query: SubjectQuery, subjects: Sequence[str], *more: tuple[str, str]) -> Search:
    ids = [subject.partition("/")[2] if query.parameter == "_id" else subject for subject in subjects]
    return Search(query.type, ((query.parameter, ",".join(ids)), *more), f"{query.type}?{query.parameter}")


class _Probe:
    """The probes of one server."""

    def __init__(
        self, client: Client, plan: PullPlan, capability: Capability, limit: int | None, progress: Progress
    ) -> None:
        self.client = client
        self.plan = plan
        self.capability = capability
        self.limit = limit
        self.progress = progress
        self.found = Probed()

    # Candidates

    def _named(self, type_: str, identifier: str) -> list[Arrival]:
        search = Search(type_, (("identifier", identifier.removeprefix("|")),), f"{type_}?identifier")
        items, _ = _search_all(self.client, search)
        self.found.counts.append(QueryCount(f"{type_}?identifier", type_, len(items), "read"))
        if not any(item.type == type_ for item in items):
            raise SourceIncomplete(
                f"the server has no {type_} with the identifier of the study file",
                where=f"{self.client.base}/{type_}?identifier",
            )
        return [item for item in items if item.type == type_]

    def _candidates_of(self, candidate: CandidateSearch) -> Iterator[str | None]:
        if candidate.kind == "research-study":
            for study in self._named("ResearchStudy", candidate.identifier):
                self._keep([study])
                search = Search("ResearchSubject", (("study", f"ResearchStudy/{study.id}"),), "")
                yield from self._subjects(search, "ResearchSubject?study")
        elif candidate.kind == "group":
            for group in self._named("Group", candidate.identifier):
                self._keep([group])
                for member in msgspec.json.decode(group.body, type=_Group).member:
                    if not member.inactive:
                        yield subject_key(member.entity.reference if member.entity else None)
        elif candidate.kind == "condition":
            for start in range(0, len(candidate.codes), _IDS_PER_QUERY):
                codes = ",".join(candidate.codes[start : start + _IDS_PER_QUERY])
                yield from self._subjects(Search("Condition", (("code", codes),), ""), "Condition?code")
        else:
            yield from self._subjects(Search("Patient", candidate.parameters, ""), "Patient")

    def _subjects(self, search: Search, query: str) -> Iterator[str | None]:
        items, _ = _search_all(self.client, search)
        mine = [item for item in items if item.type == search.type]
        self.found.counts.append(QueryCount(query, search.type, len(mine), "read"))
        for item in mine:
            yield item.subject

    def candidates(self) -> list[str]:
        """`Patient/id` of all candidates; an error is kept as what would end a run."""
        self.progress("candidates")
        subjects: set[str] = set()
        try:
            for candidate in self.plan.candidates:
                subjects |= {key for key in self._candidates_of(candidate) if key is not None}
        except msgspec.DecodeError:
            error = SourceIncomplete("the Group's members cannot be read", where="Group")
            self.found.blocked.append(Blocked.of(error))
        except AdapterError as error:
            self._ends("candidates", "how candidates are found", error)
        self.found.subjects = len(subjects)
        if not subjects and not self.found.blocked:
            self.found.needs.append(
                Need("server", "candidates", "refused", "the server names no subject of the study")
            )
        return sorted(subjects)

    def _ends(self, subject: str, need: str, error: AdapterError) -> None:
        self.found.needs.append(
            Need(subject, need, "refused", f"a run ends with {error.exit_status}: {error}")
        )
        self.found.blocked.append(Blocked.of(error))

    def _keep(self, items: Iterable[Arrival]) -> None:
        known = {(one.type, one.id) for one in self.found.resources}
        for item in items:
            if item.state == "resource" and (item.type, item.id) not in known:
                number = len(self.found.resources)
                self.found.resources.append(
                    Seen(item.type, item.id, item.version, number, item.subject, item.body)
                )

    # Queries

    def _batches(
        self, query: SubjectQuery, subjects: Sequence[str], *more: tuple[str, str]
    ) -> Iterator[Search]:
        """The searches that bring a type for all subjects, as the pull cuts them."""
        size = self.client.site.subjects_per_query
        waiting = [subjects[start : start + size] for start in range(0, len(subjects), size)]
        while waiting:
            batch = waiting.pop(0)
            search = _by_subject(query, batch, *more)
            url = search_url(self.client.base, search.type, list(search.parameters))
            if len(url) > _URL_LENGTH and len(batch) > 1:
                half = len(batch) // 2
                waiting[:0] = [batch[:half], batch[half:]]
                continue
            yield search

    def _heeded(self, query: SubjectQuery) -> Need | None:
        """Whether the parameter is heeded: a patient who does not exist has nothing."""
        total = count(self.client, _by_subject(query, [f"Patient/{NOBODY}"]))
        if not total:
            return None
        return Need(
            query.type,
            f"the parameter {query.parameter}",
            "refused",
            "the server ignores it and sends everything it has: a run ends with 22, or brings other "
            "people's resources",
        )

    def query(self, query: SubjectQuery, subjects: Sequence[str]) -> _Brought:
        """Probes one query of the plan."""
        self.progress(query.type)
        brought = _Brought()
        fitting = SubjectQuery(query.type, self.capability.parameter(query))
        name = f"{fitting.type}?{fitting.parameter}"
        offered = self.capability.supports(query.type)
        try:
            ignored = self._heeded(fitting)
            if ignored is not None:
                brought.needs.append(ignored)
                brought.blocked = Blocked(22, "source-not-fhir", f"{name}: the server ignores the parameter")
                brought.counted = QueryCount(name, query.type, None, "")
                brought.complete = False
                return brought
            self._count_and_read(fitting, subjects, brought)
        except AdapterError as error:
            brought.complete = False
            brought.counted = QueryCount(name, query.type, None, "")
            means = (
                f"a run ends with {error.exit_status}: {error}" if offered else "a run leaves the type out"
            )
            brought.needs.append(Need(query.type, name, "refused", means))
            brought.blocked = Blocked.of(error) if offered else None
            return brought
        known = self.capability.types.get(query.type)
        if not offered:
            means = "not stated, and answered: a run goes by the statement and leaves the type out"
        elif known and fitting.parameter not in known:
            means = "the parameter is not stated, and heeded"
        else:
            means = "stated, and answered" if known else "answered"
        brought.needs.append(Need(query.type, name, "supported" if offered else "not stated", means))
        return brought

    def _count_and_read(self, query: SubjectQuery, subjects: Sequence[str], brought: _Brought) -> None:
        number, how = 0, ""
        differs = False
        for search in self._batches(query, subjects):
            total, how = _total(self.client, search)
            number += total or 0
            left = None if self.limit is None else self.limit - len(brought.items)
            if left is not None and left <= 0:
                brought.complete = brought.complete and not total
                continue
            items, whole = _search_all(self.client, search, left)
            brought.items += items
            brought.complete = brought.complete and whole
            mine = [item for item in items if item.type == query.type]
            differs = differs or (whole and total is not None and len(mine) != total)
        brought.counted = QueryCount(f"{query.type}?{query.parameter}", query.type, number, how)
        if differs:
            brought.needs.append(
                Need(
                    query.type,
                    "a count that is true",
                    "refused",
                    "the server counts another number than it sends: a run ends with 22, unless "
                    "`on_difference: finding`",
                )
            )

    def queries(self, subjects: Sequence[str]) -> None:
        """Probes the queries of the plan, several at once."""
        with ThreadPoolExecutor(max_workers=self.client.site.concurrency) as pool:
            results = list(pool.map(lambda query: self.query(query, subjects), self.plan.per_subject))
        wanted: dict[str, set[str]] = {type_: set() for type_ in self.plan.shared}
        for brought in results:
            self.found.needs += brought.needs
            if brought.counted is not None:
                self.found.counts.append(brought.counted)
                self.found.without[brought.counted.type] = brought.counted.number
            if brought.blocked is not None:
                self.found.blocked.append(brought.blocked)
            self.found.complete = self.found.complete and brought.complete
            self._keep(brought.items)
            for item in brought.items:
                for type_, id_ in item.refs:
                    if type_ in wanted:
                        wanted[type_].add(id_)
        for type_, ids in wanted.items():
            self._shared(type_, sorted(ids))
        self._totals([one.counted.how for one in results if one.counted is not None and one.counted.how])

    def _totals(self, hows: list[str]) -> None:
        if not hows:
            return
        read = "read" in hows
        self.found.needs.append(
            Need(
                "server",
                "totals",
                "refused" if read else "supported",
                "the server does not count; whether all came cannot be told"
                if read
                else f"whether all came is held against {', '.join(sorted(set(hows)))}",
            )
        )

    def _shared(self, type_: str, ids: Sequence[str]) -> None:
        """Resources that others refer to, by their ids."""
        self.progress(type_)
        name = f"{type_}?_id"
        offered = self.capability.supports(type_)
        try:
            total = count(self.client, Search(type_, (("_id", NOBODY),), name))
            if total:
                self.found.needs.append(
                    Need(type_, name, "refused", "the server ignores _id and sends everything")
                )
                self.found.blocked.append(Blocked(22, "source-not-fhir", f"{name}: the server ignores _id"))
                return
            brought: list[Arrival] = []
            for start in range(0, len(ids), _IDS_PER_QUERY):
                if self.limit is not None and len(brought) >= self.limit:
                    self.found.complete = False
                    break
                batch = ",".join(ids[start : start + _IDS_PER_QUERY])
                brought += _search_all(self.client, Search(type_, (("_id", batch),), name))[0]
            self._keep(brought)
        except AdapterError as error:
            if offered and ids:
                self._ends(type_, name, error)
            else:
                self.found.needs.append(
                    Need(type_, name, "refused", "nothing that was read refers to it, or a run leaves it out")
                )
            return
        self.found.counts.append(QueryCount(name, type_, len(brought), "read"))
        state: State = "supported" if offered else "not stated"
        means = "answered" if offered else "not stated, and answered: a run leaves the type out"
        self.found.needs.append(Need(type_, name, state, means))

    def since(self, subjects: Sequence[str]) -> None:
        """Whether the server can tell what changed since the last pull."""
        query = self.plan.per_subject[0]
        fitting = SubjectQuery(query.type, self.capability.parameter(query))
        search = _by_subject(fitting, subjects[:1] or [f"Patient/{NOBODY}"], ("_lastUpdated", _FUTURE))
        try:
            answer = self.client.get(
                search_url(self.client.base, search.type, [*search.parameters, ("_summary", "count")])
            )
            total = read_bundle(answer.body).total if answer.status == 200 else None
        except (AdapterError, ValueError):
            total = None
            answer = None
        if answer is None or answer.status != 200:
            need = Need("server", "_lastUpdated", "refused", "every pull asks for everything again")
        elif total:
            need = Need(
                "server",
                "_lastUpdated",
                "refused",
                "the server ignores it: every pull brings everything again",
            )
        elif total is None:
            need = Need("server", "_lastUpdated", "not stated", "the server does not count")
        else:
            need = Need("server", "_lastUpdated", "supported", "later pulls ask for what changed only")
        self.found.needs.append(need)

    def filter(self, wanted: Wanted, subjects: Sequence[str]) -> None:
        """Counts what a code filter would bring."""
        query = next((item for item in self.plan.per_subject if item.type == wanted.type), None)
        if query is None or not self.found.without.get(wanted.type):
            return
        fitting = SubjectQuery(query.type, self.capability.parameter(query))
        number = 0
        try:
            for search in self._batches(fitting, subjects, ("code", wanted.tokens)):
                total, _ = _total(self.client, search)
                number += total or 0
        except AdapterError:
            self.found.filtered[wanted.type] = None  # the server does not search by code; that is the answer
            return
        self.found.filtered[wanted.type] = number

    def condition_filter(self, subjects: Sequence[str]) -> None:
        """Candidates by condition are a code filter of the plan itself: Conditions with it, and without."""
        for candidate in self.plan.candidates:
            if candidate.kind == "condition":
                with_codes = next((c.number for c in self.found.counts if c.query == "Condition?code"), None)
                try:
                    everything, _ = _total(self.client, Search("Condition", (), "Condition"))
                except AdapterError:
                    everything = None
                self.found.filtered["Condition?code"] = with_codes
                self.found.without["Condition?code"] = everything


def probe_server(
    client: Client,
    plan: PullPlan,
    capability: Capability,
    filters: Iterable[Wanted],
    *,
    limit: int | None,
    progress: Progress,
) -> Probed:
    """Asks a server all that a pull would ask, and counts.

    Args:
        client: the client of the site; it brings credentials, limits and retries.
        plan: the plan of the pull.
        capability: the server's statement, as the pull reads it.
        filters: code filters to count.
        limit: most resources of a type to read; None for all.
        progress: called with what is asked next.

    Returns:
        What was found; errors that would end a run are part of it.
    """
    probe = _Probe(client, plan, capability, limit, progress)
    subjects = probe.candidates()
    probe.queries(subjects)
    probe.since(subjects)
    for wanted in filters:
        probe.filter(wanted, subjects)
    probe.condition_filter(subjects)
    return probe.found
