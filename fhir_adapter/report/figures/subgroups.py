"""Forest plot of a subgroup analysis: numbers beside the estimate of each level, and P of the interaction.

It draws what the display of section `subgroups` holds and computes nothing. With two arms the axis is that of
hazard ratios, logarithmic; with one arm that of response rates. An estimate that is not estimable keeps its
row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.ticker import FixedLocator, NullLocator

from fhir_adapter.analysis.selection import slug
from fhir_adapter.report.figures.style import INK, SERIES, SOFT, Drawing, clean_axes, drawing
from fhir_adapter.report.figures.subjects import shorten
from fhir_adapter.report.formatting import format_cell, plain
from fhir_adapter.results import Cell, Display, Results
from fhir_adapter.study import Figure

__all__ = ["subgroup_forest"]

_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
#: Beyond these an interval is drawn as an arrow.
_NARROWEST, _WIDEST = 0.01, 100.0
#: Places of the columns, as parts of the width of the axes, which start at 0.
_LABEL, _FIRST, _SECOND, _ESTIMATE, _P = -1.50, -0.72, -0.36, 1.04, 1.66


@dataclass(frozen=True, slots=True)
class _Line:
    label: str
    level: int
    counts: tuple[str, ...]
    text: str
    p: str
    result: str
    values: tuple[float, float, float] | None


def _numbers(cell: Cell | None, results: Results) -> tuple[float, float, float] | None:
    if cell is None:
        return None
    found = [results[key].value for key in cell.results]
    if any(value is None or isinstance(value, str) for value in found):
        return None
    return float(found[0] or 0), float(found[1] or 0), float(found[2] or 0)


def _lines(display: Display, results: Results) -> list[_Line]:
    lines = []
    for row in display.rows:
        counts = [plain(format_cell(cell, results)) for cell in row.cells if cell.form == "n"]
        estimates = [cell for cell in row.cells if cell.form == "estimate_ci"]
        p = next((cell for cell in row.cells if cell.form == "p"), None)
        shown = estimates[-1] if estimates else None
        lines.append(
            _Line(
                row.label,
                row.level,
                tuple(f"{n} ({events})" for n, events in zip(counts[::2], counts[1::2], strict=True)),
                plain(format_cell(shown, results, named="%")) if shown else "",
                plain(format_cell(p, results)) if p else "",
                shown.results[0] if shown else "",
                _numbers(shown, results),
            )
        )
    return lines


def subgroup_forest(figure: Figure, results: Results, _: Callable[[str], str]) -> Drawing | None:
    """Draws one subgroup analysis; None when no level has an estimate."""
    wanted = f"subgroups_{slug(str(figure.analysis))}"
    display = next((item for item in results.displays if item.id == wanted), None)
    lines = [] if display is None else _lines(display, results)
    if display is None or not any(line.values for line in lines):
        return None
    ratio = len(lines[0].counts) == 2
    words = "; ".join(f"{line.label} {line.text}".strip() for line in lines if line.text)
    what = _("Hazard ratios") if ratio else _("Objective response rates in %")
    description = _("{what} with 95% intervals by subgroup: {rows}.").format(what=what, rows=words)
    height = 0.25 * len(lines) + 1.0
    size = (9.8, height)
    with drawing(f"figure-{figure.id}", figure.title, description, size) as (canvas, result):
        axes = canvas.add_axes((0.45, 0.52 / height, 0.28, (height - 0.9) / height))
        low, high = _scale(lines) if ratio else (0.0, 100.0)
        axes.set_xlim(low, high)
        if ratio:
            axes.set_xscale("log")
            axes.set_xlim(low, high)
            axes.axvline(1, color=SOFT, linewidth=0.9)
        elif lines[0].values is not None:
            axes.axvline(lines[0].values[0], color=SOFT, linewidth=0.9, linestyle=":")
        axes.set_ylim(len(lines) - 0.4, -0.6)
        side = axes.get_yaxis_transform()

        def write(x: float, row: float, text: str, result_id: str = "", *, strong: bool = False) -> None:
            axes.text(
                x, row, text, transform=side, va="center", clip_on=False, color=INK,
                weight="bold" if strong else "normal", gid=result.note("", result_id) if result_id else None,
            )  # fmt: skip

        for row, line in enumerate(lines):
            strong = line.level == 0
            write(_LABEL + 0.05 * line.level, row, shorten(line.label, 34), strong=strong)
            for x, count in zip((_FIRST, _SECOND), line.counts, strict=False):
                write(x, row, count)
            write(_ESTIMATE, row, line.text, line.result)
            write(_P, row, line.p)
            if line.values is None:
                continue
            estimate, lower, upper = line.values
            said = f"{line.label}: {line.text}"
            (span,) = axes.plot(
                [max(lower, low), min(upper, high)], [row, row], color=SERIES[0], linewidth=1.6
            )
            span.set_gid(result.note(said))
            for outside, edge, marker in ((lower < low, low, "<"), (upper > high, high, ">")):
                if outside:
                    axes.plot(edge, row, marker=marker, color=SERIES[0], markersize=5, clip_on=False)
            if low <= estimate <= high:
                axes.plot(
                    estimate, row, marker="D" if strong else "s", color=SERIES[0], markersize=6, clip_on=False,
                    gid=result.note(said, line.result),
                )  # fmt: skip
        heads = [(_ESTIMATE, _("HR (95% CI)") if ratio else _("ORR, % (95% CI)"))]
        heads.append((_P, _("P\n(interaction)") if ratio else _("P\n(log-rank)")))
        names = [head.rpartition(": ")[0] for head in display.columns[:4:2]] if ratio else [""]
        for x, name in zip((_FIRST, _SECOND), names, strict=False):
            heads.append((x, f"{shorten(name, 13)}\n{_('n (events)')}".strip()))
        for x, text in heads:
            axes.text(x, -0.95, text, transform=side, va="bottom", clip_on=False, color=SOFT)
        if ratio:
            ticks = [tick for tick in _TICKS if low <= tick <= high]
            axes.xaxis.set_major_locator(FixedLocator(ticks))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticklabels([f"{tick:g}" for tick in ticks])
            favours = [head.rpartition(": ")[0] for head in display.columns[:4:2]]
            axes.set_xlabel(
                _("Hazard ratio (log scale): left of 1 in favour of {arm}").format(
                    arm=shorten(favours[0], 24)
                )
            )
        else:
            axes.set_xlabel(_("Objective response rate, %"))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        clean_axes(axes, grid="x")
        axes.tick_params(axis="y", length=0)
    result.min_width = 800
    return result


def _scale(lines: list[_Line]) -> tuple[float, float]:
    """The ends of the logarithmic axis; an interval at the limits is cut off."""
    spread = [value for line in lines if line.values for value in line.values if value > 0]
    return max(min(*spread, 0.5) / 1.3, _NARROWEST), min(max(*spread, 2.0) * 1.3, _WIDEST)
