"""The local engine: partitions of subjects, mapped in this process or shared by several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from fhir_adapter.engines.partition import Part, Plan, map_partition
from fhir_adapter.engines.processes import in_order
from fhir_adapter.mapping.domains.context import RawResource

__all__ = ["map_locally", "processes_for"]

#: A partition with fewer resources is mapped sooner than a further process has begun.
WORTH_A_PROCESS = 40_000
#: What a process maps by, set once by `_begin`.
_AT_WORK: dict[str, tuple[Sequence[RawResource], Plan]] = {}


def processes_for(resources: int) -> int:
    """How many processes a number of resources is worth, at most the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, resources // WORTH_A_PROCESS))


def _begin(shared: Sequence[RawResource], plan: Plan) -> None:
    _AT_WORK["shared"] = (shared, plan)


def _work(partition: Sequence[RawResource]) -> Part:
    return map_partition(partition, *_AT_WORK["shared"])


def map_locally(
    partitions: Iterable[Sequence[RawResource]],
    shared: Sequence[RawResource],
    plan: Plan,
    *,
    processes: int = 1,
) -> list[Part]:
    """Maps partitions of subjects.

    Args:
        partitions: each holds all resources of its subjects.
        shared: resources of no subject.
        plan: what to map by.
        processes: how many processes share the work; 1 is this one.

    Returns:
        One part per partition, in their order.
    """
    return list(in_order(_work, partitions, processes, start=_begin, given=(shared, plan)))
