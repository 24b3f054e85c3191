"""The networks' training loop, whose windows are gathered from one table, against a DataLoader of materialised windows.

    PYTHONPATH=tests python -m benchmarks.networks

The peer is what tutorials show: every window is cut out and stored beforehand, and a DataLoader shuffles and collates
them. Networks, loss, optimiser and batches are the same. Seconds are those of one thread's CPU time, the best of three
epochs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from support.markets import make_bars
from torch import nn
from torch.optim import AdamW
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from swiftbolt.actions import CorporateActions
from swiftbolt.features import build_panel
from swiftbolt.folds import FoldConfig, make_folds
from swiftbolt.models.lstm import LSTMConfig
from swiftbolt.models.quantile_head import summed_loss
from swiftbolt.models.trained import Network, NetworkConfig, NetworkName, TrainingJob
from swiftbolt.models.training import GRADIENT_NORM, EpochLoop, FeatureTable, Samples, prepare
from swiftbolt.models.transformer import TransformerConfig
from swiftbolt.panel import Panel

SYMBOLS, SESSIONS, STRIDE = 12, 1500, 8
FOLDS = FoldConfig(count=1, test_sessions=126, validation_sessions=126, min_train_sessions=504)
CONFIGS: dict[NetworkName, NetworkConfig] = {
    "lstm": LSTMConfig(stride=STRIDE),
    "transformer": TransformerConfig(stride=STRIDE),
}
ROUNDS = 3
CPU = torch.device("cpu")


def main() -> None:
    """Measure and print the table."""
    torch.set_num_threads(1)
    panel = build_panel(make_bars([f"S{i:02}" for i in range(SYMBOLS)], SESSIONS, seed=1), CorporateActions.of())
    for name, config in CONFIGS.items():
        compare(panel, TrainingJob(name=name, config=config, fold=make_folds(panel.sessions, FOLDS)[0], seed=1))


def compare(panel: Panel, job: TrainingJob) -> None:
    """One network's part of the table."""
    config, features = job.config, len(panel.feature_names)
    standardiser, train, _ = prepare(panel, job, CPU)
    table = FeatureTable.of(panel, standardiser, config.look_back, CPU)
    loop = EpochLoop(config.build(features), job, table, 0, 1, None)
    dataset = TensorDataset(table.windows(train.rows_N), train.z_NH)
    count = len(train) // STRIDE
    loader = DataLoader(dataset, config.batch_size, sampler=RandomSampler(dataset, num_samples=count))
    network = config.build(features)
    print(f"{job.name}: {len(train):,} windows of {config.look_back} sessions and {features} features")
    ours, theirs = best(lambda: loop.train_epoch(train, 0)), best(lambda: train_epoch(network, config, loader))
    line("training", count / ours, count / theirs, "samples a second")
    ours, theirs = best(lambda: gather(table, train, config.batch_size)), best(lambda: list(loader))
    line("windows alone", count / ours, count / theirs, "samples a second")
    line("memory of windows", table.x_RF.nbytes / 1e6, dataset.tensors[0].nbytes / 1e6, "MB")


def gather(table: FeatureTable, train: Samples, batch_size: int) -> None:
    """The windows of one epoch, batch by batch."""
    of_epoch = torch.arange(0, len(train), STRIDE)
    for batch in torch.split(of_epoch[torch.randperm(len(of_epoch))], batch_size):
        table.windows(train.rows_N[batch])


def train_epoch(network: Network, config: NetworkConfig, loader: DataLoader[tuple[torch.Tensor, ...]]) -> None:
    """The peer's epoch."""
    optimizer = AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    network.train()
    for x_BLF, z_BH in loader:
        optimizer.zero_grad()
        total, labels = summed_loss(network(x_BLF), z_BH)
        (total / labels).backward()
        nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
        optimizer.step()


def best(run: Callable[[], object]) -> float:
    """CPU seconds of the quickest of a few rounds."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        run()
        seconds.append(time.process_time() - started)
    return min(seconds)


def line(what: str, ours: float, theirs: float, unit: str) -> None:
    """One line of the table."""
    ratio = theirs / ours if unit == "MB" else ours / theirs
    print(f"  {what:20}ours {ours:10,.1f}   DataLoader {theirs:10,.1f} {unit:18}{ratio:6.2f}x", flush=True)


if __name__ == "__main__":
    main()
