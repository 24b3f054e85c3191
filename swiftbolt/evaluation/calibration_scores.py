"""Where and when a forecast's probabilities hold: by volatility, after breaks, and by the confidence it states.

N forecasts in any order, T sessions ascending.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swiftbolt.evaluation.metrics import directional_accuracy, interval_coverage
from swiftbolt.forecast import Float64
from swiftbolt.panel import Panel
from swiftbolt.scaling import panel_volatility

BREAK_RATIO = 1.5
BREAK_WINDOW = 250
BREAK_SESSIONS = 60  # without one before a break, and counted as "after" it
MIN_SELECTED = 100  # forecasts below which an accuracy says nothing


def coverage_by_tercile(
    quantiles_NQ: Float64, outcome_N: Float64, volatility_N: Float64, nominal: float
) -> tuple[float, float, float]:
    """Share of outcomes inside the central interval in calm, middling and wild rows.

    Args:
        volatility_N: of the symbol over the 20 sessions up to the origin; the bounds of the terciles are those of all
            rows pooled, and a row on a bound belongs to the calmer side.
        nominal: probability of the interval, as for ``interval_coverage``.

    Raises:
        ValueError: a tercile is empty, or ``LEVELS`` has no such interval.
    """
    tercile_N = np.searchsorted(np.quantile(volatility_N, [1 / 3, 2 / 3]), volatility_N, side="left")
    if len(np.unique(tercile_N)) < 3:
        raise ValueError("coverage by tercile needs volatilities that differ")
    calm, middling, wild = (
        interval_coverage(quantiles_NQ[tercile_N == k], outcome_N[tercile_N == k], nominal) for k in range(3)
    )
    return calm, middling, wild


def universe_volatility(panel: Panel) -> Float64:
    """Median over the symbols of the EWMA volatility at each session of the panel, (T,); NaN where none has one."""
    sigma_R = panel_volatility(panel)
    known_R = np.flatnonzero(np.isfinite(sigma_R))
    by_session_R = known_R[np.argsort(panel.session_R[known_R], kind="stable")]
    sessions, first = np.unique(panel.session_R[by_session_R], return_index=True)
    median_T = np.full(len(panel.sessions), np.nan)
    median_T[sessions] = [float(np.median(part)) for part in np.split(sigma_R[by_session_R], first[1:])]
    return median_T


def breaks(volatility_T: Float64) -> NDArray[np.bool_]:
    """True at a session whose volatility is above 1.5 x its median of 250 sessions, when none of the 60 before it was.

    Both windows end where they are known: the median includes the session, and a session that has no median yet, or
    whose 60 predecessors do not all have one, is no break.

    Args:
        volatility_T: of the universe, one value a session; NaN where unknown.
    """
    above_T = np.zeros(len(volatility_T), dtype=np.bool_)
    known_T = np.zeros(len(volatility_T), dtype=np.bool_)
    if len(volatility_T) >= BREAK_WINDOW:
        median = np.median(np.lib.stride_tricks.sliding_window_view(volatility_T, BREAK_WINDOW), axis=1)
        known_T[BREAK_WINDOW - 1 :] = np.isfinite(median)
        above_T[BREAK_WINDOW - 1 :] = volatility_T[BREAK_WINDOW - 1 :] > BREAK_RATIO * median
    quiet_T = _sum_before(known_T & ~above_T, BREAK_SESSIONS) == BREAK_SESSIONS
    return np.asarray(above_T & quiet_T)


def after_breaks(break_T: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True in the 60 sessions after a break, the break itself not counted."""
    return np.asarray(_sum_before(break_T, BREAK_SESSIONS) > 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectivePoint:
    """What acting only on confidence of at least ``threshold`` would have meant: share acted on, and right side."""

    threshold: float
    count: int
    coverage: float
    accuracy: float


def selective_accuracy(p_up_N: Float64, outcome_N: Float64) -> list[SelectivePoint]:
    """Accuracy against coverage: the most confident 1 %, 2 %, ... of forecasts, all those of equal confidence included.

    Shares of fewer than 100 forecasts are left out. The thresholds are chosen with the outcomes at hand: the curve
    describes, it promises nothing.
    """
    confidence_N = np.maximum(p_up_N, 1.0 - p_up_N)
    order_N = np.argsort(-confidence_N, kind="stable")
    ranked_N = confidence_N[order_N]
    points: list[SelectivePoint] = []
    for wanted in sorted({-(-len(ranked_N) * percent // 100) for percent in range(1, 101)} - {0}):
        threshold = float(ranked_N[wanted - 1])
        count = int(np.searchsorted(-ranked_N, -threshold, side="right"))
        if count < MIN_SELECTED or (points and points[-1].count == count):
            continue
        mine = order_N[:count]
        points.append(
            SelectivePoint(
                threshold=threshold,
                count=count,
                coverage=count / len(ranked_N),
                accuracy=directional_accuracy(p_up_N[mine], outcome_N[mine]),
            )
        )
    return points


def coverage_reaching(points: Sequence[SelectivePoint], accuracy: float) -> float | None:
    """The largest share of forecasts whose accuracy is at least ``accuracy``; None if there is no such share."""
    return max((point.coverage for point in points if point.accuracy >= accuracy), default=None)


def _sum_before(true_T: NDArray[np.bool_], window: int) -> NDArray[np.int64]:
    """How many of the ``window`` sessions before each are true."""
    total = np.concatenate(([0], np.cumsum(true_T)))
    at = np.arange(len(true_T))
    return np.asarray(total[at] - total[np.maximum(at - window, 0)])
