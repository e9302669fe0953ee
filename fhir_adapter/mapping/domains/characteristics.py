"""SC: performance status, histological grade, and histology recorded as an Observation."""

from __future__ import annotations

from fhir_adapter.mapping.domains.context import Context, Row, first, texts

__all__ = ["characteristics"]


def _date(row: Row) -> str | None:
    value = first(row, "effective", "effective_start", "effective_instant")
    return None if value is None else str(value)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _ecog(context: Context) -> None:
    for row in context.table("sc_ecog"):
        usubjid = context.subject(row.resource)
        if usubjid is None:
            continue
        number = first(row, "value_integer", "value_quantity")
        if number is not None:
            result: str | None = str(int(number)) if int(number) == number else str(number)
            found = result
        else:
            result = context.target("ecog", row, "answer") or context.target("ecog", row, "interpretation")
            found = texts(row, "answer") or texts(row, "interpretation")
        if found is None:
            continue
        if result is not None and result not in {"0", "1", "2", "3", "4", "5"}:
            context.quarantine(
                row.resource, "out-of-range", "$.value", "a performance status that is not 0 to 5"
            )
            continue
        _emit(context, row, usubjid, "ECOG", "ECOG Performance Status", found, result)


def _grade(context: Context) -> None:
    for row in context.table("sc_histologic_grade"):
        usubjid = context.subject(row.resource)
        if usubjid is None:
            continue
        method = texts(row, "method")
        system = context.target("grading-system", row, "method") if method is not None else "FNCLCC"
        result = context.target("histologic-grade", row, "grade")
        if system == "FNCLCC":
            _emit(context, row, usubjid, "FNCLCC", "FNCLCC Grade", texts(row, "grade"), result)
        else:
            _emit(context, row, usubjid, "HISTGRD", "Histological Grade", texts(row, "grade"), result)


def _histology(context: Context) -> None:
    for row in context.table("sc_histology"):
        usubjid = context.subject(row.resource)
        if usubjid is not None:
            result = context.target("histology", row, "morphology")
            _emit(context, row, usubjid, "HISTOL", "Histology", texts(row, "morphology"), result)


def _emit(
    context: Context, row: Row, usubjid: str, code: str, test: str, found: str | None, result: str | None
) -> None:
    context.emit(
        "SC",
        row.view,
        [row.resource],
        usubjid,
        SCTESTCD=code,
        SCTEST=test,
        SCORRES=found,
        SCSTRESC=result,
        SCSTRESN=_number(result),
        SCDTC=_date(row),
    )


def characteristics(context: Context) -> None:
    """SC rows: ECOG (0 to 5), FNCLCC (1 to 3, X), HISTGRD (another system), HISTOL (histology)."""
    _ecog(context)
    _grade(context)
    _histology(context)
