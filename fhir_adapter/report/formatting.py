"""How results are written: rounding, ranges, intervals, P values, and what stands where there is no number.

A cell becomes pieces of text. A piece that shows a result carries the result's id, so that the page can say
which number of `results.json` it is, and a test can compare the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fhir_adapter.analysis.descriptive import round_half_away
from fhir_adapter.results import Cell, Result, Results

__all__ = [
    "NOT_ESTIMABLE",
    "NOT_REACHED",
    "Piece",
    "format_cell",
    "format_number",
    "format_p",
    "format_result",
    "lower_first",
    "plain",
]

#: A median, or a bound of its interval, that the curve does not reach.
NOT_REACHED = "NR"
#: A number that the data do not allow to estimate; the reason stands beside it.
NOT_ESTIMABLE = "NE"

#: Units that are written after a number; counts, P values and ratios have none.
_UNIT = {"%": "%", "months": " months", "days": " days", "mm": " mm", "years": " years"}
_TIMES = frozenset({"months", "days"})
_EQUAL, _DIFFERS = "✓", "≠"


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of a cell.

    Attributes:
        text: what is printed.
        result: id of the result that it shows, or empty.
        title: explanation of a number that is not there.
        kind: `n`, `share` (a percentage in parentheses), `null`, `equal`, `differs`, or empty.
    """

    text: str
    result: str = ""
    title: str = ""
    kind: str = ""


def format_number(value: float | str, digits: int | None = None) -> str:
    """A number with that many decimals, rounded half away from zero; a minus is U+2212, not a hyphen.

    Without `digits` a whole number has no decimals and any other is written as it is.
    """
    if isinstance(value, str):
        return value
    if digits is not None:
        text = f"{round_half_away(float(value), digits):.{digits}f}"
    elif float(value).is_integer():
        text = str(int(value))
    else:
        text = repr(float(value))
    if text.startswith("-"):
        # No negative zero: what rounds to 0 is written 0.
        return text.replace("-", "\N{MINUS SIGN}") if text.strip("-0.") else text[1:]
    return text


def format_p(value: float) -> str:
    """A P value with four decimals; below 0.0001 as `<0.0001`."""
    return "<0.0001" if value < 0.0001 else format_number(value, 4)


def _null(result: Result) -> Piece:
    """`NR` for a time that is not reached, `NE` for anything else without a value; with the reason."""
    reason = result.reason
    not_reached = "reach" in reason or "no event" in reason or (not reason and result.unit in _TIMES)
    text = NOT_REACHED if not_reached else NOT_ESTIMABLE
    return Piece(text, result.id, reason or ("not reached" if not_reached else "not estimable"), "null")


def format_result(result: Result, *, kind: str = "") -> Piece:
    """One result without its unit."""
    if result.value is None:
        return _null(result)
    if result.unit == "p" and not isinstance(result.value, str):
        return Piece(format_p(float(result.value)), result.id, kind=kind)
    digits = result.digits
    if digits is None and result.unit == "%":
        digits = 1
    return Piece(format_number(result.value, digits), result.id, kind=kind)


def _unit(result: Result, named: str) -> list[Piece]:
    """The unit after a number, unless a heading already names it."""
    if result.value is None or result.unit not in _UNIT or result.unit.lower() in named.lower():
        return []
    return [Piece(_UNIT[result.unit])]


def _span(lower: Result, upper: Result) -> list[Piece]:
    """Lower and upper with an en dash, or with `to` where a minus sign would meet the dash."""
    low, high = format_result(lower), format_result(upper)
    negative = "\N{MINUS SIGN}" in low.text + high.text
    return [low, Piece(" to " if negative else "–"), high]


def format_cell(cell: Cell, results: Results, *, named: str = "") -> tuple[Piece, ...]:
    """The pieces of a cell.

    Args:
        cell: the cell; its `form` says how its results are written together.
        results: where its results are.
        named: headings over and beside the cell; a unit that they name is not repeated.

    Raises:
        ValueError: an unknown form, a number of results that the form does not have, or an unknown result.
    """
    if cell.form == "text":
        return _text(cell)
    try:
        found = [results[key] for key in cell.results]
    except KeyError as error:
        raise ValueError(f"a cell names the result {error.args[0]}, which does not exist") from None
    expected = _ARITY.get(cell.form)
    if expected is None:
        raise ValueError(f"a cell has the unknown form {cell.form}")
    if len(found) != expected:
        raise ValueError(f"a cell of form {cell.form} has {len(found)} results, not {expected}")
    first = found[0]
    match cell.form:
        case "n":
            return (format_result(first, kind="n"),)
        case "n_pct":
            share = format_result(found[1])
            return (
                format_result(first, kind="n"),
                Piece(" "),
                Piece(f"({share.text})", share.result, share.title, "share"),
            )
        case "pct" | "value":
            return (format_result(first), *_unit(first, named))
        case "p":
            if first.value is None:
                return (_null(first),)
            return (Piece(format_p(float(first.value)), first.id, first.method),)
        case "median_range" | "median_iqr":
            return (
                format_result(first),
                Piece(" ["),
                *_span(found[1], found[2]),
                Piece("]"),
                *_unit(first, named),
            )
        case "mean_sd":
            return (
                format_result(first),
                Piece(" ("),
                format_result(found[1]),
                Piece(")"),
                *_unit(first, named),
            )
        case "estimate_ci":
            return (
                format_result(first),
                Piece(" ("),
                *_span(found[1], found[2]),
                Piece(")"),
                *_unit(first, named),
            )
        case _:
            return (*_span(first, found[1]), *_unit(first, named))


_ARITY = {
    "n": 1,
    "n_pct": 2,
    "pct": 1,
    "value": 1,
    "p": 1,
    "median_range": 3,
    "median_iqr": 3,
    "mean_sd": 2,
    "estimate_ci": 3,
    "range": 2,
}


def _text(cell: Cell) -> tuple[Piece, ...]:
    """Given text; a leading ✓ or ≠ is the mark of a comparison and becomes a piece of its own."""
    id_ = cell.results[0] if len(cell.results) == 1 else ""
    for mark, kind in ((_EQUAL, "equal"), (_DIFFERS, "differs")):
        if cell.text.startswith(mark):
            rest = cell.text[len(mark) :].strip()
            return (Piece(mark, kind=kind), *([Piece(rest, id_)] if rest else []))
    return (Piece(cell.text, id_),)


def plain(pieces: Iterable[Piece]) -> str:
    """The text of pieces, as a reader sees it."""
    return "".join(piece.text for piece in pieces)


def lower_first(text: str) -> str:
    """A label as it stands inside a sentence: `Sarcoma type` gives `sarcoma type`, `FNCLCC grade` stays."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
