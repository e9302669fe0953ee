"""Which files of a folder are a source's: by their endings, in the order of their names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from fhir_adapter.connectors.files.file_sets import is_manifest
from fhir_adapter.connectors.files.unpacking import PACKED
from fhir_adapter.errors import SourceUnreachable

__all__ = ["NDJSON", "SourceFiles", "ending", "name_within", "source_files"]

#: Endings of files with a resource in each line.
NDJSON = (".ndjson", ".jsonl")
_ENDINGS = (*NDJSON, ".json")
# What a file is called while it is being written.
_UNDER_WAY = (".part", ".tmp", ".filepart")


def ending(path: Path) -> str:
    """The ending that says what a file holds, whether it is packed or not; "" if it is no data."""
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return next((ending for ending in _ENDINGS if name.endswith(ending)), "")


class SourceFiles(NamedTuple):
    """Files of a source, in the order of their names.

    Attributes:
        data: what holds resources.
        manifests: which say what should be there; a source that is one file has none.
        under_way: how many files are still being written, by their names.
        others: how many other files lie among them.
    """

    data: list[Path]
    manifests: list[Path]
    under_way: int
    others: int


def source_files(place: Path) -> SourceFiles:
    """The files of a source.

    Hidden files, and links that lead out of the folder, are not part of the source.

    Raises:
        SourceUnreachable: there is no such folder or file.
    """
    if place.is_file():
        return SourceFiles([place], [], 0, 0) if ending(place) else SourceFiles([], [], 0, 1)
    if not place.is_dir():
        raise SourceUnreachable("there is no such folder or file", where=str(place))
    root = place.resolve()
    data: list[Path] = []
    manifests: list[Path] = []
    waiting = others = 0
    for path in sorted(place.rglob("*"), key=lambda item: item.relative_to(place).parts):
        relative = path.relative_to(place)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        if ending(path) and path.resolve().is_relative_to(root):
            (manifests if is_manifest(path) else data).append(path)
        elif path.suffix.lower() in _UNDER_WAY:
            waiting += 1
        else:
            others += 1
    return SourceFiles(data, manifests, waiting, others)


def name_within(path: Path, place: Path) -> str:
    """A file's name within the source, for messages and marks; a name need not be UTF-8."""
    inner = path.name if place.is_file() else path.relative_to(place).as_posix()
    return os.fsencode(inner).decode("utf-8", "replace")
