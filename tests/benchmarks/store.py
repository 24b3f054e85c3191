"""The store against row-by-row SQL: ingesting a universe of 21 years, reading it, caching its features.

The peer is what the roadmap's code does: one INSERT ... ON CONFLICT a row (through ``executemany``, which psycopg 3
pipelines), and a SELECT whose rows become a frame. It is timed on a sample and compared by the row.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import psycopg
import pytest
from support.markets import make_bars
from support.shared_data import shared_parquet

from swiftbolt.bars import BAR_SCHEMA, Bars, screen_bars
from swiftbolt.sessions import session_after
from swiftbolt.store import Store, embedded

PANEL = "sp500_raw_1999_202104"
SYMBOLS, SESSIONS, END = 348, 5389, date(2021, 4, 21)  # of the panel, and of what stands for it where it is absent
SYMBOLS_PER_WRITE = 25
PEER_ROWS = 20_000
CACHED_SYMBOLS, CACHED_SESSIONS, FEATURES = 500, 320, 66

INSERT_BAR = """
    INSERT INTO peer_bars VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (symbol, session) DO UPDATE SET open = excluded.open, high = excluded.high, low = excluded.low,
        close = excluded.close, volume = excluded.volume
"""
SELECT_BARS = """
    SELECT symbol, session, open, high, low, close, volume FROM bars
    WHERE symbol = ANY (%s) AND session >= %s ORDER BY symbol, session
"""
INSERT_FEATURES = "INSERT INTO peer_features VALUES (%s, %s, %s, %s, %s)"


def main() -> None:
    """Measure on an embedded server of its own and print a line per case."""
    raw, origin = _panel()
    with _server() as url, Store.connect(url) as store, psycopg.connect(url, autocommit=True) as peer:
        _show("migrating an empty database", _seconds(store.migrate), "", None)
        started = time.perf_counter()
        bars, _ = screen_bars(raw)
        screened = time.perf_counter() - started
        print(f"{len(bars):,} bars of {len(bars.symbols)} symbols ({origin}); screening them took {screened:.1f} s")
        _ingest(store, peer, bars)
        _read(store, peer, bars)
        _cache(store, peer)


def _panel() -> tuple[pl.DataFrame, str]:
    try:
        return pl.read_parquet(shared_parquet(PANEL)).rename({"date": "session"}).select(list(BAR_SCHEMA)), PANEL
    except pytest.skip.Exception:
        names = [f"S{number:03}" for number in range(SYMBOLS)]
        return make_bars(names, SESSIONS, seed=7, end=END).frame, "synthetic"


@contextmanager
def _server() -> Iterator[str]:
    home = Path(tempfile.mkdtemp(prefix="swiftbolt-bench-"))
    try:
        yield embedded.start(home / "postgres").url
    finally:
        embedded.stop(home / "postgres")
        shutil.rmtree(home)


def _ingest(store: Store, peer: psycopg.Connection, bars: Bars) -> None:
    peer.execute("CREATE TABLE peer_bars (LIKE bars, PRIMARY KEY (symbol, session))")
    for column in ("source", "created_at", "updated_at"):
        peer.execute(f"ALTER TABLE peer_bars DROP COLUMN {column}".encode())
    sample = bars.frame.head(PEER_ROWS).rows()
    per_row = _seconds(lambda: _insert(peer, INSERT_BAR, sample)) / len(sample)
    again = _seconds(lambda: _insert(peer, INSERT_BAR, sample)) / len(sample)
    _show("ingesting the bars", _seconds(lambda: _store_all(store, bars)), "INSERT a row", per_row * len(bars))
    _show("ingesting the same again", _seconds(lambda: _store_all(store, bars)), "INSERT a row", again * len(bars))
    peer.execute("VACUUM ANALYZE bars")


def _store_all(store: Store, bars: Bars) -> None:
    for first in range(0, len(bars.symbols), SYMBOLS_PER_WRITE):
        store.upsert_bars(bars.select(bars.symbols[first : first + SYMBOLS_PER_WRITE]), source="bench")


def _read(store: Store, peer: psycopg.Connection, bars: Bars) -> None:
    longest = max(bars.sessions_per_symbol().items(), key=lambda item: item[1])[0]
    recent = session_after(bars.last_session, -299)
    for what, symbols, start in (
        (f"reading {longest}, 21 years", [longest], date(1960, 1, 1)),
        ("reading all, the last 300 sessions", list(bars.symbols), recent),
    ):

        def rows(symbols: list[str] = symbols, start: date = start) -> pl.DataFrame:
            found = peer.execute(SELECT_BARS, [symbols, start]).fetchall()
            return Bars(frame=pl.DataFrame(found, schema=BAR_SCHEMA, orient="row")).frame

        def arrays(symbols: list[str] = symbols, start: date = start) -> pl.DataFrame:
            return store.bars(symbols, start=start).frame

        assert rows().equals(arrays())
        _show(what, _median(arrays), "SELECT rows", _median(rows))


def _cache(store: Store, peer: psycopg.Connection) -> None:
    rng = np.random.default_rng(7)
    sessions = [session_after(END, -back) for back in reversed(range(CACHED_SESSIONS))]
    count = CACHED_SYMBOLS * CACHED_SESSIONS
    columns = [f"f{number}" for number in range(FEATURES)]
    frame = pl.DataFrame(
        {
            "symbol": np.repeat([f"S{number:03}" for number in range(CACHED_SYMBOLS)], CACHED_SESSIONS),
            "session": pl.Series(sessions * CACHED_SYMBOLS, dtype=pl.Date),
            "price_growth": rng.random(count),
            "share_growth": rng.random(count),
            **{name: rng.normal(size=count) for name in columns},
        }
    )
    peer.execute("CREATE TABLE peer_features (LIKE feature_rows, PRIMARY KEY (symbol, session))")
    peer.execute("ALTER TABLE peer_features DROP COLUMN feature_set")
    sample = [(*row[:4], list(row[4:])) for row in frame.head(PEER_ROWS // 4).iter_rows()]
    per_row = _seconds(lambda: _insert(peer, INSERT_FEATURES, sample)) / len(sample)
    key = {"spec_hash": "spec", "universe_hash": "universe", "revision": "r"}
    spent = _seconds(lambda: store.cache_features(**key, frame=frame))
    _show(f"caching {count:,} rows of {FEATURES} features", spent, "INSERT a row", per_row * count)
    peer.execute("VACUUM ANALYZE feature_rows")
    newest = frame.filter(pl.col("session") == sessions[-1])
    _show("caching one session more", _seconds(lambda: store.cache_features(**key, frame=newest)), "", None)
    read = {**key, "columns": columns}
    _show("reading one symbol's", _median(lambda: store.cached_features(**read, symbols=["S007"])), "", None)
    everyone = frame["symbol"].unique().to_list()
    _show("reading all", _seconds(lambda: store.cached_features(**read, symbols=everyone)), "", None)


def _insert(peer: psycopg.Connection, statement: str, rows: list[tuple[object, ...]]) -> None:
    with peer.transaction(), peer.cursor() as cursor:
        cursor.executemany(statement.encode(), rows)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _median(work: Callable[[], object], times: int = 15) -> float:
    work()
    return statistics.median(_seconds(work) for _ in range(times))


def _show(what: str, seconds: float, peer: str, peer_seconds: float | None) -> None:
    beside = "" if peer_seconds is None else f"   {peer}: {_told(peer_seconds)}   {peer_seconds / seconds:5.1f}x"
    print(f"{what:<40} {_told(seconds)}{beside}")


def _told(seconds: float) -> str:
    return f"{seconds:8.2f} s " if seconds >= 1 else f"{seconds * 1e3:8.1f} ms"


if __name__ == "__main__":
    main()
