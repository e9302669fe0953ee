"""Credentials go to the source's own origin and nowhere else, and are in no message."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from fhir_adapter.connectors.auth.credential import BoundCredential
from fhir_adapter.connectors.http.transport import Transport
from fhir_adapter.errors import SiteFileError, SourceRefused

BEARER = {"kind": "bearer", "token_env": "TEST_TOKEN"}


def test_bearer_from_environment(stub: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token of the environment is sent with every request."""
    monkeypatch.setenv("TEST_TOKEN", "zqcanary-s3cret")
    stub.enrol("a")
    run(auth=BEARER)
    assert {request.headers.get("Authorization") for request in stub.requests} == {"Bearer zqcanary-s3cret"}


def test_basic(stub: Any, run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """User from the environment, password from a file whose last line break does not count."""
    monkeypatch.setenv("TEST_USER", "ann")
    (tmp_path / "password").write_text("zqcanary-pässword\n", encoding="utf-8")
    stub.enrol("a")
    run(auth={"kind": "basic", "user_env": "TEST_USER", "password_file": tmp_path / "password"})
    sent = base64.b64decode(stub.requests[0].headers["Authorization"].removeprefix("Basic "))
    assert sent.decode() == "ann:zqcanary-pässword"


def test_no_cache_and_accept_are_sent(stub: Any, run: Any) -> None:
    """Every request asks for FHIR JSON and for no cached search result."""
    stub.enrol("a")
    run()
    assert {(r.headers["Accept"], r.headers["Cache-Control"]) for r in stub.requests} == {
        ("application/fhir+json", "no-cache")
    }


def test_netrc_is_not_read(stub: Any, run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user's .netrc adds no credential that the site file does not name."""
    (tmp_path / "netrc").write_text("default login zqcanary-ann password zqcanary-pw\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    stub.enrol("a")
    run()
    assert {request.headers.get("Authorization") for request in stub.requests} == {None}


def test_allowed_host_gets_no_credential(
    stub: Any, run: Any, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A next link to an allowed host is followed without the token; so is a redirect."""
    monkeypatch.setenv("TEST_TOKEN", "zqcanary-s3cret")
    stub.enrol("a")
    stub.observe("o2", "a")
    stub.observe("o3", "a")
    other = stub.base.replace("localhost", "127.0.0.1")

    def change(request: Request, bundle: dict[str, Any]) -> None:
        if request.path.endswith("/Observation"):
            for link in bundle["link"]:
                link["url"] = link["url"].replace(stub.base, other)

    stub.change_bundle = change
    report = run(auth=BEARER, allowed_hosts=["127.0.0.1"])
    assert report.received["Observation"] == 3
    sent = {
        (request.host.partition(":")[0], request.headers.get("Authorization")) for request in stub.requests
    }
    assert sent == {("localhost", "Bearer zqcanary-s3cret"), ("127.0.0.1", None)}


def test_redirect_elsewhere_is_not_followed(stub: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect to a host that the site does not name is refused; the message has no token."""
    monkeypatch.setenv("TEST_TOKEN", "zqcanary-s3cret")
    stub.before = lambda request: Response("", 302, {"Location": "http://evil.example/login?next=/fhir"})
    with pytest.raises(SourceRefused, match="another host") as caught:
        run(auth=BEARER)
    assert "zqcanary-s3cret" not in str(caught.value)


def test_redirect_at_home_is_followed(stub: Any, run: Any) -> None:
    """A redirect on the source's own origin is followed; one without end is refused."""
    stub.enrol("a")
    stub.before = lambda request: (
        Response("", 307, {"Location": "/fhir/metadata?again=1"})
        if request.full_path == "/fhir/metadata?"
        else None
    )
    assert run().subjects == 1
    stub.before = lambda request: Response("", 307, {"Location": "/fhir/metadata"})
    with pytest.raises(SourceRefused, match="redirects without end"):
        run()


def test_token_file_is_read_again_on_401(stub: Any, run: Any, tmp_path: Path) -> None:
    """A token that was renewed in its file while we were at work is picked up."""
    token = tmp_path / "token"
    token.write_text("zqcanary-old")
    stub.enrol("a")

    def before(request: Request) -> Response | None:
        if request.headers["Authorization"] == "Bearer zqcanary-new":
            return None
        token.write_text("zqcanary-new")
        return Response("", 401)

    stub.before = before
    assert run(auth={"kind": "bearer", "token_file": token}).subjects == 1


def test_missing_credential(
    run: Any, make_site: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A variable that is not set, or a file that is not there, is named; nothing is asked."""
    monkeypatch.delenv("TEST_TOKEN", raising=False)
    with pytest.raises(SiteFileError, match="environment variable TEST_TOKEN"):
        run(auth=BEARER)
    with pytest.raises(SiteFileError, match="file nothing"):
        run(auth={"kind": "bearer", "token_file": tmp_path / "nothing"})


def test_credential_shows_nothing(make_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The representation of a credential names its kind alone."""
    monkeypatch.setenv("TEST_TOKEN", "zqcanary-s3cret")
    site = make_site("https://x/fhir", auth=BEARER)
    assert repr(BoundCredential(site, Transport(site))) == "BoundCredential(bearer)"


def test_token_file_is_read_again_when_it_changes(stub: Any, run: Any, tmp_path: Path) -> None:
    """A token that is replaced in its file is used from the next request on; while it is away the last one holds."""
    token = tmp_path / "token"
    token.write_text("zqcanary-1")
    stub.enrol("a")

    def before(request: Request) -> Response | None:
        if len(stub.requests) == 2:
            token.unlink()
        if len(stub.requests) == 4:
            token.write_text("zqcanary-second")
        return None

    stub.before = before
    run(auth={"kind": "bearer", "token_file": token})
    sent = [request.headers["Authorization"] for request in stub.requests]
    assert sent[:4] == ["Bearer zqcanary-1"] * 4
    assert set(sent[4:]) == {"Bearer zqcanary-second"}


@pytest.mark.parametrize("value", ["two words", "zqcanary\nX-Header: 1", "tökén", ""])
def test_tokens_that_are_none(run: Any, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """What cannot be a token is an error before anything is sent, and is not shown."""
    monkeypatch.setenv("TEST_TOKEN", value)
    with pytest.raises(SiteFileError) as caught:
        run(auth=BEARER)
    assert not value or value not in str(caught.value)


def test_user_with_a_colon(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A colon would end the user name (RFC 7617)."""
    monkeypatch.setenv("TEST_USER", "zqcanary:x")
    monkeypatch.setenv("TEST_PASSWORD", "zqcanary")
    with pytest.raises(SiteFileError, match="no colon"):
        run(auth={"kind": "basic", "user_env": "TEST_USER", "password_env": "TEST_PASSWORD"})


def test_credential_over_plain_http(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Off this machine a credential needs https, or the site's word."""
    monkeypatch.setenv("TEST_TOKEN", "zqcanary")
    with pytest.raises(SiteFileError, match="would travel over plain http"):
        run(url="http://fhir.example/r4", auth=BEARER)
