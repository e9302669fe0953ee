"""Arrivals of a page: made together, they are what each is alone."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_adapter.arrivals import OWN_TAG_CODE, OWN_TAG_SYSTEM, Arrival, arrival, arrivals

BASE = "http://server/fhir"


_ODD = st.sampled_from([None, 7, "", [], {}, "a\nb", "x" * 200, ".."])
_REFERENCE = st.sampled_from(
    [
        {"reference": "Patient/p"}, {"reference": "Patient/q"}, {"reference": "Group/g"},
        {"reference": f"{BASE}/Patient/p/_history/3"}, {"reference": "urn:uuid:1"},
        {"reference": "Encounter/e"}, {"reference": f"{BASE}/Encounter/e"},
        {"reference": "http://other/Encounter/e"}, {"reference": "#contained"}, {"reference": None},
        {"reference": "Patient/p", "identifier": {"assigner": {"reference": "Organization/o"}}},
        {"display": "nobody"}, None, 3,
    ]
)  # fmt: skip
_TAGS = st.sampled_from(
    [
        [{"system": OWN_TAG_SYSTEM, "code": OWN_TAG_CODE}], [{"system": OWN_TAG_SYSTEM}, {"code": OWN_TAG_CODE}],
        [{"system": "urn:x", "code": "HTEST"}, {"system": OWN_TAG_SYSTEM, "code": OWN_TAG_CODE}], [], ["text"], "text",
    ]
)  # fmt: skip
#: A change to a resource that is as most are: where, and what stands there then.
_CHANGE = st.one_of(
    st.tuples(st.sampled_from(["resourceType", "id", "meta", "versionId", "lastUpdated"]), _ODD),
    st.tuples(st.sampled_from(["resourceType"]), st.sampled_from(["Patient", "Condition", "x"])),
    st.tuples(st.sampled_from(["subject", "patient", "individual", "encounter", "basedOn"]), _REFERENCE),
    st.tuples(st.just("tag"), _TAGS),
)


def body(changes: list[tuple[str, Any]], visit: bool, indent: int | None, escaped: bool) -> bytes:
    """A resource with some changes, as JSON."""
    meta: dict[str, Any] = {"versionId": "1", "lastUpdated": "2024-05-01T12:00:00Z"}
    resource: dict[str, Any] = {"resourceType": "Observation", "id": "o", "meta": meta}
    resource["subject"] = {"reference": "Patient/p"}
    if visit:
        resource["encounter"] = {"reference": "Encounter/v"}
    for name, value in changes:
        (meta if name in {"versionId", "lastUpdated", "tag"} else resource)[name] = value
    text = json.dumps(resource, indent=indent)
    return (text.replace("/", "\\/") if escaped else text).encode()


_BODY = st.builds(
    body, st.lists(_CHANGE, max_size=2), st.booleans(), st.sampled_from([None, None, None, 1]), st.booleans()
)
_NONE = st.sampled_from([b"null", b"[]", b"{", b'"text"', b"\xff"])


def with_digest(item: Arrival) -> Arrival:
    """The arrival with the SHA-256 that the landing computes where there is none."""
    return msgspec.structs.replace(
        item, sha256=item.sha256 or (item.body and hashlib.sha256(item.body).digest())
    )


@settings(max_examples=2000)
@given(
    bodies=st.lists(st.one_of(_BODY, _BODY, _BODY, _BODY, _NONE), max_size=3),
    type_=st.sampled_from(["Observation", "Observation", "Observation", "Patient", "x"]),
)
def test_a_page_is_its_resources(bodies: list[bytes], type_: str) -> None:
    """Whatever stands in a page, each arrival is what `arrival` makes of that resource."""
    found = arrivals(bodies, type_=type_, origin="search", base=BASE)
    assert [with_digest(item) for item in found] == [
        arrival(body, origin="search", base=BASE) for body in bodies
    ]
