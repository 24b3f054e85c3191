"""Calibration of the probability of a rise: a logistic map of the log odds, carried out by a shift.

The map is learnt with a prior towards the identity whose strength is set against the number of
independent outcomes, not of rows: symbols move together, and neighbouring origins share their outcome.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from swiftbolt.errors import DataError
from swiftbolt.forecast import Float64, Forecasts, probability_of_rise, quantile_at

# Beyond these odds no sample of ours says anything.
LOWEST, HIGHEST = 1e-4, 1.0 - 1e-4


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationMap:
    """``logit(p') = intercept + slope logit(p)``, with a slope that is not negative.

    Source:
        Platt (1999), "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized
        Likelihood Methods", on log odds instead of margins.
    """

    intercept: float
    slope: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.intercept) and math.isfinite(self.slope) and self.slope >= 0):
            raise DataError(f"calibration map is not usable: intercept {self.intercept}, slope {self.slope}")

    def apply(self, p_up: Float64) -> Float64:
        """Calibrated probability, kept away from 0 and 1."""
        odds = logit(np.clip(p_up, LOWEST, HIGHEST))
        return np.asarray(np.clip(expit(self.intercept + self.slope * odds), LOWEST, HIGHEST))


IDENTITY = CalibrationMap(intercept=0.0, slope=1.0)


def fit_calibration(
    p_up_N: Float64, realized_N: Float64, *, independent: float, shift_sd: float, slope_sd: float
) -> CalibrationMap:
    """Maximum a posteriori map from forecast probabilities to frequencies of rises.

    Args:
        realized_N: cumulative log returns; one of exactly zero counts as half a rise.
        independent: independent outcomes the N rows are worth.
        shift_sd: prior spread of the intercept about 0.
        slope_sd: prior spread of the slope about 1.
    """
    odds_N = logit(np.clip(p_up_N, LOWEST, HIGHEST))
    rose_N = 0.5 * (1.0 + np.sign(realized_N))
    spread = np.array([shift_sd, slope_sd])

    def loss_and_gradient(map_: Float64) -> tuple[float, Float64]:
        z_N = map_[0] + map_[1] * odds_N
        miss_N = expit(z_N) - rose_N
        away = (map_ - np.array([0.0, 1.0])) / spread
        loss = independent * float(np.mean(np.logaddexp(0.0, z_N) - rose_N * z_N)) + 0.5 * float(away @ away)
        gradient = independent * np.array([np.mean(miss_N), np.mean(miss_N * odds_N)]) + away / spread
        return loss, gradient

    found = minimize(
        loss_and_gradient,
        np.array([0.0, 1.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(None, None), (0.0, None)],
        options={"ftol": 1e-14, "gtol": 1e-9},
    )
    return CalibrationMap(intercept=float(found.x[0]), slope=float(found.x[1]))


def shifted_to(quantiles: Float64, p_up: Float64) -> Float64:
    """Move distributions along the return axis, shape kept, until ``1 - F(0)`` is ``p_up``.

    Args:
        quantiles: (..., Q).
        p_up: (...), strictly between 0 and 1.
    """
    return np.asarray(quantiles - quantile_at(quantiles, 1.0 - p_up)[..., None])


def calibrate(forecasts: Forecasts, maps: Sequence[CalibrationMap]) -> Forecasts:
    """Shift every distribution so that its p_up is the mapped one; ``maps`` has one entry per horizon.

    Where the map is the identity nothing is touched, not even a last bit.
    """
    quantiles_NHQ = forecasts.quantiles_NHQ.copy()
    for h, map_ in enumerate(maps):
        if map_ != IDENTITY:
            own_NQ = quantiles_NHQ[:, h]
            quantiles_NHQ[:, h] = shifted_to(own_NQ, map_.apply(probability_of_rise(own_NQ)))
    return replace(forecasts, quantiles_NHQ=quantiles_NHQ)
