"""Merged patients: other records of a candidate, whose resources a pull has to bring as well.

A server that merges two records marks them by `Patient.link` and may leave resources with either of them. Which
record stands for the person is decided by the mapping.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fhir_adapter.arrivals import subject_key
from fhir_adapter.undecodable import UNDECODABLE

__all__ = ["merged_with"]

_MERGES = frozenset({"replaced-by", "replaces"})  # R4, LinkType; `refer` and `seealso` merge nothing


class _Link(msgspec.Struct):
    class Other(msgspec.Struct):
        """`Patient.link.other`."""

        reference: str | None = None

    other: Other | None = None
    type: str | None = None


class _Patient(msgspec.Struct):
    id: str = ""
    link: list[_Link] | None = None


def merged_with(bodies: Iterable[bytes], subjects: Iterable[str]) -> set[str]:
    """The subjects, and every patient who was merged with one of them, in either direction.

    Args:
        bodies: the Patients that landed.
        subjects: keys (`Patient/<id>`).

    Returns:
        Keys; a patient who is only named by a link is among them.
    """
    pairs: list[set[str]] = []
    for body in bodies:
        if b'"link"' not in body:
            continue
        try:
            patient = msgspec.json.decode(body, type=_Patient)
        except UNDECODABLE:
            continue  # the mapping quarantines it; it has no link that could be read
        for link in patient.link or ():
            other = subject_key(link.other.reference if link.other else None)
            if other is not None and link.type in _MERGES:
                pairs.append({f"Patient/{patient.id}", other})
    found = set(subjects)
    while more := {key for pair in pairs if pair & found for key in pair} - found:
        found |= more
    return found
