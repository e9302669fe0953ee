"""What a server says of itself: its CapabilityStatement, as far as a pull needs it."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from fhir_adapter.connectors.client import Client
from fhir_adapter.connectors.plan import SubjectQuery
from fhir_adapter.errors import SourceNotFhir, SourceRefused
from fhir_adapter.undecodable import UNDECODABLE

__all__ = ["Capability", "read_capability"]

_ALTERNATIVES = {
    "patient": ("subject",),
    "subject": ("patient",),
    "individual": ("subject", "patient"),
    "_id": (),
}


class Capability(msgspec.Struct, frozen=True):
    """What a server supports.

    Attributes:
        software: name and version of the server, FHIR version; for the manifest.
        exports: whether it names the operation `$export`, at any level.
        types: search parameters by resource type; empty if the statement lists none.
    """

    software: dict[str, str]
    types: dict[str, frozenset[str]]
    exports: bool = False

    def supports(self, type_: str) -> bool:
        """Whether a type can be searched; True if the statement does not say."""
        return not self.types or type_ in self.types

    def parameter(self, query: SubjectQuery) -> str:
        """The parameter by which this server finds the resources of a patient."""
        known = self.types.get(query.type, frozenset())
        if (
            not known
            and query.parameter == "individual"
            and self.software.get("fhir_version", "")[:2] == "5."
        ):
            return "subject"  # R5's name
        if not known or query.parameter in known:
            return query.parameter
        return next(
            (name for name in _ALTERNATIVES.get(query.parameter, ()) if name in known), query.parameter
        )


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _exports(part: dict[str, Any]) -> bool:
    return any(
        str(item.get("name") or "").lstrip("$") in {"export", "patient-export", "group-export"}
        for item in _dicts(part.get("operation"))
    )


def read_capability(client: Client) -> Capability:
    """Reads `metadata`.

    Raises:
        SourceRefused: there is nothing at the base URL (404).
        SourceNotFhir: what answers is not a FHIR server, or one of another FHIR version than R4, R4B, R5.
        AdapterError: what `Client.get` raises.
    """
    answer = client.get(f"{client.base}/metadata")
    if answer.status in {404, 410}:
        raise SourceRefused(
            f"there is nothing at the base URL ({answer.status})",
            where=f"{client.base}/metadata",
            remedy="Is `source.url` the FHIR base URL?",
        )
    if answer.status != 200:
        raise client.unexpected(answer)
    try:
        tree: Any = msgspec.json.decode(answer.body)
    except UNDECODABLE as error:
        raise SourceNotFhir(
            "the statement of the server is not JSON", where=f"{client.base}/metadata"
        ) from error
    if tree.get("resourceType") != "CapabilityStatement":
        raise SourceNotFhir(
            "the server's statement is no CapabilityStatement", where=f"{client.base}/metadata"
        )
    version = str(tree.get("fhirVersion") or "")
    if version and not version.startswith(("4.0", "4.1", "4.3", "5.")):
        raise SourceNotFhir(
            f"the server speaks FHIR {re.sub(r'[^0-9.]', '?', version[:20])}, not R4, R4B or R5",
            where=client.base,
        )
    software = tree.get("software") if isinstance(tree.get("software"), dict) else {}
    stated = {"name": software.get("name"), "version": software.get("version"), "fhir_version": version}
    types: dict[str, frozenset[str]] = {}
    exports = False
    for rest in _dicts(tree.get("rest")):
        exports = exports or _exports(rest)
        for resource in _dicts(rest.get("resource")):
            exports = exports or _exports(resource)
            names = frozenset(str(item.get("name")) for item in _dicts(resource.get("searchParam")))
            types[str(resource.get("type"))] = names
    return Capability({name: str(value)[:100] for name, value in stated.items() if value}, types, exports)
