"""Volatility: how widely the price moves, a year's worth of it. Every value at session t uses sessions up to t."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from swiftbolt.features.context import ROUNDING
from swiftbolt.features.history import DIRECTIONAL_SPAN, WILDER_WINDOW, History
from swiftbolt.features.rolling import Float64, Sums, change, maximum_drawdown, ratio, rolling_mean
from swiftbolt.features.spec import Feature

SESSIONS_PER_YEAR = 252
BAND_WINDOW, BAND_WIDTH = 20, 2.0  # Bollinger's: sessions, and standard deviations to either side

# A GARCH(1, 1) that is fitted to nothing: the usual estimates for daily share prices.
GARCH_ALPHA, GARCH_BETA = 0.08, 0.90
GARCH_WINDOW, GARCH_TARGET_WINDOW = 128, 250  # of the recursion, and of the variance it returns to


def volatility(history: History, window: int) -> Float64:
    """Standard deviation of the log return over ``window`` sessions, annualised (0.3 is 30 % a year)."""
    return math.sqrt(SESSIONS_PER_YEAR) * history.volatility(window)


def volatility_ratio(history: History, short: int, long: int) -> Float64:
    """Recent volatility as a multiple of that of a longer window; NaN where prices are flat over the latter."""
    return ratio(history.volatility(short), history.volatility(long))


def realised_volatility(history: History, window: int) -> Float64:
    """Root of the mean squared move, overnight and from open to close each counted by itself; annualised.

    Source:
        Andersen, Bollerslev (1998), "Answering the Skeptics", International Economic Review 39(4), with the
        two moves of a session that daily bars show.
    """
    squares_T = history.squared_night_sums.over(window)
    squares_T += history.squared_day_sums.over(window)
    return _annual(squares_T, window)


def parkinson_volatility(history: History, window: int) -> Float64:
    """Volatility of the session estimated from its range, annualised.

    Source:
        Parkinson (1980), "The Extreme Value Method for Estimating the Variance of the Rate of Return",
        Journal of Business 53(1).
    """
    return _annual(history.squared_range_sums.over(window), window * 4 * math.log(2))


def garman_klass_volatility(history: History, window: int) -> Float64:
    """Volatility of the session estimated from its range, open and close, annualised.

    Source:
        Garman, Klass (1980), "On the Estimation of Security Price Volatilities from Historical Data",
        Journal of Business 53(1), equation 20.
    """
    # Never negative: a body is no longer than the range it lies in.
    variance_T = 0.5 * history.squared_range_sums.over(window)
    variance_T -= (2 * math.log(2) - 1) * history.squared_day_sums.over(window)
    return _annual(variance_T, window)


def rogers_satchell_volatility(history: History, window: int) -> Float64:
    """Volatility of the session estimated from all its prices, whatever its drift, annualised.

    Source:
        Rogers, Satchell (1991), "Estimating Variance from High, Low and Closing Prices", Annals of Applied
        Probability 1(4).
    """
    return _annual(history.rogers_satchell_sums.over(window), window)


def yang_zhang_volatility(history: History, window: int) -> Float64:
    """Volatility with the night, whatever the drift and the opening gaps, annualised.

    Source:
        Yang, Zhang (2000), "Drift-Independent Volatility Estimation Based on High, Low, Open, and Close Prices",
        Journal of Business 73(3).
    """
    share = 0.34 / (1.34 + (window + 1) / (window - 1))
    squares_T = history.squared_night_sums.over(window) + share * history.squared_day_sums.over(window)
    around_mean_T = np.square(Sums(history.overnight_return_T).over(window))
    around_mean_T += share * np.square(Sums(history.intraday_return_T).over(window))
    around_mean_T /= -window
    around_mean_T += squares_T
    around_mean_T[around_mean_T <= ROUNDING * squares_T] = 0.0
    around_mean_T *= window / (window - 1)
    around_mean_T += (1 - share) * history.rogers_satchell_sums.over(window)
    return _annual(around_mean_T, window)


def garch_volatility(history: History) -> Float64:
    """The next session's volatility of a GARCH(1, 1) with fixed weights around the past year's variance, annualised.

    Source:
        Bollerslev (1986), "Generalized Autoregressive Conditional Heteroskedasticity", Journal of Econometrics 31(3);
        Engle, Mezrich (1996), "GARCH for Groups", Risk 9(8), for the variance it is held to.
    """
    left = GARCH_BETA**GARCH_WINDOW
    of_target = (1 - GARCH_ALPHA - GARCH_BETA) * (1 - left) / (1 - GARCH_BETA) + left
    variance_T = history.squared_return_sums.over(GARCH_TARGET_WINDOW)
    variance_T *= of_target / GARCH_TARGET_WINDOW
    variance_T += GARCH_ALPHA * Sums(history.squared_return_T, GARCH_BETA).over(GARCH_WINDOW)
    return _annual(variance_T, 1)


def skewness(history: History, window: int) -> Float64:
    """Skewness of the log return; NaN where it has no spread."""
    mean_T = change(history.log_close_T, window) / window
    mean_square_T = history.squared_return_sums.over(window) / window
    cubes_T = rolling_mean(history.squared_return_T * history.log_return_T, window)
    third_T = cubes_T - 3 * mean_T * mean_square_T + 2 * mean_T * np.square(mean_T)
    deviation_T = np.sqrt(history.squared_deviations(window) / window)
    return ratio(third_T, deviation_T * np.square(deviation_T))


def drawdown(history: History, window: int) -> Float64:
    """Deepest fall from one close of the window to a later one, 0 (none) to -1.

    Source:
        Magdon-Ismail, Atiya (2004), "Maximum Drawdown", Risk 17(10).
    """
    return np.expm1(maximum_drawdown(history.log_close_T, window))


def band_width(history: History) -> Float64:
    """Distance between Bollinger's bands as a share of their middle."""
    mean_T, sd_T = history.close_moments(BAND_WINDOW)
    return 2 * BAND_WIDTH * sd_T / mean_T


def band_position(history: History) -> Float64:
    """Where the close lies between the lower (0) and the upper band (1); NaN where prices are flat."""
    mean_T, sd_T = history.close_moments(BAND_WINDOW)
    return 0.5 + ratio(history.close_T - mean_T, 2 * BAND_WIDTH * sd_T)


def average_true_range(history: History) -> Float64:
    """Wilder's average true range over 14 periods as a share of the close."""
    return history.true_range_mean(WILDER_WINDOW) / history.close_T


def _annual(variance_T: Float64, sessions: float) -> Float64:
    """A year's standard deviation from the variance of ``sessions``, which is overwritten."""
    variance_T *= SESSIONS_PER_YEAR / sessions
    return np.sqrt(variance_T, out=variance_T)


_feature = partial(Feature, family="volatility")

FEATURES = (
    *(
        _feature(
            name=f"volatility_{window}d",
            look_back=window,
            formula=f"sqrt(252) sd_{window}(r)",
            range="at least 0",
            degenerate=0.0,
            roadmap=(f"volatility_{window}d",),
            compute=partial(volatility, window=window),
        )
        for window in (10, 20, 60)
    ),
    _feature(
        name="volatility_ratio",
        look_back=60,
        formula="sd_10(r) / sd_60(r)",
        range="at least 0",
        degenerate=1.0,
        compute=partial(volatility_ratio, short=10, long=60),
    ),
    _feature(
        name="realised_volatility_5d",
        look_back=5,
        formula="sqrt(252 mean_5(ln(O / C[-1])^2 + ln(C / O)^2))",
        source="Andersen, Bollerslev (1998)",
        range="at least 0",
        degenerate=0.0,
        compute=partial(realised_volatility, window=5),
    ),
    _feature(
        name="parkinson_20d",
        look_back=19,
        formula="sqrt(252 mean_20(ln(H / L)^2) / (4 ln 2))",
        source="Parkinson (1980)",
        range="at least 0",
        degenerate=0.0,
        compute=partial(parkinson_volatility, window=20),
    ),
    _feature(
        name="garman_klass_20d",
        look_back=19,
        formula="sqrt(252 mean_20(ln(H / L)^2 / 2 - (2 ln 2 - 1) ln(C / O)^2))",
        source="Garman, Klass (1980)",
        range="at least 0",
        degenerate=0.0,
        compute=partial(garman_klass_volatility, window=20),
    ),
    _feature(
        name="rogers_satchell_20d",
        look_back=19,
        formula="sqrt(252 mean_20(ln(H / C) ln(H / O) + ln(L / C) ln(L / O)))",
        source="Rogers, Satchell (1991)",
        range="at least 0",
        degenerate=0.0,
        compute=partial(rogers_satchell_volatility, window=20),
    ),
    _feature(
        name="yang_zhang_20d",
        look_back=20,
        formula=(
            "sqrt(252 (var_20(ln(O / C[-1])) + k var_20(ln(C / O)) + (1 - k) rogers_satchell_20d^2 / 252)),"
            " k = 0.34 / (1.34 + 21 / 19)"
        ),
        source="Yang, Zhang (2000)",
        range="at least 0",
        degenerate=0.0,
        compute=partial(yang_zhang_volatility, window=20),
    ),
    _feature(
        name="garch_volatility",
        look_back=GARCH_TARGET_WINDOW,
        formula=(
            "sqrt(252 s), s = 0.02 v + 0.08 r^2 + 0.90 s[-1] with v = mean_250(r^2), written out over 128 sessions"
            " from s[-128] = v"
        ),
        source="Bollerslev (1986), Engle and Mezrich (1996)",
        range="at least 0",
        degenerate=0.0,
        compute=garch_volatility,
    ),
    _feature(
        name="skew_60d",
        look_back=60,
        formula="mean_60((r - mean_60(r))^3) / mean_60((r - mean_60(r))^2)^1.5",
        range="-7.6..7.6",
        degenerate=0.0,
        compute=partial(skewness, window=60),
    ),
    _feature(
        name="drawdown_60d",
        look_back=59,
        formula="smallest C[-i] / C[-j] - 1 with 0 <= i <= j < 60",
        source="Magdon-Ismail, Atiya (2004)",
        range="-1..0",
        degenerate=0.0,
        compute=partial(drawdown, window=60),
    ),
    _feature(
        name="bb_width",
        look_back=BAND_WINDOW - 1,
        formula="4 sd_20(C) / mean_20(C)",
        source="Bollinger (2001)",
        range="at least 0",
        degenerate=0.0,
        roadmap=("bb_width", "bb_upper", "bb_middle", "bb_lower"),
        compute=band_width,
    ),
    _feature(
        name="bb_position",
        look_back=BAND_WINDOW - 1,
        formula="(C - mean_20(C) + 2 sd_20(C)) / (4 sd_20(C))",
        source="Bollinger (2001)",
        range="-0.6..1.6",
        degenerate=0.5,
        roadmap=("bb_position", "bb_upper", "bb_middle", "bb_lower"),
        compute=band_position,
    ),
    _feature(
        name="atr_ratio",
        look_back=WILDER_WINDOW,
        formula=f"ema_{DIRECTIONAL_SPAN}(max(H, C[-1]) - min(L, C[-1])) / C",
        source="Wilder (1978)",
        range="at least 0",
        degenerate=0.0,
        roadmap=("atr_ratio", "atr_14"),
        compute=average_true_range,
    ),
)
