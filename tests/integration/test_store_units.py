"""The ledger of fits, and what a run is known by, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from support.database import at_once

from swiftbolt.errors import NotFound, StoreError
from swiftbolt.store import LeaseRow, Store, UnitRow, UnitTotal
from swiftbolt.store.rows import LEASE_SILENT_S

NOW = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOLDER = "here/1/0.00"


@pytest.fixture
def run(store: Store) -> str:
    return store.start_run("retrain", {}, now=NOW, identity="one")


@pytest.fixture
def sql(migrated_url: str) -> Iterator[psycopg.Connection]:
    """A second, plain connection to the store's database."""
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        yield connection


def waiting(run: str, symbol: str = "AA", **changes: Any) -> UnitRow:
    values = {"model": "arima", "fold": 0, "is_live": False, "state": "waiting", "attempts": 0}
    return UnitRow(run=run, symbol=symbol, **{**values, **changes})


def done(run: str, symbol: str = "AA", **changes: Any) -> UnitRow:
    values = {"state": "done", "attempts": 1, "seconds": 0.5, "cpu_seconds": 0.25, "peak_mb": 300.0}
    return waiting(run, symbol, **{**values, **changes})


def failed(run: str, symbol: str = "AA", **changes: Any) -> UnitRow:
    return done(run, symbol, **{"state": "failed", "reason": "singular", "attempts": 3, **changes})


# ---- the ledger -------------------------------------------------------------------------------------------


def test_a_fit_comes_back_as_it_was_planned_and_as_it_ended(store: Store, run: str) -> None:
    rows = [waiting(run, "AA"), waiting(run, "AA", fold=1, is_live=True), waiting(run, "universe", model="xgboost")]
    store.plan_units(rows)
    assert store.units(run) == rows
    ended = [
        done(run, "AA", seconds=0.1 + 0.2, cpu_seconds=1e-9, peak_mb=123.456),
        failed(run, "universe", model="xgboost", reason="no é, no \U0001f4a5, and a nul\0 less"),
    ]
    assert store.finish_units(ended) == 2
    assert store.units(run, "done") == [ended[0]]
    assert store.units(run, "waiting") == [rows[1]]
    assert store.units(run, "failed") == [replace(ended[1], reason="no é, no \U0001f4a5, and a nul less")]


def test_a_fit_has_one_row_however_often_it_is_planned_and_finished(store: Store, run: str) -> None:
    for _ in range(2):
        store.plan_units([waiting(run), waiting(run), waiting(run, "BB")])
    assert store.units(run) == [waiting(run), waiting(run, "BB")]
    assert store.finish_units([failed(run), done(run)]) == 1  # as it was told last
    assert store.units(run) == [done(run), waiting(run, "BB")]


def test_what_is_done_stays_as_it_was_done_first(store: Store, run: str) -> None:
    store.plan_units([waiting(run)])
    store.finish_units([done(run)])
    store.plan_units([waiting(run)])
    assert store.finish_units([done(run, seconds=9.0, attempts=2)]) == 0
    assert store.finish_units([failed(run)]) == 0
    assert store.units(run) == [done(run)]


def test_what_failed_waits_again_when_it_is_planned_again_and_can_be_done(store: Store, run: str) -> None:
    store.plan_units([waiting(run), waiting(run, "BB")])
    store.finish_units([failed(run), failed(run, "BB")])
    store.plan_units([waiting(run)])
    assert store.units(run) == [waiting(run), failed(run, "BB")]
    assert store.finish_units([done(run)]) == 1
    assert store.units(run) == [done(run), failed(run, "BB")]


def test_a_fit_that_was_never_planned_is_recorded_all_the_same(store: Store, run: str) -> None:
    assert store.finish_units([done(run)]) == 1
    assert store.units(run) == [done(run)]


def test_two_drivers_that_finish_the_same_fits_at_once_leave_one_row_each(migrated_url: str, run: str) -> None:
    names = [f"S{number:03d}" for number in range(300)]
    forth: Sequence[UnitRow] = [done(run, name, seconds=1.0) for name in names]
    back: Sequence[UnitRow] = [done(run, name, seconds=2.0) for name in reversed(names)]
    with Store.connect(migrated_url) as one, Store.connect(migrated_url) as other:
        one.plan_units([waiting(run, name) for name in names])
        changed = at_once(lambda: one.finish_units(forth), lambda: other.finish_units(back))
        assert sorted(changed, key=str) == [0, 300]
        left = one.units(run)
    assert [row.symbol for row in left] == names
    assert len({row.seconds for row in left}) == 1


def test_two_thousand_fits_are_written_by_one_statement(store: Store, run: str, sql: psycopg.Connection) -> None:
    rows = [done(run, f"S{number:04d}") for number in range(2000)]
    sql.execute(
        "CREATE TABLE IF NOT EXISTS seen (number bigint GENERATED ALWAYS AS IDENTITY);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO seen DEFAULT VALUES; RETURN NULL; END $$;"
        "CREATE TRIGGER note AFTER INSERT ON run_units FOR EACH STATEMENT EXECUTE FUNCTION note()"
    )
    try:
        assert store.finish_units(rows) == 2000
        assert sql.execute("SELECT count(*) FROM seen").fetchone() == (1,)
    finally:
        sql.execute("DROP TRIGGER note ON run_units; DROP FUNCTION note; DROP TABLE seen")
    assert store.units(run) == rows
    store.plan_units([])
    assert store.finish_units([]) == 0


def test_fits_of_a_run_that_is_not_there_are_refused_all_of_them(store: Store, run: str) -> None:
    for write in (store.plan_units, store.finish_units):
        with pytest.raises(StoreError, match="retrain-none"):
            write([done(run), done("retrain-none")])
    assert store.units(run) == []
    assert store.units("retrain-none") == []
    assert store.unit_totals("retrain-none") == []


def test_a_failure_has_a_reason_and_nothing_else_has(store: Store, run: str) -> None:
    for row in (failed(run, reason=None), done(run, reason="singular"), waiting(run, state="ended")):
        with pytest.raises(StoreError, match="run_units"):
            store.finish_units([row])
    assert store.units(run) == []


def test_totals_are_counted_and_added_by_model(store: Store, run: str) -> None:
    other = store.start_run("retrain", {}, now=NOW, identity="other")
    store.finish_units([done(other, seconds=100.0)])
    store.plan_units([waiting(run, symbol) for symbol in ("AA", "BB", "CC")] + [waiting(run, "DD", model="ets")])
    store.finish_units([done(run, "AA", peak_mb=310.0), failed(run, "BB", seconds=1.5, peak_mb=290.0)])
    assert store.unit_totals(run) == [
        UnitTotal(model="arima", waiting=1, done=1, failed=1, attempts=4, seconds=2.0, cpu_seconds=0.5, peak_mb=310.0),
        UnitTotal(model="ets", waiting=1, done=0, failed=0, attempts=0, seconds=0.0, cpu_seconds=0.0, peak_mb=None),
    ]


# ---- which run goes on ------------------------------------------------------------------------------------


def test_the_newest_run_that_was_to_make_the_same_goes_on_unless_it_succeeded(store: Store) -> None:
    assert store.unfinished_run("retrain", "one") is None
    first = store.start_run("retrain", {}, now=NOW, identity="one")
    second = store.start_run("retrain", {}, now=NOW + MINUTE, identity="one")
    third = store.start_run("retrain", {}, now=NOW + 2 * MINUTE, identity="another")
    found = store.unfinished_run("retrain", "one")
    assert found is not None
    assert (found.run, found.state) == (second, "running")
    other = store.unfinished_run("retrain", "another")
    assert other is not None
    assert other.run == third
    assert store.unfinished_run("sweep", "one") is None
    store.finish_run(second, "failed", 7.0, {"run": "killed"})
    found = store.unfinished_run("retrain", "one")
    assert found is not None
    assert (found.run, found.state, found.seconds, found.failures) == (second, "failed", 7.0, {"run": "killed"})
    store.finish_run(second, "succeeded", 9.0, {})
    assert store.unfinished_run("retrain", "one") is None  # what it was to make is made, whatever became of the first
    assert first in {row.run for row in store.runs()}


def test_a_run_without_an_identity_is_never_gone_on_with(store: Store) -> None:
    store.start_run("sweep", {}, now=NOW)
    assert store.unfinished_run("sweep", "") is None


def test_a_receipt_comes_back_as_it_was_given_and_outlives_a_later_end_without_one(store: Store, run: str) -> None:
    assert store.receipt(run) is None
    receipt = {"format": 1, "é": [1, 0.1 + 0.2, None], "by": {"arima": {"done": 4}}}
    store.finish_run(run, "succeeded", 3.0, {}, receipt=receipt)
    assert store.receipt(run) == receipt
    store.finish_run(run, "succeeded", 4.0, {})
    assert store.receipt(run) == receipt
    with pytest.raises(NotFound, match="retrain-none"):
        store.receipt("retrain-none")
    with pytest.raises(NotFound, match="retrain-none"):
        store.finish_run("retrain-none", "succeeded", 3.0, {}, receipt=receipt)


# ---- lost -------------------------------------------------------------------------------------------------


def test_a_run_is_lost_when_its_lease_is_silent_or_gone_and_only_while_it_says_it_runs(
    store: Store, run: str, sql: psycopg.Connection
) -> None:
    def state() -> str:
        (row,) = store.runs()
        return row.state

    assert state() == "lost"  # nobody holds a lease for it
    assert store.take_lease("retrain:demo", run, HOLDER, silent_s=LEASE_SILENT_S) is None
    assert state() == "running"
    sql.execute(f"UPDATE leases SET renewed = renewed - interval '{LEASE_SILENT_S - 5} s'")
    assert state() == "running"
    sql.execute("UPDATE leases SET renewed = renewed - interval '10 s'")
    assert state() == "lost"
    assert store.renew_lease("retrain:demo", HOLDER)
    assert state() == "running"
    store.finish_run(run, "failed", 1.0, {"run": "stopped"})
    store.release_lease("retrain:demo", HOLDER)
    assert state() == "failed"
    store.resume_run(run)
    assert state() == "lost"
    store.finish_run(run, "succeeded", 1.0, {})
    assert state() == "succeeded"


def test_a_run_that_never_had_a_lease_is_not_called_lost(store: Store) -> None:
    store.start_run("notebook", {}, now=NOW)
    (row,) = store.runs()
    assert row.state == "running"


# ---- leases, as the store keeps them ----------------------------------------------------------------------


def at(moment: LeaseRow, held: LeaseRow | None) -> LeaseRow | None:
    """``held`` as it was seen at the ``moment`` of another."""
    return None if held is None else replace(held, silent_s=moment.silent_s)


def test_a_lease_is_ours_or_somebody_elses_and_says_whose(store: Store, sql: psycopg.Connection) -> None:
    assert store.take_lease("retrain:demo", None, HOLDER, silent_s=60) is None
    assert store.take_lease("retrain:demo", "run-1", HOLDER, silent_s=60) is None  # ours already
    held = store.take_lease("retrain:demo", "run-2", "there/2/0.00", silent_s=60)
    assert held is not None
    assert held == at(held, store.lease("retrain:demo")) == at(held, store.lease_of("run-1"))
    assert (held.name, held.run, held.holder) == ("retrain:demo", "run-1", HOLDER)
    assert held.taken < held.renewed
    assert 0 <= held.silent_s < 60
    assert store.lease_of("run-2") is None
    assert not store.renew_lease("retrain:demo", "there/2/0.00")
    store.release_lease("retrain:demo", "there/2/0.00")
    assert at(held, store.lease("retrain:demo")) == held
    assert store.take_lease("retrain:other", "run-2", "there/2/0.00", silent_s=60) is None
    sql.execute("UPDATE leases SET renewed = renewed - interval '61 s' WHERE name = 'retrain:demo'")
    assert store.take_lease("retrain:demo", "run-2", "there/2/0.00", silent_s=60) is None
    assert not store.renew_lease("retrain:demo", HOLDER)
    store.release_lease("retrain:demo", "there/2/0.00")
    assert store.lease("retrain:demo") is None


def test_of_two_that_take_a_lease_at_once_one_has_it(migrated_url: str) -> None:
    with Store.connect(migrated_url) as one, Store.connect(migrated_url) as other:
        for name, first in (("free", None), ("dead", HOLDER)):
            if first is not None:
                one.take_lease(name, None, first, silent_s=60)
            told = at_once(
                *(
                    lambda store=store, holder=holder, name=name: store.take_lease(
                        name, None, holder, silent_s=60, instead_of=HOLDER
                    )
                    for store, holder in ((one, "a/1/0"), (other, "b/2/0"))
                )
            )
            held = one.lease(name)
            assert held is not None
            assert [row is None for row in told] == [held.holder == "a/1/0", held.holder == "b/2/0"]
