"""MH and PR: conditions with their histology and site, and procedures."""

from __future__ import annotations

from fhir_adapter.mapping.domains.context import Context, first, texts

__all__ = ["conditions", "procedures"]


def _category(context: Context, row: dict[str, object]) -> str:
    """PRIMARY, SECONDARY or OTHER: by the profile that the Condition claims, else by its code."""
    profiles = row["profile"]
    for profile in profiles if isinstance(profiles, list) else []:
        match = context.terminology.symbol("condition-category", str(profile).split("|")[0], count=False)
        if match is not None and match.target is not None:
            return match.target
    return context.target("condition-category", row, "category") or "OTHER"


def conditions(context: Context) -> None:
    """MH: one row per Condition. Histology is looked up, and unknown histology found, for cancers only."""
    for row in context.table("mh_condition"):
        usubjid = context.subject(row.resource)
        if usubjid is None:
            continue
        category = _category(context, row)
        histology = context.target("histology", row, "morphology", count=category != "OTHER")
        location = context.target("lesion-location", row, "site", count=category != "OTHER")
        context.emit(
            "MH",
            row.view,
            [row.resource],
            usubjid,
            MHCAT=category,
            MHTERM=texts(row, "term"),
            MHDECOD=context.target("condition", row, "term", count=False) or first(row, "term_display"),
            MHMORPH=histology or texts(row, "morphology"),
            MHLOC=location or texts(row, "site"),
            MHSTDTC=first(row, "onset", "onset_start", "recorded"),
        )


def procedures(context: Context) -> None:
    """PR: one row per Procedure; its category by its code, else by the category given, else OTHER."""
    for row in context.table("pr_procedure"):
        usubjid = context.subject(row.resource)
        if usubjid is None:
            continue
        by_category = context.target("procedure-category", row, "category", count=False)
        by_code = context.target("procedure-category", row, "procedure", count=by_category is None)
        context.emit(
            "PR",
            row.view,
            [row.resource],
            usubjid,
            PRTRT=texts(row, "procedure"),
            PRDECOD=first(row, "procedure_display", "procedure_code"),
            PRCAT=by_code or by_category or "OTHER",
            PRSTDTC=first(row, "performed", "period_start"),
            PRENDTC=row["period_end"],
        )
