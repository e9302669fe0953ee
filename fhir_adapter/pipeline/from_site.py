"""What a run takes from its site: the source, the key of identifiers, its own maps, the server to write to."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fhir_adapter.errors import (
    SiteFileError,
    UsageError,
)
from fhir_adapter.site import Site

__all__ = ["identity_key", "own_maps", "with_source", "write_url"]


def with_source(site: Site, source: str | None) -> Site:
    """The site with another source: a URL, a folder of files, or `-` for standard input.

    Raises:
        UsageError: no such folder.
        SiteFileError: a URL that is none.
    """
    if source is None:
        return site
    if source != "-" and not source.startswith(("http://", "https://")) and not Path(source).exists():
        raise UsageError("no such folder or file", where="--source")
    return site.with_source(source)


def identity_key(site: Site) -> bytes | None:
    """The HMAC key of subject identifiers, if the site has one.

    Raises:
        SiteFileError: its file cannot be read, or is too short for a key.
    """
    if site.identity.key_file is None:
        return None
    try:
        key = site.identity.key_file.read_bytes().strip()
    except OSError as error:
        raise SiteFileError(
            f"the key file cannot be read ({error.strerror})", where="identity.key_file"
        ) from error
    if len(key) < 16:
        raise SiteFileError("the key file holds fewer than 16 bytes", where="identity.key_file")
    return key


def own_maps(site: Site) -> dict[str, str]:
    """The site's own concept maps with their SHA-256: with another map the same resources give other rows."""
    return {
        f"{folder.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in site.concept_dirs
        for path in sorted(folder.glob("*.json"))
    }


def write_url(site: Site) -> str:
    """The server that results are written to.

    Raises:
        SiteFileError: neither the source nor the site file names one.
    """
    url = site.write_back.url or site.source.url
    if url is None:
        raise SiteFileError("a source of files needs a server to write to", where="write_back.url")
    return url
