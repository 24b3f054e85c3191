"""Where a training stands after an epoch, as bytes: with it the epochs that follow are those of one never interrupted.

Holds the weights, their running mean, the best ones, and the optimiser's moments; orders of rows and dropout need no
state, being derived from the job's seed and the epoch. Knows nothing of who keeps the bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from swiftbolt.errors import ArtifactMismatch
from swiftbolt.models.trained import TrainingJob
from swiftbolt.panel import Panel

TENSORS_FILE = "state.safetensors"
STATE_FILE = "state.json"

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingState:
    """A training after ``epoch``.

    Attributes:
        identity: of what is trained on what by how many (``identity_of``).
        best_loss: validation loss at ``best_epoch``, whose weights are ``best``; 0 is the untrained network.
        optimiser: moments by ``<parameter>.<name>``, parameters in the network's order.
        schedule: of the learning rate, plain numbers.
    """

    identity: str
    epoch: int
    steps: int
    best_epoch: int
    best_loss: float
    untrained_loss: float
    history: tuple[tuple[float, float], ...]
    network: Arrays
    averaged: Arrays
    best: Arrays
    optimiser: Arrays
    learning_rates: tuple[float, ...]
    schedule: dict[str, float]

    def to_files(self) -> dict[str, bytes]:
        """Named byte strings."""
        tensors = {
            f"{group}/{name}": array
            for group in ("network", "averaged", "best", "optimiser")
            for name, array in getattr(self, group).items()
        }
        plain = {
            "identity": self.identity,
            "epoch": self.epoch,
            "steps": self.steps,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "untrained_loss": self.untrained_loss,
            "history": self.history,
            "learning_rates": self.learning_rates,
            "schedule": self.schedule,
        }
        return {TENSORS_FILE: safetensors.numpy.save(tensors), STATE_FILE: json.dumps(plain, sort_keys=True).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Read back what ``to_files`` wrote, bit for bit.

        Raises:
            ArtifactMismatch: a file is missing or not what it should be.
        """
        try:
            groups: dict[str, Arrays] = {"network": {}, "averaged": {}, "best": {}, "optimiser": {}}
            for name, array in safetensors.numpy.load(files[TENSORS_FILE]).items():
                group, _, rest = name.partition("/")
                groups[group][rest] = array
            plain: dict[str, Any] = json.loads(files[STATE_FILE])
            plain["history"] = tuple((train, held) for train, held in plain["history"])
            plain["learning_rates"] = tuple(plain["learning_rates"])
            return cls(**{**groups, **plain})
        except (KeyError, ValueError, TypeError, SafetensorError) as exc:
            raise ArtifactMismatch(f"the state of a training cannot be read ({type(exc).__name__}: {exc})") from exc


def identity_of(panel: Panel, job: TrainingJob, world_size: int) -> str:
    """SHA-256 over all that the epochs of a training depend on."""
    described = [
        job.name,
        job.config.model_dump(mode="json"),
        job.fold.to_json(),
        job.seed,
        world_size,
        panel.spec_hash,
        panel.data_hash,
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()
