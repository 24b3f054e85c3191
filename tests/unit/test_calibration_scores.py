"""Coverage by volatility, breaks and selective accuracy on numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from support.panels import panel_from_returns

from swiftbolt.evaluation import calibration_scores as scores
from swiftbolt.forecast import LEVELS, normal_quantiles
from swiftbolt.scaling import panel_volatility


def test_coverage_is_given_apart_for_calm_middling_and_wild_rows():
    volatility_N = np.array([0.03, 0.01, 0.02, 0.01, 0.02, 0.03])
    quantiles_NQ = normal_quantiles(np.zeros(6), np.full(6, 0.01))  # 90 %: +-0.0164
    outcome_N = np.array([0.05, 0.0, 0.0, 0.0, 0.05, -0.05])
    assert scores.coverage_by_tercile(quantiles_NQ, outcome_N, volatility_N, 0.90) == (1.0, 0.5, 0.0)


def test_rows_of_one_volatility_have_no_terciles():
    with pytest.raises(ValueError, match="that differ"):
        scores.coverage_by_tercile(np.zeros((6, len(LEVELS))), np.zeros(6), np.full(6, 0.01), 0.90)


def test_the_universes_volatility_is_the_median_of_those_symbols_that_have_one():
    rng = np.random.default_rng(3)
    panel = panel_from_returns(
        {"A": rng.normal(0, 0.01, 60), "B": rng.normal(0, 0.02, 60), "C": rng.normal(0, 0.05, 30)}
    )
    found_T = scores.universe_volatility(panel)
    sigma_R = panel_volatility(panel)
    assert found_T.shape == panel.sessions.shape
    assert np.isnan(found_T[:20]).all()
    for at in (20, 40, 60):
        present = [sigma for sigma in sigma_R[panel.session_R == at] if np.isfinite(sigma)]
        assert found_T[at] == np.median(present)
    assert len([s for s in sigma_R[panel.session_R == 60] if np.isfinite(s)]) == 3


def break_sessions(volatility_T: np.ndarray) -> list[int]:
    return np.flatnonzero(scores.breaks(volatility_T)).tolist()


def test_a_break_is_the_first_session_above_one_and_a_half_times_the_median():
    volatility_T = np.ones(500)
    volatility_T[400] = 1.5  # not above
    volatility_T[410:420] = 1.6
    assert break_sessions(volatility_T) == [410]


def test_a_break_needs_sixty_quiet_sessions_before_it():
    volatility_T = np.ones(600)
    volatility_T[[400, 459, 519, 580]] = 2.0
    # 459 is 59 after the first, 519 is 60 after that, with 60 quiet ones not quite between; 580 has 60.
    assert break_sessions(volatility_T) == [400, 580]
    volatility_T[519], volatility_T[520] = 1.0, 2.0
    assert break_sessions(volatility_T) == [400, 520]


def test_sessions_without_a_median_are_neither_breaks_nor_quiet():
    volatility_T = np.ones(400)
    volatility_T[308] = 2.0  # the first median is at 249: 59 sessions before this one have one
    assert break_sessions(volatility_T) == []
    volatility_T[308], volatility_T[309] = 1.0, 2.0
    assert break_sessions(volatility_T) == [309]
    volatility_T[100] = np.nan
    assert break_sessions(volatility_T) == []
    assert break_sessions(np.ones(100)) == []


def test_a_break_does_not_depend_on_what_comes_after():
    rng = np.random.default_rng(0)
    volatility_T = np.exp(np.cumsum(rng.normal(0, 0.05, 900)))
    found_T = scores.breaks(volatility_T)
    assert found_T.any()
    for cut in (300, 500, 899):
        assert scores.breaks(volatility_T[:cut]).tolist() == found_T[:cut].tolist()


def test_after_a_break_are_the_sixty_sessions_that_follow_it():
    break_T = np.zeros(200, dtype=np.bool_)
    break_T[[10, 180]] = True
    expected = [*range(11, 71), *range(181, 200)]
    assert np.flatnonzero(scores.after_breaks(break_T)).tolist() == expected


def test_selective_accuracy_is_that_of_the_most_confident():
    # 200 at 80 % that are all right, 200 at 60 % down of which half are right.
    p_up_N = np.array([0.4, 0.8] * 200)
    outcome_N = np.array([-1.0, 1.0, 1.0, 1.0] * 100)
    points = scores.selective_accuracy(p_up_N, outcome_N)
    assert [(p.threshold, p.count, p.coverage, p.accuracy) for p in points] == [
        (0.8, 200, 0.5, 1.0),
        (0.6, 400, 1.0, 0.75),
    ]


def test_selective_accuracy_leaves_out_shares_of_too_few_forecasts():
    rng = np.random.default_rng(1)
    points = scores.selective_accuracy(rng.random(1000), rng.standard_normal(1000))
    assert [p.count for p in points] == list(range(100, 1001, 10))
    assert scores.selective_accuracy(rng.random(99), rng.standard_normal(99)) == []
    assert scores.selective_accuracy(np.array([]), np.array([])) == []


def test_the_coverage_at_which_an_accuracy_holds_is_the_largest_or_none():
    def point(coverage: float, accuracy: float) -> scores.SelectivePoint:
        return scores.SelectivePoint(threshold=0.5, count=100, coverage=coverage, accuracy=accuracy)

    points = [point(0.1, 0.7), point(0.2, 0.61), point(0.3, 0.62), point(1.0, 0.52)]
    assert scores.coverage_reaching(points, 0.62) == 0.3
    assert scores.coverage_reaching(points, 0.71) is None
    assert scores.coverage_reaching([], 0.5) is None
