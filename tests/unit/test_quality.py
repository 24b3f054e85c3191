"""Each check on bars whose usual move is known: closes that go up and down by one per cent, so sigma is 1.5 %."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import polars as pl
import pytest
from support.by_hand import FIRST, flat_frame, sessions_from

from swiftbolt.actions import CorporateAction, CorporateActions
from swiftbolt.bars import PRICES, Bars
from swiftbolt.findings import Findings
from swiftbolt.quality import inspect

NO_ACTIONS = CorporateActions.of()
AT = 70  # the row with the fault: enough bars before it for every usual value
LENGTH = 80
DAYS = sessions_from(LENGTH)
NAMES = [f"S{number:02}" for number in range(60)]


def up_and_down(length: int = LENGTH, level: float = 100.0) -> list[float]:
    return [level * (1.01 if row % 2 else 1.0) for row in range(length)]


def market(closes: Mapping[str, Sequence[float]], first: date = FIRST) -> pl.DataFrame:
    """Bars that open at the close before and range a tenth of a per cent beyond open and close."""
    frames = [flat_frame(symbol, closes[symbol], first=first) for symbol in sorted(closes)]
    before = pl.col("close").shift(1).over("symbol").fill_null(pl.col("close"))
    return (
        pl.concat(frames)
        .with_columns(open=before)
        .with_columns(high=pl.max_horizontal("open", "close") * 1.001, low=pl.min_horizontal("open", "close") * 0.999)
    )


def with_row(frame: pl.DataFrame, row: int, symbol: str = "AAA", **values: float) -> pl.DataFrame:
    """``frame`` with other values in the ``row``-th bar of ``symbol``."""
    here = (pl.col("symbol") == symbol) & (pl.int_range(pl.len()).over("symbol") == row)
    return frame.with_columns(
        pl.when(here).then(pl.lit(value)).otherwise(pl.col(name)).alias(name) for name, value in values.items()
    )


def without_rows(frame: pl.DataFrame, *rows: int, symbol: str = "AAA") -> pl.DataFrame:
    here = (pl.col("symbol") == symbol) & pl.int_range(pl.len()).over("symbol").is_in(rows)
    return frame.filter(~here)


def found(frame: pl.DataFrame, kind: str, *actions: CorporateAction) -> list[tuple[str, date, date, str]]:
    """Symbol, session, known_from and detail of every finding of a kind."""
    findings = inspect(Bars(frame=frame), CorporateActions.of(actions)).frame.filter(pl.col("kind") == kind)
    return [tuple(row) for row in findings.select("symbol", "session", "known_from", "detail").iter_rows()]


def split(value: float, row: int = AT) -> CorporateAction:
    return CorporateAction(symbol="AAA", ex_date=DAYS[row], kind="split", value=value)


def dividend(value: float, row: int = AT) -> CorporateAction:
    return CorporateAction(symbol="AAA", ex_date=DAYS[row], kind="dividend", value=value)


def test_nothing_is_found_in_sound_bars_nor_in_none() -> None:
    assert inspect(Bars(frame=market({name: up_and_down() for name in NAMES[:6]})), NO_ACTIONS) == Findings.none()
    assert inspect(Bars(frame=market({"AAA": [1.0]}).clear()), NO_ACTIONS) == Findings.none()


# bad_tick


def test_a_bar_a_tenth_of_its_neighbours_is_a_bad_tick_known_from_the_next_bar() -> None:
    tenth = dict.fromkeys(PRICES, 10.0)
    frame = with_row(with_row(market({"AAA": up_and_down()}), AT, **tenth), AT + 1, open=100.0, low=99.9)
    detail = "log return -2.313, then 2.313; sigma 0.0148"
    assert found(frame, "bad_tick") == [("AAA", DAYS[AT], DAYS[AT + 1], detail)]


def test_a_bad_tick_of_the_last_session_is_not_known_yet() -> None:
    frame = with_row(market({"AAA": up_and_down(AT + 1)}), AT, **dict.fromkeys(PRICES, 10.0))
    assert found(frame, "bad_tick") == []


def test_a_close_alone_that_is_far_off_between_sound_opens_is_a_bad_tick() -> None:
    frame = with_row(market({"AAA": up_and_down()}), AT, close=130.0, high=130.0)
    frame = with_row(frame, AT + 1, open=100.0, high=101.1, low=99.9)
    assert [row[:3] for row in found(frame, "bad_tick")] == [("AAA", DAYS[AT], DAYS[AT + 1])]


def test_a_crash_that_recovers_through_the_prices_between_is_none() -> None:
    frame = with_row(market({"AAA": up_and_down()}), AT, close=70.0, low=70.0)
    frame = with_row(frame, AT + 1, open=72.0, low=71.0)
    assert found(frame, "bad_tick") == []


def test_a_jump_that_stays_or_comes_back_later_is_no_bad_tick() -> None:
    stays = [*up_and_down(AT), *up_and_down(10, level=150.0)]
    returns = [*up_and_down(AT), *up_and_down(3, level=150.0), *up_and_down(7)]
    assert found(market({"AAA": stays, "BBB": returns}), "bad_tick") == []


def test_a_round_trip_of_nine_sigmas_is_no_bad_tick_and_one_of_twelve_is() -> None:
    def tick(factor: float) -> pl.DataFrame:
        frame = with_row(market({"AAA": up_and_down()}), AT, **dict.fromkeys(PRICES, 101.0 * factor))
        return with_row(frame, AT + 1, open=101.0, high=101.1, low=100.9)

    assert found(tick(1 + 9 * 0.0148), "bad_tick") == []
    assert len(found(tick(1 + 12 * 0.0148), "bad_tick")) == 1


def test_a_symbol_of_fewer_than_twenty_bars_has_no_usual_moves_to_compare_with() -> None:
    frame = with_row(market({"AAA": up_and_down(25)}), 15, **dict.fromkeys(PRICES, 10.0))
    assert found(with_row(frame, 16, open=100.0, low=99.9), "bad_tick") == []


def test_a_price_halved_by_a_split_and_doubled_by_the_next_day_is_no_bad_tick() -> None:
    frame = with_row(market({"AAA": up_and_down()}), AT, **dict.fromkeys(PRICES, 50.0))
    frame = with_row(frame, AT + 1, open=100.0, low=99.9)
    assert len(found(frame, "bad_tick")) == 1
    assert found(frame, "bad_tick", split(2.0), split(0.5, AT + 1)) == []


# split_like_jump


def halved(opens: float = 50.0, closes: float = 50.5, volume: float = 2000.0) -> pl.DataFrame:
    """A price that halves after a close of 101, twice the shares being traded."""
    prices = [*up_and_down(AT), closes, *up_and_down(LENGTH - AT - 1, level=closes)]
    frame = with_row(market({"AAA": prices}), AT, open=opens, high=max(opens, closes), low=min(opens, closes))
    return with_row(frame, AT, volume=volume)


def test_a_halved_price_without_a_split_on_file_is_known_at_its_own_session() -> None:
    detail = "close 50.5 after 101.0, like a split of 2.0"
    assert found(halved(), "split_like_jump") == [("AAA", DAYS[AT], DAYS[AT], detail)]


def test_a_tripled_price_is_like_a_split_of_a_third() -> None:
    prices = [*up_and_down(AT), *up_and_down(10, level=300.0)]
    frame = with_row(market({"AAA": prices}), AT, open=301.0, high=301.0, low=299.0, volume=333.0)
    assert [row[3] for row in found(frame, "split_like_jump")] == ["close 300.0 after 101.0, like a split of 0.3333"]


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("opens a third down", halved(opens=67.0)),
        ("closes 8 % off half", halved(closes=46.5)),
        ("traded at ten times the usual dollars", halved(volume=20_000.0)),
        ("has no volume at all", halved().with_columns(volume=pl.lit(0.0))),
    ],
)
def test_a_crash_is_not_like_a_split(name: str, frame: pl.DataFrame) -> None:
    assert found(frame, "split_like_jump") == [], name


def test_a_fall_by_a_quarter_is_like_no_split_as_whole_markets_fall_that_far() -> None:
    prices = [*up_and_down(AT), *up_and_down(10, level=101.0 * 0.75)]
    frame = with_row(market({"AAA": prices}), AT, open=75.75, high=76.0)
    assert found(frame, "split_like_jump") == []


def test_an_absurd_rise_is_found_the_day_it_comes_and_not_again() -> None:
    """From dollars to cents: a hundred times the price, at the same volume."""
    closes = [close * (100 if row >= AT else 1) for row, close in enumerate(up_and_down())]
    (only,) = found(market({"AAA": closes}), "absurd_rise")
    assert only[:3] == ("AAA", DAYS[AT], DAYS[AT])


@pytest.mark.parametrize("factor", [0.1, 0.01])
def test_the_way_back_from_a_bad_tick_is_no_absurd_rise(factor: float) -> None:
    frame = with_row(market({"AAA": up_and_down()}), AT, **dict.fromkeys(PRICES, 100.0 * factor))
    assert found(frame, "absurd_rise") == []
    assert [row[1] for row in found(frame, "bad_tick")] == [DAYS[AT]]


def test_neither_a_consolidation_on_file_nor_a_rise_to_seven_times_is_absurd() -> None:
    tenfold = [close * (10 if row >= AT else 1) for row, close in enumerate(up_and_down())]
    assert found(market({"AAA": tenfold}), "absurd_rise", split(0.1)) == []
    sevenfold = [close * (7 if row >= AT else 1) for row, close in enumerate(up_and_down())]
    assert found(market({"AAA": sevenfold}), "absurd_rise") == []


@pytest.mark.parametrize("action", [split(2.0), split(2.0, AT - 2), dividend(50.0)])
def test_an_action_on_file_explains_the_jump(action: CorporateAction) -> None:
    assert found(halved(), "split_like_jump", action) == []


def test_a_small_dividend_explains_nothing_and_neither_does_a_split_of_the_week_before() -> None:
    assert len(found(halved(), "split_like_jump", dividend(0.5))) == 1
    assert len(found(halved(), "split_like_jump", split(2.0, AT - 4))) == 1


def test_the_way_back_from_a_bad_tick_is_like_no_split() -> None:
    frame = with_row(market({"AAA": up_and_down()}), AT, **dict.fromkeys(PRICES, 10.0))
    frame = with_row(frame, AT + 1, open=100.0, low=99.9)
    assert [row[1] for row in found(frame, "split_like_jump")] == [DAYS[AT]]  # as it looks at that session's close


# stale_close


def rounds(phase: int = 0, length: int = LENGTH) -> list[float]:
    """Closes that go 100, 101, 102 and round again: none repeats, and if one did the next would not."""
    return [100.0 + (row + phase) % 3 for row in range(length)]


def universe(symbols: int = 6, length: int = LENGTH) -> pl.DataFrame:
    """AAA and others that go round at other times, so that nothing follows the universe."""
    others = {name: rounds(place % 3, length) for place, name in enumerate(NAMES[: symbols - 1])}
    return market({"AAA": rounds(length=length), **others})


FLAT = dict.fromkeys(PRICES, 100.0)  # the close of row AT - 1 of AAA


def test_a_bar_that_is_nothing_but_the_close_before_is_stale() -> None:
    detail = "open, high and low are 100.0, the close before"
    assert found(with_row(universe(), AT, **FLAT), "stale_close") == [("AAA", DAYS[AT], DAYS[AT], detail)]


def test_no_close_is_stale_in_a_universe_of_four() -> None:
    assert found(with_row(universe(symbols=4), AT, **FLAT), "stale_close") == []


def test_flat_bars_of_a_thinly_traded_symbol_are_not_stale() -> None:
    frame = universe()
    for row in (30, 40):
        frame = with_row(frame, row, **dict.fromkeys(PRICES, 100.5))
    assert found(with_row(frame, AT, **FLAT), "stale_close") == []


def whole_bar(frame: pl.DataFrame, symbol: str = "AAA", row: int = AT) -> pl.DataFrame:
    """The bar before, once more."""
    before = frame.filter(pl.col("symbol") == symbol).row(row - 1, named=True)
    return with_row(frame, row, symbol, **{name: before[name] for name in PRICES})


def test_a_whole_bar_that_repeats_is_stale() -> None:
    detail = "open, high, low and close repeat; so they do for 1 of 6 symbols"
    assert found(whole_bar(universe()), "stale_close") == [("AAA", DAYS[AT], DAYS[AT], detail)]


def test_a_whole_bar_that_repeats_may_be_chance_where_closes_often_do() -> None:
    frame = universe()
    for row in (31, 40, 52):
        frame = with_row(frame, row, close=100.0, low=99.0)  # as on the row before
    assert found(whole_bar(frame), "stale_close") == []


def test_whole_bars_of_five_symbols_at_once_are_stale_whatever_their_history() -> None:
    young = universe(symbols=7, length=40)
    four = young
    for name in NAMES[:4]:
        four = whole_bar(four, name, 30)
    five = whole_bar(four, NAMES[4], 30)
    assert found(four, "stale_close") == []
    assert [row[0] for row in found(five, "stale_close")] == NAMES[:5]


def test_a_close_that_merely_repeats_is_not_stale() -> None:
    assert found(with_row(universe(), AT, close=100.0, high=101.2), "stale_close") == []


@pytest.mark.parametrize(("count", "stale"), [(19, 0), (20, 20)])
def test_a_crowd_of_repeated_closes_is_stale(count: int, stale: int) -> None:
    frame = universe(symbols=60)
    for place, name in enumerate(NAMES[:count]):
        frame = with_row(frame, AT, name, close=rounds(place % 3)[AT - 1], high=103.0, low=99.0)
    details = [row[3] for row in found(frame, "stale_close")]
    assert details == ["20 of 60 closes repeat, usually 0.0 %"] * stale


def test_a_close_that_repeats_while_all_it_usually_follows_falls_by_a_tenth_is_stale() -> None:
    prices = [*up_and_down(AT), *up_and_down(LENGTH - AT, level=90.9)]
    closes = {name: [price * (1 + 0.001 * (row % 3)) for row, price in enumerate(prices)] for name in NAMES[:6]}
    lagging = [price * (1 + 0.001 * (row % 5)) for row, price in enumerate(prices)]
    lagging[AT] = lagging[AT - 1]
    ((symbol, session, _, detail),) = found(market({"AAA": lagging, **closes}), "stale_close")
    assert (symbol, session) == ("AAA", DAYS[AT])
    assert detail.startswith("universe -0.1")


def test_a_close_that_repeats_on_the_day_of_an_action_is_not_stale() -> None:
    assert found(with_row(universe(), AT, **FLAT), "stale_close", dividend(1.0)) == []


def test_a_close_that_repeats_after_a_missing_session_is_not_stale() -> None:
    frame = with_row(universe(), AT, **dict.fromkeys(PRICES, 102.0))  # the close of row AT - 2
    assert found(without_rows(frame, AT - 1), "stale_close") == []


# zero_volume


def test_a_session_without_volume_is_found_in_a_symbol_that_otherwise_trades() -> None:
    frame = with_row(market({"AAA": up_and_down()}), AT, volume=0.0)
    detail = "0.0 % of the sessions before without volume"
    assert found(frame, "zero_volume") == [("AAA", DAYS[AT], DAYS[AT], detail)]


def test_an_index_never_has_volume_and_a_young_symbol_is_not_known_to_have_any() -> None:
    index = market({"AAA": up_and_down()}).with_columns(volume=pl.lit(0.0))
    young = with_row(market({"BBB": up_and_down()}), 10, "BBB", volume=0.0)
    assert found(pl.concat([index, young]), "zero_volume") == []


def test_a_vendor_that_no_longer_gives_volumes_is_found_for_a_tenth_of_the_sessions_compared() -> None:
    frame = market({"AAA": up_and_down(200)}).with_columns(
        volume=pl.when(pl.int_range(pl.len()) < 100).then(pl.col("volume")).otherwise(0.0)
    )
    assert len(found(frame, "zero_volume")) == 6  # of 60


# missing_session


def test_each_missing_session_is_known_from_the_bar_that_ends_the_gap() -> None:
    frame = without_rows(market({"AAA": up_and_down()}), AT, AT + 1)
    assert found(frame, "missing_session") == [
        ("AAA", DAYS[AT], DAYS[AT + 2], ""),
        ("AAA", DAYS[AT + 1], DAYS[AT + 2], ""),
    ]


def test_a_long_gap_is_one_finding_with_its_length() -> None:
    five, six = (without_rows(market({"AAA": up_and_down()}), *range(40, 40 + count)) for count in (5, 6))
    assert len(found(five, "missing_session")) == 5
    assert found(six, "missing_session") == [("AAA", DAYS[40], DAYS[46], "6 sessions in a row")]


def test_a_symbol_that_starts_late_or_ends_early_misses_no_session() -> None:
    frame = market({"AAA": up_and_down(), "BBB": up_and_down()})
    assert found(without_rows(frame, *range(5), *range(60, LENGTH)), "missing_session") == []


def test_before_1970_the_calendar_has_no_holidays_to_tell_gaps_from() -> None:
    early = market({"AAA": up_and_down(20)}, first=date(1965, 6, 25))  # holds the fourth of July, observed on the fifth
    assert found(early.filter(pl.col("session") != date(1965, 7, 5)), "missing_session") == []


def test_after_a_long_gap_nothing_is_compared_with_what_came_before() -> None:
    frame = market({"AAA": [*up_and_down(40), *up_and_down(40, level=50.0)]})
    frame = with_row(without_rows(frame, *range(40, 50)), 40, volume=0.0)
    kinds = inspect(Bars(frame=frame), NO_ACTIONS).counts()
    assert kinds == {"missing_session": 1}


# implausible_action, split_without_jump


def test_a_dividend_above_three_tenths_of_the_close_before_is_implausible() -> None:
    frame = market({"AAA": up_and_down()})
    detail = "dividend 31.0, 0.31 of the close before"
    assert found(frame, "implausible_action", dividend(31.0)) == [("AAA", DAYS[AT], DAYS[AT], detail)]
    assert found(frame, "implausible_action", dividend(30.0)) == []


def test_a_dividend_is_weighed_per_share_after_the_split_of_its_day() -> None:
    fourfold = [*up_and_down(AT), *up_and_down(10, level=404.0)]
    merged = split(0.25)  # the close before was 101, so 404 for a share of today
    assert found(market({"AAA": fourfold}), "implausible_action", merged, dividend(100.0)) == []
    assert len(found(market({"AAA": fourfold}), "implausible_action", merged, dividend(130.0))) == 1


@pytest.mark.parametrize(("ratio", "count"), [(100.0, 0), (101.0, 1), (0.01, 0), (0.0099, 1)])
def test_a_split_beyond_a_hundred_to_one_is_implausible(ratio: float, count: int) -> None:
    assert len(found(market({"AAA": up_and_down()}), "implausible_action", split(ratio))) == count


def test_a_split_that_the_price_does_not_show_is_found() -> None:
    detail = "split 2.0, close 100.0 after 101.0"
    frame = market({"AAA": up_and_down()})
    assert found(frame, "split_without_jump", split(2.0)) == [("AAA", DAYS[AT], DAYS[AT], detail)]
    factor = CorporateAction(symbol="AAA", ex_date=DAYS[AT], kind="factor", value=2.0)
    assert [row[3] for row in found(frame, "split_without_jump", factor)] == ["factor 2.0, close 100.0 after 101.0"]


def test_a_split_of_the_second_session_is_judged_though_no_usual_move_is_known() -> None:
    frame = market({"AAA": up_and_down()})
    assert len(found(frame, "split_without_jump", split(0.3, row=1))) == 1
    assert found(frame, "split_without_jump", split(1.25, row=1)) == []


def test_a_split_that_the_price_shows_or_that_is_too_small_to_show_is_none() -> None:
    assert found(halved(), "split_without_jump", split(2.0)) == []
    assert found(market({"AAA": up_and_down()}), "split_without_jump", split(1.05)) == []


def test_an_action_before_the_second_bar_or_of_another_symbol_is_compared_with_nothing() -> None:
    other = CorporateAction(symbol="ZZZ", ex_date=DAYS[AT], kind="split", value=1000.0)
    assert inspect(Bars(frame=market({"AAA": up_and_down()})), CorporateActions.of([other, split(500.0, 0)])) == (
        Findings.none()
    )


def test_an_action_without_a_bar_of_its_day_is_judged_at_the_next_bar() -> None:
    frame = without_rows(market({"AAA": up_and_down()}), AT)
    assert [row[1:3] for row in found(frame, "split_without_jump", split(2.0))] == [(DAYS[AT + 1], DAYS[AT + 1])]
