"""Several distributions made into one: by averaging their quantiles, or their probabilities (the linear pool).

Averaged quantiles keep the shape of the members and the mean of their widths; the linear pool is the mixture of the
members, wider than they are on average wherever they disagree.

Source:
    Lichtendahl, Grushka-Cockayne and Winkler (2013), "Is It Better to Average Probabilities or Quantiles?",
    Management Science 59(7).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import ndtr

from swiftbolt.forecast import LEVELS, Z_Q, Float64

Pool = Literal["quantiles", "linear"]

BISECTIONS = 40  # to a trillionth of the distance between the members


def pooled(quantiles_MNQ: Float64, weights_MN: Float64, pool: Pool) -> Float64:
    """One distribution a row.

    Args:
        weights_MN: not negative, summing to one over the members M; (M, 1) where all rows share theirs. A member
            without weight in a row may hold any increasing quantiles there.

    Returns:
        (N, Q), increasing.
    """
    if pool == "quantiles":
        # Member after member: the bits of a row do not depend on how many rows there are.
        averaged_NQ = np.zeros(quantiles_MNQ.shape[1:])
        for weight_N, member_NQ in zip(weights_MN, quantiles_MNQ, strict=True):
            averaged_NQ += weight_N[:, None] * member_NQ
        return averaged_NQ
    return _mixture_quantiles(quantiles_MNQ, weights_MN)


def _mixture_quantiles(quantiles_MNQ: Float64, weights_MN: Float64) -> Float64:
    """Quantiles of ``sum_m w_m F_m``, by bisection between the least and the greatest of the members'."""
    weights_MN = np.broadcast_to(weights_MN, quantiles_MNQ.shape[:2])
    # A member without weight must not widen the search: its quantiles are replaced by those of the heaviest.
    heaviest_NQ = quantiles_MNQ[np.argmax(weights_MN, axis=0), np.arange(weights_MN.shape[1])]
    members_MNQ = np.where(weights_MN[..., None] > 0, quantiles_MNQ, heaviest_NQ)
    low_NQ, high_NQ = members_MNQ.min(axis=0), members_MNQ.max(axis=0)
    for _ in range(BISECTIONS):
        middle_NQ = 0.5 * (low_NQ + high_NQ)
        below_NQ = np.zeros(middle_NQ.shape)
        for weight_N, member_NQ in zip(weights_MN, members_MNQ, strict=True):
            below_NQ += weight_N[:, None] * ndtr(score_at(member_NQ, middle_NQ))
        short_NQ = below_NQ < np.array(LEVELS)
        low_NQ, high_NQ = np.where(short_NQ, middle_NQ, low_NQ), np.where(short_NQ, high_NQ, middle_NQ)
    return np.asarray(0.5 * (low_NQ + high_NQ))


def score_at(quantiles_NQ: Float64, return_NK: Float64) -> Float64:
    """Normal score z of the probability of staying below each return; beyond the outermost quantiles too."""
    piece_NK = np.sum(quantiles_NQ[:, None, 1:-1] < return_NK[..., None], axis=2)
    left_NK = np.take_along_axis(quantiles_NQ, piece_NK, axis=1)
    right_NK = np.take_along_axis(quantiles_NQ, piece_NK + 1, axis=1)
    z_left_NK, z_right_NK = Z_Q[piece_NK], Z_Q[piece_NK + 1]
    return np.asarray(z_left_NK + (return_NK - left_NK) * (z_right_NK - z_left_NK) / (right_NK - left_NK))


def return_at(quantiles_NQ: Float64, z_N: Float64) -> Float64:
    """The return at a normal score: the inverse of ``score_at``."""
    piece_N1 = np.sum(Z_Q[1:-1] < z_N[:, None], axis=1, keepdims=True)
    left, right = (np.take_along_axis(quantiles_NQ, piece, axis=1)[:, 0] for piece in (piece_N1, piece_N1 + 1))
    z_left, z_right = Z_Q[piece_N1][:, 0], Z_Q[piece_N1 + 1][:, 0]
    return np.asarray(left + (right - left) * (z_N - z_left) / (z_right - z_left))
