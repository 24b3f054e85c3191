"""Trials by hand, and a ledger that forgets when the test ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np

from swiftbolt.errors import StoreUnavailable
from swiftbolt.sessions import sessions_between
from swiftbolt.trial import DailyReturns, Trial

FIRST, LAST = date(2024, 1, 2), date(2024, 6, 28)


def returns_of(*net: float, first: date = FIRST) -> DailyReturns:
    """Returns of the sessions from ``first`` on."""
    sessions_T = sessions_between(first, date(2030, 12, 31))[: len(net)]
    return DailyReturns(sessions_T=sessions_T, net_T=np.array(net, dtype=np.float64))


def noise_of(seed: int, sessions: int = 120, mean: float = 0.0, first: date = FIRST) -> DailyReturns:
    """Independent daily returns with a standard deviation of 1 %."""
    return returns_of(*(mean + 0.01 * np.random.default_rng(seed).standard_normal(sessions)), first=first)


def trial_of(**changes: Any) -> Trial:
    """A trial of xgboost at one session on two symbols, but for ``changes``."""
    values: dict[str, Any] = {
        "model": "xgboost",
        "horizon": 1,
        "config": {"settings": {"rounds": 3}},
        "symbols": ("AAPL", "IBM"),
        "first": FIRST,
        "last": LAST,
        "returns": returns_of(0.01, -0.02, 0.005),
        "source": "evaluate",
        "code_version": "1.0.0",
    }
    return Trial(**{**values, **changes})


class MemoryLedger:
    """Keeps trials in memory; while ``fault`` is set, it does not answer."""

    def __init__(self, *trials: Trial) -> None:
        self.held = {trial.key: trial for trial in trials}
        self.fault: str | None = None

    def overlapping_trials(self, symbols: Sequence[str], first: date, last: date) -> dict[str, DailyReturns | None]:
        """See ``Ledger``."""
        self._answer()
        return {
            key: trial.returns
            for key, trial in self.held.items()
            if set(trial.symbols) & set(symbols) and trial.first <= last and trial.last >= first
        }

    def record_trials(self, trials: Sequence[Trial]) -> int:
        """See ``Ledger``."""
        self._answer()
        before = len(self.held)
        for trial in trials:
            self.held.setdefault(trial.key, trial)
        return len(self.held) - before

    def _answer(self) -> None:
        if self.fault is not None:
            raise StoreUnavailable(self.fault)
