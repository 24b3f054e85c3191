"""One network, trained: the epoch loop that every caller shares. Plain PyTorch; knows nothing of Ray.

Steps are noisy where nearly all is noise, so what is validated and kept is not where the last step led but a running
mean of the weights over the steps.

Windows are gathered on the device from one flat table of features by row number, so memory is that of
the table, not ``look_back`` times it. Everything random is derived from the job's seed, per epoch.

With several workers each takes its share of every batch, and sums of gradients and counts of labels
are added up before one division: the step is that of the whole batch, however its labels are spread.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import ReduceLROnPlateau

from swiftbolt.errors import ArtifactMismatch, DidNotConverge, InsufficientHistory
from swiftbolt.folds import SessionRange
from swiftbolt.forecast import HORIZONS
from swiftbolt.models.quantile_head import summed_loss
from swiftbolt.models.trained import Network, NetworkConfig, TrainedNetwork, TrainingJob
from swiftbolt.models.training_state import TrainingState, identity_of
from swiftbolt.panel import Panel
from swiftbolt.scaling import Standardiser, panel_volatility
from swiftbolt.windows import has_window, train_rows, validation_rows

AllReduce = Callable[[Tensor], None]
"""Adds a tensor up over all workers, in place."""

OnEpoch = Callable[[int, Callable[[], TrainingState]], None]

GRADIENT_NORM = 1.0
LEARNING_RATE_FACTOR = 0.5
# What a stream of random numbers is for; part of its seed.
_INITIAL_WEIGHTS, _ORDER, _DROPOUT = range(3)
# What changes in a plateau schedule as it goes on.
_SCHEDULE_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Standardised features of all rows on one device, from which windows are gathered."""

    x_RF: Tensor
    look_back: int

    @classmethod
    def of(cls, panel: Panel, standardiser: Standardiser, look_back: int, device: torch.device) -> FeatureTable:
        """Standardise the panel's features and move them to ``device``."""
        return cls(torch.from_numpy(standardiser.apply(panel.features_RF)).to(device), look_back)

    def windows(self, rows_B: Tensor) -> Tensor:
        """x_BLF: the ``look_back`` rows that end at each of ``rows_B``, oldest first."""
        steps_L = torch.arange(1 - self.look_back, 1, device=rows_B.device)
        return self.x_RF[rows_B[:, None] + steps_L]


@dataclass(frozen=True, slots=True)
class Samples:
    """Origins and their standardised outcomes, NaN where there is none to learn from."""

    rows_N: Tensor
    z_NH: Tensor

    def __len__(self) -> int:
        return len(self.rows_N)


def standardised_returns(
    y_NH: NDArray[np.float64], volatility_N: NDArray[np.float64], horizons: Sequence[int] = HORIZONS
) -> NDArray[np.float64]:
    """Cumulative returns in units of what volatility at the origin makes usual over each horizon."""
    return np.asarray(y_NH / (volatility_N[:, None] * np.sqrt(np.array(horizons, dtype=np.float64))))


def train_network(
    panel: Panel,
    job: TrainingJob,
    *,
    rank: int = 0,
    world_size: int = 1,
    all_reduce: AllReduce | None = None,
    device: torch.device | None = None,
    resume: TrainingState | None = None,
    on_epoch: OnEpoch | None = None,
) -> TrainedNetwork:
    """Train on ``job.fold.train``, stop early on ``job.fold.validation``, keep the best epoch's weights.

    Args:
        rank, world_size: which share of every batch is this worker's; all workers return equal networks.
        all_reduce: needed when ``world_size`` is above 1.
        device: CUDA if there is one, else CPU.
        resume: where an interrupted training of this very job stood; the outcome is that of one never interrupted.
        on_epoch: called after every epoch with its number and a function that gives the state to resume from.

    Raises:
        InsufficientHistory: no usable origin in the training or the validation range.
        DidNotConverge: the loss is no longer a number.
        ArtifactMismatch: ``resume`` is of another training.
    """
    if (world_size > 1) != (all_reduce is not None):
        raise ValueError("all_reduce is needed with several workers, and only then")
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with reproducible(job.config.threads, device):
        standardiser, train, validation = prepare(panel, job, device)
        torch.manual_seed(_seed(job, _INITIAL_WEIGHTS))
        network = job.config.build(len(panel.feature_names)).to(device)
        table = FeatureTable.of(panel, standardiser, job.config.look_back, device)
        loop = EpochLoop(network, job, table, rank, world_size, all_reduce)
        progress = _Progress.begin(loop, validation, identity_of(panel, job, world_size), resume)
        while progress.epoch < job.config.epochs and progress.epoch - progress.best_epoch < job.config.patience:
            progress.advance(loop, train, validation)
            if on_epoch is not None:
                on_epoch(progress.epoch, lambda: progress.state(loop))
    return TrainedNetwork(
        name=job.name,
        architecture=job.config.architecture(),
        weights=progress.best,
        standardiser=standardiser,
        spec_hash=panel.spec_hash,
        best_epoch=progress.best_epoch,
        untrained_loss=progress.untrained_loss,
        history=tuple(progress.history),
    )


@dataclass(kw_only=True, slots=True)
class _Progress:
    """How far a training has come, and the best it has found."""

    identity: str
    untrained_loss: float
    best_loss: float
    best: dict[str, NDArray[np.float32]]
    epoch: int = 0
    best_epoch: int = 0
    history: list[tuple[float, float]] = field(default_factory=list)

    @classmethod
    def begin(cls, loop: EpochLoop, validation: Samples, identity: str, resume: TrainingState | None) -> _Progress:
        """At the start, or where ``resume`` says; the loop is brought there, too."""
        if resume is None:
            loss = loop.evaluate(validation)
            return cls(identity=identity, untrained_loss=loss, best_loss=loss, best=_weights(loop.averaged))
        if resume.identity != identity:
            raise ArtifactMismatch(
                "a training can only be taken up with the same job, panel and number of workers: begin it anew"
            )
        loop.restore(resume)
        return cls(
            identity=identity,
            untrained_loss=resume.untrained_loss,
            best_loss=resume.best_loss,
            best=dict(resume.best),
            epoch=resume.epoch,
            best_epoch=resume.best_epoch,
            history=list(resume.history),
        )

    def advance(self, loop: EpochLoop, train: Samples, validation: Samples) -> None:
        """One epoch more."""
        self.epoch += 1
        train_loss, loss = loop.train_epoch(train, self.epoch), loop.evaluate(validation)
        if not math.isfinite(train_loss + loss):
            raise DidNotConverge(
                loop.job.name, "the universe", f"the loss is {train_loss + loss} in epoch {self.epoch}"
            )
        self.history.append((train_loss, loss))
        loop.schedule.step(loss)
        if loss < self.best_loss:
            self.best_loss, self.best_epoch, self.best = loss, self.epoch, _weights(loop.averaged)

    def state(self, loop: EpochLoop) -> TrainingState:
        """To go on from here another time."""
        return TrainingState(
            identity=self.identity,
            epoch=self.epoch,
            best_epoch=self.best_epoch,
            best_loss=self.best_loss,
            untrained_loss=self.untrained_loss,
            history=tuple(self.history),
            best=dict(self.best),
            **loop.saved(),
        )


class EpochLoop:
    """A network with its optimiser, going over samples.

    Attributes:
        averaged: the network with the running mean of the weights, which forecasts.
    """

    def __init__(
        self,
        network: Network,
        job: TrainingJob,
        table: FeatureTable,
        rank: int,
        world_size: int,
        all_reduce: AllReduce | None,
    ) -> None:
        self.network, self.averaged, self.job, self.table = network, copy.deepcopy(network), job, table
        self.rank, self.world_size, self.all_reduce = rank, world_size, all_reduce
        self.device = table.x_RF.device
        self.steps = 0
        self.parameters = list(network.parameters())
        self.gradients = [torch.zeros_like(parameter) for parameter in self.parameters]
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient  # backward adds to it in place
        self.optimizer = _optimizer(self.parameters, job.config)
        # Halve before giving up: twice within the patience of early stopping.
        self.schedule = ReduceLROnPlateau(
            self.optimizer, factor=LEARNING_RATE_FACTOR, patience=max(1, job.config.patience // 3)
        )

    def saved(self) -> dict[str, Any]:
        """What ``restore`` needs, under the names of ``TrainingState``."""
        moments = self.optimizer.state_dict()["state"]
        return {
            "steps": self.steps,
            "network": _weights(self.network),
            "averaged": _weights(self.averaged),
            "optimiser": {
                f"{place}.{name}": value.detach().cpu().numpy().copy()
                for place, values in moments.items()
                for name, value in values.items()
            },
            "learning_rates": tuple(float(group["lr"]) for group in self.optimizer.param_groups),
            "schedule": {name: getattr(self.schedule, name) for name in _SCHEDULE_STATE},
        }

    def restore(self, state: TrainingState) -> None:
        """Stand where another loop of the same job stood."""
        self.steps = state.steps
        for network, arrays in ((self.network, state.network), (self.averaged, state.averaged)):
            network.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
        whole = self.optimizer.state_dict()
        whole["state"] = {}
        for name, array in state.optimiser.items():
            place, _, moment = name.partition(".")
            whole["state"].setdefault(int(place), {})[moment] = torch.tensor(array)
        for group, rate in zip(whole["param_groups"], state.learning_rates, strict=True):
            group["lr"] = rate
        self.optimizer.load_state_dict(whole)
        self.optimizer.zero_grad(set_to_none=False)
        for name, value in state.schedule.items():
            setattr(self.schedule, name, value)

    def train_epoch(self, samples: Samples, epoch: int) -> float:
        """One pass over this epoch's rows; the mean loss of a label."""
        config = self.job.config
        self.network.train()
        torch.manual_seed(_seed(self.job, _DROPOUT, epoch, self.rank))
        order = torch.Generator().manual_seed(_seed(self.job, _ORDER, epoch))
        # Neighbouring origins share all but one session of window and label: each epoch takes every k-th.
        first = epoch % min(config.stride, len(samples))  # of few samples no epoch is left without one
        of_epoch = torch.arange(first, len(samples), config.stride)
        shuffled = of_epoch[torch.randperm(len(of_epoch), generator=order)].to(self.device)
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        for batch in torch.split(shuffled, config.batch_size):
            totals += self.step(samples, batch[self.rank :: self.world_size])
        return _mean(totals)

    def evaluate(self, samples: Samples) -> float:
        """The mean loss of a label by the averaged weights."""
        self.averaged.eval()
        share = torch.arange(self.rank, len(samples), self.world_size, device=self.device)
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        with torch.no_grad():
            for batch in torch.split(share, self.job.config.batch_size):
                totals += self._loss(self.averaged, samples, batch)
        if self.all_reduce is not None:
            self.all_reduce(totals)
        return _mean(totals)

    def step(self, samples: Samples, share: Tensor) -> Tensor:
        """One optimiser step on this worker's share of a batch; sum and count of the whole batch's loss."""
        totals = torch.zeros(2, device=self.device)
        self.optimizer.zero_grad(set_to_none=False)
        if len(share):  # the last batch may have fewer rows than there are workers
            totals = self._loss(self.network, samples, share)
            totals[0].backward()  # type: ignore[no-untyped-call]
        totals = self._sum_over_workers(totals.detach())
        for gradient in self.gradients:
            gradient.div_(totals[1])
        nn.utils.clip_grad_norm_(self.parameters, GRADIENT_NORM)
        self.optimizer.step()
        self._average()
        return totals

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights towards those of this step; the first steps count for more, as in any mean.

        Source:
            Polyak and Juditsky (1992), "Acceleration of Stochastic Approximation by Averaging", SIAM Journal on
            Control and Optimization 30(4).
        """
        self.steps += 1
        decay = min(self.job.config.averaging, self.steps / (self.steps + 9.0))
        for mean, latest in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(latest, 1.0 - decay)

    def _loss(self, network: Network, samples: Samples, batch: Tensor) -> Tensor:
        """Sum over labels and number of labels, in one tensor."""
        # bfloat16 has float32's range, so gradients need no scaling; older GPUs stay in float32.
        half = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            forecast = network(self.table.windows(samples.rows_N[batch]))
        return torch.stack(summed_loss(forecast, samples.z_NH[batch]))

    def _sum_over_workers(self, totals: Tensor) -> Tensor:
        """Add gradients up in place, and return ``totals`` added up: one message per step."""
        if self.all_reduce is None:
            return totals
        flat = torch.cat([totals, *(gradient.flatten() for gradient in self.gradients)])
        self.all_reduce(flat)
        summed, *pieces = torch.split(flat, [2, *(gradient.numel() for gradient in self.gradients)])
        for gradient, piece in zip(self.gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))
        return summed


@contextmanager
def reproducible(threads: int, device: torch.device) -> Iterator[None]:
    """Pin the threads and algorithms results depend on, and leave torch's random state as it was found."""
    before = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    cuda = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    if cuda:
        # cuBLAS adds up in a fixed order only with a fixed workspace; read when its first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.random.fork_rng(devices=cuda):
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(bool(cuda) or deterministic, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            torch.set_num_threads(before)


def prepare(panel: Panel, job: TrainingJob, device: torch.device) -> tuple[Standardiser, Samples, Samples]:
    """The scale of the training range, and the samples to train on and to stop on.

    Raises:
        InsufficientHistory: no usable origin in one of the two ranges.
    """
    fold, look_back = job.fold, job.config.look_back
    volatility_R = panel_volatility(panel)
    usable_R = has_window(panel, look_back) & np.isfinite(volatility_R)

    def samples(within: SessionRange, rows_N: NDArray[np.int64], y_NH: NDArray[np.float64]) -> Samples:
        keep = usable_R[rows_N] & np.isfinite(y_NH).any(axis=1)
        if not keep.any():
            origins = f"{job.name} with origins from {within.first} to {within.last}"
            raise InsufficientHistory(origins, look_back, _longest_history(panel, within))
        rows_N, y_NH = rows_N[keep], y_NH[keep]
        z_NH = standardised_returns(y_NH, volatility_R[rows_N]).astype(np.float32)
        return Samples(torch.from_numpy(rows_N).to(device), torch.from_numpy(z_NH).to(device))

    train = samples(fold.train, *train_rows(panel, fold))
    rows_N, y_NH = validation_rows(panel, fold)
    every = job.config.validation_stride
    validation = samples(fold.validation, rows_N[::every], y_NH[::every])
    in_training = fold.train.mask(panel.date_R) & np.isfinite(panel.features_RF).all(axis=1)
    return Standardiser.fit(panel.features_RF[in_training]), train, validation


def _longest_history(panel: Panel, within: SessionRange) -> int:
    """Most sessions with features that any one symbol has by the end of a range."""
    known_R = np.isfinite(panel.features_RF).all(axis=1) & (panel.date_R <= np.datetime64(within.last))
    return int(np.bincount(panel.symbol_R[known_R], minlength=1).max())


def _optimizer(parameters: Sequence[nn.Parameter], config: NetworkConfig) -> AdamW:
    # Loshchilov & Hutter (2019), "Decoupled Weight Decay Regularization". Biases and tails are not shrunk.
    return AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )


def _seed(job: TrainingJob, purpose: int, epoch: int = 0, rank: int = 0) -> int:
    entropy = [job.seed, job.fold.index, purpose, epoch, rank]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


def _weights(network: Network) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in network.state_dict().items()}


def _mean(totals: Tensor) -> float:
    total, count = totals.tolist()
    return float(total / max(count, 1.0))
