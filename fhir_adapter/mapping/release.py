"""Which FHIR release the resources of a landing are of: R4, R4B or R5.

A server says so in its CapabilityStatement; files do not, so a site file may, and else the resources themselves are
asked: R5 renamed elements that are required or nearly always there (FHIR R5, "differences from R4" of each type).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

import msgspec

from fhir_adapter.mapping.domains.context import RawResource
from fhir_adapter.undecodable import UNDECODABLE

__all__ = ["RELEASES", "Release", "detect_release", "release_of_version"]

Release = Literal["R4", "R4B", "R5"]
RELEASES: Final[tuple[Release, ...]] = get_args(Release)

#: Type → elements that only R4 (and R4B) has, elements that only R5 has.
_TELLING: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "AdverseEvent": (
        frozenset({"event", "date", "severity", "resultingCondition"}),
        frozenset({"code", "status", "occurrenceDateTime", "occurrencePeriod", "resultingEffect"}),
    ),
    "BodyStructure": (frozenset({"location", "locationQualifier"}), frozenset({"includedStructure"})),
    "Consent": (
        frozenset({"patient", "scope", "dateTime", "policyRule"}),
        frozenset({"subject", "date", "decision"}),
    ),
    "Encounter": (frozenset({"period", "hospitalization"}), frozenset({"actualPeriod", "admission"})),
    "MedicationAdministration": (
        frozenset(
            {"medicationCodeableConcept", "medicationReference", "effectiveDateTime", "effectivePeriod"}
        ),
        frozenset({"medication", "occurenceDateTime", "occurencePeriod"}),
    ),
    "MedicationStatement": (
        frozenset({"medicationCodeableConcept", "medicationReference"}),
        frozenset({"medication", "adherence"}),
    ),
    "Procedure": (
        frozenset({"performedDateTime", "performedPeriod"}),
        frozenset({"occurrenceDateTime", "occurrencePeriod"}),
    ),
    "ResearchSubject": (
        frozenset({"individual", "assignedArm", "actualArm"}),
        frozenset({"subject", "progress", "assignedComparisonGroup", "actualComparisonGroup"}),
    ),
}


def release_of_version(version: str | None) -> Release | None:
    """The release of a FHIR version (`4.0.1`, `4.3.0`, `5.0.0`); None where there is none, or another one."""
    for start, release in (("4.0", "R4"), ("4.1", "R4B"), ("4.3", "R4B"), ("5.", "R5")):
        if version is not None and version.startswith(start):
            return release  # type: ignore[return-value]
    return None


def _tells(raw: RawResource) -> str | None:
    """R4 or R5, None where a resource has elements of neither or of both."""
    old, new = _TELLING[raw.type]
    try:
        names = msgspec.json.decode(raw.body, type=dict[str, msgspec.Raw]).keys()
    except UNDECODABLE:
        return None
    found = [release for release, own in (("R4", old), ("R5", new)) if not own.isdisjoint(names)]
    return found[0] if len(found) == 1 else None


def detect_release(resources: Iterable[RawResource]) -> tuple[Release, Counter[str]]:
    """The release that most of the telling resources are of, R4 where none tells.

    Returns:
        The release, and how many resources tell of R4 and of R5; both above zero is worth a finding.
    """
    counts = Counter(told for raw in resources if raw.type in _TELLING and (told := _tells(raw)) is not None)
    return ("R5" if counts["R5"] > counts["R4"] else "R4"), counts
