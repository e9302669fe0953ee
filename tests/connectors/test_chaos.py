"""A proxy that fails by a seed before a FHIR server: what landed is what it has, or the pull says that it is not.

The proxy delays, cuts bodies short, closes connections, answers 429 and 5xx, expires cursors, repeats entries and
leaves some out. What it does to a request follows from the seed, the request and how often it was asked before,
so that a seed means the same at any concurrency.
"""

from __future__ import annotations

import functools
import json
import random
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
import requests

from fhir_adapter.cli import main
from fhir_adapter.landing import Landing
from fhir_adapter.pipeline import Settings, new_run

SIX = Path(__file__).parent.parent / "data" / "six"
#: Fault → weight in a thousand; what is left is an answer as the server gave it.
FAULTS = {
    "429": 20, "500": 20, "502": 20, "503": 20, "delay": 10, "late": 2, "reset": 20, "cut": 20, "short": 20,
    "expired": 20, "twice": 80, "dropped": 15,
}  # fmt: skip
TIMEOUT = 2.0
#: A real server takes its time; there nothing comes too late, which the stub shows.
FAULTS_BEFORE_HAPI = {name: weight for name, weight in FAULTS.items() if name != "late"}
#: Exit statuses that say that the source could not be read to its end (docs/errors.md).
INCOMPLETE = {20, 22}
PULLS = 40


class Chaos:
    """A proxy on loopback in front of `upstream`, failing by `seed`."""

    def __init__(self, upstream: str, seed: int, faults: dict[str, int] = FAULTS) -> None:
        self.upstream = upstream
        self.seed = seed
        self.faults = faults
        self.done: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._session = requests.Session()
        self._session.trust_env = False
        self._over = threading.Event()
        chaos = self

        class Handler(BaseHTTPRequestHandler):
            """Answers one connection."""

            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *arguments: Any) -> None:
                """Nothing on stderr."""

            def do_GET(self) -> None:
                """Passes a request on, or fails."""
                chaos.answer(self)

        class Server(ThreadingHTTPServer):
            """Says nothing of clients that went away."""

            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that timed out closes first."""
                if not isinstance(sys.exception(), ConnectionError):
                    super().handle_error(request, client_address)

        self._server = Server(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._server.server_port}/fhir"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._session.close()

    def fault(self, path: str) -> str:
        """What happens to a request, "" for nothing."""
        with self._lock:
            self._asked[path] += 1
            number = self._asked[path]
        chance = random.Random(f"{self.seed} {number} {path}").randrange(1000)
        for name, weight in self.faults.items():
            if chance < weight:
                return name
            chance -= weight
        return ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers one request."""
        path = handler.path.removeprefix("/fhir")
        fault = self.fault(path)
        with self._lock:
            self.done[fault] += 1
        if fault.isdecimal():
            self.send(handler, int(fault), b"", {"Retry-After": "7"})
            return
        if fault == "reset":
            handler.close_connection = True
            return
        if fault in {"delay", "late"}:
            self._over.wait(0.02 if fault == "delay" else TIMEOUT + 0.5)
        if fault == "expired" and ("start=" in path or "_getpages=" in path):
            self.send(handler, 410, b'{"resourceType":"OperationOutcome"}')
            return
        accept = {"Accept": "application/fhir+json", "Cache-Control": "no-cache"}
        got = self._session.get(self.upstream + path, headers=accept, timeout=60)
        body = got.content.replace(self.upstream.encode(), self.base.encode())
        if fault in {"twice", "dropped"} and got.status_code == 200:
            body = self.changed(body, fault)
        if fault == "cut":  # without a length: nothing but the JSON shows that it is not whole
            self.send(handler, got.status_code, body[: len(body) // 2], {"Connection": "close"}, length=None)
        elif fault == "short":
            self.send(
                handler, got.status_code, body[: len(body) // 2], {"Connection": "close"}, length=len(body)
            )
        else:
            self.send(handler, got.status_code, body)

    @staticmethod
    def changed(body: bytes, fault: str) -> bytes:
        """A page with each entry twice, or without its last one."""
        tree = json.loads(body)
        entries = tree.get("entry") if tree["resourceType"] == "Bundle" else None
        if entries:
            tree["entry"] = entries[:-1] if fault == "dropped" else [one for one in entries for _ in range(2)]
        return json.dumps(tree).encode()

    @staticmethod
    def send(
        handler: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        length: int | None = -1,
    ) -> None:
        """Sends an answer; a length other than the body's, or none, is said as it is."""
        handler.send_response(status)
        handler.send_header("Content-Type", "application/fhir+json")
        if length is not None:
            handler.send_header("Content-Length", str(len(body) if length < 0 else length))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


def resources(prefix: str = "six", files: str = "*.json") -> Iterator[dict[str, Any]]:
    """The resources of the six synthetic patients, with marks that `tests/leaks.py` searches for.

    `prefix` takes the place of `six` in their ids, references and the study's identifier.
    """
    for path in sorted(SIX.glob(files)):
        text = path.read_text("utf-8").replace("six-", f"{prefix}-").replace("six/study", f"{prefix}/study")
        for entry in json.loads(text)["entry"]:
            item = entry["resource"]
            if item["resourceType"] == "Patient":
                item["name"] = [{"family": "Zqcanaryson", "given": ["Zqcanary"]}]
            yield item


def fresh_run(folder: Path, prefix: str = "six") -> Path:
    """A run folder of the six patients' study in which nothing has happened yet."""
    site, study = folder / "site.yaml", folder / "study.yaml"
    site.write_text('{"id": "stub", "source": {"kind": "rest", "url": "http://localhost/fhir"}}', "utf-8")
    study.write_text((SIX / "six.yaml").read_text("utf-8").replace("six/study", f"{prefix}/study"), "utf-8")
    run = new_run(study, site, folder / "runs", Settings(quiet=True))
    run.log.close()
    return run.folder.path


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of the six patients' study."""
    return fresh_run(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="module")
def fresh_of_hapi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of two of them under names that only these tests write to the server."""
    return fresh_run(tmp_path_factory.mktemp("fresh"), "chaos")


Pull = Callable[..., tuple[int, str]]


@pytest.fixture
def pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Pull:
    """`fhir-adapter pull` of a fresh run, from a server, into one landing: exit status and what the operator reads."""

    def once(fresh: Path, url: str, timeout: float = TIMEOUT) -> tuple[int, str]:
        run = tmp_path / "runs" / "six" / "1"
        if not run.exists():
            shutil.copytree(fresh, run)
        site = {
            "id": "stub", "source": {"kind": "rest", "url": url}, "page_size": 10, "concurrency": 3,
            "subjects_per_query": 3, "state_dir": str(tmp_path / "state"),
            "retry": {"attempts": 3, "max_wait_s": 0, "timeout_s": timeout},
        }  # fmt: skip
        (run / "site.yaml").write_text(json.dumps(site), "utf-8")  # JSON is YAML
        monkeypatch.setattr(sys, "argv", ["fhir-adapter", "pull", str(run), "--quiet"])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        return status, capsys.readouterr().err

    return once


def content(item: dict[str, Any]) -> str:
    """A resource as text that does not depend on the order of its members."""
    return json.dumps(item, sort_keys=True)


@contextmanager
def landing(folder: Path) -> Iterator[dict[tuple[str, str], str]]:
    """Type and id → content of what is current in the landing."""
    if not (folder / "index.sqlite").exists():
        yield {}
        return
    with Landing.open(folder, read_only=True) as opened:
        items = list(opened.current())
        assert len(items) == len({(item.type, item.id) for item in items})
        yield {(item.type, item.id): content(json.loads(item.body)) for item in items}


def survives(
    chaos: Chaos, pull: Callable[[str], tuple[int, str]], expected: dict[tuple[str, str], str], state: Path
) -> None:
    """Pulls through the proxy until a pull says that it has everything, and looks whether it has."""
    with chaos:
        for _ in range(PULLS):
            status, said = pull(chaos.base)
            with landing(state) as found:
                assert found.items() <= expected.items(), "something landed that the server does not have"
                if status == 0:
                    assert found == expected, (
                        f"not said to be missing: {sorted(expected.keys() - found.keys())}"
                    )
                    return
            assert status in INCOMPLETE, f"exit status {status}: {said}"
            assert said.strip(), "a pull that failed did not say why"
    pytest.fail(f"no pull of {PULLS} succeeded")


def on_stub(stub: Any, seed: int, pull: Pull, fresh: Path, tmp_path: Path) -> None:
    """One seed on the stub."""
    for item in resources():
        stub.put(
            item["resourceType"],
            item["id"],
            **{k: v for k, v in item.items() if k not in {"resourceType", "id"}},
        )
    expected = {key: content(item) for key, item in stub.resources.items()}
    chaos = Chaos(stub.base, seed)
    survives(chaos, functools.partial(pull, fresh), expected, tmp_path / "state" / "stub")
    assert sum(chaos.done.values()) > chaos.done[""], "nothing failed"


@pytest.mark.parametrize("seed", range(10))
def test_what_landed_is_what_the_server_has(
    stub: Any, pull: Pull, fresh: Path, tmp_path: Path, seed: int
) -> None:
    """However often a pull fails, it says so; the one that ends with 0 has everything, once, as it is."""
    on_stub(stub, seed, pull, fresh, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 210))
def test_what_landed_is_what_the_server_has_soak(
    stub: Any, pull: Pull, fresh: Path, tmp_path: Path, seed: int
) -> None:
    """The same with two hundred other seeds."""
    on_stub(stub, seed, pull, fresh, tmp_path)


@pytest.fixture(scope="module")
def on_hapi(hapi: Any) -> dict[tuple[str, str], str]:
    """Two of the six patients on the real server: type and id → content, as the server has them."""
    sent = [item for files in ("0-*.json", "[14]-*.json") for item in resources("chaos", files)]
    hapi.load(sent)
    return {
        (item["resourceType"], item["id"]): content(hapi.get(f"{item['resourceType']}/{item['id']}"))
        for item in sent
    }


def before_hapi(
    hapi: Any, seed: int, pull: Pull, fresh: Path, expected: dict[tuple[str, str], str], tmp_path: Path
) -> None:
    """One seed before the real server."""
    chaos = Chaos(hapi.base, seed, FAULTS_BEFORE_HAPI)
    survives(chaos, functools.partial(pull, fresh, timeout=60), expected, tmp_path / "state" / "stub")
    assert sum(chaos.done.values()) > chaos.done[""], "nothing failed"


@pytest.mark.hapi
@pytest.mark.parametrize("seed", range(10))
def test_what_landed_is_what_hapi_has(
    hapi: Any, pull: Pull, fresh_of_hapi: Path, on_hapi: Any, tmp_path: Path, seed: int
) -> None:
    """The same before a real HAPI FHIR server, with its own pages and cursors."""
    before_hapi(hapi, seed, pull, fresh_of_hapi, on_hapi, tmp_path)


@pytest.mark.hapi
@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 210))
def test_what_landed_is_what_hapi_has_soak(
    hapi: Any, pull: Pull, fresh_of_hapi: Path, on_hapi: Any, tmp_path: Path, seed: int
) -> None:
    """The same with two hundred other seeds."""
    before_hapi(hapi, seed, pull, fresh_of_hapi, on_hapi, tmp_path)
