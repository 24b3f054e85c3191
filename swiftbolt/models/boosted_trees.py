"""Gradient-boosted quantile regression (XGBoost): seven quantiles of the volatility-scaled return per horizon.

The target is the cumulative log return over ``sigma sqrt(h)``, so that one model serves calm and wild
shares. Boosting starts from the training range's own quantiles of that target: without a single tree
the forecast is a sensible unconditional one, and every tree has to earn its place on the validation
range. One booster per horizon holds all seven quantiles.

Several workers can grow the trees together, each from its share of the rows (``fit_share``, ``cluster.trees``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, Self
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
from swiftbolt.models.explanations import Explanation, Importance, explanation_of, importance_of, mean_importance
from swiftbolt.panel import Panel
from swiftbolt.scaling import panel_volatility
from swiftbolt.sessions import Sessions
from swiftbolt.windows import train_rows, validation_rows

Rows = NDArray[np.int64]
Labelled = tuple[Rows, Float64]  # with their scaled targets

MEDIAN = LEVELS.index(0.5)
# Returns over many sessions from neighbouring origins are nearly the same: trees learn as much from so many of them.
GROWN_ROWS_A_HORIZON = 5
# Validation rows, evenly spaced, over which contributions are averaged: exact ones cost a microsecond a row and tree.
IMPORTANCE_ROWS = 500


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
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where trees grow; forecasts are made on a CPU.")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Examples:
    """Features (N, F) and the scaled returns they are to foretell."""

    features_NF: NDArray[np.float32]
    target_N: Float64


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BoostingJob:
    """All that one horizon's trees depend on, or a worker's share of it.

    Attributes:
        start_Q: quantiles of the scaled return where boosting starts.
        train: examples to learn from.
        held: examples to stop on.
    """

    config: BoostedTreesConfig
    seed: int
    start_Q: Float64
    train: Examples
    held: Examples


@dataclass(frozen=True, kw_only=True, slots=True)
class GrownTrees:
    """Trees up to the best round, as UBJ, and their CRPS on the examples held back."""

    ubj: bytes
    loss: float


def grow(job: BoostingJob) -> GrownTrees:
    """Boost until validation stops to improve.

    Within a communicator of several workers each grows from its own share, and all return the same trees.
    """
    config = job.config
    shared = {"max_bin": config.max_bin, "nthread": config.threads}
    train, held = (
        {"data": part.features_NF, "label": part.target_N, "base_margin": _tiled(job.start_Q, len(part.target_N))}
        for part in (job.train, job.held)
    )
    data = xgb.QuantileDMatrix(**train, **shared)
    booster = xgb.train(
        {
            "objective": "reg:quantileerror",
            "quantile_alpha": list(LEVELS),
            "tree_method": "hist",
            "learning_rate": config.learning_rate,
            "max_depth": config.max_depth,
            "subsample": config.subsample,
            "colsample_bytree": config.colsample,
            "min_child_weight": config.min_child_weight,
            "reg_lambda": config.reg_lambda,
            "seed": job.seed,
            "device": config.device,
            **shared,
        },
        data,
        num_boost_round=config.rounds,
        evals=[(xgb.QuantileDMatrix(**held, ref=data, **shared), "validation")],
        early_stopping_rounds=config.early_stopping_rounds,
        verbose_eval=False,
    )
    best = booster[: booster.best_iteration + 1]
    return GrownTrees(ubj=bytes(best.save_raw("ubj")), loss=2.0 * float(booster.best_score))


@dataclass(frozen=True, kw_only=True, slots=True)
class HorizonTrees:
    """What was fitted for one horizon.

    Attributes:
        start_Q: quantiles of the scaled target in the training range, where boosting starts.
        booster: the trees kept, or None where no tree improved on ``start_Q`` in validation.
        importance: of the features the trees use.
    """

    start_Q: Float64
    booster: Any
    importance: Importance

    def predict(self, features_NF: NDArray[np.float32], threads: int) -> Float64:
        """Increasing quantiles of the scaled target, (N, Q)."""
        start_NQ = _tiled(self.start_Q, len(features_NF))
        if self.booster is None or not len(features_NF):
            return uncrossed(start_NQ)
        data = xgb.DMatrix(features_NF, base_margin=start_NQ, nthread=threads)
        return uncrossed(np.asarray(self.booster.predict(data), dtype=np.float64))

    def contributions(self, features_NF: NDArray[np.float32], threads: int) -> Float64:
        """What each feature, and last the base, adds to the median of the scaled target; (N, F + 1)."""
        count, features = features_NF.shape
        if self.booster is None or not count:
            return np.tile(np.append(np.zeros(features), self.start_Q[MEDIAN]), (count, 1))
        data = xgb.DMatrix(features_NF, base_margin=_tiled(self.start_Q, count), nthread=threads)
        parts_NQF = np.asarray(self.booster.predict(data, pred_contribs=True), dtype=np.float64)
        # Where quantiles cross, sorting makes another one the median.
        middle_N = np.argsort(parts_NQF.sum(axis=-1), axis=1)[:, MEDIAN]
        return np.asarray(parts_NQF[np.arange(count), middle_N])


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
        """Fit every horizon on the fold, in this process; see ``fit_share``."""
        self.fit_share(panel, fold, seed=seed, rank=0, world_size=1)

    def fit_share(self, panel: Panel, fold: Fold, *, seed: int, rank: int, world_size: int) -> None:
        """Fit every horizon on the fold, as one of several workers within a communicator, who all end as equal models.

        Args:
            rank, world_size: the trees are grown from every ``world_size``-th row, so that neighbouring sessions of a
                symbol go to different workers.

        Raises:
            InsufficientHistory: fewer than ``min_rows`` training rows or no validation row; with several
                symbols fitted apart, those too short are noted and left out, unless all are.
        """
        self._spec_hash = panel.spec_hash
        share = slice(rank, None, world_size)
        if self.scope == "universe":
            who = panel.symbols[0] if len(panel.symbols) == 1 else f"a pool of {len(panel.symbols)} symbols"
            self._trees = {"": self._fit_pool(panel, fold, seed, who, share)}
            return
        self._trees, too_short = {}, []
        for symbol in panel.symbols:
            try:
                self._trees[symbol] = self._fit_pool(panel.select([symbol]), fold, seed, symbol, share)
            except InsufficientHistory as exc:
                too_short.append(exc)
        if not self._trees:
            raise too_short[0] if too_short else InsufficientHistory("an empty panel", self.config.min_rows, 0)
        self.notes += [f"xgboost left out {exc}" for exc in too_short]

    def importance(self) -> dict[int, Importance]:
        """Of each horizon; of symbols fitted apart, the mean over them."""
        pools = self._trees.values()
        return {horizon: mean_importance([trees[horizon].importance for trees in pools]) for horizon in HORIZONS}

    def _fit_pool(self, panel: Panel, fold: Fold, seed: int, who: str, share: slice) -> dict[int, HorizonTrees]:
        sigma_R = panel_volatility(panel)
        usable_R = np.isfinite(sigma_R) & np.isfinite(panel.features_RF).all(axis=1)
        rows_B, y_BH = train_rows(panel, fold)
        held_B, held_y_BH = validation_rows(panel, fold)
        parts = []
        for h, horizon in enumerate(HORIZONS):
            train = _labelled(rows_B, y_BH[:, h], horizon, sigma_R, usable_R)
            held = _labelled(held_B, held_y_BH[:, h], horizon, sigma_R, usable_R)
            if len(train[0]) < self.config.min_rows:
                raise InsufficientHistory(f"{who} (training at horizon {horizon})", self.config.min_rows, len(train[0]))
            if not len(held[0]):
                raise InsufficientHistory(f"{who} (validation at horizon {horizon})", 1, 0)
            every = max(1, horizon // GROWN_ROWS_A_HORIZON)
            grown_from = train[0][::every], train[1][::every]
            parts.append((uncrossed(np.quantile(train[1], LEVELS)), grown_from, held))
        trees = {}
        for horizon, (start_Q, train, held) in zip(HORIZONS, parts, strict=True):
            mine = {"train": _examples(panel, train, share), "held": _examples(panel, held, share)}
            grown = grow(BoostingJob(config=self.config, seed=seed, start_Q=start_Q, **mine))
            trees[horizon] = self._kept(panel, start_Q, held, grown)
        return trees

    def _kept(self, panel: Panel, start_Q: Float64, held: Labelled, grown: GrownTrees) -> HorizonTrees:
        """The trees, unless none at all are better in validation: XGBoost knows only models of one round or more."""
        rows_N, target_N = held
        start = HorizonTrees(start_Q=start_Q, booster=None, importance=Importance(gain={}, shap={}))
        if float(np.mean(crps_from_quantiles(_tiled(start_Q, len(target_N)), target_N))) <= grown.loss:
            return start
        trees = replace(start, booster=_booster(grown.ubj, self.config.threads))
        every = -(-len(rows_N) // IMPORTANCE_ROWS)
        contributions_NF = trees.contributions(panel.features_RF[rows_N[::every]], self.config.threads)[:, :-1]
        score: dict[str, Any] = trees.booster.get_score(importance_type="gain")
        gain = {name: score[f"f{f}"] for f, name in enumerate(panel.feature_names) if f"f{f}" in score}
        return replace(trees, importance=importance_of(gain, panel.feature_names, contributions_NF))

    def forecast(self, panel: Panel, origins: Sessions) -> Forecasts:
        """Forecasts at every origin with finite features and volatility, of symbols the model was fitted for.

        Raises:
            ArtifactMismatch: the panel holds other features than the model was fitted on.
        """
        rows_N, sigma_N = self._forecastable(panel, panel.rows_at(origins))
        return Forecasts(
            model=self.name,
            horizons=HORIZONS,
            symbol_N=_symbols(panel, rows_N),
            origin_N=panel.date_R[rows_N],
            quantiles_NHQ=self._log_returns(panel, rows_N, sigma_N, HorizonTrees.predict, len(LEVELS)),
        )

    def explain(self, panel: Panel, rows: Rows) -> list[Explanation]:
        """Why the forecasts from ``rows`` have the medians they have: by row, then horizon.

        A row that gets no forecast gets no explanation.

        Raises:
            ArtifactMismatch: the panel holds other features than the model was fitted on.
        """
        rows_N, sigma_N = self._forecastable(panel, rows)
        width = len(panel.feature_names) + 1
        parts_NHF = self._log_returns(panel, rows_N, sigma_N, HorizonTrees.contributions, width)
        symbol_N = _symbols(panel, rows_N)
        return [
            explanation_of(
                parts_NHF[n, h],
                features=dict(zip(panel.feature_names, panel.features_RF[row].tolist(), strict=True)),
                symbol=str(symbol_N[n]),
                origin=panel.sessions[panel.session_R[row]].astype(object),
                horizon=horizon,
            )
            for n, row in enumerate(rows_N)
            for h, horizon in enumerate(HORIZONS)
        ]

    def _forecastable(self, panel: Panel, rows: Rows) -> tuple[Rows, Float64]:
        """Those of ``rows`` that get a forecast, and their volatility."""
        if panel.spec_hash != self._spec_hash:
            raise ArtifactMismatch(f"xgboost was fitted on features {self._spec_hash}, not {panel.spec_hash}")
        sigma_R = panel_volatility(panel)
        rows_N = rows[np.isfinite(sigma_R[rows]) & np.isfinite(panel.features_RF[rows]).all(axis=1)]
        if self.scope == "symbol":
            known_S = np.isin(panel.symbols, list(self._trees))
            rows_N = rows_N[known_S[panel.symbol_R[rows_N]]]
        return rows_N, sigma_R[rows_N]

    def _log_returns(
        self,
        panel: Panel,
        rows_N: Rows,
        sigma_N: Float64,
        told_by: Callable[[HorizonTrees, NDArray[np.float32], int], Float64],
        width: int,
    ) -> Float64:
        """What the trees of each row and horizon tell in units of the usual move, as log returns; (N, H, ``width``)."""
        symbol_N = _symbols(panel, rows_N)
        told_NHW = np.empty((len(rows_N), len(HORIZONS), width))
        for key, trees in self._trees.items():
            mine_N = symbol_N == key if key else np.full(len(rows_N), True)
            for h, horizon in enumerate(HORIZONS):
                scaled_MW = told_by(trees[horizon], panel.features_RF[rows_N[mine_N]], self.config.threads)
                told_NHW[mine_N, h] = scaled_MW * (sigma_N[mine_N] * np.sqrt(horizon))[:, None]
        return told_NHW

    def dump(self) -> dict[str, bytes]:
        """``model.json``, ``importance.json``, and ``<horizon>.ubj`` where trees were kept.

        The symbol's name comes first if symbols are fitted apart.
        """
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
                    }
                    for horizon, fitted in trees.items()
                },
            }
            files[f"{prefix}model.json"] = json.dumps(about, indent=1, allow_nan=False).encode()
            importance = {str(horizon): asdict(fitted.importance) for horizon, fitted in trees.items()}
            files[f"{prefix}importance.json"] = json.dumps(importance, indent=1, allow_nan=False).encode()
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
                model._trees[about["symbol"]] = _restored(about, files, model.config)
        except (ValueError, KeyError, TypeError, AttributeError, xgb.core.XGBoostError) as exc:
            raise ArtifactMismatch(f"xgboost: {name} does not describe what lies beside it ({exc})") from exc
        return model


def _labelled(rows_B: Rows, y_B: Float64, horizon: int, sigma_R: Float64, usable_R: NDArray[np.bool_]) -> Labelled:
    """Rows with features, volatility and outcome, and their scaled target."""
    good_B = usable_R[rows_B] & np.isfinite(y_B)
    rows_N = rows_B[good_B]
    return rows_N, y_B[good_B] / (sigma_R[rows_N] * np.sqrt(horizon))


def _examples(panel: Panel, labelled: Labelled, share: slice) -> Examples:
    rows_N, target_N = labelled
    return Examples(features_NF=panel.features_RF[rows_N[share]], target_N=target_N[share])


def _symbols(panel: Panel, rows_N: Rows) -> NDArray[np.str_]:
    """The symbol of each row."""
    return np.array(panel.symbols, dtype=np.str_)[panel.symbol_R[rows_N]]


def _tiled(start_Q: Float64, count: int) -> Float64:
    """Where boosting starts, for every one of ``count`` rows."""
    return np.tile(start_Q, (count, 1))


def _booster(ubj: bytes, threads: int) -> Any:
    booster = xgb.Booster({"nthread": threads})
    booster.load_model(bytearray(ubj))
    return booster


def _prefix(symbol: str) -> str:
    """Start of a symbol's file names; characters that a file system may refuse are percent-encoded."""
    return f"{quote(symbol, safe='')}." if symbol else ""


def _restored(
    about: Mapping[str, Any], files: Mapping[str, bytes], config: BoostedTreesConfig
) -> dict[int, HorizonTrees]:
    prefix = _prefix(about["symbol"])
    importance = json.loads(files[f"{prefix}importance.json"])
    trees = {}
    for horizon, entry in about["horizons"].items():
        start_Q = np.array(entry["start"], dtype=np.float64)
        if start_Q.shape != (len(LEVELS),):
            raise ValueError(f"start has shape {start_Q.shape}")
        trees[int(horizon)] = HorizonTrees(
            start_Q=start_Q,
            booster=_booster(files[f"{prefix}{horizon}.ubj"], config.threads) if entry["rounds"] else None,
            importance=Importance(**importance[horizon]),
        )
    return trees
