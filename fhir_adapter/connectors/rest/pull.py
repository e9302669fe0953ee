"""The connector for FHIR REST: finds the candidates, pulls every type for each of them, and counts what came.

    capability → candidates → types by subject, in batches, concurrently → what these refer to → report

A batch of subjects that has been pulled to its end has a checkpoint per subject and query, and is asked only
for what changed since; a new subject is pulled in full. After each query the server is asked what it has:
after a full pull that must be what came; after an incremental one what is known, else the batch is pulled in
full. Now and then all ids and versions are compared, because counts may agree by chance. What a full pull no
longer finds is read by its id, and is deleted only if the server says that it is gone.
"""

from __future__ import annotations

from fhir_adapter.arrivals import Landing, gone
from fhir_adapter.connectors.auth.scopes import Access
from fhir_adapter.connectors.client import Client
from fhir_adapter.connectors.plan import PullPlan, read_types
from fhir_adapter.connectors.reports import Keep, Progress, PullReport, ended
from fhir_adapter.connectors.rest.by_reference import ByReference
from fhir_adapter.connectors.rest.by_subject import BySubject
from fhir_adapter.connectors.rest.candidates import Candidates
from fhir_adapter.connectors.rest.capability import read_capability
from fhir_adapter.connectors.rest.merges import merged_with
from fhir_adapter.connectors.rest.pulling import Pulling
from fhir_adapter.site import Site

__all__ = ["pull_rest"]


def _everything(pulling: Pulling) -> None:
    client, plan, report, landing = pulling.client, pulling.plan, pulling.report, pulling.landing

    def admitted(subjects: set[str]) -> set[str]:
        return subjects - landing.barred(subjects)

    client.bound()
    report.missing = {
        **{query.type: 0 for query in plan.per_subject},
        **dict.fromkeys(plan.shared, 0),
    }
    capability = read_capability(client)
    report.server = capability.software
    client.require(tuple(type_ for type_ in read_types(plan) if capability.supports(type_)))
    candidates = Candidates(pulling)
    subjects = admitted(candidates.find())
    found: set[str] = set()
    # Another record of one person may hold what belongs to a candidate; it is known when the Patient has landed.
    while more := admitted(merged_with(landing.bodies("Patient"), subjects)) - found:
        found |= more
        pulling.candidates = found
        report.subjects = len(found)
        report.missing |= {query.type: len(more) for query in plan.per_subject}
        BySubject(pulling).pull(sorted(more), capability)
    _leave(pulling, candidates.former - found)
    ByReference(pulling).pull(capability)
    report.missing = {}


def _leave(pulling: Pulling, subjects: set[str]) -> None:
    """Tells of those who are enrolled no longer, and whether their record is still there.

    What landed of them stays, for another study may need it; the mapping leaves it out, resource by resource. The
    record is asked for because whoever merges two without a link between them deletes one.
    """
    known = pulling.landing.known("Patient")
    for subject in sorted(subjects):
        id_ = subject.removeprefix("Patient/")
        pulling.report.find(
            "no-longer-enrolled", "a subject is enrolled no longer; what landed of them is left out"
        )
        if id_ in known and pulling.client.get(f"{pulling.client.base}/{subject}").status in {404, 410}:
            pulling.land([gone("Patient", id_)])


def pull_rest(
    site: Site,
    plan: PullPlan,
    landing: Landing,
    *,
    full: bool = False,
    progress: Progress | None = None,
    keep: Keep | None = None,
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
        pulling = Pulling(site, plan, landing, client, full=full, progress=progress)
        report = pulling.report
        with ended(report, pulling.tally, landing, keep):
            try:
                _everything(pulling)
            finally:
                report.requests = client.requests
    return report
