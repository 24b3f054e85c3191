"""Networks trained by Ray Train: the library's epoch loop on one or several workers, CPU (gloo) or GPU (NCCL).

A finished network is a checkpoint of its own (safetensors and JSON), and so is the state of one in training every few
epochs: a run that lost a worker, or was started again under the same name, goes on from there, to the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ray
import ray.exceptions
import ray.train
import ray.train.torch
import torch.distributed
from torch import Tensor

from cluster.run_records import last_line
from cluster.storage import RunStorage
from cluster.train_runs import Files, Keep, Mark, TrainRun, Workers, most, piece_name, require_threads
from swiftbolt.errors import ArtifactMismatch, ModelError
from swiftbolt.forecast import Forecasts
from swiftbolt.models.network_trainers import Fit, NetworkForecasts, OnTrained, Trained, forecast_fold
from swiftbolt.models.trained import TrainedNetwork, TrainingJob
from swiftbolt.models.training import train_network
from swiftbolt.models.training_state import TrainingState, identity_of
from swiftbolt.panel import Panel

_TASK_SYMBOLS = 50  # a minute or less for a year of origins
_STATE_EPOCHS = 5  # a state is some megabytes, and every worker waits while it is written


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
        run_name: of folders within it. The name of a run that died takes it up again.
        at_once: networks in training at a time, each by so many workers; ``auto``: as many as the cluster has room for.
        on_end: told of every job how it ended, before ``on_done`` is.
        share: puts the panel into the object store, where all workers on a node read it.
        on_poll: called several times a second; what it raises ends the training.
    """

    num_workers: int | tuple[int, int]
    cpus_per_worker: float
    use_gpu: bool | Literal["auto"]
    storage: RunStorage
    run_name: str
    at_once: int | Literal["auto"] = 1
    on_end: Callable[[TrainingJob, Mark], None] = lambda job, mark: None
    on_poll: Callable[[], None] = lambda: None
    share: Callable[[Panel], ray.ObjectRef[Panel]] = ray.put

    @property
    def is_reproducible(self) -> bool:
        """Whether another such run gives the same bytes: workers that come and go add up gradients otherwise."""
        return isinstance(self.num_workers, int)

    def train(self, panel: Panel, jobs: Sequence[TrainingJob], on_done: OnTrained) -> list[Trained]:
        """See ``swiftbolt.models.network_trainers.NetworkTrainer``.

        Raises:
            ValueError: a job asks for more threads than a worker has CPUs.
            EnvironmentFault: the storage cannot be read or written.
            ModelError: workers were lost too often.
        """
        for job in jobs:
            require_threads(job.config.threads, self.cpus_per_worker, "a job asks")
        workers = Workers(count=self.num_workers, cpus=self.cpus_per_worker, use_gpu=self._use_gpu())
        pieces = [self._piece(panel, job) for job in jobs]
        job_of = dict(zip(pieces, jobs, strict=True))
        run = TrainRun.of(self.storage, self.run_name, job_of)

        def tell(piece: str, mark: Mark) -> None:
            self.on_end(job_of[piece], mark)
            on_done(job_of[piece], mark.failure)

        shared = self.share(panel)
        run.follow(
            lambda part: _trainer(shared, part, job_of, workers).fit(),
            tell,
            self.on_poll,
            at_once=workers.at_once(self.at_once, len(jobs)),
        )
        return [_trained(run, piece) for piece in pieces]

    def forecast(self, panel: Panel, fits: Sequence[Fit]) -> list[NetworkForecasts]:
        """See ``swiftbolt.models.network_trainers.NetworkTrainer``; a task for some symbols of each fold.

        Raises:
            ModelError: a task failed, or died again and again.
        """
        shared = self.share(panel)
        parts = [panel.symbols[start : start + _TASK_SYMBOLS] for start in range(0, len(panel.symbols), _TASK_SYMBOLS)]
        task = ray.remote(num_cpus=1)(_forecast_symbols)
        held = [ray.put(fit) for fit in fits]
        try:
            done = iter(ray.get([task.remote(shared, symbols, fit) for fit in held for symbols in parts]))
        except ray.exceptions.RayError as exc:
            raise ModelError(f"forecasts of a network could not be made: {last_line(exc)}") from exc
        return [_joined(job, [next(done) for _ in parts]) for job, _ in fits]

    def _use_gpu(self) -> bool:
        if self.use_gpu != "auto":
            return self.use_gpu
        return bool(ray.cluster_resources().get("GPU", 0) >= most(self.num_workers))  # type: ignore[no-untyped-call]

    def _piece(self, panel: Panel, job: TrainingJob) -> str:
        """Names a job by all that its network depends on: what is trained, on what, and by how many."""
        identity = [identity_of(panel, job, most(self.num_workers)), self.num_workers]
        return piece_name(job.name, job.fold.index, identity)


def _trainer(
    panel: ray.ObjectRef[Panel], run: TrainRun, job_of: Mapping[str, TrainingJob], workers: Workers
) -> ray.train.torch.TorchTrainer:
    return ray.train.torch.TorchTrainer(
        _train_jobs,
        train_loop_config={"panel": panel, "run": run, "job_of": dict(job_of)},
        scaling_config=workers.scaling(),
        run_config=run.config(),
    )


def _trained(run: TrainRun, piece: str) -> Trained:
    failure = run.mark(piece).failure
    return TrainedNetwork.from_files(run.files(piece)) if failure is None else failure


def _forecast_symbols(panel: Panel, symbols: Sequence[str], fit: Fit) -> NetworkForecasts:
    return forecast_fold(panel.select(symbols), fit)


def _joined(job: TrainingJob, parts: Sequence[NetworkForecasts]) -> NetworkForecasts:
    """The parts of one fold; they have the network in common."""
    return NetworkForecasts(
        forecasts=Forecasts.concatenate([Forecasts.empty(job.name), *(part.forecasts for part in parts)]),
        files=parts[0].files,
        notes=tuple(sorted({note for part in parts for note in part.notes})),
    )


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
