"""Curves: short enough to draw, and none of the depth or the end is lost in shortening."""

from __future__ import annotations

import numpy as np
import pytest

from swiftbolt.evaluation.calibration_scores import selective_accuracy
from swiftbolt.evaluation.curves import EQUITY_POINTS, thinned, wealth
from swiftbolt.evaluation.equity import Equity
from swiftbolt.evaluation.metrics import directional_accuracy


def equity(net_T: np.ndarray) -> Equity:
    zero_T = np.zeros(len(net_T))
    sessions_T = np.datetime64("2012-01-02") + np.arange(len(net_T))
    return Equity(sessions_T=sessions_T, net_T=net_T, gross_T=zero_T, turnover_T=zero_T)


def test_wealth_compounds_and_falls_from_its_highest_the_start_included():
    found = wealth(equity(np.array([-0.1, 0.5, -0.2, 0.0])))
    assert [point["wealth"] for point in found] == pytest.approx([0.9, 1.35, 1.08, 1.08])
    assert [point["drawdown"] for point in found] == pytest.approx([-0.1, 0.0, -0.2, -0.2])
    assert [point["session"] for point in found] == ["2012-01-02", "2012-01-03", "2012-01-04", "2012-01-05"]
    assert wealth(equity(np.empty(0))) == []


def test_a_long_curve_is_thinned_without_losing_its_end_or_its_deepest_fall():
    whole = equity(np.random.default_rng(3).normal(0.0, 0.01, 1764))
    found = wealth(whole)
    assert len(found) == EQUITY_POINTS
    assert found[-1]["session"] == str(whole.sessions_T[-1])
    assert found[-1]["wealth"] == pytest.approx(np.prod(1.0 + whole.net_T))
    assert min(point["drawdown"] for point in found) == pytest.approx(whole.max_drawdown)


def test_a_selective_curve_keeps_a_point_for_each_twentieth_and_ends_with_all():
    rng = np.random.default_rng(3)
    p_up_N, outcome_N = rng.uniform(0.3, 0.7, 5000), rng.standard_normal(5000)
    found = thinned(selective_accuracy(p_up_N, outcome_N))
    assert [point["coverage"] for point in found] == pytest.approx(np.arange(1, 21) / 20)
    assert found[-1]["accuracy"] == directional_accuracy(p_up_N, outcome_N)
    # Forecasts that are all equally confident have one point, and too few have none.
    assert len(thinned(selective_accuracy(np.full(500, 0.6), outcome_N[:500]))) == 1
    assert thinned(selective_accuracy(p_up_N[:50], outcome_N[:50])) == []
