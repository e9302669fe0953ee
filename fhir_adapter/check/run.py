"""A check from beginning to end: a server is asked, files are read, and what came is held against the study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from fhir_adapter.check.census import Seen, take_census
from fhir_adapter.check.filters import Wanted, filters_of, judge
from fhir_adapter.check.probes import Probed, probe_server
from fhir_adapter.check.report import CodeFilter, Need, QueryCount, Report
from fhir_adapter.check.statement import read_statement, stated_needs, write_back_needs
from fhir_adapter.check.views import StudyView, study_views
from fhir_adapter.connectors.client import Client
from fhir_adapter.connectors.files.reading import read_files
from fhir_adapter.connectors.plan import PullPlan, plan_from_study
from fhir_adapter.connectors.rest.capability import read_capability
from fhir_adapter.errors import AdapterError
from fhir_adapter.mapping.candidates import candidate_subjects
from fhir_adapter.mapping.release import Release, detect_release, release_of_version
from fhir_adapter.pipeline import identity_key
from fhir_adapter.site import Site
from fhir_adapter.study import Study
from fhir_adapter.writeback.transport import WriteClient

__all__ = ["check_study"]

_FORBIDDEN = "not asked: the site file forbids it (`write_back.policy`); a dry run is still possible"


def _server_release(site: Site) -> Release | None:
    """The release that a server states, None for files."""
    if site.source.kind == "files":
        return None
    with Client(site) as client:
        return release_of_version(read_capability(client).software.get("fhir_version"))


def _probe(
    site: Site,
    plan: PullPlan,
    views: Sequence[StudyView],
    filters: Sequence[Wanted],
    report: Report,
    progress: Callable[[str], None],
) -> Probed:
    """Asks a server; needs and counts go into the report."""
    if report.limit is not None:
        site = site.model_copy(update={"page_size": min(site.page_size, report.limit)})
    with Client(site) as client:
        capability = read_capability(client)
        statement = read_statement(client)
        report.server = capability.software
        report.needs += stated_needs(statement, plan, views)
        probed = probe_server(client, plan, capability, filters, limit=report.limit, progress=progress)
    report.needs += probed.needs
    report.counts = probed.counts
    report.blocked += probed.blocked
    report.subjects = probed.subjects
    report.complete = probed.complete
    return probed


def _read(site: Site, study: Study, report: Report) -> list[Seen]:
    """Reads files: everything is counted; of each type as many as wanted are kept for the census."""
    kept: dict[tuple[str, str], Seen] = {}
    seen: set[tuple[str, str]] = set()
    counts: Counter[str] = Counter()
    unreadable = 0
    for number, item in enumerate(read_files(site)):
        if item.state != "resource":
            unreadable += item.state == "unreadable"
            continue
        key = (item.type, item.id)
        new = key not in seen
        seen.add(key)
        counts[item.type] += new
        if report.limit is None or key in kept or (new and counts[item.type] <= report.limit):
            kept[key] = Seen(item.type, item.id, item.version, number, item.subject, item.body)
    report.counts = [QueryCount(type_, type_, number, "files") for type_, number in sorted(counts.items())]
    report.complete = report.limit is None or not counts or max(counts.values()) <= report.limit
    if unreadable:
        report.needs.append(
            Need(
                "files", "resources that can be read", "refused", f"{unreadable} cannot, and are quarantined"
            )
        )
    resources = list(kept.values())
    report.subjects = len(candidate_subjects(resources, study))
    return resources


def _write_back(site: Site, report: Report) -> None:
    allowed = site.write_back.policy == "allowed"
    url = site.write_back.url or site.source.url
    if not allowed or url is None:
        means = _FORBIDDEN if not allowed else "a source of files needs `write_back.url`"
        report.needs.append(Need("write-back", "a server that we may write to", "not stated", means))
        return
    try:
        with WriteClient(site, url) as client:
            read_capability(client)
            report.needs += write_back_needs(read_statement(client))
    except AdapterError as error:
        report.needs.append(
            Need(
                "write-back",
                "a server that answers",
                "refused",
                f"--write-back ends with {error.exit_status}",
            )
        )


def _missing_types(plan: PullPlan, report: Report) -> None:
    """Types that files do not have: not an error, and worth knowing."""
    there = {item.type for item in report.counts}
    for type_ in [query.type for query in plan.per_subject] + list(plan.shared):
        if type_ not in there:
            report.needs.append(
                Need(type_, "resources of the type", "not stated", "there are none in the files")
            )


def check_study(
    study: Study,
    site: Site,
    *,
    limit: int | None = 1000,
    texts: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Answers whether a study can run at a site, what it would bring, and which codes no map knows.

    Args:
        study: the study.
        site: the site; nothing is written to its server, and nothing into its landing.
        limit: most resources of each type that are read for the census; None for all.
        texts: whether wordings without a code are told (bounded, escaped); they may name people.
        progress: called with what is asked next.

    Returns:
        The report. What would end a run early is in `blocked`.

    Raises:
        SourceUnreachable, SourceRefused, SourceNotFhir: the source gives nothing to check.
        SiteFileError: a credential or the key file is missing.
        StudyFileError: a view or map is wrong.
    """
    report = Report(study.study.id, site.id, site.source.kind, limit=limit)
    release = site.fhir_version or _server_release(site)
    views = study_views(study, release or "R4")
    candidates = study.cohort.candidates.model_dump(exclude_none=True, exclude_defaults=True)
    plan = plan_from_study(candidates, sorted({item.view.resource for item in views}))
    key = identity_key(site)
    wanted = filters_of(views, study)
    without: dict[str, int | None]
    filtered: dict[str, int | None] = {}
    if site.source.kind == "files":
        resources = _read(site, study, report)
        without = {item.type: item.number for item in report.counts}
        _missing_types(plan, report)
        release = release or detect_release(resources)[0]
        views = study_views(study, release)
    else:
        probed = _probe(site, plan, views, wanted, report, progress)
        resources, without, filtered = probed.resources, probed.without, probed.filtered
    _write_back(site, report)
    progress("census")
    report.read = dict(sorted(Counter(one.type for one in resources).items()))
    census = take_census(
        resources, views, study, key, concept_dirs=site.concept_dirs, release=release, texts=texts
    )
    report.unknown, report.text_only = census.unknown, census.text_only
    report.unselected = census.unselected
    if census.dropped:
        report.needs.append(
            Need("census", "codes in bounds", "refused", f"{census.dropped} more codes were not told apart")
        )
    if census.blocked is not None and not report.blocked:
        report.blocked.append(census.blocked)
    if census.mapped is not None:
        report.filters = judge(
            [item for item in wanted if report.read.get(item.type)],
            resources, census.mapped, without, filtered,
        )  # fmt: skip
    if "Condition?code" in filtered:
        codes = len(study.cohort.candidates.condition or ())
        report.filters.append(
            CodeFilter(
                query="Condition?code (candidates)",
                type="Condition",
                codes=codes,
                without=without["Condition?code"],
                filtered=filtered["Condition?code"],
                needed=None,
                lost=0,
                subjects=0,
            )
        )
    return report
