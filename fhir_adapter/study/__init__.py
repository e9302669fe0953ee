"""The study definition: the typed model of a study YAML file, and its JSON schema.

Everything that differs between two studies stands here: who is in it, which drugs, which response rules, endpoints,
tables, figures, models, and the published values to compare with. No study needs a line of Python.
"""

from fhir_adapter.study.analyses import (
    Baseline,
    Characteristic,
    Covariate,
    CoxModel,
    Grouping,
    LandmarkAnalysis,
    Level,
    ResponseTable,
    Sensitivity,
    Subgroup,
    SubgroupAnalysis,
    Summary,
    TableRow,
)
from fhir_adapter.study.definition import Study, json_schema, load_study
from fhir_adapter.study.outcomes import (
    Adjudication,
    BestResponse,
    Endpoint,
    Exposure,
    Imputation,
    Response,
    Toxicity,
)
from fhir_adapter.study.reporting import Figure, KnownDifference, Limits, Published, ReportSettings
from fhir_adapter.study.sources import Mapping
from fhir_adapter.study.subjects import (
    AnalysisSet,
    Candidates,
    Coded,
    Cohort,
    Consent,
    Exclusion,
    Identity,
    StudyInfo,
)
from fhir_adapter.study.treatment import Arm, BodySize, Drug, Randomisation, Treatment

__all__ = [
    "Adjudication",
    "AnalysisSet",
    "Arm",
    "Baseline",
    "BestResponse",
    "BodySize",
    "Candidates",
    "Characteristic",
    "Coded",
    "Cohort",
    "Consent",
    "Covariate",
    "CoxModel",
    "Drug",
    "Endpoint",
    "Exclusion",
    "Exposure",
    "Figure",
    "Grouping",
    "Identity",
    "Imputation",
    "KnownDifference",
    "LandmarkAnalysis",
    "Level",
    "Limits",
    "Mapping",
    "Published",
    "Randomisation",
    "ReportSettings",
    "Response",
    "ResponseTable",
    "Sensitivity",
    "Study",
    "StudyInfo",
    "Subgroup",
    "SubgroupAnalysis",
    "Summary",
    "TableRow",
    "Toxicity",
    "Treatment",
    "json_schema",
    "load_study",
]
