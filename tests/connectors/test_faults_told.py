"""What a server may do wrong, through the command line: exit status, what the operator reads, what landed.

Each fault comes at the base URL, in the middle of a search, or in a count; after each the next pull, from a server
that behaves again, brings everything.
"""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug import Request, Response

Operator = Any  # the class stands in conftest.py, which is not importable by name
Answer = Callable[[], Response]


def fhir(body: Any, status: int = 200) -> Answer:
    """A response with a FHIR body."""
    return lambda: Response(json.dumps(body), status, content_type="application/fhir+json")


def status(number: int) -> Answer:
    """A response with a status and nothing else."""
    return lambda: Response("", number)


def broken() -> Response:
    """A response that ends before its Content-Length."""
    return Response(iter([b"{"]), headers={"Content-Length": "1000", "Connection": "close"})


def html() -> Response:
    """A login page."""
    return Response("<html><body>Login</body></html>", content_type="text/html")


def bomb() -> Response:
    """A small answer that unpacks to fifty megabytes."""
    return Response(gzip.compress(b" " * 50_000_000), headers={"Content-Encoding": "gzip"})


def cut() -> Response:
    """A page without its end."""
    return Response('{"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": {"id"')


def nested() -> Response:
    """JSON nested a hundred thousand deep."""
    return Response('{"a":' * 100_000, content_type="application/json")


OUTCOME = {
    "resourceType": "OperationOutcome",
    "issue": [{"severity": "error", "code": "processing", "diagnostics": "Patient/zqcanary-secret"}],
}

#: What is answered to /metadata → exit status, words.
AT_THE_BASE: dict[str, tuple[Answer, int, str]] = {
    "401": (status(401), 21, "does not accept our credential"),
    "403": (status(403), 21, "does not allow us this"),
    "404": (status(404), 21, "nothing at the base URL"),
    "429": (status(429), 20, "goes on answering 429"),
    "500": (status(500), 20, "goes on answering 500"),
    "502": (status(502), 20, "goes on answering 502"),
    "503": (status(503), 20, "goes on answering 503"),
    "a login page": (html, 22, "HTML or XML, not JSON"),
    "other JSON": (fhir({"hello": "world"}), 22, "no CapabilityStatement"),
    "STU3": (fhir({"resourceType": "CapabilityStatement", "fhirVersion": "3.0.2"}), 22, "speaks FHIR 3.0.2"),
    "broken off": (broken, 22, "broke off 2 times"),
    "a bomb": (bomb, 22, "longer than max_page_bytes"),
    "nesting": (nested, 22, "/fhir/metadata"),
}  # fmt: skip

#: What is answered to a search for Observations → exit status, words.
IN_A_SEARCH: dict[str, tuple[Answer, int, str]] = {
    "400": (fhir(OUTCOME, 400), 22, "answers 400 (error processing)"),
    "401": (status(401), 21, "does not accept our credential"),
    "403": (status(403), 21, "does not allow us this"),
    "404": (fhir(OUTCOME, 404), 22, "answers 404 (error processing)"),
    "429": (status(429), 20, "goes on answering 429"),
    "500": (status(500), 20, "goes on answering 500"),
    "501": (status(501), 22, "answers 501"),
    "502": (status(502), 20, "goes on answering 502"),
    "503": (status(503), 20, "goes on answering 503"),
    "a login page": (html, 22, "HTML or XML, not JSON"),
    "an outcome": (fhir(OUTCOME), 22, "instead of a page the server sent"),
    "another resource": (fhir({"resourceType": "Patient", "id": "x"}), 22, "instead of a page the server sent"),
    "broken off": (broken, 22, "broke off 2 times"),
    "cut short": (cut, 22, "JSON that is cut short"),
    "a bomb": (bomb, 22, "longer than max_page_bytes"),
    "nesting": (nested, 22, "instead of a page the server sent"),
}  # fmt: skip


def only(path: str, answer: Answer, *, counts: bool = False) -> Callable[[Request], Response | None]:
    """Answers requests for a path in its own way, those for pages or those for counts."""

    def before(request: Request) -> Response | None:
        if request.path.endswith(path) and ("_summary" in request.args) == counts:
            return answer()
        return None

    return before


def told(operator: Operator, url: str, wanted: int, words: str) -> None:
    """Pulls, and looks at what the operator is told: a sentence and the status, which the manifest has as well."""
    ended, said = operator.pull(url, page_size=20, max_page_bytes=1_000_000)
    assert (ended, words in said) == (wanted, True), said
    assert operator.manifest["exit"]["status"] == wanted
    assert "zqcanary" not in said
    assert "Patient/six" not in said
    assert len(said.splitlines()) <= 3


@pytest.mark.parametrize("fault", AT_THE_BASE)
def test_at_the_base(server: Any, operator: Operator, fault: str) -> None:
    """Each has its status and sentence, and nothing lands."""
    answer, wanted, words = AT_THE_BASE[fault]
    server.before = only("/metadata", answer)
    told(operator, server.base, wanted, words)
    assert operator.landed() == set()
    server.before = lambda request: None
    assert operator.pull(server.base) == (0, "")
    assert operator.landed() == set(server.resources)


@pytest.mark.parametrize("fault", IN_A_SEARCH)
def test_in_a_search(server: Any, operator: Operator, fault: str) -> None:
    """Each has its status and sentence; what came before stays, the type is not done, the next pull brings the rest."""
    answer, wanted, words = IN_A_SEARCH[fault]
    server.before = only("/Observation", answer)
    told(operator, server.base, wanted, words)
    report = operator.manifest["failed_pull"]
    assert (report["complete"], report["missing"]["Observation"]) == (False, 6)
    assert "Condition" not in report["missing"]
    there = operator.landed()
    assert ("Condition", "six-pd-primary") in there
    assert not [id_ for type_, id_ in there if type_ == "Observation"]
    server.before = lambda request: None
    assert operator.pull(server.base) == (0, "")
    assert operator.landed() == set(server.resources)


@pytest.mark.parametrize(
    ("answer", "wanted", "words"),
    [
        (status(503), 20, "goes on answering 503"),
        (status(403), 21, "does not allow us this"),
        (html, 22, "HTML or XML, not JSON"),
        (cut, 22, "JSON that is cut short"),
    ],
    ids=["503", "403", "a login page", "cut short"],
)
def test_in_a_count(server: Any, operator: Operator, answer: Answer, wanted: int, words: str) -> None:
    """What the server has cannot be learnt: that is no agreement, and the type is not done."""
    server.before = only("/Observation", answer, counts=True)
    told(operator, server.base, wanted, words)
    assert operator.manifest["failed_pull"]["missing"]["Observation"] == 6
    server.before = lambda request: None
    assert operator.pull(server.base) == (0, "")
    assert operator.landed() == set(server.resources)


def test_nobody_listens(operator: Operator) -> None:
    """A port where nobody listens is a source that cannot be reached."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/fhir"
    told(operator, url, 20, "there is no connection")


def test_a_name_that_is_none(operator: Operator) -> None:
    """So is a host that no name server knows."""
    told(operator, "http://fhir.invalid/fhir", 20, "there is no connection")


@pytest.mark.parametrize(
    "answer",
    [status(503), status(429), status(500), broken, cut],
    ids=["503", "429", "500", "broken off", "cut short"],
)
def test_a_short_fault_is_borne(server: Any, operator: Operator, answer: Answer) -> None:
    """What goes wrong once is asked for again, and leaves no trace."""
    left = [1]
    fault = only("/Observation", answer)

    def once(request: Request) -> Response | None:
        found = fault(request) if left[0] else None
        left[0] -= found is not None
        return found

    server.before = once
    assert operator.pull(server.base) == (0, "")
    assert left == [0]
    assert operator.findings == set()
    assert operator.landed() == set(server.resources)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connection_that_is_closed_is_opened_again(server: Any, operator: Operator, method: str) -> None:
    """A server that hangs up instead of answering is asked once more, a search by POST like one by GET."""
    study = server.resources["ResearchSubject", "six-pd-subject"]["study"]
    for number in range(120):  # a search for all of them is too long for GET
        name = f"more-patients-of-the-study-{number}"
        server.put("Patient", name)
        server.put("ResearchSubject", f"rs-{name}", study=study, individual={"reference": f"Patient/{name}"})
        server.observe(f"o-{name}", name)
    hung_up: list[str] = []

    def hang_up(request: Request) -> Response | None:
        posted = request.path.endswith("/_search")
        type_ = request.path.split("/")[-2 if posted else -1]
        if request.method == method and (type_, posted) == ("Observation", method == "POST") and not hung_up:
            hung_up.append(request.path)
            request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return Response("")
        if posted:
            request.args = request.form  # type: ignore[assignment]
            found: Response = server.search(request, type_)
            return found
        return None

    server.before = hang_up
    subjects = 500 if method == "POST" else 10
    assert operator.pull(server.base, subjects_per_query=subjects) == (0, "")
    assert len(hung_up) == 1
    assert operator.landed() == set(server.resources)


@pytest.mark.parametrize("auth", ["bearer from a file", "basic"])
def test_credentials(
    server: Any, operator: Operator, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, auth: str
) -> None:
    """Each request has the credential of the site file; one that is missing is an error of the site file."""
    monkeypatch.setenv("STUB_USER", "adapter")
    token, password = tmp_path / "token", tmp_path / "password"
    token.write_text("zqcanary-token\n")
    password.write_text("zqcanary-password\n")
    settings: dict[str, Any] = {
        "bearer from a file": {"kind": "bearer", "token_file": str(token)},
        "basic": {"kind": "basic", "user_env": "STUB_USER", "password_file": str(password)},
    }[auth]
    wanted = {
        "bearer from a file": "Bearer zqcanary-token",
        "basic": "Basic YWRhcHRlcjp6cWNhbmFyeS1wYXNzd29yZA==",
    }[auth]
    server.before = lambda request: (
        None if request.headers.get("Authorization") == wanted else Response("", 401)
    )
    assert operator.pull(server.base, auth=settings) == (0, "")
    assert operator.landed() == set(server.resources)
    token.unlink()
    password.unlink()
    ended, said = operator.pull(server.base, auth=settings)
    assert (ended, "cannot be read" in said) == (11, True), said
