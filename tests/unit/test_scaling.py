"""Scales that are fitted on past rows only."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from support.by_hand import panel_at

from swiftbolt.errors import DataError
from swiftbolt.scaling import EWMA_WARMUP, VOLATILITY_FLOOR, Standardiser, ewma_variance, panel_volatility

NAN = math.nan


def plain_loop(returns: np.ndarray, alpha: float) -> list[float]:
    """The recursion as RiskMetrics writes it."""
    found = [NAN] * (EWMA_WARMUP - 1)
    variance = sum(r * r for r in returns[:EWMA_WARMUP]) / EWMA_WARMUP
    found.append(variance)
    for r in returns[EWMA_WARMUP:]:
        variance = (1 - alpha) * variance + alpha * r * r
        found.append(variance)
    return found


@pytest.mark.parametrize("alpha", [0.06, 0.5, 1.0])
@pytest.mark.parametrize("count", [20, 21, 300])
def test_ewma_variance_is_the_recursion_of_a_plain_loop(alpha, count):
    returns = np.random.default_rng(1).normal(0, 0.02, count)
    np.testing.assert_allclose(ewma_variance(returns, alpha), plain_loop(returns, alpha), rtol=1e-12)


def test_ewma_variance_by_hand():
    returns = np.array([0.01] * 20 + [0.03, 0.0])
    # 1e-4; 0.94 * 1e-4 + 0.06 * 9e-4 = 1.48e-4; 0.94 * 1.48e-4 = 1.3912e-4
    assert ewma_variance(returns)[19:] == pytest.approx([1e-4, 1.48e-4, 1.3912e-4], rel=1e-12)


@pytest.mark.parametrize("count", [0, 1, 19])
def test_ewma_variance_of_fewer_than_twenty_returns_is_unknown(count):
    found = ewma_variance(np.full(count, 0.01))
    assert found.shape == (count,)
    assert np.isnan(found).all()


@pytest.mark.parametrize("cut", [20, 21, 57, 99])
def test_ewma_variance_ignores_every_later_return_to_the_last_bit(cut):
    returns = np.random.default_rng(2).normal(0, 0.02, 100)
    np.testing.assert_array_equal(ewma_variance(returns)[:cut], ewma_variance(returns[:cut]))


def test_panel_volatility_starts_anew_with_each_symbol_and_is_unknown_in_its_first_twenty_rows():
    rng = np.random.default_rng(3)
    paths = {symbol: np.cumsum(rng.normal(0, sd, 40)) for symbol, sd in (("AAA", 0.01), ("BBB", 0.05))}
    panel = panel_at({symbol: dict(enumerate(path)) for symbol, path in paths.items()}, sessions=40)
    found = panel_volatility(panel).reshape(2, 40)
    for row, path in zip(found, paths.values(), strict=True):
        assert np.isnan(row[:20]).all()
        np.testing.assert_allclose(row[20:], np.sqrt(plain_loop(np.diff(path), 0.06)[19:]), rtol=1e-12)


def test_a_price_that_never_moves_has_the_smallest_volatility_not_none():
    panel = panel_at({"AAA": dict.fromkeys(range(25), 1.0)}, sessions=25)
    assert panel_volatility(panel)[20:].tolist() == [VOLATILITY_FLOOR] * 5


def test_symbols_too_short_to_have_a_volatility_have_none():
    panel = panel_at({"AAA": {}, "BBB": {0: 1.0}, "CCC": {0: 1.0, 1: 1.1}}, sessions=2)
    assert np.isnan(panel_volatility(panel)).tolist() == [True, True, True]


def test_a_standardiser_by_hand():
    found = Standardiser.fit(np.array([[1.0, 10.0], [3.0, 30.0]], dtype=np.float32))
    assert found.mean_F.tolist() == [2.0, 20.0]
    assert found.sd_F.tolist() == [1.0, 10.0]
    assert found.apply(np.array([[3.0, 5.0]], dtype=np.float32)).tolist() == [[1.0, -1.5]]


def test_a_standardiser_is_fitted_on_the_rows_given_and_no_others():
    features = np.random.default_rng(4).normal(size=(50, 3)).astype(np.float32)
    before = Standardiser.fit(features[:30])
    features[30:] = 1e6
    assert Standardiser.fit(features[:30]) == before


def test_training_rows_come_out_with_mean_zero_and_spread_one():
    features = (np.random.default_rng(5).normal(size=(1000, 2)) * [0.01, 300] + [5, -2]).astype(np.float32)
    found = Standardiser.fit(features).apply(features).astype(np.float64)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(axis=0), 1, atol=1e-2)  # five spreads clip next to nothing


def test_values_beyond_the_clip_are_held_there_and_unknown_ones_stay_unknown():
    scale = Standardiser(mean_F=np.zeros(1, np.float32), sd_F=np.ones(1, np.float32), clip=2.0)
    features = np.array([[9.0], [-9.0], [math.inf], [NAN], [1.5]], dtype=np.float32)
    np.testing.assert_array_equal(scale.apply(features), [[2.0], [-2.0], [2.0], [NAN], [1.5]])
    assert scale.apply(features).dtype == np.float32


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, -3e-8])
def test_a_feature_that_never_moved_keeps_the_scale_one(value):
    found = Standardiser.fit(np.full((1001, 1), value, dtype=np.float32))
    assert found.sd_F.tolist() == [1.0]
    assert found.apply(np.full((1, 1), value, dtype=np.float32)).tolist() == [[0.0]]


def test_a_feature_whose_last_bit_alone_flickers_is_not_blown_up_to_the_size_of_the_others():
    flicker = np.array([[1.0], [np.nextafter(np.float32(1.0), np.float32(2.0))]], dtype=np.float32)
    assert Standardiser.fit(flicker).sd_F.tolist() == [1.0]


@pytest.mark.parametrize("features", [np.empty((0, 2)), np.array([[1.0, NAN]]), np.array([[1.0, math.inf]])])
def test_fitting_needs_finite_rows(features):
    with pytest.raises(DataError, match="finite and at least one row"):
        Standardiser.fit(features.astype(np.float32))


@pytest.mark.parametrize(
    ("mean", "sd", "clip", "message"),
    [
        ([0.0], [1.0, 1.0], 5.0, "shapes"),
        ([[0.0]], [[1.0]], 5.0, "shapes"),
        ([NAN], [1.0], 5.0, "finite"),
        ([0.0], [0.0], 5.0, "positive"),
        ([0.0], [1.0], 0.0, "positive"),
    ],
)
def test_a_standardiser_refuses_what_cannot_scale(mean, sd, clip, message):
    with pytest.raises(DataError, match=message):
        Standardiser(mean_F=np.array(mean, np.float32), sd_F=np.array(sd, np.float32), clip=clip)


def test_standardisers_survive_pickling_and_are_equal_by_content():
    scale = Standardiser.fit(np.array([[1.0], [2.0]], dtype=np.float32))
    assert pickle.loads(pickle.dumps(scale)) == scale
    assert scale != Standardiser.fit(np.array([[1.0], [3.0]], dtype=np.float32))
    assert scale != Standardiser(mean_F=scale.mean_F, sd_F=scale.sd_F, clip=1.0)
    with pytest.raises(TypeError, match="unhashable"):
        hash(scale)
