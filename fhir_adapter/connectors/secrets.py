"""Secrets: read from the environment or from files at the time of use, and in no message."""

from __future__ import annotations

import os
from pathlib import Path

from fhir_adapter.errors import SiteFileError

__all__ = ["read_file", "read_secret"]

#: A file larger than this holds no secret of ours.
_LARGEST = 1024 * 1024


def read_file(file: Path, what: str) -> bytes:
    """The bytes of a small file that holds a secret.

    Raises:
        SiteFileError: it cannot be read, or is too large to be one; the message names the file, no folder.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        raise SiteFileError(
            f"the {what} cannot be read ({error.strerror})", where=f"file {file.name}"
        ) from error
    if len(data) > _LARGEST:
        raise SiteFileError(f"the file is too large for a {what}", where=f"file {file.name}")
    return data


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
            value = read_file(file, what).decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise SiteFileError(f"the {what} cannot be read (not UTF-8)", where=place) from error
    else:
        value, place = "", "site file"
    if not value or any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise SiteFileError(f"the {what} is missing or not one line", where=place)
    return value
