"""Mean reversion: how far the price is from where it has been. Every value at session t uses sessions up to t."""

from __future__ import annotations

import math
from functools import partial

from swiftbolt.features.history import STOCHASTIC_SMOOTHING, History
from swiftbolt.features.rolling import Float64, ratio, rolling_max, rolling_mean, rolling_min
from swiftbolt.features.spec import Feature


def zscore(history: History, window: int) -> Float64:
    """The close's distance from its mean in sample standard deviations; NaN where prices are flat."""
    mean_T, sd_T = history.close_moments(window)
    return ratio(history.close_T - mean_T, sd_T * math.sqrt(window / (window - 1)))


def distance_from_mean(history: History, window: int) -> Float64:
    """The close above (positive) or below its mean, as a share of the mean."""
    return history.close_T / (history.close_sums.over(window) / window) - 1.0


def stochastic_k(history: History) -> Float64:
    """Slow %K of a 9-session stochastic, 0 to 100.

    Source:
        Lane (1984), "Lane's Stochastics", Technical Analysis of Stocks and Commodities 2(3).
    """
    return history.stochastic_k_T


def stochastic_d(history: History) -> Float64:
    """Slow %D: the mean of three slow %K."""
    return rolling_mean(history.stochastic_k_T, STOCHASTIC_SMOOTHING)


def williams_r(history: History, window: int) -> Float64:
    """Where the close lies between the window's lowest low (-100) and highest high (0); NaN where they are equal.

    Source:
        Williams (1979), "How I Made One Million Dollars Last Year Trading Commodities".
    """
    highest_T = rolling_max(history.high_T, window)
    return 100.0 * ratio(history.close_T - highest_T, highest_T - rolling_min(history.low_T, window))


def distance_from_high(history: History, window: int) -> Float64:
    """The close below the highest close of the window, as a share of it; 0 at a new high.

    Source:
        George, Hwang (2004), "The 52-Week High and Momentum Investing", Journal of Finance 59(5).
    """
    return history.close_T / rolling_max(history.close_T, window) - 1.0


_feature = partial(Feature, family="mean_reversion")

FEATURES = (
    _feature(
        name="zscore_50d",
        look_back=49,
        formula="(C - mean_50(C)) / sd_50(C)",
        range="-7..7",
        degenerate=0.0,
        roadmap=("zscore_50d",),
        compute=partial(zscore, window=50),
    ),
    _feature(
        name="pct_above_sma_50",
        look_back=49,
        formula="C / mean_50(C) - 1",
        range="-1..49",
        degenerate=0.0,
        roadmap=("pct_above_sma_50",),
        compute=partial(distance_from_mean, window=50),
    ),
    _feature(
        name="pct_above_sma_200",
        look_back=199,
        formula="C / mean_200(C) - 1",
        range="-1..199",
        degenerate=0.0,
        roadmap=("pct_above_sma_200",),
        compute=partial(distance_from_mean, window=200),
    ),
    _feature(
        name="kdj_k",
        look_back=10,
        formula="100 mean_3((C - min_9(L)) / (max_9(H) - min_9(L)))",
        source="Lane (1984)",
        range="0..100",
        degenerate=50.0,
        roadmap=("kdj_k",),
        compute=stochastic_k,
    ),
    _feature(
        name="kdj_d",
        look_back=12,
        formula="mean_3(kdj_k)",
        source="Lane (1984)",
        range="0..100",
        degenerate=50.0,
        roadmap=("kdj_d",),
        compute=stochastic_d,
    ),
    _feature(
        name="williams_r_14",
        look_back=13,
        formula="100 (C - max_14(H)) / (max_14(H) - min_14(L))",
        source="Williams (1979)",
        range="-100..0",
        degenerate=-50.0,
        compute=partial(williams_r, window=14),
    ),
    _feature(
        name="distance_from_high_250d",
        look_back=249,
        formula="C / max_250(C) - 1",
        source="George, Hwang (2004)",
        range="-1..0",
        degenerate=0.0,
        compute=partial(distance_from_high, window=250),
    ),
    _feature(
        name="close_location",
        look_back=0,
        formula="(C - L) / (H - L)",
        range="0..1",
        degenerate=0.5,
        compute=lambda history: history.close_location_T,
    ),
)
