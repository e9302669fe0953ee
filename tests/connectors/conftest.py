"""A small FHIR server to test against: it searches what it is given, and can be told to misbehave."""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from fhir_adapter.cli import main
from fhir_adapter.connectors import PullReport, plan_from_study, pull
from fhir_adapter.landing import Landing
from fhir_adapter.pipeline import Settings, new_run
from fhir_adapter.site import Site
from fhir_adapter.study import load_study

SIX = Path(__file__).parents[1] / "data" / "six"
NOW = dt.datetime(2024, 5, 1, 12, 0, tzinfo=dt.UTC)
STUDY = {"research_study": {"system": "urn:test", "value": "S1"}}
#: What must turn up in no message and no log; `tests/leaks.py` searches the whole run for it.
PLANTED = {
    "identifier": [{"system": "urn:mrn", "value": "ZQCANARY-4711"}],
    "name": [{"family": "Zqcanaryson", "given": ["Zqcanary"]}],
    "birthDate": "1887-03-01",
}
TYPES = ["Patient", "Observation", "MedicationAdministration", "Medication"]


def fhir(body: Any, status: int = 200, **headers: str) -> Response:
    """A response with a FHIR body."""
    return Response(json.dumps(body), status, headers, content_type="application/fhir+json")


class StubFhir:
    """A FHIR server over a dict of resources."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.now = NOW
        self.resources: dict[tuple[str, str], dict[str, Any]] = {}
        self.deleted: set[tuple[str, str]] = set()
        self.history: list[tuple[dt.datetime, str, str, str]] = []
        self.requests: list[Request] = []
        self.types: list[str] = []
        self.before: Callable[[Request], Response | None] = lambda request: None
        self.change_bundle: Callable[[Request, dict[str, Any]], None] = lambda request, bundle: None
        self.counts: Callable[[str, int], int | None] = lambda type_, number: number

    def put(self, type_: str, id_: str, **content: Any) -> None:
        """Writes a resource, with its next version and the server's time."""
        before = self.resources.get((type_, id_))
        self.history.append((self.now, "PUT", type_, id_))
        version = int(before["meta"]["versionId"]) + 1 if before else 1
        meta = {**content.pop("meta", {}), "versionId": str(version), "lastUpdated": self.now.isoformat()}
        self.resources[(type_, id_)] = {"resourceType": type_, "id": id_, "meta": meta, **content}

    def delete(self, type_: str, id_: str) -> None:
        """Deletes a resource."""
        del self.resources[(type_, id_)]
        self.deleted.add((type_, id_))
        self.history.append((self.now, "DELETE", type_, id_))

    def enrol(self, *patients: str) -> None:
        """Writes patients who take part in study S1, each with one Observation."""
        self.put("ResearchStudy", "s1", identifier=[{"system": "urn:test", "value": "S1"}])
        for name in patients:
            self.put("Patient", name, **PLANTED)
            self.put("ResearchSubject", f"rs-{name}", study={"reference": "ResearchStudy/s1"},
                     individual={"reference": f"Patient/{name}"})  # fmt: skip
            self.observe(f"o-{name}", name)

    def observe(self, id_: str, patient: str, **content: Any) -> None:
        """Writes an Observation."""
        self.put("Observation", id_, subject={"reference": f"Patient/{patient}"}, **content)

    def searches(self, type_: str) -> list[dict[str, str]]:
        """Parameters of the searches for a type, counts left out."""
        return [
            dict(request.args)
            for request in self.requests
            if request.path.endswith(f"/{type_}") and "_summary" not in request.args
        ]

    def __call__(self, request: Request) -> Response:
        """Answers a request."""
        self.requests.append(request)
        answer = self.before(request)
        if answer is not None:
            return answer
        parts = request.path.removeprefix("/fhir/").split("/")
        if parts == ["metadata"]:
            return fhir(
                {
                    "resourceType": "CapabilityStatement",
                    "fhirVersion": "4.0.1",
                    "software": {"name": "Stub", "version": "1"},
                    "rest": [{"resource": [{"type": type_} for type_ in self.types]}],
                }
            )
        if parts[1:] == ["_history"]:
            return self.type_history(request, parts[0])
        if len(parts) == 2:
            found = self.resources.get((parts[0], parts[1]))
            gone = 410 if (parts[0], parts[1]) in self.deleted else 404
            return fhir(found) if found else fhir({"resourceType": "OperationOutcome"}, gone)
        return self.search(request, parts[0])

    def type_history(self, request: Request, type_: str) -> Response:
        """Answers the history of a type, newest first, in pages of `_count`."""
        edge = dt.datetime.fromisoformat(request.args["_since"])
        found = [
            {
                "fullUrl": f"{self.base}/{type_}/{id_}",
                "request": {"method": method, "url": f"{type_}/{id_}"},
                **({"resource": self.resources[type_, id_]} if (type_, id_) in self.resources else {}),
            }
            for time, method, kind, id_ in reversed(self.history)
            if kind == type_ and time >= edge
        ]
        size, start = int(request.args["_count"]), int(request.args.get("start", 0))
        links = []
        if start + size < len(found):
            query = urlencode({**request.args, "start": start + size})
            links.append({"relation": "next", "url": f"{self.base}/{type_}/_history?{query}"})
        return fhir(
            {"resourceType": "Bundle", "type": "history", "link": links, "entry": found[start : start + size]}
        )

    def search(self, request: Request, type_: str) -> Response:
        """Answers a search, in pages of `_count`."""
        found = [r for (t, _), r in sorted(self.resources.items()) if t == type_ and self.matches(r, request)]
        if request.args.get("_summary") == "count":
            return fhir(
                {"resourceType": "Bundle", "type": "searchset", "total": self.counts(type_, len(found))}
            )
        if "_elements" in request.args:
            found = [
                {name: item[name] for name in ("resourceType", "id", "meta")}
                | ({"subject": item["subject"]} if "subject" in item else {})
                for item in found
            ]
        size, start = int(request.args["_count"]), int(request.args.get("start", 0))
        links = [{"relation": "self", "url": request.url}]
        if start + size < len(found):
            query = "&".join(f"{k}={v}" for k, v in request.args.items() if k != "start")
            links.append({"relation": "next", "url": f"{self.base}/{type_}?{query}&start={start + size}"})
        bundle = {
            "resourceType": "Bundle",
            "type": "searchset",
            "meta": {"lastUpdated": self.now.isoformat()},
            "total": self.counts(type_, len(found)),
            "link": links,
            "entry": [{"resource": r, "search": {"mode": "match"}} for r in found[start : start + size]],
        }
        self.change_bundle(request, bundle)
        return fhir(bundle)

    @staticmethod
    def matches(resource: dict[str, Any], request: Request) -> bool:
        """Whether a resource satisfies the search."""
        for name, value in request.args.items():
            values = value.split(",")
            if name == "_id" and resource["id"] not in values:
                return False
            if name in {"patient", "subject", "individual", "study"}:
                part = resource.get(name) or resource.get("subject") or {}
                if part.get("reference") not in values:
                    return False
            if name == "identifier":
                tokens = [f"{i['system']}|{i['value']}" for i in resource.get("identifier", [])]
                if not set(tokens) & set(values):
                    return False
            if name == "_lastUpdated":
                edge = dt.datetime.fromisoformat(value.removeprefix("ge"))
                if dt.datetime.fromisoformat(resource["meta"]["lastUpdated"]) < edge:
                    return False
        return True


@pytest.fixture
def stub(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> StubFhir:
    """The server, on loopback, without resources."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    server = StubFhir(httpserver.url_for("/fhir"))
    httpserver.expect_request(re.compile(".*")).respond_with_handler(server)
    return server


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[..., Site]:
    """Makes a site that waits for nothing."""

    def make(url: str, **changes: Any) -> Site:
        return Site.model_validate(
            {
                "id": "stub",
                "source": {"kind": "rest", "url": url},
                "retry": {"attempts": 2, "max_wait_s": 0, "timeout_s": 5},
                "page_size": 2,
                "concurrency": 2,
                "state_dir": tmp_path / "state",
                **changes,
            }
        )

    return make


@pytest.fixture
def run(stub: StubFhir, make_site: Callable[..., Site]) -> Callable[..., PullReport]:
    """Pulls study S1 from the server."""

    def go(*, full: bool = False, candidates: Any = STUDY, types: Any = TYPES, **changes: Any) -> PullReport:
        site = make_site(changes.pop("url", stub.base), **changes)
        with Landing.open(site.landing_dir) as landing:
            return pull(site, plan_from_study(candidates, types), landing, full=full)

    return go


@pytest.fixture
def landed(tmp_path: Path) -> Callable[[], list[str]]:
    """What is current in the landing, as `Type/id`."""

    def names() -> list[str]:
        with Landing.open(tmp_path / "state" / "stub", read_only=True) as landing:
            return [f"{item.type}/{item.id}" for item in landing.current()]

    return names


class Operator:
    """Someone at the command line, with a run folder of the six patients' study."""

    def __init__(self, folder: Path, run: Path, call: Callable[..., tuple[int, str]]) -> None:
        self.folder = folder
        self.run = run
        self._call = call

    def pull(self, url: str, *options: str, **settings: Any) -> tuple[int, str]:
        """`fhir-adapter pull`; exit status and what stands on stderr."""
        site: dict[str, Any] = {
            "id": "stub", "source": {"kind": "rest", "url": url}, "page_size": 100, "concurrency": 1,
            "retry": {"attempts": 2, "max_wait_s": 0, "timeout_s": 5}, "state_dir": str(self.folder / "state"),
        }  # fmt: skip
        (self.run / "site.yaml").write_text(json.dumps(site | settings), encoding="utf-8")  # JSON is YAML
        return self._call("pull", self.run, "--quiet", *options)

    def map(self) -> tuple[int, str]:
        """`fhir-adapter map`."""
        return self._call("map", self.run, "--quiet")

    def report(self) -> str:
        """Every stage after the pull up to the report; the page."""
        for stage in ("map", "derive", "analyse", "report"):
            assert self._call(stage, self.run, "--quiet") == (0, "")
        return (self.run / "report.html").read_text("utf-8")

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of the run."""
        found: dict[str, Any] = json.loads((self.run / "manifest.json").read_bytes())
        return found

    @property
    def findings(self) -> set[str]:
        """Codes of the findings of the pull."""
        return {
            item["code"]
            for item in json.loads((self.run / "findings.json").read_bytes())
            if item["stage"] == "pull"
        }

    def landed(self) -> set[tuple[str, str]]:
        """Type and id of everything that is current."""
        with Landing.open(self.folder / "state" / "stub", read_only=True) as landing:
            return {(item.type, item.id) for item in landing.current()}

    def dispositions(self) -> dict[str, str]:
        """`Type/id` → outcome and reason of each resource after the mapping."""
        frame = pd.read_parquet(self.run / "tables" / "dispositions.parquet")
        return {
            f"{row.type}/{row.id}": f"{row.outcome} {row.reason or ''}".strip() for row in frame.itertuples()
        }


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder in which nothing has happened yet."""
    folder = tmp_path_factory.mktemp("fresh")
    site = folder / "site.yaml"
    site.write_text('{"id": "stub", "source": {"kind": "rest", "url": "http://localhost/fhir"}}', "utf-8")
    run = new_run(SIX / "six.yaml", site, folder / "runs", Settings(quiet=True))
    run.log.close()
    return run.folder.path


@functools.cache
def _six() -> tuple[bytes, Any]:
    """The study file of the six patients, and what it reads as."""
    return (SIX / "six.yaml").read_bytes(), load_study(SIX / "six.yaml")


@pytest.fixture
def operator(
    tmp_path: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Operator:
    """An operator before a fresh run."""

    def call(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["fhir-adapter", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        return status, capsys.readouterr().err

    def study_of(path: Path, **more: Any) -> Any:
        # To read the file takes a third of a pull, and nearly every run of these tests has the same.
        text, study = _six()
        return study if path.read_bytes() == text else load_study(path, **more)

    monkeypatch.setattr("fhir_adapter.pipeline.opening.load_study", study_of)
    run = tmp_path / "runs" / "six" / "1"
    shutil.copytree(fresh, run)
    return Operator(tmp_path, run, call)


@pytest.fixture
def server(stub: Any) -> Any:
    """The server with the six patients."""
    for path in sorted(SIX.glob("*.json")):
        for entry in json.loads(path.read_text("utf-8"))["entry"]:
            content = {k: v for k, v in entry["resource"].items() if k not in {"resourceType", "id"}}
            stub.put(entry["resource"]["resourceType"], entry["resource"]["id"], **content)
    return stub
