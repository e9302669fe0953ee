"""Types by subject: searches for batches of subjects, concurrently, each checked against the server's count.

A search that has come to its end leaves a mark per subject; the next pull asks from there.
"""

from __future__ import annotations

import datetime as dt
import functools
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from fhir_adapter.arrivals import Arrival, Checkpoint
from fhir_adapter.connectors.bulk import Export, RefusedError, kick_off_url
from fhir_adapter.connectors.plan import SubjectQuery, query_hash
from fhir_adapter.connectors.rest.capability import Capability
from fhir_adapter.connectors.rest.deletions import deleted_ids, listed
from fhir_adapter.connectors.rest.pulling import Pulling, chunks
from fhir_adapter.connectors.rest.searches import LinkTooLong, Page, Search, Searched, count, pages, since
from fhir_adapter.errors import AdapterError, LandingError, SourceNotFhir

__all__ = ["BySubject"]

#: Resources that are landed in one transaction, more or less: its price is two waits for the disk.
_TOGETHER = 8000
#: Pages that may wait to be landed, so that one connection, too, goes on while the disk is waited for.
_WAITING = 8


class _Job(msgspec.Struct, frozen=True):
    """A search by subject: a batch of them, one type, from a mark or from the beginning ("").

    `compared` is when all ids were last compared, or ""; `again` says that some of it may have come in this pull.
    """

    query: SubjectQuery
    subjects: tuple[str, ...]
    name: str
    mark: str = ""
    compared: str = ""
    exported: Searched | None = None
    again: bool = False

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


def _halves(job: _Job) -> tuple[_Job, _Job]:
    """A search as two, each for half of the subjects."""
    half = len(job.subjects) // 2
    return (
        msgspec.structs.replace(job, subjects=job.subjects[:half], again=True),
        msgspec.structs.replace(job, subjects=job.subjects[half:], again=True),
    )


class BySubject:
    """Pulls the types of a plan that are found by subject.

    Args:
        pulling: the pull.
    """

    def __init__(self, pulling: Pulling) -> None:
        self._pulling = pulling
        #: Checkpoints of searches that have ended, which land with the next pages.
        self._marks: list[Checkpoint] = []
        self._events: queue.Queue[_Event] = queue.Queue(maxsize=max(_WAITING, 2 * pulling.site.concurrency))

    def pull(self, subjects: list[str], capability: Capability) -> None:
        """Brings every type for every subject.

        Args:
            subjects: keys (`Patient/<id>`).
            capability: of the server.

        Raises:
            AdapterError: what a search raises; what landed before stays.
        """
        jobs: list[_Job] = []
        for query in self._pulling.plan.per_subject:
            if not capability.supports(query.type):
                self._pulling.report.find("type-not-supported", f"the server does not offer {query.type}")
                self._pulling.report.missing.pop(query.type)
                continue
            fitting = SubjectQuery(query.type, capability.parameter(query))
            jobs += self._jobs(fitting, subjects)
        if self._pulling.site.deletes.find == "history":
            self._deleted(jobs)
        self._work(self._exported(jobs, len(subjects), capability))

    def _deleted(self, jobs: list[_Job]) -> None:
        """Reads what the server's history says was deleted since the marks of some searches."""
        for type_ in sorted({job.query.type for job in jobs if job.mark}):
            mark = min(job.mark for job in jobs if job.mark and job.query.type == type_)
            ids = deleted_ids(
                self._pulling.client, type_, since(mark).removeprefix("ge"), self._pulling.stop.is_set
            )
            if ids is None:
                self._pulling.report.find(
                    "history-not-supported",
                    f"the history of {type_} cannot be read; counts and ids were compared",
                )
            else:
                self._pulling.settle_lost(type_, ids & self._pulling.landing.known(type_), sought=False)

    # Types by subject, exported

    def _exported(self, jobs: list[_Job], subjects: int, capability: Capability) -> list[_Job]:
        """Exports what searches would bring, if that is wanted; the jobs then only check the counts.

        Where a count does not agree with the export, the job is searched after all: both ways land the same set.
        """
        bulk = self._pulling.site.bulk
        always = self._pulling.site.source.kind == "bulk" or bulk.use == "always"
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

        known = functools.cache(self._pulling.landing.known)

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
                    self._pulling.report.not_needed[name] = self._pulling.report.not_needed.get(name, 0) + 1
            self._pulling.land(kept)

        export = Export(self._pulling.client, self._pulling.landing, self._pulling.report, self._pulling.stop)
        try:
            export.read(
                kick_off_url(self._pulling.client, types, since(mark).removeprefix("ge") if mark else ""),
                land,
            )
        except RefusedError as refused:
            if always:
                raise refused.error from refused
            self._pulling.report.find(
                "export-refused", "the server names $export and does not take it; it was searched"
            )
            return jobs
        self._pulling.report.kind = "bulk"
        narrowed = {item.partition("?")[0] for item in bulk.type_filters}
        for type_ in sorted(narrowed & set(types)):
            self._pulling.report.find(
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
        name = query_hash(self._pulling.client.base, query)
        fresh: list[str] = []
        marked: list[tuple[str, str, str]] = []
        for subject in subjects:
            value = None if self._pulling.full else self._pulling.landing.checkpoint(f"{subject}|{name}")
            mark = str(value.get("since") or "") if value else ""
            if value and mark:
                marked.append((mark, subject, str(value.get("compared") or "")))
            else:
                fresh.append(subject)
        for batch in chunks(fresh, self._pulling.site.subjects_per_query):
            yield from self._short_enough(_Job(query, batch, name))
        marked.sort()  # subjects of about one age in one batch: the oldest mark of a batch counts
        for start in range(0, len(marked), self._pulling.site.subjects_per_query):
            part = marked[start : start + self._pulling.site.subjects_per_query]
            yield from self._short_enough(
                _Job(
                    query,
                    tuple(subject for _, subject, _ in part),
                    name,
                    part[0][0],
                    min(compared for _, _, compared in part),
                )
            )

    def _short_enough(self, job: _Job) -> Iterator[_Job]:
        if len(job.subjects) == 1 or self._pulling.fits(job.search()):
            yield job
            return
        for half in _halves(job):
            yield from self._short_enough(half)

    def _work(self, jobs: list[_Job]) -> None:
        """Runs searches in threads; what they bring is landed here, in one thread."""
        pending = len(jobs)
        waiting: _Event | None = None
        with ThreadPoolExecutor(
            max_workers=self._pulling.site.concurrency, thread_name_prefix="pull"
        ) as pool:
            try:
                for job in jobs:
                    pool.submit(self._perform, job)
                while pending:
                    if waiting is None and self._events.empty():
                        self._mark()  # nothing lands with them soon
                    job, event = waiting or self._events.get()
                    waiting = None
                    if isinstance(event, Exception):
                        raise event  # noqa: TRY301 - it was raised in another thread
                    if isinstance(event, Page):
                        waiting = self._land_pages(event)
                        continue
                    if isinstance(event, _Split):
                        self._pulling.link_too_long(job.query.type)
                        pending += len(event.jobs) - 1
                        for part in event.jobs:
                            pool.submit(self._perform, part)
                        continue
                    again = self._finish(job, event)
                    if again is None:
                        pending -= 1
                    else:
                        pool.submit(self._perform, again)
                self._mark()
            except BaseException as error:
                self._pulling.stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                if isinstance(error, AdapterError) and not isinstance(error, LandingError):
                    self._mark()  # what has ended before is whole
                raise

    def _mark(self) -> None:
        """Lands the checkpoints of searches that have ended; what these brought has landed then."""
        if self._marks:
            self._land([])

    def _land(self, items: list[Arrival]) -> None:
        """Lands what has come, and the checkpoints that wait."""
        marks, self._marks = self._marks, []
        self._pulling.land(items, marks, apart=True)

    def _land_pages(self, page: Page) -> _Event | None:
        """Lands a page with those that wait behind it, so that the disk is waited for once; what came after them."""
        together: list[Arrival] = []
        following: _Event | None = None
        while True:
            self._pulling.note(page)
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
        while not self._pulling.stop.is_set():
            try:
                self._events.put(event, timeout=0.2)
            except queue.Full:
                continue
            return

    def _perform(self, job: _Job) -> None:
        try:
            if job.exported is not None:
                total = count(self._pulling.client, job.search(marked=False))
                if job.mark or total is None or total == len(job.exported.matched):
                    self._put((job, _Done(job.exported, total, self._versions(job, job.exported.started))))
                    return
                # Written meanwhile, or not exported: searched.
                job = msgspec.structs.replace(job, exported=None, again=True)
            for attempt in (1, 2, 3):
                searched = Searched()
                for page in pages(self._pulling.client, job.search(), searched, self._pulling.stop.is_set):
                    self._asked_for(job, page, searched)
                    self._put((job, page))
                if self._pulling.stop.is_set():
                    return
                if searched.refused:
                    # The server cannot tell what changed since (Epic): everything, then.
                    job = msgspec.structs.replace(job, mark="")
                    continue
                total = count(self._pulling.client, job.search(marked=False))
                if total is None and not job.mark:
                    total = searched.total
                # Something may be written meanwhile: a full pull that does not agree is made again.
                if job.mark or total is None or total == len(searched.matched) or attempt == 3:
                    self._put((job, _Done(searched, total, self._versions(job, searched.started))))
                    return
                job = msgspec.structs.replace(job, again=True)
        except LinkTooLong as error:
            self._put((job, _Split(_halves(job)) if len(job.subjects) > 1 else error))
        except Exception as error:  # noqa: BLE001 - handed to the landing thread, which raises it
            self._put((job, error))

    def _asked_for(self, job: _Job, page: Page, searched: Searched) -> None:
        """Checks that a page is about the subjects of its search; a self link may be missing, or say anything."""
        type_, subjects = job.query.type, {*job.subjects, None}
        if {item.subject for item in page.items} <= subjects:
            return
        for item in page.items:
            if item.subject not in subjects and item.type == type_ and item.id in searched.matched:
                raise SourceNotFhir(
                    f"the server sends {type_} of patients who were not asked for",
                    where=f"{self._pulling.client.base}/{type_}?{job.query.parameter}",
                    remedy="Does it heed the search parameter?",
                )

    def _versions(self, job: _Job, now: str) -> dict[str, str] | None:
        """All ids of a marked search with their versions, if it is time to compare them; None if it is not."""
        if not job.mark or not self._compares(job, now):
            return None
        # A server that does not list ids is asked for everything: that is a comparison too.
        return listed(self._pulling.client, job.search(marked=False), self._pulling.stop.is_set) or {}

    def _compares(self, job: _Job, now: str) -> bool:
        deletes = self._pulling.site.deletes
        if deletes.find == "off":
            return False
        if not job.compared or not now:
            return True
        age = dt.datetime.fromisoformat(now) - dt.datetime.fromisoformat(job.compared)
        return age >= dt.timedelta(days=deletes.compare_every_days)

    def _agrees(self, job: _Job, done: _Done) -> bool:
        """Whether what is known of a marked search is what the server has, by its count and its list of ids."""
        known = self._pulling.landing.versions(job.query.type, job.subjects)
        if done.total is not None and done.total != len(known):
            if self._pulling.site.deletes.find != "off" or done.total > len(known):
                return False
            self._pulling.report.find(
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
            self._pulling.report.find(
                "cursor-expired", f"the paging cursor of {type_} expired and the search began again"
            )
        if done.searched.shrunk:
            self._pulling.shrunk(type_)
        if job.mark:
            if not self._agrees(job, done):
                # Something was deleted, or a change has slipped through: only the whole tells.
                return msgspec.structs.replace(job, mark="", exported=None, again=True)
            self._pulling.report.skipped += len(job.subjects)
        elif done.total is None:
            self._pulling.report.find("no-count", f"the server does not say how many {type_} it has")
        elif done.total != len(done.searched.matched):
            self._pulling.differs(type_, done.total, len(done.searched.matched), len(job.subjects))
            return None  # without a checkpoint: the next pull asks for everything again
        else:
            # What this search has brought is not lost; what came by an earlier attempt at it may be.
            again = job.again or job.exported is not None or done.searched.restarts
            until = None if again else self._pulling.report.before
            known = self._pulling.landing.known(type_, job.subjects, until=until)
            self._pulling.settle_lost(type_, known - done.searched.matched, job.subjects)
        self._pulling.report.missing[type_] -= len(job.subjects)
        if self._pulling.report.missing[type_] <= 0:
            del self._pulling.report.missing[type_]
        if done.searched.started:
            whole = not job.mark or done.versions is not None
            value = {
                "since": done.searched.started,
                "compared": done.searched.started if whole else job.compared,
            }
            self._marks += [Checkpoint(job.key(subject), value) for subject in job.subjects]
        return None
