"""SMART Backend Services, through the command line, against an authorization server that checks everything."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import time_machine
from joserfc.jwk import ECKey, KeySet, RSAKey
from werkzeug import Request, Response

START = 1_800_000_000


def test_pull_with_a_signed_assertion(
    six: Any, tokens: Any, smart: dict[str, Any], pulled: Any, whole: Any
) -> None:
    """Discovery, RS384, audience, expiry and identifier are accepted; one token serves the whole pull."""
    ended = pulled(six.base, auth=smart)
    assert (ended.status, ended.err) == (0, "")
    assert whole()
    assert tokens.algorithms == {"RS384"}
    assert len(tokens.asked) == 1
    asked = tokens.asked[0]
    assert asked["grant_type"] == "client_credentials"
    assert asked["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    wanted = set(asked["scope"].split())
    assert {"system/Patient.rs", "system/Observation.rs", "system/ResearchSubject.rs"} <= wanted
    assert not [scope for scope in wanted if not scope.endswith(".rs") or "*" in scope]


def test_es384_with_a_jwks(
    six: Any,
    tokens: Any,
    smart: dict[str, Any],
    pulled: Any,
    whole: Any,
    p384: ECKey,
    rsa: RSAKey,
    tmp_path: Path,
) -> None:
    """Of a JWKS with several private keys `key_id` names the one that signs; a P-384 key signs by ES384."""
    tokens.public = KeySet([p384])
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [rsa.as_dict(private=True), p384.as_dict(private=True)]}))
    assert pulled(six.base, auth=smart | {"key_file": str(path), "key_id": "adapter-ec"}).status == 0
    assert whole()
    assert tokens.algorithms == {"ES384"}


def test_kid_without_a_name_is_the_thumbprint(
    six: Any, tokens: Any, smart: dict[str, Any], pulled: Any, rsa: RSAKey
) -> None:
    """A PEM key without `key_id` is called by its RFC 7638 thumbprint."""
    tokens.public = KeySet([RSAKey.import_key({**rsa.as_dict(private=False), "kid": rsa.thumbprint()})])
    assert pulled(six.base, auth={k: v for k, v in smart.items() if k != "key_id"}).status == 0


@pytest.mark.parametrize(
    ("configuration", "scopes"),
    [
        ({"capabilities": ["permission-v1"]}, ".read"),
        ({"scopes_supported": ["system/Patient.read", "system/Condition.read"]}, ".read"),
        ({"scopes_supported": ["system/*.rs"]}, "system/*.rs"),
        ({"scopes_supported": ["system/*.read", "system/*.write"]}, "system/*.read"),
        ({}, ".rs"),
    ],
)
def test_scopes_as_the_server_states_them(
    six: Any, tokens: Any, smart: dict[str, Any], pulled: Any, configuration: dict[str, Any], scopes: str
) -> None:
    """Version 1 where the server states that alone, and a star only where it states nothing else."""
    tokens.configuration = {"token_endpoint": tokens.url, **configuration}
    assert pulled(six.base, auth=smart).status == 0
    assert all(scope.endswith(scopes) for scope in tokens.asked[0]["scope"].split())


def test_scopes_of_the_site_file(six: Any, tokens: Any, smart: dict[str, Any], pulled: Any) -> None:
    """`auth.scopes` is asked for as it stands."""
    assert pulled(six.base, auth=smart | {"scopes": ["system/*.read"]}).status == 0
    assert tokens.asked[0]["scope"] == "system/*.read"


def test_scopes_that_are_not_registered(six: Any, tokens: Any, smart: dict[str, Any], pulled: Any) -> None:
    """What the server does not grant to our client is named, with what helps."""
    tokens.registered = {"system/Patient.rs"}
    ended = pulled(six.base, auth=smart)
    assert ended.status == 21
    assert "does not grant the scopes that we ask for (invalid_scope)" in ended.err
    assert "system/Observation.rs" in ended.err
    assert "`auth.scopes`" in ended.err


@pytest.mark.parametrize(
    "granted", [["system/Patient.rs"], ["system/*.rs?category=laboratory"], ["system/*.c", "system/*.r"]]
)
def test_less_granted_than_asked(
    six: Any, tokens: Any, smart: dict[str, Any], pulled: Any, granted: list[str]
) -> None:
    """A token for less than the study reads ends the pull before searches come back empty."""
    tokens.granted = granted
    ended = pulled(six.base, auth=smart)
    assert ended.status == 21
    assert "our token does not allow reading all of" in ended.err
    assert "Ask the server's team for" in ended.err
    assert not six.searches("Observation")


def test_renewed_before_it_expires(
    six: Any, tokens: Any, smart: dict[str, Any], pulled: Any, whole: Any
) -> None:
    """A token that is about to expire in the middle of a pull is renewed; no request is refused."""
    refused: list[str] = []
    with time_machine.travel(START) as clock:

        def before(request: Request) -> Response | None:
            answer = tokens.guard(request)
            if answer is not None and answer.status_code == 401:
                refused.append(request.path)
            if request.path.startswith("/fhir/") and "." not in request.path:
                clock.shift(70)
            return answer

        six.before = before
        assert pulled(six.base, auth=smart).status == 0
    assert whole()
    assert not refused
    assert len(tokens.asked) > 2
    assert len(tokens.issued) == len(tokens.asked)


def test_renewed_once_when_refused(
    six: Any, tokens: Any, smart: dict[str, Any], pulled: Any, whole: Any
) -> None:
    """A token that the server takes back in the middle of a pull is renewed at the 401, and the pull goes on."""
    taken: list[str] = []

    def before(request: Request) -> Response | None:
        if request.path.endswith("/Observation") and not taken:
            taken.extend(tokens.issued)
            tokens.issued.clear()
        return tokens.guard(request)

    six.before = before
    assert pulled(six.base, auth=smart).status == 0
    assert whole()
    assert len(tokens.asked) == 2


def test_several_threads_renew_once(
    six: Any, tokens: Any, smart: dict[str, Any], pulled: Any, whole: Any
) -> None:
    """Requests that are refused at once share the renewal: the next one finds it done."""
    taken: list[str] = []

    def before(request: Request) -> Response | None:
        if request.path.endswith("/Observation") and not taken:
            taken.extend(tokens.issued)
            tokens.issued.clear()
        return tokens.guard(request)

    six.before = before
    assert pulled(six.base, auth=smart, concurrency=8).status == 0
    assert whole()
    assert len(tokens.asked) == 2


def test_refused_twice(six: Any, tokens: Any, smart: dict[str, Any], pulled: Any) -> None:
    """A server that refuses a token just issued ends the pull with a sentence, after one renewal."""

    def before(request: Request) -> Response | None:
        answer = tokens.guard(request)
        return answer if answer is not None and answer.status_code == 200 else Response("", 401)

    six.before = before
    ended = pulled(six.base, auth=smart)
    assert ended.status == 21
    assert "does not accept our credential (401), not even a token that was just issued" in ended.err
    assert len(tokens.asked) == 2


def test_renewal_that_is_refused_now_and_then(
    six: Any, tokens: Any, smart: dict[str, Any], pulled: Any, whole: Any
) -> None:
    """A token endpoint that refuses a renewal without a reason is asked once more, with another assertion."""
    taken: list[str] = []

    def before(request: Request) -> Response | None:
        if request.path.endswith("/Observation") and not taken:
            taken.extend(tokens.issued)
            tokens.issued.clear()
        return tokens.guard(request)

    six.before = before
    tokens.before = lambda request: Response("{}", 400) if len(tokens.asked) == 2 else None
    assert pulled(six.base, auth=smart).status == 0
    assert whole()
    assert len({asked["client_assertion"] for asked in tokens.asked}) == 3


def test_wrong_key(six: Any, tokens: Any, smart: dict[str, Any], pulled: Any, tmp_path: Path) -> None:
    """A key that is not the registered one is refused; the message says what to compare, and asks once."""
    other = RSAKey.generate_key(2048, {"kid": "adapter-rsa"})
    (tmp_path / "key.pem").write_bytes(other.as_pem(private=True))
    ended = pulled(six.base, auth=smart)
    assert ended.status == 21
    assert "the token endpoint does not accept us (invalid_client)" in ended.err
    assert "public half of our key" in ended.err
    assert len(tokens.asked) == 1


def test_wrong_client(six: Any, tokens: Any, smart: dict[str, Any], pulled: Any) -> None:
    """A client that is not registered is refused."""
    ended = pulled(six.base, auth=smart | {"client_id": "nobody"})
    assert (ended.status, "(invalid_client)" in ended.err) == (21, True)


def test_wrong_audience(six: Any, tokens: Any, smart: dict[str, Any], pulled: Any) -> None:
    """An authorization server that calls itself otherwise is satisfied by `auth.audience`."""
    tokens.audience = "https://auth.example/token"
    assert pulled(six.base, auth=smart).status == 21
    assert pulled(six.base, auth=smart | {"audience": "https://auth.example/token"}).status == 0


def test_an_assertion_is_never_sent_twice(six: Any, tokens: Any, smart: dict[str, Any], pulled: Any) -> None:
    """After a 503 of the token endpoint the next attempt has another identifier: the first may have been used."""

    def before(request: Request) -> Response | None:
        tokens.create_token_response(request)  # it was processed, and the answer lost on the way
        return Response("", 503, {"Retry-After": "3600"}) if len(tokens.asked) == 1 else None

    tokens.before = lambda request: before(request) if len(tokens.asked) == 1 else None
    assert pulled(six.base, auth=smart).status == 0
    assert len(tokens.asked) == 2


@pytest.mark.parametrize("ahead", [-1200, 1200])
def test_clock_that_is_off(
    six: Any, tokens: Any, smart: dict[str, Any], pulled: Any, whole: Any, ahead: int
) -> None:
    """Where our clock is twenty minutes off, the assertion is dated by the server's, as its answers tell it."""
    tokens.ahead = ahead
    assert pulled(six.base, auth=smart).status == 0  # the answer to discovery tells it
    assert whole()
    assert len(tokens.asked) == 1
    assert pulled(six.base, auth=smart | {"token_url": tokens.url}).status == 0  # the first refusal does
    assert len(tokens.asked) == 3


def test_clock_difference_is_told(six: Any, tokens: Any, smart: dict[str, Any], pulled: Any) -> None:
    """A refusal says how far the clocks differ."""
    tokens.ahead = 900
    tokens.before = lambda request: Response('{"error": "invalid_client"}', 401)
    ended = pulled(six.base, auth=smart)
    assert ended.status == 21
    assert "its clock and ours differ by" in ended.err


# Discovery


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (Response("", 404), 22, "publishes no SMART configuration (404)"),
        (Response("<html>"), 22, "the SMART configuration is not one"),
        (Response("[]"), 22, "the SMART configuration is not one"),
        (Response('{"token_endpoint": 1}'), 22, "the SMART configuration is not one"),
        (Response('{"a":' * 100_000), 22, "the SMART configuration is not one"),
        (Response("{}"), 22, "names no token endpoint that is a URL"),
        (Response('{"token_endpoint": "file:///etc/passwd"}'), 22, "names no token endpoint that is a URL"),
        (Response('{"token_endpoint": "https://u:p@x/t"}'), 22, "names no token endpoint that is a URL"),
        (
            Response('{"token_endpoint": "https://evil.example/t"}'),
            21,
            "elsewhere (https://evil.example:443)",
        ),
        (Response(" " * 2_000_000), 22, "is longer than it may be (1048576)"),
        (
            Response("", 302, {"Location": "http://evil.example/"}),
            22,
            "publishes no SMART configuration (302)",
        ),
        (Response("", 403), 21, "does not allow discovery (403)"),
        (Response("", 503), 20, "goes on answering 503"),
    ],
    ids=lambda value: None if isinstance(value, Response) else str(value)[:30],
)
def test_discovery_that_fails(
    six: Any, tokens: Any, smart: dict[str, Any], pulled: Any, answer: Response, status: int, words: str
) -> None:
    """Discovery that is missing, is none, or leads elsewhere ends the pull before anything was signed."""
    guard = tokens.guard
    six.before = lambda request: answer if "well-known" in request.path else guard(request)
    ended = pulled(six.base, auth=smart)
    assert ended.status == status
    assert words in ended.err
    assert not tokens.asked


def test_token_endpoint_of_another_origin(six: Any, tokens: Any, smart: dict[str, Any], pulled: Any) -> None:
    """An authorization server of another origin is asked if the site trusts that origin, or names the endpoint."""
    elsewhere = tokens.url.replace("localhost", "127.0.0.1")
    tokens.configuration["token_endpoint"] = tokens.audience = elsewhere
    ended = pulled(six.base, auth=smart)
    assert ended.status == 21
    assert "name it in `auth.trusted_origins`" in ended.err
    assert not tokens.asked
    assert pulled(six.base, auth=smart | {"trusted_origins": [elsewhere]}).status == 0


def test_token_endpoint_of_the_site_file(six: Any, tokens: Any, smart: dict[str, Any], pulled: Any) -> None:
    """With `auth.token_url` nothing is discovered."""
    assert pulled(six.base, auth=smart | {"token_url": tokens.url}).status == 0
    assert not [request for request in six.requests if "well-known" in request.path]


def test_token_endpoint_behind_an_inner_name(
    six: Any, tokens: Any, smart: dict[str, Any], pulled: Any
) -> None:
    """A server that advertises itself by an alias is asked at its own origin, and named by the alias in `aud`."""
    tokens.configuration["token_endpoint"] = tokens.audience = "http://inner:8080/auth/token"
    assert pulled(six.base, auth=smart, aliases=["http://inner:8080"]).status == 0


def test_plain_http_needs_the_sites_word(six: Any, tokens: Any, smart: dict[str, Any], pulled: Any) -> None:
    """A token endpoint without TLS is refused, but for loopback with `allow_http`; elsewhere always."""
    ended = pulled(six.base, auth={k: v for k, v in smart.items() if k != "allow_http"})
    assert (ended.status, "the token endpoint is not https" in ended.err) == (11, True)
    ended = pulled(six.base, auth=smart | {"token_url": "http://auth.example/token"})
    assert (ended.status, "the token endpoint is not https" in ended.err) == (11, True)
    assert not tokens.asked


# The token endpoint's answers


def test_token_endpoint_down(six: Any, tokens: Any, smart: dict[str, Any], pulled: Any) -> None:
    """A token endpoint where nobody listens is a source that cannot be reached."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/token"
    ended = pulled(six.base, auth=smart | {"token_url": url})
    assert ended.status == 20
    assert f"{url}: the token endpoint gives no answer (2 attempts)" in ended.err


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (Response("", 500), 20, "the token endpoint goes on answering 500"),
        (Response("", 429, {"Retry-After": "Wed, 21 Oct 2125 07:28:00 GMT"}), 20, "goes on answering 429"),
        (Response("no", 401), 21, "refuses us (401) and does not say why"),
        (Response('{"error": "zqcanary", "error_description": "zqcanary"}', 400), 21, "does not say why"),
        (Response('{"error": "unauthorized_client"}', 400), 21, "may not ask for tokens by itself"),
        (Response('{"error": "unsupported_grant_type"}', 400), 21, "Is `auth.token_url` the right endpoint?"),
        (Response("", 307, {"Location": "http://evil.example/"}), 21, "what we show it goes nowhere else"),
        (Response("", 404), 22, "the token endpoint answers 404"),
        (Response("<html>"), 22, "answer is no token"),
        (Response("{}"), 22, "holds no usable access_token"),
        (Response('{"access_token": "a b", "token_type": "bearer"}'), 22, "holds no usable access_token"),
        (Response('{"access_token": "a\\r\\nX: y", "token_type": "bearer"}'), 22, "no usable access_token"),
        (Response(json.dumps({"access_token": "x" * 100_000, "token_type": "Bearer"})), 22, "no usable"),
        (Response('{"access_token": "zqcanary", "token_type": "mac"}'), 22, "of another type than Bearer"),
        (Response('{"access_token": "zqcanary", "token_type": "bearer", "expires_in": "x"}'), 22, "no token"),
        (Response(" " * 2_000_000), 22, "is longer than it may be (1048576)"),
    ],
    ids=lambda value: None if isinstance(value, Response) else str(value)[:30],
)
def test_answers_of_the_token_endpoint(
    six: Any, tokens: Any, smart: dict[str, Any], pulled: Any, answer: Response, status: int, words: str
) -> None:
    """Each refusal, and each answer that is no token, has its sentence and its exit status."""
    tokens.before = lambda request: answer
    ended = pulled(six.base, auth=smart)
    assert ended.status == status
    assert words in ended.err
    assert not six.searches("Patient")


# Keys


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cannot be used"),
        ("zqcanary", "cannot be used"),
        ("-----BEGIN PRIVATE KEY-----\nzqcanary\n-----END PRIVATE KEY-----\n", "cannot be used"),
        ("{}", "holds no private RSA or EC key"),
        ('{"keys": 1}', "neither JWK nor JWKS"),
        ('{"keys": []}', "holds no private key with the kid"),
        ('{"kty": "RSA", "d": "zqcanary"}', "cannot be used"),
    ],
)
def test_key_files_that_are_none(
    six: Any, tokens: Any, smart: dict[str, Any], pulled: Any, tmp_path: Path, content: str, words: str
) -> None:
    """A key file that holds no key is an error of the site file; nothing of it is in the message."""
    (tmp_path / "key.pem").write_text(content)
    ended = pulled(six.base, auth=smart)
    assert ended.status == 11
    assert f"auth.key_file: the key file {words}" in ended.err or words in ended.err
    assert "canary" not in ended.err


def test_keys_that_smart_does_not_take(
    six: Any, tokens: Any, smart: dict[str, Any], pulled: Any, p384: ECKey, rsa: RSAKey, tmp_path: Path
) -> None:
    """Another curve, a public key, a missing file, an algorithm that does not fit, several keys: each is told."""

    def said(data: bytes, **changes: Any) -> str:
        (tmp_path / "key.pem").write_bytes(data)
        ended = pulled(six.base, auth={k: v for k, v in (smart | changes).items() if v is not None})
        assert ended.status == 11
        return str(ended.err)

    pair = json.dumps({"keys": [rsa.as_dict(private=True), p384.as_dict(private=True)]}).encode()
    assert "of another curve than P-384" in said(ECKey.generate_key("P-256").as_pem(private=True))
    assert "cannot be used" in said(rsa.as_pem(private=False))
    assert "not for the RS384" in said(p384.as_pem(private=True), algorithm="RS384")
    assert "holds several private keys" in said(pair, key_id=None)
    assert "cannot be read (No such file" in said(b"", key_file=str(tmp_path / "none"))


def test_key_with_a_passphrase(
    six: Any, tokens: Any, smart: dict[str, Any], pulled: Any, rsa: RSAKey, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The passphrase of a PEM key comes from the environment; without it the key cannot be used."""
    (tmp_path / "key.pem").write_bytes(rsa.as_pem(private=True, password="zqcanary-passphrase"))
    assert pulled(six.base, auth=smart).status == 11
    monkeypatch.setenv("KEY_PASSPHRASE", "zqcanary-passphrase")
    assert pulled(six.base, auth=smart | {"key_password_env": "KEY_PASSPHRASE"}).status == 0
