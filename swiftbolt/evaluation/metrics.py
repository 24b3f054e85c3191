"""Scores of forecasts against outcomes: pure functions of arrays, one definition each.

``crps`` and ``pinball`` are those the models and the ensemble were fitted with. N forecasts, Q quantiles
at ``LEVELS``; outcomes are cumulative log returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swiftbolt.forecast import LEVELS, Float64, crps_from_quantiles, pinball

__all__ = [
    "pinball",
    "crps",
    "skill",
    "interval_coverage",
    "directional_accuracy",
    "rmse",
    "mae",
    "out_of_sample_r2",
    "ReliabilityBin",
    "reliability",
    "calibration_error",
]

crps = crps_from_quantiles

RELIABILITY_BINS = 20
# A median of exactly zero may give a p_up that misses one half by a rounding error: no direction is meant.
EVEN_CHANCE_TOLERANCE = 1e-9


def skill(crps_N: Float64, benchmark_crps_N: Float64) -> float:
    """``1 - mean / mean`` of two models' scores on the same rows; 0.02 is 2 % better than the benchmark.

    Raises:
        ValueError: the scores are not of the same rows, or there is none, or the benchmark is perfect.
    """
    if crps_N.shape != benchmark_crps_N.shape or not len(crps_N):
        raise ValueError(f"skill needs common rows, got {crps_N.shape} and {benchmark_crps_N.shape}")
    reference = float(np.mean(benchmark_crps_N))
    if reference <= 0:
        raise ValueError("skill is undefined against a perfect benchmark")
    return 1.0 - float(np.mean(crps_N)) / reference


def interval_coverage(quantiles_NQ: Float64, outcome_N: Float64, nominal: float) -> float:
    """Share of outcomes inside the central interval, bounds included.

    Args:
        nominal: probability of the interval, made of two of ``LEVELS``: 0.95, 0.9 or 0.5.

    Raises:
        ValueError: ``LEVELS`` has no such interval.
    """
    low, high = (_position(level) for level in ((1 - nominal) / 2, (1 + nominal) / 2))
    inside_N = (quantiles_NQ[:, low] <= outcome_N) & (outcome_N <= quantiles_NQ[:, high])
    return float(np.mean(inside_N))


def directional_accuracy(p_up_N: Float64, outcome_N: Float64) -> float:
    """Share of outcomes on the likelier side.

    A forecast of an even chance, and an outcome of exactly zero, count as half right.
    """
    lean_N = p_up_N - 0.5
    side_N = np.where(np.abs(lean_N) <= EVEN_CHANCE_TOLERANCE, 0.0, np.sign(lean_N))
    return float(np.mean(0.5 + 0.5 * side_N * np.sign(outcome_N)))


def rmse(point_N: Float64, outcome_N: Float64) -> float:
    """Root mean squared error; the mean is the point forecast that minimises it."""
    return float(np.sqrt(np.mean((outcome_N - point_N) ** 2)))


def mae(point_N: Float64, outcome_N: Float64) -> float:
    """Mean absolute error; the median is the point forecast that minimises it."""
    return float(np.mean(np.abs(outcome_N - point_N)))


def out_of_sample_r2(mean_N: Float64, outcome_N: Float64) -> float:
    """Share of the squared return that the mean explains, measured from zero rather than from the sample mean.

    Raises:
        ValueError: every outcome is zero.

    Source:
        Gu, Kelly and Xiu (2020), "Empirical Asset Pricing via Machine Learning", Review of Financial
        Studies 33(5), equation 19: the historical mean is so poor a benchmark that it flatters.
    """
    total = float(np.sum(outcome_N**2))
    if total == 0:
        raise ValueError("out-of-sample R2 is undefined when every outcome is zero")
    return 1.0 - float(np.sum((outcome_N - mean_N) ** 2)) / total


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Forecasts whose p_up lies in ``[low, high)`` (the last bin includes 1): how many, and how often it rose."""

    low: float
    high: float
    count: int
    mean_p_up: float
    rise_frequency: float


def reliability(p_up_N: Float64, outcome_N: Float64, bins: int = RELIABILITY_BINS) -> list[ReliabilityBin]:
    """The bins of equal width that hold a forecast, ascending; an outcome of zero counts as half a rise."""
    bin_N = np.minimum((p_up_N * bins).astype(np.int64), bins - 1)
    rose_N = 0.5 * (1.0 + np.sign(outcome_N))
    found = []
    for b in np.unique(bin_N):
        mine = bin_N == b
        found.append(
            ReliabilityBin(
                low=b / bins,
                high=(b + 1) / bins,
                count=int(mine.sum()),
                mean_p_up=float(np.mean(p_up_N[mine])),
                rise_frequency=float(np.mean(rose_N[mine])),
            )
        )
    return found


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Mean distance between forecast probability and frequency, weighted by the bins' counts.

    Source:
        Naeini, Cooper and Hauskrecht (2015), "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI.
    """
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.mean_p_up - b.rise_frequency) for b in bins) / total


def _position(level: float) -> int:
    found = np.flatnonzero(np.isclose(LEVELS, level, rtol=0, atol=1e-12))
    if len(found) != 1:
        raise ValueError(f"level {level:g} is not one of {LEVELS}")
    return int(found[0])
