"""A server that means harm, through the command line: each trick costs a bounded amount and learns nothing."""

from __future__ import annotations

import gzip
import json
import re
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

TOKEN = "zqcanary-bearer"
#: What the longest message may have.
LINE = 800


@pytest.fixture
def bearer(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`auth` of a site with a token in the environment."""
    monkeypatch.setenv("TEST_TOKEN", TOKEN)
    return {"kind": "bearer", "token_env": "TEST_TOKEN"}


class Elsewhere:
    """A server of another origin, which notes whatever reaches it."""

    def __init__(self, server: HTTPServer) -> None:
        self.base = f"http://127.0.0.1:{server.port}"
        self.host = f"127.0.0.1:{server.port}"
        self.requests: list[Request] = []
        server.expect_request(re.compile(".*")).respond_with_handler(self)

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return Response(
            '{"resourceType": "Bundle", "type": "searchset"}', content_type="application/fhir+json"
        )


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """Another server on loopback."""
    with HTTPServer(host="127.0.0.1") as server:
        yield Elsewhere(server)


def page(six: Any, request: Request, **changes: Any) -> Response:
    """The answer to a search, with parts of the Bundle changed."""
    bundle = json.loads(six.search(request, request.path.rpartition("/")[2]).get_data())
    return Response(json.dumps(bundle | changes), content_type="application/fhir+json")


def on_search(six: Any, answer: Any, type_: str = "Observation") -> None:
    """Answers searches for a type in another way."""

    def before(request: Request) -> Response | None:
        if request.path.endswith(f"/{type_}") and "_summary" not in request.args:
            return answer(request) if callable(answer) and not isinstance(answer, Response) else answer
        return None

    six.before = before


@pytest.mark.parametrize(
    ("place", "status"), [("metadata", 301), ("metadata", 307), ("ResearchStudy", 303), ("Observation", 308)]
)
def test_redirects_elsewhere(
    six: Any, pulled: Any, bearer: dict[str, Any], elsewhere: Elsewhere, place: str, status: int
) -> None:
    """A redirect to another origin is not followed, wherever it comes; the other server hears nothing."""
    target = f"{elsewhere.base}/fhir?name=zqcanary"
    six.before = lambda request: (
        Response("", status, {"Location": target}) if request.path.endswith(f"/{place}") else None
    )
    ended = pulled(six.base, auth=bearer)
    assert ended.status == 21
    assert f"a link leads to another host ({elsewhere.base})" in ended.err
    assert not elsewhere.requests


@pytest.mark.parametrize(
    ("target", "ended"),
    [
        ("file:///etc/passwd", 22),
        ("ftp://127.0.0.1/x", 22),
        ("//evil.example/fhir", 21),
        ("http://169.254.169.254/latest/meta-data", 21),
        ("http://[::1]:1/fhir", 21),
        ("http://localhost.evil.example/fhir", 21),
    ],
)
@pytest.mark.parametrize("place", ["metadata", "Observation"])
def test_redirects_to_what_is_no_server_of_ours(
    six: Any, pulled: Any, bearer: dict[str, Any], place: str, target: str, ended: int
) -> None:
    """Files, metadata services of clouds and other names are not asked, and the message stays readable."""
    six.before = lambda request: (
        Response("", 307, {"Location": target}) if request.path.endswith(f"/{place}") else None
    )
    done = pulled(six.base, auth=bearer)
    assert done.status == ended
    assert len(done.err) < LINE
    assert done.err.rstrip("\n").isprintable()


def test_redirects_in_a_circle(six: Any, pulled: Any) -> None:
    """A redirect to itself is followed a few times."""
    asked: list[str] = []

    def around(request: Request) -> Response | None:
        if not request.path.endswith("/Observation"):
            return None
        asked.append(request.url)
        return Response("", 302, {"Location": f"{six.base}/Observation?n={len(asked) % 2}"})

    six.before = around
    ended = pulled(six.base)
    assert (ended.status, "redirects without end" in ended.err) == (21, True)
    assert len(asked) < 10


@pytest.mark.parametrize("flood", ["many", "long"])
def test_floods_of_headers(six: Any, pulled: Any, flood: str) -> None:
    """Thousands of headers, or one of a megabyte, are no answer; the server is asked a few times and no more."""
    asked: list[str] = []

    def flooded(request: Request) -> Response:
        asked.append(request.url)
        headers = [(f"X-{i}", "y") for i in range(5000)] if flood == "many" else [("X", "y" * 2**20)]
        return Response("{}", 200, headers)

    on_search(six, flooded)
    ended = pulled(six.base)
    assert ended.status in {20, 22}
    assert len(ended.err) < LINE
    assert len(asked) < 10


def test_slow_drip(six: Any, pulled: Any) -> None:
    """A page that comes byte by byte, each in time, is given up when the pull's time is over."""
    dripped: list[int] = []

    def drops() -> Iterator[bytes]:
        for number in range(1000):
            dripped.append(number)
            threading.Event().wait(0.02)  # the drip itself: nothing else shows what it does
            yield b" "

    on_search(six, lambda request: Response(drops(), content_type="application/fhir+json"))
    ended = pulled(six.base, max_pull_s=1)
    assert (ended.status, "takes longer than max_pull_s (1)" in ended.err) == (22, True)
    assert len(dripped) < 500


def test_links_elsewhere(six: Any, pulled: Any, bearer: dict[str, Any], elsewhere: Elsewhere) -> None:
    """A next link to another origin is not followed; on a host that the site allows it is, with nothing of ours."""
    link = [{"relation": "next", "url": f"{elsewhere.base}/fhir?page=2"}]
    on_search(six, lambda request: page(six, request, link=link))
    ended = pulled(six.base, auth=bearer)
    assert (ended.status, elsewhere.requests) == (21, [])
    pulled(six.base, auth=bearer, allowed_hosts=[elsewhere.host])
    assert elsewhere.requests
    for request in elsewhere.requests:
        assert "Authorization" not in request.headers
        assert TOKEN not in str(request.headers) + request.url


def test_redirect_of_an_allowed_host_back_home(
    six: Any, pulled: Any, bearer: dict[str, Any], elsewhere: Elsewhere
) -> None:
    """A credential goes with a request for its own origin alone, on whatever way that came about."""
    six.before = lambda request: (
        Response("", 307, {"Location": f"{elsewhere.base}/a"}) if request.path.endswith("/metadata") else None
    )
    ended = pulled(six.base, auth=bearer, allowed_hosts=[elsewhere.host])
    assert ended.status == 22
    assert [request.headers.get("Authorization") for request in elsewhere.requests] == [None]


def test_references_elsewhere(six: Any, pulled: Any, bearer: dict[str, Any], elsewhere: Elsewhere) -> None:
    """An absolute reference to another server is data; nobody asks there."""
    reference = {"reference": f"{elsewhere.base}/fhir/Medication/m1"}
    for number in range(3):
        six.put(
            "MedicationAdministration", f"far-{number}", medicationReference=reference, status="completed",
            subject={"reference": next(f"Patient/{i}" for t, i in six.resources if t == "Patient")},
        )  # fmt: skip
    assert pulled(six.base, auth=bearer).status == 0
    assert not elsewhere.requests


@pytest.mark.parametrize("place", ["metadata", "Observation"])
def test_bombs(six: Any, pulled: Any, place: str) -> None:
    """A few kilobytes that unpack to a gigabyte are given up at the limit, with the memory of the limit."""
    layer = gzip.compress(b" " * 2**20)
    bomb = layer * 1024  # members of one gzip file: a gigabyte in all
    answer = Response(bomb, headers={"Content-Encoding": "gzip"})
    six.before = lambda request: answer if request.path.endswith(f"/{place}") else None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ended = pulled(six.base, max_page_bytes=1_000_000)
    assert ended.status == 22
    assert "longer than max_page_bytes (1000000)" in ended.err
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_pages_without_end_and_always_something_new(six: Any, pulled: Any) -> None:
    """A server that invents resources for ever is stopped by `max_resources`."""
    numbers = iter(range(10**9))

    def invented(request: Request) -> Response:
        number = next(numbers)
        entries = [
            {"resource": {"resourceType": "Observation", "id": f"x{number}-{i}", "status": "final"}}
            for i in range(50)
        ]
        link = [
            {"relation": "self", "url": request.url},
            {"relation": "next", "url": f"{six.base}/Observation?_count=20&cursor={number}"},
        ]
        return page(six, request, link=link, entry=entries)

    on_search(six, invented)
    ended = pulled(six.base, max_resources=1000)
    assert ended.status == 22
    assert "max_resources (1000)" in ended.err
    assert next(numbers) < 100


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/" + "x" * 1_000_000,
        "?" + "x" * 1_000_000,
        "https://" + "e" * 60_000 + ".example/",
        "http://evil.example\x1b[2J/",
        "/fhir/Observation?" + "&".join(f"zqcanary{i}\x1b[31m=1" for i in range(2000)),
    ],
    ids=["host", "query", "long name", "escapes", "many names"],
)
def test_huge_and_odd_links(six: Any, pulled: Any, link: str) -> None:
    """A link of a megabyte is not followed; no message is longer than a few lines or moves the cursor."""
    links = iter([link])
    on_search(
        six,
        lambda request: (
            page(six, request, link=[{"relation": "next", "url": next(links)}])
            if "patient" in request.args
            else Response("", 403)
        ),
    )
    ended = pulled(six.base)
    assert ended.status in {21, 22}
    assert len(ended.err) < LINE
    assert ended.err.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    "issue",
    [
        {"severity": "error", "code": "x" * 1_000_000},
        {"severity": "\x1b[2J", "code": "Zqcanary"},
        {"severity": {"a": 1}, "code": ["zqcanary"]},
        {
            "severity": "error",
            "code": "not-found",
            "diagnostics": "Zqcanary",
            "details": {"text": "Zqcanary"},
        },
    ],
    ids=["long", "escapes", "shape", "texts"],
)
def test_outcomes_that_talk(six: Any, pulled: Any, issue: dict[str, Any]) -> None:
    """Of an OperationOutcome only what looks like a code is shown, and of these a handful."""
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [issue, *({"severity": "error", "code": f"c{'x' * i}"} for i in range(99))],
    }
    on_search(six, Response(json.dumps(outcome), 400, content_type="application/fhir+json"))
    ended = pulled(six.base)
    assert ended.status == 22
    assert len(ended.err) < LINE
    assert ended.err.rstrip("\n").isprintable()


def test_huge_strings_in_resources(six: Any, pulled: Any, whole: Any) -> None:
    """Strings of a megabyte in data are data; as an id they make an unreadable item, which is counted and kept."""
    patient = next(id_ for type_, id_ in six.resources if type_ == "Patient")
    six.put(
        "Observation", "long", status="final", subject={"reference": f"Patient/{patient}"},
        note=[{"text": "x" * 2**20}], meta={"source": "y" * 2**20},
    )  # fmt: skip
    assert pulled(six.base).status == 0
    assert whole()


TRICKS = [
    "../../../../etc/passwd", "..", ".", "a/b", "a\\b", "%2e%2e%2f", "a\u0000b", "x" * 100_000, "", " ", "a\nb", "a?b",
    "a#b", "ä", "-rf",
]  # fmt: skip


def test_path_tricks(six: Any, pulled: Any, tmp_path: Path) -> None:
    """An id that is no id makes no path, no file name and no request."""
    before = {path.name for path in tmp_path.rglob("*")}

    def change(request: Request, bundle: dict[str, Any]) -> None:
        if request.path.endswith("/Observation") and bundle.get("entry"):
            bundle["entry"] += [
                {"resource": {"resourceType": type_, "id": trick, "meta": {"versionId": trick}}}
                for trick in TRICKS
                for type_ in ("Observation", "../Observation", "Ob\x1b[2Jservation")
            ]

    six.change_bundle = change
    ended = pulled(six.base, on_difference="finding")
    assert ended.status == 0, ended.err
    made = {path.name for path in tmp_path.rglob("*")} - before
    assert not [name for name in made if any(part in name for part in ("passwd", "..", "%2e", "xxx", "\x1b"))]
    assert not [request.path for request in six.requests if ".." in request.path or "passwd" in request.url]
    findings = json.loads(next(tmp_path.glob("runs/*/*/manifest.json")).read_text())["pull"]
    assert findings["unreadable"] >= len(TRICKS) - 1  # `-rf` is an id


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_deep_nesting(six: Any, pulled: Any, depth: int) -> None:
    """A resource that is nested without end ends the pull, or lands; it breaks nothing."""
    nested = '{"extension":[' * depth + "]}" * depth
    body = (
        '{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Observation","id":"deep","contained":['
        + nested
        + "]}}]}"
    )
    on_search(six, Response(body, content_type="application/fhir+json"))
    ended = pulled(six.base, on_difference="finding")
    assert ended.status in {0, 22}
    assert "defect" not in ended.err


@pytest.mark.parametrize(
    "stated",
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "x" * 100_000],
    ids=["first", "last", "long"],
)
def test_times_at_the_ends_of_the_calendar(six: Any, pulled: Any, whole: Any, stated: str) -> None:
    """A server's time that is none leaves the Date header as the mark; the next pull begins there."""
    six.change_bundle = lambda request, bundle: bundle.update(meta={"lastUpdated": stated})
    assert pulled(six.base).status == 0
    assert pulled(six.base).status == 0
    assert whole()


@pytest.mark.parametrize("value", ["9" * 5000, "-1", "Fri, 99 Foo 0000 99:99:99", "1e400", "٣"])
def test_waits_that_are_none(six: Any, pulled: Any, value: str) -> None:
    """Any Retry-After is held to the ceiling."""
    left = [1]

    def busy(request: Request) -> Response | None:
        return (
            Response("", 503, {"Retry-After": value.encode().decode("latin1")})
            if left and left.pop()
            else None
        )

    on_search(six, busy)
    assert pulled(six.base).status == 0


def test_version_that_is_none(six: Any, pulled: Any) -> None:
    """What a server calls its FHIR version is shown as far as it looks like one."""
    statement = {"resourceType": "CapabilityStatement", "fhirVersion": "\x1b[2JZqcanary"}
    six.before = lambda request: Response(json.dumps(statement), content_type="application/json")
    ended = pulled(six.base)
    assert ended.status == 22
    assert ended.err.rstrip("\n").isprintable()


def test_a_token_that_the_server_quotes(six: Any, pulled: Any, bearer: dict[str, Any]) -> None:
    """A server that says our token back, in headers, bodies and links, finds it in no message of ours."""
    for status in (400, 401, 403, 404, 500):
        quoted = {"WWW-Authenticate": f'Bearer error="{TOKEN}"', "X-Echo": TOKEN}
        six.before = lambda request, status=status, quoted=quoted: Response(TOKEN, status, quoted)
        assert TOKEN not in pulled(six.base, auth=bearer).err
