"""`fhir-adapter study new`: a study file that is valid, whose questions are named, and that no run takes unread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from fhir_adapter.assets import asset
from fhir_adapter.cli import app
from fhir_adapter.errors import StudyFileError, UsageError
from fhir_adapter.site import load_site
from fhir_adapter.study import load_study

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def call(*arguments: str | Path, error: type[Exception] | None = None) -> Result:
    """The command line in this process; an error is raised as `main` would meet it."""
    done = CliRunner().invoke(app, [str(item) for item in arguments])
    assert isinstance(done.exception, error or type(None)), done.output
    return done


def schema_of(path: Path) -> Path:
    """Where the first line of a file leads an editor to."""
    first = path.read_text("utf-8").splitlines()[0]
    head, _, target = first.partition("$schema=")
    assert "# yaml-language-server: " == head
    return (path.parent / target).resolve()


def plain(path: Path) -> Any:
    """A YAML file as JSON, dates as text, as an editor sees it."""
    return json.loads(json.dumps(YAML(typ="safe").load(path.read_text("utf-8")), default=str))


@pytest.mark.parametrize("arms", [1, 2, 3])
def test_the_file_is_valid_and_its_questions_are_named(arms: int, tmp_path: Path) -> None:
    """`study validate` accepts it, and names each open question with its line."""
    study = tmp_path / "lms.yaml"
    assert f"written: {study}" in call("study", "new", "lms", "--out", study, "--arms", str(arms)).output
    answer = json.loads(call("study", "validate", study, "--json").output)
    assert "lms" == answer["study"]
    marked = [n for n, line in enumerate(study.read_text("utf-8").splitlines(), 1) if "# DECIDE:" in line]
    assert marked == [item["line"] for item in answer["open"]]
    questions = " ".join(item["question"] for item in answer["open"])
    for word in (
        "cut-off",
        "consent",
        "candidates",
        "drugs",
        "Confirmation".lower(),
        "censored",
        "safety set",
    ):
        assert word in questions, word
    loaded, _ = load_study(study)
    assert (0 if arms == 1 else arms) == len(loaded.treatment.arms)
    said = call("study", "validate", study).output
    assert f"lms: valid, {len(marked)} to decide" in said
    assert f"lms.yaml:{marked[0]}: decide the title" in said


def test_no_run_takes_an_undecided_study(tmp_path: Path) -> None:
    """A run ends with the study file's status and names line and question; decided, it goes on to the source."""
    study = tmp_path / "lms.yaml"
    call("study", "new", "lms", "--out", study)
    refused = call(
        "run", study, "--site", tmp_path / "site.yaml", "--out", tmp_path / "runs", error=StudyFileError
    )
    assert "lms.yaml:13: " in str(refused.exception)
    assert "the title of the study" in str(refused.exception)
    assert not (tmp_path / "runs").exists()
    text = study.read_text("utf-8")
    study.write_text("\n".join(line.partition("# DECIDE:")[0] for line in text.splitlines()), "utf-8")
    assert [] == json.loads(call("study", "validate", study, "--json").output)["open"]


def test_editors_are_led_to_schemas_that_agree(tmp_path: Path) -> None:
    """The first line of each file names the schema beside it, by which the file is valid and a slip is not."""
    study = tmp_path / "lms.yaml"
    call("study", "new", "lms", "--out", study)
    for path, slip in ((study, ("study", "titel")), (tmp_path / "site.yaml", ("source", "pfad"))):
        schema = json.loads(schema_of(path).read_text("utf-8"))
        checker = jsonschema.Draft202012Validator(schema)
        tree = plain(path)
        assert [] == [error.message for error in checker.iter_errors(tree)]
        tree[slip[0]][slip[1]] = "x"
        assert 1 == len(list(checker.iter_errors(tree)))
    assert "hospital" == load_site(tmp_path / "site.yaml").id


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A study file that is there stays; a site file that is there is kept; the schemas are ours and renewed."""
    study, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    call("study", "new", "a", "--out", study)
    before = study.read_bytes()
    site = tmp_path / "site.yaml"
    site.write_text(site.read_text("utf-8").replace("id: hospital", "id: ours"), "utf-8")
    refused = call("study", "new", "a", "--out", study, error=UsageError)
    assert "nothing is overwritten" in str(refused.exception)
    assert before == study.read_bytes()
    files = json.loads(call("study", "new", "b", "--out", other, "--json").output)["files"]
    assert {"written", "kept"} == set(files.values())
    assert "kept" == files[str(site)]
    assert "id: ours" in site.read_text("utf-8")
    (tmp_path / "study.schema.json").write_text('{"title": "somebody else\'s"}', "utf-8")
    call("study", "new", "c", "--out", tmp_path / "c.yaml", error=UsageError)
    assert '{"title": "somebody else\'s"}' == (tmp_path / "study.schema.json").read_text("utf-8")


@pytest.mark.parametrize("name", ["Not A Slug", "../x", "", "x" * 65])
def test_a_name_that_is_none(name: str, tmp_path: Path) -> None:
    """A usage error before anything is written."""
    call("study", "new", name, "--out", tmp_path / "x.yaml", error=UsageError)
    assert [] == list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A usage error, no defect."""
    call("study", "new", "x", "--out", tmp_path / "nowhere" / "x.yaml", error=UsageError)


def test_the_schema_of_each_kind_of_file_is_printed() -> None:
    """`study schema` prints that of studies, with `--site` that of sites."""
    assert "cohort" in json.loads(call("study", "schema").output)["properties"]
    assert "source" in json.loads(call("study", "schema", "--site").output)["properties"]


@pytest.mark.parametrize(
    "path", sorted(asset("mappings", "studies").glob("*.yaml")), ids=lambda path: path.stem
)
def test_shipped_studies_lead_editors_to_the_schema(path: Path) -> None:
    """Their first line names docs/study.schema.json, by which they are valid."""
    assert REPOSITORY / "docs" / "study.schema.json" == schema_of(path)
    jsonschema.validate(plain(path), json.loads(schema_of(path).read_text("utf-8")))
