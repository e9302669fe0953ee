"""What the views of a study ask of a source: types, releases, coded elements, and the codes they select by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from fhir_adapter.assets import asset
from fhir_adapter.mapping.catalogue import compiled_view, shipped_views, view_names
from fhir_adapter.mapping.release import Release
from fhir_adapter.mapping.terminology import TEXT_SYSTEM
from fhir_adapter.mapping.views import CompiledView, load_view
from fhir_adapter.study import Study

__all__ = ["CodedElement", "StudyView", "drug_codes", "implied_system", "selecting_codes", "study_views"]

_LITERAL = re.compile(r"system\s*=\s*'([^']+)'\s+and\s+code\s*=\s*'([^']+)'")
_MAP = "fhir-adapter/concept-map"
_VARIABLE = "fhir-adapter/variable"


class CodedElement(msgspec.Struct, frozen=True):
    """An element whose codes a map translates.

    Attributes:
        column: column of the code, or for a CodeableConcept the name that its four columns begin with.
        element: its path.
        concept_map: the map.
        variable: what it is for, or empty.
        symbol: a `code`, whose system the element implies.
    """

    column: str
    element: str
    concept_map: str
    variable: str
    symbol: bool


class StudyView(msgspec.Struct, frozen=True):
    """A view of the study, with what is known of it without running it."""

    view: CompiledView
    releases: tuple[str, ...]
    where: tuple[str, ...]
    elements: tuple[CodedElement, ...]


def _elements(view: CompiledView) -> Iterable[CodedElement]:
    names = {column.name for column in view.columns}
    for column in view.columns:
        concept_map = column.tags.get(_MAP)
        base = column.name.removesuffix("_code")
        concept = f"{base}_system" in names
        # A wording that a map reads (the display of a performer) may be a name: it is no code and not counted.
        if concept_map is None or not (concept or column.type == "code"):
            continue
        path = column.path.removesuffix(".coding.code") if concept else column.path
        yield CodedElement(
            column=base if concept else column.name,
            element=f"{view.resource}.{path}",
            concept_map=concept_map,
            variable=column.tags.get(_VARIABLE, ""),
            symbol=not concept,
        )


@cache
def _study_view(path: Path, release: Release) -> StudyView:
    definition: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    view = load_view(path, release="R5" if release == "R5" else "R4")
    return StudyView(
        view,
        tuple(str(item) for item in definition.get("fhirVersion", [])),
        tuple(str(item["path"]) for item in definition.get("where", [])),
        tuple(_elements(view)),
    )


@cache
def implied_system(concept_map: str) -> str:
    """System of the `code` elements that a map translates, which name none: that of its first group."""
    groups = msgspec.json.decode(asset("mappings", "concepts", f"{concept_map}.json").read_bytes())["group"]
    found = [group["source"] for group in groups if group["source"] != TEXT_SYSTEM]
    return str(found[0]) if found else ""


def study_views(study: Study, release: Release = "R4") -> list[StudyView]:
    """The views of a study, its own among them, in the shape of a release.

    Raises:
        StudyFileError: a view that does not ship, or is wrong.
    """
    paths = shipped_views(release) | {path.stem: path for path in study.mapping.view_files}
    names = view_names(study, release)
    for name in names:
        compiled_view(name, study, release)  # checks the study's own against the shipped ones
    return [_study_view(paths[name], release) for name in names]


def selecting_codes(views: Sequence[StudyView], type_: str) -> set[tuple[str, str]]:
    """(system, code) by which views select resources of a type; empty if one of them takes any."""
    codes: set[tuple[str, str]] = set()
    for item in views:
        if item.view.resource == type_:
            found = {pair for path in item.where for pair in _LITERAL.findall(path)}
            if not found:
                return set()
            codes |= found
    return codes


def drug_codes(study: Study) -> set[tuple[str, str]]:
    """(system, code) of the study's drugs in the map of drugs."""
    wanted = {drug.concept for drug in study.treatment.drugs}
    groups = msgspec.json.decode(asset("mappings", "concepts", "drug.json").read_bytes())["group"]
    return {
        (group["source"], element["code"])
        for group in groups
        if group["source"] != TEXT_SYSTEM
        for element in group["element"]
        if any(target.get("code") in wanted for target in element.get("target", []))
    }
