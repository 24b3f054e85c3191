"""Every feature against its formula in plain arithmetic, row by row; the indicators also against TA-Lib's own."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
import talib
from numpy.typing import NDArray
from support.markets import make_bars
from support.vix import make_vix

from swiftbolt.bars import PRICES
from swiftbolt.features import DEFAULT_SPEC, VIX_SPEC, WITH_VIX
from swiftbolt.features.context import Context
from swiftbolt.features.cross_section import Cross
from swiftbolt.features.history import Columns, History
from swiftbolt.features.rolling import Moments, Sums, exponential_mean, lag, maximum_drawdown, ratio
from swiftbolt.sessions import sessions_between

Float64 = NDArray[np.float64]
Row = Callable[[int], float]  # a series as a function of the row

SESSIONS = 900
ROWS = (DEFAULT_SPEC.warmup, 401, SESSIONS - 1)
COLUMNS = (*PRICES, "volume")

BARS = make_bars(["AA"], SESSIONS, seed=4, garch=True).frame
VALUES: list[list[float]] = [BARS[name].to_list() for name in COLUMNS]
O, H, L, C, V = VALUES
SESSION: list[date] = BARS["session"].to_list()
CALENDAR = sessions_between(SESSION[0], SESSION[-1])
MARKET_T = 0.01 * np.random.default_rng(11).standard_normal(SESSIONS) + 0.3 * np.diff(np.log(C), prepend=np.log(C[0]))
M: list[float] = MARKET_T.tolist()
VIX_T = make_vix(SESSIONS, seed=1).value_N
X: list[float] = VIX_T.tolist()
AGE, WAIT = [float(t % 63) for t in range(SESSIONS)], [float(1 + t % 61) for t in range(SESSIONS)]


def last(series: Row, count: int, t: int) -> list[float]:
    """The last ``count`` values, oldest first."""
    return [series(s) for s in range(t - count + 1, t + 1)]


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def sd(values: Sequence[float], ddof: int) -> float:
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - ddof))


def ema(series: Row, span: int, window: int, t: int) -> float:
    weights = [((span - 1) / (span + 1)) ** age for age in range(window)]
    return math.fsum(w * series(t - age) for age, w in enumerate(weights)) / math.fsum(weights)


def close(t: int) -> float:
    return C[t]


def log_return(t: int) -> float:
    return math.log(C[t] / C[t - 1])


def change(t: int) -> float:
    return C[t] - C[t - 1]


def true_range(t: int) -> float:
    return max(H[t] - L[t], abs(H[t] - C[t - 1]), abs(L[t] - C[t - 1]))


def typical(t: int) -> float:
    return (H[t] + L[t] + C[t]) / 3


def sign(x: float) -> float:
    return math.copysign(1.0, x) if x else 0.0


def volatility(window: int, t: int) -> float:
    return math.sqrt(252) * sd(last(log_return, window, t), 1)


def rsi(periods: int, t: int) -> float:
    gains = ema(lambda s: max(change(s), 0.0), 2 * periods - 1, 256, t)
    losses = ema(lambda s: max(-change(s), 0.0), 2 * periods - 1, 256, t)
    return 100 - 100 / (1 + gains / losses)


def macd_line(t: int) -> float:
    return ema(close, 12, 192, t) - ema(close, 26, 192, t)


def plus_movement(t: int) -> float:
    up, down = H[t] - H[t - 1], L[t - 1] - L[t]
    return up if up > down and up > 0 else 0.0


def minus_movement(t: int) -> float:
    up, down = H[t] - H[t - 1], L[t - 1] - L[t]
    return down if down > up and down > 0 else 0.0


def directional_index(t: int) -> float:
    plus, minus = ema(plus_movement, 27, 128, t), ema(minus_movement, 27, 128, t)
    return 100 * abs(plus - minus) / (plus + minus)


def directional_spread(t: int) -> float:
    return 100 * (ema(plus_movement, 27, 128, t) - ema(minus_movement, 27, 128, t)) / ema(true_range, 27, 128, t)


def commodity_channel_index(t: int) -> float:
    window = last(typical, 20, t)
    deviation = mean([abs(value - mean(window)) for value in window])
    return (typical(t) - mean(window)) / (0.015 * deviation)


def aroon_oscillator(t: int) -> float:
    highs, lows = H[t - 25 : t + 1], L[t - 25 : t + 1]
    return 100 / 25 * (highs.index(max(highs)) - lows.index(min(lows)))


def efficiency_ratio(t: int) -> float:
    return abs(math.log(C[t] / C[t - 20])) / math.fsum(abs(r) for r in last(log_return, 20, t))


def parkinson(t: int) -> float:
    squares = [math.log(H[s] / L[s]) ** 2 for s in range(t - 19, t + 1)]
    return math.sqrt(252 * mean(squares) / (4 * math.log(2)))


def garman_klass(t: int) -> float:
    terms = [
        0.5 * math.log(H[s] / L[s]) ** 2 - (2 * math.log(2) - 1) * math.log(C[s] / O[s]) ** 2
        for s in range(t - 19, t + 1)
    ]
    return math.sqrt(252 * mean(terms))


def bands(t: int) -> tuple[float, float]:
    window = C[t - 19 : t + 1]
    return mean(window) - 2 * sd(window, 0), mean(window) + 2 * sd(window, 0)


def money_flow_index(t: int) -> float:
    flows = [sign(typical(s) - typical(s - 1)) * typical(s) * V[s] for s in range(t - 13, t + 1)]
    positive = math.fsum(flow for flow in flows if flow > 0)
    return 100 * positive / math.fsum(abs(flow) for flow in flows)


def signed_volume(t: int) -> float:
    return sign(change(t)) * V[t]


def accumulated_volume(t: int) -> float:
    return ((C[t] - L[t]) - (H[t] - C[t])) / (H[t] - L[t]) * V[t]


def share_of_volume(part: Row, t: int) -> float:
    return math.fsum(last(part, 20, t)) / math.fsum(V[t - 19 : t + 1])


def smooth_share_of_volume(part: Row, t: int) -> float:
    return ema(part, 20, 128, t) / ema(lambda s: V[s], 20, 128, t)


def fast_stochastic(t: int) -> float:
    low, high = min(L[t - 8 : t + 1]), max(H[t - 8 : t + 1])
    return 100 * (C[t] - low) / (high - low)


def slow_stochastic(t: int) -> float:
    return mean(last(fast_stochastic, 3, t))


def williams(t: int) -> float:
    high, low = max(H[t - 13 : t + 1]), min(L[t - 13 : t + 1])
    return -100 * (high - C[t]) / (high - low)


def zscore(t: int) -> float:
    window = C[t - 49 : t + 1]
    return (C[t] - mean(window)) / sd(window, 1)


def above(level: float, t: int) -> float:
    return C[t] / level - 1


def overnight(t: int) -> float:
    return math.log(O[t] / C[t - 1])


def intraday(t: int) -> float:
    return math.log(C[t] / O[t])


def rogers_satchell(t: int) -> float:
    return mean(
        [
            math.log(H[s] / C[s]) * math.log(H[s] / O[s]) + math.log(L[s] / C[s]) * math.log(L[s] / O[s])
            for s in range(t - 19, t + 1)
        ]
    )


def yang_zhang(t: int) -> float:
    k = 0.34 / (1.34 + 21 / 19)
    variance = sd(last(overnight, 20, t), 1) ** 2 + k * sd(last(intraday, 20, t), 1) ** 2
    return math.sqrt(252 * (variance + (1 - k) * rogers_satchell(t)))


def garch(t: int) -> float:
    target = mean([r**2 for r in last(log_return, 250, t)])
    variance = target
    for r in last(log_return, 128, t):
        variance = 0.02 * target + 0.08 * r**2 + 0.90 * variance
    return math.sqrt(252 * variance)


def skewness(t: int) -> float:
    returns = last(log_return, 60, t)
    centred = [r - mean(returns) for r in returns]
    return mean([x**3 for x in centred]) / mean([x**2 for x in centred]) ** 1.5


def drawdown(t: int) -> float:
    window = C[t - 59 : t + 1]
    return min(later / earlier - 1 for i, earlier in enumerate(window) for later in window[i:])


def covariance(x: Sequence[float], y: Sequence[float]) -> float:
    return math.fsum((a - mean(x)) * (b - mean(y)) for a, b in zip(x, y, strict=True)) / len(x)


def beta(window: int, t: int) -> float:
    market = M[t - window + 1 : t + 1]
    return covariance(last(log_return, window, t), market) / covariance(market, market)


def residual_momentum(start: int, stop: int, t: int) -> float:
    own = math.log(C[t - stop] / C[t - start])
    return own - beta(250, t) * math.fsum(M[t - start + 1 : t - stop + 1])


def idiosyncratic_volatility(t: int) -> float:
    market, own = M[t - 59 : t + 1], last(log_return, 60, t)
    left = [r - mean(own) - beta(60, t) * (m - mean(market)) for r, m in zip(own, market, strict=True)]
    return math.sqrt(252 * math.fsum(x**2 for x in left) / 58)


def implied(t: int) -> float:
    """Of one session, as the VIX has it."""
    return X[t] / 100 / math.sqrt(252)


def dollars(t: int) -> float:
    return C[t] * V[t]


def price_impact(window: int, t: int) -> float:
    return mean([abs(log_return(s)) / dollars(s) for s in range(t - window + 1, t + 1)])


def days_to_month_end(t: int) -> float:
    day, count = SESSION[t] + timedelta(days=1), 0
    while day.month == SESSION[t].month:
        count += day.weekday() < 5
        day += timedelta(days=1)
    return count


REFERENCE: dict[str, Row] = {
    "return_1d": log_return,
    "intraday_return": intraday,
    "realised_volatility_5d": lambda t: math.sqrt(
        252 * mean([overnight(s) ** 2 + intraday(s) ** 2 for s in range(t - 4, t + 1)])
    ),
    "rogers_satchell_20d": lambda t: math.sqrt(252 * rogers_satchell(t)),
    "yang_zhang_20d": yang_zhang,
    "garch_volatility": garch,
    "skew_60d": skewness,
    "drawdown_60d": drawdown,
    "dollar_volume_ratio": lambda t: mean(last(dollars, 20, t)) / mean(last(dollars, 250, t)),
    "amihud_20d": lambda t: price_impact(20, t) / price_impact(250, t),
    "market_return_1d": lambda t: M[t],
    "market_momentum_20d": lambda t: math.fsum(M[t - 19 : t + 1]),
    "market_volatility_20d": lambda t: math.sqrt(252) * sd(M[t - 19 : t + 1], 1),
    "beta_60d": partial(beta, 60),
    "beta_250d": partial(beta, 250),
    "residual_momentum_20d": partial(residual_momentum, 20, 0),
    "residual_momentum_12_1": partial(residual_momentum, 252, 21),
    "idiosyncratic_volatility_60d": idiosyncratic_volatility,
    "weekday": lambda t: float(SESSION[t].weekday()),
    "days_to_month_end": days_to_month_end,
    "month_sin": lambda t: math.sin(2 * math.pi * (SESSION[t].month - 1) / 12),
    "month_cos": lambda t: math.cos(2 * math.pi * (SESSION[t].month - 1) / 12),
    "days_since_dividend": lambda t: AGE[t],
    "days_to_dividend": lambda t: WAIT[t],
    "overnight_return": overnight,
    "momentum_5d": lambda t: above(C[t - 5], t),
    "momentum_20d": lambda t: above(C[t - 20], t),
    "momentum_60d": lambda t: above(C[t - 60], t),
    "momentum_12_1": lambda t: C[t - 21] / C[t - 252] - 1,
    "rsi_14": partial(rsi, 14),
    "rsi_20": partial(rsi, 20),
    "macd": lambda t: macd_line(t) / C[t],
    "macd_signal": lambda t: ema(macd_line, 9, 64, t) / C[t],
    "macd_histogram": lambda t: (macd_line(t) - ema(macd_line, 9, 64, t)) / C[t],
    "volatility_10d": partial(volatility, 10),
    "volatility_20d": partial(volatility, 20),
    "volatility_60d": partial(volatility, 60),
    "volatility_ratio": lambda t: volatility(10, t) / volatility(60, t),
    "parkinson_20d": parkinson,
    "garman_klass_20d": garman_klass,
    "bb_width": lambda t: (bands(t)[1] - bands(t)[0]) / mean(C[t - 19 : t + 1]),
    "bb_position": lambda t: (C[t] - bands(t)[0]) / (bands(t)[1] - bands(t)[0]),
    "atr_ratio": lambda t: ema(true_range, 27, 256, t) / C[t],
    "distance_from_ema_5": lambda t: above(ema(close, 5, 64, t), t),
    "distance_from_ema_20": lambda t: above(ema(close, 20, 128, t), t),
    "distance_from_ema_50": lambda t: above(ema(close, 50, 256, t), t),
    "distance_from_ema_200": lambda t: above(ema(close, 200, 256, t), t),
    "ema_angle_5": lambda t: ema(close, 5, 64, t) / ema(close, 5, 64, t - 5) - 1,
    "ema_angle_20": lambda t: ema(close, 20, 128, t) / ema(close, 20, 128, t - 20) - 1,
    "adx": lambda t: ema(directional_index, 27, 128, t),
    "di_spread": directional_spread,
    "cci_20": commodity_channel_index,
    "aroon_25": aroon_oscillator,
    "efficiency_ratio_20": efficiency_ratio,
    "volume_ratio": lambda t: V[t] / mean(V[t - 19 : t + 1]),
    "volume_trend": lambda t: mean(V[t - 4 : t + 1]) / mean(V[t - 59 : t + 1]),
    "obv": partial(share_of_volume, signed_volume),
    "obv_ema": partial(smooth_share_of_volume, signed_volume),
    "mfi_14": money_flow_index,
    "ad": partial(share_of_volume, accumulated_volume),
    "ad_ema": partial(smooth_share_of_volume, accumulated_volume),
    "zscore_50d": zscore,
    "pct_above_sma_50": lambda t: above(mean(C[t - 49 : t + 1]), t),
    "pct_above_sma_200": lambda t: above(mean(C[t - 199 : t + 1]), t),
    "kdj_k": slow_stochastic,
    "kdj_d": lambda t: mean(last(slow_stochastic, 3, t)),
    "williams_r_14": williams,
    "distance_from_high_250d": lambda t: above(max(C[t - 249 : t + 1]), t),
    "close_location": lambda t: (C[t] - L[t]) / (H[t] - L[t]),
    "vix_level": lambda t: math.log(X[t] / 20),
    "vix_change_5d": lambda t: math.log(X[t] / X[t - 5]),
    "vix_change_20d": lambda t: math.log(X[t] / X[t - 20]),
    "vix_over_median_250d": lambda t: math.log(X[t]) - statistics.median(math.log(x) for x in X[t - 249 : t + 1]),
    "vix_over_market_20d": lambda t: math.log(implied(t) / sd(M[t - 19 : t + 1], 1)),
    "vix_over_own_20d": lambda t: math.log(implied(t) / sd(last(log_return, 20, t), 1)),
}
# What is ranked, not the rank.
REFERENCE |= {
    **{name: REFERENCE[name[5:]] for name in DEFAULT_SPEC.names if name[:5] == "rank_" and name[5:] in REFERENCE},
    "rank_dollar_volume_20d": lambda t: mean(last(dollars, 20, t)),
    "rank_amihud_20d": partial(price_impact, 20),
}


def compute(name: str, bars: pl.DataFrame = BARS) -> Float64:
    (feature,) = (feature for feature in WITH_VIX if feature.name == name)
    return feature.compute(history_of(bars))


def history_of(bars: pl.DataFrame) -> History:
    """The bars as they are, with the market, the VIX and the dividends of ``BARS``, from its first session on."""
    return History(columns_of(bars), Context(CALENDAR, MARKET_T, VIX_T))


def columns_of(bars: pl.DataFrame) -> Columns:
    count = len(bars)
    return Columns(
        **{f"{column}_T": bars[column].to_numpy() for column in COLUMNS},
        dollars_T=(bars["close"] * bars["volume"]).to_numpy(),
        market_T=MARKET_T[:count],
        session_T=np.arange(count),
        dividend_age_T=np.array(AGE[:count]),
        dividend_wait_T=np.array(WAIT[:count]),
    )


@pytest.mark.parametrize("name", VIX_SPEC.names)
def test_a_feature_is_its_formula_worked_out_by_hand(name: str) -> None:
    values_T = compute(name)
    for t in ROWS:
        assert values_T[t] == pytest.approx(REFERENCE[name](t), rel=1e-9, abs=1e-12), t


def on_balance_change() -> Float64:
    line = talib.OBV(array("close"), array("volume"))
    return np.asarray((line - lag(line, 20)) / talib.SUM(array("volume"), 20))


def accumulation_change() -> Float64:
    line = talib.AD(*(array(name) for name in ("high", "low", "close", "volume")))
    return np.asarray((line - lag(line, 20)) / talib.SUM(array("volume"), 20))


def array(name: str) -> Float64:
    return np.ascontiguousarray(BARS[name].to_numpy())


def hlc() -> tuple[Float64, Float64, Float64]:
    return array("high"), array("low"), array("close")


# TA-Lib's own value, and how far the weights that our exponential windows cut may move ours.
TALIB: dict[str, tuple[Callable[[], Any], float]] = {
    "rsi_14": (lambda: talib.RSI(array("close"), 14), 1e-5),
    "rsi_20": (lambda: talib.RSI(array("close"), 20), 1e-3),
    "macd": (lambda: talib.MACD(array("close"), 12, 26, 9)[0] / array("close"), 1e-6),
    "macd_signal": (lambda: talib.MACD(array("close"), 12, 26, 9)[1] / array("close"), 1e-6),
    "macd_histogram": (lambda: talib.MACD(array("close"), 12, 26, 9)[2] / array("close"), 1e-6),
    "atr_ratio": (lambda: talib.ATR(*hlc(), 14) / array("close"), 1e-8),
    "distance_from_ema_20": (lambda: array("close") / talib.EMA(array("close"), 20) - 1, 1e-5),
    "distance_from_ema_50": (lambda: array("close") / talib.EMA(array("close"), 50) - 1, 1e-4),
    "adx": (lambda: talib.ADX(*hlc(), 14), 0.1),
    "di_spread": (lambda: talib.PLUS_DI(*hlc(), 14) - talib.MINUS_DI(*hlc(), 14), 0.1),
    "cci_20": (lambda: talib.CCI(*hlc(), 20), 1e-9),
    "mfi_14": (lambda: talib.MFI(*hlc(), array("volume"), 14), 1e-9),
    "obv": (on_balance_change, 1e-9),
    "ad": (accumulation_change, 1e-9),
    "kdj_k": (lambda: talib.STOCH(*hlc(), fastk_period=9, slowk_period=3, slowd_period=3)[0], 1e-9),
    "kdj_d": (lambda: talib.STOCH(*hlc(), fastk_period=9, slowk_period=3, slowd_period=3)[1], 1e-9),
    "williams_r_14": (lambda: talib.WILLR(*hlc(), 14), 1e-9),
    "pct_above_sma_200": (lambda: array("close") / talib.SMA(array("close"), 200) - 1, 1e-12),
}


@pytest.mark.parametrize("name", TALIB)
def test_an_indicator_agrees_with_talib_once_its_start_is_forgotten(name: str) -> None:
    theirs, tolerance = TALIB[name]
    np.testing.assert_allclose(compute(name)[600:], theirs()[600:], rtol=0, atol=tolerance)


def test_bollinger_bands_agree_with_talib() -> None:
    upper, middle, lower = talib.BBANDS(array("close"), 20, 2.0, 2.0)
    np.testing.assert_allclose(compute("bb_width")[20:], ((upper - lower) / middle)[20:], rtol=1e-8)
    np.testing.assert_allclose(
        compute("bb_position")[20:], ((array("close") - lower) / (upper - lower))[20:], rtol=1e-8
    )


def by_hand(**columns: Sequence[float]) -> pl.DataFrame:
    """Bars with the given columns; the others are a price of 100 and a volume of 1000."""
    count = len(next(iter(columns.values())))
    plain = {name: [100.0] * count for name in PRICES} | {"volume": [1000.0] * count}
    return pl.DataFrame(plain | columns, schema=dict.fromkeys(COLUMNS, pl.Float64()))


def test_parkinson_volatility_of_a_constant_range_is_that_range_over_two_root_log_two() -> None:
    bars = by_hand(high=[101.0] * 30, low=[99.0] * 30)
    daily = math.log(101 / 99) / (2 * math.sqrt(math.log(2)))
    assert compute("parkinson_20d", bars)[-1] == pytest.approx(daily * math.sqrt(252))


def test_garman_klass_volatility_of_a_constant_range_without_a_body_is_that_range_over_root_two() -> None:
    bars = by_hand(high=[101.0] * 30, low=[99.0] * 30)
    assert compute("garman_klass_20d", bars)[-1] == pytest.approx(math.log(101 / 99) / math.sqrt(2) * math.sqrt(252))


def test_volatility_of_returns_that_alternate_between_plus_and_minus_one_percent() -> None:
    bars = by_hand(close=[100 * math.exp(0.01 * (row % 2)) for row in range(30)])
    # Twenty squares of 0.01 around a mean of zero, nineteen below them.
    assert compute("volatility_20d", bars)[-1] == pytest.approx(0.01 * math.sqrt(20 / 19) * math.sqrt(252))


def test_rsi_of_a_price_that_only_rises_is_one_hundred_and_of_one_that_only_falls_zero() -> None:
    rising = [100.0 + row for row in range(300)]
    assert compute("rsi_14", by_hand(close=rising))[-1] == 100.0
    assert compute("rsi_14", by_hand(close=rising[::-1]))[-1] == 0.0


def test_volume_ratio_of_twice_the_volume_after_nineteen_even_sessions() -> None:
    bars = by_hand(volume=[1000.0] * 29 + [2000.0])
    assert compute("volume_ratio", bars)[-1] == pytest.approx(2000 / 1050)


def test_obv_counts_three_rising_days_in_twenty_and_no_day_without_a_change() -> None:
    bars = by_hand(close=[100.0] * 27 + [101.0, 102.0, 103.0])
    assert compute("obv", bars)[-1] == pytest.approx(3 / 20)


def test_atr_ratio_counts_a_gap_as_range() -> None:
    # Every session opens, trades and closes at one price, one dollar above or below the one before.
    price = [100.0 + row % 2 for row in range(300)]
    bars = by_hand(open=price, high=price, low=price, close=price)
    assert compute("atr_ratio", bars)[-1] == pytest.approx(1 / price[-1])


def test_adx_of_a_steady_rise_is_one_hundred_and_its_spread_positive() -> None:
    price = np.arange(100.0, 400.0)
    bars = by_hand(high=list(price + 1), low=list(price - 1), close=list(price))
    assert compute("adx", bars)[-1] == pytest.approx(100.0)
    assert compute("di_spread", bars)[-1] == pytest.approx(50.0)  # one dollar up a day, a true range of two


@pytest.mark.parametrize("window", [1, 2, 3, 7, 20, 31, 50, 64])
def test_windows_put_together_by_doubling_are_those_of_a_plain_loop(window: int) -> None:
    x_T = np.random.default_rng(window).normal(size=90)
    sums_T, decayed_T = Sums(x_T).over(window), Sums(x_T, 0.9).over(window)
    mean_T, sd_T = Moments(x_T).over(window)
    for t in range(90):
        inside = list(x_T[max(t - window + 1, 0) : t + 1])
        if len(inside) < window:
            assert np.isnan([sums_T[t], decayed_T[t], mean_T[t], sd_T[t]]).all()
            continue
        decayed = sum(0.9**age * value for age, value in enumerate(reversed(inside)))
        expected = [sum(inside), decayed, mean(inside), sd(inside, 0)]
        assert [sums_T[t], decayed_T[t], mean_T[t], sd_T[t]] == pytest.approx(expected, rel=1e-12, abs=1e-12)


# In floating point 64.4 - 64.2 is the larger and 16.4 - 16.1 the smaller of the two moves.
@pytest.mark.parametrize(
    ("high", "low", "wider_high", "wider_low"), [(64.2, 63.9, 64.4, 63.7), (16.1, 15.9, 16.4, 15.6)]
)
def test_a_bar_that_widens_as_far_up_as_down_moves_in_no_direction(
    high: float, low: float, wider_high: float, wider_low: float
) -> None:
    assert wider_high - high != low - wider_low
    bars = by_hand(high=[high, wider_high] * 150, low=[low, wider_low] * 150, close=[(high + low) / 2] * 300)
    assert compute("di_spread", bars)[-1] == 0.0
    assert compute("adx", bars)[-1] == 0.0


def test_aroon_takes_highs_that_differ_in_the_last_bit_for_equal() -> None:
    high = np.full(60, 101.0)
    high[[40, 55]] = 102.0
    equal = compute("aroon_25", by_hand(high=list(high)))
    high[40] = np.nextafter(102.0, 103.0)
    np.testing.assert_array_equal(compute("aroon_25", by_hand(high=list(high))), equal)


def test_a_ratio_without_a_denominator_is_not_a_number() -> None:
    np.testing.assert_array_equal(ratio(np.array([1.0, 0.0, 3.0]), np.array([0.0, 0.0, 2.0])), [np.nan, np.nan, 1.5])


def test_windows_share_their_pieces_without_disturbing_each_other() -> None:
    x_T = np.arange(40.0)
    sums = Sums(x_T)
    first = sums.over(20).copy()
    sums.over(7)
    np.testing.assert_array_equal(sums.over(20), first)
    np.testing.assert_array_equal(x_T, np.arange(40.0))


def test_a_window_of_equal_prices_has_no_spread_to_the_last_bit() -> None:
    price_T = np.concatenate([[1e6, 3.0], np.full(60, 0.1)])
    assert Moments(price_T).over(50)[1][-1] == 0.0


def test_the_weights_of_an_exponential_mean_sum_to_one() -> None:
    assert exponential_mean(np.full(300, 7.0), 200, 256)[-1] == pytest.approx(7.0)


@pytest.mark.parametrize("window", [2, 3, 7, 20, 31, 60, 64])
def test_the_maximum_drawdown_put_together_by_doubling_is_that_of_a_plain_loop(window: int) -> None:
    x_T = np.random.default_rng(window).normal(size=90).cumsum()
    found_T = maximum_drawdown(x_T, window)
    assert np.isnan(found_T[: window - 1]).all()
    for t in range(window - 1, 90):
        inside = x_T[t - window + 1 : t + 1]
        assert found_T[t] == min(later - top for i, top in enumerate(inside) for later in inside[i:])


def test_drawdown_of_a_fall_from_120_to_60_and_back_is_a_half() -> None:
    assert compute("drawdown_60d", by_hand(close=[100.0] * 70 + [120.0, 90.0, 60.0, 110.0]))[-1] == pytest.approx(-0.5)


def test_several_symbols_on_top_of_each_other_have_the_bits_they_have_alone() -> None:
    parts = [
        Columns(
            **{f"{name}_T": bars[name].to_numpy() for name in COLUMNS},
            dollars_T=(bars["close"] * bars["volume"]).to_numpy(),
            market_T=MARKET_T,
            session_T=np.arange(SESSIONS),
            dividend_age_T=np.array(AGE),
            dividend_wait_T=np.array(WAIT),
        )
        for bars in (make_bars([name], SESSIONS, seed=4, garch=True).frame for name in ("AA", "BB", "CC"))
    ]
    context = Context(CALENDAR, MARKET_T, VIX_T)
    together = History(Columns.stack(parts), context)
    for feature in WITH_VIX:
        alone = [feature.compute(History(part, context)) for part in parts]
        assert feature.compute(together).tobytes() == np.stack(alone).tobytes(), feature.name


def test_ranks_are_those_of_a_plain_count() -> None:
    rng = np.random.default_rng(3)
    session_R, symbol_R = np.tile(np.arange(150), 9), np.repeat(np.arange(9), 150)
    kept = rng.random(len(session_R)) < 0.8
    session_R, symbol_R = session_R[kept], symbol_R[kept]
    values_R = rng.integers(-3, 4, len(session_R)) * 0.1
    values_R[rng.random(len(values_R)) < 0.1] = np.nan
    values_R[rng.random(len(values_R)) < 0.1] *= -0.0
    ranks_R = values_R.copy()
    Cross(session_R, symbol_R).rank(ranks_R)
    for row, value in enumerate(values_R):
        others = [x for x, s in zip(values_R, session_R, strict=True) if s == session_R[row] and not math.isnan(x)]
        if math.isnan(value) or len(others) == 1:
            assert ranks_R[row] == 0.5
        else:
            below, equal = sum(x < value for x in others), sum(x == value for x in others) - 1
            assert ranks_R[row] == pytest.approx((below + equal / 2) / (len(others) - 1), abs=1e-7)


def test_a_vix_of_twice_the_volatility_of_a_market_that_moves_one_percent_a_day_is_ln_two_above_it() -> None:
    market_T = np.resize([0.01, -0.01], 40)
    daily = 0.01 * math.sqrt(20 / 19)
    vix_T = np.full(40, 200 * daily * math.sqrt(252))
    history = History(columns_of(BARS[:40]), Context(CALENDAR[:40], market_T, vix_T))
    (feature,) = (feature for feature in WITH_VIX if feature.name == "vix_over_market_20d")
    assert feature.compute(history)[-1] == pytest.approx(math.log(2))
