"""What a server states of itself (CapabilityStatement), held against what the plan, the views and the write-back need.

A statement may be wrong in both directions; `probes` asks. Statements are those of R4 and R5, whose elements used
here are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from fhir_adapter.check.report import Need, plain
from fhir_adapter.check.views import StudyView
from fhir_adapter.connectors.client import Client
from fhir_adapter.connectors.plan import PullPlan
from fhir_adapter.writeback.release import why_not_written

__all__ = ["OUTPUT_TYPES", "Statement", "read_statement", "stated_needs", "write_back_needs"]

#: Types that a write-back puts (docs/write-back.md).
OUTPUT_TYPES = ("Binary", "Device", "DiagnosticReport", "DocumentReference", "Group", "Provenance")

_JSON = {"json", "application/json", "application/fhir+json"}


class Statement(msgspec.Struct):
    """A CapabilityStatement, as far as it says something.

    Attributes:
        version: FHIR version.
        formats: as stated.
        system: interactions with the whole system.
        types: type → its entry.
    """

    version: str = ""
    formats: frozenset[str] = frozenset()
    system: frozenset[str] = frozenset()
    types: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)

    def interactions(self, type_: str) -> frozenset[str]:
        """Interactions stated for a type."""
        return _codes(self.types.get(type_, {}).get("interaction"))

    def parameters(self, type_: str) -> frozenset[str]:
        """Search parameters stated for a type."""
        items = self.types.get(type_, {}).get("searchParam")
        return frozenset(str(item.get("name")) for item in _dicts(items))


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _codes(value: Any) -> frozenset[str]:
    return frozenset(str(item.get("code")) for item in _dicts(value))


def read_statement(client: Client) -> Statement:
    """Reads `metadata`; `read_capability` has seen before that it is a CapabilityStatement.

    Raises:
        AdapterError: what `Client.get` raises.
    """
    answer = client.get(f"{client.base}/metadata")
    if answer.status != 200:
        raise client.unexpected(answer)
    tree: Any = msgspec.json.decode(answer.body)
    formats = tree.get("format")
    found = Statement(
        version=str(tree.get("fhirVersion") or "")[:20],
        formats=frozenset(str(item) for item in formats) if isinstance(formats, list) else frozenset(),
    )
    for rest in _dicts(tree.get("rest")):
        if rest.get("mode") not in {None, "server"}:
            continue
        found.system |= _codes(rest.get("interaction"))
        for item in _dicts(rest.get("resource")):
            found.types[str(item.get("type"))] = item
    return found


def _release(version: str, releases: Iterable[str]) -> bool:
    """Whether one of the releases that a view names is the server's; R4 (4.0) and R4B (4.3) are one for us."""
    family = "5." if version.startswith("5.") else "4."
    return any(release.startswith(family) for release in releases)


def _release_needs(statement: Statement, views: Sequence[StudyView]) -> Iterable[Need]:
    version = plain(statement.version, 20)
    yield Need(
        "server",
        "FHIR R4, R4B or R5",
        "supported" if version else "not stated",
        f"the server speaks {version}" if version else "the release is not stated; the views take it for R4",
    )
    if version:
        types = {item.view.resource for item in views}
        read = {item.view.resource for item in views if _release(version, item.releases)}
        for type_ in sorted(types - read):
            yield Need(
                type_,
                f"a view for {version}",
                "not stated",
                "no view of the study names this release: elements that moved since R4 are not seen",
            )


def stated_needs(statement: Statement, plan: PullPlan, views: Sequence[StudyView]) -> list[Need]:
    """What the statement says of the needs that no single query shows."""
    needs = list(_release_needs(statement, views))
    json = bool(statement.formats & _JSON)
    needs.append(
        Need(
            "server",
            "JSON",
            "supported" if json else "not stated",
            "resources are asked for as application/fhir+json and nothing else",
        )
    )
    types = [query.type for query in plan.per_subject] + list(plan.shared)
    for type_ in types:
        if not statement.types:
            break
        if type_ not in statement.types:
            needs.append(Need(type_, "the type", "not stated", "a run leaves the type out, with a finding"))
            continue
        interactions = statement.interactions(type_)
        for name, means in (
            ("search-type", "the run asks all the same"),
            ("read", "what a search no longer finds cannot be told from what was deleted"),
        ):
            if name not in interactions:
                needs.append(Need(type_, name, "not stated", means))
    unversioned = [
        type_
        for type_ in types
        if type_ in statement.types
        and statement.types[type_].get("versioning") not in {"versioned", "versioned-update"}
    ]
    if statement.types:
        needs.append(
            Need(
                "server",
                "versions of resources",
                "not stated" if unversioned else "supported",
                "sources are named without a version: " + ", ".join(unversioned)
                if unversioned
                else "rows name the version that they were made from",
            )
        )
        includes = any(item.get("searchInclude") for item in statement.types.values())
        reverse = any(item.get("searchRevInclude") for item in statement.types.values())
        for name, there in (("_include", includes), ("_revinclude", reverse)):
            needs.append(
                Need(
                    "server",
                    name,
                    "supported" if there else "not stated",
                    "not used: what resources refer to is asked for by `_id`",
                )
            )
    return needs


def write_back_needs(statement: Statement) -> list[Need]:
    """What the write-back needs of a server. It is not tried: a check writes nothing.

    Args:
        statement: of the server that takes the results.
    """
    why = why_not_written(statement.version)
    if why is not None:
        return [Need("write-back", "FHIR R4 or R4B", "refused", f"{plain(why)}; --write-back ends with 41")]
    needs = [
        Need(
            "write-back",
            "FHIR R4 or R4B",
            "supported" if statement.version else "not stated",
            "results are R4",
        ),
        Need(
            "write-back",
            "transaction",
            "supported" if "transaction" in statement.system else "not stated",
            "all results are written in one transaction, or none",
        ),
    ]
    for type_ in OUTPUT_TYPES:
        missing = sorted({"read", "update"} - statement.interactions(type_))
        needs.append(
            Need(
                "write-back",
                f"{type_}: read, update",
                "not stated" if missing else "supported",
                f"not stated: {', '.join(missing)}" if missing else "it is put, and read back",
            )
        )
    creates = all(statement.types.get(type_, {}).get("updateCreate") is True for type_ in OUTPUT_TYPES)
    needs.append(
        Need(
            "write-back",
            "create by update",
            "supported" if creates else "not stated",
            "results are put under ids of ours; servers of HAPI allow it without stating it",
        )
    )
    conditional = [
        type_ for type_ in OUTPUT_TYPES if statement.types.get(type_, {}).get("conditionalUpdate") is True
    ]
    needs.append(
        Need(
            "write-back",
            "conditional update",
            "supported" if len(conditional) == len(OUTPUT_TYPES) else "not stated",
            "not used: updates go to an id of ours and carry the version that was read",
        )
    )
    return needs
