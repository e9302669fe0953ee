"""The site file: what it may say, and how a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhir_adapter.errors import SiteFileError
from fhir_adapter.site import Site, load_site, origin

WHOLE = """
id: clinic-a
source: {kind: rest, url: "https://fhir.example/r4/"}
auth: {kind: bearer, token_file: secrets/token}
tls: {ca_file: ca.pem}
allowed_hosts: [files.example]
aliases: ["http://inner:8080"]
retry: {attempts: 3, max_wait_s: 10, timeout_s: 20}
page_size: 1000
write_back: {policy: allowed, url: "https://results.example/r4"}
identity: {key_file: secrets/hmac}
on_difference: finding
"""


def write(tmp_path: Path, text: str) -> Path:
    """Writes a site file."""
    path = tmp_path / "site.yaml"
    path.write_text(text)
    return path


def test_whole_file(tmp_path: Path) -> None:
    """Settings are read; files are relative to the site file, the state to the working directory."""
    site = load_site(write(tmp_path, WHOLE))
    assert site.source.url == "https://fhir.example/r4"
    assert site.auth.token_file == tmp_path / "secrets" / "token"
    assert site.tls.ca_file == tmp_path / "ca.pem"
    assert site.identity.key_file == tmp_path / "secrets" / "hmac"
    assert site.landing_dir == Path("state/clinic-a")
    assert site.aliases == ["http://inner:8080"]
    assert (site.retry.attempts, site.page_size, site.on_difference) == (3, 1000, "finding")


def test_defaults_are_careful(tmp_path: Path) -> None:
    """Without a word on it nothing is written back, a difference fails, and no other host is asked."""
    site = load_site(write(tmp_path, "id: a\nsource: {kind: files, path: in}\n"))
    assert site.source.path == tmp_path / "in"
    assert site.write_back.policy == "forbidden"
    assert (site.on_difference, site.allowed_hosts, site.auth.kind) == ("fail", [], "none")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id: a\nsource: {kind: files, path: in}\npage_siez: 3\n", "site.yaml:3: page_siez: unknown field"),
        ("id: a\nsource:\n  kind: rest\n  urll: x\n", "site.yaml:4: source.urll: unknown field"),
        ("id: A/B\nsource: {kind: files, path: in}\n", "site.yaml:1: id: String should match"),
        (
            "id: a\nsource: {kind: rest}\n",
            "site.yaml:2: source: Value error, a source of kind rest has a url",
        ),
        ("id: a\nsource: {kind: files, path: in}\nconcurrency: 99\n", "site.yaml:3: concurrency:"),
        ("id: a\n", "site.yaml:1: source: Field required"),
        ("id: a\nid: b\n", "site.yaml:2: not YAML"),
        ("id: [a\n", "site.yaml:2: not YAML"),
        ("- a\n", "the site file is a mapping"),
        ("", "the site file is a mapping"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    """Each problem has file, line and field."""
    with pytest.raises(SiteFileError) as caught:
        load_site(write(tmp_path, text))
    assert message in str(caught.value)
    assert caught.value.exit_status == 11


@pytest.mark.parametrize(
    "text",
    [
        "auth: {kind: bearer, token: zqcanary-s3cret}",
        "auth: {kind: basic, user_env: U, password: zqcanary-s3cret}",
        "auth: {kind: bearer}",
        "auth: {kind: basic, user_env: U, password_env: P, password_file: f}",
        "auth: {kind: none, token_env: T}",
        "tls: {client_key: k}",
        "write_back: {url: 'https://u:zqcanary-s3cret@x.example/fhir'}",
        "write_back: {url: 'https://x.example/fhir?token=zqcanary-s3cret'}",
        "write_back: {url: 'ftp://x.example'}",
        "aliases: [inner]",
    ],
)
def test_secrets_and_half_settings_are_refused(tmp_path: Path, text: str) -> None:
    """A credential in the file, or half of one, is an error whose message does not repeat it."""
    with pytest.raises(SiteFileError) as caught:
        load_site(write(tmp_path, f"id: a\nsource: {{kind: files, path: in}}\n{text}\n"))
    assert "site.yaml:3" in str(caught.value)
    assert "zqcanary-s3cret" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    """A site file that is not there is an error of the site file."""
    with pytest.raises(SiteFileError, match="cannot be read"):
        load_site(tmp_path / "none.yaml")


def test_another_source() -> None:
    """--source keeps the credential only for its origin, and lands elsewhere."""
    site = Site.model_validate(
        {
            "id": "a",
            "source": {"kind": "rest", "url": "https://x.example/r4"},
            "auth": {"kind": "bearer", "token_env": "T"},
        }
    )
    assert site.with_source("https://x.example/r4/") == site
    near, far, files = (
        site.with_source(text) for text in ("https://x.example/r5", "https://y.example/r4", "folder")
    )
    assert [item.auth.kind for item in (near, far, files)] == ["bearer", "none", "none"]
    assert len({site.landing_dir, near.landing_dir, far.landing_dir, files.landing_dir}) == 4
    assert (files.source.kind, files.source.path) == ("files", Path("folder"))
    with pytest.raises(SiteFileError, match="must not carry a user"):
        site.with_source("https://u:p@x.example")


@pytest.mark.parametrize(
    ("url", "expected"),
    [("HTTPS://A.example/x", "https://a.example:443"), ("http://a.example:8080", "http://a.example:8080")],
)
def test_origin(url: str, expected: str) -> None:
    """An origin is scheme, host in lower case, and port."""
    assert origin(url) == expected


SMART = "kind: smart-backend, client_id: a, key_file: k"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("auth: {kind: smart-backend, client_id: a}", "needs client_id and key_file"),
        ("auth: {kind: client-credentials, client_id: a}", "one of client_secret_env, client_secret_file"),
        (
            "auth: {kind: client-credentials, client_id: a, client_secret: zqcanary}",
            "must not stand in a site file",
        ),
        (f"auth: {{{SMART}, private_key: zqcanary}}", "must not stand in a site file"),
        (f"auth: {{{SMART}, token_file: t}}", "kind smart-backend takes no token_file"),
        ("auth: {kind: none, allow_http: true}", "kind none takes no allow_http"),
        (f"auth: {{{SMART}, algorithm: HS256}}", "auth.algorithm"),
        (f"auth: {{{SMART}, token_url: 'https://u:zqcanary@x.example/t'}}", "must not carry a user"),
        (f"auth: {{{SMART}, trusted_origins: [x]}}", "not an http or https URL"),
        ("proxy: {url: 'http://u:zqcanary@x.example'}", "must not carry a user"),
        ("proxy: {no_proxy: [x]}", "a proxy needs its url"),
        ("proxy: {from_environment: true, url: 'http://x.example'}", "from_environment stands alone"),
        ("proxy: {url: 'http://x.example', user_env: U}", "goes with one of password_env"),
    ],
)
def test_half_credentials_and_proxies(tmp_path: Path, text: str, words: str) -> None:
    """Each method takes what belongs to it and all that it needs; a secret in the file is refused unseen."""
    with pytest.raises(SiteFileError) as caught:
        load_site(write(tmp_path, f"id: a\nsource: {{kind: files, path: in}}\n{text}\n"))
    assert "site.yaml:3" in str(caught.value)
    assert words in str(caught.value)
    assert "zqcanary" not in str(caught.value)


def test_files_of_credentials_are_beside_the_site_file(tmp_path: Path) -> None:
    """Keys, secrets and the proxy's password are found from the folder of the site file."""
    text = (
        "id: a\nsource: {kind: rest, url: 'https://x.example'}\n"
        f"auth: {{{SMART}}}\nproxy: {{url: 'http://p.example', user_env: U, password_file: pw}}\n"
    )
    site = load_site(write(tmp_path, text))
    assert (site.auth.key_file, site.proxy.password_file) == (tmp_path / "k", tmp_path / "pw")


def test_client_certificate_stays_with_its_origin() -> None:
    """--source with another origin drops our certificate and keeps whom we trust."""
    site = Site.model_validate(
        {
            "id": "a",
            "source": {"kind": "rest", "url": "https://x.example/r4"},
            "tls": {"ca_file": "ca", "client_cert": "c", "client_key": "k"},
        }
    )
    far = site.with_source("https://y.example/r4")
    assert (far.tls.ca_file, far.tls.client_cert, far.tls.client_key) == (Path("ca"), None, None)


def test_what_is_wrong_in_a_copy_is_said_of_its_original(tmp_path: Path) -> None:
    """A run folder holds a copy of the settings; the operator has to mend the file that it was made from."""
    path = tmp_path / "site.yaml"
    path.write_text("id: x\nsource: {kind: files, path: a}\nsauce: 1\n", encoding="utf-8")
    with pytest.raises(SiteFileError, match=r"^/etc/hospital\.yaml:3: sauce: unknown field"):
        load_site(path, name="/etc/hospital.yaml")


def test_paths_hold_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site file that is named relatively gives absolute paths, so that a later stage finds them."""
    (tmp_path / "site.yaml").write_text(
        "id: x\nsource: {kind: files, path: a}\nconcept_dirs: [b]\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    site = load_site(Path("site.yaml"))
    assert (tmp_path / "a", [tmp_path / "b"]) == (site.source.path, site.concept_dirs)
