"""Market data from parquet and CSV files.

A file gives ``symbol``, ``session``, ``open, high, low, close, volume`` and optionally ``adj_close``, ``dividend`` and
``split``, in any layout and under any names that ``layouts`` knows. Its columns say how prices stand to splits and
dividends:

- ``dividend`` or ``split``: prices are raw. ``split`` is new shares for each old one, ``dividend`` is
  dollars per share held after any split of the same day; null (and a split of 0) is none. A symbol
  that has neither value anywhere falls back to its ``adj_close``.
- ``adj_close`` alone: prices are raw, and factors are derived from adj_close / close.
- none of the three: prices are taken as adjusted.
- ``Stock Splits``, as Yahoo calls them: prices are adjusted for splits, and for dividends where there is
  no ``adj_close``; neither event is applied again.

Rows may come in any order. Knows nothing of the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import polars as pl

from swiftbolt.actions import CorporateActions, factors_from_adjusted_close
from swiftbolt.bars import PRICES, Bars, Quarantine, screen_bars
from swiftbolt.errors import DataError, SchemaError
from swiftbolt.providers.base import Adjustment, HistoryOnly, MarketData
from swiftbolt.providers.cells import read_text
from swiftbolt.providers.layouts import EVENTS, VALUES, find_layout
from swiftbolt.providers.tables import is_table, open_table, table_name

# What lies outside is damage, not an event: new shares for an old one, dollars a share, adj_close over close.
PLAUSIBLE = {"split": (1e-4, 1e4), "dividend": (1e-8, 1e6), "adj_close": (1e-8, 1e8)}
# Relative: far above the rounding of a product (1e-16), far below the tick of any price.
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class FilesProvider(HistoryOnly):
    """Serves one file, a folder with one file per symbol, or the files that a pattern such as ``bars/*.csv`` fits.

    Attributes:
        columns: ours to theirs, for columns that bear other names.
        symbol: what a file of one symbol holds; in a folder, the name of each file says it.
        today: the last session that is over, later ones are faults; None lets every session pass as over.
    """

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    symbol: str | None = None
    today: date | None = None
    source: str = field(default="files", init=False)

    def bars(
        self, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
    ) -> tuple[Bars, Quarantine]:
        """Bars of the file and its faulty rows; see ``Provider.bars``."""
        data = self.fetch(symbols, start, end)
        return data.bars, data.quarantine

    def corporate_actions(
        self, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
    ) -> CorporateActions:
        """Actions of the file; see ``Provider.corporate_actions``."""
        # From the beginning: a factor is known by what the session before it was.
        actions = self.fetch(symbols, None, end).actions
        if start is None:
            return actions
        return CorporateActions(frame=actions.frame.filter(pl.col("ex_date") >= start))

    def fetch(
        self, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
    ) -> MarketData:
        """All that the file holds; see ``Provider.fetch``."""
        return read_market_data(
            self.path, symbols, start, end, columns=self.columns, symbol=self.symbol, today=self.today
        )


def read_market_data(
    path: Path | str,
    symbols: Sequence[str] | None = None,
    start: date | None = None,
    end: date | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    symbol: str | None = None,
    today: date | None = None,
) -> MarketData:
    """Read, screen and select.

    Args:
        symbols: only these; None takes all. Of a parquet sorted by symbol only their part is read.
        start, end: first and last session, both included; None does not restrict.
        columns, symbol, today: see ``FilesProvider``.

    Raises:
        SchemaError: a file cannot be read, lacks a column, or a column does not hold what it must.
        DataError: no usable row is left.
    """
    path = Path(path)
    selection = _Selection(symbols=symbols, start=start, end=end)
    rows, notes = _rows_of_all(path, columns or {}, symbol, selection)
    if not len(rows):
        raise DataError(f"{path}: no row{selection.described()}")
    bars, quarantine = screen_bars(_mended(rows), today)
    if not len(bars):
        raise DataError(f"{path}: no usable row: {'; '.join(quarantine.summary())}")
    actions, adjustment, findings = _adjustments(rows, bars)
    return MarketData(
        bars=bars,
        actions=actions,
        quarantine=quarantine,
        adjustment=adjustment,
        findings=(*notes, *findings),
        missing=tuple(sorted(set(symbols or ()) - set(bars.symbols))),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Selection:
    """The rows that were asked for."""

    symbols: Sequence[str] | None
    start: date | None
    end: date | None

    def applied_to(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """A row whose session is unreadable is kept: it is a fault to report, not one out of range."""
        if self.symbols is not None:
            rows = rows.filter(pl.col("symbol").is_in(list(self.symbols)))
        if self.start is not None:
            rows = rows.filter(pl.col("session").is_null() | (pl.col("session") >= self.start))
        if self.end is not None:
            rows = rows.filter(pl.col("session").is_null() | (pl.col("session") <= self.end))
        return rows

    def described(self) -> str:
        """`` of X, Y from 2020-01-02; check symbols and dates``, or ``at all`` when everything was asked for."""
        parts = [
            f" of {', '.join(self.symbols)}" if self.symbols is not None else "",
            f" from {self.start}" if self.start is not None else "",
            f" to {self.end}" if self.end is not None else "",
        ]
        return f"{''.join(parts)}; check symbols and dates" if any(parts) else " at all"


def _rows_of_all(
    path: Path, columns: Mapping[str, str], symbol: str | None, selection: _Selection
) -> tuple[pl.DataFrame, list[str]]:
    """The selected rows of every file that ``path`` stands for, and notes on how they were read."""
    paths = _files(path)
    if paths is None:
        return _rows(path, columns, selection, symbol=symbol)
    if symbol is not None:
        raise SchemaError(f"{path}: is more than one file; leave out the symbol {symbol!r}, each file's name says it")
    parts: list[pl.DataFrame] = []
    notes: list[str] = []
    for each in paths:
        rows, found = _rows(each, columns, selection, fallback=table_name(each))
        if parts and set(rows.columns) != set(parts[0].columns):
            differing = ", ".join(sorted(set(rows.columns) ^ set(parts[0].columns)))
            raise SchemaError(f"{each}: differs from {paths[0].name} in {differing}; one adjustment must hold for all")
        parts.append(rows)
        notes += [f"{each.name}: {note}" for note in found]
    return pl.concat(parts, how="diagonal_relaxed"), notes


def _files(path: Path) -> list[Path] | None:
    """The files of a folder, or those that fit a pattern; None where ``path`` is a single file."""
    if path.is_dir():
        found = [each for each in path.iterdir() if each.is_file() and is_table(each)]
    elif not path.exists() and any(sign in path.name for sign in "*?["):
        found = [each for each in path.parent.glob(path.name) if each.is_file()]
    else:
        return None
    if not found:
        raise SchemaError(f"{path}: no parquet or CSV file there; check the path")
    return sorted(found)


def _rows(
    path: Path,
    columns: Mapping[str, str],
    selection: _Selection,
    *,
    symbol: str | None = None,
    fallback: str | None = None,
) -> tuple[pl.DataFrame, list[str]]:
    """The selected rows of one file, with our columns and their types, and notes on how they were read.

    Args:
        symbol: the one that the file holds and does not name.
        fallback: the same, where it may name it.
    """
    try:
        table = open_table(path)
        layout = find_layout(list(table.frame.collect_schema()), columns, symbol or fallback)
        if symbol is not None and set(layout.parts) != {symbol}:
            raise SchemaError(f"says which symbols it holds; leave out the symbol {symbol!r}")
        rows = layout.applied_to(table.frame)
        rows, notes = _typed(rows, comma_separated=table.separator in (None, ","))
        if layout.is_wide:
            rows = rows.filter(_is_listed(rows.collect_schema()))
        return selection.applied_to(rows).collect(), [*table.notes, *layout.notes, *notes]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as exc:  # it panics at some damaged pages
        raise SchemaError(f"{path}: cannot be read ({_first_line(exc)}); write the file anew") from exc
    except SchemaError as exc:
        raise SchemaError(f"{path}: {exc}") from exc.__cause__


def _typed(rows: pl.LazyFrame, *, comma_separated: bool) -> tuple[pl.LazyFrame, list[str]]:
    """``symbol`` as text, ``session`` as a date and the rest as numbers, and notes on values that are none."""
    schema = rows.collect_schema()
    values = [name for name in VALUES if name in schema]
    if not isinstance(schema["symbol"], (pl.String, pl.Categorical, pl.Enum)):
        raise SchemaError(f"column 'symbol' must hold text, holds {schema['symbol']}")
    if not isinstance(schema["session"], (pl.Date, pl.Datetime, pl.String)):
        raise SchemaError(f"column 'session' must hold dates (YYYY-MM-DD), holds {schema['session']}")
    for name in values:
        dtype = schema[name]
        if not (dtype.is_numeric() or isinstance(dtype, (pl.String, pl.Null))):
            raise SchemaError(f"column {name!r} must hold numbers, holds {dtype}; correct or remove it")
    notes: list[str] = []
    if any(isinstance(schema[name], pl.String) for name in ("session", *values)):
        # The whole file says how its dates and numbers are written, not only the rows asked for.
        read, notes = read_text(rows.collect(), values, comma_separated=comma_separated)
        rows = read.lazy()
    is_time = isinstance(schema["session"], pl.Datetime)
    return rows.with_columns(
        pl.col("symbol").cast(pl.String), pl.col("session").dt.date() if is_time else pl.col("session")
    ), notes


def _is_listed(schema: pl.Schema) -> pl.Expr:
    """Of a wide table: whether the row has a price or an event of its symbol."""
    known = [pl.col(name).cast(pl.Float64).fill_nan(None).is_not_null() for name in PRICES]
    events = [~_is_no_event(name) for name in EVENTS if name in schema]
    return pl.any_horizontal(*known, *events)


def _is_no_event(kind: str) -> pl.Expr:
    value = pl.col(kind).cast(pl.Float64).fill_nan(None)
    return value.is_null() | value.is_in((0.0, 1.0) if kind == "split" else (0.0,))


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
    given = rows.filter(~_is_no_event(kind))
    sound = pl.col(kind).is_between(*PLAUSIBLE[kind])
    plausible = given.filter(sound)
    first = plausible.unique(["symbol", "session"], keep="first", maintain_order=True)
    actions = first.select(
        "symbol",
        ex_date=pl.col("session"),
        kind=pl.lit(kind),
        value=pl.col(kind),
        known_at=pl.lit(None, dtype=pl.Date),
    )
    other = plausible.join(first.select("symbol", "session", kind), on=["symbol", "session", kind], how="anti")
    return actions, [*_ignored(given.filter(~sound), kind, "implausible"), *_ignored(other, kind, "second")]


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
    return factors_from_adjusted_close(given.filter(sound)).frame, _ignored(
        given.filter(~sound), "adj_close", "implausible"
    )


def _ignored(rows: pl.DataFrame, name: str, why: str) -> list[str]:
    if not len(rows):
        return []
    first = rows.row(0, named=True)
    return [
        f"ignored {len(rows)} {why} value{'s' if len(rows) > 1 else ''} of {name}"
        f" (first: {first[name]} at {first['symbol']} {first['session']})"
    ]


def _first_line(exc: Exception) -> str:
    return str(exc).strip().partition("\n")[0]
