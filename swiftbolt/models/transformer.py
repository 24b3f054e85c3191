"""The Transformer forecaster: attention between patches of sessions.

Sources:
    Vaswani et al. (2017), "Attention Is All You Need".
    Xiong et al. (2020), "On Layer Normalization in the Transformer Architecture" (normalising first).
    Nie et al. (2023), "A Time Series is Worth 64 Words" (patches: cost grows with look-back / patch).
"""

from __future__ import annotations

import math

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from swiftbolt.models.networks import NeuralForecaster
from swiftbolt.models.trained import Encoder, NetworkConfig

HEADS = 8


class TransformerConfig(NetworkConfig):
    """configs/models/transformer.yaml."""

    patch: int = Field(4, ge=1, description="Sessions in a patch; look_back must be a multiple of it.")
    width: int = Field(64, ge=HEADS, multiple_of=HEADS, description="Length of a patch's vector, over all 8 heads.")
    blocks: int = Field(2, ge=1, description="Attention blocks, one after another.")

    @model_validator(mode="after")
    def _patches_fill_the_window(self) -> TransformerConfig:
        if self.look_back % self.patch:
            raise ValueError(f"look_back {self.look_back} is not a multiple of patch {self.patch}")
        return self

    def build_encoder(self, features: int) -> Encoder:
        """Freshly initialised blocks."""
        return PatchEncoder(self, features)


class PatchEncoder(Encoder):
    """The newest patch's vector, after it has attended to all patches of the window (N of them).

    The window ends at the origin, so nothing in it lies in the future and attention needs no mask.
    """

    def __init__(self, config: TransformerConfig, features: int) -> None:
        super().__init__()
        self.patch, self.width = config.patch, config.width
        self.embed = nn.Linear(config.patch * features, config.width)
        self.blocks = nn.Sequential(*(Block(config.width, config.dropout) for _ in range(config.blocks)))
        self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.position_ND: Tensor
        positions = sinusoidal_positions(config.look_back // config.patch, config.width)
        self.register_buffer("position_ND", positions, persistent=False)

    def forward(self, x_BLF: Tensor) -> Tensor:
        patches_BNK = torch.unflatten(x_BLF, 1, (-1, self.patch)).flatten(2)
        hidden_BND: Tensor = self.blocks(self.dropout(self.embed(patches_BNK) + self.position_ND))
        newest_BD: Tensor = self.norm(hidden_BND[:, -1])
        return newest_BD


class Block(nn.Module):
    """Attention, then a feed-forward layer; each normalises what it reads and adds to what it was given."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )

    def forward(self, x_BND: Tensor) -> Tensor:
        x_BND = x_BND + self._drop(self._attend(self.attention_norm(x_BND)))
        return x_BND + self._drop(self.feed_forward(x_BND))

    def _attend(self, x_BND: Tensor) -> Tensor:
        # Three tensors (B, heads, N, D / heads), for the fused kernels of scaled_dot_product_attention.
        q, k, v = torch.unflatten(self.query_key_value(x_BND), 2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        out_BND: Tensor = self.attention_out(mixed.transpose(1, 2).flatten(2))
        return out_BND

    def _drop(self, x_BND: Tensor) -> Tensor:
        return functional.dropout(x_BND, self.dropout, self.training)


def sinusoidal_positions(count: int, width: int) -> Tensor:
    """(count, width): sines in even and cosines in odd columns, of wavelengths from 2 pi to 10000 x 2 pi patches."""
    position_N1 = torch.arange(count, dtype=torch.float32)[:, None]
    frequency_K = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    angle_NK = position_N1 * frequency_K
    return torch.stack((angle_NK.sin(), angle_NK.cos()), dim=2).flatten(1)


class Transformer(NeuralForecaster):
    """Forecasts three horizons at once from the last ``look_back`` sessions."""

    name = "transformer"
