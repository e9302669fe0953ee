"""The write-back against a stub server: what is sent, what is not, and what each answer means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from fhir_adapter.errors import SourceRefused, WriteBackConflict, WriteBackRefused
from fhir_adapter.site import Site, Source
from fhir_adapter.writeback.submit import plan, retract, submit
from fhir_adapter.writeback.transport import WriteClient

TAG = {"system": "https://fhir-adapter.org/tags", "code": "output"}


def outputs() -> list[dict[str, Any]]:
    return [
        {"resourceType": "Group", "id": "fa-g", "meta": {"tag": [TAG]}, "type": "person", "actual": True},
        {
            "resourceType": "Provenance", "id": "fa-p", "meta": {"tag": [TAG]}, "recorded": "2022-01-01T00:00:00Z",
            "target": [{"reference": "Group/fa-g"}],
        },
    ]  # fmt: skip


class Store:
    """A FHIR server small enough to read: a dictionary, transactions, versions, and a switch for each misbehaviour."""

    def __init__(self, server: HTTPServer) -> None:
        self.held: dict[str, dict[str, Any]] = {}
        self.posts: list[dict[str, Any]] = []
        self.server = server
        self.status = 200
        self.spoil: dict[str, Any] = {}
        self.dropped: set[str] = set()
        self.base = server.url_for("/fhir")
        server.expect_request("/fhir", method="POST").respond_with_handler(self.post)
        server.expect_request(__import__("re").compile("/fhir/.+"), method="GET").respond_with_handler(
            self.get
        )

    def get(self, request: Request) -> Response:
        key = request.path.removeprefix("/fhir/")
        if key not in self.held:
            return Response('{"resourceType":"OperationOutcome"}', 404)
        return Response(json.dumps(self.held[key]), 200)

    def post(self, request: Request) -> Response:
        bundle = request.get_json(force=True)
        self.posts.append(bundle)
        if self.status != 200:
            body = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "conflict"}]}
            return Response(json.dumps(body), self.status)
        answers = []
        for entry in bundle["entry"]:
            key = entry["request"]["url"]
            if entry["request"]["method"] == "DELETE":
                del self.held[key]
                answers.append({"response": {"status": "204"}})
                continue
            if key in self.dropped:
                answers.append({"response": {"status": "201 Created"}})
                continue
            version = int(self.held.get(key, {}).get("meta", {}).get("versionId", 0)) + 1
            stored = entry["resource"] | self.spoil
            stored["meta"] = stored["meta"] | {"versionId": str(version)}
            self.held[key] = stored
            answers.append({"response": {"status": "201 Created" if version == 1 else "200 OK"}})
        return Response(
            json.dumps({"resourceType": "Bundle", "type": "transaction-response", "entry": answers}), 200
        )


@pytest.fixture
def store(httpserver: HTTPServer) -> Store:
    return Store(httpserver)


@pytest.fixture
def client(store: Store) -> WriteClient:
    site = Site(id="stub", source=Source(kind="rest", url=store.base))
    return WriteClient(site, store.base)


def test_a_first_run_creates_and_a_second_writes_nothing(store: Store, client: WriteClient) -> None:
    """The same results a second time make no request but reads, whatever the clock says."""
    first = submit(client, plan(client, outputs()), outputs())
    assert {"Group/fa-g": "create", "Provenance/fa-p": "create"} == first.actions
    again = outputs()
    again[1]["recorded"] = "2023-05-05T00:00:00Z"
    second = submit(client, plan(client, again), again)
    assert {"unchanged"} == set(second.actions.values())
    assert (1, 0) == (len(store.posts), second.written)


def test_a_changed_result_updates_it_and_its_provenance(store: Store, client: WriteClient) -> None:
    """Only what changed is sent, on the version that was read, with a new Provenance."""
    submit(client, plan(client, outputs()), outputs())
    changed = outputs()
    changed[0]["quantity"] = 3
    outcome = submit(client, plan(client, changed), changed)
    assert {"Group/fa-g": "update", "Provenance/fa-p": "update"} == outcome.actions
    assert ['W/"1"', 'W/"1"'] == [entry["request"]["ifMatch"] for entry in store.posts[1]["entry"]]


def test_what_is_not_ours_is_never_overwritten(store: Store, client: WriteClient) -> None:
    """A resource under our id without our tag stops the write-back before anything is sent."""
    store.held["Group/fa-g"] = {"resourceType": "Group", "id": "fa-g", "meta": {"versionId": "1"}}
    with pytest.raises(WriteBackConflict, match="not written by the adapter"):
        plan(client, outputs())
    assert [] == store.posts


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (409, WriteBackConflict),
        (412, WriteBackConflict),
        (422, WriteBackRefused),
        (500, WriteBackRefused),
        (403, SourceRefused),
    ],
)
def test_a_refusal_of_the_transaction_has_its_own_error(
    store: Store, client: WriteClient, status: int, error: type[Exception]
) -> None:
    """A conflict is 40, a refusal 41; the message carries the issue code and none of the server's text."""
    store.status = status
    with pytest.raises(error):
        submit(client, plan(client, outputs()), outputs())
    assert {} == store.held


def test_what_comes_back_different_is_a_conflict(store: Store, client: WriteClient) -> None:
    """A server that stores something else than it was sent is found out by the read-back."""
    store.spoil = {"language": "xx"}
    with pytest.raises(WriteBackConflict, match="comes back different in language"):
        submit(client, plan(client, outputs()), outputs())


def test_an_entry_that_is_dropped_silently_is_a_conflict(store: Store, client: WriteClient) -> None:
    """No two entries have one URL, by which a server may drop one; what it says to have stored and has not is found."""
    store.dropped = {"Group/fa-g"}
    with pytest.raises(WriteBackConflict, match="was written and is not there"):
        submit(client, plan(client, outputs()), outputs())
    requests = [entry["request"] for entry in store.posts[0]["entry"]]
    assert len({request["url"] for request in requests}) == len(requests)
    assert not [request for request in requests if "?" in request["url"] or "ifNoneExist" in request]


def test_retract_deletes_what_is_ours(store: Store, client: WriteClient) -> None:
    """The Provenance first, and an absent one is said to be absent."""
    submit(client, plan(client, outputs()), outputs())
    outcome = retract(client, ["Group/fa-g", "Provenance/fa-p", "Device/fa-d"])
    assert {"Group/fa-g": "deleted", "Provenance/fa-p": "deleted", "Device/fa-d": "absent"} == outcome
    assert {} == store.held
    assert ["Provenance/fa-p", "Group/fa-g"] == [
        entry["request"]["url"] for entry in store.posts[-1]["entry"]
    ]


def test_a_dry_run_plans_without_a_server() -> None:
    """Without a server everything would be created, and the transaction is there to be looked at."""
    outcome = plan(None, outputs())
    assert outcome.transaction is not None
    assert ["PUT", "PUT"] == [entry["request"]["method"] for entry in outcome.transaction["entry"]]


def test_write_is_sent_again_after_a_401_with_the_new_token(store: Store, tmp_path: Path) -> None:
    """A 401 did nothing, so a write with a renewed token is safe; the credential stays with its origin."""
    token = tmp_path / "token"
    token.write_text("zqcanary-old")
    seen: list[str] = []
    post = store.post

    def guarded(request: Request) -> Response:
        seen.append(request.headers["Authorization"])
        if len(seen) == 1:
            token.write_text("zqcanary-new")
            return Response("", 401)
        return post(request)

    store.server.clear()
    store.server.expect_request("/fhir", method="POST").respond_with_handler(guarded)
    site = Site.model_validate(
        {
            "id": "stub",
            "source": {"kind": "rest", "url": store.base},
            "auth": {"kind": "bearer", "token_file": token},
        }
    )
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": []}
    with WriteClient(site, store.base) as client:
        assert client.request("POST", "", body=json.dumps(bundle).encode()).status == 200
    assert seen == ["Bearer zqcanary-old", "Bearer zqcanary-new"]
