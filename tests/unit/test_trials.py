"""Deflated Sharpe ratio and odds of overfitting: the papers' own numbers, and cases that can be counted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from swiftbolt.evaluation.equity import sharpe_ratio
from swiftbolt.evaluation.trials import (
    Attempts,
    backtest_overfitting,
    clusters,
    deflated_among,
    deflated_sharpe,
    expected_best_sharpe,
    probabilistic_sharpe,
)


def noise(trials: int, sessions: int, seed: int = 1) -> np.ndarray:
    return 0.01 * np.random.default_rng(seed).standard_normal((trials, sessions))


def test_the_deflated_sharpe_of_the_paper_is_nine_in_ten():
    # Bailey and Lopez de Prado (2014): 2.5 a year over five years of 250 days, the best of 100 trials whose annual
    # ratios have a variance of 1/2; skew -3, kurtosis 10. With 46 trials the strategy would have passed at 95 %.
    per_day = {"sharpe": 2.5 / math.sqrt(250), "sessions": 1250, "skew": -3.0, "kurtosis": 10.0}
    benchmark = expected_best_sharpe(0.5 / 250, 100)
    assert benchmark == pytest.approx(0.1132, abs=5e-5)
    assert probabilistic_sharpe(benchmark=benchmark, **per_day) == pytest.approx(0.9004, abs=5e-5)
    of_46 = expected_best_sharpe(0.5 / 250, 46)
    assert probabilistic_sharpe(benchmark=of_46, **per_day) == pytest.approx(0.9505, abs=5e-5)
    of_88 = expected_best_sharpe(0.5 / 250, 88)
    normal = {**per_day, "skew": 0.0, "kurtosis": 3.0}
    assert probabilistic_sharpe(benchmark=of_88, **normal) == pytest.approx(0.9505, abs=5e-5)


def test_the_probabilistic_sharpe_of_the_paper_falls_with_skew_and_fat_tails():
    # Bailey and Lopez de Prado (2012): 24 months, monthly ratio 0.458, skew -2.448, kurtosis 10.164.
    assert probabilistic_sharpe(0.458, 0.0, sessions=24, skew=0.0, kurtosis=3.0) == pytest.approx(0.982, abs=1e-3)
    assert probabilistic_sharpe(0.458, 0.0, sessions=24, skew=-2.448, kurtosis=10.164) == pytest.approx(0.913, abs=1e-3)


def test_the_best_of_noise_is_what_the_formula_expects():
    rng = np.random.default_rng(3)
    best = rng.standard_normal((4000, 100)).max(axis=1).mean()
    assert expected_best_sharpe(1.0, 100) == pytest.approx(best, rel=0.02)
    assert expected_best_sharpe(4.0, 100) == pytest.approx(2 * expected_best_sharpe(1.0, 100))
    assert expected_best_sharpe(1.0, 1) == 0.0


def test_a_trial_is_judged_by_the_moments_of_its_own_returns_and_by_all_that_were_tried():
    returns_NT = noise(30, 500)
    returns_NT[4] += 0.002
    found = deflated_sharpe(returns_NT, 4)
    own_T = returns_NT[4]
    sharpes = [sharpe_ratio(row) for row in returns_NT]
    assert (found.trials, found.clusters, found.sessions) == (30, 30, 500)
    assert found.sharpe == sharpes[4]
    assert found.benchmark == pytest.approx(expected_best_sharpe(np.var(sharpes, ddof=1), 30))
    centred = own_T - own_T.mean()
    assert found.skew == pytest.approx(np.mean(centred**3) / np.mean(centred**2) ** 1.5)
    assert found.kurtosis == pytest.approx(np.mean(centred**4) / np.mean(centred**2) ** 2)
    assert found.probability == probabilistic_sharpe(
        found.sharpe, found.benchmark, sessions=500, skew=found.skew, kurtosis=found.kurtosis
    )


def test_trials_that_left_no_returns_each_count_as_one_more_cluster():
    returns_NT = noise(30, 500)
    returns_NT[:3] = returns_NT[3]
    seen, unseen = Attempts.of(returns_NT), Attempts.of(returns_NT, unseen=100)
    assert (seen.trials, seen.clusters) == (30, 27)
    assert (unseen.trials, unseen.clusters, unseen.variance) == (130, 127, seen.variance)
    assert deflated_sharpe(returns_NT, 4) == deflated_among(returns_NT[4], seen)
    more = deflated_among(returns_NT[4], unseen)
    assert more.benchmark == expected_best_sharpe(seen.variance, 127)
    assert more.probability < deflated_sharpe(returns_NT, 4).probability
    nothing = Attempts.of(np.empty((0, 0)), unseen=2)
    assert (nothing.trials, nothing.clusters, nothing.variance) == (2, 2, 0.0)


def test_a_single_trial_is_held_against_zero():
    found = deflated_sharpe(noise(1, 250) + 0.001, 0)
    assert (found.benchmark, found.clusters) == (0.0, 1)
    assert found.probability > 0.5


def test_the_best_of_many_noise_strategies_seldom_survives_deflation():
    survivors = surface = 0
    for seed in range(20):
        returns_NT = noise(50, 500, seed)
        best = int(np.argmax([sharpe_ratio(row) for row in returns_NT]))
        found = deflated_sharpe(returns_NT, best)
        survivors += found.probability > 0.95
        surface += probabilistic_sharpe(found.sharpe, 0.0, sessions=500, skew=0.0, kurtosis=3.0) > 0.95
    assert surface >= 17
    assert survivors <= 1


def test_returns_that_never_vary_cannot_be_deflated():
    returns_NT = noise(3, 100)
    returns_NT[1] = 0.0
    with pytest.raises(ValueError, match="that vary"):
        deflated_sharpe(returns_NT, 1)
    assert deflated_sharpe(returns_NT, 0).clusters == 3


def test_trials_that_are_much_alike_are_one_cluster():
    base_NT = noise(3, 300)
    # Correlations of about 0.9 within each of three families.
    returns_NT = np.concatenate([base_NT, base_NT, base_NT]) + 0.3 * noise(9, 300, seed=2)
    found = clusters(returns_NT)
    assert found.max() == 3
    assert all(len({found[i], found[i + 3], found[i + 6]}) == 1 for i in range(3))


def test_opposite_trials_are_not_alike():
    row = noise(1, 100)
    assert clusters(np.concatenate([row, -row])).max() == 2
    assert clusters(np.concatenate([row, 2 * row])).max() == 1


def test_trials_are_compared_on_the_sessions_they_share_and_kept_apart_when_those_are_few():
    returns_NT = np.concatenate([noise(1, 200)] * 2)
    returns_NT[0, 130:] = np.nan
    returns_NT[1, :70] = np.nan
    assert clusters(returns_NT).max() == 1  # 60 sessions in common
    returns_NT[1, 70] = np.nan
    assert clusters(returns_NT).max() == 2


def test_a_trial_that_is_best_everywhere_is_not_overfitted():
    returns_NT = noise(12, 320)
    returns_NT[7] += 0.02
    assert backtest_overfitting(returns_NT).probability == 0.0


def test_trials_that_are_good_only_where_others_are_bad_are_always_overfitted():
    # Each trial shines in one of ten blocks and loses in the others: the best of any five is bad in the other five.
    returns_NT = 0.001 * noise(10, 100) - 0.01 + np.kron(np.eye(10), np.full(10, 0.1))
    found = backtest_overfitting(returns_NT, blocks=10)
    assert (found.probability, found.trials, found.sessions, found.reason) == (1.0, 10, 100, None)


def test_choosing_among_noise_is_overfitted_half_of_the_time():
    found = [backtest_overfitting(noise(20, 400, seed), blocks=8).probability for seed in range(40)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.1)


def test_too_few_trials_or_sessions_give_no_odds_but_a_reason():
    few = backtest_overfitting(noise(9, 400))
    assert (few.probability, few.reason) == (None, "9 trials, needs at least 10")
    short = backtest_overfitting(noise(10, 79))
    assert (short.probability, short.reason) == (None, "79 sessions common to all trials, needs at least 80")


def test_only_sessions_common_to_all_trials_count():
    returns_NT = noise(10, 200)
    padded_NT = np.concatenate([returns_NT, noise(10, 50, seed=9)], axis=1)
    padded_NT[3, 200:] = np.nan
    assert backtest_overfitting(padded_NT) == backtest_overfitting(returns_NT)
