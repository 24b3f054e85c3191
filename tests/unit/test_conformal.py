"""Adaptive conformal intervals: widths that follow the misses, by numbers one can work out."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.special import ndtri

from swiftbolt.ensemble.conformal import (
    ALPHA_K,
    CENTRAL,
    LEAST_STEP,
    SENSITIVITY_K,
    follow,
    missed,
    moved,
    stretch,
    stretched,
    unchanged,
)
from swiftbolt.forecast import HORIZONS, LEVELS, Forecasts, normal_quantiles, probability_of_rise
from swiftbolt.sessions import all_sessions

DAYS = all_sessions()[10_000:12_100]
SKEWED_NQ = np.array([[-0.05, -0.03, -0.01, 0.002, 0.012, 0.04, 0.07], [0.001, 0.002, 0.004, 0.01, 0.02, 0.05, 0.09]])


def published(sd_N, mean: float = 0.0, symbol: str = "A") -> Forecasts:
    """Normal forecasts on successive sessions, the same at every horizon."""
    sd_N = np.asarray(sd_N, dtype=np.float64)
    quantiles_NQ = normal_quantiles(np.full(len(sd_N), mean), sd_N)
    return Forecasts(
        model="ensemble",
        horizons=HORIZONS,
        symbol_N=np.array([symbol] * len(sd_N)),
        origin_N=DAYS[: len(sd_N)],
        quantiles_NHQ=np.repeat(quantiles_NQ[:, None], len(HORIZONS), axis=1),
    )


def outcomes(y_N, symbol: str = "A") -> pl.DataFrame:
    """The same outcome at every horizon, each known as many sessions later."""
    return pl.concat(
        pl.DataFrame(
            {
                "symbol": symbol,
                "origin": pl.Series(DAYS[: len(y_N)], dtype=pl.Date),
                "horizon": pl.Series(np.full(len(y_N), horizon), dtype=pl.Int32),
                "realized": y_N,
                "matured": pl.Series(DAYS[horizon : horizon + len(y_N)], dtype=pl.Date),
            }
        )
        for horizon in HORIZONS
    )


def day(position: int):
    return DAYS[position].astype(object)


# Stretching


def test_central_intervals_are_those_of_the_published_levels():
    assert [(LEVELS[low], LEVELS[high]) for low, high in CENTRAL] == [(0.25, 0.75), (0.05, 0.95), (0.025, 0.975)]
    assert pytest.approx([0.5, 0.1, 0.05]) == ALPHA_K


def test_factors_of_one_touch_nothing():
    assert stretched(SKEWED_NQ, np.ones(3)) is SKEWED_NQ
    forecasts = published([0.01, 0.02])
    assert stretch(forecasts, unchanged(HORIZONS)) == forecasts


def test_one_factor_for_all_intervals_multiplies_the_returns():
    # The point that must not move is zero, and all distances from it grow alike.
    assert stretched(SKEWED_NQ, np.full(3, 1.3)) == pytest.approx(1.3 * SKEWED_NQ, abs=1e-15)
    assert stretched(SKEWED_NQ, np.full(3, 0.4)) == pytest.approx(0.4 * SKEWED_NQ, abs=1e-15)


@pytest.mark.parametrize("factors", [(0.8, 1.1, 1.4), (2.0, 0.5, 0.4), (0.1, 0.1, 5.0), (1.0, 1.0, 1.01)])
def test_stretching_keeps_the_probability_of_a_rise_and_the_order_of_quantiles(factors):
    moved_NQ = stretched(SKEWED_NQ, np.array(factors))
    assert probability_of_rise(moved_NQ) == pytest.approx(probability_of_rise(SKEWED_NQ), abs=1e-9)
    assert (np.diff(moved_NQ, axis=1) > 0).all()


def test_every_interval_gets_its_own_factor_on_both_sides_of_the_median():
    before_Q, after_Q = SKEWED_NQ[0], stretched(SKEWED_NQ[:1], np.array([0.8, 1.1, 1.4]))[0]
    for factor, (low, high) in zip((0.8, 1.1, 1.4), CENTRAL, strict=True):
        assert after_Q[3] - after_Q[low] == pytest.approx(factor * (before_Q[3] - before_Q[low]))
        assert after_Q[high] - after_Q[3] == pytest.approx(factor * (before_Q[high] - before_Q[3]))


def test_an_outer_interval_that_would_fall_within_an_inner_one_keeps_a_little_distance():
    before_Q, after_Q = SKEWED_NQ[0], stretched(SKEWED_NQ[:1], np.array([2.0, 0.1, 0.1]))[0]
    assert np.diff(after_Q)[[0, 1, 4, 5]] == pytest.approx(LEAST_STEP * np.diff(before_Q)[[0, 1, 4, 5]])


def test_each_horizon_is_stretched_by_its_own_factors():
    forecasts = published([0.01])
    found = stretch(forecasts, ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (1.0, 1.0, 1.0)))
    assert np.array_equal(found.quantiles_NHQ[:, [0, 2]], forecasts.quantiles_NHQ[:, [0, 2]])
    assert found.sd_NH[0] == pytest.approx([0.01, 0.02, 0.01])


def test_a_distribution_far_from_zero_is_stretched_like_any_other():
    far_NQ = SKEWED_NQ[:1] + 10.0  # its p_up is 1 to the last bit
    found_NQ = stretched(far_NQ, np.array([0.8, 1.1, 1.4]))
    assert probability_of_rise(found_NQ).tolist() == probability_of_rise(far_NQ).tolist() == [1.0]
    assert (np.diff(found_NQ, axis=1) > 0).all()


# Learning


def test_misses_are_counted_outside_each_interval():
    quantiles_NQ = normal_quantiles(np.zeros(4), np.ones(4))
    assert missed(quantiles_NQ, np.array([0.0, 1.0, -1.8, 3.0])).tolist() == [0.75, 0.5, 0.25]


def test_as_many_misses_as_there_should_be_move_nothing_and_a_gap_is_closed_by_the_step():
    assert moved(np.array([0.9, 1.0, 1.2]), ALPHA_K, 0.1) == pytest.approx([0.9, 1.0, 1.2])
    # A normal interval that is 1 % too narrow misses by its sensitivity times 1 % more than it should.
    gap_K = 0.01 * SENSITIVITY_K
    assert moved(np.ones(3), ALPHA_K + gap_K, 0.5) == pytest.approx(np.full(3, np.exp(0.005)))


def test_the_sensitivity_is_the_slope_of_a_normal_intervals_coverage():
    rng = np.random.default_rng(0)
    sample = np.abs(ndtri(rng.random(400_000)))
    for k, (_, high) in enumerate(CENTRAL):
        z = ndtri(LEVELS[high])
        slope = (np.mean(sample < 1.02 * z) - np.mean(sample < 0.98 * z)) / 0.04
        assert pytest.approx(slope, abs=0.02) == SENSITIVITY_K[k]


def test_a_miss_widens_from_the_session_it_matured_at_and_not_before():
    forecasts = published(np.full(8, 0.01))
    y_N = np.zeros(8)
    y_N[0] = 1.0
    (found, (after_one, after_five)) = follow(
        forecasts, outcomes(y_N)[:1].vstack(outcomes(y_N)[8:9]), gain=0.1, known_through=[day(1), day(5)]
    )
    wider_K = np.exp(0.1 * (1.0 - ALPHA_K) / SENSITIVITY_K)
    at_five_K = np.exp(0.02 * (1.0 - ALPHA_K) / SENSITIVITY_K)
    assert after_one[0] == pytest.approx(wider_K)
    assert after_one[1:] == unchanged(HORIZONS)[1:]
    assert after_five[1] == pytest.approx(at_five_K)
    # Horizon 1 from the next session, horizon 5 from the fifth after the origin, horizon 20 not yet.
    same_NH = (found.quantiles_NHQ == forecasts.quantiles_NHQ).all(axis=-1)
    assert same_NH[:, 0].tolist() == [True] + [False] * 7
    assert same_NH[:, 1].tolist() == [True] * 5 + [False] * 3
    assert same_NH[:, 2].all()


def test_a_session_counts_once_however_many_symbols_it_has():
    y_N = np.array([1.0])
    one, both = outcomes(y_N), outcomes(y_N).vstack(outcomes(y_N, "B"))
    alone = published([0.01])
    together = Forecasts.concatenate([alone, published([0.05], symbol="B")])
    (_, (widths,)) = follow(alone, one, gain=0.1, known_through=[day(20)])
    assert follow(together, both, gain=0.1, known_through=[day(20)])[1] == [widths]
    # One symbol inside and one outside: half a miss.
    calm = outcomes(y_N).vstack(outcomes(np.zeros(1), "B"))
    (_, (half,)) = follow(together, calm, gain=0.1, known_through=[day(20)])
    assert half[0] == pytest.approx(np.exp(0.1 * (0.5 - ALPHA_K) / SENSITIVITY_K))


def test_intervals_of_half_the_width_come_to_cover_what_they_state():
    rng = np.random.default_rng(4)
    y_N = rng.normal(0, 0.02, 1500)
    found, (widths,) = follow(published(np.full(1500, 0.01)), outcomes(y_N), gain=0.01, known_through=[day(1501)])
    assert widths[0] == pytest.approx([2.0, 2.0, 2.0], rel=0.2)
    assert missed(found.quantiles_NHQ[500:, 0], y_N[500:]) == pytest.approx(ALPHA_K, abs=0.02)


def test_without_gain_or_outcomes_forecasts_are_published_as_they_are():
    forecasts = published(np.full(30, 0.01))
    noise = outcomes(np.linspace(-1, 1, 30))
    assert follow(forecasts, noise, gain=0.0, known_through=[day(40)]) == (forecasts, [unchanged(HORIZONS)])
    unknown = outcomes(np.full(30, np.nan))
    assert follow(forecasts, unknown, gain=0.1, known_through=[]) == (forecasts, [])
    nothing = forecasts.take(np.array([], dtype=np.int64))
    assert follow(nothing, noise, gain=0.1, known_through=[day(3)]) == (nothing, [unchanged(HORIZONS)])


def test_what_is_published_after_a_cut_starts_from_the_widths_known_there():
    rng = np.random.default_rng(4)
    forecasts = published(rng.uniform(0.01, 0.02, 60), mean=0.001)
    found, (widths,) = follow(forecasts, outcomes(rng.normal(0, 0.02, 60)), gain=0.1, known_through=[day(40)])
    assert found.take(np.array([40])) == stretch(forecasts.take(np.array([40])), widths)
