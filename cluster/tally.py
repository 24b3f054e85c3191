"""What is known of how far each stage of a retrain has come, and how long it will still take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from swiftbolt.evaluation.unit_keys import UNIVERSE, model_of, symbol_of

# What an earlier process did comes in one unbroken run soon after a stage began. What is only taken for it, the first
# moments of real work, is no loss to a rate.
_RUN_BEGINS_WITHIN_S = 30.0
_RUN_LASTS_S = 10.0
_RUN_BREAKS_S = 0.2

Clock = Callable[[], float]
"""Seconds, from whenever."""


@dataclass(kw_only=True)
class _Part:
    """Pieces of a stage that are worked on at one time: those of one symbol each, or those of all symbols together.

    Attributes:
        waiting: pieces that have not ended, by model.
        fresh: those that ended in this process, by model.
        began: when the first of these can have begun; None before it ended.
    """

    waiting: Counter[str] = field(default_factory=Counter)
    fresh: Counter[str] = field(default_factory=Counter)
    began: float | None = None

    def left(self, now: float) -> float | None:
        """Seconds to go, by the rate so far; None while that says nothing."""
        # Fits of one model take much longer than another's: until each has ended once, a rate says nothing.
        if self.began is None or any(self.waiting[model] and not self.fresh[model] for model in self.waiting):
            return None
        return (now - self.began) / self.fresh.total() * self.waiting.total()


class Tally:
    """How far one stage has come.

    Attributes:
        failed_symbols: those with a failed fit.
        started: by the clock of whoever counts.
    """

    def __init__(self, stage: str, pieces: Sequence[str], now: float) -> None:
        self.stage, self.started = stage, now
        self.models = sorted({model_of(piece) for piece in pieces})
        self.total, self.done, self.failed = len(pieces), 0, 0
        self.failed_symbols: set[str] = set()
        self._waiting = set(pieces)
        self._of_symbol = Counter(symbol_of(piece) for piece in self._waiting if not _is_pooled(piece))
        self.symbols, self.symbols_done = len(self._of_symbol), 0
        self._parts = {is_pooled: _Part() for is_pooled in (False, True)}
        for piece in self._waiting:
            self._parts[_is_pooled(piece)].waiting[model_of(piece)] += 1
        self._last, self._run_began, self._is_run_over = now, now, False

    @property
    def is_over(self) -> bool:
        """Whether every piece has ended."""
        return not self._waiting

    def take(self, piece: str, has_failed: bool, now: float) -> bool:
        """Count ``piece``, which ended; False where it was counted before or was never planned."""
        if piece not in self._waiting:
            return False
        self._waiting.discard(piece)
        self.done += 1
        self.failed += has_failed
        if not _is_pooled(piece):
            symbol = symbol_of(piece)
            self._of_symbol[symbol] -= 1
            self.symbols_done += self._of_symbol[symbol] == 0
            if has_failed:
                self.failed_symbols.add(symbol)
        part = self._parts[_is_pooled(piece)]
        part.waiting[model_of(piece)] -= 1
        if not self._was_done_before(now):
            part.began = self._last if part.began is None else part.began
            part.fresh[model_of(piece)] += 1
        self._last = now
        return True

    def text(self, now: float) -> str:
        """Fits, symbols, failures, time taken and time left."""
        parts = [f"{self.done}/{self.total} fits"]
        if self.symbols:
            parts.append(f"{self.symbols_done}/{self.symbols} symbols")
        parts.append(f"{self.failed} failed")
        parts.append(f"{clock_text((self._last if self.is_over else now) - self.started)} elapsed")
        known = [part.left(now) for part in self._parts.values() if part.waiting.total()]
        told = [seconds for seconds in known if seconds is not None]
        if told:
            parts.append(f"about {clock_text(sum(told))} left{self._and_then()}")
        return " · ".join(parts)

    def _was_done_before(self, now: float) -> bool:
        if self._is_run_over:
            return False
        if self.done == 1:
            self._run_began = now
            self._is_run_over = now - self.started > _RUN_BEGINS_WITHIN_S
        else:
            self._is_run_over = now - self._last > _RUN_BREAKS_S or now - self._run_began > _RUN_LASTS_S
        return not self._is_run_over

    def _and_then(self) -> str:
        pooled = self._parts[True]
        waiting = pooled.waiting.total()
        return f", then {waiting} fits over all symbols" if waiting and pooled.began is None else ""


class View(Protocol):
    """Shows or records what was counted."""

    def planned(self, tally: Tally) -> None:
        """A stage begins."""

    def ended(self, tally: Tally, piece: str, failure: str | None) -> None:
        """A piece of it ended, and is counted."""


class Pace:
    """Lets something through at most every few seconds."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds, self._clock = seconds, clock
        self._last = float("-inf")

    def lets(self, in_any_case: bool) -> bool:
        """Whether it is time again, which counts from now on then."""
        now = self._clock()
        if not in_any_case and now - self._last < self._seconds:
            return False
        self._last = now
        return True


def clock_text(seconds: float) -> str:
    """Minutes and seconds, and hours where there are any: ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _is_pooled(piece: str) -> bool:
    return symbol_of(piece) == UNIVERSE
