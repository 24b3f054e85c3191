"""Skill in two parts: knowing where the return will lie, and knowing how far it may stray.

Better volatility is worth CRPS, but it foretells no direction; only the location's part may be called prediction.
Both parts are gains a row, in units of the return, and add up to naive's CRPS minus the forecast's. Their session means
are what ``significance`` tests, and divided by naive's mean CRPS they add up to ``metrics.skill``.
"""

from __future__ import annotations

import numpy as np

from swiftbolt.evaluation.metrics import crps
from swiftbolt.forecast import LEVELS, Float64

_MEDIAN = LEVELS.index(0.5)


def location_skill(quantiles_NQ: Float64, naive_NQ: Float64, outcome_N: Float64) -> Float64:
    """CRPS of the forecast moved onto naive's centre, minus CRPS as it is; positive where the location helped.

    Args:
        quantiles_NQ, naive_NQ: of the forecast and of naive for the same rows; the centre is the median.
    """
    return crps(_recentred(quantiles_NQ, naive_NQ), outcome_N) - crps(quantiles_NQ, outcome_N)


def scale_skill(quantiles_NQ: Float64, naive_NQ: Float64, outcome_N: Float64) -> Float64:
    """CRPS of naive, minus that of the forecast moved onto naive's centre: volatility skill, blind to direction."""
    return crps(naive_NQ, outcome_N) - crps(_recentred(quantiles_NQ, naive_NQ), outcome_N)


def _recentred(quantiles_NQ: Float64, naive_NQ: Float64) -> Float64:
    return np.asarray(quantiles_NQ + (naive_NQ - quantiles_NQ)[:, _MEDIAN, None])
