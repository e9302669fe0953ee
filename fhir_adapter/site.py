"""Settings of a site: the typed model of a site file, which says where a source is and how to talk to it.

A site file is YAML and holds no secret: it names environment variables or files that hold the credentials. A
field it does not know is an error that names file and line, because a mistyped setting that is silently
ignored is how a run ends up with half of the data.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fhir_adapter.errors import SiteFileError
from fhir_adapter.yamlfile import line_of, read_yaml

__all__ = [
    "STANDARD_INPUT",
    "Auth",
    "Bulk",
    "Deletes",
    "Identity",
    "Proxy",
    "Retry",
    "Site",
    "Source",
    "Tls",
    "WriteBack",
    "checked_endpoint",
    "json_schema",
    "load_site",
    "origin",
]

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]

_SECRET_FIELDS = {"user", "username", "password", "token", "secret", "client_secret", "key", "private_key",
                  "passphrase"}  # fmt: skip
#: The path of a source that is standard input.
STANDARD_INPUT = Path("-")

_PORTS = {"http": 80, "https": 443}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def origin(url: str) -> str:
    """Origin of a URL as scheme, host and port (RFC 6454, section 4), for example `https://a.example:443`.

    Raises:
        ValueError: the URL has no http or https origin.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not parts.hostname:
        raise ValueError("not an http or https URL")
    return f"{scheme}://{parts.hostname.lower()}:{parts.port or _PORTS[scheme]}"


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    origin(url)
    if parts.username or parts.password:
        raise ValueError("a URL must not carry a user or password")
    if parts.query or parts.fragment:
        raise ValueError("a base URL has no query and no fragment")
    return url.rstrip("/")


def checked_endpoint(url: str) -> str:
    """A URL of a single endpoint, as it stands: absolute, without user and fragment; it may have a query.

    Raises:
        ValueError: it is not.
    """
    parts = urlsplit(url)
    origin(url)
    if parts.username or parts.password:
        raise ValueError("a URL must not carry a user or password")
    if parts.fragment:
        raise ValueError("an endpoint has no fragment")
    return url


class Source(_Model):
    """Where resources come from."""

    kind: Literal["rest", "bulk", "files"]
    url: str | None = Field(default=None, description="FHIR base URL; kinds `rest` and `bulk`.")
    path: Path | None = Field(
        default=None,
        description="A folder or file; kind `files`; relative to the site file. `-` is standard input.",
    )

    @field_validator("url")
    @classmethod
    def _plain_url(cls, value: str | None) -> str | None:
        return None if value is None else _checked_url(value)

    @model_validator(mode="after")
    def _has_its_place(self) -> Source:
        if self.kind != "files" and (self.url is None or self.path is not None):
            raise ValueError(f"a source of kind {self.kind} has a url and no path")
        if self.kind == "files" and (self.path is None or self.url is not None):
            raise ValueError("a source of kind files has a path and no url")
        return self


#: Settings of `auth` that each kind takes.
_AUTH_SETTINGS: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "basic": frozenset({"user_env", "password_env", "password_file", "allow_http"}),
    "bearer": frozenset({"token_env", "token_file", "allow_http"}),
    "client-credentials": frozenset(
        {"client_id", "client_secret_env", "client_secret_file", "client_auth", "token_url", "trusted_origins",
         "scopes", "allow_http"}
    ),
    "smart-backend": frozenset(
        {"client_id", "key_file", "key_id", "key_password_env", "algorithm", "audience", "token_url",
         "trusted_origins", "scopes", "allow_http"}
    ),
}  # fmt: skip


class Auth(_Model):
    """How we show who we are. Secrets are named here, never written here."""

    kind: Literal["none", "basic", "bearer", "client-credentials", "smart-backend"] = "none"
    user_env: str | None = Field(default=None, description="Environment variable that holds the user name.")
    password_env: str | None = Field(
        default=None, description="Environment variable that holds the password."
    )
    password_file: Path | None = Field(default=None, description="File that holds the password.")
    token_env: str | None = Field(
        default=None, description="Environment variable that holds the bearer token."
    )
    token_file: Path | None = Field(
        default=None, description="File that holds the token; read again when it changes and on 401."
    )
    client_id: str | None = Field(
        default=None, description="Our name at the authorization server; no secret."
    )
    client_secret_env: str | None = Field(
        default=None, description="Environment variable that holds the client secret."
    )
    client_secret_file: Path | None = Field(default=None, description="File that holds the client secret.")
    client_auth: Literal["basic", "post"] = Field(
        default="basic", description="How the secret is sent: HTTP basic, or in the form (RFC 6749, 2.3.1)."
    )
    key_file: Path | None = Field(
        default=None, description="Our private key: PEM, or a JWK or JWKS with the private key."
    )
    key_id: str | None = Field(
        default=None,
        description="`kid` of the key; default: the JWK's own, else its RFC 7638 thumbprint.",
    )
    key_password_env: str | None = Field(
        default=None, description="Environment variable that holds the passphrase of a PEM key."
    )
    algorithm: Literal["RS384", "ES384"] | None = Field(
        default=None, description="Signature; default: what fits the key."
    )
    audience: str | None = Field(
        default=None,
        description="`aud` of our assertion, if the server wants another than its token endpoint.",
    )
    token_url: str | None = Field(
        default=None,
        description="Token endpoint; default: what `.well-known/smart-configuration` of the source names.",
    )
    trusted_origins: list[str] = Field(
        default=[],
        description="Other origins than the source's at which a discovered token endpoint may stand.",
    )
    scopes: list[str] = Field(
        default=[], description="Scopes to ask for; default with `smart-backend`: what the study reads."
    )
    allow_http: bool = Field(
        default=False,
        description="The credential may travel over plain http; to a token endpoint on loopback only.",
    )

    @field_validator("token_url")
    @classmethod
    def _plain_token_url(cls, value: str | None) -> str | None:
        return None if value is None else checked_endpoint(value)

    @field_validator("trusted_origins")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        return [origin(item) for item in value]

    @model_validator(mode="after")
    def _names_what_it_needs(self) -> Auth:
        given = {
            name
            for name, field in type(self).model_fields.items()
            if name != "kind" and getattr(self, name) != field.default
        }
        stray = sorted(given - _AUTH_SETTINGS[self.kind])
        if stray:
            raise ValueError(f"kind {self.kind} takes no {', '.join(stray)}")
        if self.kind == "basic" and (
            self.user_env is None or (self.password_env is None) == (self.password_file is None)
        ):
            raise ValueError("kind basic needs user_env and one of password_env, password_file")
        if self.kind == "bearer" and (self.token_env is None) == (self.token_file is None):
            raise ValueError("kind bearer needs one of token_env, token_file")
        if self.kind == "client-credentials" and (
            not self.client_id or (self.client_secret_env is None) == (self.client_secret_file is None)
        ):
            raise ValueError(
                "kind client-credentials needs client_id and one of client_secret_env, client_secret_file"
            )
        if self.kind == "smart-backend" and (not self.client_id or self.key_file is None):
            raise ValueError("kind smart-backend needs client_id and key_file")
        return self


class Proxy(_Model):
    """A proxy between us and the servers. Without this part none is used, whatever the environment says."""

    url: str | None = Field(default=None, description="URL of the proxy, without user or password.")
    no_proxy: list[str] = Field(
        default=[],
        description="Hosts, domains (`.example`) and networks (`10.0.0.0/8`) reached without the proxy.",
    )
    user_env: str | None = Field(
        default=None, description="Environment variable that holds the user name at the proxy."
    )
    password_env: str | None = Field(
        default=None, description="Environment variable that holds the password at the proxy."
    )
    password_file: Path | None = Field(default=None, description="File that holds the password at the proxy.")
    from_environment: bool = Field(
        default=False, description="Take the proxies from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` instead."
    )

    @field_validator("url")
    @classmethod
    def _plain_url(cls, value: str | None) -> str | None:
        return None if value is None else _checked_url(value)

    @model_validator(mode="after")
    def _one_place(self) -> Proxy:
        others = (self.url, self.user_env, self.password_env, self.password_file)
        if self.from_environment and (any(item is not None for item in others) or self.no_proxy):
            raise ValueError("from_environment stands alone")
        if self.url is None and not self.from_environment and (any(others) or self.no_proxy):
            raise ValueError("a proxy needs its url")
        passwords = [item for item in (self.password_env, self.password_file) if item is not None]
        if len(passwords) != (self.user_env is not None):
            raise ValueError("user_env goes with one of password_env, password_file")
        return self


class Tls(_Model):
    """Trust and, for mutual TLS, our own certificate. Verification cannot be switched off."""

    ca_file: Path | None = Field(
        default=None, description="Certificates (PEM) to trust instead of the usual ones."
    )
    client_cert: Path | None = None
    client_key: Path | None = None

    @model_validator(mode="after")
    def _key_with_certificate(self) -> Tls:
        if self.client_key is not None and self.client_cert is None:
            raise ValueError("client_key needs client_cert")
        return self


class Retry(_Model):
    """How long we bear with a server that does not answer well."""

    attempts: int = Field(default=5, ge=1, le=20, description="Attempts per request, the first included.")
    max_wait_s: float = Field(
        default=120, ge=0, le=3600, description="Ceiling of one wait, Retry-After included."
    )
    timeout_s: float = Field(default=120, gt=0, le=3600, description="Longest silence of the server.")


class Bulk(_Model):
    """Bulk Data Access (`$export`): when it is used instead of searches, and how."""

    use: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="`auto`: for a first or full pull, if the server's CapabilityStatement names `$export` and there "
        "are at least `min_subjects` candidates. A source of kind `bulk` is always exported.",
    )
    min_subjects: int = Field(
        default=1000, ge=1, description="Fewer candidates are searched for; for `auto`."
    )
    level: Literal["system", "patient", "group"] = Field(default="patient", description="What is exported.")
    group: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9.-]{1,64}$",
        description="Logical id of the Group, for level `group`.",
    )
    type_filters: list[str] = Field(
        default=[],
        description="`_typeFilter`: searches such as `Observation?status=final` that narrow the export.",
    )
    max_poll_s: float = Field(
        default=3600,
        gt=0,
        le=86400,
        description="A job that takes longer is given up; the next pull resumes it.",
    )

    @model_validator(mode="after")
    def _group_is_named(self) -> Bulk:
        if (self.level == "group") != (self.group is not None):
            raise ValueError("level group needs group, and only that level takes it")
        return self


class Deletes(_Model):
    """How an incremental pull learns what is gone from a FHIR server. A full pull needs none of it."""

    find: Literal["compare", "history", "off"] = Field(
        default="compare",
        description="`compare`: by the server's counts, and now and then by all ids. `history`: also by what the "
        "server's `_history` of a type tells of deletions. `off`: not at all; only `--full` finds them.",
    )
    compare_every_days: float = Field(
        default=7,
        ge=0,
        le=366,
        description="So often all ids and versions of a query are compared with the landing's; 0: in every pull. "
        "Not for `off`.",
    )


class WriteBack(_Model):
    """Whether and where results may be written."""

    policy: Literal["forbidden", "allowed"] = "forbidden"
    url: str | None = Field(
        default=None, description="FHIR base URL that takes the results; default: the source."
    )

    @field_validator("url")
    @classmethod
    def _plain_url(cls, value: str | None) -> str | None:
        return None if value is None else _checked_url(value)


class Identity(_Model):
    """The key that makes pseudonyms."""

    key_file: Path | None = Field(default=None, description="File with the HMAC key of subject identifiers.")


class Site(_Model):
    """A whole site file."""

    id: Slug
    source: Source
    auth: Auth = Auth()
    tls: Tls = Tls()
    proxy: Proxy = Proxy()
    allowed_hosts: list[str] = Field(
        default=[],
        description="Other hosts (host or host:port) a next link may lead to; never with our credential.",
    )
    aliases: list[str] = Field(
        default=[],
        description="Origins by which the server calls itself in links; rewritten to the source's own.",
    )
    retry: Retry = Retry()
    page_size: int = Field(default=500, ge=1, le=10_000)
    max_page_bytes: int = Field(default=256 * 1024 * 1024, ge=1024)
    max_resources: int = Field(default=20_000_000, ge=1, description="More than this in one pull is refused.")
    subjects_per_query: int = Field(default=20, ge=1, le=500)
    concurrency: int = Field(default=4, ge=1, le=32, description="Requests at once.")
    requests_per_second: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="Not more requests than that; default: as fast as it answers.",
    )
    max_pull_s: float | None = Field(
        default=None, gt=0, description="A pull that takes longer is ended; what landed stays."
    )
    max_pull_bytes: int | None = Field(
        default=None, ge=1024, description="A pull that brings more (unpacked) is ended; what landed stays."
    )
    bulk: Bulk = Bulk()
    deletes: Deletes = Deletes()
    write_back: WriteBack = WriteBack()
    identity: Identity = Identity()
    fhir_version: Literal["R4", "R4B", "R5"] | None = Field(
        default=None,
        description="FHIR release of the source; default: what the server says, or the resources show.",
    )
    state_dir: Path = Field(
        default=Path("state"), description="Landings of all sites; from the working directory."
    )
    template_dirs: list[Path] = Field(
        default=[], description="Folders whose templates stand before the shipped ones of the same name."
    )
    concept_dirs: list[Path] = Field(
        default=[],
        description="Folders of ConceptMaps (`<map>.json`) of the site's own codes; each adds to the shipped map "
        "of its name, and goes before it.",
    )
    on_withdrawal: Literal["exclude", "purge"] = Field(
        default="exclude",
        description="What becomes of a subject who denied or withdrew consent: no analysis counts them (`exclude`), or "
        "landing and run folders forget them as well and no pull brings them again (`purge`).",
    )
    on_difference: Literal["fail", "finding"] = Field(
        default="fail",
        description="What it is when the source (a server, or a manifest beside files) counts otherwise than came.",
    )

    @field_validator("aliases")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        return [origin(item) for item in value]

    @property
    def landing_dir(self) -> Path:
        """Folder of this site's landing."""
        return self.state_dir / self.id

    def with_source(self, text: str) -> Site:
        """The same site with another source, as `--source` gives it.

        The credential and the client certificate stay with their origin, so they are dropped when it changes; the
        landing is another one too, because resources of two servers must not meet under one id. Standard input adds
        to the landing of a site of files.

        Args:
            text: a URL (`http://`, `https://`), a path, or `-` for standard input.

        Raises:
            SiteFileError: the URL is not usable.
        """
        try:
            if text.startswith(("http://", "https://")):
                kind: Literal["rest", "bulk"] = "bulk" if self.source.kind == "bulk" else "rest"
                source = Source(kind=kind, url=text)
            else:
                source = Source(kind="files", path=Path(text))
        except ValidationError as error:
            raise SiteFileError(error.errors()[0]["msg"], where="--source") from error
        if source == self.source:
            return self
        same = source.url and self.source.url and origin(source.url) == origin(self.source.url)
        if source.path == STANDARD_INPUT and self.source.kind == "files":
            return self.model_copy(update={"source": source})
        place = source.url or (text if source.path == STANDARD_INPUT else str(Path(text).resolve()))
        mark = hashlib.sha256(place.encode()).hexdigest()[:8]
        changes: dict[str, Any] = {"source": source, "id": f"{self.id[:55]}-{mark}"}
        if not same:
            changes["auth"] = Auth()
            changes["tls"] = Tls(ca_file=self.tls.ca_file)
        return self.model_copy(update=changes)


def _problem(item: Any) -> str:
    name = str(item["loc"][-1]) if item["loc"] else ""
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        if name in _SECRET_FIELDS:
            return (
                f"{place}: a credential must not stand in a site file; name an environment variable or a file"
            )
        return f"{place}: unknown field"
    return f"{place}: {item['msg']}" if place else str(item["msg"])


def _beside(folder: Path, path: Path | None) -> Path | None:
    if path is None or path == STANDARD_INPUT:
        return path
    return folder / Path(os.path.expandvars(path)).expanduser()


def load_site(path: Path, *, name: str = "") -> Site:
    """Reads and checks a site file.

    Args:
        path: the YAML file. Relative paths in it (source.path, the files of tls, auth and identity) are
            relative to its folder; `state_dir` is relative to the working directory, like the folder of runs.
        name: what messages call the file, where it is a copy; else its own name.

    Returns:
        The site.

    Raises:
        SiteFileError: the file is missing, not YAML, or not a site; each problem with file and line.
    """
    tree, _ = read_yaml(path, SiteFileError, "the site file")
    try:
        site = Site.model_validate(tree)
    except ValidationError as error:
        problems = [
            f"{name or path.name}:{line_of(tree, item['loc'])}: {_problem(item)}"
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise SiteFileError("; ".join(problems)) from error
    folder = path.parent.absolute()  # a run folder's copy of the settings has to hold anywhere
    return site.model_copy(
        update={
            "source": site.source.model_copy(update={"path": _beside(folder, site.source.path)}),
            "auth": site.auth.model_copy(
                update={
                    "password_file": _beside(folder, site.auth.password_file),
                    "token_file": _beside(folder, site.auth.token_file),
                    "client_secret_file": _beside(folder, site.auth.client_secret_file),
                    "key_file": _beside(folder, site.auth.key_file),
                }
            ),
            "proxy": site.proxy.model_copy(
                update={"password_file": _beside(folder, site.proxy.password_file)}
            ),
            "tls": site.tls.model_copy(
                update={
                    "ca_file": _beside(folder, site.tls.ca_file),
                    "client_cert": _beside(folder, site.tls.client_cert),
                    "client_key": _beside(folder, site.tls.client_key),
                }
            ),
            "identity": Identity(key_file=_beside(folder, site.identity.key_file)),
            "template_dirs": [folder / path for path in site.template_dirs],
            "concept_dirs": [folder / path for path in site.concept_dirs],
        }
    )


def json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a site file."""
    schema = Site.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "fhir_adapter site file"
    return schema
