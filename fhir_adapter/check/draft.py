"""Codes that no map knows, as the draft of a ConceptMap (R4) that a person fills in.

Each group has one source system and, as its target, the code system of one map, as the shipped maps have. An
element without a target is not known yet, for FHIR as for `load_concept_map`; filling in means to write
`"target": [{"code": …, "equivalence": "equivalent"}]`, or `unmatched` without a code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from fhir_adapter.check.report import MAX_CODE, UnknownCode
from fhir_adapter.mapping.terminology import TARGET_SYSTEM, TEXT_SYSTEM, normalise

__all__ = ["draft_concept_map"]

# R4, datatypes: a code has no leading or trailing and no double white space; a uri has none at all.
_CODE = re.compile(r"[^\s]+(\s[^\s]+)*")
_URI = re.compile(r"[^\s\x00-\x1f]+")


def _source(item: UnknownCode) -> tuple[str, str] | None:
    """(system, code) under which a map can know it, None for what no ConceptMap can name."""
    if not item.code:
        return (TEXT_SYSTEM, normalise(item.display)) if item.display else None
    system = item.system
    if not system or len(item.code) >= MAX_CODE or len(system) >= MAX_CODE:
        return None
    if not _CODE.fullmatch(item.code) or not _URI.fullmatch(system):
        return None
    return system, item.code


def draft_concept_map(study: str, unknown: Iterable[UnknownCode]) -> dict[str, Any]:
    """Makes the draft.

    Args:
        study: id of the study, for the name of the draft.
        unknown: codes that no map knows, of any maps.

    Returns:
        A ConceptMap of R4 with status `draft`. A code without a system, or one that is no FHIR code, is left
        out: no map can know it.
    """
    groups: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for item in sorted(unknown, key=lambda one: (one.concept_map, one.system, one.code, one.display)):
        source = _source(item)
        if source is None:
            continue
        elements = groups.setdefault((source[0], TARGET_SYSTEM + item.concept_map), {})
        element: dict[str, Any] = {"code": source[1]}
        if item.display and item.code:
            element["display"] = item.display
        elements.setdefault(source[1], element)
    name = "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", study) if part)
    draft: dict[str, Any] = {
        "resourceType": "ConceptMap",
        "id": f"draft-{re.sub(r'[^A-Za-z0-9.-]', '-', study)}"[:64],
        "url": f"https://fhir-adapter.org/ConceptMap/draft-{study}",
        "name": f"Draft{name}",
        "title": f"Codes that no map of the study {study} knows, to be filled in",
        "status": "draft",
    }
    if groups:
        draft["group"] = [
            {"source": source, "target": target, "element": list(elements.values())}
            for (source, target), elements in sorted(groups.items(), key=lambda one: (one[0][1], one[0][0]))
        ]
    return draft
