"""Builders of visits and scans: Encounter and ImagingStudy."""

from __future__ import annotations

from typing import Literal

from fhir_adapter.demo.resources.parts import (
    DICOM,
    Resource,
    code,
    concept,
    make_resource,
    optional_reference,
    period,
    reference,
)

__all__ = ["encounter", "imaging_study"]


def encounter(
    id_: str, *, patient: str, start: str, end: str | None = None, label: str, status: str = "finished"
) -> Resource:
    """An Encounter; its label (`Baseline`, `Week 9` …) is the text of its type."""
    kind = ("http://terminology.hl7.org/CodeSystem/v3-ActCode", "AMB", "ambulatory")
    return make_resource(
        "Encounter",
        id_,
        status=status,
        **{"class": code(kind)},
        type=[concept(text=label)],
        subject=reference(patient),
        period=period(start, start if end is None else end),
    )


def imaging_study(
    id_: str,
    *,
    patient: str,
    started: str,
    modality: Literal["CT", "MR", "PT", "US"] = "CT",
    encounter: str | None = None,
    description: str | None = None,
    status: str = "available",
) -> Resource:
    """An ImagingStudy, one per scan."""
    return make_resource(
        "ImagingStudy",
        id_,
        status=status,
        modality=[code((DICOM, modality, ""))],
        subject=reference(patient),
        encounter=optional_reference(encounter),
        started=started,
        description=description,
    )
