"""The list of severe events. Id: `toxicity.listing.n`, events that it is of."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from fhir_adapter.analysis.selection import both
from fhir_adapter.analysis.toxicity.scope import Scope, grades_between
from fhir_adapter.conditions import Comparison
from fhir_adapter.results import Cell, Row

__all__ = ["listing"]

#: By what is shown, so that the order in which events were recorded changes nothing.
_ORDER = ["USUBJID", "ASTDY", "AEDECOD", "ATOXGR", "AENDT", "AEOUT", "AREL", "AESER", "AEACNALL", "ASEQ"]
_NOT_RECORDED = "not recorded"
_COLUMNS = ("Term", "Grade", "Onset day", "End day", "Outcome", "Related", "Serious", "Action with treatment")


def listing(scope: Scope) -> None:
    """Adds the list of emergent events of `listing_min_grade` or more, related or not, by subject and onset.

    Subjects appear under their USUBJID, a study number or pseudonym; days are counted from the first dose, so
    that the list holds no date.
    """
    settings = scope.analysis.study.toxicity
    least = settings.listing_min_grade
    severe = both(scope.counted("emergent"), grades_between(least, 5))
    events = scope.rows(severe).sort_values(_ORDER, na_position="last")
    scope.analysis.add(
        f"{scope.stem}.listing.n", len(events), "n_events", dataset="ADAE", population=scope.population,
        condition=severe, variable="AEDECOD", unit="n", digits=0,
    )  # fmt: skip
    starts = scope.analysis.rows("ADSL", scope.population).set_index("USUBJID")["TRTSDT"]
    end = (events["AENDT"] - events["USUBJID"].map(starts)).dt.days
    end_day = end.where(end < 0, end + 1)
    rows = [
        _row(scope, event, last)
        for event, last in zip(
            events.head(settings.listing_rows).to_dict("records"),
            end_day.head(settings.listing_rows),
            strict=True,
        )
    ]
    ungraded = len(scope.rows(both(scope.counted("emergent"), Comparison(variable="ATOXGR", op="is_null"))))
    notes = ["Days are counted from the first dose, which is day 1."]
    if ungraded:
        notes.append(f"Events without a grade, not in this list: {ungraded}.")
    if len(events) > settings.listing_rows:
        notes.append(
            f"The first {settings.listing_rows} of {len(events)} events; all are in the dataset ADAE."
        )
    scope.show(
        "listing",
        f"Treatment-emergent adverse events of grade {least} or more",
        "Subject",
        _COLUMNS,
        rows,
        *notes,
    )


def _row(scope: Scope, event: Mapping[Hashable, Any], end_day: float) -> Row:
    related = {"Y": "yes", "N": "no"}.get(_text(event["AREL"]), "unknown")
    serious = {"Y": "yes", "N": "no"}.get(_text(event["AESER"]), _NOT_RECORDED)
    actions = _text(event["AEACNALL"]).replace(";", ", ").lower() or _NOT_RECORDED
    texts = (
        scope.label(_text(event["AEDECOD"])),
        _number(event["ATOXGR"]),
        _number(event["ASTDY"]),
        _number(end_day),
        _text(event["AEOUT"]).lower() or _NOT_RECORDED,
        related,
        serious,
        actions,
    )
    return Row(label=str(event["USUBJID"]), cells=tuple(Cell("text", text=text) for text in texts))


def _text(value: Any) -> str:
    return "" if value is None or pd.isna(value) else str(value)


def _number(value: Any) -> str:
    return _NOT_RECORDED if pd.isna(value) else str(int(value)).replace("-", "\N{MINUS SIGN}")
