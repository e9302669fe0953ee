"""Study files: what is accepted, and how each mistake is named with its line."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from fhir_adapter.assets import asset
from fhir_adapter.errors import StudyFileError
from fhir_adapter.study import json_schema, load_study

GOOD = """\
study:
  id: small
  title: A small study
  data_cutoff: 2022-01-31
  consent: {policy: required}
cohort:
  candidates: {all_patients: true}
treatment:
  drugs:
    - {id: drug, label: Drug, concept: drug}
endpoints:
  - {id: PFS, label: PFS, kind: PFS}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_small_study_file_is_enough(tmp_path: Path) -> None:
    """Everything else has a documented default."""
    study, digest = load_study(write(tmp_path, GOOD))
    assert ("small", 64, 42) == (study.study.id, len(digest), study.response.best.ref_start_window)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  title:", "  tittle:", "study.yaml:3: study.tittle: Extra inputs"),
        ("id: small", "id: Not A Slug", "study.yaml:2: study.id"),
        ("2022-01-31", "yesterday", "study.yaml:4: study.data_cutoff"),
        ("{policy: required}", "{policy: waived}", "study.yaml:5: study.consent"),
        ("{all_patients: true}", "{}", "study.yaml:7: cohort.candidates"),
        ("kind: PFS", "kind: PFX", "study.yaml:12: endpoints.0.kind"),
        ("kind: PFS", "kind: PFS, by: [grade]", "no subgroup grade"),
        ("study:\n", "study: [\n", "not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """File, line, field and what is wrong with it."""
    with pytest.raises(StudyFileError) as raised:
        load_study(write(tmp_path, GOOD.replace(old, new)))
    assert expected in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """No traceback for a mistyped path."""
    with pytest.raises(StudyFileError, match=r"nowhere\.yaml: the study file cannot be read"):
        load_study(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    "path", sorted(asset("mappings", "studies").glob("*.yaml")), ids=lambda path: path.stem
)
def test_shipped_studies_are_valid(path: Path) -> None:
    """Every shipped study file loads, and the JSON schema that editors use accepts it too."""
    load_study(path)
    tree = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    tree["study"]["data_cutoff"] = str(tree["study"]["data_cutoff"])
    jsonschema.Draft202012Validator(json_schema()).validate(tree)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("kind: PFS}", "kind: PFS, start: randomisation}", "study.yaml:12: endpoints.0.start"),
        (
            "endpoints:",
            "response:\n  best:\n    reference: randomisation\nendpoints:",
            "study.yaml:13: response.best.reference",
        ),
        (
            "kind: PFS}\n",
            (
                "kind: PFS}\nsensitivity:\n  - id: itt\n    label: ITT\n    endpoint: PFS\n"
                "    changes: {start: randomisation}\n"
            ),
            "study.yaml:17: sensitivity.0.changes.start",
        ),
    ],
)
def test_a_randomisation_without_a_source_is_refused(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    """Whatever counts from the randomisation needs the section that says where its date stands."""
    text = GOOD.replace(old, new)
    with pytest.raises(StudyFileError) as raised:
        load_study(write(tmp_path, text))
    assert expected in str(raised.value)
    assert "date of randomisation" in str(raised.value)
    study, _ = load_study(write(tmp_path, text + "randomisation: {source: research_subject}\n"))
    assert study.randomisation is not None
