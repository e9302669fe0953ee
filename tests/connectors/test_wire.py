"""A server that sends for ever what is no answer, through the command line: it costs a bounded time, and is told.

The HTTP library skips interim answers, headers, trailers and packed data without content for as long as they come.
"""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from werkzeug import Request, Response

Operator = Any  # the class stands in conftest.py, which is not importable by name
Bytes = Callable[[], Iterator[bytes]]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def many(*parts: bytes, after: bytes = b"") -> Bytes:
    """Some bytes, and others over and over, as fast as they are taken."""
    return lambda: itertools.chain([after], itertools.cycle([b"".join(parts) * 1000]))


def drip(after: bytes, drop: bytes) -> Bytes:
    """Some bytes, and then a few at a time, each in time."""

    def drops() -> Iterator[bytes]:
        yield after
        while True:
            threading.Event().wait(0.01)  # the drip itself: nothing else shows what it does
            yield drop

    return drops


def silence() -> Iterator[bytes]:
    """Nothing, though the connection stays open."""
    threading.Event().wait(0.5)
    yield b""


#: What is sent → what the operator reads, and the exit status.
FLOODS: dict[str, tuple[Bytes, str, int]] = {
    "dripping nothing": (silence, "the server did not answer in time", 20),
    "interim answers": (many(b"HTTP/1.1 100 Continue\r\n\r\n"), "nothing of it is an answer", 22),
    "dripping interim answers": (drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "the answer takes too long", 20),
    "a dripping status line": (drip(b"HTTP/1.1 2", b"0"), "the answer takes too long", 20),
    "a dripping header": (drip(OK + b"X: ", b"y"), "the answer takes too long", 20),
    "a dripping size of a chunk": (drip(CHUNKED + b"1;", b"x"), "the answer takes too long", 20),
    "trailers": (many(b"X: y\r\n", after=CHUNKED + b"0\r\n"), "nothing of it is an answer", 22),
    "packed nothing": (
        many(gzip.compress(b""), after=OK + b"Content-Encoding: gzip\r\n\r\n"), "nothing of it is an answer", 22,
    ),
}  # fmt: skip


class Flood:
    """A server on loopback that answers every request in the same way, until nobody listens.

    Attributes:
        sent: makes the bytes of an answer.
        asked: number of requests.
    """

    def __init__(self) -> None:
        self.sent: Bytes = lambda: iter(())
        self.asked = 0
        self.ended = threading.Event()
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            """Answers one connection."""

            def handle(self) -> None:
                """Sends until nobody takes it."""
                self.request.recv(65536)
                outer.asked += 1
                self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with suppress(OSError):
                    for part in outer.sent():
                        if outer.ended.is_set():
                            return
                        self.request.sendall(part)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Ends it."""
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def flood() -> Iterator[Flood]:
    """The server."""
    server = Flood()
    yield server
    server.close()


def patience(kind: str = "drip") -> dict[str, Any]:
    """`retry` of a site: what drips is given up after a second, what rushes in long before its ten."""
    return {"attempts": 2, "max_wait_s": 0, "timeout_s": 0.1 if "drip" in kind else 1}


@pytest.mark.parametrize("kind", FLOODS)
def test_what_is_no_answer_and_has_no_end(flood: Flood, operator: Operator, kind: str) -> None:
    """It is given up after a bounded time or size, with a sentence; it is not asked for again and again."""
    flood.sent, words, wanted = FLOODS[kind]
    status, said = operator.pull(f"http://{flood.host}/fhir", retry=patience(kind))
    assert (status, words in said) == (wanted, True), said
    assert flood.asked <= 2
    assert operator.manifest["exit"]["status"] == wanted
    assert not operator.landed()


@pytest.mark.parametrize("kind", ["dripping nothing", "interim answers", "a dripping header", "trailers"])
def test_a_page_that_has_no_end(flood: Flood, server: Any, operator: Operator, kind: str) -> None:
    """In the middle of a pull what landed stays, the type is not done, and the next pull brings all of it."""
    flood.sent, words, wanted = FLOODS[kind]

    def lead(request: Request, bundle: dict[str, Any]) -> None:
        if request.path.endswith("/Observation") and len(bundle["link"]) > 1:
            bundle["link"][1]["url"] = f"http://{flood.host}/fhir/Observation?page=2"

    server.change_bundle = lead
    settings = {"page_size": 20, "allowed_hosts": [flood.host], "retry": patience(kind)}
    status, said = operator.pull(server.base, **settings)
    assert (status, words in said) == (wanted, True), said
    assert operator.manifest["failed_pull"]["missing"]["Observation"] == 6
    server.change_bundle = lambda request, bundle: None
    assert operator.pull(server.base, page_size=20) == (0, "")
    assert operator.landed() == set(server.resources)


def test_a_proxy_that_has_no_end(flood: Flood, operator: Operator) -> None:
    """A proxy that never gets to the end of its answer to CONNECT is given up as well."""
    flood.sent = many(b"X: y\r\n", after=b"HTTP/1.1 200 OK\r\n")
    status, said = operator.pull(
        "https://fhir.example/fhir", retry=patience("rush"), proxy={"url": f"http://{flood.host}"}
    )
    assert (status, "nothing of it is an answer" in said) == (22, True), said


def test_a_file_of_an_export_that_has_no_end(flood: Flood, server: Any, operator: Operator) -> None:
    """A file that drips sizes of chunks and no line is given up; the next pull reads it of the same job."""
    kicked: list[Request] = []
    flood.sent = drip(CHUNKED + b"1;", b"x")
    manifest = {
        "transactionTime": server.now.isoformat(), "requiresAccessToken": False,
        "output": [{"type": "Patient", "url": f"http://{flood.host}/file"}],
    }  # fmt: skip

    def export(request: Request) -> Response | None:
        if request.path.endswith("$export"):
            kicked.append(request)
            return Response("", 202, {"Content-Location": f"{server.base}/job/1"})
        return Response(json.dumps(manifest)) if "/job/" in request.path else None

    server.before = export
    settings = {"source": {"kind": "bulk", "url": server.base}, "allowed_hosts": [flood.host]}
    for _ in range(2):
        status, said = operator.pull(server.base, **settings, retry=patience())
        assert (status, "the answer takes too long" in said) == (20, True), said
    assert len(kicked) == 1
