"""Forest plot: the hazard ratios of the models' tables on a logarithmic axis.

It draws what the displays of section `models` hold and computes nothing; a ratio that is not estimable
keeps its row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.ticker import FixedLocator, NullLocator

from fhir_adapter.analysis.selection import slug
from fhir_adapter.report.figures.style import INK, SERIES, SOFT, Drawing, clean_axes, drawing
from fhir_adapter.report.figures.subjects import shorten
from fhir_adapter.report.formatting import format_cell, plain
from fhir_adapter.results import Results
from fhir_adapter.results import Row as TableRow
from fhir_adapter.study import Figure, Study

__all__ = ["forest"]

_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
#: Beyond these an interval is drawn as an arrow: a monotone likelihood would flatten all others.
_NARROWEST, _WIDEST = 0.01, 100.0


@dataclass(frozen=True, slots=True)
class _Line:
    label: str
    heading: bool
    text: str = ""
    p: str = ""
    result: str = ""
    values: tuple[float, float, float] | None = None


def _line(row: TableRow, results: Results) -> _Line | None:
    ratio = next((cell for cell in row.cells if cell.form == "estimate_ci"), None)
    if ratio is None:
        return None
    p = next((cell for cell in row.cells if cell.form == "p"), None)
    numbers = [results[key].value for key in ratio.results]
    usable = all(isinstance(value, int | float) and value > 0 for value in numbers)
    values = (float(numbers[0] or 0), float(numbers[1] or 0), float(numbers[2] or 0)) if usable else None
    return _Line(
        row.label,
        False,
        plain(format_cell(ratio, results)),
        plain(format_cell(p, results)) if p else "",
        ratio.results[0],
        values,
    )


def _lines(study: Study, figure: Figure, results: Results) -> list[_Line]:
    wanted = {
        f"models_{slug(model.id)}" for model in study.models if figure.endpoint in (None, model.endpoint)
    }
    lines: list[_Line] = []
    for display in results.displays:
        if display.section == "models" and display.id in wanted:
            own = [line for row in display.rows if (line := _line(row, results))]
            if own:
                lines += [_Line(display.title, True), *own]
    return lines


def forest(study: Study, figure: Figure, results: Results, _: Callable[[str], str]) -> Drawing | None:
    """Draws the models of the figure's endpoint (of all without one); None when there is no hazard ratio."""
    lines = _lines(study, figure, results)
    if not any(line.values for line in lines):
        return None
    shown = [line for line in lines if not line.heading]
    description = _("Hazard ratios with 95% intervals on a logarithmic axis: {rows}.").format(
        rows="; ".join(f"{line.label} {line.text}" for line in shown)
    )
    spread = [value for line in shown if line.values for value in line.values]
    low, high = max(min(*spread, 0.5) / 1.3, _NARROWEST), min(max(*spread, 2.0) * 1.3, _WIDEST)
    height = 0.25 * len(lines) + 0.95
    with drawing(f"figure-{figure.id}", figure.title, description, (9.4, height)) as (canvas, result):
        axes = canvas.add_axes((0.40, 0.52 / height, 0.33, (height - 0.85) / height))
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.axvline(1, color=SOFT, linewidth=0.9)
        side = axes.get_yaxis_transform()
        for row, line in enumerate(lines):
            axes.text(
                -1.19 if line.heading else -1.17,
                row,
                shorten(line.label, 64 if line.heading else 52),
                transform=side,
                va="center",
                clip_on=False,
                weight="bold" if line.heading else "normal",
                color=INK,
            )
            if line.heading:
                continue
            axes.text(
                1.03,
                row,
                line.text,
                transform=side,
                va="center",
                clip_on=False,
                gid=result.note("", line.result),
            )
            axes.text(1.58, row, line.p, transform=side, va="center", clip_on=False)
            if line.values is None:
                continue
            estimate, lower, upper = line.values
            (span,) = axes.plot(
                [max(lower, low), min(upper, high)], [row, row], color=SERIES[0], linewidth=1.6
            )
            span.set_gid(result.note(f"{line.label}: {line.text}"))
            for bound, edge, marker in ((lower, low, "<"), (upper, high, ">")):
                if (bound < edge) if marker == "<" else (bound > edge):
                    axes.plot(edge, row, marker=marker, color=SERIES[0], markersize=5, clip_on=False)
            if low <= estimate <= high:
                axes.plot(
                    estimate,
                    row,
                    marker="s",
                    color=SERIES[0],
                    markersize=6,
                    gid=result.note(f"{line.label}: {line.text}", line.result),
                )
        heads = ((1.03, _("HR (95% CI)")), (1.58, "P"))
        for x, words in heads:
            axes.text(x, -0.95, words, transform=side, va="bottom", clip_on=False, color=SOFT)
        ticks = [tick for tick in _TICKS if low <= tick <= high]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([f"{tick:g}" for tick in ticks])
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(_("Hazard ratio (log scale)"))
        clean_axes(axes, grid="x")
        axes.tick_params(axis="y", length=0)
    result.min_width = 760
    return result
