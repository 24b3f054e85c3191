"""A retrain's progress as Prometheus gauges, on the metrics port of the node its driver runs on."""

from __future__ import annotations

import time
from collections.abc import Callable

import ray
from ray.util.metrics import Gauge

from cluster.tally import Clock, Pace, Tally

UPDATE_SECONDS = 1.0


class RunGauges:
    """``View`` of one run; Ray exports each name with ``ray_`` before it. Without Ray it does nothing.

    Args:
        wall: seconds since 1970, for the time of the last progress alone.
    """

    def __init__(self, run: str, *, clock: Clock = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._run = {"run": run}
        self._clock, self._wall = clock, wall
        self._started = clock()
        self._pace = Pace(UPDATE_SECONDS, clock)
        self._tallies: dict[str, Tally] = {}
        self._units = Gauge(
            "swiftbolt_retrain_units", "Fits of a stage that wait, are done or failed.", ("run", "stage", "state")
        )
        self._failed_symbols = Gauge("swiftbolt_retrain_failed_symbols", "Symbols with a failed fit.", ("run",))
        self._seconds = Gauge(
            "swiftbolt_retrain_seconds", "Seconds from the start of the run's driver to its last progress.", ("run",)
        )
        self._last_progress = Gauge(
            "swiftbolt_retrain_last_progress_timestamp_seconds",
            "When a fit last ended, in seconds since 1970.",
            ("run",),
        )

    def planned(self, tally: Tally) -> None:
        """See ``View``."""
        self._tallies[tally.stage] = tally
        self._update(in_any_case=True)

    def ended(self, tally: Tally, piece: str, failure: str | None) -> None:
        """See ``View``."""
        self._update(in_any_case=tally.is_over)

    def _update(self, in_any_case: bool) -> None:
        if not ray.is_initialized() or not self._pace.lets(in_any_case):
            return
        for tally in self._tallies.values():
            counts = {
                "waiting": tally.total - tally.done,
                "done": tally.done - tally.failed,
                "failed": tally.failed,
            }
            for state, count in counts.items():
                self._units.set(count, {**self._run, "stage": tally.stage, "state": state})
        failed = set[str]().union(*(tally.failed_symbols for tally in self._tallies.values()))
        self._failed_symbols.set(len(failed), self._run)
        self._seconds.set(self._clock() - self._started, self._run)
        self._last_progress.set(self._wall(), self._run)
