"""Swimmer plot: one bar per subject from the baseline examination to the last contact.

Every subject is drawn. Bars get thinner as subjects become more, and above 120 they lose their labels; no
subject is left out and none is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fhir_adapter.analysis.selection import DAYS_PER_MONTH
from fhir_adapter.report.figures.style import (
    FAINT,
    INK,
    PAPER,
    SERIES,
    SOFT,
    Drawing,
    add_bar,
    clean_axes,
    drawing,
    series_colour,
)
from fhir_adapter.report.figures.subjects import groups, population, shorten
from fhir_adapter.report.formatting import Piece, format_number
from fhir_adapter.study import Figure, Study

__all__ = ["swimmer"]

MOST_LABELS = 120
_TALLEST = 14.0  # inches

# What is marked: shape, filled with ink or with paper.
_MARKS: Mapping[str, tuple[str, str]] = {
    "CR": ("*", INK),
    "PR": ("^", INK),
    "PD": ("D", PAPER),
    "death": ("X", INK),
}


def _firsts(datasets: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Dates of the first CR, PR and PD of each subject's overall responses that count for endpoints."""
    if "ADRS" not in datasets:
        return pd.DataFrame()
    rows = datasets["ADRS"]
    rows = rows[
        (rows["PARAMCD"] == "OVR") & rows["AVALC"].isin(["CR", "PR", "PD"]) & (rows["ANL01FL"] == "Y")
    ]
    return rows.groupby(["USUBJID", "AVALC"])["ADT"].min().unstack("AVALC")


def _months(date: object, start: object) -> float | None:
    if pd.isna(date) or pd.isna(start):  # type: ignore[call-overload]
        return None
    return float((pd.Timestamp(date) - pd.Timestamp(start)).days) / DAYS_PER_MONTH  # type: ignore[arg-type]


def _events(subject: pd.Series[Any], firsts: pd.DataFrame) -> dict[str, float]:
    """Months from baseline to each marked event of a subject."""
    found: dict[str, float] = {}
    start = subject["BASEDT"]
    known = (
        firsts.loc[subject["USUBJID"]] if subject["USUBJID"] in firsts.index else pd.Series(dtype="object")
    )
    for name in ("CR", "PR", "PD"):
        at = _months(known.get(name), start)
        if at is not None:
            found[name] = at
    if subject["DTHFL"] == "Y":
        at = _months(subject["DTHDT"], start)
        if at is not None:
            found["death"] = at
    return found


def swimmer(
    study: Study, figure: Figure, datasets: Mapping[str, pd.DataFrame], _: Callable[[str], str]
) -> Drawing | None:
    """Draws the swimmer plot, longest follow-up first; None when nobody has a follow-up."""
    subjects = population(datasets, study, figure.population)
    subjects = subjects[subjects["FUPDUR"].notna()].sort_values(
        ["FUPDUR", "USUBJID"], ascending=[True, False]
    )
    if subjects.empty:
        return None
    firsts = _firsts(datasets)
    parts = groups(study, figure, subjects)
    total = len(subjects)
    pitch = min(0.17, _TALLEST / total)
    description = _(
        "Bars of follow-up for {n} subjects, longest first, with the time on treatment, first response, "
        "progression and death."
    ).format(n=total)
    # The legend above has four columns: levels, follow-up, four events and those without one.
    above = 0.3 + 0.17 * math.ceil((max(len(parts.levels), 1) + 6) / 4)
    height = pitch * total + above + 0.5
    with drawing(f"figure-{figure.id}", figure.title, description, (9.0, height)) as (canvas, result):
        axes = canvas.add_axes((0.12, 0.5 / height, 0.86, (height - above - 0.5) / height))
        swims = []
        for _index, subject in subjects.iterrows():
            group = parts.index(subject[parts.variable]) if parts.levels else 0
            swims.append(_swim(subject, _events(subject, firsts), group, _))
        _draw(axes, swims, max(1.2, min(5.5, pitch * 36)), result)
        axes.set_ylim(-1, total)
        axes.set_xlim(0, float(subjects["FUPDUR"].max()) / DAYS_PER_MONTH * 1.03 + 0.2)
        labelled = total <= MOST_LABELS
        axes.set_yticks(range(total) if labelled else [])
        if labelled:
            axes.set_yticklabels([shorten(str(name), 14) for name in subjects["USUBJID"]], fontsize=7)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(_("Months from the baseline examination"))
        clean_axes(axes, grid="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        present = [parts.labels[level] for level in parts.levels]
        handles: list[Patch | Line2D] = [
            Patch(
                color=series_colour(index), linewidth=0, label=_("On treatment, {label}").format(label=label)
            )
            for index, label in enumerate(present)
        ] or [Patch(color=SERIES[0], linewidth=0, label=_("On treatment"))]
        handles.append(Patch(color=FAINT, linewidth=0, label=_("Follow-up")))
        words = {"CR": _("First CR"), "PR": _("First PR"), "PD": _("Progression"), "death": _("Death")}
        handles += [
            Line2D(
                [],
                [],
                linestyle="none",
                marker=shape,
                markerfacecolor=fill,
                markeredgecolor=INK,
                markersize=5.5,
                markeredgewidth=0.7,
                label=words[name],
            )
            for name, (shape, fill) in _MARKS.items()
        ]
        handles.append(
            Line2D(
                [],
                [],
                linestyle="none",
                marker=">",
                color=SOFT,
                markersize=5,
                label=_("Alive without progression"),
            )
        )
        canvas.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(0.11, 1.0),
            ncols=4,
            columnspacing=1.4,
            handlelength=1.1,
            handleheight=0.8,
            fontsize=8.5,
        )
    result.summary = [(Piece(_("Time on treatment is from the first to the last dose of any study drug.")),)]
    return result


@dataclass(frozen=True, slots=True)
class _Swim:
    """One subject: months of follow-up, of the first and last dose, and of the events."""

    length: float
    treated: tuple[float, float] | None
    events: Mapping[str, float]
    colour: str
    says: str


def _swim(
    subject: pd.Series[Any], events: Mapping[str, float], group: int | None, _: Callable[[str], str]
) -> _Swim:
    length = float(subject["FUPDUR"]) / DAYS_PER_MONTH
    first, last = _months(subject["TRTSDT"], subject["BASEDT"]), _months(subject["TRTEDT"], subject["BASEDT"])
    treated = None if first is None or last is None else (first, last)
    words = [f"{subject['USUBJID']}", _("follow-up {months} months").format(months=format_number(length, 1))]
    if treated is not None:
        words.append(_("treatment {months} months").format(months=format_number(treated[1] - treated[0], 1)))
    names = {"CR": _("first CR"), "PR": _("first PR"), "PD": _("progression"), "death": _("death")}
    words += [
        f"{names[name]} {format_number(at, 1)}"
        for name, at in sorted(events.items(), key=lambda item: item[1])
    ]
    colour = SOFT if group is None else series_colour(group)
    return _Swim(length, treated, events, colour, " · ".join(words))


def _draw(axes: Axes, swims: Sequence[_Swim], dot: float, result: Drawing) -> None:
    """All bars and marks, the first subject at the bottom."""
    for row, swim in enumerate(swims):
        add_bar(axes, (0, row - 0.36), swim.length, 0.72, FAINT, result.note(swim.says))
        if swim.treated is not None:
            first, last = swim.treated
            width = max(last - first, 0.05)
            add_bar(axes, (first, row - 0.36), width, 0.72, swim.colour, result.note(swim.says))
    for name, (shape, fill) in _MARKS.items():
        marked = [(swim.events[name], row) for row, swim in enumerate(swims) if name in swim.events]
        axes.plot(
            [at for at, _row in marked],
            [row for _at, row in marked],
            linestyle="none",
            marker=shape,
            markersize=dot + (1.5 if shape == "*" else 0),
            markerfacecolor=fill,
            markeredgecolor=PAPER if fill == INK else INK,
            markeredgewidth=0.6,
            clip_on=False,
        )
    free = [(swim.length, row) for row, swim in enumerate(swims) if not {"PD", "death"} & swim.events.keys()]
    axes.plot(
        [length + 0.12 for length, _row in free],
        [row for _length, row in free],
        linestyle="none",
        marker=">",
        markersize=dot,
        color=SOFT,
        markeredgewidth=0,
        clip_on=False,
    )
