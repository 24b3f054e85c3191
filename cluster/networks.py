"""Networks trained by Ray Train: the library's epoch loop on one or several workers, CPU (gloo) or GPU (NCCL).

A finished network is a checkpoint of its own (safetensors and JSON), and so is the state of one in training every few
epochs: a run that lost a worker, or was started again under the same name, goes on from there, to the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ray
import ray.train
import ray.train.torch
import torch.distributed
from torch import Tensor

from cluster.storage import RunStorage
from cluster.train_runs import Files, Keep, Mark, TrainRun, most
from swiftbolt.errors import ArtifactMismatch
from swiftbolt.models.networks import OnTrained, Trained, TrainedNetwork, TrainingJob
from swiftbolt.models.training import train_network
from swiftbolt.models.training_state import TrainingState, identity_of
from swiftbolt.panel import Panel
from swiftbolt.processes import Cost

_STATE_EPOCHS = 5  # a state is some megabytes, and every worker waits while it is written


def _ignore(job: TrainingJob, cost: Cost, attempts: int) -> None:
    """Nobody asks what it cost."""


@dataclass(frozen=True, kw_only=True)
class RayNetworkTrainer:
    """A ``NetworkTrainer`` whose work is done by Ray Train's workers.

    One worker gives the very networks that training in-process gives; several give the same up to the
    order in which their gradients are added.

    Attributes:
        num_workers: processes that share each batch. (least, most) lets them come and go; a network in training is then
            begun again.
        cpus_per_worker: CPUs reserved for each; no fewer than a job's ``threads``.
        use_gpu: one GPU for each worker; ``auto`` if the cluster has that many.
        storage: where networks and states are kept.
        run_name: folder within it. The name of a run that died takes it up again.
        on_cost: told of every job that ended, its cost (see ``Mark``) and how often it was begun.
    """

    num_workers: int | tuple[int, int]
    cpus_per_worker: float
    use_gpu: bool | Literal["auto"]
    storage: RunStorage
    run_name: str
    on_cost: Callable[[TrainingJob, Cost, int], None] = _ignore

    @property
    def is_reproducible(self) -> bool:
        """Whether another such run gives the same bytes: workers that come and go add up gradients otherwise."""
        return isinstance(self.num_workers, int)

    def train(self, panel: Panel, jobs: Sequence[TrainingJob], on_done: OnTrained) -> list[Trained]:
        """See ``swiftbolt.models.networks.NetworkTrainer``.

        Raises:
            ValueError: a job asks for more threads than a worker has CPUs.
            EnvironmentFault: the storage cannot be read or written.
            ModelError: workers were lost too often.
        """
        if any(job.config.threads > max(1.0, self.cpus_per_worker) for job in jobs):
            raise ValueError(f"a job asks for more threads than the {self.cpus_per_worker:g} CPUs of a worker")
        pieces = [self._piece(panel, job) for job in jobs]
        job_of = dict(zip(pieces, jobs, strict=True))
        run = TrainRun.of(self.storage, self.run_name, job_of)

        def tell(piece: str, mark: Mark) -> None:
            self.on_cost(job_of[piece], mark.cost, mark.attempts)
            on_done(job_of[piece], mark.failure)

        run.follow(lambda: self._trainer(panel, run, job_of).fit(), tell)
        return [_trained(run, piece) for piece in pieces]

    def _trainer(self, panel: Panel, run: TrainRun, job_of: Mapping[str, TrainingJob]) -> ray.train.torch.TorchTrainer:
        use_gpu = self.use_gpu
        if use_gpu == "auto":
            use_gpu = ray.cluster_resources().get("GPU", 0) >= most(self.num_workers)  # type: ignore[no-untyped-call]
        return ray.train.torch.TorchTrainer(
            _train_jobs,
            # The panel is stored once; workers on a node share its memory.
            train_loop_config={"panel": ray.put(panel), "run": run, "job_of": dict(job_of)},
            scaling_config=ray.train.ScalingConfig(
                num_workers=self.num_workers,  # type: ignore[arg-type]  # mypy sees the one of Train V1
                use_gpu=use_gpu,
                resources_per_worker={"CPU": self.cpus_per_worker},
            ),
            run_config=run.config(),
        )

    def _piece(self, panel: Panel, job: TrainingJob) -> str:
        """Names a job by all that its network depends on: what is trained, on what, and by how many."""
        identity = json.dumps([identity_of(panel, job, most(self.num_workers)), self.num_workers])
        return f"{job.name}_{job.fold.index:02d}_{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _trained(run: TrainRun, piece: str) -> Trained:
    failure = run.mark(piece).failure
    return TrainedNetwork.from_files(run.files(piece)) if failure is None else failure


def _train_jobs(config: dict[str, Any]) -> None:
    """What each worker does."""
    run: TrainRun = config["run"]
    job_of: dict[str, TrainingJob] = config["job_of"]
    panel: Panel = ray.get(config["panel"])
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()

    def train(piece: str, stood: Files | None, keep: Keep) -> Mapping[str, bytes]:
        def keep_state(epoch: int, state: Callable[[], TrainingState]) -> None:
            if epoch % _STATE_EPOCHS == 0:  # all workers count the same epochs
                keep(f"epoch_{epoch:03d}", lambda: state().to_files())

        return train_network(
            panel,
            job_of[piece],
            rank=rank,
            world_size=world_size,
            all_reduce=_all_reduce if world_size > 1 else None,
            device=ray.train.torch.get_device(),
            resume=resumable(stood, identity_of(panel, job_of[piece], world_size)),
            on_epoch=keep_state,
        ).to_files()

    run.work_through(train)


def resumable(stood: Files | None, identity: str) -> TrainingState | None:
    """Where to go on from; nowhere, if so many workers cannot, or nobody can."""
    if stood is None:
        return None
    try:
        state = TrainingState.from_files(stood)
    except ArtifactMismatch:
        return None
    return state if state.identity == identity else None


def _all_reduce(tensor: Tensor) -> None:
    torch.distributed.all_reduce(tensor)
