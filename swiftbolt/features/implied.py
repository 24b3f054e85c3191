"""The VIX: the volatility that options on the market imply, against what the market and the symbol have shown.

These features are there where a VIX is given, and only there. A session that the VIX lacks has its newest earlier
value, up to ``CARRIED`` sessions old; after that they have their degenerate values. Every value at session t uses
sessions up to t.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from swiftbolt.features.context import MARKET_WINDOW, VIX_WINDOW
from swiftbolt.features.history import History
from swiftbolt.features.rolling import Float64, ratio
from swiftbolt.features.spec import Feature
from swiftbolt.features.volatility import SESSIONS_PER_YEAR

OWN_WINDOW = 20
USUAL_VIX = 20.0  # its mean since 1990, rounded; only shifts the level


def level(history: History) -> Float64:
    """Log of the VIX over ``USUAL_VIX``."""
    return history.on_session(history.context.log_vix_S) - math.log(USUAL_VIX)


def level_change(history: History, sessions: int) -> Float64:
    """Change of the log of the VIX over ``sessions`` sessions."""
    return history.on_session(history.context.vix_change(sessions))


def over_median(history: History) -> Float64:
    """Log of the VIX less its median of the last ``VIX_WINDOW`` sessions."""
    return history.on_session(history.context.log_vix_over_median_S)


def over_market(history: History) -> Float64:
    """Log of the volatility implied over the market's of the last ``MARKET_WINDOW`` sessions.

    NaN where the market has not moved.
    """
    return _log_implied_over(history, history.on_session(history.context.market_volatility_S))


def over_own(history: History, window: int) -> Float64:
    """Log of the volatility implied over the symbol's own; NaN where it has not moved."""
    return _log_implied_over(history, history.volatility(window))


def _log_implied_over(history: History, volatility_T: Float64) -> Float64:
    """Log of the VIX over a year's percent of the standard deviation of a session's log return."""
    return np.log(ratio(history.on_session(history.context.vix_S), 100.0 * math.sqrt(SESSIONS_PER_YEAR) * volatility_T))


_feature = partial(Feature, family="market", scope="market", range="any", degenerate=0.0)

FEATURES = (
    _feature(
        name="vix_level",
        look_back=0,
        formula=f"ln(VIX / {USUAL_VIX:g})",
        source="Whaley (2000)",
        compute=level,
    ),
    *(
        _feature(
            name=f"vix_change_{sessions}d",
            look_back=sessions,
            formula=f"ln(VIX / VIX[-{sessions}])",
            compute=partial(level_change, sessions=sessions),
        )
        for sessions in (5, 20)
    ),
    _feature(
        name=f"vix_over_median_{VIX_WINDOW}d",
        look_back=VIX_WINDOW - 1,
        formula=f"ln(VIX) - median_{VIX_WINDOW}(ln(VIX))",
        compute=over_median,
    ),
    _feature(
        name=f"vix_over_market_{MARKET_WINDOW}d",
        look_back=MARKET_WINDOW,
        formula=f"ln(VIX / (100 sqrt(252) sd_{MARKET_WINDOW}(m)))",
        source="Bollerslev, Tauchen, Zhou (2009), as a log ratio",
        compute=over_market,
    ),
    _feature(
        name=f"vix_over_own_{OWN_WINDOW}d",
        look_back=OWN_WINDOW,
        formula=f"ln(VIX / (100 sqrt(252) sd_{OWN_WINDOW}(r)))",
        compute=partial(over_own, window=OWN_WINDOW),
    ),
)
