"""SC: performance status, histological grade, histology recorded as an Observation, and body size."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

from fhir_adapter.mapping.domains.context import Context, Row, first, texts

__all__ = ["characteristics"]

#: LOINC code of a body size → (SCTESTCD, SCTEST, standard unit).
_BODY: Final = {
    "29463-7": ("WEIGHT", "Body Weight", "kg"),
    "3141-9": ("WEIGHT", "Body Weight", "kg"),
    "8302-2": ("HEIGHT", "Body Height", "cm"),
    "3137-7": ("HEIGHT", "Body Height", "cm"),
    "3140-1": ("BSA", "Body Surface Area", "m2"),
    "8277-6": ("BSA", "Body Surface Area", "m2"),
}
#: UCUM units of each standard unit, with what to multiply by.
_BODY_UNITS: Final = {
    "kg": {"kg": Decimal(1), "g": Decimal("0.001"), "[lb_av]": Decimal("0.45359237")},
    "cm": {"cm": Decimal(1), "m": Decimal(100), "mm": Decimal("0.1"), "[in_i]": Decimal("2.54")},
    "m2": {"m2": Decimal(1)},
}


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
            found = texts(row, "answer") or texts(row, "interpretation") or row["answer_string"]
            if result is None and row["answer_string"] is not None:
                match = context.terminology.translate("ecog", [], row["answer_string"])
                result = None if match is None else match.target
        if found is None:
            continue
        if result is not None and result not in {"0", "1", "2", "3", "4", "5"}:
            context.quarantine(
                row.resource, "out-of-range", "$.value", "a performance status that is not 0 to 5"
            )
            continue
        _emit(context, row, usubjid, "ECOG", "ECOG Performance Status", found, result)


def _histologic_grade(context: Context, row: Row) -> tuple[str | None, str | None]:
    """(grade, as written) of a code, a text or a number."""
    if row["grade_integer"] is not None:
        number = str(row["grade_integer"])
        return number, number
    if texts(row, "grade") is not None:
        return context.target("histologic-grade", row, "grade"), texts(row, "grade")
    written: str | None = row["grade_string"]
    match = None if written is None else context.terminology.translate("histologic-grade", [], written)
    return (None if match is None else match.target), written


def _grade(context: Context) -> None:
    for row in context.table("sc_histologic_grade"):
        usubjid = context.subject(row.resource)
        if usubjid is None:
            continue
        method = texts(row, "method")
        system = context.target("grading-system", row, "method") if method is not None else "FNCLCC"
        result, written = _histologic_grade(context, row)
        if result is not None and result not in {"1", "2", "3", "4", "X"}:
            context.quarantine(
                row.resource, "out-of-range", "$.value", "a histological grade that is not 1 to 4"
            )
            continue
        if system == "FNCLCC":
            _emit(context, row, usubjid, "FNCLCC", "FNCLCC Grade", written, result)
        else:
            _emit(context, row, usubjid, "HISTGRD", "Histological Grade", written, result)


def _histology(context: Context) -> None:
    for row in context.table("sc_histology"):
        usubjid = context.subject(row.resource)
        if usubjid is not None:
            result = context.target("histology", row, "morphology")
            _emit(context, row, usubjid, "HISTOL", "Histology", texts(row, "morphology"), result)


def _body_size(context: Context) -> None:
    """Rows of body size, if the study plans a drug by it: else nobody needs them, right or wrong."""
    if not any(drug.unit.endswith(("/m2", "/kg")) for drug in context.study.treatment.drugs):
        return
    for row in context.table("sc_body_size"):
        usubjid = context.subject(row.resource)
        code = next((code for code in row["code"] or [] if code in _BODY), None)
        if usubjid is None or code is None or row["value"] is None:
            continue
        test, label, standard = _BODY[code]
        unit = first(row, "unit", "unit_text")
        factor = _BODY_UNITS[standard].get(unit or "")
        try:
            size = None if factor is None else Decimal(str(row["value"])) * factor
        except InvalidOperation:
            size = None
        if size is None or not size.is_finite() or size <= 0:
            reason = "unit" if factor is None else "out-of-range"
            context.quarantine(
                row.resource, reason, "$.valueQuantity", f"a body size that is not in {standard}"
            )
            continue
        text = format(size.normalize(), "f")
        _emit(context, row, usubjid, test, label, f"{row['value']} {unit}", text, standard)


def _emit(
    context: Context,
    row: Row,
    usubjid: str,
    code: str,
    test: str,
    found: str | None,
    result: str | None,
    unit: str | None = None,
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
        SCSTRESU=unit,
        SCDTC=_date(row),
    )


def characteristics(context: Context) -> None:
    """SC rows: ECOG (0 to 5), FNCLCC (1 to 3, X), HISTGRD (another system), HISTOL (histology).

    And WEIGHT (kg), HEIGHT (cm), BSA (m2), if the study plans a dose by one of them.
    """
    _ecog(context)
    _grade(context)
    _histology(context)
    _body_size(context)
