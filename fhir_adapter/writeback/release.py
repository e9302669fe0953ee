"""Which FHIR releases are written to: R4 and R4B. Reading R5 is another matter; its resources have other shapes.

What is written (Group, DocumentReference, Provenance, Device) has the elements of R4. R5 renamed or rebuilt several
of them (`Group.actual`, `DocumentReference.context`, `Device.deviceName`), and a server that is not told to validate
drops what it does not know without a word. So a server of R5 is refused before anything is sent.
"""

from __future__ import annotations

from fhir_adapter.connectors.client import Client
from fhir_adapter.connectors.rest.capability import read_capability
from fhir_adapter.errors import WriteBackRefused

__all__ = ["refuse_release", "why_not_written"]


def why_not_written(version: str) -> str | None:
    """Why a server of a FHIR version is not written to; None where it is.

    Args:
        version: `CapabilityStatement.fhirVersion`; empty where the server does not say, which is no reason.
    """
    if not version or version.startswith("4."):
        return None
    return f"the server speaks FHIR {version[:20]}, and results are written as R4 only"


def refuse_release(client: Client) -> None:
    """Asks the server for its release before anything is written.

    Raises:
        WriteBackRefused: it is neither R4 nor R4B.
        AdapterError: what `read_capability` raises.
    """
    why = why_not_written(read_capability(client).software.get("fhir_version", ""))
    if why is not None:
        raise WriteBackRefused(
            why,
            where=client.base,
            remedy="Name a server of R4 or R4B in `write_back.url`, or use --dry-run.",
        )
