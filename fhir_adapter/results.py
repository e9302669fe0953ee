"""Typed results: every number of the report, by a stable dotted id, with the selector that reproduces it.

A result says which rows it counts (dataset, population, condition), which variable it reads and by which rule, so
that `explain` can replay it. A display is a table of the report: rows of cells, each cell naming results.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from fhir_adapter.errors import RunDirError

__all__ = ["Cell", "Display", "Result", "Results", "Row", "read_results"]

Number = float | int | str | None


class Result(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One number of the report.

    `value` is None when the number is not reached or not estimable, and `reason` then says why.
    `dataset`, `population` (an analysis set, or "all"), `condition` (as in the study file, on `dataset`) and
    `variable` select the rows; `rule` names the computation. `unit` is one of n, %, months, days, mm, mm %, p,
    ratio, or empty. `digits` is the number of decimals that the report prints.
    """

    id: str
    value: Number
    rule: str
    dataset: str = ""
    population: str = ""
    condition: dict[str, Any] | None = None
    variable: str = ""
    unit: str = ""
    digits: int | None = None
    reason: str = ""
    method: str = ""


class Cell(msgspec.Struct, frozen=True, omit_defaults=True):
    """A cell: result ids and how they are written together.

    `form` is one of: n, n_pct (n, percent), pct, value, median_range (median, min, max), estimate_ci
    (estimate, lower, upper), range (lower, upper), p, text (then `text` is printed).
    """

    form: str
    results: tuple[str, ...] = ()
    text: str = ""


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of a display: its label, indentation level, and cells (none for a heading)."""

    label: str
    cells: tuple[Cell, ...] = ()
    level: int = 0


class Display(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table of the report. `columns` heads the cells; the label column has `stub` as its head."""

    id: str
    title: str
    section: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    stub: str = ""
    notes: tuple[str, ...] = ()


class Results(msgspec.Struct, kw_only=True):
    """All results and displays of a run, in the order in which the report shows them."""

    study: str
    data_cutoff: str
    results: dict[str, Result] = msgspec.field(default_factory=dict)
    displays: list[Display] = msgspec.field(default_factory=list)
    methods: list[str] = msgspec.field(default_factory=list)

    def add(self, result: Result) -> Result:
        """Adds a result.

        Raises:
            ValueError: when the id is taken by another result: ids are stable names, not counters.
        """
        known = self.results.get(result.id)
        if known is not None and known != result:
            raise ValueError(f"two results have the id {result.id}")
        self.results[result.id] = result
        return result

    def __getitem__(self, key: str) -> Result:
        return self.results[key]

    def encode(self) -> bytes:
        """Deterministic JSON, indented, ending with a line feed."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def read_results(path: Path) -> Results:
    """Reads `results.json`.

    Raises:
        RunDirError: when the file is missing or not of this form.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except (OSError, msgspec.DecodeError) as error:
        raise RunDirError(
            "results.json cannot be read", where=path.name, remedy="Run `analyse` again."
        ) from error
