"""What the store takes and answers with, and the checks on it that are not the database's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

import polars as pl

from swiftbolt.bars import BAR_SCHEMA
from swiftbolt.errors import SchemaError
from swiftbolt.findings import Findings
from swiftbolt.forecast import QUANTILE_COLUMNS
from swiftbolt.trial import TrialSource, TrialState

RunState = Literal["running", "lost", "succeeded", "failed"]
UnitState = Literal["waiting", "done", "failed"]

LEASE_SILENT_S = 60.0  # of a lease not renewed for so long the holder is taken to be dead

FORECAST_SCHEMA = {
    "symbol": pl.String(),
    "origin": pl.Date(),
    "horizon": pl.Int32(),
    "model": pl.String(),
    **dict.fromkeys(("mean", "sd", *QUANTILE_COLUMNS, "p_up"), pl.Float64()),
}
RESULT_SCHEMA = {"model": pl.String(), "horizon": pl.Int32(), "metrics": pl.String()}
REVISION_SCHEMA = {
    "symbol": pl.String(),
    "session": pl.Date(),
    "ordinal": pl.Int32(),
    **{name: dtype for name, dtype in BAR_SCHEMA.items() if dtype == pl.Float64()},
    "source": pl.String(),
    "replaced_at": pl.Datetime("us", "UTC"),
}
ACTION_REVISION_SCHEMA = {
    "symbol": pl.String(),
    "ex_date": pl.Date(),
    "kind": pl.String(),
    "value": pl.Float64(),
    "source": pl.String(),
    "is_withdrawn": pl.Boolean(),
    "replaced_at": pl.Datetime("us", "UTC"),
}
QUARANTINE_SCHEMA = {**BAR_SCHEMA, "fault": pl.String()}

Answered = Mapping[str, tuple[date, date]]
"""First and last day, by symbol, for which a source has told all it knows."""

UNIT_SCHEMA = {
    "run": pl.String(),
    "symbol": pl.String(),
    "model": pl.String(),
    "fold": pl.Int32(),
    "is_live": pl.Boolean(),
    "state": pl.String(),
    "attempts": pl.Int32(),
    **dict.fromkeys(("seconds", "cpu_seconds", "peak_mb"), pl.Float64()),
    "reason": pl.String(),
}

SYMBOL_LENGTH = 64  # characters, as the migrations have it


@dataclass(frozen=True, kw_only=True, slots=True)
class UpsertCount:
    """What became of a batch: rows that were new, that replaced another value, that were known already.

    Attributes:
        findings: one of kind ``revision`` for each bar or action that was replaced or withdrawn; they are in the store
            already.
    """

    inserted: int
    revised: int
    unchanged: int
    findings: Findings = field(default_factory=Findings.none, compare=False)


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

    ``seconds`` is None until it has ended; ``failures`` maps a symbol to its reason. Lost is one whose driver vanished.
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
class UnitRow:
    """A fit of a run: one model on one fold for one symbol, or the ``universe``; figures are None until it ended."""

    run: str
    symbol: str
    model: str
    fold: int
    is_live: bool
    state: UnitState
    attempts: int
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_mb: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitTotal:
    """A run's fits of one model: how many in which state, attempts and times added up, the highest peak."""

    model: str
    waiting: int
    done: int
    failed: int
    attempts: int
    seconds: float
    cpu_seconds: float
    peak_mb: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseRow:
    """Who holds a lease.

    Attributes:
        holder: ``place/process/began``, the place a host's name and, after ``#``, what parts its containers.
        silent_s: how many seconds ago it was renewed, by the database's clock.
    """

    name: str
    run: str | None
    holder: str
    taken: datetime
    renewed: datetime
    silent_s: float

    @property
    def host(self) -> str:
        """Name of the machine."""
        return self.holder.partition("/")[0].partition("#")[0]

    @property
    def process(self) -> str:
        """Number of the process on it."""
        return self.holder.split("/")[1]


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


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRow:
    """A configuration that was looked at; ``sessions`` counts its daily returns, None without any.

    See ``Trial`` for the rest.
    """

    key: str
    recorded_at: datetime
    source: TrialSource
    state: TrialState
    model: str | None
    horizon: int | None
    config: dict[str, Any]
    symbols: list[str]
    first: date
    last: date
    sessions: int | None
    sharpe: float | None
    crps: float | None
    skill: float | None
    reason: str | None
    code_version: str


def require_storable(symbols: Iterable[str | None]) -> None:
    """Refuse names the database has no room for.

    Raises:
        SchemaError: names the first symbol that is too long, or holds a NUL.
    """
    for symbol in symbols:
        if symbol is not None and len(symbol) > SYMBOL_LENGTH:
            raise SchemaError(
                f"symbol {symbol[:SYMBOL_LENGTH]}... has {len(symbol)} characters and the store has room for"
                f" {SYMBOL_LENGTH}: shorten it at its source"
            )
        if symbol is not None and "\0" in symbol:
            raise SchemaError(f"symbol {symbol!r} holds a NUL character: correct it at its source")


def with_columns(frame: pl.DataFrame, schema: Mapping[str, pl.DataType], what: str) -> pl.DataFrame:
    """``frame`` with the columns of ``schema``, in their order and cast to their types.

    Raises:
        SchemaError: a column is missing; ``what`` names the frame.
    """
    missing = [name for name in schema if name not in frame.columns]
    if missing:
        raise SchemaError(f"{what} lack the columns {', '.join(missing)}")
    return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())


def as_spans(answered: Answered) -> dict[str, Any]:
    """First and last days by symbol as the arrays a statement takes."""
    return {
        "symbols": list(answered),
        "firsts": [first for first, _ in answered.values()],
        "lasts": [last for _, last in answered.values()],
    }


def as_list(symbols: Iterable[str] | None) -> list[str] | None:
    """A list, as the driver sends arrays; None stays None."""
    return None if symbols is None else list(symbols)
