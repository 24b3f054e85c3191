"""Verbs about market data: ingest, features."""

from __future__ import annotations

import os
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swiftbolt.console import note, print_json, print_line, print_table, progress, working
from swiftbolt.errors import ConfigError, DataError, EnvironmentFault, QuarantinedRows
from swiftbolt.verbs.shared import AsJson, open_store

if TYPE_CHECKING:
    import polars as pl

    from swiftbolt.providers.base import MarketData, Provider
    from swiftbolt.store import Store

SYMBOLS_PER_WRITE = 25


class ProviderName(StrEnum):
    """Sources of market data."""

    sample = "sample"
    files = "files"


def ingest(
    provider: Annotated[ProviderName, typer.Option(help="Where the bars come from.")],
    path: Annotated[Path | None, typer.Option(help="The parquet or CSV file of --provider files.")] = None,
    universe: Annotated[Path | None, typer.Option(help="Universe file; without it every symbol is taken.")] = None,
    start: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First session.")] = None,
    end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last session.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop, and write nothing, when a row is faulty.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring daily bars, splits and dividends into the store. Doing it again changes nothing."""
    from swiftbolt.config import load_config
    from swiftbolt.universe import Universe

    source = _provider(provider, path)
    chosen = load_config(universe, Universe) if universe else None
    data = source.fetch(
        chosen.symbols if chosen else None,
        start.date() if start else chosen.start if chosen else None,
        end.date() if end else chosen.end if chosen else None,
    )
    faults = data.faults()
    if strict and faults:
        raise QuarantinedRows(f"{'; '.join(faults)}; nothing was written: correct the rows or leave out --strict")
    for line in faults:
        note(line)
    if data.missing:
        note(f"no bars of {', '.join(data.missing)}")
    short = data.too_short(chosen.min_sessions) if chosen else []
    for shortage in short:
        note(f"{shortage}: stored, but too short to train on")
    with open_store() as store:
        _require_one_adjustment(store, data)
        summary = _write(store, data, source.source)
    if as_json:
        print_json({**summary, "missing": data.missing, "too_short": [shortage.symbol for shortage in short]})
        return
    print_line(
        f"{summary['symbols']} symbols, {summary['bars']:,} bars from {summary['first']} to {summary['last']}:"
        f" {summary['inserted']:,} inserted, {summary['revised']:,} revised, {summary['unchanged']:,} unchanged;"
        f" {summary['actions']:,} corporate actions ({summary['adjustment']})"
    )


def features(
    bars: Annotated[Path | None, typer.Option(help="Parquet or CSV file of daily bars.")] = None,
    out: Annotated[Path | None, typer.Option(help="Parquet file to write.")] = None,
    describe: Annotated[bool, typer.Option("--describe", help="List the features instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compute every feature of every bar: one row per bar, NaN during a symbol's warm-up."""
    from swiftbolt.features.engine import build_features
    from swiftbolt.features.engine import describe as describe_features

    if describe:
        rows = describe_features()
        print_json(rows) if as_json else print_table(rows)
        return
    if bars is None or out is None:
        raise ConfigError("swiftbolt features", "", "needs --bars FILE and --out FILE, or --describe")
    from swiftbolt.actions import forward_adjusted
    from swiftbolt.providers.files import read_market_data

    if not out.parent.is_dir():
        raise ConfigError("swiftbolt features", "--out", f"there is no folder {out.parent}; make it or choose another")
    if out.exists() and out.samefile(bars):
        raise ConfigError("swiftbolt features", "--out", f"{out} is the file of bars itself; choose another")
    data = read_market_data(bars)
    for line in data.faults():
        note(line)
    with working(f"features of {len(data.bars):,} bars"):
        built = build_features(forward_adjusted(data.bars, data.actions))
        _write_parquet(built.frame, out)
    names, warmup = built.spec.names, built.spec.warmup
    if as_json:
        print_json({"out": out, "rows": len(built), "features": names, "warmup": warmup, "spec": built.spec.spec_hash})
        return
    print_line(f"{len(built):,} rows of {len(names)} features in {out}; a symbol's first {warmup} rows are warm-up")


def _provider(name: ProviderName, path: Path | None) -> Provider:
    from swiftbolt.providers.files import FilesProvider
    from swiftbolt.providers.sample import SampleProvider

    if name is ProviderName.sample:
        if path is not None:
            raise ConfigError("--provider sample", "--path", "goes with --provider files only")
        return SampleProvider()
    if path is None:
        raise ConfigError("--provider files", "--path", "name the parquet or CSV file to read")
    return FilesProvider(path=path)


def _require_one_adjustment(store: Store, data: MarketData) -> None:
    """Refuse bars for sessions whose splits and dividends the store has in another form: both would be applied."""
    import polars as pl

    from swiftbolt.providers.base import Adjustment

    spans = data.bars.frame.group_by("symbol").agg(first=pl.col("session").min(), last=pl.col("session").max())
    by_factor = data.actions.frame.filter(kind="factor")["symbol"].unique()
    if data.adjustment is Adjustment.RAW_WITH_FACTORS:
        by_factor = spans["symbol"]
    own_kinds = (
        pl.when(pl.col("symbol").is_in(by_factor.implode()))
        .then(pl.col("kind") == "factor")
        .otherwise((pl.col("kind") != "factor") & (data.adjustment is Adjustment.RAW_WITH_ACTIONS))
    )
    held = store.actions(symbols=data.bars.symbols).frame.join(spans, on="symbol")
    foreign = held.filter(pl.col("ex_date").is_between("first", "last") & ~own_kinds)
    if len(foreign):
        kinds = ", ".join(foreign["kind"].unique().sort())
        raise DataError(
            f"{', '.join(foreign['symbol'].unique().sort())}: the store holds {kinds} actions for these sessions, and"
            f" this source brings {data.adjustment}; applied together they would adjust twice. Nothing was written:"
            " set SWIFTBOLT_HOME or DATABASE_URL to another store for this source"
        )


def _write(store: Store, data: MarketData, source: str) -> dict[str, Any]:
    """Write a few symbols at a time: what is interrupted leaves whole symbols, and the next run completes it."""
    symbols = data.bars.symbols
    inserted = revised = unchanged = 0
    with progress("storing", len(symbols)) as advance:
        for first in range(0, len(symbols), SYMBOLS_PER_WRITE):
            some = symbols[first : first + SYMBOLS_PER_WRITE]
            store.upsert_actions(data.actions.select(some), source=source)
            count = store.upsert_bars(data.bars.select(some), source=source)
            inserted, revised = inserted + count.inserted, revised + count.revised
            unchanged += count.unchanged
            advance(len(some))
    return {
        "source": source,
        "symbols": len(symbols),
        "bars": len(data.bars),
        "first": data.bars.frame["session"].min(),
        "last": data.bars.last_session,
        "inserted": inserted,
        "revised": revised,
        "unchanged": unchanged,
        "actions": len(data.actions),
        "adjustment": data.adjustment,
        "quarantined": dict(data.quarantine.frame["fault"].value_counts().sort("fault").iter_rows()),
        "findings": data.findings,
    }


def _write_parquet(frame: pl.DataFrame, out: Path) -> None:
    """Write beside its place and rename, so that a reader finds the old file or the new one, never half of one."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        frame.write_parquet(partial, compression="zstd")
        partial.replace(out)
    except OSError as exc:
        raise EnvironmentFault(f"{out} cannot be written ({exc.strerror or exc}); choose another --out") from exc
    finally:
        partial.unlink(missing_ok=True)
