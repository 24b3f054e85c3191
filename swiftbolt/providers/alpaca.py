"""Market data from Alpaca through its own client, which is an optional extra: ``pip install 'swiftbolt[alpaca]'``.

The vendor's conventions end here:

- A daily bar's time is midnight in New York given in UTC: its date is the session, in summer and in winter.
- A split is ``new_rate`` shares for ``old_rate``, a stock dividend ``rate`` new shares beside each one held. A unit
  split is a split where the units keep their symbol; where they become other securities it is only told of.
- A cash dividend is dollars a share. Of a dividend with the ex-date of a split the vendor does not say which share it
  means; it is taken as one after the split, and told of.
- Actions are asked for by the day they were processed, which for a dividend is the day it was paid; we ask for more
  and choose by ex-date. When one was announced the vendor does not say.
- Every other event (mergers, spin-offs, new names ...) adjusts nothing and is told of in ``MarketData.findings``.
- Sizes of quotes have been in shares since November 2025.

``iex`` is one exchange: closes and volumes are those of its own trades, from 2020 on. ``sip`` is all of them.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, Literal
from urllib.parse import quote

import polars as pl
from pydantic import SecretStr

from swiftbolt.actions import CorporateAction, CorporateActions, Kind
from swiftbolt.bars import BAR_SCHEMA, Bars, Quarantine, screen_bars
from swiftbolt.errors import (
    DataError,
    EnvironmentFault,
    NotOffered,
    ProviderRefused,
    ProviderUnavailable,
    SchemaError,
    UnknownSymbol,
)
from swiftbolt.providers.alpaca_session import KEY_VARIABLES, PatientSession
from swiftbolt.providers.base import Adjustment, MarketData
from swiftbolt.providers.json_values import number_of, positive_of
from swiftbolt.quotes import OptionChain, OptionSnapshot, Quote, Right, Snapshot, StreamEvent, Trade
from swiftbolt.sessions import EXCHANGE_ZONE, FIRST_SESSION, LAST_SESSION

Feed = Literal["iex", "sip"]
Json = dict[str, Any]

# Most that the vendor puts on a page; symbols are bounded by the length of an address.
BARS_PER_PAGE = 10_000
ACTIONS_PER_PAGE = 1_000
CONTRACTS_PER_PAGE = 1_000
SYMBOLS_PER_REQUEST = 50
PROCESSED_WITHIN = timedelta(days=366)  # of the ex-date, before or after

BAR_FIELDS = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
OCC_SYMBOL = re.compile(r".+?(?P<expiry>\d{6})(?P<right>[CP])(?P<strike>\d{8})")
RIGHTS: dict[str, Right] = {"C": "call", "P": "put"}
WHO = ("symbol", "source_symbol", "old_symbol", "acquiree_symbol")
WHEN = ("ex_date", "effective_date", "process_date")
TOLD = ("symbol", "rate", "currency")
SPLITS = ("forward_splits", "reverse_splits", "unit_splits")


class AlpacaProvider:
    """Serves daily bars, corporate actions, quotes, trades and option chains.

    Args:
        key, secret: the two halves of an API key; never shown.
        base_url: another address of the data API; None is the vendor's own.
        timeout_s: for the connection, for silence, and for an answer to be whole once it has begun.
        patience_s: most that a request waits between its attempts, all waits together.
        sleep: what waits.

    Raises:
        ProviderRefused: half of the key is missing.
        EnvironmentFault: alpaca-py is not installed.
    """

    source: ClassVar[str] = "alpaca"

    def __init__(
        self,
        *,
        key: SecretStr | str | None,
        secret: SecretStr | str | None,
        base_url: str | None = None,
        feed: Feed = "iex",
        timeout_s: float = 30.0,
        patience_s: float = 120.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        halves = _plain(key), _plain(secret)
        self._feed = feed
        self._client = _client(*halves, base_url)
        # The client itself never gives up waiting for an answer, and its retries neither heed the vendor nor end well.
        self._client._session = PatientSession(
            session=self._client._session, hidden=halves, timeout_s=timeout_s, patience_s=patience_s, sleep=sleep
        )

    def bars(
        self, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
    ) -> tuple[Bars, Quarantine]:
        """Raw daily bars; see ``Provider.bars``.

        Raises:
            NotOffered: no symbols are named.
        """
        return _screened(row for some in _batches(symbols) for row in self._rows(some, start, end))

    def corporate_actions(
        self, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
    ) -> CorporateActions:
        """Splits and dividends with an ex-date from ``start`` to ``end``; see ``Provider.corporate_actions``.

        Raises:
            NotOffered: no symbols are named.
        """
        return self._actions(_named(symbols), start, end)[0]

    def fetch(
        self, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
    ) -> MarketData:
        """Bars and actions of many symbols at once; see ``Provider.fetch``.

        Raises:
            NotOffered: no symbols are named.
        """
        bars, quarantine = self.bars(symbols, start, end)
        if not len(bars):
            faults = "; ".join(quarantine.summary()) or "check symbols and dates"
            raise DataError(f"alpaca: no usable row of {', '.join(_named(symbols))}: {faults}")
        actions, findings = self._actions(bars.symbols, start, end)
        return MarketData(
            bars=bars,
            actions=actions,
            quarantine=quarantine,
            adjustment=Adjustment.RAW_WITH_ACTIONS,
            findings=findings,
            missing=tuple(sorted(set(_named(symbols)) - set(bars.symbols))),
        )

    def pages(self, symbol: str, start: date, end: date) -> Iterator[MarketData]:
        """One symbol page by page, all its actions with the first; see ``RemoteProvider.pages``."""
        told = False
        for rows in self._bar_pages([symbol], start, end):
            if not rows:
                continue
            bars, quarantine = _screened(rows)
            actions, findings = (CorporateActions.of(), ()) if told else self._actions([symbol], start, end)
            told = True
            yield MarketData(
                bars=bars,
                actions=actions,
                quarantine=quarantine,
                adjustment=Adjustment.RAW_WITH_ACTIONS,
                findings=findings,
            )
        if not told and not self.quotes([symbol]):
            raise UnknownSymbol(f"alpaca has neither bars nor a quote of {symbol}; check its spelling")

    def quotes(self, symbols: Sequence[str]) -> list[Snapshot]:
        """The newest quote and trade of each symbol; a quote with one side only counts as none."""
        known: dict[str, Snapshot] = {}
        for some in _batches(symbols):
            answer = self._get("v2", "/stocks/snapshots", {"symbols": ",".join(some), "feed": self._feed})
            known |= {name: _snapshot(name, _mapping(row, name)) for name, row in answer.items() if row}
        return [known[symbol] for symbol in symbols if symbol in known]

    def options_snapshot(self, underlying: str) -> OptionChain:
        """Every contract of ``underlying`` with its quote, trade and greeks; the vendor has no open interest."""
        path = f"/options/snapshots/{quote(underlying, safe='')}"
        pages = self._pages("v1beta1", path, {"limit": CONTRACTS_PER_PAGE})
        rows = {contract: row for page in pages for contract, row in _mapping(page.get("snapshots"), path).items()}
        contracts = [_option(contract, underlying, _mapping(row, contract)) for contract, row in rows.items()]
        contracts.sort(key=lambda option: (option.expiry, option.strike, option.right, option.contract))
        return OptionChain(underlying=underlying, contracts=tuple(contracts))

    def stream(self, symbols: Sequence[str]) -> AsyncIterator[StreamEvent]:
        """Raises ``NotOffered``."""
        raise NotOffered("alpaca is asked for history and snapshots only: the live source is the stream of polygon")

    def _rows(self, symbols: Sequence[str], start: date | None, end: date | None) -> Iterable[Json]:
        """Rows of bars; a symbol that the vendor does not know has none."""
        try:
            return [row for page in self._bar_pages(symbols, start, end) for row in page]
        except UnknownSymbol:
            # One name it cannot read makes the vendor refuse the whole request.
            alone = () if len(symbols) == 1 else symbols
            return [row for symbol in alone for row in self._rows([symbol], start, end)]

    def _bar_pages(self, symbols: Sequence[str], start: date | None, end: date | None) -> Iterator[list[Json]]:
        from alpaca.data.enums import Adjustment as VendorAdjustment
        from alpaca.data.enums import DataFeed
        from alpaca.data.requests import StockBarsRequest
        from alpaca.data.timeframe import TimeFrame

        path = "/stocks/bars"
        request = StockBarsRequest(
            symbol_or_symbols=list(symbols),
            timeframe=TimeFrame.Day,
            start=_midnight(start or FIRST_SESSION),
            end=None if end is None else _midnight(end),
            limit=BARS_PER_PAGE,
            adjustment=VendorAdjustment.RAW,
            feed=DataFeed(self._feed),
        )
        for page in self._pages("v2", path, request.to_request_fields()):
            yield [
                {
                    "symbol": symbol,
                    "session": row.get("t"),
                    **{ours: row.get(name) for ours, name in BAR_FIELDS.items()},
                }
                for symbol, rows in _mapping(page.get("bars"), path).items()
                for row in _list(rows, path)
            ]

    def _actions(
        self, symbols: Sequence[str], start: date | None, end: date | None
    ) -> tuple[CorporateActions, tuple[str, ...]]:
        """Splits and dividends by ex-date, and a sentence on everything else that happened to the symbols."""
        path = "/corporate-actions"
        first, last = start or FIRST_SESSION, end or LAST_SESSION
        rows: dict[str, tuple[str, Json]] = {}  # by the vendor's id: a row that comes twice is one event
        for some in _batches(symbols):
            fields = {
                "symbols": ",".join(some),
                "start": max(FIRST_SESSION, first - PROCESSED_WITHIN).isoformat(),
                "end": min(LAST_SESSION, last + PROCESSED_WITHIN).isoformat(),
                "limit": ACTIONS_PER_PAGE,
            }
            for page in self._pages("v1", path, fields):
                for kind, found in _mapping(page.get("corporate_actions"), path).items():
                    rows |= {str(row.get("id", row)): (kind, row) for row in _list(found, path)}
        events = [(kind, _day(row), row) for kind, row in rows.values()]
        return _converted(event for event in events if event[1] is None or first <= event[1] <= last)

    def _pages(self, version: str, path: str, fields: Json) -> Iterator[Json]:
        """Every page of an answer as it arrives."""
        seen = set()
        token = None
        while True:
            page = self._get(version, path, {**fields, "page_token": token})
            yield page
            token = page.get("next_page_token")
            if not token:
                return
            if token in seen:
                raise ProviderUnavailable(f"alpaca: the pages of {path} lead round in a ring; try again later")
            seen.add(token)

    def _get(self, version: str, path: str, fields: Json) -> Json:
        return _mapping(self._client.get(path, fields, api_version=version), path)


def _plain(half: SecretStr | str | None) -> str:
    text = (half.get_secret_value() if isinstance(half, SecretStr) else half or "").strip()
    if not text:
        raise ProviderRefused(f"alpaca needs a key of two halves: set {' and '.join(KEY_VARIABLES)}")
    if not (text.isascii() and text.isprintable()):  # what a header cannot hold would fail with the key in its error
        raise ProviderRefused(f"alpaca's key holds a character that no key has: check {' and '.join(KEY_VARIABLES)}")
    return text


def _client(key: str, secret: str, base_url: str | None) -> Any:
    try:
        with warnings.catch_warnings():
            # alpaca-py 0.44 imports what websockets 14 deprecates; nobody who uses us can do anything about it.
            warnings.simplefilter("ignore", DeprecationWarning)
            from alpaca.data.historical.stock import StockHistoricalDataClient
    except ImportError as exc:
        raise EnvironmentFault("alpaca-py is not installed: pip install 'swiftbolt[alpaca]'") from exc
    return StockHistoricalDataClient(key, secret, url_override=base_url and base_url.rstrip("/"))


def _named(symbols: Sequence[str] | None) -> Sequence[str]:
    if symbols is None:
        raise NotOffered("alpaca has no list of all symbols: name those that are wanted")
    return symbols


def _batches(symbols: Sequence[str] | None) -> Iterator[Sequence[str]]:
    named = _named(symbols)
    return (named[first : first + SYMBOLS_PER_REQUEST] for first in range(0, len(named), SYMBOLS_PER_REQUEST))


def _screened(rows: Iterable[Json]) -> tuple[Bars, Quarantine]:
    """Bars of rows as the vendor sends them; what is no date or no number becomes null, to be quarantined."""
    columns: dict[str, list[object]] = {name: [] for name in BAR_SCHEMA}
    for row in rows:
        columns["symbol"].append(row["symbol"])
        columns["session"].append(str(row["session"])[: len("2020-01-02")])
        for name in BAR_FIELDS:
            columns[name].append(number_of(row[name]))
    frame = pl.DataFrame(columns, schema={**BAR_SCHEMA, "session": pl.String()})
    return screen_bars(frame.with_columns(pl.col("session").str.to_date("%Y-%m-%d", strict=False)))


def _converted(rows: Iterable[tuple[str, date | None, Json]]) -> tuple[CorporateActions, tuple[str, ...]]:
    """Rows by the vendor's kind as actions, one for each symbol, ex-date and kind, and a sentence on every other."""
    values: dict[tuple[str, date, Kind], float] = {}
    sentences = []
    for kind, day, row in rows:
        symbol = _symbol(row)
        split, dividend = _split_of(kind, row), _dividend_of(kind, row)
        if day is not None and split is not None:
            values[symbol, day, "split"] = values.get((symbol, day, "split"), 1.0) * split
        elif day is not None and dividend is not None:
            values[symbol, day, "dividend"] = values.get((symbol, day, "dividend"), 0.0) + dividend
        else:
            told = ", ".join(f"{name} {row[name]}" for name in sorted(row) if name.endswith(TOLD))
            sentences.append(
                f"{symbol} {day or 'undated'}: prices are not adjusted for {kind.replace('_', ' ')} ({told})"
            )
    actions = []
    for (symbol, day, kind), value in values.items():
        actions.append(CorporateAction(symbol=symbol, ex_date=day, kind=kind, value=value))
        if kind == "dividend" and (symbol, day, "split") in values:
            sentences.append(f"{symbol} {day}: the dividend of {value:g} counts for a share after that day's split")
    return CorporateActions.of(actions), tuple(sorted(sentences))


def _split_of(kind: str, row: Json) -> float | None:
    """New shares for each old one, or None where the row is no split."""
    if kind == "stock_dividends":
        rate = positive_of(row.get("rate"))
        return None if rate is None else 1.0 + rate
    if kind not in SPLITS or row.get("old_symbol") != row.get("new_symbol"):
        return None
    new, old = positive_of(row.get("new_rate")), positive_of(row.get("old_rate"))
    return None if new is None or old is None else new / old


def _dividend_of(kind: str, row: Json) -> float | None:
    """Dollars a share, or None where the row is no dividend in dollars."""
    if kind != "cash_dividends" or (row.get("currency") or "USD") != "USD":
        return None
    return positive_of(row.get("rate"))


def _symbol(row: Json) -> str:
    return next((str(row[name]) for name in WHO if row.get(name)), "?")


def _day(row: Json) -> date | None:
    text = next((str(row[name]) for name in WHEN if row.get(name)), "")
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _snapshot(symbol: str, row: Json) -> Snapshot:
    asked, traded = _mapping(row.get("latestQuote"), symbol), _mapping(row.get("latestTrade"), symbol)
    bid, ask, price = positive_of(asked.get("bp")), positive_of(asked.get("ap")), positive_of(traded.get("p"))
    newest_quote = newest_trade = None
    if bid is not None and ask is not None:
        bid_size, ask_size = number_of(asked.get("bs")) or 0.0, number_of(asked.get("as")) or 0.0
        at = _moment(symbol, asked.get("t"))
        newest_quote = Quote(symbol=symbol, at=at, bid=bid, ask=ask, bid_size=bid_size, ask_size=ask_size)
    if price is not None:
        at, size = _moment(symbol, traded.get("t")), number_of(traded.get("s")) or 0.0
        newest_trade = Trade(symbol=symbol, at=at, price=price, size=size)
    return Snapshot(symbol=symbol, quote=newest_quote, trade=newest_trade)


def _option(contract: str, underlying: str, row: Json) -> OptionSnapshot:
    """A contract by its OCC symbol: root, expiry as yymmdd, C or P, and the strike in thousandths of a dollar."""
    parts = OCC_SYMBOL.fullmatch(contract)
    if parts is None:
        raise SchemaError(f"alpaca: {contract!r} is not the symbol of an option; check --base-url")
    asked, traded, day, greeks = (
        _mapping(row.get(name), contract) for name in ("latestQuote", "latestTrade", "dailyBar", "greeks")
    )
    return OptionSnapshot(
        contract=contract,
        underlying=underlying,
        right=RIGHTS[parts["right"]],
        strike=int(parts["strike"]) / 1000,
        expiry=datetime.strptime(parts["expiry"], "%y%m%d").date(),
        bid=number_of(asked.get("bp")),
        ask=positive_of(asked.get("ap")),  # nobody gives one away: 0 is no offer
        last=number_of(traded.get("p")),
        volume=number_of(day.get("v")),
        implied_volatility=number_of(row.get("impliedVolatility")),
        delta=number_of(greeks.get("delta")),
        gamma=number_of(greeks.get("gamma")),
        theta=number_of(greeks.get("theta")),
        vega=number_of(greeks.get("vega")),
    )


def _mapping(value: object, where: str) -> Json:
    """``value`` if it is an object; the vendor's null is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SchemaError(f"alpaca: {where} holds {type(value).__name__} where an object must be; check --base-url")
    return value


def _list(value: object, where: str) -> list[Json]:
    """``value`` if it is a list of objects; the vendor's null is an empty one."""
    if value is None:
        return []
    if not (isinstance(value, list) and all(isinstance(row, dict) for row in value)):
        raise SchemaError(f"alpaca: {where} holds no list of objects where one must be; check --base-url")
    return value


def _moment(symbol: str, value: object) -> datetime:
    try:
        return datetime.fromisoformat(str(value)).astimezone(UTC)
    except ValueError as exc:
        raise SchemaError(f"alpaca: {value!r} is not the time of a quote or trade of {symbol}") from exc


def _midnight(day: date) -> datetime:
    """The moment the vendor gives the bar of ``day``."""
    return datetime(day.year, day.month, day.day, tzinfo=EXCHANGE_ZONE)
