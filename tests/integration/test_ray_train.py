"""Networks trained by Ray Train's workers equal those trained in this process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import ray.train
from ray.train.torch import TorchTrainer
from support.planted import planted_fold, planted_panel
from support.s3 import s3_bucket

from cluster.networks import RayNetworkTrainer, resumable
from cluster.storage import RunStorage
from cluster.train_runs import Files, Keep, Mark, TrainRun
from swiftbolt.forecast import LEVELS
from swiftbolt.models.lstm import LSTM, LSTMConfig
from swiftbolt.models.network_trainers import InProcessTrainer, Trained
from swiftbolt.models.networks import NeuralForecaster
from swiftbolt.models.trained import TrainedNetwork, TrainingJob
from swiftbolt.models.training import train_network
from swiftbolt.models.training_state import TrainingState, identity_of
from swiftbolt.models.transformer import Transformer, TransformerConfig
from swiftbolt.processes import Cost
from swiftbolt.windows import outcomes

pytestmark = pytest.mark.ray

PANEL = planted_panel(seed=5)
FOLD = planted_fold(PANEL)
SMALL = {"look_back": 6, "head_units": 6, "epochs": 4, "stride": 2, "learning_rate": 0.01}


def jobs(dropout: float, batch_size: int = 64) -> list[TrainingJob]:
    # 64 does not divide the windows of an epoch, nor does it leave an even last batch: workers' shares differ.
    lstm = LSTMConfig(units=(6,), dropout=dropout, batch_size=batch_size, **SMALL)
    transformer = TransformerConfig(patch=2, width=8, blocks=1, dropout=dropout, batch_size=batch_size, **SMALL)
    return [
        TrainingJob(name="lstm", config=lstm, fold=FOLD, seed=11),
        TrainingJob(name="transformer", config=transformer, fold=FOLD, seed=12),
    ]


def trainer(
    root: Path | str, workers: int | tuple[int, int], on_end: Callable[[TrainingJob, Mark], None] | None = None
) -> RayNetworkTrainer:
    asked = {} if on_end is None else {"on_end": on_end}
    return RayNetworkTrainer(
        num_workers=workers,
        cpus_per_worker=1,
        use_gpu="auto",
        storage=RunStorage.of(root, "run"),
        run_name="networks",
        **asked,
    )


def ignore(job: TrainingJob, failure: str | None) -> None:
    pass


def files_of(trained: list[Trained]) -> list[dict[str, bytes]]:
    return [network_of(one).to_files() for one in trained]


def network_of(trained: Trained) -> TrainedNetwork:
    assert isinstance(trained, TrainedNetwork), trained
    return trained


def crps(model: NeuralForecaster, trained: TrainedNetwork) -> float:
    """Twice the mean pinball loss of the one-day forecasts from the matured test origins."""
    model.adopt(trained)
    origins = PANEL.sessions[-61:-1]
    miss_NQ = outcomes(PANEL)[PANEL.rows_at(origins), :1] - model.forecast(PANEL, origins).quantiles_NHQ[:, 0]
    return float(2 * np.maximum(np.array(LEVELS) * miss_NQ, (np.array(LEVELS) - 1) * miss_NQ).mean())


@dataclass(frozen=True)
class Outcome:
    """What came of an impossible job and two sound ones, on one worker."""

    trained: list[Trained]
    told: list[tuple[str, str | None]]
    costs: list[tuple[Cost, int]]


@pytest.fixture(scope="module")
def outcome(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Starting workers takes seconds, so three tests look at one run."""
    told: list[tuple[str, str | None]] = []
    costs: list[tuple[Cost, int]] = []
    impossible = replace(jobs(dropout=0.0)[0], config=LSTMConfig(look_back=1000))
    trained = trainer(
        tmp_path_factory.mktemp("train"), workers=1, on_end=lambda job, mark: costs.append((mark.cost, mark.attempts))
    ).train(PANEL, [impossible, *jobs(dropout=0.2)], lambda job, failure: told.append((job.name, failure)))
    return Outcome(trained, told, costs)


def test_one_worker_gives_the_bytes_that_training_in_process_gives(outcome: Outcome) -> None:
    assert files_of(outcome.trained[1:]) == files_of(InProcessTrainer().train(PANEL, jobs(dropout=0.2), ignore))


def test_an_impossible_job_fails_alone_and_says_why(outcome: Outcome) -> None:
    reason = outcome.trained[0]
    assert isinstance(reason, str)
    assert "needs 1000 sessions, has 260" in reason
    assert outcome.told == [("lstm", reason), ("lstm", None), ("transformer", None)]


def test_each_job_tells_what_it_took(outcome: Outcome) -> None:
    assert [attempts for _, attempts in outcome.costs] == [1, 1, 1]
    assert all(cost.seconds > 0 and cost.cpu_seconds > 0 for cost, _ in outcome.costs)
    assert all(cost.peak_mb > 50 for cost, _ in outcome.costs)  # a process with torch


def test_two_workers_give_the_same_networks_up_to_the_order_of_sums(ray_cluster: str, tmp_path: Path) -> None:
    two = trainer(tmp_path, workers=2).train(PANEL, jobs(dropout=0.0), ignore)
    one = InProcessTrainer().train(PANEL, jobs(dropout=0.0), ignore)
    both = list(zip(map(network_of, two), map(network_of, one), strict=True))
    for job, (together, alone) in zip(jobs(dropout=0.0), both, strict=True):
        assert together.untrained_loss == pytest.approx(alone.untrained_loss, rel=1e-6)
        assert np.array(together.history) == pytest.approx(np.array(alone.history), rel=1e-4)
        model = {"lstm": LSTM, "transformer": Transformer}[job.name](job.config)
        assert crps(model, together) == pytest.approx(crps(model, alone), rel=1e-3)
    together, alone = both[0]
    assert all(np.allclose(together.weights[name], alone.weights[name], atol=1e-3) for name in alone.weights)


def test_more_threads_than_a_worker_has_cpus_are_refused(tmp_path: Path) -> None:
    greedy = replace(jobs(0.0)[0], config=LSTMConfig(threads=4))
    with pytest.raises(ValueError, match="more threads than the 1 CPUs"):
        trainer(tmp_path, workers=1).train(PANEL, [greedy], ignore)


@pytest.mark.long
def test_what_is_finished_is_not_trained_again_and_other_jobs_of_the_same_run_are(
    ray_cluster: str, tmp_path: Path
) -> None:
    first, second = jobs(dropout=0.0)
    once = trainer(tmp_path, workers=1).train(PANEL, [first], ignore)
    told: list[int] = []
    again = trainer(tmp_path, workers=1, on_end=lambda job, mark: told.append(mark.attempts))
    assert files_of(again.train(PANEL, [first, second], ignore))[:1] == files_of(once)
    assert told == [1, 1]


@pytest.mark.long
def test_trainings_side_by_side_give_the_same_bytes_and_are_found_by_one_that_trains_in_turn(
    ray_cluster: str, tmp_path: Path
) -> None:
    both = files_of(replace(trainer(tmp_path, workers=1), at_once=2).train(PANEL, jobs(dropout=0.2), ignore))
    assert both == files_of(InProcessTrainer().train(PANEL, jobs(dropout=0.2), ignore))
    assert {path.name for path in tmp_path.glob("run/networks-*")} == {"networks-0", "networks-1"}
    told: list[int] = []
    in_turn = trainer(tmp_path, workers=1, on_end=lambda job, mark: told.append(mark.attempts))
    assert files_of(in_turn.train(PANEL, jobs(dropout=0.2), ignore)) == both
    assert told == [1, 1]


@pytest.mark.long
def test_workers_that_may_come_and_go_train_what_those_that_came_would(ray_cluster: str, tmp_path: Path) -> None:
    elastic = trainer(tmp_path, workers=(1, 2))
    assert not elastic.is_reproducible
    assert trainer(tmp_path, workers=2).is_reproducible
    (network,) = elastic.train(PANEL, jobs(dropout=0.0)[:1], ignore)
    (alone,) = InProcessTrainer().train(PANEL, jobs(dropout=0.0)[:1], ignore)
    assert np.array(network_of(network).history) == pytest.approx(np.array(network_of(alone).history), rel=1e-4)


@pytest.mark.long
def test_networks_kept_in_s3_are_those_kept_on_a_disk(ray_cluster: str) -> None:
    with s3_bucket() as root:
        remote = trainer(root, workers=1)
        networks = files_of(remote.train(PANEL, jobs(dropout=0.2), ignore))
        assert len(remote.storage.names("networks.ended")) == 2
        assert files_of(remote.train(PANEL, jobs(dropout=0.2), ignore)) == networks
    assert networks == files_of(InProcessTrainer().train(PANEL, jobs(dropout=0.2), ignore))


def test_a_state_of_another_number_of_workers_is_begun_anew() -> None:
    states: list[TrainingState] = []
    train_network(PANEL, jobs(dropout=0.0)[0], on_epoch=lambda epoch, state: states.append(state()))
    stood = states[0].to_files()
    assert resumable(stood, identity_of(PANEL, jobs(dropout=0.0)[0], 1)) is not None
    assert resumable(stood, identity_of(PANEL, jobs(dropout=0.0)[0], 2)) is None
    assert resumable(None, identity_of(PANEL, jobs(dropout=0.0)[0], 1)) is None
    assert resumable({"state.json": b"{"}, identity_of(PANEL, jobs(dropout=0.0)[0], 1)) is None


@pytest.mark.long
def test_a_piece_that_kills_its_workers_is_given_up_and_the_others_are_done(ray_cluster: str, tmp_path: Path) -> None:
    def work(piece: str, stood: Files | None, keep: Keep) -> dict[str, bytes]:
        if piece == "deadly":
            os._exit(1)
        return {"left": piece.encode()}

    run = TrainRun.of(RunStorage.of(tmp_path, "run"), "pieces", ["first", "deadly", "last"])

    def fit(part: TrainRun) -> ray.train.Result:
        return TorchTrainer(
            lambda config: config["run"].work_through(work),
            train_loop_config={"run": part},
            scaling_config=ray.train.ScalingConfig(num_workers=1),
            run_config=part.config(),
        ).fit()

    marks: dict[str, Mark] = {}
    run.follow(fit, lambda piece, mark: marks.update({piece: mark}))
    assert marks["deadly"].failure == "its workers died 4 times, most likely for want of memory"
    assert [marks[name].failure for name in ("first", "last")] == [None, None]
    assert [marks[name].attempts for name in ("first", "deadly", "last")] == [1, 4, 1]
    assert run.files("last") == {"left": b"last"}


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker through /proc")
def test_a_killed_worker_costs_no_finished_network_and_changes_no_byte(ray_cluster: str, tmp_path: Path) -> None:
    slow = [replace(job, seed=seed) for seed in range(2) for job in jobs(dropout=0.2, batch_size=2)]
    killed: list[int] = []

    def kill_after_first(job: TrainingJob, failure: str | None) -> None:
        if not killed:
            killed.append(train_worker_pid())
            os.kill(killed[0], signal.SIGKILL)

    remote = trainer(tmp_path, workers=1).train(PANEL, slow, kill_after_first)
    assert killed
    assert files_of(remote) == files_of(InProcessTrainer().train(PANEL, slow, ignore))


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker through /proc")
def test_a_worker_killed_in_the_middle_of_a_training_goes_on_from_its_last_state(
    ray_cluster: str, tmp_path: Path
) -> None:
    # An epoch takes about a second, so that the worker dies long before it is done.
    config = LSTMConfig(units=(6,), dropout=0.2, batch_size=1, **{**SMALL, "epochs": 14, "look_back": 20})
    slow = [TrainingJob(name="lstm", config=config.model_copy(update={"patience": 14}), fold=FOLD, seed=11)]
    written: list[float] = []

    def state(epoch: int) -> Path | None:
        return next(tmp_path.glob(f"run/networks-0/*_epoch_{epoch:03d}/state.json"), None)

    def kill_after_two_states() -> None:
        if not written and state(10) is not None:  # the first was taken note of, this one perhaps not yet
            written.append(state(5).stat().st_mtime)
            os.kill(train_worker_pid(), signal.SIGKILL)

    remote = replace(trainer(tmp_path, workers=1), on_poll=kill_after_two_states).train(PANEL, slow, ignore)
    assert written == [state(5).stat().st_mtime]  # the first five epochs were not gone through again
    assert files_of(remote) == files_of(InProcessTrainer().train(PANEL, slow, ignore))


def train_worker_pid() -> int:
    """The Ray Train worker among this process's descendants."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, pid = (folder / "cmdline").read_bytes(), int(folder.name)
            if b"RayTrainWorker" in command and os.getpid() in ancestors(pid):
                return pid
        except FileNotFoundError:  # it ended while we looked
            continue
    raise AssertionError("no worker is training")


def ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 1:
        pid = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        found.add(pid)
    return found
