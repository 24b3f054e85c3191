"""Who trains many networks and forecasts with them: this process, or several of this machine.

A Ray cluster does it in ``cluster.networks``. The numbers do not depend on who did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from swiftbolt.errors import SwiftBoltError
from swiftbolt.forecast import Forecasts
from swiftbolt.models.base import forecast_as_known
from swiftbolt.models.networks import NeuralForecaster
from swiftbolt.models.registry import build_model
from swiftbolt.models.trained import TrainedNetwork, TrainingJob
from swiftbolt.models.training import train_network
from swiftbolt.panel import Panel
from swiftbolt.processes import spread
from swiftbolt.windows import fold_origins

Trained = TrainedNetwork | str
"""A network, or why there is none."""

OnTrained = Callable[[TrainingJob, str | None], None]
"""Told of a job that ended, and why it failed, if it did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkForecasts:
    """What a trained network leaves: forecasts from every origin of its job's fold, and a live one's files."""

    forecasts: Forecasts
    files: dict[str, bytes]
    notes: tuple[str, ...]


Fit = tuple[TrainingJob, TrainedNetwork]


class NetworkTrainer(Protocol):
    """Trains networks, somewhere, and forecasts with them."""

    def train(self, panel: Panel, jobs: Sequence[TrainingJob], on_done: OnTrained) -> list[Trained]:
        """Train every job on ``panel``, in the order of ``jobs``; one that fails does not stop the others.

        Args:
            on_done: called in the caller's thread after each job, in whatever order they end.
        """
        ...

    def forecast(self, panel: Panel, fits: Sequence[Fit]) -> list[NetworkForecasts]:
        """What each of ``fits`` leaves, in their order."""
        ...


class InProcessTrainer:
    """One after another in this process."""

    def train(self, panel: Panel, jobs: Sequence[TrainingJob], on_done: OnTrained) -> list[Trained]:
        """See ``NetworkTrainer``."""
        trained = []
        for job in jobs:
            trained.append(_train(panel, job))
            on_done(job, _failure(trained[-1]))
        return trained

    def forecast(self, panel: Panel, fits: Sequence[Fit]) -> list[NetworkForecasts]:
        """See ``NetworkTrainer``."""
        return [forecast_fold(panel, fit) for fit in fits]


class ProcessTrainer:
    """Several at once, each in a process of this machine, to the bit as ``InProcessTrainer`` does.

    Every method raises ``EnvironmentFault`` where a process was killed from outside.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def train(self, panel: Panel, jobs: Sequence[TrainingJob], on_done: OnTrained) -> list[Trained]:
        """See ``NetworkTrainer``."""
        return spread(
            _train, panel, jobs, workers=self.workers, on_done=lambda job, trained: on_done(job, _failure(trained))
        )

    def forecast(self, panel: Panel, fits: Sequence[Fit]) -> list[NetworkForecasts]:
        """See ``NetworkTrainer``."""
        return spread(forecast_fold, panel, fits, workers=self.workers, on_done=lambda fit, forecasts: None)


def forecast_fold(panel: Panel, fit: Fit) -> NetworkForecasts:
    """What one network leaves; each symbol's forecasts are those it would have alone."""
    job, trained = fit
    model = build_model(job.name, job.config)
    assert isinstance(model, NeuralForecaster)
    model.adopt(trained)
    return NetworkForecasts(
        forecasts=forecast_as_known(model, panel, fold_origins(panel, job.fold)),
        files=model.dump() if job.fold.is_live else {},
        notes=tuple(model.notes),
    )


def _train(panel: Panel, job: TrainingJob) -> Trained:
    try:
        return train_network(panel, job)
    except SwiftBoltError as exc:
        return str(exc)


def _failure(trained: Trained) -> str | None:
    return trained if isinstance(trained, str) else None
