"""What holds for every forecast, whatever its quantiles."""

from __future__ import annotations

from datetime import date

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from swiftbolt.forecast import (
    HORIZONS,
    Forecast,
    Forecasts,
    crps_from_quantiles,
    probability_of_rise,
    quantile_at,
    quantile_moments,
    uncrossed,
)

QUICK = settings(max_examples=60, deadline=None, derandomize=True)

GAPS = st.floats(1e-6, 0.2)
CENTRES = st.floats(-0.5, 0.5)


@st.composite
def increasing(draw: st.DrawFn, *shape: int) -> np.ndarray:
    """Quantiles of shape (*shape, 7) that increase by at least 1e-6."""
    steps = draw(arrays(np.float64, (*shape, 7), elements=GAPS))
    return draw(arrays(np.float64, (*shape, 1), elements=CENTRES)) + np.cumsum(steps, axis=-1) - 0.3


def forecast_of(quantiles_HQ: np.ndarray) -> Forecast:
    return Forecast.from_quantiles(
        symbol="AAA", origin=date(2020, 1, 2), model="lstm", horizons=HORIZONS, quantiles_HQ=quantiles_HQ
    )


@QUICK
@given(increasing())
def test_the_probability_of_a_rise_is_one_and_takes_the_side_of_the_median(quantiles):
    p_up = float(probability_of_rise(quantiles))
    assert 0 <= p_up <= 1
    if abs(quantiles[3]) > 1e-9:
        assert (p_up > 0.5) == (quantiles[3] > 0)


@QUICK
@given(increasing())
def test_the_quantile_at_the_probability_of_a_fall_is_zero(quantiles):
    p_down = 1 - probability_of_rise(quantiles)
    if 1e-6 < p_down < 1 - 1e-6:
        np.testing.assert_allclose(quantile_at(quantiles, p_down), 0, atol=1e-8)


@QUICK
@given(increasing(), st.floats(-10, 10), st.floats(1e-3, 1e3))
def test_shifting_and_stretching_a_distribution_does_so_to_its_moments(quantiles, shift, scale):
    mean, sd = quantile_moments(quantiles)
    moved_mean, moved_sd = quantile_moments(shift + scale * quantiles)
    np.testing.assert_allclose(moved_mean, shift + scale * mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(moved_sd, scale * sd, rtol=1e-6)


@QUICK
@given(increasing())
def test_mirroring_a_distribution_mirrors_its_mean_and_its_chances(quantiles):
    mirrored = -quantiles[::-1]
    np.testing.assert_allclose(quantile_moments(mirrored)[0], -quantile_moments(quantiles)[0], atol=1e-12)
    np.testing.assert_allclose(quantile_moments(mirrored)[1], quantile_moments(quantiles)[1], rtol=1e-9)
    np.testing.assert_allclose(probability_of_rise(mirrored), 1 - probability_of_rise(quantiles), atol=1e-9)


@QUICK
@given(increasing(3), st.lists(st.integers(1, 20), min_size=1, max_size=20, unique=True))
def test_at_any_horizons_mean_and_variance_are_linear_and_nothing_crosses(quantiles_HQ, horizons):
    coarse = forecast_of(quantiles_HQ)
    fine = coarse.at_horizons(sorted(horizons))
    known = [0, *HORIZONS]
    scale = np.abs(quantiles_HQ).max()
    np.testing.assert_allclose(
        fine.mean_H, np.interp(fine.horizons, known, [0, *coarse.mean_H]), atol=1e-12 * scale, rtol=1e-9
    )
    np.testing.assert_allclose(fine.sd_H**2, np.interp(fine.horizons, known, [0, *coarse.sd_H**2]), rtol=1e-9)
    assert (np.diff(fine.quantiles_HQ) > 0).all()


@QUICK
@given(arrays(np.float64, (4, 7), elements=st.floats(-1, 1)))
def test_uncrossed_quantiles_make_a_forecast_whatever_they_were(quantiles):
    mended = uncrossed(quantiles)
    assert (np.diff(mended) > 0).all()
    spread = np.maximum(np.ptp(quantiles, axis=-1), 1e-6)
    assert (np.abs(mended - np.sort(quantiles)) <= 2e-6 * spread[:, None]).all()
    forecast_of(mended[:3])


@QUICK
@given(increasing(), st.floats(-2, 2))
def test_a_score_is_positive_and_grows_with_the_distance_of_the_outcome(quantiles, outcome):
    score = crps_from_quantiles(quantiles, np.array(outcome))
    assert score > 0
    away = np.sign(outcome - quantiles[3]) or 1.0
    beyond = quantiles[-1] + 1.0 if away > 0 else quantiles[0] - 1.0
    farther = beyond + away
    assert crps_from_quantiles(quantiles, np.array(farther)) > crps_from_quantiles(quantiles, np.array(beyond))


@QUICK
@given(st.integers(1, 6).flatmap(lambda n: increasing(n, 3)), st.randoms(use_true_random=False))
def test_frames_make_the_round_trip_bit_for_bit_in_any_order_of_rows(quantiles_NHQ, random):
    count = len(quantiles_NHQ)
    many = Forecasts(
        model="lstm",
        horizons=HORIZONS,
        symbol_N=np.array([f"S{n % 2}" for n in range(count)]),
        origin_N=np.datetime64("2020-01-02") + np.arange(count),
        quantiles_NHQ=quantiles_NHQ,
    )
    frame = many.to_frame()
    rows = list(range(len(frame)))
    random.shuffle(rows)
    assert Forecasts.from_frame(frame[rows]) == many.sorted()
