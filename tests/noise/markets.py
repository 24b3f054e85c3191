"""Simulated markets in which nothing can be foretold, or only what was planted.

Log returns are symmetric around zero given all that happened before, all symbols together: turn the signs of all that
lies ahead and it is as likely as it was. So whatever is known at an origin, the median of every outcome is zero, rises
are as likely as falls, and every order of symbols is as likely as its reverse: location skill, direction and rank IC
have nothing to find, exactly and at every horizon. (A martingale of prices would not do: its log returns drift down by
half their variance, which calm and wild times make predictable.) Prices then drift up by that half variance, 0.7 basis
points a day. Holding them all earns it, which is why a net Sharpe must also beat being always long; what is
left to find is half the variance of single symbols, at most a t of 0.15 in three years, before costs.

Student-t shocks, a common factor. S symbols, T sessions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.signal import lfilter

from swiftbolt.bars import BAR_SCHEMA, Bars
from swiftbolt.sessions import FIRST_SESSION, sessions_between

Float64 = NDArray[np.float64]

END = date(2019, 12, 31)
VOLATILITY = 0.012  # of a session's log return
SHOCK_DF = 5.0  # a kurtosis of 9
SHARE = (0.3, 0.5)  # of a symbol's variance that is the common factor's; so correlated are any two
ALPHA, BETA = 0.08, 0.90  # of GARCH(1, 1), around a variance of one
OVERNIGHT_SHARE = 0.25  # of a session's variance, between the close and the next open


def simulated_bars(
    symbols: Sequence[str], sessions: int, *, clustered: bool, rng: np.random.Generator, phi: float = 0.0
) -> Bars:
    """Bars of the last ``sessions`` exchange sessions up to ``END``.

    Args:
        clustered: GARCH-t shocks; without it they are independent.
        phi: of the AR(1) process that every symbol's log return is: the next one is expected to be ``phi`` times
            this one, and ``phi`` squared is the share of its variance that can be foretold. Zero is noise.
    """
    names = sorted(symbols)
    calendar = sessions_between(FIRST_SESSION, END)[-sessions:]
    shape = (len(names), sessions)
    share_S1 = rng.uniform(*SHARE, (len(names), 1))
    (own_ST, own_variance_ST), (factor_1T, factor_variance_1T) = (
        _shocks((rows, sessions), clustered, rng) for rows in (len(names), 1)
    )
    shock_ST = np.sqrt(share_S1) * factor_1T + np.sqrt(1 - share_S1) * own_ST
    sigma_ST = VOLATILITY * np.sqrt(share_S1 * factor_variance_1T + (1 - share_S1) * own_variance_ST)
    return_ST = VOLATILITY * math.sqrt(1 - phi**2) * lfilter([1.0], [1.0, -phi], shock_ST, axis=1)
    # Given the day's return, the overnight part is normal around its share of it (a Brownian bridge). Symbols share
    # that, too, as they share returns: or else the nights of all would tell something of the day to come.
    bridge = VOLATILITY * math.sqrt(OVERNIGHT_SHARE * (1 - OVERNIGHT_SHARE))
    factor_part_ST = np.sqrt(share_S1 * factor_variance_1T) * rng.standard_normal((1, sessions))
    own_part_ST = np.sqrt((1 - share_S1) * own_variance_ST) * rng.standard_normal(shape)
    overnight_ST = OVERNIGHT_SHARE * return_ST + bridge * (factor_part_ST + own_part_ST)
    close_ST = rng.uniform(20, 200, (len(names), 1)) * np.exp(np.cumsum(return_ST, axis=1))
    open_ST = close_ST * np.exp(overnight_ST - return_ST)
    above_ST, below_ST = np.exp(0.5 * sigma_ST * np.abs(rng.standard_normal((2, *shape))))
    turnover_ST = 0.3 * rng.standard_normal(shape) + 0.3 * np.minimum(np.abs(shock_ST), 5.0)
    columns = {
        "open": open_ST,
        "high": np.maximum(open_ST, close_ST) * above_ST,
        "low": np.minimum(open_ST, close_ST) / below_ST,
        "close": close_ST,
        "volume": np.round(10 ** rng.uniform(5.5, 7.5, (len(names), 1)) * np.exp(turnover_ST)),
    }
    return Bars(
        frame=pl.DataFrame(
            {
                "symbol": np.repeat(names, sessions).tolist(),
                "session": pl.Series(np.tile(calendar, len(names)), dtype=pl.Date),
                **{name: value_ST.ravel() for name, value_ST in columns.items()},
            },
            schema=BAR_SCHEMA,
        )
    )


def _shocks(shape: tuple[int, int], clustered: bool, rng: np.random.Generator) -> tuple[Float64, Float64]:
    """Independent series of variance one along the second axis, and the variance that was to be expected of each."""
    shock_ST = rng.standard_t(SHOCK_DF, shape) * math.sqrt((SHOCK_DF - 2) / SHOCK_DF)
    variance_ST = np.ones(shape)
    if clustered:
        for t in range(1, shape[1]):
            before_S = variance_ST[:, t - 1]
            variance_ST[:, t] = 1 - ALPHA - BETA + ALPHA * before_S * shock_ST[:, t - 1] ** 2 + BETA * before_S
    return np.sqrt(variance_ST) * shock_ST, variance_ST
