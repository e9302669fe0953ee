"""ConceptMaps: from the codes and words of hospitals to the terms of the datasets.

The maps are FHIR R4 ConceptMaps in `mappings/concepts/`, to which a site adds maps of its own codes. Words
are codes of a text system of ours: the text of a CodeableConcept is compared after Unicode normalisation
(NFKC), case folding and single spaces. Codes are compared exactly first, then without regard to case,
because releases of one code system differ in it (`Probably-Likely` and `probably-likely`). In ICD
classifications a code that is not listed is looked up by its three-character category, then by its chapter
letter, which is how these classifications are built.

A target that is listed as `unmatched` is a code that we know and that has no equivalent (a trend that is no
RECIST response): it is known, and it has no target.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import msgspec

from fhir_adapter.assets import asset
from fhir_adapter.errors import SiteFileError, StudyFileError

__all__ = [
    "TARGET_SYSTEM",
    "TEXT_SYSTEM",
    "Coding",
    "ConceptMap",
    "Match",
    "Terminology",
    "Unknown",
    "load_concept_map",
    "normalise",
]

Coding = tuple[str | None, str | None, str | None]
"""System, code, display."""

TEXT_SYSTEM = "https://fhir-adapter.org/CodeSystem/text"
#: The code system that the map of a name translates to is this and the name.
TARGET_SYSTEM = "https://fhir-adapter.org/CodeSystem/"
_PROPERTY = "https://fhir-adapter.org/property/"
_ICD = frozenset({"http://hl7.org/fhir/sid/icd-10", "http://terminology.hl7.org/CodeSystem/icd-o-3"})


class Match(msgspec.Struct, frozen=True):
    """What a code or text was found to mean.

    `target` is None for a known code that has no equivalent. `lossy` says that the map calls the two
    narrower or inexact, so that the value deserves a finding.
    """

    target: str | None
    lossy: bool = False
    properties: Mapping[str, str] = msgspec.field(default_factory=dict)
    system: str = ""
    code: str = ""


class Unknown(msgspec.Struct, frozen=True):
    """A code or text that a map does not know; empty strings stand for what is absent."""

    concept_map: str
    system: str
    code: str
    display: str


class _Product(msgspec.Struct):
    property: str
    value: str


class _Target(msgspec.Struct):
    code: str | None = None
    equivalence: str = "equivalent"
    product: list[_Product] = []


class _Element(msgspec.Struct):
    code: str
    target: list[_Target] = []


class _Group(msgspec.Struct):
    source: str
    target: str | None = None
    element: list[_Element] = []


class _Resource(msgspec.Struct):
    resourceType: str  # noqa: N815 - FHIR's name
    group: list[_Group] = []


def normalise(text: str) -> str:
    """Text as it is compared: NFKC, case folded, single spaces."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip().casefold()


class ConceptMap:
    """One ConceptMap, ready for look-ups.

    Groups that lead to the code system of another map are none of its own, so that one file (a draft of
    `fhir-adapter check`) may serve several maps. An element without a target is not known yet: that a code has
    no equivalent is said in so many words, by `unmatched`.
    """

    def __init__(self, name: str, groups: Iterable[_Group]) -> None:
        self.name = name
        self._exact: dict[tuple[str, str], Match] = {}
        self._folded: dict[tuple[str, str], Match] = {}
        self._anywhere: dict[str, Match] = {}
        for group in groups:
            if (group.target or "").startswith(TARGET_SYSTEM) and group.target != TARGET_SYSTEM + name:
                continue
            for element in group.element:
                if not element.target:
                    continue
                target = element.target[0]
                match = Match(
                    target=None if target.equivalence in {"unmatched", "disjoint"} else target.code,
                    lossy=target.equivalence in {"narrower", "inexact", "specializes"},
                    properties={item.property.removeprefix(_PROPERTY): item.value for item in target.product},
                    system=group.source,
                    code=element.code,
                )
                code = normalise(element.code) if group.source == TEXT_SYSTEM else element.code
                self._exact.setdefault((group.source, code), match)
                self._folded.setdefault((group.source, code.casefold()), match)
                if group.source != TEXT_SYSTEM:
                    self._anywhere.setdefault(code, match)

    def by_code(self, system: str, code: str) -> Match | None:
        """The meaning of a code of a system; None where the map does not know it."""
        found = self._exact.get((system, code)) or self._folded.get((system, code.casefold()))
        if found is None and system in _ICD:
            for parent in (code.split(".", 1)[0], code[:1]):
                found = found or self._exact.get((system, parent))
        return found

    def by_text(self, text: str) -> Match | None:
        """The meaning of a text."""
        return self._exact.get((TEXT_SYSTEM, normalise(text)))

    def by_symbol(self, code: str) -> Match | None:
        """The meaning of a code whose system the element implies (a `code`, a canonical)."""
        return self._anywhere.get(code)


def _groups(path: Path) -> list[_Group]:
    try:
        resource = msgspec.json.decode(path.read_bytes(), type=_Resource)
    except (OSError, msgspec.DecodeError) as error:
        raise StudyFileError(f"not a ConceptMap ({error})", where=path.name) from error
    if resource.resourceType != "ConceptMap":
        raise StudyFileError(f"a {resource.resourceType}, not a ConceptMap", where=path.name)
    return resource.group


def load_concept_map(name: str, *paths: Path) -> ConceptMap:
    """Reads a ConceptMap.

    Args:
        name: of the map.
        paths: its files; what an earlier one says of a code goes before what a later one says.

    Raises:
        StudyFileError: a file is not a ConceptMap.
    """
    return ConceptMap(name, [group for path in paths for group in _groups(path)])


@cache
def _shipped(name: str) -> ConceptMap:
    return load_concept_map(name, asset("mappings", "concepts", f"{name}.json"))


def _own_maps(folders: Iterable[Path]) -> dict[str, list[Path]]:
    """Name of a shipped map → the site's files that add to it, in the order of the folders.

    Raises:
        SiteFileError: a folder is not there, or a file has the name of no map, so that nobody would read it.
    """
    shipped = {path.stem for path in asset("mappings", "concepts").glob("*.json")}
    found: dict[str, list[Path]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise SiteFileError("no such folder of concept maps", where=f"concept_dirs: {folder.name}")
        for path in sorted(folder.glob("*.json")):
            if path.stem not in shipped:
                raise SiteFileError(
                    "the name of this file is that of no concept map",
                    where=f"concept_dirs: {path.name}",
                    remedy=f"There are {', '.join(sorted(shipped))}.",
                )
            found.setdefault(path.stem, []).append(path)
    return found


def _before(site: Mapping[str, list[Path]], study: Mapping[str, Path]) -> dict[str, list[Path]]:
    """Name of a map → the files that are asked before it: the site's, then the study's."""
    return {
        name: [*site.get(name, []), *([study[name]] if name in study else [])] for name in {*site, *study}
    }


class Terminology:
    """All ConceptMaps of a study, and the codes that none of them knew.

    Args:
        names: the maps that may be used; None for all that ship. A map that is left out knows nothing.
        folders: of the site's own maps (`<map>.json`); what they say goes before what ships.
        files: ConceptMaps of the study itself; asked after the site's and before what ships.

    Raises:
        StudyFileError: a map that does not ship, or a file that is no ConceptMap.
        SiteFileError: a folder that is not there, or a file that adds to no map.
    """

    def __init__(
        self, names: Iterable[str] | None = None, folders: Iterable[Path] = (), files: Iterable[Path] = ()
    ) -> None:
        self._allowed = None if names is None else frozenset(names)
        mine = {path.stem: path for path in files}
        known = {path.stem for path in asset("mappings", "concepts").glob("*.json")}
        strange = sorted(set(mine) - known)
        if strange:
            raise StudyFileError(
                f"nothing reads a concept map {', '.join(strange)}",
                where="mapping.concept_files",
                remedy=f"The name of the file says which map it adds to: {', '.join(sorted(known))}.",
            )
        self._cache: dict[tuple[object, ...], tuple[Match | None, Unknown | None]] = {}
        self.unknown: Counter[Unknown] = Counter()
        self._own = {
            name: load_concept_map(name, *paths, asset("mappings", "concepts", f"{name}.json"))
            for name, paths in _before(_own_maps(folders), mine).items()
        }
        if names is not None:
            for name in sorted(set(names)):
                _shipped(name)

    def _map(self, name: str) -> ConceptMap | None:
        if self._allowed is not None and name not in self._allowed and name != "code-system":
            return None
        return self._own.get(name) or _shipped(name)

    def system(self, uri: str | None) -> str | None:
        """The name of a code system that the maps use, for any of its names."""
        if uri is None:
            return None
        aliases = self._map("code-system")
        match = aliases.by_symbol(uri) if aliases is not None else None
        return uri if match is None or match.target is None else match.target

    def symbol(self, name: str, code: str | None, *, count: bool = True) -> Match | None:
        """The meaning of a `code` element, whose system is implied."""
        if code is None:
            return None
        concept_map = self._map(name)
        match = None if concept_map is None else concept_map.by_symbol(code)
        if match is None and count:
            self.unknown[Unknown(name, "", code, "")] += 1
        return match

    def translate(
        self, name: str, codings: Sequence[Coding], text: str | None = None, *, count: bool = True
    ) -> Match | None:
        """The meaning of a CodeableConcept: its codings in order, then its text, then the codings' displays.

        A coding with a target wins over a known coding without one.

        Args:
            name: of the ConceptMap.
            codings: its codings.
            text: its text.
            count: whether something unknown is counted for a finding.

        Returns:
            The match, or None when there is nothing, or nothing that the map knows.
        """
        if not codings and text is None:
            return None
        key = (name, tuple(codings), text)
        if key not in self._cache:
            self._cache[key] = self._find(name, codings, text)
        match, unknown = self._cache[key]
        if unknown is not None and count:
            self.unknown[unknown] += 1
        return match

    def _find(
        self, name: str, codings: Sequence[Coding], text: str | None
    ) -> tuple[Match | None, Unknown | None]:
        concept_map = self._map(name)
        known: Match | None = None
        if concept_map is not None:
            for system, code, _ in codings:
                if code is None or system is None:
                    continue
                match = concept_map.by_code(self.system(system) or system, code)
                if match is not None and match.target is not None:
                    return match, None
                known = known or match
            for words in (text, *(display for _, _, display in codings)):
                match = None if words is None else concept_map.by_text(words)
                if match is not None and match.target is not None:
                    return match, None
                known = known or match
        if known is not None:
            return known, None
        system, code, display = codings[0] if codings else (None, None, None)
        return None, Unknown(name, system or "", code or "", display or text or "")
