"""Who the subjects are: USUBJID, and the ResearchSubjects of this study.

USUBJID is the identifier of the system that the study names, from ResearchSubject or else Patient; without
one it is an HMAC-SHA-256 of the patient key with the site's key, of which 32 hexadecimal digits are kept:
it says nothing about the patient and is the same in every run at this site.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable

from fhir_adapter.errors import SiteFileError
from fhir_adapter.mapping.domains.context import Context, Row
from fhir_adapter.mapping.references import key_of

__all__ = ["name_subjects", "research_subjects"]


def research_subjects(context: Context, study_keys: Collection[str]) -> dict[int, list[Row]]:
    """ResearchSubjects of this study: resource → its rows (one per identifier).

    Where the study finds its candidates by a ResearchStudy, those that refer to it (by reference or
    identifier); else those that carry an identifier of the study's system, or all when it names none.
    """
    wanted = context.study.cohort.candidates.research_study
    system = context.study.identity.usubjid_system
    found: dict[int, list[Row]] = {}
    for number, rows in context.by_resource("dm_research_subject"):
        row = rows[0]
        if wanted is not None:
            named = (row["study_identifier_system"], row["study_identifier_value"]) == (
                wanted.system,
                wanted.value,
            )
            belongs = named or key_of(row["study_reference"]) in study_keys
        else:
            belongs = system is None or any(row["identifier_system"] == system for row in rows)
        if belongs:
            found[number] = rows
    return found


def name_subjects(
    context: Context, subjects: Iterable[str], enrolled: dict[int, list[Row]], key: bytes | None
) -> dict[str, str]:
    """USUBJID of each subject (`Patient/id`, the surviving one).

    Raises:
        SiteFileError: a subject has no identifier of the system, and the site has no key.
    """
    system = context.study.identity.usubjid_system
    known: dict[str, set[str]] = {}  # subject → values, from the better source only
    if system is not None:
        rows = [row for group in enrolled.values() for row in group]
        for source in (rows, context.table("dm_patient")):
            named: dict[str, set[str]] = {}
            for row in source:
                subject = context.subjects[row.resource]
                if subject is not None and row["identifier_system"] == system and row["identifier_value"]:
                    named.setdefault(subject, set()).add(row["identifier_value"])
            for subject, found in named.items():
                known.setdefault(subject, found)
    result: dict[str, str] = {}
    for subject in subjects:
        values = sorted(known.get(subject, ()))
        if values:
            result[subject] = values[0]
        elif key is None:
            raise SiteFileError(
                "a subject has no identifier of the study's system, and the site has no key to make one",
                where="identity.usubjid_system",
                remedy="Name the system of the identifiers in the study file, or give the site a key file.",
            )
        else:
            result[subject] = hmac.new(key, subject.encode(), hashlib.sha256).hexdigest()[:32]
        if len(values) > 1 and subject in context.index:
            context.finding(
                "several-identifiers",
                "a subject has several identifiers of the study's system; the first in order is used",
                context.index[subject],
            )
    return result
