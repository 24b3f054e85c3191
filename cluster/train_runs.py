"""What every run of Ray Train needs from its driver, whatever it trains."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import ray

# Ray Train reads these in the driver and hands them to its controller. A finished worker is noticed sooner than after
# the usual two seconds; on one machine there is no node whose withdrawal could be foreseen.
_ENVIRONMENT = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
_ONE_NODE_ENVIRONMENT = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}


def set_environment() -> None:
    """Set what Ray Train reads; what the user has set stays."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    for name, value in (_ENVIRONMENT | (_ONE_NODE_ENVIRONMENT if len(nodes) == 1 else {})).items():
        os.environ.setdefault(name, value)


def in_background(work: Callable[[], Any]) -> Future[Any]:
    """Run ``work`` in a daemon thread: an interrupt reaches the caller at once, and Ray's own handler of
    interrupts, which it installs for good on the main thread, stays out."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as exc:  # noqa: BLE001 - handed to the caller by future.result()
            future.set_exception(exc)

    threading.Thread(target=run, name="ray-train", daemon=True).start()
    return future
