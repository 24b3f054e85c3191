"""Synthetic daily bars on real NYSE sessions: a one-factor market with gaps, ranges and volume."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from swiftbolt.bars import BAR_SCHEMA, Bars
from swiftbolt.sessions import FIRST_SESSION, sessions_between

Float64 = NDArray[np.float64]

MARKET_SHARE = 0.3  # of a symbol's variance, common to all symbols
OVERNIGHT_SHARE = 0.25  # of a session's variance, between the close and the next open


def make_bars(
    symbols: Sequence[str],
    sessions: int,
    *,
    seed: int,
    end: date = date(2013, 3, 1),
    drift: float = 0.0,
    volatility: float = 0.015,
    garch: bool = False,
) -> Bars:
    """Bars of the last ``sessions`` exchange sessions up to ``end``.

    A symbol's bars depend on ``seed`` and its name only, not on which other symbols are asked for.

    Args:
        drift: mean log return of a session.
        volatility: standard deviation of a session's log return.
        garch: let the variance cluster as a GARCH(1, 1) with alpha 0.08 and beta 0.90 around ``volatility`` squared.
    """
    calendar = sessions_between(FIRST_SESSION, end)[-sessions:]
    if len(calendar) < sessions:
        raise ValueError(f"only {len(calendar)} sessions up to {end}")
    market_T = np.random.default_rng(seed).standard_normal(sessions)
    frames = [_symbol_frame(name, calendar, market_T, seed, drift, volatility, garch) for name in sorted(set(symbols))]
    return Bars(frame=pl.concat(frames) if frames else pl.DataFrame(schema=BAR_SCHEMA))


def _symbol_frame(
    symbol: str,
    calendar: NDArray[np.datetime64],
    market_T: Float64,
    seed: int,
    drift: float,
    volatility: float,
    garch: bool,
) -> pl.DataFrame:
    rng = np.random.default_rng([seed, *symbol.encode()])
    count = len(calendar)
    shock_T = np.sqrt(MARKET_SHARE) * market_T + np.sqrt(1 - MARKET_SHARE) * rng.standard_normal(count)
    sigma_T = _garch_volatility(shock_T, volatility) if garch else np.full(count, volatility)
    return_T = drift + sigma_T * shock_T
    # Given the day's return, the overnight part is normal around its share of it (a Brownian bridge).
    bridge = np.sqrt(OVERNIGHT_SHARE * (1 - OVERNIGHT_SHARE))
    overnight_T = OVERNIGHT_SHARE * return_T + bridge * sigma_T * rng.standard_normal(count)
    close_T = rng.uniform(20, 200) * np.exp(np.cumsum(return_T))
    open_T = close_T * np.exp(overnight_T - return_T)
    wick_2T = 0.5 * sigma_T * np.abs(rng.standard_normal((2, count)))
    turnover_T = 0.3 * rng.standard_normal(count) + 0.4 * (np.abs(shock_T) - 0.8)
    return pl.DataFrame(
        {
            "symbol": [symbol] * count,
            "session": pl.Series(calendar, dtype=pl.Date),
            "open": open_T,
            "high": np.maximum(open_T, close_T) * np.exp(wick_2T[0]),
            "low": np.minimum(open_T, close_T) * np.exp(-wick_2T[1]),
            "close": close_T,
            "volume": np.round(10 ** rng.uniform(5.5, 7.5) * np.exp(turnover_T)),
        },
        schema=BAR_SCHEMA,
    )


def _garch_volatility(shock_T: Float64, volatility: float) -> Float64:
    """Conditional standard deviations that have ``volatility`` squared as unconditional variance."""
    variance_T = np.empty(len(shock_T))
    variance = volatility**2
    for t, shock in enumerate(shock_T):
        variance_T[t] = variance
        variance = 0.02 * volatility**2 + (0.08 * shock**2 + 0.90) * variance
    return np.sqrt(variance_T)
