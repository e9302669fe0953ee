"""The contract of every engine: resources of some subjects in; rows, dispositions and findings out.

A partition holds all resources of its subjects and is mapped at once; what belongs to no subject (Medication,
ResearchStudy) is shared and given to every partition. Rows are numbered per subject, so partitions need
nothing of each other.
"""

from __future__ import annotations

import datetime as dt
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from fhir_adapter.accounting import QUARANTINED, Disposition, Finding
from fhir_adapter.datasets import metadata
from fhir_adapter.mapping.catalogue import compiled_view, view_names
from fhir_adapter.mapping.domains.characteristics import characteristics
from fhir_adapter.mapping.domains.consent import leave_out_refused
from fhir_adapter.mapping.domains.context import Context, RawResource, Row
from fhir_adapter.mapping.domains.demographics import demographics
from fhir_adapter.mapping.domains.events import adverse_events
from fhir_adapter.mapping.domains.exposure import exposure
from fhir_adapter.mapping.domains.history import conditions, procedures
from fhir_adapter.mapping.domains.subjects import name_subjects, research_subjects
from fhir_adapter.mapping.domains.tumour import responses, tumours
from fhir_adapter.mapping.domains.visits import visits
from fhir_adapter.mapping.references import Head, People, form_of
from fhir_adapter.mapping.release import Release
from fhir_adapter.mapping.terminology import Terminology, Unknown
from fhir_adapter.mapping.views import CompiledView
from fhir_adapter.mapping.which_count import Verdict, decode_head, own_output, verdict
from fhir_adapter.study import Study

__all__ = [
    "DOMAINS",
    "SHARED_TYPES",
    "Part",
    "Plan",
    "Unresolved",
    "map_partition",
    "split",
    "view_names",
]

_FHIR_DATE = re.compile(
    r"^(\d{4})(?:-(\d{2})(?:-(\d{2})(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})?)?)?)?$"
)

_NONE = type(None)
_TEXT: frozenset[type] = frozenset({str})
#: FHIR primitive types that are not text → the Python types of their values.
_PYTHON: Mapping[str, frozenset[type]] = {
    "boolean": frozenset({bool}),
    "integer": frozenset({int}),
    "positiveInt": frozenset({int}),
    "unsignedInt": frozenset({int}),
    "decimal": frozenset({int, float, Decimal}),
}

#: Datasets that the mapping makes.
DOMAINS = ("DM", "MH", "SC", "TU", "TR", "RS", "EX", "CM", "AE", "PR", "SV", "DS")

#: Types that belong to no patient; resources of these are given to every partition.
SHARED_TYPES = frozenset(
    {"Medication", "ResearchStudy", "Group", "Organization", "Practitioner", "Location", "Device"}
)


@dataclass(frozen=True)
class Plan:
    """What every partition is mapped by.

    Attributes:
        study: the study.
        views: names of the views, sorted.
        key: the site's HMAC key for USUBJID, None when every subject has an identifier.
        candidates: `Patient/id` of the candidates (survivors).
        people: the patients of the landing: merges, and other names of patients.
        study_keys: `ResearchStudy/id` of the study and its parts.
        concept_dirs: folders of the site's own concept maps.
        release: FHIR release of the resources, whose views are run.
    """

    study: Study
    views: tuple[str, ...]
    key: bytes | None = None
    candidates: frozenset[str] = frozenset()
    people: People = field(default_factory=People)
    study_keys: frozenset[str] = frozenset()
    concept_dirs: tuple[Path, ...] = ()
    release: Release = "R4"


class Unresolved(NamedTuple):
    """An element whose references lead nowhere: resource type, element, and the form of the reference."""

    resource: str
    element: str
    form: str


@dataclass
class Part:
    """What came of a partition; `subjects` are (PATKEY, USUBJID)."""

    rows: dict[str, list[dict[str, Any]]]
    subjects: list[tuple[str, str]]
    dispositions: list[Disposition]
    shared: list[Disposition]
    findings: list[Finding]
    unknown: Counter[Unknown]
    unresolved: Counter[Unresolved]


def _subject_of(raw: RawResource, head: Head | None, people: People) -> str | None:
    """The (surviving) patient that a resource is about."""
    if raw.subject is not None or head is None:
        return None if raw.subject is None else people.surviving(raw.subject)
    if head.resourceType == "Patient":
        return people.surviving(f"Patient/{head.id}")
    return next((key for _, reference in head.about if (key := people.find(reference)) is not None), None)


def split(resources: Iterable[RawResource], plan: Plan, number: int) -> list[list[RawResource]]:
    """Partitions of subjects: all that is about one patient, under whatever record, lies in one of them.

    Args:
        resources: of subjects, in any order.
        plan: knows the patients.
        number: how many partitions.
    """
    parts: list[list[RawResource]] = [[] for _ in range(number)]
    for raw in resources:
        head = None if raw.subject is not None else decode_head(raw.body)
        subject = _subject_of(raw, head if isinstance(head, Head) else None, plan.people)
        parts[zlib.crc32((subject or f"{raw.type}/{raw.id}").encode()) % number].append(raw)
    return parts


def _before_views(
    resources: Sequence[RawResource], plan: Plan, read: Collection[str]
) -> tuple[list[str | None], dict[int, tuple[str, str, str]], Counter[Unresolved]]:
    """Subject of each resource; why those that no view is run on are not; references to unknown patients."""
    astray: Counter[Unresolved] = Counter()
    subjects: list[str | None] = []
    said: dict[int, tuple[str, str, str]] = {}
    for number, raw in enumerate(resources):
        head = (
            Verdict("quarantined", "unreadable", "$")
            if getattr(raw, "unreadable", False)
            else decode_head(raw.body)
        )
        if isinstance(head, Verdict):
            subject = _subject_of(raw, None, plan.people)
            subjects.append(subject)
            if raw.type not in read and head.reason == "shape":
                said[number] = ("not-needed", "no-view", "")
            elif subject is not None and subject not in plan.candidates:
                said[number] = ("not-needed", "not-a-candidate", "")
            else:
                said[number] = (head.outcome, head.reason, head.path)
            continue
        subject = _subject_of(raw, head, plan.people)
        subjects.append(subject)
        if raw.type in read and (subject is None or subject not in plan.people.known):
            astray.update(
                Unresolved(raw.type, name, reference.form)
                for name, reference in head.about
                if reference.form != "none"
            )
        why = _not_needed(raw, head, subject, plan, read)
        if why is not None:
            said[number] = ("not-needed", why, "")
            continue
        if raw.type == "Patient" and plan.people.in_a_circle(f"Patient/{raw.id}"):
            said[number] = ("quarantined", "merged-in-a-circle", "$.link")
            continue
        found = verdict(head, raw.body, preliminary=plan.study.mapping.preliminary)
        if found is not None:
            said[number] = (found.outcome, found.reason, found.path)
    return subjects, said, astray


def _not_needed(
    raw: RawResource, head: Head, subject: str | None, plan: Plan, read: Collection[str]
) -> str | None:
    """Reasons that need no look at the status."""
    if own_output(head):
        return "own-output"
    if raw.type not in read:
        return "no-view"
    if raw.type == "Patient" and f"Patient/{raw.id}" in plan.people.survivors:
        return None if plan.people.in_a_circle(f"Patient/{raw.id}") else "merged"
    if raw.type in SHARED_TYPES:
        return None
    if subject is None:
        return "no-subject"
    return None if subject in plan.candidates else "not-a-candidate"


def _tables(
    resources: Sequence[RawResource], said: dict[int, tuple[str, str, str]], plan: Plan
) -> dict[str, list[Row]]:
    """Rows of every view over the resources that count; a resource that a view fails on is quarantined."""
    of_type: dict[str, list[int]] = {}
    for number, raw in enumerate(resources):
        if number not in said:
            of_type.setdefault(raw.type, []).append(number)
    tables: dict[str, list[Row]] = {}
    for name in plan.views:
        view = compiled_view(name, plan.study, plan.release)
        numbers = of_type.get(view.resource, [])
        if not numbers:
            continue
        result = view.run([resources[number].body for number in numbers])
        for failure in result.failures:
            said.setdefault(numbers[failure.index], ("quarantined", failure.code, failure.json_path))
        for position, reason, path in _bad_values(view, result.columns, result.row_resource):
            said.setdefault(numbers[position], ("quarantined", reason, path))
        names = list(result.columns)
        rows: list[Row] = []
        for position, values in zip(
            result.row_resource, zip(*result.columns.values(), strict=True), strict=True
        ):
            row = Row(zip(names, values, strict=True))
            row.view = name
            row.resource = numbers[position]
            rows.append(row)
        tables[name] = rows
    return tables


@lru_cache(maxsize=65536)
def _is_date(text: str) -> bool:
    """Whether a text is a FHIR date, dateTime or instant, maybe partial, of a day that exists."""
    found = _FHIR_DATE.match(text)
    if found is None:
        return False
    try:
        dt.date(int(found[1]), int(found[2] or 1), int(found[3] or 1))
    except ValueError:
        return False
    return True


def _is(value: Any, type_: str | None) -> bool:
    """Whether a value is of a FHIR primitive type, as a view gives it."""
    if type_ in {"date", "dateTime", "instant"}:
        return isinstance(value, str) and _is_date(value)
    return type(value) in _PYTHON.get(type_ or "", _TEXT)


def _bad_values(
    view: CompiledView, columns: Mapping[str, Sequence[Any]], row_resource: Sequence[int]
) -> Iterator[tuple[int, str, str]]:
    """(resource, reason, element) of values that are not of their column's type.

    The domains rely on types; and a date that cannot be read must not become a missing one.
    """
    for column in view.columns:
        values = columns[column.name]
        allowed = _PYTHON.get(column.type or "", _TEXT)
        plain = not column.collection and column.type not in {"date", "dateTime", "instant"}
        if plain and set(map(type, values)) <= allowed | {_NONE}:
            continue
        for position, value in zip(row_resource, values, strict=True):
            if value is None:
                continue
            items = value if column.collection else [value]
            if not isinstance(items, list | tuple) or not all(_is(item, column.type) for item in items):
                wrong_day = column.type in {"date", "dateTime", "instant"} and isinstance(value, str)
                yield position, "date" if wrong_day else "shape", f"$.{column.path}"


def _unresolved(context: Context, plan: Plan) -> Counter[Unresolved]:
    """References in the columns of the views that lead to nothing that landed, each resource once per element."""
    found: set[tuple[int, str, str]] = set()
    for name in plan.views:
        columns = [
            column
            for column in compiled_view(name, plan.study, plan.release).columns
            if column.path.endswith("reference")
        ]
        for row in context.tables.get(name, ()) if columns else ():
            for column in columns:
                value = row[column.name]
                for reference in value if isinstance(value, list) else [value]:
                    if reference is not None and not context.leads_somewhere(reference, row.resource):
                        found.add((row.resource, column.path.removesuffix(".reference"), form_of(reference)))
    return Counter(
        Unresolved(context.resources[number].type, element, form) for number, element, form in found
    )


def _number(rows: dict[str, list[dict[str, Any]]]) -> None:
    """Numbers the rows of each subject (`--SEQ`), in an order that does not depend on how they arrived."""
    for domain, found in rows.items():
        keys = [key for key in metadata()[domain].keys if not key.endswith("SEQ")]
        found.sort(
            key=lambda row: (*(str(row.get(key) or "") for key in keys), row["SRCREF"], row["SRCVIEW"])
        )
        counts: Counter[str] = Counter()
        for row in found:
            counts[row["USUBJID"]] += 1
            row[f"{domain}SEQ"] = counts[row["USUBJID"]]


def map_partition(resources: Iterable[RawResource], shared: Iterable[RawResource], plan: Plan) -> Part:
    """Maps all resources of some subjects.

    Args:
        resources: of the partition's subjects, in any order.
        shared: resources of no subject, the same for every partition.
        plan: what to map by.

    Returns:
        Rows of each domain (numbered, not yet in the datasets' form), the subjects, one disposition per
        resource, dispositions of the shared resources as this partition saw them, findings, and unknown
        codes by number.

    Raises:
        SiteFileError: a subject without identifier, and no key.
    """
    own = sorted(resources, key=lambda raw: (raw.type, raw.id, raw.sequence))
    common = sorted(shared, key=lambda raw: (raw.type, raw.id, raw.sequence))
    everything = [*own, *common]
    read = {compiled_view(name, plan.study, plan.release).resource for name in plan.views}
    subjects, said, astray = _before_views(everything, plan, read)
    tables = _tables(everything, said, plan)
    terminology = Terminology(
        plan.study.mapping.concepts, plan.concept_dirs, plan.study.mapping.concept_files
    )
    context = Context(
        study=plan.study,
        terminology=terminology,
        resources=everything,
        keys=[f"{raw.type}/{raw.id}" for raw in everything],
        subjects=subjects,
        tables=tables,
        said=said,
    )
    present = sorted({key for key in subjects if key is not None and key in plan.candidates})
    enrolled = research_subjects(context, plan.study_keys)
    context.usubjid.update(name_subjects(context, present, enrolled, plan.key))
    visits(context)
    demographics(context, enrolled)
    conditions(context)
    procedures(context)
    characteristics(context)
    tumours(context)
    responses(context)
    exposure(context)
    adverse_events(context)
    leave_out_refused(context)
    _number(context.rows)
    for number, (outcome, reason, path) in said.items():
        if outcome == "quarantined" and not any(
            item.resource == context.keys[number] and item.code == reason for item in context.findings
        ):
            said_of_it = QUARANTINED.get(reason, "cannot be used")
            context.finding(reason, f"a resource that {said_of_it}", number, {"path": path})
    dispositions = [context.disposition(number) for number in range(len(everything))]
    return Part(
        rows=context.rows,
        subjects=sorted(context.usubjid.items()),
        dispositions=dispositions[: len(own)],
        shared=dispositions[len(own) :],
        findings=context.findings,
        unknown=terminology.unknown,
        unresolved=_unresolved(context, plan) + astray,
    )
