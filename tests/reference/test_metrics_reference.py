"""Metrics against plain loops over random forecasts, and against what a normal distribution says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from swiftbolt.evaluation import metrics
from swiftbolt.forecast import LEVELS, normal_quantiles, uncrossed

RNG = np.random.default_rng(42)
COUNT = 257
QUANTILES_NQ = uncrossed(RNG.standard_t(5, (COUNT, len(LEVELS))))
OUTCOME_N = np.round(RNG.standard_t(5, COUNT), 1)  # rounding makes some of them exactly zero
P_UP_N = np.round(RNG.random(COUNT), 2)


def test_crps_agrees_with_a_loop_over_levels():
    for quantiles_Q, outcome, found in zip(QUANTILES_NQ, OUTCOME_N, metrics.crps(QUANTILES_NQ, OUTCOME_N), strict=True):
        total = 0.0
        for level, quantile in zip(LEVELS, quantiles_Q, strict=True):
            total += level * (outcome - quantile) if outcome >= quantile else (1 - level) * (quantile - outcome)
        assert found == pytest.approx(2 * total / len(LEVELS))


def test_crps_of_dense_levels_tends_to_the_closed_form_of_a_normal():
    # With levels at (i - 1/2)/K the mean pinball loss is the midpoint rule of the CRPS integral.
    from scipy.special import ndtr, ndtri

    levels = (np.arange(20_000) + 0.5) / 20_000
    outcome = 0.7
    above = outcome - ndtri(levels)
    dense = 2 * np.mean(np.maximum(levels * above, (levels - 1) * above))
    density = math.exp(-(outcome**2) / 2) / math.sqrt(2 * math.pi)
    closed = outcome * (2 * float(ndtr(outcome)) - 1) + 2 * density - 1 / math.sqrt(math.pi)
    assert dense == pytest.approx(closed, rel=1e-4)


def test_coverage_agrees_with_a_loop():
    for nominal, low, high in ((0.95, 0, 6), (0.90, 1, 5), (0.50, 2, 4)):
        inside = sum(q[low] <= y <= q[high] for q, y in zip(QUANTILES_NQ, OUTCOME_N, strict=True))
        assert metrics.interval_coverage(QUANTILES_NQ, OUTCOME_N, nominal) == pytest.approx(inside / COUNT)


def test_coverage_of_the_true_distribution_is_nominal():
    outcome_N = RNG.normal(0.001, 0.02, 40_000)
    quantiles_NQ = normal_quantiles(np.full(40_000, 0.001), np.full(40_000, 0.02))
    for nominal in (0.5, 0.9, 0.95):
        assert metrics.interval_coverage(quantiles_NQ, outcome_N, nominal) == pytest.approx(nominal, abs=0.01)


def test_directional_accuracy_agrees_with_a_loop():
    total = 0.0
    for p_up, outcome in zip(P_UP_N, OUTCOME_N, strict=True):
        if p_up == 0.5 or outcome == 0:
            total += 0.5
        elif (p_up > 0.5) == (outcome > 0):
            total += 1.0
    assert metrics.directional_accuracy(P_UP_N, OUTCOME_N) == pytest.approx(total / COUNT)


def test_errors_agree_with_loops():
    point_N = QUANTILES_NQ[:, 3]
    errors = [y - m for y, m in zip(OUTCOME_N, point_N, strict=True)]
    assert metrics.rmse(point_N, OUTCOME_N) == pytest.approx(math.sqrt(sum(e * e for e in errors) / COUNT))
    assert metrics.mae(point_N, OUTCOME_N) == pytest.approx(sum(abs(e) for e in errors) / COUNT)
    squares = sum(y * y for y in OUTCOME_N)
    assert metrics.out_of_sample_r2(point_N, OUTCOME_N) == pytest.approx(1 - sum(e * e for e in errors) / squares)


def test_calibration_error_agrees_with_a_loop_over_twenty_bins():
    p_up_N = RNG.random(COUNT)
    bins: dict[int, list[tuple[float, float]]] = {}
    for p_up, outcome in zip(p_up_N, OUTCOME_N, strict=True):
        rose = 1.0 if outcome > 0 else 0.5 if outcome == 0 else 0.0
        bins.setdefault(int(p_up * 20), []).append((p_up, rose))
    expected = 0.0
    for members in bins.values():
        mean_p = sum(p for p, _ in members) / len(members)
        mean_rise = sum(rose for _, rose in members) / len(members)
        expected += len(members) / COUNT * abs(mean_p - mean_rise)
    assert metrics.calibration_error(metrics.reliability(p_up_N, OUTCOME_N)) == pytest.approx(expected)
