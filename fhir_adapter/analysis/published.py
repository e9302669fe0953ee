"""Published values beside the computed ones, compared at the precision that was printed.

Ids: `published.matched.n`, `published.explained.n`, `published.unexplained.n`. A value that differs keeps both
numbers; its reason comes from the study file, and a difference without a reason says so.
"""

from __future__ import annotations

from fhir_adapter.analysis.descriptive import round_half_away
from fhir_adapter.analysis.selection import Analysis
from fhir_adapter.results import Cell, Display, Result, Row
from fhir_adapter.study import Published

__all__ = ["agrees", "published"]


_PART = {"n": "n", "pct": "%", "min": "minimum", "max": "maximum", "p": "", "events": "", "rate": ""}


def _digits(item: Published) -> int:
    if item.digits is not None:
        return item.digits
    text = repr(item.value)
    return len(text.partition(".")[2]) if "." in text else 0


def agrees(item: Published, computed: Result) -> bool:
    """Whether a computed value equals a published one at its printed precision (half away from zero)."""
    if item.value is None or computed.value is None:
        return item.value is None and computed.value is None
    if isinstance(item.value, str) or isinstance(computed.value, str):
        return str(item.value) == str(computed.value)
    digits = _digits(item)
    return bool(round_half_away(computed.value, digits) == round_half_away(item.value, digits))


def _labels(displays: list[Display]) -> dict[str, str]:
    """What each result is called in the tables: heading, row and column, with the part that it is."""
    names: dict[str, str] = {}
    for display in displays:
        heading = ""
        for row in display.rows:
            if not row.cells:
                heading = row.label
                continue
            above = f"{display.title}: " if display.section == "survival" else ""
            above += f"{heading}: " if heading and row.level else ""
            for position, cell in enumerate(row.cells):
                column = display.columns[position] if len(display.columns) > 1 else ""
                for id_ in cell.results:
                    part = id_.rpartition(".")[2]
                    told = _PART.get(part, part)
                    told = "" if told in column.lower() else told
                    words = [f"{above}{row.label}", column.partition(",")[0], told]
                    names.setdefault(id_, ", ".join(word for word in words if word))
    return names


def published(analysis: Analysis) -> None:
    """Adds the comparison table and its counts; a published id without a computed result is a difference."""
    settings = analysis.study.report
    if not settings.published:
        return
    reasons: dict[str, str] = {item.result: item.reason for item in settings.known_differences}
    rows: list[Row] = []
    counts = {"matched": 0, "explained": 0, "unexplained": 0}
    place = None
    labels = _labels(analysis.results.displays)
    for item in settings.published:
        if item.where != place:
            place = item.where
            rows.append(Row(label=place or "Other"))
        computed = analysis.results.results.get(item.result)
        printed = "not reached" if item.value is None else (
            item.value if isinstance(item.value, str) else f"{item.value:.{_digits(item)}f}"
        )  # fmt: skip
        if computed is None:
            kind, mark, shown = "unexplained", "≠ not computed", Cell("text", text="—")
        else:
            shown = Cell("value", (item.result,))
            if agrees(item, computed):
                kind, mark = "matched", "✓"
            elif item.result in reasons:
                kind, mark = "explained", f"≠ {reasons[item.result]}"
            else:
                kind, mark = "unexplained", "≠ differs, no reason known"
        counts[kind] += 1
        label = labels.get(item.result, item.result)
        rows.append(
            Row(label=label, cells=(Cell("text", text=printed), shown, Cell("text", text=mark)), level=1)
        )
    for kind, number in counts.items():
        analysis.results.add(
            Result(id=f"published.{kind}.n", value=number, rule="published_comparison", unit="n", digits=0)
        )
    note = (
        f"{counts['matched']} values equal at the printed precision, {counts['explained']} differ for a known reason, "
        f"{counts['unexplained']} differ without one."
    )
    analysis.results.displays.append(
        Display(
            id="published",
            title="Published against computed",
            section="published",
            stub="Result",
            columns=("Published", "Computed", "Comparison"),
            rows=tuple(rows),
            notes=(note,),
        )
    )
