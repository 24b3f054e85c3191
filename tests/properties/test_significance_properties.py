"""What holds for every test of significance, whatever the series."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from swiftbolt.evaluation.equity import trade
from swiftbolt.evaluation.significance import holm, mean_test

QUICK = settings(max_examples=40, deadline=None, derandomize=True)

SERIES = arrays(np.float64, st.integers(20, 80), elements=st.floats(-1, 1))
HORIZONS = st.sampled_from([1, 2])
DAYS = np.datetime64("2020-01-01") + np.arange(30)


@QUICK
@given(SERIES, HORIZONS, st.floats(1e-3, 1e3))
def test_neither_units_nor_the_direction_of_time_change_a_test_and_a_mirror_turns_it(series, horizon, unit):
    assume(np.std(series) > 1e-3)
    assume(len(series) >= 10 * horizon)
    test = mean_test(series, horizon)
    for same in (mean_test(unit * series, horizon), mean_test(series[::-1], horizon)):
        assert same.statistic == pytest.approx(test.statistic, rel=1e-6, abs=1e-6)
    mirrored = mean_test(-series, horizon)
    assert (mirrored.p_less, mirrored.p_greater) == (pytest.approx(test.p_greater), pytest.approx(test.p_less))
    assert 0 <= min(test.p_less, test.p_greater) <= test.p_two_sided <= 1


@QUICK
@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8))
def test_holm_never_lowers_a_p_value_nor_changes_the_order_of_two(p_values):
    adjusted = holm(p_values)
    assert adjusted.keys() == p_values.keys()
    for name, p_value in p_values.items():
        assert p_value <= adjusted[name] <= min(1.0, len(p_values) * p_value)
        assert all(adjusted[name] <= adjusted[other] for other in p_values if p_value <= p_values[other])


@QUICK
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.floats(0.5, 0.7))
def test_the_rule_knows_neither_units_nor_the_order_of_symbols_and_holds_no_more_than_it_has(seed, horizon, threshold):
    rng = np.random.default_rng(seed)
    whole = np.exp(np.cumsum(rng.normal(0, 0.02, (4, 60)), axis=1))
    path = np.where(rng.random((4, 30)).repeat(2, axis=1) < 0.1, np.nan, whole)
    p_up, open_, close = rng.random((4, 30)), path[:, ::2], path[:, 1::2]
    found = trade(DAYS, p_up, open_, close, horizon=horizon, threshold=threshold)
    unit = rng.uniform(1, 100, (4, 1))
    order = rng.permutation(4)
    other = trade(DAYS, p_up[order], (unit * open_)[order], (unit * close)[order], horizon=horizon, threshold=threshold)
    np.testing.assert_allclose(other.net_T, found.net_T, atol=1e-12)
    gapless = trade(DAYS, p_up, whole[:, ::2], whole[:, 1::2], horizon=horizon, threshold=threshold)
    assert (gapless.gross_T <= 1 + 1e-12).all()
