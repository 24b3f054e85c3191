"""The smallest piece of a walk-forward that can fail, be retried or run elsewhere: one model on one fold.

Symbol-scoped models are cut further, into one unit per symbol. A unit takes values and returns values;
an executor decides where it runs.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from threadpoolctl import threadpool_limits

from swiftbolt.errors import SwiftBoltError
from swiftbolt.evaluation.recipe import BASELINES, Recipe
from swiftbolt.evaluation.unit_keys import unit_key
from swiftbolt.folds import Fold
from swiftbolt.forecast import Forecasts
from swiftbolt.models.base import forecast_as_known
from swiftbolt.models.explanations import Explaining, Importance
from swiftbolt.models.registry import build_model
from swiftbolt.panel import Panel
from swiftbolt.processes import NO_COST, Cost, Meter, spread
from swiftbolt.windows import fold_origins


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One model on one fold, for one symbol or (``symbol`` None) for the whole universe."""

    model: str
    fold: Fold
    symbol: str | None

    @property
    def key(self) -> str:
        """Name of the unit in ledgers and logs."""
        return unit_key(self.model, self.symbol, "live" if self.fold.is_live else self.fold.index)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a unit left behind.

    Attributes:
        forecasts: from every origin of the fold (``fold_origins``), or None if it failed.
        files: the fitted model's ``dump`` where the fold is live, else empty.
        importance: of its features, by horizon, where the model tells it.
        failure: None, or a sentence.
        cost: what it took.
        attempts: how often it was begun.
    """

    unit: Unit
    forecasts: Forecasts | None
    files: dict[str, bytes] = field(default_factory=dict)
    importance: dict[int, Importance] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failure: str | None = None
    cost: Cost = NO_COST
    attempts: int = 1


OnOutcome = Callable[[Outcome], None]


class Executor(Protocol):
    """Runs units somewhere, in any order, and reports each as it ends."""

    def run(self, panel: Panel, recipe: Recipe, units: Sequence[Unit], on_done: OnOutcome) -> list[Outcome]:
        """Outcomes in the order of ``units``; a failing unit is an outcome, never an exception."""


def plan_units(panel: Panel, recipe: Recipe, folds: Sequence[Fold]) -> list[Unit]:
    """Units of every model that is not a network, symbols outermost so that shards hold whole symbols."""
    names = [*BASELINES, *(name for name in recipe.members if name not in recipe.networks)]
    scopes = {name: build_model(name, recipe.config_of(name)).scope for name in names}
    pooled = [
        Unit(model=name, fold=fold, symbol=None) for name in names if scopes[name] == "universe" for fold in folds
    ]
    apart = [
        Unit(model=name, fold=fold, symbol=symbol)
        for symbol in panel.symbols
        for name in names
        if scopes[name] == "symbol"
        for fold in folds
    ]
    return pooled + apart


def run_unit(panel: Panel, recipe: Recipe, unit: Unit) -> Outcome:
    """Fit and forecast; whatever goes wrong becomes the outcome's ``failure``."""
    with Meter() as meter:
        outcome = _fit_and_forecast(panel, recipe, unit)
    return replace(outcome, cost=meter.cost)


def _fit_and_forecast(panel: Panel, recipe: Recipe, unit: Unit) -> Outcome:
    try:
        with threadpool_limits(limits=1):
            own = panel if unit.symbol is None else panel.select([unit.symbol])
            model = build_model(unit.model, recipe.config_of(unit.model))
            # The same for every symbol, and the one in the artifact's manifest: a unit per symbol gives what
            # one fit of the whole universe gives.
            model.fit(own, unit.fold, seed=recipe.seed_of(unit.model, unit.fold.index))
            forecasts = forecast_as_known(model, own, fold_origins(own, unit.fold))
            return Outcome(
                unit=unit,
                forecasts=forecasts,
                files=model.dump() if unit.fold.is_live else {},
                importance=model.importance() if isinstance(model, Explaining) else {},
                notes=tuple(model.notes),
            )
    except SwiftBoltError as exc:
        return Outcome(unit=unit, forecasts=None, failure=str(exc))
    except Exception as exc:  # noqa: BLE001 - one symbol's bug must not stop a universe; the reason is kept and shown
        place = traceback.extract_tb(exc.__traceback__)[-1]
        return Outcome(
            unit=unit, forecasts=None, failure=f"{type(exc).__name__}: {exc} ({place.name}, line {place.lineno})"
        )


class SerialExecutor:
    """Runs units one after another in this process."""

    def run(self, panel: Panel, recipe: Recipe, units: Sequence[Unit], on_done: OnOutcome) -> list[Outcome]:
        """See ``Executor``."""
        outcomes = []
        for unit in units:
            outcomes.append(run_unit(panel, recipe, unit))
            on_done(outcomes[-1])
        return outcomes


class ProcessExecutor:
    """Runs units in processes of this machine; each gets the panel once."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, panel: Panel, recipe: Recipe, units: Sequence[Unit], on_done: OnOutcome) -> list[Outcome]:
        """See ``Executor``.

        Raises:
            EnvironmentFault: a process was killed from outside.
        """
        return spread(
            _run_received, (panel, recipe), units, workers=self.workers, on_done=lambda _, outcome: on_done(outcome)
        )


def _run_received(work: tuple[Panel, Recipe], unit: Unit) -> Outcome:
    return run_unit(*work, unit)
