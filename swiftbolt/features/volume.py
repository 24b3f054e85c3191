"""Volume: how much is traded, and on which side. Every value at session t uses sessions up to t.

Only ratios of volumes: the lines that volume indicators draw from the first session on (OBV, A/D) have no
scale, so their change over a window is divided by the volume of that window.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from swiftbolt.features.history import VOLUME_SPAN, VOLUME_WINDOW, History, signed
from swiftbolt.features.rolling import Float64, Sums, exponential_mean, ratio
from swiftbolt.features.spec import Feature


def volume_ratio(history: History, window: int) -> Float64:
    """Volume as a multiple of its mean; NaN where nothing was traded."""
    return ratio(history.volume_T, history.volume_sums.over(window) / window)


def volume_trend(history: History, short: int, long: int) -> Float64:
    """Recent mean volume as a multiple of that of a longer window; NaN where nothing was traded in the latter."""
    return ratio(history.volume_sums.over(short) / short, history.volume_sums.over(long) / long)


def on_balance_volume(history: History, window: int) -> Float64:
    """Change of Granville's on-balance volume over the volume: -1 (all on falling days) to 1."""
    return ratio(Sums(history.signed_volume_T).over(window), history.volume_sums.over(window))


def smooth_on_balance_volume(history: History) -> Float64:
    """The same with exponentially falling weights."""
    return _smooth_share(history.signed_volume_T, history)


def money_flow_index(history: History, window: int) -> Float64:
    """Share of the dollars traded on days of a rising typical price, 0 to 100; NaN where there are none.

    Source:
        Quong, Soudack (1989), "Volume-Weighted RSI: Money Flow", Technical Analysis of Stocks and Commodities 7(3).
    """
    flow_T = signed(history.typical_T * history.volume_T, history.typical_T)
    return 50.0 * (1.0 + ratio(Sums(flow_T).over(window), Sums(np.abs(flow_T)).over(window)))


def accumulation(history: History, window: int) -> Float64:
    """Change of Chaikin's accumulation/distribution line over the volume, -1 to 1: his money flow."""
    return ratio(Sums(history.accumulated_volume_T).over(window), history.volume_sums.over(window))


def smooth_accumulation(history: History) -> Float64:
    """The same with exponentially falling weights."""
    return _smooth_share(history.accumulated_volume_T, history)


def _smooth_share(part_T: Float64, history: History) -> Float64:
    return ratio(exponential_mean(part_T, VOLUME_SPAN, VOLUME_WINDOW), history.exponential_volume_T)


def dollar_volume_ratio(history: History, short: int, long: int) -> Float64:
    """Recent mean of the dollars traded as a multiple of that of a longer window; NaN where there are none."""
    return ratio(history.dollar_sums.over(short) / short, history.dollar_sums.over(long) / long)


def illiquidity_ratio(history: History, short: int, long: int) -> Float64:
    """Recent price impact of a dollar traded as a multiple of that of a longer window.

    Source:
        Amihud (2002), "Illiquidity and Stock Returns", Journal of Financial Markets 5(1), against its own past,
        so that it has no unit.
    """
    return ratio(history.price_impact(short), history.price_impact(long))


_feature = partial(Feature, family="volume")

FEATURES = (
    _feature(
        name="volume_ratio",
        look_back=19,
        formula="V / mean_20(V)",
        range="0..20",
        degenerate=1.0,
        roadmap=("volume_ratio",),
        compute=partial(volume_ratio, window=20),
    ),
    _feature(
        name="volume_trend",
        look_back=59,
        formula="mean_5(V) / mean_60(V)",
        range="0..12",
        degenerate=1.0,
        compute=partial(volume_trend, short=5, long=60),
    ),
    _feature(
        name="obv",
        look_back=20,
        formula="mean_20(sign(C - C[-1]) V) / mean_20(V)",
        source="Granville (1963)",
        range="-1..1",
        degenerate=0.0,
        roadmap=("obv",),
        compute=partial(on_balance_volume, window=20),
    ),
    _feature(
        name="obv_ema",
        look_back=VOLUME_WINDOW,
        formula="ema_20(sign(C - C[-1]) V) / ema_20(V)",
        source="Granville (1963)",
        range="-1..1",
        degenerate=0.0,
        roadmap=("obv_ema",),
        compute=smooth_on_balance_volume,
    ),
    _feature(
        name="mfi_14",
        look_back=14,
        formula="50 (1 + mean_14(F) / mean_14(|F|)), F = sign(P - P[-1]) P V, P = (H + L + C) / 3",
        source="Quong, Soudack (1989)",
        range="0..100",
        degenerate=50.0,
        roadmap=("mfi_14",),
        compute=partial(money_flow_index, window=14),
    ),
    _feature(
        name="ad",
        look_back=19,
        formula="mean_20((2 C - H - L) / (H - L) V) / mean_20(V)",
        source="Chaikin",
        range="-1..1",
        degenerate=0.0,
        roadmap=("ad",),
        compute=partial(accumulation, window=20),
    ),
    _feature(
        name="ad_ema",
        look_back=VOLUME_WINDOW - 1,
        formula="ema_20((2 C - H - L) / (H - L) V) / ema_20(V)",
        source="Chaikin",
        range="-1..1",
        degenerate=0.0,
        roadmap=("ad_ema",),
        compute=smooth_accumulation,
    ),
    _feature(
        name="dollar_volume_ratio",
        look_back=249,
        formula="mean_20(D) / mean_250(D)",
        range="0..12.5",
        degenerate=1.0,
        compute=partial(dollar_volume_ratio, short=20, long=250),
    ),
    _feature(
        name="amihud_20d",
        look_back=250,
        formula="mean_20(|r| / D) / mean_250(|r| / D), of sessions with D > 0",
        source="Amihud (2002)",
        range="0..250",
        degenerate=1.0,
        compute=partial(illiquidity_ratio, short=20, long=250),
    ),
)
