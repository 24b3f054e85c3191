"""Tests of significance and the split of skill on numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student

from swiftbolt.evaluation import bootstrap, significance
from swiftbolt.evaluation.skill_split import location_skill, scale_skill
from swiftbolt.forecast import crps_from_quantiles, normal_quantiles

RNG_SEED = 20
DAYS = np.datetime64("2020-01-01") + np.arange(400)


def noise(count: int, seed: int = RNG_SEED) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count)


def test_session_means_weigh_every_session_the_same_and_come_ascending():
    session_N = DAYS[[1, 0, 1, 1]]
    sessions_T, mean_T = significance.session_means(session_N, np.array([1.0, 5.0, 2.0, 6.0]))
    assert sessions_T.tolist() == DAYS[:2].tolist()
    assert mean_T.tolist() == [5.0, 3.0]


def test_session_means_refuse_outcomes_that_are_not_known():
    with pytest.raises(ValueError, match="one finite value"):
        significance.session_means(DAYS[:2], np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="one finite value"):
        significance.session_means(DAYS[:2], np.ones(3))


def test_long_run_variance_of_four_values_at_lag_one():
    # gamma_0 = (1 + 4 + 1 + 0) / 4, gamma_1 = (-2 - 2 + 0) / 4; weights 1 and 1/2 on either side.
    found = significance.long_run_variance(np.array([1.0, -2.0, 1.0, 0.0]), 1)
    assert found == pytest.approx(1.5 + 2 * 0.5 * -1.0)


def test_the_lag_is_a_rule_of_thumb_or_five_horizons_but_never_more_than_half_the_sample():
    assert significance.lag_of(1500, 1) == 51  # 1.3 times the root of 1500 is 50.3
    assert significance.lag_of(1500, 20) == 100
    assert significance.lag_of(150, 20) == 75


def test_a_mean_is_tested_with_the_error_of_its_long_run_variance():
    series_T = noise(100) + 0.3
    found = significance.mean_test(series_T, 1)
    weight_T = np.maximum(1 - np.arange(100) / 14, 0)  # lag 13
    variance = significance.long_run_variance(series_T - series_T.mean(), 13) / significance.demeaning_bias(weight_T)
    assert (found.sessions, found.lag, found.mean) == (100, 13, pytest.approx(series_T.mean()))
    assert found.standard_error == pytest.approx(math.sqrt(variance / 100))
    assert found.statistic == pytest.approx(found.mean / found.standard_error)
    assert found.degrees_of_freedom == pytest.approx(1.5 * 100 / 14, rel=0.05)
    assert found.p_greater == pytest.approx(student.sf(found.statistic, found.degrees_of_freedom))
    assert found.p_less == pytest.approx(1 - found.p_greater)
    assert found.p_two_sided == pytest.approx(2 * found.p_greater)


def test_a_series_of_zeros_differs_from_zero_with_no_confidence_and_a_constant_with_all():
    nothing = significance.mean_test(np.zeros(50), 1)
    assert (nothing.statistic, nothing.p_two_sided, nothing.p_greater, nothing.p_less) == (0.0, 1.0, 0.5, 0.5)
    constant = significance.mean_test(np.full(50, 0.1), 1)
    assert math.isfinite(constant.statistic)
    assert (constant.p_greater, constant.p_less) == (pytest.approx(0, abs=1e-12), pytest.approx(1))


def test_too_few_sessions_and_unknown_values_are_refused():
    assert (significance.least_sessions(1), significance.least_sessions(20)) == (20, 200)
    with pytest.raises(ValueError, match="horizon 20 needs 200 sessions of finite values, got 199"):
        significance.mean_test(noise(199), 20)
    with pytest.raises(ValueError, match="finite"):
        significance.mean_test(np.array([*noise(30), np.nan]), 1)


def test_the_better_forecast_has_the_smaller_loss_and_a_small_p_less():
    better_T, worse_T = 1.0 + 0.1 * noise(200), 1.1 + 0.1 * noise(200, seed=1)
    found = significance.diebold_mariano(better_T, worse_T, 1)
    assert found.mean == pytest.approx(np.mean(better_T) - np.mean(worse_T))
    assert found.p_less < 1e-6 < 0.999 < found.p_greater
    turned = significance.diebold_mariano(worse_T, better_T, 1)
    assert (turned.statistic, turned.p_greater) == (pytest.approx(-found.statistic), pytest.approx(found.p_less))
    with pytest.raises(ValueError, match="same sessions"):
        significance.diebold_mariano(better_T, worse_T[1:], 1)


def test_rank_correlation_of_a_session_is_spearmans_with_ties_sharing_their_rank():
    # Session 1: ranks 1 2 3 against 1 3 2, so 1 - 6 * 2 / (3 * 8). Session 0: ranks 1.5 1.5 3 against 1 2 3.
    session_N = DAYS[[1, 1, 1, 0, 0, 0]]
    sessions_T, ic_T = significance.session_rank_correlations(
        session_N, np.array([10.0, 20.0, 30.0, 7.0, 7.0, 8.0]), np.array([0.0, 9.0, 1.0, -3.0, -2.0, 5.0])
    )
    assert sessions_T.tolist() == DAYS[:2].tolist()
    assert ic_T == pytest.approx([1.5 / math.sqrt(1.5 * 2), 0.5])


def test_sessions_that_rank_nothing_are_left_out():
    session_N = DAYS[[0, 0, 1, 1, 2, 3, 3]]
    forecast_N = np.array([1.0, 1.0, 1.0, 2.0, 5.0, 1.0, 2.0])
    outcome_N = np.array([1.0, 2.0, 3.0, 3.0, 1.0, 1.0, 2.0])
    sessions_T, ic_T = significance.session_rank_correlations(session_N, forecast_N, outcome_N)
    assert (sessions_T.tolist(), ic_T.tolist()) == (DAYS[3:4].tolist(), [1.0])
    with pytest.raises(ValueError, match="got 1"):
        significance.rank_ic(session_N, forecast_N, outcome_N, 1)


def test_ranks_that_are_right_every_session_are_a_rank_ic_of_one():
    outcome_N = noise(120)
    found = significance.rank_ic(np.repeat(DAYS[:30], 4), outcome_N, outcome_N**3, 1)
    assert found.mean == pytest.approx(1.0)
    assert found.p_greater < 1e-12


def test_holm_multiplies_by_the_claims_that_are_left_and_never_falls():
    # Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2 (0.06 already), 0.9 x 1.
    adjusted = significance.holm({"a": 0.9, "b": 0.01, "c": 0.03, "d": 0.02})
    assert adjusted == {
        "a": pytest.approx(0.9),
        "b": pytest.approx(0.04),
        "c": pytest.approx(0.06),
        "d": pytest.approx(0.06),
    }
    assert list(adjusted) == ["a", "b", "c", "d"]
    assert significance.holm({"a": 0.7, "b": 0.6}) == {"a": 1.0, "b": 1.0}
    assert significance.holm({}) == {}


def test_the_bound_of_a_relative_loss_is_the_ratio_that_is_just_not_too_large():
    reference_T = 2.0 + 0.1 * noise(300)
    loss_T = 1.01 * reference_T + 0.02 * noise(300, seed=3)
    bound = significance.relative_loss_upper_bound(loss_T, reference_T, 5, confidence=0.9)
    assert bound > loss_T.mean() / reference_T.mean() - 1
    assert significance.mean_test(loss_T - (1 + bound) * reference_T, 5).p_less == pytest.approx(0.1)


def test_the_bound_of_equal_losses_is_zero_and_of_a_perfect_reference_there_is_none():
    loss_T = 2.0 + 0.1 * noise(100)
    assert significance.relative_loss_upper_bound(loss_T, loss_T, 1) == pytest.approx(0, abs=1e-6)
    assert significance.relative_loss_upper_bound(1.1 * loss_T, loss_T, 1) == pytest.approx(0.1, abs=1e-6)
    with pytest.raises(ValueError, match="not surely above zero"):
        significance.relative_loss_upper_bound(loss_T, np.zeros(100), 1)
    with pytest.raises(ValueError, match="same sessions"):
        significance.relative_loss_upper_bound(loss_T, loss_T[1:], 1)


def test_resampled_means_keep_the_columns_together_and_their_expectation():
    value_T = noise(200)
    found_DK = bootstrap.resampled_means(np.column_stack([value_T, 3 * value_T]), 20, 600, np.random.default_rng(1))
    assert found_DK.shape == (600, 2)
    np.testing.assert_allclose(found_DK[:, 1], 3 * found_DK[:, 0], rtol=1e-9)
    assert found_DK[:, 0].mean() == pytest.approx(value_T.mean(), abs=4 * found_DK[:, 0].std() / math.sqrt(600))


def test_the_same_generator_gives_the_same_draws_and_another_gives_others():
    value_TK = noise(100)[:, None]
    one, same, other = (bootstrap.resampled_means(value_TK, 20, 300, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def sides(pattern: list[tuple[float, float]], repeats: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One symbol a session: (p_up, outcome) over and over."""
    p_up, outcome = np.array(pattern * repeats).T
    return DAYS[: len(p_up)], p_up, outcome


def test_pesaran_timmermann_counts_right_sides_beyond_those_of_independent_ones():
    # Of ten: forecasts up 6, outcomes up 5, both up 4, both down 3: right 0.7, by chance 0.3 + 0.2.
    pattern = [(0.6, 1.0)] * 4 + [(0.6, -1.0)] * 2 + [(0.4, 1.0)] + [(0.4, -1.0)] * 3
    found = bootstrap.pesaran_timmermann(*sides(pattern, 30), 1, np.random.default_rng(0), draws=200)
    assert found.excess == pytest.approx(0.7 - 0.5)
    assert (found.sessions, found.block) == (300, 20)
    assert found.degrees_of_freedom == pytest.approx(300 / 20, rel=0.15)
    assert found.statistic == pytest.approx(found.excess / found.standard_error)
    assert found.p_value == pytest.approx(student.sf(found.statistic, found.degrees_of_freedom))


def test_a_forecast_that_never_changes_its_side_has_no_timing_however_often_it_is_right():
    pattern = [(0.6, 1.0)] * 9 + [(0.6, -1.0)]
    found = bootstrap.pesaran_timmermann(*sides(pattern, 30), 1, np.random.default_rng(0), draws=200)
    assert found.excess == pytest.approx(0, abs=1e-12)
    assert found.p_value == pytest.approx(0.5, abs=1e-3)


def test_accuracy_is_held_against_the_better_of_always_up_and_always_down():
    # Right 8 of 10; always down is right 7 of 10, always up 3 of 10.
    pattern = [(0.6, 1.0)] * 2 + [(0.4, -1.0)] * 6 + [(0.4, 1.0)] + [(0.6, -1.0)]
    found = bootstrap.accuracy_over_constant(*sides(pattern, 30), 1, np.random.default_rng(0), draws=200)
    assert found.excess == pytest.approx(0.8 - 0.7)
    mirrored = [(1 - p_up, -outcome) for p_up, outcome in pattern]
    again = bootstrap.accuracy_over_constant(*sides(mirrored, 30), 1, np.random.default_rng(0), draws=200)
    assert again.excess == pytest.approx(found.excess)


def test_an_even_chance_and_no_change_count_half():
    pattern = [
        (0.5, 1.0),
        (0.5, -1.0),
        (0.9, 0.0),
        (0.9, 1.0),
    ]  # right 0.5, 0.5, 0.5, 1; up 0.5, down 0.375 of the time
    found = bootstrap.accuracy_over_constant(*sides(pattern, 10), 1, np.random.default_rng(0), draws=200)
    assert found.excess == pytest.approx(2.5 / 4 - 2.5 / 4)


def test_tests_of_direction_refuse_too_few_sessions_and_unknown_outcomes():
    session_N, p_up_N, outcome_N = sides([(0.6, 1.0)], 199)
    for test in (bootstrap.pesaran_timmermann, bootstrap.accuracy_over_constant):
        with pytest.raises(ValueError, match="horizon 20 needs 200 sessions, got 199"):
            test(session_N, p_up_N, outcome_N, 20, np.random.default_rng(0))
        with pytest.raises(ValueError, match="finite"):
            test(session_N, p_up_N, np.full(199, np.nan), 1, np.random.default_rng(0))


def test_location_and_scale_skill_add_up_to_naives_loss_minus_the_forecasts():
    rng = np.random.default_rng(4)
    outcome_N = 0.02 * rng.standard_t(5, 50)
    naive_NQ = normal_quantiles(np.zeros(50), np.full(50, 0.02))
    quantiles_NQ = normal_quantiles(rng.normal(0, 0.01, 50), rng.uniform(0.01, 0.03, 50))
    total_N = crps_from_quantiles(naive_NQ, outcome_N) - crps_from_quantiles(quantiles_NQ, outcome_N)
    split_N = location_skill(quantiles_NQ, naive_NQ, outcome_N) + scale_skill(quantiles_NQ, naive_NQ, outcome_N)
    np.testing.assert_allclose(split_N, total_N, atol=1e-15)


def test_a_better_width_is_scale_skill_only_and_a_better_centre_location_skill_only():
    outcome_N = np.array([0.01, -0.03])
    naive_NQ = normal_quantiles(np.zeros(2), np.full(2, 0.02))
    wider_NQ, moved_NQ = normal_quantiles(np.zeros(2), np.full(2, 0.03)), normal_quantiles(outcome_N, np.full(2, 0.02))
    assert location_skill(wider_NQ, naive_NQ, outcome_N).tolist() == [0.0, 0.0]
    assert (scale_skill(wider_NQ, naive_NQ, outcome_N) != 0).all()
    np.testing.assert_allclose(scale_skill(moved_NQ, naive_NQ, outcome_N), 0.0, atol=1e-17)
    assert (location_skill(moved_NQ, naive_NQ, outcome_N) > 0).all()


def test_the_centre_is_naives_median_even_where_that_is_not_zero():
    naive_NQ = normal_quantiles(np.array([0.01]), np.array([0.02]))
    same_NQ = normal_quantiles(np.array([0.01]), np.array([0.005]))
    np.testing.assert_allclose(location_skill(same_NQ, naive_NQ, np.array([0.05])), 0.0, atol=1e-17)
