"""`fhir-adapter check`: what a source supports and holds, before a study runs on it.

It reads and counts, and writes nothing, neither to the server nor to the landing.
"""

from __future__ import annotations

from fhir_adapter.check.draft import draft_concept_map
from fhir_adapter.check.report import Report
from fhir_adapter.check.run import check_study

__all__ = ["Report", "check_study", "draft_concept_map"]
