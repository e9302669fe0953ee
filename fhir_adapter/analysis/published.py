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


def published(analysis: Analysis) -> None:
    """Adds the comparison table and its counts; a published id without a computed result is a difference."""
    settings = analysis.study.report
    if not settings.published:
        return
    reasons: dict[str, str] = {item.result: item.reason for item in settings.known_differences}
    rows: list[Row] = []
    counts = {"matched": 0, "explained": 0, "unexplained": 0}
    place = None
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
        rows.append(Row(label=item.result, cells=(Cell("text", text=printed), shown, Cell("text", text=mark)), level=1))
    for kind, number in counts.items():
        analysis.results.add(
            Result(id=f"published.{kind}.n", value=number, rule="published_comparison", unit="n", digits=0)
        )
    analysis.results.displays.append(
        Display(
            id="published",
            title="Published against computed",
            section="published",
            stub="Result",
            columns=("Published", "Computed", "Comparison"),
            rows=tuple(rows),
            notes=(
                f"{counts['matched']} values equal at the printed precision, {counts['explained']} differ for a known "
                f"reason, {counts['unexplained']} differ without one.",
            ),
        )
    )
