"""Adaptive conformal intervals: each central interval made as wide as its outcomes have lately asked for.

The central 50, 90 and 95 % intervals have a factor each, per horizon, on their half-widths about the median. The
factor is in the forecast's own scale, so that calm and wild symbols are corrected alike. At every session the
outcomes that mature there, those of one origin, move the factors of their horizon once, by how much the share of
symbols outside the interval published at that origin was off. Nothing else is remembered: what a release keeps is
three numbers a horizon.

p_up stays where it was: a stretched distribution is laid back until its 1 - F(0) is that of the one given.

Source:
    Romano, Patterson and Candès (2019), "Conformalized Quantile Regression", NeurIPS 32; Gibbs and Candès (2021),
    "Adaptive Conformal Inference Under Distribution Shift", NeurIPS 34. That the width follows the misses itself,
    instead of a level looked up among past scores, is the quantile tracking of Angelopoulos, Candès and Tibshirani
    (2023), "Conformal PID Control for Time Series Prediction", NeurIPS 36.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from swiftbolt.ensemble.pooling import return_at, score_at
from swiftbolt.forecast import LEVELS, Z_Q, Float64, Forecasts

# Central intervals, inner first, as positions in LEVELS.
CENTRAL: tuple[tuple[int, int], ...] = tuple((q, len(LEVELS) - 1 - q) for q in reversed(range(len(LEVELS) // 2)))
ALPHA_K: Float64 = np.array([1.0 - (LEVELS[high] - LEVELS[low]) for low, high in CENTRAL])
# Share of outcomes that a normal interval loses as its log width falls: 2 z phi(z).
_z_K = np.array([Z_Q[high] for _, high in CENTRAL])
SENSITIVITY_K: Float64 = 2 * _z_K * np.exp(-0.5 * _z_K**2) / np.sqrt(2 * np.pi)
# Between two intervals there stays at least this share of the distance that the forecast had there.
LEAST_STEP = 0.05

Widths = tuple[tuple[float, ...], ...]
"""Factor on the half-widths of each of ``CENTRAL``, for each horizon."""


def unchanged(horizons: Sequence[int]) -> Widths:
    """Widths that leave every forecast as it is."""
    return ((1.0,) * len(CENTRAL),) * len(horizons)


def stretched(quantiles_NQ: Float64, factor_K: Float64) -> Float64:
    """Half-widths of the central intervals times their factors, p_up kept; quantiles go on increasing."""
    if (factor_K == 1.0).all():
        return quantiles_NQ
    median_N = quantiles_NQ[:, len(LEVELS) // 2]
    moved_NQ = quantiles_NQ.copy()
    for sign, side in ((-1.0, 0), (1.0, 1)):
        inner_N, inner_before_N = np.zeros(len(median_N)), np.zeros(len(median_N))
        for k, interval in enumerate(CENTRAL):
            before_N = sign * (quantiles_NQ[:, interval[side]] - median_N)
            inner_N = np.maximum(factor_K[k] * before_N, inner_N + LEAST_STEP * (before_N - inner_before_N))
            inner_before_N = before_N
            moved_NQ[:, interval[side]] = median_N + sign * inner_N
    # Through the score, not p_up itself: that is exactly 0 or 1 where zero is far out.
    zero_N = score_at(quantiles_NQ, np.zeros((len(median_N), 1)))[:, 0]
    return np.asarray(moved_NQ - return_at(moved_NQ, zero_N)[:, None])


def stretch(forecasts: Forecasts, widths: Widths) -> Forecasts:
    """Every horizon of every forecast ``stretched`` by its factors."""
    quantiles_NHQ = np.stack(
        [stretched(forecasts.quantiles_NHQ[:, h], np.array(factors)) for h, factors in enumerate(widths)], axis=1
    )
    return replace(forecasts, quantiles_NHQ=quantiles_NHQ)


def missed(quantiles_NQ: Float64, realized_N: Float64) -> Float64:
    """Share of outcomes outside each central interval, (K,)."""
    return np.array(
        [np.mean((realized_N < quantiles_NQ[:, low]) | (realized_N > quantiles_NQ[:, high])) for low, high in CENTRAL]
    )


def moved(factor_K: Float64, miss_K: Float64, step: float) -> Float64:
    """Factors after the misses of one session.

    Args:
        step: share of a normal distribution's gap between misses and what they should be that is closed at once.
    """
    return np.asarray(factor_K * np.exp(step * (miss_K - ALPHA_K) / SENSITIVITY_K))


def follow(
    forecasts: Forecasts, realized: pl.DataFrame, *, gain: float, known_through: Sequence[date]
) -> tuple[Forecasts, list[Widths]]:
    """Walk through the sessions: publish the forecasts of each, stretched, after learning what matured there.

    Args:
        forecasts: of successive origins, calibrated, not stretched.
        realized: ``symbol, origin, horizon, realized, matured``; at session t the rows of horizon h that matured
            there move the factors by a step of ``gain / h``.
        known_through: ascending sessions.

    Returns:
        The forecasts as published, and the widths after all that matured up to each of ``known_through``.
    """
    out_NHQ = forecasts.quantiles_NHQ.copy()
    ends = np.array(known_through, dtype="datetime64[D]")
    factors_CHK = np.ones((len(ends), len(forecasts.horizons), len(CENTRAL)))
    for h, horizon in enumerate(forecasts.horizons):
        realized_N, matured_N = _outcomes(forecasts, realized, horizon)
        published, learnt = _rows_by_day(forecasts.origin_N), _rows_by_day(matured_N)
        factor_K = np.ones(len(CENTRAL))
        for day in sorted({*published, *learnt}):
            if day in learnt:
                rows = learnt[day]
                factor_K = moved(factor_K, missed(out_NHQ[rows, h], realized_N[rows]), gain / horizon)
                factors_CHK[ends >= day, h] = factor_K
            if day in published:
                rows = published[day]
                out_NHQ[rows, h] = stretched(out_NHQ[rows, h], factor_K)
    widths = [tuple(tuple(row) for row in factors_HK) for factors_HK in factors_CHK.tolist()]
    return replace(forecasts, quantiles_NHQ=out_NHQ), widths


def _outcomes(forecasts: Forecasts, realized: pl.DataFrame, horizon: int) -> tuple[Float64, NDArray[np.datetime64]]:
    """Outcome of each forecast and the session it was known at; NaN and NaT where there is none."""
    keys = pl.DataFrame(
        {
            "symbol": pl.Series(forecasts.symbol_N.tolist(), dtype=pl.String),
            "origin": pl.Series(forecasts.origin_N, dtype=pl.Date),
        }
    )
    known = realized.filter((pl.col("horizon") == horizon) & pl.col("realized").is_finite())
    found = keys.join(known, on=["symbol", "origin"], how="left", maintain_order="left")
    return (
        found["realized"].cast(pl.Float64).fill_null(np.nan).to_numpy(),
        found["matured"].to_numpy().astype("datetime64[D]"),
    )


def _rows_by_day(day_N: NDArray[np.datetime64]) -> dict[np.datetime64, NDArray[np.int64]]:
    """Rows of each day, ascending; a row without a day is left out."""
    order = np.flatnonzero(~np.isnat(day_N))
    order = order[np.argsort(day_N[order], kind="stable")]
    days, first = np.unique(day_N[order], return_index=True)
    return dict(zip(days, np.split(order, first[1:]), strict=True)) if len(days) else {}
