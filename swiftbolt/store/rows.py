"""What the store answers with, and how whole columns cross the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
import psycopg
from numpy.typing import NDArray
from psycopg import pq
from psycopg.adapt import Buffer, Loader

from swiftbolt.forecast import QUANTILE_COLUMNS

RunState = Literal["running", "succeeded", "failed"]

FORECAST_SCHEMA = {
    "symbol": pl.String(),
    "origin": pl.Date(),
    "horizon": pl.Int32(),
    "model": pl.String(),
    **dict.fromkeys(("mean", "sd", *QUANTILE_COLUMNS, "p_up"), pl.Float64()),
}
RESULT_SCHEMA = {"model": pl.String(), "horizon": pl.Int32(), "metrics": pl.String()}

POSTGRES_TYPES = {
    pl.String(): "text",
    pl.Date(): "date",
    pl.Int32(): "int4",
    pl.Int64(): "int8",
    pl.Float64(): "float8",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class UpsertCount:
    """What became of a batch: rows that were new, that replaced another value, that were known already."""

    inserted: int
    revised: int
    unchanged: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SymbolRow:
    """The bars held for a symbol; ``last_close`` is raw, in dollars."""

    symbol: str
    first: date
    last: date
    sessions: int
    last_close: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """A run: how far it has come, of how many symbols, and why some failed.

    ``seconds`` is None until it has ended; ``failures`` maps a symbol to its reason.
    """

    run: str
    kind: str
    state: RunState
    done: int
    failed: int
    total: int
    seconds: float | None
    started: datetime
    failures: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseRow:
    """A published release; ``origin`` is the session its forecasts start from."""

    version: int
    run: str
    active: bool
    release_digest: str
    origin: date
    created: datetime
    directory: str
    reproducible: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactRow:
    """One model of a run: its manifest and the directory that holds its files."""

    model: str
    manifest: Mapping[str, Any]
    directory: str


class _ArrayLoader(Loader):
    """Reads a one-dimensional array without nulls, in PostgreSQL's binary format, at one stroke.

    The format: 20 bytes of header (dimensions, nulls, type, length, lower bound), then for each item its
    length (int32) and its value, all big-endian.
    """

    format = pq.Format.BINARY
    item: ClassVar[str]

    def load(self, data: Buffer) -> NDArray[Any]:
        cells = np.frombuffer(data, dtype=[("length", ">i4"), ("value", self.item)], offset=20)
        return cells["value"].astype(np.dtype(self.item).newbyteorder("="))


class _DoublesLoader(_ArrayLoader):
    item = ">f8"


class _DatesLoader(_ArrayLoader):
    """PostgreSQL counts days from 2000-01-01, everyone else from 1970-01-01."""

    item = ">i4"

    def load(self, data: Buffer) -> NDArray[Any]:
        return super().load(data) + 10_957


def read_arrays(cursor: psycopg.Cursor[Any]) -> None:
    """Let ``cursor`` load arrays of doubles and of dates (as days since 1970) into numpy."""
    cursor.adapters.register_loader(psycopg.postgres.types["float8"].array_oid, _DoublesLoader)
    cursor.adapters.register_loader(psycopg.postgres.types["date"].array_oid, _DatesLoader)
