"""A manifest beside the files of a drop folder, which says what should be there.

It is the manifest of a finished Bulk Data export (HL7 FHIR Bulk Data Access 2.0, Export, "Response - Complete
Status") as the engine that fetched the files keeps it: lists `output`, `deleted` and `error` of files with a `url`, a
`type` and maybe a `count`. The last part of a URL's path is the name of a file in the manifest's own folder. Names are
looked up among the files that lie there; no path is ever made of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

import msgspec

from fhir_adapter.connectors.files.unpacking import PACKED
from fhir_adapter.connectors.reports import Difference
from fhir_adapter.errors import SourceNotFhir, SourceUnreachable
from fhir_adapter.undecodable import UNDECODABLE

__all__ = ["FileSet", "Part", "error_files", "is_manifest", "read_file_set"]

_LARGEST = 16 * 1024 * 1024
# The base of all types (FHIR R4, Resource): where a manifest names no type, all are meant.
_ANY = "Resource"


class _File(msgspec.Struct, frozen=True):
    url: Annotated[str, msgspec.Meta(min_length=1)]
    type: Annotated[str, msgspec.Meta(pattern="^[A-Z][A-Za-z]{1,63}$")] = _ANY
    count: Annotated[int, msgspec.Meta(ge=0, le=10**15)] | None = None


class _Manifest(msgspec.Struct, frozen=True):
    output: list[_File]
    deleted: list[_File] = []
    error: list[_File] = []


class Part(msgspec.Struct, frozen=True):
    """A file that a manifest names.

    Attributes:
        role: the list that it stands in.
        type: resource type of its content; `Resource` if the manifest names none.
        count: number of its resources by the manifest, or None.
        path: the file, or None if it is not there.
    """

    role: Literal["output", "deleted", "error"]
    type: str
    count: int | None
    path: Path | None


class FileSet(msgspec.Struct, frozen=True):
    """What a manifest names.

    Attributes:
        name: of the manifest, from the source's folder.
        sha256: of its content.
        parts: the files.
    """

    name: str
    sha256: str
    parts: tuple[Part, ...]

    def missing(self) -> list[Difference]:
        """Files that are not there; one of no resources need not be."""
        return [
            Difference(part.type, part.count, 0)
            for part in self.parts
            if part.path is None and part.count != 0
        ]

    def differences(self, counts: Mapping[Path, Mapping[str, int]]) -> list[Difference]:
        """Files whose number of resources is not the manifest's.

        Args:
            counts: number of resources by type, of the files that were read.
        """
        found = []
        for part in self.parts:
            if part.role != "output" or part.path is None or part.count is None:
                continue
            came = counts.get(part.path, {})
            number = sum(came.values()) if part.type == _ANY else came.get(part.type, 0)
            if number != part.count:
                found.append(Difference(part.type, part.count, number))
        return found


def error_files(sets: list[FileSet]) -> set[Path]:
    """Files in which an export says what went wrong; they hold no data."""
    return {part.path for one in sets for part in one.parts if part.role == "error" and part.path is not None}


def is_manifest(path: Path) -> bool:
    """Whether a file is a manifest by its name: `manifest.json`, or one that ends in `.manifest.json`."""
    name = path.name.lower()
    return name == "manifest.json" or name.endswith(".manifest.json")


def _last_part(url: str) -> str:
    try:
        return unquote(urlsplit(url).path.rpartition("/")[2])
    except ValueError:
        return ""


def read_file_set(path: Path, name: str, files: Iterable[Path]) -> FileSet:
    """Reads a manifest and finds its files.

    A file may be packed where the URL's name is not, or the other way round.

    Args:
        path: of the manifest.
        name: for messages.
        files: of the source, in any folder.

    Raises:
        SourceUnreachable: it cannot be read.
        SourceNotFhir: it is no manifest, is larger than 16 MiB, or names a file twice.
    """
    try:
        with path.open("rb") as handle:
            data = handle.read(_LARGEST + 1)
    except OSError as error:
        raise SourceUnreachable(f"the file cannot be read ({error.strerror})", where=name) from error
    if len(data) > _LARGEST:
        raise SourceNotFhir(f"the manifest is longer than {_LARGEST} bytes", where=name)
    remedy = (
        "A file of this name has to be the manifest of a Bulk Data export; give other files another name."
    )
    try:
        manifest = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"), type=_Manifest)
    except msgspec.ValidationError as error:
        raise SourceNotFhir(f"not a manifest of files ({error})", where=name, remedy=remedy) from error
    except UNDECODABLE as error:
        raise SourceNotFhir("the manifest is not JSON, or is cut short", where=name, remedy=remedy) from error
    there = {file.name: file for file in files if file.parent == path.parent}
    parts: list[Part] = []
    taken: set[Path] = set()
    roles: tuple[tuple[Literal["output", "deleted", "error"], list[_File]], ...] = (
        ("output", manifest.output),
        ("deleted", manifest.deleted),
        ("error", manifest.error),
    )
    for role, named in roles:
        for item in named:
            found = _found(_last_part(item.url), there)
            if found is not None and found in taken:
                raise SourceNotFhir(
                    "the manifest names a file twice",
                    where=name,
                    remedy="The last parts of its URLs have to differ.",
                )
            if found is not None:
                taken.add(found)
            parts.append(Part(role, item.type, item.count, found))
    return FileSet(name, hashlib.sha256(data).hexdigest(), tuple(parts))


def _found(name: str, there: Mapping[str, Path]) -> Path | None:
    bare = name
    for ending in PACKED:
        bare = bare.removesuffix(ending)
    for candidate in (name, bare, *(bare + ending for ending in PACKED)):
        if candidate in there:
            return there[candidate]
    return None
