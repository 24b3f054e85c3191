"""What is the same for every symbol on a session: its place in the calendar, the market's return, and the VIX.

Days are counted from Monday to Friday: that the exchange would close on some of them need not have been known.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from swiftbolt.features.rolling import Float64, Int64, Sums, change
from swiftbolt.sessions import Sessions

MARKET_WINDOW = 20
VIX_WINDOW = 250  # of its median
# Log returns of equal size leave this much of their sum of squares as rounding; a real spread is far above.
ROUNDING = 1e-12


class Context:
    """S sessions without gaps, and the market's log return into each, 0 where it has none.

    Args:
        vix_S: the VIX in percent at each session's close, NaN where it was not known; None where there is none.
    """

    def __init__(self, sessions: Sessions, market_return_S: Float64, vix_S: Float64 | None = None) -> None:
        self.sessions, self.market_return_S, self._vix_S = sessions, market_return_S, vix_S
        self._market_over: dict[int, Float64] = {}
        self._squared_market_over: dict[int, Float64] = {}

    @cached_property
    def weekday_S(self) -> Float64:
        """Monday is 0."""
        return ((self.sessions.astype(np.int64) + 3) % 7).astype(np.float64)

    @cached_property
    def weekdays_S(self) -> Float64:
        """Weekdays from 1970 to each session."""
        return weekdays_until(self.sessions)

    @cached_property
    def days_to_month_end_S(self) -> Float64:
        """Weekdays of the month after the session."""
        next_month_S = self.sessions.astype("datetime64[M]") + 1
        left_S: Float64 = weekdays_until(next_month_S.astype("datetime64[D]") - 1) - self.weekdays_S
        return left_S

    @cached_property
    def month_sin_S(self) -> Float64:
        """Sine of the month as an angle, January at 0."""
        sine_S: Float64 = np.sin(self._month_angle_S)
        return sine_S

    @cached_property
    def month_cos_S(self) -> Float64:
        """Its cosine."""
        cosine_S: Float64 = np.cos(self._month_angle_S)
        return cosine_S

    @property
    def _month_angle_S(self) -> Float64:
        month_S = self.sessions.astype("datetime64[M]").astype(np.int64) % 12
        return month_S.astype(np.float64) * (2 * math.pi / 12)

    @cached_property
    def market_momentum_S(self) -> Float64:
        """The market's log return over ``MARKET_WINDOW`` sessions."""
        return self.market_over(MARKET_WINDOW)

    @cached_property
    def market_volatility_S(self) -> Float64:
        """Standard deviation of a session's log return, with ``MARKET_WINDOW - 1`` below."""
        squares_S = self.squared_market_over(MARKET_WINDOW)
        around_mean_S = squares_S - np.square(self.market_momentum_S) / MARKET_WINDOW
        around_mean_S[around_mean_S <= ROUNDING * squares_S] = 0.0
        volatility_S: Float64 = np.sqrt(around_mean_S / (MARKET_WINDOW - 1))
        return volatility_S

    @property
    def vix_S(self) -> Float64:
        """The VIX, where one is given."""
        assert self._vix_S is not None, "features of the VIX are computed without one"
        return self._vix_S

    @cached_property
    def log_vix_S(self) -> Float64:
        """Its log."""
        return np.log(self.vix_S)

    def vix_change(self, sessions: int) -> Float64:
        """Change of the log of the VIX over ``sessions`` sessions, however few there are in all."""
        if len(self.log_vix_S) <= sessions:
            return np.full(len(self.log_vix_S), np.nan)
        return change(self.log_vix_S, sessions)

    @cached_property
    def log_vix_over_median_S(self) -> Float64:
        """Log of the VIX less the median of its last ``VIX_WINDOW`` ones; NaN where it was not known at one of them."""
        out_S = np.full(len(self.log_vix_S), np.nan)
        if len(out_S) >= VIX_WINDOW:
            windows = sliding_window_view(self.log_vix_S, VIX_WINDOW)
            known = np.isfinite(windows).all(axis=1)
            ends_S = VIX_WINDOW - 1 + np.flatnonzero(known)
            out_S[ends_S] = self.log_vix_S[ends_S] - np.median(windows[known], axis=1)
        return out_S

    def market_over(self, window: int) -> Float64:
        """The market's log return over the last ``window`` sessions."""
        if window not in self._market_over:
            self._market_over[window] = self._sums_over(self.market_return_S, window)
        return self._market_over[window]

    def squared_market_over(self, window: int) -> Float64:
        """Squares of the market's log return into each of the last ``window`` sessions, added up."""
        if window not in self._squared_market_over:
            self._squared_market_over[window] = self._sums_over(np.square(self.market_return_S), window)
        return self._squared_market_over[window]

    @staticmethod
    def _sums_over(values_S: Float64, window: int) -> Float64:
        """Sums over ``window`` sessions, NaN before there are as many, however few there are in all."""
        if len(values_S) < window:
            return np.full(len(values_S), np.nan)
        return Sums(values_S).over(window)

    def market_return_between(self, session_T: Int64) -> Float64:
        """The market's log return from each of a symbol's sessions to its next, NaN into the first."""
        out_T = np.full(len(session_T), np.nan)
        if len(session_T) > 1:
            if session_T[-1] - session_T[0] == len(session_T) - 1:
                out_T[1:] = self.market_return_S[session_T[0] + 1 : session_T[-1] + 1]
            else:
                # A sum over one session is its return; where the symbol missed some, theirs are added.
                upto = self.market_return_S[: session_T[-1] + 1]
                out_T[1:] = np.add.reduceat(upto, session_T[:-1] + 1)
        return out_T


def weekdays_until(days: NDArray[np.datetime64]) -> Float64:
    """Mondays to Fridays from 1970 up to each day, itself included."""
    since_monday = days.astype("datetime64[D]").astype(np.int64) + 3  # 1970 began on a Thursday
    return (since_monday // 7 * 5 + np.minimum(since_monday % 7 + 1, 5)).astype(np.float64)
