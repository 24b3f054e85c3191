"""The LSTM forecaster: stacked long short-term memories over a window of sessions.

Source:
    Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", Neural Computation 9(8).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn

from swiftbolt.models.networks import NeuralForecaster
from swiftbolt.models.trained import Encoder, NetworkConfig


class LSTMConfig(NetworkConfig):
    """configs/models/lstm.yaml."""

    units: tuple[int, ...] = Field((128, 64), min_length=1, description="Units of each layer, first to last.")

    def build_encoder(self, features: int) -> Encoder:
        """Freshly initialised layers."""
        return LSTMEncoder(features, self.units, self.dropout)


class LSTMEncoder(Encoder):
    """The last layer's output after the newest session of the window, added to a linear map of that session's features.

    The latter go past the layers, so that these need not learn to pass on what is said best by the newest session
    alone: on origins 2008-2014 that gained at every horizon, at one session a third of the skill.

    Layers are separate ``nn.LSTM``s because their widths differ; each keeps tanh and sigmoid, without
    which cuDNN would not run it.
    """

    def __init__(self, features: int, units: Sequence[int], dropout: float) -> None:
        super().__init__()
        widths = [features, *units]
        self.layers = nn.ModuleList(nn.LSTM(inside, outside, batch_first=True) for inside, outside in pairwise(widths))
        self.dropout = nn.Dropout(dropout)
        self.width = widths[-1]
        self.newest = nn.Linear(features, self.width)
        for layer, width in zip(self.layers, units, strict=True):
            _remember_by_default(layer, width)

    def forward(self, x_BLF: Tensor) -> Tensor:
        hidden_BLW = x_BLF
        for layer in self.layers:
            hidden_BLW = self.dropout(layer(hidden_BLW)[0])
        past_the_layers_BW: Tensor = self.dropout(self.newest(x_BLF[:, -1]))
        return hidden_BLW[:, -1] + past_the_layers_BW


def _remember_by_default(layer: nn.Module, width: int) -> None:
    """Open the forget gate, so that gradients reach far back from the first step on.

    Source:
        Jozefowicz, Zaremba & Sutskever (2015), "An Empirical Exploration of Recurrent Network Architectures".
    """
    forget = slice(width, 2 * width)  # torch's order of gates: input, forget, cell, output
    with torch.no_grad():
        layer.get_parameter("bias_ih_l0")[forget] = 1.0


class LSTM(NeuralForecaster):
    """Forecasts three horizons at once from the last ``look_back`` sessions."""

    name = "lstm"
