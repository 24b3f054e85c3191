"""The daily series that a universe names beside its symbols: an index for its market, and the VIX.

Each is a file with a column ``session`` (or ``date``) and a column ``close`` (or ``value``), or a symbol of the bars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from swiftbolt.bars import Bars
from swiftbolt.errors import DataError, SchemaError
from swiftbolt.features.series import DailySeries
from swiftbolt.providers.cells import read_text
from swiftbolt.providers.tables import open_table
from swiftbolt.sessions import is_session
from swiftbolt.universe import is_file

DAY_COLUMNS, VALUE_COLUMNS = ("session", "date"), ("close", "value")
LEAST_VIX = 3.0  # percent; it has never been below 9


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Backdrop:
    """What stands behind all symbols and is none of them.

    Attributes:
        market: the index whose return is the market's; None where a symbol or the mean of all is the market.
        vix: in percent; None where none is given.
    """

    market: DailySeries | None = None
    vix: DailySeries | None = None

    @classmethod
    def read(cls, market: str | None, vix: str | None, folder: Path) -> Backdrop:
        """The series of those that name a file; ``folder`` is where relative paths begin.

        Raises:
            SchemaError, DataError: a file cannot be read, or does not hold such a series.
        """
        return cls(market=_of_file(market, folder), vix=_of_file(vix, folder))

    def set_apart(self, bars: Bars, vix: str | None) -> tuple[Bars, Backdrop]:
        """The bars that are worked on, and the backdrop with the closes of the symbol ``vix``, if it is one.

        Raises:
            DataError: there is no bar of that symbol, or a series has no value within the sessions of the bars.
        """
        backdrop, others = self, bars
        if vix is not None and not is_file(vix):
            backdrop = replace(self, vix=DailySeries.of_closes(bars, vix))
            others = bars.select([symbol for symbol in bars.symbols if symbol != vix])
        given = [series for series in (backdrop.market, backdrop.vix) if series is not None]
        for series in given if len(others) else ():
            series.require_within(others)
            if series is backdrop.vix and np.median(series.value_N) < LEAST_VIX:
                raise DataError(f"{series.name}: is no VIX in percent, such as 18.3; multiply fractions by 100")
        return others, backdrop


NO_BACKDROP = Backdrop()


def read_series(path: Path) -> DailySeries:
    """The series in a parquet or CSV file; days without a value, or on which the exchange was closed, are left out.

    Raises:
        SchemaError: the file cannot be read, or lacks a column, or a column does not hold what it must.
        DataError: a day stands there twice, a value is not positive, or no value is left.
    """
    try:
        rows = _rows(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as exc:  # it panics at some damaged pages
        reason = next(iter(str(exc).splitlines()), "damaged")
        raise SchemaError(f"{path}: cannot be read ({reason}); write the file anew") from exc
    except SchemaError as exc:
        raise SchemaError(f"{path}: {exc}") from exc
    rows = rows.filter(pl.col("close").is_not_null() & pl.col("close").is_not_nan()).sort("session")
    twice = rows.filter(pl.col("session").is_duplicated())["session"]
    if len(twice):
        raise DataError(f"{path}: {twice[0]} stands there twice; leave one row for each day")
    session_N = rows["session"].to_numpy().astype("datetime64[D]")
    open_N = is_session(session_N)
    if not open_N.any():
        raise DataError(f"{path}: holds no value of any session; check its columns of days and values")
    return DailySeries(name=str(path), session_N=session_N[open_N], value_N=rows["close"].to_numpy()[open_N])


def _of_file(named: str | None, folder: Path) -> DailySeries | None:
    return read_series(folder / named) if named is not None and is_file(named) else None


def _rows(path: Path) -> pl.DataFrame:
    """``session`` and ``close`` as they stand in the file, nulls included."""
    table = open_table(path)
    names = table.frame.collect_schema().names()
    day, value = _column(names, DAY_COLUMNS), _column(names, VALUE_COLUMNS)
    frame = table.frame.select(symbol=pl.lit(path.name), session=pl.col(day), close=pl.col(value)).collect()
    days, values = frame.schema["session"], frame.schema["close"]
    if not isinstance(days, (pl.Date, pl.Datetime, pl.String)):
        raise SchemaError(f"column {day!r} must hold dates (YYYY-MM-DD), holds {days}")
    if not (values.is_numeric() or isinstance(values, pl.String)):
        raise SchemaError(f"column {value!r} must hold numbers, holds {values}")
    if isinstance(days, pl.String) or isinstance(values, pl.String):
        frame, notes = read_text(frame, ["close"], comma_separated=table.separator in (None, ","))
        if notes:
            raise SchemaError(f"{notes[0]}; correct or remove it")
    if frame["session"].null_count():
        raise SchemaError(f"column {day!r} has an empty cell; correct or remove its row")
    is_time = isinstance(frame.schema["session"], pl.Datetime)
    session = pl.col("session").dt.date() if is_time else pl.col("session")
    return frame.select(session, pl.col("close").cast(pl.Float64))


def _column(names: Sequence[str], wanted: tuple[str, ...]) -> str:
    """The first of ``wanted`` that is there, whatever its case."""
    folded = {name.casefold(): name for name in reversed(names)}
    for name in wanted:
        if name in folded:
            return folded[name]
    raise SchemaError(f"no column {' or '.join(map(repr, wanted))}; found {', '.join(names) or 'none'}")
