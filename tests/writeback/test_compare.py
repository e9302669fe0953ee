"""What a server may change in what it stores, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_adapter.writeback.compare import differences

BASE = "https://fhir.example/r4"
TAG = {"system": "https://fhir-adapter.org/tags", "code": "output"}
SENT: dict[str, Any] = {
    "resourceType": "DocumentReference",
    "id": "fa-1",
    "meta": {"tag": [TAG]},
    "status": "current",
    "subject": {"reference": "Group/fa-2"},
    "content": [{"attachment": {"contentType": "text/html", "url": "Binary/fa-3"}}],
}


def found(**changes: Any) -> dict[str, Any]:
    return SENT | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"meta": {"versionId": "3", "lastUpdated": "2022-01-01T00:00:00Z", "source": "#x", "tag": [TAG]}},
        {"meta": {"tag": [{"system": "urn:other", "code": "x"}, TAG]}},
        {"text": {"status": "generated", "div": "<div/>"}},
        {"subject": {"reference": f"{BASE}/Group/fa-2/_history/4", "display": "Group"}},
        {"content": [{"attachment": {"contentType": "text/html", "url": f"{BASE}/Binary/fa-3"}}]},
    ],
)
def test_what_servers_normalise_is_no_difference(changes: dict[str, Any]) -> None:
    """Versions, narratives, merged tags and absolute references to the server itself."""
    assert [] == differences(SENT, found(**changes), BASE)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "superseded"}, ["status"]),
        ({"subject": {"reference": "https://other.example/Group/fa-2"}}, ["subject"]),
        ({"meta": {}}, ["meta.tag"]),
        ({"description": "added"}, ["description"]),
        ({"content": []}, ["content"]),
    ],
)
def test_any_other_change_is_named(changes: dict[str, Any], expected: list[str]) -> None:
    """A changed, added or lost element is named."""
    assert expected == differences(SENT, found(**changes), BASE)


def test_the_instant_of_a_provenance_is_not_content() -> None:
    """A second run at another time has nothing to write."""
    sent = {
        "resourceType": "Provenance",
        "id": "fa-9",
        "recorded": "2022-01-01T00:00:00Z",
        "meta": {"tag": [TAG]},
    }
    assert [] == differences(sent, sent | {"recorded": "2023-01-01T00:00:00Z"}, BASE)
