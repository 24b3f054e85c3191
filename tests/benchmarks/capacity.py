"""Where a retrain stops scaling, and why: its course on clusters nobody has here, by a virtual clock.

    PYTHONPATH=tests python -m benchmarks.capacity            the tables, from the costs measured last
    PYTHONPATH=tests python -m benchmarks.capacity --measure  from costs measured on this machine, which takes minutes

The fan-out is simulated event by event: workers run units and hand in reports, the driver takes them one at a time.
Around it stand what the driver does alone and the trainings by Ray Train, trees first, as in a retrain. Each
second of each CPU is either work or lost for one of the ``REASONS``; the largest loss is what bounds the run.
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pprint import pformat

import numpy as np
from benchmarks.capacity_costs import MEASURED, Costs, FanOutCosts, TrainCosts

Shard = Sequence[float]
"""Seconds of the units that one trial runs, one after another."""

STAGES = ("driver", "fan-out", "trees", "networks")
REASONS = ("start", "reports", "tail", "driver", "Train")
HEADER = (
    "symbols  CPUs   minutes"
    + "".join(f"{name:>10}" for name in STAGES)
    + "   busy   work"
    + "".join(f"{reason:>9}" for reason in REASONS)
    + "  shard  trees   nets   panel driver"
)
UNIVERSES = (500, 5_000, 10_000)
CLUSTERS = (16, 64, 256)
MOST_CPUS = 2048
CPUS_PER_NODE = 16
SHARD_SIZES = (1, 2, 5, 10, 20, 50, 100)
# Twice the CPUs pay while they save at least this share of the time.
PAYING_SHARE = 0.2
# The documentation of Ray (Tune's scalability): trials, CPUs, and the seconds of a trial and of them all.
PUBLISHED = (10_000, 16, 1.0, 715.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class FanOut:
    """How a fan-out went.

    Attributes:
        seconds: until the last shard was done. The others are of all workers together and add up to their time.
        work: within units.
        start: before the first unit.
        reports: until the driver had taken a report, and between two shards.
        tail: without a shard, while others still had one.
    """

    seconds: float
    work: float
    start: float
    reports: float
    tail: float


def fan_out(shards: Sequence[Shard], workers: int, costs: FanOutCosts, fetched: Sequence[float] = ()) -> FanOut:
    """Walk the shards, none of them empty, in their order, each by the first worker that is free.

    Args:
        fetched: when the panel is on the node of each of the first workers; on others' it is from the beginning.
    """
    waiting = iter(shards)
    steps: dict[int, Iterator[float]] = {}
    handed_in: list[tuple[float, int]] = []  # a heap: when, by which worker
    driver = start = reports = 0.0  # ``driver``: when it is done with all that came before
    for worker, shard in zip(range(workers), waiting, strict=False):
        driver += costs.launch
        begin = max(driver + costs.actor, fetched[worker] if worker < len(fetched) else 0.0)
        start += begin
        steps[worker] = _steps(shard, costs.step)
        heapq.heappush(handed_in, (begin + next(steps[worker]), worker))
    ends = [0.0] * workers
    while handed_in:
        handed, worker = heapq.heappop(handed_in)
        begin = driver = max(driver, handed) + costs.result
        step = next(steps[worker], None)
        if step is None:
            begin = driver = driver + costs.trial
            shard = next(waiting, None)
            if shard is not None:
                begin += costs.switch
                steps[worker] = _steps(shard, costs.step)
                step = next(steps[worker])
        reports += begin - handed
        if step is None:
            ends[worker] = begin
        else:
            heapq.heappush(handed_in, (begin + step, worker))
    seconds = max(ends)
    return FanOut(
        seconds=seconds,
        work=math.fsum(math.fsum(shard) for shard in shards),
        start=start,
        reports=reports,
        tail=math.fsum(seconds - end for end in ends),
    )


def _steps(shard: Shard, least: float) -> Iterator[float]:
    """Units until ``least`` seconds have passed are one step, as a trial takes them."""
    seconds, pending = 0.0, False
    for unit in shard:
        seconds, pending = seconds + unit, True
        if seconds >= least:
            yield seconds
            seconds, pending = 0.0, False
    if pending:
        yield seconds


def train_seconds(symbols: int, workers: int, costs: TrainCosts, at_once: int = 1) -> float:
    """Trainings by Ray Train, ``at_once`` side by side: the workers of each share its work, and each doubling of them
    costs what they have to tell each other."""
    share = math.ceil(costs.pieces / at_once) / costs.pieces
    return costs.start + share * (
        symbols * costs.symbol / workers + math.log2(workers) * (costs.sync + symbols * costs.symbol_sync)
    )


def best_split(symbols: int, cpus: int, costs: TrainCosts) -> tuple[int, int]:
    """Workers of a training, a power of two, and trainings side by side that are quickest; the fewest workers where
    several are."""
    powers = [2**power for power in range(int(math.log2(cpus)) + 1)]
    splits = [(workers, min(costs.pieces, cpus // workers)) for workers in powers]
    return min(splits, key=lambda split: (train_seconds(symbols, split[0], costs, split[1]), split))


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrain:
    """A retrain of ``symbols`` on ``cpus``.

    Attributes:
        stages: wall-clock seconds by stage.
        busy: the share of all CPUs' time in the fan-out in which they fitted something.
        work: CPU-seconds of fits.
        lost: CPU-seconds that were none, by reason.
        splits: workers of a training and trainings side by side, of the trees and of the networks.
    """

    symbols: int
    cpus: int
    symbols_per_trial: int
    stages: Mapping[str, float]
    busy: float
    work: float
    lost: Mapping[str, float]
    splits: tuple[tuple[int, int], ...]

    @property
    def seconds(self) -> float:
        """From beginning to end."""
        return math.fsum(self.stages.values())

    @property
    def efficiency(self) -> float:
        """The share of all CPUs' time in which they fitted something."""
        return self.work / (self.cpus * self.seconds)

    @property
    def bound(self) -> str:
        """What most of the lost time was lost to."""
        return max(self.lost, key=lambda reason: self.lost[reason])


def retrain(symbols: int, cpus: int, costs: Costs, *, symbols_per_trial: int, seed: int = 1) -> Retrain:
    """Foretell a retrain of symbols drawn from those measured."""
    shards = make_shards(symbols, costs, symbols_per_trial, seed)
    fetching = symbols * costs.panel_mb / costs.network_mb_s  # as if every node had it from the head, in turn
    fan = fan_out(shards, cpus, costs.fan_out, [fetching * (worker // CPUS_PER_NODE) for worker in range(cpus)])
    driver = costs.driver.fixed + symbols * costs.driver.symbol
    trainings = (costs.trees, costs.networks)
    splits = tuple(best_split(symbols, cpus, training) for training in trainings)
    trees, networks = (
        train_seconds(symbols, workers, training, at_once)
        for training, (workers, at_once) in zip(trainings, splits, strict=True)
    )
    trained = symbols * (sum(training.symbol for training in trainings) + costs.forecast)
    networks += symbols * costs.forecast / cpus
    starting = cpus * sum(training.start for training in trainings)
    return Retrain(
        symbols=symbols,
        cpus=cpus,
        symbols_per_trial=symbols_per_trial,
        stages=dict(zip(STAGES, (driver, fan.seconds, trees, networks), strict=True)),
        busy=fan.work / (cpus * fan.seconds),
        work=fan.work + trained,
        lost={
            "start": fan.start + starting,
            "reports": fan.reports,
            "tail": fan.tail,
            "driver": cpus * driver,
            "Train": cpus * (trees + networks) - starting - trained,
        },
        splits=splits,
    )


def make_shards(symbols: int, costs: Costs, symbols_per_trial: int, seed: int) -> list[list[float]]:
    """Seconds of every unit, shard by shard."""
    drawn_S = np.random.default_rng(seed).choice(costs.symbols, symbols) / costs.units
    return [
        [seconds for seconds in drawn_S[first : first + symbols_per_trial].tolist() for _ in range(costs.units)]
        for first in range(0, symbols, symbols_per_trial)
    ]


def best_shard_size(symbols: int, cpus: int, costs: Costs) -> int:
    """The most symbols a shard may have for the fan-out to be within two hundredths of its quickest."""
    seconds = {size: retrain(symbols, cpus, costs, symbols_per_trial=size).stages["fan-out"] for size in SHARD_SIZES}
    return max(size for size in SHARD_SIZES if seconds[size] <= 1.02 * min(seconds.values()))


def at_best(symbols: int, cpus: int, costs: Costs) -> Retrain:
    """The run with the best size of shards."""
    return retrain(symbols, cpus, costs, symbols_per_trial=best_shard_size(symbols, cpus, costs))


def enough_cpus(symbols: int, costs: Costs) -> Retrain:
    """The run on the largest cluster whose last doubling, from one CPU on, paid."""
    run = at_best(symbols, 1, costs)
    while run.cpus < MOST_CPUS:
        doubled = at_best(symbols, 2 * run.cpus, costs)
        if doubled.seconds > (1 - PAYING_SHARE) * run.seconds:
            break
        run = doubled
    return run


def main(arguments: list[str] | None = None) -> None:
    """Print the table, after measuring if told to."""
    parser = argparse.ArgumentParser(prog="benchmarks.capacity", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--measure", action="store_true", help="measure the costs on this machine first")
    costs = MEASURED
    if parser.parse_args(arguments or []).measure:
        from benchmarks.capacity_measure import measure

        costs = measure()
        print(pformat(costs, width=100))
    show(costs)


def show(costs: Costs) -> None:
    """The table, where it ends, and what Tune's own figure comes to."""
    for line in (
        "capacity: minutes of a retrain on CPUs alone, by stage; the share of the CPUs' time at work, within the",
        "fan-out (busy) and in all; what the rest was lost to; symbols a shard; trainings side by side x workers",
        "of each; GB of a node's panel and of the driver's forecasts",
    ):
        print(line)
    print(HEADER)
    for symbols in UNIVERSES:
        for cpus in CLUSTERS:
            show_run(at_best(symbols, cpus, costs), costs)
        enough = enough_cpus(symbols, costs)
        print(f"  more than {enough.cpus} CPUs save less than {PAYING_SHARE:.0%}: bound by {enough.bound}")
    trials, cpus, seconds, published = PUBLISHED
    ours = fan_out([[seconds]] * trials, cpus, costs.fan_out).seconds
    print(f"{trials:,} trials of {seconds:g} s on {cpus} CPUs: {ours:.0f} s; Ray's documentation: {published:.0f} s")


def _split(split: tuple[int, int]) -> str:
    return f"{split[1]}x{split[0]}"


def show_run(run: Retrain, costs: Costs) -> None:
    """One line of the table."""
    stages = "".join(f"{run.stages[name] / 60:10.1f}" for name in STAGES)
    lost = "".join(f"{run.lost[reason] / (run.cpus * run.seconds):9.0%}" for reason in REASONS)
    print(
        f"{run.symbols:7,}{run.cpus:6}{run.seconds / 60:10.1f}{stages}{run.busy:7.0%}{run.efficiency:7.0%}{lost}"
        f"{run.symbols_per_trial:7}{_split(run.splits[0]):>7}{_split(run.splits[1]):>7}"
        f"{run.symbols * costs.panel_mb / 1000:8.1f}{run.symbols * costs.driver_mb / 1000:7.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
