"""Synthetic cohorts as NDJSON, written as they are made: memory does not grow with the cohort."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import msgspec

from fhir_adapter.demo.resources import Resource
from fhir_adapter.demo.synthetic.cohort import DEFAULT_STUDY
from fhir_adapter.demo.synthetic.dialects import DIALECTS, Dialect
from fhir_adapter.demo.synthetic.encode import shared_resources, subject_resources
from fhir_adapter.demo.synthetic.facts import Study, Subject
from fhir_adapter.demo.synthetic.releases import Release, in_release
from fhir_adapter.rundir import private_dir

__all__ = ["cohort_resources", "write_files", "write_lines"]


def cohort_resources(
    subjects: Iterable[Subject],
    *,
    study: Study = DEFAULT_STUDY,
    dialect: Dialect = DIALECTS["mcode"],
    release: Release = "R4",
) -> Iterator[Resource]:
    """The resources of a cohort: what is shared first, then subject by subject.

    Args:
        subjects: their facts.
        study: the study that they take part in.
        dialect: how the facts are written.
        release: R4, R4B or R5.
    """
    for resource in shared_resources(study, dialect):
        yield in_release(resource, release)
    for subject in subjects:
        for resource in subject_resources(subject, study, dialect):
            yield in_release(resource, release)


def _private(path: Path) -> BinaryIO:
    path.touch(mode=0o600)
    path.chmod(0o600)
    return path.open("wb")


def write_lines(resources: Iterable[Resource], out: BinaryIO) -> Counter[str]:
    """Writes one resource per line.

    Returns:
        How many of each type.
    """
    counts: Counter[str] = Counter()
    for resource in resources:
        out.write(msgspec.json.encode(resource) + b"\n")
        counts[resource["resourceType"]] += 1
    return counts


def write_files(resources: Iterable[Resource], out: Path) -> Counter[str]:
    """Writes one resource per line: into `<out>/<Type>.ndjson`, or into `out` if it ends in `.ndjson`.

    Files are private and replace those of the same name. Equal resources give equal bytes.

    Returns:
        How many of each type.
    """
    if out.suffix == ".ndjson":
        private_dir(out.parent)
        with _private(out) as handle:
            return write_lines(resources, handle)
    folder = private_dir(out)
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        handles: dict[str, BinaryIO] = {}
        for resource in resources:
            type_ = resource["resourceType"]
            if type_ not in handles:
                handles[type_] = stack.enter_context(_private(folder / f"{type_}.ndjson"))
            handles[type_].write(msgspec.json.encode(resource) + b"\n")
            counts[type_] += 1
    return counts
