"""A forecast from a bar that later turned out to be wrong knows that bar; no later one does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from support.panels import panel_from_returns

from swiftbolt.models.base import forecast_as_known
from swiftbolt.models.naive import Naive
from swiftbolt.panel import DoubtedBar, Panel

AT = 60  # the session of the bad tick


def panels() -> tuple[Panel, Panel]:
    """Bars of AAA and BBB, and the same with AAA's bar of session ``AT`` doubted instead of a row."""
    rng = np.random.default_rng(5)
    full = panel_from_returns({"AAA": 0.01 * rng.standard_normal(99), "BBB": 0.01 * rng.standard_normal(99)})
    bad = full.log_price_R[AT] + np.log(10)
    keep = np.delete(np.arange(len(full.session_R)), AT)
    doubtful = replace(
        full,
        offsets=full.offsets - np.array([0, 1, 1]),
        session_R=full.session_R[keep],
        close_R=full.close_R[keep],
        log_price_R=full.log_price_R[keep],
        features_RF=full.features_RF[keep],
        doubted=(DoubtedBar(symbol=0, session=AT, close=1.0, log_price=bad, features_F=np.empty(0, dtype=np.float32)),),
    )
    return full, doubtful


def test_the_forecast_from_a_doubted_bar_is_that_of_the_panel_as_it_ended_then():
    full, doubtful = panels()
    price = full.log_price_R.copy()
    price[AT] += np.log(10)
    then = replace(
        full.select(["AAA"]),
        sessions=full.sessions[: AT + 1],
        offsets=np.array([0, AT + 1]),
        session_R=full.session_R[: AT + 1],
        close_R=full.close_R[: AT + 1],
        log_price_R=price[: AT + 1],
        features_RF=full.features_RF[: AT + 1],
    )
    origin = full.sessions[AT : AT + 1]
    (known, of_bbb) = forecast_as_known(Naive(), doubtful, origin)
    (expected,) = Naive().forecast(then, origin)
    assert known == expected
    assert of_bbb == list(Naive().forecast(full, origin))[1]


def test_forecasts_from_later_sessions_are_those_of_a_panel_without_the_doubted_bar():
    _, doubtful = panels()
    later = doubtful.sessions[AT + 1 :]
    assert forecast_as_known(Naive(), doubtful, later) == Naive().forecast(replace(doubtful, doubted=()), later)


def test_every_origin_is_forecast_once_in_order():
    _, doubtful = panels()
    found = forecast_as_known(Naive(), doubtful, doubtful.sessions[AT - 1 : AT + 2])
    assert found.symbol_N.tolist() == ["AAA"] * 3 + ["BBB"] * 3
    assert found.origin_N.tolist() == doubtful.sessions[AT - 1 : AT + 2].tolist() * 2
