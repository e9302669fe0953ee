"""Resources of R4 in the shape of R4B or R5.

R4B has R4's elements for all types of a study. R5 moves and renames many; each function here follows the R5
specification's "differences from R4" of one type. Extensions that stand for what R5 has as an element become that
element; those of the research back-port (R4) become those of the research guide (R5).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from fhir_adapter.demo.resources import Resource
from fhir_adapter.mapping.release import RELEASES, Release

__all__ = ["RELEASES", "Release", "in_release"]

_AEB = "http://hl7.org/fhir/uv/ae-research-backport-ig/StructureDefinition/"
_AER = "http://hl7.org/fhir/uv/ae-research-ig/StructureDefinition/"
#: R5's elements as extensions of R4, in both spellings that were seen.
_OCCURRENCE = re.compile(
    r"^http://hl7\.org/fhir/5\.0/StructureDefinition/extension-AdverseEvent\.occurr?ence\[x\]$"
)
#: An element of R4 that R5 dropped, as an extension of R5 (FHIR R5, "Extensions for converting between versions").
_SEVERITY = "http://hl7.org/fhir/4.0/StructureDefinition/extension-AdverseEvent.severity"
_STATE = "http://terminology.hl7.org/CodeSystem/research-subject-state"


def _rename(made: Resource, **names: str) -> None:
    for old, new in names.items():
        if old in made:
            made[new] = made.pop(old)


def _listed(made: Resource, *names: str) -> None:
    for name in names:
        if name in made:
            made[name] = [made[name]]


def _medication(made: Resource) -> None:
    """`medication[x]` → CodeableReference."""
    concept, reference = made.pop("medicationCodeableConcept", None), made.pop("medicationReference", None)
    if concept is not None:
        made["medication"] = {"concept": concept}
    elif reference is not None:
        made["medication"] = {"reference": reference}


def _administration(made: Resource) -> None:
    _medication(made)
    # R5 spells it with one r.
    _rename(
        made, effectiveDateTime="occurenceDateTime", effectivePeriod="occurencePeriod", context="encounter"
    )
    reasons = [{"concept": item} for item in made.pop("reasonCode", [])]
    reasons += [{"reference": item} for item in made.pop("reasonReference", [])]
    if reasons:
        made["reason"] = reasons


def _statement(made: Resource) -> None:
    _medication(made)
    _listed(made, "category")
    taken = {"active": "taking", "on-hold": "on-hold", "stopped": "stopped"}.get(made["status"])
    if made["status"] in {"active", "completed", "stopped", "on-hold"}:
        made["status"] = "recorded"
    if taken is not None:
        system = "http://hl7.org/fhir/CodeSystem/medication-statement-adherence"
        made["adherence"] = {"code": {"coding": [{"system": system, "code": taken}]}}


def _encounter(made: Resource) -> None:
    _rename(made, period="actualPeriod")
    made["class"] = [{"coding": [made["class"]]}]
    if made["status"] == "finished":
        made["status"] = "completed"


def _imaging(made: Resource) -> None:
    made["modality"] = [{"coding": [item]} for item in made.get("modality", [])]


def _procedure(made: Resource) -> None:
    _rename(made, performedDateTime="occurrenceDateTime", performedPeriod="occurrencePeriod")
    _listed(made, "category")


def _structure(made: Resource) -> None:
    made["includedStructure"] = [{"structure": made.pop("location")}]


def _group_id(arm: str) -> str:
    """The id by which a subject names its comparison group: R5 has no room for words there."""
    return re.sub(r"[^a-z0-9]+", "-", arm.lower()).strip("-")


def _study(made: Resource) -> None:
    made["status"] = "active"
    groups = [{"linkId": _group_id(arm["name"]), "name": arm["name"]} for arm in made.pop("arm", [])]
    if groups:
        made["comparisonGroup"] = groups


def _subject(made: Resource) -> None:
    _rename(made, individual="subject")
    state = {"coding": [{"system": _STATE, "code": made["status"]}]}
    progress: Resource = {"subjectState": state}
    period = made.get("period", {})
    if "start" in period:
        progress["startDate"] = period["start"]
    ended = "end" in period
    made["progress"] = [progress]
    if ended:
        # Two entries: that the subject was on study once, and the state it is in.
        before = {"coding": [{"system": _STATE, "code": "on-study"}]}
        made["progress"] = [
            {"subjectState": before, "startDate": period.get("start"), "endDate": period["end"]},
            {"subjectState": state, "startDate": period["end"]},
        ]
    made["status"] = "active"
    for old, new in (("assignedArm", "assignedComparisonGroup"), ("actualArm", "actualComparisonGroup")):
        if old in made:
            made[new] = _group_id(made.pop(old))
    _listed(made, "consent")


def _consent(made: Resource) -> None:
    _rename(made, patient="subject", dateTime="date")
    scope = made.pop("scope", None)
    if scope is not None:
        made["category"] = [scope, *made.get("category", [])]
    provision = made.pop("provision", None)
    if provision is not None:
        made["decision"] = provision["type"]
    if made["status"] == "rejected":
        made |= {"status": "active", "decision": "deny"}
    policy = made.pop("policyRule", None)
    if policy is not None:
        made["regulatoryBasis"] = [policy]


def _observation(made: Resource) -> None:
    """`focus` on a BodyStructure is an element of its own in R5."""
    focus = made.get("focus", [])
    if len(focus) == 1 and re.search(r"(^|/)BodyStructure/", focus[0].get("reference", "")):
        made["bodyStructure"] = made.pop("focus")[0]


def _parts(extension: Resource, url: str) -> list[Resource]:
    return [item for item in extension.get("extension", []) if item["url"] == url]


def _suspect(extension: Resource) -> Resource:
    """A suspect of the back-port's extension as an entry of `suspectEntity`."""
    found: Resource = {}
    for part in _parts(extension, "instance"):
        found |= {
            f"instance{key.removeprefix('value')}": value
            for key, value in part.items()
            if key.startswith("value")
        }
    for cause in _parts(extension, "causality"):
        for related in _parts(cause, "entityRelatedness"):
            found["causality"] = {"entityRelatedness": related["valueCodeableConcept"]}
    return found


def _core_suspect(entity: Resource) -> Resource:
    """R4's own suspect as R5's: causality repeats no more, and a product's relatedness is in words."""
    found: Resource = {"instanceReference": entity["instance"]}
    for cause in entity.get("causality", []):
        related: Any = cause.get("assessment")
        if "productRelatedness" in cause:
            related = {"text": cause["productRelatedness"]}
        if related is not None:
            found["causality"] = {"entityRelatedness": related}
    return found


def _adverse_event(made: Resource) -> None:
    _rename(made, event="code", resultingCondition="resultingEffect")
    _listed(made, "outcome")
    for item in made.pop("modifierExtension", []):
        made["status"] = item["valueCode"]
    end: str | None = None
    suspects = [_core_suspect(entity) for entity in made.pop("suspectEntity", [])]
    kept: list[Resource] = []
    for item in made.pop("extension", []):
        url: str = item["url"]
        if url == f"{_AEB}suspect-entity":
            suspects.append(_suspect(item))
        elif url == f"{_AEB}resolve-date":
            end = item["valueDateTime"]
        elif _OCCURRENCE.match(url):
            end = item["valuePeriod"]["end"]
        elif url == f"{_AEB}mitigating-action":
            made["mitigatingAction"] = [
                {"itemCodeableConcept": part["valueCodeableConcept"]} for part in _parts(item, "item")
            ]
        else:
            kept.append(item | {"url": url.replace(_AEB, _AER)})
    if "severity" in made:
        kept.append({"url": _SEVERITY, "valueCodeableConcept": made.pop("severity")})
    if kept:
        made["extension"] = kept
    if suspects:
        made["suspectEntity"] = suspects
    date = made.pop("date", None)
    if end is not None:
        made["occurrencePeriod"] = {"start": date, "end": end}
    elif date is not None:
        made["occurrenceDateTime"] = date


_MOVES: Final[dict[str, Callable[[Resource], None]]] = {
    "AdverseEvent": _adverse_event,
    "BodyStructure": _structure,
    "Consent": _consent,
    "Encounter": _encounter,
    "ImagingStudy": _imaging,
    "MedicationAdministration": _administration,
    "MedicationStatement": _statement,
    "Observation": _observation,
    "Procedure": _procedure,
    "ResearchStudy": _study,
    "ResearchSubject": _subject,
}


def in_release(resource: Resource, release: Release) -> Resource:
    """A resource of R4 in the shape of a release.

    Args:
        resource: an R4 resource as the encoders write it; it is not changed.
        release: R4, R4B or R5.
    """
    move = _MOVES.get(resource["resourceType"]) if release == "R5" else None
    if move is None:
        return resource
    made = dict(resource)
    move(made)
    return made
