"""A synthetic VIX: a mean-reverting log level on real NYSE sessions."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
from scipy.signal import lfilter

from swiftbolt.bars import BAR_SCHEMA, Bars
from swiftbolt.features import DailySeries
from swiftbolt.sessions import FIRST_SESSION, sessions_between


def make_vix(sessions: int, *, seed: int, end: date = date(2013, 3, 1), name: str = "VIX") -> DailySeries:
    """The last ``sessions`` exchange sessions up to ``end``, around 20."""
    shocks = 0.06 * np.random.default_rng([seed, 0]).standard_normal(sessions)
    return DailySeries(
        name=name,
        session_N=sessions_between(FIRST_SESSION, end)[-sessions:],
        value_N=20.0 * np.exp(lfilter([1.0], [1.0, -0.97], shocks)),
    )


def without(series: DailySeries, *days: date) -> DailySeries:
    """``series`` where some days are missing."""
    kept = ~np.isin(series.session_N, np.array(days, dtype="datetime64[D]"))
    return DailySeries(name=series.name, session_N=series.session_N[kept], value_N=series.value_N[kept])


def as_bars(series: DailySeries) -> Bars:
    """Bars of a symbol that does nothing but stand at the value of each session, and is not traded."""
    frame = pl.DataFrame({"symbol": series.name, "session": pl.Series(series.session_N, dtype=pl.Date)})
    prices = dict.fromkeys(("open", "high", "low", "close"), series.value_N)
    return Bars(frame=frame.with_columns(**prices, volume=0.0).cast(BAR_SCHEMA).select(list(BAR_SCHEMA)))
