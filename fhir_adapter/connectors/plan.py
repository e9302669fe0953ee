"""What a study needs of a source: how its candidates are found, and which types are pulled for each of them.

Resources are pulled by subject and type, never by code: a search by code misses what is coded locally or only
in text, and no server finds a drug in all its encodings. What the study does not need is sorted out by the
mapping, where it can be counted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from fhir_adapter.errors import UsageError

__all__ = [
    "DEFAULT_TYPES",
    "SHARED_TYPES",
    "SUBJECT_PARAMETER",
    "CandidateSearch",
    "PullPlan",
    "SubjectQuery",
    "plan_from_study",
    "query_hash",
    "read_types",
]

#: Search parameter (R4) that finds the resources of a patient, by type.
SUBJECT_PARAMETER: Mapping[str, str] = {
    "AdverseEvent": "subject",  # R4 has no `patient` here
    "AllergyIntolerance": "patient",
    "BodyStructure": "patient",
    "CarePlan": "patient",
    "ClinicalImpression": "patient",
    "Condition": "patient",
    "Consent": "patient",
    "DeviceUseStatement": "patient",
    "DiagnosticReport": "patient",
    "DocumentReference": "patient",
    "Encounter": "patient",
    "EpisodeOfCare": "patient",
    "FamilyMemberHistory": "patient",
    "Flag": "patient",
    "Goal": "patient",
    "ImagingStudy": "patient",
    "Immunization": "patient",
    "MedicationAdministration": "patient",
    "MedicationDispense": "patient",
    "MedicationRequest": "patient",
    "MedicationStatement": "patient",
    "Observation": "patient",
    "Patient": "_id",
    "Procedure": "patient",
    "QuestionnaireResponse": "patient",
    "ResearchSubject": "individual",
    "RiskAssessment": "patient",
    "ServiceRequest": "patient",
    "Specimen": "patient",
}

#: Types without a subject, pulled because something that landed refers to them.
SHARED_TYPES = frozenset(
    {"Device", "Location", "Medication", "Organization", "Practitioner", "PractitionerRole", "ResearchStudy",
     "Substance"}
)  # fmt: skip

#: What is pulled when a study names no types.
DEFAULT_TYPES = (
    "AdverseEvent", "BodyStructure", "Condition", "Consent", "DiagnosticReport", "Encounter", "ImagingStudy",
    "Medication", "MedicationAdministration", "Observation", "Organization", "Patient", "Procedure",
    "ResearchStudy", "ResearchSubject",
)  # fmt: skip


class CandidateSearch(msgspec.Struct, frozen=True):
    """One way to find candidates.

    Attributes:
        kind: `research-study` and `group` start from an identifier; `condition` from codes; `patients` from
            all.
        identifier: `system|value` of the ResearchStudy or Group.
        codes: `system|code` of Conditions.
        parameters: further search parameters of the Patient search (`birthdate`, `_tag` …).
    """

    kind: Literal["research-study", "group", "condition", "patients"]
    identifier: str = ""
    codes: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()


class SubjectQuery(msgspec.Struct, frozen=True):
    """A resource type that is pulled for each subject, and the search parameter that names the subject."""

    type: str
    parameter: str


class PullPlan(msgspec.Struct, frozen=True):
    """What one pull brings."""

    candidates: tuple[CandidateSearch, ...]
    per_subject: tuple[SubjectQuery, ...]
    shared: tuple[str, ...]


def read_types(plan: PullPlan) -> tuple[str, ...]:
    """Resource types that a pull reads: what it brings, and what its candidates are found by; sorted."""
    found_by = {
        "research-study": {"ResearchStudy", "ResearchSubject"},
        "group": {"Group"},
        "condition": {"Condition"},
        "patients": {"Patient"},
    }
    types = {query.type for query in plan.per_subject} | set(plan.shared)
    return tuple(sorted(types.union(*(found_by[search.kind] for search in plan.candidates))))


def query_hash(base: str, query: SubjectQuery) -> str:
    """Name of a query in checkpoints: a changed query has no checkpoint and is pulled in full."""
    text = json.dumps([1, base, query.type, query.parameter])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _escaped(text: Any) -> str:
    """Part of a token, with what separates parts escaped (R4, search, 3.1.1.4.3)."""
    return re.sub(r"([\\,|$])", r"\\\1", str(text))


def _token(value: Any, what: str) -> str:
    if not isinstance(value, Mapping) or not value.get("value"):
        raise UsageError(f"{what} needs a system and a value")
    return f"{_escaped(value.get('system') or '')}|{_escaped(value['value'])}"


def _candidates(candidates: Mapping[str, Any]) -> tuple[CandidateSearch, ...]:
    found: list[CandidateSearch] = []
    for name, value in candidates.items():
        if value is None or value is False:
            continue
        if name == "research_study":
            found.append(CandidateSearch("research-study", identifier=_token(value, name)))
        elif name == "group":
            found.append(CandidateSearch("group", identifier=_token(value, name)))
        elif name == "condition":
            codes = value.get("codes", []) if isinstance(value, Mapping) else value
            if not codes:
                raise UsageError("candidates by condition need codes")
            found.append(CandidateSearch("condition", codes=tuple(codes)))
        elif name == "all_patients":
            more = value if isinstance(value, Mapping) else {}
            found.append(CandidateSearch("patients", parameters=tuple(sorted(more.items()))))
        else:
            raise UsageError(f"no way to find candidates is called {name}")
    if not found:
        raise UsageError("the study names no way to find its candidates")
    return tuple(found)


def plan_from_study(candidates: Mapping[str, Any], types: Iterable[str] | None = None) -> PullPlan:
    """Plans a pull.

    Args:
        candidates: one of `{"research_study": {"system": …, "value": …}}`, `{"group": {…}}`,
            `{"condition": {"codes": ["system|code", …]}}` (or the list itself), `{"all_patients": True}`;
            keys whose value is None or False do not count.
        types: resource types that the study's views read; default: `DEFAULT_TYPES`. Patient always belongs to
            them, and so does ResearchSubject where candidates come from a study.

    Returns:
        The plan.

    Raises:
        UsageError: a type cannot be pulled by subject or by reference, or the candidates are not understood.
    """
    searches = _candidates(candidates)
    wanted = set(DEFAULT_TYPES if types is None else types) | {"Patient"}
    if any(search.kind == "research-study" for search in searches):
        wanted |= {"ResearchSubject", "ResearchStudy"}
    unknown = sorted(wanted - set(SUBJECT_PARAMETER) - SHARED_TYPES)
    if unknown:
        raise UsageError(
            f"cannot be pulled by subject or by reference: {', '.join(unknown)}",
            remedy="Views read resources of a patient, or what those refer to.",
        )
    # Patient first: its own resource tells at once whether a candidate exists.
    names = sorted(wanted & set(SUBJECT_PARAMETER), key=lambda name: (name != "Patient", name))
    return PullPlan(
        searches,
        tuple(SubjectQuery(name, SUBJECT_PARAMETER[name]) for name in names),
        tuple(sorted(wanted & SHARED_TYPES)),
    )
