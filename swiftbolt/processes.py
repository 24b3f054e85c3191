"""Independent pieces of work spread over processes of this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from swiftbolt.errors import EnvironmentFault

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")


def spread(
    work: Callable[[Shared, Task], Result],
    shared: Shared,
    tasks: Sequence[Task],
    *,
    workers: int,
    on_done: Callable[[Task, Result], None],
) -> list[Result]:
    """``work(shared, task)`` for every task, in the order of ``tasks``.

    Processes are spawned, not forked: forking under polars' threads can deadlock.

    Args:
        work: a function of a module, so that other processes find it.
        shared: sent to each process once.
        on_done: called here as each piece ends, in whatever order that is.

    Raises:
        EnvironmentFault: a process was killed from outside.
    """
    results: dict[int, Result] = {}
    with ProcessPoolExecutor(
        min(workers, max(len(tasks), 1)), mp_context=get_context("spawn"), initializer=_receive, initargs=(work, shared)
    ) as pool:
        waiting = {pool.submit(_work_on, task): position for position, task in enumerate(tasks)}
        try:
            for future in as_completed(waiting):
                position = waiting[future]
                results[position] = future.result()
                on_done(tasks[position], results[position])
        except BrokenProcessPool as exc:
            raise EnvironmentFault(
                f"one of {workers} worker processes was killed, most likely for want of memory: "
                "run again with fewer, by --set workers=1"
            ) from exc
        except BaseException:
            # Leaving the pool waits for all that is queued: an interrupt would be obeyed hours later.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [results[position] for position in range(len(tasks))]


_received: dict[str, Any] = {}


def _receive(work: Callable[[Any, Any], Any], shared: Any) -> None:
    _received["work"], _received["shared"] = work, shared


def _work_on(task: Any) -> Any:
    return _received["work"](_received["shared"], task)
