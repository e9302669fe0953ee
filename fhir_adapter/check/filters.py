"""Whether a search by code would lose anything: what the study uses, and what a filter would have found of it.

The plan pulls by subject and type. A code filter is worth a thought only where nothing is lost by it, and that
cannot be seen from the filtered answer: what is coded locally, in text alone or in a referred resource is not in
it. So the filter is tried here on resources that came without one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from fhir_adapter.check.census import Seen
from fhir_adapter.check.report import CodeFilter
from fhir_adapter.check.views import StudyView, drug_codes, selecting_codes
from fhir_adapter.mapping.stage import Mapped
from fhir_adapter.study import Study

__all__ = ["Wanted", "filters_of", "judge"]

_DOSES = ("MedicationAdministration", "MedicationStatement")


class Wanted(msgspec.Struct, frozen=True):
    """A filter that somebody might set: `codes` of a type's parameter `code`.

    `rows` is the dataset whose rows say which resources the study needs; empty: any resource that is used.
    """

    type: str
    codes: frozenset[tuple[str, str]]
    rows: str = ""

    @property
    def tokens(self) -> str:
        """Value of the parameter `code`."""
        return ",".join(f"{system}|{code}" for system, code in sorted(self.codes))


def filters_of(views: Sequence[StudyView], study: Study) -> list[Wanted]:
    """The filters that a study's own views and maps give: by the codes that views select by, and by drug."""
    types = sorted({item.view.resource for item in views})
    found = [Wanted(type_, frozenset(codes)) for type_ in types if (codes := selecting_codes(views, type_))]
    if codes := drug_codes(study):
        found += [Wanted(type_, frozenset(codes), "EX") for type_ in types if type_ in _DOSES]
    return found


def _needed(wanted: Wanted, mapped: Mapped) -> set[str]:
    """`Type/id` of what the study uses."""
    if wanted.rows:
        references = " ".join(str(item) for item in mapped.datasets[wanted.rows]["SRCREF"])
        found = {"/".join(item.split("/")[:2]) for item in references.split()}
        return {item for item in found if item.startswith(f"{wanted.type}/")}
    return {
        f"{item.type}/{item.id}"
        for item in mapped.dispositions
        if item.type == wanted.type and item.outcome == "used"
    }


def _codes(resource: Any) -> set[tuple[Any, Any]]:
    """(system, code) that a search by `code` looks at, in the shapes of R4 and R5."""
    if not isinstance(resource, dict):
        return set()
    medication = resource.get("medication")
    concepts = [
        resource.get("code"),
        resource.get("medicationCodeableConcept"),
        medication.get("concept") if isinstance(medication, dict) else None,
    ]
    return {
        (coding.get("system"), coding.get("code"))
        for concept in concepts
        if isinstance(concept, dict) and isinstance(concept.get("coding"), list)
        for coding in concept["coding"]
        if isinstance(coding, dict)
    }


def judge(
    wanted: Iterable[Wanted],
    resources: Iterable[Seen],
    mapped: Mapped,
    without: Mapping[str, int | None],
    filtered: Mapping[str, int | None],
) -> list[CodeFilter]:
    """What each filter would lose of the resources that were read.

    Args:
        wanted: the filters.
        resources: what was read, without a filter.
        mapped: what the mapping made of it.
        without: number of resources by type, as the source counts them.
        filtered: the same with the filter; empty for files.
    """
    by_key = {f"{one.type}/{one.id}": one for one in resources}
    answers = []
    for item in wanted:
        needed = _needed(item, mapped)
        lost = []
        for key in sorted(needed & set(by_key)):
            tree = msgspec.json.decode(by_key[key].body)
            if not _codes(tree) & item.codes:
                lost.append(by_key[key].subject)
        answers.append(
            CodeFilter(
                query=f"{item.type}?code",
                type=item.type,
                codes=len(item.codes),
                without=without.get(item.type),
                filtered=filtered.get(item.type),
                needed=len(needed),
                lost=len(lost),
                subjects=len({subject for subject in lost if subject is not None}),
            )
        )
    return answers
