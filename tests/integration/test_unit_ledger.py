"""The ledger of fits as a driver keeps it: told in batches, patient while the store is away, and losing nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import psycopg
import pytest
from support.database import shut
from support.recipes import tiny_recipe

from cluster.unit_ledger import FLUSH_SECONDS, UnitLedger, row_of
from swiftbolt.errors import StoreUnavailable
from swiftbolt.evaluation.units import Outcome, Unit
from swiftbolt.folds import make_folds
from swiftbolt.processes import Cost
from swiftbolt.sessions import sessions_between
from swiftbolt.store import Store, UnitRow

FOLDS = make_folds(sessions_between(date(2010, 1, 4), date(2013, 12, 31)), tiny_recipe("arima").folds, live=True)
PAST, LIVE = FOLDS[0], FOLDS[-1]


class Clock:
    """Stands still until it is moved on."""

    now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_a_batch(self) -> None:
        self.now += FLUSH_SECONDS


@pytest.fixture
def run(store: Store) -> str:
    return store.start_run("retrain", {}, now=datetime(2026, 11, 22, 14, 30, tzinfo=UTC))


@pytest.fixture
def inside(migrated_url: str) -> Iterator[psycopg.Connection]:
    """A connection that stays when the database is shut."""
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def ledger(store: Store, run: str, clock: Clock, lines: list[str]) -> UnitLedger:
    return UnitLedger(store, run, lines.append, clock)


def unit(symbol: str) -> Unit:
    return Unit(model="arima", fold=PAST, symbol=symbol)


def ended(symbol: str, failure: str | None = None) -> Outcome:
    return Outcome(unit=unit(symbol), forecasts=None, failure=failure, cost=Cost(seconds=2.0, peak_mb=310.0))


def states(inside: psycopg.Connection) -> dict[str, str]:
    return dict(inside.execute("SELECT symbol, state FROM run_units ORDER BY symbol").fetchall())


def test_a_unit_that_lies_ahead_has_no_figures_and_one_that_ended_has_all() -> None:
    ahead = Outcome(unit=Unit(model="xgboost", fold=LIVE, symbol=None), forecasts=None, attempts=0)
    assert row_of("retrain-1", ahead) == UnitRow(
        run="retrain-1",
        symbol="universe",
        model="xgboost",
        fold=LIVE.index,
        is_live=True,
        state="waiting",
        attempts=0,
    )
    cost = Cost(seconds=2.0, cpu_seconds=1.5, peak_mb=310.0)
    over = Outcome(unit=unit("AA"), forecasts=None, failure="singular", cost=cost, attempts=3)
    assert row_of("retrain-1", over, "failed") == UnitRow(
        run="retrain-1",
        symbol="AA",
        model="arima",
        fold=PAST.index,
        is_live=False,
        state="failed",
        attempts=3,
        seconds=2.0,
        cpu_seconds=1.5,
        peak_mb=310.0,
        reason="singular",
    )


def test_what_lies_ahead_is_told_at_once_and_what_ended_in_batches(
    ledger: UnitLedger, clock: Clock, inside: psycopg.Connection
) -> None:
    ledger.planned([unit("AA"), unit("BB"), unit("CC")])
    assert states(inside) == {"AA": "waiting", "BB": "waiting", "CC": "waiting"}
    ledger.finished([ended("AA")])
    ledger.finished([ended("BB", failure="singular")])
    assert set(states(inside).values()) == {"waiting"}
    clock.pass_a_batch()
    ledger.finished([ended("CC")])
    assert states(inside) == {"AA": "done", "BB": "failed", "CC": "done"}


def test_what_waits_for_its_batch_is_told_when_the_ledger_is_flushed(
    ledger: UnitLedger, inside: psycopg.Connection
) -> None:
    ledger.planned([unit("AA")])
    ledger.finished([ended("AA")])
    assert states(inside) == {"AA": "waiting"}
    ledger.flush()
    assert states(inside) == {"AA": "done"}


def test_a_store_that_is_away_stops_nothing_and_is_told_all_when_it_is_back(
    ledger: UnitLedger, clock: Clock, inside: psycopg.Connection, lines: list[str], database_url: str
) -> None:
    with shut(database_url, inside):
        ledger.planned([unit("AA"), unit("BB")])
        for symbol in ("AA", "BB"):
            clock.pass_a_batch()
            ledger.finished([ended(symbol)])
        with pytest.raises(StoreUnavailable, match="cannot reach the database"):
            ledger.flush()
    assert states(inside) == {}
    (line,) = lines
    assert line.startswith("the store is away, the run goes on and tells it later: cannot reach the database at ")
    ledger.flush()
    assert states(inside) == {"AA": "done", "BB": "done"}


def test_a_store_that_goes_between_what_is_planned_and_what_ended_gets_each_once(
    ledger: UnitLedger, clock: Clock, inside: psycopg.Connection
) -> None:
    ledger.planned([unit("AA")])
    ledger.finished([ended("AA")])
    inside.execute(
        "CREATE TABLE inserts (number integer);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO inserts VALUES (1); RETURN NULL; END $$;"
        "CREATE TRIGGER note AFTER INSERT ON run_units FOR EACH ROW EXECUTE FUNCTION note();"
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;"
        "CREATE TRIGGER die BEFORE UPDATE ON run_units FOR EACH ROW EXECUTE FUNCTION die()"
    )
    try:
        ledger.planned([unit("BB")])  # writes BB, and dies of AA
        assert states(inside) == {"AA": "waiting", "BB": "waiting"}
        inside.execute("DROP TRIGGER die ON run_units")
        clock.pass_a_batch()
        ledger.finished([ended("BB")])
        assert states(inside) == {"AA": "done", "BB": "done"}
        assert inside.execute("SELECT count(*) FROM inserts").fetchone() == (1,)
    finally:
        inside.execute("DROP FUNCTION die CASCADE; DROP FUNCTION note CASCADE; DROP TABLE inserts")


def test_each_time_that_the_store_goes_away_is_told_once(
    ledger: UnitLedger, clock: Clock, inside: psycopg.Connection, lines: list[str], database_url: str
) -> None:
    for symbol in ("AA", "BB"):
        with shut(database_url, inside):
            for _ in range(3):
                clock.pass_a_batch()
                ledger.finished([ended(symbol)])
        clock.pass_a_batch()
        ledger.finished([])
    assert len(lines) == 2
    assert states(inside) == {"AA": "done", "BB": "done"}


def test_a_store_that_is_away_is_asked_once_a_batch_and_not_at_every_unit(
    ledger: UnitLedger, clock: Clock, inside: psycopg.Connection, database_url: str
) -> None:
    with shut(database_url, inside):
        clock.pass_a_batch()
        ledger.finished([ended("AA")])
    ledger.finished([ended("BB")])
    assert states(inside) == {}
    clock.pass_a_batch()
    ledger.finished([])
    assert states(inside) == {"AA": "done", "BB": "done"}
