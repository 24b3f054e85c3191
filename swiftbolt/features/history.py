"""Bars of symbols as arrays, and the series that several features share, each computed when first asked for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from swiftbolt.features.context import ROUNDING, Context
from swiftbolt.features.rolling import (
    Float64,
    Int64,
    Moments,
    Sums,
    change,
    exponential_mean,
    lag,
    ratio,
    rolling_max,
    rolling_mean,
    rolling_min,
)

# Rows after which the weights of an exponential mean are cut; powers of two are quickest. What is cut is
# below 1e-4 of the weight everywhere but for a span of 200 (8 %).
CLOSE_WINDOW = {5: 64, 12: 192, 20: 128, 26: 192, 50: 256, 200: 256}  # of the close, by span
WILDER_WINDOW = 256  # of Wilder's smoothing over n periods: a span of 2 n - 1
SIGNAL_SPAN, SIGNAL_WINDOW = 9, 64  # of the MACD's signal line
DIRECTIONAL_SPAN, DIRECTIONAL_WINDOW = 27, 128  # of the ADX: Wilder's 14 periods, smoothed twice
VOLUME_SPAN, VOLUME_WINDOW = 20, 128
STOCHASTIC_WINDOW, STOCHASTIC_SMOOTHING = 9, 3

# Prices this close to each other are the same price: forward adjustment and averaging (of high, low
# and close) leave differences in the last bits, and their sign must not decide anything.
TIE = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Bars of one symbol, or of several of as many bars each: T contiguous values, ascending in session.

    Prices are in dollars and volume in shares of the symbol's first session (``swiftbolt.actions.forward_adjusted``).

    Attributes:
        dollars_T: raw close times raw volume.
        market_T: the market's log return since the symbol's previous bar.
        session_T: position in the sessions of the ``Context``.
        dividend_age_T, dividend_wait_T: days since the last ex-date and to the next one.
    """

    open_T: Float64
    high_T: Float64
    low_T: Float64
    close_T: Float64
    volume_T: Float64
    dollars_T: Float64
    market_T: Float64
    session_T: Int64
    dividend_age_T: Float64
    dividend_wait_T: Float64

    def __len__(self) -> int:
        return int(self.close_T.shape[-1])

    @classmethod
    def stack(cls, parts: list[Columns]) -> Columns:
        """Several symbols' bars on top of each other."""
        return cls(**{field.name: np.stack([getattr(part, field.name) for part in parts]) for field in fields(cls)})


class History:
    """``Columns``, and what several features make of them."""

    def __init__(self, columns: Columns, context: Context) -> None:
        self.open_T, self.high_T, self.low_T = columns.open_T, columns.high_T, columns.low_T
        self.close_T, self.volume_T, self.dollars_T = columns.close_T, columns.volume_T, columns.dollars_T
        self.dividend_age_T, self.dividend_wait_T = columns.dividend_age_T, columns.dividend_wait_T
        self.market_T = columns.market_T
        self.session_T, self.context = columns.session_T, context
        self._exponential_closes: dict[int, Float64] = {}
        self._close_moments: dict[int, tuple[Float64, Float64]] = {}
        self._squared_deviations: dict[int, Float64] = {}
        self._volatilities: dict[int, Float64] = {}
        self._market_moments: dict[int, MarketMoments] = {}

    @cached_property
    def log_close_T(self) -> Float64:
        """Log of the close."""
        return np.log(self.close_T)

    @cached_property
    def log_return_T(self) -> Float64:
        """Log return from the previous close."""
        return change(self.log_close_T, 1)

    @cached_property
    def log_open_T(self) -> Float64:
        """Log of the open."""
        return np.log(self.open_T)

    @cached_property
    def overnight_return_T(self) -> Float64:
        """Log return from the previous close to the open."""
        return self.log_open_T - lag(self.log_close_T, 1)

    @cached_property
    def intraday_return_T(self) -> Float64:
        """Log return from the open to the close."""
        return self.log_close_T - self.log_open_T

    @cached_property
    def log_high_T(self) -> Float64:
        """Log of the high."""
        return np.log(self.high_T)

    @cached_property
    def log_low_T(self) -> Float64:
        """Log of the low."""
        return np.log(self.low_T)

    @cached_property
    def squared_range_sums(self) -> Sums:
        """Sums of the square of the log of high over low."""
        return Sums(np.square(self.log_high_T - self.log_low_T))

    @cached_property
    def squared_night_sums(self) -> Sums:
        """Sums of the squared log return from the previous close to the open."""
        return Sums(np.square(self.overnight_return_T))

    @cached_property
    def squared_day_sums(self) -> Sums:
        """Sums of the squared log return from the open to the close."""
        return Sums(np.square(self.intraday_return_T))

    @cached_property
    def rogers_satchell_sums(self) -> Sums:
        """Sums of the session's variance between its open and close, whatever its drift.

        Source:
            Rogers, Satchell (1991), "Estimating Variance from High, Low and Closing Prices", Annals of Applied
            Probability 1(4).
        """
        up_T = (self.log_high_T - self.log_close_T) * (self.log_high_T - self.log_open_T)
        up_T += (self.log_low_T - self.log_close_T) * (self.log_low_T - self.log_open_T)
        return Sums(up_T)

    @cached_property
    def squared_return_T(self) -> Float64:
        """Squared log return."""
        return np.square(self.log_return_T)

    @cached_property
    def squared_return_sums(self) -> Sums:
        """Sums of squared log returns."""
        return Sums(self.squared_return_T)

    @cached_property
    def volume_sums(self) -> Sums:
        """Sums of the volume, in shares."""
        return Sums(self.volume_T)

    @cached_property
    def close_sums(self) -> Sums:
        """Sums of the close, in dollars."""
        return Sums(self.close_T)

    @cached_property
    def _moments_of_close(self) -> Moments:
        return Moments(self.close_T)

    @cached_property
    def change_T(self) -> Float64:
        """Change from the previous close, in dollars."""
        return change(self.close_T, 1)

    @cached_property
    def absolute_change_T(self) -> Float64:
        """The same without its sign."""
        return np.abs(self.change_T)

    @cached_property
    def typical_T(self) -> Float64:
        """Mean of high, low and close."""
        return (self.high_T + self.low_T + self.close_T) / 3.0

    @cached_property
    def true_range_T(self) -> Float64:
        """High less low, stretched to the previous close where that lies outside."""
        previous_T = lag(self.close_T, 1)
        return np.maximum(self.high_T, previous_T) - np.minimum(self.low_T, previous_T)

    @cached_property
    def close_location_T(self) -> Float64:
        """Where the close lies between low (0) and high (1); NaN where they are equal."""
        return ratio(self.close_T - self.low_T, self.high_T - self.low_T)

    @cached_property
    def macd_line_T(self) -> Float64:
        """Exponential mean of the close over a span of 12 less that of 26, in dollars."""
        return self.exponential_close(12) - self.exponential_close(26)

    @cached_property
    def macd_signal_T(self) -> Float64:
        """Exponential mean of the MACD line, in dollars."""
        return exponential_mean(self.macd_line_T, SIGNAL_SPAN, SIGNAL_WINDOW)

    @cached_property
    def directional_movement(self) -> tuple[Float64, Float64]:
        """Wilder's smoothed movement upwards and downwards, in dollars a session; a tie counts for neither."""
        up_T, down_T = change(self.high_T, 1), -change(self.low_T, 1)
        excess_T, tie_T = up_T - down_T, TIE * self.close_T
        plus_T = np.maximum(up_T, 0.0) * (excess_T > tie_T)
        minus_T = np.maximum(down_T, 0.0) * (excess_T < -tie_T)
        return (
            exponential_mean(plus_T, DIRECTIONAL_SPAN, DIRECTIONAL_WINDOW),
            exponential_mean(minus_T, DIRECTIONAL_SPAN, DIRECTIONAL_WINDOW),
        )

    @cached_property
    def stochastic_k_T(self) -> Float64:
        """Slow %K of a 9-session stochastic, 0 to 100; a session whose window is flat counts as 50."""
        lowest_T = rolling_min(self.low_T, STOCHASTIC_WINDOW)
        range_T = rolling_max(self.high_T, STOCHASTIC_WINDOW) - lowest_T
        fast_T = ratio(self.close_T - lowest_T, range_T)
        fast_T[range_T == 0] = 0.5
        return 100.0 * rolling_mean(fast_T, STOCHASTIC_SMOOTHING)

    @cached_property
    def signed_volume_T(self) -> Float64:
        """Volume with the sign of the close's change."""
        return signed(self.volume_T, self.close_T)

    @cached_property
    def accumulated_volume_T(self) -> Float64:
        """Volume times where the close lies in the range, from -1 at the low to 1 at the high, 0 without a range."""
        share_T = 2.0 * self.close_location_T - 1.0
        share_T[np.isnan(share_T)] = 0.0
        return share_T * self.volume_T

    @cached_property
    def exponential_volume_T(self) -> Float64:
        """Exponential mean of the volume, in shares."""
        return exponential_mean(self.volume_T, VOLUME_SPAN, VOLUME_WINDOW)

    @cached_property
    def dollar_sums(self) -> Sums:
        """Sums of the dollars traded."""
        return Sums(self.dollars_T)

    @cached_property
    def _impact_sums(self) -> tuple[Sums, Sums | None]:
        """Of the absolute log return per dollar traded, and of the sessions on which any was (None: on all)."""
        impact_T = np.abs(self.log_return_T)
        traded_T = self.dollars_T > 0
        if traded_T.all():
            return Sums(np.divide(impact_T, self.dollars_T, out=impact_T)), None
        np.divide(impact_T, self.dollars_T, out=impact_T, where=traded_T)
        impact_T[~traded_T] = 0.0
        return Sums(impact_T), Sums(traded_T.astype(np.float64))

    @cached_property
    def _true_range_sums(self) -> Sums:
        return Sums(self.true_range_T, decay=(DIRECTIONAL_SPAN - 1) / (DIRECTIONAL_SPAN + 1))

    @cached_property
    def _market_sums(self) -> tuple[Sums, Sums] | None:
        """Of the market's log return between the symbol's bars, and of its square; None where it missed no session."""
        if (self.session_T[..., -1] - self.session_T[..., 0] == self.session_T.shape[-1] - 1).all():
            return None
        return Sums(self.market_T), Sums(np.square(self.market_T))

    @cached_property
    def _joint_sums(self) -> Sums:
        return Sums(self.market_T * self.log_return_T)

    def on_session(self, values_S: Float64) -> Float64:
        """What the ``Context`` has for each bar's session."""
        return values_S[self.session_T]

    def price_impact(self, window: int) -> Float64:
        """Amihud's illiquidity: mean absolute log return per dollar traded, over the sessions that traded."""
        impact, traded = self._impact_sums
        if traded is None:
            return impact.over(window) / window
        return ratio(impact.over(window), traded.over(window))

    def market_moments(self, window: int) -> MarketMoments:
        """How the symbol moves with the market."""
        if window not in self._market_moments:
            market_T = self.market_over(window)
            if self._market_sums is None:
                squares_T = self.on_session(self.context.squared_market_over(window))
            else:
                squares_T = self._market_sums[1].over(window)
            spread_T = squares_T - np.square(market_T) / window
            spread_T[spread_T <= ROUNDING * squares_T] = 0.0
            joint_T = change(self.log_close_T, window) * market_T
            joint_T /= -window
            joint_T += self._joint_sums.over(window)
            self._market_moments[window] = MarketMoments(beta_T=ratio(joint_T, spread_T), joint_T=joint_T)
        return self._market_moments[window]

    def market_over(self, window: int) -> Float64:
        """The market's log return over the last ``window`` bars."""
        if self._market_sums is None:
            return self.on_session(self.context.market_over(window))
        return self._market_sums[0].over(window)

    def exponential_close(self, span: int) -> Float64:
        """Exponential mean of the close."""
        if span not in self._exponential_closes:
            self._exponential_closes[span] = exponential_mean(self.close_T, span, CLOSE_WINDOW[span])
        return self._exponential_closes[span]

    def close_moments(self, window: int) -> tuple[Float64, Float64]:
        """Mean of the close and its standard deviation, with ``window`` below."""
        if window not in self._close_moments:
            self._close_moments[window] = self._moments_of_close.over(window)
        return self._close_moments[window]

    def squared_deviations(self, window: int) -> Float64:
        """Squared distances of the log returns from their mean, added up."""
        if window not in self._squared_deviations:
            squares_T = self.squared_return_sums.over(window)
            around_mean_T = squares_T - np.square(change(self.log_close_T, window)) / window
            around_mean_T[around_mean_T <= ROUNDING * squares_T] = 0.0
            self._squared_deviations[window] = around_mean_T
        return self._squared_deviations[window]

    def volatility(self, window: int) -> Float64:
        """Standard deviation of a session's log return, with ``window - 1`` below."""
        if window not in self._volatilities:
            self._volatilities[window] = np.sqrt(self.squared_deviations(window) / (window - 1))
        return self._volatilities[window]

    def true_range_mean(self, window: int) -> Float64:
        """Exponential mean of the true range over Wilder's 14 periods, in dollars."""
        decay = (DIRECTIONAL_SPAN - 1) / (DIRECTIONAL_SPAN + 1)
        out_T = self._true_range_sums.over(window)
        out_T *= (1 - decay) / (1 - decay**window)
        return out_T


@dataclass(frozen=True, slots=True)
class MarketMoments:
    """Of the last bars of a symbol: its beta (NaN where the market has not moved) and what that was made from.

    Attributes:
        joint_T: products of the two log returns' distances from their means, added up.
    """

    beta_T: Float64
    joint_T: Float64


def signed(x_T: Float64, price_T: Float64) -> Float64:
    """``x``, not negative, with the sign of the price's change from the row before.

    Zero where the price has not changed, NaN in the first row.
    """
    change_T = change(price_T, 1)
    out_T = np.copysign(x_T, change_T)
    out_T[np.abs(change_T) <= TIE * price_T] = 0.0
    out_T[..., 0] = np.nan
    return out_T
