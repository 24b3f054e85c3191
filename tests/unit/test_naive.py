"""The yardstick, checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from support.panels import panel_from_returns

from swiftbolt.errors import ArtifactMismatch
from swiftbolt.forecast import LEVELS
from swiftbolt.models.naive import Naive, NaiveConfig, NaiveDrift

MEDIAN, Q975 = LEVELS.index(0.5), LEVELS.index(0.975)
ONE_PERCENT = 0.01 * np.resize([1.0, -1.0], 30)  # EWMA volatility is exactly 1 % at every session


def test_naive_is_normal_with_variance_linear_in_the_horizon():
    panel = panel_from_returns({"A": ONE_PERCENT})
    forecast = next(iter(Naive().forecast(panel, panel.sessions[-1:])))
    assert forecast.quantiles_HQ[:, Q975] == pytest.approx(1.959964 * 0.01 * np.sqrt([1, 5, 20]), rel=1e-6)
    assert forecast.quantiles_HQ[:, MEDIAN].tolist() == [0.0, 0.0, 0.0]
    assert forecast.mean_H == pytest.approx([0, 0, 0], abs=1e-15)
    assert forecast.sd_H == pytest.approx(0.01 * np.sqrt([1, 5, 20]))
    assert forecast.p_up_H == pytest.approx([0.5, 0.5, 0.5], abs=1e-12)


def test_naive_volatility_takes_six_percent_of_the_newest_square():
    panel = panel_from_returns({"A": np.append(ONE_PERCENT, 0.03)})
    forecast = next(iter(Naive().forecast(panel, panel.sessions[-1:])))
    assert forecast.sd_H[0] == pytest.approx(np.sqrt(0.94 * 0.01**2 + 0.06 * 0.03**2))


def test_naive_begins_after_twenty_returns_and_leaves_out_sessions_without_a_bar():
    panel = panel_from_returns({"LONG": ONE_PERCENT, "SHORT": ONE_PERCENT[:22]})
    forecasts = Naive().forecast(panel, panel.sessions)
    counts = {symbol: int((forecasts.symbol_N == symbol).sum()) for symbol in panel.symbols}
    assert counts == {"LONG": 30 + 1 - 20, "SHORT": 22 + 1 - 20}
    assert forecasts.origin_N[0] == panel.sessions[20]


def test_naive_forecasts_come_sorted_by_symbol_then_origin():
    panel = panel_from_returns({"B": ONE_PERCENT, "A": ONE_PERCENT})
    forecasts = Naive().forecast(panel, panel.sessions[[-1, -3]])
    assert forecasts.symbol_N.tolist() == ["A", "A", "B", "B"]
    assert forecasts.origin_N.tolist() == panel.sessions[[-3, -1, -3, -1]].tolist()


def test_naive_drift_is_the_mean_of_all_returns_so_far_times_the_horizon():
    returns = np.append(np.zeros(20), 0.021)
    panel = panel_from_returns({"A": returns})
    forecast = next(iter(NaiveDrift().forecast(panel, panel.sessions[-1:])))
    assert forecast.model == "naive_drift"
    assert forecast.quantiles_HQ[:, MEDIAN] == pytest.approx(0.001 * np.array([1, 5, 20]))
    assert forecast.sd_H == pytest.approx(np.sqrt(0.06) * 0.021 * np.sqrt([1, 5, 20]))


@pytest.mark.parametrize("model", [Naive, NaiveDrift])
def test_a_naive_forecast_ignores_every_later_session(model):
    rng = np.random.default_rng(0)
    past = rng.normal(0, 0.01, 60)
    calm = panel_from_returns({"A": np.append(past, np.zeros(20))})
    wild = panel_from_returns({"A": np.append(past, rng.normal(0, 0.5, 20))})
    origins = calm.sessions[: 60 + 1]
    assert np.array_equal(
        model().forecast(calm, origins).quantiles_NHQ,
        model().forecast(wild, origins).quantiles_NHQ,
    )


@pytest.mark.parametrize("model", [Naive, NaiveDrift])
def test_a_naive_model_restores_what_it_dumped_and_refuses_another_decay(model):
    files = model().dump()
    panel = panel_from_returns({"A": ONE_PERCENT})
    restored = model.restore(NaiveConfig(), files)
    assert np.array_equal(
        restored.forecast(panel, panel.sessions).quantiles_NHQ,
        model().forecast(panel, panel.sessions).quantiles_NHQ,
    )
    with pytest.raises(ArtifactMismatch, match="another decay"):
        model.restore(NaiveConfig(), dict.fromkeys(files, b'{"ewma_alpha": 0.03}'))
    with pytest.raises(ArtifactMismatch, match="missing"):
        model.restore(NaiveConfig(), {})
