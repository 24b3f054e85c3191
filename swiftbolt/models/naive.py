"""What every model has to beat: a driftless random walk with RiskMetrics volatility, and the same with a drift.

Nothing is fitted: the forecast at an origin is a function of the symbol's own returns up to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from swiftbolt.config import Strict
from swiftbolt.errors import ArtifactMismatch
from swiftbolt.folds import Fold
from swiftbolt.forecast import HORIZONS, Float64, Forecasts, normal_quantiles
from swiftbolt.models.base import Model, Scope
from swiftbolt.panel import Panel
from swiftbolt.scaling import EWMA_ALPHA, EWMA_WARMUP, VOLATILITY_FLOOR, panel_volatility
from swiftbolt.sessions import Sessions


class NaiveConfig(Strict):
    """Nothing to choose: a yardstick with options would be none."""


class Naive(Model):
    """``N(0, h sigma^2)`` with EWMA variance: prices are a random walk, and volatility is that of late.

    Source:
        J.P. Morgan/Reuters (1996), "RiskMetrics - Technical Document", sections 4.2 and 5.2.
    """

    name: ClassVar[str] = "naive"

    def __init__(self, config: NaiveConfig | None = None) -> None:
        super().__init__(config or NaiveConfig())

    @property
    def scope(self) -> Scope:
        """Symbols know nothing of each other."""
        return "symbol"

    def fit(self, panel: Panel, fold: Fold, *, seed: int) -> None:
        """Nothing is learnt; symbols that have stood still for 20 sessions or more are named.

        What is said of them holds for every model that forecasts in units of the EWMA volatility.
        """
        self.notes = []
        for symbol in panel.symbols:
            known_T = panel.date_R[panel.rows(symbol)] <= np.datetime64(fold.known_through)
            returns = panel.log_returns(symbol)[known_T[1:]]
            still = len(returns) - np.max(np.flatnonzero(returns) + 1, initial=0)
            if still >= EWMA_WARMUP:
                self.notes.append(
                    f"{symbol}: constant for {still} sessions by {fold.known_through}, forecast with what volatility"
                    f" is left, {VOLATILITY_FLOOR} a session at least"
                )

    def forecast(self, panel: Panel, origins: Sessions) -> Forecasts:
        """Normal quantiles at every origin that has 20 returns of the symbol before it."""
        sigma_R = panel_volatility(panel)
        rows_N = panel.rows_at(origins)
        rows_N = rows_N[np.isfinite(sigma_R[rows_N])]
        h_H = np.array(HORIZONS, dtype=np.float64)
        return Forecasts(
            model=self.name,
            horizons=HORIZONS,
            symbol_N=np.array(panel.symbols, dtype=np.str_)[panel.symbol_R[rows_N]],
            origin_N=panel.date_R[rows_N],
            quantiles_NHQ=normal_quantiles(
                self._drift(panel)[rows_N, None] * h_H, sigma_R[rows_N, None] * np.sqrt(h_H)
            ),
        )

    def _drift(self, panel: Panel) -> Float64:
        """Expected log return of one session, per row."""
        return np.zeros(len(panel.session_R))

    def dump(self) -> dict[str, bytes]:
        """The one constant, so that an artifact says what it was made with."""
        return {f"{self.name}.json": json.dumps({"ewma_alpha": EWMA_ALPHA}).encode()}

    @classmethod
    def restore(cls, config: Strict, files: Mapping[str, bytes]) -> Self:
        """Rebuild what ``dump`` wrote.

        Raises:
            ArtifactMismatch: the file is missing, or was written with another decay.
        """
        name = f"{cls.name}.json"
        if name not in files:
            raise ArtifactMismatch(f"{cls.name}: {name} is missing")
        if json.loads(files[name]) != {"ewma_alpha": EWMA_ALPHA}:
            raise ArtifactMismatch(f"{cls.name}: {name} was written with another decay than {EWMA_ALPHA}")
        return cls(NaiveConfig.model_validate(config.model_dump()))


class NaiveDrift(Naive):
    """``Naive`` moved by the mean log return of all the symbol's bars up to the origin."""

    name: ClassVar[str] = "naive_drift"

    def _drift(self, panel: Panel) -> Float64:
        drift_R = np.full(len(panel.session_R), np.nan)
        for s in range(len(panel.symbols)):
            rows = panel.rows(s)
            returns = panel.log_returns(s)
            drift_R[rows.start + 1 : rows.stop] = np.cumsum(returns) / np.arange(1, len(returns) + 1)
        return drift_R
