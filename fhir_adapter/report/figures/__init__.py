"""Figures of the report, one module per kind; all drawn by matplotlib as SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from fhir_adapter.report.figures.flow import FlowStep, chart, flow_figure
from fhir_adapter.report.figures.forest import forest
from fhir_adapter.report.figures.kaplan_meier import kaplan_meier_figure
from fhir_adapter.report.figures.style import Drawing
from fhir_adapter.report.figures.subgroups import subgroup_forest
from fhir_adapter.report.figures.swimmer import swimmer
from fhir_adapter.report.figures.waterfall import waterfall
from fhir_adapter.results import Results
from fhir_adapter.study import Figure, Study

__all__ = ["draw_figures"]


def draw_figures(
    study: Study,
    results: Results,
    datasets: Mapping[str, pd.DataFrame],
    flow: Sequence[FlowStep],
    _: Callable[[str], str],
) -> list[tuple[str, Drawing]]:
    """All figures of a study that have something to show, with their kind, in the study's order."""
    drawn: list[tuple[str, Drawing]] = []
    for figure in study.report.figures:
        drawing = _draw(figure, study, results, datasets, flow, _)
        if drawing is not None:
            # A forest of subgroups stands with them, one of models with the models.
            drawn.append(("subgroups" if figure.analysis is not None else figure.kind, drawing))
    return drawn


def _draw(
    figure: Figure,
    study: Study,
    results: Results,
    datasets: Mapping[str, pd.DataFrame],
    flow: Sequence[FlowStep],
    _: Callable[[str], str],
) -> Drawing | None:
    match figure.kind:
        case "waterfall":
            return waterfall(study, figure, datasets, _)
        case "kaplan_meier":
            return kaplan_meier_figure(study, figure, datasets, results, _)
        case "swimmer":
            return swimmer(study, figure, datasets, _)
        case "forest" if figure.analysis is not None:
            return subgroup_forest(figure, results, _)
        case "forest":
            return forest(study, figure, results, _)
        case "flow":
            return flow_figure(figure, chart(flow, results), _)
