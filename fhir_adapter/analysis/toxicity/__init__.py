"""Adverse events: overview, tables by term and organ class, onset, rates, list (rules.md, Toxicity).

All ids begin with `toxicity.`, those of an arm with `toxicity.<arm>.`; each module names its own.
"""

from __future__ import annotations

from fhir_adapter.analysis.selection import Analysis, equals, slug
from fhir_adapter.analysis.toxicity.listing import listing
from fhir_adapter.analysis.toxicity.onset import onset
from fhir_adapter.analysis.toxicity.overview import overview
from fhir_adapter.analysis.toxicity.rates import rates
from fhir_adapter.analysis.toxicity.scope import Scope
from fhir_adapter.analysis.toxicity.terms import classes, consequences, grades, terms

__all__ = ["toxicity"]

_TABLES = {
    "terms": terms,
    "classes": classes,
    "grades": grades,
    "consequences": consequences,
    "onset": onset,
    "rates": rates,
    "listing": listing,
}


def toxicity(analysis: Analysis) -> None:
    """Adds the overview and the tables that the study asks for, for all subjects and with `by_arm` for each arm.

    A subject counts once per term, at the worst grade; a missing grade stays visible; absent causality is
    unknown, not related; what was done about an event is what was recorded. With `related_only` the tables by
    term count related events; the overview always shows all emergent ones beside the related.
    """
    settings = analysis.study.toxicity
    scopes = [Scope(analysis, "toxicity")]
    if settings.by_arm:
        scopes += [
            Scope(
                analysis,
                f"toxicity.{slug(arm.id)}",
                equals("TRT01A", arm.id, dataset="ADSL"),
                f" ({arm.label})",
            )
            for arm in analysis.study.treatment.arms
        ]
    for scope in scopes:
        overview(scope)
        for name, table in _TABLES.items():
            if name in settings.tables:
                table(scope)
