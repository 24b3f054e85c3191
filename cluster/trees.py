"""Boosted trees grown by Ray Train: the library's boosting on one or several workers, for panels beyond one machine.

Each worker holds its share of the examples only; histograms and the validation loss are added up over all of them.
A run that lost a worker grows its trees again, from the first.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.xgboost

from cluster.train_runs import in_background, set_environment
from swiftbolt.errors import ModelError
from swiftbolt.folds import Fold
from swiftbolt.models.boosted_trees import BoostedTrees, BoostingJob, GrownTrees, grow
from swiftbolt.panel import Panel

_WORKER_FAILURES = 3


@dataclass(frozen=True, kw_only=True)
class RayTreesTrainer:
    """Fits a pooled ``BoostedTrees`` whose trees are grown by Ray Train's workers.

    One worker gives the very trees that growing in-process gives. Several sample rows each from its own share, and a
    leaf's quantile is the mean of theirs: such trees differ from the others about as much as those of another seed do.

    Attributes:
        num_workers: processes that share the examples.
        cpus_per_worker: CPUs reserved for each; no fewer than the model's ``threads``.
        storage_path: folder that all nodes see.
        run_name: folder within it.
    """

    num_workers: int
    cpus_per_worker: float
    storage_path: Path
    run_name: str

    def fit(self, model: BoostedTrees, panel: Panel, fold: Fold, *, seed: int) -> None:
        """See ``BoostedTrees.fit_by`` for what else is raised.

        Raises:
            ValueError: the model's symbols are fitted apart, or it asks for more threads than a worker has CPUs.
            ModelError: workers were lost more than three times.
        """
        if model.scope == "symbol":
            raise ValueError("symbols fitted apart are spread over tasks, not over the workers of one fit")
        if model.config.threads > max(1.0, self.cpus_per_worker):
            raise ValueError(f"the trees ask for more threads than the {self.cpus_per_worker:g} CPUs of a worker")
        model.fit_by(self._grow_all, panel, fold, seed=seed)

    def _grow_all(self, jobs: Iterable[BoostingJob]) -> list[GrownTrees]:
        """One run grows all jobs one after another, because starting workers costs seconds."""
        set_environment()
        # Shares are stored one job at a time, so that this process never holds the examples of two.
        shares = [[ray.put(job.share(rank, self.num_workers)) for rank in range(self.num_workers)] for job in jobs]
        try:
            result = in_background(self._trainer(shares).fit).result()
        except ray.train.TrainingFailedError as exc:
            raise ModelError(f"Ray Train gave up after losing workers {_WORKER_FAILURES + 1} times: {exc}") from exc
        grown: list[GrownTrees] = result.return_value
        return grown

    def _trainer(self, shares: list[list[ray.ObjectRef[BoostingJob]]]) -> ray.train.xgboost.XGBoostTrainer:
        return ray.train.xgboost.XGBoostTrainer(
            _grow_shares,  # type: ignore[arg-type]  # declared as returning nothing; Result.return_value says otherwise
            train_loop_config={"shares": shares},
            scaling_config=ray.train.ScalingConfig(
                num_workers=self.num_workers, resources_per_worker={"CPU": self.cpus_per_worker}
            ),
            run_config=ray.train.RunConfig(  # type: ignore[call-arg]  # mypy sees the one of Train V1
                name=self.run_name,
                storage_path=str(self.storage_path),
                failure_config=ray.train.FailureConfig(max_failures=_WORKER_FAILURES),
                logging_config=ray.train.LoggingConfig(log_level="ERROR"),
            ),
        )


def _grow_shares(config: dict[str, Any]) -> list[GrownTrees]:
    """What each worker does: grow every job's trees from its share, in step with the others."""
    logging.getLogger().setLevel(logging.WARNING)
    rank = ray.train.get_context().get_world_rank()
    return [grow(ray.get(shares[rank])) for shares in config["shares"]]
