"""The census of codes: which codes the resources of a source carry, in the elements that maps translate.

The views of the study say which elements these are (their tag `fhir-adapter/concept-map`), so the census looks
where the mapping looks. What the mapping itself reports as unknown is asked of the mapping: an element that a
study does without (the category of a laboratory value, the name of a comorbidity) is counted, but is no
finding.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fhir_adapter.check.report import (
    MAX_CODE,
    Blocked,
    TextOnly,
    UnknownCode,
    Unselected,
    plain,
)
from fhir_adapter.check.views import CodedElement, StudyView, implied_system
from fhir_adapter.errors import AdapterError
from fhir_adapter.mapping.domains.context import codings, first
from fhir_adapter.mapping.release import Release
from fhir_adapter.mapping.stage import Mapped, map_resources
from fhir_adapter.mapping.terminology import Terminology, Unknown
from fhir_adapter.study import Study
from fhir_adapter.undecodable import UNDECODABLE

__all__ = ["MAX_ROWS", "Census", "Seen", "take_census"]

#: So many different codes are told apart; what comes after them is left out, and said so.
MAX_ROWS = 10_000

_JOINED = "contained or joined"


class Seen(msgspec.Struct, frozen=True):
    """A resource of a source, with what the mapping needs of it."""

    type: str
    id: str
    version: str
    sequence: int
    subject: str | None
    body: bytes


class Census(msgspec.Struct):
    """What a census found.

    Attributes:
        unknown, text_only, unselected: by number, most first.
        mapped: what the mapping makes of the same resources; None if it would end early.
        blocked: why it would.
        dropped: codes beyond `MAX_ROWS`.
    """

    unknown: list[UnknownCode] = msgspec.field(default_factory=list)
    text_only: list[TextOnly] = msgspec.field(default_factory=list)
    unselected: list[Unselected] = msgspec.field(default_factory=list)
    mapped: Mapped | None = None
    blocked: Blocked | None = None
    dropped: int = 0


class _Coding(msgspec.Struct):
    system: str | None = None
    code: str | None = None
    display: str | None = None


class _Concept(msgspec.Struct):
    coding: list[_Coding] = []
    text: str | None = None


class _Coded(msgspec.Struct):
    code: _Concept = msgspec.field(default_factory=_Concept)


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _coding(row: dict[str, Any], base: str) -> tuple[str, str, str]:
    """The coding of a concept that a map would best know: the first one with system and code.

    A view has systems, codes and displays apart. If their numbers differ, nobody knows which belong together,
    and the system is left empty.
    """
    systems, codes, displays = (_list(row.get(f"{base}_{part}")) for part in ("system", "code", "display"))
    if not codes:
        return "", "", ""
    shown = displays if len(displays) == len(codes) else [""] * len(codes)
    if len(systems) != len(codes):
        return "", str(codes[0]), str(shown[0] or "")
    for system, code, display in zip(systems, codes, shown, strict=True):
        if system and code:
            return str(system), str(code), str(display or "")
    return "", str(codes[0] or ""), str(shown[0] or "")


class _Counter:
    """Counts unknown codes and wordings, bounded."""

    def __init__(self, *, texts: bool) -> None:
        self._texts = texts
        #: (element, system, code, display or text) → resources
        self.codes: Counter[tuple[CodedElement, str, str, str]] = Counter()
        self.wordings: Counter[CodedElement] = Counter()
        self.words: dict[CodedElement, set[Unknown]] = defaultdict(set)
        #: Names under which the mapping may have counted a row.
        self.names: dict[tuple[CodedElement, str, str, str], Unknown] = {}
        self.dropped = 0

    def _add(self, key: tuple[CodedElement, str, str, str], name: Unknown) -> None:
        if key not in self.codes and len(self.codes) >= MAX_ROWS:
            self.dropped += 1
            return
        self.codes[key] += 1
        self.names.setdefault(key, name)

    def symbol(self, element: CodedElement, code: str) -> None:
        """An unknown value of a `code` element."""
        self._add(
            (element, implied_system(element.concept_map), code, ""),
            Unknown(element.concept_map, "", code, ""),
        )

    def concept(self, element: CodedElement, row: dict[str, Any], text: str | None) -> None:
        """An unknown CodeableConcept."""
        system, code, display = _coding(row, element.column)
        given = codings(row, element.column)
        one = given[0] if given else (None, None, None)
        name = Unknown(element.concept_map, one[0] or "", one[1] or "", one[2] or text or "")
        if code:
            self._add((element, system, code, display), name)
        elif self._texts and (words := text or first(row, f"{element.column}_display")):
            self._add((element, "", "", str(words)), name)
        else:
            self.wordings[element] += 1
            self.words[element].add(name)


def _count_view(
    item: StudyView, resources: Sequence[Seen], terminology: Terminology, found: _Counter
) -> set[int]:
    """Counts what the maps of one view do not know; gives the resources that the view selects."""
    result = item.view.run([one.body for one in resources])
    rows = result.rows()
    for element in item.elements:
        told: set[tuple[int, str]] = set()
        for number, row in zip(result.row_resource, rows, strict=True):
            if element.symbol:
                for code in _list(row.get(element.column)):
                    known = terminology.symbol(element.concept_map, str(code), count=False)
                    if known is None and (number, str(code)) not in told:
                        told.add((number, str(code)))
                        found.symbol(element, str(code))
                continue
            text = first(row, f"{element.column}_text")
            given = codings(row, element.column)
            if not given and text is None:
                continue
            # A view with forEach repeats what stands above it: a resource counts once.
            key = (number, repr((given, text)))
            if key in told:
                continue
            told.add(key)
            if terminology.translate(element.concept_map, given, text, count=False) is None:
                found.concept(element, row, text)
    return set(result.row_resource)


def _unselected(
    views: Sequence[StudyView], of_type: dict[str, list[Seen]], selected: dict[str, set[int]]
) -> list[Unselected]:
    """Codes of resources that no view selects, of the types whose views all select by a condition."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for type_, resources in of_type.items():
        mine = [item for item in views if item.view.resource == type_]
        if not mine or not all(item.where for item in mine):
            continue
        for number, one in enumerate(resources):
            if number in selected[type_]:
                continue
            try:
                concept = msgspec.json.decode(one.body, type=_Coded).code
            except UNDECODABLE:
                continue  # of the wrong shape: the mapping quarantines it with a reason
            coding = next((each for each in concept.coding if each.code), _Coding())
            key = (f"{type_}.code", coding.system or "", coding.code or "", coding.display or "")
            if key in counts or len(counts) < MAX_ROWS:
                counts[key] += 1
    return [
        Unselected(element, plain(system, MAX_CODE), plain(code, MAX_CODE), plain(display), number)
        for (element, system, code, display), number in sorted(
            counts.items(), key=lambda pair: (-pair[1], pair[0])
        )
    ]


def _reported(mapped: Mapped | None) -> Counter[Unknown]:
    """Codes that a run of these resources would report, by number."""
    told: Counter[Unknown] = Counter()
    for finding in mapped.findings if mapped is not None else []:
        if finding.code == "unknown-code":
            item = msgspec.json.decode(finding.detail)
            name = Unknown(item["concept_map"], item["system"], item["code"], item["display"])
            told[name] += item["count"]
    return told


def _rows(found: _Counter, told: Counter[Unknown], *, blind: bool, texts: bool) -> list[UnknownCode]:
    rows = [
        UnknownCode(
            element=element.element,
            concept_map=element.concept_map,
            variable=element.variable,
            system=plain(system, MAX_CODE),
            code=plain(code, MAX_CODE),
            display=plain(display),
            count=number,
            reported=blind or found.names[(element, system, code, display)] in told,
        )
        for (element, system, code, display), number in found.codes.items()
    ]
    named = set(found.names.values())
    for name, number in told.items():
        # A drug that is contained in a dose stands in no column of a view.
        if name not in named and name.code:
            rows.append(
                UnknownCode(
                    element=f"({_JOINED})",
                    concept_map=name.concept_map,
                    variable="",
                    system=plain(name.system, MAX_CODE),
                    code=plain(name.code, MAX_CODE),
                    display=plain(name.display) if texts else "",  # it may be a text
                    count=number,
                    reported=True,
                )
            )
    return sorted(
        rows, key=lambda one: (not one.reported, -one.count, one.element, one.system, one.code, one.display)
    )


def take_census(
    resources: Iterable[Seen],
    views: Sequence[StudyView],
    study: Study,
    key: bytes | None,
    *,
    concept_dirs: Iterable[Path] = (),
    release: Release | None = None,
    texts: bool = False,
) -> Census:
    """Counts the codes of some resources.

    Args:
        resources: each once.
        views: the study's.
        study: the study, for its maps, and for the mapping that says what a run would report.
        key: the site's key of pseudonyms, None if it has none.
        concept_dirs: folders of the site's own concept maps.
        release: FHIR release of the resources; None: they show it.
        texts: whether wordings without a code are told, bounded and escaped. They may name people.

    Returns:
        The census. Resources that a view cannot read are left to the mapping, which quarantines them.
    """
    landed = list(resources)
    census = Census()
    try:
        census.mapped = map_resources(landed, study, key=key, concept_dirs=concept_dirs, release=release)
    except AdapterError as error:
        census.blocked = Blocked.of(error)
    of_type: dict[str, list[Seen]] = defaultdict(list)
    for one in landed:
        of_type[one.type].append(one)
    terminology = Terminology(study.mapping.concepts, concept_dirs, study.mapping.concept_files)
    found = _Counter(texts=texts)
    selected: dict[str, set[int]] = defaultdict(set)
    for item in views:
        type_ = item.view.resource
        selected[type_] |= _count_view(item, of_type[type_], terminology, found)
    told = _reported(census.mapped)
    census.unknown = _rows(found, told, blind=census.mapped is None, texts=texts)
    census.text_only = [
        TextOnly(
            element.element, element.concept_map, number, not told.keys().isdisjoint(found.words[element])
        )
        for element, number in sorted(found.wordings.items(), key=lambda pair: (-pair[1], pair[0].element))
    ]
    census.unselected = _unselected(views, of_type, selected)
    census.dropped = found.dropped
    return census
