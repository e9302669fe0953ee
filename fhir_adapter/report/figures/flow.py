"""The flow of subjects (STROBE item 13): who came, who was left out and why, who was analysed.

The page draws it with boxes of HTML, which stay readable on a telephone; the file in `figures/` is for manuscripts.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from matplotlib.patches import Rectangle

from fhir_adapter.analysis.selection import slug
from fhir_adapter.report.figures.style import INK, SOFT, Drawing, drawing
from fhir_adapter.results import Display, Results
from fhir_adapter.study import Figure

__all__ = ["Box", "FlowStep", "Stage", "chart", "flow_figure"]

_EXCLUDED, _SET = "flow.excluded.", "flow.set."
_MAIN = frozenset({"candidates", "enrolled", "consented", "randomised", "treated", "analysed"})


class FlowStep(Protocol):
    """A step of the cohort's flow."""

    @property
    def id(self) -> str:
        """Name of the step: candidates, treated, the id of an exclusion, analysed."""

    @property
    def label(self) -> str:
        """What a reader sees."""

    @property
    def n(self) -> int:
        """Subjects."""


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
    """Stages of the flow, from the cohort's steps, else from the analysis' own flow table.

    The analysis sets come from the results. A step is an exclusion unless its id is one of the main line's.
    """
    stages: list[tuple[Box, list[Box]]] = []
    display = next((item for item in results.displays if item.id == "flow"), None)
    if steps:
        for step in steps:
            main = step.id in _MAIN
            key = (
                f"flow.{slug(step.id)}.n"
                if main
                else f"{_EXCLUDED}{slug(step.id.removeprefix('excluded.'))}.n"
            )
            box = Box(step.label, step.n, key if key in results.results else "")
            _append(stages, box, main=main)
    elif display is not None:
        for box in _boxes(display, results):
            if not box.result.startswith(_SET):
                _append(stages, box, main=not box.result.startswith(_EXCLUDED))
    sets = [] if display is None else [box for box in _boxes(display, results) if box.result.startswith(_SET)]
    last = len(stages) - 1
    return [
        Stage(box, tuple(leaves), tuple(sets) if index == last else ())
        for index, (box, leaves) in enumerate(stages)
    ]


def _append(stages: list[tuple[Box, list[Box]]], box: Box, *, main: bool) -> None:
    if main or not stages:
        stages.append((box, []))
    else:
        stages[-1][1].append(box)


def _boxes(display: Display, results: Results) -> list[Box]:
    boxes = []
    for row in display.rows:
        for cell in row.cells[:1]:
            value = results[cell.results[0]].value
            label = row.label.removeprefix("Excluded: ")
            boxes.append(Box(label, int(value or 0), cell.results[0]))
    return boxes


def flow_figure(figure: Figure, stages: Sequence[Stage], _: Callable[[str], str]) -> Drawing | None:
    """The flow as a drawing; None without stages."""
    if not stages:
        return None
    description = "; ".join(
        [
            f"{stage.box.label} {stage.box.n}" + "".join(f", {item.label} {item.n}" for item in stage.leaves)
            for stage in stages
        ]
    )
    # Heights in lines of text: a box has its text and a line of margin, an arrow two lines, more beside many exclusions.
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
