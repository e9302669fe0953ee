"""Kaplan-Meier curves of an endpoint, by subgroup, with censorings, medians and numbers at risk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from fhir_adapter.analysis.endpoints import endpoint_times
from fhir_adapter.analysis.selection import slug
from fhir_adapter.analysis.survival import KaplanMeierResult, at_risk, kaplan_meier
from fhir_adapter.report.figures.style import INK, SOFT, Drawing, clean_axes, drawing, series_colour
from fhir_adapter.report.figures.subjects import Groups, groups, population, shorten
from fhir_adapter.report.formatting import Piece, format_p, format_result, lower_first
from fhir_adapter.results import Results
from fhir_adapter.study import Endpoint, Figure, Study

__all__ = ["kaplan_meier_figure"]

# Curves differ by dash as well as by colour, for black-and-white print and colour-blind readers.
_DASHES: tuple[Any, ...] = ("solid", (0, (6, 2)), (0, (2, 1.6)), (0, (7, 2, 1.5, 2)), (0, (1, 1)))
_MOST_STEPS = 12
_STEPS = {"months": (1, 2, 3, 6, 12, 24), "days": (7, 14, 30, 90, 180, 360, 720)}


def _ticks(longest: float, unit: str) -> list[float]:
    """Round times from 0 up to the longest one, at most twelve steps."""
    step = next((step for step in _STEPS[unit] if longest / step <= _MOST_STEPS), _STEPS[unit][-1])
    while longest / step > _MOST_STEPS:
        step *= 2
    return [float(step * index) for index in range(math.floor(longest / step) + 1)]


def _median(results: Results, stem: str) -> tuple[Piece, ...]:
    """The median with its interval, as in the table; nothing where the analysis has not computed it."""
    found = [results.results.get(f"{stem}.{part}") for part in ("median", "lower", "upper")]
    if any(item is None for item in found):
        return ()
    median, lower, upper = (format_result(item) for item in found if item is not None)
    return (median, Piece(" ("), lower, Piece("–"), upper, Piece(")"))


def _curve(
    axes: Axes,
    curve: KaplanMeierResult,
    index: int,
    median: float | None,
    gid: str,
    *,
    band: bool,
) -> None:
    """One curve; the line at its median stands where the table has it."""
    colour, dashes = series_colour(index), _DASHES[index % len(_DASHES)]
    times = [0.0, *(step.time for step in curve.steps)]
    heights = [100.0, *(100 * step.surv for step in curve.steps)]
    if band:
        # Where the interval has no value (S = 1, S = 0) the band has no height.
        lower = [100.0, *(100 * (step.surv if step.lower is None else step.lower) for step in curve.steps)]
        upper = [100.0, *(100 * (step.surv if step.upper is None else step.upper) for step in curve.steps)]
        axes.fill_between(times, lower, upper, step="post", color=colour, alpha=0.14, linewidth=0)
    (line,) = axes.step(times, heights, where="post", color=colour, linestyle=dashes, linewidth=1.8)
    line.set_gid(gid)
    censored = [(step.time, 100 * step.surv) for step in curve.steps if step.n_censor]
    if censored:
        x, y = zip(*censored, strict=True)
        axes.plot(x, y, linestyle="none", marker="|", markersize=7, markeredgewidth=1.1, color=colour)
    if median is not None:
        axes.plot([median, median], [0, 50], color=colour, linewidth=0.8, linestyle=(0, (1.5, 2)))


def _data(
    datasets: Mapping[str, pd.DataFrame], study: Study, endpoint: Endpoint, figure: Figure
) -> tuple[pd.Series[float], pd.Series[int], Groups, pd.Series[Any] | None]:
    subjects = population(datasets, study, figure.population)
    rows = datasets["ADTTE"]
    rows = rows[
        (rows["PARAMCD"] == endpoint.id) & rows["USUBJID"].isin(subjects["USUBJID"]) & rows["AVAL"].notna()
    ]
    time, event = endpoint_times(rows, endpoint)
    parts = groups(study, figure, subjects)
    if not parts.levels:
        return time, event, parts, None
    by_subject = subjects.set_index("USUBJID")[parts.variable]
    return time, event, parts, rows["USUBJID"].map(by_subject).astype("object")


def kaplan_meier_figure(
    study: Study,
    figure: Figure,
    datasets: Mapping[str, pd.DataFrame],
    results: Results,
    _: Callable[[str], str],
) -> Drawing | None:
    """Draws the curves of `figure.endpoint`; None when nobody has a time.

    Medians and P come from the results, so that drawing and tables cannot differ; the curves from ADTTE.
    """
    if figure.endpoint is None:
        return None
    endpoint = study.endpoint(figure.endpoint)
    time, event, parts, group = _data(datasets, study, endpoint, figure)
    if time.empty:
        return None
    stem = f"survival.{slug(endpoint.id)}"
    curves: list[tuple[str, str, KaplanMeierResult, pd.Series[float]]] = []
    if group is None:
        curves.append(
            (_("All subjects"), stem, kaplan_meier(time, event, conf_type=endpoint.conf_type), time)
        )
    else:
        for level in parts.levels:
            mine = (group == level).fillna(False).astype(bool)
            if mine.any():
                curve = kaplan_meier(time[mine], event[mine], conf_type=endpoint.conf_type)
                where = f"{stem}.by.{slug(str(figure.by))}.{slug(level)}"
                curves.append((parts.labels[level], where, curve, time[mine]))
    unit = _("months") if endpoint.unit == "months" else _("days")
    description = _(
        "Kaplan–Meier curves of {label}, in {unit}: {curves}. Vertical ticks are censored subjects."
    ).format(
        label=lower_first(endpoint.label),
        unit=unit,
        curves="; ".join(
            f"{label}, {curve.n} subjects, {curve.events} events" for label, _w, curve, _t in curves
        ),
    )
    ticks = _ticks(float(time.max()), endpoint.unit)
    below = 0.21 * (len(curves) + 1) + 0.62
    height = 3.7 + below
    with drawing(f"figure-{figure.id}", figure.title, description, (9.0, height)) as (canvas, result):
        axes = canvas.add_axes((0.17, below / height, 0.81, (height - below - 0.15) / height))
        for index, (label, where, curve, _times) in enumerate(curves):
            median = "".join(piece.text for piece in _median(results, where))
            says = f"{label}: {curve.n} subjects, {curve.events} events"
            says += f", median {median} {unit}" if median else ""
            computed = results.results.get(f"{where}.median")
            at = curve.median if computed is None else computed.value
            at = float(at) if isinstance(at, int | float) else None
            _curve(axes, curve, index, at, result.note(says), band=len(curves) == 1)
        # Where everybody was censored on the start the axis still needs a length.
        longest = max(float(time.max()) * 1.03, ticks[-1]) or 1.0
        axes.plot([0, longest], [50, 50], color=SOFT, linewidth=0.6, linestyle=(0, (1.5, 2)), zorder=0.9)
        axes.set_ylim(0, 103)
        axes.set_xlim(0, longest)
        axes.set_xticks(ticks)
        axes.set_yticks([0, 25, 50, 75, 100])
        axes.set_ylabel(f"{endpoint.label} (%)")
        axes.set_xlabel(_("Time ({unit})").format(unit=unit))
        clean_axes(axes, grid=None)
        _legend(axes, [(label, curve) for label, _w, curve, _t in curves], parts.heading, _)
        _at_risk(axes, ticks, [(label, times) for label, _w, _c, times in curves], height - below - 0.15, _)
        p = results.results.get(f"{stem}.by.{slug(figure.by)}.logrank.p") if figure.by else None
        if p is not None and isinstance(p.value, int | float):
            axes.text(
                0.985,
                1 - (0.32 + 0.19 * len(curves)) / (height - below - 0.15),
                _("Log-rank P {p}").format(p=_equals(p.value)),
                transform=axes.transAxes,
                ha="right",
                va="top",
                color=INK,
                gid=result.note("", p.id),
            )
    result.summary = _summary(results, [(label, where) for label, where, _c, _t in curves], unit, p, _)
    return result


def _equals(p: float) -> str:
    text = format_p(p)
    return text if text.startswith("<") else f"= {text}"


def _legend(
    axes: Axes, curves: list[tuple[str, KaplanMeierResult]], heading: str, _: Callable[[str], str]
) -> None:
    if len(curves) < 2:
        return
    handles = [
        Line2D([], [], color=series_colour(index), linestyle=_DASHES[index % len(_DASHES)], linewidth=1.8)
        for index in range(len(curves))
    ]
    texts = [
        _("{label} ({events}/{n} events)").format(label=label, events=c.events, n=c.n) for label, c in curves
    ]
    axes.legend(handles, texts, title=heading or None, loc="upper right", alignment="left", handlelength=2.6)


def _at_risk(
    axes: Axes,
    ticks: list[float],
    curves: list[tuple[str, pd.Series[float]]],
    inches: float,
    _: Callable[[str], str],
) -> None:
    """Numbers at risk just before each tick, one row per curve."""
    line = 0.21 / inches
    top = -0.56 / inches
    across = axes.get_xaxis_transform()
    axes.text(
        -0.2,
        top,
        _("At risk"),
        transform=axes.transAxes,
        fontsize=8.5,
        color=SOFT,
        va="center",
        clip_on=False,
    )
    for index, (label, times) in enumerate(curves):
        height = top - line * (index + 1)
        axes.text(
            -0.2,
            height,
            shorten(label, 21),
            transform=axes.transAxes,
            fontsize=8.5,
            va="center",
            color=series_colour(index),
            clip_on=False,
        )
        for tick, number in zip(ticks, at_risk(times, ticks), strict=True):
            axes.text(
                tick,
                height,
                str(number),
                transform=across,
                fontsize=8.5,
                ha="center",
                va="center",
                clip_on=False,
            )


def _summary(
    results: Results, curves: list[tuple[str, str]], unit: str, p: object, _: Callable[[str], str]
) -> list[tuple[Piece, ...]]:
    pieces: list[Piece] = []
    for label, where in curves:
        median = _median(results, where)
        if median:
            pieces += [Piece("; " if pieces else _("Median (95% CI), {unit}: ").format(unit=unit))]
            pieces += [Piece(f"{label} " if len(curves) > 1 else ""), *median]
    if not pieces:
        return []
    id_ = getattr(p, "id", "")
    value = getattr(p, "value", None)
    if isinstance(value, int | float):
        pieces += [Piece(_("; log-rank P ")), Piece(_equals(value), id_)]
    return [(*pieces, Piece("."))]
