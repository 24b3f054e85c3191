"""Processes that fit are killed, by a signal, for want of memory, or by what they fit: only that is done again."""

from __future__ import annotations

import psutil
import pytest
from support.retrain_faults import Nodes, Site, nodes_of

GIGABYTE = 1_000_000_000
FAILED = 1


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_killed_actor_costs_the_symbol_it_was_at(nodes: Nodes, undisturbed: str, many: Site) -> None:
    with many.held_at(nodes, "arima/S10/0") as driver:
        before = many.done()
        nodes.faults.replan()
        nodes.faults.kill_held()
        driver.succeed()
    many.require_whole(undisturbed)
    many.require_kept(before, nodes.faults.begun())
    assert nodes.faults.redone_symbols() == {"S10"}


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("piece", ["xgboost_01", "lstm_00"])
def test_a_killed_train_worker_costs_what_it_was_at(nodes: Nodes, undisturbed: str, many: Site, piece: str) -> None:
    with many.held_at(nodes, piece) as driver:
        before = many.done()
        nodes.faults.replan()
        nodes.faults.kill_held()
        driver.succeed()
    assert {name for name, times in nodes.faults.begun().items() if times > 1} == {piece}
    attempts = {name: row.attempts for name, row in many.done().items() if row.attempts > 1}
    assert attempts == {piece: 2}
    many.require_whole(undisturbed)
    many.require_kept(before, nodes.faults.begun())


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_worker_that_takes_all_memory_is_ended_by_ray_and_costs_what_was_in_hand(
    undisturbed_few: str, few: Site
) -> None:
    memory = psutil.virtual_memory()
    most = memory.total - memory.available + 4 * GIGABYTE
    if most > 0.9 * memory.total:
        pytest.skip("too little memory is free to play with")
    monitor = {
        "RAY_memory_usage_threshold": f"{most / memory.total:.3f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    with nodes_of([2], **monitor) as nodes:
        nodes.faults.plan({"arima/S02/0": "hoard"}, hoard_bytes=8 * GIGABYTE)
        with few.start(nodes) as driver:
            driver.succeed()
        few.require_whole(undisturbed_few)
        assert nodes.faults.begun()["arima/S02/0"] == 2
        assert len(nodes.faults.redone_symbols()) <= 2  # Ray may end the other worker, too


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_fit_that_kills_its_process_takes_no_other_along_and_the_ledger_says_why(nodes: Nodes, few: Site) -> None:
    nodes.faults.plan({"arima/S02/0": "segfault"})
    with few.start(nodes, "--set", "max_failed_share=0.3") as driver:
        driver.succeed()
    (release,) = few.releases()
    rows = few.units(release.run)
    (failed,) = (row for row in rows if row.state != "done")
    assert (failed.symbol, failed.model, failed.fold, failed.state) == ("S02", "arima", 0, "failed")
    assert failed.reason is not None
    assert failed.reason.startswith("its worker died, 3 times: ")
    assert failed.attempts == 3
    assert len(rows) == len(few.fits)
    (run,) = few.runs()
    assert run.failures == {"arima/S02/0": failed.reason}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_too_many_such_fits_release_nothing_until_they_are_mended(
    nodes: Nodes, undisturbed_few: str, few: Site
) -> None:
    nodes.faults.plan({"arima/S02/0": "segfault"})
    with few.start(nodes) as driver:
        assert driver.end() == FAILED
    assert "no release: 1 of 4 symbols failed (25.0%), and max_failed_share is 2.0%; the first: arima/S02/0: its" in (
        driver.text()
    )
    assert few.releases() == []
    before = few.done()
    nodes.faults.replan()
    assert few.retrain(nodes) == undisturbed_few
    few.require_whole(undisturbed_few)
    assert {name: row for name, row in few.done().items() if name in before} == before
