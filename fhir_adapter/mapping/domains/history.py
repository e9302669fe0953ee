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


def _observed(context: Context) -> dict[str, list[tuple[str, int, str, list[int | None]]]]:
    """Subject → histologies recorded as Observations, by date: (date, resource, term, Conditions)."""
    found: dict[str, list[tuple[str, int, str, list[int | None]]]] = {}
    for row in context.table("sc_histology"):
        usubjid = context.subject(row.resource)
        term = context.target("histology", row, "morphology", count=False) or texts(row, "morphology")
        if usubjid is not None and term is not None:
            date = first(row, "effective", "effective_start", "effective_instant") or ""
            about = [context.resolve(reference) for reference in row["focus"] or []]
            found.setdefault(usubjid, []).append((str(date), row.resource, term, about))
    return {usubjid: sorted(items, key=lambda item: item[:2]) for usubjid, items in found.items()}


def conditions(context: Context) -> None:
    """MH: one row per Condition.

    Histology comes from the Condition's extension, else its code, else (of a primary cancer) the latest
    Observation of histology that is about it, or about no Condition. Unknown histology is a finding for
    cancers only.
    """
    observed = _observed(context)
    for row in context.table("mh_condition"):
        usubjid = context.subject(row.resource)
        if usubjid is None:
            continue
        category = _category(context, row)
        sources: list[int | None] = [row.resource]
        views = [row.view]
        histology = context.target("histology", row, "morphology", count=category != "OTHER")
        histology = histology or texts(row, "morphology")
        if histology is None and category != "OTHER":
            histology = context.target("histology", row, "term", count=False)
        if histology is None and category == "PRIMARY":
            for _, number, term, about in observed.get(usubjid, []):
                if row.resource in about or not any(item is not None for item in about):
                    histology, sources, views = term, [row.resource, number], [row.view, "sc_histology"]
        location = context.target("lesion-location", row, "site", count=category != "OTHER")
        context.emit(
            "MH",
            " ".join(views),
            sources,
            usubjid,
            MHCAT=category,
            MHTERM=texts(row, "term"),
            MHDECOD=context.target("condition", row, "term", count=False) or first(row, "term_display"),
            MHMORPH=histology,
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
