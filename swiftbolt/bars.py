"""Daily bars, raw as traded, and the screening that keeps faulty rows out of them.

Knows the exchange calendar; knows nothing of vendors, adjustments or models.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from swiftbolt.errors import DataError, SchemaError
from swiftbolt.sessions import is_session

PRICES = ("open", "high", "low", "close")
BAR_SCHEMA = {
    "symbol": pl.String(),
    "session": pl.Date(),
    **dict.fromkeys(PRICES, pl.Float64()),
    "volume": pl.Float64(),
}

# Row-level faults in the order they are looked for: a row is set aside for the first that fits.
FAULTS = {
    "null": "a null or NaN symbol, session, price or volume",
    "not_positive": "a price that is zero, negative or infinite, or a negative volume",
    "high_low": "a high below, or a low above, another price of the same session",
    "future": "a session that is not over yet",
    "not_a_session": "a day on which the exchange was closed",
    "duplicate": "an identical repeat of a row (the first is kept)",
    "conflict": "a second row for the same symbol and session with other values (the first is kept)",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bars:
    """Raw daily bars of one or more symbols, sorted by symbol and session. Equal when they hold the same rows.

    ``frame`` has the columns of ``BAR_SCHEMA``: prices in dollars as traded, volume in shares.
    Construction checks every promise, so that nobody downstream checks again.

    Raises:
        SchemaError: a column is missing or of another type.
        DataError: rows are unsorted, double, not finite, not positive, off the calendar, or high < low.
    """

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        if list(self.frame.schema.items()) != list(BAR_SCHEMA.items()):
            got = _describe(dict(self.frame.schema))
            raise SchemaError(f"bars must have exactly the columns {_describe(BAR_SCHEMA)}; got {got}")
        keys = self.frame.select("symbol", "session")
        if not keys.equals(keys.sort("symbol", "session")):
            raise DataError("bars are not sorted by symbol and session")
        faulty = _judged(self.frame).filter(pl.col("fault").is_not_null())
        if len(faulty):
            row = faulty.row(0, named=True)
            raise DataError(f"bars hold {FAULTS[row['fault']]}: {row['symbol']} {row['session']}")

    def __len__(self) -> int:
        return len(self.frame)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bars) and self.frame.equals(other.frame)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols in order, each once."""
        return tuple(self.frame["symbol"].unique(maintain_order=True))

    @property
    def last_session(self) -> date:
        """The newest session of any symbol."""
        if not len(self):
            raise DataError("no bars, so no last session")
        last = self.frame["session"].max()
        assert isinstance(last, date)
        return last

    def select(self, symbols: Iterable[str] | None = None, start: date | None = None, end: date | None = None) -> Bars:
        """Bars of ``symbols`` from ``start`` to ``end``, both included; None does not restrict."""
        frame = self.frame
        if symbols is not None:
            frame = frame.filter(pl.col("symbol").is_in(list(symbols)))
        if start is not None:
            frame = frame.filter(pl.col("session") >= start)
        if end is not None:
            frame = frame.filter(pl.col("session") <= end)
        return Bars(frame=frame)

    def sessions_per_symbol(self) -> dict[str, int]:
        """Number of bars each symbol has."""
        counts = self.frame.group_by("symbol", maintain_order=True).len()
        return {str(symbol): int(count) for symbol, count in counts.iter_rows()}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Quarantine:
    """Rows that were set aside, each with the fault it has: the columns of the bars and ``fault``.

    Raises:
        SchemaError: a column is missing or of another type.
        DataError: a fault is none of ``FAULTS``.
    """

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        if dict(self.frame.schema) != {**BAR_SCHEMA, "fault": pl.String()}:
            raise SchemaError("a quarantine has the columns of bars and 'fault'")
        unknown = set(self.frame["fault"].unique()) - set(FAULTS)
        if unknown:
            raise DataError(f"no such fault: {', '.join(sorted(map(str, unknown)))}")

    def __len__(self) -> int:
        return len(self.frame)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quarantine) and self.frame.equals(other.frame)

    def summary(self) -> list[str]:
        """One line per kind of fault, with its count and its first row."""
        lines = []
        for fault, meaning in FAULTS.items():
            rows = self.frame.filter(pl.col("fault") == fault)
            if len(rows):
                first = rows.row(0, named=True)
                lines.append(
                    f"set aside {len(rows)} row{'s' if len(rows) > 1 else ''} with {meaning}"
                    f" (first: {first['symbol']} {first['session']})"
                )
        return lines


def screen_bars(frame: pl.DataFrame, today: date | None = None) -> tuple[Bars, Quarantine]:
    """Sort ``frame``, cast it to ``BAR_SCHEMA`` and set faulty rows aside.

    Extra columns are ignored; sessions may be dates, times or text in ISO form.

    Args:
        today: the last session that is over; None lets every session pass as over.

    Raises:
        SchemaError: a column is missing, or holds something that is not a number or a date.
    """
    columns = []
    for name, dtype in BAR_SCHEMA.items():
        if name not in frame.columns:
            raise SchemaError(f"no column {name!r}; found {', '.join(frame.columns) or 'no columns'}")
        if name in {*PRICES, "volume"} and not frame.schema[name].is_numeric() and frame.schema[name] != pl.Null:
            raise SchemaError(f"column {name!r} must hold numbers, holds {frame.schema[name]}")
        if name == "session" and frame.schema[name].is_numeric():  # 20200102 would be read as days since 1970
            raise SchemaError(f"column {name!r} must hold dates, holds {frame.schema[name]}")
        is_text_date = name == "session" and frame.schema[name] == pl.String
        columns.append(pl.col(name).str.to_date("%Y-%m-%d") if is_text_date else pl.col(name).cast(dtype))
    try:
        typed = frame.select(columns)
    except pl.exceptions.PolarsError as exc:
        raise SchemaError(f"bars cannot be read: {exc}") from exc
    # A stable sort: of two rows for one session, the first in the file is the one that is kept.
    typed = typed.sort("symbol", "session", maintain_order=True)
    judged = _judged(typed, today)
    good = judged.filter(pl.col("fault").is_null()).drop("fault")
    return Bars(frame=good), Quarantine(frame=judged.filter(pl.col("fault").is_not_null()))


def empty_quarantine() -> Quarantine:
    """A quarantine without rows."""
    return Quarantine(frame=pl.DataFrame(schema={**BAR_SCHEMA, "fault": pl.String()}))


def _judged(frame: pl.DataFrame, today: date | None = None) -> pl.DataFrame:
    """``frame`` with a column ``fault``: the key of ``FAULTS`` that fits a row first, or null."""
    days = frame["session"].fill_null(date(1970, 1, 3)).to_numpy().astype("datetime64[D]")
    open_, high, low, close = (pl.col(name) for name in PRICES)
    numbers = [pl.col(name) for name in (*PRICES, "volume")]
    is_null = pl.any_horizontal(
        pl.col("symbol").is_null(),
        pl.col("session").is_null(),
        *(number.is_null() | number.is_nan() for number in numbers),
    )
    not_positive = pl.any_horizontal(
        *((pl.col(name) <= 0) | pl.col(name).is_infinite() for name in PRICES),
        (pl.col("volume") < 0) | pl.col("volume").is_infinite(),
    )
    high_low = (high < pl.max_horizontal(open_, low, close)) | (low > pl.min_horizontal(open_, close))
    future = pl.lit(False) if today is None else pl.col("session") > today
    fault = (
        pl.when(is_null).then(pl.lit("null"))
        .when(not_positive).then(pl.lit("not_positive"))
        .when(high_low).then(pl.lit("high_low"))
        .when(future).then(pl.lit("future"))
        .when(pl.Series(~np.asarray(is_session(days)), dtype=pl.Boolean)).then(pl.lit("not_a_session"))
    )  # fmt: skip
    judged = frame.with_columns(fault=fault)
    # In a second step: only of sound rows is a later one a repeat.
    sound = pl.col("fault").is_null()
    repeated = judged.select(sound & ~pl.struct("symbol", "session", "fault").is_first_distinct()).to_series()
    if not repeated.any():
        return judged
    kept = judged.filter(sound & ~repeated).select(*BAR_SCHEMA, is_kept=True)
    return (
        judged.join(kept, on=list(BAR_SCHEMA), how="left", maintain_order="left")
        .with_columns(
            fault=pl.when(~repeated)
            .then("fault")
            .when("is_kept")
            .then(pl.lit("duplicate"))
            .otherwise(pl.lit("conflict"))
        )
        .drop("is_kept")
    )


def _describe(schema: dict[str, Any]) -> str:
    return ", ".join(f"{name} {dtype}" for name, dtype in schema.items())
