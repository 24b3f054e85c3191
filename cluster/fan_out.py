"""Ray Tune as an executor: a trial is a shard of symbols, walked through by a reused actor.

The panel lies in the object store once. Each step of a trial runs units for about a second and reports them, so that
progress is live; when the shard is done its outcomes go into the run's storage, in one piece. What lies there is not
done again, whoever did it and whatever became of them: that is all there is to going on with a run that died.

A shard whose worker died is cut smaller and tried again, at last one unit at a time, so that a unit that kills its
process takes nothing else along.
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

import ray
import ray.exceptions
from ray import tune

from cluster.kept_outcomes import KeptOutcomes, keep_outcomes
from cluster.patience import Patience
from cluster.resources import Resources
from cluster.run_records import last_line
from cluster.storage import RunStorage
from swiftbolt.errors import EnvironmentFault
from swiftbolt.evaluation.outcomes import unit_ids
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.units import OnOutcome, Outcome, Unit, run_unit
from swiftbolt.panel import Panel
from swiftbolt.processes import Cost

STEP_SECONDS = 1.0
_WANT_OF_MEMORY = "Ray ended it, as memory ran out on its node"

Shard = dict[str, Unit]
"""Units by id."""


class Ledger(Protocol):
    """Keeps what became of every unit."""

    def planned(self, units: Sequence[Unit]) -> None:
        """``units`` lie ahead."""

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """These ended, and what they left is kept."""


class NoLedger:
    """Keeps nothing."""

    def planned(self, units: Sequence[Unit]) -> None:
        """See ``Ledger``."""

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        """See ``Ledger``."""


def make_shards(units: Mapping[str, Unit], symbols_per_trial: int) -> list[Shard]:
    """Group units so that all units of a symbol share a shard; a pooled unit is a shard of its own."""
    by_symbol: dict[str, Shard] = defaultdict(dict)
    shards: list[Shard] = []
    for name, unit in units.items():
        if unit.symbol is None:
            shards.append({name: unit})
        else:
            by_symbol[unit.symbol][name] = unit
    groups = list(by_symbol.values())
    for start in range(0, len(groups), symbols_per_trial):
        shards.append(
            {name: unit for group in groups[start : start + symbols_per_trial] for name, unit in group.items()}
        )
    return shards


class ShardTrial(tune.Trainable):
    """Walks one shard after another; the actor, its imports and its view of the panel are reused."""

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        panel: list[ray.ObjectRef[Panel]],
        recipe: Recipe,
        shards: list[ray.ObjectRef[Shard]],
        storage: RunStorage,
        attempt: int,
    ) -> None:
        """Called once per actor; the panel is read from the object store without a copy, shards one at a time."""
        self._panel, self._recipe, self._shards = ray.get(panel[0]), recipe, shards
        self._run_storage, self._attempt = storage, attempt
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take on another shard in the same actor."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._shard: Shard = ray.get(self._shards[config["shard"]])
        self._waiting = list(self._shard)
        self._outcomes: dict[str, Outcome] = {}

    def step(self) -> dict[str, Any]:
        """Run units for about ``STEP_SECONDS``; the last step keeps the outcomes of them all."""
        finished: list[tuple[str, str | None, dict[str, float]]] = []
        started = time.monotonic()
        while self._waiting and time.monotonic() - started < STEP_SECONDS:
            name = self._waiting.pop(0)
            outcome = replace(run_unit(self._panel, self._recipe, self._shard[name]), attempts=self._attempt)
            self._outcomes[name] = outcome
            finished.append((name, outcome.failure, asdict(outcome.cost)))
        kept = fault = None
        if not self._waiting:
            try:
                kept = keep_outcomes(self._run_storage, self._outcomes)
            except EnvironmentFault as exc:  # to be told in the driver, in its own words
                fault = str(exc)
        return {"finished": finished, "kept": kept, "fault": fault, "done": not self._waiting}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save: what is done lies in the run's storage."""

    def load_checkpoint(self, checkpoint_dir: str | dict[str, Any] | None) -> None:
        """Nothing was saved."""


class _Watcher(tune.Callback):
    """Passes on what trials report, and ends the fan-out where going on makes no sense."""

    def __init__(
        self,
        finished: Callable[[str, str | None, Cost], None],
        kept: Callable[[list[str]], None],
        alive: Callable[[], None],
        patience: Patience,
    ) -> None:
        self._finished, self._kept, self._alive, self._patience = finished, kept, alive, patience
        self._fault: str | None = None
        self._packs: list[str] = []

    def __getstate__(self) -> dict[str, Any]:
        """Tune keeps a pickle of every callback beside the run; that copy is never called."""
        return {}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Called in the driver after every step of every trial."""
        for name, failure, cost in result.get("finished", ()):
            self._finished(name, failure, Cost(**cost))
        self._fault = result.get("fault") or self._fault
        if result.get("kept") is not None:
            self._packs.append(result["kept"])

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """Called in the driver many times a second. What is raised here arrives as it is; above, Tune would wrap it.

        Raises:
            EnvironmentFault: what was done cannot be kept, and the rest could not either; or nothing could start for
                longer than one waits.
        """
        if self._fault is not None:
            raise EnvironmentFault(self._fault)
        self._alive()
        if self._packs:
            packs, self._packs = self._packs, []
            self._kept(packs)
        states = {trial.status for trial in trials}
        self._patience.look("PENDING" in states and "RUNNING" not in states)


class TuneExecutor:
    """``Executor`` that spreads units over a Ray cluster and keeps what they leave in the run's storage.

    Attributes:
        storage: units whose outcomes lie there are not run again.
        ledger: told of each unit once its outcome is kept.
        alive: called in the driver many times a second; what it raises ends the fan-out.
        write: where a line for people goes.
        share: puts the panel into the object store.
    """

    def __init__(
        self,
        resources: Resources,
        storage: RunStorage,
        *,
        ledger: Ledger | None = None,
        alive: Callable[[], None] = lambda: None,
        write: Callable[[str], None] = lambda line: None,
        share: Callable[[Panel], ray.ObjectRef[Panel]] = ray.put,
    ) -> None:
        self._resources, self._storage = resources, storage
        self._ledger, self._alive, self._write, self._share = ledger or NoLedger(), alive, write, share
        self._asked = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}

    def run(self, panel: Panel, recipe: Recipe, units: Sequence[Unit], on_done: OnOutcome) -> list[Outcome]:
        """See ``Executor``. A unit fails with its worker only if it was alone in its shard.

        Raises:
            EnvironmentFault: the storage cannot be written, or no worker could start.
        """
        wanted = dict(zip(unit_ids(recipe, units), units, strict=True))
        told: set[str] = set()

        def finished(name: str, failure: str | None, cost: Cost) -> None:
            if name not in told:  # a worker that died may have reported it before
                told.add(name)
                on_done(Outcome(unit=wanted[name], forecasts=None, failure=failure, cost=cost))

        def take_note(came: Mapping[str, Outcome]) -> None:
            self._ledger.finished(list(came.values()))
            for name, outcome in came.items():
                finished(name, outcome.failure, outcome.cost)

        self._ledger.planned(units)
        kept = KeptOutcomes(self._storage, wanted)
        take_note(kept.look())
        deaths: dict[str, str] = {}
        if kept.missing:
            patience = Patience(
                what="a trial",
                asked=self._asked,
                key="resources.cpus_per_trial",
                wait_s=self._resources.wait_s,
                write=self._write,
            )
            watcher = _Watcher(finished, lambda packs: take_note(kept.take(packs)), self._alive, patience)
            shared = self._share(panel)
            for attempt in range(1, self._resources.trial_retries + 2):
                # Ray ends several workers when memory runs out: at last the one that takes it has to be alone.
                is_last = attempt == self._resources.trial_retries + 1
                at_once = 1 if is_last and any(_WANT_OF_MEMORY in why for why in deaths.values()) else None
                shards = self._cut(kept.missing, attempt)
                deaths = self._walk(shared, recipe, shards, attempt, watcher, at_once)
                take_note(kept.look())
                if not kept.missing:
                    break
                why = next(iter(deaths.values()), "no reason given")
                self._write(f"{len(kept.missing)} fits were lost with their workers (attempt {attempt}): {why}")
        outcomes = kept.read()
        attempts = self._resources.trial_retries + 1
        lost = {
            name: Outcome(
                unit=unit,
                forecasts=None,
                failure=f"its worker died, {attempts} times: {deaths.get(name, 'no reason given')}",
                attempts=attempts,
            )
            for name, unit in kept.missing.items()
        }
        self._ledger.finished(list(lost.values()))
        for name, outcome in lost.items():
            finished(name, outcome.failure, outcome.cost)
        return [outcomes[name] if name in outcomes else lost[name] for name in wanted]

    def _cut(self, units: Mapping[str, Unit], attempt: int) -> list[Shard]:
        """Shards as configured; those that died cut into symbols, and at the last attempt into units."""
        if attempt == 1:
            return make_shards(units, self._resources.symbols_per_trial)
        if attempt <= self._resources.trial_retries:
            return make_shards(units, symbols_per_trial=1)
        return [{name: unit} for name, unit in units.items()]

    def _walk(
        self,
        panel: ray.ObjectRef[Panel],
        recipe: Recipe,
        shards: Sequence[Shard],
        attempt: int,
        watcher: _Watcher,
        at_once: int | None,
    ) -> dict[str, str]:
        """Run every shard once; why workers died, by the ids of the units they had."""
        set_up_tune()
        # Each by itself: a worker never holds more of the universe than its shard.
        held = [ray.put(shard) for shard in shards]
        trainable = tune.with_resources(
            tune.with_parameters(
                ShardTrial, panel=[panel], recipe=recipe, shards=held, storage=self._storage, attempt=attempt
            ),
            self._asked,
        )
        tuner = tune.Tuner(
            trainable,
            param_space={"shard": tune.grid_search(list(range(len(shards))))},
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=at_once),
            run_config=tune.RunConfig(
                name=f"tune-{attempt}",
                storage_path=self._storage.uri,
                verbose=0,
                callbacks=[watcher],
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            ),
        )
        deaths: dict[str, str] = {}
        results = tuner.fit()
        for position in range(len(results)):
            result = results[position]
            if result.error is not None:
                assert result.config is not None
                deaths |= dict.fromkeys(shards[result.config["shard"]], last_line(result.error))
        return deaths


def set_up_tune() -> None:
    """Progress is ours to print: no tables, no per-trial result files, no warnings that those are absent.

    An interrupt ends the run: Tune would take it for a wish to go on with what happens to be finished.
    """
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")  # sixty lines for each worker that died
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    _survive_want_of_memory()


def _survive_want_of_memory() -> None:
    """Let a worker that Ray ends for want of memory be one that died: Tune ends with it, as it knows no such error."""
    try:
        from ray.air.execution._internal.actor_manager import RayActorManager

        own: Callable[..., None] = RayActorManager._actor_task_failed
    except (ImportError, AttributeError):  # a Ray that is built otherwise: the run ends, and can be gone on with
        return
    if own.__module__ == __name__:
        return

    def failed(manager: Any, *, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, ray.exceptions.OutOfMemoryError):
            said = (line.partition("OOM kill reason: ")[2] for line in str(exception).splitlines())
            why = next(filter(None, said), "no more is known")
            exception = ray.exceptions.RayActorError(error_msg=f"{_WANT_OF_MEMORY}: {why}")
        own(manager, tracked_actor_task=tracked_actor_task, exception=exception)

    RayActorManager._actor_task_failed = failed  # type: ignore[assignment]
