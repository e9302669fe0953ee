"""What a connector hands to the landing: a resource as its bytes, and what the landing must know of it.

Only the envelope of a resource is decoded (type, id, meta, subject); the body stays the bytes that the source
sent. A raw line break in JSON can only stand between tokens (RFC 8259, section 7), so turning it into a space
puts a resource on one line without changing it.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

import msgspec

from fhir_adapter.own import OWN_TAG_CODE, OWN_TAG_SYSTEM
from fhir_adapter.undecodable import UNDECODABLE

__all__ = [
    "Arrival",
    "Checkpoint",
    "Landing",
    "Outcome",
    "State",
    "arrival",
    "arrivals",
    "gone",
    "references",
    "subject_key",
    "unreadable",
]

#: What an arrival is: a resource, one of our own output, something that cannot be read, or news of a
#: deletion.
State = Literal["resource", "own-output", "unreadable", "deleted"]

# R4, datatypes: id is 1 to 64 of these characters. Anything else might end up in a path or a URL, and so might the
# two names that R4 allows and a path must not hold.
_ID = re.compile(r"(?!\.\.?$)[A-Za-z0-9\-.]{1,64}")
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_PATIENT = re.compile(r"(?:^|/)Patient/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?$")
_VALUE = re.compile(rb'\s*:\s*"([^"\\]*)"')
_TARGET = re.compile(
    rb"(.*?)([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?", re.DOTALL
)
_KEY = b'"reference"'
_is_id = _ID.fullmatch
#: Ids, each with a line feed behind it.
_IDS = re.compile(rf"(?:{_ID.pattern}\n)*", re.MULTILINE)
_LONGEST_INSTANT = 40
_OWN_SYSTEM = OWN_TAG_SYSTEM.encode()
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
# As numbers, which are found in bytes several times as fast as one byte is.
_LINE_FEED, _CARRIAGE_RETURN, _BACKSLASH = 10, 13, 92


class Arrival(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One resource on its way into the landing.

    Attributes:
        type: resource type; "" if an unreadable item names none.
        id: logical id; for an unreadable item a name made of its hash.
        version: `meta.versionId`, or "" if there is none that could be one.
        last_updated: `meta.lastUpdated` as written, or "".
        subject: `Patient/<id>` of the patient it is about, or None for a shared resource.
        state: what it is.
        body: the bytes as they came, on one line; empty for own output and deletions.
        sha256: of the bytes as they came, on one line; empty if the landing is to compute it of the body.
        origin: where it came from (file and line, or search), for the one who has to mend it.
        refs: `(type, id)` of what it refers to on the same server.
    """

    type: str
    id: str
    version: str
    last_updated: str
    subject: str | None
    state: State
    body: bytes
    sha256: bytes
    origin: str = ""
    refs: tuple[tuple[str, str], ...] = ()


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a query has been pulled: a key, and what to continue from."""

    key: str
    value: dict[str, Any]


class Outcome(msgspec.Struct):
    """What became of a batch of arrivals: counts of rows."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    older: int = 0
    own_output: int = 0
    unreadable: int = 0
    deleted: int = 0

    def add(self, other: Outcome) -> None:
        """Adds the counts of another batch."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Landing(Protocol):
    """What a connector needs of a landing (`fhir_adapter.landing.Landing` is one)."""

    @property
    def sequence(self) -> int:
        """Latest sequence number."""

    def append(
        self, items: Iterable[Arrival], checkpoint: Iterable[Checkpoint] = (), *, apart: bool = False
    ) -> Outcome:
        """Lands a batch and its checkpoints, all or nothing; by another process, if other threads go on meanwhile.

        Returns what became of this batch and of those before, as far as it is known and was not told.
        """

    def settle(self) -> Outcome:
        """Waits for what another process has, and tells what became of it."""

    def checkpoint(self, key: str) -> dict[str, Any] | None:
        """Value of a checkpoint."""

    def known(
        self,
        type_: str,
        subjects: Iterable[str] | None = None,
        *,
        until: int | None = None,
    ) -> set[str]:
        """Ids of a type that are current (own output included), of these subjects or of all, come until a sequence."""

    def versions(self, type_: str, subjects: Iterable[str]) -> dict[str, str]:
        """Ids of a type that are current for these subjects, as `known`, with their versions."""

    @property
    def bars_anyone(self) -> bool:
        """Whether there is a subject of whom nothing may land."""

    def admits(self, item: Arrival) -> bool:
        """Whether an arrival may land; nothing of a barred subject may."""

    def barred(self, subjects: Iterable[str]) -> set[str]:
        """Those of some subjects that may not be pulled."""

    def missing_references(self, types: Iterable[str]) -> list[tuple[str, str]]:
        """References to resources of these types that have not landed."""

    def retire_unreadable(self, origin: str, keep: set[str]) -> int:
        """Ends the unreadable items of an origin that are no longer there."""

    def bodies(self, type_: str) -> Iterable[bytes]:
        """Bodies of the current resources of a type."""


class _Tag(msgspec.Struct, gc=False):
    system: str | None = None
    code: str | None = None


class _Meta(msgspec.Struct, gc=False):
    versionId: str | None = None  # noqa: N815 - FHIR's name
    lastUpdated: str | None = None  # noqa: N815 - FHIR's name
    tag: list[_Tag] | None = None


class _Reference(msgspec.Struct, gc=False):
    reference: str | None = None


class _Head(msgspec.Struct, gc=False):
    resourceType: str  # noqa: N815 - FHIR's name
    id: str
    meta: _Meta | None = None
    subject: _Reference | None = None
    patient: _Reference | None = None
    individual: _Reference | None = None


class _PlainMeta(msgspec.Struct, gc=False):
    versionId: str  # noqa: N815 - FHIR's name
    lastUpdated: Annotated[str, msgspec.Meta(max_length=_LONGEST_INSTANT)]  # noqa: N815 - FHIR's name
    tag: msgspec.Raw = msgspec.Raw()


class _Named(msgspec.Struct, gc=False):
    reference: str


class _Plain(msgspec.Struct, gc=False):
    """The envelope of a resource as most have it."""

    resourceType: str  # noqa: N815 - FHIR's name
    id: str
    meta: _PlainMeta
    subject: _Named
    encounter: _Named | None = None


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_plain = msgspec.json.Decoder(_Plain).decode
_NO_META = _Meta()
_sha256 = hashlib.sha256


@functools.lru_cache(maxsize=256)
def _is_type(text: str) -> bool:
    return _TYPE.fullmatch(text) is not None


@functools.lru_cache(maxsize=1024)
def _is_version(text: str) -> bool:
    return _ID.fullmatch(text) is not None


@functools.lru_cache(maxsize=4096)
def _patient(reference: str) -> str | None:
    """Resources of a patient come one after the other: the same reference a thousand times."""
    match = _PATIENT.search(reference)
    return f"Patient/{match[1]}" if match else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _lenient_head(body: bytes) -> _Head | None:
    """Envelope of a resource that is odd elsewhere; None if it has no usable type and id.

    An odd `meta` or `subject` must not make a resource unreadable: the mapping quarantines it with a better
    reason.
    """
    try:
        tree = msgspec.json.decode(body)
    except UNDECODABLE:
        return None
    if not isinstance(tree, dict):
        return None
    type_, id_ = _text(tree.get("resourceType")), _text(tree.get("id"))
    if type_ is None or id_ is None:
        return None
    head = _Head(type_, id_)
    meta = tree.get("meta")
    if isinstance(meta, dict):
        tags = meta.get("tag")
        head.meta = _Meta(
            _text(meta.get("versionId")),
            _text(meta.get("lastUpdated")),
            [_Tag(_text(t.get("system")), _text(t.get("code"))) for t in tags if isinstance(t, dict)]
            if isinstance(tags, list)
            else None,
        )
    for name in ("subject", "patient", "individual"):
        part = tree.get(name)
        if isinstance(part, dict):
            setattr(head, name, _Reference(_text(part.get("reference"))))
    return head


def subject_key(reference: str | None, aliases: Mapping[str, str] | None = None) -> str | None:
    """Key of the patient that a reference names.

    Relative, absolute and versioned references give the same key. The host of an absolute reference is not
    looked
    at: servers behind a proxy name themselves by inner names, and what a search by patient returned is that
    patient's.

    Args:
        reference: `Reference.reference`.
        aliases: `fullUrl` to `Type/id` of the Bundle it stands in (for `urn:uuid` references).

    Returns:
        `Patient/<id>`, or None if it is not a literal reference to a patient.
    """
    if not reference:
        return None
    if aliases and reference in aliases:
        reference = aliases[reference]
    return _patient(reference)


def references(body: bytes, base: str | None = None) -> tuple[tuple[str, str], ...]:
    """What a resource refers to on its own server: `(type, id)`, each once, patients left out.

    Args:
        body: the resource.
        base: base URL of the server; absolute references to other servers are none of ours.
    """
    if _BACKSLASH in body:  # some encoders escape the slash
        body = body.replace(b"\\/", b"/")
    found: dict[tuple[str, str], None] = {}
    for part in body.split(_KEY)[1:]:  # several times as fast as the search of a pattern
        match = _VALUE.match(part)
        target = _target(match[1], base) if match is not None else None
        if target is not None:
            found[target] = None
    return tuple(found)


@functools.lru_cache(maxsize=4096)
def _target(reference: bytes, base: str | None) -> tuple[str, str] | None:
    """What a reference names on its own server, if it is no patient; many resources of a page name the same."""
    match = _TARGET.fullmatch(reference)
    if match is None or match[2] == b"Patient":
        return None
    prefix = match[1]
    if prefix and (base is None or prefix.decode("utf-8", "replace").rstrip("/") != base):
        return None
    return match[2].decode(), match[3].decode()


@functools.lru_cache(maxsize=4096)
def _visit(reference: str, base: str | None) -> tuple[tuple[str, str], ...]:
    """What a reference to an encounter names, as `references` has it."""
    target = _target(reference.encode(), base)
    return () if target is None else (target,)


def unreadable(raw: bytes, origin: str) -> Arrival:
    """An item that is not a resource with type and id: kept as it came, to be counted and quarantined."""
    body = raw.translate(_ONE_LINE)
    digest = hashlib.sha256(body).digest()
    head: Any = None
    try:
        head = msgspec.json.decode(body)
    except UNDECODABLE:
        head = None
    type_ = _text(head.get("resourceType")) if isinstance(head, dict) else None
    if type_ is None or not _TYPE.fullmatch(type_):
        type_ = ""
    # Two equal lines at two places are two items: each is counted.
    name = hashlib.sha256(origin.encode() + b"\0" + digest).hexdigest()[:40]
    return Arrival(type_, f"unreadable-{name}", "", "", None, "unreadable", body, digest, origin)


def gone(type_: str, id_: str) -> Arrival:
    """News that a resource was deleted at the source."""
    return Arrival(type_, id_, "", "", None, "deleted", b"", b"")


def arrival(
    raw: bytes, *, origin: str, base: str | None = None, aliases: Mapping[str, str] | None = None
) -> Arrival:
    """Makes an arrival of the bytes of one resource.

    Args:
        raw: the JSON of the resource as the source sent it.
        origin: where it stands (file and line, or search), without anything that names a patient.
        base: base URL of the server, if it came from one.
        aliases: `fullUrl` to `Type/id` within its Bundle.

    Returns:
        A resource, own output (no body), or an unreadable item. Never an error: each resource stands or falls
        alone.
    """
    body = raw.translate(_ONE_LINE) if _LINE_FEED in raw or _CARRIAGE_RETURN in raw else raw
    try:
        head: _Head | None = _decode_head(body)
    except UNDECODABLE:
        head = _lenient_head(body)
    if head is None or not _is_id(head.id) or not _is_type(head.resourceType):
        return unreadable(body, origin)
    type_, meta = head.resourceType, head.meta or _NO_META
    subject, named = _whose(head, aliases)
    own = meta.tag is not None and _is_ours(meta.tag)
    digest = _sha256(body).digest()
    version, last_updated = meta.versionId, meta.lastUpdated
    return Arrival(
        type_,
        head.id,
        version if version and _is_version(version) else "",
        last_updated[:_LONGEST_INSTANT] if last_updated else "",
        f"Patient/{head.id}" if type_ == "Patient" else subject,
        "own-output" if own else "resource",
        b"" if own else body,
        digest,
        origin,
        # Most resources refer to their patient alone, which is no news: counting is a tenth of the work of looking.
        () if own or body.count(_KEY) == named else references(body, base),
    )


def arrivals(bodies: Sequence[bytes], *, type_: str, origin: str, base: str | None = None) -> list[Arrival]:
    """What `arrival` makes of each of a page's resources.

    Most of a page are plain: of the type that was searched, of one patient, with a version. These are looked at
    together, which takes less than half the time, their SHA-256 left to the landing; what is odd is left to `arrival`.

    Args:
        bodies: the JSON of the resources as the source sent it.
        type_: the type that was searched.
        origin: as `arrival` has it.
        base: as `arrival` has it.
    """
    whole = b"".join(bodies)
    if _LINE_FEED in whole or _CARRIAGE_RETURN in whole:
        bodies = [body.translate(_ONE_LINE) for body in bodies]
    heads = _plain_heads(bodies)
    plain = [head for head in heads if head is not None]
    if (
        type_ == "Patient"
        or {head.resourceType for head in plain} != {type_}
        or not _is_type(type_)
        or not _are_ids([head.id for head in plain])
        or not all(map(_is_version, {head.meta.versionId for head in plain}))
    ):
        return [arrival(body, origin=origin, base=base) for body in bodies]
    # Each body names at least what was decoded of it; if all together name no more than that, none names more.
    named = 2 * len(plain) - [head.encounter for head in plain].count(None)
    alone = whole.count(_KEY) == named
    del whole
    keys = {reference: _patient(reference) for reference in {head.subject.reference for head in plain}}
    found: list[Arrival] = []
    for body, head in zip(bodies, heads, strict=True):
        if head is None or (key := keys[head.subject.reference]) is None:
            found.append(arrival(body, origin=origin, base=base))
            continue
        visit, meta = head.encounter, head.meta
        if alone or body.count(_KEY) == (1 if visit is None else 2):
            refs = () if visit is None else _visit(visit.reference, base)
        else:
            refs = references(body, base)
        found.append(
            Arrival(
                type_, head.id, meta.versionId, meta.lastUpdated, key, "resource", body, b"", origin, refs
            )
        )
    return found


def _plain_heads(bodies: Sequence[bytes]) -> list[_Plain | None]:
    """Envelopes of resources; None where one is odd, or might be our own output."""
    heads = [_plain_head(body) for body in bodies]
    if _may_be_ours(b"".join([head.meta.tag for head in heads if head is not None])):
        heads = [None if head is None or _may_be_ours(bytes(head.meta.tag)) else head for head in heads]
    return heads


def _plain_head(body: bytes) -> _Plain | None:
    try:
        return _decode_plain(body)
    except UNDECODABLE:
        return None


def _may_be_ours(tags: bytes) -> bool:
    return _OWN_SYSTEM in tags or _BACKSLASH in tags


def _are_ids(ids: list[str]) -> bool:
    """Whether all are ids; one that breaks the line would look like two."""
    text = "".join([f"{id_}\n" for id_ in ids])
    return text.count("\n") == len(ids) and _IDS.fullmatch(text) is not None


def _is_ours(tags: list[_Tag]) -> bool:
    for tag in tags:  # noqa: SIM110 - run for each resource, and `any` with a generator takes three times as long
        if tag.code == OWN_TAG_CODE and tag.system == OWN_TAG_SYSTEM:
            return True
    return False


def _whose(head: _Head, aliases: Mapping[str, str] | None) -> tuple[str | None, int]:
    """Key of the patient that a resource is about, and how many of its three references name one."""
    subject: str | None = None
    named = 0
    for part in (head.subject, head.patient, head.individual):
        if part is not None:
            key = subject_key(part.reference, aliases)
            if key is not None:
                named += 1
                subject = subject or key
    return subject, named
