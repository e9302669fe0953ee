"""A small FHIR server to check, which can be told to lie, and a study and a site to check it with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from typer.testing import CliRunner
from werkzeug import Request, Response

from fhir_adapter.cli import app

STUDY = {"system": "urn:test", "value": "S1"}
LOINC = "http://loinc.org"
PARAMETERS = {
    "AdverseEvent": ["subject"], "BodyStructure": ["patient"], "Condition": ["patient", "code"],
    "Consent": ["patient"], "Encounter": ["patient"], "ImagingStudy": ["patient"], "Medication": ["_id"],
    "MedicationAdministration": ["patient", "code"], "MedicationStatement": ["patient", "code"],
    "Observation": ["patient", "code"], "Patient": ["_id"], "Procedure": ["patient"],
    "ResearchStudy": ["identifier", "_id"], "ResearchSubject": ["individual", "study"],
}  # fmt: skip
OUTPUTS = ("Binary", "Device", "DiagnosticReport", "DocumentReference", "Group", "Provenance")


def concept(system: str | None, code: str, display: str | None = None) -> dict[str, Any]:
    """A CodeableConcept of one coding."""
    coding = {"system": system, "code": code, "display": display}
    return {"coding": [{key: value for key, value in coding.items() if value is not None}]}


class Server:
    """A FHIR server over a list of resources."""

    def __init__(self) -> None:
        self.resources: list[dict[str, Any]] = []
        self.version = "4.0.1"
        self.types: dict[str, list[str]] = dict(PARAMETERS)
        self.ignored: set[str] = set()
        self.totals: Callable[[str, int], int | None] = lambda how, number: number
        self.requests: list[Request] = []

    def put(self, type_: str, id_: str, **content: Any) -> None:
        """Adds a resource."""
        self.resources.append({"resourceType": type_, "id": id_, "meta": {"versionId": "1"}, **content})

    def enrol(self, *patients: str) -> None:
        """Adds patients of study S1, each with a tumour size by CT."""
        if not any(one["resourceType"] == "ResearchStudy" for one in self.resources):
            self.put("ResearchStudy", "s1", status="active", identifier=[STUDY])
        for name in patients:
            self.put("Patient", name, gender="female")
            self.put("ResearchSubject", f"rs-{name}", status="on-study",
                     identifier=[{"system": "urn:subject", "value": name}],
                     study={"reference": "ResearchStudy/s1"},
                     individual={"reference": f"Patient/{name}"})  # fmt: skip

    def measure(self, id_: str, patient: str, method: dict[str, Any], code: str = "21889-1") -> None:
        """Adds a tumour size with a method."""
        size = {"code": concept(LOINC, "33728-7"), "valueQuantity": {"value": 20, "code": "mm"}}
        self.put("Observation", id_, status="final", subject={"reference": f"Patient/{patient}"},
                 code=concept(LOINC, code), effectiveDateTime="2020-01-01", method=method,
                 identifier=[{"system": "urn:lesion", "value": "T01"}], component=[size])  # fmt: skip

    def __call__(self, request: Request) -> Response:
        """Answers a request."""
        self.requests.append(request)
        parts = request.path.removeprefix("/fhir/").split("/")
        body = self.statement() if parts == ["metadata"] else self.search(request, parts[0])
        return Response(json.dumps(body), content_type="application/fhir+json")

    def statement(self) -> dict[str, Any]:
        """The CapabilityStatement."""
        both = [{"code": "read"}, {"code": "search-type"}, {"code": "update"}]
        resources = [
            {
                "type": type_,
                "interaction": both,
                "versioning": "versioned",
                "updateCreate": True,
                "searchParam": [{"name": name} for name in names],
            }
            for type_, names in [*self.types.items(), *((name, []) for name in OUTPUTS)]
        ]
        rest = {"mode": "server", "interaction": [{"code": "transaction"}], "resource": resources}
        return {
            "resourceType": "CapabilityStatement",
            "fhirVersion": self.version,
            "format": ["json"],
            "software": {"name": "Stub", "version": "1"},
            "rest": [rest],
        }

    def search(self, request: Request, type_: str) -> dict[str, Any]:
        """Answers a search, in pages of `_count`; the self link repeats everything, whatever was heeded."""
        found = [one for one in self.resources if one["resourceType"] == type_ and self.matches(one, request)]
        counted = request.args.get("_summary") == "count"
        how = "summary" if counted else "accurate" if "_total" in request.args else "page"
        bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
        total = self.totals(how, len(found))
        if total is not None:
            bundle["total"] = total
        if counted:
            return bundle
        size, start = int(request.args["_count"]), int(request.args.get("start", 0))
        bundle["link"] = [{"relation": "self", "url": request.url}]
        if start + size < len(found):
            query = "&".join(f"{key}={value}" for key, value in request.args.items() if key != "start")
            bundle["link"].append({"relation": "next", "url": f"{type_}?{query}&start={start + size}"})
        bundle["entry"] = [
            {"resource": one, "search": {"mode": "match"}} for one in found[start : start + size]
        ]
        return bundle

    def matches(self, resource: dict[str, Any], request: Request) -> bool:
        """Whether a resource satisfies the search."""
        for name, value in request.args.items():
            values = value.split(",")
            if name in self.ignored:
                continue
            if name == "_id" and resource["id"] not in values:
                return False
            if name in {"patient", "subject", "individual", "study"}:
                part = resource.get(name) or resource.get("subject") or {}
                if part.get("reference") not in values:
                    return False
            if name == "identifier":
                own = [f"{one['system']}|{one['value']}" for one in resource.get("identifier", [])]
                if not set(own) & set(values):
                    return False
            if name == "code":
                holder = resource.get("medicationCodeableConcept") or resource.get("code") or {}
                own = [f"{one.get('system')}|{one['code']}" for one in holder.get("coding", [])]
                if not set(own) & set(values):
                    return False
            if name == "_lastUpdated":
                return False
        return True


@dataclass
class Checked:
    """A check that ended: exit status, what it printed, and the JSON of `--json`."""

    status: int
    out: str

    @property
    def report(self) -> dict[str, Any]:
        """The answer."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    def needs(self, subject: str) -> dict[str, tuple[str, str]]:
        """Need → (state, meaning) of a subject."""
        return {
            one["need"]: (one["state"], one["means"])
            for one in self.report["needs"]
            if one["subject"] == subject
        }

    def counts(self) -> dict[str, tuple[int | None, str]]:
        """Query → (number, how)."""
        return {one["query"]: (one["number"], one["how"]) for one in self.report["counts"]}


@pytest.fixture
def server(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with two patients of the study."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    made = Server()
    made.enrol("a", "b")
    httpserver.expect_request(re.compile("/fhir/.*")).respond_with_handler(made)
    return made


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The six patients' study, whose candidates are those of study S1."""
    text = (Path(__file__).parent.parent / "data" / "six" / "six.yaml").read_text("utf-8")
    text = re.sub(r"research_study: \{.*\}", "research_study: {system: 'urn:test', value: S1}", text)
    text = re.sub(r"usubjid_system: .*", "usubjid_system: urn:subject", text)
    # A drug that has codes, and not only names.
    text = text.replace("concept: anlotinib", "concept: trabectedin")
    # Fewer queries, and so a quicker test.
    views = "dm_patient, dm_research_subject, ds_research_subject, ref_research_study, tr_tumor_size, "
    views += "ex_medication_administration, ref_medication, ae_adverse_event"
    text += f"\nmapping: {{lesion_identifier_system: 'urn:lesion', views: [{views}]}}\n"
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def check(tmp_path: Path, study: Path, httpserver: HTTPServer) -> Callable[..., Checked]:
    """Runs `fhir-adapter check` on the server, or on what `source` of the site says."""

    def call(*arguments: str, as_json: bool = True, **settings: Any) -> Checked:
        site: dict[str, Any] = {
            "id": "test",
            "source": {"kind": "rest", "url": httpserver.url_for("/fhir")},
            "retry": {"attempts": 1, "max_wait_s": 0, "timeout_s": 10},
            "state_dir": str(tmp_path / "state"),
        } | settings
        path = tmp_path / "site.yaml"
        path.write_text(json.dumps(site), encoding="utf-8")
        told = ["--json"] if as_json else []
        result = CliRunner().invoke(app, ["check", str(study), "--site", str(path), *told, *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Checked(result.exit_code, result.output)

    return call
