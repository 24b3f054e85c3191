"""Market data from a parquet or CSV file.

A file holds ``symbol``, ``session`` (or ``date``), ``open, high, low, close, volume`` and optionally
``adj_close``, ``dividend`` and ``split``, one row per symbol and session. Its columns say how prices
stand to splits and dividends:

- ``dividend`` or ``split``: prices are raw. ``split`` is new shares for each old one, ``dividend`` is
  dollars per share held after any split of the same day; null (and a split of 0) is none. A symbol
  that has neither value anywhere falls back to its ``adj_close``.
- ``adj_close`` alone: prices are raw, and factors are derived from adj_close / close.
- none of the three: prices are taken as adjusted.

Rows may come in any order. Knows nothing of the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import ClassVar

import polars as pl

from swiftbolt.actions import CorporateActions, factors_from_adjusted_close
from swiftbolt.bars import BAR_SCHEMA, PRICES, Bars, screen_bars
from swiftbolt.errors import DataError, SchemaError
from swiftbolt.providers.base import Adjustment, MarketData

NUMBERS = (*PRICES, "volume", "adj_close", "dividend", "split")
EVENTS = ("dividend", "split")
PARQUET_MAGIC = b"PAR1"
# What lies outside is damage, not an event: new shares for an old one, dollars a share, adj_close over close.
PLAUSIBLE = {"split": (1e-4, 1e4), "dividend": (1e-8, 1e6), "adj_close": (1e-8, 1e8)}
# Relative: far above the rounding of a product (1e-16), far below the tick of any price.
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class FilesProvider:
    """Serves one parquet or CSV file."""

    path: Path
    source: ClassVar[str] = "files"

    def fetch(
        self, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
    ) -> MarketData:
        """Bars of the file; see ``Provider.fetch``."""
        return read_market_data(self.path, symbols, start, end)


def read_market_data(
    path: Path | str, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
) -> MarketData:
    """Read, screen and select.

    Args:
        symbols: only these; None takes all. Of a parquet sorted by symbol only their part is read.
        start, end: first and last session, both included; None does not restrict.

    Raises:
        SchemaError: the file cannot be read, lacks a column, or a column does not hold what it must.
        DataError: no usable row is left.
    """
    path = Path(path)
    rows = _rows(path, symbols, start, end)
    if not len(rows):
        raise DataError(f"{path}: no row{_asked_for(symbols, start, end)}")
    _check_values(path, rows)
    bars, quarantine = screen_bars(_mended(rows))
    if not len(bars):
        raise DataError(f"{path}: no usable row: {'; '.join(quarantine.summary())}")
    actions, adjustment, findings = _adjustments(rows, bars)
    return MarketData(
        bars=bars,
        actions=actions,
        quarantine=quarantine,
        adjustment=adjustment,
        findings=findings,
        missing=tuple(sorted(set(symbols or ()) - set(bars.symbols))),
    )


def _rows(path: Path, symbols: Sequence[str] | None, start: date | None, end: date | None) -> pl.DataFrame:
    """The rows asked for, with ``symbol`` as text and ``session`` as a date, numbers as they are."""
    lazy = _scan(path)
    try:
        schema = lazy.collect_schema()
        _check_columns(path, schema)
        session = _session(path, schema)
        if symbols is not None:
            lazy = lazy.filter(pl.col("symbol").cast(pl.String).is_in(list(symbols)))
        lazy = lazy.with_columns(pl.col("symbol").cast(pl.String), session=session)
        # A row whose session is unreadable is kept: it is a fault to report, not one out of range.
        if start is not None:
            lazy = lazy.filter(pl.col("session").is_null() | (pl.col("session") >= start))
        if end is not None:
            lazy = lazy.filter(pl.col("session").is_null() | (pl.col("session") <= end))
        wanted = [name for name in (*BAR_SCHEMA, "adj_close", *EVENTS) if name in {*schema, "session"}]
        rows = lazy.select(wanted).collect()
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise SchemaError(f"{path}: cannot be read ({_first_line(exc)}); write the file anew") from exc
    return rows


def _scan(path: Path) -> pl.LazyFrame:
    """Open ``path`` lazily; what it is shows in its first bytes or its name."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(PARQUET_MAGIC))
    except FileNotFoundError:
        raise SchemaError(f"{path}: no such file; check the path") from None
    except OSError as exc:
        raise SchemaError(f"{path}: cannot be read ({exc.strerror}); give one parquet or CSV file") from exc
    if magic == PARQUET_MAGIC:
        return pl.scan_parquet(path, glob=False, hive_partitioning=False)
    if ".csv" in path.suffixes:
        # The whole file decides on types: a word far down must not be read as a missing price.
        # Dates stay text: guessing would take 02/03/2020 for the second of March.
        return pl.scan_csv(path, glob=False, infer_schema_length=None, schema_overrides={"symbol": pl.String})
    raise SchemaError(f"{path}: is neither a parquet file nor named .csv; convert it to one of the two")


def _check_columns(path: Path, schema: pl.Schema) -> None:
    dated = "session" in schema or "date" in schema
    absent = [name for name in BAR_SCHEMA if name not in schema and not (name == "session" and dated)]
    if absent:
        raise SchemaError(
            f"{path}: no column {', '.join(map(repr, absent))}; needed are"
            f" {', '.join(BAR_SCHEMA)} (session may be called date); found {', '.join(schema) or 'none'}"
        )
    symbol = schema["symbol"]
    if not isinstance(symbol, (pl.String, pl.Categorical, pl.Enum)):
        raise SchemaError(f"{path}: column 'symbol' must hold text, holds {symbol}")


def _session(path: Path, schema: pl.Schema) -> pl.Expr:
    """The session as a date; text that is not a date becomes null, to be quarantined."""
    name = "session" if "session" in schema else "date"
    dtype = schema[name]
    if isinstance(dtype, (pl.Date, pl.Datetime)):
        return pl.col(name).cast(pl.Date) if isinstance(dtype, pl.Date) else pl.col(name).dt.date()
    if isinstance(dtype, pl.String):
        return pl.col(name).str.slice(0, len("2020-01-02")).str.to_date("%Y-%m-%d", strict=False)
    raise SchemaError(f"{path}: column {name!r} must hold dates (YYYY-MM-DD), holds {dtype}")


def _check_values(path: Path, rows: pl.DataFrame) -> None:
    """Refuse a column of dates without a date, and columns of prices, volumes or events with anything but numbers."""
    if rows["session"].null_count() == len(rows):
        raise SchemaError(f"{path}: no session can be read as a date; write dates as YYYY-MM-DD")
    for name in NUMBERS:
        if name not in rows.columns:
            continue
        dtype = rows.schema[name]
        if dtype.is_numeric() or dtype == pl.Null:
            continue
        problem = f"holds {dtype}"
        if isinstance(dtype, pl.String):
            text = rows.filter(pl.col(name).is_not_null() & pl.col(name).cast(pl.Float64, strict=False).is_null())
            first = (text if len(text) else rows).row(0, named=True)
            problem = f"holds text (first: {first[name]!r} at {first['symbol']} {first['session']})"
        raise SchemaError(f"{path}: column {name!r} must hold numbers, {problem}; correct or remove it")


def _mended(rows: pl.DataFrame) -> pl.DataFrame:
    """Prices as floats, with a high or low that misses another price by rounding alone set to that price.

    Adjusted prices are products: their last bit can put a high below the open it was.
    """
    rows = rows.with_columns(pl.col(name).cast(pl.Float64) for name in PRICES)
    top = pl.max_horizontal("open", "low", "close")
    bottom = pl.min_horizontal("open", "close")
    return rows.with_columns(
        high=pl.when(pl.col("high").is_between(top * (1 - ROUNDING), top)).then(top).otherwise("high"),
        low=pl.when(pl.col("low").is_between(bottom, bottom * (1 + ROUNDING))).then(bottom).otherwise("low"),
    )


def _asked_for(symbols: Sequence[str] | None, start: date | None, end: date | None) -> str:
    """`` of X, Y from 2020-01-02; check the symbols and dates``, or nothing when everything was asked for."""
    parts = [
        f" of {', '.join(symbols)}" if symbols is not None else "",
        f" from {start}" if start is not None else "",
        f" to {end}" if end is not None else "",
    ]
    return f"{''.join(parts)}; check symbols and dates" if any(parts) else " at all"


def _adjustments(rows: pl.DataFrame, bars: Bars) -> tuple[CorporateActions, Adjustment, tuple[str, ...]]:
    """Actions of the file, what its prices are, and a sentence per kind of value that was ignored."""
    rows = rows.filter(pl.col("symbol").is_not_null() & pl.col("session").is_not_null())
    known = [name for name in ("adj_close", *EVENTS) if name in rows.columns]
    rows = rows.with_columns(pl.col(name).cast(pl.Float64).fill_nan(None) for name in known)
    events = [name for name in EVENTS if name in known]
    frames, findings = [], []
    for name in events:
        frame, found = _events(rows, name)
        frames.append(frame)
        findings += found
    if "adj_close" in known:
        factors, found = _factors(_without_events(rows, events), bars)
        frames.append(factors)
        findings += found
    if not known:
        return CorporateActions.of(), Adjustment.AS_GIVEN, ()
    adjustment = Adjustment.RAW_WITH_ACTIONS if events else Adjustment.RAW_WITH_FACTORS
    return CorporateActions.from_frame(pl.concat(frames)), adjustment, tuple(findings)


def _events(rows: pl.DataFrame, kind: str) -> tuple[pl.DataFrame, list[str]]:
    """Splits or dividends as a frame of actions; of two for one session the first in the file counts.

    The row's prices do not matter: an action on a quarantined row is as real, and applies at the next bar.
    """
    neutral = (0.0, 1.0) if kind == "split" else (0.0,)
    given = rows.filter(pl.col(kind).is_not_null() & ~pl.col(kind).is_in(neutral))
    sound = pl.col(kind).is_between(*PLAUSIBLE[kind])
    actions = (
        given.filter(sound)
        .unique(["symbol", "session"], keep="first", maintain_order=True)
        .select(
            "symbol",
            ex_date=pl.col("session"),
            kind=pl.lit(kind),
            value=pl.col(kind),
            known_at=pl.lit(None, dtype=pl.Date),
        )
    )
    return actions, _ignored(given.filter(~sound), kind)


def _without_events(rows: pl.DataFrame, events: Sequence[str]) -> pl.DataFrame:
    """Rows of the symbols that have not a single entry under ``events``."""
    if not events:
        return rows
    with_events = rows.filter(pl.any_horizontal(pl.col(events).is_not_null()))["symbol"].unique()
    return rows.filter(~pl.col("symbol").is_in(with_events.implode()))


def _factors(rows: pl.DataFrame, bars: Bars) -> tuple[pl.DataFrame, list[str]]:
    """Factors of the rows that became ``bars``, as a frame of actions."""
    # The close is part of the key: of rows for one session, the one that was kept counts.
    given = (
        rows.filter(pl.col("adj_close").is_not_null())
        .with_columns(pl.col("close").cast(pl.Float64))
        .join(bars.frame, on=["symbol", "session", "close"], how="semi", maintain_order="left")
        .unique(["symbol", "session"], keep="first", maintain_order=True)
    )
    sound = (pl.col("adj_close") / pl.col("close")).is_between(*PLAUSIBLE["adj_close"])
    return factors_from_adjusted_close(given.filter(sound)).frame, _ignored(given.filter(~sound), "adj_close")


def _ignored(rows: pl.DataFrame, name: str) -> list[str]:
    if not len(rows):
        return []
    first = rows.row(0, named=True)
    return [
        f"ignored {len(rows)} implausible value{'s' if len(rows) > 1 else ''} of {name}"
        f" (first: {first[name]} at {first['symbol']} {first['session']})"
    ]


def _first_line(exc: Exception) -> str:
    return str(exc).strip().partition("\n")[0]
