"""Targets and look-back windows. The only place where the future of a row is looked at.

Horizon h is the h-th exchange session after the origin. If the symbol has no bar there, or one that was
quarantined, the outcome is NaN and unscored; so it is if the prices between cannot be compared (``Panel.breaks``).

A bar may be found to be faulty when the next one comes (a bad tick). Nothing is learnt from a bar before that: whether
it counted would be later knowledge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from swiftbolt.folds import Fold
from swiftbolt.forecast import HORIZONS
from swiftbolt.panel import Panel
from swiftbolt.sessions import Sessions


def outcomes(panel: Panel, horizons: Sequence[int] = HORIZONS) -> NDArray[np.float64]:
    """Cumulative total-return log return from each row to the h-th session after it.

    Returns:
        y_RH; NaN where that session is beyond the panel or has no bar, and across a break.
    """
    end_RH = _end_rows(panel, horizons)
    return np.where(end_RH >= 0, panel.log_price_R[end_RH] - panel.log_price_R[:, None], np.nan)


def settled(panel: Panel) -> NDArray[np.int64]:
    """Position of the session from which each row's bar is beyond doubt; T, beyond the panel, where none is yet.

    It is that of the symbol's next bar, whether or not that one is doubted later.
    """
    doubted: dict[int, list[int]] = defaultdict(list)
    for bar in panel.doubted:
        doubted[bar.symbol].append(bar.session)
    settled_R = np.empty(len(panel.session_R), dtype=np.int64)
    for s in range(len(panel.symbols)):
        at = panel.session_R[panel.rows(s)]
        every = np.sort(np.concatenate([at, np.array([*doubted[s], len(panel.sessions)], dtype=np.int64)]))
        settled_R[panel.rows(s)] = every[np.searchsorted(every, at, side="right")]
    return settled_R


def outcomes_known(panel: Panel, horizons: Sequence[int] = HORIZONS) -> NDArray[np.int64]:
    """Position of the session from which each of ``outcomes`` counts: its last bar is ``settled``; T where none is."""
    end_RH = _end_rows(panel, horizons)
    return np.where(end_RH >= 0, settled(panel)[end_RH], len(panel.sessions))


def _end_rows(panel: Panel, horizons: Sequence[int]) -> NDArray[np.int64]:
    """Row that each outcome ends with, -1 where there is none."""
    end_RH = np.full((len(panel.session_R), len(horizons)), -1)
    stretch_R = np.zeros(len(panel.session_R), dtype=np.int64)
    stretch_R[panel.breaks] = 1
    stretch_R = np.cumsum(stretch_R)
    row_T = np.full(len(panel.sessions) + max(horizons), -1, dtype=np.int64)
    for s in range(len(panel.symbols)):
        rows = panel.rows(s)
        at = panel.session_R[rows]
        row_T[:] = -1
        row_T[at] = np.arange(rows.start, rows.stop)
        for h, horizon in enumerate(horizons):
            later = row_T[at + horizon]
            end_RH[rows, h] = np.where(stretch_R[later] == stretch_R[rows], later, -1)
    return end_RH


Labelled = tuple[NDArray[np.int64], NDArray[np.float64]]  # rows_B, y_BH


def labelled_rows(
    panel: Panel, first_row_day: np.datetime64, last_row_day: np.datetime64, label_end: np.datetime64,
    horizons: Sequence[int] = HORIZONS,
) -> Labelled:  # fmt: skip
    """Rows of a range of sessions and their outcomes, NaN for labels that do not count by ``label_end``.

    Returns:
        (rows_B, y_BH), rows ascending.
    """
    days = panel.date_R
    rows_B = np.flatnonzero((days >= first_row_day) & (days <= last_row_day))
    y_BH = outcomes(panel, horizons)[rows_B]
    y_BH[outcomes_known(panel, horizons)[rows_B] > panel.position(label_end)] = np.nan
    return rows_B, y_BH


def train_rows(
    panel: Panel, fold: Fold, horizons: Sequence[int] = HORIZONS
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Training rows and outcomes; a label that does not count before validation begins is NaN."""
    label_end = np.datetime64(fold.validation.first) - np.timedelta64(1, "D")
    return labelled_rows(panel, np.datetime64(fold.train.first), np.datetime64(fold.train.last), label_end, horizons)


def validation_rows(
    panel: Panel, fold: Fold, horizons: Sequence[int] = HORIZONS
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Validation rows and outcomes; a label that does not count by ``fold.known_through`` is NaN."""
    return labelled_rows(
        panel,
        np.datetime64(fold.validation.first),
        np.datetime64(fold.validation.last),
        np.datetime64(fold.known_through),
        horizons,
    )


def fold_origins(panel: Panel, fold: Fold) -> Sessions:
    """Sessions a fold forecasts from: its test range or the newest session, and validation before if it ``opens``."""
    wanted = fold.forecast_range.mask(panel.sessions)
    if fold.opens:
        wanted = wanted | fold.validation.mask(panel.sessions)
    origins: Sessions = panel.sessions[wanted]
    return origins


def has_window(panel: Panel, look_back: int) -> NDArray[np.bool_]:
    """True for rows whose last ``look_back`` rows, itself included, are of one symbol and past its warm-up."""
    good: NDArray[np.bool_] = np.asarray(np.isfinite(panel.features_RF).all(axis=1))
    count_R = np.zeros(len(good), dtype=np.int64)
    for s in range(len(panel.symbols)):
        rows = panel.rows(s)
        count_R[rows] = np.cumsum(good[rows])  # without a gap: a panel is finite after the warm-up
    return count_R >= look_back
