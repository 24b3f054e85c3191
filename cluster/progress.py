"""Progress of a retrain in plain lines that read well in a job's log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

LINE_SECONDS = 3.0


@dataclass(kw_only=True)
class LineProgress:
    """Prints a line every few seconds and at the end of each stage: symbols, pieces, failures, time left.

    ``clock`` and ``write`` are arguments so that a test can hold both.
    """

    write: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    on_change: Callable[[int, int, int], None] = lambda done, failed, total: None
    _waiting: dict[str, set[str]] = field(default_factory=dict)
    _unseen: dict[str, set[str]] = field(default_factory=dict)
    _of_symbol: Counter[str] = field(default_factory=Counter)
    _total: Counter[str] = field(default_factory=Counter)
    _done: Counter[str] = field(default_factory=Counter)
    _failed: Counter[str] = field(default_factory=Counter)
    _started: dict[str, float] = field(default_factory=dict)
    _last_line: float = float("-inf")

    def planned(self, stage: str, pieces: Sequence[str]) -> None:
        """``pieces``, named model/symbol/fold, lie ahead."""
        self._waiting[stage] = set(pieces)
        self._total[stage] = len(pieces)
        self._started[stage] = self.clock()
        self._unseen[stage] = {piece.split("/")[0] for piece in pieces}
        self._of_symbol = Counter(_symbol_of(piece) for piece in pieces)
        self.write(f"{stage}: {len(pieces)} fits of {', '.join(sorted(self._unseen[stage]))}")
        self._report()

    def done(self, stage: str, piece: str, failure: str | None = None) -> None:
        """``piece`` ended."""
        if piece not in self._waiting[stage]:
            return
        self._waiting[stage].discard(piece)
        self._of_symbol[_symbol_of(piece)] -= 1
        self._unseen[stage].discard(piece.split("/")[0])
        self._done[stage] += 1
        if failure is not None:
            self._failed[stage] += 1
            self.write(f"{stage}: {piece} failed: {failure}")
        finished = not self._waiting[stage]
        if finished or self.clock() - self._last_line >= LINE_SECONDS:
            self._last_line = self.clock()
            self.write(self._line(stage))
            self._report()

    def _report(self) -> None:
        self.on_change(self._done.total(), self._failed.total(), self._total.total())

    def _line(self, stage: str) -> str:
        done, total = self._done[stage], self._total[stage]
        elapsed = self.clock() - self._started[stage]
        left = elapsed / done * (total - done)
        symbols = [symbol for symbol in self._of_symbol if symbol != "universe"]
        parts = [f"{done}/{total} fits"]
        if symbols:
            ready = sum(self._of_symbol[symbol] == 0 for symbol in symbols)
            parts.append(f"{ready}/{len(symbols)} symbols")
        parts.append(f"{self._failed[stage]} failed")
        parts.append(f"{_clock_text(elapsed)} elapsed")
        # Fits of one model take much longer than another's: until each has ended once, a rate says nothing.
        if done < total and not self._unseen[stage]:
            parts.append(f"about {_clock_text(left)} left")
        return f"{stage}: " + " · ".join(parts)


def _symbol_of(piece: str) -> str:
    return piece.split("/", 1)[1].rsplit("/", 1)[0]  # a symbol may hold a stroke itself: BF/B


def _clock_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
