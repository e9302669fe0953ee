"""The overview of adverse events.

Ids: `toxicity.emergent.n`, `toxicity.related.n`; of the tables' kind `toxicity.any_g<k>.n` (worst grade of a
subject), `no_grade`, `any_ge3`, `serious`, `reduced`, `interrupted`, `stopped`, `death`, `action_unknown`,
`unknown_grade`; of the other kind `toxicity.<kind>.any_g<k>.n` and so on; `toxicity.unknown_causality.n`; as the
administrations say, `toxicity.administration.reduced.n`, `interrupted`, `missed`, `stopped`.
"""

from __future__ import annotations

from fhir_adapter.analysis.selection import both, equals
from fhir_adapter.analysis.toxicity.scope import KINDS, Scope, any_of, grades_between
from fhir_adapter.conditions import AllOf, Comparison, Condition
from fhir_adapter.results import Cell, Row

__all__ = ["ACTIONS", "acted", "action_not_recorded", "overview"]

#: What was done about an event: part of the id, action in AEACNALL, words.
ACTIONS = (
    ("reduced", "DOSE REDUCED", "dose reduction"),
    ("interrupted", "DRUG INTERRUPTED", "interruption"),
    ("stopped", "DRUG WITHDRAWN", "stop of treatment"),
)
_ADMINISTRATION = (
    ("reduced", "REDUCTAE", "Dose reduced"),
    ("interrupted", "INTERRAE", "Administration held"),
    ("missed", "MISSEDAE", "Administration missed"),
    ("stopped", "STOPAE", "Drug stopped"),
)


def acted(action: str) -> Condition:
    """The condition that an action is among those that were taken about an event."""
    return Comparison(variable="AEACNALL", op="has", value=action)


def action_not_recorded() -> Condition:
    """The condition that nothing is known of what was done about an event."""
    return any_of(Comparison(variable="AEACNALL", op="is_null"), equals("AEACNALL", "UNKNOWN"))


def overview(scope: Scope) -> None:
    """Adds the overview: subjects with any event, by worst grade, serious, and by what followed from it."""
    other = next(kind for kind in KINDS if kind != scope.kind)
    prefix = {scope.kind: "", other: f"{other}."}
    kinds = tuple(KINDS)

    def line(label: str, id_: str, extra: Condition | None, level: int = 0, *, worst: bool = False) -> Row:
        cells = [
            scope.cell(
                prefix[kind] + id_, both(scope.worst(0, kind) if worst else scope.counted(kind), extra)
            )
            for kind in kinds
        ]
        return Row(label=label, cells=tuple(cells), level=level)

    rows = [Row(label="Any event", cells=tuple(scope.cell(kind, scope.counted(kind)) for kind in kinds))]
    rows += [
        line(f"Worst grade {grade}", f"any_g{grade}", equals("ATOXGR", grade), 1, worst=True)
        for grade in range(1, 6)
    ]
    missing = Comparison(variable="ATOXGR", op="is_null")
    rows += [
        line("Events without a grade only", "no_grade", missing, 1, worst=True),
        line("Event of grade 3 or more", "any_ge3", grades_between(3, 5)),
        line("Serious event", "serious", equals("AESER", "Y")),
        *(line(f"Event leading to {words}", id_, acted(action)) for id_, action, words in ACTIONS),
        line("Event leading to death", "death", equals("AESDTH", "Y")),
        line("Event without a recorded action", "action_unknown", action_not_recorded()),
        line("Event without a grade", "unknown_grade", missing),
    ]
    unknown = both(scope.counted("emergent"), Comparison(variable="AREL", op="is_null"))
    rows.append(
        Row(
            label="Event of unknown causality",
            cells=(scope.cell("unknown_causality", unknown), Cell("text", text="–")),
        )
    )
    if "ADEX" in scope.analysis.datasets:
        rows.append(Row(label="As the administrations say, because of an adverse event"))
        for id_, code, label in _ADMINISTRATION:
            held = AllOf(
                all=[
                    equals("PARAMCD", code),
                    Comparison(variable="EXTRT", op="is_null"),
                    Comparison(variable="AVAL", op="ge", value=1),
                ]
            )
            cell = scope.cell(
                f"administration.{id_}", both(scope.within, held), dataset="ADEX", variable="AVAL"
            )
            rows.append(Row(label=label, cells=(cell, Cell("text", text="–")), level=1))
    scope.show(
        "overview",
        "Adverse events: overview",
        "Subjects with",
        ("Treatment-emergent, n (%)", "Treatment-related, n (%)"),
        rows,
        f"N = {scope.total}. Graded by {scope.analysis.study.toxicity.dictionary}; each subject once, at the worst "
        "grade. Absent causality is unknown, not related.",
        "What an event led to is what its record, or an administration that names it, says; it is never inferred "
        "from dates.",
    )
