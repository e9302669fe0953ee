"""The date of randomisation (DM.RANDDTC), from where the study file says that it stands."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from fhir_adapter.mapping.domains.context import Context, Row, codings, first
from fhir_adapter.study import Randomisation

__all__ = ["randomisations"]

#: Date columns of each view, the better one first.
_DATES = {
    "observation": ("value", "effective", "effective_start", "effective_instant"),
    "procedure": ("performed", "performed_start"),
    "encounter": ("period_start",),
    "extension": ("value_date", "value_datetime"),
    "research_subject": ("period_start",),
}


def _records(context: Context, source: Randomisation, enrolled: Collection[int]) -> Iterator[Row]:
    """Rows that say when a subject was randomised; of ResearchSubjects only those of this study."""
    if source.source == "research_subject":
        yield from (row for row in context.table("ds_research_subject") if row.resource in enrolled)
    elif source.source == "extension":
        for row in context.table("dm_randomisation_extension"):
            if row.resource in enrolled and row["url"] == source.url:
                yield row
    else:
        wanted = {tuple(code.split("|", 1)) for code in source.codes}
        for row in context.table(f"dm_randomisation_{source.source}"):
            if any((system, code) in wanted for system, code, _ in codings(row, "code")):
                yield row


def randomisations(context: Context, enrolled: Collection[int]) -> dict[str, tuple[str, int]]:
    """USUBJID → (date as written, resource) of the earliest record of its randomisation.

    Each record is also a row of DS (`RANDOMIZED`). A record without a date, and several dates of one subject,
    are findings.

    Args:
        context: the partition.
        enrolled: the ResearchSubjects of this study.
    """
    source = context.study.randomisation
    if source is None:
        return {}
    found: dict[str, list[tuple[str, int]]] = {}
    for row in _records(context, source, enrolled):
        usubjid = context.subject(row.resource)
        if usubjid is None:
            continue
        date = first(row, *_DATES[source.source])
        if date is None:
            text = "a record of the randomisation has no date"
            context.finding("randomisation-without-date", text, row.resource)
            continue
        kept = context.emit(
            "DS",
            row.view,
            [row.resource],
            usubjid,
            DSCAT="PROTOCOL MILESTONE",
            DSTERM="RANDOMIZED",
            DSDECOD="RANDOMIZED",
            DSSTDTC=str(date),
        )
        if kept:
            found.setdefault(usubjid, []).append((str(date), row.resource))
    for records in found.values():
        records.sort()
        if len({date[:10] for date, _ in records}) > 1:
            text = "a subject has several dates of randomisation; the earliest counts"
            context.finding("several-randomisations", text, records[0][1])
    return {usubjid: records[0] for usubjid, records in found.items()}
