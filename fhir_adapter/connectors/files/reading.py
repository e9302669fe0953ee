"""What the files of a source hold, read one after the other within the limits of the site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fhir_adapter.arrivals import Arrival, unreadable
from fhir_adapter.connectors import bundles
from fhir_adapter.connectors.files.file_sets import error_files, read_file_set
from fhir_adapter.connectors.files.listing import NDJSON, ending, name_within, source_files
from fhir_adapter.connectors.files.searchsets import Searchsets
from fhir_adapter.connectors.files.unpacking import counted, whole
from fhir_adapter.connectors.http.bounds import Bounds
from fhir_adapter.errors import SourceNotFhir, SourceUnreachable
from fhir_adapter.site import Site

__all__ = ["Reading", "arrivals_of", "of_file", "read_files"]


class Reading:
    """What all files of a pull share while they are read: its limits, and the search results met in them."""

    def __init__(self, site: Site) -> None:
        self.limit = site.max_page_bytes
        self.bounds = Bounds(None)
        self.bounds.limit(site.max_pull_s, site.max_pull_bytes)
        self.searchsets = Searchsets()


def _lines(handle: BinaryIO, name: str, reading: Reading) -> Iterator[Arrival]:
    limit = reading.limit
    idle = 0
    number = 0
    while line := handle.readline(limit + 1):
        number += 1
        if len(line) > limit:
            raise SourceNotFhir(f"a line is longer than max_page_bytes ({limit})", where=f"{name}:{number}")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        text = line.strip()
        came = False
        for item in _of_line(text, f"{name}:{number}", reading):
            came = True
            yield item
        if came:
            continue
        # No limit on resources ends a file of lines without any, which may be packed to next to nothing.
        idle += len(line)
        if idle > limit:
            raise SourceNotFhir(
                f"more than max_page_bytes ({limit}) of lines without a resource", where=f"{name}:{number}"
            )


def _of_line(text: bytes, place: str, reading: Reading) -> Iterator[Arrival]:
    if text.startswith(b"{"):
        reading.searchsets.see(text)
        yield from bundles.explode(text, place)
    elif text:
        yield unreadable(text, place)


def of_file(path: Path, name: str, reading: Reading) -> Iterator[Arrival]:
    """What a file holds.

    Raises:
        SourceUnreachable: it cannot be read.
        SourceNotFhir: it is damaged, cut short, too large, or no FHIR.
        SourceIncomplete: a limit of the pull is reached.
    """
    try:
        with path.open("rb") as file:
            yield from arrivals_of(file, path, name, reading)
    except OSError as error:
        raise SourceUnreachable(f"the file cannot be read ({error.strerror})", where=name) from error


def arrivals_of(file: BinaryIO, kind: Path, name: str, reading: Reading) -> Iterator[Arrival]:
    """What an open file holds, which is read as one that is called `kind`."""
    with whole(name):
        handle = counted(file, kind.name, reading.bounds, where=name)
        if ending(kind) in NDJSON:
            yield from _lines(handle, name, reading)
            return
        limit = reading.limit
        data = handle.read(limit + 1)
    if len(data) > limit:
        raise SourceNotFhir(f"the file is longer than max_page_bytes ({limit})", where=name)
    try:
        yield from bundles.document(data, name)
    except ValueError as error:
        raise SourceNotFhir(str(error), where=name, remedy="Bring the file again, whole.") from error
    reading.searchsets.see(data)


def read_files(site: Site) -> Iterator[Arrival]:
    """Everything that the files of a site hold, in the order of their names; nothing is landed.

    Raises:
        SourceUnreachable: the folder or a file cannot be read.
        SourceNotFhir: a file is damaged, cut short, too large, or no FHIR.
        SourceIncomplete: they hold more than `max_pull_bytes`, or take longer than `max_pull_s`.
    """
    place = site.source.path or Path()
    reading = Reading(site)
    found = source_files(place)
    sets = [read_file_set(path, name_within(path, place), found.data) for path in found.manifests]
    errors = error_files(sets)
    for path in found.data:
        if path not in errors:
            yield from of_file(path, name_within(path, place), reading)
