"""References: every form of them to one key, and merged patients to the one that survived.

A key is `Type/id`. Literal references may be relative (`Patient/x`), absolute
(`https://server/fhir/Patient/x`), versioned (`Patient/x/_history/2`), `urn:uuid:…`, or contained (`#x`); a
logical reference has an identifier only, by which a patient is found. This is the only module that knows of
merged patients (`Patient.link`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

__all__ = [
    "Head",
    "Identifier",
    "Link",
    "Patient",
    "People",
    "Reference",
    "contained",
    "form_of",
    "key_of",
    "people",
    "survivors",
]

_LITERAL = re.compile(
    r"(?:^|/)([A-Z][A-Za-z]{2,63})/([A-Za-z0-9.\-]{1,64})(?:/_history/[A-Za-z0-9.\-]{1,64})?$"
)
_URN = re.compile(r"^urn:(?:uuid|oid):([A-Za-z0-9.\-]{1,64})$")


class Identifier(msgspec.Struct):
    """A FHIR Identifier, as much of it as is used."""

    system: str | None = None
    value: str | None = None

    @property
    def name(self) -> str:
        """`system|value`."""
        return f"{self.system or ''}|{self.value or ''}"


class Reference(msgspec.Struct):
    """A FHIR Reference, as much of it as is used."""

    reference: str | None = None
    identifier: Identifier | None = None

    @property
    def form(self) -> str:
        """How it refers: `literal`, `urn`, `contained`, `logical` (by identifier), or `none`."""
        if self.reference is None:
            return "none" if self.identifier is None else "logical"
        return form_of(self.reference)


class Link(msgspec.Struct):
    """`Patient.link`: another record of the person, and how the two are related."""

    other: Reference
    type: str


class _Coding(msgspec.Struct):
    system: str | None = None
    code: str | None = None


class _Concept(msgspec.Struct):
    coding: list[_Coding] = []


class _Extension(msgspec.Struct):
    url: str | None = None
    valueCode: str | None = None  # noqa: N815 - FHIR's name


class _Meta(msgspec.Struct):
    tag: list[_Coding] = []


class Head(msgspec.Struct):
    """What is read of a resource before any view: who it is about, and what decides whether it counts."""

    resourceType: str  # noqa: N815 - FHIR's names
    id: str | None = None
    meta: _Meta = msgspec.field(default_factory=_Meta)
    implicitRules: str | None = None  # noqa: N815
    modifierExtension: list[_Extension] = []  # noqa: N815
    status: str | None = None
    verificationStatus: _Concept | None = None  # noqa: N815
    actuality: str | None = None
    dataAbsentReason: _Concept | None = None  # noqa: N815
    subject: Reference | None = None
    patient: Reference | None = None
    individual: Reference | None = None
    link: list[Link] = []

    @property
    def about(self) -> Iterator[tuple[str, Reference]]:
        """The elements that may say which patient this is about, those that are there."""
        for name in ("subject", "patient", "individual"):
            reference: Reference | None = getattr(self, name)
            if reference is not None:
                yield name, reference


class Patient(msgspec.Struct):
    """What is read of a Patient to know who it is."""

    id: str | None = None
    identifier: list[Identifier] = []
    link: list[Link] = []


def key_of(reference: str | None) -> str | None:
    """The key of a literal reference.

    Returns:
        `Type/id`; `/uuid` for a `urn:uuid:` (its type is not said); None for a contained or unreadable one.
    """
    if reference is None:
        return None
    literal = _LITERAL.search(reference)
    if literal is not None:
        return f"{literal[1]}/{literal[2]}"
    urn = _URN.match(reference)
    return f"/{urn[1]}" if urn is not None else None


def form_of(reference: str) -> str:
    """How a literal reference refers: `literal`, `urn` or `contained`."""
    return "contained" if reference.startswith("#") else "urn" if reference.startswith("urn:") else "literal"


def contained(reference: str | None) -> str | None:
    """The local id of a contained reference (`#x`), else None."""
    return (
        reference[1:] if reference is not None and reference.startswith("#") and len(reference) > 1 else None
    )


class People(msgspec.Struct, frozen=True):
    """The patients of a landing: who was merged into whom, and by which other names a reference finds them.

    Attributes:
        known: `Patient/id` of every Patient that landed.
        survivors: merged patient → surviving patient (`survivors`).
        names: `/uuid` of a `urn:uuid:` reference, and `system|value` of an identifier → `Patient/id`.
    """

    known: frozenset[str] = frozenset()
    survivors: Mapping[str, str] = {}
    names: Mapping[str, str] = {}

    def surviving(self, key: str) -> str:
        """The patient that a key stands for today."""
        return self.survivors.get(key, key)

    def in_a_circle(self, key: str) -> bool:
        """Whether a patient was merged into a circle, of which none is said to survive."""
        return self.survivors.get(key, "") in self.survivors

    def find(self, reference: Reference | None) -> str | None:
        """`Patient/id` (the surviving one) that a reference names, in whatever form; None where it names none."""
        if reference is None:
            return None
        key = key_of(reference.reference)
        if key is not None and key.startswith("/"):
            key = self.names.get(key)
        if key is None and reference.identifier is not None:
            key = self.names.get(reference.identifier.name)
        return self.surviving(key) if key is not None and key.startswith("Patient/") else None


def people(patients: Iterable[Patient]) -> People:
    """Gathers the patients of a landing.

    Args:
        patients: all Patients that landed.

    Returns:
        Them. An identifier that two people carry names neither of them.
    """
    landed = list(patients)
    merged = survivors(landed)
    names: dict[str, str] = {}
    doubtful: set[str] = set()
    for patient in landed:
        key = f"Patient/{patient.id}"
        names[f"/{patient.id}"] = key
        for identifier in patient.identifier:
            if not identifier.value:
                continue
            known = names.setdefault(identifier.name, key)
            if merged.get(known, known) != merged.get(key, key):
                doubtful.add(identifier.name)
    for name in doubtful:
        del names[name]
    return People(frozenset(f"Patient/{patient.id}" for patient in landed), merged, names)


def survivors(patients: Iterable[Patient]) -> Mapping[str, str]:
    """Merged patient → surviving patient, over any number of merges.

    Args:
        patients: all Patients.

    Returns:
        `Patient/old` → `Patient/survivor`, merged patients only. Patients that replace each other in a circle are one
        person and stand all, itself included, for the first of them in order; none of their records survives.
    """
    replaced: dict[str, str] = {}
    for patient in patients:
        for link in patient.link:
            other = key_of(link.other.reference)
            if other is None or not other.startswith("Patient/"):
                continue
            if link.type == "replaced-by":
                replaced[f"Patient/{patient.id}"] = other
            elif link.type == "replaces":
                replaced.setdefault(other, f"Patient/{patient.id}")
    result: dict[str, str] = {}
    for start in replaced:
        path, current = [start], replaced[start]
        while current in replaced and current not in path:
            path.append(current)
            current = replaced[current]
        # Back at a patient that was passed: the circle is the way since then.
        result[start] = min(path[path.index(current) :]) if current in path else current
    return result
