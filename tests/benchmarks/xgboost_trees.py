"""Boosted quantile trees, fitted and forecasting, against a booster for every horizon and quantile.

    PYTHONPATH=tests python -m benchmarks xgboost

The peer is XGBoost as tutorials use it: for every one of 3 horizons and 7 quantiles a matrix is built and a booster of
its own grown, early stopping included, on the same rows, targets and settings of the trees. Both use one thread, and
seconds are those of CPU time. Without the shared prices synthetic ones are used.
"""

from __future__ import annotations

import time
from datetime import date

import numpy as np
import xgboost as xgb
from benchmarks.features import load

from swiftbolt.features import build_panel
from swiftbolt.folds import Fold, FoldConfig, make_folds
from swiftbolt.forecast import HORIZONS, LEVELS, Float64, crps_from_quantiles, uncrossed
from swiftbolt.models.boosted_trees import BoostedTrees, BoostedTreesConfig
from swiftbolt.panel import Panel
from swiftbolt.scaling import panel_volatility
from swiftbolt.windows import outcomes, train_rows, validation_rows

SYMBOLS, START, END = 12, date(2003, 1, 1), date(2014, 12, 31)  # not the years on which models are judged
FOLDS = FoldConfig(count=1, test_sessions=252, validation_sessions=252, min_train_sessions=756)
CONFIG = BoostedTreesConfig.model_validate({})


def main() -> None:
    """Measure and print the table."""
    bars, actions = load()
    symbols = bars.symbols[:: max(1, len(bars.symbols) // SYMBOLS)][:SYMBOLS]
    panel = build_panel(bars.select(symbols, start=START, end=END), actions.select(symbols=symbols))
    fold = make_folds(panel.sessions, FOLDS)[0]
    origins = panel.sessions[fold.test.mask(panel.sessions)] if fold.test else panel.sessions[:0]
    y_NH = outcomes(panel)[panel.rows_at(origins)]
    print(f"xgboost: {len(panel.session_R):,} rows of {len(symbols)} symbols, {len(panel.feature_names)} features")

    started = time.process_time()
    model = BoostedTrees(CONFIG)
    model.fit(panel, fold, seed=1)
    fitted = time.process_time()
    quantiles_NHQ = model.forecast(panel, origins).quantiles_NHQ
    ours = time.process_time() - started
    line("one booster a horizon", ours, crps(quantiles_NHQ, y_NH))
    print(f"    of which forecasting {ours - (fitted - started):.2f} s")

    started = time.process_time()
    quantiles_NHQ = peer(panel, fold, panel.rows_at(origins))
    theirs = time.process_time() - started
    line("a booster a quantile", theirs, crps(quantiles_NHQ, y_NH))
    print(f"  the peer takes {theirs / ours:.2f} times as long")


def crps(quantiles_NHQ: Float64, y_NH: Float64) -> Float64:
    """Mean score of each horizon."""
    return np.asarray(np.nanmean(crps_from_quantiles(quantiles_NHQ, y_NH), axis=0))


def peer(panel: Panel, fold: Fold, rows_N: np.ndarray) -> Float64:
    """Fit and forecast, one quantile of one horizon after the other."""
    sigma_R = panel_volatility(panel)
    quantiles_NHQ = np.empty((len(rows_N), len(HORIZONS), len(LEVELS)))
    for h, horizon in enumerate(HORIZONS):
        scale_R = sigma_R * np.sqrt(horizon)
        parts = []
        for rows_B, y_BH in (train_rows(panel, fold), validation_rows(panel, fold)):
            good_B = np.isfinite(y_BH[:, h]) & np.isfinite(panel.features_RF[rows_B]).all(axis=1)
            parts.append((panel.features_RF[rows_B[good_B]], y_BH[good_B, h] / scale_R[rows_B[good_B]]))
        for q, level in enumerate(LEVELS):
            booster = xgb.train(
                {
                    "objective": "reg:quantileerror",
                    "quantile_alpha": level,
                    "tree_method": "hist",
                    "learning_rate": CONFIG.learning_rate,
                    "max_depth": CONFIG.max_depth,
                    "subsample": CONFIG.subsample,
                    "colsample_bytree": CONFIG.colsample,
                    "min_child_weight": CONFIG.min_child_weight,
                    "nthread": 1,
                    "seed": 1,
                },
                xgb.DMatrix(*parts[0], nthread=1),
                num_boost_round=CONFIG.rounds,
                evals=[(xgb.DMatrix(*parts[1], nthread=1), "validation")],
                early_stopping_rounds=CONFIG.early_stopping_rounds,
                verbose_eval=False,
            )
            scaled_N = booster.predict(
                xgb.DMatrix(panel.features_RF[rows_N], nthread=1), iteration_range=(0, booster.best_iteration + 1)
            )
            quantiles_NHQ[:, h, q] = scaled_N * scale_R[rows_N]
    return uncrossed(quantiles_NHQ)


def line(what: str, seconds: float, crps_H: Float64) -> None:
    """One line of the table."""
    print(f"  {what:24}{seconds:8.2f} s   CRPS {', '.join(f'{score:.5f}' for score in crps_H)}", flush=True)


if __name__ == "__main__":
    main()
