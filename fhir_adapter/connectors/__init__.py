"""Connectors bring resources from a source into the landing, and say what came and what did not.

`pull` is the one entrance: it takes the connector that the site's source asks for.
"""

from __future__ import annotations

from fhir_adapter.arrivals import Checkpoint, Landing
from fhir_adapter.connectors.files.pull import pull_files
from fhir_adapter.connectors.plan import PullPlan, plan_from_study
from fhir_adapter.connectors.reports import Difference, Keep, Progress, PullFinding, PullReport
from fhir_adapter.connectors.rest.pull import pull_rest
from fhir_adapter.errors import SiteFileError
from fhir_adapter.own import OWN_TAG, OWN_TAG_CODE, OWN_TAG_SYSTEM
from fhir_adapter.site import Site

__all__ = [
    "OWN_TAG",
    "OWN_TAG_CODE",
    "OWN_TAG_SYSTEM",
    "Difference",
    "PullFinding",
    "PullPlan",
    "PullReport",
    "plan_from_study",
    "pull",
]


def _check_source(site: Site, landing: Landing) -> Checkpoint:
    """Two servers may use one id for two patients, so a landing belongs to one server, or to files."""
    kind = "files" if site.source.kind == "files" else "rest"  # an export brings what searches bring
    source = Checkpoint("source", {"kind": kind, "url": site.source.url or ""})
    known = landing.checkpoint(source.key)
    if known is not None and known != source.value:
        raise SiteFileError(
            "the landing of this site was pulled from another source",
            where=site.id,
            remedy="Give the site file another id, or remove the site's state folder and pull again.",
        )
    return source


def pull(
    site: Site,
    plan: PullPlan,
    landing: Landing,
    *,
    full: bool = False,
    progress: Progress | None = None,
    keep: Keep | None = None,
) -> PullReport:
    """Pulls from the site's source into its landing.

    Args:
        site: the site; `source.kind` says which connector.
        plan: what the study needs; a file source brings all that it has.
        landing: an open landing that may be written.
        full: leave checkpoints aside and ask for everything.
        progress: called now and then with a resource type and the number that came so far.
        keep: called with the report of a pull that ended early (`complete` is False), before the error is raised.

    Returns:
        Counts at the wire, what the landing did with them, differences and findings.

    Raises:
        AdapterError: SourceUnreachable, SourceRefused, SourceNotFhir, SourceIncomplete, SiteFileError (a
            credential is missing, or the landing belongs to another server).
    """
    source = _check_source(site, landing)
    try:
        if site.source.kind == "files":
            return pull_files(site, landing, full=full, progress=progress, keep=keep)
        return pull_rest(site, plan, landing, full=full, progress=progress, keep=keep)
    finally:
        # Only what has landed binds: a first pull that was refused may have had the wrong URL.
        if landing.sequence:
            landing.append([], [source])
