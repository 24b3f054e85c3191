"""The one loop over folds, models and ensemble. Evaluation and retraining both call it, nothing else does.

Where units run (an ``Executor``) and who trains networks (a ``NetworkTrainer``) are arguments; the
numbers do not depend on them.

A symbol is forecast from the session on at which it has had enough bars (``forecast_from``). Before, it only takes part
in what others learn from: nobody knew how long it would last.

The ensemble of a fold is set at fold start from forecasts that had matured by then: the validation
forecasts of the first fold, and every earlier fold's test forecasts. Only the widths of its intervals go on
learning inside a fold, session by session, from what has matured at each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import polars as pl

from swiftbolt.bars import Bars
from swiftbolt.ensemble.conformal import follow
from swiftbolt.ensemble.weights import ENSEMBLE, EnsembleState, combine, fit_ensemble
from swiftbolt.errors import InsufficientHistory, ModelError
from swiftbolt.evaluation.recipe import BASELINES, Recipe
from swiftbolt.evaluation.units import Executor, Outcome, Unit, plan_units
from swiftbolt.folds import Fold, SessionRange
from swiftbolt.forecast import HORIZONS, Forecasts
from swiftbolt.models.explanations import Importance, mean_by_horizon
from swiftbolt.models.network_trainers import NetworkTrainer
from swiftbolt.models.trained import NetworkConfig, NetworkName, TrainingJob
from swiftbolt.panel import Panel
from swiftbolt.windows import outcomes, outcomes_known

FORECAST_ORDER = ("naive", "arima", "xgboost", "lstm", "transformer", "ensemble")
_NEVER = np.datetime64("NaT")  # neither before nor after any session


class Progress(Protocol):
    """Told what is about to happen and what has happened; knows how to show it."""

    def planned(self, stage: str, pieces: Sequence[str]) -> None:
        """``pieces`` of work, named model/symbol/fold, lie ahead in ``stage``."""

    def done(self, stage: str, piece: str, failure: str | None = None) -> None:
        """One piece ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveModel:
    """A member fitted on the live fold: its dumped files and the forecasts from the newest session."""

    files: dict[str, bytes]
    forecasts: Forecasts
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class WalkForward:
    """Everything a walk-forward produced.

    Attributes:
        forecasts: out-of-sample forecasts in the columns and order of forecasts.parquet.
        drift: the same for ``naive_drift``, which is scored but not published.
        live: members of the live fold, empty without one.
        ensembles: the ensemble's state at the start of each fold, by fold index.
        importance: of the features of each model that tells it, by horizon; the mean over test folds.
        failures: what failed, by unit key, each with its reason.
    """

    forecasts: pl.DataFrame
    drift: pl.DataFrame
    live: dict[str, LiveModel]
    live_forecasts: pl.DataFrame
    ensembles: dict[int, EnsembleState]
    importance: dict[str, dict[int, Importance]]
    failures: dict[str, str]
    notes: tuple[str, ...]


def short_of_history(bars: Bars, needed: int) -> dict[str, str]:
    """A sentence for each symbol with fewer than ``needed`` sessions: by the newest of them it is not forecast yet."""
    return {
        symbol: str(InsufficientHistory(symbol, needed, count))
        for symbol, count in bars.sessions_per_symbol().items()
        if count < needed
    }


def forecast_from(panel: Panel, least_history: int) -> dict[str, np.datetime64]:
    """The session at which each symbol first had ``least_history`` bars, as was known then; without those it never had.

    A doubted bar counts at its own session only: there nobody doubts it.
    """
    doubted: dict[int, list[int]] = defaultdict(list)
    for bar in panel.doubted:
        doubted[bar.symbol].append(bar.session)
    found = {}
    for s, symbol in enumerate(panel.symbols):
        at = panel.session_R[panel.rows(s)]
        origins = np.sort(np.concatenate([at, np.array(doubted[s], dtype=np.int64)]))
        enough = origins[np.searchsorted(at, origins) + 1 >= least_history]
        if len(enough):
            found[symbol] = panel.sessions[enough[0]]
    return found


def walk_forward(
    panel: Panel,
    folds: Sequence[Fold],
    recipe: Recipe,
    *,
    least_history: int,
    executor: Executor,
    trainer: NetworkTrainer,
    progress: Progress,
) -> WalkForward:
    """Fit every model on every fold and forecast every test origin; those of burn-in folds are not published.

    Args:
        least_history: bars a symbol must have at an origin, that of the origin included, to be forecast from there.

    Raises:
        ModelError: no member produced a forecast on some fold, so that there is nothing to combine.
    """
    since = forecast_from(panel, least_history)
    planned = plan_units(panel, recipe, folds)
    units = [unit for unit in planned if _is_forecast(unit, since)]
    progress.planned("models", [unit.key for unit in units])
    results = executor.run(panel, recipe, units, lambda o: progress.done("models", o.unit.key, o.failure))
    failures = {o.unit.key: o.failure for o in results if o.failure is not None}
    # A symbol too young throughout a fold is not fitted: that is no failure, it just has no forecast there.
    left = [Outcome(unit=u, forecasts=Forecasts.empty(u.model)) for u in planned if not _is_forecast(u, since)]
    trained, network_failures = _train_networks(panel, folds, recipe, trainer, progress)
    failures.update(network_failures)
    gathered = {key: fitted.since(since) for key, fitted in (_gather([*results, *left]) | trained).items()}

    realised = realised_outcomes(panel)
    past: dict[str, list[Forecasts]] = defaultdict(list)
    parts: dict[int, dict[str, Forecasts]] = {}
    states: dict[int, EnsembleState] = {}
    for fold in folds:
        members = {name: gathered[name, fold.index] for name in recipe.members if (name, fold.index) in gathered}
        if not members:
            if fold.burn_in:  # too early to learn from: the ensemble starts from its prior
                continue
            raise ModelError(f"no model could be fitted on fold {fold.index}: {_first_reason(failures)}")
        if not past:
            for name, fitted in members.items():
                past[name].append(fitted.within(fold.validation))
        # A member that failed on every fold before has no past: none of them is weighed by what it did then.
        states[fold.index] = fit_ensemble(
            {name: Forecasts.concatenate([Forecasts.empty(name), *past[name]]) for name in members},
            realised.filter(pl.col("matured") <= fold.known_through),
            recipe.ensemble,
        )
        parts[fold.index] = {name: fitted.within(fold.forecast_range) for name, fitted in members.items()}
        if not fold.is_live:
            for name, part in parts[fold.index].items():
                past[name].append(part)

    folds = [fold for fold in folds if fold.index in states]
    combined, states = _combine_folds(folds, parts, states, realised, recipe.ensemble.conformal_gain)
    baselines = {key: fitted for key, fitted in gathered.items() if key[0] in BASELINES}
    live: dict[str, LiveModel] = {}
    live_forecasts = pl.DataFrame()
    test_parts: list[pl.DataFrame] = []
    drift_parts: list[pl.DataFrame] = []
    for fold in folds:
        shown = {
            **parts[fold.index],
            ENSEMBLE: combined[fold.index],
            **{
                name: fitted.within(fold.forecast_range)
                for (name, index), fitted in baselines.items()
                if index == fold.index
            },
        }
        if fold.is_live:
            live = {
                name: LiveModel(
                    files=gathered[name, fold.index].files, forecasts=part, notes=gathered[name, fold.index].notes
                )
                for name, part in parts[fold.index].items()
            }
            live_forecasts = pl.concat([part.to_frame() for name, part in shown.items() if name != "naive_drift"])
        elif not fold.burn_in:
            for name, part in shown.items():
                frame = _with_outcomes(part, fold.index, realised)
                (drift_parts if name == "naive_drift" else test_parts).append(frame)
    return WalkForward(
        forecasts=_canonical(test_parts),
        drift=_canonical(drift_parts),
        live=live,
        live_forecasts=live_forecasts,
        ensembles=states,
        importance=_mean_importance(gathered, folds),
        failures=failures,
        notes=tuple(sorted({note for fitted in gathered.values() for note in fitted.notes})),
    )


def _is_forecast(unit: Unit, since: Mapping[str, np.datetime64]) -> bool:
    """Whether the unit has an origin that is not too early for its symbol."""
    return unit.symbol is None or bool(since.get(unit.symbol, _NEVER) <= np.datetime64(unit.fold.forecast_range.last))


def _combine_folds(
    folds: Sequence[Fold],
    parts: Mapping[int, Mapping[str, Forecasts]],
    states: Mapping[int, EnsembleState],
    realised: pl.DataFrame,
    gain: float,
) -> tuple[dict[int, Forecasts], dict[int, EnsembleState]]:
    """The ensemble's forecasts, and its states with the widths that each fold starts from, by fold index."""
    tested = [fold for fold in folds if not fold.is_live]
    published, widths = follow(
        Forecasts.concatenate(
            [Forecasts.empty(ENSEMBLE), *(combine(parts[fold.index], states[fold.index]) for fold in tested)]
        ),
        realised,
        gain=gain,
        known_through=[fold.known_through for fold in folds],
    )
    widened = {
        fold.index: replace(states[fold.index], widths=widths_HK) for fold, widths_HK in zip(folds, widths, strict=True)
    }
    combined = {
        fold.index: combine(parts[fold.index], widened[fold.index])
        if fold.is_live
        else published.take(fold.forecast_range.mask(published.origin_N))
        for fold in folds
    }
    return combined, widened


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fitted:
    """All symbols of one model on one fold."""

    forecasts: Forecasts
    files: dict[str, bytes]
    notes: tuple[str, ...]
    importance: Mapping[int, Importance]

    def since(self, first: Mapping[str, np.datetime64]) -> _Fitted:
        """Without the forecasts of a symbol from origins before its ``first``, or where it has none."""
        first_N = np.array([first.get(symbol, _NEVER) for symbol in self.forecasts.symbol_N], dtype="datetime64[D]")
        return replace(self, forecasts=self.forecasts.take(self.forecasts.origin_N >= first_N))

    def within(self, origins: SessionRange) -> Forecasts:
        return self.forecasts.take(origins.mask(self.forecasts.origin_N))


def _gather(results: Sequence[Outcome]) -> dict[tuple[str, int], _Fitted]:
    """Join the symbols of each model and fold; failed units are left out."""
    parts: dict[tuple[str, int], list[Outcome]] = defaultdict(list)
    for outcome in results:
        if outcome.forecasts is not None:
            parts[outcome.unit.model, outcome.unit.fold.index].append(outcome)
    gathered = {}
    for key, group in parts.items():
        files: dict[str, bytes] = {}
        for outcome in group:
            files.update(outcome.files)
        gathered[key] = _Fitted(
            forecasts=Forecasts.concatenate([o.forecasts for o in group if o.forecasts is not None]),
            files=files,
            notes=tuple(sorted({note for o in group for note in o.notes})),
            importance=mean_by_horizon([o.importance for o in group]),
        )
    return gathered


def _mean_importance(
    gathered: Mapping[tuple[str, int], _Fitted], folds: Sequence[Fold]
) -> dict[str, dict[int, Importance]]:
    """The mean over those of ``folds`` whose forecasts are published, of each model that tells it."""
    published = {fold.index for fold in folds if not (fold.is_live or fold.burn_in)}
    told: dict[str, list[Mapping[int, Importance]]] = defaultdict(list)
    for (name, index), fitted in gathered.items():
        if index in published and fitted.importance:
            told[name].append(fitted.importance)
    return {name: mean_by_horizon(parts) for name, parts in told.items()}


def _train_networks(
    panel: Panel, folds: Sequence[Fold], recipe: Recipe, trainer: NetworkTrainer, progress: Progress
) -> tuple[dict[tuple[str, int], _Fitted], dict[str, str]]:
    """Train every network on every fold in one go, then forecast with them all."""
    jobs = [_job(name, fold, recipe) for name in recipe.networks for fold in folds]
    if not jobs:
        return {}, {}
    key_of = {(job.name, job.fold.index): Unit(model=job.name, fold=job.fold, symbol=None).key for job in jobs}
    progress.planned("networks", list(key_of.values()))
    trained = trainer.train(
        panel, jobs, lambda job, failure: progress.done("networks", key_of[job.name, job.fold.index], failure)
    )
    fits = [(job, result) for job, result in zip(jobs, trained, strict=True) if not isinstance(result, str)]
    fitted: dict[tuple[str, int], _Fitted] = {
        (job.name, job.fold.index): _Fitted(forecasts=left.forecasts, files=left.files, notes=left.notes, importance={})
        for (job, _), left in zip(fits, trainer.forecast(panel, fits), strict=True)
    }
    failures = {
        key_of[job.name, job.fold.index]: result
        for job, result in zip(jobs, trained, strict=True)
        if isinstance(result, str)
    }
    return fitted, failures


def _job(name: NetworkName, fold: Fold, recipe: Recipe) -> TrainingJob:
    config = recipe.models[name]
    assert isinstance(config, NetworkConfig)
    return TrainingJob(name=name, config=config, fold=fold, seed=recipe.seed_of(name, fold.index))


def realised_outcomes(panel: Panel) -> pl.DataFrame:
    """Every outcome the panel holds: ``symbol, origin, horizon, realized``, and ``matured``, from when on it counts.

    That is null for those whose last bar is not beyond doubt by the end of the panel.
    """
    y_RH, known_RH = outcomes(panel), outcomes_known(panel)
    day_T = np.append(panel.sessions, np.datetime64("NaT"))
    symbols = np.array(panel.symbols)[panel.symbol_R]
    frames = []
    for h, horizon in enumerate(HORIZONS):
        rows = np.flatnonzero(np.isfinite(y_RH[:, h]))
        frames.append(
            pl.DataFrame(
                {
                    "symbol": pl.Series(symbols[rows].tolist(), dtype=pl.String),
                    "origin": pl.Series(panel.date_R[rows], dtype=pl.Date),
                    "horizon": pl.Series(np.full(len(rows), horizon), dtype=pl.Int32),
                    "realized": y_RH[rows, h],
                    "matured": pl.Series(day_T[known_RH[rows, h]], dtype=pl.Date),
                }
            )
        )
    return pl.concat(frames)


def _with_outcomes(part: Forecasts, fold: int, realised: pl.DataFrame) -> pl.DataFrame:
    keys = ["symbol", "origin", "horizon"]
    frame = part.to_frame().join(realised.drop("matured"), on=keys, how="left", maintain_order="left")
    columns = frame.columns
    return frame.with_columns(fold=pl.lit(fold, dtype=pl.Int32)).select(*columns[:4], "fold", *columns[4:])


def _canonical(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One frame sorted by symbol, origin, horizon and model, so that equal runs give equal bytes."""
    if not parts:
        return pl.DataFrame()
    places = {name: place for place, name in enumerate(FORECAST_ORDER)}
    rank = pl.col("model").replace_strict(places, default=len(places))
    return pl.concat(parts).sort("symbol", "origin", "horizon", rank)


def _first_reason(failures: Mapping[str, str]) -> str:
    return next((f"{key}: {reason}" for key, reason in failures.items()), "no reason recorded")
