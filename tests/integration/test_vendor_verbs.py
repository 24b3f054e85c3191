"""swiftbolt quotes, options and stream against local servers in the vendor's shape."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.vendors.polygon import KEY, PolygonServer
from support.vendors.polygon_stream import StreamServer

from swiftbolt import cli

NANOSECONDS = 1772461800_000_000_000
OPTION = {
    "details": {
        "ticker": "O:AAPL261218C00150000",
        "contract_type": "call",
        "strike_price": 150,
        "expiration_date": "2026-12-18",
        "exercise_style": "american",
        "shares_per_contract": 100,
    },
    "greeks": {"delta": 0.61, "gamma": 0.02, "theta": -0.03, "vega": 0.21},
    "implied_volatility": 0.31,
    "open_interest": 1543,
}
TRADE = {
    "ev": "T",
    "sym": "AAPL",
    "x": 4,
    "i": "1",
    "z": 3,
    "p": 114.125,
    "s": 100,
    "c": [0],
    "t": 1772461800018,
    "q": 7,
}


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("POLYGON_API_KEY", KEY)


@pytest.fixture
def server() -> Iterator[PolygonServer]:
    snapshots = {"AAPL": {"lastQuote": {"P": 461.9, "S": 400, "p": 461.8, "s": 300, "t": NANOSECONDS}}}
    with PolygonServer(snapshots=snapshots, chains={"AAPL": [OPTION]}) as server:
        yield server


def test_quotes_shows_what_the_vendor_has_and_names_what_it_has_not(server, capsys):
    assert cli.run(["quotes", "AAPL", "NOPE", "--base-url", server.url, "--json"]) == 0
    shown = capsys.readouterr()
    (found,) = json.loads(shown.out)
    assert (found["quote"]["bid"], found["quote"]["ask"], found["trade"]) == (461.8, 461.9, None)
    assert shown.err == "polygon has no quote of NOPE\n"
    assert cli.run(["quotes", "AAPL", "--base-url", server.url]) == 0
    assert "461.80" in capsys.readouterr().out


def test_options_shows_each_contract_with_its_greeks(server, capsys):
    assert cli.run(["options", "AAPL", "--base-url", server.url, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["strike"], found["right"], found["expiry"]) == (150, "call", "2026-12-18")
    assert (found["delta"], found["implied_volatility"], found["open_interest"]) == (0.61, 0.31, 1543)


@contextmanager
def streaming(*script) -> Iterator[str]:
    """Address of a stream server that runs in a thread of its own."""
    ready, over = threading.Event(), threading.Event()
    address: list[str] = []

    async def run() -> None:
        async with StreamServer(script) as server:
            address.append(server.url)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield address[0]
    finally:
        over.set()
        thread.join()


def test_stream_prints_a_line_of_json_for_each_event_and_stops_after_the_limit(capsys):
    with streaming([TRADE, {**TRADE, "p": 114.5}, {**TRADE, "p": 115}]) as url:
        assert cli.run(["stream", "AAPL", "--stream-url", url, "--limit", "2"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(event["event"], event["symbol"], event["price"]) for event in events] == [
        ("Trade", "AAPL", 114.125),
        ("Trade", "AAPL", 114.5),
    ]


def test_without_a_key_the_variable_is_named(monkeypatch, capsys):
    monkeypatch.delenv("POLYGON_API_KEY")
    assert cli.run(["quotes", "AAPL"]) == 1
    assert capsys.readouterr().err.startswith("error: polygon needs a key: set POLYGON_API_KEY")
