"""The Signal noun: made from a forecast, checked, picklable."""

from __future__ import annotations

import pickle
from datetime import date

import numpy as np
import pytest

from swiftbolt.errors import DataError
from swiftbolt.forecast import HORIZONS, Forecast, normal_quantiles
from swiftbolt.trading.signals import Signal

FIELDS = {
    "symbol": "IBM",
    "origin": date(2013, 3, 1),
    "horizon": 5,
    "action": "BUY",
    "confidence": 0.6,
    "target": 102.0,
    "stop": 97.0,
    "reason": "because",
}


def forecast(mean: float, sd: float) -> Forecast:
    return Forecast.from_quantiles(
        symbol="IBM",
        origin=date(2013, 3, 1),
        model="ensemble",
        horizons=HORIZONS,
        quantiles_HQ=normal_quantiles(mean * np.array([1.0, 5.0, 20.0]), sd * np.sqrt([1.0, 5.0, 20.0])),
    )


def judged(mean: float, sd: float, horizon: int = 1) -> Signal:
    return Signal.from_forecast(forecast(mean, sd), horizon=horizon, close=100.0, threshold=0.55, cost=0.001)


def test_a_hopeful_forecast_is_a_buy_with_target_above_and_stop_below_the_close():
    found = judged(0.01, 0.02)
    assert found.action == "BUY"
    assert found.confidence == pytest.approx(0.691462, abs=1e-6)  # Phi(1/2)
    assert found.target == pytest.approx(100 * np.exp(0.01))
    assert found.stop == pytest.approx(100 * np.exp(0.01 - 1.644854 * 0.02), rel=1e-6)
    assert found.reason == "confidence 69.1% reaches 55.0%, expected gain 1.01% exceeds the round-trip cost 0.10%"


def test_a_gloomy_forecast_is_a_sell_with_its_stop_above():
    found = judged(-0.01, 0.02)
    assert found.action == "SELL"
    assert found.stop == pytest.approx(100 * np.exp(-0.01 + 1.644854 * 0.02), rel=1e-6)
    assert found.target < 100 < found.stop


def test_a_forecast_without_an_edge_is_held_and_says_why():
    unsure = judged(0.001, 0.02)
    assert (unsure.action, unsure.stop) == ("HOLD", None)
    assert unsure.reason == "confidence 52.0% is below 55.0%"
    cheap = judged(0.0005, 0.001)
    assert (cheap.action, cheap.stop) == ("HOLD", None)
    assert cheap.reason == "expected gain 0.05% does not exceed the round-trip cost 0.10%"


def test_a_stop_is_never_beyond_the_close():
    assert judged(0.05, 0.01).stop == 100.0


def test_a_signal_can_be_asked_for_at_a_horizon_between_the_fitted_ones():
    assert judged(0.01, 0.02, horizon=3).target == pytest.approx(100 * np.exp(0.03))


def test_a_signal_is_frozen_and_picklable():
    made = Signal(**FIELDS)
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(AttributeError):
        made.action = "SELL"


@pytest.mark.parametrize(
    "change",
    [
        {"confidence": 0.4},
        {"confidence": float("nan")},
        {"horizon": 0},
        {"reason": ""},
        {"target": 0.0},
        {"target": float("nan")},
        {"stop": None},
        {"stop": 103.0},
        {"action": "SELL"},
        {"action": "HOLD"},
        {"action": "buy"},
    ],
)
def test_a_signal_that_contradicts_itself_is_refused(change):
    with pytest.raises(DataError, match="signal IBM"):
        Signal(**{**FIELDS, **change})
