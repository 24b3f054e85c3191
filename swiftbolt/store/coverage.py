"""Which sessions a source has answered for, and which must still be asked for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from swiftbolt.errors import MissingSessions
from swiftbolt.sessions import sessions_between
from swiftbolt.store.connection import Operations
from swiftbolt.store.rows import require_storable
from swiftbolt.store.statements import statement

Range = tuple[date, date]

ONE_DAY = timedelta(days=1)


class CoverageOperations(Operations):
    """The table ``coverage``."""

    def record_coverage(self, symbol: str, source: str, first: date, last: date) -> None:
        """Record that ``source`` has told all it has of ``symbol`` from ``first`` to ``last``, both included.

        Ranges between which there is no session become one.

        Raises:
            ValueError: ``last`` is before ``first``.
            SchemaError: the store has no room for the symbol's name.
        """
        if last < first:
            raise ValueError(f"a range from {first} to {last} ends before it begins")
        require_storable([symbol])
        key = {"symbol": symbol, "source": source}
        with self._database.transaction() as connection:
            connection.execute(statement("lock_symbols"), {"symbols": [symbol]})
            held = connection.execute(statement("coverage"), key).fetchall()
            first, last = _grown((first, last), held)
            connection.execute(statement("delete_coverage"), {**key, "first": first, "last": last})
            connection.execute(statement("insert_coverage"), {**key, "first": first, "last": last})

    def uncovered(self, symbol: str, source: str, start: date, end: date) -> list[Range]:
        """What must still be asked for from ``start`` to ``end``, in order: first and last session of each gap."""
        with self._database.connection() as connection:
            held = connection.execute(statement("coverage"), {"symbol": symbol, "source": source}).fetchall()
        gaps = []
        since = start
        for first, last in held:
            gaps.append((since, min(first - ONE_DAY, end)))
            since = max(since, last + ONE_DAY)
        gaps.append((since, end))
        return [trimmed for gap in gaps if (trimmed := _trimmed(gap)) is not None]


def _grown(added: Range, held: Iterable[Range]) -> Range:
    """``added`` with every range of ``held`` (in order, disjoint) that it touches or overlaps."""
    first, last = added
    for held_first, held_last in held:
        is_before = _trimmed((held_last + ONE_DAY, first - ONE_DAY)) is not None
        is_after = _trimmed((last + ONE_DAY, held_first - ONE_DAY)) is not None
        if not is_before and not is_after:
            first, last = min(first, held_first), max(last, held_last)
    return first, last


def _trimmed(days: Range) -> Range | None:
    """The first and the last session of a range of days; None where it has none, or ends before it begins."""
    try:
        sessions = sessions_between(*days)
    except MissingSessions:
        return None
    return sessions[0].item(), sessions[-1].item()
