"""Selections: which rows a result counts, as data, so that `explain` can replay every number.

A selection is a population (an analysis set), a dataset and a condition on its rows. All counts of the analysis go
through `Selection`, hence the subjects that `explain` reaches are by construction those that were counted.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from fhir_adapter.conditions import AllOf, Comparison, Condition, Mask, Truth
from fhir_adapter.datasets import metadata
from fhir_adapter.derive.dates import apply_cut_off
from fhir_adapter.results import Result, Results
from fhir_adapter.study import Study

__all__ = ["DAYS_PER_MONTH", "Analysis", "both", "equals", "replay", "slug", "up_to_cut_off"]

#: rules.md, Dates, units, identity: months are days / 30.4375.
DAYS_PER_MONTH = 30.4375

_CONDITION: TypeAdapter[Condition] = TypeAdapter(Condition)


def slug(text: str) -> str:
    """A part of a dotted id: lower case, words joined by `_`; comparison signs become words."""
    spelt = text.replace("<=", "le ").replace(">=", "ge ").replace("≤", "le ").replace("≥", "ge ")
    spelt = spelt.replace("<", "lt ").replace(">", "gt ").replace("–", "_")
    return re.sub(r"[^a-z0-9]+", "_", spelt.lower()).strip("_") or "blank"


def equals(variable: str, value: str | float, dataset: str | None = None) -> Comparison:
    """The condition that a variable has a value."""
    return Comparison(dataset=dataset, variable=variable, op="eq", value=value)


def both(*parts: Condition | None) -> Condition | None:
    """The condition that all of the given parts hold; None when nothing is asked."""
    given = [part for part in parts if part is not None]
    if len(given) < 2:
        return given[0] if given else None
    return AllOf(all=given)


def _population(adsl: pd.DataFrame, study: Study, population: str) -> pd.DataFrame:
    if population == "all":
        return adsl
    if population == "analysed":
        return adsl[adsl["ANALFL"] == "Y"]
    return adsl[adsl[study.analysis_set(population).flag] == "Y"]


class _Rows:
    """Rows of datasets by population and condition; the datasets do not change meanwhile."""

    def __init__(self, datasets: Mapping[str, pd.DataFrame], study: Study) -> None:
        self._study = study
        self._truth = Truth(datasets)
        self._inside: dict[tuple[str, str], Mask] = {}

    def held(self, population: str, dataset: str, condition: Condition | None) -> Mask:
        """Whether each row of a dataset is of a subject of the population, and satisfies the condition."""
        key = (population, dataset)
        if key not in self._inside:
            subjects = _population(self._truth.frames["ADSL"], self._study, population)["USUBJID"]
            self._inside[key] = self._truth.frames[dataset]["USUBJID"].isin(subjects).to_numpy()
        inside = self._inside[key]
        return inside if condition is None else inside & self._truth.of(condition, dataset)

    def of(self, population: str, dataset: str, condition: Condition | None) -> pd.DataFrame:
        """The rows themselves."""
        return self._truth.frames[dataset][self.held(population, dataset, condition)]

    def subjects(self, population: str, dataset: str, condition: Condition | None) -> int:
        """How many subjects they are of."""
        names = self._truth.frames[dataset]["USUBJID"].to_numpy()
        return int(pd.Series(names[self.held(population, dataset, condition)]).nunique())


def up_to_cut_off(datasets: Mapping[str, pd.DataFrame], data_cutoff: str) -> dict[str, pd.DataFrame]:
    """The datasets without the rows of SDTM-like ones that are dated after the cut-off (ISO date).

    The ADaM datasets were derived within it; what was mapped may reach beyond it where the cut-off is rolling.
    """
    sdtm = {name: rows for name, rows in datasets.items() if _is_sdtm(name)}
    kept, _ = apply_cut_off(sdtm, dt.date.fromisoformat(data_cutoff))
    return {**datasets, **kept}


def _is_sdtm(name: str) -> bool:
    known = metadata().get(name)
    return known is not None and known.model == "SDTM"


def replay(result: Result, datasets: Mapping[str, pd.DataFrame], study: Study) -> pd.DataFrame:
    """The rows that a result counts or describes; empty for a result without a selector."""
    if not result.dataset:
        return pd.DataFrame({"USUBJID": []})
    condition = None if result.condition is None else _CONDITION.validate_python(result.condition)
    return _Rows(datasets, study).of(result.population, result.dataset, condition)


@dataclass
class Analysis:
    """What every analysis module works on: the study, the datasets, and the results so far."""

    study: Study
    datasets: Mapping[str, pd.DataFrame]
    results: Results
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def _rows(self) -> _Rows:
        return _Rows(self.datasets, self.study)

    def population(self, population: str) -> pd.DataFrame:
        """ADSL rows of an analysis set (or `all`, `analysed`)."""
        return _population(self.datasets["ADSL"], self.study, population)

    def rows(self, dataset: str, population: str, condition: Condition | None = None) -> pd.DataFrame:
        """Rows of a dataset that satisfy a condition, of the subjects of a population."""
        return self._rows.of(population, dataset, condition)

    def add(
        self,
        id_: str,
        value: float | str | None,
        rule: str,
        *,
        dataset: str,
        population: str,
        condition: Condition | None = None,
        **more: Any,
    ) -> str:
        """Adds a result with its selector, and returns its id. A NaN never becomes a value."""
        if isinstance(value, float) and value != value:
            raise ValueError(f"{id_} is not a number")
        as_data = (
            None if condition is None else condition.model_dump(by_alias=True, exclude_none=True, mode="json")
        )
        # A numpy scalar becomes the Python number that JSON and comparisons expect.
        plain: Any = getattr(value, "item", lambda: value)()
        self.results.add(
            Result(
                id=id_,
                value=plain,
                rule=rule,
                dataset=dataset,
                population=population,
                condition=as_data,
                **more,
            )
        )
        return id_

    def count(
        self,
        id_: str,
        dataset: str,
        population: str,
        condition: Condition | None = None,
        *,
        denominator: int | None = None,
        variable: str = "",
    ) -> tuple[str, str]:
        """Counts subjects with at least one row that satisfies the condition: results `<id>.n` and `<id>.pct`.

        Args:
            id_: stem of the two ids.
            dataset: dataset of the rows.
            population: analysis set.
            condition: on the rows.
            denominator: subjects that make 100 %; default: the population.
            variable: what the result is about, for `explain`.

        Returns:
            The ids of the count and of the percentage (null when the denominator is 0).
        """
        subjects = self._rows.subjects(population, dataset, condition)
        total = len(self.population(population)) if denominator is None else denominator
        selector: dict[str, Any] = {
            "dataset": dataset, "population": population, "condition": condition, "variable": variable,
        }  # fmt: skip
        n = self.add(f"{id_}.n", subjects, "n_subjects", unit="n", digits=0, **selector)
        share = 100 * subjects / total if total else None
        pct = self.add(
            f"{id_}.pct", share, "percent_subjects", unit="%", digits=1, method=f"of {total}",
            reason="" if total else "no subjects", **selector,
        )  # fmt: skip
        return n, pct
