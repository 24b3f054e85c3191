"""One symbol's bars as arrays, and the series that several features share, each computed when first asked for."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from swiftbolt.features.rolling import (
    Float64,
    Moments,
    Sums,
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
# Log returns of equal size leave this much of their sum of squares as rounding; a real spread is far above.
ROUNDING = 1e-12


class History:
    """Adjusted bars of one symbol, T contiguous float64 values each, ascending in session.

    Prices are in dollars and volume in shares of the symbol's first session (``swiftbolt.actions.forward_adjusted``).
    """

    def __init__(
        self, *, open_T: Float64, high_T: Float64, low_T: Float64, close_T: Float64, volume_T: Float64
    ) -> None:
        self.open_T, self.high_T, self.low_T, self.close_T, self.volume_T = open_T, high_T, low_T, close_T, volume_T
        self._exponential_closes: dict[int, Float64] = {}
        self._close_moments: dict[int, tuple[Float64, Float64]] = {}
        self._volatilities: dict[int, Float64] = {}

    def __len__(self) -> int:
        return len(self.close_T)

    @cached_property
    def log_close_T(self) -> Float64:
        """Log of the close."""
        return np.log(self.close_T)

    @cached_property
    def log_return_T(self) -> Float64:
        """Log return from the previous close."""
        return self.log_close_T - lag(self.log_close_T, 1)

    @cached_property
    def squared_log_range_T(self) -> Float64:
        """Square of the log of high over low."""
        return np.square(np.log(self.high_T / self.low_T))

    @cached_property
    def squared_return_sums(self) -> Sums:
        """Sums of squared log returns."""
        return Sums(np.square(self.log_return_T))

    @cached_property
    def volume_sums(self) -> Sums:
        """Sums of the volume, in shares."""
        return Sums(self.volume_T)

    @cached_property
    def _moments_of_close(self) -> Moments:
        return Moments(self.close_T)

    @cached_property
    def change_T(self) -> Float64:
        """Change from the previous close, in dollars."""
        return self.close_T - lag(self.close_T, 1)

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
        up_T = self.high_T - lag(self.high_T, 1)
        down_T = lag(self.low_T, 1) - self.low_T
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

    def volatility(self, window: int) -> Float64:
        """Standard deviation of a session's log return, with ``window - 1`` below."""
        if window not in self._volatilities:
            squares_T = self.squared_return_sums.over(window)
            total_T = self.log_close_T - lag(self.log_close_T, window)
            around_mean_T = squares_T - np.square(total_T) / window
            around_mean_T[around_mean_T <= ROUNDING * squares_T] = 0.0
            self._volatilities[window] = np.sqrt(around_mean_T / (window - 1))
        return self._volatilities[window]


def signed(x_T: Float64, price_T: Float64) -> Float64:
    """``x``, not negative, with the sign of the price's change from the row before.

    Zero where the price has not changed, NaN in the first row.
    """
    change_T = price_T - lag(price_T, 1)
    out_T = np.copysign(x_T, change_T)
    out_T[np.abs(change_T) <= TIE * price_T] = 0.0
    out_T[0] = np.nan
    return out_T
