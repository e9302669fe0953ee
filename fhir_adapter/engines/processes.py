"""A pool of processes that works off a stream in order, with a bounded number of tasks under way."""

from __future__ import annotations

import multiprocessing
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar, TypeVarTuple

__all__ = ["in_order"]

Task = TypeVar("Task")
Answer = TypeVar("Answer")
Given = TypeVarTuple("Given")

#: Tasks under way for each process: enough that none waits, few enough that memory stays flat.
_AHEAD = 2


def in_order(
    function: Callable[[Task], Answer],
    tasks: Iterable[Task],
    processes: int,
    *,
    start: Callable[[*Given], None],
    given: tuple[*Given],
) -> Iterator[Answer]:
    """The answers to tasks, in the order of the tasks.

    Args:
        function: works off one task; a function of a module, since it is named to the other processes.
        tasks: read as they are needed, never all at once.
        processes: how many processes work; 1 is this one.
        start: called once in each process with `given`, before the first task.
        given: what `start` gets.

    Yields:
        One answer for each task. What a task raises is raised here, and no further task is begun.
    """
    if processes <= 1:
        start(*given)
        yield from map(function, tasks)
        return
    # A fork has all that is imported and begins at once; but not of a process with threads, whose locks it would copy.
    alone = threading.active_count() == 1 and "fork" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if alone else "spawn")
    with ProcessPoolExecutor(processes, context, initializer=start, initargs=given) as pool:
        under_way: deque[Future[Answer]] = deque()
        try:
            for task in tasks:
                under_way.append(pool.submit(function, task))
                if len(under_way) >= processes * _AHEAD:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
