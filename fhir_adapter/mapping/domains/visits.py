"""SV: encounters and scans; and the label of a visit, for the assessments made at it."""

from __future__ import annotations

from fhir_adapter.mapping.domains.context import Context, Row, first

__all__ = ["encounter_label", "visits"]


def _label(row: Row) -> str | None:
    value = first(row, "label", "type_display")
    return None if value is None else str(value)


def encounter_label(context: Context, *references: str | None) -> tuple[str | None, int | None]:
    """Label of the visit at which something was assessed.

    Args:
        context: the partition.
        references: of Encounters, the nearest first.

    Returns:
        The label and the Encounter it came from; (None, None) where there is none.
    """
    for reference in references:
        number = context.resolve(reference)
        if number is None:
            continue
        label = context.labels.get(number)
        if label is not None:
            return label, number
    return None, None


def visits(context: Context) -> None:
    """SV: one row per Encounter and per ImagingStudy. Runs before the assessments, which ask for labels."""
    for row in context.table("sv_encounter"):
        usubjid = context.subject(row.resource)
        if usubjid is None:
            continue
        label = _label(row)
        if label is not None:
            context.labels[row.resource] = label
        context.emit(
            "SV",
            row.view,
            [row.resource],
            usubjid,
            SVCAT="ENCOUNTER",
            VISIT=label,
            SVSTDTC=row["SVSTDTC"],
            SVENDTC=row["SVENDTC"],
        )
    for row in context.table("sv_imaging_study"):
        usubjid = context.subject(row.resource)
        if usubjid is None:
            continue
        label, encounter = encounter_label(context, row["encounter"])
        context.scans[row.resource] = (row["SVSTDTC"], row["encounter"])
        if row["SVSTDTC"] is not None:
            context.scan_days.setdefault((usubjid, row["SVSTDTC"][:10]), []).append(row.resource)
        context.emit(
            "SV",
            row.view,
            [row.resource, encounter],
            usubjid,
            SVCAT="IMAGING",
            VISIT=label,
            SVSTDTC=row["SVSTDTC"],
        )
