"""Panels whose returns a feature foretells, for tests of what can learn."""

from __future__ import annotations

from datetime import date

import numpy as np
from scipy.signal import lfilter
from support.panels import panel_from_returns

from swiftbolt.folds import Fold, FoldConfig, make_folds
from swiftbolt.panel import Panel

PERSISTENCE = 0.9


def planted_panel(
    symbols: int = 3, sessions: int = 420, *, seed: int, strength: float = 0.8, volatility: float = 0.01
) -> Panel:
    """The first of three features is an AR(1) process of unit variance that moves the NEXT return; two are noise.

    Args:
        strength: correlation of the first feature and the next return, 0 to 1.
    """
    rng = np.random.default_rng(seed)
    returns, features = {}, []
    for s in range(symbols):
        shocks = rng.normal(size=sessions) * np.sqrt(1 - PERSISTENCE**2)
        signal = lfilter([1.0], [1.0, -PERSISTENCE], shocks)
        noise = rng.normal(size=(sessions, 3))
        mixed = strength * signal + np.sqrt(1 - strength**2) * noise[:, 0]
        returns[f"S{s:02}"] = volatility * mixed[:-1]  # return i leads to session i + 1
        features.append(np.column_stack([signal, noise[:, 1:]]))
    return panel_from_returns(returns, features=np.concatenate(features).astype(np.float32))


def planted_fold(panel: Panel, *, start: date | None = None) -> Fold:
    """One fold: 60 sessions to validate on, 60 to test."""
    config = FoldConfig(count=1, test_sessions=60, validation_sessions=60, min_train_sessions=60)
    return make_folds(panel.sessions, config, start)[0]
