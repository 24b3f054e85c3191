"""Releases for tests: one written by hand in memory, and small real ones with fitted models on disk and in a store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np
import polars as pl
from support.markets import make_bars
from support.recipes import tiny_recipe

from serve.snapshot import Snapshot
from serve.views import ReleaseRef, SymbolForecast
from swiftbolt.artifact import write_artifact
from swiftbolt.bars import Bars
from swiftbolt.ensemble.calibration import IDENTITY
from swiftbolt.ensemble.weights import ENSEMBLE, EnsembleState, combine
from swiftbolt.folds import make_folds
from swiftbolt.forecast import HORIZONS, MODELS, Forecast, Forecasts, normal_quantiles
from swiftbolt.models.registry import build_model
from swiftbolt.panel import Panel
from swiftbolt.release import Release, explain_members, read_forecasts, write_release
from swiftbolt.store import ReleaseRow, Store
from swiftbolt.universe import Cohort

ORIGIN = date(2013, 3, 1)
MADE_AT = datetime(2013, 3, 1, 22, 0, tzinfo=UTC)
SYMBOLS = ("AAPL", "IBM", "MSFT")
SESSIONS = 440
SMALL_LEAVES = 10.0  # training rows in one: with the recipe's there is no split in so few rows, and nothing to explain
# A quarter each, nothing calibrated: the ensemble is the plain mean of the members' quantiles.
EQUAL = EnsembleState(
    horizons=HORIZONS,
    weights=dict.fromkeys(MODELS, (0.25, 0.25, 0.25)),
    calibration=(IDENTITY, IDENTITY, IDENTITY),
    calibrated=False,
    sessions=(0, 0, 0),
    confidence_threshold=0.55,
    round_trip_cost=0.001,
)


def normal_forecast(symbol: str, model: str, daily_mean: float, daily_sd: float, origin: date = ORIGIN) -> Forecast:
    """A random walk with drift: after h sessions normal with h times the mean and the variance of one."""
    h_H = np.array(HORIZONS, dtype=np.float64)
    quantiles_HQ = normal_quantiles(daily_mean * h_H, daily_sd * np.sqrt(h_H))
    return Forecast.from_quantiles(
        symbol=symbol, origin=origin, model=model, horizons=HORIZONS, quantiles_HQ=quantiles_HQ
    )


def as_rows(*forecasts: Forecast) -> Forecasts:
    """Forecasts of one model as the columns a model returns."""
    return Forecasts(
        model=forecasts[0].model,
        horizons=forecasts[0].horizons,
        symbol_N=np.array([forecast.symbol for forecast in forecasts]),
        origin_N=np.array([forecast.origin for forecast in forecasts], dtype="datetime64[D]"),
        quantiles_NHQ=np.stack([forecast.quantiles_HQ for forecast in forecasts]),
    )


def tiny_bars(sessions: int = SESSIONS, end: date = ORIGIN, symbols: Sequence[str] = SYMBOLS) -> Bars:
    """Bars of a few symbols, just enough to fit every model on."""
    return make_bars(symbols, sessions, seed=11, end=end)


def write_tiny_release(
    artifacts: Path, run: str, panel: Panel, models: Sequence[str] = MODELS, seed: int = 5
) -> Release:
    """Fit ``models`` on the live fold of ``panel`` and write a release directory ``artifacts / run``."""
    recipe = tiny_recipe(*models, seed=seed)
    fold = make_folds(panel.sessions, recipe.folds, live=True)[-1]
    staging = artifacts / f".{run}"
    manifests, forecasts = {}, {}
    for name in models:
        config = recipe.config_of(name)
        if name == "xgboost":
            config = config.model_copy(update={"min_child_weight": SMALL_LEAVES})
        model = build_model(name, config)
        model.fit(panel, fold, seed=seed)
        forecasts[name] = model.forecast(panel, panel.sessions[-1:])
        manifests[name] = write_artifact(
            staging / name, name, model.config.model_dump(mode="json"), model.dump(),
            panel=panel, fold=fold, seed=seed, scores={}, notes=(),
        )  # fmt: skip
    share = 1 / len(models)
    state = EnsembleState(
        horizons=HORIZONS,
        weights=dict.fromkeys(models, (share, share, share)),
        calibration=(IDENTITY, IDENTITY, IDENTITY),
        calibrated=False,
        sessions=(0, 0, 0),
        confidence_threshold=0.55,
        round_trip_cost=0.001,
    )
    published = [*forecasts.values(), combine(forecasts, state)]
    return write_release(
        artifacts / run,
        run=run,
        manifests=manifests,
        staging=staging,
        cohort=Cohort.of(panel.symbols),
        ensemble=state,
        forecasts=pl.concat([part.to_frame() for part in published]),
        explanations=explain_members(staging, manifests, panel),
        scorecard={"models": {}},
        skipped={},
    )


def publish_tiny_release(store: Store, artifacts: Path, panel: Panel, seed: int = 5) -> ReleaseRow:
    """``write_tiny_release`` and the rows that make it a release of ``store``; not promoted."""
    run = store.start_run("retrain", {}, now=datetime.now(UTC))
    release = write_tiny_release(artifacts, run, panel, seed=seed)
    directory = artifacts / run
    version = store.publish_release(
        run=run,
        digest=release.release_digest,
        origin=release.origin,
        directory=str(directory),
        forecasts=read_forecasts(directory),
        results=pl.DataFrame(schema={"model": pl.String, "horizon": pl.Int32, "metrics": pl.String}),
        artifacts=[],
    )
    return store.release(version)


def view_by_hand(symbol: str = "AAPL", close: float = 100.0, version: str = "3") -> SymbolForecast:
    """Three members up, the LSTM down, each with 1 % a day; the ensemble drifts by 0.1 % a day."""
    drifts = {"arima": 0.001, "xgboost": 0.002, "lstm": -0.001, "transformer": 0.002, ENSEMBLE: 0.001}
    return SymbolForecast(
        symbol=symbol,
        origin=ORIGIN,
        close=close,
        made_at=MADE_AT,
        release=ReleaseRef(version=version, run="retrain-by-hand", state=EQUAL, cohort=Cohort.of(SYMBOLS)),
        by_model={name: normal_forecast(symbol, name, drift, 0.01) for name, drift in drifts.items()},
        missing=(),
    )


def snapshot_by_hand(*views: SymbolForecast) -> Snapshot:
    """A snapshot of ``views``, or of AAPL alone, with a few bars of each symbol."""
    views = views or (view_by_hand(),)
    return Snapshot(
        release=views[0].release,
        release_digest="0" * 64,
        origin=ORIGIN,
        views=MappingProxyType({view.symbol: view for view in views}),
        bars=tiny_bars(30, symbols=[view.symbol for view in views]),
        scorecard=MappingProxyType({"models": {"arima": {"1": {"crps": 0.0123}}}}),
    )
