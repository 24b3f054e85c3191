"""The forecast: one distribution from which every published number follows."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from swiftbolt.errors import DataError
from swiftbolt.forecast import (
    HORIZONS,
    LEVELS,
    QUANTILE_COLUMNS,
    Z_Q,
    Forecast,
    Forecasts,
    crps_from_quantiles,
    normal_quantiles,
    pinball,
    probability_of_rise,
    quantile_at,
    quantile_moments,
    uncrossed,
)

MEAN_H = np.array([0.001, 0.004, -0.01])
SD_H = np.array([0.01, 0.022, 0.05])
SKEWED_Q = np.array([-0.09, -0.06, -0.02, 0.01, 0.02, 0.04, 0.05])
NAN = math.nan


def forecast(quantiles_HQ: np.ndarray | None = None, horizons: tuple[int, ...] = HORIZONS) -> Forecast:
    quantiles_HQ = normal_quantiles(MEAN_H, SD_H) if quantiles_HQ is None else quantiles_HQ
    return Forecast.from_quantiles(
        symbol="AAA", origin=date(2020, 1, 2), model="arima", horizons=horizons, quantiles_HQ=quantiles_HQ
    )


def forecasts(count: int = 4, seed: int = 0, model: str = "arima") -> Forecasts:
    """Random increasing quantiles of two symbols, in no order."""
    rng = np.random.default_rng(seed)
    return Forecasts(
        model=model,
        horizons=HORIZONS,
        symbol_N=np.array(["BBB", "AAA"])[np.arange(count) % 2],
        origin_N=np.datetime64("2020-01-02") + np.arange(count)[::-1] // 2,
        quantiles_NHQ=rng.normal(size=(count, 3, 1)) + np.cumsum(rng.uniform(0.01, 1, (count, 3, 7)), axis=-1),
    )


# The distribution.


def test_a_normal_distribution_keeps_its_mean_and_standard_deviation():
    found = forecast()
    np.testing.assert_allclose(found.mean_H, MEAN_H, atol=1e-15)
    np.testing.assert_allclose(found.sd_H, SD_H, rtol=1e-12)


def test_a_normal_distribution_rises_with_the_probability_of_the_normal_table():
    found = forecast(normal_quantiles(np.array([0.0, 0.01, -0.0196]), np.full(3, 0.01)))
    # Phi(0), Phi(1) and Phi(-1.96)
    np.testing.assert_allclose(found.p_up_H, [0.5, 0.841345, 0.024998], atol=1e-6)


def test_moments_survive_a_mean_that_dwarfs_the_standard_deviation():
    mean, sd = quantile_moments(normal_quantiles(np.array([1e3]), np.array([1e-6])))
    np.testing.assert_allclose(mean, 1e3, rtol=1e-15)
    np.testing.assert_allclose(sd, 1e-6, rtol=1e-4)  # quantiles of 1000 hold 13 digits after the point


def test_normal_quantiles_are_the_textbook_ones():
    assert normal_quantiles(np.array(0.0), np.array(1.0)) == pytest.approx(
        [-1.959964, -1.644854, -0.67449, 0.0, 0.67449, 1.644854, 1.959964], abs=1e-6
    )


def test_the_quantile_function_passes_through_the_published_quantiles():
    found = quantile_at(np.tile(SKEWED_Q, (7, 1)), np.array(LEVELS))
    np.testing.assert_allclose(found, SKEWED_Q, atol=1e-15)


def test_beyond_the_outermost_quantiles_the_outermost_pieces_go_on():
    slope = (SKEWED_Q[1] - SKEWED_Q[0]) / (Z_Q[1] - Z_Q[0])
    z_one_in_thousand = -3.090232
    assert quantile_at(SKEWED_Q, np.array(0.001)) == pytest.approx(
        SKEWED_Q[0] + slope * (z_one_in_thousand - Z_Q[0]), abs=1e-6
    )
    assert quantile_at(SKEWED_Q, np.array(0.0)) == -math.inf


@pytest.mark.parametrize(("median", "p_up"), [(0.0, 0.5), (1e-9, 0.5), (-1e-9, 0.5)])
def test_the_probability_of_a_rise_agrees_with_the_sign_of_the_median(median, p_up):
    quantiles = SKEWED_Q - SKEWED_Q[3] + median
    found = float(probability_of_rise(quantiles))
    assert found == pytest.approx(p_up, abs=1e-6)
    assert np.sign(found - 0.5) == np.sign(median)


def test_a_distribution_far_from_zero_rises_for_certain_or_never():
    assert probability_of_rise(SKEWED_Q + 10).item() == 1.0
    assert probability_of_rise(SKEWED_Q - 10).item() == 0.0


# Scores.


def test_pinball_loss_by_hand():
    quantiles = np.arange(7.0)  # quantile 0 at 2.5 % ... 6 at 97.5 %
    # The outcome 3.5 is above 0, 1, 2, 3 and below 4, 5, 6.
    expected = [0.025 * 3.5, 0.05 * 2.5, 0.25 * 1.5, 0.5 * 0.5, 0.25 * 0.5, 0.05 * 1.5, 0.025 * 2.5]
    assert pinball(quantiles, np.array(3.5)) == pytest.approx(expected, rel=1e-12)
    assert crps_from_quantiles(quantiles, np.array(3.5)) == pytest.approx(2 * sum(expected) / 7, rel=1e-12)


def test_the_score_of_an_unknown_outcome_is_unknown():
    assert np.isnan(crps_from_quantiles(np.arange(7.0), np.array(NAN)))


# Mending quantiles.


def test_uncrossed_sorts_and_parts_equal_neighbours_without_moving_them_visibly():
    crossed = np.array([0.0, -0.1, 0.2, 0.2, 0.2, 0.5, 0.4])
    mended = uncrossed(crossed)
    assert (np.diff(mended) > 0).all()
    np.testing.assert_allclose(mended, np.sort(crossed), atol=2e-6)
    assert mended[3] == 0.2


def test_uncrossed_gives_even_a_point_a_spread():
    assert (np.diff(uncrossed(np.zeros((2, 7)))) > 0).all()


# The noun.


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_a_quantile_that_is_not_finite_is_refused(value):
    quantiles = normal_quantiles(MEAN_H, SD_H)
    quantiles[1, 6] = value
    with pytest.raises(DataError, match="arima AAA 2020-01-02: a quantile is not finite"):
        forecast(quantiles)


@pytest.mark.parametrize("row", [0, 2])
@pytest.mark.parametrize("step", [-1e-9, 0.0])
def test_quantiles_that_cross_or_coincide_are_refused(row, step):
    quantiles = normal_quantiles(MEAN_H, SD_H)
    quantiles[row, 4] = quantiles[row, 3] + step
    with pytest.raises(DataError, match="quantiles cross or coincide"):
        forecast(quantiles)


def test_quantiles_must_be_double_because_published_numbers_derive_from_them():
    with pytest.raises(DataError, match="must be float64, are float32"):
        forecast(normal_quantiles(MEAN_H, SD_H).astype(np.float32))


@pytest.mark.parametrize("horizons", [(), (0, 1, 2), (5, 1, 20), (1, 1, 5)])
def test_horizons_must_increase_from_one(horizons):
    with pytest.raises(DataError, match="horizons must increase"):
        forecast(normal_quantiles(MEAN_H, SD_H)[: len(horizons)], horizons)


@pytest.mark.parametrize("shape", [(2, 7), (3, 6), (3,)])
def test_quantiles_of_another_shape_are_refused(shape):
    with pytest.raises(DataError, match="quantiles have shape"):
        forecast(np.sort(np.random.default_rng(0).normal(size=shape)))


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("p_up_H", 2e-6, "p_up is not"),
        ("mean_H", 1e-6, "mean and sd are not"),
        ("sd_H", 1e-6, "mean and sd are not"),
        ("mean_H", NAN, "mean and sd are not"),
        ("sd_H", NAN, "sd is not positive"),
        ("sd_H", -1.0, "sd is not positive"),
        ("p_up_H", NAN, "p_up is not"),
    ],
)
def test_numbers_that_disagree_with_the_quantiles_are_refused(field, change, message):
    found = forecast()
    with pytest.raises(DataError, match=message):
        replace(found, **{field: getattr(found, field) + np.array([0.0, change, 0.0])})


@pytest.mark.parametrize("field", ["mean_H", "sd_H", "p_up_H"])
def test_numbers_of_another_length_are_refused(field):
    found = forecast(np.tile(normal_quantiles(np.array([0.0]), np.array([0.01])), (3, 1)))
    with pytest.raises(DataError, match="one value for each of 3 horizons"):
        replace(found, **{field: getattr(found, field)[:1]})


def test_a_forecast_survives_pickling_and_is_equal_by_content():
    found = forecast()
    assert pickle.loads(pickle.dumps(found)) == found
    assert found == forecast()
    assert found != forecast(normal_quantiles(MEAN_H, SD_H * 1.01))
    assert found != replace(found, symbol="BBB")
    assert found != "arima"
    with pytest.raises(TypeError, match="unhashable type: 'Forecast'"):
        hash(found)


# Other horizons.


def test_between_horizons_mean_and_variance_are_linear_and_below_the_first_they_go_to_zero():
    found = forecast(horizons=(2, 6, 20)).at_horizons([1, 4, 13])
    assert found.horizons == (1, 4, 13)
    # Half of horizon 2; midway between 2 and 6; midway between 6 and 20.
    np.testing.assert_allclose(found.mean_H, [0.0005, 0.0025, -0.003], atol=1e-15)
    np.testing.assert_allclose(found.sd_H**2, [0.5e-4, (1e-4 + 4.84e-4) / 2, (4.84e-4 + 25e-4) / 2], rtol=1e-12)


def test_mean_and_variance_stay_linear_between_two_different_shapes():
    quantiles = np.stack([SKEWED_Q, 2 * SKEWED_Q[::-1] * -1, normal_quantiles(np.array(0.01), np.array(0.2))])
    coarse = forecast(quantiles)
    fine = coarse.at_horizons([1, 3, 5, 10, 15, 20])
    np.testing.assert_allclose(fine.mean_H, np.interp(fine.horizons, HORIZONS, coarse.mean_H), atol=1e-15)
    np.testing.assert_allclose(fine.sd_H**2, np.interp(fine.horizons, HORIZONS, coarse.sd_H**2), rtol=1e-12)


def test_every_session_up_to_the_longest_has_its_own_number():
    found = forecast().at_horizons(range(1, 21))
    assert found.horizons == tuple(range(1, 21))
    assert found.quantiles_HQ.shape == (20, 7)
    assert (np.diff(found.sd_H) > 0).all()


def test_at_fitted_horizons_a_forecast_is_the_fitted_one_bit_for_bit():
    found = forecast(uncrossed(np.random.default_rng(0).normal(size=(3, 7))))
    assert found.at_horizons(HORIZONS) == found
    one = found.at_horizons([2, 5])
    np.testing.assert_array_equal(one.quantiles_HQ[1], found.quantiles_HQ[1])
    assert (one.mean_H[1], one.sd_H[1], one.p_up_H[1]) == (found.mean_H[1], found.sd_H[1], found.p_up_H[1])


@pytest.mark.parametrize("horizons", [[0], [1, 21], [-1]])
def test_horizons_out_of_reach_are_refused(horizons):
    with pytest.raises(ValueError, match="between 1 and 20"):
        forecast().at_horizons(horizons)


# Many forecasts.


def test_each_of_many_forecasts_says_what_the_columns_say():
    many = forecasts()
    for n, one in enumerate(many):
        assert (one.symbol, one.origin, one.model) == (many.symbol_N[n], many.origin_N[n].astype(object), "arima")
        np.testing.assert_array_equal(one.quantiles_HQ, many.quantiles_NHQ[n])
        np.testing.assert_array_equal(one.mean_H, many.mean_NH[n])
        np.testing.assert_array_equal(one.sd_H, many.sd_NH[n])
        np.testing.assert_array_equal(one.p_up_H, many.p_up_NH[n])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"symbol_N": np.array(["AAA"])}, "differ in length"),
        ({"origin_N": np.array(["2020-01-02"], dtype="datetime64[D]")}, "differ in length"),
        ({"origin_N": np.full(4, "2020-01-02", dtype="datetime64[ns]")}, "origins must be days"),
        ({"quantiles_NHQ": np.zeros((4, 3, 7))}, "cross or coincide"),
        ({"quantiles_NHQ": np.full((4, 3, 7), NAN)}, "not finite"),
        ({"horizons": (1, 5)}, "quantiles have shape"),
    ],
)
def test_forecasts_refuse_what_does_not_fit(change, message):
    with pytest.raises(DataError, match=message):
        replace(forecasts(), **change)


def test_the_canonical_order_is_by_symbol_then_origin():
    ordered = forecasts().sorted()
    assert ordered.symbol_N.tolist() == ["AAA", "AAA", "BBB", "BBB"]
    assert ordered.origin_N.astype(str).tolist() == ["2020-01-02", "2020-01-03"] * 2
    assert ordered.sorted() == ordered


def test_taking_rows_by_mask_or_position_keeps_them_together():
    many = forecasts()
    assert many.take(many.symbol_N == "AAA") == many.take(np.array([1, 3]))
    assert len(many.take(np.zeros(4, dtype=bool))) == 0


def test_concatenating_parts_gives_the_whole_in_the_canonical_order():
    many = forecasts(6)
    parts = [many.take(np.array([4, 0, 2])), Forecasts.empty("arima"), many.take(np.array([1, 5, 3]))]
    assert Forecasts.concatenate(parts) == many.sorted()
    with pytest.raises(ValueError, match="nothing"):
        Forecasts.concatenate([])
    with pytest.raises(ValueError, match="one model"):
        Forecasts.concatenate([many, forecasts(model="lstm")])


def test_forecasts_make_the_round_trip_through_a_frame_and_a_parquet_bit_for_bit(tmp_path):
    many = forecasts(50).sorted()
    frame = many.to_frame()
    assert Forecasts.from_frame(frame) == many
    frame.write_parquet(tmp_path / "forecasts.parquet")
    assert Forecasts.from_frame(pl.read_parquet(tmp_path / "forecasts.parquet")) == many
    shuffled = frame.sample(fraction=1, shuffle=True, seed=1)
    assert Forecasts.from_frame(shuffled) == many
    assert_frame_equal(Forecasts.from_frame(shuffled).to_frame(), frame, check_exact=True)


def test_a_frame_has_one_row_per_symbol_origin_and_horizon_with_the_published_columns():
    frame = forecasts(2).to_frame()
    assert frame.columns == ["symbol", "origin", "horizon", "model", "mean", "sd", *QUANTILE_COLUMNS, "p_up"]
    assert QUANTILE_COLUMNS == ("q_0.025", "q_0.05", "q_0.25", "q_0.5", "q_0.75", "q_0.95", "q_0.975")
    assert frame["horizon"].to_list() == [1, 5, 20, 1, 5, 20]
    assert frame.schema["horizon"] == pl.Int32
    assert frame.schema["origin"] == pl.Date


def test_no_forecasts_make_a_frame_of_the_same_columns():
    assert Forecasts.empty("arima").to_frame().schema == forecasts().to_frame().schema


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f[1:], "a horizon is missing"),
        (lambda f: pl.concat([f, f[:1]]), "stands twice"),
        (lambda f: pl.concat([f, f]), "stands twice"),
        # One origin with 1, 5, 5 and 20, another with 1 and 20: the count is right, the rows are not.
        (lambda f: pl.concat([f[:4], f[5:6], f[1:2]]), "stands twice"),
        (lambda f: f.with_columns(model=pl.Series(["arima", "lstm"] * 3)), "expected one model"),
        (lambda f: f[:0], "expected one model"),
        (lambda f: f.with_columns(pl.lit(None, dtype=pl.Float64).alias("q_0.5")), "not finite"),
    ],
)
def test_a_frame_that_is_not_whole_is_refused(spoil, message):
    with pytest.raises(DataError, match=message):
        Forecasts.from_frame(spoil(forecasts(2).to_frame()))


def test_many_forecasts_survive_pickling_and_are_equal_by_content_and_order():
    many = forecasts()
    assert pickle.loads(pickle.dumps(many)) == many
    assert many != many.sorted()
    assert many != forecasts(seed=1)
    assert many != many.take(np.array([0]))
    with pytest.raises(TypeError, match="unhashable type: 'Forecasts'"):
        hash(many)
