"""The analyse stage: from datasets to results, in the order of the report."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from fhir_adapter.analysis.baseline import baseline_table
from fhir_adapter.analysis.disagreement import disagreement
from fhir_adapter.analysis.endpoints import endpoints
from fhir_adapter.analysis.exposure import exposure_table
from fhir_adapter.analysis.flow import flow
from fhir_adapter.analysis.landmark import landmark_analyses
from fhir_adapter.analysis.models import models
from fhir_adapter.analysis.published import published
from fhir_adapter.analysis.response import response_tables
from fhir_adapter.analysis.selection import Analysis, up_to_cut_off
from fhir_adapter.analysis.subgroups import subgroup_analyses
from fhir_adapter.analysis.summaries import summaries
from fhir_adapter.analysis.toxicity import toxicity
from fhir_adapter.results import Results
from fhir_adapter.study import Study

__all__ = ["analyse"]


def analyse(datasets: Mapping[str, pd.DataFrame], study: Study, data_cutoff: str) -> Results:
    """Computes every number of the report.

    Args:
        datasets: the ADaM datasets of the derive stage, and the SDTM-like ones where a condition names them;
            rows of these after the cut-off do not count.
        study: the study definition.
        data_cutoff: the cut-off that was used, ISO date.

    Returns:
        Results and displays; the same datasets and study give the same bytes.
    """
    results = Results(study=study.study.id, data_cutoff=data_cutoff)
    analysis = Analysis(study, up_to_cut_off(datasets, data_cutoff), results)
    for part in (
        flow, baseline_table, response_tables, disagreement, endpoints, subgroup_analyses,
        landmark_analyses, toxicity, summaries, exposure_table, models, published,
    ):  # fmt: skip
        part(analysis)
    return results
