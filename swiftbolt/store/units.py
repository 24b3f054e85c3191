"""The ledger of a run's fits: one row each, from waiting to done or failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

import polars as pl

from swiftbolt.store.connection import Operations
from swiftbolt.store.rows import UNIT_SCHEMA, UnitRow, UnitState, UnitTotal
from swiftbolt.store.statements import statement


class UnitOperations(Operations):
    """The table ``run_units``."""

    def plan_units(self, rows: Sequence[UnitRow]) -> None:
        """Add the fits that lie ahead; one that is done stays so, one that failed is waited for again.

        Raises:
            StoreError: there is no such run.
        """
        self._merge(rows, replaced=["failed"])

    def finish_units(self, rows: Sequence[UnitRow]) -> int:
        """Record how fits ended; one that is done stays exactly as it was. Returns how many rows changed.

        Raises:
            StoreError: there is no such run.
        """
        return self._merge(rows, replaced=["waiting", "failed"])

    def units(self, run: str, state: UnitState | None = None) -> list[UnitRow]:
        """The fits of a run, or those in one state, by symbol, model and fold."""
        return self._database.rows(UnitRow, "units", {"run": run, "state": state})

    def unit_totals(self, run: str) -> list[UnitTotal]:
        """The fits of a run counted and added up, by model."""
        return self._database.rows(UnitTotal, "unit_totals", {"run": run})

    def _merge(self, rows: Sequence[UnitRow], replaced: list[UnitState]) -> int:
        if not rows:
            return 0
        frame = pl.DataFrame([astuple(row) for row in rows], schema=UNIT_SCHEMA, orient="row")
        # A fit that is told of twice at once counts as it was told last; in one order, so that two drivers never wait
        # for each other in a circle.
        frame = frame.unique(["run", "symbol", "model", "fold"], keep="last").sort("run", "symbol", "model", "fold")
        frame = frame.with_columns(pl.col("reason").str.replace_all("\0", "", literal=True))
        with self._database.transaction() as connection:
            connection.execute(statement("create_incoming_units"))
            self._database.copy("copy_units", frame)
            return connection.execute(statement("merge_units"), {"replaced": replaced}).rowcount
