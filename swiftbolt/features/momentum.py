"""Momentum: how far and how steadily the price has moved. Every value at session t uses sessions up to t."""

from __future__ import annotations

from functools import partial

import numpy as np

from swiftbolt.features.history import CLOSE_WINDOW, SIGNAL_WINDOW, WILDER_WINDOW, History
from swiftbolt.features.rolling import Float64, exponential_mean, lag, ratio
from swiftbolt.features.spec import Feature


def overnight_return(history: History) -> Float64:
    """Log return from the previous close to the open."""
    return np.log(history.open_T / lag(history.close_T, 1))


def momentum(history: History, sessions: int) -> Float64:
    """Return over ``sessions`` sessions (0.02 is 2 %)."""
    return history.close_T / lag(history.close_T, sessions) - 1.0


def skipped_momentum(history: History, sessions: int, skipped: int) -> Float64:
    """Return over ``sessions`` sessions without the last ``skipped``.

    Source:
        Jegadeesh, Titman (1993), "Returns to Buying Winners and Selling Losers", Journal of Finance 48(1).
    """
    return lag(history.close_T, skipped) / lag(history.close_T, sessions) - 1.0


def rsi(history: History, periods: int) -> Float64:
    """Relative strength index: the share of gains in all absolute changes, 0 to 100; NaN without a change.

    Source:
        Wilder (1978), "New Concepts in Technical Trading Systems", section VI.
    """
    span = 2 * periods - 1
    net_T = exponential_mean(history.change_T, span, WILDER_WINDOW)
    gross_T = exponential_mean(history.absolute_change_T, span, WILDER_WINDOW)
    return 50.0 * (1.0 + ratio(net_T, gross_T))


def macd(history: History) -> Float64:
    """The MACD line as a share of the close."""
    return history.macd_line_T / history.close_T


def macd_signal(history: History) -> Float64:
    """The MACD's signal line as a share of the close."""
    return history.macd_signal_T / history.close_T


def macd_histogram(history: History) -> Float64:
    """The MACD line less its signal line, as a share of the close."""
    return (history.macd_line_T - history.macd_signal_T) / history.close_T


_feature = partial(Feature, family="momentum")
_MACD_LOOK_BACK = CLOSE_WINDOW[26] - 1
_SIGNAL_LOOK_BACK = _MACD_LOOK_BACK + SIGNAL_WINDOW - 1

FEATURES = (
    _feature(
        name="return_1d",
        look_back=1,
        formula="ln(C / C[-1])",
        degenerate=0.0,
        compute=lambda history: history.log_return_T,
    ),
    _feature(
        name="overnight_return",
        look_back=1,
        formula="ln(O / C[-1])",
        degenerate=0.0,
        compute=overnight_return,
    ),
    _feature(
        name="momentum_5d",
        look_back=5,
        formula="C / C[-5] - 1",
        degenerate=0.0,
        compute=partial(momentum, sessions=5),
    ),
    _feature(
        name="momentum_20d",
        look_back=20,
        formula="C / C[-20] - 1",
        degenerate=0.0,
        compute=partial(momentum, sessions=20),
    ),
    _feature(
        name="momentum_60d",
        look_back=60,
        formula="C / C[-60] - 1",
        degenerate=0.0,
        compute=partial(momentum, sessions=60),
    ),
    _feature(
        name="momentum_12_1",
        look_back=252,
        formula="C[-21] / C[-252] - 1",
        degenerate=0.0,
        compute=partial(skipped_momentum, sessions=252, skipped=21),
    ),
    _feature(
        name="rsi_14",
        look_back=WILDER_WINDOW,
        formula="50 (1 + ema_27(C - C[-1]) / ema_27(|C - C[-1]|))",
        degenerate=50.0,
        compute=partial(rsi, periods=14),
    ),
    _feature(
        name="rsi_20",
        look_back=WILDER_WINDOW,
        formula="50 (1 + ema_39(C - C[-1]) / ema_39(|C - C[-1]|))",
        degenerate=50.0,
        compute=partial(rsi, periods=20),
    ),
    _feature(
        name="macd",
        look_back=_MACD_LOOK_BACK,
        formula="(ema_12(C) - ema_26(C)) / C",
        degenerate=0.0,
        compute=macd,
    ),
    _feature(
        name="macd_signal",
        look_back=_SIGNAL_LOOK_BACK,
        formula="ema_9(ema_12(C) - ema_26(C)) / C",
        degenerate=0.0,
        compute=macd_signal,
    ),
    _feature(
        name="macd_histogram",
        look_back=_SIGNAL_LOOK_BACK,
        formula="macd - macd_signal",
        degenerate=0.0,
        compute=macd_histogram,
    ),
)
