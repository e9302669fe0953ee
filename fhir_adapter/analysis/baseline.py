"""The baseline table: characteristics of the subjects before treatment."""

from __future__ import annotations

from fhir_adapter.analysis.describe import describe
from fhir_adapter.analysis.levels import characteristic_levels
from fhir_adapter.analysis.selection import Analysis, both, equals, slug
from fhir_adapter.conditions import Comparison, Condition, Op
from fhir_adapter.results import Cell, Display, Row

__all__ = ["baseline_table"]

_FORM_LABEL = {"median_range": "Median [range]", "median_iqr": "Median [IQR]", "mean_sd": "Mean (SD)"}


def baseline_table(analysis: Analysis) -> None:
    """Adds the results `baseline.<row>.<level>.n|pct` and `baseline.<row>.<statistic>`, and their display.

    With `by_arm`, each arm has a column too and its results stand under `baseline.<arm>.…`.
    """
    study = analysis.study
    if not study.baseline.table:
        return
    population = study.baseline.population
    subjects = analysis.population(population)
    columns: list[tuple[str, str, Condition | None]] = []
    if study.baseline.by_arm:
        columns = [(f"{arm.id}.", arm.label, equals("TRT01A", arm.id)) for arm in study.treatment.arms]
    columns.append(("", "Total" if columns else "All subjects", None))
    heads, totals = [], []
    for prefix, label, arm in columns:
        total = len(analysis.rows("ADSL", population, arm))
        analysis.add(
            f"baseline.{prefix}n", total, "n_subjects", dataset="ADSL", population=population, condition=arm,
            unit="n", digits=0,
        )  # fmt: skip
        heads.append(f"{label} (N = {total})")
        totals.append(total)
    rows: list[Row] = []
    notes = ["Number (%) of subjects, unless a row says otherwise."]
    for part in study.baseline.table:
        definition = next((c for c in study.baseline.characteristics if c.variable == part.variable), None)
        title = part.label or (definition.label if definition else part.variable)
        rows.append(Row(label=title))
        without: list[str] = []
        for form in part.show:
            if form != "levels":
                cells = tuple(
                    describe(
                        analysis, f"baseline.{prefix}{part.id}", form, dataset="ADSL", population=population,
                        variable=part.variable, condition=both(arm, part.condition), digits=0,
                        unit=definition.unit if definition else "years" if part.variable == "AGE" else "",
                    )
                    for prefix, _, arm in columns
                )  # fmt: skip
                rows.append(Row(label=_FORM_LABEL[form], cells=cells, level=1))
                continue
            for level in characteristic_levels(study, part.variable, subjects, multiple=part.multiple):
                op: Op = "has" if part.multiple else "eq"
                has = Comparison(variable=part.variable, op=op, value=level.value)
                if analysis.rows("ADSL", population, both(part.condition, has)).empty:
                    without.append(level.label or level.value)
                    continue
                cells = tuple(
                    Cell(
                        "n_pct",
                        analysis.count(
                            f"baseline.{prefix}{part.id}.{slug(level.value)}", "ADSL", population,
                            both(arm, part.condition, has), denominator=total, variable=part.variable,
                        ),
                    )
                    for (prefix, _, arm), total in zip(columns, totals, strict=True)
                )  # fmt: skip
                rows.append(Row(label=level.label or level.value, cells=cells, level=1))
            if without:
                notes.append(f"{title}: no subjects in {', '.join(without)}.")
            gone = Comparison(variable=part.variable, op="is_null")
            if part.condition is None and len(analysis.rows("ADSL", population, gone)):
                cells = tuple(
                    Cell(
                        "n_pct",
                        analysis.count(
                            f"baseline.{prefix}{part.id}.missing", "ADSL", population, both(arm, gone),
                            denominator=total, variable=part.variable,
                        ),
                    )
                    for (prefix, _, arm), total in zip(columns, totals, strict=True)
                )  # fmt: skip
                rows.append(Row(label="Not recorded", cells=cells, level=1))
    analysis.results.displays.append(
        Display(
            id="baseline",
            title="Patients and disease characteristics at baseline",
            section="baseline",
            stub="Characteristic",
            columns=tuple(heads),
            rows=tuple(rows),
            notes=tuple(notes),
        )
    )
