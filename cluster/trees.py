"""Boosted trees of all symbols, grown by Ray Train: the library's boosting on one or several workers.

Each worker takes its share of the examples from the panel in the object store, one horizon of one fold at a time;
histograms and the validation loss are added up over all of them. While the next fold is growing, a task forecasts with
the trees of the last one. A fold's trees are a checkpoint: they are not grown again, whoever dies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import ray
import ray.exceptions
import ray.train
import ray.train.xgboost
from threadpoolctl import threadpool_limits

from cluster.run_records import last_line
from cluster.storage import RunStorage
from cluster.train_runs import Files, Keep, Mark, TrainRun, Workers, piece_name, require_threads
from swiftbolt.errors import SwiftBoltError
from swiftbolt.evaluation.outcomes import unit_ids
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.units import OnOutcome, Outcome, Unit
from swiftbolt.models.base import forecast_as_known
from swiftbolt.models.boosted_trees import BoostedTrees, BoostedTreesConfig
from swiftbolt.panel import Panel
from swiftbolt.processes import Meter
from swiftbolt.windows import fold_origins


@dataclass(frozen=True, kw_only=True)
class RayTreesTrainer:
    """Fits pooled ``BoostedTrees`` on many folds, in one run of Ray Train, and forecasts with them in tasks.

    One worker gives the very trees that growing in-process gives. Several sample rows each from its own share, and a
    leaf's quantile is the mean of theirs: such trees differ from the others about as much as those of another seed do.

    Attributes:
        num_workers: processes that share the examples; (least, most) lets them come and go, and a fold is then grown
            again.
        cpus_per_worker: CPUs reserved for each, and for a task that forecasts; no fewer than the model's ``threads``.
        storage: where trees are kept.
        run_name: of folders within it. The name of a run that died takes it up again.
        at_once: folds in growth at a time, each by so many workers; ``auto``: as many as the cluster has room for.
        on_poll: called several times a second; what it raises ends the growing.
        share: puts the panel into the object store, where all workers on a node read it.
    """

    num_workers: int | tuple[int, int]
    cpus_per_worker: float
    storage: RunStorage
    run_name: str
    at_once: int | Literal["auto"] = 1
    on_poll: Callable[[], None] = lambda: None
    share: Callable[[Panel], ray.ObjectRef[Panel]] = ray.put

    def outcomes(self, panel: Panel, recipe: Recipe, units: Sequence[Unit], on_done: OnOutcome) -> list[Outcome]:
        """What ``run_unit`` would leave of each of ``units``, in their order; a fold that fails is its own failure.

        Raises:
            ValueError: a unit is of one symbol or another model, or the trees ask for more threads than a worker has
                CPUs.
            EnvironmentFault: the storage cannot be read or written.
            ModelError: workers were lost too often.
        """
        if any(unit.symbol is not None or unit.model != BoostedTrees.name for unit in units):
            raise ValueError("only trees of all symbols are grown here: other units are spread over trials")
        if not units:
            return []
        config = _config(recipe)
        require_threads(config.threads, self.cpus_per_worker, "the trees ask")
        workers = Workers(count=self.num_workers, cpus=self.cpus_per_worker, use_gpu=config.device == "cuda")
        pieces = [self._piece(panel, name, unit) for name, unit in zip(unit_ids(recipe, units), units, strict=True)]
        unit_of = dict(zip(pieces, units, strict=True))
        run = TrainRun.of(self.storage, self.run_name, unit_of)
        shared = self.share(panel)
        work = _Forecasting(shared, recipe, self.cpus_per_worker, on_done)

        def poll() -> None:
            self.on_poll()
            work.look()

        run.follow(
            lambda part: _trainer(shared, recipe, part, unit_of, workers).fit(),
            lambda piece, mark: work.begin(unit_of[piece], mark, run.files(piece)),
            poll,
            at_once=workers.at_once(self.at_once, len(units)),
        )
        work.finish()
        return [work.outcomes[unit.key] for unit in units]

    def _piece(self, panel: Panel, unit_id: str, unit: Unit) -> str:
        """Names a unit by all that its trees depend on."""
        identity = [unit_id, panel.spec_hash, panel.data_hash, self.num_workers]
        return piece_name(unit.model, unit.fold.index, identity)


def _trainer(
    panel: ray.ObjectRef[Panel], recipe: Recipe, run: TrainRun, unit_of: Mapping[str, Unit], workers: Workers
) -> ray.train.xgboost.XGBoostTrainer:
    return ray.train.xgboost.XGBoostTrainer(
        _grow_units,
        train_loop_config={"panel": panel, "recipe": recipe, "run": run, "unit_of": dict(unit_of)},
        scaling_config=workers.scaling(),
        run_config=run.config(),
    )


def _grow_units(config: dict[str, Any]) -> None:
    """What each worker does."""
    run: TrainRun = config["run"]
    recipe: Recipe = config["recipe"]
    unit_of: dict[str, Unit] = config["unit_of"]
    panel: Panel = ray.get(config["panel"])
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()

    def grow(piece: str, _stood: Files | None, _keep: Keep) -> Mapping[str, bytes]:
        unit, model = unit_of[piece], BoostedTrees(_config(recipe))
        seed = recipe.seed_of(unit.model, unit.fold.index)
        model.fit_share(panel, unit.fold, seed=seed, rank=rank, world_size=world_size)
        return model.dump()

    run.work_through(grow)


@dataclass
class _Forecasting:
    """Tasks that forecast with grown trees, while others grow."""

    panel: ray.ObjectRef[Panel]
    recipe: Recipe
    cpus: float
    on_done: OnOutcome
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    _running: dict[ray.ObjectRef[Outcome], tuple[Unit, Mark]] = field(default_factory=dict)

    def begin(self, unit: Unit, mark: Mark, files: Files) -> None:
        """Start on a unit whose trees are grown, or take note that they could not be."""
        if mark.failure is not None:
            self._end(Outcome(unit=unit, forecasts=None, failure=mark.failure), mark)
            return
        task = _forecast.options(num_cpus=self.cpus).remote(self.panel, self.recipe, unit, files)
        self._running[task] = unit, mark

    def look(self) -> None:
        """Take in what has ended, without waiting."""
        if not self._running:
            return
        ended, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        for task in ended:
            unit, mark = self._running.pop(task)
            try:
                outcome = ray.get(task)
            except ray.exceptions.RayError as exc:  # of one fold: a bug, or a worker that died again and again
                reason = f"its forecasts could not be made: {last_line(exc)}"
                outcome = Outcome(unit=unit, forecasts=None, failure=reason)
            self._end(outcome, mark)

    def finish(self) -> None:
        """Take in the rest, each as it ends."""
        while self._running:
            ray.wait(list(self._running), num_returns=1)
            self.look()

    def _end(self, outcome: Outcome, mark: Mark) -> None:
        outcome = replace(outcome, cost=mark.cost + outcome.cost, attempts=mark.attempts)
        self.outcomes[outcome.unit.key] = outcome
        self.on_done(outcome)


@ray.remote
def _forecast(panel: Panel, recipe: Recipe, unit: Unit, files: Files) -> Outcome:
    """What is left of ``run_unit`` once the trees are grown."""
    with Meter() as meter, threadpool_limits(limits=1):
        try:
            model = BoostedTrees.restore(_config(recipe), files)
            outcome = Outcome(
                unit=unit,
                forecasts=forecast_as_known(model, panel, fold_origins(panel, unit.fold)),
                files=files if unit.fold.is_live else {},
                importance=model.importance(),
            )
        except SwiftBoltError as exc:
            outcome = Outcome(unit=unit, forecasts=None, failure=str(exc))
    return replace(outcome, cost=meter.cost)


def _config(recipe: Recipe) -> BoostedTreesConfig:
    config = recipe.config_of(BoostedTrees.name)
    assert isinstance(config, BoostedTreesConfig)
    return config
