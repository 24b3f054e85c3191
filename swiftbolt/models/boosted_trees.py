"""Gradient-boosted quantile regression (XGBoost): seven quantiles of the volatility-scaled return per horizon.

The target is the cumulative log return over ``sigma sqrt(h)``, so that one model serves calm and wild
shares. Boosting starts from the training range's own quantiles of that target: without a single tree
the forecast is a sensible unconditional one, and every tree has to earn its place on the validation
range. One booster per horizon holds all seven quantiles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self
from urllib.parse import quote

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray
from pydantic import Field

from swiftbolt.config import Strict
from swiftbolt.errors import ArtifactMismatch, InsufficientHistory
from swiftbolt.folds import Fold
from swiftbolt.forecast import HORIZONS, LEVELS, Float64, Forecasts, crps_from_quantiles, uncrossed
from swiftbolt.models.base import Model, Scope
from swiftbolt.panel import Panel
from swiftbolt.scaling import panel_volatility
from swiftbolt.sessions import Sessions
from swiftbolt.windows import train_rows, validation_rows

Rows = NDArray[np.int64]


class BoostedTreesConfig(Strict):
    """Small steps, shallow trees, wide leaves: returns are mostly noise."""

    scope: Scope = Field("universe", description="universe: one model for all symbols; symbol: one for each.")
    rounds: int = Field(300, ge=1, description="Most boosting rounds.")
    early_stopping_rounds: int = Field(25, ge=1, description="Rounds without a better validation loss to stop after.")
    max_depth: int = Field(3, ge=1, le=12, description="Depth of a tree.")
    learning_rate: float = Field(0.05, gt=0, le=1, description="Share of each tree that is added.")
    subsample: float = Field(0.5, gt=0, le=1, description="Share of rows each tree sees.")
    colsample: float = Field(0.5, gt=0, le=1, description="Share of features each tree sees.")
    min_child_weight: float = Field(100.0, ge=0, description="Fewest training rows in a leaf.")
    reg_lambda: float = Field(1.0, ge=0, description="L2 penalty in a split's gain (XGBoost's lambda).")
    max_bin: int = Field(64, ge=2, le=1024, description="Histogram bins per feature.")
    min_rows: int = Field(250, ge=1, description="Fewest training rows with a label at the longest horizon.")
    threads: int = Field(1, ge=1, description="Threads of one fit; results do not depend on it.")


@dataclass(frozen=True, kw_only=True, slots=True)
class HorizonTrees:
    """What was fitted for one horizon.

    Attributes:
        start_Q: quantiles of the scaled target in the training range, where boosting starts.
        booster: the trees kept, or None where no tree improved on ``start_Q`` in validation.
        gain: mean gain of the splits on each feature that has one.
    """

    start_Q: Float64
    booster: Any
    gain: dict[str, float]

    def predict(self, features_NF: NDArray[np.float32], threads: int) -> Float64:
        """Increasing quantiles of the scaled target, (N, Q)."""
        start_NQ = np.tile(self.start_Q, (len(features_NF), 1))
        if self.booster is None or not len(features_NF):
            return uncrossed(start_NQ)
        data = xgb.DMatrix(features_NF, base_margin=start_NQ, nthread=threads)
        return uncrossed(np.asarray(self.booster.predict(data), dtype=np.float64))


class BoostedTrees(Model):
    """XGBoost quantile regression on the panel's features.

    Source:
        Chen and Guestrin (2016), "XGBoost: A Scalable Tree Boosting System", KDD; Koenker and Bassett (1978),
        "Regression Quantiles", Econometrica 46(1).
    """

    name: ClassVar[str] = "xgboost"
    config: BoostedTreesConfig

    def __init__(self, config: BoostedTreesConfig) -> None:
        super().__init__(config)
        # Key "" holds the model of the whole universe, other keys those of symbols.
        self._trees: dict[str, dict[int, HorizonTrees]] = {}
        self._spec_hash = ""

    @property
    def scope(self) -> Scope:
        """As configured."""
        return self.config.scope

    def fit(self, panel: Panel, fold: Fold, *, seed: int) -> None:
        """Fit every horizon on the fold.

        Raises:
            InsufficientHistory: fewer than ``min_rows`` training rows or no validation row; with several
                symbols fitted apart, those too short are noted and left out, unless all are.
        """
        self._spec_hash = panel.spec_hash
        if self.scope == "universe":
            who = panel.symbols[0] if len(panel.symbols) == 1 else f"a pool of {len(panel.symbols)} symbols"
            self._trees = {"": self._fit_pool(panel, fold, seed, who)}
            return
        self._trees, too_short = {}, []
        for symbol in panel.symbols:
            try:
                self._trees[symbol] = self._fit_pool(panel.select([symbol]), fold, seed, symbol)
            except InsufficientHistory as exc:
                too_short.append(exc)
        if not self._trees:
            raise too_short[0] if too_short else InsufficientHistory("an empty panel", self.config.min_rows, 0)
        self.notes += [f"xgboost left out {exc}" for exc in too_short]

    def _fit_pool(self, panel: Panel, fold: Fold, seed: int, who: str) -> dict[int, HorizonTrees]:
        sigma_R = panel_volatility(panel)
        usable_R = np.isfinite(sigma_R) & np.isfinite(panel.features_RF).all(axis=1)
        rows_B, y_BH = train_rows(panel, fold)
        held_B, held_y_BH = validation_rows(panel, fold)
        fitted = {}
        for h, horizon in enumerate(HORIZONS):
            train = _examples(rows_B, y_BH[:, h], horizon, sigma_R, usable_R)
            held = _examples(held_B, held_y_BH[:, h], horizon, sigma_R, usable_R)
            if len(train[0]) < self.config.min_rows:
                raise InsufficientHistory(f"{who} (training at horizon {horizon})", self.config.min_rows, len(train[0]))
            if not len(held[0]):
                raise InsufficientHistory(f"{who} (validation at horizon {horizon})", 1, 0)
            fitted[horizon] = self._fit_horizon(panel, train, held, seed)
        return fitted

    def _fit_horizon(
        self, panel: Panel, train: tuple[Rows, Float64], held: tuple[Rows, Float64], seed: int
    ) -> HorizonTrees:
        rows_N, target_N = train
        held_rows_M, held_target_M = held
        start_Q = uncrossed(np.quantile(target_N, LEVELS))
        shared = {"max_bin": self.config.max_bin, "nthread": self.config.threads}
        data = xgb.QuantileDMatrix(
            panel.features_RF[rows_N], target_N, base_margin=np.tile(start_Q, (len(rows_N), 1)), **shared
        )
        held_data = xgb.QuantileDMatrix(
            panel.features_RF[held_rows_M],
            held_target_M,
            base_margin=np.tile(start_Q, (len(held_rows_M), 1)),
            ref=data,
            **shared,
        )
        booster = xgb.train(
            self._parameters(seed),
            data,
            num_boost_round=self.config.rounds,
            evals=[(held_data, "validation")],
            early_stopping_rounds=self.config.early_stopping_rounds,
            verbose_eval=False,
        )
        # XGBoost knows only models of one round or more; none at all may be the best.
        unconditional = float(np.mean(crps_from_quantiles(np.tile(start_Q, (len(held_target_M), 1)), held_target_M)))
        if unconditional <= 2.0 * booster.best_score:
            return HorizonTrees(start_Q=start_Q, booster=None, gain={})
        best = booster[: booster.best_iteration + 1]
        gain: dict[str, Any] = best.get_score(importance_type="gain")
        return HorizonTrees(
            start_Q=start_Q,
            booster=best,
            gain={name: float(gain[f"f{f}"]) for f, name in enumerate(panel.feature_names) if f"f{f}" in gain},
        )

    def _parameters(self, seed: int) -> dict[str, Any]:
        return {
            "objective": "reg:quantileerror",
            "quantile_alpha": list(LEVELS),
            "tree_method": "hist",
            "learning_rate": self.config.learning_rate,
            "max_depth": self.config.max_depth,
            "subsample": self.config.subsample,
            "colsample_bytree": self.config.colsample,
            "min_child_weight": self.config.min_child_weight,
            "reg_lambda": self.config.reg_lambda,
            "max_bin": self.config.max_bin,
            "nthread": self.config.threads,
            "seed": seed,
        }

    def forecast(self, panel: Panel, origins: Sessions) -> Forecasts:
        """Forecasts at every origin with finite features and volatility, of symbols the model was fitted for.

        Raises:
            ArtifactMismatch: the panel holds other features than the model was fitted on.
        """
        if panel.spec_hash != self._spec_hash:
            raise ArtifactMismatch(f"xgboost was fitted on features {self._spec_hash}, not {panel.spec_hash}")
        sigma_R = panel_volatility(panel)
        usable_R = np.isfinite(sigma_R) & np.isfinite(panel.features_RF).all(axis=1)
        rows_N = panel.rows_at(origins)
        rows_N = rows_N[usable_R[rows_N]]
        symbol_N = np.array(panel.symbols, dtype=np.str_)[panel.symbol_R[rows_N]]
        if self.scope == "symbol":
            fitted_N = np.isin(symbol_N, list(self._trees))
            rows_N, symbol_N = rows_N[fitted_N], symbol_N[fitted_N]
        quantiles_NHQ = np.empty((len(rows_N), len(HORIZONS), len(LEVELS)))
        for key, trees in self._trees.items():
            mine_N = np.full(len(rows_N), True) if key == "" else symbol_N == key
            rows_M = rows_N[mine_N]
            for h, horizon in enumerate(HORIZONS):
                scaled_MQ = trees[horizon].predict(panel.features_RF[rows_M], self.config.threads)
                quantiles_NHQ[mine_N, h] = scaled_MQ * (sigma_R[rows_M] * np.sqrt(horizon))[:, None]
        return Forecasts(
            model=self.name,
            horizons=HORIZONS,
            symbol_N=symbol_N,
            origin_N=panel.date_R[rows_N],
            quantiles_NHQ=quantiles_NHQ,
        )

    def dump(self) -> dict[str, bytes]:
        """``model.json``, and ``<horizon>.ubj`` where trees were kept; a symbol's name comes first if fitted apart."""
        files = {}
        for key, trees in self._trees.items():
            prefix = _prefix(key)
            about = {
                "symbol": key,
                "spec_hash": self._spec_hash,
                "horizons": {
                    str(horizon): {
                        "start": fitted.start_Q.tolist(),
                        "rounds": 0 if fitted.booster is None else fitted.booster.num_boosted_rounds(),
                        "gain": fitted.gain,
                    }
                    for horizon, fitted in trees.items()
                },
            }
            files[f"{prefix}model.json"] = json.dumps(about, indent=1, allow_nan=False).encode()
            for horizon, fitted in trees.items():
                if fitted.booster is not None:
                    files[f"{prefix}{horizon}.ubj"] = bytes(fitted.booster.save_raw("ubj"))
        return files

    @classmethod
    def restore(cls, config: Strict, files: Mapping[str, bytes]) -> Self:
        """Rebuild what ``dump`` wrote.

        Raises:
            ArtifactMismatch: a file is missing or cannot be read.
        """
        model = cls(BoostedTreesConfig.model_validate(config.model_dump()))
        described = [name for name in sorted(files) if name.endswith("model.json")]
        if not described:
            raise ArtifactMismatch(f"xgboost: no model.json among {sorted(files)}")
        try:
            for name in described:
                about = json.loads(files[name])
                model._spec_hash = about["spec_hash"]
                model._trees[about["symbol"]] = {
                    int(horizon): _restored(entry, files, f"{_prefix(about['symbol'])}{horizon}.ubj", model.config)
                    for horizon, entry in about["horizons"].items()
                }
        except (ValueError, KeyError, TypeError, AttributeError, xgb.core.XGBoostError) as exc:
            raise ArtifactMismatch(f"xgboost: {name} does not describe what lies beside it ({exc})") from exc
        return model


def _examples(
    rows_B: Rows, y_B: Float64, horizon: int, sigma_R: Float64, usable_R: NDArray[np.bool_]
) -> tuple[Rows, Float64]:
    """Rows with features, volatility and outcome, and their scaled target."""
    good_B = usable_R[rows_B] & np.isfinite(y_B)
    rows_N = rows_B[good_B]
    return rows_N, y_B[good_B] / (sigma_R[rows_N] * np.sqrt(horizon))


def _prefix(symbol: str) -> str:
    """Start of a symbol's file names; characters that a file system may refuse are percent-encoded."""
    return f"{quote(symbol, safe='')}." if symbol else ""


def _restored(
    entry: Mapping[str, Any], files: Mapping[str, bytes], name: str, config: BoostedTreesConfig
) -> HorizonTrees:
    booster = None
    if entry["rounds"]:
        booster = xgb.Booster({"nthread": config.threads})
        booster.load_model(bytearray(files[name]))
    start_Q = np.array(entry["start"], dtype=np.float64)
    if start_Q.shape != (len(LEVELS),):
        raise ValueError(f"start has shape {start_Q.shape}")
    return HorizonTrees(start_Q=start_Q, booster=booster, gain=dict(entry["gain"]))
