"""The connector for FHIR REST: finds the candidates, pulls every type for each of them, and counts what came.

    capability → candidates → types by subject, in batches, concurrently → what these refer to → report

A batch of subjects that has been pulled to its end has a checkpoint per subject and query, and is asked only
for what changed since; a new subject is pulled in full. After each query the server is asked what it has:
after a full pull that must be what came; after an incremental one what is known, else the batch is pulled in
full. Now and then all ids and versions are compared, because counts may agree by chance. What a full pull no
longer finds is read by its id, and is deleted only if the server says that it is gone.
"""

from __future__ import annotations

import datetime as dt
import functools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from fhir_adapter.connectors.arrivals import Arrival, Checkpoint, Landing, arrival, gone, subject_key
from fhir_adapter.connectors.bulk import Export, RefusedError, kick_off_url
from fhir_adapter.connectors.capability import Capability, read_capability
from fhir_adapter.connectors.client import URL_LENGTH, Client, search_url
from fhir_adapter.connectors.deletions import deleted_ids, listed
from fhir_adapter.connectors.merges import merged_with
from fhir_adapter.connectors.plan import (
    SUBJECT_PARAMETER,
    CandidateSearch,
    PullPlan,
    SubjectQuery,
    query_hash,
    read_types,
)
from fhir_adapter.connectors.reports import Difference, PullReport, Tally
from fhir_adapter.connectors.scopes import Access
from fhir_adapter.connectors.searches import (
    LinkTooLong,
    Page,
    Search,
    Searched,
    count,
    pages,
    since,
    takes_post,
)
from fhir_adapter.errors import SourceIncomplete
from fhir_adapter.site import Site

__all__ = ["pull_rest"]

Progress = Callable[[str, int], None]

_IDS_PER_QUERY = 50
#: Resources that are landed in one transaction, more or less.
_TOGETHER = 4000
_DEPTH = 5
#: Most references of a type that are read one by one in a pull, where a search by id finds nothing.
_MOST_READS = 1000


class _Job(msgspec.Struct, frozen=True):
    """A search by subject: a batch of them, one type, from a mark or from the beginning ("").

    `compared` is when all ids were last compared, or "".
    """

    query: SubjectQuery
    subjects: tuple[str, ...]
    name: str
    mark: str = ""
    compared: str = ""
    exported: Searched | None = None

    def search(self, *, marked: bool = True) -> Search:
        ids = [
            subject.partition("/")[2] if self.query.parameter == "_id" else subject
            for subject in self.subjects
        ]
        parameters = [(self.query.parameter, ",".join(ids))]
        if self.mark and marked:
            parameters.append(("_lastUpdated", since(self.mark)))
        return Search(self.query.type, tuple(parameters), f"{self.query.type}?{self.query.parameter}")

    def key(self, subject: str) -> str:
        return f"{subject}|{self.name}"


class _Done(msgspec.Struct, frozen=True):
    """A search has ended: what it brought, what the server says there is in all, and the ids it lists."""

    searched: Searched
    total: int | None
    versions: dict[str, str] | None = None


class _Split(msgspec.Struct, frozen=True):
    """A search was too wide for the server; these take its place."""

    jobs: tuple[_Job, ...]


_Event = tuple[_Job, Page | _Done | _Split | Exception]


class _Group(msgspec.Struct):
    """What is needed of a Group."""

    class Member(msgspec.Struct):
        """`Group.member`."""

        class Entity(msgspec.Struct):
            """`Group.member.entity`."""

            reference: str | None = None

        entity: Entity | None = None
        inactive: bool | None = None

    member: list[Member] | None = None


class _ResearchSubject(msgspec.Struct):
    """What is needed of a ResearchSubject."""

    class Study(msgspec.Struct):
        """`ResearchSubject.study`."""

        reference: str | None = None

    study: Study | None = None


def _chunks(items: Iterable[str], size: int) -> Iterator[tuple[str, ...]]:
    batch: list[str] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield tuple(batch)
            batch = []
    if batch:
        yield tuple(batch)


def _halves(job: _Job) -> tuple[_Job, _Job]:
    """A search as two, each for half of the subjects."""
    half = len(job.subjects) // 2
    return (
        msgspec.structs.replace(job, subjects=job.subjects[:half]),
        msgspec.structs.replace(job, subjects=job.subjects[half:]),
    )


def _subjects(items: Iterable[Arrival], type_: str) -> set[str]:
    """Patients that resources of a type are about; what the server includes besides makes no candidates."""
    return {
        item.subject
        for item in items
        if item.type == type_ and item.state == "resource" and item.subject is not None
    }


class _Pull:
    """One pull."""

    def __init__(
        self,
        site: Site,
        plan: PullPlan,
        landing: Landing,
        client: Client,
        *,
        full: bool,
        progress: Progress | None,
    ) -> None:
        self.site = site
        self.plan = plan
        self.landing = landing
        self.client = client
        self.full = full
        self.progress = progress
        self.report = PullReport("rest", full=full, before=landing.sequence)
        self._stop = threading.Event()
        self._events: queue.Queue[_Event] = queue.Queue(maxsize=2 * site.concurrency)
        self._tally = Tally()
        self._number = 0
        self._post_asked: bool | None = None
        self._candidates_found: set[str] | None = None
        self._reads: dict[str, int] = {}

    def run(self) -> PullReport:
        """The whole pull."""
        try:
            self._everything()
        except BaseException:
            self.report.complete = False
            raise
        finally:
            self._tally.into(self.report)
            self.report.requests = self.client.requests
            self.report.after = self.landing.sequence
        return self.report

    def _everything(self) -> None:
        self.client.bound()
        self.report.missing = {
            **{query.type: 0 for query in self.plan.per_subject},
            **dict.fromkeys(self.plan.shared, 0),
        }
        capability = read_capability(self.client)
        self.report.server = capability.software
        self.client.require(tuple(type_ for type_ in read_types(self.plan) if capability.supports(type_)))
        subjects = self._admitted(self._candidates())
        found: set[str] = set()
        # Another record of one person may hold what belongs to a candidate; it is known when the Patient has landed.
        while more := self._admitted(merged_with(self.landing.bodies("Patient"), subjects)) - found:
            found |= more
            self._candidates_found = found
            self.report.subjects = len(found)
            self.report.missing |= {query.type: len(more) for query in self.plan.per_subject}
            self._by_subject(sorted(more), capability)
        self._by_reference(capability)
        self.report.missing = {}

    def _admitted(self, subjects: set[str]) -> set[str]:
        return subjects - self.landing.barred(subjects)

    # Landing

    def _land(self, items: list[Arrival], checkpoints: Iterable[Checkpoint] = ()) -> None:
        if self.landing.bars_anyone:
            for item in items:
                if not self.landing.admits(item):
                    self.report.bar(item)
            items = [item for item in items if self.landing.admits(item)]
        self._tally.add(items)
        self._number += len(items)
        if self._number > self.site.max_resources:
            raise SourceIncomplete(
                f"the source sends more than max_resources ({self.site.max_resources})",
                where=self.client.base,
                remedy="Raise it in the site file, if the source is that large.",
            )
        self.report.outcome.add(self.landing.append(items, checkpoints))
        if items and self.progress is not None:
            self.progress(items[-1].type, self._number)

    def _notes(self, page: Page) -> None:
        for note in page.notes:
            self.report.find("server-note", f"the server adds a note to its results: {note}")

    def _differs(self, type_: str, expected: int, received: int, subjects: int) -> None:
        difference = Difference(type_, expected, received, subjects)
        self.report.differences.append(difference)
        if self.site.on_difference == "fail":
            raise SourceIncomplete(
                f"the server counts {expected} {type_}, {received} came",
                where=self.client.base,
                remedy="Pull again; set `on_difference: finding` to go on with what came.",
            )
        self.report.find("count-differs", f"the server's count of {type_} is not what came")

    def _search_now(self, search: Search) -> tuple[list[Arrival], bool]:
        """A search in this thread, landed: what it brought, and whether the server's count agrees."""
        for attempt in (1, 2):
            found: dict[str, Arrival] = {}
            searched = Searched()
            for page in pages(self.client, search, searched, self._stop.is_set):
                self._notes(page)
                self._land(page.items)
                for item in page.items:
                    # Candidates may be many: of these only the members of a Group are read.
                    kept = item if item.type == "Group" else msgspec.structs.replace(item, body=b"")
                    found[f"{item.type}/{item.id}"] = kept
            if searched.shrunk:
                self._shrunk(search.type)
            total = count(self.client, search)
            total = searched.total if total is None else total
            if total is None:
                self.report.find("no-count", f"the server does not say how many {search.type} it has")
                return list(found.values()), False
            if total == len(searched.matched):
                return list(found.values()), True
            if attempt == 2:
                self._differs(search.type, total, len(searched.matched), 0)
        return list(found.values()), False

    # Candidates

    def _candidates(self) -> set[str]:
        subjects: set[str] = set()
        for candidate in self.plan.candidates:
            subjects |= self._candidates_of(candidate)
        return subjects

    def _candidates_of(self, candidate: CandidateSearch) -> set[str]:
        if candidate.kind == "research-study":
            return self._enrolled(candidate.identifier)
        if candidate.kind == "group":
            return self._members(candidate.identifier)
        if candidate.kind == "condition":
            subjects: set[str] = set()
            for codes in _chunks(candidate.codes, _IDS_PER_QUERY):
                for search in self._by_code(codes):
                    items, _ = self._search_now(search)
                    subjects |= _subjects(items, "Condition")
            return subjects
        search = Search("Patient", candidate.parameters, "Patient")
        items, complete = self._search_now(search)
        found = {item.id for item in items if item.type == "Patient"}
        if complete and not candidate.parameters:
            self._settle_lost("Patient", self.landing.known("Patient") - found)
        return {f"Patient/{id_}" for id_ in found}

    def _by_code(self, codes: tuple[str, ...]) -> Iterator[Search]:
        search = Search("Condition", (("code", ",".join(codes)),), "Condition?code")
        if len(codes) == 1 or self._fits(search):
            yield search
            return
        half = len(codes) // 2
        yield from self._by_code(codes[:half])
        yield from self._by_code(codes[half:])

    def _named(self, type_: str, identifier: str) -> list[Arrival]:
        token = identifier.removeprefix("|")
        items, _ = self._search_now(Search(type_, (("identifier", token),), f"{type_}?identifier"))
        found = [item for item in items if item.type == type_ and item.state == "resource"]
        if not found:
            raise SourceIncomplete(
                f"the server has no {type_} with the identifier of the study file",
                where=f"{self.client.base}/{type_}?identifier",
            )
        return found

    def _enrolled(self, identifier: str) -> set[str]:
        subjects: set[str] = set()
        studies: set[str] = set()
        enrolments: set[str] = set()
        complete = True
        for study in self._named("ResearchStudy", identifier):
            name = f"ResearchStudy/{study.id}"
            studies.add(name)
            items, agreed = self._search_now(
                Search("ResearchSubject", (("study", name),), "ResearchSubject?study")
            )
            complete = complete and agreed
            enrolments |= {item.id for item in items if item.type == "ResearchSubject"}
            subjects |= _subjects(items, "ResearchSubject")
            for item in items:
                if item.type == "ResearchSubject" and item.state == "resource" and item.subject is None:
                    self.report.find("enrolment-without-patient", "a ResearchSubject refers to no Patient")
        if complete:
            # A deleted enrolment takes its subject out of the candidates, so no search by subject finds it.
            known = {id_ for id_ in self.landing.known("ResearchSubject") if id_ not in enrolments}
            ours = self._enrolments_in(studies) if known else set()
            self._settle_lost("ResearchSubject", known & ours)
        return subjects

    def _enrolments_in(self, studies: set[str]) -> set[str]:
        found: set[str] = set()
        for body in self.landing.bodies("ResearchSubject"):
            try:
                head = msgspec.json.decode(body, type=_IdentifiedSubject)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # an enrolment of odd shape is quarantined by the mapping; it is not lost
            reference = head.study.reference if head.study else None
            if any((reference or "").partition("/_history")[0].endswith(name) for name in studies):
                found.add(head.id)
        return found

    def _members(self, identifier: str) -> set[str]:
        subjects: set[str] = set()
        for group in self._named("Group", identifier):
            try:
                members = msgspec.json.decode(group.body, type=_Group).member or []
            except msgspec.DecodeError as error:
                raise SourceIncomplete("the Group's members cannot be read", where="Group") from error
            for member in members:
                key = subject_key(member.entity.reference if member.entity else None)
                if key is not None and not member.inactive:
                    subjects.add(key)
        return subjects

    # Types by subject

    def _by_subject(self, subjects: list[str], capability: Capability) -> None:
        jobs: list[_Job] = []
        for query in self.plan.per_subject:
            if not capability.supports(query.type):
                self.report.find("type-not-supported", f"the server does not offer {query.type}")
                self.report.missing.pop(query.type)
                continue
            fitting = SubjectQuery(query.type, capability.parameter(query))
            jobs += self._jobs(fitting, subjects)
        if self.site.deletes.find == "history":
            self._deleted(jobs)
        self._work(self._exported(jobs, len(subjects), capability))

    def _deleted(self, jobs: list[_Job]) -> None:
        """Reads what the server's history says was deleted since the marks of some searches."""
        for type_ in sorted({job.query.type for job in jobs if job.mark}):
            mark = min(job.mark for job in jobs if job.mark and job.query.type == type_)
            ids = deleted_ids(self.client, type_, since(mark).removeprefix("ge"), self._stop.is_set)
            if ids is None:
                self.report.find(
                    "history-not-supported",
                    f"the history of {type_} cannot be read; counts and ids were compared",
                )
            else:
                self._settle_lost(type_, ids & self.landing.known(type_), sought=False)

    # Types by subject, exported

    def _exported(self, jobs: list[_Job], subjects: int, capability: Capability) -> list[_Job]:
        """Exports what searches would bring, if that is wanted; the jobs then only check the counts.

        Where a count does not agree with the export, the job is searched after all: both ways land the same set.
        """
        bulk = self.site.bulk
        always = self.site.source.kind == "bulk" or bulk.use == "always"
        fresh = [job for job in jobs if not job.mark]
        marked = [job for job in jobs if job.mark]
        new = len({subject for job in fresh for subject in job.subjects})
        if not always and (bulk.use == "never" or not capability.exports or new < bulk.min_subjects):
            return jobs
        # Changes alone, if all but a few are known; the few are searched.
        chosen = marked if marked and new < bulk.min_subjects else jobs
        mark = min((job.mark for job in chosen), default="") if chosen is marked else ""
        if not chosen:
            return jobs
        wanted = {(job.query.type, subject) for job in chosen for subject in job.subjects}
        types = sorted({job.query.type for job in chosen})
        found: dict[tuple[str, str], set[str]] = {}

        known = functools.cache(self.landing.known)

        def land(items: list[Arrival]) -> None:
            kept: list[Arrival] = []
            for item in items:
                if item.state == "unreadable" or (item.type, item.subject or "") in wanted:
                    kept.append(item)
                    found.setdefault((item.type, item.subject or ""), set()).add(item.id)
                elif item.state == "deleted" and item.type in types and item.id in known(item.type):
                    kept.append(item)
                elif item.state != "deleted":
                    name = item.type if item.type in types else "other"
                    self.report.not_needed[name] = self.report.not_needed.get(name, 0) + 1
            self._land(kept)

        export = Export(self.client, self.landing, self.report, self._stop)
        try:
            export.read(
                kick_off_url(self.client, types, since(mark).removeprefix("ge") if mark else ""), land
            )
        except RefusedError as refused:
            if always:
                raise refused.error from refused
            self.report.find(
                "export-refused", "the server names $export and does not take it; it was searched"
            )
            return jobs
        self.report.kind = "bulk"
        narrowed = {item.partition("?")[0] for item in bulk.type_filters}
        for type_ in sorted(narrowed & set(types)):
            self.report.find(
                "export-narrowed", f"a filter of the site narrows the export of {type_}; it was searched"
            )
        done = [
            msgspec.structs.replace(
                job,
                exported=Searched(
                    set().union(*(found.get((job.query.type, subject), set()) for subject in job.subjects)),
                    started=export.time,
                ),
            )
            for job in chosen
            if job.query.type not in narrowed
        ]
        settled = {id(job) for job in chosen if job.query.type not in narrowed}
        rest = [job for job in jobs if id(job) not in settled]
        return [*done, *rest]

    def _jobs(self, query: SubjectQuery, subjects: list[str]) -> Iterator[_Job]:
        name = query_hash(self.client.base, query)
        fresh: list[str] = []
        marked: list[tuple[str, str, str]] = []
        for subject in subjects:
            value = None if self.full else self.landing.checkpoint(f"{subject}|{name}")
            mark = str(value.get("since") or "") if value else ""
            if value and mark:
                marked.append((mark, subject, str(value.get("compared") or "")))
            else:
                fresh.append(subject)
        for batch in _chunks(fresh, self.site.subjects_per_query):
            yield from self._short_enough(_Job(query, batch, name))
        marked.sort()  # subjects of about one age in one batch: the oldest mark of a batch counts
        for start in range(0, len(marked), self.site.subjects_per_query):
            part = marked[start : start + self.site.subjects_per_query]
            yield from self._short_enough(
                _Job(
                    query,
                    tuple(subject for _, subject, _ in part),
                    name,
                    part[0][0],
                    min(compared for _, _, compared in part),
                )
            )

    def _fits(self, search: Search) -> bool:
        """Whether a search can be sent: by GET, or if that is too long by POST where the server takes it."""
        url = search_url(
            self.client.base, search.type, [*search.parameters, ("_count", str(self.site.page_size))]
        )
        if len(url) <= URL_LENGTH:
            return True
        if self._post_asked is None:
            self._post_asked = takes_post(self.client, search)
            if not self._post_asked:
                self.report.find(
                    "post-search-not-supported",
                    "the server takes no search by POST; long ones were cut into short ones",
                )
        return self._post_asked

    def _short_enough(self, job: _Job) -> Iterator[_Job]:
        if len(job.subjects) == 1 or self._fits(job.search()):
            yield job
            return
        for half in _halves(job):
            yield from self._short_enough(half)

    def _work(self, jobs: list[_Job]) -> None:
        """Runs searches in threads; what they bring is landed here, in one thread."""
        pending = len(jobs)
        waiting: _Event | None = None
        with ThreadPoolExecutor(max_workers=self.site.concurrency, thread_name_prefix="pull") as pool:
            try:
                for job in jobs:
                    pool.submit(self._perform, job)
                while pending:
                    job, event = waiting or self._events.get()
                    waiting = None
                    if isinstance(event, Exception):
                        raise event  # noqa: TRY301 - it was raised in another thread
                    if isinstance(event, Page):
                        waiting = self._land_pages(event)
                        continue
                    if isinstance(event, _Split):
                        self._link_too_long(job.query.type)
                        pending += len(event.jobs) - 1
                        for part in event.jobs:
                            pool.submit(self._perform, part)
                        continue
                    again = self._finish(job, event)
                    if again is None:
                        pending -= 1
                    else:
                        pool.submit(self._perform, again)
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _land_pages(self, page: Page) -> _Event | None:
        """Lands a page with those that wait behind it, so that the disk is waited for once; what came after them."""
        together: list[Arrival] = []
        following: _Event | None = None
        while True:
            self._notes(page)
            together += page.items
            if len(together) >= _TOGETHER or self._events.empty():
                break
            following = self._events.get()  # this is the only thread that takes
            if not isinstance(following[1], Page):
                break
            page, following = following[1], None
        self._land(together)
        return following

    def _put(self, event: _Event) -> None:
        while not self._stop.is_set():
            try:
                self._events.put(event, timeout=0.2)
            except queue.Full:
                continue
            return

    def _perform(self, job: _Job) -> None:
        try:
            if job.exported is not None:
                total = count(self.client, job.search(marked=False))
                if job.mark or total is None or total == len(job.exported.matched):
                    self._put((job, _Done(job.exported, total, self._versions(job, job.exported.started))))
                    return
                # Written meanwhile, or not exported: searched.
                job = msgspec.structs.replace(job, exported=None)
            for attempt in (1, 2, 3):
                searched = Searched()
                for page in pages(self.client, job.search(), searched, self._stop.is_set):
                    self._put((job, page))
                if self._stop.is_set():
                    return
                if searched.refused:
                    # The server cannot tell what changed since (Epic): everything, then.
                    job = msgspec.structs.replace(job, mark="")
                    continue
                total = count(self.client, job.search(marked=False))
                if total is None and not job.mark:
                    total = searched.total
                # Something may be written meanwhile: a full pull that does not agree is made again.
                if job.mark or total is None or total == len(searched.matched) or attempt == 3:
                    self._put((job, _Done(searched, total, self._versions(job, searched.started))))
                    return
        except LinkTooLong as error:
            self._put((job, _Split(_halves(job)) if len(job.subjects) > 1 else error))
        except Exception as error:  # noqa: BLE001 - handed to the landing thread, which raises it
            self._put((job, error))

    def _versions(self, job: _Job, now: str) -> dict[str, str] | None:
        """All ids of a marked search with their versions, if it is time to compare them; None if it is not."""
        if not job.mark or not self._compares(job, now):
            return None
        # A server that does not list ids is asked for everything: that is a comparison too.
        return listed(self.client, job.search(marked=False), self._stop.is_set) or {}

    def _compares(self, job: _Job, now: str) -> bool:
        deletes = self.site.deletes
        if deletes.find == "off":
            return False
        if not job.compared or not now:
            return True
        age = dt.datetime.fromisoformat(now) - dt.datetime.fromisoformat(job.compared)
        return age >= dt.timedelta(days=deletes.compare_every_days)

    def _agrees(self, job: _Job, done: _Done) -> bool:
        """Whether what is known of a marked search is what the server has, by its count and its list of ids."""
        known = self.landing.versions(job.query.type, job.subjects)
        if done.total is not None and done.total != len(known):
            if self.site.deletes.find != "off" or done.total > len(known):
                return False
            self.report.find(
                "fewer-than-known", f"the server has fewer {job.query.type} than are known; `deletes` is off"
            )
        if done.versions is None:
            return True
        return known.keys() == done.versions.keys() and all(
            not version or not known[id_] or known[id_] == version for id_, version in done.versions.items()
        )

    def _finish(self, job: _Job, done: _Done) -> _Job | None:
        """Closes a search: reconciles, settles what was lost, marks; returns a job that is to follow."""
        type_ = job.query.type
        if done.searched.restarts:
            self.report.find(
                "cursor-expired", f"the paging cursor of {type_} expired and the search began again"
            )
        if done.searched.shrunk:
            self._shrunk(type_)
        if job.mark:
            if not self._agrees(job, done):
                # Something was deleted, or a change has slipped through: only the whole tells.
                return msgspec.structs.replace(job, mark="", exported=None)
            self.report.skipped += len(job.subjects)
        elif done.total is None:
            self.report.find("no-count", f"the server does not say how many {type_} it has")
        elif done.total != len(done.searched.matched):
            self._differs(type_, done.total, len(done.searched.matched), len(job.subjects))
            return None  # without a checkpoint: the next pull asks for everything again
        else:
            lost = self.landing.known(type_, job.subjects) - done.searched.matched
            self._settle_lost(type_, lost, job.subjects)
        self.report.missing[type_] -= len(job.subjects)
        if self.report.missing[type_] <= 0:
            del self.report.missing[type_]
        if done.searched.started:
            whole = not job.mark or done.versions is not None
            value = {
                "since": done.searched.started,
                "compared": done.searched.started if whole else job.compared,
            }
            self._land([], [Checkpoint(job.key(subject), value) for subject in job.subjects])
        return None

    def _shrunk(self, type_: str) -> None:
        self.report.find("page-too-large", f"pages of {type_} failed and were asked for in smaller ones")

    def _link_too_long(self, type_: str) -> None:
        self.report.find(
            "next-link-too-long", f"the server did not take its own next link; {type_} was searched in parts"
        )

    def _settle_lost(
        self, type_: str, ids: Iterable[str], subjects: tuple[str, ...] = (), *, sought: bool = True
    ) -> None:
        """Reads by id what a search no longer finds: gone is deleted, there is landed as it is now.

        Args:
            type_: resource type.
            ids: of what is known.
            subjects: whom the search was for.
            sought: whether a search should have found them.
        """
        for id_ in sorted(ids):
            answer = self.client.get(f"{self.client.base}/{type_}/{id_}")
            if answer.status in {404, 410}:
                self._land([gone(type_, id_)])
            elif answer.status == 200:
                item = arrival(answer.body, origin=f"{type_}/[id]", base=self.client.base)
                candidates = self._candidates_found
                theirs = type_ in SUBJECT_PARAMETER and item.subject is not None
                if theirs and candidates is not None and item.subject not in candidates:
                    # Of a person who is not ours it is none of our business what it says now.
                    self._land([gone(type_, id_)])
                    self.report.find("moved-away", f"a {type_} now belongs to a patient outside of the study")
                    continue
                self._land([item])
                if sought and (not subjects or item.subject in subjects):
                    self.report.find(
                        "not-found-by-search", f"a {type_} that no search found any longer was read by id"
                    )
            else:
                raise self.client.unexpected(answer)

    # Shared resources

    def _by_reference(self, capability: Capability) -> None:
        types = [type_ for type_ in self.plan.shared if capability.supports(type_)]
        for type_ in sorted(set(self.plan.shared) - set(types)):
            self.report.find("type-not-supported", f"the server does not offer {type_}")
        asked: set[tuple[str, str]] = set()
        # What is known is asked for anew: a Medication that changes changes no resource of a patient.
        wanted = [(type_, id_) for type_ in types for id_ in sorted(self.landing.known(type_))]
        for _ in range(_DEPTH):
            wanted += self.landing.missing_references(types)
            wanted = [item for item in dict.fromkeys(wanted) if item not in asked]
            if not wanted:
                break
            asked.update(wanted)
            for type_ in types:
                for ids in _chunks([id_ for name, id_ in wanted if name == type_], _IDS_PER_QUERY):
                    self._shared(type_, ids)
            wanted = []
        for type_, _ in self.landing.missing_references(types):
            self.report.find(
                "reference-without-resource", f"a reference to {type_} leads to nothing on the server"
            )

    def _shared(self, type_: str, ids: tuple[str, ...]) -> None:
        try:
            items, _ = self._search_now(Search(type_, (("_id", ",".join(ids)),), f"{type_}?_id"))
        except LinkTooLong:
            if len(ids) == 1:
                raise
            self._link_too_long(type_)
            self._shared(type_, ids[: len(ids) // 2])
            self._shared(type_, ids[len(ids) // 2 :])
            return
        # A page may come short, and not every server counts: what a search by id does not find is read by its id.
        lost = set(ids) - {item.id for item in items if item.type == type_}
        known = self.landing.known(type_) & lost
        self._settle_lost(type_, known)
        # Where references lead nowhere by the thousand, reading each in every pull would cost more than it finds.
        left = max(0, _MOST_READS - self._reads.get(type_, 0))
        new = sorted(lost - known)[:left]
        self._reads[type_] = self._reads.get(type_, 0) + len(new)
        self._settle_lost(type_, new)


class _IdentifiedSubject(_ResearchSubject):
    """A ResearchSubject with its id."""

    id: str = ""


def pull_rest(
    site: Site,
    plan: PullPlan,
    landing: Landing,
    *,
    full: bool = False,
    progress: Progress | None = None,
    keep: Callable[[PullReport], None] | None = None,
) -> PullReport:
    """Pulls from a FHIR server.

    Args:
        site: the site.
        plan: candidates, types by subject, types by reference.
        landing: where everything lands, page by page.
        full: leave checkpoints aside.
        progress: called with the type of a page's last resource and the number that came so far.
        keep: called with the report of a pull that ends early, which says what came and what is missing.

    Returns:
        What came. What landed before an error stays landed; the next pull goes on from there.

    Raises:
        SourceUnreachable: the server does not answer.
        SourceRefused: it refuses us.
        SourceNotFhir: it does not answer as FHIR says.
        SourceIncomplete: it has more, or less, than came.
        SiteFileError: a credential is missing.
    """
    with Client(site, Access(read=read_types(plan))) as client:
        current = _Pull(site, plan, landing, client, full=full, progress=progress)
        try:
            return current.run()
        except BaseException:
            if keep is not None:
                keep(current.report)
            raise
