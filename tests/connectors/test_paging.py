"""Following next links: every shape that servers give them, and the ones that must not be followed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from fhir_adapter.connectors.paging import allowed_url, safe_url
from fhir_adapter.errors import SourceIncomplete, SourceNotFhir, SourceRefused
from fhir_adapter.site import Site


def site(url: str = "https://fhir.example/r4", **changes: Any) -> Site:
    """A site at a URL."""
    return Site.model_validate({"id": "x", "source": {"kind": "rest", "url": url}, **changes})


@pytest.mark.parametrize(
    ("link", "followed"),
    [
        ("https://fhir.example/r4?_getpages=1", "https://fhir.example/r4?_getpages=1"),
        ("?_getpages=1", "https://fhir.example/r4/Patient?_getpages=1"),
        ("Patient?page=2", "https://fhir.example/r4/Patient?page=2"),
        ("/r4/Patient?page=2", "https://fhir.example/r4/Patient?page=2"),
        ("http://fhir.example/r4?page=2", "https://fhir.example/r4?page=2"),
        ("https://fhir.example:443:443/r4?page=2", "https://fhir.example:443/r4?page=2"),
        ("https://fhir.example:443:443:443:443/r4?p=:443:443", "https://fhir.example:443/r4?p=:443:443"),
        ("http://inner:8080/r4?page=2", "https://fhir.example/r4?page=2"),
        ("https://files.example/page", "https://files.example/page"),
    ],
)
def test_links_that_are_followed(link: str, followed: str) -> None:
    """Links are followed as given; what proxies get wrong is mended, and https never becomes http."""
    place = site(aliases=["http://inner:8080"], allowed_hosts=["files.example"])
    assert allowed_url(link, "https://fhir.example/r4/Patient?_count=2", place) == followed


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/r4?page=2",
        "https://fhir.example.evil.example/r4",
        "https://fhir.example:8443/r4",
        "https://fhir.example@evil.example/",
        "//evil.example/r4",
    ],
)
def test_links_to_other_hosts_are_refused(link: str) -> None:
    """Another host or port that the site file does not name is not asked at all."""
    with pytest.raises(SourceRefused):
        allowed_url(link, "https://fhir.example/r4/Patient", site())


@pytest.mark.parametrize(
    "link", ["file:///etc/passwd", "javascript:1", "https://[::1", "https://fhir.example:x/"]
)
def test_links_that_are_none(link: str) -> None:
    """What is no http or https URL is not FHIR."""
    with pytest.raises(SourceNotFhir):
        allowed_url(link, "https://fhir.example/r4/Patient", site())


def test_safe_url_has_no_values() -> None:
    """Messages name path and parameters, not what was searched for, nor ids, nor users."""
    url = "https://user:pw@fhir.example/r4/Patient/4711?identifier=urn%3Ax%7C123&_count=2"
    assert safe_url(url) == "https://fhir.example/r4/Patient/[id]?identifier,_count"


def test_duplicates_across_pages_land_once(stub: Any, run: Any) -> None:
    """A server that repeats entries from page to page brings each resource once."""
    stub.enrol("a")
    for number in range(5):
        stub.observe(f"o{number}", "a")
    before: list[Any] = []

    def change(request: Request, bundle: dict[str, Any]) -> None:
        if request.path.endswith("/Observation"):
            fresh = list(bundle["entry"])
            bundle["entry"] += before
            before[:] = fresh

    stub.change_bundle = change
    assert run().received["Observation"] == 6


def test_circle_of_links(stub: Any, run: Any) -> None:
    """A next link that leads back ends the pull instead of running for ever."""
    stub.enrol("a")

    def change(request: Request, bundle: dict[str, Any]) -> None:
        if request.path.endswith("/Observation"):
            bundle["link"].append({"relation": "next", "url": request.url})

    stub.change_bundle = change
    with pytest.raises(SourceIncomplete, match="in a circle"):
        run()


def test_endless_pages_without_anything_new(stub: Any, run: Any) -> None:
    """A server that always has a next page, each under a new URL, is left after a few that bring nothing."""
    stub.enrol("a")
    numbers = iter(range(10**6))

    def change(request: Request, bundle: dict[str, Any]) -> None:
        if request.path.endswith("/Observation"):
            url = f"{stub.base}/Observation?patient=Patient/a&_count=2&cursor={next(numbers)}"
            bundle["link"] = [{"relation": "next", "url": url}]

    stub.change_bundle = change
    with pytest.raises(SourceIncomplete, match="brought nothing new"):
        run()


def test_empty_page_in_between(stub: Any, run: Any) -> None:
    """An empty page with a next link is not the end."""
    stub.enrol("a")
    stub.observe("o2", "a")

    def before(request: Request) -> Response | None:
        if (
            request.path.endswith("/Observation")
            and "_summary" not in request.args
            and "go" not in request.args
        ):
            link = f'{{"relation":"next","url":"{request.url}&go=on"}}'
            return Response(f'{{"resourceType":"Bundle","link":[{link}]}}', content_type="application/json")
        return None

    stub.before = before
    assert run().received["Observation"] == 2


def test_cursor_that_expires(stub: Any, run: Any) -> None:
    """A 410 in the middle begins the search again; nothing is lost, and that it happened is a finding."""
    stub.enrol("a")
    for number in range(4):
        stub.observe(f"o{number}", "a")
    expired = [1]

    def before(request: Request) -> Response | None:
        if request.path.endswith("/Observation") and request.args.get("start") == "4" and expired:
            expired.pop()
            return Response('{"resourceType":"OperationOutcome"}', 410)
        return None

    stub.before = before
    report = run()
    assert report.received["Observation"] == 5
    assert [finding.code for finding in report.findings] == ["cursor-expired"]


def test_ignored_parameter(stub: Any, run: Any) -> None:
    """A self link without our criterion means that everything would come: the pull ends before it lands."""
    stub.enrol("a")

    def change(request: Request, bundle: dict[str, Any]) -> None:
        if request.path.endswith("/Observation"):
            bundle["link"] = [{"relation": "self", "url": f"{stub.base}/Observation?_count=2"}]

    stub.change_bundle = change
    with pytest.raises(SourceNotFhir, match="ignores the search parameter patient"):
        run()


def test_renamed_parameter_is_not_ignored(stub: Any, run: Any) -> None:
    """A self link that says subject for patient, with the same value, has understood us."""
    stub.enrol("a")

    def change(request: Request, bundle: dict[str, Any]) -> None:
        if request.path.endswith("/Observation"):
            bundle["link"] = [{"relation": "self", "url": f"{stub.base}/Observation?subject=Patient%2Fa"}]

    stub.change_bundle = change
    assert run().received["Observation"] == 1


def test_link_to_another_host_is_not_followed(stub: Any, run: Any, httpserver: HTTPServer) -> None:
    """A next link elsewhere ends the pull, and the host is never asked."""
    stub.enrol("a")

    def change(request: Request, bundle: dict[str, Any]) -> None:
        if request.path.endswith("/Observation"):
            bundle["link"].append({"relation": "next", "url": "http://evil.example/fhir?page=2"})

    stub.change_bundle = change
    with pytest.raises(SourceRefused, match=re.escape("another host (http://evil.example:80)")):
        run()
