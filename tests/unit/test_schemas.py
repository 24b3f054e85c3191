"""A forecast becomes a reply: prices, probabilities and volatilities that can be worked out by hand."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
from support.releases import MADE_AT, ORIGIN, normal_forecast, view_by_hand

from serve.schemas import ForecastReply, ForecastRequest, forecast_reply, session_volatility
from serve.views import SymbolForecast
from swiftbolt.errors import DataError
from swiftbolt.forecast import LEVELS, Forecast
from swiftbolt.models.explanations import Contribution, Explanation

Z_975 = 1.959963984540054


def test_the_target_is_the_close_grown_by_the_median_return():
    reply = forecast_reply(view_by_hand(close=100.0), "ensemble", 5, stale=False)
    assert reply.current_price == 100.0
    assert reply.price_target == pytest.approx(100.0 * math.exp(5 * 0.001))


def test_the_interval_holds_the_middle_95_percent_and_widens_with_the_root_of_the_horizon():
    reply = forecast_reply(view_by_hand(close=100.0), "ensemble", 4, stale=False)
    assert reply.lower_ci == pytest.approx(100.0 * math.exp(0.004 - Z_975 * 0.01 * 2))
    assert reply.upper_ci == pytest.approx(100.0 * math.exp(0.004 + Z_975 * 0.01 * 2))


@pytest.mark.parametrize("horizon", [1, 5, 7, 20])
def test_lists_have_one_entry_per_session_and_end_at_the_horizon(horizon):
    reply = forecast_reply(view_by_hand(), "ensemble", horizon, stale=False)
    lists = (reply.price_targets, reply.lower_cis, reply.upper_cis, reply.volatility)
    assert [len(values) for values in lists] == [horizon] * 4
    assert (reply.price_targets[-1], reply.lower_cis[-1]) == (reply.price_target, reply.lower_ci)
    assert reply.price_targets[0] == pytest.approx(100.0 * math.exp(0.001))


def test_volatility_is_that_of_each_session_alone_not_of_the_cumulative_return():
    reply = forecast_reply(view_by_hand(), "ensemble", 20, stale=False)
    assert reply.volatility == pytest.approx([0.01] * 20)


def test_volatility_of_a_variance_that_shrinks_with_the_horizon_is_zero_not_a_fault():
    wide_then_narrow = np.array([0.02, 0.01])[:, None] * np.linspace(-2, 2, len(LEVELS))
    path = Forecast.from_quantiles(
        symbol="AAPL", origin=ORIGIN, model="arima", horizons=(1, 2), quantiles_HQ=wide_then_narrow
    )
    assert session_volatility(path)[1] == 0.0


def test_confidence_is_the_probability_of_the_direction():
    up = forecast_reply(view_by_hand(), "ensemble", 4, stale=False)
    down = forecast_reply(view_by_hand(), "lstm", 4, stale=False)
    assert (up.direction, down.direction) == ("UP", "DOWN")
    # Four days of 0.1 % against 1 % a day are 0.2 standard deviations: the normal distribution function there.
    assert up.confidence == pytest.approx(0.57926, abs=1e-5)
    assert down.confidence == pytest.approx(0.57926, abs=1e-5)


def test_agreement_counts_heads_and_components_are_each_members_median():
    reply = forecast_reply(view_by_hand(), "ensemble", 5, stale=False)
    assert reply.agreement == 0.75
    assert reply.components.model_dump() == pytest.approx(
        {"arima": 0.005, "xgboost": 0.01, "lstm": -0.005, "transformer": 0.01}
    )


def test_a_missing_member_is_named_and_its_component_is_null_but_there():
    view = view_by_hand()
    without = {name: forecast for name, forecast in view.by_model.items() if name != "lstm"}
    reply = forecast_reply(dataclasses.replace(view, by_model=without, missing=("lstm",)), "ensemble", 5, stale=False)
    assert reply.missing == ["lstm"]
    assert json.loads(reply.model_dump_json())["components"]["lstm"] is None
    assert reply.agreement == 1.0


def test_a_single_models_reply_has_that_model_alone():
    reply = forecast_reply(view_by_hand(), "xgboost", 5, stale=True)
    assert reply.price_target == pytest.approx(100.0 * math.exp(0.01))
    assert reply.components.model_dump(exclude_none=True) == pytest.approx({"xgboost": 0.01})
    assert (reply.agreement, reply.missing, reply.stale) == (1.0, [], True)


@pytest.mark.parametrize(
    ("daily_mean", "horizon", "signal"),
    [
        (0.001, 5, "BUY"),  # 58.8 % sure of 0.5 %
        (0.001, 1, "HOLD"),  # 54.0 % is below 55 %
        (-0.001, 5, "SELL"),
        (0.00005, 20, "HOLD"),  # 50.9 %
    ],
)
def test_signal_needs_confidence_and_a_return_beyond_the_cost(daily_mean, horizon, signal):
    view = dataclasses.replace(view_by_hand(), by_model={"arima": normal_forecast("AAPL", "arima", daily_mean, 0.01)})
    assert forecast_reply(view, "arima", horizon, stale=False).signal == signal


def explained_by_hand() -> SymbolForecast:
    """A view whose xgboost says why at its three horizons."""
    why = [
        Explanation(
            symbol="AAPL",
            origin=ORIGIN,
            horizon=horizon,
            base=0.0,
            largest=(
                Contribution(feature="rsi_14", value=71.0, log_return=-0.001 * horizon),
                Contribution(feature="of_another_time", value=0.5, log_return=0.0005 * horizon),
            ),
            others=0.0,
        )
        for horizon in (1, 5, 20)
    ]
    return dataclasses.replace(view_by_hand(), explanations={"xgboost": why})


@pytest.mark.parametrize(("asked", "told"), [(1, 1), (4, 5), (5, 5), (6, 20)])
def test_a_reply_says_why_at_the_shortest_fitted_horizon_that_covers_the_one_asked_for(asked, told):
    first, second = forecast_reply(explained_by_hand(), "xgboost", asked, stale=False).why
    assert (first.feature, first.value, first.contribution, first.horizon) == ("rsi_14", 71.0, -0.001 * told, told)
    assert first.description == "50 (1 + ema_27(C - C[-1]) / ema_27(|C - C[-1]|))"
    assert (second.feature, second.description) == ("of_another_time", None)


def test_the_ensembles_reply_says_why_its_member_does_and_another_models_has_an_empty_list():
    view = explained_by_hand()
    assert forecast_reply(view, "ensemble", 5, stale=False).why == forecast_reply(view, "xgboost", 5, stale=False).why
    assert json.loads(forecast_reply(view, "arima", 5, stale=False).model_dump_json())["why"] == []
    without = {name: forecast for name, forecast in view.by_model.items() if name != "xgboost"}
    absent = dataclasses.replace(view, by_model=without, missing=("xgboost",), explanations={})
    assert json.loads(forecast_reply(absent, "ensemble", 5, stale=False).model_dump_json())["why"] == []


def test_a_reply_says_when_and_from_which_session_it_was_made():
    reply = json.loads(forecast_reply(view_by_hand(version="7"), "ensemble", 5, stale=False).model_dump_json())
    assert reply["as_of"] == "2013-03-01"
    assert reply["timestamp"] == "2013-03-01T22:00:00Z"
    assert reply["model_version"] == "7"


def test_a_reply_holds_every_documented_field():
    documented = (
        "symbol current_price price_target lower_ci upper_ci confidence direction components timestamp as_of horizon "
        "signal agreement price_targets lower_cis upper_cis volatility model_version stale missing why"
    )
    assert " ".join(ForecastReply.model_fields) == documented


def test_a_view_refuses_forecasts_of_another_symbol_and_times_without_a_zone():
    view = view_by_hand("AAPL")
    with pytest.raises(DataError, match="another symbol"):
        dataclasses.replace(view, symbol="IBM")
    with pytest.raises(DataError, match="zone"):
        dataclasses.replace(view, made_at=MADE_AT.replace(tzinfo=None))


def test_a_view_crosses_process_borders_whole():
    view = view_by_hand()
    again: SymbolForecast = pickle.loads(pickle.dumps(view))
    reply = forecast_reply(view, "ensemble", 20, stale=False)
    assert forecast_reply(again, "ensemble", 20, stale=False) == reply


def test_a_request_defaults_to_five_sessions_from_the_release():
    request = ForecastRequest(symbol="AAPL")
    assert (request.horizon, request.live) == (5, False)
