"""What became of every fit of a run, told to the store in batches by the driver alone.

A store that is away costs nothing: rows wait here until it is back, and those of a driver that died are written again
by the next one, from what lies in the run's storage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cluster.run_records import Line
from swiftbolt.errors import StoreUnavailable
from swiftbolt.evaluation.unit_keys import UNIVERSE
from swiftbolt.evaluation.units import Outcome, Unit
from swiftbolt.store import Store, UnitRow, UnitState

FLUSH_SECONDS = 2.0


class UnitLedger:
    """The rows of one run; see ``cluster.fan_out.Ledger``."""

    def __init__(self, store: Store, run: str, write: Line, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._run, self._write, self._clock = store, run, write, clock
        self._planned: list[UnitRow] = []
        self._finished: list[UnitRow] = []
        self._last = clock()
        self._is_away = False

    def planned(self, units: Sequence[Unit]) -> None:
        """``units`` lie ahead."""
        self._planned += [row_of(self._run, Outcome(unit=unit, forecasts=None, attempts=0)) for unit in units]
        self._try()

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """These ended, and what they left is kept."""
        for outcome in outcomes:
            state: UnitState = "done" if outcome.failure is None else "failed"
            self._finished.append(row_of(self._run, outcome, state))
        if self._clock() - self._last >= FLUSH_SECONDS:
            self._try()

    def flush(self) -> None:
        """Write all that waits.

        Raises:
            StoreUnavailable: the store is away.
        """
        try:
            # Planned before finished, and forgotten only once written.
            self._store.plan_units(self._planned)
            self._planned = []
            self._store.finish_units(self._finished)
            self._finished = []
            self._is_away = False
        finally:
            self._last = self._clock()  # after the attempt: one that is not answered takes seconds

    def _try(self) -> None:
        try:
            self.flush()
        except StoreUnavailable as exc:
            if not self._is_away:
                self._write(f"the store is away, the run goes on and tells it later: {exc}")
            self._is_away = True


def row_of(run: str, outcome: Outcome, state: UnitState = "waiting") -> UnitRow:
    """The row of one unit."""
    unit, cost = outcome.unit, outcome.cost
    is_over = state != "waiting"
    return UnitRow(
        run=run,
        symbol=unit.symbol or UNIVERSE,
        model=unit.model,
        fold=unit.fold.index,
        is_live=unit.fold.is_live,
        state=state,
        attempts=outcome.attempts,
        seconds=cost.seconds if is_over else None,
        cpu_seconds=cost.cpu_seconds if is_over else None,
        peak_mb=cost.peak_mb if is_over else None,
        reason=outcome.failure,
    )
