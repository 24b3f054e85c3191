"""What one simple rule would have earned: a fixed yardstick, not a strategy.

Every origin's forecasts that are confident enough become a sleeve: long or short by the side of p_up, equal amounts,
a share 1 / horizon of the wealth. It is entered at the open of the session after the origin and held for ``horizon``
sessions, so that ``horizon`` sleeves overlap. Only what changes hands between the leaving and the entering sleeve pays
costs. Cash earns nothing, shorts borrow for nothing, and what prices do to the amounts held is evened out for free.

S symbols, T sessions ascending; prices are total-return prices, NaN where a symbol has no bar.

Source:
    Jegadeesh and Titman (1993), "Returns to Buying Winners and Selling Losers", Journal of Finance 48(1),
    for overlapping sleeves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from swiftbolt.errors import DataError
from swiftbolt.evaluation.metrics import EVEN_CHANCE_TOLERANCE
from swiftbolt.forecast import Float64
from swiftbolt.sessions import Sessions

COST_PER_SIDE = 0.0005  # of the amount bought or sold
SESSIONS_PER_YEAR = 252


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Equity:
    """Daily results from the first entry to the last exit.

    ``net_T`` are simple returns after costs; ``gross_T`` is what is held from the open on and ``turnover_T`` what is
    bought and sold at it, both as shares of the wealth.
    """

    sessions_T: Sessions
    net_T: Float64
    gross_T: Float64
    turnover_T: Float64

    @property
    def sharpe(self) -> float:
        """Annualised: ``sqrt(252)`` times that of a session, over cash at zero."""
        return math.sqrt(SESSIONS_PER_YEAR) * sharpe_ratio(self.net_T)

    @property
    def max_drawdown(self) -> float:
        """Deepest fall of compounded wealth, a negative share."""
        return max_drawdown(self.net_T)


def simple_rule(
    forecasts: pl.DataFrame,
    prices: pl.DataFrame,
    *,
    horizon: int,
    threshold: float,
    cost: float = COST_PER_SIDE,
) -> Equity:
    """Trade the rule on frames.

    Args:
        forecasts: ``symbol, origin, p_up`` of one model and ``horizon``; realised outcomes are not looked at.
        prices: ``symbol, session, open, close``; its sessions are the calendar.
        threshold: least confidence, ``max(p_up, 1 - p_up)``.
        cost: of buying or selling, as share of the amount.

    Raises:
        DataError: a symbol is forecast twice from an origin, has no price, or an origin is no session of the prices.
    """
    sessions_T = prices["session"].unique().sort().to_numpy()
    symbols = forecasts["symbol"].unique().sort()
    unpriced = set(symbols) - set(prices["symbol"].unique())
    if unpriced:
        raise DataError(f"no price of {', '.join(sorted(unpriced))}: hand in the bars they were forecast from")
    strange = forecasts.filter(~pl.col("origin").is_in(prices["session"].unique().to_list()))
    if len(strange):
        raise DataError(f"{strange['symbol'][0]} is forecast from {strange['origin'][0]}, a session without prices")
    twice = forecasts.filter(forecasts.select("symbol", "origin").is_duplicated())
    if len(twice):
        raise DataError(
            f"{twice['symbol'][0]} is forecast twice from {twice['origin'][0]}: choose a model and a horizon"
        )
    held = prices.filter(pl.col("symbol").is_in(symbols.to_list()))
    return trade(
        sessions_T,
        _table(forecasts, "origin", "p_up", symbols, sessions_T),
        _table(held, "session", "open", symbols, sessions_T),
        _table(held, "session", "close", symbols, sessions_T),
        horizon=horizon,
        threshold=threshold,
        cost=cost,
    )


def trade(
    sessions_T: Sessions,
    p_up_ST: Float64,
    open_ST: Float64,
    close_ST: Float64,
    *,
    horizon: int,
    threshold: float,
    cost: float = COST_PER_SIDE,
) -> Equity:
    """Trade the rule on tables; p_up is NaN where nothing was forecast.

    A symbol without a bar cannot be traded: what was to be done waits for its next bar, and its price stands still
    until then.
    """
    bar_ST = np.isfinite(open_ST) & np.isfinite(close_ST)
    weight_ST = _filled(_targets(p_up_ST, horizon, threshold), bar_ST, start=0.0)
    before_ST = _shifted(weight_ST, 1)
    last_close_ST = _shifted(_filled(close_ST, bar_ST, start=np.nan), 1, start=np.nan)
    overnight_ST = np.where(bar_ST & np.isfinite(last_close_ST), open_ST / last_close_ST - 1.0, 0.0)
    intraday_ST = np.where(bar_ST, close_ST / open_ST - 1.0, 0.0)
    turnover_T = np.abs(weight_ST - before_ST).sum(axis=0)
    # Who has lost everything overnight has nothing left to lose by day.
    growth_T = (
        np.maximum(1.0 + (before_ST * overnight_ST).sum(axis=0), 0.0)
        * (1.0 - cost * turnover_T)
        * np.maximum(1.0 + (weight_ST * intraday_ST).sum(axis=0), 0.0)
    )
    origins = np.flatnonzero(np.isfinite(p_up_ST).any(axis=0))
    span = slice(origins[0] + 1, origins[-1] + horizon + 2) if len(origins) else slice(0, 0)
    return Equity(
        sessions_T=sessions_T[span],
        net_T=growth_T[span] - 1.0,
        gross_T=np.abs(weight_ST).sum(axis=0)[span],
        turnover_T=turnover_T[span],
    )


def sharpe_ratio(returns_T: Float64) -> float:
    """Mean over standard deviation of one session's returns, not annualised; 0 where nothing ever moved.

    Source:
        Sharpe (1994), "The Sharpe Ratio", Journal of Portfolio Management 21(1).
    """
    if len(returns_T) < 2 or np.ptp(returns_T) == 0:
        return 0.0
    return float(np.mean(returns_T) / np.std(returns_T, ddof=1))


def max_drawdown(returns_T: Float64) -> float:
    """Deepest fall of compounded wealth below its highest so far, the start included; -0.15 is a loss of 15 %."""
    wealth_T = np.concatenate(([1.0], np.cumprod(1.0 + returns_T)))
    return float(np.min(wealth_T / np.maximum.accumulate(wealth_T)) - 1.0)


def _targets(p_up_ST: Float64, horizon: int, threshold: float) -> Float64:
    """Shares of the wealth to hold from each session's open on: the mean of the last ``horizon`` origins' sleeves."""
    lean_ST = p_up_ST - 0.5
    chosen_ST = (np.abs(lean_ST) > EVEN_CHANCE_TOLERANCE) & (np.maximum(p_up_ST, 1.0 - p_up_ST) >= threshold)
    side_ST = np.where(chosen_ST, np.sign(lean_ST), 0.0)
    sleeve_ST = side_ST / np.maximum(chosen_ST.sum(axis=0), 1)
    target_ST = np.zeros_like(sleeve_ST)
    for age in range(1, horizon + 1):
        target_ST += _shifted(sleeve_ST, age)
    return np.asarray(target_ST / horizon)


def _shifted(value_ST: Float64, by: int, start: float = 0.0) -> Float64:
    """The values of ``by`` sessions earlier."""
    out_ST = np.full_like(value_ST, start)
    out_ST[:, by:] = value_ST[:, :-by]
    return out_ST


def _filled(value_ST: Float64, known_ST: NDArray[np.bool_], start: float) -> Float64:
    """The latest known value of each symbol, ``start`` before the first."""
    place_ST = np.maximum.accumulate(np.where(known_ST, np.arange(value_ST.shape[1]), -1), axis=1)
    return np.asarray(np.where(place_ST >= 0, np.take_along_axis(value_ST, np.maximum(place_ST, 0), axis=1), start))


def _table(frame: pl.DataFrame, when: str, value: str, symbols: pl.Series, sessions_T: Sessions) -> Float64:
    """One column of a long frame as an S x T table, NaN where it has no row."""
    table_ST = np.full((len(symbols), len(sessions_T)), np.nan)
    row_N = np.searchsorted(symbols.to_numpy().astype(np.str_), frame["symbol"].to_numpy().astype(np.str_))
    table_ST[row_N, np.searchsorted(sessions_T, frame[when].to_numpy())] = frame[value].to_numpy()
    return table_ST
