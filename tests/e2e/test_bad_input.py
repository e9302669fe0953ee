"""What goes wrong, through the command line: the message, the exit status, and nothing half-written."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from fhir_adapter import cli
from fhir_adapter.errors import AdapterError
from fhir_adapter.pipeline import run as pipeline_run

from .conftest import SIX, Adapter, Ended, six_patients, write_site, write_source

FAST = {"attempts": 1, "max_wait_s": 0, "timeout_s": 5}


def attempt(adapter: Adapter, folder: Path, site: Path, status: int, study: Path = SIX / "six.yaml") -> Ended:
    """A run that is expected to end with a status; whatever it left is whole."""
    done = adapter("run", study, "--site", site, "--out", folder / "runs", "--quiet", status=status)
    left = [path for path in folder.rglob("*") if path.is_file()]
    assert [] == [path.name for path in left if path.suffix in {".part", ".tmp"}]
    for path in left:
        assert path.name not in {"report.html", "results.json", "writeback.json"}
        if path.name == "manifest.json":
            ended = json.loads(path.read_text("utf-8"))["exit"]
            assert status == ended["status"]
            assert ended["code"] in done.err
    assert "Traceback" not in done.err
    return done


def bundle(*entries: dict[str, Any]) -> str:
    return json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": list(entries)})


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (Response('{"hello": 1}', 200), 22, "no CapabilityStatement"),
        (Response("<html>login</html>", 200), 22, "HTML"),
        (Response("", 401), 21, "401"),
        (Response("", 403), 21, "403"),
        (Response("", 404), 21, "404"),
        (Response("", 500), 20, "500"),
        (Response('{"resourceType": "Bundle", "entry": [', 200), 22, "source-"),
    ],
    ids=["not FHIR", "HTML", "401", "403", "404", "500", "cut"],
)
def test_a_server_that_does_not_answer_as_it_should(
    httpserver: HTTPServer, tmp_path: Path, adapter: Adapter, answer: Response, status: int, words: str
) -> None:
    """Each answer has its exit status and a message that says what came."""
    httpserver.expect_request(re.compile(".*")).respond_with_response(answer)
    site = write_site(tmp_path, source={"kind": "rest", "url": httpserver.url_for("/fhir")}, retry=FAST)
    assert words in attempt(adapter, tmp_path, site, status).err


def test_a_server_that_is_down(tmp_path: Path, adapter: Adapter) -> None:
    """Status 20; the message names the place without any search value."""
    site = write_site(tmp_path, source={"kind": "rest", "url": "http://127.0.0.1:9/fhir"}, retry=FAST)
    assert "there is no connection" in attempt(adapter, tmp_path, site, 20).err


def test_a_next_link_to_another_host_is_not_followed(
    httpserver: HTTPServer, tmp_path: Path, adapter: Adapter
) -> None:
    """Neither the link is followed nor the credential sent along."""
    seen: list[str] = []

    def answer(request: Request) -> Response:
        seen.append(request.headers.get("Authorization", ""))
        if request.path.endswith("metadata"):
            return Response(json.dumps({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}), 200)
        link = [{"relation": "next", "url": "http://evil.example/fhir?page=2"}]
        return Response(json.dumps({"resourceType": "Bundle", "type": "searchset", "link": link, "entry": [
            {"resource": {"resourceType": "ResearchStudy", "id": "six-study", "identifier": [
                {"system": "https://fhir-adapter.org/six/study", "value": "SIX"}]}}]}), 200)  # fmt: skip

    httpserver.expect_request(re.compile(".*")).respond_with_handler(answer)
    site = write_site(
        tmp_path, source={"kind": "rest", "url": httpserver.url_for("/fhir")}, retry=FAST,
        auth={"kind": "bearer", "token_env": "TEST_TOKEN"},
    )  # fmt: skip
    done = adapter("run", SIX / "six.yaml", "--site", site, "--out", tmp_path, "--quiet", status=None,
                   env={"TEST_TOKEN": "secret-token"})  # fmt: skip
    assert 21 == done.status
    assert "evil.example" in done.err
    assert "secret-token" not in done.err + done.out
    assert {"Bearer secret-token"} == set(seen)


@pytest.mark.parametrize(
    ("edit", "status", "words"),
    [
        (lambda text: text.replace("  title:", "  titel:"), 10, "study.yaml:4: study.titel"),
        (lambda text: text.replace("kind: OS", "kind: OSS"), 10, "study.yaml"),
        (lambda text: text + "\n\tx: [", 10, "not YAML"),
    ],
)
def test_a_mistake_in_the_study_file(
    tmp_path: Path, adapter: Adapter, edit: Callable[[str], str], status: int, words: str
) -> None:
    """The line is named, and nothing was pulled or written."""
    study = tmp_path / "study.yaml"
    study.write_text(edit((SIX / "six.yaml").read_text("utf-8")), encoding="utf-8")
    write_source(tmp_path / "source", six_patients())
    assert words in attempt(adapter, tmp_path, write_site(tmp_path), status, study).err
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sauce": 1}, "site.yaml:1: sauce: unknown field"),
        ({"auth": {"kind": "basic", "password": "x"}}, "must not stand in a site file"),
        ({"auth": {"kind": "bearer", "token_env": "UNSET"}, "source": {"kind": "rest", "url": "http://[::1]:9"}},
         "UNSET"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_site_file(
    tmp_path: Path, adapter: Adapter, settings: dict[str, Any], words: str
) -> None:
    """Status 11; a credential never stands in the site file."""
    write_source(tmp_path / "source", six_patients())
    assert words in attempt(adapter, tmp_path, write_site(tmp_path, **settings), 11).err


def test_a_bundle_cut_in_the_middle(tmp_path: Path, adapter: Adapter) -> None:
    """Status 22, the file is named."""
    (tmp_path / "source").mkdir()
    text = json.dumps(
        {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": six_patients()[0]}]}
    )
    (tmp_path / "source" / "night.json").write_text(text[: len(text) // 2], encoding="utf-8")
    assert "night.json" in attempt(adapter, tmp_path, write_site(tmp_path), 22).err


def test_a_source_folder_that_is_not_there(tmp_path: Path, adapter: Adapter) -> None:
    """Status 20 or 22, and `--source` with a folder that is not there is a usage error."""
    assert attempt(adapter, tmp_path, write_site(tmp_path), 20).err
    site = write_site(tmp_path)
    said = adapter("run", SIX / "six.yaml", "--site", site, "--source", tmp_path / "nowhere", status=2).err
    assert "no such folder" in said


def test_two_patients_with_one_identifier(tmp_path: Path, adapter: Adapter) -> None:
    """Two people under one USUBJID would be mixed up: the run stops, and names no identifier."""
    resources = six_patients()
    for item in resources:
        if item["id"] == "six-pd-subject":
            item["identifier"][0]["value"] = "SIX-001"
    write_source(tmp_path / "source", resources)
    said = attempt(adapter, tmp_path, write_site(tmp_path), 22).err
    assert "carried by two or more patients" in said
    assert "SIX-001" not in said


def test_text_where_a_number_belongs_is_quarantined(tmp_path: Path, adapter: Adapter) -> None:
    """One resource is set aside with reason and path, the report is there; the study's limit gives status 3."""
    resources = six_patients()
    spoilt = next(item for item in resources if item["id"] == "six-sd-week9-t01")
    spoilt["component"][0]["valueQuantity"]["value"] = "big"
    write_source(tmp_path / "source", resources)
    study = tmp_path / "study.yaml"
    text = (SIX / "six.yaml").read_text("utf-8")
    study.write_text(text.replace("quarantined: 5", "quarantined: 0"), encoding="utf-8")
    done = adapter(
        "run", study, "--site", write_site(tmp_path), "--out", tmp_path, "--quiet", "--json", status=3
    )
    assert ["1 quarantined resources, limit 0"] == json.loads(done.out)["exceeded"]
    (line,) = (done.run / "quarantine" / "quarantine.ndjson").read_text("utf-8").splitlines()
    held = json.loads(line)
    assert ("Observation", "six-sd-week9-t01") == (held["type"], held["id"])
    assert held["reason"]
    assert "value" in held["path"]
    assert "another shape than FHIR gives it" in held["text"]
    assert "big" in held["resource"]
    assert (done.run / "report.html").exists()


def test_a_folder_that_is_no_run(tmp_path: Path, adapter: Adapter) -> None:
    """Status 60 for a folder without a manifest."""
    assert "manifest" in adapter("derive", tmp_path, status=60).err


def test_a_stage_before_the_one_it_needs(tmp_path: Path, adapter: Adapter) -> None:
    """Status 60, and the message says which stage to run."""
    write_source(tmp_path / "source", six_patients())
    run = adapter(
        "run", SIX / "six.yaml", "--site", write_site(tmp_path), "--out", tmp_path, "--quiet", "--json"
    ).run
    (run / "results.json").unlink()
    assert "analyse" in adapter("report", run, "--quiet", status=60).err
    (run / "datasets" / "tr.parquet").unlink()
    assert "the dataset TR cannot be read" in adapter("derive", run, "--quiet", status=60).err


def test_a_second_process_finds_the_lock(tmp_path: Path, adapter: Adapter) -> None:
    """Status 50 while another run works at the site; nothing is touched."""
    write_source(tmp_path / "source", six_patients())
    site = write_site(tmp_path)
    (tmp_path / "state" / "test").mkdir(parents=True)
    with filelock.FileLock(tmp_path / "state" / "test" / "run.lock"):
        said = adapter("run", SIX / "six.yaml", "--site", site, "--out", tmp_path, "--quiet", status=50).err
    assert "another run holds the lock" in said
    (manifest,) = tmp_path.rglob("manifest.json")
    assert 50 == json.loads(manifest.read_text("utf-8"))["exit"]["status"]
    assert not (tmp_path / "state" / "test" / "index.sqlite").exists()


def test_a_write_back_conflict(tmp_path: Path, adapter: Adapter, httpserver: HTTPServer) -> None:
    """Status 40: under one of our ids stands something that we did not write."""

    def answer(request: Request) -> Response:
        type_, _, id_ = request.path.removeprefix("/fhir/").partition("/")
        if type_ == "metadata":
            return Response(json.dumps({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}), 200)
        return Response(json.dumps({"resourceType": type_, "id": id_, "meta": {"versionId": "7"}}), 200)

    httpserver.expect_request(re.compile("/fhir/.*"), method="GET").respond_with_handler(answer)
    write_source(tmp_path / "source", six_patients())
    url = httpserver.url_for("/fhir")
    site = write_site(tmp_path, write_back={"policy": "allowed", "url": url}, retry=FAST)
    done = adapter(
        "run", SIX / "six.yaml", "--site", site, "--out", tmp_path, "--write-back", "--quiet", status=40
    )
    assert "was not written by the adapter" in done.err
    assert [] == [request for request, _ in httpserver.log if request.method != "GET"]


def test_a_defect_says_where_and_never_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 70: the text of an unexpected error may quote a patient, so only its type and place are shown."""

    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("Jane Roe, born 1950-01-01")

    monkeypatch.setattr(pipeline_run, "map_resources", broken)
    write_source(tmp_path / "source", six_patients())
    arguments = [
        "run",
        str(SIX / "six.yaml"),
        "--site",
        str(write_site(tmp_path)),
        "--out",
        str(tmp_path),
        "--quiet",
    ]
    monkeypatch.setattr(sys, "argv", ["fhir-adapter", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert 70 == ended.value.code
    assert "ValueError at" in said
    assert "Jane" not in said
    (manifest,) = tmp_path.rglob("manifest.json")
    assert {"status": 70, "code": "defect", "stage": "map"} == json.loads(manifest.read_text("utf-8"))["exit"]
    logs = "".join(path.read_text("utf-8") for path in tmp_path.rglob("*.jsonl"))
    assert "Jane" not in logs


def test_every_error_has_an_exit_status_of_its_kind() -> None:
    """The statuses are those that docs/errors.md and the operations guide name."""
    found = {cls.code: cls.exit_status for cls in _all(AdapterError)}
    expected = {"usage": 2, "study-file": 10, "site-file": 11, "source-unreachable": 20, "source-refused": 21,
                "source-not-fhir": 22, "source-incomplete": 22, "landing": 22, "accounting": 30,
                "write-back-conflict": 40, "write-back-refused": 41, "run-locked": 50, "run-dir": 60}  # fmt: skip
    assert expected == found


def _all(cls: type[AdapterError]) -> list[type[AdapterError]]:
    return [one for sub in cls.__subclasses__() for one in (sub, *_all(sub))]
