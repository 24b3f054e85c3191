"""Bars whose next return follows from the last one: a market in which the better ARIMA order is known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from swiftbolt.bars import BAR_SCHEMA, Bars
from swiftbolt.sessions import FIRST_SESSION, sessions_between


def autoregressive_bars(
    symbols: Sequence[str], sessions: int, *, seed: int, memory: float = 0.6, end: date = date(2013, 3, 1)
) -> Bars:
    """Bars of the last ``sessions`` exchange sessions up to ``end``; a return is ``memory`` of the last, and noise."""
    calendar = sessions_between(FIRST_SESSION, end)[-sessions:]
    frames = []
    for symbol in sorted(symbols):
        shock_T = 0.012 * np.random.default_rng([seed, *symbol.encode()]).standard_normal(sessions)
        return_T = np.empty(sessions)
        last = 0.0
        for t, shock in enumerate(shock_T):
            return_T[t] = last = memory * last + shock
        close_T = 100.0 * np.exp(np.cumsum(return_T))
        open_T = np.concatenate(([100.0], close_T[:-1]))
        frames.append(
            pl.DataFrame(
                {
                    "symbol": [symbol] * sessions,
                    "session": pl.Series(calendar, dtype=pl.Date),
                    "open": open_T,
                    "high": np.maximum(open_T, close_T) * 1.001,
                    "low": np.minimum(open_T, close_T) * 0.999,
                    "close": close_T,
                    "volume": np.full(sessions, 1e6),
                },
                schema=BAR_SCHEMA,
            )
        )
    return Bars(frame=pl.concat(frames))
