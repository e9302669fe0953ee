"""Bulk Data export through the command line: it lands what searches land, and survives what servers do to it."""

from __future__ import annotations

import datetime as dt
import gzip
import itertools
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

import pytest
from werkzeug import Request, Response

Operator = Any  # the class stands in conftest.py, which is not importable by name


class Exporter:
    """The export operation of the stub server.

    Attributes:
        waits: answers to the first polls, as status.
        lines: resources per file.
        pack: whether files are gzip files.
        count: whether the manifest counts the lines.
        damage: may change the body of a file.
        expire: so many downloads of a file are answered with 410.
        deleted: `Type/id` of the manifest's deleted file.
        problems: issues of the error file.
        token: `requiresAccessToken`.
        left_out: `(type, id)` that no file holds.
    """

    def __init__(self, server: Any) -> None:
        self.server = server
        self.waits = [202, 202]
        self.lines = 50
        self.pack = False
        self.count = True
        self.damage = lambda name, body: body
        self.expire = 0
        self.deleted: list[str] = []
        self.problems: list[dict[str, str]] = []
        self.token = True
        self.left_out: set[tuple[str, str]] = set()
        self.kicked: list[Request] = []
        self.ended: list[str] = []
        self.polled = 0
        self.fetched: list[Request] = []
        self.files: dict[str, bytes] = {}
        server.before = self

    def __call__(self, request: Request) -> Response | None:
        path = request.path.removeprefix("/fhir/")
        if path.endswith("$export"):
            assert request.headers["Prefer"] == "respond-async"
            self.kicked.append(request)
            return Response("", 202, {"Content-Location": f"{self.server.base}/job/{len(self.kicked)}"})
        if path.startswith("job/"):
            if request.method == "DELETE":
                self.ended.append(path)
                return Response("", 404)
            self.polled += 1
            if self.waits:
                return Response("", self.waits.pop(0), {"Retry-After": "120", "X-Progress": "50 %"})
            return Response(json.dumps(self.manifest(self.kicked[-1])), content_type="application/json")
        if path.startswith("file/"):
            self.fetched.append(request)
            assert request.headers["Accept"] == "application/fhir+ndjson"
            if self.expire:
                self.expire -= 1
                return Response("", 410)
            body = self.damage(path, self.files[path])
            if isinstance(body, Response):
                return body
            return Response(body, content_type="application/fhir+ndjson")
        return None

    def _file(self, kind: str, resources: list[dict[str, Any]]) -> dict[str, Any]:
        name = f"file/{kind}-{len(self.files)}"
        body = b"".join(json.dumps(item).encode() + b"\n" for item in resources)
        self.files[name] = gzip.compress(body) if self.pack else body
        counted = {"count": len(resources)} if self.count else {}
        return {"type": kind, "url": f"{self.server.base}/{name}", **counted}

    def manifest(self, kicked: Request) -> dict[str, Any]:
        """The manifest of a finished job."""
        types = kicked.args["_type"].split(",")
        output = []
        for type_ in types:
            found = [r for key, r in sorted(self.server.resources.items())
                     if key[0] == type_ and key not in self.left_out]  # fmt: skip
            output += [
                self._file(type_, found[start : start + self.lines])
                for start in range(0, len(found), self.lines)
            ]
        entries = [{"request": {"method": "DELETE", "url": name}} for name in self.deleted]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        problem = {"resourceType": "OperationOutcome", "issue": self.problems}
        return {
            "transactionTime": self.server.now.isoformat(),
            "request": kicked.url,
            "requiresAccessToken": self.token,
            "output": output,
            "deleted": [self._file("Bundle", [bundle])] if entries else [],
            "error": [self._file("OperationOutcome", [problem])] if self.problems else [],
        }


@pytest.fixture
def exporter(server: Any) -> Exporter:
    """The six patients' server with `$export`, and a stranger with an Observation."""
    server.put("Patient", "stranger")
    server.observe("of-the-stranger", "stranger", status="final")
    return Exporter(server)


def ours(server: Any) -> set[tuple[str, str]]:
    """What a pull by searches lands."""
    return set(server.resources) - {("Patient", "stranger"), ("Observation", "of-the-stranger")}


def bulk(server: Any, **settings: Any) -> dict[str, Any]:
    """Settings of a site whose source is always exported."""
    return {"source": {"kind": "bulk", "url": server.base}, **settings}


@pytest.mark.parametrize("pack", [False, True], ids=["plain", "gzip"])
def test_export_lands_what_searches_land(
    exporter: Exporter, server: Any, operator: Operator, pack: bool
) -> None:
    """The study's subjects land, others are counted as not needed; the job is deleted."""
    exporter.pack = pack
    assert operator.pull(server.base, **bulk(server)) == (0, "")
    assert operator.landed() == ours(server)
    report = operator.manifest["pull"]
    assert (report["kind"], report["not_needed"]) == ("bulk", {"Observation": 1, "Patient": 1})
    assert report["received"]["Observation"] == 63
    assert [request.path for request in exporter.kicked] == ["/fhir/Patient/$export"]
    assert exporter.ended == ["job/1"]
    assert not server.searches("Observation")
    assert operator.pull(server.base) == (0, "")  # the same landing by searches: nothing changes
    assert operator.manifest["pull"]["outcome"]["new"] == 0
    assert operator.landed() == ours(server)


@pytest.mark.parametrize(
    ("level", "path"),
    [({"level": "system"}, "/fhir/$export"), ({"level": "group", "group": "g1"}, "/fhir/Group/g1/$export")],
    ids=["system", "group"],
)
def test_levels(
    exporter: Exporter, server: Any, operator: Operator, level: dict[str, str], path: str
) -> None:
    """System and Group are exported where the site file says so."""
    assert operator.pull(server.base, **bulk(server, bulk=level)) == (0, "")
    assert [request.path for request in exporter.kicked] == [path]
    assert operator.landed() == ours(server)


def test_capability_and_size_of_the_cohort_choose(
    exporter: Exporter, server: Any, operator: Operator
) -> None:
    """`auto` exports if the server names the operation and there are enough candidates; `never` does not."""
    assert operator.pull(server.base, bulk={"min_subjects": 2}) == (0, "")
    assert not exporter.kicked  # the statement does not name it
    statement = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1",
                 "rest": [{"operation": [{"name": "export"}]}]}  # fmt: skip
    export = exporter.__call__
    server.before = lambda request: (
        Response(json.dumps(statement), content_type="application/json")
        if request.path.endswith("/metadata")
        else export(request)
    )
    assert operator.pull(server.base, "--full", bulk={"min_subjects": 7}) == (0, "")
    assert operator.pull(server.base, "--full", bulk={"use": "never", "min_subjects": 2}) == (0, "")
    assert not exporter.kicked
    assert operator.pull(server.base, "--full", bulk={"min_subjects": 2}) == (0, "")
    assert len(exporter.kicked) == 1
    assert operator.landed() == ours(server)


def test_many_files_and_impatient_polling(exporter: Exporter, server: Any, operator: Operator) -> None:
    """A file per resource is read to the end, and 429 to a poll is an answer to wait for."""
    exporter.lines = 1
    exporter.waits = [202, 429, 429, 429, 503, 503, 503, 202]
    assert operator.pull(server.base, **bulk(server)) == (0, "")
    assert operator.landed() == ours(server)
    assert len(exporter.fetched) > 200


def test_job_is_resumed(exporter: Exporter, server: Any, operator: Operator) -> None:
    """A job that takes too long ends the pull, and the next pull waits for the same job."""
    exporter.waits = [202] * 1000
    settings = bulk(
        server, bulk={"max_poll_s": 0.001}, retry={"attempts": 2, "max_wait_s": 0.01, "timeout_s": 5}
    )
    status, said = operator.pull(server.base, **settings)
    assert (status, "takes longer than bulk.max_poll_s" in said) == (22, True)
    assert operator.manifest["failed_pull"]["missing"]["Observation"] == 6
    exporter.waits = []
    assert operator.pull(server.base, **bulk(server)) == (0, "")
    assert len(exporter.kicked) == 1
    assert operator.findings == {"export-resumed"}
    assert operator.landed() == ours(server)


def test_expired_file_begins_the_export_again(exporter: Exporter, server: Any, operator: Operator) -> None:
    """A file that is gone is not gone for good: a new job brings it; twice gone ends the pull."""
    exporter.expire = 1
    assert operator.pull(server.base, **bulk(server)) == (0, "")
    assert len(exporter.kicked) == 2
    assert operator.landed() == ours(server)
    assert operator.findings == {"export-expired"}
    exporter.expire = 1000
    status, said = operator.pull(server.base, "--full", **bulk(server))
    assert (status, "expired twice" in said) == (22, True)


@pytest.mark.parametrize("how", ["lines", "last line", "length", "gzip"])
def test_file_that_does_not_come_whole(exporter: Exporter, server: Any, operator: Operator, how: str) -> None:
    """A file with fewer lines than the manifest counts, a cut line, a short body or cut gzip is read again."""
    exporter.pack = how == "gzip"
    exporter.count = how == "lines"
    left = [1]

    def damage(name: str, body: bytes) -> Any:
        if "Observation" not in name or not left[0]:
            return body
        left[0] -= 1
        if how == "lines":
            return body[: body.index(b"\n") + 1]
        if how == "length":
            return Response(
                iter([body[:100]]), headers={"Content-Length": str(len(body)), "Connection": "close"}
            )
        return body[:-20]

    exporter.damage = damage
    assert operator.pull(server.base, **bulk(server)) == (0, "")
    assert operator.landed() == ours(server)
    left[0] = 1000
    status, said = operator.pull(server.base, "--full", **bulk(server))
    assert (status, "did not come whole 2 times" in said) == (22, True)


def test_what_the_export_lacks_is_searched(exporter: Exporter, server: Any, operator: Operator) -> None:
    """An export that leaves records out is caught by the count, and searches bring them; its errors are findings."""
    exporter.left_out = {next(key for key in server.resources if key[0] == "Observation")}
    exporter.problems = [{"severity": "error", "code": "processing", "diagnostics": "about ZQCANARY-4711"}]
    assert operator.pull(server.base, **bulk(server)) == (0, "")
    assert operator.landed() == ours(server)
    assert operator.findings == {"export-error"}
    assert server.searches("Observation")


def test_changes_and_deletions_since(exporter: Exporter, server: Any, operator: Operator) -> None:
    """A second export asks for changes alone; the deleted file and the counts take away what is gone."""
    assert operator.pull(server.base, **bulk(server)) == (0, "")
    victim = next(key for key in server.resources if key[0] == "Observation")
    server.delete(*victim)
    exporter.deleted = ["/".join(victim)]
    assert operator.pull(server.base, **bulk(server)) == (0, "")
    assert "_since" not in exporter.kicked[0].args
    assert exporter.kicked[1].args["_since"] == "2024-05-01T11:55:00.000Z"
    assert operator.landed() == ours(server)
    assert operator.manifest["pull"]["outcome"]["deleted"] == 1
    assert not server.searches("Observation")


@pytest.mark.parametrize("needed", [True, False])
def test_files_get_the_token_if_they_need_it(
    exporter: Exporter, server: Any, operator: Operator, monkeypatch: pytest.MonkeyPatch, needed: bool
) -> None:
    """The credential goes along with files only if `requiresAccessToken` says so."""
    monkeypatch.setenv("STUB_TOKEN", "zqcanary-token")
    exporter.token = needed
    auth = {"kind": "bearer", "token_env": "STUB_TOKEN"}
    assert operator.pull(server.base, **bulk(server, auth=auth)) == (0, "")
    assert {"Authorization" in request.headers for request in exporter.fetched} == {needed}


def test_files_elsewhere(exporter: Exporter, server: Any, operator: Operator) -> None:
    """A file at a host that the site does not name is not fetched."""
    manifest = exporter.manifest

    def elsewhere(kicked: Request) -> dict[str, Any]:
        tree = manifest(kicked)
        tree["output"][0]["url"] = "https://files.example/x.ndjson"
        return tree

    exporter.manifest = elsewhere  # type: ignore[method-assign]
    status, said = operator.pull(server.base, **bulk(server))
    assert (status, "a link leads to another host (https://files.example:443)" in said) == (21, True)
    assert not exporter.fetched


def test_server_without_export(server: Any, operator: Operator) -> None:
    """A source of kind bulk whose server does not export ends the pull and says so."""
    server.before = lambda request: Response("{}", 404) if request.path.endswith("$export") else None
    status, said = operator.pull(server.base, **bulk(server))
    assert (status, "the server answers 404" in said) == (22, True)


def test_type_filters(exporter: Exporter, server: Any, operator: Operator) -> None:
    """`_typeFilter` is passed on; a type that it narrows is searched besides, so that nothing is missing."""
    filters = ["Observation?status=final", "Observation?status=amended"]
    exporter.left_out = set(itertools.islice((key for key in server.resources if key[0] == "Observation"), 5))
    assert operator.pull(server.base, **bulk(server, bulk={"type_filters": filters})) == (0, "")
    assert exporter.kicked[0].args.getlist("_typeFilter") == filters
    assert operator.landed() == ours(server)
    assert operator.findings == {"export-narrowed"}


def test_what_a_kick_off_says(exporter: Exporter, server: Any, operator: Operator) -> None:
    """Types, filters and mark are sent as Bulk Data says: the types in one list, each filter whole, encoded once."""
    filters = [
        "Observation?code=http://loinc.org|718-7,http://loinc.org|789-8&status=final",
        "Observation?status=amended",
        "Immunization?status=completed",  # a type that the study does not read
    ]
    settings = bulk(server, bulk={"type_filters": filters})
    assert operator.pull(server.base, **settings) == (0, "")
    assert operator.pull(server.base, **settings) == (0, "")
    types = (
        "AdverseEvent,BodyStructure,Condition,Consent,Encounter,ImagingStudy,MedicationAdministration,"
        "MedicationStatement,Observation,Patient,Procedure,ResearchSubject"
    )
    first = [
        ("_outputFormat", "application/fhir+ndjson"), ("_type", types), ("_typeFilter", filters[0]),
        ("_typeFilter", filters[1]),
    ]  # fmt: skip
    since = ("_since", "2024-05-01T11:55:00.000Z")
    said = [parse_qsl(request.query_string.decode(), strict_parsing=True) for request in exporter.kicked]
    assert said == [first, [*first[:2], since, *first[2:]]]
    assert [request.headers["Accept"] for request in exporter.kicked] == ["application/fhir+json"] * 2
    assert operator.landed() == ours(server)


@pytest.mark.parametrize(("status", "again"), [(500, 2), (504, 1)])
def test_failed_job_is_forgotten_and_a_failed_gateway_is_not(
    exporter: Exporter, server: Any, operator: Operator, status: int, again: int
) -> None:
    """A job that ends with 500 is begun anew by the next pull; after a 504 the next pull asks for the same one."""
    exporter.waits = [status] * 2
    ended, said = operator.pull(server.base, **bulk(server))
    assert (ended, f"the server goes on answering {status}" in said) == (20, True)
    assert operator.pull(server.base, **bulk(server)) == (0, "")
    assert len(exporter.kicked) == again
    assert operator.landed() == ours(server)


def test_bomb_in_a_file(exporter: Exporter, server: Any, operator: Operator) -> None:
    """A small gzip file that unpacks to one endless line is given up at `max_page_bytes`."""
    exporter.damage = lambda name, body: gzip.compress(b"x" * 50_000_000)
    status, said = operator.pull(server.base, **bulk(server, max_page_bytes=100_000))
    assert (status, "a line is longer than max_page_bytes" in said) == (22, True)


def test_lines_without_end(exporter: Exporter, server: Any, operator: Operator) -> None:
    """A file that never ends its line is left soon after `max_page_bytes`, however much there is of it."""
    sent: list[int] = []

    def endless() -> Iterator[bytes]:
        for number in range(2000):
            sent.append(number)
            yield b"x" * 2**16

    exporter.damage = lambda name, body: Response(endless(), headers={"Connection": "close"})
    status, said = operator.pull(server.base, **bulk(server, max_page_bytes=1_000_000))
    assert (status, "a line is longer than max_page_bytes" in said) == (22, True)
    assert len(sent) < 1000  # what the sockets hold besides


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"output": None}, "the manifest of the export names no output"),
        ({"transactionTime": "yesterday"}, "the manifest of the export has no transactionTime"),
        ({"output": [{"type": "Patient"}]}, "the manifest of the export names a file without URL"),
        ({"output": [[]] * 3, "error": 7, "deleted": "x"}, ""),
    ],
    ids=["no output", "no time", "no URL", "odd entries"],
)
def test_manifests_that_are_none(
    exporter: Exporter, server: Any, operator: Operator, change: dict[str, Any], words: str
) -> None:
    """A manifest that cannot be read ends the pull, and its job is given up; what is empty is searched for."""
    manifest = exporter.manifest
    exporter.manifest = lambda kicked: manifest(kicked) | change  # type: ignore[method-assign]
    status, said = operator.pull(server.base, **bulk(server))
    assert (status, words in said) == (22 if words else 0, True), said
    exporter.manifest = manifest  # type: ignore[method-assign]
    assert operator.pull(server.base, **bulk(server)) == (0, "")
    assert len(exporter.kicked) == 2
    assert operator.landed() == ours(server)


@pytest.mark.parametrize(("breaks", "kicked"), [("length", 1), ("lines", 2)])
def test_a_file_that_stays_short(
    exporter: Exporter, server: Any, operator: Operator, breaks: str, kicked: int
) -> None:
    """What the connection cut is read again of the same job; a file that ends too early was made so, by that job."""

    def damage(name: str, body: bytes) -> Any:
        if "Observation" not in name or len(exporter.kicked) == 2:
            return body
        if breaks == "lines":
            return body[: body.index(b"\n") + 1]
        return Response(iter([body[:100]]), headers={"Content-Length": str(len(body)), "Connection": "close"})

    exporter.damage = damage
    status, said = operator.pull(server.base, **bulk(server))
    assert (status, "did not come whole 2 times" in said) == (22, True)
    if breaks == "length":
        exporter.damage = lambda name, body: body
    assert operator.pull(server.base, **bulk(server)) == (0, "")
    assert len(exporter.kicked) == kicked
    assert operator.landed() == ours(server)


@pytest.mark.parametrize(
    ("status", "words"), [(429, "goes on answering 429"), (401, "our credential"), (403, "(403)")]
)
def test_a_kick_off_that_is_refused(
    exporter: Exporter, server: Any, operator: Operator, status: int, words: str
) -> None:
    """What comes once is asked for again; what stays ends the pull, without a search in its place."""
    left = [1000]
    export = exporter.__call__

    def refuse(request: Request) -> Response | None:
        if request.path.endswith("$export") and left[0]:
            left[0] -= 1
            return Response("", status)
        return export(request)

    server.before = refuse
    ended, said = operator.pull(server.base, **bulk(server))
    assert (ended, words in said) == (20 if status == 429 else 21, True), said
    assert not server.searches("Observation")
    left[0] = 1 if status == 429 else 0
    assert operator.pull(server.base, **bulk(server)) == (0, "")
    assert operator.landed() == ours(server)


def test_who_joins_late_is_searched(exporter: Exporter, server: Any, operator: Operator) -> None:
    """An export of changes has nothing of years ago: a subject who joined since is searched, and comes whole."""
    assert operator.pull(server.base, **bulk(server)) == (0, "")
    now, server.now = server.now, server.now - dt.timedelta(days=2000)
    server.put("Patient", "joined")
    server.observe("of-the-joined", "joined", status="final")
    server.now = now + dt.timedelta(days=1)
    study = server.resources["ResearchSubject", "six-pd-subject"]["study"]
    server.put("ResearchSubject", "rs-joined", study=study, individual={"reference": "Patient/joined"})
    exporter.left_out = {key for key in server.resources if "joined" in key[1]}
    assert operator.pull(server.base, **bulk(server)) == (0, "")
    assert "_since" in exporter.kicked[1].args
    assert {search["patient"] for search in server.searches("Observation")} == {"Patient/joined"}
    assert operator.landed() == ours(server)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://169.254.169.254/x", "../../../etc/passwd", ""])
def test_names_of_files_make_no_paths(exporter: Exporter, server: Any, operator: Operator, url: str) -> None:
    """Whatever a manifest calls its files, nothing is read but from the server itself, and no file gets its name."""
    manifest = exporter.manifest

    def odd(kicked: Request) -> dict[str, Any]:
        tree = manifest(kicked)
        tree["output"] = [{"type": "../../Patient", "url": url}]
        return tree

    exporter.manifest = odd  # type: ignore[method-assign]
    status, said = operator.pull(server.base, **bulk(server))
    assert status in {21, 22}
    assert "root:" not in said
    assert not [path for path in operator.folder.rglob("*") if "passwd" in path.name]


def test_lines_that_are_no_resources_are_kept(exporter: Exporter, server: Any, operator: Operator) -> None:
    """A line without type and id is counted and quarantined; the others land."""
    exporter.count = False
    exporter.damage = lambda name, body: (
        body + b'{"resourceType": "Observation"}\n' if "Observation-" in name else body
    )
    assert operator.pull(server.base, **bulk(server)) == (0, "")
    assert operator.landed() == ours(server)
    assert operator.manifest["pull"]["unreadable"] >= 1
