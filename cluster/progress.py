"""Progress of a retrain: live in a terminal, and in lines that read well in a job's log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from cluster.live_view import LiveView, is_live
from cluster.run_records import Line
from cluster.tally import Clock, Pace, Tally, View

if TYPE_CHECKING:
    from swiftbolt.evaluation.walk_forward import Progress

LINE_SECONDS = 3.0
FAILURES_TOLD = 20  # of a stage, line by line; the store has them all

OnChange = Callable[[int, int, int], None]
"""Fits done, failed ones among them, and planned, of all stages."""


class CountedProgress:
    """``Progress`` that counts for its views."""

    def __init__(self, views: Sequence[View], clock: Clock = time.monotonic) -> None:
        self._views, self._clock = views, clock
        self._tallies: dict[str, Tally] = {}

    def planned(self, stage: str, pieces: Sequence[str]) -> None:
        """See ``Progress``."""
        tally = self._tallies[stage] = Tally(stage, pieces, self._clock())
        for view in self._views:
            view.planned(tally)

    def done(self, stage: str, piece: str, failure: str | None = None) -> None:
        """See ``Progress``; a piece that is told twice counts once."""
        tally = self._tallies[stage]
        if tally.take(piece, failure is not None, self._clock()):
            for view in self._views:
                view.ended(tally, piece, failure)


@dataclass(frozen=True)
class Renamed:
    """``Progress`` of a second walk, told under other stages."""

    progress: Progress
    prefix: str

    def planned(self, stage: str, pieces: Sequence[str]) -> None:
        """See ``Progress``."""
        self.progress.planned(self.prefix + stage, pieces)

    def done(self, stage: str, piece: str, failure: str | None = None) -> None:
        """See ``Progress``."""
        self.progress.done(self.prefix + stage, piece, failure)


class LineView:
    """A line every few seconds and at the end of each stage."""

    def __init__(self, write: Line, clock: Clock = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._pace = Pace(LINE_SECONDS, clock)

    def planned(self, tally: Tally) -> None:
        """See ``View``."""
        self._write(f"{tally.stage}: {tally.total} fits of {', '.join(tally.models)}")

    def ended(self, tally: Tally, piece: str, failure: str | None) -> None:
        """See ``View``."""
        if failure is not None and tally.failed <= FAILURES_TOLD:
            self._write(f"{tally.stage}: {piece} failed: {failure}")
            if tally.failed == FAILURES_TOLD:
                self._write(f"{tally.stage}: further failures are counted here and listed by swiftbolt runs show")
        if self._pace.lets(tally.is_over):
            self._write(f"{tally.stage}: {tally.text(self._clock())}")


class Recorder:
    """Tells ``on_change`` every few seconds, and when a stage begins or ends."""

    def __init__(self, on_change: OnChange, clock: Clock = time.monotonic) -> None:
        self._on_change = on_change
        self._pace = Pace(LINE_SECONDS, clock)
        self._tallies: dict[str, Tally] = {}

    def planned(self, tally: Tally) -> None:
        """See ``View``."""
        self._tallies[tally.stage] = tally
        self._record(in_any_case=True)

    def ended(self, tally: Tally, piece: str, failure: str | None) -> None:
        """See ``View``."""
        self._record(in_any_case=tally.is_over)

    def _record(self, in_any_case: bool) -> None:
        if self._pace.lets(in_any_case):
            tallies = self._tallies.values()
            self._on_change(sum(t.done for t in tallies), sum(t.failed for t in tallies), sum(t.total for t in tallies))


@contextmanager
def progress_view(
    write: Line, stream: TextIO, on_change: OnChange | None = None, also: Sequence[View] = ()
) -> Iterator[tuple[Progress, Line]]:
    """A progress, and where lines go meanwhile: live where ``stream`` is a terminal, lines by ``write`` elsewhere.

    Args:
        on_change: told the totals every few seconds.
        also: further views.
    """
    recorders: list[View] = [] if on_change is None else [Recorder(on_change)]
    if is_live(stream):
        with LiveView(stream) as live:
            yield CountedProgress([live, *recorders, *also]), live.write
    else:
        yield CountedProgress([LineView(write), *recorders, *also]), write
