"""The local engine: partitions mapped one after the other in this process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fhir_adapter.engines.partition import Part, Plan, map_partition
from fhir_adapter.mapping.domains.context import RawResource

__all__ = ["map_locally"]


def map_locally(
    partitions: Iterable[Sequence[RawResource]], shared: Sequence[RawResource], plan: Plan
) -> list[Part]:
    """Maps partitions of subjects in this process.

    Args:
        partitions: each holds all resources of its subjects.
        shared: resources of no subject.
        plan: what to map by.

    Returns:
        One part per partition, in their order.
    """
    return [map_partition(partition, shared, plan) for partition in partitions]
