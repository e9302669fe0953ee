"""A study as a whole: read from its file, checked, and described as a JSON schema."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from fhir_adapter.errors import StudyFileError
from fhir_adapter.study.analyses import (
    Baseline,
    CoxModel,
    LandmarkAnalysis,
    ResponseTable,
    Sensitivity,
    Subgroup,
    SubgroupAnalysis,
    Summary,
)
from fhir_adapter.study.outcomes import Endpoint, Exposure, Imputation, Response, Toxicity
from fhir_adapter.study.parts import Model
from fhir_adapter.study.reporting import Limits, ReportSettings
from fhir_adapter.study.sources import Mapping
from fhir_adapter.study.subjects import AnalysisSet, Cohort, Identity, StudyInfo
from fhir_adapter.study.treatment import Randomisation, Treatment
from fhir_adapter.yamlfile import line_of, read_yaml

__all__ = ["Study", "json_schema", "load_study"]


class Study(Model):
    """A whole study file."""

    study: StudyInfo
    identity: Identity = Identity()
    mapping: Mapping = Mapping()
    cohort: Cohort
    treatment: Treatment
    randomisation: Randomisation | None = None
    response: Response = Response()
    imputation: Imputation = Imputation()
    last_contact: list[str] = Field(
        default=["SV.SVENDTC", "SV.SVSTDTC", "TR.TRDTC", "EX.EXENDTC", "EX.EXSTDTC", "PR.PRSTDTC", "SC.SCDTC",
                 "DS.DSSTDTC"],
        description="DATASET.VARIABLE of dates that show the subject alive.",
    )  # fmt: skip
    analysis_sets: list[AnalysisSet] = [
        AnalysisSet(id="safety", label="Safety set", flag="SAFFL"),
        AnalysisSet(id="full", label="Full analysis set", flag="FASFL"),
    ]
    quantile_type: Literal[7, 2] = Field(
        default=7, description="Quartiles by Hyndman and Fan's definition 7 (R) or 2 (SAS)."
    )
    baseline: Baseline = Baseline()
    subgroups: list[Subgroup] = []
    response_tables: list[ResponseTable] = []
    endpoints: list[Endpoint] = []
    subgroup_analyses: list[SubgroupAnalysis] = []
    landmark_analyses: list[LandmarkAnalysis] = []
    summaries: list[Summary] = []
    toxicity: Toxicity = Toxicity()
    exposure: Exposure = Exposure()
    models: list[CoxModel] = []
    sensitivity: list[Sensitivity] = []
    limits: Limits = Limits()
    report: ReportSettings = ReportSettings()

    def subgroup(self, id_: str) -> Subgroup:
        """The subgroup of that id."""
        return next(item for item in self.subgroups if item.id == id_)

    def endpoint(self, id_: str) -> Endpoint:
        """The endpoint of that id."""
        return next(item for item in self.endpoints if item.id == id_)

    def analysis_set(self, id_: str) -> AnalysisSet:
        """The analysis set of that id."""
        return next(item for item in self.analysis_sets if item.id == id_)

    @model_validator(mode="after")
    def _names_exist(self) -> Study:
        subgroups = {item.id for item in self.subgroups}
        sets = {item.id for item in self.analysis_sets}
        endpoints = {item.id for item in self.endpoints}
        wrong: list[str] = []
        for endpoint in self.endpoints:
            wrong += [
                f"endpoint {endpoint.id}: no subgroup {by}" for by in endpoint.by if by not in subgroups
            ]
            wrong += [f"endpoint {endpoint.id}: no analysis set {endpoint.population}"] * (
                endpoint.population not in sets
            )
            if endpoint.kind == "IPFS" and not self.response.irecist:
                wrong.append(f"endpoint {endpoint.id}: iPFS needs criteria: [RECIST 1.1, iRECIST]")
        for table in self.response_tables:
            if "CBR" in table.columns and self.response.clinical_benefit_days is None:
                wrong.append(f"response table {table.id}: CBR needs response.clinical_benefit_days")
            wrong += [
                f"response table {table.id}: no subgroup {by}"
                for by in table.subgroups
                if by not in subgroups
            ]
        for model in self.models:
            wrong += [f"model {model.id}: no endpoint {model.endpoint}"] * (model.endpoint not in endpoints)
        for item in self.sensitivity:
            wrong += [f"sensitivity {item.id}: no endpoint {item.endpoint}"] * (
                item.endpoint not in endpoints
            )
        analyses = {item.id for item in self.subgroup_analyses}
        arms = {arm.id for arm in self.treatment.arms}
        for part in self.subgroup_analyses:
            at = f"subgroup analysis {part.id}"
            wrong += [f"{at}: no endpoint {part.endpoint}"] * (part.endpoint not in endpoints)
            wrong += [f"{at}: no subgroup {by}" for by in part.subgroups if by not in subgroups]
            wrong += [f"{at}: no arm {arm}" for arm in part.arms if arm not in arms]
            if (part.arms or len(arms) > 1) and len(set(part.arms or arms)) != 2:
                wrong.append(f"{at}: name the two arms that are compared")
        for mark in self.landmark_analyses:
            wrong += [f"landmark analysis {mark.id}: no endpoint {mark.endpoint}"] * (
                mark.endpoint not in endpoints
            )
        for figure in self.report.figures:
            if figure.analysis is not None and (figure.kind != "forest" or figure.analysis not in analyses):
                wrong.append(f"figure {figure.id}: no subgroup analysis {figure.analysis} for a forest plot")
            if figure.endpoint is not None and figure.endpoint not in endpoints:
                wrong.append(f"figure {figure.id}: no endpoint {figure.endpoint}")
            if figure.by is not None and figure.by not in subgroups:
                wrong.append(f"figure {figure.id}: no subgroup {figure.by}")
        for drug in [self.treatment.cycles_from]:
            if drug is not None and drug not in {item.id for item in self.treatment.drugs}:
                wrong.append(f"treatment.cycles_from: no drug {drug}")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def _with_files(study: Study, raw: bytes, folder: Path) -> tuple[Study, str]:
    """The study with its own files found in a folder, and the SHA-256 of its bytes and theirs."""
    digest = hashlib.sha256(raw)
    found: dict[str, list[Path]] = {}
    for name in ("view_files", "concept_files"):
        found[name] = [folder / path for path in getattr(study.mapping, name)]
        for path in found[name]:
            try:
                digest.update(path.read_bytes())
            except OSError as error:
                raise StudyFileError(
                    f"{path.name} cannot be read ({error.strerror})", where=f"mapping.{name}"
                ) from error
    return study.model_copy(update={"mapping": study.mapping.model_copy(update=found)}), digest.hexdigest()


def load_study(path: Path, *, files: Path | None = None) -> tuple[Study, str]:
    """Reads and checks a study file.

    Args:
        path: the YAML file.
        files: folder of the study's own views and concept maps; None for that of the file.

    Returns:
        The study, its own files as absolute paths, and the SHA-256 (hex) of all their bytes.

    Raises:
        StudyFileError: the file is missing, not YAML, or not a study; each problem with its line.
    """
    tree, raw = read_yaml(path, StudyFileError, "the study file")
    try:
        study = Study.model_validate(tree)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            line = line_of(tree, item["loc"])
            place = ".".join(str(part) for part in item["loc"])
            problems.append(f"{path.name}:{line}: {place}: {item['msg']}")
        raise StudyFileError(
            "; ".join(problems), remedy="`fhir-adapter study schema` prints what a study file may hold."
        ) from error
    _check_randomisation(study, tree, path.name)
    return _with_files(study, raw, (files or path.parent).absolute())


def _check_randomisation(study: Study, tree: Any, name: str) -> None:
    """Refuses a study that counts from the randomisation and does not say where its date stands.

    Raises:
        StudyFileError: with the line of each setting that asks for it.
    """
    if study.randomisation is not None:
        return
    asking: list[tuple[int | str, ...]] = [
        ("endpoints", place, "start")
        for place, endpoint in enumerate(study.endpoints)
        if endpoint.start == "randomisation"
    ]
    asking += [
        ("sensitivity", place, "changes", "start")
        for place, item in enumerate(study.sensitivity)
        if item.changes.get("start") == "randomisation"
    ]
    if study.response.best.reference == "randomisation":
        asking.append(("response", "best", "reference"))
    if asking:
        places = (f"{name}:{line_of(tree, path)}: {'.'.join(map(str, path))}" for path in asking)
        raise StudyFileError(
            "; ".join(
                f"{place}: the study does not say where the date of randomisation stands" for place in places
            ),
            remedy="Add a `randomisation:` section that names its source.",
        )


def json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a study file."""
    schema = Study.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "fhir_adapter study file"
    return schema
