"""Verbs that bring market data in and show what is wrong with it: ingest, findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swiftbolt.console import note, print_json, print_line, print_table, progress
from swiftbolt.errors import ConfigError, InsufficientHistory, ProviderError
from swiftbolt.verbs.shared import AsJson, open_store
from swiftbolt.verbs.vendors import Vendor, open_vendor

if TYPE_CHECKING:
    from swiftbolt.findings import Findings
    from swiftbolt.ingest import Ingested, Wanted
    from swiftbolt.providers.base import Provider
    from swiftbolt.store import Store
    from swiftbolt.universe import Universe

YEARS_ASKED = 20  # of a vendor, when no first session is given
ROWS_SHOWN = 20


class ProviderName(StrEnum):
    """Sources of market data."""

    sample = "sample"
    files = "files"
    polygon = "polygon"
    alpaca = "alpaca"


LOCAL = (ProviderName.sample, ProviderName.files)


def ingest(
    provider: Annotated[ProviderName, typer.Option(help="Where the bars come from.")],
    path: Annotated[
        Path | None, typer.Option(help="The parquet or CSV file of --provider files, a folder or a pattern.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=THEIRS", help="Name of a column of the file, such as close=Last; repeatable."),
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="Symbol of a file that holds one and does not name it.")] = None,
    universe: Annotated[Path | None, typer.Option(help="Universe file; a vendor needs one.")] = None,
    start: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First session.")] = None,
    end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last session.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Address of the vendor's API, if not its own.")] = None,
    requests_per_minute: Annotated[
        float | None,
        typer.Option(help="Limit on requests to polygon; by default 5 at its own address, as its free plan."),
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask a vendor again for what is held, to learn of revisions.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop, and write nothing, when a row is faulty.")] = False,
    cross_check: Annotated[
        Vendor | None, typer.Option(help="A second vendor; sessions where both disagree become findings.")
    ] = None,
    cross_check_url: Annotated[str | None, typer.Option(help="Address of the second vendor's API.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring daily bars, splits and dividends into the store, checked. Doing it again changes nothing.

    A vendor is asked only for the sessions the store lacks; what broke off goes on where it stopped. Keys come from
    the environment: POLYGON_API_KEY, APCA_API_KEY_ID and APCA_API_SECRET_KEY.
    """
    from swiftbolt import ingest as library
    from swiftbolt.config import load_config
    from swiftbolt.sessions import last_closed_session
    from swiftbolt.settings import Settings
    from swiftbolt.universe import Universe

    settings = Settings()
    chosen = load_config(universe, Universe) if universe else None
    today = last_closed_session(datetime.now(UTC))
    wanted = _wanted(provider, chosen, start, end, today, strict=strict, refresh=refresh)
    bring: Callable[[Store, Callable[[str], None]], Ingested]
    if provider in LOCAL:
        remote_only = {"--base-url": base_url, "--requests-per-minute": requests_per_minute, "--refresh": refresh}
        _refuse_options(provider, remote_only)
        local = _local(provider, path, dict(_pair(text) for text in column or ()), symbol, today)
        bring = partial(library.ingest_local, read=library.read_local(local, wanted))
    else:
        _refuse_options(provider, {"--path": path, "--column": column, "--symbol": symbol})
        vendor = open_vendor(provider, settings, base_url, requests_per_minute)
        bring = partial(library.ingest_remote, provider=vendor, wanted=wanted, today=today)
    second = None if cross_check is None else open_vendor(cross_check, settings, cross_check_url, requests_per_minute)
    with open_store() as store:
        with progress("ingesting", len(wanted.symbols or ()) or None) as advance:
            done = bring(store, advance=lambda symbol: advance(1))
        asked = sorted(set(wanted.symbols or done.symbols))
        disputed, unanswered = None, None
        if second is not None:
            try:
                disputed = library.cross_check(
                    store, second, asked, wanted.start or done.first, wanted.end or done.last
                )
            except ProviderError as exc:  # what was ingested is told first
                unanswered = exc
        least = chosen.min_sessions if chosen else 0
        held = {row.symbol: row.sessions for row in store.symbols()}
    short = [InsufficientHistory(name, least, held[name]) for name in asked if 0 < held.get(name, 0) < least]
    for line in [*done.notes, *done.findings.summary(), *done.missing.values()]:
        note(line)
    for shortage in short:
        note(f"{shortage}: stored, but too short to train on")
    if as_json:
        summary = {**done.to_json(), "too_short": [shortage.symbol for shortage in short]}
        print_json(summary if disputed is None else {**summary, "disputed": disputed.frame.to_dicts()})
    else:
        print_line(_summary(done, asked))
    if unanswered is not None:
        raise unanswered
    if disputed is not None and not as_json:
        _show_disputed(disputed, provider, second.source if second else "")


def findings(
    symbol: Annotated[list[str] | None, typer.Argument(help="Only these symbols.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as bad_tick.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what is wrong with the stored bars: each with its symbol, session, and since when it was known."""
    from swiftbolt.findings import KINDS

    if kind is not None and kind not in KINDS:
        raise ConfigError("swiftbolt findings", "--kind", f"no kind {kind!r}; there are {', '.join(KINDS)}")
    with open_store() as store:
        found, held = store.findings(symbol or None), set(store.last_sessions())
    frame = found.frame if kind is None else found.frame.filter(kind=kind)
    rows = [{**row, "effect": str(KINDS[row["kind"]].effect)} for row in frame.to_dicts()]
    for unknown in sorted(set(symbol or ()) - held):
        note(f"there are no bars of {unknown}")
    if as_json:
        print_json([{**row, "remedy": KINDS[row["kind"]].remedy} for row in rows])
        return
    print_table(rows) if rows else note("nothing was found")
    for name in dict.fromkeys(row["kind"] for row in rows):
        note(f"{name}: {KINDS[name].meaning}; {KINDS[name].remedy}")


def _wanted(
    provider: ProviderName,
    universe: Universe | None,
    start: datetime | None,
    end: datetime | None,
    today: date,
    *,
    strict: bool,
    refresh: bool,
) -> Wanted:
    from swiftbolt.ingest import Wanted

    first = start.date() if start else universe.start if universe else None
    last = end.date() if end else universe.end if universe else None
    if first is not None and last is not None and first > last:
        raise ConfigError("swiftbolt ingest", "--start", f"{first} is after --end {last}")
    if first is not None and first > today:
        raise ConfigError("swiftbolt ingest", "--start", f"{first} is not over yet; the newest session is {today}")
    symbols = universe.symbols if universe else None
    if provider not in LOCAL:
        if symbols is None:
            raise ConfigError(f"--provider {provider}", "--universe", "name a file with the symbols to ask for")
        if last is not None and last > today:
            note(f"{last} is not over yet: asking up to {today}")
        last = min(last or today, today)
        first = first or today.replace(year=today.year - YEARS_ASKED, day=1)
    return Wanted(symbols=symbols, start=first, end=last, strict=strict, refresh=refresh)


def _refuse_options(provider: ProviderName, given: Mapping[str, object]) -> None:
    for option, value in given.items():
        if value:
            fitting = "a vendor" if provider in LOCAL else "--provider files"
            raise ConfigError(f"--provider {provider}", option, f"goes with {fitting} only")


def _pair(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not (ours and equals and theirs):
        raise ConfigError("--provider files", "--column", f"{text!r} is not OURS=THEIRS, such as close=Last")
    return ours, theirs


def _local(
    provider: ProviderName, path: Path | None, columns: Mapping[str, str], symbol: str | None, today: date
) -> Provider:
    from swiftbolt.providers.files import FilesProvider
    from swiftbolt.providers.sample import SampleProvider

    if provider is ProviderName.sample:
        if path is not None or columns or symbol is not None:
            raise ConfigError("--provider sample", "--path", "goes with --provider files only")
        return SampleProvider()
    if path is None:
        raise ConfigError("--provider files", "--path", "name the parquet or CSV file to read")
    return FilesProvider(path=path, columns=columns, symbol=symbol, today=today)


def _summary(done: Ingested, asked: Sequence[str]) -> str:
    if not done.bars:
        return "nothing was missing" if len(done.missing) < len(asked) else "no bars came"
    return (
        f"{len(done.symbols)} symbols, {done.bars:,} bars from {done.first} to {done.last}:"
        f" {done.inserted:,} inserted, {done.revised:,} revised, {done.unchanged:,} unchanged;"
        f" {done.actions:,} corporate actions, {done.revised_actions:,} of them revised or withdrawn"
        f" ({done.adjustment}); {len(done.findings):,} findings on file"
    )


def _show_disputed(disputed: Findings, first: str, second: str) -> None:
    if not len(disputed):
        print_line(f"{first} and {second} agree")
        return
    print_table(
        [
            {name: row[name] for name in ("symbol", "session", "detail")}
            for row in disputed.frame.head(ROWS_SHOWN).to_dicts()
        ],
        title=f"{len(disputed):,} disagreement{'s' if len(disputed) > 1 else ''} of {first} and {second}",
    )
    if len(disputed) > ROWS_SHOWN:
        note("swiftbolt findings --kind source_mismatch lists them all")
