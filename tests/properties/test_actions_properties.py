"""What holds for every history of splits and dividends: above all, that the future changes no bit of the past."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from support.by_hand import flat_bars, sessions_from

from swiftbolt.actions import CorporateAction, CorporateActions, adjusted, factors_from_adjusted_close, forward_adjusted
from swiftbolt.bars import Bars

QUICK = settings(max_examples=40, deadline=None, derandomize=True)

DAYS = sessions_from(25)
FIRST, LAST = DAYS[0] - timedelta(days=5), DAYS[-1] + timedelta(days=5)
PRICES = st.floats(1.0, 1000.0)
ACTIONS = st.builds(
    CorporateAction,
    symbol=st.sampled_from(["AAA", "BBB"]),
    ex_date=st.dates(FIRST, LAST),
    kind=st.sampled_from(["split", "dividend", "factor"]),
    value=st.floats(0.05, 20.0),
)


@st.composite
def markets(draw: st.DrawFn) -> tuple[Bars, list[CorporateAction]]:
    """Bars of two symbols with sessions missing here and there, and actions on any day, sessions or not."""
    bars = flat_bars({symbol: draw(st.lists(PRICES, min_size=25, max_size=25)) for symbol in ("AAA", "BBB")})
    kept = draw(st.lists(st.integers(0, 49), min_size=2, max_size=50, unique=True))
    return Bars(frame=bars.frame[sorted(kept)]), draw(st.lists(ACTIONS, max_size=12))


def until(frame: pl.DataFrame, cut: date) -> pl.DataFrame:
    return frame.filter(pl.col("session") <= cut)


@QUICK
@given(markets(), st.lists(ACTIONS, max_size=8), st.integers(0, 24), PRICES)
def test_later_actions_and_later_bars_change_no_earlier_bit(market, others, cut, price):
    bars, actions = market
    day = DAYS[cut]
    past = [a for a in actions if a.ex_date <= day]
    other_future = [a for a in others if a.ex_date > day]
    noise = bars.frame.with_columns(
        pl.when(pl.col("session") <= day).then(pl.col(name)).otherwise(price).alias(name)
        for name in ("open", "high", "low", "close", "volume")
    )
    known = until(forward_adjusted(bars, CorporateActions.of(actions)), day)
    assert known.equals(forward_adjusted(bars.select(end=day), CorporateActions.of(past)))
    assert known.equals(until(forward_adjusted(Bars(frame=noise), CorporateActions.of(past + other_future)), day))
    assert adjusted(bars, CorporateActions.of(actions), day).equals(
        adjusted(Bars(frame=noise), CorporateActions.of(past + other_future), day)
    )


@QUICK
@given(markets())
def test_the_series_is_what_a_plain_loop_over_days_and_actions_makes(market):
    bars, actions = market
    found = forward_adjusted(bars, CorporateActions.of(actions))
    for symbol in bars.symbols:
        rows = bars.select([symbol]).frame.rows(named=True)
        ours = found.filter(pl.col("symbol") == symbol).rows(named=True)
        price = shares = 1.0
        for before, row, mine in zip([None, *rows[:-1]], rows, ours, strict=True):
            if before is not None:
                today = [
                    a for a in set(actions) if a.symbol == symbol and before["session"] < a.ex_date <= row["session"]
                ]
                ratio = np.prod([a.value for a in today if a.kind != "dividend"])
                cash = sum(a.value for a in today if a.kind == "dividend")
                price *= (row["close"] + cash) * ratio / row["close"]
                shares *= ratio
            np.testing.assert_allclose(mine["close"], row["close"] * price, rtol=1e-9)
            np.testing.assert_allclose(mine["volume"], row["volume"] / shares, rtol=1e-9)


@QUICK
@given(markets(), st.integers(0, 24))
def test_a_chart_ends_at_the_raw_bar_and_returns_what_the_forward_series_does(market, cut):
    bars, actions = market
    chart = adjusted(bars, CorporateActions.of(actions), DAYS[cut])
    forward = until(forward_adjusted(bars, CorporateActions.of(actions)), DAYS[cut])
    for symbol in bars.symbols:
        one, other, raw = (f.filter(pl.col("symbol") == symbol) for f in (chart, forward, until(bars.frame, DAYS[cut])))
        if one.is_empty():
            continue
        assert one[-1].drop("raw_close").equals(raw[-1])
        ratio = (one["close"] / other["close"]).to_numpy()
        np.testing.assert_allclose(ratio, ratio[-1], rtol=1e-9)


@QUICK
@given(markets())
def test_a_symbol_is_adjusted_as_if_it_were_alone(market):
    bars, actions = market
    together = forward_adjusted(bars, CorporateActions.of(actions))
    for symbol in bars.symbols:
        alone = forward_adjusted(bars.select([symbol]), CorporateActions.of(actions).select([symbol]))
        assert together.filter(pl.col("symbol") == symbol).equals(alone)


@QUICK
@given(markets(), st.randoms(use_true_random=False))
def test_the_order_in_which_actions_are_reported_and_repeats_do_not_matter(market, random):
    actions = market[1]
    again = actions + actions[:3]
    random.shuffle(again)
    assert CorporateActions.of(again) == CorporateActions.of(actions)


@QUICK
@given(st.lists(PRICES, min_size=25, max_size=25), st.lists(PRICES, min_size=25, max_size=25), st.integers(1, 24))
def test_factors_ignore_every_later_adjusted_close(close, adj_close, cut):
    frame = pl.DataFrame({"symbol": "AAA", "session": DAYS, "close": close, "adj_close": adj_close})
    noise = frame.with_columns(adj_close=pl.when(pl.int_range(pl.len()) < cut).then("adj_close").otherwise(3.0))
    day = DAYS[cut - 1]
    assert factors_from_adjusted_close(frame).select(as_of=day) == factors_from_adjusted_close(noise).select(as_of=day)
