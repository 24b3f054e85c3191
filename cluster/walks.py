"""The walks of one retrain over one panel, on the cluster: the challenger's, and the champion's it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from cluster.executor import RayExecutor, RecordedTrainer
from cluster.fan_out import Ledger, NoLedger, TuneExecutor
from cluster.networks import RayNetworkTrainer
from cluster.patience import Patience
from cluster.progress import Renamed
from cluster.resources import Resources
from cluster.run_records import Line
from cluster.storage import RunStorage
from cluster.trees import RayTreesTrainer
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.walk_forward import Progress, WalkForward, walk_forward
from swiftbolt.folds import Fold
from swiftbolt.panel import Panel


@dataclass(kw_only=True)
class Walks:
    """What all walks of a run share. What one has done lies in the run's storage, and no other does it again.

    Attributes:
        alive: called in the driver all the time; what it raises ends the walk.
    """

    panel: Panel
    least_history: int
    resources: Resources
    storage: RunStorage
    alive: Callable[[], None]
    write: Line

    def __post_init__(self) -> None:
        resources = self.resources
        workers = resources.train_workers
        self._patience = Patience(
            what="a training",
            asked={"CPU": resources.cpus_per_train_worker * (workers if isinstance(workers, int) else workers[0])},
            key="resources.train_workers",
            wait_s=resources.wait_s,
            write=self.write,
        )
        self._shared = ray.put(self.panel)  # once for all walks and their parts
        alike: dict[str, Any] = {
            "num_workers": workers,
            "cpus_per_worker": resources.cpus_per_train_worker,
            "storage": self.storage,
            "at_once": resources.trainings_at_once,
            "on_poll": self._poll,
            "share": self._share,
        }
        self._networks = RayNetworkTrainer(run_name="networks", use_gpu=resources.use_gpu, **alike)
        self._trees = RayTreesTrainer(run_name="trees", **alike)

    @property
    def is_reproducible(self) -> bool:
        """Whether another such walk gives the same bits."""
        return self._networks.is_reproducible

    def challenger(self, folds: Sequence[Fold], recipe: Recipe, ledger: Ledger, progress: Progress) -> WalkForward:
        """Every fold, the live one too."""
        return self._walk(folds, recipe, ledger, progress)

    def champion(self, folds: Sequence[Fold], recipe: Recipe, progress: Progress) -> WalkForward:
        """The test folds; what both recipes have in common is not fitted twice."""
        tested = [fold for fold in folds if not fold.is_live]
        return self._walk(tested, recipe, NoLedger(), Renamed(progress, "champion's "))

    def _walk(self, folds: Sequence[Fold], recipe: Recipe, ledger: Ledger, progress: Progress) -> WalkForward:
        apart = TuneExecutor(
            self.resources, self.storage, ledger=ledger, alive=self.alive, write=self.write, share=self._share
        )
        return walk_forward(
            self.panel,
            folds,
            recipe,
            least_history=self.least_history,
            executor=RayExecutor(apart=apart, pooled=self._trees, storage=self.storage, ledger=ledger),
            trainer=RecordedTrainer(trainer=self._networks, ledger=ledger),
            progress=progress,
        )

    def _poll(self) -> None:
        """What is looked after while Train is at work."""
        self.alive()
        self._patience.look_at_cluster()

    def _share(self, panel: Panel) -> ray.ObjectRef[Panel]:
        return self._shared if panel is self.panel else ray.put(panel)
