"""Candidate subjects: whose resources the study needs, decided on what landed.

Servers answer searches in their own ways, so the study's definition of a candidate is applied again here.
What is decoded is small: ResearchSubject, ResearchStudy, Group and Condition.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from fhir_adapter.mapping.domains.context import RawResource
from fhir_adapter.mapping.references import Head, Identifier, People, Reference, key_of
from fhir_adapter.mapping.which_count import decode_head, own_output, verdict
from fhir_adapter.study import Coded, Study

__all__ = ["candidate_subjects", "study_keys"]


class _Study(msgspec.Struct):
    id: str
    identifier: list[Identifier] = []
    partOf: list[Reference] = []  # noqa: N815 - FHIR's name


class _Subject(msgspec.Struct):
    individual: Reference = msgspec.field(default_factory=Reference)
    subject: Reference = msgspec.field(default_factory=Reference)  # R5's name
    study: Reference = msgspec.field(default_factory=Reference)


class _Member(msgspec.Struct):
    entity: Reference = msgspec.field(default_factory=Reference)
    inactive: bool = False


class _Group(msgspec.Struct):
    identifier: list[Identifier] = []
    member: list[_Member] = []


class _Coding(msgspec.Struct):
    system: str | None = None
    code: str | None = None


class _Concept(msgspec.Struct):
    coding: list[_Coding] = []


class _Condition(msgspec.Struct):
    subject: Reference | None = None
    code: _Concept = msgspec.field(default_factory=_Concept)


T = TypeVar("T")


def _decode(resources: Iterable[RawResource], type_: str, model: type[T]) -> Iterable[tuple[RawResource, T]]:
    """Resources of a type; one of the wrong shape is passed over, for the mapping quarantines it."""
    for raw in resources:
        if raw.type != type_:
            continue
        try:
            yield raw, msgspec.json.decode(raw.body, type=model)
        except msgspec.DecodeError:
            continue


def _is(identifiers: Iterable[Identifier], wanted: Coded) -> bool:
    return any(item.system == wanted.system and item.value == wanted.value for item in identifiers)


def study_keys(resources: Iterable[RawResource], study: Study) -> frozenset[str]:
    """`ResearchStudy/id` of the study and of its parts (sites); empty without an identifier."""
    wanted = study.cohort.candidates.research_study
    if wanted is None:
        return frozenset()
    studies = [(f"ResearchStudy/{item.id}", item) for _, item in _decode(resources, "ResearchStudy", _Study)]
    keys = {key for key, item in studies if _is(item.identifier, wanted)}
    while True:
        parts = {
            key for key, item in studies if any(key_of(parent.reference) in keys for parent in item.partOf)
        }
        if parts <= keys:
            return frozenset(keys)
        keys |= parts


def candidate_subjects(
    resources: Iterable[RawResource], study: Study, people: People | None = None
) -> set[str]:
    """Patients whose resources the study needs.

    Args:
        resources: everything that landed; only ResearchStudy, ResearchSubject, Group, Condition and Patient
            are read.
        study: its `cohort.candidates` says how candidates are found.
        people: the patients of the landing, for merges, and for references by identifier.

    Returns:
        `Patient/id` of each candidate, merged ones under their survivor.
    """
    known = people or People()
    relevant = [
        raw
        for raw in resources
        if raw.type in {"ResearchStudy", "ResearchSubject", "Group", "Condition", "Patient"}
    ]
    rule = study.cohort.candidates
    found: set[str | None] = set()
    if rule.all_patients:
        found = {f"Patient/{raw.id}" for raw in relevant if raw.type == "Patient"}
    elif rule.research_study is not None:
        keys = study_keys(relevant, study)
        for raw, subject in _decode(relevant, "ResearchSubject", _Subject):
            logical = subject.study.identifier
            named = logical is not None and _is([logical], rule.research_study)
            if (named or key_of(subject.study.reference) in keys) and _counts(raw):
                found.add(known.find(subject.individual) or known.find(subject.subject) or raw.subject)
    elif rule.group is not None:
        for raw, group in _decode(relevant, "Group", _Group):
            if _is(group.identifier, rule.group) and _counts(raw):
                found |= {known.find(member.entity) for member in group.member if not member.inactive}
    elif rule.condition is not None:
        wanted = {tuple(item.split("|", 1)) for item in rule.condition}
        for raw, condition in _decode(relevant, "Condition", _Condition):
            if any((coding.system, coding.code) in wanted for coding in condition.code.coding) and _counts(
                raw
            ):
                found.add(raw.subject or known.find(condition.subject))
    return {known.surviving(key) for key in found if key is not None and key.startswith("Patient/")}


def _counts(raw: RawResource) -> bool:
    head = decode_head(raw.body)
    return isinstance(head, Head) and not own_output(head) and verdict(head, raw.body) is None
