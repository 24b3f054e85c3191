"""A local server in the shape of Polygon's REST API: bars, splits, dividends, tickers, snapshots and option chains.

It asks for the key as a bearer's, compresses, answers in pages whose ``next_url`` names the vendor's own host, and
fails as told. By hand, on the bundled sample or any file of bars:

    PYTHONPATH=tests python -m support.vendors.polygon --bars FILE --port 8900
    POLYGON_API_KEY=any swiftbolt ingest --provider polygon --base-url http://127.0.0.1:8900 --universe FILE
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit
from zoneinfo import ZoneInfo

from swiftbolt.actions import CorporateAction, CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.providers.files import read_market_data
from swiftbolt.providers.sample import SAMPLE_PATH
from swiftbolt.quotes import MinuteBar

KEY = "key-of-the-local-test"
OWN_HOST = "https://api.polygon.io"
NEW_YORK = ZoneInfo("America/New_York")
SPAN_MS = {"day": 86_400_000, "minute": 60_000}
TICK_S = 0.01
# The lists of corporate actions: path, kind, day, and whether the list is of the newer form.
ACTION_LISTS = {
    "/stocks/v1/splits": ("splits", "execution_date", True),
    "/stocks/v1/dividends": ("dividends", "ex_dividend_date", True),
    "/v3/reference/splits": ("splits", "execution_date", False),
    "/v3/reference/dividends": ("dividends", "ex_dividend_date", False),
}
MOST_ON_A_PAGE = {"/stocks": 5_000, "/v3/reference": 1_000, "/v3/snapshot": 250, "/v2/aggs": 50_000}
NEWER_ONLY = ("split_adjusted_cash_amount", "historical_adjustment_factor", "adjustment_type", "distribution_type")
FACTOR_OF_A_SPLIT = 1.2  # a vendor factor above is served as a split, below as a dividend

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it came."""

    path: str
    query: Mapping[str, str]
    authorization: str | None

    @property
    def cursor(self) -> Json | None:
        """What a later page was asked for with: the query of the first, and where the page begins."""
        return json.loads(urlsafe_b64decode(self.query["cursor"])) if "cursor" in self.query else None


@dataclass(frozen=True, kw_only=True)
class Fault:
    """An answer that is none.

    Attributes:
        body: sent as it stands, with ``status``; None sends what would have been the answer.
        cut: only half of the body is sent, then the line goes dead.
        told_length: the length is sent ahead; otherwise the body comes in chunks.
        pause: ``silence`` sends nothing at all, ``trickle`` a byte now and then and never all, until the client leaves.
        page: ``repeated``: the page before comes again; ``missing``: the next page is skipped; ``ring``: the next page
            is this one; ``endless``: it is this one under ever new names.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: bool = False
    told_length: bool = False
    pause: Literal["", "silence", "trickle"] = ""
    page: Literal["", "repeated", "missing", "ring", "endless"] = ""


def refused(status: int, message: str, **headers: str) -> Fault:
    """An error in the vendor's form; underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = {"status": "ERROR", "request_id": "local", "error": message}
    return Fault(status=status, headers=named, body=json.dumps(content).encode())


class PolygonServer:
    """Serves what it is given on ``url`` while its block lasts. Whatever it serves may be changed by a test.

    Args:
        actions: splits and dividends; factors become what has the same effect.
        minutes: bars of single minutes.
        snapshots: last quotes and trades by symbol. chains: contracts by underlying.
        delisted: symbols that have no details any more.
        page_size: most rows on a page, whatever the client asks for.
        newer_actions: whether there are the lists under /stocks/v1.
        key: the one that is accepted; None accepts any.
    """

    def __init__(
        self,
        bars: Bars | None = None,
        actions: CorporateActions | None = None,
        *,
        minutes: Iterable[MinuteBar] = (),
        snapshots: Mapping[str, Json] | None = None,
        chains: Mapping[str, Sequence[Json]] | None = None,
        delisted: Iterable[str] = (),
        page_size: int = 50_000,
        newer_actions: bool = True,
        key: str | None = KEY,
        port: int = 0,
    ) -> None:
        rows = [] if bars is None else bars.frame.to_dicts()
        self.days: dict[str, list[Json]] = {}
        for row in rows:
            self.days.setdefault(row["symbol"], []).append(_bar(row, _midnight(row["session"])))
        self.minutes: dict[str, list[Json]] = {}
        for minute in minutes:
            prices = {name: getattr(minute, name) for name in ("open", "high", "low", "close", "volume")}
            self.minutes.setdefault(minute.symbol, []).append(_bar(prices, minute.at))
        events = list(actions or CorporateActions.of())
        closes = {(row["symbol"], row["session"]): row["close"] for row in rows}
        self.splits, self.dividends = _action_rows([_event(event, closes) for event in events])
        self.snapshots, self.chains = dict(snapshots or {}), dict(chains or {})
        self.delisted = set(delisted)
        self.page_size, self.newer_actions, self.key = page_size, newer_actions, key
        self.asked: list[Asked] = []
        self._faults: list[tuple[str, Fault, bool]] = []
        self._over = threading.Event()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.polygon = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": TICK_S})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fail(self, *faults: Fault, on: str = "", always: bool = False) -> None:
        """Give each of ``faults`` once (or ``always``), in order, to requests whose address contains ``on``."""
        self._faults += [(on, fault, always) for fault in faults]

    def paths(self) -> list[str]:
        """The path of every request, in order."""
        return [asked.path for asked in self.asked]

    def pause(self) -> bool:
        """Wait a moment; False once the server is about to close."""
        return not self._over.wait(TICK_S)

    def fault_on(self, address: str) -> Fault:
        for position, (on, fault, always) in enumerate(self._faults):
            if on in address:
                if not always:
                    del self._faults[position]
                return fault
        return Fault()

    def answer(self, asked: Asked, fault: Fault) -> tuple[int, Json]:
        """Status and content."""
        cursor = asked.cursor or {}
        query = cursor.get("query", asked.query)
        parts = [unquote(part) for part in asked.path.split("/")[1:]]
        match parts:
            case ["v2", "aggs", "ticker", symbol, "range", "1", ("day" | "minute") as span, first, last]:
                if query.get("adjusted") != "false":
                    return 400, {"status": "ERROR", "error": "only raw bars are served here"}
                held = (self.days if span == "day" else self.minutes).get(symbol, [])
                since, until = _window(first, 0), _window(last, SPAN_MS["day"] - 1)
                rows = [row for row in held if since <= row["t"] <= until]
                page = self._page(asked, query, rows, fault)
                count = len(page.get("results", []))
                return 200, {"ticker": symbol, "adjusted": False, "queryCount": count, "resultsCount": count, **page}
            case ["v3", "reference", "tickers", symbol]:
                if symbol in self.days and symbol not in self.delisted:
                    return 200, {"status": "OK", "results": _ticker(symbol, active=True)}
                return 404, {"status": "NOT_FOUND", "message": "Ticker not found."}
            case ["v3", "reference", "tickers"]:
                is_active = query.get("active", "true") == "true"
                known = set(self.days) - self.delisted if is_active else self.delisted
                rows = [_ticker(symbol, active=is_active) for symbol in sorted(known & {query["ticker"]})]
                return 200, self._page(asked, query, rows, fault)
            case ["v2", "snapshot", "locale", "us", "markets", "stocks", "tickers"]:
                wanted = [symbol for symbol in query.get("tickers", "").split(",") if symbol] or list(self.snapshots)
                found = [{"ticker": name, **self.snapshots[name]} for name in wanted if name in self.snapshots]
                return 200, {"status": "OK", "count": len(found), "tickers": found}
            case ["v3", "snapshot", "options", underlying]:
                return 200, self._page(asked, query, list(self.chains.get(underlying, [])), fault)
        if asked.path in ACTION_LISTS:
            kind, day, is_newer = ACTION_LISTS[asked.path]
            if is_newer and not self.newer_actions:
                return 404, {"status": "NOT_FOUND"}
            rows = [
                row if is_newer else _older(kind, row)
                for row in (self.splits if kind == "splits" else self.dividends)
                if row["ticker"] == query["ticker"] and str(row.get(day)) >= query[f"{day}.gte"]
            ]
            return 200, self._page(asked, query, sorted(rows, key=lambda row: str(row.get(day))), fault)
        return 404, {"status": "NOT_FOUND"}

    def _page(self, asked: Asked, query: Mapping[str, str], rows: Sequence[Json], fault: Fault) -> Json:
        most = next((most for prefix, most in MOST_ON_A_PAGE.items() if asked.path.startswith(prefix)), 1_000)
        size = min(self.page_size, most, int(query.get("limit", 10)))
        first: int = (asked.cursor or {}).get("first", 0)
        if fault.page == "repeated":
            first = max(0, first - size)
        following = first + size
        if fault.page == "missing":
            following += size
        elif fault.page in ("ring", "endless"):
            following = first
        page: Json = {"status": "OK", "request_id": "local"}
        if rows:
            page["results"] = rows[first : first + size]
        if following < len(rows):
            count = len(self.asked) if fault.page == "endless" else 0
            cursor = json.dumps({"query": dict(query), "first": following, "count": count}).encode()
            page["next_url"] = f"{OWN_HOST}{asked.path}?cursor={urlsafe_b64encode(cursor).decode()}"
        return page


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a kept connection outlives its last request
    polygon: PolygonServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        polygon = self.server.polygon
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        asked = Asked(path=parts.path, query=query, authorization=self.headers["Authorization"])
        polygon.asked.append(asked)
        fault = polygon.fault_on(self.path)
        if fault.pause == "silence":
            while polygon.pause():
                pass
            self.close_connection = True
            return
        if not (asked.authorization or "").startswith("Bearer ") or (
            polygon.key is not None and asked.authorization != f"Bearer {polygon.key}"
        ):
            status, content = 401, {"status": "ERROR", "request_id": "local", "error": "Unknown API Key"}
        else:
            status, content = polygon.answer(asked, fault)
        if fault.body is not None or fault.status != 200:
            status = fault.status
        self._send(status, json.dumps(content).encode() if fault.body is None else fault.body, fault)

    def _send(self, status: int, body: bytes, fault: Fault) -> None:
        body = gzip.compress(body, compresslevel=1)
        self.send_response(status)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Encoding", "gzip")
        if fault.told_length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = body[: len(body) // 2] if fault.cut else body
        if fault.pause == "trickle":
            self._trickle(sent)
        elif fault.told_length:
            self.wfile.write(sent)
        else:
            self._chunk(sent)
            if not fault.cut:
                self._chunk(b"")
        self.close_connection = fault.cut or bool(fault.pause)

    def _chunk(self, part: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

    def _trickle(self, body: bytes) -> None:
        """The beginning, then a byte at a time of a member of no length, which decompresses to nothing."""
        try:
            self._chunk(body[:1])
            while self.server.polygon.pause():
                self._chunk(b"\0")
        except OSError:
            pass  # the client has left

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what was asked is in ``PolygonServer.asked``."""


def _bar(row: Mapping[str, Any], at: datetime) -> Json:
    letters = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
    numbers = {letter: row[name] for name, letter in letters.items()}
    return {**numbers, "vw": (row["high"] + row["low"]) / 2, "t": round(at.timestamp() * 1000), "n": 1000}


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=NEW_YORK)


def _window(edge: str, whole_day_ms: int) -> int:
    """An edge of a range in milliseconds; of one given as a day the first or last of the day."""
    if edge.isdigit():
        return int(edge)
    return round(_midnight(date.fromisoformat(edge)).timestamp() * 1000) + whole_day_ms


def _ticker(symbol: str, *, active: bool) -> Json:
    return {
        "ticker": symbol,
        "name": f"{symbol} Inc.",
        "market": "stocks",
        "active": active,
        "currency_name": "usd",
        "primary_exchange": "XNAS",
        "list_date": "1980-12-12",
    }


def _event(action: CorporateAction, closes: Mapping[tuple[str, date], float]) -> CorporateAction:
    """``action``, or in place of a factor the split or dividend that has the same effect."""
    if action.kind != "factor":
        return action
    close = closes.get((action.symbol, action.ex_date))
    is_dividend = close is not None and 1 < action.value < FACTOR_OF_A_SPLIT
    value = close * (action.value - 1) if close is not None and is_dividend else action.value
    kind: Literal["dividend", "split"] = "dividend" if is_dividend else "split"
    return CorporateAction(symbol=action.symbol, ex_date=action.ex_date, kind=kind, value=value)


def _action_rows(actions: Sequence[CorporateAction]) -> tuple[list[Json], list[Json]]:
    """Splits and dividends in the newer form, in which dividends count for a share after a split of the same day."""
    splits = [action for action in actions if action.kind == "split"]
    dividends = [
        {
            "id": f"D{position}",
            "ticker": action.symbol,
            "ex_dividend_date": action.ex_date.isoformat(),
            "declaration_date": action.known_at and action.known_at.isoformat(),
            "pay_date": (action.ex_date + timedelta(days=14)).isoformat(),
            "cash_amount": action.value,
            "currency": "USD",
            "distribution_type": "recurring",
            "frequency": 4,
            "split_adjusted_cash_amount": action.value
            / math.prod(s.value for s in splits if s.symbol == action.symbol and s.ex_date > action.ex_date),
            "historical_adjustment_factor": 0.99,
        }
        for position, action in enumerate(actions)
        if action.kind == "dividend"
    ]
    return [_split_row(position, split) for position, split in enumerate(splits)], dividends


def _split_row(position: int, split: CorporateAction) -> Json:
    is_reverse = split.value < 1
    return {
        "id": f"S{position}",
        "ticker": split.symbol,
        "execution_date": split.ex_date.isoformat(),
        "split_from": 1 / split.value if is_reverse else 1,
        "split_to": 1 if is_reverse else split.value,
        "adjustment_type": "reverse_split" if is_reverse else "forward_split",
        "historical_adjustment_factor": 1 / split.value,
    }


def _older(kind: str, row: Json) -> Json:
    """A row as the lists under /v3/reference have it."""
    kept = {name: value for name, value in row.items() if name not in NEWER_ONLY}
    return kept if kind == "splits" else {**kept, "dividend_type": "CD"}


def main() -> None:
    """Serve a file of bars until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bars", type=Path, default=SAMPLE_PATH, help="parquet or CSV; the bundled sample by default")
    parser.add_argument("--port", type=int, default=8900)
    options = parser.parse_args()
    data = read_market_data(options.bars)
    with PolygonServer(data.bars, data.actions, key=None, port=options.port) as server:
        print(f"{len(data.bars):,} bars of {len(data.bars.symbols)} symbols at {server.url}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("interrupted")


if __name__ == "__main__":
    main()
