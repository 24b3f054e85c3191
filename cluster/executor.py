"""Where the fits of a retrain run: symbols apart by Tune, those of all symbols by Train; the ledger is told of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.fan_out import Ledger, TuneExecutor
from cluster.kept_outcomes import KeptOutcomes, keep_outcomes
from cluster.networks import RayNetworkTrainer
from cluster.storage import RunStorage
from cluster.train_runs import Mark
from cluster.trees import RayTreesTrainer
from swiftbolt.evaluation.outcomes import unit_ids
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.units import OnOutcome, Outcome, Unit
from swiftbolt.models.network_trainers import Fit, NetworkForecasts, OnTrained, Trained
from swiftbolt.models.trained import TrainingJob
from swiftbolt.panel import Panel


@dataclass(frozen=True, kw_only=True)
class RayExecutor:
    """``Executor`` over a Ray cluster. What its parts have done lies in the run's storage and is not done again."""

    apart: TuneExecutor
    pooled: RayTreesTrainer
    storage: RunStorage
    ledger: Ledger

    def run(self, panel: Panel, recipe: Recipe, units: Sequence[Unit], on_done: OnOutcome) -> list[Outcome]:
        """See ``Executor`` and ``TuneExecutor.run``.

        Raises:
            ModelError: workers of pooled fits were lost too often.
        """
        outcomes = self.apart.run(panel, recipe, [unit for unit in units if unit.symbol is not None], on_done)
        outcomes += self._pooled(panel, recipe, [unit for unit in units if unit.symbol is None], on_done)
        by_key = {outcome.unit.key: outcome for outcome in outcomes}
        return [by_key[unit.key] for unit in units]

    def _pooled(self, panel: Panel, recipe: Recipe, units: Sequence[Unit], on_done: OnOutcome) -> list[Outcome]:
        self.ledger.planned(units)
        wanted = dict(zip(unit_ids(recipe, units), units, strict=True))
        kept = KeptOutcomes(self.storage, wanted)
        before = list(kept.look().values())
        self.ledger.finished(before)
        for outcome in before:
            on_done(outcome)
        if kept.missing:
            names = {unit.key: name for name, unit in kept.missing.items()}

            def keep(outcome: Outcome) -> None:
                keep_outcomes(self.storage, {names[outcome.unit.key]: outcome})
                self.ledger.finished([outcome])
                on_done(outcome)

            self.pooled.outcomes(panel, recipe, list(kept.missing.values()), keep)
            kept.look()
        outcomes = kept.read()
        return [outcomes[name] for name in wanted]


@dataclass(frozen=True, kw_only=True)
class RecordedTrainer:
    """``NetworkTrainer`` whose networks are told to the ledger."""

    trainer: RayNetworkTrainer
    ledger: Ledger

    def train(self, panel: Panel, jobs: Sequence[TrainingJob], on_done: OnTrained) -> list[Trained]:
        """See ``RayNetworkTrainer.train``."""

        def record(job: TrainingJob, mark: Mark) -> None:
            ended = Outcome(
                unit=_unit(job), forecasts=None, failure=mark.failure, cost=mark.cost, attempts=mark.attempts
            )
            self.ledger.finished([ended])

        self.ledger.planned([_unit(job) for job in jobs])
        return replace(self.trainer, on_end=record).train(panel, jobs, on_done)

    def forecast(self, panel: Panel, fits: Sequence[Fit]) -> list[NetworkForecasts]:
        """See ``RayNetworkTrainer.forecast``."""
        return self.trainer.forecast(panel, fits)


def _unit(job: TrainingJob) -> Unit:
    return Unit(model=job.name, fold=job.fold, symbol=None)
