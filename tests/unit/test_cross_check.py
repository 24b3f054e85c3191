"""Two sources held against each other."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import polars as pl
from support.markets import make_bars
from support.shared_data import shared_parquet

from swiftbolt.actions import CorporateAction, CorporateActions, Kind
from swiftbolt.bars import Bars
from swiftbolt.findings import Findings
from swiftbolt.providers.cross_check import disagreements
from swiftbolt.providers.files import read_market_data

OURS = make_bars(["A", "B"], 40, seed=3, end=date(2013, 3, 1))
SESSIONS = OURS.select(["A"]).frame["session"].to_list()
NONE = CorporateActions.of()


def with_closes(bars: Bars, symbol: str, factors: Mapping[int, float], decimals: int = 8) -> Bars:
    """``bars`` with the closes of ``symbol`` at some places of its history multiplied."""
    by_session = {SESSIONS[place]: factor for place, factor in factors.items()}
    factor = pl.col("session").replace_strict(by_session, default=1.0, return_dtype=pl.Float64)
    changed = pl.when(pl.col("symbol") == symbol).then((pl.col("close") * factor).round(decimals))
    return flat(bars.frame.with_columns(close=changed.otherwise("close")))


def flat(frame: pl.DataFrame) -> Bars:
    """Bars that stood at their close all day, so that any close will do."""
    return Bars(frame=frame.with_columns(pl.col("close").alias(name) for name in ("open", "high", "low")))


def without(bars: Bars, symbol: str, *places: int) -> Bars:
    gone = (pl.col("symbol") == symbol) & pl.col("session").is_in([SESSIONS[place] for place in places])
    return Bars(frame=bars.frame.filter(~gone))


def action(kind: Kind, place: int, value: float, symbol: str = "A") -> CorporateActions:
    return CorporateActions.of([CorporateAction(symbol=symbol, ex_date=SESSIONS[place], kind=kind, value=value)])


def told(found: Findings) -> list[tuple[str, date, str]]:
    return list(found.frame.select("symbol", "session", "detail").iter_rows())


def close_of(bars: Bars, symbol: str, place: int) -> float:
    return float(bars.frame.filter(pl.col("symbol") == symbol)["close"][place])


# Closes and sessions.


def test_a_source_agrees_with_itself():
    actions = action("split", 20, 2.0)
    assert disagreements(OURS, OURS, actions, actions) == Findings.none()


def test_closes_further_apart_than_the_tolerance_are_reported_with_both_values_and_closer_ones_are_not():
    theirs = with_closes(OURS, "A", {10: 1.004, 20: 1.006, 30: 0.994})
    found = disagreements(OURS, theirs, NONE, NONE)
    assert [row[:2] for row in told(found)] == [("A", SESSIONS[20]), ("A", SESSIONS[30])]
    ours, other = close_of(OURS, "A", 20), close_of(theirs, "A", 20)
    assert told(found)[0][2] == f"close {ours:g} in ours, {other:g} in theirs (+0.60%)"
    assert found.frame["kind"].unique().to_list() == ["source_mismatch"]
    assert found.frame["known_from"].equals(found.frame["session"])


def test_the_tolerance_can_be_chosen():
    theirs = with_closes(OURS, "A", {20: 1.006})
    assert len(disagreements(OURS, theirs, NONE, NONE, tolerance=0.01)) == 0


def test_a_session_that_only_one_has_is_reported_with_whose_it_is():
    found = disagreements(without(OURS, "A", 7), without(OURS, "B", 9), NONE, NONE)
    assert told(found) == [
        ("A", SESSIONS[7], f"only theirs has the session (close {close_of(OURS, 'A', 7):g})"),
        ("B", SESSIONS[9], f"only ours has the session (close {close_of(OURS, 'B', 9):g})"),
    ]


def test_sessions_before_or_after_the_shorter_history_and_symbols_of_one_source_are_not_disputed():
    theirs = OURS.select(["A"], SESSIONS[5], SESSIONS[30])
    early, late = action("split", 2, 2.0), action("dividend", 35, 1.0)
    both = CorporateActions.from_frame(pl.concat([early.frame, late.frame]))
    assert disagreements(OURS, theirs, both, NONE) == Findings.none()


# Stretches of one ratio.


def test_a_source_adjusted_for_a_later_split_is_one_finding_that_says_so():
    split = action("split", 25, 4.0)
    theirs = with_closes(OURS, "A", dict.fromkeys(range(25), 0.25), decimals=2)
    (row,) = disagreements(OURS, theirs, split, split).frame.to_dicts()
    assert (row["session"], row["known_from"]) == (SESSIONS[0], SESSIONS[24])
    assert "theirs is 0.25" in row["detail"]
    assert f"on 25 sessions up to {SESSIONS[24]}" in row["detail"]
    assert row["detail"].endswith("theirs is adjusted for later splits of 4 in all, and should be raw")


def test_it_is_ours_that_is_adjusted_where_ours_is_the_smaller():
    ours = with_closes(OURS, "A", dict.fromkeys(range(25), 0.25))
    split = action("split", 25, 4.0)
    (row,) = disagreements(ours, OURS, split, split).frame.to_dicts()
    assert row["detail"].endswith("ours is adjusted for later splits of 4 in all, and should be raw")


def test_two_splits_make_two_stretches_each_with_its_own_ratio():
    factors = {**dict.fromkeys(range(10), 1 / 6), **dict.fromkeys(range(10, 25), 1 / 2)}
    splits = CorporateActions.from_frame(pl.concat([action("split", 10, 3.0).frame, action("split", 25, 2.0).frame]))
    found = disagreements(OURS, with_closes(OURS, "A", factors), splits, splits)
    assert [row[1] for row in told(found)] == [SESSIONS[0], SESSIONS[10]]
    assert "splits of 6 in all" in told(found)[0][2]
    assert "splits of 2 in all" in told(found)[1][2]


def test_a_ratio_that_no_split_explains_is_not_put_down_to_one():
    found = disagreements(OURS, with_closes(OURS, "A", dict.fromkeys(range(40), 0.9)), NONE, NONE)
    (row,) = told(found)
    assert row[2].endswith("one of the two is probably adjusted, or another security")


def test_pence_that_are_rounded_to_cents_are_still_one_stretch():
    low = Bars(frame=OURS.frame.with_columns(pl.col("open", "high", "low", "close") / 100))
    theirs = with_closes(low, "A", dict.fromkeys(range(40), 0.25), decimals=2)
    found = disagreements(low, theirs, NONE, NONE)
    assert len(found) == 1


def test_a_few_sessions_of_one_ratio_are_listed_one_by_one_and_an_agreement_in_between_ends_a_stretch():
    theirs = with_closes(OURS, "A", dict.fromkeys([1, 2, 3, 4, 6, 7, 8, 9], 1.1))
    assert len(disagreements(OURS, theirs, NONE, NONE)) == 8


def test_a_ratio_that_creeps_is_no_single_stretch():
    theirs = with_closes(OURS, "A", {place: 0.8 + 0.004 * place for place in range(40)})
    assert len(disagreements(OURS, theirs, NONE, NONE)) > 10


def test_a_stretch_ends_with_its_symbol():
    theirs = with_closes(with_closes(OURS, "A", dict.fromkeys(range(40), 0.5)), "B", dict.fromkeys(range(40), 0.5))
    assert [row[0] for row in told(disagreements(OURS, theirs, NONE, NONE))] == ["A", "B"]


# Splits and dividends.


def test_an_action_that_only_one_has_is_reported_with_its_value():
    found = disagreements(OURS, OURS, action("split", 5, 2.0), action("dividend", 6, 0.25))
    assert told(found) == [
        ("A", SESSIONS[5], "only ours has a split of 2"),
        ("A", SESSIONS[6], "only theirs has a dividend of 0.25"),
    ]


def test_values_of_one_action_may_differ_by_the_tolerance_only():
    within = disagreements(OURS, OURS, action("dividend", 5, 1.0), action("dividend", 5, 1.005))
    beyond = disagreements(OURS, OURS, action("dividend", 5, 1.0), action("dividend", 5, 1.006))
    assert len(within) == 0
    assert told(beyond) == [("A", SESSIONS[5], "dividend of 1 in ours, of 1.006 in theirs")]


def test_two_dividends_of_one_day_are_as_good_as_their_sum():
    halves = CorporateActions.from_frame(
        pl.concat([action("dividend", 5, 0.2).frame, action("dividend", 5, 0.3).frame])
    )
    assert len(disagreements(OURS, OURS, halves, action("dividend", 5, 0.5))) == 0


def test_actions_are_not_compared_where_a_source_has_factors_instead():
    ours = CorporateActions.from_frame(pl.concat([action("factor", 5, 2.0).frame, action("split", 5, 2.0, "B").frame]))
    found = disagreements(OURS, OURS, ours, action("split", 5, 2.0))
    assert told(found) == [("B", SESSIONS[5], "only ours has a split of 2")]


# Real prices.


def test_a_split_adjusted_copy_of_real_prices_is_a_few_stretches_and_not_thousands_of_rows():
    data = read_market_data(shared_parquet("sp500_raw_1999_202104"), ["AAPL", "GE", "NVDA"])
    adjusted = split_adjusted(data.bars, data.actions)
    found = disagreements(data.bars, adjusted, data.actions, data.actions)
    explained = found.frame.filter(pl.col("detail").str.contains("theirs is adjusted for later splits"))
    first = data.bars.frame.group_by("symbol").agg(first=pl.col("session").min())
    splits = (
        data.actions.frame.filter(kind="split").join(first, on="symbol").filter(pl.col("ex_date") > pl.col("first"))
    )
    assert len(explained) == len(found) == len(splits) > 3


def split_adjusted(bars: Bars, actions: CorporateActions) -> Bars:
    """Closes divided by every split that came later, rounded to four places as vendors do."""
    frame = bars.frame
    for each in actions:
        if each.kind == "split":
            before = (pl.col("symbol") == each.symbol) & (pl.col("session") < each.ex_date)
            frame = frame.with_columns(close=pl.when(before).then(pl.col("close") / each.value).otherwise("close"))
    return flat(frame.with_columns(pl.col("close").round(4)))
