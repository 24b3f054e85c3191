"""Is a difference more than luck? Tests on series of sessions, never on single forecasts.

Symbols of one session move together, so a test acts on the series of the sessions' cross-sectional means.
Outcomes over h sessions overlap, so neighbours in that series are dependent: its long-run variance is estimated
with Bartlett weights over five horizons, and the statistic is read against a Student t with the few degrees of
freedom that such an estimate has. At 5 % and h = 20 that rejects 5 to 7 % of true nulls where the usual reading
(lag h - 1, normal critical values) rejects 10 to 18 %; tests/properties/test_significance_size.py measures both.

N forecasts in any order, T sessions ascending. Knows nothing of models or folds.

Sources:
    Diebold and Mariano (1995), "Comparing Predictive Accuracy", Journal of Business & Economic Statistics 13(3).
    Harvey, Leybourne and Newbold (1997), "Testing the Equality of Prediction Mean Squared Errors", International
    Journal of Forecasting 13(2).
    Newey and West (1987), "A Simple, Positive Semi-Definite, Heteroskedasticity and Autocorrelation Consistent
    Covariance Matrix", Econometrica 55(3).
    Kiefer and Vogelsang (2005), "A New Asymptotic Theory for Heteroskedasticity-Autocorrelation Robust Tests",
    Econometric Theory 21(6).
    Lazarus, Lewis, Stock and Watson (2018), "HAR Inference: Recommendations for Practice", Journal of Business &
    Economic Statistics 36(4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import stdtr, stdtrit

from swiftbolt.forecast import Float64
from swiftbolt.sessions import Sessions

MIN_SESSIONS = 20
MIN_HORIZONS = 10  # outcomes that do not overlap; with fewer no reading keeps its size
# Bartlett weights that reach five horizons miss 7 % of the variance of overlapping sums; those that reach one, a third.
LAG_HORIZONS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanTest:
    """Whether the mean of a series of sessions is zero.

    ``lag`` is the farthest dependence between sessions that was allowed for. ``p_greater`` is small when the mean
    is surely above zero, ``p_less`` when it is surely below; ``p_two_sided`` when either.
    """

    sessions: int
    mean: float
    standard_error: float
    statistic: float
    lag: int
    degrees_of_freedom: float
    p_two_sided: float
    p_greater: float
    p_less: float


def least_sessions(horizon: int) -> int:
    """Sessions below which nothing can be said about outcomes over ``horizon`` sessions."""
    return max(MIN_SESSIONS, MIN_HORIZONS * horizon)


def lag_of(sessions: int, horizon: int) -> int:
    """How far dependence is followed: Lazarus et al.'s rule or five horizons, at most half the sample."""
    return min(max(math.ceil(1.3 * math.sqrt(sessions)), LAG_HORIZONS * horizon), sessions // 2)


def session_means(session_N: Sessions, value_N: Float64) -> tuple[Sessions, Float64]:
    """The sessions that occur, ascending, and the mean of the values of each; every session weighs the same.

    Raises:
        ValueError: a value is not finite, or the two differ in length.
    """
    _require_finite(session_N, value_N)
    sessions_T, place_N = np.unique(session_N, return_inverse=True)
    return sessions_T, np.bincount(place_N, weights=value_N) / np.bincount(place_N)


def mean_test(series_T: Float64, horizon: int) -> MeanTest:
    """t-test of the mean of dependent sessions, with Bartlett weights and fixed-b critical values.

    The long-run variance is divided by what it is expected to be on independent data of variance one, less than
    one because the mean is estimated too: with unit weights up to lag ``horizon - 1`` that is the correction of
    Harvey, Leybourne and Newbold. Student's t has about ``1.5 T / (lag + 1)`` degrees of freedom; its critical
    values are then within 2 % of those that Kiefer and Vogelsang derive for a lag that is a fixed share of the sample.

    Args:
        series_T: one value a session, ascending; sessions without a forecast may be missing, which loses little.
        horizon: sessions each outcome spans.

    Raises:
        ValueError: fewer than ``least_sessions(horizon)``, or a value is not finite.
    """
    count = len(series_T)
    if count < least_sessions(horizon) or not np.isfinite(series_T).all():
        raise ValueError(
            f"a test at horizon {horizon} needs {least_sessions(horizon)} sessions of finite values, got {count}"
        )
    lag = lag_of(count, horizon)
    weight_T = np.maximum(1.0 - np.arange(count) / (lag + 1), 0.0)
    mean = float(np.mean(series_T))
    variance = long_run_variance(series_T - mean, lag) / demeaning_bias(weight_T)
    # Rounding is all the doubt there is about a series that never varies.
    error = max(math.sqrt(variance / count), float(np.finfo(np.float64).eps * np.max(np.abs(series_T))))
    statistic = mean / error if error else 0.0
    freedom = degrees_of_freedom(weight_T)
    below, above = float(stdtr(freedom, statistic)), float(stdtr(freedom, -statistic))
    return MeanTest(
        sessions=count,
        mean=mean,
        standard_error=error,
        statistic=statistic,
        lag=lag,
        degrees_of_freedom=freedom,
        p_two_sided=min(1.0, 2.0 * min(below, above)),
        p_greater=above,
        p_less=below,
    )


def diebold_mariano(loss_T: Float64, other_loss_T: Float64, horizon: int) -> MeanTest:
    """Mean of ``loss_T - other_loss_T``: the first is surely the better forecast when ``p_less`` is small.

    Args:
        loss_T, other_loss_T: session means of a loss (CRPS, squared error) over the same rows, lower is better.

    Raises:
        ValueError: the two differ in length, or ``mean_test`` refuses.
    """
    if loss_T.shape != other_loss_T.shape:
        raise ValueError(f"losses must be of the same sessions, got {loss_T.shape} and {other_loss_T.shape}")
    return mean_test(loss_T - other_loss_T, horizon)


def session_rank_correlations(session_N: Sessions, forecast_N: Float64, outcome_N: Float64) -> tuple[Sessions, Float64]:
    """Spearman's correlation across each session's symbols; ties share their mean rank.

    Returns:
        The sessions in which both forecasts and outcomes differ between symbols, ascending, and their correlations.

    Raises:
        ValueError: a value is not finite, or the three differ in length.
    """
    _require_finite(session_N, forecast_N, outcome_N)
    correlations = (
        pl.DataFrame({"session": session_N, "forecast": forecast_N, "outcome": outcome_N})
        .with_columns(pl.col("forecast", "outcome").rank("average").over("session"))
        .group_by("session")
        .agg(
            ic=pl.corr("forecast", "outcome"),
            differ=(pl.col("forecast").n_unique() > 1) & (pl.col("outcome").n_unique() > 1),
        )
        .filter("differ")
        .sort("session")
    )
    return correlations["session"].to_numpy(), correlations["ic"].to_numpy()


def rank_ic(session_N: Sessions, forecast_N: Float64, outcome_N: Float64, horizon: int) -> MeanTest:
    """Mean rank information coefficient: which symbols do better than others, whatever the market does.

    Args:
        forecast_N: anything that orders symbols: p_up, mean or median.

    Raises:
        ValueError: too few sessions rank anything; naive never does.
    """
    return mean_test(session_rank_correlations(session_N, forecast_N, outcome_N)[1], horizon)


def relative_loss_upper_bound(loss_T: Float64, reference_T: Float64, horizon: int, confidence: float = 0.95) -> float:
    """What ``mean loss / mean reference - 1`` stays below with ``confidence``; 0.005 is half a percent worse.

    One-sided: the largest ratio that ``mean_test`` of ``loss - ratio * reference`` would not call too large.

    Args:
        loss_T, reference_T: session means of a positive loss over the same rows.

    Raises:
        ValueError: the two differ in length, the reference is too small or too uncertain, or ``mean_test`` refuses.

    Source:
        Fieller (1954), "Some Problems in Interval Estimation", Journal of the Royal Statistical Society B 16(2).
    """
    if loss_T.shape != reference_T.shape:
        raise ValueError(f"losses must be of the same sessions, got {loss_T.shape} and {reference_T.shape}")
    loss, reference = mean_test(loss_T, horizon), mean_test(reference_T, horizon)
    between = mean_test(loss_T - reference_T, horizon)
    quantile = float(stdtrit(reference.degrees_of_freedom, confidence))
    variances = [(quantile * test.standard_error) ** 2 for test in (loss, reference, between)]
    # The bound is the larger root of square * ratio^2 - 2 * half * ratio + rest = 0.
    square = reference.mean**2 - variances[1]
    half = loss.mean * reference.mean - (variances[0] + variances[1] - variances[2]) / 2.0
    rest = loss.mean**2 - variances[0]
    if square <= 0:
        raise ValueError("the reference loss is not surely above zero: a loss relative to it has no bound")
    return (half + math.sqrt(max(half**2 - square * rest, 0.0))) / square - 1.0


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values that allow for how many claims were tested: those below 5 % hold, all together, with 95 % confidence.

    Source:
        Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6(2).
    """
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


def long_run_variance(centred_T: Float64, lag: int) -> float:
    """Bartlett's estimate: ``sum over |k| <= lag of (1 - |k| / (lag + 1)) gamma_k`` of a series of mean zero.

    It is the mean square of the sums over every window of ``lag + 1`` sessions, those that overhang the ends included.
    """
    total = np.concatenate((np.zeros(lag + 1), np.cumsum(centred_T), np.full(lag, np.sum(centred_T))))
    window = total[lag + 1 :] - total[: -lag - 1]
    return float(window @ window) / (len(centred_T) * (lag + 1))


def demeaning_bias(weight_T: Float64) -> float:
    """Expectation of a long-run variance of T independent values of variance one around their own mean.

    Args:
        weight_T: weight of the autocovariance at each lag from 0, the first being 1.
    """
    count = len(weight_T)
    two_sided = 2.0 * float(weight_T @ (1.0 - np.arange(count) / count)) - 1.0
    return 1.0 - two_sided / count


def degrees_of_freedom(weight_T: Float64) -> float:
    """Of the chi-squared that a long-run variance with these weights is like: twice its squared mean over its variance.

    Args:
        weight_T: weight of the autocovariance at each lag from 0, the first being 1.
    """
    count = len(weight_T)
    return count / (2.0 * float(weight_T**2 @ (1.0 - np.arange(count) / count)) - 1.0)


def _require_finite(session_N: Sessions, *values: Float64) -> None:
    for value_N in values:
        if value_N.shape != session_N.shape or not np.isfinite(value_N).all():
            raise ValueError(f"each row needs one finite value, got {value_N.shape} values for {session_N.shape} rows")
