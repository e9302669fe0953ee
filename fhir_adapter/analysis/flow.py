"""The flow of subjects (STROBE item 13): candidates, treated, each exclusion, analysed.

Ids: `flow.<step>.n`. Excluded subjects are counted at the first exclusion that holds.
"""

from __future__ import annotations

from fhir_adapter.analysis.selection import Analysis, equals, slug
from fhir_adapter.cohort import CONSENT
from fhir_adapter.conditions import Comparison, Condition
from fhir_adapter.results import Cell, Display, Row

__all__ = ["flow"]


def flow(analysis: Analysis) -> None:
    """Adds the flow's counts and its table, and the sizes of the analysis sets."""
    cohort = analysis.study.cohort
    steps: list[tuple[str, str, Condition | None, int]] = [
        ("candidates", "Candidates", None, 0),
        ("treated", cohort.treated_label, Comparison(variable="TRTSDT", op="not_null"), 0),
    ]
    steps += [
        (f"excluded.{slug(item.id)}", f"Excluded: {item.label}", equals("EXCLID", item.id), 1)
        for item in cohort.exclusions
    ]
    if analysis.population("all")["EXCLID"].eq(CONSENT).any():
        # Before every other exclusion: nobody is studied against their will.
        refused = (
            f"excluded.{CONSENT}",
            "Excluded: consent denied or withdrawn",
            equals("EXCLID", CONSENT),
            1,
        )
        steps.insert(2, refused)
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
