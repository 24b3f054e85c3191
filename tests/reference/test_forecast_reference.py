"""The closed forms of a forecast against the quantile function its docstring states, taken literally."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from swiftbolt.forecast import (
    LEVELS,
    crps_from_quantiles,
    normal_quantiles,
    pinball,
    probability_of_rise,
    quantile_at,
    quantile_moments,
)

KNOTS = [float(norm.ppf(level)) for level in LEVELS]

CASES = {
    "normal": normal_quantiles(np.array(0.003), np.array(0.02)),
    "skewed left": np.array([-0.09, -0.06, -0.02, 0.01, 0.02, 0.04, 0.05]),
    "skewed right": np.array([-0.03, -0.02, -0.01, -0.005, 0.02, 0.09, 0.2]),
    "fat tails": np.array([-0.2, -0.1, -0.01, 0.001, 0.012, 0.11, 0.22]),
    "all above zero": np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07]),
    "all below zero": np.array([-0.7, -0.6, -0.5, -0.4, -0.3, -0.2, -0.1]),
    "steps": np.array([-1e-2, -9.999e-3, -9.998e-3, 0.0, 1e-6, 2e-6, 0.5]),
}
QUANTILES = pytest.mark.parametrize("quantiles", CASES.values(), ids=CASES.keys())


def q_of_z(quantiles: np.ndarray, z: float) -> float:
    """Linear in z between neighbouring quantiles; the outermost pieces go on."""
    piece = 0
    while piece < 5 and z > KNOTS[piece + 1]:
        piece += 1
    slope = (quantiles[piece + 1] - quantiles[piece]) / (KNOTS[piece + 1] - KNOTS[piece])
    return float(quantiles[piece] + slope * (z - KNOTS[piece]))


def expectation(function, quantiles: np.ndarray) -> float:
    """E[function(X)] where X = q(Z) and Z is standard normal, integrated piece by piece."""
    edges = [-12.0, *KNOTS, 12.0]
    return sum(
        quad(lambda z: function(q_of_z(quantiles, z)) * norm.pdf(z), a, b, epsabs=1e-14, epsrel=1e-12)[0]
        for a, b in pairwise(edges)
    )


@QUANTILES
def test_mean_and_standard_deviation_are_those_of_the_stated_quantile_function(quantiles):
    mean, sd = quantile_moments(quantiles)
    expected = expectation(lambda x: x, quantiles)
    assert mean == pytest.approx(expected, abs=1e-9)
    assert sd == pytest.approx(np.sqrt(expectation(lambda x: (x - expected) ** 2, quantiles)), rel=1e-7)


@QUANTILES
def test_the_probability_of_a_rise_is_one_minus_the_root_of_the_quantile_function(quantiles):
    z_zero = brentq(lambda z: q_of_z(quantiles, z), -1e6, 1e6, xtol=1e-12)
    assert probability_of_rise(quantiles) == pytest.approx(1 - norm.cdf(z_zero), abs=1e-9)


@QUANTILES
@pytest.mark.parametrize("probability", [0.0001, 0.025, 0.03, 0.4, 0.5, 0.6, 0.96, 0.9999])
def test_the_quantile_function_is_the_stated_one(quantiles, probability):
    assert quantile_at(quantiles, np.array(probability)) == pytest.approx(
        q_of_z(quantiles, norm.ppf(probability)), abs=1e-12
    )


@QUANTILES
def test_a_batch_is_computed_as_its_rows_are(quantiles):
    batch = np.stack([[quantiles, quantiles + 0.01], [2 * quantiles, quantiles - 0.01]])
    for found, one_by_one in (
        (quantile_moments(batch)[0], [quantile_moments(q)[0] for q in batch.reshape(-1, 7)]),
        (quantile_moments(batch)[1], [quantile_moments(q)[1] for q in batch.reshape(-1, 7)]),
        (probability_of_rise(batch), [probability_of_rise(q) for q in batch.reshape(-1, 7)]),
    ):
        assert found.shape == (2, 2)
        np.testing.assert_allclose(found.ravel(), one_by_one, rtol=1e-12)


@QUANTILES
@pytest.mark.parametrize("outcome", [-0.3, -0.01, 0.0, 0.0123, 0.4])
def test_the_score_is_twice_the_mean_of_a_plain_loop_over_the_levels(quantiles, outcome):
    loss = [
        level * (outcome - q) if outcome >= q else (1 - level) * (q - outcome)
        for level, q in zip(LEVELS, quantiles, strict=True)
    ]
    np.testing.assert_allclose(pinball(quantiles, np.array(outcome)), loss, atol=1e-15)
    assert crps_from_quantiles(quantiles, np.array(outcome)) == pytest.approx(2 * np.mean(loss), abs=1e-15)


def test_the_expected_score_is_least_for_the_true_distribution():
    outcomes = np.random.default_rng(0).normal(0.001, 0.02, 20_000)

    def score(mean: float, sd: float) -> float:
        return float(np.mean(crps_from_quantiles(normal_quantiles(np.array(mean), np.array(sd)), outcomes)))

    best = score(0.001, 0.02)
    for mean, sd in ((0.006, 0.02), (-0.004, 0.02), (0.001, 0.014), (0.001, 0.03)):
        assert score(mean, sd) > best
