"""The map stage: from landed resources to the SDTM-like datasets, one disposition per resource.

What a resource means is said by views (`mappings/views`) and ConceptMaps (`mappings/concepts`); the domains
join, convert units and number rows. Every row names its view and the resources, with versions, that it was
made from.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pandas as pd

from fhir_adapter.accounting import Disposition, Finding
from fhir_adapter.datasets import conform
from fhir_adapter.engines.local import map_locally, processes_for
from fhir_adapter.engines.partition import DOMAINS, SHARED_TYPES, Part, Plan, view_names
from fhir_adapter.errors import SourceNotFhir
from fhir_adapter.mapping.candidates import candidate_subjects, study_keys
from fhir_adapter.mapping.domains.context import RawResource
from fhir_adapter.mapping.references import Head, survivors
from fhir_adapter.mapping.terminology import Unknown
from fhir_adapter.mapping.which_count import decode_head
from fhir_adapter.study import Study

__all__ = ["Mapped", "map_resources"]


@dataclass
class Mapped:
    """What the map stage leaves.

    Attributes:
        datasets: DM MH SC TU TR RS EX CM AE PR SV DS, in the form of the metadata.
        subjects: PATKEY (`Patient/id`), USUBJID; for files inside the run folder only.
        dispositions: one per resource that was given, in order of their sequence.
        findings: what deserves a look.
    """

    datasets: dict[str, pd.DataFrame]
    subjects: pd.DataFrame
    dispositions: list[Disposition]
    findings: list[Finding]


def _partition(resources: Sequence[RawResource]) -> tuple[list[RawResource], list[RawResource]]:
    """(resources of subjects, shared resources): what is about nobody is shared by all partitions."""
    own: list[RawResource] = []
    shared: list[RawResource] = []
    for raw in resources:
        (own if raw.type not in SHARED_TYPES else shared).append(raw)
    return own, shared


def _by_subject(
    resources: Sequence[RawResource], merged: Mapping[str, str], processes: int
) -> list[list[RawResource]]:
    """Partitions of about the same size, one or two for each process; all of a patient, merged ones too, in one.

    What names no patient goes to the first: which partition it is in makes no difference.
    """
    if processes == 1:
        return [list(resources)]
    parts: list[list[RawResource]] = [[] for _ in range(2 * processes)]
    for raw in resources:
        patient = f"Patient/{raw.id}" if raw.type == "Patient" else raw.subject
        if patient is None and isinstance(head := decode_head(raw.body), Head):
            patient = head.patient_key
        patient = merged.get(patient, patient) if patient is not None else None
        parts[zlib.crc32(patient.encode()) % len(parts) if patient is not None else 0].append(raw)
    return parts


def _shared_dispositions(parts: Sequence[Part]) -> list[Disposition]:
    """One disposition per shared resource: used if any partition used it."""
    best: dict[tuple[str, str, str, int], Disposition] = {}
    for part in parts:
        for item in part.shared:
            key = (item.type, item.id, item.version, item.sequence)
            if key not in best or item.outcome == "used":
                best[key] = item
    return list(best.values())


def _unknown_findings(counts: Counter[Unknown]) -> list[Finding]:
    """One finding per unknown code, with the number of times it was met."""
    return [
        Finding(
            code="unknown-code",
            text=f"a code or text that the concept map {unknown.concept_map} does not know",
            detail=msgspec.json.encode(
                {
                    "concept_map": unknown.concept_map,
                    "system": unknown.system,
                    "code": unknown.code,
                    "display": unknown.display,
                    "count": number,
                }
            ).decode(),
        )
        for unknown, number in sorted(
            counts.items(),
            key=lambda item: (item[0].concept_map, item[0].system, item[0].code, item[0].display),
        )
    ]


def _check_identifiers(subjects: Iterable[tuple[str, str]]) -> None:
    """Two patients of one USUBJID would be mixed up in every dataset.

    Raises:
        SourceNotFhir: there are such patients; the message carries no identifier.
    """
    counts = Counter(usubjid for _, usubjid in subjects)
    doubled = sum(1 for number in counts.values() if number > 1)
    if doubled:
        raise SourceNotFhir(
            f"{doubled} subject identifier(s) are carried by two or more patients",
            where="ResearchSubject.identifier",
            remedy="Merge the patients on the server (Patient.link), or correct the identifier.",
        )


def map_resources(
    resources: Iterable[RawResource],
    study: Study,
    *,
    key: bytes | None,
    candidates: set[str] | None = None,
    processes: int | None = None,
    concept_dirs: Iterable[Path] = (),
) -> Mapped:
    """Maps resources to datasets.

    Args:
        resources: the current resources of the landing, each once.
        study: the study; its cohort says who is a candidate.
        key: the site's HMAC key, for subjects without an identifier of the study's system.
        candidates: `Patient/id`s to restrict to, beside the study's own definition, which always holds.
        processes: how many processes share the work; None: as many as it is worth.
        concept_dirs: folders of the site's own concept maps.

    Returns:
        Datasets, subjects, dispositions and findings. The same resources give the same result in any order.

    Raises:
        SourceNotFhir: two patients carry one subject identifier, or merged patients form a circle.
        SiteFileError: a subject has no identifier, and there is no key; or a concept map of the site is wrong.
        StudyFileError: the study names a view or concept map that does not exist.
    """
    landed = list(resources)
    heads = [decode_head(raw.body) for raw in landed if raw.type == "Patient"]
    merged = dict(survivors(head for head in heads if isinstance(head, Head)))
    chosen = candidate_subjects(landed, study, merged)
    if candidates is not None:
        chosen &= {merged.get(patient, patient) for patient in candidates}
    plan = Plan(
        study=study,
        views=view_names(study),
        key=key,
        candidates=frozenset(chosen),
        survivors=merged,
        study_keys=study_keys(landed, study),
        concept_dirs=tuple(concept_dirs),
    )
    own, shared = _partition(landed)
    processes = processes_for(len(own)) if processes is None else processes
    parts = map_locally(_by_subject(own, merged, processes), shared, plan, processes=processes)
    subjects = sorted(pair for part in parts for pair in part.subjects)
    _check_identifiers(subjects)
    unknown: Counter[Unknown] = sum((part.unknown for part in parts), Counter())
    datasets = {
        name: conform(name, [row for part in parts for row in part.rows.get(name, [])]) for name in DOMAINS
    }
    dispositions = [item for part in parts for item in part.dispositions] + _shared_dispositions(parts)
    findings = [item for part in parts for item in part.findings]
    return Mapped(
        datasets=datasets,
        subjects=pd.DataFrame(subjects, columns=["PATKEY", "USUBJID"]),
        dispositions=sorted(dispositions, key=lambda item: (item.sequence, item.type, item.id)),
        findings=sorted(findings, key=lambda item: (item.code, item.usubjid, item.resource, item.detail))
        + _unknown_findings(unknown),
    )
