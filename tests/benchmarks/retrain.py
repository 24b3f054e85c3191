"""The fan-out of a retrain on Ray Tune, against the same function in a plain loop, in processes and in joblib.

    PYTHONPATH=tests python -m benchmarks.retrain --symbols 100

One hundred symbols, eight years; each walks one test fold and the live one by ARIMA-GARCH, trees of its own and the
baselines: about a second a symbol. Every contender calls ``run_unit`` and leaves the same outcomes, which is asserted.
Seconds are those of the wall clock. Those of Ray's start (the cluster; the first actor with its imports and Tune's own
preparations, as a run of a single unit takes them) are shown apart, and overheads with and without them.

A worker's own memory is what no other process shares with it (USS), the highest seen. At the end ``capacity`` foretells
the time on two CPUs from the seconds of the units on one. Without the shared prices synthetic ones are used.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import chain
from pathlib import Path

import joblib
import psutil
from benchmarks.capacity import fan_out
from benchmarks.capacity_costs import MEASURED
from benchmarks.features import load
from joblib.externals.loky import get_reusable_executor

from swiftbolt.ensemble.weights import EnsembleConfig
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.units import (
    Executor,
    OnOutcome,
    Outcome,
    ProcessExecutor,
    SerialExecutor,
    Unit,
    plan_units,
    run_unit,
)
from swiftbolt.features import build_panel
from swiftbolt.folds import FoldConfig, make_folds
from swiftbolt.local import OBJECT_STORE_BYTES, ONE_THREAD
from swiftbolt.models.registry import config_class
from swiftbolt.panel import Panel

SYMBOLS, START, END = 100, date(2007, 1, 3), date(2014, 12, 31)
WORKERS = 2
SYMBOLS_PER_TRIAL = 10  # about ten seconds
MODELS = {"arima": {}, "xgboost": {"scope": "symbol", "rounds": 15, "min_child_weight": 20}}
RECIPE = Recipe(
    folds=FoldConfig(count=1, test_sessions=126, validation_sessions=126, min_train_sessions=756),
    models={name: config_class(name).model_validate(settings) for name, settings in MODELS.items()},
    ensemble=EnsembleConfig(),
    seed=1,
)
IMPORTS = "import swiftbolt.evaluation.units, swiftbolt.models.arima_garch, swiftbolt.models.boosted_trees"
SAMPLE_SECONDS = 1.0  # between two looks at the workers' memory


@dataclass(kw_only=True)
class Run:
    """What a contender took.

    Attributes:
        seconds: from units to outcomes.
        cluster_seconds, first_seconds: those of Ray's start, and of a run of one unit after it; none elsewhere.
        own_mb: highest own memory of a worker process; none in a plain loop.
    """

    name: str
    seconds: float = 0.0
    cluster_seconds: float = 0.0
    first_seconds: float = 0.0
    own_mb: float = 0.0
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def unit_seconds(self) -> float:
        """Seconds within the units, of all workers together."""
        return sum(outcome.cost.seconds for outcome in self.outcomes)

    @property
    def beside_the_first(self) -> float:
        """Seconds without what a run of one unit takes."""
        return self.seconds - self.first_seconds


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the tables."""
    wanted = _arguments(arguments)
    panel = the_panel(wanted.symbols)
    units = the_units(panel)
    print(
        f"retrain: {len(units):,} units of {len(panel.symbols)} symbols, {len(panel.session_R):,} rows,"
        f" features of {panel.features_RF.nbytes / 1e6:.0f} MB"
    )
    line("imports of a process", seconds_of_imports())
    loop = timed(Run(name="plain loop"), SerialExecutor(), panel, units)
    peers = [
        timed(Run(name=f"multiprocessing, {WORKERS}"), ProcessExecutor(WORKERS), panel, units),
        timed(Run(name=f"joblib, {WORKERS}"), LokyExecutor(WORKERS), panel, units),
    ]
    one, two = (on_ray(cpus, panel, units) for cpus in (1, WORKERS))
    for run in (loop, *peers, one, two):
        show(run, loop)
    line("Ray's overhead, one worker", 100 * (one.beside_the_first / loop.seconds - 1), "% of the plain loop")
    started = one.cluster_seconds + one.seconds
    line("  and its start with it", 100 * (started / loop.seconds - 1), "%")
    line("  of its units' seconds", 100 * (one.beside_the_first / one.unit_seconds - 1), "%")
    line("two workers", one.beside_the_first / two.beside_the_first, "times one")
    line("  and their start", one.seconds / two.seconds, "times one")
    show_memory(one, panel, peers[0])
    show_foretold(one, two)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.retrain", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--symbols", type=int, default=SYMBOLS)
    return parser.parse_args(arguments or [])


def the_panel(count: int) -> Panel:
    """Symbols that were there from START to END, spread evenly over the alphabet."""
    bars, actions = load()
    bars = bars.select(start=START, end=min(END, bars.last_session))
    rows = bars.sessions_per_symbol()
    names = [name for name in bars.symbols if rows[name] == max(rows.values())]
    chosen = [names[len(names) * k // count] for k in range(min(count, len(names)))]
    return build_panel(bars.select(chosen), actions.select(symbols=chosen))


def the_units(panel: Panel) -> list[Unit]:
    """The units of every fold, the live one included."""
    return plan_units(panel, RECIPE, make_folds(panel.sessions, RECIPE.folds, live=True))


def seconds_of_imports() -> float:
    """What any new process takes before its first unit."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.perf_counter() - started


class LokyExecutor:
    """Runs units by joblib, which hands every worker the panel's large arrays as a file in memory."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, panel: Panel, recipe: Recipe, units: Sequence[Unit], on_done: OnOutcome) -> list[Outcome]:
        """See ``Executor``."""
        try:
            work = joblib.Parallel(self.workers, return_as="generator")
            outcomes = []
            for outcome in work(joblib.delayed(run_unit)(panel, recipe, unit) for unit in units):
                outcomes.append(outcome)
                on_done(outcome)
            return outcomes
        finally:
            get_reusable_executor().shutdown()


def timed(run: Run, executor: Executor, panel: Panel, units: Sequence[Unit]) -> Run:
    """Let the executor run the units, and look at its processes meanwhile."""
    looked = time.monotonic()

    def look(_: Outcome) -> None:
        nonlocal looked
        if time.monotonic() - looked > SAMPLE_SECONDS:
            run.own_mb = max([run.own_mb, *own_memories()])
            looked = time.monotonic()

    started = time.perf_counter()
    run.outcomes = executor.run(panel, RECIPE, units, look)
    run.seconds = time.perf_counter() - started
    return run


def own_memories() -> Iterator[float]:
    """Megabytes that each worker process shares with nobody."""
    for process in psutil.Process().children(recursive=True):
        try:
            command = " ".join(process.cmdline())
            if command.startswith("ray::") or "multiprocessing.spawn" in command or "loky" in command:
                yield process.memory_full_info().uss / 1e6
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue


@contextmanager
def local_ray(cpus: int) -> Iterator[None]:
    """A Ray of this machine with so many CPUs, ended with the block."""
    os.environ.update(
        RAY_AUTH_MODE="disabled",  # else a token in the home directory would decide
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
        RAY_USAGE_STATS_ENABLED="0",
    )
    import ray

    # Directly under the temporary directory: socket paths within may have at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    try:
        ray.init(
            num_cpus=cpus,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            configure_logging=False,
            runtime_env={"env_vars": ONE_THREAD},
            _temp_dir=str(folder),
        )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def tune_executor(folder: Path, symbols_per_trial: int) -> Executor:
    """The executor of a retrain whose trials leave their outcomes in ``folder``."""
    from cluster.fan_out import TuneExecutor
    from cluster.resources import Resources
    from cluster.storage import RunStorage

    return TuneExecutor(Resources(symbols_per_trial=symbols_per_trial), RunStorage.of(folder, "bench"))


def on_ray(cpus: int, panel: Panel, units: Sequence[Unit]) -> Run:
    """All units on a cluster of so many CPUs, after a single one that tells what starting takes."""
    run = Run(name=f"Ray Tune, {cpus}")
    started = time.perf_counter()
    with local_ray(cpus), tempfile.TemporaryDirectory() as folder:
        run.cluster_seconds = time.perf_counter() - started
        first = timed(Run(name="first"), tune_executor(Path(folder, "first"), 1), panel, units[:1])
        run.first_seconds = first.seconds
        return timed(run, tune_executor(Path(folder, "all"), SYMBOLS_PER_TRIAL), panel, units)


def show(run: Run, loop: Run) -> None:
    """One contender's line; its outcomes have to be those of the plain loop."""
    assert digest(run.outcomes) == digest(loop.outcomes), f"{run.name}: other outcomes than those of the {loop.name}"
    start = f"; started in {run.cluster_seconds:.1f} + {run.first_seconds:.1f} s" if run.cluster_seconds else ""
    print(f"  {run.name:26}{run.seconds:8.2f} s{run.unit_seconds:10.2f} s in units{start}", flush=True)


def digest(outcomes: Sequence[Outcome]) -> str:
    """Identifies all that outcomes hold but what they took."""
    found = hashlib.sha256()
    for outcome in outcomes:
        about = [outcome.unit.key, outcome.notes, outcome.failure, str(outcome.importance)]
        found.update(json.dumps(about).encode())
        if outcome.forecasts is not None:
            found.update(outcome.forecasts.to_frame().write_json().encode())
        for name, content in sorted(outcome.files.items()):
            found.update(name.encode() + content)
    return found.hexdigest()


def show_memory(full: Run, panel: Panel, peer: Run) -> None:
    """Own memory of a worker by the number of symbols, and that of a worker that holds a panel of its own."""
    for share in (4, 2):
        part = panel.select(panel.symbols[: len(panel.symbols) // share])
        run = on_ray(1, part, the_units(part))
        line(f"own memory, {len(part.symbols)} symbols", run.own_mb, "MB")
    line(f"own memory, {len(panel.symbols)} symbols", full.own_mb, "MB")
    line("  in multiprocessing", peer.own_mb, "MB")


def show_foretold(one: Run, two: Run) -> None:
    """Seconds on two CPUs, simulated from those of the units on one, beside those measured."""
    by_symbol: dict[str | None, list[float]] = {}
    for outcome in one.outcomes:
        by_symbol.setdefault(outcome.unit.symbol, []).append(outcome.cost.seconds)
    symbols = list(by_symbol.values())
    shards = [
        list(chain.from_iterable(symbols[first : first + SYMBOLS_PER_TRIAL]))
        for first in range(0, len(symbols), SYMBOLS_PER_TRIAL)
    ]
    foretold = fan_out(shards, WORKERS, replace(MEASURED.fan_out, actor=one.first_seconds))
    line("two workers, simulated", foretold.seconds)
    line("  measured", two.seconds)


def line(what: str, value: float, unit: str = "s") -> None:
    """One line of the table."""
    print(f"  {what:26}{value:8.2f} {unit}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
