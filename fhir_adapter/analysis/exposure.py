"""Exposure by drug: time on treatment, cycles, dose intensity, and doses reduced, held, missed and stopped.

Ids: `exposure.drug.<drug>.<measure>.n|pct` or `.median|min|max`, of all drugs together `exposure.drug.any...`, of
an arm `exposure.<arm>.drug...`.
"""

from __future__ import annotations

from typing import Final

import pandas as pd

from fhir_adapter.analysis.describe import describe
from fhir_adapter.analysis.selection import DAYS_PER_MONTH, Analysis, both, equals, slug
from fhir_adapter.conditions import AllOf, Comparison, Condition
from fhir_adapter.results import Cell, Display, Row
from fhir_adapter.study import Drug

__all__ = ["exposure_table"]

#: PARAMCD of what one plan is needed for: the planned dose, the planned days, or both.
_NEEDS: Final = {
    "CYCCOMP": (False, True),
    "UNRECD": (False, True),
    "DOSEGVN": (True, False),
    "DINT": (True, False),
    "LOWLVL": (True, False),
    "RDI": (True, True),
}
#: Measures that are described: part of the id, PARAMCD, label, divisor, unit, digits.
_DESCRIBED: Final = (
    ("duration", "DURD", "Time on treatment, months, median [range]", DAYS_PER_MONTH, "months", 1),
    ("cycles", "CYCLES", "Cycles started, median [range]", 1.0, "", 0),
    ("cycles_completed", "CYCCOMP", "Cycles with every planned administration, median [range]", 1.0, "", 0),
    ("dose", "DOSEGVN", "Dose given, median [range]", 1.0, "", 0),
    ("intensity", "DINT", "Dose intensity per week, median [range]", 1.0, "", 1),
    ("relative_intensity", "RDI", "Relative dose intensity, %, median [range]", 1.0, "%", 1),
)
#: Subjects with at least one: part of the id, PARAMCD, label, level.
_COUNTED: Final = (
    ("reduced", "REDUCT", "Dose reduced", 0),
    ("reduced_ae", "REDUCTAE", "because of an adverse event", 1),
    ("interrupted", "INTERR", "Administration held", 0),
    ("interrupted_ae", "INTERRAE", "because of an adverse event", 1),
    ("missed", "MISSED", "Administration missed", 0),
    ("missed_ae", "MISSEDAE", "because of an adverse event", 1),
    ("unrecorded", "UNRECD", "Planned administration without a record", 0),
    ("stopped", "STOPFL", "Stopped", 0),
    ("stopped_ae", "STOPAE", "because of an adverse event", 1),
)
_NOTE: Final = (
    "% of the subjects with a record of the drug. Time on treatment for dose intensity runs from the first day of "
    "the first cycle to the planned end of the last."
)
_NOTHING: Final = Cell("text", text="–")


def exposure_table(analysis: Analysis) -> None:
    """Adds the table of exposure, a column per drug, for all subjects and for each arm.

    What is measured against the plan is described over the subjects in whom it is estimable; the others are
    counted, with the reasons. A drug without a plan in the study file has no such figures.
    """
    if not analysis.study.exposure.by_drug or "ADEX" not in analysis.datasets:
        return
    _table(analysis, "exposure", None, "")
    for arm in analysis.study.treatment.arms:
        within = equals("TRT01A", arm.id, dataset="ADSL")
        _table(analysis, f"exposure.{slug(arm.id)}", within, f" ({arm.label})")


def _parameter(code: str, drug: Drug | None) -> Condition:
    """Rows of a parameter of a drug, or of all drugs together."""
    of_drug = Comparison(variable="EXTRT", op="is_null") if drug is None else equals("EXTRT", drug.concept)
    return AllOf(all=[equals("PARAMCD", code), of_drug])


def _table(analysis: Analysis, stem: str, within: Condition | None, title: str) -> None:
    drugs: list[Drug | None] = [
        drug
        for drug in analysis.study.treatment.drugs
        if within is None or len(_rows(analysis, within, "DOSES", drug))
    ]
    if len(drugs) != 1:
        drugs = [None, *drugs]
    columns = [_Column(analysis, stem, within, drug) for drug in drugs]
    rows = [
        Row(label="Subjects with a record", cells=tuple(column.with_record() for column in columns)),
        Row(
            label="Subjects treated, n (%)",
            cells=tuple(column.count("treated", "DOSES") for column in columns),
        ),
    ]
    for id_, code, label, divisor, unit, digits in _DESCRIBED:
        cells = tuple(column.described(id_, code, divisor, unit, digits) for column in columns)
        rows.append(Row(label=label, cells=cells))
        if code == "RDI":
            rows += _groups(analysis, columns)
    for id_, code, label, level in _COUNTED:
        cells = tuple(column.count(id_, code) for column in columns)
        rows.append(Row(label=f"{label}, n (%)", cells=cells, level=level))
    reasons = sorted({reason for column in columns for reason in column.reasons()})
    analysis.results.displays.append(
        Display(
            id=f"{stem.replace('.', '_')}_drugs",
            title=f"Treatment exposure by drug{title}",
            section="exposure",
            stub="Measure",
            columns=tuple(column.head for column in columns),
            rows=tuple(rows),
            notes=(_NOTE, *((f"Not estimable: {'; '.join(reasons)}.",) if reasons else ())),
        )
    )


def _rows(analysis: Analysis, within: Condition | None, code: str, drug: Drug | None) -> pd.DataFrame:
    population = analysis.study.exposure.population
    return analysis.rows("ADEX", population, both(within, _parameter(code, drug)))


def _groups(analysis: Analysis, columns: list[_Column]) -> list[Row]:
    """Subjects by relative dose intensity, and those in whom it is not estimable."""
    bounds = analysis.study.exposure.intensity_levels
    groups: list[tuple[str, str, Condition]] = []
    for low, high in zip([None, *bounds], [*bounds, None], strict=True):
        parts: list[Condition] = []
        if low is not None:
            parts.append(Comparison(variable="AVAL", op="ge", value=low))
        if high is not None:
            parts.append(Comparison(variable="AVAL", op="lt", value=high))
        label = f"≥{low:g}%" if high is None else f"<{high:g}%" if low is None else f"{low:g} to <{high:g}%"
        groups.append((slug(label), label, AllOf(all=parts)))
    groups.append(("not_estimable", "Not estimable", Comparison(variable="AVAL", op="is_null")))
    return [
        Row(
            label=f"{label}, n (%)",
            cells=tuple(column.count(f"relative_intensity.{id_}", "RDI", extra) for column in columns),
            level=1,
        )
        for id_, label, extra in groups
    ]


class _Column:
    """A column of the table: a drug, or all drugs together (None)."""

    def __init__(self, analysis: Analysis, stem: str, within: Condition | None, drug: Drug | None) -> None:
        self._analysis, self._within, self._drug = analysis, within, drug
        self._stem = f"{stem}.drug.{'any' if drug is None else slug(drug.id)}"
        self._population = analysis.study.exposure.population
        self._total = int(_rows(analysis, within, "DOSES", drug)["USUBJID"].nunique())

    @property
    def head(self) -> str:
        """Its label, with the unit of the planned dose."""
        if self._drug is None:
            return "All drugs"
        return f"{self._drug.label} ({self._drug.unit})" if self._drug.unit else self._drug.label

    def _unplanned(self, code: str) -> str:
        """Why a figure cannot be: the study file does not plan what it needs; empty if it does."""
        dose, days = _NEEDS.get(code, (False, False))
        if self._drug is None:
            return ""
        if dose and self._drug.dose is None:
            return "the study file plans no dose"
        return "the study file names no days of the cycle" if days and not self._drug.days else ""

    def _applies(self, code: str) -> bool:
        """Whether a figure can be given over all drugs: what a plan is needed for, or a dose, cannot."""
        return self._drug is not None or code not in _NEEDS

    def with_record(self) -> Cell:
        """Subjects with a given, held or missed administration."""
        n = self._analysis.add(
            f"{self._stem}.n", self._total, "n_subjects", dataset="ADEX", population=self._population,
            condition=both(self._within, _parameter("DOSES", self._drug)), variable="AVAL", unit="n", digits=0,
        )  # fmt: skip
        return Cell("n", (n,))

    def count(self, id_: str, code: str, extra: Condition | None = None) -> Cell:
        """Subjects whose parameter is 1 or more, or satisfies another condition."""
        if not self._applies(code) or self._unplanned(code):
            return _NOTHING
        held = extra if extra is not None else Comparison(variable="AVAL", op="ge", value=1)
        condition = both(self._within, _parameter(code, self._drug), held)
        ids = self._analysis.count(
            f"{self._stem}.{id_}",
            "ADEX",
            self._population,
            condition,
            denominator=self._total,
            variable="AVAL",
        )
        return Cell("n_pct", ids)

    def described(self, id_: str, code: str, divisor: float, unit: str, digits: int) -> Cell:
        """Median and range of a parameter."""
        if not self._applies(code):
            return _NOTHING
        return describe(
            self._analysis, f"{self._stem}.{id_}", "median_range", dataset="ADEX", population=self._population,
            variable="AVAL", condition=both(self._within, _parameter(code, self._drug)), divide_by=divisor,
            unit=unit, digits=digits, reason=self._unplanned(code) or "no values",
        )  # fmt: skip

    def reasons(self) -> list[str]:
        """Why figures of this drug are not estimable, with the number of subjects."""
        if self._drug is None:
            return []
        unplanned = {self._unplanned(code) for code in _NEEDS} - {""}
        told = [f"{self._drug.label}: {reason}" for reason in sorted(unplanned)]
        rows = _rows(self._analysis, self._within, "DINT", self._drug)
        counts = rows.loc[rows["AVAL"].isna(), "REASND"].fillna("no reason known").value_counts()
        return told + [
            f"{self._drug.label}: {reason} ({number})" for reason, number in sorted(counts.items())
        ]
