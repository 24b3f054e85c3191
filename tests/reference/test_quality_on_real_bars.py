"""Faults that are known to lie in real panels, and the crashes in them that are none.

What is asserted of a fault was settled by a second source; see the README of the data.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from support.shared_data import shared_parquet

from swiftbolt.actions import CorporateActions
from swiftbolt.findings import Findings
from swiftbolt.providers.files import read_market_data
from swiftbolt.quality import inspect

RAW, ADJUSTED, WIKI = "sp500_raw_1999_202104", "us_cc0_2005_2017", "wiki_public_domain_raw"
FUNDS = "etf_sp100_adj_2000_2021"

# What findings may leave out of a panel: one bar in two thousand.
LARGEST_SHARE_LEFT_OUT = 5e-4


def inspected(panel: Path) -> Findings:
    data = read_market_data(panel)
    return Findings.concatenate([Findings.of_quarantine(data.quarantine), inspect(data.bars, data.actions)])


def at(findings: Findings, symbol: str, session: date) -> dict[str, date]:
    """Kind and known_from of what was found at one session of a symbol."""
    frame = findings.frame.filter((pl.col("symbol") == symbol) & (pl.col("session") == session))
    return dict(frame.select("kind", "known_from").iter_rows())


def sessions(findings: Findings, kind: str, symbol: str) -> list[date]:
    frame = findings.frame.filter((pl.col("kind") == kind) & (pl.col("symbol") == symbol))
    return frame["session"].to_list()


@pytest.fixture(scope="module")
def raw() -> Findings:
    return inspected(shared_parquet(RAW))


@pytest.fixture(scope="module")
def adjusted() -> Findings:
    return inspected(shared_parquet(ADJUSTED))


@pytest.fixture(scope="module")
def wiki() -> Findings:
    return inspected(shared_parquet(WIKI))


@pytest.fixture(scope="module")
def funds() -> Findings:
    return inspected(shared_parquet(FUNDS))


@pytest.mark.parametrize(
    ("symbol", "session", "known_from"),
    [
        ("IRM", date(2006, 2, 2), date(2006, 2, 3)),
        ("CMCSA", date(2004, 8, 2), date(2004, 8, 3)),
        ("APTV", date(2017, 11, 16), date(2017, 11, 17)),
        ("APTV", date(2017, 11, 21), date(2017, 11, 22)),
    ],
)
def test_bad_ticks_are_found_a_session_later(raw: Findings, symbol: str, session: date, known_from: date) -> None:
    assert at(raw, symbol, session)["bad_tick"] == known_from


def test_no_crash_of_these_years_is_a_bad_tick_or_a_split(raw: Findings) -> None:
    quarantining = raw.frame.filter(pl.col("kind").is_in(["bad_tick", "split_like_jump"]))
    assert set(quarantining.select("symbol", "session").iter_rows()) == {
        ("APTV", date(2017, 11, 16)),
        ("APTV", date(2017, 11, 21)),
        ("CMCSA", date(2004, 8, 2)),
        ("IRM", date(2006, 2, 2)),
        ("TRMB", date(2007, 2, 26)),
    }
    assert at(raw, "AAPL", date(2000, 9, 29)) == {}  # down 52 % and for good, without a split


def test_the_split_that_the_file_lacks_is_found_on_its_day(raw: Findings) -> None:
    assert at(raw, "TRMB", date(2007, 2, 26)) == {"split_like_jump": date(2007, 2, 26)}
    assert "stale_close" in at(raw, "TRMB", date(2007, 2, 23))


def test_actions_that_the_prices_do_not_bear_out_are_reported(raw: Findings) -> None:
    assert at(raw, "GNRC", date(2010, 2, 12)) == {"split_without_jump": date(2010, 2, 12)}
    for symbol, session in [
        ("GOOGL", date(2014, 4, 3)),
        ("MCO", date(2000, 10, 3)),
        ("TMUS", date(2013, 5, 1)),
    ]:
        assert at(raw, symbol, session) == {"implausible_action": session}


def test_a_session_on_which_the_vendor_repeated_nearly_every_bar_is_found(raw: Findings) -> None:
    stale = raw.frame.filter((pl.col("kind") == "stale_close") & (pl.col("session") == date(2003, 1, 29)))
    assert len(stale) == 231


@pytest.mark.parametrize("symbol", ["RF", "STT", "ZION"])
def test_banks_that_stood_still_while_they_were_rescued_are_stale(raw: Findings, symbol: str) -> None:
    assert "stale_close" in at(raw, symbol, date(2008, 9, 18))


def test_a_sound_panel_is_nearly_left_alone_and_an_index_is_not_missed_its_volume(funds: Findings) -> None:
    assert funds.counts() == {"bad_tick": 1, "stale_close": 6, "zero_volume": 4}


def test_true_closes_that_repeat_while_the_market_falls_are_left_alone(raw: Findings) -> None:
    for symbol, session in [("JNJ", date(2008, 10, 2)), ("PFE", date(2008, 10, 21)), ("BMY", date(2008, 12, 16))]:
        assert at(raw, symbol, session) == {}


def test_missing_sessions_are_found(raw: Findings, adjusted: Findings, wiki: Findings) -> None:
    counts = {symbol: len(sessions(raw, "missing_session", symbol)) for symbol in ("SPGI", "KIM")}
    assert counts == {"SPGI": 6, "KIM": 3}
    on_one_day = adjusted.frame.filter((pl.col("kind") == "missing_session") & (pl.col("session") == date(2011, 2, 17)))
    assert len(on_one_day) == 323
    dynegy = adjusted.frame.filter((pl.col("kind") == "missing_session") & (pl.col("symbol") == "DYN"))
    assert "62 sessions in a row" in dynegy["detail"].to_list()
    assert sessions(wiki, "missing_session", "AAPL")[-2:] == [date(2017, 8, 7), date(2017, 11, 8)]


def test_zero_volumes_of_symbols_that_trade_are_found(adjusted: Findings) -> None:
    zero = adjusted.frame.filter(pl.col("kind") == "zero_volume")
    assert len(zero.filter(pl.col("session") == date(2010, 4, 26))) == 209


@pytest.mark.parametrize(
    ("symbol", "session"),
    [
        ("BXP", date(2007, 5, 2)),
        ("SLG", date(2014, 3, 4)),
        ("NUE", date(2007, 1, 16)),
        ("HST", date(2009, 11, 12)),
    ],
)
def test_closes_a_tenth_or_a_hundredth_of_the_others_never_became_bars(
    adjusted: Findings, symbol: str, session: date
) -> None:
    assert at(adjusted, symbol, session)["high_low"] == session


def test_a_crowd_of_repeated_closes_is_stale(adjusted: Findings) -> None:
    stale = adjusted.frame.filter((pl.col("kind") == "stale_close") & (pl.col("session") == date(2008, 4, 30)))
    assert len(stale) == 36  # 27 of the 30 of which another panel knows the close are


def test_faults_of_the_longest_histories_are_found(wiki: Findings) -> None:
    assert "null" in at(wiki, "KO", date(2001, 9, 12))  # the exchange was closed
    assert at(wiki, "GOOGL", date(2014, 4, 3)) == {"implausible_action": date(2014, 4, 3)}
    assert at(wiki, "AAPL", date(2003, 1, 29)) == {"stale_close": date(2003, 1, 29)}
    assert sessions(wiki, "split_like_jump", "KO") == [date(1965, 2, 19), date(1968, 6, 3)]
    assert at(wiki, "AAPL", date(2000, 9, 29)) == {}


def test_adjusted_closes_that_split_on_the_wrong_day_are_found(tmp_path: Path) -> None:
    rows = pl.scan_parquet(shared_parquet(RAW)).filter(pl.col("symbol").is_in(["TRMB", "ZBRA"]))
    without_events = tmp_path / "factors.parquet"
    rows.drop("dividend", "split").collect().write_parquet(without_events)
    findings = inspected(without_events)
    assert sessions(findings, "split_without_jump", "ZBRA") == [date(2003, 8, 21), date(2004, 8, 25)]
    assert date(2007, 2, 23) in sessions(findings, "split_without_jump", "TRMB")


def test_splits_that_are_kept_from_it_are_found_again_and_little_else() -> None:
    data = read_market_data(shared_parquet(RAW))
    bars = data.bars.select(data.bars.symbols[:120])
    actions = data.actions.select(bars.symbols).frame
    dividends = CorporateActions(frame=actions.filter(pl.col("kind") == "dividend"))
    found = inspect(bars, dividends).frame.filter(pl.col("kind") == "split_like_jump").select("symbol", "session")
    first = bars.frame.group_by("symbol").agg(first=pl.col("session").min())
    splits = (
        actions.filter((pl.col("kind") == "split") & ~pl.col("value").is_between(1 / 1.49, 1.49))
        .join(first, on="symbol")
        .filter(pl.col("ex_date") > pl.col("first"))
        .select("symbol", session="ex_date")
    )
    right = found.join(splits, on=["symbol", "session"], how="semi")
    assert len(splits) > 90
    assert len(right) / len(splits) > 0.8
    assert len(found) - len(right) <= 1


def test_findings_leave_out_few_bars(raw: Findings, adjusted: Findings, wiki: Findings, funds: Findings) -> None:
    for findings, name in [(raw, RAW), (adjusted, ADJUSTED), (wiki, WIKI), (funds, FUNDS)]:
        bars = pl.scan_parquet(shared_parquet(name)).select(pl.len()).collect().item()
        left_out = findings.quarantining().frame.select("symbol", "session").n_unique()
        assert left_out / bars < LARGEST_SHARE_LEFT_OUT, name
