"""References: every form of them to one key, and merged patients to the one that survived.

A key is `Type/id`. Literal references may be relative (`Patient/x`), absolute
(`https://server/fhir/Patient/x`), versioned (`Patient/x/_history/2`), `urn:uuid:…`, or contained (`#x`); a
logical reference has an identifier only and no key. This is the only module that knows of merged patients
(`Patient.link`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from fhir_adapter.errors import SourceNotFhir

__all__ = ["Head", "Reference", "contained", "key_of", "survivors"]

_LITERAL = re.compile(
    r"(?:^|/)([A-Z][A-Za-z]{2,63})/([A-Za-z0-9.\-]{1,64})(?:/_history/[A-Za-z0-9.\-]{1,64})?$"
)
_URN = re.compile(r"^urn:(?:uuid|oid):([A-Za-z0-9.\-]{1,64})$")


class Reference(msgspec.Struct):
    """A FHIR Reference, as much of it as is used."""

    reference: str | None = None


class _Link(msgspec.Struct):
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
    link: list[_Link] = []

    @property
    def patient_key(self) -> str | None:
        """`Patient/id` of the patient that this is about; None for what is about nobody."""
        if self.resourceType == "Patient":
            return f"Patient/{self.id}"
        for candidate in (self.subject, self.patient, self.individual):
            key = key_of(candidate.reference) if candidate is not None else None
            if key is not None and key.startswith(("Patient/", "/")):
                return key
        return None


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


def contained(reference: str | None) -> str | None:
    """The local id of a contained reference (`#x`), else None."""
    return (
        reference[1:] if reference is not None and reference.startswith("#") and len(reference) > 1 else None
    )


def survivors(patients: Iterable[Head]) -> Mapping[str, str]:
    """Merged patient → surviving patient, over any number of merges.

    Args:
        patients: heads of all Patients.

    Returns:
        `Patient/old` → `Patient/survivor`, merged patients only.

    Raises:
        SourceNotFhir: patients that replace each other in a circle.
    """
    replaced: dict[str, str] = {}
    for head in patients:
        for link in head.link:
            other = key_of(link.other.reference)
            if other is None or not other.startswith("Patient/"):
                continue
            if link.type == "replaced-by":
                replaced[f"Patient/{head.id}"] = other
            elif link.type == "replaces":
                replaced.setdefault(other, f"Patient/{head.id}")
    result: dict[str, str] = {}
    for start in replaced:
        seen, current = {start}, replaced[start]
        while current in replaced:
            if current in seen:
                raise SourceNotFhir(
                    "merged patients replace each other in a circle",
                    where="Patient.link",
                    remedy="The server's operator has to mend the links.",
                )
            seen.add(current)
            current = replaced[current]
        result[start] = current
    return result
