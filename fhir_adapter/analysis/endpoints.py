"""Time-to-event results: Kaplan-Meier medians and landmarks, log-rank tests, follow-up, sensitivity analyses.

Ids: `survival.pfs.median|lower|upper|n|events`, `survival.pfs.at.3.rate|lower|upper|n_risk`,
`survival.pfs.by.<subgroup>.<level>.…`, `survival.pfs.by.<subgroup>.logrank.p`, `survival.followup.…`,
`sensitivity.<id>.…` with the same parts. The variants of an endpoint stand in one table with the main analysis.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from fhir_adapter.analysis.describe import describe
from fhir_adapter.analysis.descriptive import round_half_away
from fhir_adapter.analysis.levels import subgroup_levels
from fhir_adapter.analysis.selection import DAYS_PER_MONTH, Analysis, both, equals, slug
from fhir_adapter.analysis.survival import (
    KaplanMeierResult,
    LogRankResult,
    kaplan_meier,
    log_rank,
    reverse_km,
)
from fhir_adapter.conditions import Condition
from fhir_adapter.derive.adtte import planned_endpoints
from fhir_adapter.results import Cell, Display, Row
from fhir_adapter.study import Endpoint

__all__ = [
    "add_curve",
    "add_log_rank",
    "curve_columns",
    "endpoint_times",
    "endpoints",
    "immortal_time_notes",
]

#: Variables of ADSL that say how a subject responded during follow-up.
_BY_RESPONSE = {"BOR", "RSPFL", "DCFL", "BESTPCHG"}


def endpoint_times(rows: pd.DataFrame, endpoint: Endpoint) -> tuple[pd.Series[float], pd.Series[int]]:
    """Times in the endpoint's unit and events (1/0) of ADTTE rows."""
    divisor = DAYS_PER_MONTH if endpoint.unit == "months" else 1.0
    return rows["AVAL"].astype("float64") / divisor, (rows["CNSR"] == 0).astype("int64")


def _median(curve: KaplanMeierResult, endpoint: Endpoint) -> float | None:
    """The median by the endpoint's rule for a curve that rests at exactly one half (within 1.5e-8)."""
    if endpoint.median_on_plateau == "middle" or curve.median is None:
        return curve.median
    return next(step.time for step in curve.steps if step.surv <= 0.5 + 1.5e-8)


def _plateau_note(curve: KaplanMeierResult, endpoint: Endpoint, label: str) -> list[str]:
    """Says both readings of a median where they differ, because programs differ."""
    median = _median(curve, endpoint)
    if median == curve.median or median is None:
        return []
    middle = round_half_away(curve.median, 1)
    return [
        f"{label}: the curve rests at exactly 50%; its first time is shown, the middle would be {middle}."
    ]


def add_curve(
    analysis: Analysis, stem: str, curve: KaplanMeierResult, endpoint: Endpoint, condition: Condition | None
) -> tuple[Cell, ...]:
    """Adds the numbers of a curve under a stem of ids; returns the cells of `curve_columns`."""
    selector: dict[str, Any] = {
        "dataset": "ADTTE", "population": endpoint.population, "condition": condition, "variable": "AVAL",
    }  # fmt: skip
    unit, method = endpoint.unit, f"Kaplan-Meier, {endpoint.conf_type} 95% interval"

    def add(part: str, value: float | None, rule: str, **more: Any) -> str:
        return analysis.add(f"{stem}.{part}", value, rule, **(selector | more))

    add("n", curve.n, "n_subjects", unit="n", digits=0)
    add("events", curve.events, "n_events", unit="n", digits=0)
    lower, upper = curve.median_ci
    median = _median(curve, endpoint)
    reason = curve.reason or "not reached"
    time = {"unit": unit, "digits": 1, "method": method}
    ids = [
        add("median", median, "km_median", reason="" if median is not None else reason, **time),
        add("lower", lower, "km_median_bound", reason="" if lower is not None else "not reached", **time),
        add("upper", upper, "km_median_bound", reason="" if upper is not None else "not reached", **time),
    ]
    cells = [Cell("n", (f"{stem}.n",)), Cell("n", (f"{stem}.events",)), Cell("estimate_ci", tuple(ids))]
    for mark in curve.landmarks:
        at = f"at.{mark.time:g}".replace(".", "_").replace("at_", "at.", 1)
        parts = [
            add(
                f"{at}.{name}", None if value is None else 100 * value, "km_rate", unit="%", digits=1, method=method,
                reason="" if value is not None else "beyond the last observed time or not estimable",
            )
            for name, value in (("rate", mark.surv), ("lower", mark.lower), ("upper", mark.upper))
        ]  # fmt: skip
        add(f"{at}.n_risk", mark.n_risk, "km_at_risk", unit="n", digits=0)
        cells.append(Cell("estimate_ci", tuple(parts)))
    return tuple(cells)


def _lines(analysis: Analysis, stem: str, param: str, endpoint: Endpoint) -> tuple[list[Row], list[str]]:
    """Rows of all subjects and of each subgroup of the endpoint, and the notes they need."""
    of_param = equals("PARAMCD", param)
    rows = analysis.rows("ADTTE", endpoint.population, of_param)
    time, event = endpoint_times(rows, endpoint)
    landmarks = tuple(endpoint.landmarks)
    curve = kaplan_meier(time, event, conf_type=endpoint.conf_type, landmarks=landmarks)
    lines = [Row(label="All subjects", cells=add_curve(analysis, stem, curve, endpoint, of_param))]
    notes = _plateau_note(curve, endpoint, "All subjects")
    adsl = analysis.population(endpoint.population).set_index("USUBJID")
    for name in endpoint.by:
        subgroup = analysis.study.subgroup(name)
        levels, gone = subgroup_levels(subgroup, adsl)
        group = rows["USUBJID"].map(adsl[subgroup.variable])
        lines.append(Row(label=subgroup.label))
        for level in levels:
            chosen = (group == level).fillna(False).astype(bool)
            part = kaplan_meier(
                time[chosen], event[chosen], conf_type=endpoint.conf_type, landmarks=landmarks
            )
            condition = both(of_param, equals(subgroup.variable, level, dataset="ADSL"))
            label = subgroup.level_labels.get(level, level)
            notes += _plateau_note(part, endpoint, label)
            cells = add_curve(analysis, f"{stem}.by.{slug(name)}.{slug(level)}", part, endpoint, condition)
            lines.append(Row(label=label, cells=cells, level=1))
        test = log_rank(time, event, pd.Series(pd.Categorical(group, categories=levels, ordered=True)))
        p = add_log_rank(analysis, f"{stem}.by.{slug(name)}.logrank", test, endpoint, of_param)
        lines.append(
            Row(
                label="P (log-rank test)",
                cells=(Cell("text"), Cell("text"), Cell("p", (p,))),
                level=1,
            )
        )
        missing = int(group.isna().sum())
        notes += [f"{subgroup.label}: no subjects in {', '.join(gone)}."] if gone else []
        notes += [f"{subgroup.label}: not recorded for {missing}."] if missing else []
        notes += immortal_time_notes([subgroup.variable], subgroup.label)
    return lines, notes


def immortal_time_notes(variables: Iterable[str], label: str) -> list[str]:
    """The warning that belongs to survival by what happened during follow-up (Anderson et al. 1983)."""
    if not _BY_RESPONSE & set(variables):
        return []
    return [
        (
            f"{label}: the groups are made by the response during follow-up. Responders had to live until they "
            "responded (immortal time), so that the comparison favours them; a landmark analysis avoids this."
        )
    ]


def add_log_rank(
    analysis: Analysis, stem: str, test: LogRankResult, endpoint: Endpoint, condition: Condition | None
) -> str:
    """Adds P, statistic and degrees of freedom of a log-rank test; returns the id of P."""
    selector: dict[str, Any] = {
        "dataset": "ADTTE", "population": endpoint.population, "condition": condition, "variable": "AVAL",
    }  # fmt: skip
    for name, value, digits in (("p", test.p, 4), ("statistic", test.statistic, 4), ("df", test.df, 0)):
        analysis.add(
            f"{stem}.{name}", value, "test:log_rank", unit="p" if name == "p" else "", digits=digits,
            method="log-rank test", reason="" if value is not None else (test.reason or "not estimable"),
            **selector,
        )  # fmt: skip
    return f"{stem}.p"


def curve_columns(endpoint: Endpoint) -> tuple[str, ...]:
    """Heads of the columns that `add_curve` fills."""
    columns = ["N", "Events", f"Median, {endpoint.unit} (95% CI)"]
    columns += [f"At {mark:g} {endpoint.unit}, % (95% CI)" for mark in endpoint.landmarks]
    return tuple(columns)


def _endpoint_display(analysis: Analysis, stem: str, param: str, endpoint: Endpoint, section: str) -> None:
    lines, notes = _lines(analysis, stem, param, endpoint)
    notes.insert(0, f"{endpoint.label}: Kaplan-Meier estimates with {endpoint.conf_type} 95% intervals.")
    analysis.results.displays.append(
        Display(
            id=stem.replace(".", "_"), title=endpoint.label, section=section, stub="Group",
            columns=curve_columns(endpoint), rows=tuple(lines), notes=tuple(notes),
        )
    )  # fmt: skip
    _reasons(analysis, stem, param, endpoint, section)


def _variants(analysis: Analysis, base: Endpoint, items: list[tuple[str, str, Endpoint]]) -> None:
    """One table of the main analysis and its variants; those of another unit or other landmarks stand alone."""
    beside = [item for item in items if curve_columns(item[2]) == curve_columns(base)]
    rows, notes = [], []
    parts = [("Main analysis", f"survival.{slug(base.id)}", base.id, base)]
    parts += [(one.label, f"sensitivity.{slug(id_)}", param, one) for id_, param, one in beside]
    for label, stem, param, endpoint in parts if beside else []:
        lines, more = _lines(analysis, stem, param, endpoint)
        rows.append(Row(label=label))
        rows += [Row(label=line.label, cells=line.cells, level=line.level + 1) for line in lines]
        notes += [f"{label}: {note}" for note in more]
    if beside:
        analysis.results.displays.append(
            Display(
                id=f"sensitivity_{slug(base.id)}", title=f"{base.label}: sensitivity analyses",
                section="sensitivity", stub="Analysis", columns=curve_columns(base), rows=tuple(rows),
                notes=tuple(dict.fromkeys(notes)),
            )
        )  # fmt: skip
    for id_, param, endpoint in items:
        stem = f"sensitivity.{slug(id_)}"
        if (id_, param, endpoint) in beside:
            _reasons(analysis, stem, param, endpoint, "sensitivity")
        else:
            _endpoint_display(analysis, stem, param, endpoint, "sensitivity")


def _reasons(analysis: Analysis, stem: str, param: str, endpoint: Endpoint, section: str) -> None:
    """Events and censorings by reason (rules.md: each row says its event or censoring reason)."""
    rows = analysis.rows("ADTTE", endpoint.population, equals("PARAMCD", param))
    lines = []
    for variable, label in (("EVNTDESC", "Event"), ("CNSDTDSC", "Censored")):
        for reason in sorted(rows[variable].dropna().unique()):
            condition = both(equals("PARAMCD", param), equals(variable, str(reason)))
            ids = analysis.count(
                f"{stem}.reason.{slug(label)}.{slug(str(reason))}", "ADTTE", endpoint.population, condition,
                denominator=len(rows), variable=variable,
            )  # fmt: skip
            lines.append(Row(label=f"{label}: {reason}", cells=(Cell("n_pct", ids),)))
    if lines:
        analysis.results.displays.append(
            Display(
                id=f"{stem.replace('.', '_')}_reasons", title=f"{endpoint.label}: events and censoring by reason",
                section=section, stub="Reason", columns=("n (%)",), rows=tuple(lines),
            )
        )  # fmt: skip


def _follow_up(analysis: Analysis) -> None:
    """Median follow-up, observed (all times) and by reverse Kaplan-Meier on OS where the study has it."""
    population = "full"
    cell = describe(
        analysis, "survival.followup.observed", "median_range", dataset="ADSL", population=population,
        variable="FUPDUR", divide_by=DAYS_PER_MONTH, unit="months",
    )  # fmt: skip
    lines = [Row(label="Observed (median of all times)", cells=(cell,))]
    overall = next((item for item in analysis.study.endpoints if item.kind == "OS"), None)
    if overall is not None:
        condition = equals("PARAMCD", overall.id)
        rows = analysis.rows("ADTTE", overall.population, condition)
        time = rows["AVAL"].astype("float64") / DAYS_PER_MONTH
        curve = reverse_km(time, (rows["CNSR"] == 0).astype("int64"))
        ids = []
        for part, value in (
            ("median", curve.median), ("lower", curve.median_ci[0]), ("upper", curve.median_ci[1]),
        ):  # fmt: skip
            ids.append(
                analysis.add(
                    f"survival.followup.reverse_km.{part}", value, "reverse_km", dataset="ADTTE",
                    population=overall.population, condition=condition, variable="AVAL", unit="months", digits=1,
                    reason="" if value is not None else (curve.reason or "not reached"),
                    method="Kaplan-Meier of 1 - event",
                )
            )  # fmt: skip
        lines.append(Row(label="Reverse Kaplan-Meier (95% CI)", cells=(Cell("estimate_ci", tuple(ids)),)))
    analysis.results.displays.append(
        Display(
            id="followup", title="Follow-up, months from the baseline examination", section="survival",
            stub="Method", columns=("Median [range] or (95% CI)",), rows=tuple(lines),
        )
    )  # fmt: skip


def endpoints(analysis: Analysis) -> None:
    """Adds follow-up, every endpoint, and every sensitivity analysis of the study."""
    study = analysis.study
    if study.endpoints:
        _follow_up(analysis)
    variants = {item.id: one for item, one in zip(study.sensitivity, _changed(analysis), strict=True)}
    for endpoint in study.endpoints:
        _endpoint_display(analysis, f"survival.{slug(endpoint.id)}", endpoint.id, endpoint, "survival")
    for endpoint in study.endpoints:
        own = [item.id for item in study.sensitivity if item.endpoint == endpoint.id]
        _variants(analysis, endpoint, [(id_, *variants[id_]) for id_ in own])


def _changed(analysis: Analysis) -> list[tuple[str, Endpoint]]:
    """PARAMCD and settings of each sensitivity analysis, in the study's order, labelled as it is."""
    planned = list(planned_endpoints(analysis.study))[len(analysis.study.endpoints) :]
    return [(param, endpoint.model_copy(update={"label": label})) for param, label, endpoint in planned]
