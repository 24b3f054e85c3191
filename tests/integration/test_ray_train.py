"""Networks trained by Ray Train's workers equal those trained in this process."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from support.planted import planted_fold, planted_panel

from cluster.networks import RayNetworkTrainer
from swiftbolt.errors import InsufficientHistory, SwiftBoltError
from swiftbolt.forecast import LEVELS
from swiftbolt.models.lstm import LSTM, LSTMConfig
from swiftbolt.models.networks import InProcessTrainer, NeuralForecaster, TrainedNetwork, TrainingJob
from swiftbolt.models.transformer import Transformer, TransformerConfig
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


def trainer(folder: Path, workers: int) -> RayNetworkTrainer:
    return RayNetworkTrainer(
        num_workers=workers, cpus_per_worker=1, use_gpu="auto", storage_path=folder, run_name=f"networks-{workers}"
    )


def ignore(job: TrainingJob) -> None:
    pass


def crps(model: NeuralForecaster, trained: TrainedNetwork) -> float:
    """Twice the mean pinball loss of the one-day forecasts from the matured test origins."""
    model.adopt(trained)
    origins = PANEL.sessions[-61:-1]
    miss_NQ = outcomes(PANEL)[PANEL.rows_at(origins), :1] - model.forecast(PANEL, origins).quantiles_NHQ[:, 0]
    return float(2 * np.maximum(np.array(LEVELS) * miss_NQ, (np.array(LEVELS) - 1) * miss_NQ).mean())


@dataclass(frozen=True)
class Outcome:
    """What came of two sound jobs and an impossible one, on one worker."""

    folder: Path
    told: list[str]
    error: SwiftBoltError


@pytest.fixture(scope="module")
def outcome(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Starting workers takes seconds, so three tests look at one run."""
    folder = tmp_path_factory.mktemp("train")
    told: list[str] = []
    impossible = replace(jobs(dropout=0.0)[0], config=LSTMConfig(look_back=1000))
    with pytest.raises(SwiftBoltError) as caught:
        trainer(folder, workers=1).train(PANEL, [*jobs(dropout=0.2), impossible], lambda job: told.append(job.name))
    return Outcome(folder / "networks-1", told, caught.value)


def test_one_worker_gives_the_bytes_that_training_in_process_gives(outcome: Outcome) -> None:
    for index, network in enumerate(InProcessTrainer().train(PANEL, jobs(dropout=0.2), ignore)):
        written = {path.name: path.read_bytes() for path in (outcome.folder / f"job_{index:04d}").iterdir()}
        assert written.pop("run.json")
        assert written == network.to_files()


def test_each_finished_job_is_told_of(outcome: Outcome) -> None:
    assert outcome.told == ["lstm", "transformer"]


def test_an_error_of_the_library_arrives_as_itself(outcome: Outcome) -> None:
    assert isinstance(outcome.error, InsufficientHistory)
    assert "needs 1000 sessions, has 260" in str(outcome.error)


def test_two_workers_give_the_same_networks_up_to_the_order_of_sums(ray_cluster: str, tmp_path: Path) -> None:
    two = trainer(tmp_path, workers=2).train(PANEL, jobs(dropout=0.0), ignore)
    one = InProcessTrainer().train(PANEL, jobs(dropout=0.0), ignore)
    for job, together, alone in zip(jobs(dropout=0.0), two, one, strict=True):
        assert together.untrained_loss == pytest.approx(alone.untrained_loss, rel=1e-6)
        assert np.array(together.history) == pytest.approx(np.array(alone.history), rel=1e-4)
        model = {"lstm": LSTM, "transformer": Transformer}[job.name](job.config)
        assert crps(model, together) == pytest.approx(crps(model, alone), rel=1e-3)
    assert all(np.allclose(two[0].weights[k], one[0].weights[k], atol=1e-3) for k in one[0].weights)


def test_more_threads_than_a_worker_has_cpus_are_refused(tmp_path: Path) -> None:
    greedy = replace(jobs(0.0)[0], config=LSTMConfig(threads=4))
    with pytest.raises(ValueError, match="more threads than the 1 CPUs"):
        trainer(tmp_path, workers=1).train(PANEL, [greedy], ignore)


def test_a_folder_that_holds_another_run_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "networks-1" / "job_0000"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"job": 0, "digest": "of other jobs"}')
    with pytest.raises(ValueError, match="another run"):
        trainer(tmp_path, workers=1).train(PANEL, jobs(0.0), ignore)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker through /proc")
def test_a_killed_worker_costs_no_finished_network_and_changes_no_byte(ray_cluster: str, tmp_path: Path) -> None:
    slow = [replace(job, seed=seed) for seed in range(2) for job in jobs(dropout=0.2, batch_size=2)]
    killed: list[int] = []

    def kill_after_first(job: TrainingJob) -> None:
        if not killed:
            killed.append(train_worker_pid())
            os.kill(killed[0], signal.SIGKILL)

    remote = trainer(tmp_path, workers=1).train(PANEL, slow, kill_after_first)
    assert killed
    assert [n.to_files() for n in remote] == [n.to_files() for n in InProcessTrainer().train(PANEL, slow, ignore)]


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker through /proc")
def test_a_worker_killed_in_the_middle_of_a_training_goes_on_from_its_last_state(
    ray_cluster: str, tmp_path: Path
) -> None:
    # An epoch takes about a second, so that the worker dies long before it is done.
    config = LSTMConfig(units=(6,), dropout=0.2, batch_size=1, **{**SMALL, "epochs": 14, "look_back": 20})
    slow = [TrainingJob(name="lstm", config=config.model_copy(update={"patience": 14}), fold=FOLD, seed=11)]
    first, second = (tmp_path / "networks-1" / f"job_0000_epoch_{epoch:03d}" / "state.json" for epoch in (5, 10))
    written: list[float] = []

    def kill_after_two_states() -> None:
        while not second.exists():  # the first has been taken note of by then, this one perhaps not yet
            time.sleep(0.05)
        os.kill(train_worker_pid(), signal.SIGKILL)
        written.append(first.stat().st_mtime)

    killer = threading.Thread(target=kill_after_two_states, daemon=True)
    killer.start()
    remote = trainer(tmp_path, workers=1).train(PANEL, slow, ignore)
    killer.join(timeout=1)
    assert written == [first.stat().st_mtime]  # the first five epochs were not gone through again
    assert remote[0].to_files() == InProcessTrainer().train(PANEL, slow, ignore)[0].to_files()


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
