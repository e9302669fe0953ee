"""What the tables of adverse events share: whom and which events they count, and their terms and classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import pandas as pd

from fhir_adapter.analysis.selection import Analysis, both, equals, slug
from fhir_adapter.conditions import AllOf, AnyOf, Comparison, Condition
from fhir_adapter.results import Cell, Display, Row

__all__ = ["KINDS", "NOT_STATED", "Scope", "any_of", "grades_between"]

#: The organ class of events whose data, study and dictionary state none.
NOT_STATED: Final = "Not stated"
#: What can be counted: the condition on ADAE beside TRTEMFL, and the flags of the worst record per subject, per
#: organ class and per term.
KINDS: Final = {
    "emergent": (None, ("AOCCIFL", "AOCCSIFL", "AOCCPIFL")),
    "related": (equals("AREL", "Y"), ("AOCC01FL", "AOCC02FL", "AOCC03FL")),
}


def grades_between(low: int, high: int) -> Condition:
    """Events of a grade from `low` to `high`."""
    return AllOf(
        all=[
            Comparison(variable="ATOXGR", op="ge", value=low),
            Comparison(variable="ATOXGR", op="le", value=high),
        ]
    )


@dataclass
class Scope:
    """The subjects of a set of tables (all of the population, or an arm) and the events they count.

    Attributes:
        analysis: the analysis.
        stem: how the ids begin.
        within: condition on ADSL, of the arm.
        title: what follows the titles, of the arm.
    """

    analysis: Analysis
    stem: str
    within: Condition | None = None
    title: str = ""

    @property
    def kind(self) -> str:
        """`related` or `emergent`: what the tables by term count."""
        return "related" if self.analysis.study.toxicity.related_only else "emergent"

    @property
    def words(self) -> str:
        """The kind as it stands before `adverse event`."""
        return f"treatment-{self.kind}"

    @property
    def population(self) -> str:
        """The analysis set."""
        return self.analysis.study.toxicity.population

    @cached_property
    def total(self) -> int:
        """Subjects that make 100 %."""
        return int(self.analysis.rows("ADSL", self.population, self.within)["USUBJID"].nunique())

    def counted(self, kind: str | None = None) -> Condition | None:
        """The condition on ADAE that an event is of the kind (default: of the tables' kind)."""
        return both(self.within, equals("TRTEMFL", "Y"), KINDS[kind or self.kind][0])

    def worst(self, level: int, kind: str | None = None) -> Condition | None:
        """The worst record of a subject (level 0), of subject and organ class (1), of subject and term (2)."""
        return both(self.counted(kind), equals(KINDS[kind or self.kind][1][level], "Y"))

    def rows(self, condition: Condition | None) -> pd.DataFrame:
        """Rows of ADAE of the population."""
        return self.analysis.rows("ADAE", self.population, condition)

    def cell(
        self, id_: str, condition: Condition | None, *, dataset: str = "ADAE", variable: str = "AEDECOD"
    ) -> Cell:
        """A count of subjects with its percentage; `id_` follows the stem."""
        ids = self.analysis.count(
            f"{self.stem}.{id_}",
            dataset,
            self.population,
            condition,
            denominator=self.total,
            variable=variable,
        )
        return Cell("n_pct", ids)

    def label(self, term: str) -> str:
        """A term as the study wants it written."""
        return self.analysis.study.toxicity.term_labels.get(term, term)

    @cached_property
    def terms(self) -> list[str]:
        """Terms that are counted, the most frequent first, equal ones by name."""
        return _by_frequency(self.rows(self.worst(2)), "AEDECOD")

    @cached_property
    def classes(self) -> list[tuple[str | None, list[str]]]:
        """Organ classes, the most frequent first and the one that is not stated (None) last, with their terms.

        A term that has come with two classes stands under each of them.
        """
        rows = self.rows(self.counted())
        pairs = {
            (None if pd.isna(organ) else str(organ), str(term))
            for organ, term in zip(rows["AEBODSYS"], rows["AEDECOD"], strict=True)
            if pd.notna(term)
        }
        found: list[tuple[str | None, list[str]]] = []
        for organ in [*_by_frequency(rows, "AEBODSYS"), None]:
            terms = [term for term in self.terms if (organ, term) in pairs]
            if terms:
                found.append((organ, terms))
        return found

    def of_class(self, organ: str | None) -> Condition:
        """The condition that an event is of an organ class."""
        if organ is None:
            return Comparison(variable="AEBODSYS", op="is_null")
        return equals("AEBODSYS", organ)

    def class_id(self, organ: str | None) -> str:
        """Part of the ids of an organ class."""
        return f"class.{slug(organ or NOT_STATED)}"

    def term_id(self, term: str) -> str:
        """Part of the ids of a term."""
        return f"term.{slug(term)}"

    def show(
        self, id_: str, title: str, stub: str, columns: tuple[str, ...], rows: list[Row], *notes: str
    ) -> None:
        """Adds a table to the report."""
        self.analysis.results.displays.append(
            Display(
                id=f"{self.stem.replace('.', '_')}_{id_}",
                title=f"{title}{self.title}",
                section="toxicity",
                stub=stub,
                columns=columns,
                rows=tuple(rows),
                notes=(*notes, *(() if rows else ("No such event.",))),
            )
        )


def _by_frequency(rows: pd.DataFrame, variable: str) -> list[str]:
    frequency = rows.groupby(variable)["USUBJID"].nunique()
    ordered = sorted(
        ((str(name), int(n)) for name, n in frequency.items()), key=lambda item: (-item[1], item[0])
    )
    return [name for name, _ in ordered]


def any_of(*parts: Condition) -> Condition:
    """The condition that one of the parts holds."""
    return AnyOf(any=list(parts))
