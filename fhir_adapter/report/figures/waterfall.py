"""Waterfall: best percentage change of the target lesions' sum, one bar per subject.

Bars are drawn from ADSL's BESTPCHG (fully assessed visits up to the first progression). The lines at -30%
and +20% are RECIST 1.1's thresholds of partial response and progression; a best response is not decided by
a bar alone. Above 150 subjects bars lose their labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from matplotlib.patches import Patch

from fhir_adapter.report.figures.style import (
    FAINT,
    INK,
    SOFT,
    Drawing,
    add_bar,
    clean_axes,
    drawing,
    series_colour,
)
from fhir_adapter.report.figures.subjects import groups, level_labels, population, shorten
from fhir_adapter.report.formatting import Piece, format_number
from fhir_adapter.study import Figure, Study

__all__ = ["waterfall"]

#: RECIST 1.1 (Eisenhauer 2009, 4.3): partial response and progression.
PARTIAL_RESPONSE, PROGRESSION = -30.0, 20.0
MOST_LABELS = 150
_LABEL_WIDTH = 24
_MOST_NAMES = 30
_LEGEND_COLUMNS = 4


def _why_missing(subject: pd.Series[Any], has_baseline: bool, _: Callable[[str], str]) -> str:
    if not has_baseline:
        return _("no sum of diameters at baseline")
    if pd.notna(subject["NASSESS"]) and subject["NASSESS"] == 0:
        return _("no assessment after baseline")
    return _("no fully assessed visit up to the first progression")


def waterfall(
    study: Study, figure: Figure, datasets: Mapping[str, pd.DataFrame], _: Callable[[str], str]
) -> Drawing | None:
    """Draws the waterfall of a figure's population; None when nobody has a measurement.

    Args:
        study: the study definition.
        figure: its figure; `by` colours the bars, `label_variable` names them.
        datasets: ADSL and, where there is one, ADTR (for the reason why a subject has no bar).
        _: translation of fixed strings.
    """
    subjects = population(datasets, study, figure.population)
    order = subjects.sort_values(["BESTPCHG", "USUBJID"], ascending=[False, True], kind="stable")
    shown = order[order["BESTPCHG"].notna()].reset_index(drop=True)
    if shown.empty:
        return None
    parts = groups(study, figure, subjects)
    names = level_labels(study, figure.label_variable) if figure.label_variable else {}
    responses = int((shown["BESTPCHG"] <= PARTIAL_RESPONSE).sum())
    description = _(
        "Bar chart of the best change from baseline of the sum of target lesions, {n} subjects in "
        "descending order; {responses} of them at -30% or below."
    ).format(n=len(shown), responses=responses)
    labelled = figure.label_variable is not None and len(shown) <= MOST_LABELS
    above = 0.2 + 0.18 * (1 + len(parts.levels) // _LEGEND_COLUMNS) if parts.levels else 0.1
    height = 4.15 + above
    with drawing(f"figure-{figure.id}", figure.title, description, (9.4, height)) as (canvas, result):
        axes = canvas.add_axes((0.075, 0.2 / height, 0.915, 3.95 / height))
        present: set[int | None] = set()
        size = max(3.5, min(7.5, 400 / len(shown)))
        for position, (_index, subject) in enumerate(shown.iterrows()):
            change = float(subject["BESTPCHG"])
            group = parts.index(subject[parts.variable]) if parts.levels else 0
            present.add(group)
            colour = SOFT if group is None else series_colour(group)
            words = [str(subject["USUBJID"]), f"{format_number(change, 1)}%"]
            words += [str(subject["BOR"])] if pd.notna(subject["BOR"]) else []
            if parts.levels and group is not None:
                words.append(parts.labels[parts.levels[group]])
            label = ""
            if figure.label_variable is not None and pd.notna(subject[figure.label_variable]):
                raw = str(subject[figure.label_variable])
                label = names.get(raw, raw)
                words.append(label)
            # A change of exactly 0 would have no bar to point at.
            tall = change if abs(change) >= 0.4 else 0.4
            add_bar(axes, (position - 0.39, 0), 0.78, tall, colour, result.note(" · ".join(words)))
            if labelled:
                axes.annotate(
                    shorten(label, _LABEL_WIDTH),
                    (position, 0),
                    xytext=(0, 3 if change < 0 else -3),
                    textcoords="offset points",
                    rotation=90,
                    ha="center",
                    va="bottom" if change < 0 else "top",
                    fontsize=size,
                    color=INK,
                )
        lowest, highest = float(shown["BESTPCHG"].min()), float(shown["BESTPCHG"].max())
        # Labels stand on the other side of the zero line and need room there.
        bottom, top = (
            (min(lowest, -45) - 5, max(highest, 45) + 5)
            if labelled
            else (min(lowest, -35) - 5, max(highest, 25) + 5)
        )
        axes.set_ylim(max(bottom, -105), top)
        axes.set_xlim(-1, len(shown))
        axes.axhline(0, color=INK, linewidth=0.8)
        for threshold, percent in ((PROGRESSION, _("+20%")), (PARTIAL_RESPONSE, _("−30%"))):
            line = axes.axhline(threshold, color=SOFT, linewidth=0.9, dashes=(4, 3), zorder=0.9)
            name = _("threshold of progression") if threshold > 0 else _("threshold of partial response")
            line.set_gid(result.note(f"{percent}: {name}"))
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.set_ylabel(_("Best change from baseline (%)"))
        axes.yaxis.set_major_formatter(lambda value, _position: format_number(value, 0))
        clean_axes(axes, grid=None)
        axes.tick_params(color=FAINT)
        if parts.levels:
            handles = [
                Patch(color=series_colour(index), label=parts.labels[level], linewidth=0)
                for index, level in enumerate(parts.levels)
                if index in present
            ]
            if None in present:
                handles.append(Patch(color=SOFT, label=_("Not recorded"), linewidth=0))
            canvas.legend(
                handles=handles,
                title=parts.heading,
                loc="upper right",
                bbox_to_anchor=(0.995, 1.0),
                ncols=min(len(handles), _LEGEND_COLUMNS),
                handlelength=0.9,
                handleheight=0.9,
                alignment="left",
                columnspacing=1.4,
            )
    result.min_width = 760 if labelled else 520
    result.summary = _summary(datasets, order, len(shown), _)
    return result


def _summary(
    datasets: Mapping[str, pd.DataFrame], order: pd.DataFrame, drawn: int, _: Callable[[str], str]
) -> list[tuple[Piece, ...]]:
    """What the lines mean, and who has no bar, by reason."""
    lines: list[tuple[Piece, ...]] = [
        (Piece(_("Dashed lines: +20% (progression) and −30% (partial response) by RECIST 1.1.")),),
    ]
    missing = order[order["BESTPCHG"].isna()].sort_values("USUBJID", kind="stable")
    if missing.empty:
        return lines
    measured: set[str] = set()
    if "ADTR" in datasets:
        rows = datasets["ADTR"]
        measured = set(rows.loc[rows["BASE"].notna(), "USUBJID"])
    reasons = [
        _why_missing(subject, str(subject["USUBJID"]) in measured, _)
        for _index, subject in missing.iterrows()
    ]
    names: dict[str, list[str]] = {}
    for reason, subject_id in zip(reasons, missing["USUBJID"], strict=True):
        names.setdefault(reason, []).append(str(subject_id))
    words = "; ".join(f"{reason}: {len(ids)} ({_some(ids, _)})" for reason, ids in sorted(names.items()))
    text = _("{n} of {total} subjects have no bar: {reasons}.").format(
        n=len(missing), total=drawn + len(missing), reasons=words
    )
    return [*lines, (Piece(text),)]


def _some(names: list[str], _: Callable[[str], str]) -> str:
    """The first names, and how many more there are; all of them stand in ADSL."""
    more = len(names) - _MOST_NAMES
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if more <= 0 else _("{names} and {n} more").format(names=shown, n=more)
