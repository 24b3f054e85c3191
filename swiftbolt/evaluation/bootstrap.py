"""Tests of direction: is the side of the forecast right more often than one that knows nothing would be?

Both act on whole sessions, resampled in blocks of random length, so that what moves together stays together. The
bootstrap gives the standard error; the p-value is read off a Student t with the degrees of freedom that blocks of
that length leave, as in ``significance``. At 5 % that rejects at most 7 % of true nulls of 20-session forecasts
where the usual reading, the share of samples beyond the observed value in blocks of two horizons, rejects 7 to 16 %.

N forecasts in any order, T sessions ascending, D draws. The generator is an argument.

Sources:
    Politis and Romano (1994), "The Stationary Bootstrap", Journal of the American Statistical Association 89(428).
    Pesaran and Timmermann (1992), "A Simple Nonparametric Test of Predictive Performance", Journal of Business &
    Economic Statistics 10(4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from swiftbolt.evaluation.metrics import EVEN_CHANCE_TOLERANCE
from swiftbolt.evaluation.significance import (
    degrees_of_freedom,
    demeaning_bias,
    least_sessions,
    session_means,
)
from swiftbolt.forecast import Float64
from swiftbolt.sessions import Sessions

DRAWS = 2_000
# Blocks of two horizons cut through so many outcomes that the standard error comes out 9 % too small.
BLOCK_HORIZONS = 4
ROUNDING = 1e-9  # of a share; one forecast among a million counts more
_CHUNK = 250  # draws at a time, so that memory does not grow with their number


@dataclass(frozen=True, kw_only=True, slots=True)
class DirectionTest:
    """How much more often the forecast's side is right than a benchmark's, and whether that is luck.

    ``p_value`` is one-sided: small when the excess is surely above zero. ``block`` is the mean length of what was
    resampled, in sessions.
    """

    sessions: int
    excess: float
    standard_error: float
    statistic: float
    block: int
    degrees_of_freedom: float
    p_value: float


def mean_block(horizon: int) -> int:
    """Mean length of a block, in sessions: 20, or four horizons."""
    return max(20, BLOCK_HORIZONS * horizon)


def resampled_means(value_TK: Float64, block: int, draws: int, rng: np.random.Generator) -> Float64:
    """Means of ``draws`` stationary bootstrap samples of T rows each, (D, K).

    A sample is made of blocks that begin anywhere, go on for a geometric number of rows with mean ``block``, and
    continue at the first row after the last. What a block adds up to is the difference of two running totals.
    """
    count = len(value_TK)
    total_2TK = np.cumsum(np.concatenate((np.zeros((1, value_TK.shape[1])), value_TK, value_TK)), axis=0)
    parts = [_sampled_sums(total_2TK, count, block, min(_CHUNK, draws - done), rng) for done in range(0, draws, _CHUNK)]
    return np.concatenate(parts) / count


def side_tests(
    session_N: Sessions, p_up_N: Float64, outcome_N: Float64, horizon: int, rng: np.random.Generator, draws: int = DRAWS
) -> tuple[DirectionTest, DirectionTest]:
    """``pesaran_timmermann`` and ``accuracy_over_constant`` on the same samples: two tests for the time of one.

    Raises:
        ValueError: fewer than ``least_sessions(horizon)``, or a value is not finite.
    """
    side_TK = _sides(session_N, p_up_N, outcome_N)
    sample_DK = _resampled(side_TK, horizon, rng, draws)
    return _timing(side_TK, sample_DK, horizon), _over_constant(side_TK, sample_DK, horizon)


def pesaran_timmermann(
    session_N: Sessions, p_up_N: Float64, outcome_N: Float64, horizon: int, rng: np.random.Generator, draws: int = DRAWS
) -> DirectionTest:
    """Does the forecast's side say anything about the outcome's?

    ``excess`` is the share of right sides minus the share to be expected if both sides came about independently of
    each other, each as often as they did; a forecast that never changes its side has none.

    Raises:
        ValueError: fewer than ``least_sessions(horizon)``, or a value is not finite.
    """
    return side_tests(session_N, p_up_N, outcome_N, horizon, rng, draws)[0]


def accuracy_over_constant(
    session_N: Sessions, p_up_N: Float64, outcome_N: Float64, horizon: int, rng: np.random.Generator, draws: int = DRAWS
) -> DirectionTest:
    """Is the forecast's side right more often than always saying "up", and than always saying "down"?

    Which of these two is the better is only known afterwards, so that both have to be beaten: what is returned is the
    test with the larger p-value.

    Raises:
        ValueError: fewer than ``least_sessions(horizon)``, or a value is not finite.
    """
    return side_tests(session_N, p_up_N, outcome_N, horizon, rng, draws)[1]


def _timing(side_TK: Float64, sample_DK: Float64, horizon: int) -> DirectionTest:
    return _judged(_dependence(side_TK.mean(axis=0)), _dependence(sample_DK), len(side_TK), horizon)


def _over_constant(side_TK: Float64, sample_DK: Float64, horizon: int) -> DirectionTest:
    """The test against the harder of the two constants."""
    mean_K = side_TK.mean(axis=0)
    rivals = (
        _judged(_accuracy(mean_K) - rises(mean_K), _accuracy(sample_DK) - rises(sample_DK), len(side_TK), horizon)
        for rises in (_rises, _falls)
    )
    return max(rivals, key=lambda test: test.p_value)


def _sides(session_N: Sessions, p_up_N: Float64, outcome_N: Float64) -> Float64:
    """Session means of the forecast's side, the outcome's, and their product, (T, 3): 1 is up, 0 down, 1/2 neither."""
    lean_N = p_up_N - 0.5
    forecast_N = 0.5 + 0.5 * np.where(np.abs(lean_N) <= EVEN_CHANCE_TOLERANCE, 0.0, np.sign(lean_N))
    actual_N = 0.5 + 0.5 * np.sign(outcome_N)
    return np.column_stack(
        [session_means(session_N, value_N)[1] for value_N in (forecast_N, actual_N, forecast_N * actual_N)]
    )


def _accuracy(mean_K: Float64) -> Float64:
    """Share of right sides, halves for neither, of (..., 3) means."""
    return np.asarray(1.0 - mean_K[..., 0] - mean_K[..., 1] + 2.0 * mean_K[..., 2])


def _rises(mean_K: Float64) -> Float64:
    return np.asarray(mean_K[..., 1])


def _falls(mean_K: Float64) -> Float64:
    return np.asarray(1.0 - mean_K[..., 1])


def _dependence(mean_K: Float64) -> Float64:
    """Accuracy minus that of independent sides with the same frequencies: twice their covariance."""
    return np.asarray(2.0 * (mean_K[..., 2] - mean_K[..., 0] * mean_K[..., 1]))


def _resampled(side_TK: Float64, horizon: int, rng: np.random.Generator, draws: int) -> Float64:
    count = len(side_TK)
    if count < least_sessions(horizon):
        raise ValueError(f"a test at horizon {horizon} needs {least_sessions(horizon)} sessions, got {count}")
    return resampled_means(side_TK, mean_block(horizon), draws, rng)


def _judged(excess: Float64, sample_D: Float64, sessions: int, horizon: int) -> DirectionTest:
    block = mean_block(horizon)
    weight_T = _block_weights(sessions, block)
    spread = float(np.std(sample_D, ddof=1)) / math.sqrt(demeaning_bias(weight_T))
    # What no sample changes is certain, up to rounding, which must not look like an excess.
    error = max(spread, ROUNDING)
    freedom = degrees_of_freedom(weight_T)
    return DirectionTest(
        sessions=sessions,
        excess=float(excess),
        standard_error=error,
        statistic=float(excess) / error,
        block=block,
        degrees_of_freedom=freedom,
        p_value=float(stdtr(freedom, -float(excess) / error)),
    )


def _block_weights(count: int, block: int) -> Float64:
    """Weight of each autocovariance in the bootstrap's variance of a mean; Politis and Romano, lemma 1."""
    lag_T = np.arange(count)
    goes_on = 1.0 - 1.0 / block
    return np.asarray((1 - lag_T / count) * goes_on**lag_T + lag_T / count * goes_on ** (count - lag_T))


def _sampled_sums(total_2TK: Float64, count: int, block: int, draws: int, rng: np.random.Generator) -> Float64:
    """Sums of ``draws`` samples, (draws, K), from the running totals of two copies of the series end to end."""
    rows = draws * count  # all samples, one after the other
    first_D = np.arange(0, rows, count)
    # A block begins with each sample, and otherwise with any row with chance 1 / block.
    begin_B = np.union1d(first_D, rng.choice(rows, rng.binomial(rows, 1.0 / block), replace=False, shuffle=False))
    length_B = np.diff(begin_B, append=rows)
    origin_B = rng.integers(0, count, len(begin_B))
    block_BK = total_2TK[origin_B + length_B] - total_2TK[origin_B]
    return np.asarray(np.add.reduceat(block_BK, np.searchsorted(begin_B, first_D), axis=0))
