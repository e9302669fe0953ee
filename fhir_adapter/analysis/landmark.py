"""Landmark analyses: survival from a landmark on, by the response that was reached until then.

Who responds late has to live until then, so that survival from the start compared by response favours
responders (immortal time). Counting from a landmark and classifying by what was known at it avoids this
(Anderson, Cain and Gelber, J Clin Oncol 1983;1:710-9).

Ids: `landmark.<id>.responders|others.n|events|median|lower|upper|at.<time>.…`, `landmark.<id>.logrank.p`,
`landmark.<id>.excluded.events.n|censored.n`.
"""

from __future__ import annotations

import pandas as pd

from fhir_adapter.analysis.endpoints import add_curve, add_log_rank, curve_columns, endpoint_times
from fhir_adapter.analysis.selection import DAYS_PER_MONTH, Analysis, both, equals, slug
from fhir_adapter.analysis.survival import kaplan_meier, log_rank
from fhir_adapter.conditions import AnyOf, Comparison
from fhir_adapter.results import Cell, Display, Row
from fhir_adapter.study import LandmarkAnalysis

__all__ = ["landmark_analyses"]


def _analyse(analysis: Analysis, item: LandmarkAnalysis) -> None:
    endpoint = analysis.study.endpoint(item.endpoint)
    days = item.landmark * (DAYS_PER_MONTH if endpoint.unit == "months" else 1.0)
    first = int(endpoint.count_first_day)
    of_param = equals("PARAMCD", endpoint.id)
    after = Comparison(variable="AVAL", op="gt", value=days + first)
    until = Comparison(variable="AVAL", op="le", value=days + first)
    responded = Comparison(variable="RSPDY", op="le", value=days)
    others = AnyOf(
        any=[Comparison(variable="RSPDY", op="is_null"), Comparison(variable="RSPDY", op="gt", value=days)]
    )
    stem = f"landmark.{slug(item.id)}"
    at_landmark = both(of_param, after)
    parts, lines = [], []
    for name, label, condition in (
        ("responders", f"Response until {item.landmark:g} {endpoint.unit}", both(of_param, after, responded)),
        ("others", f"No response until {item.landmark:g} {endpoint.unit}", both(of_param, after, others)),
    ):
        rows = analysis.rows("ADTTE", endpoint.population, condition)
        time, event = endpoint_times(rows.assign(AVAL=rows["AVAL"] - days - first), endpoint)
        curve = kaplan_meier(time, event, conf_type=endpoint.conf_type, landmarks=tuple(endpoint.landmarks))
        cells = add_curve(analysis, f"{stem}.{name}", curve, endpoint, condition)
        lines.append(Row(label=label, cells=cells))
        parts.append(pd.DataFrame({"time": time, "event": event, "group": name}))
    both_groups = pd.concat(parts, ignore_index=True)
    group = pd.Categorical(both_groups["group"], categories=["responders", "others"])
    test = log_rank(both_groups["time"], both_groups["event"], pd.Series(group))
    p = add_log_rank(analysis, f"{stem}.logrank", test, endpoint, at_landmark)
    lines.append(Row(label="P (log-rank test)", cells=(Cell("text"), Cell("text"), Cell("p", (p,)))))
    gone = []
    for name, condition in (
        ("events", both(of_param, until, equals("CNSR", 0))),
        ("censored", both(of_param, until, Comparison(variable="CNSR", op="gt", value=0))),
    ):
        number = len(analysis.rows("ADTTE", endpoint.population, condition))
        id_ = f"{stem}.excluded.{name}.n"
        analysis.add(
            id_, number, "n_subjects", dataset="ADTTE", population=endpoint.population, condition=condition,
            variable="AVAL", unit="n", digits=0,
        )  # fmt: skip
        gone.append((id_, number))
    lines.append(Row(label="Event until the landmark: not analysed", cells=(Cell("n", (gone[0][0],)),)))
    lines.append(Row(label="Censored until the landmark: not analysed", cells=(Cell("n", (gone[1][0],)),)))
    kind = "confirmed" if endpoint.response == "confirmed" else "unconfirmed"
    notes = [
        (
            f"{endpoint.label} from the landmark at {item.landmark:g} {endpoint.unit} on, of those then "
            f"still followed without event, by the ({kind}) response reached until then."
        ),
        (
            "Survival from the start compared by response favours responders, who had to live until they responded "
            "(immortal time); counting from the landmark avoids this."
        ),
    ]
    analysis.results.displays.append(
        Display(
            id=f"landmark_{slug(item.id)}", title=item.label, section="landmark", stub="Group",
            columns=curve_columns(endpoint), rows=tuple(lines), notes=tuple(notes),
        )
    )  # fmt: skip


def landmark_analyses(analysis: Analysis) -> None:
    """Adds every landmark analysis of the study file: results, and a display of section `landmark`."""
    for item in analysis.study.landmark_analyses:
        _analyse(analysis, item)
