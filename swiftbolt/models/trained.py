"""What is trained and what comes out: configuration, job, and the weights with everything a forecast needs of them.

A job is a value that says all there is to say about one training; a trained network is plain arrays, so
both travel between processes. Knows nothing of epochs, workers or forecasts.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor, nn

from swiftbolt.config import Strict
from swiftbolt.errors import ArtifactMismatch
from swiftbolt.folds import Fold
from swiftbolt.forecast import HORIZONS
from swiftbolt.models.quantile_head import QuantileHead, Standard
from swiftbolt.scaling import Standardiser

NetworkName = Literal["lstm", "transformer"]

WEIGHTS_FILE = "weights.safetensors"
DESCRIPTION_FILE = "network.json"


class Encoder(nn.Module):
    """From a window of sessions, x_BLF, to one vector per window, (B, ``width``)."""

    width: int


class Network(nn.Module):
    """An encoder and the head that turns its vector into a distribution per horizon."""

    def __init__(self, encoder: Encoder, head: QuantileHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x_BLF: Tensor) -> Standard:
        forecast: Standard = self.head(self.encoder(x_BLF))
        return forecast


class NetworkConfig(Strict, ABC):
    """What both networks are told; each adds its own shape."""

    look_back: int = Field(32, ge=2, description="Sessions in a window, the origin included.")
    head_units: int = Field(32, ge=1, description="Units of the hidden layer between encoder and distribution.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Share of activations dropped between layers in training.")
    df: float = Field(5.0, gt=2.1, description="Of the Student-t whose shape is learnt on from, per horizon.")
    epochs: int = Field(20, ge=1, description="At most so many passes.")
    patience: int = Field(4, ge=1, description="Stop after so many epochs without a better validation loss.")
    batch_size: int = Field(256, ge=1, description="Windows per step, over all workers together.")
    stride: int = Field(16, ge=1, description="An epoch sees every k-th training row, the next one their neighbours.")
    validation_stride: int = Field(4, ge=1, description="The validation loss is of every k-th row: neighbours overlap.")
    averaging: float = Field(
        0.98, ge=0, lt=1, description="Decay per step of the running mean of the weights, which is what is kept."
    )
    learning_rate: float = Field(5e-4, gt=0, description="AdamW step; halved when the validation loss stalls.")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW decay of weight matrices, not of biases.")
    threads: int = Field(1, ge=1, description="CPU threads of each worker; results are reproducible for one number.")

    @abstractmethod
    def build_encoder(self, features: int) -> Encoder:
        """A freshly initialised encoder of windows of ``features`` features."""

    def build(self, features: int) -> Network:
        """A freshly initialised network; weights come from torch's current random state."""
        encoder = self.build_encoder(features)
        return Network(encoder, QuantileHead(encoder.width, self.head_units, len(HORIZONS), self.df, self.dropout))

    def architecture(self) -> dict[str, Any]:
        """The keys that decide what a set of weights means, as opposed to how it was found."""
        return self.model_dump(mode="json", exclude=_TRAINING_KEYS)


_TRAINING_KEYS = {
    "dropout", "df", "epochs", "patience", "batch_size", "stride", "validation_stride", "averaging", "learning_rate",
    "weight_decay", "threads",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingJob:
    """One network to train on one fold. Equal jobs on equal panels give equal weights."""

    name: NetworkName
    config: NetworkConfig
    fold: Fold
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedNetwork:
    """Weights, and all else that a forecast with them depends on.

    Attributes:
        architecture: ``NetworkConfig.architecture`` of the job.
        weights: parameters by name, float32.
        standardiser: of the features, fitted on the fold's training range.
        spec_hash: of the features it learned from.
        best_epoch: whose weights these are; 0 when no epoch beat the untrained network.
        untrained_loss: validation loss before the first epoch, CRPS of a standardised return.
        history: training and validation loss of each epoch, likewise.
    """

    name: NetworkName
    architecture: dict[str, Any]
    weights: dict[str, NDArray[np.float32]]
    standardiser: Standardiser
    spec_hash: str
    best_epoch: int
    untrained_loss: float
    history: tuple[tuple[float, float], ...]

    def to_files(self) -> dict[str, bytes]:
        """Named byte strings, equal for equal networks."""
        scales = {"standardiser.mean": self.standardiser.mean_F, "standardiser.sd": self.standardiser.sd_F}
        description = {
            "name": self.name,
            "architecture": self.architecture,
            "clip": self.standardiser.clip,
            "spec_hash": self.spec_hash,
            "best_epoch": self.best_epoch,
            "untrained_loss": self.untrained_loss,
            "history": self.history,
        }
        return {
            WEIGHTS_FILE: safetensors.numpy.save({**self.weights, **scales}),
            DESCRIPTION_FILE: json.dumps(description, indent=2, sort_keys=True).encode(),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Read back what ``to_files`` wrote.

        Raises:
            ArtifactMismatch: a file is missing or not what it should be.
        """
        try:
            tensors = safetensors.numpy.load(files[WEIGHTS_FILE])
            description = json.loads(files[DESCRIPTION_FILE])
            standardiser = Standardiser(
                mean_F=tensors.pop("standardiser.mean"), sd_F=tensors.pop("standardiser.sd"), clip=description["clip"]
            )
            return cls(
                name=description["name"],
                architecture=description["architecture"],
                weights=tensors,
                standardiser=standardiser,
                spec_hash=description["spec_hash"],
                best_epoch=description["best_epoch"],
                untrained_loss=description["untrained_loss"],
                history=tuple((train, valid) for train, valid in description["history"]),
            )
        except (KeyError, ValueError, TypeError, SafetensorError) as exc:
            raise ArtifactMismatch(f"a network's files cannot be read ({type(exc).__name__}: {exc})") from exc
