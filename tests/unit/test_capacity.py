"""The simulated retrain against what can be reckoned by hand, and its accounts: no second of a CPU is lost unseen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from benchmarks import capacity
from benchmarks.capacity import FanOut, Retrain, fan_out, make_shards, retrain, train_seconds
from benchmarks.capacity_costs import Costs, DriverCosts, FanOutCosts, TrainCosts

FREE = FanOutCosts()
DEAR = FanOutCosts(launch=0.3, actor=2.0, step=1.0, result=0.05, trial=0.2, switch=0.5)
UNEVEN = [[0.3, 0.4, 0.9], [2.0], [0.1] * 25, [5.0, 0.2], [1.5], [0.7, 0.7]]


def accounts(run: FanOut) -> float:
    return run.work + run.start + run.reports + run.tail


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_without_costs_equal_shards_take_their_work_divided_by_the_workers(workers: int) -> None:
    run = fan_out([[0.5, 1.5]] * 32, workers, FREE)
    assert run.seconds == pytest.approx(64 / workers)
    assert (run.start, run.reports, run.tail) == (0, 0, 0)


@pytest.mark.parametrize("workers", [1, 7, 300])
def test_one_shard_takes_its_own_time_however_many_workers_there_are(workers: int) -> None:
    run = fan_out([[1.0, 2.0, 3.0]], workers, FREE)
    assert run.seconds == pytest.approx(6)
    assert run.tail == pytest.approx(6 * (workers - 1))


def test_a_shard_more_than_workers_costs_a_round_and_the_others_their_tail() -> None:
    run = fan_out([[2.0]] * 5, 4, FREE)
    assert run.seconds == pytest.approx(4)
    assert run.tail == pytest.approx(3 * 2)


def test_one_worker_pays_each_cost_as_often_as_it_comes_up() -> None:
    # Two shards of two reports each: three units of 0.4 s fill a step of one second, the fourth is a step of its own.
    run = fan_out([[0.4] * 4] * 2, 1, DEAR)
    assert run.start == pytest.approx(0.3 + 2.0)
    assert run.reports == pytest.approx(4 * 0.05 + 2 * 0.2 + 0.5)
    assert run.seconds == pytest.approx(run.start + 3.2 + run.reports)


def test_a_unit_longer_than_a_step_is_a_step() -> None:
    costs = FanOutCosts(step=1.0, result=1.0)
    assert fan_out([[3.0, 3.0]], 1, costs).reports == pytest.approx(2)
    assert fan_out([[0.5, 0.5]], 1, costs).reports == pytest.approx(1)


def test_more_reports_than_the_driver_can_take_leave_its_pace_to_the_run() -> None:
    run = fan_out([[1.0]] * 400, 200, FanOutCosts(result=0.1))
    # After the first second there is always a report before the driver, until it has taken all of them.
    assert run.seconds == pytest.approx(1 + 400 * 0.1)
    # The first report of worker k waits for those of k others; the second for a round of all 200, its own second apart.
    assert run.reports == pytest.approx(0.1 * sum(range(1, 201)) + 200 * (20 - 1))


def test_workers_start_one_after_another_and_wait_for_the_panel() -> None:
    costs = FanOutCosts(launch=1.0, actor=2.0)
    assert fan_out([[1.0]] * 3, 3, costs).start == pytest.approx(3 + 4 + 5)
    assert fan_out([[1.0]] * 3, 3, costs, fetched=[0, 0, 60]).start == pytest.approx(3 + 4 + 60)


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 6, 9])
@pytest.mark.parametrize("costs", [FREE, DEAR, replace(DEAR, result=3.0)])
def test_work_start_reports_and_tail_add_up_to_the_time_of_all_workers(workers: int, costs: FanOutCosts) -> None:
    run = fan_out(UNEVEN, workers, costs)
    assert accounts(run) == pytest.approx(workers * run.seconds)
    assert run.work == pytest.approx(math.fsum(math.fsum(shard) for shard in UNEVEN))
    assert min(run.start, run.reports, run.tail) >= 0


def test_no_fan_out_ends_before_its_work_shared_evenly_nor_before_its_longest_shard() -> None:
    for workers in range(1, 9):
        run = fan_out(UNEVEN, workers, FREE)
        assert run.seconds >= max(run.work / workers, max(map(math.fsum, UNEVEN))) - 1e-9


def test_train_shares_its_work_and_pays_for_each_doubling() -> None:
    costs = TrainCosts(start=10, symbol=2.0, sync=3.0, symbol_sync=0.01)
    assert train_seconds(100, 1, costs) == pytest.approx(10 + 200)
    assert train_seconds(100, 2, costs) == pytest.approx(10 + 100 + 4)
    assert train_seconds(100, 8, costs) == pytest.approx(10 + 25 + 3 * 4)


def test_trainings_side_by_side_go_in_rounds() -> None:
    costs = TrainCosts(pieces=9, start=10, symbol=1.8)
    assert train_seconds(100, 1, costs, at_once=9) == pytest.approx(10 + 20)
    assert train_seconds(100, 1, costs, at_once=8) == pytest.approx(10 + 40)
    assert train_seconds(100, 2, costs, at_once=3) == pytest.approx(10 + 30)


def test_the_workers_of_a_training_are_as_many_as_pay() -> None:
    # 200 s of work and 4 s for each doubling: 16, 32 and 64 workers take 28.5, 26.25 and 27.125 s.
    costs = TrainCosts(symbol=2.0, sync=4.0)
    assert capacity.best_split(100, 1024, costs) == (32, 1)
    assert capacity.best_split(100, 20, costs) == (16, 1)
    assert capacity.best_split(100, 1024, TrainCosts()) == (1, 1)


def test_trainings_side_by_side_come_before_workers_that_wait_for_each_other() -> None:
    assert capacity.best_split(100, 4, TrainCosts(pieces=4, symbol=2.0, sync=1.0)) == (1, 4)
    assert capacity.best_split(100, 8, TrainCosts(pieces=4, symbol=2.0, sync=1.0)) == (2, 4)


COSTS = Costs(
    fan_out=DEAR,
    trees=TrainCosts(start=5.0, symbol=1.0, sync=2.0),
    networks=TrainCosts(start=8.0, symbol=3.0, symbol_sync=0.02),
    driver=DriverCosts(fixed=20.0, history=0.05, plan=0.01, collect=0.02, combine=0.1, publish=0.03),
    symbols=(2.0, 4.0, 9.0),
    units=27,
    panel_mb=1.5,
    driver_mb=5.0,
    network_mb_s=500.0,
)


def all_cpu_seconds(run: Retrain) -> float:
    return run.work + math.fsum(run.lost.values())


@pytest.mark.parametrize("cpus", [1, 16, 100])
def test_work_and_losses_of_a_retrain_add_up_to_the_time_of_its_cpus(cpus: int) -> None:
    run = retrain(300, cpus, COSTS, symbols_per_trial=20)
    assert all_cpu_seconds(run) == pytest.approx(cpus * run.seconds)
    assert run.efficiency == pytest.approx(run.work / all_cpu_seconds(run))
    assert min(run.lost.values()) >= 0


def test_a_retrain_that_costs_nothing_but_work_takes_it_divided_by_the_cpus() -> None:
    costs = Costs(symbols=(4.0,), units=8, trees=TrainCosts(symbol=1.0), networks=TrainCosts(symbol=3.0))
    run = retrain(640, 64, costs, symbols_per_trial=10)
    assert run.seconds == pytest.approx(640 * 8.0 / 64)
    assert run.efficiency == pytest.approx(1)


@pytest.mark.parametrize(
    ("reason", "costs"),
    [
        ("driver", replace(COSTS, driver=DriverCosts(combine=10.0))),
        ("tail", Costs(symbols=(4.0,))),
        ("start", Costs(symbols=(4.0,), fan_out=FanOutCosts(actor=500.0))),
        ("reports", Costs(symbols=(4.0,), fan_out=FanOutCosts(result=2.0))),
        ("Train", replace(COSTS, networks=TrainCosts(symbol=10.0, symbol_sync=5.0))),
    ],
)
def test_what_bounds_a_run_is_what_was_made_dear(reason: str, costs: Costs) -> None:
    assert retrain(130, 64, costs, symbols_per_trial=2).bound == reason


def test_cpus_beyond_those_that_are_enough_save_less_than_a_fifth() -> None:
    # Nothing is shared but 100 s of work, beside 100 s of the driver's own: the fourth CPU saves 17 %.
    costs = Costs(symbols=(1.0,), driver=DriverCosts(fixed=100.0))
    enough = capacity.enough_cpus(100, costs)
    assert enough.cpus == 2
    assert enough.bound == "driver"


def test_shards_are_small_where_the_tail_is_dear_and_large_where_each_of_them_is() -> None:
    assert capacity.best_shard_size(64, 64, Costs(symbols=(4.0,))) == 1
    assert capacity.best_shard_size(1000, 2, Costs(symbols=(4.0,), fan_out=FanOutCosts(trial=20.0))) == 100


def test_symbols_are_drawn_from_those_measured_and_each_keeps_its_units_together() -> None:
    shards = make_shards(50, Costs(symbols=(3.0, 6.0, 9.0), units=3), 20, seed=1)
    assert [len(shard) for shard in shards] == [60, 60, 30]
    by_symbol = np.concatenate(shards).reshape(50, 3)
    assert (by_symbol == by_symbol[:, :1]).all()
    assert set(by_symbol[:, 0]) == {1.0, 2.0, 3.0}


def test_the_table_has_a_line_for_every_universe_and_cluster(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "UNIVERSES", (30, 60))
    monkeypatch.setattr(capacity, "CLUSTERS", (2, 4))
    capacity.show(COSTS)
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split()[:2] for line in lines if line.strip()[0].isdigit() and "trials" not in line]
    assert rows == [["30", "2"], ["30", "4"], ["60", "2"], ["60", "4"]]
    assert sum("save less than 20%" in line for line in lines) == 2
