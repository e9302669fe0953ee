"""A study may bring views and concept maps of its own, from the folder of its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mapping_support as support
import pytest

from fhir_adapter.assets import asset
from fhir_adapter.demo import resources as r
from fhir_adapter.errors import StudyFileError
from fhir_adapter.mapping.stage import map_resources
from fhir_adapter.pipeline import Settings, new_run, open_run
from fhir_adapter.study import Study, load_study


def concept_map(system: str, code: str, target: str) -> dict[str, Any]:
    """A ConceptMap of one code."""
    element = {"code": code, "target": [{"code": target, "equivalence": "equivalent"}]}
    return {
        "resourceType": "ConceptMap",
        "status": "active",
        "group": [{"source": system, "element": [element]}],
    }


def study_with(folder: Path, **files: dict[str, Any]) -> Path:
    """The study of the six patients with files beside it (`views/x.json` as `views__x`)."""
    mapping: dict[str, list[str]] = {"view_files": [], "concept_files": []}
    for name, content in files.items():
        kind, stem = name.split("__")
        path = folder / kind / f"{stem}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content), "utf-8")
        mapping["view_files" if kind == "views" else "concept_files"].append(f"{kind}/{stem}.json")
    text = (support.SIX / "six.yaml").read_text("utf-8")
    path = folder / "study.yaml"
    path.write_text(f"{text}\nmapping: {json.dumps(mapping)}\n", "utf-8")
    return path


def mapped(study: Study, *more: dict[str, Any]) -> Any:
    """The six patients and some more resources."""
    return map_resources(support.landed([*support.six(), *more]), study, key=None)


DOSE = r.administration(
    "a-dose", patient="Patient/six-sd", drug=("urn:hospital:drugs", "A17", ""), start="2021-12-15", dose=12
)


def test_a_map_of_the_study_is_asked_first(tmp_path: Path) -> None:
    """A code of the hospital, without display, is a study drug by the study's own map; the shipped one still holds."""
    path = study_with(tmp_path, concepts__drug=concept_map("urn:hospital:drugs", "A17", "anlotinib"))
    study, _ = load_study(path)
    result = mapped(study, DOSE)
    assert support.rows(result, "EX", "EXTRT", EXSTDTC="2021-12-15") == [("anlotinib",)]
    shipped, _ = load_study(support.SIX / "six.yaml")
    assert support.rows(mapped(shipped, DOSE), "EX", "EXTRT", EXSTDTC="2021-12-15") == []
    assert len(result.datasets["EX"]) == len(mapped(shipped).datasets["EX"]) + 1


def test_a_view_of_the_study_takes_the_place_of_the_shipped_one(tmp_path: Path) -> None:
    """States of lesions under the hospital's own code, by a view with another `where`."""
    view = json.loads(asset("mappings", "views", "tr_tumor_state.json").read_text("utf-8"))
    view["where"] = [{"path": "code.coding.where(system = 'urn:hospital' and code = 'STATE').exists()"}]
    study, _ = load_study(study_with(tmp_path, views__tr_tumor_state=view))
    made = r.tumor_state(
        "a-state",
        patient="Patient/six-sd",
        lesion="BodyStructure/six-sd-nt01",
        date="2021-12-15",
        state="absent",
    ) | {"code": r.concept(("urn:hospital", "STATE", ""))}
    result = mapped(study, made)
    assert support.rows(result, "TR", "TRDTC", "TRSTRESC", TRTESTCD="TUMSTATE") == [("2021-12-15", "ABSENT")]


def test_a_view_that_lacks_a_column_is_refused(tmp_path: Path) -> None:
    """What the mapping reads of a view must be there; else it would be null."""
    view = json.loads(asset("mappings", "views", "sv_encounter.json").read_text("utf-8"))
    view["select"][0]["column"] = view["select"][0]["column"][1:]
    study, _ = load_study(study_with(tmp_path, views__sv_encounter=view))
    with pytest.raises(StudyFileError, match="the columns label are missing"):
        mapped(study)


@pytest.mark.parametrize("name", ["views__nonsense", "concepts__nonsense"])
def test_a_name_that_nothing_reads_is_refused(tmp_path: Path, name: str) -> None:
    """The name of a file says what it stands for."""
    study, _ = load_study(study_with(tmp_path, **{name: concept_map("urn:x", "1", "2")}))
    with pytest.raises(StudyFileError, match="nothing reads"):
        mapped(study)


def test_files_stay_below_the_study(tmp_path: Path) -> None:
    """A path that leads out of the folder, and a file that is not there."""
    path = study_with(tmp_path, concepts__drug=concept_map("urn:x", "1", "anlotinib"))
    text = path.read_text("utf-8")
    path.write_text(text.replace("concepts/drug.json", "../drug.json"), "utf-8")
    with pytest.raises(StudyFileError, match="in the folder of the study file"):
        load_study(path)
    path.write_text(text.replace("concepts/drug.json", "concepts/none.json"), "utf-8")
    with pytest.raises(StudyFileError, match="cannot be read"):
        load_study(path)


def test_a_run_keeps_the_files_of_its_study(tmp_path: Path) -> None:
    """They are copied into the run folder, count in the study's hash, and a later stage reads the copies."""
    path = study_with(tmp_path, concepts__drug=concept_map("urn:hospital:drugs", "A17", "anlotinib"))
    site = tmp_path / "site.yaml"
    (tmp_path / "source").mkdir()
    site.write_text(json.dumps({"id": "one", "source": {"kind": "files", "path": "source"}}), "utf-8")
    run = new_run(path, site, tmp_path / "runs", Settings(quiet=True))
    own = tmp_path / "concepts" / "drug.json"
    own.write_text("{}", "utf-8")
    again = open_run(run.folder.path, Settings(quiet=True))
    with run.log, again.log:
        pass
    assert again.study.mapping.concept_files == [run.folder.path / "study" / "concepts" / "drug.json"]
    assert load_study(path)[1] != run.manifest["study_sha256"]
    assert run.manifest["study_sha256"] != load_study(support.SIX / "six.yaml")[1]
