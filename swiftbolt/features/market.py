"""The market: what it does, and how a symbol moves with it and apart from it.

Its return is that of one symbol, of an index, or the mean of all symbols. Each session's counts as it was first
known: what was found out later about a bar of that session revises it no more. Every value at session t uses sessions
up to t.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from swiftbolt.features.context import MARKET_WINDOW, ROUNDING
from swiftbolt.features.history import History
from swiftbolt.features.rolling import Float64, change, lag
from swiftbolt.features.spec import Feature
from swiftbolt.features.volatility import SESSIONS_PER_YEAR

BETA_WINDOW = 250


def market_return(history: History) -> Float64:
    """The market's log return into the session."""
    return history.on_session(history.context.market_return_S)


def market_momentum(history: History) -> Float64:
    """The market's log return over ``MARKET_WINDOW`` sessions."""
    return history.on_session(history.context.market_momentum_S)


def market_volatility(history: History) -> Float64:
    """Standard deviation of the market's log return over ``MARKET_WINDOW`` sessions, annualised."""
    return math.sqrt(SESSIONS_PER_YEAR) * history.on_session(history.context.market_volatility_S)


def beta(history: History, window: int) -> Float64:
    """Log return of the symbol for one of the market, by least squares; NaN where the market has not moved."""
    return history.market_moments(window).beta_T


def residual_momentum(history: History, sessions: int, skipped: int) -> Float64:
    """Log return over ``sessions`` sessions without the last ``skipped``, less what the market explains of it.

    Source:
        Blitz, Huij, Martens (2011), "Residual Momentum", Journal of Empirical Finance 18(3), with one factor.
    """
    own_T, market_T = change(history.log_close_T, sessions - skipped), history.market_over(sessions - skipped)
    if skipped:
        own_T, market_T = lag(own_T, skipped), lag(market_T, skipped)
    return own_T - history.market_moments(BETA_WINDOW).beta_T * market_T


def idiosyncratic_volatility(history: History, window: int) -> Float64:
    """Standard deviation of what the market does not explain of the log return, annualised.

    Source:
        Ang, Hodrick, Xing, Zhang (2006), "The Cross-Section of Volatility and Expected Returns", Journal of Finance
        61(1), with one factor.
    """
    moments, squares_T = history.market_moments(window), history.squared_deviations(window)
    left_T = squares_T - moments.beta_T * moments.joint_T
    left_T[left_T <= ROUNDING * squares_T] = 0.0
    return np.sqrt(left_T * (SESSIONS_PER_YEAR / (window - 2)))


_feature = partial(Feature, family="market", scope="market")

FEATURES = (
    _feature(
        name="market_return_1d",
        look_back=1,
        formula="m",
        range="any",
        degenerate=0.0,
        compute=market_return,
    ),
    _feature(
        name="market_momentum_20d",
        look_back=MARKET_WINDOW,
        formula="20 mean_20(m)",
        range="any",
        degenerate=0.0,
        compute=market_momentum,
    ),
    _feature(
        name="market_volatility_20d",
        look_back=MARKET_WINDOW,
        formula="sqrt(252) sd_20(m)",
        range="at least 0",
        degenerate=0.0,
        compute=market_volatility,
    ),
    *(
        _feature(
            name=f"beta_{window}d",
            look_back=window,
            formula=f"cov_{window}(r, m) / var_{window}(m)",
            source="Sharpe (1964)",
            range="any",
            degenerate=1.0,
            compute=partial(beta, window=window),
        )
        for window in (60, BETA_WINDOW)
    ),
    _feature(
        name="residual_momentum_20d",
        look_back=BETA_WINDOW,
        formula="20 mean_20(r) - beta_250d 20 mean_20(m)",
        source="Blitz, Huij, Martens (2011)",
        range="any",
        degenerate=0.0,
        compute=partial(residual_momentum, sessions=20, skipped=0),
    ),
    _feature(
        name="residual_momentum_12_1",
        look_back=252,
        formula="231 (mean_231(r) - beta_250d mean_231(m))[-21], with the present beta",
        source="Blitz, Huij, Martens (2011)",
        range="any",
        degenerate=0.0,
        compute=partial(residual_momentum, sessions=252, skipped=21),
    ),
    _feature(
        name="idiosyncratic_volatility_60d",
        look_back=60,
        formula="sqrt(252 60 / 58 (var_60(r) - beta_60d cov_60(r, m)))",
        source="Ang, Hodrick, Xing, Zhang (2006)",
        range="at least 0",
        degenerate=0.0,
        compute=partial(idiosyncratic_volatility, window=60),
    ),
)
