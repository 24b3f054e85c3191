"""From a provider into the store, checked on the way. Doing it again changes nothing; what broke off goes on.

A file is read whole, checked, and written. A vendor is asked symbol by symbol for the sessions the store has not
asked it for yet; every page is written as it arrives, so that whatever ends a fetch, the next one starts there.
Once the bars are in, every symbol's stored history is inspected anew and its findings are replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import polars as pl

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars, Quarantine, empty_quarantine
from swiftbolt.errors import DataError, QuarantinedRows, UnknownSymbol
from swiftbolt.findings import Findings
from swiftbolt.providers.base import Adjustment, MarketData, Provider, RemoteProvider
from swiftbolt.providers.cross_check import disagreements
from swiftbolt.quality import inspect
from swiftbolt.sessions import session_after
from swiftbolt.store import Store
from swiftbolt.store.rows import Answered

SYMBOLS_PER_WRITE = 25
# A vendor may publish a session late: what it did not bring of the newest sessions is asked for again next time.
MAY_COME_LATE = 10

Advance = Callable[[str], None]
"""Told of each symbol whose bars are in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is to be ingested.

    Attributes:
        symbols: None takes whatever a file holds; a vendor needs them named.
        start, end: first and last session; None does not restrict a file.
        strict: write nothing where a row would be set aside or quarantined.
        refresh: ask a vendor again for what is held already, to learn of revisions.
    """

    symbols: tuple[str, ...] | None
    start: date | None = None
    end: date | None = None
    strict: bool = False
    refresh: bool = False


@dataclass(kw_only=True, slots=True)
class Ingested:
    """What came of it.

    Attributes:
        symbols: those of which bars came.
        set_aside: rows of this answer that are no bars, by fault.
        findings: all that is known of the symbols' bars, older findings included.
        missing: symbols asked for of which there is no bar, each with the reason.
        notes: sentences about values that were ignored.
    """

    source: str
    adjustment: Adjustment = Adjustment.RAW_WITH_ACTIONS
    symbols: set[str] = field(default_factory=set)
    bars: int = 0
    first: date | None = None
    last: date | None = None
    inserted: int = 0
    revised: int = 0
    unchanged: int = 0
    actions: int = 0
    revised_actions: int = 0
    set_aside: dict[str, int] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings.none)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values; findings as counts by kind."""
        return {
            "source": self.source,
            "adjustment": str(self.adjustment),
            "symbols": len(self.symbols),
            "bars": self.bars,
            "first": self.first,
            "last": self.last,
            "inserted": self.inserted,
            "revised": self.revised,
            "unchanged": self.unchanged,
            "actions": self.actions,
            "revised_actions": self.revised_actions,
            "set_aside": dict(sorted(self.set_aside.items())),
            "findings": self.findings.counts(),
            "missing": self.missing,
            "notes": self.notes,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspected:
    """What a local source holds, and what is wrong with it."""

    source: str
    data: MarketData
    findings: Findings


def read_local(provider: Provider, wanted: Wanted) -> Inspected:
    """Read and inspect what a local source holds; no store is needed yet.

    Raises:
        SchemaError, DataError: it holds no market data, or none of what is wanted.
        QuarantinedRows: ``wanted.strict``, and a row is faulty.
    """
    data = provider.fetch(wanted.symbols, wanted.start, wanted.end)
    found = _without_rows_set_aside(inspect(data.bars, data.actions), data.quarantine)
    if wanted.strict:
        _require_sound(data, found)
    return Inspected(source=provider.source, data=data, findings=found)


def ingest_local(store: Store, read: Inspected, advance: Advance) -> Ingested:
    """Store what was read.

    Raises:
        DataError: the store has the same symbols adjusted in another way; nothing was written.
    """
    data = read.data
    _require_one_adjustment(store, data)
    done = Ingested(source=read.source, adjustment=data.adjustment, notes=list(data.findings))
    done.set_aside = dict(data.quarantine.frame["fault"].value_counts().iter_rows())
    done.missing = {symbol: f"{symbol}: no usable row" for symbol in data.missing}
    held_before = set(store.last_sessions())
    answered = _answered(data)
    # Once for all: rows of a symbol that has no bar are in no batch.
    store.set_aside(data.quarantine, source=read.source, answered=answered)
    for symbols in _batches(data.bars.symbols):
        # Findings first: whatever ends this, no bar is ever there without what is known of it.
        new = [symbol for symbol in symbols if symbol not in held_before]
        store.replace_findings(read.findings.select(new), new, source=read.source)
        _write(store, read.source, _part(data, symbols), done, {symbol: answered[symbol] for symbol in symbols})
        for symbol in symbols:
            advance(symbol)
    if held_before:
        _inspect_stored(store)
    done.findings = store.findings(data.bars.symbols)
    return done


def ingest_remote(store: Store, provider: RemoteProvider, wanted: Wanted, *, today: date, advance: Advance) -> Ingested:
    """Ask a vendor for what is missing of ``wanted`` and store it as it comes.

    Args:
        today: the last session that is over.

    Raises:
        ProviderError: the vendor refused or did not answer; what had come by then is stored and inspected, and the
            same call goes on from there.
        QuarantinedRows: ``wanted.strict``, and a row is faulty; nothing of its page was written.
    """
    if wanted.symbols is None or wanted.start is None or wanted.end is None:
        raise ValueError("a vendor is asked for named symbols between two sessions")
    done = Ingested(source=provider.source)
    try:
        for symbol in wanted.symbols:
            try:
                _fetch_symbol(store, provider, symbol, wanted, today, done)
            except UnknownSymbol as exc:
                done.missing[symbol] = str(exc)
            advance(symbol)
    finally:
        # Also where the vendor broke off: what is stored is never without its findings.
        _inspect_stored(store)
    held = store.last_sessions()
    for symbol in wanted.symbols:
        if symbol not in held and symbol not in done.missing:
            done.missing[symbol] = f"{symbol}: {provider.source} has no bars from {wanted.start} to {wanted.end}"
    done.findings = store.findings(wanted.symbols)
    return done


def cross_check(
    store: Store, second: Provider, symbols: Sequence[str], start: date | None, end: date | None
) -> Findings:
    """Compare the stored bars with a second source's and record where the two disagree.

    Raises:
        ProviderError: the second source did not answer.
    """
    ours = store.bars(symbols=symbols, start=start, end=end)
    theirs = second.fetch(symbols, start, end)
    found = disagreements(ours, theirs.bars, store.actions(symbols=symbols), theirs.actions)
    store.replace_mismatches(found, symbols, start, end)
    return found


def _fetch_symbol(
    store: Store, provider: RemoteProvider, symbol: str, wanted: Wanted, today: date, done: Ingested
) -> None:
    assert wanted.start is not None
    assert wanted.end is not None
    everything = [(wanted.start, wanted.end)]
    gaps = everything if wanted.refresh else store.uncovered(symbol, provider.source, *everything[0])
    for first, last in gaps:
        reached: date | None = None
        for page in provider.pages(symbol, first, last):
            if wanted.strict:
                _require_sound(page, _inspect_page(store, page))
            _require_one_adjustment(store, page)
            # The first page brings all actions; after each, what has come is covered, whatever happens next.
            _write(store, provider.source, page, done, {symbol: (first, last)} if reached is None else {})
            if len(page.bars):
                reached = page.bars.last_session
                store.record_coverage(symbol, provider.source, first, reached)
        if last < session_after(today, -MAY_COME_LATE):
            store.record_coverage(symbol, provider.source, first, last)


def _require_sound(data: MarketData, found: Findings) -> None:
    lines = [*Findings.of_quarantine(data.quarantine).summary(), *found.quarantining().summary(), *data.findings]
    if lines:
        raise QuarantinedRows(f"{'; '.join(lines)}; nothing was written: correct the rows or leave out --strict")


def _write(store: Store, source: str, data: MarketData, done: Ingested, answered: Answered) -> None:
    """Store one answer and count it. Actions first: a bar is never there without the split that came with it.

    Args:
        answered: first and last day, by symbol, of which the answer names every action.
    """
    if data.adjustment is Adjustment.AS_GIVEN:  # knows of no action, which is not to say that there is none
        answered = {}
    changed = store.upsert_actions(data.actions, source=source, answered=answered)
    done.revised_actions += changed.revised
    store.set_aside(data.quarantine, source=source)
    count = store.upsert_bars(data.bars, source=source)
    done.inserted += count.inserted
    done.revised += count.revised
    done.unchanged += count.unchanged
    done.actions += len(data.actions)
    for fault, rows in data.quarantine.frame["fault"].value_counts().iter_rows():
        done.set_aside[fault] = done.set_aside.get(fault, 0) + rows
    done.notes += [note for note in data.findings if note not in done.notes]
    done.adjustment = data.adjustment
    done.bars += len(data.bars)
    done.symbols.update(data.bars.symbols)
    if len(data.bars):
        first, last = data.bars.frame["session"].min(), data.bars.last_session
        assert isinstance(first, date)
        done.first = first if done.first is None else min(done.first, first)
        done.last = last if done.last is None else max(done.last, last)


def _inspect_stored(store: Store) -> None:
    """Inspect every bar of the store: whether a close is stale depends on what all others did."""
    bars = store.bars()
    found = inspect(bars, store.actions(symbols=bars.symbols))
    store.replace_findings(_without_rows_set_aside(found, store.quarantine(bars.symbols)), bars.symbols)


def _answered(data: MarketData) -> dict[str, tuple[date, date]]:
    """First and last day of each symbol in an answer, rows that are no bars included."""
    rows = pl.concat([part.frame.select("symbol", "session") for part in (data.bars, data.quarantine)]).drop_nulls()
    spans = rows.group_by("symbol").agg(first=pl.col("session").min(), last=pl.col("session").max())
    return {symbol: (first, last) for symbol, first, last in spans.iter_rows()}


def _inspect_page(store: Store, page: MarketData) -> Findings:
    """What is wrong with the bars of a page, seen behind those the store has of the same symbols."""
    symbols = page.bars.symbols
    earlier = store.bars(symbols=symbols).frame.join(page.bars.frame, on=["symbol", "session"], how="anti")
    bars = Bars(frame=pl.concat([earlier, page.bars.frame]).sort("symbol", "session"))
    held = store.actions(symbols=symbols).frame
    actions = CorporateActions.from_frame(pl.concat([held, page.actions.frame]))
    found = inspect(bars, actions).frame.join(page.bars.frame, on=["symbol", "session"], how="semi")
    return Findings(frame=found)


def _without_rows_set_aside(found: Findings, quarantine: Quarantine) -> Findings:
    """A session whose row was set aside has its finding already: it is not missing, too."""
    keys = quarantine.frame.select("symbol", "session", kind=pl.lit("missing_session"))
    return Findings.from_frame(found.frame.join(keys, on=["symbol", "session", "kind"], how="anti"))


def _part(data: MarketData, symbols: Sequence[str]) -> MarketData:
    """The symbols' part of an answer; rows set aside are stored for all at once."""
    return MarketData(
        bars=data.bars.select(symbols),
        actions=data.actions.select(symbols),
        quarantine=empty_quarantine(),
        adjustment=data.adjustment,
    )


def _batches(symbols: Sequence[str]) -> Iterable[Sequence[str]]:
    """A few symbols at a time: what is interrupted leaves whole symbols, and the next run completes it."""
    return (symbols[first : first + SYMBOLS_PER_WRITE] for first in range(0, len(symbols), SYMBOLS_PER_WRITE))


def _require_one_adjustment(store: Store, data: MarketData) -> None:
    """Refuse bars for sessions whose splits and dividends the store has in another form: both would be applied."""
    if not len(data.bars):
        return
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
