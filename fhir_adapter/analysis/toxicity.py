"""Adverse events: overview and table by term at the worst grade (rules.md, Toxicity).

Ids: `toxicity.any.n`, `toxicity.any_g<k>.n`, `toxicity.serious.n`, `toxicity.term.<term>.<grouping>.n|pct`,
`toxicity.unknown_grade.n`, `toxicity.unknown_causality.n`.
"""

from __future__ import annotations

from fhir_adapter.analysis.selection import Analysis, both, equals, slug
from fhir_adapter.conditions import AllOf, Comparison, Condition
from fhir_adapter.results import Cell, Display, Row

__all__ = ["toxicity"]


def _between(low: int, high: int) -> Condition:
    return AllOf(
        all=[
            Comparison(variable="ATOXGR", op="ge", value=low),
            Comparison(variable="ATOXGR", op="le", value=high),
        ]
    )


def toxicity(analysis: Analysis) -> None:
    """Adds the overview and the table by term, for all subjects and with `by_arm` for each arm.

    A subject counts once per term, at the worst grade; a missing grade stays visible in its own column; absent
    causality is unknown, not related. With `related_only` the table counts related events, and the overview shows
    both. An arm's ids have its id after `toxicity.`.
    """
    _tables(analysis, "toxicity", None, "")
    if analysis.study.toxicity.by_arm:
        for arm in analysis.study.treatment.arms:
            within = equals("TRT01A", arm.id, dataset="ADSL")
            _tables(analysis, f"toxicity.{slug(arm.id)}", within, f" ({arm.label})")


def _tables(analysis: Analysis, stem: str, within: Condition | None, title: str) -> None:
    """Overview and table of the subjects that satisfy `within`, under ids that begin with `stem`."""
    settings = analysis.study.toxicity
    population = settings.population
    total = analysis.rows("ADSL", population, within)["USUBJID"].nunique()
    name = stem.replace(".", "_")
    emergent = both(within, equals("TRTEMFL", "Y"))
    related = both(emergent, equals("AREL", "Y"))
    counted = related if settings.related_only else emergent
    kind = "treatment-related" if settings.related_only else "treatment-emergent"

    def line(id_: str, label: str, condition: Condition | None, level: int = 0) -> Row:
        ids = analysis.count(
            f"{stem}.{id_}", "ADAE", population, condition, denominator=total, variable="AEDECOD"
        )
        return Row(label=label, cells=(Cell("n_pct", ids),), level=level)

    overview = [
        line("emergent", "Any treatment-emergent event", emergent),
        line("related", "Any treatment-related event", related),
    ]
    for grade in range(1, 6):
        worst = both(counted, Comparison(variable="ATOXGR", op="eq", value=grade))
        overview.append(line(f"any_g{grade}", f"With a {kind} event of grade {grade}", worst, 1))
    overview += [
        line("any_ge3", f"Any {kind} event of grade 3 or more", both(counted, _between(3, 5))),
        line("serious", f"Any serious {kind} event", both(counted, equals("AESER", "Y"))),
        line(
            "unknown_grade", f"With a {kind} event without a grade",
            both(counted, Comparison(variable="ATOXGR", op="is_null")),
        ),
        line(
            "unknown_causality", "With an event of unknown causality",
            both(emergent, Comparison(variable="AREL", op="is_null")),
        ),
    ]  # fmt: skip
    analysis.results.displays.append(
        Display(
            id=f"{name}_overview", title=f"Adverse events: overview{title}", section="toxicity", stub="Subjects with",
            columns=(f"N = {total}, n (%)",), rows=tuple(overview),
            notes=(f"Graded by {settings.dictionary}. Absent causality is unknown, not related.",),
        )
    )  # fmt: skip

    once = both(counted, equals("AOCCIFL", "Y"))
    worst_rows = analysis.rows("ADAE", population, once)
    frequency = worst_rows.groupby("AEDECOD")["USUBJID"].nunique()
    terms = sorted(
        ((str(term), int(n)) for term, n in frequency.items()), key=lambda item: (-item[1], item[0])
    )
    no_grade = bool(len(worst_rows)) and bool(worst_rows["ATOXGR"].isna().any())
    rows = []
    groupings = [
        item for item in settings.groupings
        if item.low == 1 or len(analysis.rows("ADAE", population, both(once, _between(item.low, item.high))))
        or item.high < 5
    ]  # fmt: skip
    for term, _ in terms:
        cells = []
        at_term = both(once, equals("AEDECOD", term))
        for item in groupings:
            everything = (item.low, item.high) == (1, 5)
            graded = at_term if everything else both(at_term, _between(item.low, item.high))
            id_ = f"{stem}.term.{slug(term)}.{item.id}"
            cells.append(
                Cell("n_pct", analysis.count(id_, "ADAE", population, graded, denominator=total, variable="AEDECOD"))
            )  # fmt: skip
        if no_grade:
            missing = both(at_term, Comparison(variable="ATOXGR", op="is_null"))
            id_ = f"{stem}.term.{slug(term)}.unknown_grade"
            cells.append(
                Cell(
                    "n_pct",
                    analysis.count(id_, "ADAE", population, missing, denominator=total, variable="AEDECOD"),
                )
            )
        rows.append(Row(label=settings.term_labels.get(term, term), cells=tuple(cells)))
    heads = [item.label for item in groupings] + (["Grade not recorded"] if no_grade else [])
    analysis.results.displays.append(
        Display(
            id=f"{name}_terms",
            title=f"{kind.capitalize()} adverse events by term and worst grade{title}",
            section="toxicity",
            stub="Term",
            columns=tuple(f"{head}, n (%)" for head in heads),
            rows=tuple(rows),
            notes=(
                f"A subject counts once per term, at the worst grade; % of {total} subjects.",
                *(() if rows else ("No such event.",)),
            ),
        )
    )
