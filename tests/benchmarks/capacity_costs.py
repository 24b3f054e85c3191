"""What the pieces of a retrain cost, as ``benchmarks.capacity`` reckons with it, and how each was measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class FanOutCosts:
    """What Ray Tune adds to units of work, in seconds.

    The driver does one thing after another, and a worker that handed something in waits until the driver has taken it.

    Attributes:
        launch: the driver's, to start an actor.
        actor: a worker's, from then to its first unit: its process, imports, the panel from its node's memory.
        step: for so long a worker runs units before it reports.
        result: the driver's, for each report.
        trial: the driver's, at the end of each shard, beside that of its last report.
        switch: a worker's, between two shards, beside the driver's: outcomes written, the next shard fetched.
    """

    launch: float = 0.0
    actor: float = 0.0
    step: float = 1.0
    result: float = 0.0
    trial: float = 0.0
    switch: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainCosts:
    """What trainings by Ray Train cost: all folds of the trees, or all folds of both networks.

    Attributes:
        pieces: trainings that may run side by side.
        start: seconds until workers work.
        symbol: CPU-seconds a symbol, of all pieces, on one worker.
        sync: seconds by which each doubling of a piece's workers lengthens all pieces, however many symbols there are.
        symbol_sync: the same for each symbol.
    """

    pieces: int = 1
    start: float = 0.0
    symbol: float = 0.0
    sync: float = 0.0
    symbol_sync: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DriverCosts:
    """What the driver does while nobody else works, in seconds; all but the first for each symbol.

    Attributes:
        fixed: Ray's start, and all that does not grow with the universe.
        history: bars read from the store, made a panel and put into the object store.
        plan: units, their rows in the store, their shards.
        collect: outcomes read back from the run's storage, and their rows in the store.
        combine: the ensemble and the scorecard.
        publish: artifacts, explanations, features and forecasts into the store.
    """

    fixed: float = 0.0
    history: float = 0.0
    plan: float = 0.0
    collect: float = 0.0
    combine: float = 0.0
    publish: float = 0.0

    @property
    def symbol(self) -> float:
        """Seconds for each symbol."""
        return self.history + self.plan + self.collect + self.combine + self.publish


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """All of it.

    Attributes:
        symbols: CPU-seconds of the own units of every symbol that was measured.
        units: a symbol's own units.
        forecast: CPU-seconds of a symbol's forecasts with the networks, which tasks make on all CPUs.
        panel_mb: of a symbol, once on every node.
        driver_mb: of a symbol's forecasts and what is made of them, in the driver.
        network_mb_s: megabytes a second from one node to another.
    """

    fan_out: FanOutCosts = FanOutCosts()
    trees: TrainCosts = TrainCosts()
    networks: TrainCosts = TrainCosts()
    driver: DriverCosts = DriverCosts()
    symbols: tuple[float, ...]
    units: int = 1
    forecast: float = 0.0
    panel_mb: float = 0.0
    driver_mb: float = 0.0
    network_mb_s: float = float("inf")


# By ``benchmarks.capacity --measure`` on two cores that others used, too: seconds, of Train above all, are too high.
MEASURED = Costs(
    fan_out=FanOutCosts(launch=0.0025, actor=2.6, result=0.00061, trial=0.021, switch=0.060),
    trees=TrainCosts(pieces=9, start=21.5, symbol=10.7, sync=72.4),
    networks=TrainCosts(pieces=18, start=13.2, symbol=12.4, symbol_sync=1.63),
    driver=DriverCosts(
        fixed=4.4, history=0.0067, plan=0.0005, collect=0.024, combine=0.35, publish=0.014
    ),
    symbols=(
        2.2, 2.2, 2.4, 2.4, 2.4, 2.5, 2.5, 2.5, 2.6, 2.6, 2.7, 2.7, 2.7, 2.7, 2.8, 2.8, 2.8, 2.9, 2.9, 3.2, 3.3, 10.4,
        17.7, 19.3,
    ),
    units=27,
    forecast=0.50,
    panel_mb=1.05,
    driver_mb=17.7,
    network_mb_s=600.0,
)  # fmt: skip
