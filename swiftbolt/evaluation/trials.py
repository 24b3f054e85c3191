"""How much of the best of many trials is the luck of trying: the deflated Sharpe ratio and the odds of overfitting.

Each trial is the daily net return series of one configuration that was ever evaluated. N trials, T sessions ascending;
NaN where a trial has no return. Knows nothing of where trials are kept.

Sources:
    Bailey and Lopez de Prado (2014), "The Deflated Sharpe Ratio: Correcting for Selection Bias, Backtest
    Overfitting and Non-Normality", Journal of Portfolio Management 40(5).
    Bailey, Borwein, Lopez de Prado and Zhu (2017), "The Probability of Backtest Overfitting", Journal of
    Computational Finance 20(4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from swiftbolt.evaluation.equity import sharpe_ratio
from swiftbolt.forecast import Float64

SAME_CORRELATION = 0.5
MIN_COMMON_SESSIONS = 60
MIN_TRIALS = 10
BLOCKS = 16
MIN_BLOCK_SESSIONS = 5
BATCH = 512  # choices of blocks at a time, to bound the memory


@dataclass(frozen=True, kw_only=True, slots=True)
class DeflatedSharpe:
    """Whether a trial's Sharpe ratio is more than the best of so many would show by luck.

    Sharpe ratios are of one session, not annualised. ``benchmark`` is the best to be expected of ``clusters`` trials
    without skill; ``probability`` is the confidence that the true ratio lies above it.
    """

    sharpe: float
    benchmark: float
    trials: int
    clusters: int
    sessions: int
    skew: float
    kurtosis: float
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempts:
    """All that were tried, as the Sharpe ratio of one of them is held against them.

    Attributes:
        variance: of the Sharpe ratios of one session, across the trials whose returns are known.
    """

    trials: int
    clusters: int
    variance: float

    @classmethod
    def of(cls, returns_NT: Float64, unseen: int = 0) -> Attempts:
        """Count trials; those that are much alike are one cluster.

        Args:
            unseen: trials beside these that left no returns. Nobody can tell what they are alike: each is a cluster.
        """
        sharpes_N = [sharpe_ratio(row_T[np.isfinite(row_T)]) for row_T in returns_NT]
        return cls(
            trials=len(returns_NT) + unseen,
            clusters=(int(clusters(returns_NT).max()) if len(returns_NT) else 0) + unseen,
            variance=float(np.var(sharpes_N, ddof=1)) if len(sharpes_N) > 1 else 0.0,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Overfitting:
    """How often the trial that is best in half of the time is below the median in the other half.

    ``probability`` is None where it cannot be told, and ``reason`` then says why. One half is what choosing at
    random gives.
    """

    probability: float | None
    trials: int
    sessions: int
    reason: str | None = None


def deflated_sharpe(returns_NT: Float64, chosen: int) -> DeflatedSharpe:
    """Judge trial ``chosen`` knowing all that were tried.

    Trials that are much alike count as one: N is the number of ``clusters``. The variance is that of the Sharpe ratios
    of all trials.

    Raises:
        ValueError: the chosen trial has fewer than 3 returns, or they never vary.
    """
    return deflated_among(returns_NT[chosen], Attempts.of(returns_NT))


def deflated_among(returns_T: Float64, attempts: Attempts) -> DeflatedSharpe:
    """Judge one of ``attempts`` by its returns.

    Raises:
        ValueError: there are fewer than 3, or they never vary.
    """
    own_T = returns_T[np.isfinite(returns_T)]
    if len(own_T) < 3 or np.ptp(own_T) == 0:
        raise ValueError(f"a Sharpe ratio to deflate needs at least 3 returns that vary, got {len(own_T)}")
    benchmark = expected_best_sharpe(attempts.variance, attempts.clusters)
    z_T = (own_T - np.mean(own_T)) / np.std(own_T)
    skew, kurtosis = float(np.mean(z_T**3)), float(np.mean(z_T**4))
    sharpe = sharpe_ratio(own_T)
    return DeflatedSharpe(
        sharpe=sharpe,
        benchmark=benchmark,
        trials=attempts.trials,
        clusters=attempts.clusters,
        sessions=len(own_T),
        skew=skew,
        kurtosis=kurtosis,
        probability=probabilistic_sharpe(sharpe, benchmark, sessions=len(own_T), skew=skew, kurtosis=kurtosis),
    )


def expected_best_sharpe(variance: float, trials: int) -> float:
    """Sharpe ratio to be expected of the best of ``trials`` independent ones without skill; 0 for a single one.

    Args:
        variance: of the Sharpe ratios across trials.

    Source:
        Bailey and Lopez de Prado (2014), equation 1.
    """
    if trials < 2:
        return 0.0
    quantiles = ndtri(1.0 - 1.0 / (trials * np.array([1.0, math.e])))
    return math.sqrt(variance) * float((1.0 - np.euler_gamma) * quantiles[0] + np.euler_gamma * quantiles[1])


def probabilistic_sharpe(sharpe: float, benchmark: float, *, sessions: int, skew: float, kurtosis: float) -> float:
    """Confidence that the true Sharpe ratio is above ``benchmark``, both of one session.

    Args:
        kurtosis: of the returns, 3 for a normal distribution.

    Source:
        Bailey and Lopez de Prado (2012), "The Sharpe Ratio Efficient Frontier", Journal of Risk 15(2), equation 9.
    """
    spread = 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
    return float(ndtr((sharpe - benchmark) * math.sqrt((sessions - 1) / spread)))


def clusters(returns_NT: Float64) -> NDArray[np.int64]:
    """The group of each trial, numbered from 1.

    Groups are joined from single trials upwards, always the two with the smallest mean distance
    ``sqrt((1 - correlation) / 2)``, until no two are as near as a correlation of 0.5. Trials with fewer than 60
    sessions in common, or of which one never varies in them, count as uncorrelated.
    """
    if len(returns_NT) == 1:
        return np.ones(1, dtype=np.int64)
    distance_NN = np.sqrt((1.0 - np.clip(_correlations(returns_NT), -1.0, 1.0)) / 2.0)
    np.fill_diagonal(distance_NN, 0.0)
    tree = linkage(squareform(distance_NN, checks=False), method="average")
    return np.asarray(fcluster(tree, math.sqrt((1.0 - SAME_CORRELATION) / 2.0), criterion="distance"), dtype=np.int64)


def backtest_overfitting(returns_NT: Float64, blocks: int = BLOCKS) -> Overfitting:
    """Probability of backtest overfitting by combinatorially symmetric cross-validation.

    The sessions common to all trials are cut into ``blocks`` (an even number). For each choice of half of them, the
    trial of the highest Sharpe ratio there is ranked in the other half; the median itself counts as below.
    """
    common_NT = returns_NT[:, np.isfinite(returns_NT).all(axis=0)]
    trials, sessions = common_NT.shape
    if trials < MIN_TRIALS:
        return Overfitting(
            probability=None, trials=trials, sessions=sessions, reason=f"{trials} trials, needs at least {MIN_TRIALS}"
        )
    if sessions < MIN_BLOCK_SESSIONS * blocks:
        return Overfitting(
            probability=None,
            trials=trials,
            sessions=sessions,
            reason=f"{sessions} sessions common to all trials, needs at least {MIN_BLOCK_SESSIONS * blocks}",
        )
    parts = np.array_split(common_NT, blocks, axis=1)
    choices = math.comb(blocks, blocks // 2)
    half_CB = np.zeros((choices // 2, blocks))
    # Those with the first block, which come first: the others are their complements.
    for c, chosen in enumerate(islice(combinations(range(blocks), blocks // 2), len(half_CB))):
        half_CB[c, chosen] = 1.0
    below = 0
    for batch_CB in np.array_split(half_CB, -(-len(half_CB) // BATCH)):
        one_CN, other_CN = _sharpes(parts, batch_CB), _sharpes(parts, 1.0 - batch_CB)
        for inside_CN, outside_CN in ((one_CN, other_CN), (other_CN, one_CN)):
            best_C = np.argmax(inside_CN, axis=1)
            rank_C = rankdata(outside_CN, axis=1)[np.arange(len(best_C)), best_C]
            below += int(np.sum(rank_C <= (trials + 1) / 2))
    return Overfitting(probability=below / choices, trials=trials, sessions=sessions)


def _sharpes(parts: list[Float64], half_CB: Float64) -> Float64:
    """Sharpe ratio of each trial over the blocks each combination chose, (C, N); 0 where nothing varies."""
    count_C = half_CB @ np.array([float(part.shape[1]) for part in parts])
    sum_CN = half_CB @ np.array([part.sum(axis=1) for part in parts])
    square_CN = half_CB @ np.array([(part**2).sum(axis=1) for part in parts])
    mean_CN = sum_CN / count_C[:, None]
    variance_CN = (square_CN - sum_CN * mean_CN) / (count_C[:, None] - 1.0)
    # What rounding leaves of the variance of a constant is not variance.
    moves_CN = variance_CN > 1e-12 * square_CN / count_C[:, None]
    return np.where(moves_CN, mean_CN / np.sqrt(np.where(moves_CN, variance_CN, 1.0)), 0.0)


def _correlations(returns_NT: Float64) -> Float64:
    """Correlation of each pair over the sessions both have; 0 where they have too few, or one never varies."""
    known_NT = np.isfinite(returns_NT)
    mask_NT = known_NT.astype(np.float64)
    value_NT = np.where(known_NT, returns_NT, 0.0)
    count_NN = mask_NT @ mask_NT.T
    sum_NN = value_NT @ mask_NT.T  # of the row's trial over the sessions shared with the column's
    square_NN = value_NT**2 @ mask_NT.T
    shared = np.maximum(count_NN, 1.0)
    covariance_NN = value_NT @ value_NT.T / shared - sum_NN * sum_NN.T / shared**2
    variance_NN = square_NN / shared - (sum_NN / shared) ** 2
    moves_NN = variance_NN > 1e-12 * square_NN / shared
    told_NN = (count_NN >= MIN_COMMON_SESSIONS) & moves_NN & moves_NN.T
    scale_NN = np.sqrt(np.where(told_NN, variance_NN * variance_NN.T, 1.0))
    return np.asarray(np.where(told_NN, covariance_NN / scale_NN, 0.0))
