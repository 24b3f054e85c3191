"""Ray Tune as a sweep's engine: Optuna suggests configurations, reused actors walk folds, ASHA ends what falls behind.

Optuna's and Tune's own states are pickles and are never read: a search goes on from our records of its trials.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from cluster.fan_out import set_up_tune
from cluster.sweep_objective import Course, score_fold
from swiftbolt.artifact import code_version
from swiftbolt.errors import EnvironmentFault, SwiftBoltError
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.search_space import Dimension, Parameters, Space, settings_of, written
from swiftbolt.evaluation.sweep_results import PENALTY, FoldScore, SweepFolder, SweepPlan, SweepTrial, running_loss
from swiftbolt.panel import Panel

METRIC, MODE, TIME = "loss", "min", "folds_done"


def distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    """What Optuna draws from. Options are drawn as JSON text: it keeps no lists, and takes 1 and true for equal."""
    if dimension.choice is not None:
        return optuna.distributions.CategoricalDistribution([written(option) for option in dimension.choice])
    if dimension.int is not None:
        return optuna.distributions.IntDistribution(*dimension.int, step=dimension.step)
    return optuna.distributions.FloatDistribution(*dimension.bounds, log=dimension.loguniform is not None)


def encoded(space: Space, parameters: Parameters) -> Parameters:
    """As Optuna knows them."""
    return {key: written(value) if space[key].choice is not None else value for key, value in parameters.items()}


def decoded(space: Space, drawn: Mapping[str, Any]) -> Parameters:
    """As the model's settings take them, in the order of the space."""
    options = {key: {written(option): option for option in one.choice or ()} for key, one in space.items()}
    return {key: options[key][drawn[key]] if options[key] else drawn[key] for key in space}


def seed_of_trial(recipe: Recipe, parameters: Parameters) -> int:
    """A seed of its own for each configuration, the same whenever and wherever it is tried."""
    return recipe.seed_of("sweep", written(parameters))


class ConfigurationTrial(tune.Trainable):
    """Walks one configuration after another over the folds; the actor and its view of the panel are reused."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], panel: Panel, recipe: Recipe, plan: SweepPlan, courses: list[Course]
    ) -> None:
        """Called once per actor; ``panel`` is read from the object store without a copy."""
        self._panel, self._recipe, self._plan, self._courses = panel, recipe, plan, courses
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take on another configuration in the same actor."""
        self._parameters = decoded(self._plan.space, new_config)
        self._scores: list[FoldScore] = []
        self._seconds = 0.0
        return True

    def step(self) -> dict[str, Any]:
        """Walk the next fold. A configuration that fails is an answer, with the penalty for its loss."""
        started = time.perf_counter()
        failure = None
        try:
            settings = settings_of(
                self._recipe.models[self._plan.model], self._parameters, f"a trial of {self._plan.model}"
            )
            recipe = replace(
                self._recipe,
                models={self._plan.model: settings},
                seed=seed_of_trial(self._recipe, self._parameters),
            )
            course = self._courses[len(self._scores)]
            self._scores.append(score_fold(self._panel, recipe, self._plan.model, course))
        except SwiftBoltError as exc:
            failure = str(exc)
        self._seconds += time.perf_counter() - started
        return {
            METRIC: PENALTY if failure else running_loss([score.loss for score in self._scores]),
            TIME: len(self._scores),
            "scores": [asdict(score) for score in self._scores],
            "failure": failure,
            "seconds": self._seconds,
            "done": failure is not None or len(self._scores) == len(self._courses),
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial whose worker died begins again."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing."""


class Recorder(tune.Callback):
    """Writes what trials show into the sweep's folder as they show it."""

    def __init__(
        self,
        folder: SweepFolder,
        plan: SweepPlan,
        recipe: Recipe,
        ended: Sequence[SweepTrial],
        on_ended: OnEnded,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder, self._plan, self._recipe, self._on_ended, self._alive = folder, plan, recipe, on_ended, alive
        self._fault: EnvironmentFault | None = None
        self._ended = list(ended)
        taken = {one.number for one in ended}
        self._numbers = (number for number in count() if number not in taken)
        self._known: dict[str, SweepTrial] = {}
        self._code = code_version()

    def __getstate__(self) -> dict[str, Any]:
        """Tune keeps a pickle of every callback beside the run; nobody reads it, and a store cannot be pickled."""
        return {}

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """Called in the driver many times a second.

        Raises:
            EnvironmentFault: what trials show cannot be kept.
        """
        self._alive()
        if self._fault is not None:
            raise self._fault

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Called in the driver whenever a trial is given to an actor."""
        self._begin(trial)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Called after every fold of every trial."""
        scores = tuple(FoldScore(**score) for score in result["scores"])
        failure = result["failure"]
        known = replace(self._known[trial.trial_id], folds=scores, reason=failure, seconds=result["seconds"])
        self._note(trial, known)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Called when a trial has walked every fold, has failed at one, or is ended by the scheduler."""
        known = self._known[trial.trial_id]
        done, all_of_them = len(known.folds), len(self._plan.folds)
        if known.reason is not None:
            self._end(trial, replace(known, state="failed"))
        elif done < all_of_them:
            self._end(trial, replace(known, state="pruned", reason=f"pruned after {done} of {all_of_them} folds"))
        else:
            self._end(trial, replace(known, state="complete"))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Called when a trial's worker has died too often, or what it ran has a bug."""
        lines = str(trial.get_error()).strip().splitlines()
        reason = f"its worker died: {lines[-1] if lines else 'no reason given'}"
        self._begin(trial)  # a worker that died while it started was never given it
        self._end(trial, replace(self._known[trial.trial_id], state="failed", reason=reason))

    def _begin(self, trial: Any) -> None:
        """Take up a trial that is not known yet."""
        if trial.trial_id in self._known:
            return
        parameters = decoded(self._plan.space, trial.config)
        begun = SweepTrial(
            number=next(self._numbers),
            parameters=parameters,
            seed=seed_of_trial(self._recipe, parameters),
            state="running",
            folds=(),
            reason=None,
            seconds=0.0,
            code_version=self._code,
        )
        self._note(trial, begun)

    def _note(self, trial: Any, known: SweepTrial) -> None:
        self._known[trial.trial_id] = known
        try:
            self._folder.write_trial(known)
        except EnvironmentFault as exc:
            self._fault = exc  # raised at the next step: from here Tune would swallow it, and wait for ever

    def _end(self, trial: Any, known: SweepTrial) -> None:
        self._note(trial, known)
        self._ended.append(known)
        self._on_ended(self._ended)


OnEnded = Callable[[Sequence[SweepTrial]], None]
"""Told of all trials that have ended, the last one last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """One stretch of a sweep.

    Attributes:
        recipe: the base's settings, and the seed that all seeds are made of.
        storage: folder for Tune's own files.
        alive: called in the driver many times a second; what it raises ends the search.
    """

    folder: SweepFolder
    plan: SweepPlan
    recipe: Recipe
    storage: Path
    on_ended: OnEnded
    alive: Callable[[], None]

    def run(
        self,
        panel: Panel,
        courses: Sequence[Course],
        *,
        ended: Sequence[SweepTrial],
        first: Sequence[Parameters],
        cpus: float,
        gpus: float,
        retries: int,
    ) -> None:
        """Try as many configurations as are missing.

        Args:
            ended: what the search knows already.
            first: configurations to try before it makes its own suggestions.
        """
        set_up_tune()
        trainable = tune.with_resources(
            tune.with_parameters(
                ConfigurationTrial, panel=panel, recipe=self.recipe, plan=self.plan, courses=list(courses)
            ),
            {"cpu": cpus, "gpu": gpus},
        )
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=self.searcher(ended, first),
                scheduler=self.scheduler(ended),
                num_samples=self.plan.trials - len(ended),
                # Without this, Tune asks a search for one trial at a time.
                max_concurrent_trials=trials_at_once(ray.cluster_resources(), cpus, gpus),  # type: ignore[no-untyped-call]
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=f"{self.folder.run}-trials",
                storage_path=str(self.storage),
                verbose=0,
                callbacks=[Recorder(self.folder, self.plan, self.recipe, ended, self.on_ended, self.alive)],
                failure_config=tune.FailureConfig(max_failures=retries),
            ),
        ).fit()

    def searcher(self, ended: Sequence[SweepTrial], first: Sequence[Parameters]) -> OptunaSearch:
        """A new search that knows of ``ended`` what the old one was told.

        Its seed depends on how many those are: with the old one it would suggest again what it began with.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        space = self.plan.space
        search = OptunaSearch(
            {key: distribution(one) for key, one in space.items()},
            metric=METRIC,
            mode=MODE,
            points_to_evaluate=[encoded(space, point) for point in first],
            sampler=optuna.samplers.TPESampler(seed=self.recipe.seed_of("search", len(ended))),
        )
        for one in ended:
            search.add_evaluated_point(encoded(space, one.parameters), one.loss)
        return search

    def scheduler(self, ended: Sequence[SweepTrial]) -> ASHAScheduler:
        """Holds new trials against each other and against what ``ended`` showed after as many folds."""
        halving = ASHAScheduler(
            time_attr=TIME,
            metric=METRIC,
            mode=MODE,
            max_t=len(self.plan.folds),
            grace_period=self.plan.grace_folds,
            reduction_factor=self.plan.reduction_factor,
        )
        for one in ended:
            past: Any = SimpleNamespace(trial_id=f"ended-{one.number}")
            controller: Any = None  # it decides nothing here
            halving.on_trial_add(controller, past)
            for done, loss in enumerate(one.running_losses, start=1):
                halving.on_trial_result(controller, past, {TIME: done, METRIC: loss})
            halving.on_trial_remove(controller, past)
        return halving


def trials_at_once(granted: Mapping[str, float], cpus: float, gpus: float) -> int:
    """As many as the cluster has room for, at least one."""
    rooms = [granted.get("CPU", 1.0) / cpus]
    if gpus:
        rooms.append(granted.get("GPU", 0.0) / gpus)
    return max(1, int(min(rooms)))
