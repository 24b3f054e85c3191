"""Polygon's WebSocket as an asynchronous iterator of quotes, trades and minute bars that outlives its connections.

Written on ``websockets`` rather than on the vendor's ``WebSocketClient``: that one hands messages to a callback, gives
up after five broken connections in its whole life and at once when the server closes politely, and does not tell when
it has reconnected, so that nobody could know which minutes were lost.

After a reconnect each symbol's minutes since its last bar are asked for (``backfill``): up to the newest minute that
is over, and once more when its first live bar shows a later gap. Minute bars of a symbol come in order, each once;
quotes and trades of the lost time stay lost. Knows nothing of the vendor's HTTP side.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import certifi
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException

from swiftbolt.errors import DataError, ProviderError, ProviderRefused, ProviderUnavailable
from swiftbolt.quotes import MinuteBar, Quote, StreamEvent, Trade

log = logging.getLogger(__name__)

Channel = Literal["AM", "T", "Q"]
Backfill = Callable[[str, datetime, datetime], Sequence[MinuteBar]]
"""The minute bars of a symbol from one minute to another, both included; runs in a thread."""

KEY_VARIABLE = "POLYGON_API_KEY"
MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_WAIT_S = 0.5  # before the second connection, then twice as long each time
LONGEST_WAIT_S = 60.0
MAX_FAILURES = 8  # connections in a row that brought nothing
MAX_MESSAGE = 2**24
MAX_WAITING = 2**12  # messages kept while minutes are asked for; beyond, the connection is not read


class _Disconnected(Exception):
    """The server does not let us in now; another connection may."""


async def stream_events(
    url: str,
    key: str,
    symbols: Sequence[str],
    channels: Sequence[Channel] = ("AM", "T", "Q"),
    *,
    rng: np.random.Generator,
    now: Callable[[], datetime],
    backfill: Backfill | None = None,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    timeout_s: float = 10.0,
    max_failures: int = MAX_FAILURES,
) -> AsyncIterator[StreamEvent]:
    """Events of ``symbols`` as they come, until the consumer stops (close the iterator to end the connection at once).

    A message that cannot be read is skipped with a warning in the log.

    Args:
        rng: spreads the waits before a reconnect, so that many clients do not come back together.
        now: the time, by which we know which minutes are over.
        backfill: None leaves lost minutes lost.
        timeout_s: for the connection and for each answer while logging in.
        max_failures: connections in a row that may bring nothing.

    Raises:
        ProviderRefused: the key, the address or the subscription.
        ProviderUnavailable: ``max_failures`` connections in a row brought nothing.
        ValueError: no symbol or no channel is named.
    """
    if not symbols or not channels:
        raise ValueError("name at least one symbol and one channel")
    wanted = [f"{channel}.{symbol}" for channel in channels for symbol in symbols]
    minutes = _Minutes(backfill=backfill)
    failures = 0
    while True:
        reason = "the connection was closed"
        try:
            async with _connection(url, timeout_s) as socket:
                await _log_in(socket, key, timeout_s)
                await socket.send(json.dumps({"action": "subscribe", "params": ",".join(wanted)}))
                async for bar in minutes.after_reconnect(now()):
                    yield bar
                subscribed = False
                async for message in socket:
                    for row in _rows(message):
                        if row.get("ev") == "status":
                            subscribed = _check_status(row, key, subscribed) or subscribed
                            continue
                        event = _event(row)
                        if event is None:
                            continue
                        failures, subscribed = 0, True
                        for each in await minutes.in_order(event):
                            yield each
        except InvalidURI as exc:
            raise ProviderRefused(
                f"polygon's stream cannot be reached at {url!r}: check the address (ws://...)"
            ) from exc
        except InvalidStatus as exc:
            if exc.response.status_code in (401, 403):
                raise _refused(f"status {exc.response.status_code}") from exc
            reason = f"status {exc.response.status_code}"
        except (_Disconnected, WebSocketException, OSError) as exc:  # a time-out is an OSError
            reason = str(exc) or type(exc).__name__
        failures += 1
        if failures > max_failures:
            raise ProviderUnavailable(
                f"polygon's stream broke off {failures} times in a row ({reason}); try again later"
            )
        log.warning("polygon's stream broke off (%s), attempt %d of %d", reason, failures, max_failures)
        longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (failures - 1))
        await sleep(longest * rng.uniform(0.5, 1.0))


def _connection(url: str, timeout_s: float) -> connect:
    tls = None
    if url.startswith("wss:"):
        tls = ssl.create_default_context()
        tls.load_verify_locations(certifi.where())
    return connect(url, ssl=tls, open_timeout=timeout_s, close_timeout=1, max_size=MAX_MESSAGE, max_queue=MAX_WAITING)


async def _log_in(socket: ClientConnection, key: str, timeout_s: float) -> None:
    """Wait for the greeting, give the key, and wait until it is accepted."""
    await _status(socket, "connected", key, timeout_s)
    await socket.send(json.dumps({"action": "auth", "params": key}))
    await _status(socket, "auth_success", key, timeout_s)


async def _status(socket: ClientConnection, wanted: str, key: str, timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            for row in _rows(await socket.recv()):
                status = row.get("status") if row.get("ev") == "status" else None
                if status == wanted:
                    return
                if status == "auth_failed":
                    raise _refused(_said(row, key))
                if status not in (None, "connected"):  # too many connections, for one, which may soon be fewer
                    raise _Disconnected(_said(row, key))


def _check_status(row: dict[str, Any], key: str, subscribed: bool) -> bool:
    """Whether the server confirms a subscription. To refuse the first one, before anything came, is to refuse us."""
    status = row.get("status")
    if status == "error" and not subscribed:
        raise ProviderRefused(f"polygon refuses the subscription ({_said(row, key)}); check the plan and the symbols")
    if status not in ("success", "connected", "auth_success"):
        log.warning("polygon's stream says %s", _said(row, key))
    return status == "success"


def _refused(said: str) -> ProviderRefused:
    return ProviderRefused(f"polygon's stream refuses the key ({said}); check {KEY_VARIABLE}")


def _said(row: dict[str, Any], key: str) -> str:
    words = ": ".join(str(row[name]) for name in ("status", "message") if row.get(name))
    return words.replace(key, "***")[:200]


@dataclass(kw_only=True, slots=True)
class _Minutes:
    """Keeps each symbol's minute bars in order, and asks for those that a broken connection lost."""

    backfill: Backfill | None
    newest: dict[str, datetime] = field(default_factory=dict)
    doubted: set[str] = field(default_factory=set)  # whose first live bar since a reconnect is still to come

    async def after_reconnect(self, now: datetime) -> AsyncIterator[MinuteBar]:
        """The bars from each symbol's last to the newest minute that is over at ``now``."""
        self.doubted = set(self.newest)
        over = EPOCH + (now - EPOCH) // MINUTE * MINUTE - MINUTE
        for symbol in sorted(self.newest):
            for bar in await self._lost(symbol, over):
                yield bar

    async def in_order(self, event: StreamEvent) -> list[StreamEvent]:
        """``event`` and the lost bars before it; nothing where it is a bar that is no newer than the last."""
        if not isinstance(event, MinuteBar):
            return [event]
        lost: list[StreamEvent] = []
        if event.symbol in self.doubted:
            lost += await self._lost(event.symbol, event.at - MINUTE)
            self.doubted.discard(event.symbol)
        return [*lost, event] if self._advance(event) else lost

    async def _lost(self, symbol: str, last: datetime) -> list[MinuteBar]:
        first = self.newest[symbol] + MINUTE
        if self.backfill is None or first > last:
            return []
        try:
            bars = await asyncio.to_thread(self.backfill, symbol, first, last)
        except (ProviderError, DataError) as exc:
            log.warning("minute bars of %s from %s to %s stay lost: %s", symbol, first, last, exc)
            return []
        return [bar for bar in sorted(bars, key=lambda bar: bar.at) if bar.at <= last and self._advance(bar)]

    def _advance(self, bar: MinuteBar) -> bool:
        """Take ``bar`` for its symbol's newest; False where it is not."""
        if bar.symbol in self.newest and bar.at <= self.newest[bar.symbol]:
            return False
        self.newest[bar.symbol] = bar.at
        return True


def _rows(message: str | bytes) -> Iterator[dict[str, Any]]:
    """The objects of a message, which is an array of them."""
    try:
        content = json.loads(message)
    except (ValueError, RecursionError):
        content = None
    rows = content if isinstance(content, list) else [content]
    for row in rows:
        if isinstance(row, dict):
            yield row
        else:
            log.warning("polygon's stream sent what cannot be read: %.100r", message)


def _event(row: dict[str, Any]) -> StreamEvent | None:
    """The noun that a row is; None where it is none that we know, or cannot be read."""
    try:
        match row.get("ev"):
            case "AM":
                return MinuteBar(
                    symbol=_text(row["sym"]), at=_moment(row["s"]), open=float(row["o"]), high=float(row["h"]),
                    low=float(row["l"]), close=float(row["c"]), volume=float(row["v"]),
                )  # fmt: skip
            case "T":
                return Trade(
                    symbol=_text(row["sym"]), at=_moment(row["t"]), price=float(row["p"]), size=float(row["s"])
                )
            case "Q":
                return Quote(
                    symbol=_text(row["sym"]), at=_moment(row["t"]), bid=float(row["bp"]), ask=float(row["ap"]),
                    bid_size=float(row["bs"]), ask_size=float(row["as"]),
                )  # fmt: skip
            case _:
                raise ValueError("no event that was asked for")
    except (KeyError, TypeError, ValueError, OverflowError, DataError) as exc:
        log.warning("polygon's stream sent what cannot be read (%r): %.200r", exc, row)
        return None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no symbol")
    return value


def _moment(value: object) -> datetime:
    """Milliseconds since 1970 as a time."""
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no time")
    return EPOCH + timedelta(milliseconds=value)
