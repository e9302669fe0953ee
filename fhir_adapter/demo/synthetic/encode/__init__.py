"""Facts as FHIR R4 resources, in a dialect.

The resources of a subject come one after the other, in an order in which every reference points to what was there
before. What belongs to no subject (the study, drugs that are referred to) comes from `shared_resources`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhir_adapter.demo.resources import Resource
from fhir_adapter.demo.synthetic.dialects import Dialect
from fhir_adapter.demo.synthetic.encode.events import events
from fhir_adapter.demo.synthetic.encode.people import people, study_resource
from fhir_adapter.demo.synthetic.encode.treatment import medications, treatment
from fhir_adapter.demo.synthetic.encode.tumour import lesion_name, tumour
from fhir_adapter.demo.synthetic.facts import Study, Subject

__all__ = ["lesion_name", "shared_resources", "subject_resources"]

_BASE = "https://hospital.example/fhir"


def _referred(node: Any, way: str) -> Any:
    """The same tree with its literal references in another form."""
    if isinstance(node, dict):
        return {
            name: _form(value, way)
            if name == "reference" and isinstance(value, str)
            else _referred(value, way)
            for name, value in node.items()
        }
    return [_referred(item, way) for item in node] if isinstance(node, list) else node


def _form(reference: str, way: str) -> str:
    if reference.startswith("#"):
        return reference
    return f"{_BASE}/{reference}" if way == "absolute" else f"{reference}/_history/1"


def _written(resources: Iterator[Resource], dialect: Dialect) -> Iterator[Resource]:
    for resource in resources:
        yield resource if dialect.reference == "relative" else _referred(resource, dialect.reference)


def shared_resources(study: Study, dialect: Dialect) -> Iterator[Resource]:
    """What belongs to no subject: the study, and the drugs where a dialect refers to them."""

    def made() -> Iterator[Resource]:
        yield study_resource(study)
        yield from medications(study, dialect)

    return _written(made(), dialect)


def subject_resources(subject: Subject, study: Study, dialect: Dialect) -> Iterator[Resource]:
    """All resources of a subject.

    Args:
        subject: the facts.
        study: the study.
        dialect: how they are written.
    """

    def made() -> Iterator[Resource]:
        yield from people(subject, study, dialect)
        yield from tumour(subject, study, dialect)
        yield from treatment(subject, study, dialect)
        yield from events(subject, study, dialect)

    return _written(made(), dialect)
