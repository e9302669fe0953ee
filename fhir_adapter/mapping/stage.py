"""The map stage: from landed resources to the SDTM-like datasets, one disposition per resource.

What a resource means is said by views (`mappings/views`) and ConceptMaps (`mappings/concepts`); the domains
join, convert units and number rows. Every row names its view and the resources, with versions, that it was
made from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pandas as pd

from fhir_adapter.accounting import Disposition, Finding
from fhir_adapter.datasets import conform
from fhir_adapter.engines.local import map_locally, processes_for
from fhir_adapter.engines.partition import DOMAINS, SHARED_TYPES, Part, Plan, Unresolved, split
from fhir_adapter.errors import SiteFileError, SourceNotFhir
from fhir_adapter.mapping.candidates import candidate_subjects, study_keys
from fhir_adapter.mapping.catalogue import view_names
from fhir_adapter.mapping.domains.context import RawResource
from fhir_adapter.mapping.references import Patient, people
from fhir_adapter.mapping.release import Release, detect_release
from fhir_adapter.mapping.terminology import Unknown
from fhir_adapter.study import Study
from fhir_adapter.undecodable import UNDECODABLE

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


def _patients(resources: Iterable[RawResource]) -> Iterator[Patient]:
    """Who the landed Patients are; of one that cannot be read, its id."""
    for raw in resources:
        if raw.type == "Patient":
            try:
                found = msgspec.json.decode(raw.body, type=Patient)
            except UNDECODABLE:
                found = Patient()  # the mapping quarantines it, and says why
            found.id = raw.id
            yield found


def _partition(resources: Sequence[RawResource]) -> tuple[list[RawResource], list[RawResource]]:
    """(resources of subjects, shared resources): what is about nobody is shared by all partitions."""
    own: list[RawResource] = []
    shared: list[RawResource] = []
    for raw in resources:
        (own if raw.type not in SHARED_TYPES else shared).append(raw)
    return own, shared


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


def _unresolved_findings(counts: Counter[Unresolved]) -> list[Finding]:
    """One finding per element whose references lead nowhere, with their number and without their targets."""
    return [
        Finding(
            code="unresolved-reference",
            text="references to a resource that did not land",
            detail=msgspec.json.encode(
                {"resource": item.resource, "element": item.element, "form": item.form, "count": number}
            ).decode(),
        )
        for item, number in sorted(counts.items())
    ]


def _check_release(used: Release, told: Counter[str]) -> None:
    """Resources that are all of another release would be taken for resources without content.

    Raises:
        SiteFileError: no resource tells of the release as which they would be read, and some tell of the other.
    """
    own, other = ("R5", "R4") if used == "R5" else ("R4", "R5")
    if told[other] and not told[own]:
        raise SiteFileError(
            f"the resources have the elements of {other}, and would be read as {used}",
            where="fhir_version",
            remedy="Correct it in the site file, or leave it out to find out from the resources of files.",
        )


def _release_findings(used: Release, told: Counter[str]) -> list[Finding]:
    """Resources whose elements are another release's than the one they were read as."""
    other = told["R4" if used == "R5" else "R5"]
    if not other:
        return []
    return [
        Finding(
            code="other-release",
            text=f"resources with elements of another FHIR release than {used}, as which they were read",
            detail=str(other),
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
    release: Release | None = None,
) -> Mapped:
    """Maps resources to datasets.

    Args:
        resources: the current resources of the landing, each once.
        study: the study; its cohort says who is a candidate.
        key: the site's HMAC key, for subjects without an identifier of the study's system.
        candidates: `Patient/id`s to restrict to, beside the study's own definition, which always holds.
        processes: how many processes share the work; None: as many as it is worth.
        concept_dirs: folders of the site's own concept maps.
        release: FHIR release of the resources; None finds out, see `detect_release`.

    Returns:
        Datasets, subjects, dispositions and findings. The same resources give the same result in any order.

    Raises:
        SourceNotFhir: two patients carry one subject identifier.
        SiteFileError: a subject has no identifier, and there is no key; a concept map of the site is wrong; or all
            resources are of another release.
        StudyFileError: the study names a view or concept map that does not exist.
    """
    landed = list(resources)
    everybody = people(_patients(landed))
    chosen = candidate_subjects(landed, study, everybody)
    if candidates is not None:
        chosen &= {everybody.surviving(patient) for patient in candidates}
    found, told = detect_release(landed)
    used: Release = release or found
    _check_release(used, told)
    plan = Plan(
        study=study,
        views=view_names(study, used),
        key=key,
        candidates=frozenset(chosen),
        people=everybody,
        study_keys=study_keys(landed, study),
        concept_dirs=tuple(concept_dirs),
        release=used,
    )
    own, shared = _partition(landed)
    processes = processes_for(len(own)) if processes is None else processes
    parts = map_locally(
        split(own, plan, 1 if processes == 1 else 2 * processes), shared, plan, processes=processes
    )
    subjects = sorted(pair for part in parts for pair in part.subjects)
    _check_identifiers(subjects)
    unknown: Counter[Unknown] = sum((part.unknown for part in parts), Counter())
    datasets = {
        name: conform(name, [row for part in parts for row in part.rows.get(name, [])]) for name in DOMAINS
    }
    dispositions = [item for part in parts for item in part.dispositions] + _shared_dispositions(parts)
    findings = [item for part in parts for item in part.findings]
    findings += _release_findings(used, told)
    unresolved: Counter[Unresolved] = sum((part.unresolved for part in parts), Counter())
    return Mapped(
        datasets=datasets,
        subjects=pd.DataFrame(subjects, columns=["PATKEY", "USUBJID"]),
        dispositions=sorted(dispositions, key=lambda item: (item.sequence, item.type, item.id)),
        findings=sorted(findings, key=lambda item: (item.code, item.usubjid, item.resource, item.detail))
        + _unknown_findings(unknown)
        + _unresolved_findings(unresolved),
    )
