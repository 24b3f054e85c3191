"""What holds for every ensemble: nothing later is known earlier, and what is published is a distribution."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from swiftbolt.ensemble.conformal import Widths, follow, stretched
from swiftbolt.ensemble.pooling import pooled
from swiftbolt.ensemble.weights import EnsembleConfig, EnsembleState, combine, fit_ensemble
from swiftbolt.forecast import HORIZONS, LEVELS, Float64, Forecasts, normal_quantiles, probability_of_rise
from swiftbolt.sessions import all_sessions

QUICK = settings(max_examples=40, deadline=None, derandomize=True)
DAYS = all_sessions()[10_000:10_200]
SESSIONS, SYMBOLS, FOLD = 90, ("A", "B", "C"), 30
NAMES = ("arima", "xgboost", "lstm")
SHORT = {"min_weight_sessions": 5, "min_calibration_sessions": 5, "shrinkage_sessions": 5.0, "conformal_gain": 0.2}


@st.composite
def distributions(draw: st.DrawFn, rows: int = 20) -> Float64:
    """Quantiles with uneven steps about any centre."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    steps = rng.gamma(draw(st.sampled_from([0.5, 2.0, 20.0])), 0.01, (rows, len(LEVELS))) + 1e-5
    return np.cumsum(steps, axis=1) - rng.uniform(0, 1.5, (rows, 1)) * steps.sum(axis=1, keepdims=True)


def members(rng: np.random.Generator) -> dict[str, Forecasts]:
    """Three members that forecast all symbols on all sessions."""
    symbol_N, origin_N = np.repeat(np.array(SYMBOLS), SESSIONS), np.tile(DAYS[:SESSIONS], len(SYMBOLS))
    return {
        name: Forecasts(
            model=name,
            horizons=HORIZONS,
            symbol_N=symbol_N,
            origin_N=origin_N,
            quantiles_NHQ=normal_quantiles(
                rng.normal(0, 0.005, (len(symbol_N), 3)), rng.uniform(0.005, 0.03, (len(symbol_N), 3))
            ),
        )
        for name in NAMES
    }


def outcomes(rng: np.random.Generator, noise_after: int | None = None) -> pl.DataFrame:
    """Outcomes of every forecast; those known only after a session may be others."""
    frames = []
    for horizon in HORIZONS:
        y_ST = rng.normal(0, 0.02, (len(SYMBOLS), SESSIONS))
        if noise_after is not None:
            late = np.arange(SESSIONS) + horizon > noise_after
            y_ST[:, late] = np.random.default_rng(99).normal(0, 0.5, (len(SYMBOLS), int(late.sum())))
        frames.append(
            pl.DataFrame(
                {
                    "symbol": np.repeat(np.array(SYMBOLS), SESSIONS).tolist(),
                    "origin": pl.Series(np.tile(DAYS[:SESSIONS], len(SYMBOLS)), dtype=pl.Date),
                    "horizon": pl.Series(np.full(y_ST.size, horizon), dtype=pl.Int32),
                    "realized": y_ST.ravel(),
                    "matured": pl.Series(np.tile(DAYS[horizon : horizon + SESSIONS], len(SYMBOLS)), dtype=pl.Date),
                }
            )
        )
    return pl.concat(frames)


def walk(
    parts: dict[str, Forecasts], realized: pl.DataFrame, config: EnsembleConfig
) -> tuple[list[EnsembleState], list[Widths], Forecasts]:
    """Folds of thirty sessions, each weighed and calibrated at its start; widths followed through all of them."""
    starts = range(FOLD, SESSIONS, FOLD)
    states, combined = [], []
    for start in starts:
        matured = realized.filter(pl.col("matured") < DAYS[start].astype(object))
        states.append(fit_ensemble(parts, matured, config))
        within = [(part.origin_N >= DAYS[start]) & (part.origin_N < DAYS[start + FOLD]) for part in parts.values()]
        combined.append(
            combine(
                {name: part.take(rows) for (name, part), rows in zip(parts.items(), within, strict=True)}, states[-1]
            )
        )
    ends = [DAYS[start - 1].astype(object) for start in starts]
    published, widths = follow(
        Forecasts.concatenate(combined), realized, gain=config.conformal_gain, known_through=ends
    )
    return states, widths, published


@QUICK
@given(
    seed=st.integers(0, 2**31),
    cut=st.sampled_from((FOLD - 1, 2 * FOLD - 1)) | st.integers(FOLD, SESSIONS - 1),
    pool=st.sampled_from(["quantiles", "linear"]),
)
def test_noise_after_a_session_changes_no_state_and_no_forecast_at_or_before_it(seed: int, cut: int, pool: str) -> None:
    config = EnsembleConfig.model_validate({**SHORT, "pool": pool})
    parts = members(np.random.default_rng(seed))
    states, widths, published = walk(parts, outcomes(np.random.default_rng(seed)), config)
    noisy_states, noisy_widths, noisy = walk(parts, outcomes(np.random.default_rng(seed), noise_after=cut), config)
    known = sum(start - 1 <= cut for start in range(FOLD, SESSIONS, FOLD))
    assert noisy_states[:known] == states[:known]
    assert noisy_widths[:known] == widths[:known]
    rows = published.origin_N <= DAYS[cut]
    assert noisy.take(rows) == published.take(rows)


def test_noise_before_a_session_does_change_what_comes_after() -> None:
    config = EnsembleConfig.model_validate(SHORT)
    parts = members(np.random.default_rng(1))
    states, widths, published = walk(parts, outcomes(np.random.default_rng(1)), config)
    noisy_states, noisy_widths, noisy = walk(parts, outcomes(np.random.default_rng(1), noise_after=40), config)
    assert (noisy_states[0], noisy_widths[0]) == (states[0], widths[0])
    assert (noisy_states[1], noisy_widths[1]) != (states[1], widths[1])
    assert noisy.take(noisy.origin_N == DAYS[41]) != published.take(published.origin_N == DAYS[41])


@QUICK
@given(quantiles_NQ=distributions(), factors=st.tuples(*[st.floats(0.05, 20.0)] * 3))
def test_stretching_never_crosses_quantiles_nor_moves_the_probability_of_a_rise(
    quantiles_NQ: Float64, factors: tuple[float, ...]
) -> None:
    moved_NQ = stretched(quantiles_NQ, np.array(factors))
    assert (np.diff(moved_NQ, axis=1) > 0).all()
    np.testing.assert_allclose(probability_of_rise(moved_NQ), probability_of_rise(quantiles_NQ), rtol=0, atol=1e-6)


@QUICK
@given(one_NQ=distributions(), other_NQ=distributions(), weight=st.floats(0.0, 1.0))
def test_both_pools_lie_between_their_members_and_increase(one_NQ: Float64, other_NQ: Float64, weight: float) -> None:
    quantiles_MNQ = np.stack([one_NQ, other_NQ])
    weights_MN = np.repeat(np.array([[weight], [1 - weight]]), len(one_NQ), axis=1)
    for pool in ("quantiles", "linear"):
        found_NQ = pooled(quantiles_MNQ, weights_MN, pool)
        assert (np.diff(found_NQ, axis=1) > 0).all()
        assert (found_NQ >= quantiles_MNQ.min(axis=0) - 1e-12).all()
        assert (found_NQ <= quantiles_MNQ.max(axis=0) + 1e-12).all()


@QUICK
@given(
    means=st.tuples(st.floats(-0.02, 0.02), st.floats(-0.02, 0.02)),
    sds=st.tuples(st.floats(0.005, 0.05), st.floats(0.005, 0.05)),
    weight=st.floats(0.05, 0.95),
)
def test_the_linear_pool_of_normals_has_their_mixtures_probabilities(
    means: tuple[float, float], sds: tuple[float, float], weight: float
) -> None:
    quantiles_MNQ = normal_quantiles(np.array(means)[:, None], np.array(sds)[:, None])
    found_Q = pooled(quantiles_MNQ, np.array([[weight], [1 - weight]]), "linear")[0]
    below_Q = weight * norm.cdf(found_Q, means[0], sds[0]) + (1 - weight) * norm.cdf(found_Q, means[1], sds[1])
    np.testing.assert_allclose(below_Q, LEVELS, rtol=0, atol=1e-9)
