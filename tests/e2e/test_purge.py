"""`fhir-adapter purge` on whole runs: what is left of a subject on disk, and what the others keep."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from fhir_adapter.errors import LandingError
from fhir_adapter.landing import Landing
from fhir_adapter.purge import purge_all
from fhir_adapter.site import Site

from .conftest import SIX, Adapter, copy_of, six_patients, write_site, write_source


def _usubjids(run: Path) -> set[str]:
    return {
        value
        for path in run.rglob("*.parquet")
        for name in ("USUBJID", "PATKEY")
        if name in pq.ParquetFile(path).schema_arrow.names
        for value in pq.ParquetFile(path).read().column(name).to_pylist()
    }


def test_a_subject_leaves_landing_and_run_folders(six_run: Path, tmp_path: Path, adapter: Adapter) -> None:
    """No row and no byte of the subject stays; the run can be made anew without the subject; ids are not echoed."""
    leaving = sorted(item["id"] for item in six_patients() if item["resourceType"] == "Patient")[0]
    site, run = copy_of(six_run, tmp_path)
    before = _usubjids(run)
    gone = {
        row["USUBJID"]
        for row in pq.ParquetFile(run / "tables" / "subjects.parquet").read().to_pylist()
        if row["PATKEY"] == f"Patient/{leaving}"
    } | {f"Patient/{leaving}"}
    assert gone < before
    (tmp_path / "list").write_text(f"{leaving}\n")
    ended = adapter(
        "purge", "--site", site, "--out", tmp_path / "runs", "--subjects", tmp_path / "list", "--json"
    )
    numbers = json.loads(ended.out)
    assert (numbers["landing.subjects"], numbers["runs"]) == (1, 1)
    assert numbers["rows"] > 0
    assert leaving not in ended.out + ended.err
    assert _usubjids(run) == before - gone
    kept = [path for folder in (tmp_path / "state", run) for path in folder.rglob("*") if path.is_file()]
    for name in gone:
        assert not [path.name for path in kept if name.encode() in path.read_bytes()]
    assert not (run / "report.html").exists()
    for stage in ("map", "derive"):  # those that write tables of subjects
        adapter(stage, run, "--quiet")
    assert _usubjids(run) == before - gone
    # A second purge finds nothing, and says so by its numbers.
    again = adapter(
        "purge", "--site", site, "--out", tmp_path / "runs", "--subjects", tmp_path / "list", "--json"
    )
    assert set(json.loads(again.out).values()) == {0}


def test_what_purge_refuses(tmp_path: Path, adapter: Adapter) -> None:
    """A line that is no id is named by its number alone; one of the three ways is needed."""
    site = write_site(tmp_path)
    (tmp_path / "list").write_text("a\nnot an id\n")
    ended = adapter("purge", "--site", site, "--subjects", tmp_path / "list", status=2)
    assert "line 2" in ended.err
    assert "not an id" not in ended.err
    adapter("purge", "--site", site, status=2)


def test_the_whole_landing(six_run: Path, tmp_path: Path, adapter: Adapter) -> None:
    """`--all` leaves no file of the landing but its locks."""
    site, _ = copy_of(six_run, tmp_path)
    assert list((tmp_path / "state").rglob("*.ndjson"))
    adapter("purge", "--site", site, "--all")
    assert {path.suffix for path in (tmp_path / "state").rglob("*") if path.is_file()} <= {".lock"}


def _texts(path: Path) -> bytes:
    """All that a file says: the cells of a table, or its bytes."""
    if path.suffix != ".parquet":
        return path.read_bytes()
    table = pq.ParquetFile(path).read()
    return "\n".join(str(value) for column in table.columns for value in column.to_pylist()).encode()


def _saying(names: set[str], *folders: Path) -> list[str]:
    """Files below some folders that say one of the names, and which."""
    texts = {path: _texts(path) for folder in folders for path in folder.rglob("*") if path.is_file()}
    return [f"{path.name}: {name}" for path, text in texts.items() for name in names if name.encode() in text]


def _names_of(resources: list[dict[str, Any]], patient: str) -> set[str]:
    """What a subject and its resources are called: logical ids, which in this cohort say whose they are."""
    reference = f"Patient/{patient}"
    return {item["id"] for item in resources if reference in json.dumps(item)} | {patient}


def test_those_who_withdrew_leave_whatever_the_run_kept_of_them(tmp_path: Path, adapter: Adapter) -> None:
    """`--withdrawn`: tables, quarantine, findings, forgotten files and old copies; the others and own views stay."""
    resources = six_patients()
    consent = {
        "resourceType": "Consent", "id": "six-pd-consent", "status": "inactive",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "57016-8"}]}],
        "patient": {"reference": "Patient/six-pd"}, "dateTime": "2021-05-01", "provision": {"type": "permit"},
    }  # fmt: skip
    source = write_source(tmp_path / "source", [*resources, consent])
    odd = [
        '{"resourceType": "Patient", "id": "six-pd"',  # its id alone says whose it is
        '{"resourceType": "Observation", "id": "six-pd-odd", "subject": {"reference": "Patient/six-pd"',
        '{"resourceType": "Observation", "id": "six-sd-odd", "subject": {"reference": "Patient/six-sd"',
    ]
    (source / "odd.ndjson").write_text("\n".join(odd) + "\n")
    site = write_site(tmp_path)
    run = adapter(
        "run", SIX / "six.yaml", "--site", site, "--out", tmp_path / "runs", "--quiet", "--json", status=None
    ).run
    (run / "tables" / ".subjects.parquet.x.tmp").write_bytes(b"Patient/six-pd")  # of a write that was killed
    (run / "study").mkdir(exist_ok=True)
    (run / "study" / "own.json").write_text("{}")
    (tmp_path / "state" / "test" / "index.v1.sqlite").write_bytes(b"Patient/six-pd")
    names = _names_of([*resources, consent], "six-pd") | {"six-pd-odd"}
    others = {item["id"] for item in resources} - names
    assert len(names) > 10
    assert _saying(names, run, tmp_path / "state")
    ended = adapter("purge", "--site", site, "--out", tmp_path / "runs", "--withdrawn", run, "--json")
    numbers = json.loads(ended.out)
    assert (numbers["landing.subjects"], numbers["landing.unreadable"]) == (1, 2)
    assert (numbers["runs"], numbers["quarantined"], numbers["copies"]) == (1, 2, 1)
    assert _saying(names, run, tmp_path / "state") == []
    assert "six-pd" not in ended.out + ended.err
    assert b"six-sd-odd" in (run / "quarantine" / "quarantine.ndjson").read_bytes()
    assert {said.partition(": ")[2] for said in _saying(others, tmp_path / "state")} == others
    assert (run / "study" / "own.json").exists()
    # Its numbers were those of all subjects: they are made anew, and not shown until then.
    assert not (run / "accounting.json").exists()
    adapter("report", run, "--quiet", status=60)
    for stage in ("map", "derive", "analyse", "report"):
        adapter(stage, run, "--quiet")
    landed = json.loads((run / "accounting.json").read_bytes())["landed"]
    assert landed["Patient"]["current"] == 5
    assert _saying(names, run, tmp_path / "state") == []
    # Nobody is left who withdrew; and a run of another site says nothing about the subjects of this one.
    adapter("purge", "--site", site, "--out", tmp_path / "runs", "--withdrawn", run, status=2)
    (tmp_path / "other").mkdir()
    other = write_site(tmp_path / "other", id="other")
    adapter("purge", "--site", other, "--out", tmp_path / "runs", "--withdrawn", run, status=2)


def test_what_stands_on_a_server_is_retracted_first(
    six_run: Path, tmp_path: Path, adapter: Adapter, httpserver: HTTPServer
) -> None:
    """Status 41 and nothing purged while the results of a run stand on a server, whatever came after the write."""
    held: dict[str, dict[str, Any]] = {}

    def answer(request: Request) -> Response:
        if request.method == "GET":
            key = request.path.removeprefix("/fhir/")
            if key == "metadata":
                return Response(json.dumps({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}))
            return Response(json.dumps(held[key])) if key in held else Response("{}", 404)
        answers = []
        for entry in request.get_json(force=True)["entry"]:
            if entry["request"]["method"] == "DELETE":
                del held[entry["request"]["url"]]
                answers.append({"response": {"status": "204"}})
                continue
            stored = entry["resource"]
            stored["meta"] |= {"versionId": "1"}
            held[entry["request"]["url"]] = stored
            answers.append({"response": {"status": "201 Created"}})
        return Response(
            json.dumps({"resourceType": "Bundle", "type": "transaction-response", "entry": answers})
        )

    httpserver.expect_request(re.compile(".*")).respond_with_handler(answer)
    url = httpserver.url_for("/fhir")
    site, run = copy_of(six_run, tmp_path, write_back={"policy": "allowed", "url": url})
    words = ["--site", site, "--out", tmp_path / "runs"]
    adapter("write-back", run, "--quiet")
    assert held
    (tmp_path / "list").write_text("six-pd\n")
    purge = ["purge", *words, "--subjects", tmp_path / "list"]
    assert "retract" in adapter(*purge, status=41).err
    adapter("write-back", run, "--dry-run", "--quiet")  # says nothing of what stands on the server
    adapter(*purge, status=41)
    assert b"six-pd" in b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*.ndjson"))
    adapter("retract", run)
    assert not held
    adapter("write-back", run, "--quiet")  # again: the retraction of before does not count
    adapter(*purge, status=41)
    adapter("retract", run)
    adapter(*purge)


def test_a_killed_purge_is_repeated(six_run: Path, tmp_path: Path) -> None:
    """SIGKILL at ten writes to disk between the first and the last: purged again, nothing is left."""
    resources = six_patients()
    names = _names_of(resources, "six-pd")
    ended = subprocess.run(
        [sys.executable, "-c", _KILLED, str(six_run), str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    moments = json.loads(ended.stdout)
    assert (len(moments), set(moments.values())) == (10, {-9})
    for moment in moments:
        folder = tmp_path / moment
        assert _saying(names, folder) == []
        assert _saying({"six-sd"}, folder / "state")


#: Copies a run and its landing for each moment, purges in a child that dies there, and purges again.
_KILLED = """
import json, os, pathlib, random, shutil, signal, sys
from fhir_adapter import purge
from fhir_adapter.landing import removal
from fhir_adapter.site import load_site

run, place = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
base = run.parents[2]

def copied(name):
    folder = place / name
    for part in ("state", "runs"):
        shutil.copytree(base / part, folder / part)
    site = json.loads((base / "site.yaml").read_text())
    (folder / "site.yaml").write_text(json.dumps(site | {"state_dir": str(folder / "state")}))
    return load_site(folder / "site.yaml"), folder / "runs"

def purged(name, die_at=None):
    site, runs = copied(name) if not (place / name).exists() else (
        load_site(place / name / "site.yaml"), place / name / "runs")
    calls = [0]
    def counted(call):
        def inner(*arguments, **more):
            calls[0] += 1
            if calls[0] == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **more)
        return inner
    kept = {}
    for module, names in ((purge, ("write_dataset", "write_atomic", "write_json", "_remove")),
                          (removal, ("sync_dir", "_rewrite", "_cut_log"))):
        for one in names:
            kept[module, one] = getattr(module, one)
            setattr(module, one, counted(kept[module, one]))
    try:
        purge.purge_subjects(site, runs, ["Patient/six-pd"])
    finally:
        for (module, one), call in kept.items():
            setattr(module, one, call)
    return calls[0]

total = purged("whole")
shutil.rmtree(place / "whole")
chance = random.Random(7)
found = {}
for moment in sorted({1, total, *chance.sample(range(2, total), 8)}):
    child = os.fork()
    if child == 0:
        purged(str(moment), moment)
        os._exit(0)
    found[str(moment)] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    purged(str(moment))
print(json.dumps(found))
"""


def test_a_file_that_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--all` never ends as if all were gone."""
    site = Site.model_validate(
        {"id": "s", "source": {"kind": "files", "path": "x"}, "state_dir": str(tmp_path)}
    )
    Landing.open(site.landing_dir).close()

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(LandingError, match="Permission denied"):
        purge_all(site)
