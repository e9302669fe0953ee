"""Taking JSON documents apart into resources without decoding them: Bundles, arrays, single resources."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from fhir_adapter.arrivals import Arrival, arrival, gone, unreadable
from fhir_adapter.undecodable import UNDECODABLE

__all__ = [
    "Bundle",
    "BundleMeta",
    "Entry",
    "Link",
    "Request",
    "Search",
    "document",
    "explode",
    "full_urls",
    "read_bundle",
]

_DELETED = re.compile(r"(?:^|/)([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})$")


class Link(msgspec.Struct, gc=False):
    """`Bundle.link`."""

    relation: str | None = None
    url: str | None = None


class Search(msgspec.Struct, gc=False):
    """`Bundle.entry.search`."""

    mode: str | None = None


class Request(msgspec.Struct, gc=False):
    """`Bundle.entry.request`."""

    method: str | None = None
    url: str | None = None


class Entry(msgspec.Struct, gc=False):
    """`Bundle.entry`; the resource stays a slice of the page."""

    fullUrl: str | None = None  # noqa: N815 - FHIR's name
    resource: msgspec.Raw = msgspec.Raw()  # empty: there is none
    search: Search | None = None
    request: Request | None = None


class BundleMeta(msgspec.Struct, gc=False):
    """`Bundle.meta`."""

    lastUpdated: str | None = None  # noqa: N815 - FHIR's name


class Bundle(msgspec.Struct):
    """A Bundle as far as paging and landing need it."""

    resourceType: str  # noqa: N815 - FHIR's name
    type: str | None = None
    total: int | None = None
    meta: BundleMeta | None = None
    link: list[Link] | None = None
    entry: list[Entry | None] | None = None


class _Kind(msgspec.Struct):
    resourceType: str | None = None  # noqa: N815 - FHIR's name
    id: str | None = None


_bundle = msgspec.json.Decoder(Bundle).decode
_kind = msgspec.json.Decoder(_Kind).decode
_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read_bundle(data: bytes) -> Bundle:
    """Reads the frame of a Bundle.

    Raises:
        ValueError: not JSON (`cut` in the message if it ends too early), or not a Bundle.
    """
    try:
        bundle = _bundle(data)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a Bundle ({error})") from error
    except msgspec.DecodeError as error:
        cut = "truncated" in str(error) or "end" in str(error).lower()
        raise ValueError("JSON that is cut short" if cut else f"not JSON ({error})") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError(
            "not JSON in UTF-8" if isinstance(error, UnicodeDecodeError) else "nested too deep"
        ) from error
    if bundle.resourceType != "Bundle":
        raise ValueError("a resource, but not a Bundle")
    return bundle


def full_urls(bundle: Bundle) -> dict[str, str]:
    """`fullUrl` to `Type/id` of the entries that carry a `urn:` name, for references within the Bundle."""
    names: dict[str, str] = {}
    for entry in bundle.entry or ():
        if entry is None or not bytes(entry.resource) or not (entry.fullUrl or "").startswith("urn:"):
            continue
        try:
            kind = _kind(entry.resource)
        except UNDECODABLE:
            continue
        if entry.fullUrl and kind.resourceType and kind.id:
            names[entry.fullUrl] = f"{kind.resourceType}/{kind.id}"
    return names


def _entries(bundle: Bundle, origin: str) -> Iterator[Arrival]:
    aliases = full_urls(bundle)
    for number, entry in enumerate(bundle.entry or (), start=1):
        place = f"{origin}:entry {number}"
        if entry is None:
            yield unreadable(b"null", place)
        elif bytes(entry.resource) not in {b"", b"null"}:
            yield from explode(bytes(entry.resource), place, aliases=aliases)
        elif entry.request is not None and entry.request.method == "DELETE":
            match = _DELETED.search(entry.request.url or "")
            if match:
                yield gone(match[1], match[2])


def explode(raw: bytes, origin: str, *, aliases: dict[str, str] | None = None) -> Iterator[Arrival]:
    """The resources in one JSON value: itself, or if it is a Bundle its entries.

    A Bundle's entry that deletes (`request.method` DELETE) is news of a deletion. What cannot be read comes
    out as unreadable; nothing is lost and nothing raises.

    Args:
        raw: the JSON of one value.
        origin: where it stands.
        aliases: `urn:` names of the Bundle it stands in.
    """
    if b'"Bundle"' in raw:
        try:
            kind = _kind(raw).resourceType
        except UNDECODABLE:
            kind = None
        if kind == "Bundle":
            try:
                bundle = read_bundle(raw)
            except ValueError:
                yield unreadable(raw, origin)
                return
            yield from _entries(bundle, origin)
            return
    yield arrival(raw, origin=origin, aliases=aliases)


def document(data: bytes, origin: str) -> Iterator[Arrival]:
    """The resources of a whole JSON document: a Bundle, an array of resources, or one resource.

    Raises:
        ValueError: not JSON, cut short, or nothing of FHIR; the message says which.
    """
    text = data.removeprefix(b"\xef\xbb\xbf").strip()
    if text.startswith(b"["):
        try:
            parts = _array(text)
        except UNDECODABLE as error:
            cut = "truncated" in str(error)
            raise ValueError("JSON that is cut short" if cut else f"not JSON ({error})") from error
        for number, part in enumerate(parts, start=1):
            yield from explode(bytes(part), f"{origin}:item {number}")
        return
    try:
        kind = _kind(text)
    except msgspec.ValidationError as error:
        raise ValueError("JSON, but not a FHIR resource") from error
    except UNDECODABLE as error:
        cut = "truncated" in str(error) or not text
        raise ValueError("JSON that is cut short" if cut else f"not JSON ({error})") from error
    if kind.resourceType is None:
        raise ValueError("JSON, but not a FHIR resource (it has no resourceType)")
    if kind.resourceType == "Bundle":
        yield from _entries(read_bundle(text), origin)
    else:
        yield from explode(text, origin)
