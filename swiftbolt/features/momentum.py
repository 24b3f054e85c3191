"""Momentum: how far and how steadily the price has moved. Every value at session t uses sessions up to t."""

from __future__ import annotations

from functools import partial

from swiftbolt.features.history import CLOSE_WINDOW, SIGNAL_WINDOW, WILDER_WINDOW, History
from swiftbolt.features.rolling import Float64, exponential_mean, growth, lag, ratio
from swiftbolt.features.spec import Feature


def momentum(history: History, sessions: int) -> Float64:
    """Return over ``sessions`` sessions (0.02 is 2 %)."""
    return growth(history.close_T, sessions)


def skipped_momentum(history: History, sessions: int, skipped: int) -> Float64:
    """Return over ``sessions`` sessions without the last ``skipped``.

    Source:
        Jegadeesh, Titman (1993), "Returns to Buying Winners and Selling Losers", Journal of Finance 48(1).
    """
    return lag(growth(history.close_T, sessions - skipped), skipped)


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
        range="any",
        degenerate=0.0,
        compute=lambda history: history.log_return_T,
    ),
    _feature(
        name="overnight_return",
        look_back=1,
        formula="ln(O / C[-1])",
        range="any",
        degenerate=0.0,
        compute=lambda history: history.overnight_return_T,
    ),
    _feature(
        name="intraday_return",
        look_back=0,
        formula="ln(C / O)",
        range="any",
        degenerate=0.0,
        compute=lambda history: history.intraday_return_T,
    ),
    *(
        _feature(
            name=f"momentum_{sessions}d",
            look_back=sessions,
            formula=f"C / C[-{sessions}] - 1",
            range="above -1",
            degenerate=0.0,
            roadmap=(f"momentum_{sessions}d",),
            compute=partial(momentum, sessions=sessions),
        )
        for sessions in (5, 20, 60)
    ),
    _feature(
        name="momentum_12_1",
        look_back=252,
        formula="C[-21] / C[-252] - 1",
        source="Jegadeesh, Titman (1993)",
        range="above -1",
        degenerate=0.0,
        compute=partial(skipped_momentum, sessions=252, skipped=21),
    ),
    *(
        _feature(
            name=f"rsi_{periods}",
            look_back=WILDER_WINDOW,
            formula=f"50 (1 + ema_{2 * periods - 1}(C - C[-1]) / ema_{2 * periods - 1}(|C - C[-1]|))",
            source="Wilder (1978)",
            range="0..100",
            degenerate=50.0,
            roadmap=(f"rsi_{periods}",),
            compute=partial(rsi, periods=periods),
        )
        for periods in (14, 20)
    ),
    _feature(
        name="macd",
        look_back=_MACD_LOOK_BACK,
        formula="(ema_12(C) - ema_26(C)) / C",
        source="Appel (1979)",
        range="any",
        degenerate=0.0,
        roadmap=("macd",),
        compute=macd,
    ),
    _feature(
        name="macd_signal",
        look_back=_SIGNAL_LOOK_BACK,
        formula="ema_9(ema_12(C) - ema_26(C)) / C",
        source="Appel (1979)",
        range="any",
        degenerate=0.0,
        roadmap=("macd_signal",),
        compute=macd_signal,
    ),
    _feature(
        name="macd_histogram",
        look_back=_SIGNAL_LOOK_BACK,
        formula="macd - macd_signal",
        source="Appel (1979)",
        range="any",
        degenerate=0.0,
        roadmap=("macd_histogram",),
        compute=macd_histogram,
    ),
)
