"""The networks' head: per horizon a location, a scale and a shape learnt for all origins; scored by the CRPS itself.

Everything here is in standardised units: a return divided by the EWMA volatility at its origin and by the
square root of its horizon. In these units a forecast that knows nothing has location 0 and spread 1.

Learning by the score that forecasts are judged by beat the likelihood of a Student-t at every horizon on origins
2008-2014: a likelihood cares most for tails that it cannot foresee.

Source:
    Gneiting and Raftery (2007), "Strictly Proper Scoring Rules, Prediction, and Estimation", Journal of the American
    Statistical Association 102(477).
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

MEDIAN = LEVELS.index(0.5)
# Locations and log-scales saturate here: no input, however far from the training data, can say more.
LIMIT = 4.0


class Standard(NamedTuple):
    """B distributions at H horizons: quantiles ``loc + exp(log_scale) * shape``; all origins share a horizon's shape.

    ``shape_HQ`` increases along Q and is 0 at the median.
    """

    loc_BH: Tensor
    log_scale_BH: Tensor
    shape_HQ: Tensor


class QuantileHead(nn.Module):
    """From an encoder's output to a distribution per horizon.

    The last layer starts at zero, and the shape at a Student-t's of standard deviation 1: an untrained network says
    what the naive forecast says, with heavier tails, and training can only move away from it where the data ask for it.

    Args:
        df: degrees of freedom of the Student-t that shapes start from.
    """

    def __init__(self, width: int, units: int, horizons: int, df: float, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(width, units), nn.GELU(), nn.Dropout(dropout))
        self.last = nn.Linear(units, 2 * horizons)
        steps_K = torch.tensor(np.diff(student_t_shape(df)), dtype=torch.float32)
        self.raw_step_HK = nn.Parameter(torch.log(torch.expm1(steps_K)).repeat(horizons, 1))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    @property
    def shape_HQ(self) -> Tensor:
        """Quantiles of location 0 and scale 1, from the positive steps between neighbouring levels."""
        step_HK = functional.softplus(self.raw_step_HK)
        from_lowest_HQ = functional.pad(step_HK.cumsum(dim=1), (1, 0))
        return from_lowest_HQ - from_lowest_HQ[:, MEDIAN, None]

    def forward(self, hidden_BW: Tensor) -> Standard:
        # Half precision would round locations to 1 % of a standard deviation: the head stays in float32.
        with torch.autocast(hidden_BW.device.type, enabled=False):
            raw_BK = LIMIT * torch.tanh(self.last(self.hidden(hidden_BW.float())) / LIMIT)
        loc_BH, log_scale_BH = raw_BK.chunk(2, dim=1)
        return Standard(loc_BH, log_scale_BH, self.shape_HQ)


def student_t_shape(df: float) -> NDArray[np.float64]:
    """Quantiles at ``LEVELS`` of a Student-t of standard deviation 1."""
    return np.asarray(stdtrit(df, np.array(LEVELS)) * math.sqrt((df - 2.0) / df))


def crps(forecast: Standard, z_BH: Tensor) -> Tensor:
    """Twice the mean pinball loss over ``LEVELS``, element by element; NaN where ``z_BH`` is NaN."""
    loc_BH, log_scale_BH, shape_HQ = forecast
    miss_BHQ = (z_BH - loc_BH)[..., None] - torch.exp(log_scale_BH)[..., None] * shape_HQ
    level_Q = torch.tensor(LEVELS, dtype=miss_BHQ.dtype, device=miss_BHQ.device)
    return 2.0 * torch.maximum(level_Q * miss_BHQ, (level_Q - 1.0) * miss_BHQ).mean(dim=-1)


def summed_loss(forecast: Standard, z_BH: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the CRPS over the labels that exist, and how many exist.

    A sum and a count, not a mean, so that workers whose shares hold different numbers of labels can be
    added up to the exact mean of the whole batch.
    """
    known_BH = torch.isfinite(z_BH)
    # The gradient of a masked NaN would still be NaN, so it is replaced before the loss is taken.
    loss_BH = crps(forecast, torch.where(known_BH, z_BH, forecast.loc_BH.detach()))
    return torch.where(known_BH, loss_BH, 0.0).sum(), known_BH.sum()


def quantiles(
    loc_NH: NDArray[np.float64], log_scale_NH: NDArray[np.float64], shape_HQ: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Quantiles at ``LEVELS`` in standardised units, (N, H, Q), strictly increasing along Q."""
    return np.asarray(loc_NH[..., None] + np.exp(log_scale_NH)[..., None] * shape_HQ)
