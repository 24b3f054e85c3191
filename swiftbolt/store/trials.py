"""The ledger of trials: every configuration that was looked at, once, and never forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from psycopg.types.json import Jsonb

from swiftbolt.store.connection import Operations
from swiftbolt.store.rows import TrialRow
from swiftbolt.store.statements import statement
from swiftbolt.store.wire import read_arrays
from swiftbolt.trial import DailyReturns, Trial


class TrialOperations(Operations):
    """The table ``trials``."""

    def record_trials(self, trials: Iterable[Trial]) -> int:
        """Add those the ledger does not hold, all or none; returns how many that were.

        What was pruned or failed before, and is complete now, is added beside it.
        """
        with self._database.transaction() as connection:
            return sum(connection.execute(statement("insert_trial"), _values(trial)).rowcount for trial in trials)

    def trials(self, model: str | None = None) -> list[TrialRow]:
        """Every configuration looked at, of ``model`` or of all, in the order they were recorded."""
        return self._database.rows(TrialRow, "trials", {"model": model})

    def overlapping_trials(self, symbols: Sequence[str], first: date, last: date) -> dict[str, DailyReturns | None]:
        """Daily returns by key of what was looked at on any of ``symbols`` from an origin in the range.

        None where it left no returns. What failed showed nothing and is not among them; a note that names no symbol is
        of all of them.
        """
        wanted = {"symbols": list(symbols), "first": first, "last": last}
        with self._database.connection() as connection, connection.cursor(binary=True) as cursor:
            read_arrays(cursor)
            rows = cursor.execute(statement("overlapping_trials"), wanted).fetchall()
        return {
            key: None if net is None else DailyReturns(sessions_T=days.astype("datetime64[D]"), net_T=net)
            for key, days, net in rows
        }


def _values(trial: Trial) -> dict[str, Any]:
    returns = trial.returns
    return {
        "key": trial.key,
        "state": trial.state,
        "source": trial.source,
        "model": trial.model,
        "horizon": trial.horizon,
        "config": Jsonb(dict(trial.config)),
        "symbols": list(trial.symbols),
        "first_origin": trial.first,
        "last_origin": trial.last,
        "sessions": None if returns is None else returns.sessions_T.tolist(),
        "net": None if returns is None else returns.net_T.tolist(),
        "reason": trial.reason,
        "sharpe": trial.sharpe,
        "crps": trial.crps,
        "skill": trial.skill,
        "code_version": trial.code_version,
    }
