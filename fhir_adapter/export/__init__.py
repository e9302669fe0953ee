"""The datasets of a run for a statistician: SAS transport files, Dataset-JSON and Parquet, and what they mean.

`folder.py` writes a folder of them, `tables.py` has what the formats share, and `definition.py` the page that
defines every variable. Nothing here computes: values are those of the run folder's datasets.
"""

from __future__ import annotations

from fhir_adapter.export.definition import render_definition
from fhir_adapter.export.folder import FORMATS, Exported, export_datasets
from fhir_adapter.export.tables import Note, Table, study_tables

__all__ = ["FORMATS", "Exported", "Note", "Table", "export_datasets", "render_definition", "study_tables"]
