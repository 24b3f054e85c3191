"""A retrain's progress live in a terminal: a bar for each stage, the last failures, the CPUs at work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self, TextIO

import ray
import ray.exceptions
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluster.tally import Clock, Tally

FAILURES_SHOWN = 5
CPUS_ASKED_S = 2.0


def is_live(stream: TextIO) -> bool:
    """Whether a view can move on ``stream``."""
    return stream.isatty() and not Console(file=stream, force_terminal=True).is_dumb_terminal


class LiveView:
    """``View`` that keeps a few lines at the foot of the terminal up to date; what is written appears above them.

    Args:
        busy: asked every few seconds for a line about the workers, in a thread of its own: a cluster may not answer.
    """

    def __init__(
        self, stream: TextIO, busy: Callable[[], str | None] | None = None, clock: Clock = time.monotonic
    ) -> None:
        self._clock, self._busy = clock, busy or cpus_at_work
        self._tallies: dict[str, Tally] = {}
        self._failures: tuple[str, ...] = ()
        self._workers: str | None = None
        self._is_over = threading.Event()
        self._console = Console(file=stream, force_terminal=True, highlight=False)
        self._live = Live(console=self._console, get_renderable=self._shown)

    def __enter__(self) -> Self:
        self._workers = self._busy()
        self._live.start()
        threading.Thread(target=self._ask_workers, name="workers-busy", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._live.stop()

    def write(self, line: str) -> None:
        """A line that stays, above the view."""
        self._console.print(Text(line), soft_wrap=True)

    def planned(self, tally: Tally) -> None:
        """See ``View``."""
        self._tallies[tally.stage] = tally
        self._live.refresh()

    def ended(self, tally: Tally, piece: str, failure: str | None) -> None:
        """See ``View``."""
        if failure is not None:
            self._failures = (*self._failures, f"{piece}: {failure}")[-FAILURES_SHOWN:]

    def _ask_workers(self) -> None:
        while not self._is_over.wait(CPUS_ASKED_S):
            self._workers = self._busy()

    def _shown(self) -> RenderableType:
        now = self._clock()
        parts: list[RenderableType] = []
        for tally in list(self._tallies.values()):
            if not tally.is_over:
                parts.append(_bar(tally))
            parts.append(Text(f"{tally.stage}: {tally.text(now)}", style="dim" if tally.is_over else ""))
        parts += [
            Text(f"failed: {failure}", style="red", no_wrap=True, overflow="ellipsis") for failure in self._failures
        ]
        if self._workers is not None and not self._is_over.is_set():
            parts.append(Text(self._workers, style="dim"))
        return Group(*parts)


def _bar(tally: Tally) -> Table:
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column()
    row.add_column(ratio=1)
    row.add_column(justify="right")
    bar = ProgressBar(total=max(tally.total, 1), completed=tally.done)
    row.add_row(tally.stage, bar, f"{tally.done / max(tally.total, 1):.0%}")
    return row


def cpus_at_work() -> str | None:
    """How many of the cluster's CPUs are taken; None while it does not say."""
    if not ray.is_initialized():
        return None
    try:
        held: float = ray.cluster_resources().get("CPU", 0)  # type: ignore[no-untyped-call]
        free: float = ray.available_resources().get("CPU", 0)  # type: ignore[no-untyped-call]
    except ray.exceptions.RayError:  # its head is gone, or was left just now
        return None
    return f"{held - free:g} of {held:g} CPUs at work"
