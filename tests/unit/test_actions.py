"""Splits and dividends on numbers worked out by hand."""

from __future__ import annotations

import pickle
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from support.by_hand import flat_bars, sessions_from

from swiftbolt.actions import (
    ACTION_SCHEMA,
    CorporateAction,
    CorporateActions,
    adjusted,
    factors_from_adjusted_close,
    forward_adjusted,
)
from swiftbolt.bars import Bars, screen_bars
from swiftbolt.errors import DataError, SchemaError

D = sessions_from(10)  # 2020-01-02 Thu, 03 Fri, 06 Mon, 07, 08, 09, 10 Fri, 13 Mon, 14, 15


def act(day: date, kind: str, value: float, symbol: str = "AAA", known_at: date | None = None) -> CorporateAction:
    return CorporateAction(symbol=symbol, ex_date=day, kind=kind, value=value, known_at=known_at)


def closes(frame: pl.DataFrame, symbol: str = "AAA") -> list[float]:
    return frame.filter(pl.col("symbol") == symbol)["close"].to_list()


# The nouns.


@pytest.mark.parametrize("value", [0.0, -2.0, float("nan"), float("inf")])
def test_an_action_must_have_a_positive_value(value):
    with pytest.raises(DataError, match="must be positive"):
        act(D[0], "split", value)


def test_an_action_must_be_of_a_known_kind():
    with pytest.raises(DataError, match="'merger' is none of"):
        act(D[0], "merger", 1.0)


@pytest.mark.parametrize("column", ["symbol", "ex_date", "kind", "value"])
def test_actions_refuse_a_null_in(column):
    frame = CorporateActions.of([act(D[0], "split", 2.0)]).frame
    with pytest.raises(DataError, match="is not an action"):
        CorporateActions(frame=frame.with_columns(pl.lit(None, dtype=ACTION_SCHEMA[column]).alias(column)))


@pytest.mark.parametrize(("column", "value"), [("kind", "merger"), ("value", 0.0), ("value", float("nan"))])
def test_actions_refuse_a_row_that_is_none(column, value):
    frame = CorporateActions.of([act(D[0], "split", 2.0)]).frame
    with pytest.raises(DataError, match="is not an action"):
        CorporateActions(frame=frame.with_columns(pl.lit(value).alias(column)))


def test_actions_refuse_another_schema_and_another_order():
    frame = CorporateActions.of([act(D[0], "split", 2.0), act(D[1], "split", 2.0)]).frame
    with pytest.raises(SchemaError, match="known_at"):
        CorporateActions(frame=frame.drop("known_at"))
    with pytest.raises(DataError, match="not sorted"):
        CorporateActions(frame=frame.reverse())


def test_actions_are_sorted_repeats_dropped_and_every_one_comes_back():
    given = [act(D[2], "split", 2.0), act(D[1], "dividend", 0.5, known_at=D[0]), act(D[1], "dividend", 0.25)]
    actions = CorporateActions.of([*given, given[0]])
    assert list(actions) == [given[2], given[1], given[0]]
    assert len(actions) == 3
    assert CorporateActions.of(reversed(given)) == actions


def test_actions_that_differ_in_one_date_only_have_one_order():
    same = [act(D[2], "dividend", 1.0, known_at=day) for day in (D[1], D[0], None)]
    frames = [CorporateActions.of(order).frame.rows() for order in (same, same[::-1], [same[1], same[0], same[2]])]
    assert frames[0] == frames[1] == frames[2]


def test_actions_survive_pickling_and_have_no_hash():
    actions = CorporateActions.of([act(D[2], "split", 2.0)])
    assert pickle.loads(pickle.dumps(actions)) == actions
    assert actions != CorporateActions.of()
    with pytest.raises(TypeError, match="unhashable type: 'CorporateActions'"):
        hash(actions)


def test_selecting_as_of_a_session_goes_by_ex_date_whenever_it_was_announced():
    actions = CorporateActions.of(
        [
            act(D[1], "dividend", 1.0),
            act(D[3], "dividend", 2.0, known_at=D[0]),
            act(D[1], "split", 3.0, known_at=D[3]),  # recorded two sessions late
            act(D[1], "split", 4.0, symbol="BBB"),
        ]
    )
    assert [a.value for a in actions.select(as_of=D[2])] == [1.0, 3.0, 4.0]
    assert [a.value for a in actions.select(["AAA"], as_of=D[3])] == [1.0, 3.0, 2.0]
    assert len(actions.select()) == 4


# The forward-adjusted series.


def test_without_actions_prices_are_raw():
    bars = flat_bars({"AAA": [100.0, 103.0]})
    frame = forward_adjusted(bars, CorporateActions.of())
    assert frame.drop("raw_close").equals(bars.frame)
    assert frame.columns == [*bars.frame.columns, "raw_close"]


def test_a_two_for_one_split_doubles_later_prices_and_halves_later_volume():
    bars = flat_bars({"AAA": [100.0, 102.0, 51.5, 52.0]})  # 1,000 shares a day
    frame = forward_adjusted(bars, CorporateActions.of([act(D[2], "split", 2.0)]))
    assert closes(frame) == [100.0, 102.0, 103.0, 104.0]
    assert frame["volume"].to_list() == [1000.0, 1000.0, 500.0, 500.0]
    assert frame["raw_close"].to_list() == [100.0, 102.0, 51.5, 52.0]
    for name in ("open", "high", "low"):
        assert frame[name].to_list() == closes(frame)


def test_a_dividend_is_reinvested_at_the_close_of_its_ex_date_and_leaves_volume_alone():
    bars = flat_bars({"AAA": [100.0, 98.0, 99.0]})
    frame = forward_adjusted(bars, CorporateActions.of([act(D[1], "dividend", 2.0)]))
    # (98 + 2) / 100 - 1 = 0; then 99 / 98.
    assert closes(frame) == pytest.approx([100.0, 100.0, 100.0 * 99.0 / 98.0], rel=1e-15)
    assert frame["volume"].to_list() == [1000.0] * 3


def test_a_split_and_a_dividend_on_one_day_pay_the_dividend_on_the_new_shares():
    bars = flat_bars({"AAA": [100.0, 40.0]})
    frame = forward_adjusted(bars, CorporateActions.of([act(D[1], "dividend", 1.0), act(D[1], "split", 2.5)]))
    # (40 + 1) * 2.5 / 100 - 1 = 2.5 %
    assert closes(frame) == pytest.approx([100.0, 102.5], rel=1e-15)


def test_two_dividends_add_and_two_splits_multiply():
    bars = flat_bars({"AAA": [100.0, 10.0]})
    actions = [act(D[1], "dividend", 1.0), act(D[1], "dividend", 2.0), act(D[1], "split", 2.0), act(D[1], "split", 5.0)]
    assert closes(forward_adjusted(bars, CorporateActions.of(actions))) == pytest.approx([100.0, 130.0])


def test_a_vendor_factor_scales_prices_and_volume_so_that_dollar_volume_stays_raw():
    bars = flat_bars({"AAA": [100.0, 50.0]})
    frame = forward_adjusted(bars, CorporateActions.of([act(D[1], "factor", 2.0)]))
    assert closes(frame) == [100.0, 100.0]
    assert (frame["close"] * frame["volume"]).to_list() == [100_000.0, 50_000.0]


@pytest.mark.parametrize("ex_date", [date(2020, 1, 4), date(2020, 1, 5)])
def test_an_ex_date_without_a_bar_applies_at_the_next_bar(ex_date):
    bars = flat_bars({"AAA": [100.0, 100.0, 50.0]})  # 2, 3 and 6 January
    assert closes(forward_adjusted(bars, CorporateActions.of([act(ex_date, "split", 2.0)]))) == [100.0] * 3


def test_actions_in_a_gap_of_missing_sessions_all_apply_at_the_next_bar():
    bars = flat_bars({"AAA": [100.0, 100.0, 100.0, 24.0]})
    gap = Bars(frame=bars.frame.filter(~pl.col("session").is_in(D[1:3])))
    actions = [act(D[1], "split", 2.0), act(D[2], "split", 2.0), act(D[3], "dividend", 1.0)]
    assert closes(forward_adjusted(gap, CorporateActions.of(actions))) == [100.0, 100.0]  # (24 + 1) * 4 / 100


@pytest.mark.parametrize("ex_date", [D[0], D[0] - timedelta(days=40), D[3] + timedelta(days=1)])
def test_an_action_on_or_before_the_first_bar_or_after_the_last_changes_nothing(ex_date):
    bars = flat_bars({"AAA": [100.0, 101.0, 102.0, 103.0]})
    actions = CorporateActions.of([act(ex_date, kind, 3.0) for kind in ("split", "dividend", "factor")])
    assert closes(forward_adjusted(bars, actions)) == [100.0, 101.0, 102.0, 103.0]


def test_an_action_touches_its_own_symbol_only():
    bars = flat_bars({"AAA": [100.0, 50.0], "BBB": [10.0, 10.0]})
    frame = forward_adjusted(
        bars, CorporateActions.of([act(D[1], "split", 2.0), act(D[1], "split", 7.0, symbol="ZZZ")])
    )
    assert closes(frame, "AAA") == [100.0, 100.0]
    assert closes(frame, "BBB") == [10.0, 10.0]


# The chart of a session.


def test_adjusted_ends_at_the_raw_close_and_the_raw_volume():
    bars = flat_bars({"AAA": [100.0, 98.0, 49.7, 51.3]})
    actions = CorporateActions.of([act(D[1], "dividend", 2.0), act(D[2], "split", 2.0)])
    frame = adjusted(bars, actions, as_of=D[3])
    # Growth is 1, 100/98, 200/98, 200/98: the first bar is divided by 200/98, its volume multiplied by 2.
    assert closes(frame) == pytest.approx([49.0, 49.0, 49.7, 51.3], rel=1e-15)
    assert closes(frame)[-1] == 51.3
    assert frame["volume"].to_list() == [2000.0, 2000.0, 1000.0, 1000.0]
    assert frame["raw_close"].to_list() == [100.0, 98.0, 49.7, 51.3]


def test_adjusted_as_of_a_session_knows_no_later_bar_and_no_later_action():
    bars = flat_bars({"AAA": [100.0, 98.0, 49.7, 51.3]})
    actions = CorporateActions.of([act(D[1], "dividend", 2.0), act(D[2], "split", 2.0)])
    assert closes(adjusted(bars, actions, as_of=D[1])) == [98.0, 98.0]
    assert closes(adjusted(bars, actions, as_of=D[0])) == [100.0]


def test_adjusted_applies_an_action_from_its_ex_date_also_where_it_was_recorded_later():
    bars = flat_bars({"AAA": [100.0, 50.0, 50.0]})
    late = CorporateActions.of([act(D[1], "split", 2.0, known_at=D[2])])
    assert closes(adjusted(bars, late, as_of=D[0])) == [100.0]
    assert closes(adjusted(bars, late, as_of=D[1])) == [50.0, 50.0]


def test_adjusted_ends_each_symbol_at_its_own_last_close():
    bars = Bars(frame=flat_bars({"AAA": [100.0, 50.0, 51.0], "BBB": [10.0, 5.0, 6.0]}).frame[:5])
    actions = CorporateActions.of([act(D[1], "split", 2.0, symbol=s) for s in ("AAA", "BBB")])
    frame = adjusted(bars, actions, as_of=D[5])
    assert closes(frame, "AAA") == [50.0, 50.0, 51.0]
    assert closes(frame, "BBB") == [5.0, 5.0]


# Factors from a vendor's adjusted close.


def vendor(seed: int = 0, count: int = 120) -> tuple[pl.DataFrame, dict[date, float]]:
    """Raw and adjusted closes of 50 dollars and more with four planted factors, and those factors."""
    rng = np.random.default_rng(seed)
    days = sessions_from(count)
    planted = {days[30]: 2.0, days[60]: 1.01, days[61]: 1.004, days[90]: 0.1}
    growth = np.cumprod([planted.get(day, 1.0) for day in days])
    total_return = 200.0 * np.exp(np.cumsum(rng.normal(0, 0.01, count)))
    frame = pl.DataFrame(
        {"symbol": "AAA", "session": days, "close": total_return / growth, "adj_close": total_return / growth[-1]}
    )
    return frame, planted


def test_planted_factors_are_recovered_on_their_sessions():
    frame, planted = vendor()
    found = list(factors_from_adjusted_close(frame))
    assert [a.ex_date for a in found] == list(planted)
    assert [a.value for a in found] == pytest.approx(list(planted.values()), rel=1e-12)
    assert {a.kind for a in found} == {"factor"}


def test_cents_make_no_factors():
    frame, planted = vendor()
    found = list(factors_from_adjusted_close(frame.with_columns(pl.col("close", "adj_close").round(2))))
    assert [a.ex_date for a in found] == list(planted)
    assert [a.value for a in found] == pytest.approx(list(planted.values()), rel=1e-3)


def test_bars_adjusted_by_the_found_factors_return_what_the_vendor_says():
    frame, _ = vendor()
    prices = {name: pl.col("close") for name in ("open", "high", "low")}
    bars, _ = screen_bars(frame.with_columns(volume=1.0, **prices))
    ours = forward_adjusted(bars, factors_from_adjusted_close(frame))["close"].to_numpy()
    theirs = frame["adj_close"].to_numpy()
    np.testing.assert_allclose(ours[1:] / ours[:-1], theirs[1:] / theirs[:-1], rtol=1e-12)


@pytest.mark.parametrize("cut", [1, 30, 31, 61, 62, 100])
def test_factors_up_to_a_session_ignore_what_follows_it(cut):
    frame, _ = vendor()
    noise = frame.with_columns(adj_close=pl.when(pl.int_range(pl.len()) < cut).then("adj_close").otherwise(77.0))
    last = frame["session"][cut - 1]
    whole, spoilt = (factors_from_adjusted_close(f).select(as_of=last) for f in (frame, noise))
    assert factors_from_adjusted_close(frame[:cut]) == whole == spoilt


def test_the_level_of_the_adjusted_close_does_not_matter():
    frame, _ = vendor()
    scaled = frame.with_columns(pl.col("adj_close") * 4.0)
    assert factors_from_adjusted_close(scaled) == factors_from_adjusted_close(frame)


def test_drifting_within_the_tolerance_is_caught_up_before_it_adds_up():
    ratio = 1.0 + 0.0004 * np.arange(20)  # 4 basis points a session, below the tolerance of 10
    frame = pl.DataFrame({"symbol": "AAA", "session": sessions_from(20), "close": 100.0, "adj_close": 100.0 * ratio})
    product = np.prod([a.value for a in factors_from_adjusted_close(frame)])
    assert ratio[-1] / product == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("bad", [None, float("nan"), 0.0, -1.0, float("inf")])
@pytest.mark.parametrize("row", [0, 29, 30])
def test_an_unusable_adjusted_close_is_skipped_wherever_it_stands(bad, row):
    frame, planted = vendor()
    spoilt = frame.with_columns(adj_close=pl.when(pl.int_range(pl.len()) == row).then(bad).otherwise("adj_close"))
    found = list(factors_from_adjusted_close(spoilt))
    assert [a.value for a in found] == pytest.approx(list(planted.values()), rel=1e-12)
    assert found[0].ex_date == frame["session"][31 if row == 30 else 30]


def test_the_order_of_rows_does_not_matter():
    frame, _ = vendor()
    both = pl.concat([frame, frame.with_columns(symbol=pl.lit("BBB"))])
    shuffled = both.sample(fraction=1, shuffle=True, seed=1)
    assert factors_from_adjusted_close(shuffled) == factors_from_adjusted_close(both)
