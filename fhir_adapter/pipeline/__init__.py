"""One run, stage after stage: connect, land, map, derive, analyse, report, write back.

Each stage reads what the stage before it left in the run folder and leaves files that a person can open, so that any
stage can be run alone, inspected and resumed. A run folder carries copies of its study and site files (a site file
holds no credential), hence a stage needs nothing but the folder.
"""

from __future__ import annotations

from fhir_adapter.pipeline.from_site import identity_key, with_source
from fhir_adapter.pipeline.opening import new_run, open_run, run_all
from fhir_adapter.pipeline.run import STAGES, Run, Settings

__all__ = [
    "STAGES",
    "Run",
    "Settings",
    "identity_key",
    "new_run",
    "open_run",
    "run_all",
    "with_source",
]
