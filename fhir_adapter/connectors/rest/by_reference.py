"""Types by reference: shared resources (Medication, Organization …) that what has landed refers to."""

from __future__ import annotations

from fhir_adapter.connectors.rest.capability import Capability
from fhir_adapter.connectors.rest.pulling import Pulling, chunks
from fhir_adapter.connectors.rest.searches import LinkTooLong, Search

__all__ = ["ByReference"]

_IDS_PER_QUERY = 50
#: Most references of references that are followed.
_DEPTH = 5
#: Most references of a type that are read one by one in a pull, where a search by id finds nothing.
_MOST_READS = 1000


class ByReference:
    """Pulls the types of a plan that are found by reference.

    Args:
        pulling: the pull.
    """

    def __init__(self, pulling: Pulling) -> None:
        self._pulling = pulling
        self._reads: dict[str, int] = {}

    def pull(self, capability: Capability) -> None:
        """Brings what is referred to, and what that refers to.

        Args:
            capability: of the server.

        Raises:
            AdapterError: what a search raises.
        """
        types = [type_ for type_ in self._pulling.plan.shared if capability.supports(type_)]
        for type_ in sorted(set(self._pulling.plan.shared) - set(types)):
            self._pulling.report.find("type-not-supported", f"the server does not offer {type_}")
        asked: set[tuple[str, str]] = set()
        # What is known is asked for anew: a Medication that changes changes no resource of a patient.
        wanted = [(type_, id_) for type_ in types for id_ in sorted(self._pulling.landing.known(type_))]
        for _ in range(_DEPTH):
            wanted += self._pulling.landing.missing_references(types)
            wanted = [item for item in dict.fromkeys(wanted) if item not in asked]
            if not wanted:
                break
            asked.update(wanted)
            for type_ in types:
                for ids in chunks([id_ for name, id_ in wanted if name == type_], _IDS_PER_QUERY):
                    self._shared(type_, ids)
            wanted = []
        for type_, _ in self._pulling.landing.missing_references(types):
            self._pulling.report.find(
                "reference-without-resource", f"a reference to {type_} leads to nothing on the server"
            )

    def _shared(self, type_: str, ids: tuple[str, ...]) -> None:
        try:
            items, _ = self._pulling.search(Search(type_, (("_id", ",".join(ids)),), f"{type_}?_id"))
        except LinkTooLong:
            if len(ids) == 1:
                raise
            self._pulling.link_too_long(type_)
            self._shared(type_, ids[: len(ids) // 2])
            self._shared(type_, ids[len(ids) // 2 :])
            return
        # A page may come short, and not every server counts: what a search by id does not find is read by its id.
        lost = set(ids) - {item.id for item in items if item.type == type_}
        known = self._pulling.landing.known(type_) & lost
        self._pulling.settle_lost(type_, known)
        # Where references lead nowhere by the thousand, reading each in every pull would cost more than it finds.
        left = max(0, _MOST_READS - self._reads.get(type_, 0))
        new = sorted(lost - known)[:left]
        self._reads[type_] = self._reads.get(type_, 0) + len(new)
        self._pulling.settle_lost(type_, new)
