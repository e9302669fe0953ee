"""Which resources count, and why the others do not: statuses, verification, modifier extensions.

This is decided before any view runs, on a few top-level elements of each resource. FHIR forbids processing
a resource whose modifier extensions or implicit rules one does not understand (FHIR R4, 2.4.3.1 and 2.6.0):
such a resource is quarantined, never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from fhir_adapter.mapping.references import Head
from fhir_adapter.own import OWN_TAG_CODE, OWN_TAG_SYSTEM

__all__ = ["NOT_DONE", "Verdict", "decode_head", "own_output", "verdict"]

_AE_STATUS = frozenset(
    f"http://hl7.org/fhir/uv/{guide}/StructureDefinition/{name}"
    for guide in ("ae-research-backport-ig", "ae-research-ig")
    for name in ("status", "ae-status")
)

#: Reasons of `dataAbsentReason` that say nobody looked.
NOT_DONE = frozenset({"not-performed", "not-asked", "not-applicable", "asked-declined", "not-permitted"})

#: Type → statuses that count. Of a type that is not here every status counts but `entered-in-error`.
_COUNTS: Mapping[str, frozenset[str]] = {
    "Observation": frozenset({"final", "amended", "corrected"}),
    "Procedure": frozenset({"completed", "in-progress"}),
    "MedicationAdministration": frozenset({"completed", "in-progress", "stopped", "not-done", "on-hold"}),
    # R5 has `recorded`; whether the drug was taken is said by `adherence`, which the exposure looks at.
    "MedicationStatement": frozenset({"active", "completed", "stopped", "on-hold", "recorded"}),
    "Encounter": frozenset(
        {
            *("arrived", "triaged", "in-progress", "onleave", "finished"),
            *("on-hold", "discharged", "completed", "discontinued"),  # R5
        }
    ),
    "ImagingStudy": frozenset({"registered", "available"}),
    "Consent": frozenset({"active", "inactive", "rejected"}),
}
#: Types whose status is required by FHIR and missing in practice.
_STATUS_REQUIRED = frozenset(_COUNTS) | {"ResearchSubject", "ResearchStudy"}

_PATH = re.compile(r" - at `(\$[^`]*)`$")


class Verdict(msgspec.Struct, frozen=True):
    """Why a resource does not count: `outcome` not-needed or quarantined, its reason, and the JSON path."""

    outcome: str
    reason: str
    path: str = ""


def decode_head(body: bytes) -> Head | Verdict:
    """Decodes what is needed of a resource; a resource of the wrong shape is quarantined with its path."""
    try:
        return msgspec.json.decode(body, type=Head)
    except msgspec.ValidationError as error:
        found = _PATH.search(str(error))
        return Verdict("quarantined", "shape", found[1] if found else "$")
    except RecursionError:
        return Verdict("quarantined", "depth", "$")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Verdict("quarantined", "not-json", "$")


def _codes(head: Head) -> set[str]:
    concept = head.verificationStatus
    return set() if concept is None else {coding.code for coding in concept.coding if coding.code}


def _nested_modifier(node: Any, path: str, known: Collection[str]) -> str | None:
    """JSON path of the first modifier extension or implicitRules that is not known, below a resource."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "implicitRules":
                return f"{path}.{name}"
            if name == "modifierExtension" and isinstance(value, list):
                for index, item in enumerate(value):
                    if not (isinstance(item, dict) and item.get("url") in known):
                        return f"{path}.{name}[{index}]"
            found = _nested_modifier(value, f"{path}.{name}", known)
            if found is not None:
                return found
    elif isinstance(node, list):
        for index, item in enumerate(node):
            found = _nested_modifier(item, f"{path}[{index}]", known)
            if found is not None:
                return found
    return None


def own_output(head: Head) -> bool:
    """Whether the adapter wrote a resource itself."""
    return any(tag.system == OWN_TAG_SYSTEM and tag.code == OWN_TAG_CODE for tag in head.meta.tag)


def verdict(head: Head, body: bytes, *, preliminary: bool = False) -> Verdict | None:
    """Why a resource does not count.

    Args:
        head: its decoded head.
        body: its bytes.
        preliminary: whether preliminary Observations count (a setting of the study).

    Returns:
        None for a resource that counts.
    """
    kind = head.resourceType
    if b"modifierExtension" in body or b"implicitRules" in body:
        known = _AE_STATUS if kind == "AdverseEvent" else frozenset()
        try:
            path = _nested_modifier(msgspec.json.decode(body), "$", known)
        except RecursionError:
            return Verdict("quarantined", "depth", "$")
        except (msgspec.DecodeError, UnicodeDecodeError):  # a number beyond all numbers, half of a character
            return Verdict("quarantined", "not-json", "$")
        if path is not None:
            reason = "implicit-rules" if path.endswith("implicitRules") else "modifier-extension"
            return Verdict("quarantined", reason, path)
    mistaken = head.status == "entered-in-error" or "entered-in-error" in _codes(head)
    if kind == "AdverseEvent":
        # R5 has the status as an element; R4's research profile as a modifier extension.
        mistaken = mistaken or any(
            item.url in _AE_STATUS and item.valueCode == "entered-in-error" for item in head.modifierExtension
        )
    if mistaken:
        return Verdict("not-needed", "entered-in-error")
    if "refuted" in _codes(head):
        return Verdict("not-needed", "refuted")
    if kind == "AdverseEvent":
        if head.actuality is None:
            return Verdict("quarantined", "missing-element", "$.actuality")
        return None if head.actuality == "actual" else Verdict("not-needed", "not-actual")
    if kind in _STATUS_REQUIRED and head.status is None:
        return Verdict("quarantined", "missing-element", "$.status")
    counts = _COUNTS.get(kind)
    early = kind == "Observation" and preliminary and head.status == "preliminary"
    if counts is not None and head.status not in counts and not early:
        return Verdict("not-needed", "status")
    if head.dataAbsentReason is not None:
        codes = {coding.code for coding in head.dataAbsentReason.coding}
        if codes & NOT_DONE:
            return Verdict("not-needed", "not-done")
    return None
