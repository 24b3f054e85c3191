"""Polygon's stream over real sockets: what comes is handed on, what breaks is mended, what was lost is asked for."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from support.vendors.polygon import Fault, PolygonServer
from support.vendors.polygon_stream import KEY, Act, StreamServer, status

from swiftbolt.errors import ProviderRefused, ProviderUnavailable
from swiftbolt.providers.polygon import PolygonProvider
from swiftbolt.providers.stream import stream_events
from swiftbolt.quotes import MinuteBar, Quote, StreamEvent, Trade

OPEN = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)
OPEN_MS = 1772461800000
MINUTE = timedelta(minutes=1)
TRADE = {
    "ev": "T",
    "sym": "AAPL",
    "x": 4,
    "i": "1",
    "z": 3,
    "p": 114.125,
    "s": 100,
    "c": [0],
    "t": OPEN_MS + 18,
    "q": 7,
}
QUOTE = {
    "ev": "Q", "sym": "MSFT", "bx": 4, "bp": 114.125, "bs": 200, "ax": 7, "ap": 114.128, "as": 160, "t": OPEN_MS + 36,
}  # fmt: skip


def am(minute: int, symbol: str = "AAPL", close: float = 101.0) -> dict[str, Any]:
    """The bar of the ``minute``-th minute after the open as the vendor sends it."""
    start = OPEN_MS + 60_000 * minute
    return {
        "ev": "AM", "sym": symbol, "v": 4110, "av": 9470157, "op": 100.5, "vw": 101, "o": 100, "c": close, "h": 102,
        "l": 99.5, "a": 101, "z": 40, "s": start, "e": start + 60_000,
    }  # fmt: skip


def bar(minute: int, symbol: str = "AAPL", close: float = 101.0) -> MinuteBar:
    """The same as we hand it on."""
    at = OPEN + minute * MINUTE
    return MinuteBar(symbol=symbol, at=at, open=100, high=102, low=99.5, close=close, volume=4110)


class Listener:
    """A stream of ``server`` whose waits are written down and not waited, with what was asked for again."""

    def __init__(self, server: StreamServer, symbols: Sequence[str] = ("AAPL",), **options: Any) -> None:
        self.slept: list[float] = []
        self.asked: list[tuple[str, int, int]] = []
        self.lost: dict[str, list[MinuteBar]] = {}
        given = {"now": lambda: OPEN, "backfill": self.backfill, "timeout_s": 5.0, "max_failures": 3, **options}
        rng = np.random.default_rng(1)
        self.events: AsyncIterator[StreamEvent] = stream_events(
            server.url, given.pop("key", KEY), symbols, rng=rng, sleep=self.sleep, **given
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def backfill(self, symbol: str, first: datetime, last: datetime) -> list[MinuteBar]:
        self.asked.append((symbol, (first - OPEN) // MINUTE, (last - OPEN) // MINUTE))
        return self.lost.get(symbol, [])

    async def take(self, count: int) -> list[StreamEvent]:
        """The next ``count`` events, and then no more."""
        taken: list[StreamEvent] = []
        async with asyncio.timeout(10), aclosing(self.events) as events:
            async for event in events:
                taken.append(event)
                if len(taken) == count:
                    break
        return taken


def clock_at(minute: float) -> Any:
    return lambda: OPEN + minute * MINUTE


def test_bars_trades_and_quotes_come_as_they_are_sent():
    async def story() -> None:
        async with StreamServer([[am(0), TRADE], QUOTE]) as server:
            listener = Listener(server, ["AAPL", "MSFT"])
            assert await listener.take(3) == [
                bar(0),
                Trade(symbol="AAPL", at=OPEN + timedelta(milliseconds=18), price=114.125, size=100),
                Quote(
                    symbol="MSFT", at=OPEN + timedelta(milliseconds=36), bid=114.125, ask=114.128, bid_size=200,
                    ask_size=160,
                ),
            ]  # fmt: skip
            assert server.received == [
                [
                    {"action": "auth", "params": KEY},
                    {"action": "subscribe", "params": "AM.AAPL,AM.MSFT,T.AAPL,T.MSFT,Q.AAPL,Q.MSFT"},
                ]
            ]
            assert listener.slept == listener.asked == []

    asyncio.run(story())


def test_only_the_channels_that_are_wanted_are_subscribed_to():
    async def story() -> None:
        async with StreamServer([TRADE]) as server:
            await Listener(server, channels=("T",)).take(1)
            assert server.received[0][1]["params"] == "T.AAPL"

    asyncio.run(story())


def test_a_consumer_that_stops_ends_the_connection():
    async def story() -> None:
        gone = asyncio.Event()

        class Watched(StreamServer):
            async def _play(self, socket: Any) -> None:
                await super()._play(socket)
                gone.set()

        async with Watched([TRADE]) as server:
            await Listener(server).take(1)
            async with asyncio.timeout(5):
                await gone.wait()

    asyncio.run(story())


@pytest.mark.parametrize("breaking", [Act.DROP, Act.CLOSE])
def test_a_broken_connection_is_made_again_and_subscribed_anew(breaking):
    async def story() -> None:
        async with StreamServer([TRADE, breaking], [QUOTE]) as server:
            listener = Listener(server)
            assert [type(event) for event in await listener.take(2)] == [Trade, Quote]
            assert server.received[0] == server.received[1]
            assert len(listener.slept) == 1

    asyncio.run(story())


def test_minutes_lost_to_a_broken_connection_are_handed_on_before_what_comes_live():
    async def story() -> None:
        async with StreamServer([am(0), am(1), Act.DROP], [am(5), am(6)]) as server:
            listener = Listener(server, now=clock_at(5.2))
            listener.lost["AAPL"] = [bar(4), bar(2), bar(3)]
            assert await listener.take(7) == [bar(minute) for minute in range(7)]
            assert listener.asked == [("AAPL", 2, 4)]

    asyncio.run(story())


def test_a_bar_that_comes_both_live_and_again_comes_once():
    async def story() -> None:
        async with StreamServer([am(0), Act.DROP], [am(1), am(2), am(2, close=100.5), am(1), am(3)]) as server:
            listener = Listener(server, now=clock_at(3.5))
            listener.lost["AAPL"] = [bar(0), bar(1), bar(1), bar(2), bar(3, close=100.5), bar(9)]
            assert await listener.take(4) == [bar(0), bar(1), bar(2), bar(3)]
            assert listener.asked == [("AAPL", 1, 2)]

    asyncio.run(story())


def test_a_minute_that_was_not_there_yet_is_asked_for_again_when_the_next_one_comes():
    async def story() -> None:
        async with StreamServer([am(0), Act.DROP], [am(4), am(6)]) as server:
            asked: list[tuple[int, int]] = []

            def backfill(symbol: str, first: datetime, last: datetime) -> list[MinuteBar]:
                asked.append(((first - OPEN) // MINUTE, (last - OPEN) // MINUTE))
                return [bar(1), bar(2)] if len(asked) == 1 else [bar(3)]

            listener = Listener(server, now=clock_at(3.5), backfill=backfill)
            assert await listener.take(6) == [bar(0), bar(1), bar(2), bar(3), bar(4), bar(6)]
            # Minute 5 was not lost to the connection: without trades there is no bar.
            assert asked == [(1, 2), (3, 3)]

    asyncio.run(story())


def test_each_symbol_is_filled_by_itself_and_one_that_never_had_a_bar_not_at_all():
    async def story() -> None:
        async with StreamServer([am(0), am(2, "MSFT"), Act.DROP], [am(3, "MSFT"), am(3), am(3, "IBM")]) as server:
            listener = Listener(server, ["AAPL", "MSFT", "IBM"], now=clock_at(3))
            listener.lost["AAPL"] = [bar(1), bar(2)]
            came = await listener.take(7)
            assert [event for event in came if event.symbol == "AAPL"] == [bar(0), bar(1), bar(2), bar(3)]
            assert listener.asked == [("AAPL", 1, 2)]
            assert came[-1] == bar(3, "IBM")

    asyncio.run(story())


def test_minutes_that_nobody_can_bring_stay_lost_and_the_stream_goes_on(caplog):
    def backfill(symbol: str, first: datetime, last: datetime) -> list[MinuteBar]:
        raise ProviderUnavailable("down")

    async def story() -> None:
        async with StreamServer([am(0), Act.DROP], [am(5)]) as server:
            assert await Listener(server, now=clock_at(5), backfill=backfill).take(2) == [bar(0), bar(5)]

    asyncio.run(story())
    assert "minute bars of AAPL from 2026-03-02 14:31:00+00:00" in caplog.text
    assert "stay lost: down" in caplog.text


def test_without_a_way_to_ask_again_the_live_bars_go_on():
    async def story() -> None:
        async with StreamServer([am(0), Act.DROP], [am(5)]) as server:
            assert await Listener(server, now=clock_at(5), backfill=None).take(2) == [bar(0), bar(5)]

    asyncio.run(story())


def test_the_provider_fills_the_gap_from_its_own_minute_bars():
    async def story() -> None:
        minutes = [bar(minute) for minute in range(10)]
        with PolygonServer(minutes=minutes) as rest:
            async with StreamServer([am(0), Act.DROP], [am(4)]) as server:
                provider = PolygonProvider(key=KEY, base_url=rest.url, stream_url=server.url, now=clock_at(4))
                listener = Listener(server)
                listener.events = provider.stream(["AAPL"])
                assert await listener.take(5) == minutes[:5]

    asyncio.run(story())


@pytest.mark.parametrize(
    "garbage",
    [
        "not JSON",
        b"\xff\xfe",
        "[1, null]",
        "17",
        {"ev": "LULD", "sym": "AAPL"},
        {**TRADE, "p": None},
        {**TRADE, "p": float("nan")},
        {**TRADE, "p": -1},
        {**TRADE, "t": "noon"},
        {**TRADE, "t": 10**30},
        {**TRADE, "sym": 7},
        {**QUOTE, "bp": "a lot"},
        {"ev": "AM", "sym": "AAPL"},
        {**am(0), "c": [1]},
    ],
    ids=str,
)
def test_what_cannot_be_read_is_skipped_with_a_warning(garbage, caplog):
    async def story() -> None:
        async with StreamServer([garbage, [TRADE]]) as server:
            assert [type(event) for event in await Listener(server).take(1)] == [Trade]

    asyncio.run(story())
    assert "polygon's stream sent what cannot be read" in caplog.text


def test_of_a_message_only_the_part_that_cannot_be_read_is_skipped():
    async def story() -> None:
        async with StreamServer([[am(0), {**TRADE, "s": None}, TRADE]]) as server:
            assert [type(event) for event in await Listener(server).take(2)] == [MinuteBar, Trade]

    asyncio.run(story())


def test_connections_that_bring_nothing_are_given_up_after_longer_and_longer_waits():
    async def story() -> None:
        async with StreamServer([TRADE, Act.DROP], [Act.DROP], [Act.CLOSE]) as server:
            listener = Listener(server, max_failures=4)
            with pytest.raises(ProviderUnavailable, match=r"broke off 5 times in a row .*; try again later"):
                await listener.take(2)
            shares = [wait / longest for wait, longest in zip(listener.slept, [0.5, 1, 2, 4], strict=True)]
            assert min(shares) >= 0.5
            assert max(shares) <= 1
            assert len(server.received) == 5

    asyncio.run(story())


def test_an_event_makes_good_for_the_failures_before_it():
    async def story() -> None:
        scripts = [[Act.DROP], [Act.DROP], [TRADE, Act.DROP], [Act.DROP], [Act.DROP], [QUOTE]]
        async with StreamServer(*scripts) as server:
            listener = Listener(server, max_failures=3)
            assert [type(event) for event in await listener.take(2)] == [Trade, Quote]
            assert len(listener.slept) == 5

    asyncio.run(story())


def test_waits_differ_between_clients_and_never_exceed_a_minute():
    async def story(seed: int) -> list[float]:
        async with StreamServer() as server:
            slept: list[float] = []

            async def sleep(seconds: float) -> None:
                slept.append(seconds)

            events = stream_events(
                server.url,
                KEY,
                ["AAPL"],
                rng=np.random.default_rng(seed),
                now=clock_at(0),
                sleep=sleep,
                max_failures=12,
            )
            with pytest.raises(ProviderUnavailable):
                await anext(events)
            return slept

    one, other = asyncio.run(story(1)), asyncio.run(story(2))
    assert len(one) == 12
    assert max(one) <= 60
    assert not set(one) & set(other)


def test_a_refused_key_is_told_of_at_once_and_never_shown():
    async def story() -> None:
        async with StreamServer([]) as server:
            wrong = "hunter2"
            with pytest.raises(ProviderRefused, match=r"refuses the key .*for \*\*\*.*POLYGON_API_KEY") as caught:
                await Listener(server, key=wrong).take(1)
            assert "hunter2" not in str(caught.value)
            assert len(server.received) == 1

    asyncio.run(story())


def test_the_key_is_in_no_error_and_no_log(caplog):
    caplog.set_level("WARNING")

    async def story() -> None:
        async with StreamServer([status("slow_consumer", f"{KEY} is slow"), Act.DROP]) as server:
            with pytest.raises(ProviderUnavailable) as caught:
                await Listener(server, max_failures=1).take(1)
            assert KEY not in "".join(traceback.format_exception(caught.value)) + caplog.text

    asyncio.run(story())
    assert "slow_consumer: *** is slow" in caplog.text


def test_too_many_connections_are_waited_out():
    async def story() -> None:
        async with StreamServer([], [], verdict=status("max_connections", "Maximum number reached")) as server:
            listener = Listener(server, max_failures=1)
            with pytest.raises(ProviderUnavailable, match=r"max_connections: Maximum number reached"):
                await listener.take(1)
            assert len(listener.slept) == 1

    asyncio.run(story())


@pytest.mark.parametrize("silent", ["greeting", "verdict"])
def test_a_server_that_says_nothing_while_logging_in_is_left(silent):
    async def story() -> None:
        async with StreamServer([], [], **{silent: Act.KEEP_SILENT}) as server:
            with pytest.raises(ProviderUnavailable, match="TimeoutError"):
                await Listener(server, timeout_s=0.1, max_failures=1).take(1)

    asyncio.run(story())


def test_a_subscription_that_is_refused_ends_the_stream_and_one_of_several_does_not(caplog):
    refusal = status("error", "You don't have access to real-time data")

    async def story() -> None:
        async with StreamServer([refusal], confirm=False) as server:
            with pytest.raises(ProviderRefused, match=r"refuses the subscription.*real-time data"):
                await Listener(server).take(1)
        async with StreamServer([refusal, TRADE]) as server:
            assert [type(event) for event in await Listener(server).take(1)] == [Trade]

    asyncio.run(story())
    assert "real-time data" in caplog.text


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "nonsense", "ws://"])
def test_an_address_that_is_none_is_refused(address):
    async def story() -> None:
        server = StreamServer()
        server.url = address
        with pytest.raises(ProviderRefused, match="cannot be reached at"):
            await Listener(server).take(1)

    asyncio.run(story())


def test_a_server_that_refuses_the_handshake_refuses_the_key_and_one_without_a_stream_is_unavailable():
    async def story() -> None:
        with PolygonServer() as rest:
            server = StreamServer()
            server.url = rest.url.replace("http", "ws")
            with pytest.raises(ProviderRefused, match="status 401"):
                await Listener(server).take(1)
            rest.fail(Fault(status=503))
            with pytest.raises(ProviderUnavailable, match=r"broke off 1 times in a row \(status 503\)"):
                await Listener(server, max_failures=0).take(1)

    asyncio.run(story())


def test_a_secure_address_is_never_spoken_to_in_the_clear():
    async def story() -> None:
        async with StreamServer([TRADE]) as server:
            server.url = server.url.replace("ws:", "wss:")
            with pytest.raises(ProviderUnavailable, match="broke off"):
                await Listener(server, max_failures=0).take(1)
            assert server.received == []

    asyncio.run(story())


@pytest.mark.parametrize("named", [{"symbols": []}, {"channels": []}])
def test_something_must_be_asked_for(named):
    async def story() -> None:
        with pytest.raises(ValueError, match="at least one"):
            await Listener(StreamServer(), **named).take(1)

    asyncio.run(story())
