"""How whole columns cross the wire, in PostgreSQL's binary format (big-endian) and without a Python object a value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import polars as pl
import psycopg
from numpy.typing import NDArray
from psycopg import pq
from psycopg.adapt import Buffer, Loader

POSTGRES_TYPES = {
    pl.String(): "text",
    pl.Date(): "date",
    pl.Int32(): "int4",
    pl.Int64(): "int8",
    pl.Float64(): "float8",
    pl.Boolean(): "bool",
}

POSTGRES_EPOCH = 10_957  # days from 1970-01-01 to 2000-01-01
FLOAT8 = 701  # the type's number in every PostgreSQL

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"


class _ArrayLoader(Loader):
    """Reads an array without nulls at one stroke: one dimension into a vector, two into a matrix.

    The format: dimensions, nulls and type (int32 each); for each dimension its length and lower bound (int32); then
    for each item its length (int32) and its value.
    """

    format = pq.Format.BINARY
    item: ClassVar[str]

    def load(self, data: Buffer) -> NDArray[Any]:
        dimensions = int(np.frombuffer(data, dtype=">i4", count=1)[0])
        shape = np.frombuffer(data, dtype=">i4", count=2 * dimensions, offset=12)[::2]
        cells = np.frombuffer(data, dtype=[("length", ">i4"), ("value", self.item)], offset=12 + 8 * dimensions)
        return cells["value"].astype(np.dtype(self.item).newbyteorder("=")).reshape(shape)


class _DoublesLoader(_ArrayLoader):
    item = ">f8"


class _DatesLoader(_ArrayLoader):
    """PostgreSQL counts days from 2000-01-01, everyone else from 1970-01-01."""

    item = ">i4"

    def load(self, data: Buffer) -> NDArray[Any]:
        return super().load(data) + POSTGRES_EPOCH


def read_arrays(cursor: psycopg.Cursor[Any]) -> None:
    """Let ``cursor`` load arrays of doubles and of dates (as days since 1970) into numpy."""
    cursor.adapters.register_loader(psycopg.postgres.types["float8"].array_oid, _DoublesLoader)
    cursor.adapters.register_loader(psycopg.postgres.types["date"].array_oid, _DatesLoader)


def repeated(names: Sequence[str], groups: Sequence[NDArray[Any]]) -> pl.Series:
    """Each name as often as its group is long."""
    lengths = pl.Series([len(group) for group in groups], dtype=pl.UInt32)
    return pl.select(pl.lit(pl.Series(names, dtype=pl.String)).repeat_by(lengths).explode()).to_series()


def encoded_features(frame: pl.DataFrame) -> Iterator[bytes]:
    """The bytes of a binary COPY of ``symbol, session, price_growth, share_growth, features``, a chunk a symbol.

    Args:
        frame: sorted by symbol and without nulls; the columns after the first four become the array ``features``.
    """
    yield COPY_HEADER
    width = frame.width - 4
    for (symbol,), rows in frame.group_by(["symbol"], maintain_order=True):
        name = str(symbol).encode()
        cells = np.zeros(len(rows), dtype=_feature_row(len(name), width))
        cells["fields"] = 5
        cells["symbol_length"], cells["symbol"] = len(name), name
        cells["session_length"], cells["session"] = 4, rows["session"].to_physical().to_numpy() - POSTGRES_EPOCH
        for column in ("price_growth", "share_growth"):
            cells[f"{column}_length"], cells[column] = 8, rows[column].to_numpy()
        cells["array_length"] = 20 + 12 * width
        cells["dimensions"], cells["type"], cells["width"], cells["bound"] = 1, FLOAT8, width, 1
        cells["items"]["length"], cells["items"]["value"] = 8, rows[:, 4:].to_numpy()
        yield cells.tobytes()
    yield COPY_TRAILER


def _feature_row(name_bytes: int, width: int) -> np.dtype[np.void]:
    """Each field behind its length in bytes, the array with its header."""
    return np.dtype(
        [
            ("fields", ">i2"),
            ("symbol_length", ">i4"), ("symbol", f"S{name_bytes}"),
            ("session_length", ">i4"), ("session", ">i4"),
            ("price_growth_length", ">i4"), ("price_growth", ">f8"),
            ("share_growth_length", ">i4"), ("share_growth", ">f8"),
            ("array_length", ">i4"),
            ("dimensions", ">i4"), ("nulls", ">i4"), ("type", ">i4"), ("width", ">i4"), ("bound", ">i4"),
            ("items", [("length", ">i4"), ("value", ">f8")], (width,)),
        ]
    )  # fmt: skip
