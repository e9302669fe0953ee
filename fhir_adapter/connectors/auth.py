"""Credentials, each bound to one origin.

A credential is added to a request only if the request goes to the origin of the source; a link, a redirect or
a `.netrc` entry cannot send it elsewhere. Secrets come from the environment or from files at the time of use,
and are in no message and no representation.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

import requests
from requests.auth import AuthBase

from fhir_adapter.errors import SiteFileError
from fhir_adapter.site import Auth, Site, origin

__all__ = ["BoundCredential", "read_secret"]


def read_secret(env: str | None, file: Path | None, what: str) -> str:
    """A secret from an environment variable or a file (one trailing line break is not part of it).

    Raises:
        SiteFileError: it is missing, empty, or holds a line break; the message names the place, never the
            value.
    """
    if env is not None:
        value, place = os.environ.get(env, ""), f"environment variable {env}"
    elif file is not None:
        place = f"file {file.name}"
        try:
            value = file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise SiteFileError(f"the {what} cannot be read", where=place) from error
    else:
        value, place = "", "site file"
    if not value or "\n" in value or "\r" in value:
        raise SiteFileError(f"the {what} is missing or not one line", where=place)
    return value


class BoundCredential(AuthBase):
    """Adds the site's credential to requests to the source's origin, and to no others.

    Being set on the session it also keeps requests from looking into `.netrc`.

    Args:
        site: the site, of kind rest.
    """

    def __init__(self, site: Site) -> None:
        self._auth: Auth = site.auth
        self._origin = origin(site.source.url or "")
        self._header: str | None = None
        self.renew()

    def renew(self) -> bool:
        """Reads the credential again; True if it is another one than before."""
        before = self._header
        if self._auth.kind == "basic":
            user = read_secret(self._auth.user_env, None, "user name")
            password = read_secret(self._auth.password_env, self._auth.password_file, "password")
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._header = f"Basic {pair}"
        elif self._auth.kind == "bearer":
            self._header = f"Bearer {read_secret(self._auth.token_env, self._auth.token_file, 'token')}"
        return self._header != before

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Adds the header if the request goes home."""
        request.headers.pop("Authorization", None)
        if self._header is not None and origin(request.url or "") == self._origin:
            request.headers["Authorization"] = self._header
        return request

    def __repr__(self) -> str:
        return f"BoundCredential({self._auth.kind})"
