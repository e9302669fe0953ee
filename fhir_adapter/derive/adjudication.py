"""Adjudication: whose reading counts where independent readers disagree.

Source: FDA guidance "Clinical Trial Imaging Endpoint Process Standards" (2018), on independent review with
adjudication; what readers must agree on, and who adjudicates, is the study's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fhir_adapter.accounting import Finding
from fhir_adapter.derive.baseline import Graded
from fhir_adapter.derive.findings import per_subject
from fhir_adapter.derive.recist import best_overall_response, confirmed_best_overall_response
from fhir_adapter.study import Adjudication, Study

__all__ = ["adjudicate", "select_readings"]


def adjudicate(
    readings: dict[str, Graded],
    responses: dict[str, pd.DataFrame],
    recorded: pd.DataFrame,
    study: Study,
    rules: Adjudication,
) -> tuple[pd.Series[Any], list[Finding]]:
    """The evaluator whose reading counts, for each subject.

    The first of the readers where they agree on what `on` lists. Where they do not, the adjudicator: by
    measurements of their own, else by recorded responses, which accept the first reader with the same responses
    on those days. A disagreement that nobody adjudicated is a finding, and no reading of the subject counts. A
    subject whom one reader alone read is a finding, and that reading counts.

    Args:
        readings: per evaluator what was graded.
        responses: per evaluator USUBJID, VISIT, ADT, OVRLRESP of the visits after baseline.
        recorded: USUBJID, ADT, AVALC, EVAL of recorded responses.
        study: best response and windows.
        rules: the study's adjudication.

    Returns:
        On USUBJID the evaluator, None where no reading counts; and the findings.
    """
    known = {name.upper(): name for name in readings}
    readers = [known[name.upper()] for name in rules.readers if name.upper() in known]
    findings = [
        Finding(
            "reader-without-readings", "a reader of the study file measured nothing", "derive", detail=name
        )
        for name in rules.readers
        if name.upper() not in known
    ]
    verdicts = {name: _verdicts(responses[name], readings[name], study) for name in readers}
    window = pd.Timedelta(days=study.response.visit_window_days)
    adjudicator = known.get(rules.adjudicator.upper())
    own = set(responses[adjudicator]["USUBJID"]) if adjudicator is not None else set()
    said = recorded[recorded["EVAL"].astype("string").str.upper().eq(rules.adjudicator.upper()).fillna(False)]
    chosen: dict[str, str | None] = {}
    once, open_ = [], []
    for subject in sorted(set().union(*(reading.visits["USUBJID"] for reading in readings.values()))):
        who = [name for name in readers if subject in verdicts[name].index]
        if len(who) == 1:
            once.append(subject)
        first = verdicts[who[0]].loc[subject] if who else None
        if first is not None and all(
            _agree(first, verdicts[name].loc[subject], rules, window) for name in who[1:]
        ):
            chosen[subject] = who[0]
        elif subject in own:
            chosen[subject] = adjudicator
        else:
            mine = said[said["USUBJID"] == subject]
            accepted = [name for name in who if _accepts(mine, responses[name], subject, window)]
            chosen[subject] = accepted[0] if accepted else None
            if not accepted:
                open_.append(subject)
    text = "one reader alone read the subject's scans; that reading counts"
    findings += per_subject("read-once", text, once)
    text = "the readers disagree and nobody adjudicated: no reading counts"
    findings += per_subject("not-adjudicated", text, open_)
    return pd.Series(chosen, dtype="object"), findings


def _verdicts(responses: pd.DataFrame, reading: Graded, study: Study) -> pd.DataFrame:
    """On USUBJID: best response, first progression and first response of a reader."""
    subjects = np.array(sorted(set(reading.visits["USUBJID"])), dtype=object)
    reference = pd.DataFrame(
        {"USUBJID": subjects, "ADT": reading.baseline["BASEDT"].reindex(subjects).to_numpy()}
    )
    rs = responses.rename(columns={"OVRLRESP": "AVALC"})[["USUBJID", "ADT", "AVALC"]]
    rs = rs[rs["AVALC"].notna()]
    best = study.response.best
    made = (
        confirmed_best_overall_response(
            rs,
            reference,
            ref_start_window=best.ref_start_window,
            ref_confirm=best.ref_confirm,
            max_nr_ne=best.max_nr_ne,
            accept_sd=best.accept_sd,
        )
        if best.confirmed
        else best_overall_response(rs, reference, ref_start_window=best.ref_start_window)
    )
    progression = rs[rs["AVALC"] == "PD"].groupby("USUBJID")["ADT"].min()
    response = rs[rs["AVALC"].isin(["CR", "PR"])].groupby("USUBJID")["ADT"].min()
    table = made.set_index("USUBJID")
    return pd.DataFrame(
        {
            "best_response": table["AVALC"],
            "progression_date": pd.to_datetime(progression.reindex(table.index)),
            "response_date": pd.to_datetime(response.reindex(table.index)),
        }
    )


def _agree(one: Any, other: Any, rules: Adjudication, window: pd.Timedelta) -> bool:
    """Whether two verdicts agree on what the study lists; dates of one visit are the same."""
    for what in rules.on:
        a, b = one[what], other[what]
        if what == "best_response":
            if a != b:
                return False
        elif pd.isna(a) != pd.isna(b) or (not pd.isna(a) and abs(a - b) > window):
            return False
    return True


def _accepts(said: pd.DataFrame, responses: pd.DataFrame, subject: str, window: pd.Timedelta) -> bool:
    """Whether an adjudicator's recorded responses are a reader's on those visits."""
    own = responses[responses["USUBJID"] == subject]
    if said.empty or own.empty:
        return False
    for day, word in said[["ADT", "AVALC"]].itertuples(index=False):
        gap = (own["ADT"] - day).abs()
        if gap.min() > window or own.loc[gap.idxmin(), "OVRLRESP"] != word:
            return False
    return True


def select_readings(readings: dict[str, Graded], chosen: pd.Series[Any]) -> Graded:
    """The readings that count, put together: of each subject those of the chosen evaluator."""

    def of(name: str, frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["USUBJID"].map(chosen).eq(name).fillna(False).astype(bool)]

    names = list(readings)
    return Graded(
        pd.concat([of(name, readings[name].tu) for name in names], ignore_index=True),
        pd.concat([of(name, readings[name].tr) for name in names], ignore_index=True),
        pd.concat([of(name, readings[name].visits) for name in names], ignore_index=True).sort_values(
            ["USUBJID", "FIRST", "LAST"], ignore_index=True, kind="stable"
        ),
        pd.concat(
            [
                readings[name].baseline[chosen.reindex(readings[name].baseline.index).eq(name).to_numpy()]
                for name in names
            ]
        ).sort_index(),
        sum(readings[name].earlier for name in names),
        [],
    )
