"""Ray Tune as an executor: a trial is a shard of symbols, walked through by a reused actor.

The panel lies in the object store once. Each step of a trial runs units for about a second and reports
their names, so that progress is live; the outcomes travel in the trial's checkpoint, which Ray puts on the run's
storage, so that they outlive the actor and the node.
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune

from cluster.resources import Resources
from swiftbolt.evaluation.outcomes import load_outcomes, save_outcomes
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.units import OnOutcome, Outcome, Unit, run_unit
from swiftbolt.panel import Panel

STEP_SECONDS = 1.0


def make_shards(units: Sequence[Unit], symbols_per_trial: int, cpus: int) -> list[list[Unit]]:
    """Group units so that all units of a symbol share a shard, and pooled units are dealt out over the CPUs."""
    by_symbol: dict[str, list[Unit]] = defaultdict(list)
    pooled: list[Unit] = []
    for unit in units:
        (pooled if unit.symbol is None else by_symbol[unit.symbol]).append(unit)
    shards = [pooled[start::cpus] for start in range(min(cpus, len(pooled)))]
    groups = list(by_symbol.values())
    for start in range(0, len(groups), symbols_per_trial):
        shards.append([unit for group in groups[start : start + symbols_per_trial] for unit in group])
    return shards


class ShardTrial(tune.Trainable):
    """Walks one shard after another; the actor, its imports and its view of the panel are reused."""

    def setup(self, config: dict[str, Any], panel: Panel, recipe: Recipe, shards: list[list[Unit]]) -> None:  # type: ignore[override]
        """Called once per actor; ``panel`` is read from the object store without a copy."""
        self._panel, self._recipe, self._shards = panel, recipe, shards
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take on another shard in the same actor."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._waiting = list(self._shards[config["shard"]])
        self._outcomes: list[Outcome] = []

    def step(self) -> dict[str, Any]:
        """Run units for about ``STEP_SECONDS``."""
        finished: list[tuple[str, str | None]] = []
        started = time.monotonic()
        while self._waiting and time.monotonic() - started < STEP_SECONDS:
            outcome = run_unit(self._panel, self._recipe, self._waiting.pop(0))
            self._outcomes.append(outcome)
            finished.append((outcome.unit.key, outcome.failure))
        return {"finished": finished, "done": not self._waiting}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Leave the outcomes so far."""
        save_outcomes(Path(checkpoint_dir), self._outcomes)

    def load_checkpoint(self, checkpoint_dir: str | dict[str, Any] | None) -> None:
        """Take a finished shard's outcomes back; a trial checkpoints only when its shard is done."""
        assert isinstance(checkpoint_dir, str)
        self._outcomes = load_outcomes(Path(checkpoint_dir), self._waiting)
        self._waiting = []


class _Reporter(tune.Callback):
    """Passes finished units on as trials report them."""

    def __init__(self, finished: Callable[[str, str | None], None]) -> None:
        self._finished = finished

    def __getstate__(self) -> dict[str, Any]:
        """Tune keeps a pickle of every callback beside the run; a copy of this one tells nobody."""
        return {"_finished": _nobody}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Called in the driver after every step of every trial."""
        for key, failure in result.get("finished", ()):
            self._finished(key, failure)


def _nobody(key: str, failure: str | None) -> None:
    """Listens for a copy."""


class TuneExecutor:
    """``Executor`` that spreads units over a Ray cluster."""

    def __init__(self, resources: Resources, storage: Path, run: str) -> None:
        self._resources, self._storage, self._run = resources, storage, run

    def run(self, panel: Panel, recipe: Recipe, units: Sequence[Unit], on_done: OnOutcome) -> list[Outcome]:
        """See ``Executor``. A trial whose worker died more than ``trial_retries`` times fails its units, no others."""
        set_up_tune()
        granted: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        cpus = max(1, int(granted.get("CPU", 1) / self._resources.cpus_per_trial))
        shards = make_shards(units, self._resources.symbols_per_trial, cpus)
        by_key = {unit.key: unit for unit in units}
        told: set[str] = set()

        def finished(key: str, failure: str | None) -> None:
            if key not in told:  # a restarted trial reports again what it repeats
                told.add(key)
                on_done(Outcome(unit=by_key[key], forecasts=None, failure=failure))

        trainable = tune.with_resources(
            tune.with_parameters(ShardTrial, panel=panel, recipe=recipe, shards=shards),
            {"cpu": self._resources.cpus_per_trial},
        )
        tuner = tune.Tuner(
            trainable,
            param_space={"shard": tune.grid_search(list(range(len(shards))))},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                name=f"{self._run}-models",
                storage_path=str(self._storage),
                verbose=0,
                callbacks=[_Reporter(finished)],
                failure_config=tune.FailureConfig(max_failures=self._resources.trial_retries),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
            ),
        )
        outcomes: dict[str, Outcome] = {}
        results = tuner.fit()
        for position in range(len(results)):
            result = results[position]
            assert result.config is not None
            shard = shards[result.config["shard"]]
            for outcome in _read_trial(result, shard):
                outcomes[outcome.unit.key] = outcome
                finished(outcome.unit.key, outcome.failure)
        return [outcomes[unit.key] for unit in units]


def set_up_tune() -> None:
    """Progress is ours to print: no tables, no per-trial result files, no warnings that those are absent.

    An interrupt ends the run: Tune would take it for a wish to go on with what happens to be finished.
    """
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    logging.getLogger("ray.tune").setLevel(logging.ERROR)


def _read_trial(result: Any, shard: Sequence[Unit]) -> list[Outcome]:
    if result.error is not None or result.checkpoint is None:
        reason = f"its worker died: {result.error}" if result.error else "its worker left no result"
        return [Outcome(unit=unit, forecasts=None, failure=reason) for unit in shard]
    with result.checkpoint.as_directory() as directory:
        return load_outcomes(Path(directory), shard)
