"""Student-t distributions of several horizons at once: the head of the networks, its likelihood and its quantiles.

Everything here is in standardised units: a return divided by the EWMA volatility at its origin and by the
square root of its horizon. In these units a forecast that knows nothing has location 0 and spread 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor, nn
from torch.nn import functional

from swiftbolt.forecast import LEVELS

MIN_DF = 2.1  # the variance of a Student-t is finite only above 2
# Locations and log-scales saturate here: no input, however far from the training data, can say more.
LIMIT = 4.0


class StudentT(NamedTuple):
    """B distributions at H horizons; the tail of a horizon is shared by all origins."""

    loc_BH: Tensor
    log_scale_BH: Tensor
    df_H: Tensor


class StudentTHead(nn.Module):
    """From an encoder's output to a Student-t per horizon.

    The last layer starts at zero weights, and at the bias that gives location 0 and standard deviation 1:
    an untrained network says what the naive forecast says, and training can only move away from it
    where the data ask for it.
    """

    def __init__(self, width: int, units: int, horizons: int, df: float, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(width, units), nn.GELU(), nn.Dropout(dropout))
        self.last = nn.Linear(units, 2 * horizons)
        self.raw_df_H = nn.Parameter(torch.full((horizons,), math.log(math.expm1(df - MIN_DF))))
        log_scale = 0.5 * math.log((df - 2.0) / df)
        with torch.no_grad():
            self.last.weight.zero_()
            self.last.bias[:horizons] = 0.0
            self.last.bias[horizons:] = LIMIT * math.atanh(log_scale / LIMIT)

    @property
    def df_H(self) -> Tensor:
        """Degrees of freedom of each horizon, above ``MIN_DF``."""
        return MIN_DF + functional.softplus(self.raw_df_H)

    def forward(self, hidden_BW: Tensor) -> StudentT:
        # Half precision would round locations to 1 % of a standard deviation: the head stays in float32.
        with torch.autocast(hidden_BW.device.type, enabled=False):
            raw_BK = LIMIT * torch.tanh(self.last(self.hidden(hidden_BW.float())) / LIMIT)
        loc_BH, log_scale_BH = raw_BK.chunk(2, dim=1)
        return StudentT(loc_BH, log_scale_BH, self.df_H)


def negative_log_likelihood(forecast: StudentT, z_BH: Tensor) -> Tensor:
    """Minus the log density at ``z_BH``, element by element; NaN where ``z_BH`` is NaN."""
    loc_BH, log_scale_BH, df_H = forecast
    distance_BH = ((z_BH - loc_BH) * torch.exp(-log_scale_BH)) ** 2
    normaliser_H = torch.lgamma(df_H / 2) - torch.lgamma((df_H + 1) / 2) + 0.5 * torch.log(math.pi * df_H)
    return normaliser_H + log_scale_BH + (df_H + 1) / 2 * torch.log1p(distance_BH / df_H)


def summed_loss(forecast: StudentT, z_BH: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the negative log likelihood over the labels that exist, and how many exist.

    A sum and a count, not a mean, so that workers whose shares hold different numbers of labels can be
    added up to the exact mean of the whole batch.
    """
    known_BH = torch.isfinite(z_BH)
    # The gradient of a masked NaN would still be NaN, so it is replaced before the likelihood is taken.
    loss_BH = negative_log_likelihood(forecast, torch.where(known_BH, z_BH, forecast.loc_BH.detach()))
    return torch.where(known_BH, loss_BH, 0.0).sum(), known_BH.sum()


def quantiles(
    loc_NH: NDArray[np.float64], log_scale_NH: NDArray[np.float64], df_H: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Quantiles at ``LEVELS`` in standardised units, (N, H, Q), strictly increasing along Q."""
    standard_HQ = stdtrit(df_H[:, None], np.array(LEVELS))
    return np.asarray(loc_NH[..., None] + np.exp(log_scale_NH)[..., None] * standard_HQ)
