"""Subgroup analyses: an endpoint by the levels of subgroups, for a table and a forest plot.

With two arms: the hazard ratio in each level by a Cox model of the arm, and the likelihood ratio test of the
interaction of arm and subgroup (CONSORT item 12b asks for the interaction, not for P within levels). With one
arm: median and objective response rate of each level, and the log-rank test between them.

Ids: `subgroups.<id>.all.…` and `subgroups.<id>.<subgroup>.<level>.…` with `n|events`, `<arm>.n|<arm>.events`,
`hr|lower|upper|p`, or `median|lower|upper` and `orr.n|orr.pct|orr.lower|orr.upper`;
`subgroups.<id>.<subgroup>.interaction.p|statistic|df`, or `.logrank.p|statistic|df`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import scipy

from fhir_adapter.analysis.comparisons import INTERVALS
from fhir_adapter.analysis.endpoints import (
    add_curve,
    add_log_rank,
    curve_columns,
    endpoint_times,
    immortal_time_notes,
)
from fhir_adapter.analysis.levels import subgroup_levels
from fhir_adapter.analysis.selection import Analysis, both, equals, slug
from fhir_adapter.analysis.survival import cox, kaplan_meier, log_rank
from fhir_adapter.conditions import Comparison, Condition
from fhir_adapter.results import Cell, Display, Row
from fhir_adapter.study import Arm, Endpoint, Subgroup, SubgroupAnalysis

__all__ = ["subgroup_analyses"]

_ARM = "TRT01A"
_FEW = 10


@dataclass(frozen=True)
class _Data:
    """The endpoint's rows: TIME (its unit), EVENT (0/1), GROUP (arm id) and the subgroups' variables."""

    analysis: Analysis
    item: SubgroupAnalysis
    endpoint: Endpoint
    rows: pd.DataFrame
    arms: tuple[Arm, Arm] | None

    @property
    def condition(self) -> Condition | None:
        """Which rows of ADTTE are counted; with arms those of the two."""
        of_param = equals("PARAMCD", self.endpoint.id)
        if self.arms is None:
            return of_param
        ids: list[str | int | float | bool] = [arm.id for arm in self.arms]
        return both(of_param, Comparison(dataset="ADSL", variable=_ARM, op="in", value=ids))


def _read(analysis: Analysis, item: SubgroupAnalysis) -> _Data:
    endpoint = analysis.study.endpoint(item.endpoint).model_copy(update={"landmarks": []})
    by_id = {arm.id: arm for arm in analysis.study.treatment.arms}
    names = item.arms or (list(by_id) if len(by_id) == 2 else [])
    arms = (by_id[names[0]], by_id[names[1]]) if names else None
    adsl = analysis.population(endpoint.population).set_index("USUBJID")
    rows = analysis.rows("ADTTE", endpoint.population, equals("PARAMCD", endpoint.id))
    time, event = endpoint_times(rows, endpoint)
    variables = [analysis.study.subgroup(name).variable for name in item.subgroups]
    table = {
        "USUBJID": rows["USUBJID"],
        "TIME": time,
        "EVENT": event,
        "GROUP": rows["USUBJID"].map(adsl[_ARM]),
    }
    table |= {name: rows["USUBJID"].map(adsl[name]) for name in variables}
    frame = pd.DataFrame(table)
    if arms is not None:
        frame = frame[frame["GROUP"].isin([arm.id for arm in arms])]
        # The second arm is what the first is compared with.
        frame["GROUP"] = pd.Categorical(frame["GROUP"], categories=[arms[1].id, arms[0].id])
    return _Data(analysis, item, endpoint, frame, arms)


def _ratio(
    data: _Data, stem: str, rows: pd.DataFrame, within: Condition | None, method: str
) -> tuple[Cell, ...]:
    """Subjects and events of each arm, and the hazard ratio of the first against the second."""
    assert data.arms is not None  # noqa: S101 - for the type checker; the caller knows
    analysis, population = data.analysis, data.endpoint.population
    more: dict[str, Any] = {"dataset": "ADTTE", "population": population, "variable": "AVAL"}
    condition = both(data.condition, within)
    cells = []
    for arm in data.arms:
        own = rows[rows["GROUP"] == arm.id]
        inside = both(equals("PARAMCD", data.endpoint.id), equals(_ARM, arm.id, dataset="ADSL"), within)
        for name, number, rule in (
            ("n", len(own), "n_subjects"), ("events", int(own["EVENT"].sum()), "n_events"),
        ):  # fmt: skip
            id_ = f"{stem}.{slug(arm.id)}.{name}"
            analysis.add(id_, number, rule, unit="n", digits=0, condition=inside, **more)
            cells.append(Cell("n", (id_,)))
    fit = cox(rows, "TIME", "EVENT", "GROUP", ties=data.item.ties)
    analysis.add(f"{stem}.n", fit.n, "n_subjects", unit="n", digits=0, condition=condition, **more)
    analysis.add(f"{stem}.events", fit.events, "n_events", unit="n", digits=0, condition=condition, **more)
    term = fit.terms[0]
    ids = [
        analysis.add(
            f"{stem}.{name}", value, "cox", unit=unit, digits=digits, condition=condition, method=method,
            reason="" if value is not None else (term.reason or "not estimable"), **more,
        )
        for name, value, unit, digits in (
            ("hr", term.hr, "ratio", 2), ("lower", term.lower, "ratio", 2), ("upper", term.upper, "ratio", 2),
            ("p", term.p, "p", 4),
        )
    ]  # fmt: skip
    return (*cells, Cell("estimate_ci", tuple(ids[:3])))


def _interaction(data: _Data, stem: str, subgroup: Subgroup, levels: list[str]) -> str:
    """Adds the likelihood ratio test of the interaction; returns the id of its P."""
    known = data.rows[data.rows[subgroup.variable].notna()]
    frame = known.assign(LEVEL=pd.Categorical(known[subgroup.variable], categories=levels))
    statistic: float | None = None
    df, reason = 0, "fewer than two levels have subjects"
    if len(levels) > 1:
        main = cox(frame, "TIME", "EVENT", ["GROUP", "LEVEL"], ties=data.item.ties)
        full = cox(frame, "TIME", "EVENT", ["GROUP", "LEVEL", "GROUP:LEVEL"], ties=data.item.ties)
        reason = full.reason or main.reason or ""
        if not reason and full.loglik is not None and main.loglik is not None:
            statistic = max(2.0 * (full.loglik - main.loglik), 0.0)
            df = len(full.terms) - len(main.terms)
    values: list[tuple[str, float | None, str, int]] = [
        ("p", None if statistic is None else float(scipy.stats.chi2.sf(statistic, df)), "p", 4),
        ("statistic", statistic, "", 4),
        ("df", None if statistic is None else df, "", 0),
    ]
    for name, value, unit, digits in values:
        data.analysis.add(
            f"{stem}.interaction.{name}", value, "cox_interaction", dataset="ADTTE",
            population=data.endpoint.population, condition=data.condition, variable="AVAL", unit=unit,
            digits=digits, method="likelihood ratio test of the interaction",
            reason="" if value is not None else (reason or "not estimable"),
        )  # fmt: skip
    return f"{stem}.interaction.p"


def _median_and_rate(
    data: _Data, stem: str, rows: pd.DataFrame, within: Condition | None
) -> tuple[Cell, ...]:
    """Subjects, events, median and objective response rate of one level."""
    analysis, endpoint = data.analysis, data.endpoint
    curve = kaplan_meier(rows["TIME"], rows["EVENT"], conf_type=endpoint.conf_type)
    cells = add_curve(analysis, stem, curve, endpoint, both(data.condition, within))
    total = len(analysis.rows("ADSL", endpoint.population, _on_adsl(within)))
    condition = both(_on_adsl(within), equals("RSPFL", "Y"))
    n, pct = analysis.count(
        f"{stem}.orr", "ADSL", endpoint.population, condition, denominator=total, variable="BOR"
    )
    method = data.item.interval
    interval = INTERVALS[method](int(analysis.results[n].value or 0), total)
    ids = [pct]
    for name, bound in (("lower", interval.lower), ("upper", interval.upper)):
        ids.append(
            analysis.add(
                f"{stem}.orr.{name}", None if bound is None else 100 * bound, "interval_bound", dataset="ADSL",
                population=endpoint.population, condition=condition, variable="BOR", unit="%", digits=1,
                reason=interval.reason or "", method=f"95% {method.replace('_', '-').title()}",
            )
        )  # fmt: skip
    return (*cells, Cell("estimate_ci", tuple(ids)))


def _on_adsl(within: Condition | None) -> Condition | None:
    """The condition of a level, asked of ADSL itself."""
    return within.model_copy(update={"dataset": None}) if isinstance(within, Comparison) else within


def _level_rows(data: _Data, subgroup: Subgroup, method: str) -> tuple[list[Row], list[str]]:
    analysis, item = data.analysis, data.item
    adsl = analysis.population(data.endpoint.population)
    levels, gone = subgroup_levels(subgroup, adsl)
    stem = f"subgroups.{slug(item.id)}.{slug(subgroup.id)}"
    column = data.rows[subgroup.variable].astype("object")
    lines: list[Row] = []
    for level in levels:
        within = equals(subgroup.variable, level, dataset="ADSL")
        rows = data.rows[column == level]
        at = f"{stem}.{slug(level)}"
        if data.arms is None:
            cells = _median_and_rate(data, at, rows, within)
        else:
            cells = _ratio(data, at, rows, within, method)
        lines.append(Row(label=subgroup.level_labels.get(level, level), cells=cells, level=1))
    if data.arms is None:
        group = pd.Series(pd.Categorical(column, categories=levels, ordered=True))
        test = log_rank(data.rows["TIME"], data.rows["EVENT"], group)
        p = add_log_rank(analysis, f"{stem}.logrank", test, data.endpoint, data.condition)
    else:
        p = _interaction(data, stem, subgroup, levels)
    blank = (Cell("text"),) * (4 if data.arms is None else 5)
    heading = Row(label=subgroup.label, cells=(*blank, Cell("p", (p,))))
    missing = int(adsl[subgroup.variable].isna().sum())
    notes = [f"{subgroup.label}: no subjects in {', '.join(gone)}."] if gone else []
    notes += [f"{subgroup.label}: not recorded for {missing}."] if missing else []
    notes += immortal_time_notes([subgroup.variable], subgroup.label)
    return [heading, *lines], notes


def subgroup_analyses(analysis: Analysis) -> None:
    """Adds every subgroup analysis of the study file: results, and a display of section `subgroups`.

    A level in which the ratio is not estimable (one arm only, no event, a monotone likelihood) keeps its row,
    with the reason; a test of interaction that needs such a ratio has none either.
    """
    for item in analysis.study.subgroup_analyses:
        data = _read(analysis, item)
        stem = f"subgroups.{slug(item.id)}.all"
        if data.arms is None:
            columns = (*curve_columns(data.endpoint), "ORR, % (95% CI)", "P (log-rank test)")
            notes = ["Median and objective response rate by level; P by the log-rank test between levels."]
            cells = _median_and_rate(data, stem, data.rows, None)
        else:
            first, second = data.arms
            columns = (
                f"{first.label}: N", "Events", f"{second.label}: N", "Events", "HR (95% CI)", "P (interaction)",
            )  # fmt: skip
            method = f"Cox, {item.ties} ties, {first.label} against {second.label}, Wald interval"
            notes = [
                (
                    f"Hazard ratio of {first.label} against {second.label}, below 1 in favour of {first.label}: Cox "
                    f"model of the arm in each level, {item.ties.title()} ties, Wald 95% intervals; P by the "
                    "likelihood ratio test of the interaction of arm and subgroup."
                )
            ]
            cells = _ratio(data, stem, data.rows, None, method)
        rows = [Row(label="All subjects", cells=cells)]
        for name in item.subgroups:
            subgroup = analysis.study.subgroup(name)
            lines, more = _level_rows(data, subgroup, "" if data.arms is None else method)
            rows += lines
            notes += more
        if any(
            result.value is not None and float(result.value) < _FEW
            for key, result in analysis.results.results.items()
            if key.startswith(f"subgroups.{slug(item.id)}.") and key.endswith(".events")
        ):
            notes.append("Levels with fewer than 10 events say little.")
        analysis.results.displays.append(
            Display(
                id=f"subgroups_{slug(item.id)}", title=item.label, section="subgroups", stub="Subgroup",
                columns=columns, rows=tuple(rows), notes=tuple(notes),
            )
        )  # fmt: skip
