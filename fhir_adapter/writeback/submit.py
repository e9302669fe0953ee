"""Writing back: read what the server has under our identities, send one transaction, read it back.

A resource that is there unchanged is not sent: a second run with the same results writes nothing. A resource under
our id that does not carry our tag is not ours and is never overwritten. Writes are conditional on the version that
was read (`ifMatch`), so that nobody's change in between is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from fhir_adapter.errors import WriteBackConflict, WriteBackRefused
from fhir_adapter.own import OWN_TAG_CODE, OWN_TAG_SYSTEM
from fhir_adapter.writeback.compare import differences

__all__ = ["Answer", "Client", "WriteBack", "plan", "retract", "submit"]


class Answer(Protocol):
    """An HTTP answer: status and body."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def body(self) -> bytes:
        """Body, within the site's size limit."""


class Client(Protocol):
    """What the write-back needs of a connection to a FHIR server."""

    base: str

    def request(self, method: str, path: str, *, body: bytes | None = None) -> Answer:
        """Sends one request below the base and gives back whatever status the server answers.

        Raises:
            SourceUnreachable: no answer, or server errors that last.
            SourceRefused: 401 or 403.
        """


@dataclass
class WriteBack:
    """What happened: actions by resource, the transaction, the server's answers, the read-back."""

    actions: dict[str, str] = field(default_factory=dict)
    transaction: dict[str, Any] | None = None
    answers: list[dict[str, str]] = field(default_factory=list)
    read_back: dict[str, str] = field(default_factory=dict)

    @property
    def written(self) -> int:
        """Number of resources that were created or updated."""
        return sum(action in {"create", "update"} for action in self.actions.values())

    def as_data(self) -> dict[str, Any]:
        """The content of `writeback.json`."""
        return {
            "actions": self.actions,
            "transaction": self.transaction,
            "answers": self.answers,
            "readBack": self.read_back,
        }


def _key(resource: Mapping[str, Any]) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def _is_ours(resource: Mapping[str, Any]) -> bool:
    tags = resource.get("meta", {}).get("tag", [])
    return any(tag.get("system") == OWN_TAG_SYSTEM and tag.get("code") == OWN_TAG_CODE for tag in tags)


def _read(client: Client, key: str) -> dict[str, Any] | None:
    answer = client.request("GET", key)
    if answer.status in {404, 410}:
        return None
    if answer.status != 200:
        raise WriteBackRefused(
            f"the server answers {answer.status} to reading {key}",
            where=client.base,
            remedy="Allow the adapter to read what it writes.",
        )
    try:
        found = msgspec.json.decode(answer.body)
    except msgspec.DecodeError as error:
        raise WriteBackConflict(
            f"{key} comes back as something that is not JSON", where=client.base
        ) from error
    if not isinstance(found, dict) or found.get("resourceType") != key.partition("/")[0]:
        raise WriteBackConflict(f"{key} comes back as another type of resource", where=client.base)
    return found


def _entry(resource: dict[str, Any], version: str | None) -> dict[str, Any]:
    request = {"method": "PUT", "url": _key(resource)}
    if version is not None:
        request["ifMatch"] = f'W/"{version}"'
    return {
        "fullUrl": f"urn:uuid:{resource['id'].removeprefix('fa-')}",
        "resource": resource,
        "request": request,
    }


def plan(client: Client | None, resources: Sequence[dict[str, Any]]) -> WriteBack:
    """Decides what would be written, and builds the transaction; nothing is sent.

    Args:
        client: the server, or None for a dry run into a folder: then everything would be created.
        resources: what `build_resources` made.

    Raises:
        WriteBackConflict: something that is not ours stands under an id of ours.
    """
    outcome = WriteBack()
    entries: list[dict[str, Any]] = []
    last: dict[str, Any] | None = None
    for resource in resources:
        key = _key(resource)
        found = None if client is None else _read(client, key)
        if found is None:
            action = "create"
        elif not _is_ours(found):
            raise WriteBackConflict(
                f"{key} exists and was not written by the adapter",
                where=client.base if client else "",
                remedy="Find out who wrote it; the adapter does not overwrite what is not its own.",
            )
        else:
            changed = differences(resource, found, client.base if client else "")
            action = "update" if changed else "unchanged"
        outcome.actions[key] = action
        version = None if found is None else str(found.get("meta", {}).get("versionId", "")) or None
        if resource["resourceType"] == "Provenance":
            last = _entry(resource, version)
        elif action != "unchanged":
            entries.append(_entry(resource, version))
    if last is not None and (entries or outcome.actions[_key(last["resource"])] != "unchanged"):
        entries.append(last)
        if outcome.actions[_key(last["resource"])] == "unchanged":
            outcome.actions[_key(last["resource"])] = "update"  # a new write has a new provenance
    if entries:
        outcome.transaction = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    return outcome


def _outcome_codes(body: bytes) -> str:
    """Issue codes of an OperationOutcome; its texts may quote data and are left out of messages."""
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return "no OperationOutcome"
    issues = found.get("issue", []) if isinstance(found, dict) else []
    codes = sorted({str(item.get("code", "?")) for item in issues if isinstance(item, dict)})
    return ", ".join(codes) or "no OperationOutcome"


def _send(client: Client, bundle: dict[str, Any]) -> list[dict[str, str]]:
    answer = client.request("POST", "", body=msgspec.json.encode(bundle))
    if answer.status in {409, 412}:
        raise WriteBackConflict(
            f"the server answers {answer.status} ({_outcome_codes(answer.body)}) to the transaction",
            where=client.base,
            remedy="Somebody changed an output since it was read; run the write-back again.",
        )
    if answer.status != 200:
        raise WriteBackRefused(
            f"the server answers {answer.status} ({_outcome_codes(answer.body)}); nothing was written",
            where=client.base,
            remedy="See the server's log; the transaction stands in writeback.json.",
        )
    try:
        found = msgspec.json.decode(answer.body)
        entries = [item["response"] for item in found["entry"]]
        answers = [
            {"status": str(item["status"]), "location": str(item.get("location", ""))} for item in entries
        ]
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise WriteBackConflict(
            "the answer to the transaction is not a transaction-response", where=client.base
        ) from error
    wrong = [item["status"] for item in answers if not item["status"].startswith(("200", "201", "204"))]
    if wrong or len(answers) != len(bundle["entry"]):
        raise WriteBackConflict(
            f"the transaction has {len(bundle['entry'])} entries, the server answered {len(answers)}"
            + (f" with {', '.join(wrong)}" if wrong else ""),
            where=client.base,
        )
    return answers


def submit(client: Client, planned: WriteBack, resources: Sequence[dict[str, Any]]) -> WriteBack:
    """Sends the transaction of a plan, if there is one, and reads everything back.

    Raises:
        WriteBackConflict: a version conflict, or a resource that comes back different.
        WriteBackRefused: the server does not accept the transaction.
    """
    if planned.transaction is not None:
        planned.answers = _send(client, planned.transaction)
    for resource in resources:
        key = _key(resource)
        found = _read(client, key)
        if found is None:
            raise WriteBackConflict(f"{key} was written and is not there", where=client.base)
        wrong = differences(resource, found, client.base)
        if wrong:
            raise WriteBackConflict(
                f"{key} comes back different in {', '.join(wrong)}",
                where=client.base,
                remedy="The server changes what it stores; see docs/write-back.md for what is allowed for.",
            )
        planned.read_back[key] = str(found.get("meta", {}).get("versionId", ""))
    return planned


def retract(client: Client, keys: Sequence[str]) -> dict[str, str]:
    """Deletes outputs in one transaction, the Provenance first; what is not ours, or not there, stays.

    Args:
        client: the server.
        keys: `Type/id` of outputs.

    Returns:
        `deleted`, `absent` by key.

    Raises:
        WriteBackConflict: something under an id of ours is not ours.
    """
    outcome: dict[str, str] = {}
    present = []
    for key in keys:
        found = _read(client, key)
        if found is None:
            outcome[key] = "absent"
        elif _is_ours(found):
            present.append(key)
            outcome[key] = "deleted"
        else:
            raise WriteBackConflict(f"{key} exists and was not written by the adapter", where=client.base)
    if present:
        ordered = sorted(present, key=lambda key: not key.startswith("Provenance/"))
        entries = [{"request": {"method": "DELETE", "url": key}} for key in ordered]
        _send(client, {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    return outcome
