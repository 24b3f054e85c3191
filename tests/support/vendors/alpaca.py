"""A local server in the shape of Alpaca's data API: daily bars, corporate actions, snapshots and option chains.

It asks for the key in both headers, answers in pages, compressed and in chunks as the vendor does, and fails as told.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

from swiftbolt.bars import Bars

KEY, SECRET = "AKLOCALTEST", "secret-of-the-local-test"
NEW_YORK = ZoneInfo("America/New_York")
SYMBOL = re.compile(r"[A-Z]+(\.[A-Z]+)?")
NAMES_OF_A_SYMBOL = ("symbol", "source_symbol", "old_symbol", "new_symbol", "acquiree_symbol", "acquirer_symbol")
TICK_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it came."""

    path: str
    query: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """An answer that is none.

    Attributes:
        body: sent as it stands; None sends what would have been the answer.
        cut: only half of the body is sent, then the line goes dead.
        told_length: the body is announced with its length instead of sent in chunks.
        pause: ``silence`` sends nothing at all, ``trickle`` a byte now and then that ends never.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: bool = False
    told_length: bool = False
    pause: Literal["", "silence", "trickle"] = ""


def refused(status: int, message: str, **headers: str) -> Fault:
    """An error in the vendor's form; underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(status=status, headers=named, body=json.dumps({"message": message}).encode())


class AlpacaServer:
    """Serves what it is given on ``url`` while its block lasts.

    Args:
        actions: rows by kind as the vendor has them, chosen by their ``process_date``.
        snapshots: by symbol. chains: snapshots of contracts by underlying.
        page_size: most rows on a page, whatever the client asks for.
    """

    def __init__(
        self,
        bars: Bars | None = None,
        *,
        actions: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        snapshots: Mapping[str, Any] | None = None,
        chains: Mapping[str, Mapping[str, Any]] | None = None,
        page_size: int = 10_000,
    ) -> None:
        self.rows = [] if bars is None else [(row["symbol"], _bar(row)) for row in bars.frame.to_dicts()]
        self.actions, self.snapshots, self.chains = actions or {}, snapshots or {}, chains or {}
        self.page_size = page_size
        self.asked: list[Asked] = []
        self._faults: list[tuple[str, Fault]] = []
        self._over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.alpaca = self
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

    def fail(self, *faults: Fault, on: str = "") -> None:
        """Give each of ``faults`` once, in order, to requests whose path contains ``on``."""
        self._faults += [(on, fault) for fault in faults]

    def paths(self) -> list[str]:
        """The path of every request, in order."""
        return [asked.path for asked in self.asked]

    def pause(self) -> bool:
        """Wait a moment; False once the server is about to close."""
        return not self._over.wait(TICK_S)

    def fault_on(self, path: str) -> Fault | None:
        for position, (on, fault) in enumerate(self._faults):
            if on in path:
                del self._faults[position]
                return fault
        return None

    def answer(self, asked: Asked) -> tuple[int, object]:
        """Status and content."""
        query = asked.query
        symbols = query.get("symbols", "").split(",")
        for symbol in symbols if "symbols" in query else []:
            if not SYMBOL.fullmatch(symbol):
                return 400, {"message": f"invalid symbol: {symbol}"}
        if asked.path == "/v2/stocks/bars":
            if (query["timeframe"], query["adjustment"]) != ("1Day", "raw"):
                return 422, {"message": "only raw days are served here"}
            since, until = query["start"], query.get("end", "9999")
            rows = [pair for pair in self.rows if pair[0] in symbols and _at(since) <= pair[1]["t"] <= _at(until)]
            return 200, self._page("bars", rows, query)
        if asked.path == "/v1/corporate-actions":
            rows = [
                (kind, dict(row))
                for kind, given in self.actions.items()
                for row in given
                if {row.get(name) for name in NAMES_OF_A_SYMBOL} & set(symbols)
                and query["start"] <= row["process_date"] <= query["end"]
            ]
            return 200, self._page("corporate_actions", rows, query)
        if asked.path == "/v2/stocks/snapshots":
            return 200, {symbol: self.snapshots[symbol] for symbol in symbols if symbol in self.snapshots}
        if asked.path.startswith("/v1beta1/options/snapshots/"):
            chain = self.chains.get(asked.path.rpartition("/")[2], {})
            page = self._page("snapshots", list(chain.items()), query)
            return 200, {**page, "snapshots": {name: rows[0] for name, rows in page["snapshots"].items()}}
        return 404, {"message": "Not Found"}

    def _page(self, key: str, rows: Sequence[tuple[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
        first = int(b64decode(query["page_token"])) if "page_token" in query else 0
        last = first + min(self.page_size, int(query["limit"]))
        grouped: dict[str, list[Any]] = {}
        for name, row in rows[first:last]:
            grouped.setdefault(name, []).append(row)
        token = b64encode(str(last).encode()).decode() if last < len(rows) else None
        return {key: grouped, "next_page_token": token}


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a kept connection outlives its last request
    alpaca: AlpacaServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        alpaca = self.server.alpaca
        parts = urlsplit(self.path)
        asked = Asked(path=parts.path, query=dict(parse_qsl(parts.query)))
        alpaca.asked.append(asked)
        fault = alpaca.fault_on(asked.path) or Fault()
        self.close_connection = fault.cut or bool(fault.pause)
        if fault.pause == "silence":
            while alpaca.pause():
                pass
        elif fault.pause == "trickle":
            self._trickle()
        elif fault.body is not None:
            self._send(fault.status, fault.body, fault)
        elif (self.headers["APCA-API-KEY-ID"], self.headers["APCA-API-SECRET-KEY"]) != (KEY, SECRET):
            self._send(401, b'{"message": "unauthorized."}', fault)
        else:
            status, content = alpaca.answer(asked)
            self._send(status, json.dumps(content).encode(), fault)

    def _send(self, status: int, body: bytes, fault: Fault) -> None:
        body = gzip.compress(body)
        length = {"Content-Length": str(len(body))} if fault.told_length else {"Transfer-Encoding": "chunked"}
        self._head(status, {**fault.headers, **length, "Content-Encoding": "gzip"})
        sent = body[: len(body) // 2] if fault.cut else body
        if fault.told_length:
            self.wfile.write(sent)
            return
        self._chunk(sent)
        if not fault.cut:
            self._chunk(b"")

    def _trickle(self) -> None:
        """A blank at a time, which JSON may begin with, and nothing else."""
        self._head(200, {"Transfer-Encoding": "chunked"})
        try:
            while self.server.alpaca.pause():
                self._chunk(b" ")
        except OSError:
            pass  # the client has left

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response_only(status)
        for name, value in {"Date": self.date_time_string(), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _chunk(self, part: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what was asked is in ``AlpacaServer.asked``."""


def _bar(row: Mapping[str, Any]) -> dict[str, Any]:
    session: date = row["session"]
    midnight = datetime(session.year, session.month, session.day, tzinfo=NEW_YORK).astimezone(UTC)
    return {
        "t": f"{midnight:%Y-%m-%dT%H:%M:%SZ}",
        **{letter: row[name] for letter, name in zip("ohlc", ("open", "high", "low", "close"), strict=True)},
        "v": int(row["volume"]),
        "n": 1000,
        "vw": (row["high"] + row["low"]) / 2,
    }


def _at(text: str) -> str:
    """A moment of a query in the form of a bar's."""
    return text if text == "9999" else f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
