"""Independent pieces of work spread over processes of this machine, and what a piece of work took."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self, TypeVar

from swiftbolt.errors import EnvironmentFault

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What work took; part of no result.

    Attributes:
        seconds: wall time.
        cpu_seconds: of all threads of its processes.
        peak_mb: highest resident memory of a process, in MB (10**6 bytes), with what it shares.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        """Both, one after the other: times add up, of the peaks the higher counts."""
        return Cost(
            seconds=self.seconds + other.seconds,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            peak_mb=max(self.peak_mb, other.peak_mb),
        )


NO_COST = Cost()


class Meter:
    """Measures the work of a ``with`` block of this process; meters do not nest.

    Attributes:
        cost: of the block, once it has ended.
    """

    cost: Cost = NO_COST

    def __enter__(self) -> Self:
        _forget_peak()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *exc: object) -> None:
        self.cost = Cost(
            seconds=time.perf_counter() - self._wall,
            cpu_seconds=time.process_time() - self._cpu,
            peak_mb=_peak_bytes() / 1e6,
        )


def _forget_peak() -> None:
    """Let the kernel begin anew; where it cannot, a peak is that of the process since its start."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_bytes() -> int:
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split(maxsplit=1)[0])
    except (OSError, IndexError):  # not Linux
        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return highest if sys.platform == "darwin" else 1024 * highest


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
