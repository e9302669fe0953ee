"""The flow of subjects (STROBE item 13): who came, who was left out and why, who was analysed.

The page draws it with boxes of HTML, which stay readable on a telephone; the file in
`figures/` is for manuscripts.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.patches import Rectangle

from fhir_adapter.report.figures.style import INK, SOFT, Drawing, drawing
from fhir_adapter.results import Display, Results
from fhir_adapter.study import Figure

__all__ = ["Box", "FlowStep", "Stage", "chart", "flow_figure"]

_EXCLUDED, _SET = "flow.excluded.", "flow.set."


#: A step of the cohort's flow: id (`candidates`, `treated`, `excluded.<id>`, `analysed`), label and n.
FlowStep = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Box:
    """A label, a number, and the result that it is (empty when the analysis has none)."""

    label: str
    n: int
    result: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """A box of the main line, with those who leave after it and, at the end, the analysis sets."""

    box: Box
    leaves: tuple[Box, ...] = ()
    sets: tuple[Box, ...] = ()

    @property
    def leaving(self) -> int:
        """How many leave."""
        return sum(item.n for item in self.leaves)


def chart(steps: Sequence[FlowStep], results: Results) -> list[Stage]:
    """Stages of the flow, from the analysis' flow table, whose numbers have ids, else from the cohort.

    A row of the table is an exclusion or an analysis set by the id of its result, a step by its own id.
    """
    display = next((item for item in results.displays if item.id == "flow"), None)
    if display is not None:
        boxes = [(box, box.result) for box in _boxes(display, results)]
    else:
        boxes = [(Box(_label(step["label"]), int(step["n"])), f"flow.{step['id']}") for step in steps]
    stages: list[tuple[Box, list[Box]]] = []
    sets: list[Box] = []
    for box, kind in boxes:
        if kind.startswith(_SET):
            sets.append(box)
        elif kind.startswith(_EXCLUDED) and stages:
            stages[-1][1].append(box)
        else:
            stages.append((box, []))
    last = len(stages) - 1
    return [
        Stage(box, tuple(gone), tuple(sets) if at == last else ()) for at, (box, gone) in enumerate(stages)
    ]


def _label(text: str) -> str:
    """The box says `Excluded` once, not before each reason."""
    return text.removeprefix("Excluded: ")


def _boxes(display: Display, results: Results) -> list[Box]:
    boxes = []
    for row in display.rows:
        for cell in row.cells[:1]:
            value = results[cell.results[0]].value
            boxes.append(Box(_label(row.label), int(value or 0), cell.results[0]))
    return boxes


def flow_figure(figure: Figure, stages: Sequence[Stage], _: Callable[[str], str]) -> Drawing | None:
    """The flow as a drawing; None without stages."""
    if not stages:
        return None
    description = "; ".join(f"{box.label} {box.n}" for stage in stages for box in (stage.box, *stage.leaves))
    # Heights in lines: a box has its text and a margin, an arrow two lines, more beside many exclusions.
    plan: list[tuple[Stage, list[str], list[str]]] = []
    for stage in stages:
        own = [*textwrap.wrap(stage.box.label, 34), f"n = {stage.box.n}"]
        own += [f"{item.label}: {item.n}" for item in stage.sets]
        side = []
        if stage.leaves:
            side = [_("Excluded (n = {n})").format(n=stage.leaving)]
            for item in stage.leaves:
                side += textwrap.wrap(f"{item.label}: {item.n}", 46, subsequent_indent="   ")
        plan.append((stage, own, side))
    line = 0.19
    height = sum((len(own) + 1.2 + max(2.0, len(side) + 2.4)) * line for _stage, own, side in plan)
    with drawing(f"figure-{figure.id}", figure.title, description, (7.6, height)) as (canvas, result):
        axes = canvas.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, 7.6)
        axes.set_ylim(-height, 0)
        axes.set_axis_off()
        y = -0.02
        for index, (_stage, own, side) in enumerate(plan):
            tall = (len(own) + 1.2) * line
            axes.add_patch(_frame(0.1, y - tall, 3.1, tall))
            axes.text(
                1.65, y - tall / 2, "\n".join(own), ha="center", va="center", color=INK, linespacing=1.35
            )
            y -= tall
            if index == len(plan) - 1:
                break
            gap = max(2.0, len(side) + 2.4) * line
            axes.annotate(
                "", (1.65, y - gap), (1.65, y), arrowprops={"arrowstyle": "-|>", "color": SOFT, "lw": 0.9}
            )
            if side:
                wide = (len(side) + 1.2) * line
                middle = y - gap / 2
                axes.add_patch(_frame(3.9, middle - wide / 2, 3.6, wide))
                axes.text(4.0, middle, "\n".join(side), va="center", color=INK, linespacing=1.35)
                axes.annotate(
                    "",
                    (3.9, middle),
                    (1.65, middle),
                    arrowprops={"arrowstyle": "-|>", "color": SOFT, "lw": 0.9},
                )
            y -= gap
    return result


def _frame(x: float, y: float, width: float, height: float) -> Rectangle:
    return Rectangle((x, y), width, height, facecolor="none", edgecolor=SOFT, linewidth=0.9)
