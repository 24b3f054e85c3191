"""Volatility: how widely the price moves, a year's worth of it. Every value at session t uses sessions up to t."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from swiftbolt.features.history import WILDER_WINDOW, History
from swiftbolt.features.rolling import Float64, exponential_mean, ratio, rolling_mean
from swiftbolt.features.spec import Feature

SESSIONS_PER_YEAR = 252
BAND_WINDOW, BAND_WIDTH = 20, 2.0  # Bollinger's: sessions, and standard deviations to either side


def volatility(history: History, window: int) -> Float64:
    """Standard deviation of the log return over ``window`` sessions, annualised (0.3 is 30 % a year)."""
    return math.sqrt(SESSIONS_PER_YEAR) * history.volatility(window)


def volatility_ratio(history: History, short: int, long: int) -> Float64:
    """Recent volatility as a multiple of that of a longer window; NaN where prices are flat over the latter."""
    return ratio(history.volatility(short), history.volatility(long))


def parkinson_volatility(history: History, window: int) -> Float64:
    """Volatility of the session estimated from its range, annualised.

    Source:
        Parkinson (1980), "The Extreme Value Method for Estimating the Variance of the Rate of Return",
        Journal of Business 53(1).
    """
    variance_T = rolling_mean(history.squared_log_range_T, window) / (4 * math.log(2))
    return np.sqrt(SESSIONS_PER_YEAR * variance_T)


def garman_klass_volatility(history: History, window: int) -> Float64:
    """Volatility of the session estimated from its range, open and close, annualised.

    Source:
        Garman, Klass (1980), "On the Estimation of Security Price Volatilities from Historical Data",
        Journal of Business 53(1), equation 20.
    """
    body_T = np.square(np.log(history.close_T / history.open_T))
    variance_T = rolling_mean(0.5 * history.squared_log_range_T - (2 * math.log(2) - 1) * body_T, window)
    return np.sqrt(SESSIONS_PER_YEAR * variance_T)


def band_width(history: History) -> Float64:
    """Distance between Bollinger's bands as a share of their middle."""
    mean_T, sd_T = history.close_moments(BAND_WINDOW)
    return 2 * BAND_WIDTH * sd_T / mean_T


def band_position(history: History) -> Float64:
    """Where the close lies between the lower (0) and the upper band (1); NaN where prices are flat."""
    mean_T, sd_T = history.close_moments(BAND_WINDOW)
    return 0.5 + ratio(history.close_T - mean_T, 2 * BAND_WIDTH * sd_T)


def average_true_range(history: History, periods: int) -> Float64:
    """Wilder's average true range as a share of the close."""
    return exponential_mean(history.true_range_T, 2 * periods - 1, WILDER_WINDOW) / history.close_T


_feature = partial(Feature, family="volatility")

FEATURES = (
    _feature(
        name="volatility_10d",
        look_back=10,
        formula="sqrt(252) sd_10(r)",
        degenerate=0.0,
        compute=partial(volatility, window=10),
    ),
    _feature(
        name="volatility_20d",
        look_back=20,
        formula="sqrt(252) sd_20(r)",
        degenerate=0.0,
        compute=partial(volatility, window=20),
    ),
    _feature(
        name="volatility_60d",
        look_back=60,
        formula="sqrt(252) sd_60(r)",
        degenerate=0.0,
        compute=partial(volatility, window=60),
    ),
    _feature(
        name="volatility_ratio",
        look_back=60,
        formula="sd_10(r) / sd_60(r)",
        degenerate=1.0,
        compute=partial(volatility_ratio, short=10, long=60),
    ),
    _feature(
        name="parkinson_20d",
        look_back=19,
        formula="sqrt(252 mean_20(ln(H / L)^2) / (4 ln 2))",
        degenerate=0.0,
        compute=partial(parkinson_volatility, window=20),
    ),
    _feature(
        name="garman_klass_20d",
        look_back=19,
        formula="sqrt(252 mean_20(ln(H / L)^2 / 2 - (2 ln 2 - 1) ln(C / O)^2))",
        degenerate=0.0,
        compute=partial(garman_klass_volatility, window=20),
    ),
    _feature(
        name="bb_width",
        look_back=BAND_WINDOW - 1,
        formula="4 sd_20(C) / mean_20(C)",
        degenerate=0.0,
        compute=band_width,
    ),
    _feature(
        name="bb_position",
        look_back=BAND_WINDOW - 1,
        formula="(C - mean_20(C) + 2 sd_20(C)) / (4 sd_20(C))",
        degenerate=0.5,
        compute=band_position,
    ),
    _feature(
        name="atr_ratio",
        look_back=WILDER_WINDOW,
        formula="ema_27(max(H, C[-1]) - min(L, C[-1])) / C",
        degenerate=0.0,
        compute=partial(average_true_range, periods=14),
    ),
)
