"""The market around the forecasts: volatility, breaks and prices of a panel small enough to reckon."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest
from support.markets import make_bars

from swiftbolt.actions import CorporateAction, CorporateActions, forward_adjusted
from swiftbolt.bars import Bars
from swiftbolt.evaluation.conditions import Conditions
from swiftbolt.features.engine import build_panel
from swiftbolt.findings import Findings
from swiftbolt.quality import inspect

DAY = date(2013, 2, 1)
NOTHING = CorporateActions.of()


def conditions(bars: Bars, actions: CorporateActions = NOTHING, findings: Findings | None = None) -> Conditions:
    return Conditions.of(build_panel(bars, actions, findings or Findings.none()), bars)


def changed(bars: Bars, after: date, factor: float) -> Bars:
    """The bars of AA with all prices from ``after`` on times ``factor``."""
    late = (pl.col("symbol") == "AA") & (pl.col("session") >= after)
    price = pl.col("open", "high", "low", "close")
    return Bars(frame=bars.frame.with_columns(pl.when(late).then(price * factor).otherwise(price)))


@pytest.fixture(scope="module")
def bars() -> Bars:
    return make_bars(["AA", "BB"], 300, seed=3)


def test_volatility_is_that_of_the_symbols_last_twenty_returns(bars: Bars):
    states = conditions(bars).states
    for symbol in ("AA", "BB"):
        own = states.filter(pl.col("symbol") == symbol)
        close_T = bars.frame.filter(pl.col("symbol") == symbol)["close"].to_numpy()
        return_T = np.diff(np.log(close_T))
        assert own["volatility"][:20].is_null().all()
        assert own["volatility"][20] == pytest.approx(np.std(return_T[:20], ddof=1))
        assert own["volatility"][299] == pytest.approx(np.std(return_T[-20:], ddof=1))


def test_prices_reinvest_dividends_and_undo_splits(bars: Bars):
    actions = CorporateActions.of(
        [
            CorporateAction(symbol="AA", ex_date=DAY, kind="split", value=2.0),
            CorporateAction(symbol="BB", ex_date=DAY, kind="dividend", value=1.5),
        ]
    )
    halved = changed(bars, DAY, 0.5)
    found = conditions(halved, actions).prices
    expected = forward_adjusted(halved, actions)
    assert found["session"].equals(expected["session"])
    for price in ("open", "close"):
        np.testing.assert_allclose(found[price].to_numpy(), expected[price].to_numpy(), rtol=1e-12)


def test_nobody_earns_a_jump_that_no_split_explains(bars: Bars):
    day = date(2012, 12, 3)
    jumped = changed(bars, day, 0.1)
    findings = inspect(jumped, NOTHING)
    assert set(findings.counts()) == {"split_like_jump"}
    found = conditions(jumped, findings=findings)
    own = found.prices.filter(pl.col("symbol") == "AA")
    assert own.filter(pl.col("session") == day).select("open", "close").row(0) == (None, None)  # in doubt itself
    after = own.filter(pl.col("session") > day)
    assert after["open"][0] == pytest.approx(own.filter(pl.col("session") < day)["close"][-1])
    raw = jumped.frame.filter((pl.col("symbol") == "AA") & (pl.col("session") > day))
    np.testing.assert_allclose((after["close"] / after["open"]).to_numpy(), (raw["close"] / raw["open"]).to_numpy())
    np.testing.assert_allclose(
        (after["open"] / after["close"].shift(1)).to_numpy()[1:], (raw["open"] / raw["close"].shift(1)).to_numpy()[1:]
    )
    late = found.states.filter((pl.col("symbol") == "AA") & (pl.col("origin") > day))["volatility"]
    assert late[:20].is_null().all()
    assert late[20:].is_not_null().all()
    other = pl.col("symbol") == "BB"
    assert found.prices.filter(other).equals(conditions(bars).prices.filter(other))


def test_a_bar_in_doubt_has_no_price_but_keeps_its_session(bars: Bars):
    broken = Bars(
        frame=bars.frame.with_columns(
            pl.when((pl.col("symbol") == "AA") & (pl.col("session") == DAY))
            .then(pl.col(name) * 5)
            .otherwise(pl.col(name))
            .alias(name)
            for name in ("open", "high", "low", "close")
        )
    )
    findings = inspect(broken, NOTHING)
    assert len(findings.quarantining())
    found = conditions(broken, findings=findings)
    doubted = found.prices.filter((pl.col("symbol") == "AA") & (pl.col("session") == DAY))
    assert doubted.select("open", "close").row(0) == (None, None)
    assert len(found.prices) == len(bars)
    assert found.states.filter((pl.col("symbol") == "AA") & (pl.col("origin") == DAY)).is_empty()


def test_since_leaves_earlier_origins_and_sessions_out(bars: Bars):
    found = conditions(bars).since(DAY)
    assert found.states["origin"].min() == DAY
    assert found.prices["session"].min() == DAY
