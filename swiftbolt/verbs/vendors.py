"""Verbs that ask a vendor and store nothing: quotes, options, stream. And how a vendor is opened."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swiftbolt.console import note, print_json, print_line, print_table
from swiftbolt.verbs.shared import AsJson

if TYPE_CHECKING:
    from swiftbolt.providers.base import RemoteProvider
    from swiftbolt.quotes import Snapshot
    from swiftbolt.settings import Settings


class Vendor(StrEnum):
    """Vendors behind a network."""

    polygon = "polygon"
    alpaca = "alpaca"


Symbols = Annotated[list[str], typer.Argument(help="Ticker symbols.")]
Provider = Annotated[Vendor, typer.Option(help="Whom to ask.")]
BaseUrl = Annotated[str | None, typer.Option(help="Address of the vendor's API, if not its own.")]


def quotes(
    symbols: Symbols, provider: Provider = Vendor.polygon, base_url: BaseUrl = None, as_json: AsJson = False
) -> None:
    """Show the newest quote and trade of each symbol."""
    from swiftbolt.settings import Settings

    found = open_vendor(provider, Settings(), base_url).quotes(symbols)
    if as_json:
        print_json([asdict(snapshot) for snapshot in found])
    elif found:
        print_table([_quote_row(snapshot) for snapshot in found])
    for symbol in sorted(set(symbols) - {snapshot.symbol for snapshot in found}):
        note(f"{provider} has no quote of {symbol}")


def options(
    underlying: Annotated[str, typer.Argument(help="Ticker symbol of the share.")],
    provider: Provider = Vendor.polygon,
    base_url: BaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show every listed option of a share as last seen, with the vendor's greeks."""
    from swiftbolt.settings import Settings

    chain = open_vendor(provider, Settings(), base_url).options_snapshot(underlying)
    rows = [asdict(contract) for contract in chain]
    if as_json:
        print_json(rows)
    elif rows:
        print_table([{name: value for name, value in row.items() if name != "underlying"} for row in rows])
    else:
        note(f"{provider} lists no options of {underlying}")


def stream(
    symbols: Symbols,
    base_url: BaseUrl = None,
    stream_url: Annotated[str | None, typer.Option(help="Address of the vendor's stream, if not its own.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many events; without it by Ctrl-C.")] = None,
) -> None:
    """Print polygon's quotes, trades and minute bars as they come, a line of JSON each."""
    from swiftbolt.providers.polygon import PolygonProvider
    from swiftbolt.settings import Settings

    vendor = PolygonProvider(key=Settings().polygon_key, base_url=base_url, stream_url=stream_url)
    asyncio.run(_print_events(vendor, symbols, limit))


def open_vendor(
    name: str, settings: Settings, base_url: str | None, requests_per_minute: float | None = None
) -> RemoteProvider:
    """A vendor with the keys of the environment.

    Args:
        requests_per_minute: of polygon; None takes the environment's, and without that the vendor's own limit.

    Raises:
        ProviderRefused: a key is missing.
    """
    if name == Vendor.polygon:
        from swiftbolt.providers.polygon import PolygonProvider

        limit = settings.polygon_requests_per_minute if requests_per_minute is None else requests_per_minute
        return PolygonProvider(key=settings.polygon_key, base_url=base_url, requests_per_minute=limit)
    from swiftbolt.providers.alpaca import AlpacaProvider

    # The consolidated tape: the free plan has it but for the last minutes, and "iex" is one exchange's own trades.
    return AlpacaProvider(key=settings.alpaca_key, secret=settings.alpaca_secret, base_url=base_url, feed="sip")


async def _print_events(vendor: RemoteProvider, symbols: list[str], limit: int | None) -> None:
    count = 0
    async for event in vendor.stream(symbols):
        row = {"event": type(event).__name__, **asdict(event), "at": event.at.isoformat()}
        print_line(json.dumps(row))
        count += 1
        if count == limit:
            return


def _quote_row(snapshot: Snapshot) -> dict[str, Any]:
    quote, trade = snapshot.quote, snapshot.trade
    seen = quote or trade
    return {
        "symbol": snapshot.symbol,
        "bid": quote.bid if quote else None,
        "ask": quote.ask if quote else None,
        "bid_size": quote.bid_size if quote else None,
        "ask_size": quote.ask_size if quote else None,
        "last": trade.price if trade else None,
        "at": f"{seen.at:%Y-%m-%d %H:%M:%S}" if seen else "",
    }
