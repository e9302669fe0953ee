"""An operator at the command line, a FHIR server that wants tokens, and an authorization server that issues them.

The authorization server is Authlib's: it checks signature, audience, expiry, replay and scopes of what we send.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import ipaddress
import itertools
import json
import re
import shutil
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import time_machine
from authlib.common.security import generate_token
from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, InvalidClientError, OAuth2Request
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response
from werkzeug.serving import WSGIRequestHandler

from fhir_adapter.cli import main
from fhir_adapter.landing import Landing
from fhir_adapter.pipeline import Settings, new_run

SIX = Path(__file__).parents[2] / "data" / "six"
SECRET = "zqcanary-client-secret"


class _Client(ClientMixin):
    """Our registration at the authorization server."""

    def __init__(self, server: TokenServer) -> None:
        self.server = server

    def get_client_id(self) -> str:
        return "fhir-adapter"

    def get_allowed_scope(self, scope: str) -> str | None:
        asked = scope.split() if scope else []
        if not set(asked) <= self.server.registered and self.server.registered:
            return None
        return " ".join(self.server.granted) if self.server.granted is not None else " ".join(asked)

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.server.method and endpoint == "token"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"


class _Request(OAuth2Request):
    """A token request, as Authlib's integrations make it of their framework's."""

    def __init__(self, request: Request) -> None:
        super().__init__("POST", request.url, headers=request.headers)
        self.payload = BasicOAuth2Payload(request.form.to_dict())

    @property
    def form(self) -> dict[str, str]:
        return dict(self.payload.data)


class _Grant(ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS: ClassVar = [
        "client_assertion_jwt",
        "client_secret_basic",
        "client_secret_post",
    ]


class _Assertion(JWTBearerClientAssertion):
    """Checks of a SMART assertion, besides those of Authlib: `kid`, `typ`, and at most five minutes of life."""

    def __init__(self, server: TokenServer) -> None:
        super().__init__(leeway=30)
        self.server = server

    def get_audiences(self) -> list[str]:
        return [self.server.audience]

    def validate_jti(self, claims: Any, jti: str) -> bool:
        fresh = jti not in self.server.used
        self.server.used.add(jti)
        return fresh

    def resolve_client_public_key(self, client: Any) -> Any:
        return self.server.public

    def process_assertion_claims(self, assertion: str, resolve_key: Any) -> Any:
        try:
            claims = jwt.decode(assertion, resolve_key, algorithms=["RS384", "ES384"]).claims
        except JoseError as error:
            raise InvalidClientError(description=str(error)) from error
        self.verify_claims(claims)
        header, _ = self.extract_assertion(assertion)
        assert header["typ"] == "JWT"
        assert header["kid"] in {key.kid for key in self.server.public}
        assert 0 < claims["exp"] - time.time() <= 300, "SMART allows five minutes"
        self.server.algorithms.add(header["alg"])
        return claims


class TokenServer(AuthorizationServer):
    """An authorization server with a token endpoint, for the FHIR server of `stub`.

    Attributes:
        algorithms: signatures that were seen.
        asked: forms of the token requests.
        granted: scopes to grant whatever is asked, or None for what is asked.
        ahead: how far the server's clock is before ours, in seconds.
        before: may answer a token request in another way.
        issued: tokens, each with the time at which it expires.
        registered: scopes that our client may ask for; empty for any.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = self.audience = url
        self.method = "client_assertion_jwt"
        self.public = KeySet([])
        self.life = 300
        self.ahead = 0.0
        self.granted: list[str] | None = None
        self.registered: set[str] = set()
        self.algorithms: set[str] = set()
        self.used: set[str] = set()
        self.issued: dict[str, float] = {}
        self.asked: list[dict[str, str]] = []
        self.before: Callable[[Request], Response | None] = lambda request: None
        self.configuration: dict[str, Any] = {
            "token_endpoint": url,
            "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
            "scopes_supported": ["system/Patient.rs", "system/Observation.rs"],
        }
        self.register_grant(_Grant)
        self.register_client_auth_method("client_assertion_jwt", _Assertion(self))
        self.register_token_generator(
            "default",
            BearerTokenGenerator(
                lambda **_: f"zqcanary-token-{generate_token(24)}", expires_generator=lambda *_: self.life
            ),
        )

    def query_client(self, client_id: str) -> Any:
        return _Client(self) if client_id == "fhir-adapter" else None

    def save_token(self, token: dict[str, Any], request: Any) -> None:
        self.issued[token["access_token"]] = time.time() + token["expires_in"]

    def create_oauth2_request(self, request: Request) -> OAuth2Request:
        return _Request(request)

    def handle_response(self, status: int, body: Any, headers: Any) -> Response:
        return Response(json.dumps(body), status, headers)

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        pass

    def token(self, request: Request) -> Response:
        """Answers a token request."""
        self.asked.append(request.form.to_dict())
        with time_machine.travel(time.time() + self.ahead):
            return self.before(request) or self.create_token_response(request)

    def guard(self, request: Request) -> Response | None:
        """Lets requests to the FHIR server pass with a token that was issued and has not expired."""
        if request.path == "/fhir/.well-known/smart-configuration":
            assert "Authorization" not in request.headers
            return Response(json.dumps(self.configuration), content_type="application/json")
        if request.path == "/auth/token":
            return self.token(request)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.issued.get(token, 0) > time.time() + self.ahead:
            return None
        return Response("", 401, {"WWW-Authenticate": 'Bearer error="invalid_token"'})


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs the command line in this process, so that a test can move its clock."""

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["fhir-adapter", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return Ended(status, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def fresh_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of the six patients' study in which nothing has happened yet."""
    folder = tmp_path_factory.mktemp("fresh")
    site = folder / "site.yaml"
    site.write_text(
        '{"id": "stub", "source": {"kind": "rest", "url": "http://localhost/fhir"}}', encoding="utf-8"
    )
    run = new_run(SIX / "six.yaml", site, folder / "runs", Settings(quiet=True))
    run.log.close()
    return run.folder.path


@pytest.fixture
def pulled(tmp_path: Path, fresh_run: Path, command: Callable[..., Ended]) -> Callable[..., Ended]:
    """Pulls the study of the six patients by `fhir-adapter pull`, from a site with some settings."""
    numbers = itertools.count()

    def pull(url: str, **settings: Any) -> Ended:
        site: dict[str, Any] = {
            "id": "stub",
            "source": {"kind": "rest", "url": url},
            "retry": {"attempts": 2, "max_wait_s": 0, "timeout_s": 5},
            "page_size": 100,
            "concurrency": 1,
            "state_dir": str(tmp_path / "state"),
        }
        run = tmp_path / "runs" / "six" / str(next(numbers))
        shutil.copytree(fresh_run, run)
        (run / "site.yaml").write_text(json.dumps(site | settings), encoding="utf-8")  # JSON is YAML
        return command("pull", run, "--quiet")

    return pull


@pytest.fixture
def whole(tmp_path: Path, stub: Any) -> Callable[[], bool]:
    """Whether everything that the server has is in the landing."""

    def compare() -> bool:
        with Landing.open(tmp_path / "state" / "stub", read_only=True) as landing:
            return {(item.type, item.id) for item in landing.current()} == set(stub.resources)

    return compare


@pytest.fixture
def six(stub: Any) -> Any:
    """The FHIR server with the six patients; their names and numbers must turn up nowhere."""
    for path in sorted(SIX.glob("*.json")):
        for entry in json.loads(path.read_text("utf-8"))["entry"]:
            content = {k: v for k, v in entry["resource"].items() if k not in {"resourceType", "id"}}
            if entry["resource"]["resourceType"] == "Patient":
                content["name"] = [{"family": "Zqcanary", "given": ["Zqcanary"]}]
                content["identifier"] = [
                    *content.get("identifier", []),
                    {"system": "urn:mrn", "value": "zqcanary-mrn"},
                ]
            stub.put(entry["resource"]["resourceType"], entry["resource"]["id"], **content)
    return stub


@pytest.fixture
def tokens(six: Any, monkeypatch: pytest.MonkeyPatch) -> TokenServer:
    """The authorization server, on the FHIR server's own origin."""
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")  # of the server: it is on loopback
    server = TokenServer(six.base.removesuffix("/fhir") + "/auth/token")
    monkeypatch.setattr(
        WSGIRequestHandler,
        "date_time_string",
        lambda handler, moment=None: email.utils.formatdate(time.time() + server.ahead, usegmt=True),
    )
    six.before = server.guard
    return server


@pytest.fixture(scope="session")
def rsa() -> RSAKey:
    """An RSA key of 2048 bits."""
    return RSAKey.generate_key(2048, {"kid": "adapter-rsa"})


@pytest.fixture(scope="session")
def p384() -> ECKey:
    """An EC key on the curve P-384."""
    return ECKey.generate_key("P-384", {"kid": "adapter-ec"})


@pytest.fixture
def smart(tokens: TokenServer, rsa: RSAKey, tmp_path: Path) -> dict[str, Any]:
    """`auth` of a site with SMART Backend Services; the server knows the key."""
    tokens.public = KeySet([rsa])
    (tmp_path / "key.pem").write_bytes(rsa.as_pem(private=True))
    return {
        "kind": "smart-backend", "client_id": "fhir-adapter", "key_file": str(tmp_path / "key.pem"),
        "key_id": "adapter-rsa", "allow_http": True,
    }  # fmt: skip


@dataclass(frozen=True)
class Certificates:
    """Files of a private certification authority, and of a client that it knows."""

    ca: Path
    cert: Path
    key: Path
    server: ssl.SSLContext


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certification authority, a server on loopback and a client."""
    folder = tmp_path_factory.mktemp("certificates")
    now = dt.datetime.now(dt.UTC)

    def issue(
        subject: str, signer: ec.EllipticCurvePrivateKey | None, *, ca: bool
    ) -> ec.EllipticCurvePrivateKey:
        key = ec.generate_private_key(ec.SECP256R1())
        ca_key = signer or key
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name("ca"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
            )
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                ),
                critical=False,
            )
        )
        if ca:
            usage = x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
                key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
                decipher_only=False,
            )  # fmt: skip
            builder = builder.add_extension(usage, critical=True)
        certificate = builder.sign(ca_key, hashes.SHA256())
        (folder / f"{subject}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (folder / f"{subject}.key").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return key

    authority = issue("ca", None, ca=True)
    issue("server", authority, ca=False)
    issue("client", authority, ca=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return Certificates(folder / "ca.pem", folder / "client.pem", folder / "client.key", context)


@pytest.fixture
def tls_server(certificates: Certificates, six: Any) -> Iterator[Callable[..., str]]:
    """Starts the FHIR server of `stub` once more, over TLS; gives its base URL."""
    running: list[HTTPServer] = []

    def start(*, client_certificate: bool = False) -> str:
        context = certificates.server
        if client_certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(
                certificates.ca.with_name("server.pem"), certificates.ca.with_name("server.key")
            )
            context.load_verify_locations(certificates.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        server = HTTPServer(host="localhost", ssl_context=context, threaded=True)
        server.start()
        running.append(server)
        server.expect_request(re.compile(".*")).respond_with_handler(six)
        six.base = server.url_for("/fhir")
        return str(six.base)

    yield start
    for server in running:
        server.stop()
