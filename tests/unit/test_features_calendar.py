"""Days to and from dividends, the week and the month, and the market's return as it was first known."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest
from support.markets import make_bars

from swiftbolt.actions import CorporateAction, CorporateActions
from swiftbolt.bars import PRICES, Bars
from swiftbolt.features import DEFAULT_SPEC, build_features
from swiftbolt.features.calendar import DIVIDEND_DAYS
from swiftbolt.features.views import BarsAsKnown
from swiftbolt.findings import FINDING_SCHEMA, Findings

NO_ACTIONS = CorporateActions.of()
NO_FINDINGS = Findings.none()
BARS = make_bars(["AA"], DEFAULT_SPEC.warmup + 30, seed=1, end=date(2013, 3, 1))


def dividend(ex_date: date, known_at: date | None = None) -> CorporateAction:
    return CorporateAction(symbol="AA", ex_date=ex_date, kind="dividend", value=0.5, known_at=known_at)


def on(day: date, *actions: CorporateAction) -> tuple[float, float]:
    """Days since the last dividend and to the next."""
    frame = build_features(BARS, CorporateActions.of(actions)).frame.filter(pl.col("session") == day)
    return frame["days_since_dividend"].item(), frame["days_to_dividend"].item()


def test_days_since_a_dividend_are_counted_from_monday_to_friday_and_begin_at_its_ex_date() -> None:
    ex = dividend(date(2013, 2, 15))  # a Friday before a holiday
    assert on(date(2013, 2, 15), ex)[0] == 0
    assert on(date(2013, 2, 19), ex)[0] == 2
    assert on(date(2013, 2, 14), ex)[0] == DIVIDEND_DAYS


def test_a_declared_dividend_counts_from_the_day_it_was_declared() -> None:
    ex = dividend(date(2013, 3, 8), known_at=date(2013, 2, 20))
    assert on(date(2013, 2, 19), ex) == (DIVIDEND_DAYS, DIVIDEND_DAYS)
    assert on(date(2013, 2, 20), ex) == (DIVIDEND_DAYS, 12)
    assert on(date(2013, 3, 1), ex) == (DIVIDEND_DAYS, 5)


def test_of_two_declared_dividends_the_nearer_counts() -> None:
    both = [dividend(date(2013, 2, 25), known_at=date(2013, 2, 1)), dividend(date(2013, 3, 8), date(2013, 2, 4))]
    assert on(date(2013, 2, 22), *both)[1] == 1
    assert on(date(2013, 2, 25), *both)[1] == 9


def test_an_undeclared_dividend_is_expected_after_as_many_days_as_lay_between_the_last_two() -> None:
    past = [dividend(date(2012, 12, 3)), dividend(date(2013, 2, 4))]  # 45 weekdays apart
    assert on(date(2013, 2, 4), *past) == (0, 45)
    assert on(date(2013, 2, 25), *past) == (15, 30)
    assert on(date(2013, 2, 1), *past) == (44, DIVIDEND_DAYS)  # one alone foretells nothing


def test_a_dividend_that_is_overdue_is_expected_the_next_day() -> None:
    assert on(date(2013, 3, 1), dividend(date(2013, 1, 2)), dividend(date(2013, 1, 16)))[1] == 1


def test_two_payments_of_one_day_are_one_dividend() -> None:
    special = CorporateAction(symbol="AA", ex_date=date(2013, 2, 4), kind="dividend", value=9.0)
    assert on(date(2013, 2, 25), dividend(date(2012, 12, 3)), dividend(date(2013, 2, 4)), special) == (15, 30)


def test_dividends_more_than_a_year_old_count_for_nothing() -> None:
    assert on(date(2013, 3, 1), dividend(date(2012, 2, 1)), dividend(date(2012, 2, 20))) == (
        DIVIDEND_DAYS,
        DIVIDEND_DAYS,
    )


def test_the_last_session_of_a_month_has_the_weekdays_after_it_left() -> None:
    frame = build_features(BARS, NO_ACTIONS).frame.filter(
        pl.col("session").is_between(date(2013, 2, 25), date(2013, 3, 1))
    )
    assert frame["days_to_month_end"].to_list() == [3, 2, 1, 0, 20]
    assert frame["weekday"].to_list() == [0, 1, 2, 3, 4]


def closes(**symbols: list[float]) -> Bars:
    """Bars of the last sessions up to 1 March 2013 with the given closes."""
    frames = []
    for symbol, prices in symbols.items():
        frame = make_bars([symbol], len(prices), seed=1).frame
        frames.append(frame.with_columns(pl.Series(name, prices) for name in PRICES))
    return Bars(frame=pl.concat(frames))


def market_of(
    bars: Bars, findings: Findings = NO_FINDINGS, actions: CorporateActions = NO_ACTIONS, market: str | None = None
) -> list[float]:
    returns = BarsAsKnown(bars, actions, findings).context(market).market_return_S
    return np.exp(returns).tolist()


def test_the_market_is_the_mean_log_return_of_the_symbols_that_have_one() -> None:
    bars = closes(AA=[100.0, 110.0, 110.0], BB=[50.0, 50.0])
    assert market_of(bars) == pytest.approx([1.0, 1.1, 1.0])
    assert market_of(closes(AA=[100.0, 121.0], BB=[50.0, 50.0])) == pytest.approx([1.0, 1.1])


def test_a_symbol_may_be_the_market_and_stands_still_where_it_has_no_bar() -> None:
    bars = closes(AA=[100.0, 110.0, 121.0], BB=[50.0, 55.0, 50.0])
    gap = Bars(frame=bars.frame.filter((pl.col("symbol") == "AA") | (pl.col("close") != 55.0)))
    assert market_of(gap, market="BB") == pytest.approx([1.0, 1.0, 1.0])
    assert market_of(gap, market="AA") == pytest.approx([1.0, 1.1, 1.1])


def test_the_market_counts_splits_and_dividends() -> None:
    bars = closes(AA=[100.0, 50.0, 49.0])
    last, before = bars.last_session, bars.frame["session"][1]
    actions = [
        CorporateAction(symbol="AA", ex_date=before, kind="split", value=2.0),
        CorporateAction(symbol="AA", ex_date=last, kind="dividend", value=1.0),
    ]
    assert market_of(bars, actions=CorporateActions.of(actions)) == pytest.approx([1.0, 1.0, 1.0])


def test_the_market_is_not_revised_when_a_bar_is_found_out_later() -> None:
    bars = closes(AA=[100.0, 10.0, 110.0])
    day, last = bars.frame["session"][1], bars.last_session
    found = {"symbol": "AA", "session": day, "kind": "bad_tick", "detail": ""}
    later = Findings.from_frame(pl.DataFrame([found | {"known_from": last}], FINDING_SCHEMA))
    assert market_of(bars, later) == pytest.approx([1.0, 0.1, 1.1])
    at_once = Findings.from_frame(pl.DataFrame([found | {"known_from": day}], FINDING_SCHEMA))
    assert market_of(bars, at_once) == pytest.approx([1.0, 1.0, 1.1])


def test_a_symbol_that_missed_sessions_is_measured_against_all_the_market_did_meanwhile() -> None:
    bars = make_bars(["AA", "BB"], DEFAULT_SPEC.warmup + 60, seed=2)
    # BB is AA at twice the price, less some of its bars: it moves with the market one for one all the same.
    own = bars.frame.filter(pl.col("symbol") == "AA")
    gone = pl.int_range(pl.len()) % 7 == 3
    twin = own.with_columns(pl.col(PRICES) * 2, symbol=pl.lit("BB")).filter(~gone)
    frame = build_features(Bars(frame=pl.concat([own, twin])), NO_ACTIONS, market="AA").frame
    last = frame.filter(pl.col("symbol") == "BB")[-1]
    assert last["beta_60d"].item() == pytest.approx(1.0)
    assert last["residual_momentum_20d"].item() == pytest.approx(0.0, abs=1e-12)
    assert last["idiosyncratic_volatility_60d"].item() == 0.0
