"""Networks trained by Ray Train: the library's epoch loop on one or several workers, CPU (gloo) or GPU (NCCL).

One run trains all jobs one after another, because starting workers costs seconds. A finished network is
a checkpoint of its own (safetensors and JSON), and so is the state of one in training every few epochs: a run that lost
a worker, or was started again under the same name, goes on from there and ends in the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import ray
import ray.train
import ray.train.torch
import torch.distributed
from torch import Tensor

from cluster.train_runs import in_background, set_environment
from swiftbolt.errors import ModelError, SwiftBoltError
from swiftbolt.models.networks import TrainedNetwork, TrainingJob
from swiftbolt.models.training import train_network
from swiftbolt.models.training_state import TrainingState
from swiftbolt.panel import Panel

_RUN_FILE = "run.json"
_JOB_FILE = "job.json"
_STATE_EPOCHS = 5  # a state is some megabytes, and every worker waits while it is written
_WORKER_FAILURES = 3
_POLL_S = 0.25


@dataclass(frozen=True, kw_only=True)
class RayNetworkTrainer:
    """A ``NetworkTrainer`` whose work is done by Ray Train's workers.

    One worker gives the very networks that training in-process gives; several give the same up to the
    order in which their gradients are added.

    Attributes:
        num_workers: processes that share each batch.
        cpus_per_worker: CPUs reserved for each; no fewer than a job's ``threads``.
        use_gpu: one GPU for each worker; ``auto`` if the cluster has that many.
        storage_path: folder that all nodes see.
        run_name: folder within it. The name of an unfinished run takes that run up again.
    """

    num_workers: int
    cpus_per_worker: float
    use_gpu: bool | Literal["auto"]
    storage_path: Path
    run_name: str

    def train(
        self, panel: Panel, jobs: Sequence[TrainingJob], on_done: Callable[[TrainingJob], None]
    ) -> list[TrainedNetwork]:
        """See ``swiftbolt.models.networks.NetworkTrainer``.

        Raises:
            ValueError: a job asks for more threads than a worker has CPUs, or the run's folder holds another run.
            SwiftBoltError: what training a job raised.
            ModelError: workers were lost more than three times.
        """
        if not jobs:
            return []
        if max(job.config.threads for job in jobs) > max(1.0, self.cpus_per_worker):
            raise ValueError(f"a job asks for more threads than the {self.cpus_per_worker:g} CPUs of a worker")
        folders = [self.storage_path / self.run_name / _folder(index) for index in range(len(jobs))]
        self._refuse_other_run(folders[0], self._digest(panel, jobs))
        set_environment()
        result = in_background(self._trainer(panel, jobs).fit)
        told = 0
        while not result.done():
            wait([result], timeout=_POLL_S)
            while told < len(jobs) and (folders[told] / _RUN_FILE).exists():
                on_done(jobs[told])
                told += 1
        try:
            failure = result.result().return_value
        except ray.train.TrainingFailedError as exc:
            raise ModelError(f"Ray Train gave up after losing workers {_WORKER_FAILURES + 1} times: {exc}") from exc
        if failure is not None:
            raise failure
        for job in jobs[told:]:
            on_done(job)
        return [TrainedNetwork.from_files(_read(folder)) for folder in folders]

    def _trainer(self, panel: Panel, jobs: Sequence[TrainingJob]) -> ray.train.torch.TorchTrainer:
        use_gpu = self.use_gpu
        if use_gpu == "auto":
            use_gpu = ray.cluster_resources().get("GPU", 0) >= self.num_workers  # type: ignore[no-untyped-call]
        return ray.train.torch.TorchTrainer(
            _train_jobs,  # type: ignore[arg-type]  # declared as returning nothing; Result.return_value says otherwise
            # The panel is stored once; workers on a node share its memory.
            train_loop_config={"panel": ray.put(panel), "jobs": list(jobs), "digest": self._digest(panel, jobs)},
            scaling_config=ray.train.ScalingConfig(
                num_workers=self.num_workers, use_gpu=use_gpu, resources_per_worker={"CPU": self.cpus_per_worker}
            ),
            run_config=ray.train.RunConfig(  # type: ignore[call-arg]  # mypy sees the one of Train V1
                name=self.run_name,
                storage_path=str(self.storage_path),
                failure_config=ray.train.FailureConfig(max_failures=_WORKER_FAILURES),
                logging_config=ray.train.LoggingConfig(log_level="ERROR"),
            ),
        )

    def _digest(self, panel: Panel, jobs: Sequence[TrainingJob]) -> str:
        """Identifies what the run is to train, on what, and by how many: all that its networks depend on."""
        described = [(job.name, job.config.model_dump(mode="json"), job.fold.to_json(), job.seed) for job in jobs]
        identity = [self.num_workers, panel.data_hash, panel.spec_hash, described]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def _refuse_other_run(self, folder: Path, digest: str) -> None:
        if (folder / _RUN_FILE).exists() and _read_digest(folder) != digest:
            raise ValueError(f"{folder.parent} holds the networks of another run: choose another run name")


def _train_jobs(config: dict[str, Any]) -> SwiftBoltError | None:
    """What each worker does: train the jobs that are not yet done, and report each as a checkpoint.

    Returns:
        The error that training raised. It would come again, so it must not count as a lost worker.
    """
    logging.getLogger().setLevel(logging.WARNING)  # else every report is announced on the console
    panel: Panel = ray.get(config["panel"])
    jobs: list[TrainingJob] = config["jobs"]
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    begun, resume = _where_it_stood()
    for index in range(begun, len(jobs)):
        try:
            trained = train_network(
                panel,
                jobs[index],
                rank=rank,
                world_size=world_size,
                all_reduce=_all_reduce if world_size > 1 else None,
                device=ray.train.torch.get_device(),
                resume=resume,
                on_epoch=partial(_report_state, index, write=rank == 0),
            )
        except SwiftBoltError as failure:
            return failure
        resume = None
        about = json.dumps({"job": index, "digest": config["digest"]}).encode()
        _report(index, _folder(index), {**trained.to_files(), _RUN_FILE: about}, write=rank == 0)
    return None


def _where_it_stood() -> tuple[int, TrainingState | None]:
    """The job to begin with, and from which state, as the newest checkpoint tells."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0, None
    with checkpoint.as_directory() as folder:
        files = _read(Path(folder))
    if _RUN_FILE in files:
        return int(json.loads(files[_RUN_FILE])["job"]) + 1, None
    return int(json.loads(files[_JOB_FILE])["job"]), TrainingState.from_files(files)


def _report_state(index: int, epoch: int, state: Callable[[], TrainingState], *, write: bool) -> None:
    """Hand in where a training stands, every few epochs; all workers count the same epochs."""
    if epoch % _STATE_EPOCHS == 0:
        files = {**state().to_files(), _JOB_FILE: json.dumps({"job": index}).encode()} if write else {}
        _report(index, f"{_folder(index)}_epoch_{epoch:03d}", files, write=write)


def _all_reduce(tensor: Tensor) -> None:
    torch.distributed.all_reduce(tensor)


def _report(index: int, name: str, files: Mapping[str, bytes], *, write: bool) -> None:
    """A barrier of all workers, at which one of them hands in the checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        if write:
            for file, content in files.items():
                (Path(folder) / file).write_bytes(content)
        checkpoint = ray.train.Checkpoint.from_directory(folder) if write else None
        ray.train.report({"job": index}, checkpoint=checkpoint, checkpoint_dir_name=name)


def _folder(index: int) -> str:
    return f"job_{index:04d}"


def _read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _read_digest(folder: Path) -> str:
    return str(json.loads((folder / _RUN_FILE).read_bytes())["digest"])
