"""Polygon: the real client over real sockets against a local server in the vendor's shape, through every fault."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from pydantic import SecretStr
from support.markets import make_bars
from support.vendors.polygon import KEY, Fault, PolygonServer, refused

from swiftbolt.actions import CorporateAction, CorporateActions, forward_adjusted
from swiftbolt.bars import Bars
from swiftbolt.errors import (
    ConfigError,
    DataError,
    NotOffered,
    ProviderRefused,
    ProviderUnavailable,
    RateLimited,
    SchemaError,
    UnknownSymbol,
)
from swiftbolt.providers.base import Adjustment, MarketData
from swiftbolt.providers.polygon import PolygonProvider
from swiftbolt.providers.sample import SampleProvider
from swiftbolt.quotes import MinuteBar, Quote, Snapshot, TickerDetails, Trade

if TYPE_CHECKING:
    from swiftbolt.providers.base import RemoteProvider

ROOT = Path(__file__).resolve().parents[2]
# Winter and summer: the clocks of New York changed on 2013-03-10.
END = date(2013, 3, 22)
BARS = make_bars(["AAPL", "MSFT"], 40, seed=7, end=END)
FIRST = date(2013, 1, 24)
ACTIONS = CorporateActions.of(
    [
        CorporateAction(
            symbol="AAPL", ex_date=date(2013, 2, 7), kind="dividend", value=0.5, known_at=date(2013, 1, 23)
        ),
        CorporateAction(
            symbol="AAPL", ex_date=date(2013, 5, 9), kind="dividend", value=0.6, known_at=date(2013, 3, 21)
        ),
        CorporateAction(symbol="AAPL", ex_date=date(2013, 2, 20), kind="split", value=7.0),
        CorporateAction(symbol="MSFT", ex_date=date(2013, 2, 20), kind="split", value=0.25),
    ]
)
OPTION = {
    "break_even_price": 151.2,
    "day": {"close": 4.4, "volume": 868},
    "details": {
        "contract_type": "call", "exercise_style": "american", "expiration_date": "2013-06-21",
        "shares_per_contract": 100, "strike_price": 450, "ticker": "O:AAPL130621C00450000",
    },
    "greeks": {"delta": 0.52, "gamma": 0.007, "theta": -0.018, "vega": 0.72},
    "implied_volatility": 0.3,
    "last_quote": {"ask": 4.5, "ask_size": 4, "bid": 4.3, "bid_size": 8, "last_updated": 1364000000000000000},
    "last_trade": {"price": 4.45, "size": 2, "sip_timestamp": 1364000000000000000},
    "open_interest": 1543,
    "a field of next year": True,
}  # fmt: skip


NO_TEXT = Fault(status=404, body=b"\xff\xfe")


class Sleeps(list[float]):
    """Stands in for waiting: what was to be waited is written down."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def server() -> Iterator[PolygonServer]:
    with PolygonServer(BARS, ACTIONS) as running:
        yield running


def provider_of(server: PolygonServer, **options: Any) -> PolygonProvider:
    given = {"key": SecretStr(KEY), "base_url": server.url, "timeout_s": 10.0, "sleep": Sleeps(), **options}
    return PolygonProvider(**given)


def joined(pages: list[MarketData]) -> Bars:
    return Bars(frame=pl.concat(page.bars.frame for page in pages))


def faults_of(pages: list[MarketData]) -> list[str]:
    return pl.concat(page.quarantine.frame for page in pages)["fault"].to_list()


def everything_said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


# Bars.


def test_bars_come_back_as_they_were_served_each_on_its_session_in_winter_and_in_summer(server):
    provider: RemoteProvider = provider_of(server)
    bars, quarantine = provider.bars(["MSFT", "AAPL"], FIRST, END)
    assert bars == BARS
    assert not len(quarantine)


def test_a_server_that_gives_midnight_in_utc_means_the_same_sessions(server):
    for row in server.days["AAPL"]:
        row["t"] -= row["t"] % 86_400_000
    assert provider_of(server).bars(["AAPL"], FIRST, END)[0] == BARS.select(["AAPL"])


def test_bars_are_asked_for_raw_ascending_and_with_the_key_as_a_bearers(server):
    provider_of(server).bars(["AAPL"], FIRST, END)
    (asked,) = server.asked
    assert asked.path == f"/v2/aggs/ticker/AAPL/range/1/day/{FIRST}/{END}"
    assert asked.query == {"adjusted": "false", "sort": "asc", "limit": "50000"}
    assert asked.authorization == f"Bearer {KEY}"


def test_both_ends_of_a_range_are_included_and_nothing_outside_it_comes(server):
    bars, _ = provider_of(server).bars(["AAPL"], date(2013, 3, 8), date(2013, 3, 11))
    assert bars.frame["session"].to_list() == [date(2013, 3, 8), date(2013, 3, 11)]


def test_without_dates_all_there_is_comes(server):
    assert provider_of(server).bars(["AAPL"])[0] == BARS.select(["AAPL"])


@pytest.mark.parametrize("symbol", ["BRK.B", "../../v3", "A/B", "Ä ß", "A?x=1", "A%2FB"])
def test_a_symbol_is_asked_for_as_it_is_written_whatever_it_holds(symbol):
    bars = Bars(frame=BARS.select(["AAPL"]).frame.with_columns(symbol=pl.lit(symbol)))
    with PolygonServer(bars) as server:
        assert provider_of(server).bars([symbol])[0] == bars
        assert provider_of(server).ticker_details(symbol).symbol == symbol


def test_volumes_may_be_fractional(server):
    server.days["AAPL"][3]["v"] = 1234.56
    assert provider_of(server).bars(["AAPL"])[0].frame["volume"][3] == 1234.56


def test_a_faulty_row_is_quarantined_and_its_page_kept(server):
    rows = [dict(row) for row in server.days["AAPL"]]
    rows[1]["l"] = rows[1]["h"] + 1
    rows[2]["c"] = None
    rows[3]["o"] = "12"
    rows[4]["v"] = -1
    del rows[5]["h"]
    for position, time in enumerate([None, "2013-02-04", 10**40, 1e300, True, [1]], start=6):
        rows[position]["t"] = time
    server.fail(Fault(body=json.dumps({"status": "OK", "results": rows}).encode()))
    bars, quarantine = provider_of(server).bars(["AAPL"], FIRST, END)
    assert len(bars) == 40 - 11
    faults = quarantine.frame["fault"].value_counts().sort("fault").rows()
    assert faults == [("high_low", 1), ("not_positive", 1), ("null", 9)]


def test_of_a_row_that_comes_twice_the_first_counts_and_a_different_one_is_a_conflict(server):
    rows = server.days["AAPL"]
    rows[1:1] = [dict(rows[0]), {**rows[0], "c": rows[0]["c"] * 1.0001, "h": rows[0]["h"] * 1.01}]
    bars, quarantine = provider_of(server).bars(["AAPL"])
    assert bars == BARS.select(["AAPL"])
    assert quarantine.frame["fault"].to_list() == ["duplicate", "conflict"]


# Pages.


def test_pages_are_followed_to_the_last_and_each_is_handed_on_as_it_arrives(server):
    pages = provider_of(server, limit=15).pages("AAPL", FIRST, END)
    first = next(pages)
    assert [path for path in server.paths() if "aggs" in path] == server.paths()[:1]
    rest = list(pages)
    assert [len(page.bars) for page in (first, *rest)] == [15, 15, 10]
    assert joined([first, *rest]) == BARS.select(["AAPL"])
    assert [len(page.actions) for page in (first, *rest)] == [3, 0, 0]
    assert {page.adjustment for page in (first, *rest)} == {Adjustment.RAW_WITH_ACTIONS}


def test_the_key_goes_to_our_server_only_whatever_host_the_next_page_names(server):
    list(provider_of(server, limit=15).pages("AAPL", FIRST, END))
    assert len([asked for asked in server.asked if asked.cursor]) == 2
    assert {asked.authorization for asked in server.asked} == {f"Bearer {KEY}"}


def test_what_came_before_a_failure_was_handed_on_and_a_later_call_goes_on_from_there(server):
    pages = provider_of(server, limit=15).pages("AAPL", FIRST, END)
    got = [next(pages)]
    server.fail(refused(403, "plan ended"), on="cursor")
    with pytest.raises(ProviderRefused, match="plan ended"):
        got += pages
    again = provider_of(server, limit=15).pages("AAPL", got[0].bars.last_session + timedelta(days=1), END)
    assert joined([*got, *again]) == BARS.select(["AAPL"])


def test_a_page_that_comes_twice_neither_loses_nor_doubles_a_session(server):
    server.fail(Fault(page="repeated"), on="cursor")
    pages = list(provider_of(server, limit=15).pages("AAPL", FIRST, END))
    assert joined(pages) == BARS.select(["AAPL"])
    assert faults_of(pages) == ["duplicate"] * 15


def test_a_page_that_is_missing_is_asked_for_once_more(server):
    server.fail(Fault(page="missing"), on="aggs")
    pages = list(provider_of(server, limit=15).pages("AAPL", FIRST, END))
    assert joined(pages) == BARS.select(["AAPL"])
    assert faults_of(pages) == []
    asked_again = [path for path in server.paths() if "aggs" in path][2]
    sessions = BARS.select(["AAPL"]).frame["session"]
    assert asked_again == f"/v2/aggs/ticker/AAPL/range/1/day/{sessions[15]}/{sessions[29]}"


@pytest.mark.parametrize("address", ["x:.elsewhere.example/page", "https://[::1", "next", 17, True])
def test_what_is_no_address_of_a_next_page_is_not_followed(server, address):
    server.fail(Fault(body=json.dumps({"results": server.days["AAPL"], "next_url": address}).encode()))
    with pytest.raises(ProviderUnavailable, match="is no address of a next page"):
        list(provider_of(server).pages("AAPL", FIRST, END))


def test_a_faulty_row_at_the_end_of_a_page_is_no_gap(server):
    server.days["AAPL"][14]["c"] = -1
    pages = list(provider_of(server, limit=15).pages("AAPL", FIRST, END))
    assert [len(page.bars) for page in pages] == [14, 15, 10]
    assert faults_of(pages) == ["not_positive"]


def test_a_gap_that_the_vendor_cannot_fill_is_left_to_the_checks_on_the_stored_bars(server):
    whole = server.days["AAPL"]
    server.days["AAPL"] = whole[:15] + whole[18:]
    pages = list(provider_of(server, limit=15).pages("AAPL", FIRST, END))
    assert len(joined(pages)) == 37
    assert faults_of(pages) == []


@pytest.mark.parametrize("kind", ["ring", "endless"])
def test_a_chain_of_pages_without_an_end_is_broken_off(server, kind):
    server.fail(Fault(page=kind), on="aggs", always=True)
    with pytest.raises(ProviderUnavailable, match="the pages of list_aggs repeat without an end"):
        list(provider_of(server, limit=15).pages("AAPL", FIRST, END))
    assert len(server.paths()) < 10


def test_a_known_symbol_without_bars_yields_nothing(server):
    assert list(provider_of(server).pages("AAPL", date(2020, 1, 2), date(2020, 1, 31))) == []
    assert server.paths()[-1] == "/v3/reference/tickers/AAPL"


def test_a_delisted_symbol_without_bars_yields_nothing_though_it_has_no_details(server):
    server.delisted.add("MSFT")
    assert list(provider_of(server).pages("MSFT", date(2020, 1, 2), date(2020, 1, 31))) == []


def test_an_unknown_symbol_is_told_of(server):
    with pytest.raises(UnknownSymbol, match="polygon does not know symbol APPL; check its spelling"):
        list(provider_of(server).pages("APPL", FIRST, END))


# Actions.


def test_splits_and_dividends_come_with_the_day_they_were_declared_and_those_still_to_come_too(server):
    data = provider_of(server).fetch(["AAPL", "MSFT"], FIRST, END)
    assert data.actions == ACTIONS
    assert (data.bars, data.findings, data.missing) == (BARS, (), ())


def test_actions_are_chosen_by_ex_date(server):
    provider = provider_of(server)
    assert provider.corporate_actions(["AAPL", "MSFT"]) == ACTIONS
    few = provider.corporate_actions(["AAPL"], date(2013, 2, 8), date(2013, 3, 1))
    assert [(action.kind, action.value) for action in few] == [("split", 7.0)]


def test_a_server_without_the_newer_lists_is_asked_for_the_older_ones_and_only_once_for_the_newer(server):
    server.newer_actions = False
    assert provider_of(server).corporate_actions(["AAPL", "MSFT"]) == ACTIONS
    assert [path for path in server.paths() if path.startswith("/stocks")] == ["/stocks/v1/splits"]
    assert server.paths().count("/v3/reference/dividends") == 2


def test_a_server_with_neither_list_is_refused_and_no_bars_are_handed_on_without_their_actions(server):
    server.fail(Fault(status=404, body=b"{}"), on="splits", always=True)
    with pytest.raises(ProviderRefused, match="nothing at list_splits; check symbols and --base-url") as caught:
        next(provider_of(server).pages("AAPL", FIRST, END))
    assert not isinstance(caught.value, UnknownSymbol)


def test_actions_come_in_pages_too(server):
    row = server.dividends[0]
    days = [date(2013, 2, 7) + timedelta(days=90 * count) for count in range(9)]
    server.dividends = [{**row, "id": str(day), "ex_dividend_date": day.isoformat()} for day in days]
    server.page_size = 4
    assert [action.ex_date for action in provider_of(server).corporate_actions(["AAPL"]) if action.value == 0.5] == days


def test_an_event_that_the_vendor_lists_twice_counts_once(server):
    server.dividends += [{**row, "id": f"{row['id']}-again"} for row in server.dividends]
    server.splits += [{**row, "id": f"{row['id']}-again"} for row in server.splits]
    assert provider_of(server).corporate_actions(["AAPL", "MSFT"]) == ACTIONS


def test_a_regular_and_a_special_dividend_of_one_day_are_added_up_and_known_when_both_are(server):
    regular = server.dividends[0]
    special = {**regular, "id": "special", "distribution_type": "special", "declaration_date": "2013-02-01"}
    server.dividends = [regular, special]
    (dividend,) = [action for action in provider_of(server).corporate_actions(["AAPL"]) if action.kind == "dividend"]
    assert (dividend.value, dividend.known_at) == (1.0, date(2013, 2, 1))


@pytest.mark.parametrize(
    ("adjusted", "value", "in_doubt"),
    [
        (1.4 / 7, 0.2, False),  # the vendor took the split for a later one: 1.4 for a share before it
        (1.4, 1.4, False),  # it did not: 1.4 for a share after it
        (1.4 / 3, 1.4, True),
        (None, 1.4, True),
    ],
)
def test_a_dividend_with_a_split_of_its_day_counts_for_a_share_after_it(server, adjusted, value, in_doubt):
    row = {**server.dividends[0], "ex_dividend_date": "2013-02-20", "cash_amount": 1.4}
    server.dividends = [{**row, "split_adjusted_cash_amount": adjusted}]
    data = provider_of(server).fetch(["AAPL"])
    (dividend,) = [action for action in data.actions if action.kind == "dividend"]
    assert dividend.value == pytest.approx(value, rel=1e-12)
    sentence = "AAPL 2013-02-20: the dividend of 1.4 counts for a share after that day's split"
    assert data.findings == ((sentence,) if in_doubt else ())


def test_a_split_later_than_the_dividend_does_not_blur_what_the_amount_stands_for(server):
    later = {**server.splits[0], "id": "later", "execution_date": "2014-06-09"}
    row = {**server.dividends[0], "ex_dividend_date": "2013-02-20", "cash_amount": 1.4}
    server.splits.append(later)
    server.dividends = [{**row, "split_adjusted_cash_amount": round(1.4 / 49, 4)}]
    (dividend,) = [action for action in provider_of(server).corporate_actions(["AAPL"]) if action.kind == "dividend"]
    assert dividend.value == pytest.approx(0.2)


def test_the_total_return_on_an_ex_date_is_that_of_the_bars_that_were_served(server):
    data = provider_of(server).fetch(["AAPL"], FIRST, END)
    assert forward_adjusted(data.bars, data.actions).equals(forward_adjusted(BARS.select(["AAPL"]), ACTIONS))


def test_what_cannot_be_used_is_left_out_and_told_of(server):
    row, split = server.dividends[0], server.splits[0]
    server.dividends = [
        {**row, "currency": "CAD"},
        {**row, "cash_amount": 0},
        {**row, "cash_amount": "0.5"},
        {**row, "ex_dividend_date": "2013-02-31"},
        {**row, "currency": None, "cash_amount": 0.25},
    ]
    server.splits = [{**split, "split_from": 0}, {**split, "split_to": None}, {**split, "split_to": 1}]
    data = provider_of(server).fetch(["AAPL"])
    assert [(action.kind, action.value) for action in data.actions] == [("dividend", 0.25)]
    assert data.findings == (
        "AAPL: a split that cannot be read is left out (execution_date 2013-02-20, split_from 0, split_to 7.0)",
        "AAPL: a split that cannot be read is left out (execution_date 2013-02-20, split_from 1, split_to None)",
        "AAPL 2013-02-07: a dividend of 0.5 CAD is left out, for prices are in USD",
        "AAPL: a dividend that cannot be read is left out (ex_dividend_date 2013-02-07, cash_amount 0)",
        "AAPL: a dividend that cannot be read is left out (ex_dividend_date 2013-02-07, cash_amount 0.5)",
        "AAPL: a dividend that cannot be read is left out (ex_dividend_date 2013-02-31, cash_amount 0.5)",
    )


# Fetch.


def test_a_fetch_names_the_symbols_that_are_missing(server):
    data = provider_of(server).fetch(["AAPL", "APPL"], FIRST, END)
    assert (data.bars.symbols, data.missing) == (("AAPL",), ("APPL",))


def test_a_fetch_of_nothing_says_so(server):
    with pytest.raises(DataError, match="polygon: no usable row of APPL: check symbols and dates"):
        provider_of(server).fetch(["APPL"], FIRST, END)


@pytest.mark.parametrize("method", ["bars", "corporate_actions", "fetch"])
def test_symbols_must_be_named(server, method):
    with pytest.raises(NotOffered, match="polygon is asked symbol by symbol"):
        getattr(provider_of(server), method)()


# Details, quotes, options, minutes.


def test_details_tell_who_a_symbol_is(server):
    expected = {"name": "AAPL Inc.", "exchange": "XNAS", "currency": "USD", "listed": date(1980, 12, 12)}
    assert provider_of(server).ticker_details("AAPL") == TickerDetails(symbol="AAPL", active=True, **expected)
    server.delisted.add("AAPL")
    assert provider_of(server).ticker_details("AAPL") == TickerDetails(symbol="AAPL", active=False, **expected)


def test_quotes_come_in_the_order_they_were_asked_for_and_half_a_quote_is_none(server):
    nanoseconds = 1364000000123456789
    at = datetime(2013, 3, 23, 0, 53, 20, 123456, tzinfo=UTC)
    server.snapshots = {
        "AAPL": {
            "lastQuote": {"P": 461.9, "S": 400, "p": 461.8, "s": 300, "t": nanoseconds},
            "lastTrade": {"c": [14], "i": "1", "p": 461.85, "s": 25, "t": nanoseconds, "x": 4},
        },
        "MSFT": {"lastQuote": {"P": 28.3, "S": 100, "p": 0, "s": 0, "t": nanoseconds}},
    }
    assert provider_of(server).quotes(["MSFT", "NONE", "AAPL"]) == [
        Snapshot(symbol="MSFT", quote=None, trade=None),
        Snapshot(
            symbol="AAPL",
            quote=Quote(symbol="AAPL", at=at, bid=461.8, ask=461.9, bid_size=300, ask_size=400),
            trade=Trade(symbol="AAPL", at=at, price=461.85, size=25),
        ),
    ]


def test_quotes_of_nothing_are_not_asked_for_and_many_are_asked_for_in_parts(server):
    assert provider_of(server).quotes([]) == []
    assert server.asked == []
    provider_of(server).quotes([f"S{number}" for number in range(250)])
    assert [len(asked.query["tickers"].split(",")) for asked in server.asked] == [100, 100, 50]


def test_an_option_chain_comes_whole_with_its_greeks_ordered_by_expiry_strike_and_right(server):
    details = OPTION["details"]
    put = {"details": {**details, "contract_type": "put", "ticker": "O:AAPL130621P00450000"}, "last_quote": {"ask": 0}}
    near = {"details": {**details, "expiration_date": "2013-05-17", "ticker": "O:AAPL130517C00450000"}}
    low = {"details": {**details, "strike_price": 449.5, "ticker": "O:AAPL130621C00449500"}}
    server.chains = {"AAPL": [put, OPTION, near, low, OPTION]}
    server.page_size = 2
    chain = provider_of(server).options_snapshot("AAPL")
    assert [option.contract[-15:] for option in chain] == [
        "130517C00450000", "130621C00449500", "130621C00450000", "130621P00450000",
    ]  # fmt: skip
    call = chain.contracts[2]
    assert (call.right, call.strike, call.expiry, call.underlying) == ("call", 450.0, date(2013, 6, 21), "AAPL")
    assert (call.bid, call.ask, call.last, call.volume, call.open_interest) == (4.3, 4.5, 4.45, 868.0, 1543.0)
    assert (call.implied_volatility, call.delta, call.gamma, call.theta, call.vega) == (0.3, 0.52, 0.007, -0.018, 0.72)
    assert (chain.contracts[3].bid, chain.contracts[3].ask, chain.contracts[3].delta) == (None, None, None)


def test_a_chain_is_empty_for_a_known_underlying_and_refused_for_an_unknown_one(server):
    assert len(provider_of(server).options_snapshot("AAPL")) == 0
    with pytest.raises(UnknownSymbol, match="APPL"):
        provider_of(server).options_snapshot("APPL")


def test_what_is_no_option_is_told_of(server):
    server.chains = {"AAPL": [{"details": {**OPTION["details"], "strike_price": None}}]}
    with pytest.raises(SchemaError, match="O:AAPL130621C00450000 of AAPL is no option"):
        provider_of(server).options_snapshot("AAPL")


def test_minute_bars_come_for_the_minutes_asked_for_both_ends_included():
    at = datetime(2013, 3, 22, 13, 30, tzinfo=UTC)
    minutes = [
        MinuteBar(symbol="AAPL", at=at + timedelta(minutes=n), open=1, high=3, low=0.5, close=2, volume=9.5)
        for n in range(10)
    ]
    with PolygonServer(minutes=minutes, page_size=3) as server:
        assert provider_of(server).minute_bars("AAPL", minutes[2].at, minutes[8].at) == minutes[2:9]
        server.minutes["AAPL"][4]["c"] = None
        with pytest.raises(SchemaError, match="is no minute bar of AAPL"):
            provider_of(server).minute_bars("AAPL", minutes[2].at, minutes[8].at)


# Faults of the line and of the vendor.


@pytest.mark.parametrize(
    "fault",
    [
        refused(500, "internal"),
        refused(503, "down", Retry_After="7"),
        refused(429, "slow down", Retry_After="7"),
        Fault(cut=True),
        Fault(cut=True, told_length=True),
        Fault(body=b""),
        Fault(body=b"<html>a proxy's page</html>"),
        Fault(body=b'{"results": [{"t": 13'),
        Fault(body=b"[1, 2]"),
        Fault(body=b"\xff\xfe"),
    ],
    ids=lambda fault: f"{fault.status} {fault.body!r:.20} {fault.cut} {fault.told_length}",
)
def test_an_answer_that_is_none_is_asked_for_again_and_nothing_is_lost(server, fault):
    sleep = Sleeps()
    server.fail(fault, on="aggs")
    server.fail(fault, on="cursor")
    pages = list(provider_of(server, limit=15, sleep=sleep).pages("AAPL", FIRST, END))
    assert joined(pages) == BARS.select(["AAPL"])
    assert pages[0].actions == ACTIONS.select(["AAPL"])
    assert sleep == [7.0 if fault.headers else 0.5] * 2


@pytest.mark.parametrize("fault", [refused(500, "internal"), Fault(cut=True), Fault(body=b"no JSON")])
def test_a_vendor_that_never_answers_whole_is_unavailable(server, fault):
    server.fail(fault, always=True)
    with pytest.raises(ProviderUnavailable, match=r"/v2/aggs/ticker/AAPL/range/1/day/.*; try again later"):
        list(provider_of(server).pages("AAPL", FIRST, END))
    assert len(server.asked) == 4


def test_a_rate_limit_that_outlasts_our_patience_says_when_to_come_back(server):
    server.fail(refused(429, "quota of the month", Retry_After="86400"))
    with pytest.raises(RateLimited, match="polygon: rate limit reached, retry in 86400 s"):
        list(provider_of(server).pages("AAPL", FIRST, END))


@pytest.mark.parametrize("pause", ["silence", "trickle"])
def test_a_body_that_does_not_end_is_not_waited_for(server, pause):
    server.fail(Fault(pause=pause), on="aggs")
    assert provider_of(server, timeout_s=0.3).bars(["AAPL"])[0] == BARS.select(["AAPL"])


def test_a_vendor_that_stays_silent_is_unavailable(server):
    server.fail(Fault(pause="silence"), always=True)
    with pytest.raises(ProviderUnavailable, match="ReadTimeoutError"):
        provider_of(server, timeout_s=0.1).bars(["AAPL"])


def test_a_vendor_that_cannot_be_reached_is_unavailable():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: whoever connects is refused
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ProviderUnavailable, match="NewConnectionError"):
            PolygonProvider(key="k", base_url=address, sleep=Sleeps()).bars(["AAPL"])


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told_of_at_once_by_the_name_of_its_variable(server, status):
    server.fail(refused(status, f"not with {KEY}"))
    with pytest.raises(ProviderRefused, match=r"not with \*\*\*.*check POLYGON_API_KEY"):
        provider_of(server).bars(["AAPL"])
    assert len(server.asked) == 1


def test_a_wrong_key_is_refused(server):
    with pytest.raises(ProviderRefused, match="401: Unknown API Key"):
        provider_of(server, key="another").bars(["AAPL"])


def test_an_error_under_a_status_of_success_is_no_empty_answer(server):
    server.fail(Fault(body=b'{"status": "ERROR", "error": "backend"}'))
    with pytest.raises(ProviderRefused, match=r"polygon refuses list_aggs \(ERROR\)"):
        provider_of(server).bars(["AAPL"])


@pytest.mark.parametrize("body", [b'{"results": {"t": 1}}', b'{"results": [1]}', b'{"results": "none"}'])
def test_an_answer_of_another_form_is_told_of(server, body):
    server.fail(Fault(body=body))
    with pytest.raises(SchemaError, match="the bars of AAPL hold no list of objects"):
        provider_of(server).bars(["AAPL"])


def test_an_address_where_something_else_answers_is_told_of(server):
    with pytest.raises(ProviderRefused, match="check symbols and --base-url") as caught:
        list(provider_of(server, base_url=f"{server.url}/elsewhere/").pages("AAPL", FIRST, END))
    assert not isinstance(caught.value, UnknownSymbol)


# The key, the address and the rate.


@pytest.mark.parametrize("key", [None, "", "  ", SecretStr("")])
def test_no_key_is_refused_with_the_variable_to_set(key):
    with pytest.raises(ProviderRefused, match="polygon needs a key: set POLYGON_API_KEY"):
        PolygonProvider(key=key)


def test_a_key_that_no_header_can_hold_is_refused_unseen():
    key = SecretStr("hunter2\n\u20ac")
    with pytest.raises(ProviderRefused, match="a character that no key has") as caught:
        PolygonProvider(key=key)
    assert "hunter2" not in everything_said(caught.value)


@pytest.mark.parametrize("address", ["", "127.0.0.1:8900", "ftp://somewhere", "http://", "http://[::1", "nonsense"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ProviderRefused, match="check --base-url"):
        PolygonProvider(key="k", base_url=address)


@pytest.mark.parametrize(
    "fault",
    [refused(401, KEY), refused(404, KEY), refused(500, KEY), Fault(cut=True), Fault(body=KEY.encode()), NO_TEXT],
)
def test_the_key_is_in_no_error_and_no_log(server, fault, caplog):
    caplog.set_level("DEBUG")
    provider = provider_of(server)
    server.fail(fault, always=True)
    with pytest.raises((ProviderRefused, ProviderUnavailable)) as caught:
        provider.bars(["AAPL"])
    assert KEY not in everything_said(caught.value) + caplog.text + repr(provider) + repr(
        vars(provider)["_client"].client
    )


def test_requests_are_counted_against_the_limit_whatever_they_are_for():
    now = [0.0]
    slept = Sleeps()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    with PolygonServer(BARS, ACTIONS) as server:
        server.fail(refused(500, "internal"), on="cursor")
        provider = provider_of(server, limit=15, requests_per_minute=2, clock=lambda: now[0], sleep=sleep)
        list(provider.pages("AAPL", FIRST, END))
        # Three pages, one of them twice, splits and dividends: two at a time, and half a second before the repeat.
        assert len(server.asked) == 6
        assert slept == [60.0, 0.5, 59.5]


@pytest.mark.parametrize(
    ("address", "limited"),
    [(None, True), ("https://api.polygon.io", True), ("https://api.massive.com/", True), ("http://127.0.0.1:1", False)],
)
def test_the_free_plans_limit_holds_at_the_vendors_own_address_unless_another_is_set(address, limited):
    def waits(**options: Any) -> list[float]:
        slept = Sleeps()
        provider = PolygonProvider(key="k", base_url=address, clock=lambda: 0.0, sleep=slept, **options)
        bucket = vars(provider)["_client"].client.bucket
        return [bucket.take() for _ in range(6)]

    assert waits() == [0, 0, 0, 0, 0, 60 if limited else 0]
    assert waits(requests_per_minute=1)[:2] == [0, 60]


@pytest.mark.parametrize("rate", [0, -5])
def test_a_limit_that_lets_nothing_through_is_refused(rate):
    with pytest.raises(ConfigError, match=f"polygon: --requests-per-minute: .* must be above 0, not {rate}"):
        PolygonProvider(key="k", requests_per_minute=rate)


# By hand.


def test_the_server_runs_by_hand_on_the_bundled_sample():
    command = [sys.executable, "-m", "support.vendors.polygon", "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            said = running.stdout.readline()
            assert said.startswith("22,216 bars of 7 symbols at http://127.0.0.1:")
            served = PolygonProvider(key="any", base_url=said.split()[-1]).fetch(["AAPL"])
        finally:
            running.terminate()
    held = SampleProvider().fetch(["AAPL"])
    assert served.bars == held.bars
    assert {action.kind for action in served.actions} == {"split", "dividend"}
    ours, theirs = (forward_adjusted(data.bars, data.actions)["close"] for data in (served, held))
    assert ((ours / theirs - 1).abs() < 1e-12).all()
