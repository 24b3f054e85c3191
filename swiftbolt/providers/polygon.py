"""Market data from Polygon, which now calls itself Massive, through its own client (``massive``).

The vendor's conventions end here:

- A daily bar's time is its window's start in UTC milliseconds, midnight in New York (some servers send midnight UTC):
  either way its UTC date is the session. A session under way comes with what has traded so far: ask for closed ones.
- Prices are asked for as traded (``adjusted=false``); ``adjusted=true`` would rewrite them with every later split.
- Sizes of quotes have been in shares since November 2025.

What its rows become, splits and dividends above all, stands in ``polygon_rows``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

import numpy as np
import polars as pl
from pydantic import SecretStr

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import BAR_SCHEMA, Bars, Quarantine, empty_quarantine, screen_bars
from swiftbolt.errors import (
    ConfigError,
    DataError,
    NotOffered,
    ProviderRefused,
    ProviderUnavailable,
    SchemaError,
    UnknownSymbol,
)
from swiftbolt.providers.base import Adjustment, MarketData
from swiftbolt.providers.json_values import number_of
from swiftbolt.providers.patience import Json
from swiftbolt.providers.polygon_rows import (
    MILLISECOND,
    actions_of,
    day_of,
    mapping_of,
    moment_of,
    option_of,
    rows_of,
    session_of,
    snapshot_of,
    text_of,
)
from swiftbolt.providers.stream import EPOCH, KEY_VARIABLE, stream_events
from swiftbolt.providers.throttle import PATIENCE_S, PatientPool, TokenBucket
from swiftbolt.quotes import (
    MinuteBar,
    OptionChain,
    Snapshot,
    StreamEvent,
    TickerDetails,
)
from swiftbolt.sessions import FIRST_SESSION, LAST_SESSION, all_sessions, as_day

STREAM_URL = "wss://socket.massive.com/stocks"
OWN_DOMAINS = ("massive.com", "polygon.io")
FREE_REQUESTS_PER_MINUTE = 5.0
# Most that the vendor puts on a page, by kind of list.
BARS_PER_PAGE = 50_000
ACTIONS_PER_PAGE = {"v1": 5_000, "v3": 1_000}
CONTRACTS_PER_PAGE = 250
SYMBOLS_PER_SNAPSHOT = 100
REPEATS_BORNE = 3  # a page may come again by mistake; a chain that brings only repeats has no end
MAX_PAGES = 10_000
BAR_FIELDS = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
WELL = ("OK", "DELAYED")


class PolygonProvider:
    """Serves daily and minute bars, corporate actions, quotes, option chains and a live stream.

    Args:
        key: never shown. None or empty is refused.
        base_url, stream_url: other addresses of the API and of the stream; None is the vendor's own.
        requests_per_minute: None takes 5, the free plan's limit, at the vendor's own address and none at another.
        timeout_s: for a connection, for silence, and for an answer to be whole once it has begun.
        patience_s: most that one request waits between its attempts, all waits together.
        limit: bars asked for on a page.
        clock, sleep: what spaces requests out and waits between attempts.
        now: the time, by which the stream knows which minutes are over.

    Raises:
        ProviderRefused: there is no key, or an address is none.
        ConfigError: ``requests_per_minute`` is not above zero.
    """

    source: ClassVar[str] = "polygon"

    def __init__(
        self,
        *,
        key: SecretStr | str | None,
        base_url: str | None = None,
        stream_url: str | None = None,
        requests_per_minute: float | None = None,
        timeout_s: float = 30.0,
        patience_s: float = PATIENCE_S,
        limit: int = BARS_PER_PAGE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._key = _plain(key)
        self._stream_url = stream_url or STREAM_URL
        self._limit = limit
        self._now = now
        self._actions_version = "v1"
        if requests_per_minute is None and _is_own(base_url):
            requests_per_minute = FREE_REQUESTS_PER_MINUTE
        try:
            bucket = TokenBucket(requests_per_minute, clock=clock, sleep=sleep)
        except ValueError as exc:
            raise ConfigError(self.source, "--requests-per-minute", str(exc)) from exc
        self._client = _client(self._key, base_url, timeout_s)
        # The client's own retries know neither a limit on requests nor one on the time they take.
        self._client.client = PatientPool(
            pool=self._client.client,
            bucket=bucket,
            vendor=self.source,
            hidden=self._key,
            key_variable=KEY_VARIABLE,
            timeout_s=timeout_s,
            patience_s=patience_s,
            clock=clock,
            sleep=sleep,
        )

    def bars(
        self, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
    ) -> tuple[Bars, Quarantine]:
        """Raw daily bars; see ``Provider.bars``. A symbol that the vendor does not know has none.

        Raises:
            NotOffered: no symbols are named.
        """
        parts = [part for symbol in sorted(set(_named(symbols))) for part in self._screened(symbol, start, end)]
        bars = pl.concat([pl.DataFrame(schema=BAR_SCHEMA), *(part.frame for part, _ in parts)])
        quarantined = [empty_quarantine().frame, *(quarantine.frame for _, quarantine in parts)]
        return Bars(frame=bars.sort("symbol", "session")), Quarantine(frame=pl.concat(quarantined))

    def corporate_actions(
        self, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
    ) -> CorporateActions:
        """Splits and dividends with an ex-date from ``start`` to ``end``; see ``Provider.corporate_actions``.

        Raises:
            NotOffered: no symbols are named.
        """
        frames = [self._actions(symbol, start)[0].select(as_of=end).frame for symbol in sorted(set(_named(symbols)))]
        return CorporateActions.from_frame(pl.concat([CorporateActions.of().frame, *frames]))

    def fetch(
        self, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
    ) -> MarketData:
        """Bars and actions of many symbols at once, actions declared beyond ``end`` included; see ``Provider.fetch``.

        Raises:
            NotOffered: no symbols are named.
        """
        bars, quarantine = self.bars(symbols, start, end)
        if not len(bars):
            faults = "; ".join(quarantine.summary()) or "check symbols and dates"
            raise DataError(f"polygon: no usable row of {', '.join(_named(symbols))}: {faults}")
        found = [self._actions(symbol, start) for symbol in bars.symbols]
        return MarketData(
            bars=bars,
            actions=CorporateActions.from_frame(pl.concat(actions.frame for actions, _ in found)),
            quarantine=quarantine,
            adjustment=Adjustment.RAW_WITH_ACTIONS,
            findings=tuple(sentence for _, sentences in found for sentence in sentences),
            missing=tuple(sorted(set(_named(symbols)) - set(bars.symbols))),
        )

    def pages(self, symbol: str, start: date, end: date) -> Iterator[MarketData]:
        """One symbol page by page, with the first all its actions from ``start`` on; see ``RemoteProvider.pages``."""
        told = False
        for bars, quarantine in self._screened(symbol, start, end):
            actions, findings = (CorporateActions.of(), ()) if told else self._actions(symbol, start)
            told = True
            yield MarketData(
                bars=bars,
                actions=actions,
                quarantine=quarantine,
                adjustment=Adjustment.RAW_WITH_ACTIONS,
                findings=findings,
            )
        if not told:
            self.ticker_details(symbol)

    def ticker_details(self, symbol: str) -> TickerDetails:
        """Who ``symbol`` is, delisted ones included.

        Raises:
            UnknownSymbol: the vendor has never heard of it.
        """
        try:
            row = mapping_of(self._ask(self._client.get_ticker_details, quote(symbol, safe="")).get("results"), symbol)
        except _NotThere as exc:  # details are of listed symbols only
            delisted = self._list(self._client.list_tickers, ticker=symbol, active=False, limit=1)
            if not delisted:
                raise UnknownSymbol(f"polygon does not know symbol {symbol}; check its spelling") from exc
            row = delisted[0]
        currency = text_of(row, "currency_name")
        return TickerDetails(
            symbol=symbol,
            name=text_of(row, "name") or symbol,
            active=bool(row.get("active", False)),
            exchange=text_of(row, "primary_exchange"),
            currency=currency and currency.upper(),
            listed=day_of(row, "list_date"),
        )

    def quotes(self, symbols: Sequence[str]) -> list[Snapshot]:
        """The newest quote and trade of each symbol; a quote with one side only counts as none."""
        known: dict[str, Snapshot] = {}
        for first in range(0, len(symbols), SYMBOLS_PER_SNAPSHOT):
            some = list(symbols[first : first + SYMBOLS_PER_SNAPSHOT])
            content = self._ask(self._client.get_snapshot_all, "stocks", tickers=some)
            rows = {str(row.get("ticker")): row for row in rows_of(content, "tickers", "the snapshots")}
            known |= {symbol: snapshot_of(symbol, rows[symbol]) for symbol in some if symbol in rows}
        return [known[symbol] for symbol in symbols if symbol in known]

    def options_snapshot(self, underlying: str) -> OptionChain:
        """Every contract of ``underlying`` with its quote, trade, open interest and greeks.

        Raises:
            UnknownSymbol: the vendor does not know the underlying.
        """
        listed, params = self._client.list_snapshot_options_chain, {"limit": CONTRACTS_PER_PAGE}
        try:
            rows = self._list(listed, quote(underlying, safe=""), params=params)
        except _NotThere:
            rows = []
        if not rows:
            self.ticker_details(underlying)
        contracts = {option.contract: option for option in (option_of(underlying, row) for row in rows)}
        ordered = sorted(contracts.values(), key=lambda option: (option.expiry, option.strike, option.right))
        return OptionChain(underlying=underlying, contracts=tuple(ordered))

    def minute_bars(self, symbol: str, first: datetime, last: datetime) -> list[MinuteBar]:
        """Bars of the minutes that start from ``first`` to ``last``, both included; one without trades has none."""
        found: dict[datetime, MinuteBar] = {}
        for rows in self._bar_pages(symbol, "minute", (first - EPOCH) // MILLISECOND, (last - EPOCH) // MILLISECOND):
            for row in rows:
                at, numbers = (
                    moment_of(row.get("t")),
                    {name: number_of(row.get(key)) for name, key in BAR_FIELDS.items()},
                )
                known = {name: number for name, number in numbers.items() if number is not None}
                if at is None or len(known) < len(BAR_FIELDS):
                    raise SchemaError(f"polygon: {row} is no minute bar of {symbol}; check --base-url")
                if first <= at <= last:
                    found.setdefault(at, MinuteBar(symbol=symbol, at=at, **known))
        return [found[at] for at in sorted(found)]

    def stream(self, symbols: Sequence[str]) -> AsyncIterator[StreamEvent]:
        """Minute bars, trades and quotes as they come; minutes lost to a broken connection are asked for again."""
        return stream_events(
            self._stream_url,
            self._key,
            symbols,
            backfill=self.minute_bars,
            rng=np.random.default_rng(),
            now=self._now,
        )

    def _screened(self, symbol: str, start: date | None, end: date | None) -> Iterator[tuple[Bars, Quarantine]]:
        """Bars page by page, each session once, and the rows that are none.

        A page that was lost on the way shows as a gap to the page before; its sessions are asked for once more.
        """
        history = _History(symbol=symbol, first=start or FIRST_SESSION, last=end or LAST_SESSION)
        for rows in self._bar_pages(symbol, "day", history.first, history.last):
            gap = history.gap_before(rows)
            for lost in () if gap is None else self._bar_pages(symbol, "day", *gap):
                yield from history.joined(lost)
            yield from history.joined(rows)

    def _bar_pages(self, symbol: str, span: str, first: date | int, last: date | int) -> Iterator[list[Json]]:
        pages = self._pages(
            self._client.list_aggs, quote(symbol, safe=""), 1, span, first, last,
            adjusted=False, sort="asc", limit=self._limit,
        )  # fmt: skip
        return (rows_of(page, "results", f"the bars of {symbol}") for page in pages)

    def _actions(self, symbol: str, start: date | None) -> tuple[CorporateActions, tuple[str, ...]]:
        """Splits and dividends with an ex-date from ``start`` on, however far ahead, and what was left out."""
        since = start or FIRST_SESSION
        splits = self._action_rows("splits", symbol, "execution_date", since)
        dividends = self._action_rows("dividends", symbol, "ex_dividend_date", since)
        return actions_of(symbol, splits, dividends)

    def _action_rows(self, kind: str, symbol: str, day: str, since: date) -> list[Json]:
        """Rows of the newer list, or of the older where a server lacks the newer; which one is found out once."""
        listed = {"ticker": symbol, f"{day}_gte": since.isoformat()}
        if self._actions_version == "v1":
            newer = getattr(self._client, f"list_stocks_{kind}")
            try:
                return self._list(newer, **listed, sort=f"{day}.asc", limit=ACTIONS_PER_PAGE["v1"])
            except _NotThere:
                self._actions_version = "v3"
        older = getattr(self._client, f"list_{kind}")
        return self._list(older, **listed, sort=day, order="asc", limit=ACTIONS_PER_PAGE["v3"])

    def _list(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> list[Json]:
        """Rows of every page."""
        pages = self._pages(method, *arguments, **options)
        return [row for page in pages for row in rows_of(page, "results", method.__name__)]

    def _pages(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Json]:
        """Every page of an answer as it arrives.

        Of the next page's address only path and query count: the key is never sent to another host.
        """
        what = method.__name__
        content = self._ask(method, *arguments, **options)
        seen: Counter[str | int] = Counter()
        for _ in range(MAX_PAGES):
            yield content
            if not content.get("next_url"):
                return
            path = _path_of(str(content["next_url"]))
            for mark in (path, hash(str(content.get("results")))):
                seen[mark] += 1
                if seen[mark] > REPEATS_BORNE:
                    raise ProviderUnavailable(f"polygon: the pages of {what} repeat without an end; try again later")
            content = self._ask(self._client._get, path, {})
        raise ProviderUnavailable(f"polygon: {what} has more than {MAX_PAGES:,} pages; ask for less at a time")

    def _ask(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Json:
        """The JSON object that a method of the client gets.

        Raises:
            _NotThere: the answer is 404.
        """
        from massive.exceptions import BadResponse

        try:
            content: Json = method(*arguments, **options, raw=True).content
        except BadResponse as exc:  # what our pool hands on that is not 200 is 404
            raise _NotThere(f"polygon has nothing at {method.__name__}; check symbols and --base-url") from exc
        if content.get("status", WELL[0]) not in WELL:
            raise ProviderRefused(f"polygon refuses {method.__name__} ({content['status']}); check symbols and dates")
        return content


class _NotThere(ProviderRefused):
    """The vendor has nothing at an address."""


@dataclass(kw_only=True, slots=True)
class _History:
    """The daily bars of one symbol, joined from pages as they arrive; ``newest`` is the last session of any row."""

    symbol: str
    first: date
    last: date
    newest: date | None = None
    held: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=BAR_SCHEMA))

    def gap_before(self, rows: Iterable[Json]) -> tuple[date, date] | None:
        """First and last of the sessions between what came before and ``rows``, if there are any."""
        begin = min((session for row in rows if (session := session_of(row)) is not None), default=None)
        if begin is None or self.newest is None or self.newest >= begin:
            return None
        calendar = all_sessions()
        between: list[date] = calendar[(calendar > as_day(self.newest)) & (calendar < as_day(begin))].tolist()
        return (between[0], between[-1]) if between else None

    def joined(self, rows: Sequence[Json]) -> Iterator[tuple[Bars, Quarantine]]:
        """What ``rows`` add. A session that is held already counts as a repeat, or where it differs as a conflict."""
        columns: dict[str, list[object]] = {
            "symbol": [self.symbol] * len(rows),
            "session": [session_of(row) for row in rows],
            **{name: [number_of(row.get(letter)) for row in rows] for name, letter in BAR_FIELDS.items()},
        }
        came = pl.DataFrame(columns, schema=BAR_SCHEMA).filter(
            pl.col("session").is_null() | pl.col("session").is_between(self.first, self.last)
        )
        known = self.held.join(came, on="session", how="semi")
        bars, quarantine = screen_bars(pl.concat([known, came]))
        new = bars.frame.join(known, on="session", how="anti", maintain_order="left")
        self.held = pl.concat([self.held, new])
        self.newest = max((day for day in (self.newest, came["session"].max()) if isinstance(day, date)), default=None)
        if len(came):
            yield Bars(frame=new), quarantine


def _plain(key: SecretStr | str | None) -> str:
    text = (key.get_secret_value() if isinstance(key, SecretStr) else key or "").strip()
    if not text:
        raise ProviderRefused(f"polygon needs a key: set {KEY_VARIABLE} (a free one is made at https://massive.com)")
    if not (text.isascii() and text.isprintable()):  # what a header cannot hold would fail with the key in its error
        raise ProviderRefused(f"polygon's key holds a character that no key has: check {KEY_VARIABLE}")
    return text


def _client(key: str, base_url: str | None, timeout_s: float) -> Any:
    """The vendor's own client, which tries nothing again."""
    from massive import RESTClient  # heavy: every product of the vendor

    options: dict[str, Any] = {} if base_url is None else {"base": base_url.rstrip("/")}
    return RESTClient(api_key=key, retries=0, connect_timeout=timeout_s, read_timeout=timeout_s, **options)


def _is_own(base_url: str | None) -> bool:
    """Whether the vendor itself answers there. An address that is none is refused."""
    if base_url is None:
        return True
    try:
        parts = urlsplit(base_url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        raise ProviderRefused("polygon cannot be asked at that address: check --base-url (http://HOST:PORT)")
    return any(host == domain or host.endswith(f".{domain}") for domain in OWN_DOMAINS)


def _path_of(address: str) -> str:
    """Path and query of the next page's address. Without its slash a path would lengthen our host's name."""
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    if not parts.path.startswith("/"):
        raise ProviderUnavailable(f"polygon: {address[:200]!r} is no address of a next page; try again later")
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _named(symbols: Sequence[str] | None) -> Sequence[str]:
    if symbols is None:
        raise NotOffered("polygon is asked symbol by symbol: name those that are wanted")
    return symbols
