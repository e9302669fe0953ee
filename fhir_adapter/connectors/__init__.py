"""Connectors bring resources from a source into the landing, and say what came and what did not.

`pull` is the one entrance: it takes the connector that the site's source asks for.
"""

from __future__ import annotations

from collections.abc import Callable

from fhir_adapter.connectors.arrivals import Landing
from fhir_adapter.connectors.files import pull_files
from fhir_adapter.connectors.own import OWN_TAG, OWN_TAG_CODE, OWN_TAG_SYSTEM
from fhir_adapter.connectors.plan import PullPlan, plan_from_study
from fhir_adapter.connectors.reports import Difference, PullFinding, PullReport
from fhir_adapter.connectors.rest import pull_rest
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


def pull(
    site: Site,
    plan: PullPlan,
    landing: Landing,
    *,
    full: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> PullReport:
    """Pulls from the site's source into its landing.

    Args:
        site: the site; `source.kind` says which connector.
        plan: what the study needs; a file source brings all that it has.
        landing: an open landing that may be written.
        full: leave checkpoints aside and ask for everything.
        progress: called now and then with a resource type and the number that came so far.

    Returns:
        Counts at the wire, what the landing did with them, differences and findings.

    Raises:
        AdapterError: SourceUnreachable, SourceRefused, SourceNotFhir, SourceIncomplete, SiteFileError.
    """
    if site.source.kind == "files":
        report = pull_files(site, landing, full=full, progress=progress)
    else:
        report = pull_rest(site, plan, landing, full=full, progress=progress)
    return report
