"""Dispositions and findings: what became of every resource that landed, and what deserves a second look.

Every current resource in the landing has exactly one disposition: `used` (at least one domain row came of it),
`not-needed` with a reason of the closed list below, or `quarantined` with a reason. The landing counts what came
over the wire; the mapping counts what it disposed of; the two must agree, else the run ends with status 30.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from fhir_adapter.errors import AccountingError

__all__ = ["NOT_NEEDED", "QUARANTINED", "Disposition", "Finding", "check_sums", "summary"]

#: Reasons for which a resource is not needed.
NOT_NEEDED: Mapping[str, str] = {
    "own-output": "written by the adapter itself",
    "superseded": "an older version of a resource that landed again",
    "deleted": "deleted on the server since it landed",
    "no-view": "no view of the study reads this type of resource",
    "not-selected": "no view selects it (another code, another kind of observation)",
    "not-a-candidate": "of a subject outside the study's candidates",
    "no-subject": "has no subject that is a patient",
    "consent": "of a subject who denied or withdrew consent",
    "entered-in-error": "marked as entered in error",
    "status": "its status does not count (cancelled, unknown, not-done, preliminary …)",
    "not-actual": "a potential, not an actual, event",
    "refuted": "a condition that was refuted",
    "not-done": "dataAbsentReason says the assessment was not done and nothing is recorded",
    "after-cut-off": "dated after the data cut-off",
    "merged": "a patient that was merged into another",
}

#: Reasons for which a resource cannot be used, where no rule of a domain says more; each a sentence about it.
QUARANTINED: Mapping[str, str] = {
    "unreadable": "is not a resource with a type and an id that can be read",
    "not-json": "is not JSON, or holds a number or character that cannot be one",
    "json": "is not JSON, or holds a number or character that cannot be one",
    "shape": "has an element of another shape than FHIR gives it (a list, an object, a text, a number)",
    "type": "has an element of another type than FHIR gives it",
    "no-id": "has no id",
    "depth": "is nested deeper than any resource has to be",
    "several": "has several values where FHIR allows one",
    "date": "has a date that is none",
    "missing-element": "lacks an element without which it says nothing",
    "implicit-rules": "asks to be read by implicit rules, which FHIR forbids to ignore",
    "modifier-extension": "has a modifier extension that is not known, which FHIR forbids to ignore",
    "merged-in-a-circle": "is of a patient whose records replace each other in a circle, so that none survives",
}


class Disposition(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one resource version. `outcome`: used, not-needed or quarantined."""

    type: str
    id: str
    version: str
    outcome: str
    reason: str = ""
    path: str = ""
    sequence: int = 0


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that deserves a look: a code no map knows, a lesion without identity, an impossible sequence.

    `code` is stable, `text` says what it means and never carries a name, a birth date or an identifier;
    `resource` (type/id) or `usubjid` says where. Findings live in files of the run folder, not in logs.
    """

    code: str
    text: str
    stage: str = "map"
    usubjid: str = ""
    resource: str = ""
    detail: str = ""


def summary(dispositions: Iterable[Disposition]) -> dict[str, Any]:
    """Counts by type, outcome and reason: `{type: {total, used, not_needed: {reason: n}, quarantined: {…}}}`."""
    counts: Counter[tuple[str, str, str]] = Counter((d.type, d.outcome, d.reason) for d in dispositions)
    table: dict[str, Any] = {}
    for (type_, outcome, reason), number in sorted(counts.items()):
        row = table.setdefault(type_, {"total": 0, "used": 0, "not_needed": {}, "quarantined": {}})
        row["total"] += number
        if outcome == "used":
            row["used"] += number
        else:
            part = row["not_needed" if outcome == "not-needed" else "quarantined"]
            part[reason] = part.get(reason, 0) + number
    return table


def check_sums(landed: Mapping[str, int], disposed: Mapping[str, Any]) -> None:
    """Compares, type by type, what landed with what was disposed of.

    Raises:
        AccountingError: when a sum is off, naming the types and both numbers.
    """
    off = [
        f"{type_}: {landed.get(type_, 0)} landed, {disposed.get(type_, {}).get('total', 0)} disposed of"
        for type_ in sorted(set(landed) | set(disposed))
        if landed.get(type_, 0) != disposed.get(type_, {}).get("total", 0)
    ]
    if off:
        raise AccountingError(
            "resources at the wire and at mapping do not agree: " + "; ".join(off),
            where="map",
            remedy="This is a defect of the adapter or a damaged landing; keep the run folder and report it.",
        )
