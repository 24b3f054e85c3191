"""Bars and corporate actions: merged in batches, what they replace is kept, every change of history is counted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import date

import numpy as np
import polars as pl

from swiftbolt.actions import ACTION_SCHEMA, CorporateActions
from swiftbolt.bars import BAR_SCHEMA, Bars
from swiftbolt.findings import Findings
from swiftbolt.store.connection import Operations
from swiftbolt.store.features import withdraw_features
from swiftbolt.store.findings import merge_findings
from swiftbolt.store.rows import (
    ACTION_REVISION_SCHEMA,
    REVISION_SCHEMA,
    Answered,
    SymbolRow,
    UpsertCount,
    as_list,
    as_spans,
    require_storable,
    with_columns,
)
from swiftbolt.store.statements import statement
from swiftbolt.store.wire import read_arrays, repeated


class MarketOperations(Operations):
    """The tables ``bars``, ``corporate_actions``, what they were before, and ``symbol_revisions``."""

    def upsert_bars(self, bars: Bars, source: str) -> UpsertCount:
        """Insert ``bars`` and replace those that differ; ingesting the same bars again changes nothing.

        The values a bar had are kept (``revisions``), and a finding of kind ``revision`` is recorded. Cached features
        of sessions that a bar comes late to are withdrawn.

        Raises:
            SchemaError: the store has no room for a symbol's name.
        """
        require_storable(bars.symbols)
        symbols = {"symbols": list(bars.symbols)}
        with self._database.transaction() as connection:
            connection.execute(statement("create_incoming_bars"))
            self._database.copy("copy_bars", bars.frame)
            connection.execute(statement("lock_symbols"), symbols)
            merged = connection.execute(statement("merge_bars"), {"source": source}).fetchone()
            assert merged is not None
            inserted, revised, unchanged, appended_from = merged
            if appended_from is not None:
                withdraw_features(self._database, appended_from)
            found = Findings.none()
            if revised:
                found = _findings_of(self._database.frame("replaced_bars", symbols, REVISION_SCHEMA))
                merge_findings(self._database, found, symbols=(), source=source)
            return UpsertCount(inserted=inserted, revised=revised, unchanged=unchanged, findings=found)

    def upsert_actions(self, actions: CorporateActions, source: str, answered: Answered | None = None) -> UpsertCount:
        """Make ``actions`` all there is for each of their symbols, ex-dates and kinds.

        An action held under the same three that is not among them is withdrawn, and counted as revised. What was
        replaced or withdrawn is kept (``action_revisions``), and a finding of kind ``revision`` is recorded.

        Args:
            answered: first and last day, by symbol, for which ``actions`` are all that the source knows: others held
                of those days are withdrawn.

        Raises:
            SchemaError: the store has no room for a symbol's name.
        """
        answered = answered or {}
        symbols = sorted({*actions.frame["symbol"].unique(), *answered})
        require_storable(symbols)
        with self._database.transaction() as connection:
            connection.execute(statement("create_incoming_actions"))
            self._database.copy("copy_actions", actions.frame)
            connection.execute(statement("lock_symbols"), {"symbols": symbols})
            merged = connection.execute(statement("merge_actions"), {"source": source}).fetchone()
            gone = connection.execute(statement("withdraw_actions"), as_spans(answered)).fetchone()
            assert merged is not None
            assert gone is not None
            inserted, revised, unchanged = merged
            found = Findings.none()
            if revised or gone[0]:
                replaced = self._database.frame("replaced_actions", {"symbols": symbols}, ACTION_REVISION_SCHEMA)
                found = _findings_of_actions(replaced)
                merge_findings(self._database, found, symbols=(), source=source)
            return UpsertCount(inserted=inserted, revised=revised + gone[0], unchanged=unchanged, findings=found)

    def action_revisions(self, symbols: Iterable[str] | None = None) -> pl.DataFrame:
        """The values that actions of ``symbols`` had before they were replaced or withdrawn.

        Returns:
            Frame of ``ACTION_REVISION_SCHEMA`` by symbol and ex-date; ``source`` is where the value had come from.
        """
        return self._database.frame("action_revisions", {"symbols": as_list(symbols)}, ACTION_REVISION_SCHEMA)

    def bars(self, symbols: Iterable[str] | None = None, start: date | None = None, end: date | None = None) -> Bars:
        """Bars of ``symbols`` from ``start`` to ``end``, both included; None does not restrict."""
        wanted = {"symbols": as_list(symbols), "start": start, "end": end}
        with self._database.connection() as connection, connection.cursor(binary=True) as cursor:
            read_arrays(cursor)
            rows = cursor.execute(statement("bars"), wanted).fetchall()
        if not rows:
            return Bars(frame=pl.DataFrame(schema=BAR_SCHEMA))
        names, *columns = zip(*rows, strict=True)
        symbol = repeated(names, columns[0])
        values = dict(zip(list(BAR_SCHEMA)[1:], map(np.concatenate, columns), strict=True))
        return Bars(frame=with_columns(pl.DataFrame({"symbol": symbol, **values}), BAR_SCHEMA, "bars"))

    def actions(self, symbols: Iterable[str] | None = None) -> CorporateActions:
        """Corporate actions of ``symbols``, or of all."""
        return CorporateActions.from_frame(
            self._database.frame("actions", {"symbols": as_list(symbols)}, ACTION_SCHEMA)
        )

    def symbols(self) -> list[SymbolRow]:
        """Every symbol that has bars, in order."""
        return self._database.rows(SymbolRow, "symbols")

    def last_sessions(self) -> dict[str, date]:
        """The newest session held for each symbol."""
        with self._database.connection() as connection:
            return dict(connection.execute(statement("last_sessions")).fetchall())

    def revisions(self, symbols: Iterable[str] | None = None) -> pl.DataFrame:
        """The values that bars of ``symbols`` had before they were replaced.

        Returns:
            Frame of ``REVISION_SCHEMA`` by symbol, session and ordinal, which counts the replacements of one bar;
            ``source`` is where the replaced values had come from.
        """
        return self._database.frame("revisions", {"symbols": as_list(symbols)}, REVISION_SCHEMA)

    def data_revision(self, symbols: Iterable[str]) -> str:
        """A digest that changes whenever history changes: that of any of ``symbols`` up to its newest session.

        A bar inserted, replaced or first held changes it; so does an action or a quarantining finding that is added,
        changed or withdrawn and was known, or had its ex-date, by then. A bar of a later session does not.
        """
        with self._database.connection() as connection:
            wanted = {"symbols": sorted(set(symbols))}
            counted = connection.execute(statement("symbol_revisions"), wanted).fetchall()
        text = "\n".join(f"{symbol}\0{revision}" for symbol, revision in counted if revision)
        return hashlib.sha256(text.encode()).hexdigest()


def _findings_of(replaced: pl.DataFrame) -> Findings:
    values = ("open", "high", "low", "close", "volume")
    return Findings.from_frame(
        replaced.select(
            "symbol",
            "session",
            kind=pl.lit("revision"),
            known_from=pl.col("replaced_at").dt.date(),
            detail=pl.format(
                "was {} from {}",
                pl.concat_str([pl.format(f"{name} {{}}", pl.col(name)) for name in values], separator=" "),
                "source",
            ),
        )
    )


def _findings_of_actions(replaced: pl.DataFrame) -> Findings:
    return Findings.from_frame(
        replaced.select(
            "symbol",
            session=pl.col("ex_date"),
            kind=pl.lit("revision"),
            known_from=pl.col("replaced_at").dt.date(),
            detail=pl.format(
                "{} of {} from {} {}",
                "kind",
                "value",
                "source",
                pl.when("is_withdrawn").then(pl.lit("withdrawn")).otherwise(pl.lit("corrected")),
            ),
        )
    )
