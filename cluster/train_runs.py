"""Runs of Ray Train as pieces of work that their workers do one after another, each once, whoever dies meanwhile.

A run does many, because starting workers costs seconds; several runs at once share them, because workers that share
one piece have to wait for each other. What a piece leaves is a checkpoint of its own; a mark
beside the run's folder, written last, says that it ended, how, and what it took. A run that lost a worker, or was
started again under the same name, goes on with the pieces that have no mark. Knows nothing of what a piece is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ALL_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import ray
import ray.train
import ray.train.collective

from cluster.run_records import last_line
from cluster.storage import RunStorage
from swiftbolt.errors import EnvironmentFault, ModelError, SwiftBoltError
from swiftbolt.processes import Cost, Meter

Files = dict[str, bytes]
Keep = Callable[[str, Callable[[], Mapping[str, bytes]]], None]
"""Hands in where a piece stands, by a label and the files to go on from; called by all workers alike."""
Work = Callable[[str, Files | None, Keep], Mapping[str, bytes]]
"""Does the named piece, from where it stood if that is known; gives its files, of which those of rank 0 are kept."""

_PIECE_FILE = "piece.json"
_WORKER_FAILURES = 3
_POLL_S = 0.25

# Ray Train reads these in the driver and hands them to its controller. A finished worker is noticed sooner than after
# the usual two seconds; on one machine there is no node whose withdrawal could be foreseen.
_ENVIRONMENT = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
_ONE_NODE_ENVIRONMENT = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """How a piece ended.

    Attributes:
        failure: None, or a sentence.
        cost: of the attempt that ended it: wall time, CPU-seconds of all workers, the highest peak among them.
        attempts: how often it was begun, by whichever driver.
    """

    failure: str | None
    cost: Cost
    attempts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """Who shares a training.

    Attributes:
        count: processes; (least, most) where they come and go.
        cpus: reserved for each.
        use_gpu: one GPU for each.
    """

    count: int | tuple[int, int]
    cpus: float
    use_gpu: bool

    def scaling(self) -> ray.train.ScalingConfig:
        """As Ray's trainers take it."""
        return ray.train.ScalingConfig(
            num_workers=self.count,  # type: ignore[arg-type]  # mypy sees the one of Train V1
            use_gpu=self.use_gpu,
            resources_per_worker={"CPU": self.cpus},
        )

    def at_once(self, wanted: int | Literal["auto"], pieces: int) -> int:
        """How many trainings run side by side: as wanted, or as the cluster would hold if it were idle."""
        if wanted != "auto":
            return min(wanted, pieces)
        there: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        room = there.get("CPU", 0.0) / (self.cpus * most(self.count))
        if self.use_gpu:
            room = min(room, there.get("GPU", 0.0) / most(self.count))
        return min(max(1, int(room)), pieces)


def require_threads(threads: int, cpus: float, who: str) -> None:
    """Refuse more threads than a worker has CPUs.

    Raises:
        ValueError: ``who`` asks for more.
    """
    if threads > max(1.0, cpus):
        raise ValueError(f"{who} for more threads than the {cpus:g} CPUs of a worker")


def piece_name(model: str, fold: int, identity: object) -> str:
    """What people call a piece, and a digest of all that it depends on, as JSON can hold that."""
    return f"{model}_{fold:02d}_{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]}"


@dataclass(frozen=True, kw_only=True)
class TrainRun:
    """One run, as its driver and its workers know it.

    Attributes:
        name: of its folders in ``storage``; the same name takes the run up again.
        pieces: names, each of which says all that the piece depends on.
        part: of those that run at once under the same name.
        driver: tells the workers' deaths under one driver from those under the next.
    """

    storage: RunStorage
    name: str
    pieces: tuple[str, ...]
    driver: str
    part: int = 0

    @property
    def folder(self) -> str:
        """Where Ray keeps the checkpoints of this part."""
        return f"{self.name}-{self.part}"

    @classmethod
    def of(cls, storage: RunStorage, name: str, pieces: Iterable[str]) -> Self:
        """As a driver begins it."""
        return cls(storage=storage, name=name, pieces=tuple(pieces), driver=secrets.token_hex(4))

    def config(self) -> ray.train.RunConfig:
        """As Ray's trainers take it."""
        return ray.train.RunConfig(  # type: ignore[call-arg]  # mypy sees the one of Train V1
            name=self.folder,
            storage_path=self.storage.uri,
            # A piece that kills its workers is given up before this many.
            failure_config=ray.train.FailureConfig(max_failures=(_WORKER_FAILURES + 1) * len(self.pieces)),
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        )

    def follow(
        self,
        fit: Callable[[TrainRun], Any],
        on_end: Callable[[str, Mark], None],
        on_poll: Callable[[], None] = lambda: None,
        *,
        at_once: int = 1,
    ) -> None:
        """Have the pieces done that have not ended, and tell of each that has, in this thread.

        Args:
            fit: has the pieces of the part it is given done.
            on_poll: called several times a second; what it raises ends it.
            at_once: parts that run side by side.

        Raises:
            EnvironmentFault: the storage could not be read or written.
            ModelError: workers were lost too often.
        """
        told: set[str] = set()

        def tell() -> None:
            ended = set(self.storage.names(f"{self.name}.ended"))
            for piece in self.pieces:
                if piece not in told and self._ended(piece) in ended:
                    told.add(piece)
                    on_end(piece, self.mark(piece))

        tell()
        # By their places among all, so that one that goes on is found where its last state is.
        dealt = [replace(self, part=part, pieces=self.pieces[part::at_once]) for part in range(at_once)]
        parts = [part for part in dealt if not told.issuperset(part.pieces)]
        if not parts:
            return
        _set_environment()
        running = {_in_background(partial(fit, part)): part for part in parts}
        while not all(result.done() for result in running):
            wait(running, timeout=_POLL_S, return_when=ALL_COMPLETED)
            tell()
            on_poll()
        for result, part in running.items():
            try:
                result.result()
            except ray.train.TrainingFailedError as exc:
                for failure in getattr(exc, "worker_failures", {}).values():
                    if isinstance(failure, EnvironmentFault):
                        raise failure from exc
                raise ModelError(f"Ray Train gave up on {part.folder}: {last_line(exc)}") from exc
        tell()

    def mark(self, piece: str) -> Mark:
        """How ``piece`` ended.

        Raises:
            NotFound: it has not.
        """
        told = json.loads(self.storage.read(self._ended(piece)))
        return Mark(failure=told["failure"], cost=Cost(**told["cost"]), attempts=told["attempts"])

    def files(self, piece: str) -> Files:
        """What ``piece`` left, if it did not fail."""
        folder = json.loads(self.storage.read(self._ended(piece)))["folder"]
        names = self.storage.names(f"{folder}/{piece}")
        files = {name.rpartition("/")[2]: self.storage.read(name) for name in names}
        files.pop(_PIECE_FILE, None)
        return files

    def work_through(self, work: Work) -> None:
        """What each worker does: the pieces that have not ended, in step with the other workers.

        What ``work`` raises of the library's errors would come again: it is how the piece ended, not a lost worker.
        """
        logging.getLogger().setLevel(logging.WARNING)  # else every report is announced on the console
        context = ray.train.get_context()
        rank, world_size = context.get_world_rank(), context.get_world_size()
        last, files = _last_report()
        for piece in self.pieces:
            stood = last if last.get("piece") == piece else {}
            begun = self._begin(piece, stood, world_size) if rank == 0 else None
            begun = ray.train.collective.broadcast_from_rank_zero(begun)
            if begun is None:
                continue
            with Meter() as meter:
                left, failure = self._do(work, piece, begun, files if stood else None, rank)
            self.storage.write(f"{self.name}.costs/{piece}/{rank}.json", json.dumps(asdict(meter.cost)).encode())
            ended = {"piece": piece, "failure": failure, "attempts": begun["attempts"]}
            _report(piece, ended, left, rank)
            if rank == 0:
                self._end(ended)

    def _do(
        self, work: Work, piece: str, begun: Mapping[str, Any], stood: Files | None, rank: int
    ) -> tuple[Mapping[str, bytes], str | None]:
        if begun["fruitless"] > _WORKER_FAILURES:
            return {}, f"its workers died {_WORKER_FAILURES + 1} times, most likely for want of memory"
        try:
            return work(piece, stood, partial(_report_state, piece, rank)), None
        except EnvironmentFault:
            raise
        except SwiftBoltError as exc:
            return {}, str(exc)

    def _begin(self, piece: str, stood: Mapping[str, Any], world_size: int) -> dict[str, Any] | None:
        """Count another attempt, and those in vain; None if the piece has ended."""
        if self.storage.exists(self._ended(piece)):
            return None
        if "failure" in stood:  # its checkpoint was kept, but the worker died before it could say so
            self._end(stood)
            return None
        path = f"{self.name}.begun/{piece}.json"
        before = json.loads(self.storage.read(path)) if self.storage.exists(path) else {"attempts": 0}
        since = {"driver": self.driver, "state": stood.get("state"), "world_size": world_size}
        is_vain = all(before.get(name) == value for name, value in since.items())
        fruitless = before["fruitless"] + 1 if is_vain else 0
        attempts = before["attempts"] + (fruitless <= _WORKER_FAILURES)
        begun = {"attempts": attempts, "fruitless": fruitless, **since}
        self.storage.write(path, json.dumps(begun).encode())
        return begun

    def _end(self, ended: Mapping[str, Any]) -> None:
        """Write the mark; by then every worker has told its cost."""
        names = self.storage.names(f"{self.name}.costs/{ended['piece']}")
        costs = [Cost(**json.loads(self.storage.read(name))) for name in names]
        total = Cost(
            seconds=max(cost.seconds for cost in costs),
            cpu_seconds=sum(cost.cpu_seconds for cost in costs),
            peak_mb=max(cost.peak_mb for cost in costs),
        )
        mark = Mark(failure=ended["failure"], cost=total, attempts=ended["attempts"])
        told = {**asdict(mark), "folder": self.folder}
        self.storage.write(self._ended(ended["piece"]), json.dumps(told).encode())

    def _ended(self, piece: str) -> str:
        return f"{self.name}.ended/{piece}.json"


def _last_report() -> tuple[dict[str, Any], Files]:
    """What the newest checkpoint tells, and its files."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return {}, {}
    with checkpoint.as_directory() as folder:
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}
    return json.loads(files.pop(_PIECE_FILE)), files


def _report_state(piece: str, rank: int, label: str, state: Callable[[], Mapping[str, bytes]]) -> None:
    _report(f"{piece}_{label}", {"piece": piece, "state": label}, state() if rank == 0 else {}, rank)


def _report(name: str, about: Mapping[str, Any], files: Mapping[str, bytes], rank: int) -> None:
    """A barrier of all workers, at which the first of them hands in the checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        if rank == 0:
            for file, content in {**files, _PIECE_FILE: json.dumps(about).encode()}.items():
                (Path(folder) / file).write_bytes(content)
        checkpoint = ray.train.Checkpoint.from_directory(folder) if rank == 0 else None
        ray.train.report(dict(about), checkpoint=checkpoint, checkpoint_dir_name=name)


def most(num_workers: int | tuple[int, int]) -> int:
    """The number of workers, or the highest where they come and go."""
    return num_workers if isinstance(num_workers, int) else num_workers[1]


def _set_environment() -> None:
    """Set what Ray Train reads; what the user has set stays."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    for name, value in (_ENVIRONMENT | (_ONE_NODE_ENVIRONMENT if len(nodes) == 1 else {})).items():
        os.environ.setdefault(name, value)


def _in_background(work: Callable[[], Any]) -> Future[Any]:
    """Run ``work`` in a daemon thread: an interrupt reaches the caller at once, and Ray's own handler of
    interrupts, which it installs for good on the main thread, stays out."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as exc:  # noqa: BLE001 - handed to the caller by future.result()
            future.set_exception(exc)

    threading.Thread(target=run, name="ray-train", daemon=True).start()
    return future
