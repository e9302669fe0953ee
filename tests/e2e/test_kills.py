"""SIGKILL at random moments of a pull: the next pull ends as an undisturbed one, and fetches only what was missing.

The moment follows from a seed and is counted at the server: before the k-th request is answered, when half of the
answer is sent, when all of it is sent, or at the first request after so many bytes have landed.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sqlite3
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import psutil
import pytest

from fhir_adapter.connectors.plan import SUBJECT_PARAMETER, SubjectQuery, query_hash
from fhir_adapter.landing import Landing
from fhir_adapter.landing.lock import writer_lock
from fhir_adapter.pipeline import Settings, new_run

from .commands import Commands
from .conftest import SIX

KILLED = -9
#: Written long before the pulls, so that an incremental search brings nothing.
WRITTEN, NOW = "2024-01-01T00:00:00+00:00", "2024-05-01T12:00:00+00:00"


class Server:
    """A FHIR server over a synthetic cohort, which can kill its client.

    Args:
        patients: number of patients.
        each: Observations of each.
    """

    def __init__(self, patients: int, each: int) -> None:
        shared = [item["resource"] for item in json.loads((SIX / "0-shared.json").read_bytes())["entry"]]
        study = next(item for item in shared if item["resourceType"] == "ResearchStudy")
        self.resources: dict[tuple[str, str], bytes] = {}
        self.subjects: dict[str, dict[str, list[str]]] = {}
        self._put(
            "ResearchStudy", study["id"], "", {k: v for k, v in study.items() if k not in {"id", "meta"}}
        )
        for number in range(patients):
            name = f"p{number:04d}"
            subject = {"reference": f"Patient/{name}"}
            self._put("Patient", name, name, {})
            enrolment = {"study": {"reference": f"ResearchStudy/{study['id']}"}, "individual": subject}
            self._put("ResearchSubject", f"rs-{name}", name, enrolment)
            for serial in range(each):
                self._put("Observation", f"o-{name}-{serial}", name, {"subject": subject, "status": "final"})
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.kicked = 0
        self.files: list[str] = []
        self.commands = Commands()
        self._lock = threading.Lock()
        self.forget()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            """Answers one connection."""

            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *arguments: Any) -> None:
                """Nothing on stderr."""

            def do_GET(self) -> None:
                """A search, a read, or a step of an export."""
                outer.answer(self)

            do_DELETE = do_GET  # noqa: N815 - the name that http.server asks for

        class Quiet(ThreadingHTTPServer):
            """Says nothing of clients that were killed."""

            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that was killed closes its connections."""
                if not isinstance(sys.exception(), ConnectionError):
                    super().handle_error(request, client_address)

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._server.server_port}/fhir"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *arguments: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.commands.close()

    def _put(self, type_: str, id_: str, patient: str, content: dict[str, Any]) -> None:
        meta = {"versionId": "1", "lastUpdated": WRITTEN}
        body = {"resourceType": type_, "id": id_, "meta": meta, **content}
        self.resources[type_, id_] = json.dumps(body).encode()
        self.subjects.setdefault(type_, {}).setdefault(patient, []).append(id_)

    def forget(self) -> None:
        """Begins a new count; nobody is killed."""
        self.requests.clear()
        self.at, self.last, self.landed, self.how, self.file, self.folder = 0, 0, 0, "", "", Path()

    def kill(self) -> None:
        """Kills the command that is running."""
        assert self.commands.pid is not None
        for child in psutil.Process(self.commands.pid).children():
            child.kill()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers a request, unless its client dies of it."""
        parts = urlsplit(handler.path)
        path, query = parts.path.removeprefix("/fhir/"), dict(parse_qsl(parts.query))
        with self._lock:
            self.requests.append((path, query))
            number = len(self.requests)
        due = number == self.at or path == self.file
        if self.how == "landed":
            size = sum(file.stat().st_size for file in self.folder.glob("segments/*.ndjson"))
            due = size >= self.landed or number == self.last
        if due and self.how in {"before", "landed"}:
            self.kill()
            return
        status, body, headers = self._answer(handler.command, path, query)
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])
        handler.wfile.flush()
        if due and self.how == "half":
            self.kill()
            return
        handler.wfile.write(body[len(body) // 2 :])
        handler.wfile.flush()
        if due:
            self.kill()

    def _answer(self, method: str, path: str, query: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        fhir = {"Content-Type": "application/fhir+json"}
        if path == "metadata":
            return 200, b'{"resourceType":"CapabilityStatement","fhirVersion":"4.0.1","rest":[{}]}', fhir
        if path.endswith("$export"):
            self.kicked += 1
            self.files = query["_type"].split(",")
            return 202, b"", {"Content-Location": f"{self.base}/job/{self.kicked}"}
        if path.startswith("job/"):
            if method == "DELETE":
                return 202, b"", {}
            output = [{"type": type_, "url": f"{self.base}/file/{type_}"} for type_ in self.files]
            manifest = {"transactionTime": NOW, "request": "", "requiresAccessToken": False, "output": output}
            return 200, json.dumps(manifest | {"error": []}).encode(), {"Content-Type": "application/json"}
        if path.startswith("file/"):
            type_ = path.removeprefix("file/")
            found = [body + b"\n" for key, body in self.resources.items() if key[0] == type_]
            return 200, b"".join(found), {"Content-Type": "application/fhir+ndjson"}
        if "/" in path:
            type_, _, id_ = path.partition("/")
            found_one = self.resources.get((type_, id_))
            return (200, found_one, fhir) if found_one else (404, b"{}", fhir)
        return 200, self._search(path, query), fhir

    def found(self, type_: str, query: dict[str, str]) -> list[str]:
        """Ids of a type that a search finds."""
        if query.get("_lastUpdated"):
            return []
        here = self.subjects.get(type_, {})
        wanted = query.get("_id") or query.get(SUBJECT_PARAMETER.get(type_, ""))
        if type_ == "Patient" or (type_ not in SUBJECT_PARAMETER and wanted):
            return [id_ for id_ in str(wanted).split(",") if (type_, id_) in self.resources]
        if wanted:
            return [id_ for name in wanted.split(",") for id_ in here.get(name.removeprefix("Patient/"), [])]
        return [id_ for ids in here.values() for id_ in ids]

    def _search(self, type_: str, query: dict[str, str]) -> bytes:
        ids = self.found(type_, query)
        head = b'{"resourceType":"Bundle","type":"searchset","total":%d' % len(ids)
        if query.get("_summary") == "count":
            return head + b"}"
        size, start = int(query["_count"]), int(query.get("start", 0))
        links = [{"relation": "self", "url": f"{self.base}/{type_}?{urlencode(query)}"}]
        if start + size < len(ids):
            following = urlencode(query | {"start": str(start + size)})
            links.append({"relation": "next", "url": f"{self.base}/{type_}?{following}"})
        entries = b",".join(
            b'{"resource":%s,"search":{"mode":"match"}}' % self.resources[type_, id_]
            for id_ in ids[start : start + size]
        )
        middle = json.dumps({"meta": {"lastUpdated": NOW}, "link": links})[1:-1].encode()
        return head + b"," + middle + b',"entry":[' + entries + b"]}"


class Puller:
    """`fhir-adapter pull` from the server into a landing of its own."""

    def __init__(self, server: Server, fresh: Path, folder: Path, **settings: Any) -> None:
        self.server = server
        #: Whether every batch is written by the landing's process, which outlives a pull that is killed.
        self.apart = False
        self.run = folder / "run"
        self.landing = folder / "state" / "stub"
        shutil.copytree(fresh, self.run)
        site: dict[str, Any] = {
            "id": "stub", "source": {"kind": "rest", "url": server.base}, "page_size": 20, "concurrency": 3,
            "subjects_per_query": 2, "state_dir": str(folder / "state"),
            "retry": {"attempts": 2, "max_wait_s": 0, "timeout_s": 30},
        }  # fmt: skip
        (self.run / "site.yaml").write_text(json.dumps(site | settings), "utf-8")  # JSON is YAML

    def pull(self) -> tuple[int, str]:
        """Exit status and what stands on stderr."""
        status, _, err = self.server.commands.run(
            ["pull", str(self.run), "--quiet"], cwd=self.run, timeout=300, apart=self.apart
        )
        if self.process_was_used():
            with writer_lock(self.landing).acquire(timeout=60):
                pass  # it has written what it had
        return status, err

    def process_was_used(self) -> bool:
        """Whether a process of the landing's own has written."""
        return (self.landing / "writer.lock").exists()

    def content(self) -> dict[str, Any]:
        """Every current resource with its version and hash, the counts, and who has a checkpoint."""
        with Landing.open(self.landing) as landing:
            assert landing.verify() == sum(row["total"] for row in landing.counts().values())
            return {
                "resources": {
                    (item.type, item.id): (item.version, item.subject, hashlib.sha256(item.body).hexdigest())
                    for item in landing.current()
                },
                "counts": landing.counts(),
                "checkpoints": {key for key in self.checkpoints() if not key.startswith("export|")},
            }

    def checkpoints(self) -> set[str]:
        """Keys of the checkpoints."""
        index = sqlite3.connect(self.landing / "index.sqlite")
        try:
            return {row[0] for row in index.execute("SELECT key FROM checkpoint")}
        finally:
            index.close()

    def marked(self) -> set[tuple[str, str]]:
        """Type and subject of each query that has come to its end."""
        names = {
            query_hash(self.server.base, SubjectQuery(type_, parameter)): type_
            for type_, parameter in SUBJECT_PARAMETER.items()
        }
        parts = [key.partition("|") for key in self.checkpoints() if key.startswith("Patient/")]
        return {(names[name], subject) for subject, _, name in parts}


def asked_in_full(server: Server) -> set[tuple[str, str]]:
    """Type and subject of each query by subject that was asked for everything."""
    return {
        (type_, f"Patient/{name.removeprefix('Patient/')}")
        for type_, query in server.requests
        if type_ in SUBJECT_PARAMETER and "_lastUpdated" not in query and "_summary" not in query
        for name in query.get(SUBJECT_PARAMETER[type_], "").split(",")
        if name
    }


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of the six patients' study in which nothing has happened yet."""
    folder = tmp_path_factory.mktemp("fresh")
    site = folder / "site.yaml"
    site.write_text('{"id": "stub", "source": {"kind": "rest", "url": "http://localhost/fhir"}}', "utf-8")
    run = new_run(SIX / "six.yaml", site, folder / "runs", Settings(quiet=True))
    run.log.close()
    return run.folder.path


class Undisturbed:
    """A server, and what a pull from it leaves that nobody disturbs."""

    def __init__(self, server: Server, fresh: Path, folder: Path, **settings: Any) -> None:
        self.server = server
        self.settings = settings
        puller = Puller(server, fresh, folder, **settings)
        ended = puller.pull()
        assert ended == (0, ""), ended[1]
        self.content = puller.content()
        self.requests = len(server.requests)
        self.bytes = sum(path.stat().st_size for path in puller.landing.glob("segments/*.ndjson"))
        self.queries = puller.marked()
        assert len(self.content["resources"]) == len(server.resources)


@pytest.fixture(scope="module")
def small(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    """Eight patients with thirty Observations each."""
    with Server(8, 30) as server:
        yield Undisturbed(server, fresh, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def large(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    """200 patients with 98 Observations each: 20,001 resources."""
    with Server(200, 98) as server:
        folder = tmp_path_factory.mktemp("large")
        yield Undisturbed(server, fresh, folder, subjects_per_query=10, page_size=200)


def survives(whole: Undisturbed, fresh: Path, folder: Path, seed: int, *, apart: bool) -> None:
    """Kills a pull at the moment of a seed, and pulls again."""
    server = whole.server
    chance = random.Random(seed)
    part = (seed % 10 + chance.random()) / 10  # early, late, and all between
    puller = Puller(server, fresh, folder, **whole.settings)
    puller.apart = apart
    server.forget()
    server.how = chance.choice(["before", "half", "after", "landed"])
    server.at, server.last = 1 + int(part * (whole.requests - 1)), whole.requests
    server.landed, server.folder = int(part * whole.bytes * 0.95), puller.landing
    assert puller.pull()[0] == KILLED
    marked = puller.marked()
    assert marked < whole.queries
    server.forget()
    assert puller.pull() == (0, "")
    assert puller.process_was_used() or not apart  # a large pull uses it of itself
    assert puller.content() == whole.content
    assert asked_in_full(server) == whole.queries - marked, "what had come whole was asked for again"
    if seed % 10 >= 6:
        assert marked, "nothing had come whole: the moment was too early to show anything"


@pytest.mark.parametrize("apart", [False, True], ids=["alone", "apart"])
@pytest.mark.parametrize("seed", range(10))
def test_a_killed_pull(small: Undisturbed, fresh: Path, tmp_path: Path, seed: int, apart: bool) -> None:
    """The next pull lands the same resources, versions, hashes, counts and checkpoints, and asks for the rest alone."""
    survives(small, fresh, tmp_path, seed, apart=apart)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 110))
def test_a_killed_pull_soak(large: Undisturbed, fresh: Path, tmp_path: Path, seed: int) -> None:
    """The same with a hundred other seeds and 20,000 resources; every second one with the process that writes."""
    survives(large, fresh, tmp_path, seed, apart=seed % 2 == 1)


@pytest.mark.parametrize("how", ["before", "half", "after"])
@pytest.mark.parametrize("file", ["Patient", "Observation"])
def test_a_killed_export(small: Undisturbed, fresh: Path, tmp_path: Path, how: str, file: str) -> None:
    """A pull that is killed while it reads a file is followed by one that takes up the same job."""
    server = small.server
    puller = Puller(server, fresh, tmp_path, source={"kind": "bulk", "url": server.base})
    server.forget()
    server.kicked = 0
    server.how = how
    server.file = f"file/{file}"
    assert puller.pull()[0] == KILLED
    server.forget()
    assert puller.pull() == (0, "")
    assert server.kicked == 1
    manifest = json.loads((puller.run / "manifest.json").read_bytes())
    assert "export-resumed" in {item["code"] for item in manifest["pull"]["findings"]}
    found = puller.content()
    assert found["resources"] == small.content["resources"]
    assert found["counts"] == small.content["counts"]
    assert not asked_in_full(server), "what the export had brought was searched for"


@pytest.mark.parametrize("how", ["before", "half"])
def test_an_export_killed_before_its_first_poll(
    small: Undisturbed, fresh: Path, tmp_path: Path, how: str
) -> None:
    """The job that was kicked off is the one that the next pull polls, though nobody had asked for it yet."""
    server = small.server
    puller = Puller(server, fresh, tmp_path, source={"kind": "bulk", "url": server.base})
    server.forget()
    server.kicked = 0
    server.how, server.file = how, "job/1"
    assert puller.pull()[0] == KILLED
    assert [path for path, _ in server.requests][-2:] == ["Patient/$export", "job/1"]
    server.forget()
    assert puller.pull() == (0, "")
    assert server.kicked == 1
    jobs = [path for path, _ in server.requests if path.startswith("job/") or path.endswith("$export")]
    assert jobs == ["job/1", "job/1"], "polled once, deleted once, and none kicked off"
    found = puller.content()
    assert (found["resources"], found["counts"]) == (small.content["resources"], small.content["counts"])


def test_an_export_killed_at_its_kick_off(small: Undisturbed, fresh: Path, tmp_path: Path) -> None:
    """A job whose URL nobody has read is lost; the next pull begins another one, and lands the same."""
    server = small.server
    puller = Puller(server, fresh, tmp_path, source={"kind": "bulk", "url": server.base})
    server.forget()
    server.kicked = 0
    server.how, server.file = "before", "Patient/$export"
    assert puller.pull()[0] == KILLED
    server.forget()
    assert puller.pull() == (0, "")
    assert puller.content()["resources"] == small.content["resources"]
    assert not asked_in_full(server)
