"""Named summaries of the study file: counts by condition and described variables, grouped by section."""

from __future__ import annotations

from itertools import groupby

from fhir_adapter.analysis.describe import describe
from fhir_adapter.analysis.selection import Analysis, slug
from fhir_adapter.results import Cell, Display, Row

__all__ = ["summaries"]

_TITLE = {
    "exposure": "Treatment exposure",
    "response": "Response: further figures",
    "survival": "Survival: further figures",
    "toxicity": "Adverse events: further figures",
}


def summaries(analysis: Analysis) -> None:
    """Adds `<section>.<id>.n|pct` or `<section>.<id>.<statistic>` for each summary, one display per section."""
    ordered = sorted(analysis.study.summaries, key=lambda item: list(_TITLE).index(item.section))
    for section, items in groupby(ordered, key=lambda item: item.section):
        rows = []
        for item in items:
            for form in item.show:
                id_ = f"{section}.{slug(item.id)}"
                if form == "n_pct":
                    cell = Cell(
                        "n_pct", analysis.count(id_, item.dataset, item.population, item.condition)
                    )  # fmt: skip
                else:
                    cell = describe(
                        analysis, id_, form, dataset=item.dataset, population=item.population,
                        variable=str(item.variable), condition=item.condition, divide_by=item.divide_by,
                        digits=item.digits, unit=item.unit,
                    )  # fmt: skip
                rows.append(Row(label=item.label, cells=(cell,)))
        analysis.results.displays.append(
            Display(
                id=f"{section}_summary", title=_TITLE[section], section=section, stub="Measure",
                columns=("n (%), or median [range]",), rows=tuple(rows),
            )
        )  # fmt: skip
