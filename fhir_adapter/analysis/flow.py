"""The flow of subjects (STROBE item 13): candidates, treated, each exclusion, analysed.

Ids: `flow.<step>.n`. Excluded subjects are counted at the first exclusion that holds.
"""

from __future__ import annotations

from fhir_adapter.analysis.selection import Analysis, equals, slug
from fhir_adapter.cohort import CONSENT
from fhir_adapter.conditions import AllOf, Comparison, Condition, NotOf
from fhir_adapter.results import Cell, Display, Row

__all__ = ["flow"]


def flow(analysis: Analysis) -> None:
    """Adds the flow's counts and its table, and the sizes of the analysis sets."""
    cohort = analysis.study.cohort
    treated: Condition = Comparison(variable="TRTSDT", op="not_null")
    refusals = bool(analysis.population("all")["EXCLID"].eq(CONSENT).any())
    if refusals:
        treated = AllOf(all=[treated, NotOf(not_=equals("EXCLID", CONSENT))])
    steps: list[tuple[str, str, Condition | None, int]] = [
        ("candidates", "Candidates", None, 0),
        ("treated", cohort.treated_label, treated, 0),
    ]
    steps += [
        (f"excluded.{slug(item.id)}", f"Excluded: {item.label}", equals("EXCLID", item.id), 1)
        for item in cohort.exclusions
    ]
    if refusals:
        # Before everything else: nobody is studied against their will, and nothing more is known of them.
        refused = (
            f"excluded.{CONSENT}",
            "Excluded: consent denied or withdrawn",
            equals("EXCLID", CONSENT),
            1,
        )
        steps.insert(1, refused)
    steps.append(("analysed", cohort.analysed_label, equals("ANALFL", "Y"), 0))
    rows = [
        Row(
            label=label,
            cells=(
                Cell("n", (analysis.count(f"flow.{id_}", "ADSL", "all", condition)[0],)),
            ),
            level=level,
        )
        for id_, label, condition, level in steps
    ]  # fmt: skip
    rows += [
        Row(
            label=item.label,
            cells=(
                Cell(
                    "n",
                    (analysis.count(f"flow.set.{slug(item.id)}", "ADSL", "all", equals(item.flag, "Y"))[0],),
                ),
            ),
            level=1,
        )
        for item in analysis.study.analysis_sets
    ]
    analysis.results.displays.append(
        Display(
            id="flow",
            title="Flow of subjects",
            section="flow",
            columns=("Subjects",),
            rows=tuple(rows),
            stub="Step",
        )
    )
