"""``swiftbolt runs`` and ``swiftbolt runs show`` over a real store."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import psycopg
import pytest

from swiftbolt import cli
from swiftbolt.store import UnitRow

NOW = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)
CONFIG = {
    "recipe": {"seed": 7, "folds": {"count": 4}, "models": {}},
    "universe": {"symbols": [f"S{i:02d}" for i in range(20)], "ranks": [1, 2]},
}
HOLDER = "host#26/4711/1.00"


@pytest.fixture(autouse=True)
def in_this_store(migrated_url, monkeypatch):
    """The command line finds the store by its environment alone."""
    monkeypatch.setenv("DATABASE_URL", migrated_url)


def unit(run: str, symbol: str, model: str = "arima", state: str = "done", **more) -> UnitRow:
    given = {"attempts": 1, "seconds": 2.0, "cpu_seconds": 1.5, "peak_mb": 250.0, "reason": None, **more}
    return UnitRow(run=run, symbol=symbol, model=model, fold=0, is_live=False, state=state, **given)


def waiting(run: str, *symbols: str) -> list[UnitRow]:
    nothing = {"attempts": 0, "seconds": None, "cpu_seconds": None, "peak_mb": None}
    return [unit(run, symbol, state="waiting", **nothing) for symbol in symbols]


@pytest.fixture
def run(store) -> str:
    """A retrain in the middle of its work: two fits failed for one reason, one is done, one lies ahead."""
    run = store.start_run("retrain", CONFIG, now=NOW)
    store.take_lease("retrain:demo", run, HOLDER, silent_s=60)
    store.plan_units(waiting(run, "S00", "S01", "S02", "S03"))
    bad = {"state": "failed", "attempts": 3}
    store.finish_units(
        [
            unit(run, "S00"),
            unit(run, "S01", **bad, reason="S01: singular"),
            unit(run, "S02", **bad, reason="S02: singular"),
        ],
    )
    store.progress_run(run, done=3, failed=2, total=4)
    return run


def shown(capsys, *arguments: str) -> str:
    """What people see of it."""
    capsys.readouterr()
    assert cli.run(["runs", *arguments]) == 0
    return capsys.readouterr().out


def told(capsys, *arguments: str):
    """What programs read of it."""
    return json.loads(shown(capsys, *arguments, "--json"))


def fall_silent(url: str) -> None:
    """The holder was last heard of two minutes ago."""
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE leases SET renewed = renewed - interval '2 minutes'")


def test_the_list_has_a_row_a_run(run, capsys):
    assert told(capsys) == [
        {"run": run, "kind": "retrain", "state": "running", "done": 3, "failed": 2, "total": 4, "seconds": None}
    ]
    assert run in shown(capsys)
    assert "lost" not in capsys.readouterr().err


def test_a_run_whose_driver_fell_silent_is_lost_and_a_line_says_how_it_goes_on(run, migrated_url, capsys):
    fall_silent(migrated_url)
    assert told(capsys)[0]["state"] == "lost"
    assert cli.run(["runs"]) == 0
    expected = f"{run} lost its driver and goes on when the command that began it is given again"
    assert capsys.readouterr().err == f"lost: {expected}\n"
    assert f"{run}: lost; began 2026-11-22 14:30 UTC; 3 of 4 done, 2 failed; {expected}" in shown(capsys, "show", run)


def test_a_lost_sweep_goes_on_another_way(store, capsys):
    run = store.start_run("sweep", {}, now=NOW, identity="one that holds no lease")
    assert cli.run(["runs"]) == 0
    assert f"swiftbolt sweep --config FILE --resume {run}" in capsys.readouterr().err


def test_a_run_under_way_shows_its_configuration_driver_fits_and_failures(run, capsys):
    assert "recipe." not in shown(capsys, "show", run)
    seen = shown(capsys, "show", run, "--config")
    assert "recipe.folds.count = 4\n" in seen
    assert "universe.symbols = S00, S01, S02, S03, S04, S05, S06, S07, ... (20 in all)\n" in seen
    assert "universe.ranks = 1, 2\n" in seen
    assert f"{run}: running; began 2026-11-22 14:30 UTC; 3 of 4 done, 2 failed\n" in seen
    assert "process 4711 on host works on it since " in seen
    assert "failed: 2x <symbol>: singular (S01, S02)\n" in seen
    assert "Failed fits" not in seen
    row = next(line for line in seen.splitlines() if "arima" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == [
        "arima", "1", "1", "2", "7", "6.00", "4.50", "250.00",
    ]  # fmt: skip


def test_programs_get_all_of_it(run, capsys):
    seen = told(capsys, "show", run)
    assert (seen["run"], seen["state"], seen["reason"], seen["receipt"]) == (run, "running", None, None)
    assert seen["started"] == NOW.isoformat()
    assert seen["config"] == CONFIG
    assert seen["lease"]["holder"] == HOLDER
    (total,) = seen["models"]
    assert total == {
        "model": "arima", "waiting": 1, "done": 1, "failed": 2, "attempts": 7, "seconds": 6.0, "cpu_seconds": 4.5,
        "peak_mb": 250.0,
    }  # fmt: skip
    assert seen["failures"] == [{"reason": "<symbol>: singular", "count": 2, "symbols": 2, "first": ["S01", "S02"]}]
    assert "failed_units" not in seen


def test_every_failed_fit_is_told_when_asked_for(run, capsys):
    first = {"model": "arima", "symbol": "S01", "fold": 0, "attempts": 3, "reason": "S01: singular"}
    assert told(capsys, "show", run, "--failed")["failed_units"][0] == first
    assert "S02: singular" in shown(capsys, "show", run, "--failed")


def test_a_run_that_failed_says_why_and_which_symbols_were_left_out(store, capsys):
    run = store.start_run("retrain", {}, now=NOW)
    store.finish_run(run, "failed", 12.5, {"FB": "FB has 196 sessions, needs 750", "run": "the disk is full"})
    seen = shown(capsys, "show", run)
    assert f"{run}: failed; began 2026-11-22 14:30 UTC; took 12 s; the disk is full\n" in seen
    assert "left out: 1x <symbol> has 196 sessions, needs 750 (FB)\n" in seen
    assert told(capsys, "show", run)["reason"] == "the disk is full"
    store.resume_run(run)
    assert "the disk is full" not in shown(capsys, "show", run)
    assert told(capsys, "show", run)["reason"] is None


def test_a_finished_run_shows_its_receipt(store, capsys):
    run = store.start_run("retrain", {}, now=NOW)
    receipt = {
        "format": 1, "run": run, "identity": None, "version": 3, "release_digest": "d" * 64, "reproducible": True,
        "data_hash": "a" * 64, "spec_hash": "5" * 64, "code_version": "0.5.0", "seed": 7, "config": {}, "universe": 3,
        "symbols": 2, "folds": 2, "sessions": {"sessions": 250, "first": "2012-01-03", "last": "2012-12-31"},
        "scores": [], "models": [], "failures": [], "skipped": [], "gate": None, "seconds": 131.9, "cpus": 2.0,
        "starts": 1, "units": {},
    }  # fmt: skip
    store.finish_run(run, "succeeded", 131.9, {}, receipt=receipt)
    assert told(capsys, "show", run)["receipt"] == receipt
    seen = shown(capsys, "show", run)
    assert f"{run}: succeeded; began 2026-11-22 14:30 UTC; took 132 s\n" in seen
    assert f"receipt of {run}\n" in seen
    assert "132 s on 2 CPUs, 1 start\n" in seen


def test_a_run_that_is_not_there_is_named_with_those_that_are(run, store, capsys):
    assert cli.run(["runs", "show", "retrain-x"]) == 1
    assert capsys.readouterr().err == f"error: there is no run 'retrain-x'; there are {run}\n"
    for _ in range(11):
        store.start_run("sweep", {}, now=NOW)
    assert cli.run(["runs", "show", "retrain-x"]) == 1
    assert capsys.readouterr().err.endswith(", and 2 older ones\n")


def test_where_there_is_no_run_at_all_the_error_says_how_to_start_one(store, capsys):
    assert cli.run(["runs", "show", "retrain-x"]) == 1
    assert "start one with: swiftbolt retrain" in capsys.readouterr().err
