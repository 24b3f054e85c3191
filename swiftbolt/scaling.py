"""Scales fitted on past rows: volatility of returns, and mean and spread of features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from swiftbolt.errors import DataError
from swiftbolt.panel import Panel

EWMA_ALPHA = 0.06  # RiskMetrics daily decay 0.94
EWMA_WARMUP = 20
# A share that did not trade at all for months still gets a distribution; 1 bp a day is below any real one.
VOLATILITY_FLOOR = 1e-4


def ewma_variance(returns: NDArray[np.float64], alpha: float = EWMA_ALPHA) -> NDArray[np.float64]:
    """Exponentially weighted variance known after each return.

    ``v[t] = (1 - alpha) v[t-1] + alpha r[t]^2``, started from the mean square of the first
    ``EWMA_WARMUP`` returns; NaN before there are that many.

    Args:
        returns: log returns, one dimension.

    Source:
        J.P. Morgan/Reuters (1996), "RiskMetrics - Technical Document", section 5.2.
    """
    out = np.full(len(returns), np.nan)
    if len(returns) < EWMA_WARMUP:
        return out
    start = float(np.mean(returns[:EWMA_WARMUP] ** 2))
    out[EWMA_WARMUP - 1] = start
    squares = returns[EWMA_WARMUP:] ** 2
    if len(squares):
        out[EWMA_WARMUP:] = lfilter([alpha], [1.0, -(1.0 - alpha)], squares, zi=[(1.0 - alpha) * start])[0]
    return out


def panel_volatility(panel: Panel) -> NDArray[np.float64]:
    """EWMA volatility of one session's log return at each row of the panel, NaN in the first 20 rows of a symbol."""
    sigma_R = np.full(len(panel.session_R), np.nan)
    for s in range(len(panel.symbols)):
        rows = panel.rows(s)
        if rows.stop > rows.start:
            sigma_R[rows.start + 1 : rows.stop] = np.sqrt(ewma_variance(panel.log_returns(s)))
    return np.asarray(np.maximum(sigma_R, VOLATILITY_FLOOR))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Standardiser:
    """Centre and scale of each feature, fitted on training rows only. Values are clipped to +-``clip`` spreads.

    Raises:
        DataError: centre and scale differ in length, are not finite, or a scale or ``clip`` is not positive.
    """

    mean_F: NDArray[np.float32]
    sd_F: NDArray[np.float32]
    clip: float = 5.0

    def __post_init__(self) -> None:
        if self.mean_F.ndim != 1 or self.mean_F.shape != self.sd_F.shape:
            raise DataError(f"centre and scale have shapes {self.mean_F.shape} and {self.sd_F.shape}")
        if not (np.isfinite(self.mean_F).all() and np.isfinite(self.sd_F).all()):
            raise DataError("centre and scale must be finite")
        if not ((self.sd_F > 0).all() and self.clip > 0):
            raise DataError("scale and clip must be positive")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Standardiser)
            and self.clip == other.clip
            and np.array_equal(self.mean_F, other.mean_F)
            and np.array_equal(self.sd_F, other.sd_F)
        )

    @classmethod
    def fit(cls, features_RF: NDArray[np.float32], clip: float = 5.0) -> Standardiser:
        """Fit on the rows given, which must be finite.

        Raises:
            DataError: no row, or a value that is not finite.
        """
        if not len(features_RF) or not np.isfinite(features_RF).all():
            raise DataError("features must be finite and at least one row long to be standardised")
        wide = features_RF.astype(np.float64)
        mean_F, sd_F = wide.mean(axis=0), wide.std(axis=0)
        # A feature that never moved in training carries nothing: leave its scale at one. Neither does one whose
        # last bit alone flickers, which division by so small a spread would blow up to the size of the others.
        still_F = sd_F <= np.maximum(1e-12, np.finfo(np.float32).eps * np.abs(mean_F))
        return cls(
            mean_F=mean_F.astype(np.float32),
            sd_F=np.where(still_F, 1.0, sd_F).astype(np.float32),
            clip=clip,
        )

    def apply(self, features_RF: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardise; NaN stays NaN."""
        return np.asarray(np.clip((features_RF - self.mean_F) / self.sd_F, -self.clip, self.clip))
