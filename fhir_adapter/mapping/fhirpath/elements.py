"""Element tables: which elements a FHIR type has, of which type, so that a misspelt path is an error.

The tables come with fhirpathpy (R4 and R5; R4B is R4 for the types of a study). They list leaf paths, so they
are closed over prefixes here; content references and inheritance are followed. Whether an element repeats is
read from fhir.resources (`cardinality`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from fhirpathpy.models import models

from fhir_adapter.mapping.fhirpath.cardinality import repeats
from fhir_adapter.mapping.fhirpath.parser import FhirPathError

__all__ = ["Choice", "Elements", "UnknownElementError", "elements", "family"]


class UnknownElementError(FhirPathError):
    """A path names an element that its type does not have.

    Args:
        of: the type.
        name: the element.
    """

    def __init__(self, of: str, name: str) -> None:
        self.name = name
        super().__init__(f"{of} has no element {name}")


_PRIMITIVES = {
    "boolean": "boolean",
    "integer": "number", "integer64": "number", "positiveInt": "number", "unsignedInt": "number",
    "decimal": "number", "string": "text", "code": "text", "id": "text", "uri": "text", "url": "text",
    "canonical": "text",
    "oid": "text", "uuid": "text", "markdown": "text", "base64Binary": "text", "xhtml": "text",
    "date": "date", "dateTime": "date", "instant": "date", "time": "date",
}  # fmt: skip


def family(type_: str | None) -> str | None:
    """boolean, number, text, date, or None for a complex or unknown type."""
    if type_ is None:
        return None
    return _PRIMITIVES.get(type_)


@dataclass(frozen=True)
class Choice:
    """A choice element (`value[x]`): its name and, by type name, the JSON key."""

    name: str
    keys: tuple[tuple[str, str], ...]

    def key(self, type_: str) -> str | None:
        """JSON key of one of the types, None if the element does not have it."""
        return dict(self.keys).get(type_[:1].lower() + type_[1:])


class Elements:
    """The elements of one FHIR release."""

    def __init__(self, release: str, model: dict[str, Any]) -> None:
        self._release = release
        self._types: dict[str, str] = model["path2Type"]
        self._parents: dict[str, str] = model["type2Parent"]
        self._elsewhere: dict[str, str] = model["pathsDefinedElsewhere"]
        self._choices: dict[str, list[str]] = model["choiceTypePaths"]
        # `valueQuantity` is a key of JSON and no FHIRPath, though the tables list it.
        self._chosen = {
            f"{path}{type_[:1].upper()}{type_[1:]}": f"{path.rpartition('.')[2]}.ofType({type_})"
            for path, types in self._choices.items()
            for type_ in types
        }
        self._names = {path.rpartition(".")[2] for path in [*self._types, *self._choices]}
        self._prefixes: set[str] = set()
        for path in [*self._types, *self._choices]:
            while "." in path:
                path = path.rpartition(".")[0]
                self._prefixes.add(path)
                self._names.add(path.rpartition(".")[2])

    def known(self, type_: str) -> bool:
        """Whether a resource or data type exists."""
        return type_ in _PRIMITIVES or type_ in self._parents or type_ in self._prefixes

    def anywhere(self, name: str) -> bool:
        """Whether any type has an element of this name."""
        return name in self._names

    def resource(self, type_: str | None) -> bool:
        """Whether a type is a type of resource."""
        while type_ is not None and type_ != "Resource":
            type_ = self._parents.get(type_)
        return type_ == "Resource"

    def repeats(self, of: str, key: str) -> bool | None:
        """Whether an element is a list in JSON, None if that is not known.

        Args:
            of: as in `child`.
            key: key of the element in JSON, `valueQuantity` of a choice.
        """
        return repeats(self._release, of, key)

    def child(self, of: str, name: str) -> str | Choice:
        """Type (or path of a backbone element, or choice) of an element.

        Args:
            of: a type (`Patient`, `HumanName`) or the path of a backbone element (`Patient.contact`).
            name: name of the element, a choice without its `[x]`.

        Raises:
            UnknownElementError: there is no such element.
            FhirPathError: the name is the JSON key of a choice (`valueQuantity`).
        """
        place: str | None = of
        while place is not None:
            path = f"{place}.{name}"
            path = self._elsewhere.get(path, path)
            if path in self._chosen and path.count(".") == place.count(".") + 1:
                raise FhirPathError(f"{name} is not FHIRPath; write {self._chosen[path]}")
            if path in self._choices:
                lower = [type_[:1].lower() + type_[1:] for type_ in self._choices[path]]
                return Choice(name, tuple((type_, name + type_[:1].upper() + type_[1:]) for type_ in lower))
            found = self._types.get(path)
            if found in {"BackboneElement", "Element"} or (found is None and path in self._prefixes):
                return path
            if found is not None:
                return found[7:8].lower() + found[8:] if found.startswith("System.") else found
            place = self._parents.get(place, "BackboneElement" if "." in place else None)
        raise UnknownElementError(of, name)


@cache
def elements(release: str) -> Elements:
    """Element tables of a release: R4 (also for R4B) or R5."""
    return Elements(release, models["r5" if release == "R5" else "r4"])
