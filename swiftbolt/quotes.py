"""What the market says between two closes: quotes, trades, minute bars and option chains, whoever sent them.

Prices are in dollars, sizes in shares (or contracts), times aware and in UTC.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from swiftbolt.errors import DataError

Right = Literal["call", "put"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Quote:
    """The best bid and offer of a symbol at a moment.

    Raises:
        DataError: the time is naive, or a price or size is negative or not finite.
    """

    symbol: str
    at: datetime
    bid: float
    ask: float
    bid_size: float
    ask_size: float

    def __post_init__(self) -> None:
        _check(self.symbol, self.at, self.bid, self.ask, self.bid_size, self.ask_size)

    @property
    def mid(self) -> float:
        """Half way between bid and ask, in dollars."""
        return (self.bid + self.ask) / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Trade:
    """One trade.

    Raises:
        DataError: as for ``Quote``.
    """

    symbol: str
    at: datetime
    price: float
    size: float

    def __post_init__(self) -> None:
        _check(self.symbol, self.at, self.price, self.size)


@dataclass(frozen=True, kw_only=True, slots=True)
class MinuteBar:
    """Prices and volume of the minute that starts at ``at``.

    Raises:
        DataError: as for ``Quote``.
    """

    symbol: str
    at: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float

    def __post_init__(self) -> None:
        _check(self.symbol, self.at, self.open, self.high, self.low, self.close, self.volume)


StreamEvent = Quote | Trade | MinuteBar
"""What a live stream brings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The newest quote and trade of a symbol; either may be missing."""

    symbol: str
    quote: Quote | None
    trade: Trade | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TickerDetails:
    """Who a symbol is."""

    symbol: str
    name: str
    active: bool
    exchange: str | None = None
    currency: str | None = None
    listed: date | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionSnapshot:
    """One contract as last seen; what the vendor does not give is None.

    Attributes:
        implied_volatility: annualised (0.3 is 30 % a year).
        delta, gamma, theta, vega: the vendor's greeks; theta is per day, vega per percentage point of volatility.
    """

    contract: str
    underlying: str
    right: Right
    strike: float
    expiry: date
    bid: float | None = None
    ask: float | None = None
    last: float | None = None
    volume: float | None = None
    open_interest: float | None = None
    implied_volatility: float | None = None
    delta: float | None = None
    gamma: float | None = None
    theta: float | None = None
    vega: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.strike) and self.strike > 0):
            raise DataError(f"{self.contract}: strike {self.strike} must be positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionChain:
    """Every contract of an underlying a snapshot brought, by expiry, strike and right."""

    underlying: str
    contracts: tuple[OptionSnapshot, ...]

    def __iter__(self) -> Iterator[OptionSnapshot]:
        return iter(self.contracts)

    def __len__(self) -> int:
        return len(self.contracts)


def _check(symbol: str, at: datetime, *numbers: float) -> None:
    if at.tzinfo is None:
        raise DataError(f"{symbol}: a time without a zone")
    for number in numbers:
        if not (math.isfinite(number) and number >= 0):
            raise DataError(f"{symbol} {at:%Y-%m-%d %H:%M:%S}: {number} is neither a price nor a size")
