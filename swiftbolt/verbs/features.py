"""The verb about what models learn from: features."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swiftbolt.console import note, print_json, print_line, print_table, working
from swiftbolt.errors import ConfigError, EnvironmentFault
from swiftbolt.verbs.shared import AsJson, refuse_overwriting

if TYPE_CHECKING:
    import polars as pl


def features(
    bars: Annotated[Path | None, typer.Option(help="Parquet or CSV file of daily bars.")] = None,
    out: Annotated[Path | None, typer.Option(help="Parquet file to write.")] = None,
    market: Annotated[
        str | None,
        typer.Option(help="Symbol, or file of an index, whose return is the market's; without it the mean of all."),
    ] = None,
    vix: Annotated[
        str | None, typer.Option(help="Symbol or file of the VIX in percent; with it there are features of it.")
    ] = None,
    describe: Annotated[bool, typer.Option("--describe", help="List the features instead.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="With --describe: as a page of Markdown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compute every feature of every bar: one row per bar, NaN during warm-up and where a bar is quarantined."""
    from swiftbolt.features.engine import build_features
    from swiftbolt.features.engine import describe as describe_features

    if describe:
        rows = describe_features()
        if as_json:
            print_json(rows)
        elif markdown:
            print_line(catalogue_page(rows))
        else:
            print_table(rows)
        return
    if bars is None or out is None:
        raise ConfigError("swiftbolt features", "", "needs --bars FILE and --out FILE, or --describe")
    from swiftbolt.evaluation.backdrop import Backdrop
    from swiftbolt.providers.files import read_market_data
    from swiftbolt.quality import inspect
    from swiftbolt.universe import is_file

    if not out.parent.is_dir():
        raise ConfigError("swiftbolt features", "--out", f"there is no folder {out.parent}; make it or choose another")
    series = [Path(named) for named in (market, vix) if named is not None and is_file(named)]
    refuse_overwriting("features", out, [bars, *series])
    from_files = Backdrop.read(market, vix, Path())
    data = read_market_data(bars)
    for line in data.faults():
        note(line)
    for option, named in (("--market", market), ("--vix", vix)):
        if named is not None and not is_file(named) and named not in data.bars.symbols:
            raise ConfigError("swiftbolt features", option, f"{named} is not among the symbols of {bars}")
    if market is not None and market == vix:
        raise ConfigError("swiftbolt features", "--vix", f"{vix} is the market already; choose another")
    own, backdrop = from_files.set_apart(data.bars, vix)
    with working(f"features of {len(own):,} bars"):
        actions = data.actions.select(symbols=own.symbols)
        found = inspect(own, actions)
        built = build_features(own, actions, found, market=backdrop.market or market, vix=backdrop.vix)
        _write_parquet(built.frame, out)
    for line in found.quarantining().summary():
        note(line)
    names, warmup = built.spec.names, built.spec.warmup
    short = data.too_short(warmup + 1)
    if short:
        note(f"no features of {len(short)} symbols with {warmup} bars or fewer (first: {short[0]})")
    if as_json:
        print_json({"out": out, "rows": len(built), "features": names, "warmup": warmup, "spec": built.spec.spec_hash})
        return
    print_line(f"{len(built):,} rows of {len(names)} features in {out}; a symbol's first {warmup} rows are warm-up")


def catalogue_page(rows: Sequence[Mapping[str, object]]) -> str:
    """The catalogue as ``swiftbolt/features/README.md`` has it."""

    def cells(values: Iterable[object]) -> str:
        return "| " + " | ".join(str(value).replace("|", "\\|") for value in values) + " |"

    return "\n".join(
        [
            "# The features",
            "",
            f"All {len(rows)} of them, as `swiftbolt features --describe --markdown` prints them. O, H, L, C are"
            " adjusted prices, V volume, r the log return of a session, m that of the market, VIX in percent, `[-n]` n"
            " sessions earlier; mean, median, sd, max, min and ema run over the sessions that their index names."
            " `look_back` counts earlier bars; `degenerate` is the value for bars on which the formula is undefined;"
            " `scope` says what else than the symbol's own bars a value depends on; `rescaled` says which change when"
            " a symbol's prices are multiplied; `roadmap` names what it stands for in the roadmap; those marked under"
            " `with` are there only where a universe names a VIX.",
            "",
            cells(rows[0]),
            cells("---" for _ in rows[0]),
            *(cells(row.values()) for row in rows),
        ]
    )


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
