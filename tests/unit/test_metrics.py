"""Metrics against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from swiftbolt.evaluation import metrics
from swiftbolt.forecast import crps_from_quantiles

# Quantiles at 2.5, 5, 25, 50, 75, 95 and 97.5 %.
QUANTILES_Q = np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])


def test_pinball_loss_is_the_level_above_and_the_rest_below():
    losses_Q = metrics.pinball(QUANTILES_Q, np.float64(0.5))
    assert losses_Q == pytest.approx(
        [0.025 * 3.5, 0.05 * 2.5, 0.25 * 1.5, 0.5 * 0.5, 0.25 * 0.5, 0.05 * 1.5, 0.025 * 2.5]
    )


def test_crps_is_twice_the_mean_pinball_loss_and_the_very_function_models_are_fitted_with():
    # 0.0875 + 0.125 + 0.375 + 0.25 + 0.125 + 0.075 + 0.0625 = 1.1
    assert metrics.crps(QUANTILES_Q, np.float64(0.5)) == pytest.approx(2 * 1.1 / 7)
    assert metrics.crps is crps_from_quantiles


def test_crps_is_in_the_units_of_the_return():
    assert metrics.crps(QUANTILES_Q * 0.01, np.float64(0.005)) == pytest.approx(0.01 * 2 * 1.1 / 7)


def test_skill_is_one_minus_the_ratio_of_means():
    assert metrics.skill(np.array([1.0, 2.0]), np.array([2.0, 4.0])) == 0.5
    assert metrics.skill(np.array([3.0]), np.array([2.0])) == -0.5


def test_skill_needs_common_rows_and_an_imperfect_benchmark():
    with pytest.raises(ValueError, match="common rows"):
        metrics.skill(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="common rows"):
        metrics.skill(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="perfect"):
        metrics.skill(np.ones(2), np.zeros(2))


def test_interval_coverage_counts_outcomes_inside_bounds_included():
    outcome_N = np.array([-3.5, -3.0, -1.5, 0.5, 1.0, 2.5, 4.0, 0.0])
    quantiles_NQ = np.tile(QUANTILES_Q, (8, 1))
    assert metrics.interval_coverage(quantiles_NQ, outcome_N, 0.95) == 6 / 8
    assert metrics.interval_coverage(quantiles_NQ, outcome_N, 0.90) == 4 / 8
    assert metrics.interval_coverage(quantiles_NQ, outcome_N, 0.50) == 3 / 8
    with pytest.raises(ValueError, match=r"0\.1 is not one of"):
        metrics.interval_coverage(quantiles_NQ, outcome_N, 0.8)


def test_directional_accuracy_gives_half_for_an_even_chance_and_for_no_change():
    p_up_N = np.array([0.9, 0.9, 0.1, 0.5, 0.5 - 1e-16, 0.9])
    outcome_N = np.array([0.01, -0.01, -0.01, 0.01, 0.01, 0.0])
    assert metrics.directional_accuracy(p_up_N, outcome_N) == pytest.approx((1 + 0 + 1 + 0.5 + 0.5 + 0.5) / 6)


def test_rmse_and_mae_of_errors_three_and_minus_one():
    point_N, outcome_N = np.array([0.0, 2.0]), np.array([3.0, 1.0])
    assert metrics.rmse(point_N, outcome_N) == pytest.approx(np.sqrt(5.0))
    assert metrics.mae(point_N, outcome_N) == 2.0


def test_out_of_sample_r2_is_measured_from_zero():
    outcome_N = np.array([1.0, 2.0, 2.0])
    assert metrics.out_of_sample_r2(np.zeros(3), outcome_N) == 0.0
    assert metrics.out_of_sample_r2(outcome_N, outcome_N) == 1.0
    assert metrics.out_of_sample_r2(np.array([0.0, 2.0, 2.0]), outcome_N) == pytest.approx(1 - 1 / 9)
    with pytest.raises(ValueError, match="every outcome is zero"):
        metrics.out_of_sample_r2(np.zeros(2), np.zeros(2))


def test_calibration_error_weighs_each_bin_by_its_forecasts():
    # Three forecasts of 61 %, of which one rose; one of 22 %, which rose.
    p_up_N = np.array([0.61, 0.61, 0.61, 0.22])
    outcome_N = np.array([0.01, -0.01, -0.01, 0.01])
    bins = metrics.reliability(p_up_N, outcome_N)
    assert [(b.low, b.high, b.count) for b in bins] == [(0.2, 0.25, 1), (0.6, 0.65, 3)]
    assert metrics.calibration_error(bins) == pytest.approx((1 * (1 - 0.22) + 3 * (0.61 - 1 / 3)) / 4)


def test_reliability_bins_hold_both_ends_and_count_no_change_as_half_a_rise():
    bins = metrics.reliability(np.array([0.0, 1.0, 0.999]), np.array([0.0, 0.01, 0.0]))
    assert [(b.low, b.count, b.rise_frequency) for b in bins] == [(0.0, 1, 0.5), (0.95, 2, 0.75)]
