"""Alpaca: the real client over real sockets against a local server in the vendor's shape, through every fault."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from pydantic import SecretStr
from support.markets import make_bars
from support.vendors.alpaca import KEY, SECRET, AlpacaServer, Fault, refused

from swiftbolt.actions import CorporateAction, CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.errors import (
    DataError,
    NotOffered,
    ProviderRefused,
    ProviderUnavailable,
    RateLimited,
    SchemaError,
    UnknownSymbol,
)
from swiftbolt.providers.alpaca import AlpacaProvider
from swiftbolt.providers.base import Adjustment

if TYPE_CHECKING:
    from swiftbolt.providers.base import RemoteProvider

pytest.importorskip("alpaca", reason="needs the optional client: pip install 'swiftbolt[alpaca]'")

# Winter and summer: the clocks of New York changed on 2013-03-10.
END = date(2013, 3, 22)
BARS = make_bars(["AAPL", "MSFT"], 40, seed=7, end=END)
WHOLE_VOLUME = Bars(frame=BARS.frame.with_columns(pl.col("volume").round()))
FIRST = date(2013, 1, 24)
DIVIDEND = {
    "id": "d1", "symbol": "AAPL", "rate": 0.5, "ex_date": "2013-03-01", "process_date": "2013-04-15", "foreign": False,
}  # fmt: skip
SPLIT = {
    "id": "s1", "symbol": "MSFT", "new_rate": 3, "old_rate": 2, "ex_date": "2013-02-20", "process_date": "2013-02-20",
}  # fmt: skip


class Sleeps(list[float]):
    """Stands in for waiting: what was to be waited is written down."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[AlpacaServer]:
    actions = {"cash_dividends": [DIVIDEND], "forward_splits": [SPLIT]}
    with AlpacaServer(WHOLE_VOLUME, actions=actions, snapshots={"OLD": {"latestTrade": None}}) as running:
        yield running


def provider_of(server: AlpacaServer, sleep: Sleeps | None = None, **options: Any) -> AlpacaProvider:
    given = {"key": SecretStr(KEY), "secret": SECRET, "base_url": server.url, "timeout_s": 10.0, **options}
    return AlpacaProvider(**given, sleep=Sleeps() if sleep is None else sleep)


def everything_said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


# Bars.


def test_bars_come_back_as_they_were_served_each_on_its_session_in_winter_and_in_summer(server):
    provider: RemoteProvider = provider_of(server)
    bars, quarantine = provider.bars(["AAPL", "MSFT"], FIRST, END)
    assert bars == WHOLE_VOLUME
    assert not len(quarantine)


def test_bars_are_asked_for_raw_and_of_the_chosen_feed(server):
    provider_of(server, feed="sip").bars(["AAPL"], FIRST, END)
    (asked,) = server.asked
    assert (asked.query["adjustment"], asked.query["feed"], asked.query["timeframe"]) == ("raw", "sip", "1Day")


def test_both_ends_of_a_range_are_included_and_nothing_outside_it_comes(server):
    bars, _ = provider_of(server).bars(["AAPL"], date(2013, 3, 8), date(2013, 3, 11))
    assert bars.frame["session"].to_list() == [date(2013, 3, 8), date(2013, 3, 11)]


def test_without_dates_all_there_is_comes_and_not_only_the_current_day(server):
    assert provider_of(server).bars(["AAPL"])[0] == WHOLE_VOLUME.select(["AAPL"])


def test_pages_are_followed_to_the_last_and_each_is_handed_on_as_it_arrives(server):
    server.page_size = 15
    pages = provider_of(server).pages("AAPL", FIRST, END)
    first = next(pages)
    assert server.paths() == ["/v2/stocks/bars", "/v1/corporate-actions"]
    rest = list(pages)
    assert [len(page.bars) for page in (first, *rest)] == [15, 15, 10]
    assert Bars(frame=pl.concat(page.bars.frame for page in (first, *rest))) == WHOLE_VOLUME.select(["AAPL"])
    assert first.adjustment is Adjustment.RAW_WITH_ACTIONS
    assert [len(page.actions) for page in (first, *rest)] == [1, 0, 0]


def test_what_came_before_a_failure_was_handed_on(server):
    server.page_size = 15
    pages = provider_of(server).pages("AAPL", FIRST, END)
    got = [next(pages)]
    server.fail(refused(403, "plan ended"))
    with pytest.raises(ProviderRefused, match="plan ended"):
        got += list(pages)
    assert [page.bars.last_session for page in got] == [WHOLE_VOLUME.select(["AAPL"]).frame["session"][14]]


def test_pages_that_lead_round_in_a_ring_are_an_error_and_not_an_endless_fetch(server):
    ring = b'{"bars": {}, "next_page_token": "again"}'
    server.fail(*[Fault(body=ring)] * 9)
    with pytest.raises(ProviderUnavailable, match="in a ring"):
        list(provider_of(server).pages("AAPL", FIRST, END))
    assert len(server.asked) == 2


def test_rows_that_are_no_bars_are_quarantined_each_with_its_fault(server):
    good = {"t": "2013-03-20T04:00:00Z", "o": 10, "h": 11, "l": 9, "c": 10.5, "v": 100}
    rows = [good, good, {**good, "t": "2013-03-21T04:00:00Z", "h": 8}, {**good, "t": "soon"}, {**good, "c": "ten"}]
    server.fail(Fault(body=json.dumps({"bars": {"AAPL": rows}}).encode()))
    bars, quarantine = provider_of(server).bars(["AAPL"], FIRST, END)
    assert bars.frame["session"].to_list() == [date(2013, 3, 20)]
    assert sorted(quarantine.frame["fault"]) == ["duplicate", "high_low", "null", "null"]


def test_a_symbol_without_bars_that_the_vendor_knows_yields_nothing(server):
    assert list(provider_of(server).pages("OLD", FIRST, END)) == []


@pytest.mark.parametrize(("symbol", "complaint"), [("NOPE", "neither bars nor a quote of NOPE"), ("N0PE!", "N0PE!")])
def test_a_symbol_that_the_vendor_does_not_know_is_named(server, symbol, complaint):
    with pytest.raises(UnknownSymbol, match=f"{complaint}.*check its spelling"):
        list(provider_of(server).pages(symbol, FIRST, END))


def test_a_fetch_of_many_brings_bars_and_actions_and_names_the_missing(server):
    data = provider_of(server).fetch(["MSFT", "N0PE!", "NOPE", "AAPL"], FIRST, END)
    assert data.bars == WHOLE_VOLUME
    assert [(action.symbol, action.kind) for action in data.actions] == [("AAPL", "dividend"), ("MSFT", "split")]
    assert data.missing == ("N0PE!", "NOPE")


def test_a_fetch_without_a_single_row_says_so(server):
    with pytest.raises(DataError, match="no usable row of NOPE: check symbols and dates"):
        provider_of(server).fetch(["NOPE"], FIRST, END)


def test_more_symbols_than_an_address_holds_are_asked_for_in_several_requests():
    symbols = [f"A{chr(65 + i // 26)}{chr(65 + i % 26)}" for i in range(51)]
    with AlpacaServer(make_bars(symbols, 1, seed=1, end=END)) as server:
        bars, _ = provider_of(server).bars(symbols, FIRST, END)
        assert bars.symbols == tuple(symbols)
        assert [len(asked.query["symbols"].split(",")) for asked in server.asked] == [50, 1]


def test_symbols_must_be_named(server):
    with pytest.raises(NotOffered, match="name those that are wanted"):
        provider_of(server).fetch()


# Corporate actions.


def actions_of(**rows: list[Mapping[str, Any]]) -> tuple[CorporateActions, tuple[str, ...]]:
    """What comes of the vendor's rows, all of symbol X."""
    bars = Bars(frame=make_bars(["X"], 40, seed=1, end=END).frame)
    dated = {
        kind: [
            {"id": f"{kind}{i}", "ex_date": "2013-03-01", "process_date": "2013-03-01", **row}
            for i, row in enumerate(many)
        ]
        for kind, many in rows.items()
    }
    with AlpacaServer(bars, actions=dated, page_size=1000) as server:
        data = provider_of(server).fetch(["X"], FIRST, END)
        return data.actions, data.findings


def action(kind: Any, value: float) -> CorporateAction:
    return CorporateAction(symbol="X", ex_date=date(2013, 3, 1), kind=kind, value=value)


@pytest.mark.parametrize(
    ("kind", "row", "expected"),
    [
        ("forward_splits", {"symbol": "X", "new_rate": 4, "old_rate": 1}, action("split", 4.0)),
        ("reverse_splits", {"symbol": "X", "new_rate": 1, "old_rate": 50}, action("split", 0.02)),
        ("unit_splits", {"old_symbol": "X", "new_symbol": "X", "new_rate": 2, "old_rate": 1}, action("split", 2.0)),
        ("stock_dividends", {"symbol": "X", "rate": 0.05}, action("split", 1.05)),
        ("cash_dividends", {"symbol": "X", "rate": 0.125, "special": True, "foreign": True}, action("dividend", 0.125)),
    ],
)
def test_the_vendors_event_becomes_ours(kind, row, expected):
    assert actions_of(**{kind: [row]}) == (CorporateActions.of([expected]), ())


@pytest.mark.parametrize(
    ("kind", "row", "sentence"),
    [
        ("spin_offs", {"source_symbol": "X", "source_rate": 19.35, "new_symbol": "Y", "new_rate": 1}, "spin offs"),
        ("unit_splits", {"old_symbol": "X", "new_symbol": "Y", "new_rate": 1, "old_rate": 1}, "unit splits"),
        ("cash_mergers", {"acquiree_symbol": "X", "rate": 5.37}, r"cash mergers \(acquiree_symbol X, rate 5.37\)"),
        ("name_changes", {"old_symbol": "X", "new_symbol": "Y"}, "name changes"),
        ("cash_dividends", {"symbol": "X", "rate": 0.4, "currency": "CAD"}, r"cash dividends \(currency CAD"),
        ("cash_dividends", {"symbol": "X", "rate": 0}, "cash dividends"),
        ("forward_splits", {"symbol": "X", "new_rate": 2}, "forward splits"),
        ("forward_splits", {"symbol": "X", "new_rate": 2, "old_rate": None}, "forward splits"),
        ("things_to_come", {"symbol": "X"}, "things to come"),
    ],
)
def test_what_does_not_adjust_prices_is_told_of(kind, row, sentence):
    actions, findings = actions_of(**{kind: [row]})
    assert not len(actions)
    assert len(findings) == 1
    assert re.match(f"X 2013-03-01: prices are not adjusted for {sentence}", findings[0])


def test_two_dividends_of_one_day_add_up_even_where_they_are_alike():
    actions, _ = actions_of(cash_dividends=[{"symbol": "X", "rate": 0.5}, {"symbol": "X", "rate": 0.5}])
    assert actions == CorporateActions.of([action("dividend", 1.0)])


def test_an_event_that_comes_twice_under_one_id_counts_once():
    twice = {"id": "same", "symbol": "X", "rate": 0.5}
    assert actions_of(cash_dividends=[twice, twice])[0] == CorporateActions.of([action("dividend", 0.5)])


def test_a_dividend_on_the_day_of_a_split_is_told_of():
    rows = {"cash_dividends": [{"symbol": "X", "rate": 0.5}]}
    actions, findings = actions_of(**rows, forward_splits=[{"symbol": "X", "new_rate": 2, "old_rate": 1}])
    assert len(actions) == 2
    assert findings == ("X 2013-03-01: the dividend of 0.5 counts for a share after that day's split",)


@pytest.mark.parametrize("processed", ["2013-02-14", "2013-04-15"])
def test_actions_are_chosen_by_ex_date_though_the_vendor_goes_by_the_day_of_processing(processed):
    row = {**DIVIDEND, "process_date": processed}
    with AlpacaServer(actions={"cash_dividends": [row]}) as server:
        provider = provider_of(server)
        assert len(provider.corporate_actions(["AAPL"], date(2013, 3, 1), date(2013, 3, 1))) == 1
        assert len(provider.corporate_actions(["AAPL"], date(2013, 3, 2), date(2013, 6, 1))) == 0
        assert len(provider.corporate_actions(["AAPL"], date(2013, 1, 2), date(2013, 2, 28))) == 0


@pytest.mark.parametrize(
    ("kind", "rates"), [("cash_dividends", {"rate": 0.5}), ("forward_splits", {"new_rate": 2, "old_rate": 1})]
)
def test_an_event_without_a_date_is_told_of(server, kind, rates):
    row = {"id": "x", "symbol": "AAPL", "ex_date": None, **rates}
    server.fail(Fault(body=json.dumps({"corporate_actions": {kind: [row]}}).encode()), on="/v1/corporate-actions")
    data = provider_of(server).fetch(["AAPL"], FIRST, END)
    assert not len(data.actions)
    (sentence,) = data.findings
    assert sentence.startswith(f"AAPL undated: prices are not adjusted for {kind.replace('_', ' ')}")


def test_actions_come_over_several_pages(server):
    server.page_size = 1
    assert len(provider_of(server).corporate_actions(["AAPL", "MSFT"])) == 2


# Quotes, trades and options.

QUOTE = {"t": "2026-11-24T20:59:59.547942123Z", "bp": 161.19, "ap": 161.2, "bs": 500, "as": 200}
TRADE = {"t": "2026-11-24T20:59:58Z", "p": 161.1998, "s": 200}


def test_a_snapshot_is_the_newest_quote_and_trade_in_the_order_asked_for():
    snapshots = {"A": {"latestQuote": QUOTE, "latestTrade": TRADE}, "B": {"latestQuote": {**QUOTE, "bp": 0}}, "C": None}
    with AlpacaServer(snapshots=snapshots) as server:
        second, first = provider_of(server).quotes(["B", "NOPE", "C", "A"])
    assert (first.symbol, second.symbol) == ("A", "B")
    assert first.quote is not None
    assert first.trade is not None
    assert first.quote.at == datetime(2026, 11, 24, 20, 59, 59, 547942, tzinfo=UTC)
    assert (first.quote.bid, first.quote.ask, first.quote.bid_size, first.quote.ask_size) == (161.19, 161.2, 500, 200)
    assert (first.trade.price, first.trade.size) == (161.1998, 200)
    assert (second.quote, second.trade) == (None, None)


def test_an_option_chain_comes_whole_over_several_pages_sorted_with_greeks():
    greeks = {"delta": -0.07, "gamma": 0.0124, "theta": -0.1, "vega": 0.03, "rho": -0.002}
    full = {
        "latestQuote": {**QUOTE, "bp": 0.32, "ap": 0.35}, "latestTrade": {**TRADE, "p": 0.34}, "dailyBar": {"v": 12},
        "impliedVolatility": 0.458, "greeks": greeks,
    }  # fmt: skip
    bare = {"latestQuote": {**QUOTE, "bp": 0, "ap": 0}}
    chain = {"AAPL240503P00155000": full, "AAPL240503C00155000": bare, "AAPL1240426C00152500": bare}
    with AlpacaServer(chains={"AAPL": chain}, page_size=2) as server:
        options = provider_of(server).options_snapshot("AAPL")
        assert len(server.asked) == 2
    adjusted, call, put = options
    assert (adjusted.contract, adjusted.underlying, adjusted.strike) == ("AAPL1240426C00152500", "AAPL", 152.5)
    assert (call.right, call.strike, call.expiry) == ("call", 155.0, date(2024, 5, 3))
    assert (call.bid, call.ask, call.last, call.delta, call.volume) == (0.0, None, None, None, None)
    assert (put.right, put.bid, put.ask, put.last, put.volume) == ("put", 0.32, 0.35, 0.34, 12.0)
    assert (put.implied_volatility, put.delta, put.gamma, put.theta, put.vega) == (0.458, -0.07, 0.0124, -0.1, 0.03)


def test_a_contract_whose_symbol_cannot_be_read_is_an_error_that_names_it():
    with (
        AlpacaServer(chains={"AAPL": {"AAPL": {}}}) as server,
        pytest.raises(SchemaError, match="'AAPL' is not the symbol of an option"),
    ):
        provider_of(server).options_snapshot("AAPL")


def test_a_live_stream_is_not_offered_and_the_error_says_who_has_one(server):
    with pytest.raises(NotOffered, match="polygon"):
        provider_of(server).stream(["AAPL"])


# Faults.


@pytest.mark.parametrize(
    ("fault", "wait"),
    [
        (refused(429, "too many requests.", Retry_After="7"), 7.0),
        (refused(503, "later", Retry_After="3"), 3.0),
        (refused(500, "internal server error"), 0.5),
        (Fault(cut=True), 0.5),
        (Fault(cut=True, told_length=True), 0.5),
        (Fault(body=b"<html>"), 0.5),
        (Fault(body=b""), 0.5),
        (Fault(pause="silence"), 0.5),
        (Fault(pause="trickle"), 0.5),
    ],
)
def test_what_passes_is_waited_for_and_tried_again(server, fault, wait):
    sleep = Sleeps()
    server.fail(fault)
    bars, _ = provider_of(server, sleep, timeout_s=0.5).bars(["AAPL"], FIRST, END)
    assert bars == WHOLE_VOLUME.select(["AAPL"])
    assert len(server.asked) == 2
    assert sleep == [wait]


@pytest.mark.parametrize(
    "asked", [{"Retry_After": "Wed, 20 Mar 2013 10:00:09 GMT"}, {"X_RateLimit_Reset": str(1363773609)}]
)
def test_a_moment_to_come_back_at_is_counted_from_the_vendors_own_clock(server, asked):
    sleep = Sleeps()
    server.fail(refused(429, "too many requests.", Date="Wed, 20 Mar 2013 10:00:00 GMT", **asked))
    provider_of(server, sleep).bars(["AAPL"], FIRST, END)
    assert sleep == [9.0]


def test_a_rate_limit_without_a_time_is_waited_for_until_the_minute_is_over(server):
    sleep = Sleeps()
    server.fail(refused(429, "too many requests.", Retry_After="soon"))
    provider_of(server, sleep).bars(["AAPL"], FIRST, END)
    assert sleep == [60.0]


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (refused(500, "internal server error"), r"failed on /v2/stocks/bars \(500: internal server error\)"),
        (Fault(cut=True), "did not answer /v2/stocks/bars in full"),
        (Fault(cut=True, told_length=True), "did not answer /v2/stocks/bars in full"),
        (Fault(body=b'{"bars": {"AAPL": ['), "cut short or not JSON"),
        (Fault(pause="silence"), "did not answer /v2/stocks/bars in full"),
        (Fault(pause="trickle"), "did not answer /v2/stocks/bars in full"),
    ],
)
def test_what_does_not_pass_is_given_up_after_four_attempts(server, fault, complaint):
    sleep = Sleeps()
    server.fail(*[fault] * 9)
    with pytest.raises(ProviderUnavailable, match=f"{complaint}.*try again later"):
        provider_of(server, sleep, timeout_s=0.2).bars(["AAPL"], FIRST, END)
    assert len(server.asked) == 4
    assert sleep == [0.5, 1.0, 2.0]


def test_a_rate_limit_beyond_our_patience_is_an_error_that_says_when_to_come_back(server):
    sleep = Sleeps()
    server.fail(refused(429, "too many requests.", Retry_After="50"), refused(429, "again", Retry_After="90"))
    with pytest.raises(RateLimited) as caught:
        provider_of(server, sleep, patience_s=120.0).bars(["AAPL"], FIRST, END)
    assert caught.value.retry_after_s == 90.0
    assert sleep == [50.0]


def test_a_server_that_is_not_there_is_unavailable():
    with AlpacaServer() as server:
        provider = provider_of(server)
    with pytest.raises(ProviderUnavailable, match=r"alpaca at 127.0.0.1:\d+ did not answer"):
        provider.bars(["AAPL"], FIRST, END)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (refused(401, "unauthorized."), "401: unauthorized.*APCA_API_KEY_ID and APCA_API_SECRET_KEY"),
        (refused(403, "subscription does not permit"), "403: subscription does not permit.*check APCA_API_KEY_ID"),
        (refused(404, "endpoint not found"), r"refuses /v2/stocks/bars \(404: endpoint not found\); check"),
        (refused(422, "invalid start"), r"\(422: invalid start\); check symbols, dates"),
        (Fault(status=302, headers={"Location": "http://127.0.0.1:1/"}, body=b""), r"\(302\); check .*--base-url"),
    ],
)
def test_what_is_refused_is_not_tried_again(server, fault, complaint):
    server.fail(fault)
    with pytest.raises(ProviderRefused, match=complaint):
        provider_of(server).bars(["AAPL"], FIRST, END)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "body", [b"[]", b'"bars"', b'{"bars": []}', b'{"bars": {"AAPL": 1}}', b'{"bars": {"AAPL": [1]}}']
)
def test_json_that_is_not_the_vendors_is_an_error_and_not_an_empty_answer(server, body):
    server.fail(Fault(body=body))
    with pytest.raises(SchemaError, match=r"alpaca: .*check --base-url"):
        provider_of(server).bars(["AAPL"], FIRST, END)


def test_an_address_that_is_none_is_refused_at_once():
    with pytest.raises(ProviderRefused, match="check --base-url"):
        AlpacaProvider(key=KEY, secret=SECRET, base_url="not an address", sleep=Sleeps()).bars(["AAPL"], FIRST, END)


# The key.


@pytest.mark.parametrize(("key", "secret"), [(None, None), (KEY, None), (None, SECRET), (" ", SecretStr(""))])
def test_without_a_whole_key_the_error_names_both_variables(key, secret):
    with pytest.raises(ProviderRefused, match="set APCA_API_KEY_ID and APCA_API_SECRET_KEY"):
        AlpacaProvider(key=key, secret=secret)


def test_a_wrong_key_is_refused_by_the_server_and_shown_nowhere(server, caplog):
    caplog.set_level("DEBUG")
    provider = provider_of(server, secret="wrong-secret-value")
    with pytest.raises(ProviderRefused, match="unauthorized") as caught:
        provider.bars(["AAPL"], FIRST, END)
    assert "wrong-secret-value" not in everything_said(caught.value) + repr(vars(provider)) + caplog.text


def test_a_secret_that_the_vendor_repeats_is_masked(server):
    server.fail(refused(403, f"no such key {KEY}:{SECRET}"))
    with pytest.raises(ProviderRefused, match=r"no such key \*\*\*:\*\*\*") as caught:
        provider_of(server).bars(["AAPL"], FIRST, END)
    assert SECRET not in everything_said(caught.value)


@pytest.mark.parametrize("secret", ["two\nlines", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(secret):
    with pytest.raises(ProviderRefused, match="a character that no key has") as caught:
        AlpacaProvider(key=KEY, secret=secret)
    assert secret not in everything_said(caught.value)


def test_without_the_client_the_error_says_how_to_install_it():
    code = (
        "import sys; sys.modules['alpaca'] = None\n"
        "from swiftbolt.providers.alpaca import AlpacaProvider\n"
        "from swiftbolt.errors import EnvironmentFault\n"
        "try: AlpacaProvider(key='a', secret='b')\n"
        "except EnvironmentFault as exc: print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "alpaca-py is not installed: pip install 'swiftbolt[alpaca]'"
