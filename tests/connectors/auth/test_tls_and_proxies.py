"""A private certification authority, mutual TLS and proxies, with real TLS on loopback."""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

TOKEN = "zqcanary-bearer"


class _Relay(socketserver.BaseRequestHandler):
    """Notes the head of a request to a proxy, and carries what follows."""

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            part = self.request.recv(65536)
            if not part:
                return
            head += part
        self.server.heads.append(head)  # type: ignore[attr-defined]
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        parts = urlsplit(target if "://" in target else f"//{target}")
        if self.server.refuses:  # type: ignore[attr-defined]
            self.request.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as there:
            if method == "CONNECT":
                self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                there.sendall(head)
            ends = [self.request, there]
            while True:
                ready, _, _ = select.select(ends, [], [], 10)
                if not ready:
                    return
                for one in ready:
                    part = one.recv(65536)
                    if not part:
                        return
                    (there if one is self.request else self.request).sendall(part)


class Proxy(socketserver.ThreadingTCPServer):
    """A proxy on loopback that remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Relay)
        self.heads: list[bytes] = []
        self.refuses = False
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A running proxy."""
    with Proxy() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def bearer(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`auth` of a site with a token in the environment."""
    monkeypatch.setenv("TEST_TOKEN", TOKEN)
    return {"kind": "bearer", "token_env": "TEST_TOKEN"}


def test_private_authority(
    six: Any, tls_server: Any, certificates: Any, pulled: Any, whole: Any, bearer: dict[str, Any]
) -> None:
    """A server of a private authority is trusted by `tls.ca_file`, and by nothing else."""
    url = tls_server()
    ended = pulled(url, auth=bearer)
    assert ended.status == 20
    assert "the TLS connection was not trusted. See `tls.ca_file`" in ended.err
    assert not six.requests
    assert pulled(url, auth=bearer, tls={"ca_file": str(certificates.ca)}).status == 0
    assert whole()


def test_next_link_says_http(
    six: Any, tls_server: Any, certificates: Any, pulled: Any, whole: Any, bearer: dict[str, Any]
) -> None:
    """A server behind a proxy that ends TLS gives next links of plain http: they are followed over TLS."""
    url = tls_server()

    def plain(request: Any, bundle: dict[str, Any]) -> None:
        for link in bundle["link"]:
            link["url"] = link["url"].replace("https://", "http://")

    six.change_bundle = plain
    tls = {"ca_file": str(certificates.ca)}
    assert pulled(url, auth=bearer, tls=tls, page_size=20).status == 0
    assert whole()
    assert {request.scheme for request in six.requests} == {"https"}
    assert len([request for request in six.requests if "start" in request.args]) >= 3


def test_mutual_tls(six: Any, tls_server: Any, certificates: Any, pulled: Any, whole: Any) -> None:
    """A server that wants a certificate gets ours; without it the message says what is missing."""
    url = tls_server(client_certificate=True)
    ended = pulled(url, tls={"ca_file": str(certificates.ca)})
    assert ended.status == 20
    assert not six.requests
    ours = {
        "ca_file": str(certificates.ca),
        "client_cert": str(certificates.cert),
        "client_key": str(certificates.key),
    }
    assert pulled(url, tls=ours).status == 0
    assert whole()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("ca_file", None, "tls.ca_file: bad.pem cannot be used (No such file or directory)"),
        ("ca_file", "zqcanary", "tls.ca_file: bad.pem cannot be used"),
        ("client_cert", None, "tls.client_cert: bad.pem cannot be used (No such file or directory)"),
        ("client_cert", "zqcanary", "tls.client_cert: bad.pem cannot be used"),
    ],
)
def test_certificates_that_are_none(
    six: Any, pulled: Any, tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    """A certificate file that is missing or none is an error of the site file."""
    if content is not None:
        (tmp_path / "bad.pem").write_text(content)
    ended = pulled(six.base, tls={name: str(tmp_path / "bad.pem")})
    assert (ended.status, words in ended.err) == (11, True)


def test_proxy_sees_no_credential(
    six: Any, tls_server: Any, certificates: Any, pulled: Any, whole: Any, bearer: dict[str, Any], proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Through a proxy TLS is tunnelled: the proxy gets its own credential, and sees neither ours nor a path."""
    monkeypatch.setenv("PROXY_USER", "zqcanary-user")
    monkeypatch.setenv("PROXY_PASSWORD", "zqcanary-proxy")
    url = tls_server()
    settings = {"url": proxy.url, "user_env": "PROXY_USER", "password_env": "PROXY_PASSWORD"}
    assert pulled(url, auth=bearer, tls={"ca_file": str(certificates.ca)}, proxy=settings).status == 0
    assert whole()
    assert proxy.heads
    for head in proxy.heads:
        assert head.startswith(b"CONNECT localhost:")
        assert b"\r\nProxy-Authorization: Basic " in head
        assert TOKEN.encode() not in head
        assert b"\r\nAuthorization" not in head
    assert {request.headers.get("Proxy-Authorization") for request in six.requests} == {None}
    assert {request.headers.get("Authorization") for request in six.requests} == {f"Bearer {TOKEN}"}


def test_proxy_over_plain_http(
    six: Any, pulled: Any, whole: Any, bearer: dict[str, Any], proxy: Proxy
) -> None:
    """Over plain http a proxy would read a credential: refused; without one it carries the requests."""
    ended = pulled(six.base, auth=bearer, proxy={"url": proxy.url})
    assert ended.status == 11
    assert "over plain http the proxy would read the credential" in ended.err
    assert not proxy.heads
    assert pulled(six.base, proxy={"url": proxy.url}).status == 0
    assert whole()
    assert proxy.heads[0].startswith(f"GET {six.base}/metadata".encode())


def test_hosts_without_the_proxy(six: Any, pulled: Any, proxy: Proxy) -> None:
    """What `no_proxy` names is asked without the proxy."""
    for rule in ("localhost", "*", ".localhost", f"localhost:{urlsplit(six.base).port}"):
        assert pulled(six.base, proxy={"url": proxy.url, "no_proxy": [rule]}).status == 0
    assert not proxy.heads


def test_proxy_of_the_environment(
    six: Any, pulled: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of the environment is used only if the site file says so, and then with its exceptions."""
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert pulled(six.base).status == 0
    assert not proxy.heads
    assert pulled(six.base, proxy={"from_environment": True}).status == 0
    seen = len(proxy.heads)
    assert seen
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.0/8")
    assert pulled(six.base, proxy={"from_environment": True}).status == 0
    assert len(proxy.heads) == seen


def test_proxy_that_refuses(
    tls_server: Any, certificates: Any, pulled: Any, bearer: dict[str, Any], proxy: Proxy
) -> None:
    """A proxy that does not let us through is named as the reason."""
    proxy.refuses = True
    ended = pulled(tls_server(), auth=bearer, tls={"ca_file": str(certificates.ca)}, proxy={"url": proxy.url})
    assert ended.status == 20
    assert "the proxy does not let us through. See `proxy` of the site file." in ended.err
