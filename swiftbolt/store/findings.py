"""What is wrong with the stored bars, and the rows that never became any."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

import polars as pl

from swiftbolt.bars import Quarantine
from swiftbolt.findings import FINDING_SCHEMA, KINDS, Effect, Findings
from swiftbolt.store.connection import Database, Operations
from swiftbolt.store.rows import QUARANTINE_SCHEMA, Answered, as_list, as_spans, require_storable
from swiftbolt.store.statements import statement

QUARANTINING = [name for name, kind in KINDS.items() if kind.effect is Effect.QUARANTINED]
# What inspecting the stored bars again does not find again stays on record: it was seen when the data came in.
SET_ASIDE = [name for name, kind in KINDS.items() if kind.effect is Effect.SET_ASIDE]
SEEN_ON_ARRIVAL = {"revision", "source_mismatch", *SET_ASIDE}
RECOMPUTED = [name for name in KINDS if name not in SEEN_ON_ARRIVAL]


class FindingOperations(Operations):
    """The tables ``findings`` and ``quarantined_rows``."""

    def set_aside(self, quarantine: Quarantine, source: str, answered: Answered | None = None) -> None:
        """Keep rows that are no bars, with their values as they came and a finding each; doing it again adds none.

        Args:
            answered: first and last day, by symbol, of which ``source`` has brought all it has: rows that it brought
                of those days before and does not bring again were corrected, and go.

        Raises:
            SchemaError: the store has no room for a symbol's name.
        """
        require_storable(quarantine.frame["symbol"].unique())
        with self._database.transaction() as connection:
            if answered:
                gone = {**as_spans(answered), "source": source, "kinds": SET_ASIDE}
                connection.execute(statement("withdraw_set_aside"), gone)
            connection.execute(statement("create_incoming_quarantine"))
            self._database.copy("copy_quarantine", quarantine.frame)
            connection.execute(statement("merge_quarantine"), {"source": source})
            merge_findings(self._database, Findings.of_quarantine(quarantine), symbols=(), source=source)

    def replace_mismatches(
        self, found: Findings, symbols: Sequence[str], start: date | None = None, end: date | None = None
    ) -> None:
        """Make ``found`` all there is of disagreements between sources on ``symbols`` from ``start`` to ``end``."""
        with self._database.transaction() as connection:
            wanted = {"symbols": list(symbols), "start": start, "end": end}
            connection.execute(statement("withdraw_mismatches"), wanted)
            merge_findings(self._database, found, symbols=(), source=None)

    def quarantine(self, symbols: Iterable[str] | None = None) -> Quarantine:
        """Rows that were set aside by symbol and session; None takes also those that have no symbol."""
        return Quarantine(frame=self._database.frame("quarantine", {"symbols": as_list(symbols)}, QUARANTINE_SCHEMA))

    def replace_findings(self, findings: Findings, symbols: Sequence[str], source: str | None = None) -> None:
        """Make ``findings`` all there is for ``symbols`` of the kinds that inspecting their bars finds again.

        The other kinds (revisions, disagreements of two sources, rows set aside) are added where they are new,
        whatever their symbol.

        Raises:
            ValueError: a finding of the first sort is of another symbol.
            SchemaError: the store has no room for a symbol's name.
        """
        foreign = findings.frame.filter(pl.col("kind").is_in(RECOMPUTED) & ~pl.col("symbol").is_in(list(symbols)))
        if len(foreign):
            raise ValueError(f"findings of {foreign['symbol'][0]}, which is none of the symbols they replace")
        require_storable([*symbols, *findings.frame["symbol"].unique()])
        with self._database.transaction() as connection:
            connection.execute(statement("lock_symbols"), {"symbols": list(set(symbols))})
            merge_findings(self._database, findings, symbols=symbols, source=source)

    def findings(self, symbols: Iterable[str] | None = None) -> Findings:
        """Findings of ``symbols``; None takes also those of rows that have no symbol."""
        return Findings.from_frame(self._database.frame("findings", {"symbols": as_list(symbols)}, FINDING_SCHEMA))


def merge_findings(database: Database, findings: Findings, *, symbols: Sequence[str], source: str | None) -> None:
    """Within the open transaction: add what is new, and withdraw what was not found again of ``symbols``."""
    frame = findings.frame.with_columns(pl.col("detail").fill_null(""))
    with database.connection() as connection:
        connection.execute(statement("create_incoming_findings"))
        database.copy("copy_findings", frame)
        values = {"symbols": list(symbols), "recomputed": RECOMPUTED, "quarantining": QUARANTINING, "source": source}
        connection.execute(statement("merge_findings"), values)
