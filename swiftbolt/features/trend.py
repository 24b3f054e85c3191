"""Trend: which way the price is going and how plainly. Every value at session t uses sessions up to t."""

from __future__ import annotations

from functools import partial

import numpy as np
import talib

from swiftbolt.features.history import CLOSE_WINDOW, DIRECTIONAL_SPAN, DIRECTIONAL_WINDOW, History
from swiftbolt.features.rolling import (
    Float64,
    Sums,
    change,
    exponential_mean,
    growth,
    mean_absolute_deviation,
    ratio,
    rolling_max,
    rolling_mean,
    rolling_min,
    row_by_row,
)
from swiftbolt.features.spec import Feature

# Highs that tie as traded differ in their last bits once adjusted. Counted in whole units of this, in the
# log, they tie again; the smallest step of a real price is a hundred times larger.
LOG_TIE = 1e-9


def distance_from_ema(history: History, span: int) -> Float64:
    """The close above (positive) or below its exponential mean, as a share of the mean."""
    return history.close_T / history.exponential_close(span) - 1.0


def ema_angle(history: History, span: int) -> Float64:
    """Growth of the close's exponential mean over ``span`` sessions."""
    return growth(history.exponential_close(span), span)


def directional_spread(history: History) -> Float64:
    """Wilder's +DI less -DI, -100 to 100; NaN where prices are flat.

    Source:
        Wilder (1978), "New Concepts in Technical Trading Systems", section IV.
    """
    plus_T, minus_T = history.directional_movement
    return 100.0 * ratio(plus_T - minus_T, history.true_range_mean(DIRECTIONAL_WINDOW))


def average_directional_index(history: History) -> Float64:
    """Wilder's ADX, 0 (no direction) to 100; sessions after a window without any movement count as 0."""
    plus_T, minus_T = history.directional_movement
    total_T = plus_T + minus_T
    index_T = np.abs(ratio(plus_T - minus_T, total_T))
    index_T[total_T == 0] = 0.0
    return 100.0 * exponential_mean(index_T, DIRECTIONAL_SPAN, DIRECTIONAL_WINDOW)


def commodity_channel_index(history: History, window: int) -> Float64:
    """The typical price's distance from its mean, in 0.015 mean absolute deviations; NaN where it is flat.

    Source:
        Lambert (1980), "Commodity Channel Index", Commodities magazine, October.
    """
    mean_T = rolling_mean(history.typical_T, window)
    index_T = ratio(history.typical_T - mean_T, 0.015 * mean_absolute_deviation(history.typical_T, mean_T, window))
    # Over flat prices one rounding error is divided by another.
    index_T[rolling_max(history.typical_T, window) == rolling_min(history.typical_T, window)] = np.nan
    return index_T


def aroon_oscillator(history: History, window: int) -> Float64:
    """Whether the highest high (100) or the lowest low (-100) of the window is the more recent.

    Source:
        Chande (1995), "The Time Price Oscillator", Technical Analysis of Stocks and Commodities 13(9).
    """
    high_T, low_T = (np.rint(log_price_T / LOG_TIE) for log_price_T in (history.log_high_T, history.log_low_T))
    return row_by_row(lambda high_T, low_T: talib.AROONOSC(high_T, low_T, window), high_T, low_T)


def efficiency_ratio(history: History, window: int) -> Float64:
    """Net move over the path walked, 0 (to and fro) to 1 (straight); NaN where prices are flat.

    Source:
        Kaufman (1995), "Smarter Trading", chapter 7.
    """
    path_T = Sums(np.abs(history.log_return_T)).over(window)
    return ratio(np.abs(change(history.log_close_T, window)), path_T)


_feature = partial(Feature, family="trend")

FEATURES = (
    *(
        _feature(
            name=f"distance_from_ema_{span}",
            look_back=CLOSE_WINDOW[span] - 1,
            formula=f"C / ema_{span}(C) - 1",
            range="above -1",
            degenerate=0.0,
            roadmap=(f"ema_{span}", f"distance_from_ema_{span}") if span in (20, 50) else (f"ema_{span}",),
            compute=partial(distance_from_ema, span=span),
        )
        for span in (5, 20, 50, 200)
    ),
    *(
        _feature(
            name=f"ema_angle_{span}",
            look_back=CLOSE_WINDOW[span] - 1 + span,
            formula=f"ema_{span}(C) / ema_{span}(C)[-{span}] - 1",
            range="above -1",
            degenerate=0.0,
            roadmap=(f"ema_angle_{span}",),
            compute=partial(ema_angle, span=span),
        )
        for span in (5, 20)
    ),
    _feature(
        name="adx",
        look_back=2 * DIRECTIONAL_WINDOW - 1,
        formula="100 ema_27(|P - M| / (P + M)), P = ema_27(+DM), M = ema_27(-DM)",
        source="Wilder (1978)",
        range="0..100",
        degenerate=0.0,
        roadmap=("adx",),
        compute=average_directional_index,
    ),
    _feature(
        name="di_spread",
        look_back=DIRECTIONAL_WINDOW,
        formula="100 (ema_27(+DM) - ema_27(-DM)) / ema_27(max(H, C[-1]) - min(L, C[-1]))",
        source="Wilder (1978)",
        range="-100..100",
        degenerate=0.0,
        compute=directional_spread,
    ),
    _feature(
        name="cci_20",
        look_back=19,
        formula="(P - mean_20(P)) / (0.015 mean_20(|P - mean_20(P)|)), P = (H + L + C) / 3",
        source="Lambert (1980)",
        range="-667..667",
        degenerate=0.0,
        roadmap=("cci_20",),
        compute=partial(commodity_channel_index, window=20),
    ),
    _feature(
        name="aroon_25",
        look_back=25,
        formula="4 (sessions since min_26(L) - sessions since max_26(H))",
        source="Chande (1995)",
        range="-100..100",
        degenerate=0.0,
        compute=partial(aroon_oscillator, window=25),
    ),
    _feature(
        name="efficiency_ratio_20",
        look_back=20,
        formula="|ln(C / C[-20])| / (20 mean_20(|r|))",
        source="Kaufman (1995)",
        range="0..1",
        degenerate=0.0,
        compute=partial(efficiency_ratio, window=20),
    ),
)
