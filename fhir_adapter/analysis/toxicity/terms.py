"""Adverse events by term and by system organ class.

Ids: `toxicity.term.<term>.<grouping>.n|pct` and `toxicity.class.<class>.<grouping>.n|pct`, with the groupings of
the study file, `grade_any`, `grade_<k>`, `unknown_grade`, and of what followed `related`, `serious`, `reduced`,
`interrupted`, `stopped`, `death`, `action_unknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fhir_adapter.analysis.selection import both, equals
from fhir_adapter.analysis.toxicity.overview import ACTIONS, acted, action_not_recorded
from fhir_adapter.analysis.toxicity.scope import NOT_STATED, Scope, grades_between
from fhir_adapter.conditions import Comparison, Condition
from fhir_adapter.results import Row

__all__ = ["classes", "consequences", "grades", "terms"]

#: A column: part of the ids, head, condition on ADAE.
_Column = tuple[str, str, Condition | None]
_NO_GRADE = Comparison(variable="ATOXGR", op="is_null")
_CLASSES = (
    "Organ classes as the data, the study or CTCAE's categories state them; a subject counts once in each."
)


def _without_grade(scope: Scope) -> list[_Column]:
    """The column of missing grades, where there are any."""
    worst = scope.rows(scope.worst(2))
    missing = bool(len(worst)) and bool(worst["ATOXGR"].isna().any())
    return [("unknown_grade", "Grade not recorded", _NO_GRADE)] if missing else []


def _groupings(scope: Scope) -> list[_Column]:
    """The study's groupings; one that reaches grade 5 only where such events occur, unless it is the total."""
    columns: list[_Column] = []
    for item in scope.analysis.study.toxicity.groupings:
        graded = grades_between(item.low, item.high)
        if item.low == 1 or item.high < 5 or len(scope.rows(both(scope.worst(2), graded))):
            whole = (item.low, item.high) == (1, 5)
            columns.append((item.id, item.label, None if whole else graded))
    return columns + _without_grade(scope)


def _heads(columns: Sequence[_Column]) -> tuple[str, ...]:
    return tuple(f"{head}, n (%)" for _, head, _ in columns)


def _by_class(scope: Scope, columns: Sequence[_Column], at: Callable[[int], Condition | None]) -> list[Row]:
    """A row per organ class, then one per term of it; `at` gives the events of a level (1 class, 2 term)."""
    rows: list[Row] = []
    for organ, terms_ in scope.classes:
        of_class = both(at(1), scope.of_class(organ))
        cells = [
            scope.cell(f"{scope.class_id(organ)}.{id_}", both(of_class, part)) for id_, _, part in columns
        ]
        rows.append(Row(label=organ or NOT_STATED, cells=tuple(cells)))
        for term in terms_:
            of_term = both(at(2), equals("AEDECOD", term))
            cells = [
                scope.cell(f"{scope.term_id(term)}.{id_}", both(of_term, part)) for id_, _, part in columns
            ]
            rows.append(Row(label=scope.label(term), cells=tuple(cells), level=1))
    return rows


def terms(scope: Scope) -> None:
    """Adds the table by term in the study's groupings of grades, the most frequent term first."""
    columns = _groupings(scope)
    rows = []
    for term in scope.terms:
        of_term = both(scope.worst(2), equals("AEDECOD", term))
        cells = [scope.cell(f"{scope.term_id(term)}.{id_}", both(of_term, part)) for id_, _, part in columns]
        rows.append(Row(label=scope.label(term), cells=tuple(cells)))
    scope.show(
        "terms", f"{scope.words.capitalize()} adverse events by term and worst grade", "Term", _heads(columns), rows,
        f"A subject counts once per term, at the worst grade; % of {scope.total} subjects.",
    )  # fmt: skip


def classes(scope: Scope) -> None:
    """Adds the table by system organ class and term in the study's groupings of grades."""
    columns = _groupings(scope)
    scope.show(
        "classes", f"{scope.words.capitalize()} adverse events by system organ class, term and worst grade",
        "System organ class, term", _heads(columns), _by_class(scope, columns, scope.worst), _CLASSES,
    )  # fmt: skip


def grades(scope: Scope) -> None:
    """Adds the table by system organ class and term with a column for each grade."""
    columns: list[_Column] = [("grade_any", "Any grade", None)]
    columns += [(f"grade_{grade}", f"Grade {grade}", grades_between(grade, grade)) for grade in range(1, 6)]
    columns += _without_grade(scope)
    scope.show(
        "grades", f"{scope.words.capitalize()} adverse events by each worst grade", "System organ class, term",
        _heads(columns), _by_class(scope, columns, scope.worst), _CLASSES,
    )  # fmt: skip


def consequences(scope: Scope) -> None:
    """Adds the table by system organ class and term of what the events were and led to."""
    related: list[_Column] = [] if scope.kind == "related" else [("related", "Related", equals("AREL", "Y"))]
    columns: list[_Column] = [
        *related,
        ("serious", "Serious", equals("AESER", "Y")),
        *((id_, f"Leading to {words}", acted(action)) for id_, action, words in ACTIONS),
        ("death", "Leading to death", equals("AESDTH", "Y")),
        ("action_unknown", "Action not recorded", action_not_recorded()),
    ]
    scope.show(
        "consequences",
        f"{scope.words.capitalize()} adverse events: seriousness and what was done",
        "System organ class, term",
        _heads(columns),
        _by_class(scope, columns, lambda _level: scope.counted()),
        "Subjects with at least one such event; what is not recorded is not inferred from dates.",
    )
