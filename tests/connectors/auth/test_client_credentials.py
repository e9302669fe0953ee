"""OAuth 2.0 client credentials, through the command line, against Authlib's authorization server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SECRET = "zqcanary-client-secret"


@pytest.fixture
def oauth(tokens: Any, tmp_path: Path) -> dict[str, Any]:
    """`auth` of a site with a client secret in a file."""
    tokens.method = "client_secret_basic"
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    return {
        "kind": "client-credentials", "client_id": "fhir-adapter", "client_secret_file": str(tmp_path / "secret"),
        "token_url": tokens.url, "allow_http": True,
    }  # fmt: skip


@pytest.mark.parametrize("way", ["basic", "post"])
def test_secret_by_basic_and_in_the_form(
    six: Any, tokens: Any, oauth: dict[str, Any], pulled: Any, whole: Any, way: str
) -> None:
    """The secret goes to the token endpoint alone, in the way that the site names; scopes only if it names some."""
    tokens.method = f"client_secret_{way}"
    assert pulled(six.base, auth=oauth | {"client_auth": way}).status == 0
    assert whole()
    assert [("client_secret" in asked, "scope" in asked) for asked in tokens.asked] == [
        (way == "post", False)
    ]
    for request in six.requests:
        if request.path != "/auth/token":
            assert SECRET not in str(request.headers) + request.url


def test_discovered_with_scopes(six: Any, tokens: Any, oauth: dict[str, Any], pulled: Any) -> None:
    """Without `token_url` the endpoint is discovered, and `scopes` are asked for as they stand."""
    del oauth["token_url"]
    assert pulled(six.base, auth=oauth | {"scopes": ["api://fhir/.default"]}).status == 0
    assert tokens.asked[0]["scope"] == "api://fhir/.default"


def test_wrong_secret(six: Any, tokens: Any, oauth: dict[str, Any], pulled: Any, tmp_path: Path) -> None:
    """A wrong secret is told as such, without it; a missing one is an error of the site file."""
    (tmp_path / "secret").write_text("zqcanary-wrong")
    ended = pulled(six.base, auth=oauth)
    assert ended.status == 21
    assert "Compare `auth.client_id`, the secret and `auth.client_auth`" in ended.err
    (tmp_path / "secret").unlink()
    ended = pulled(six.base, auth=oauth)
    assert (ended.status, "file secret: the client secret cannot be read" in ended.err) == (11, True)
