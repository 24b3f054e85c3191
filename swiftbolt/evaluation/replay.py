"""An evaluation in its steps, to be gone through again when the future has been replaced.

What need not be made again is lent by the pipeline of the data as they are. Networks are units here like any other
model: trained in this process, by the same function and from the same seed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from functools import cached_property

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from swiftbolt.errors import SwiftBoltError
from swiftbolt.evaluation.cuts import Cut, Place
from swiftbolt.evaluation.evaluate import Plan, market_of
from swiftbolt.evaluation.noise import History
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.units import OnOutcome, Outcome, Unit, plan_units
from swiftbolt.evaluation.walk_forward import Progress, WalkForward, forecast_from, walk_forward
from swiftbolt.features.engine import build_panel
from swiftbolt.findings import Findings
from swiftbolt.folds import Fold, make_folds
from swiftbolt.forecast import MODELS
from swiftbolt.models.base import Model, forecast_as_known
from swiftbolt.models.network_trainers import InProcessTrainer
from swiftbolt.models.registry import build_model, model_class
from swiftbolt.panel import Panel
from swiftbolt.quality import inspect
from swiftbolt.windows import fold_origins

# Fitted again inside a fold, each time on what was known by then.
SCHEDULED = ("arima",)

Doubts = frozenset[tuple[str, date]]
"""Bars, by symbol and session, that are found to be faulty only later."""


class NoProgress:
    """Shows nothing."""

    def planned(self, stage: str, pieces: Sequence[str]) -> None:
        """See ``Progress``."""

    def done(self, stage: str, piece: str, failure: str | None = None) -> None:
        """See ``Progress``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedUnit:
    """What a unit left behind, and its model's files whatever the fold; none where it failed."""

    outcome: Outcome
    files: Mapping[str, bytes]


class Pipeline:
    """An evaluation of ``history`` in its steps, each made when first asked for.

    Args:
        start, burn_in: see ``make_folds``.
        reference: the pipeline of the data as they are, which lends what need not be made again; None for itself.
        progress: told of the models' fits.
    """

    def __init__(
        self,
        plan: Plan,
        history: History,
        start: date | None,
        *,
        burn_in: bool,
        reference: Pipeline | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.plan, self.start, self.burn_in, self.reference = plan, start, burn_in, reference
        self.progress = progress or NoProgress()
        self.recipe = _with_networks_as_units(plan.recipe)
        self.history_actions, self.backdrop = history.actions, history.backdrop
        self.bars = history.bars
        self.least_history = plan.recipe.needed_sessions(plan.universe)
        self.actions = self.history_actions.select(symbols=self.bars.symbols)
        self._walked: tuple[_Units, WalkForward] | None = None

    @cached_property
    def findings(self) -> Findings:
        """What is wrong with the data."""
        return inspect(self.bars, self.actions)

    @cached_property
    def panel(self) -> Panel:
        """What models learn from."""
        market = self.backdrop.market or market_of(self.plan.universe, self.bars)
        return build_panel(self.bars, self.actions, self.findings, market=market, vix=self.backdrop.vix)

    @cached_property
    def folds(self) -> list[Fold]:
        """The folds of an evaluation."""
        return make_folds(self.panel.sessions, self.recipe.folds, start=self.start, burn_in=self.burn_in)

    def in_doubt(self, by: date) -> Doubts:
        """Bars up to ``by`` that a finding made after it takes out of the panel."""
        found = self.findings.quarantining().frame
        late = found.filter((pl.col("session") <= by) & (pl.col("known_from") > by))
        return frozenset(late.select("symbol", "session").iter_rows())

    def walk(self, cut: Cut) -> tuple[Mapping[str, FittedUnit], WalkForward]:
        """The units of the cut's fold and the walk-forward that ends with it; the reference's is that of all folds.

        Of symbols that are too young by the cut there is none: whether they are fitted is up to the future.
        """
        if self._walked is None:
            if self.reference is None:
                folds, units = self.folds, _Units(None, (), {})
            else:
                lent, _ = self.reference.walk(cut)
                # At the fold's start nothing of it has been compared yet: all is fitted again.
                again = SCHEDULED if cut.place is Place.TEST else MODELS
                folds, units = self.folds[: cut.fold + 1], _Units(cut.fold, again, lent)
            result = walk_forward(
                self.panel,
                folds,
                self.recipe,
                least_history=self.least_history,
                executor=units,
                trainer=InProcessTrainer(),
                progress=self.progress,
            )
            self._walked = units, result
        units, result = self._walked
        return self._forecast_by(cut, units.fitted), result

    def scheduled(self, cut: Cut) -> Mapping[str, FittedUnit]:
        """The units whose models are fitted on a schedule; of the cut's fold, and fitted for nothing else."""
        if self.reference is None:
            fitted, _ = self.walk(cut)
            return {key: unit for key, unit in fitted.items() if unit.outcome.unit.model in SCHEDULED}
        units = _Units(cut.fold, SCHEDULED, {})
        planned = plan_units(self.panel, self.recipe, self.folds[cut.fold : cut.fold + 1])
        units.run(self.panel, self.recipe, [unit for unit in planned if unit.model in SCHEDULED], lambda _: None)
        return self._forecast_by(cut, units.fitted)

    def _forecast_by(self, cut: Cut, fitted: Mapping[str, FittedUnit]) -> dict[str, FittedUnit]:
        since = forecast_from(self.panel, self.least_history)
        symbols = {None, *(symbol for symbol, first in since.items() if first <= np.datetime64(cut.session))}
        return {key: unit for key, unit in fitted.items() if unit.outcome.unit.symbol in symbols}


class _Units:
    """An ``Executor`` that keeps every fitted model's files, fits only what it must, and lends the rest.

    Args:
        fold: earlier folds' outcomes, and in this fold the fits of models not fitted ``again``, are ``lent``; None
            fits everything.
    """

    def __init__(self, fold: int | None, again: Collection[str], lent: Mapping[str, FittedUnit]) -> None:
        self._fold, self._again, self._lent = fold, again, lent
        self.fitted: dict[str, FittedUnit] = {}

    def run(self, panel: Panel, recipe: Recipe, units: Sequence[Unit], on_done: OnOutcome) -> list[Outcome]:
        """See ``Executor``."""
        for unit in units:
            self.fitted[unit.key] = self._run_unit(panel, recipe, unit)
            on_done(self.fitted[unit.key].outcome)
        return [self.fitted[unit.key].outcome for unit in units]

    def _run_unit(self, panel: Panel, recipe: Recipe, unit: Unit) -> FittedUnit:
        lent = self._lent.get(unit.key)
        if self._fold is not None and unit.fold.index < self._fold:
            return lent or FittedUnit(outcome=Outcome(unit=unit, forecasts=None, failure="not there"), files={})
        own = panel if unit.symbol is None else panel.select([unit.symbol])
        config = recipe.config_of(unit.model)
        try:
            with threadpool_limits(limits=1):
                if lent is None or not lent.files or unit.model in self._again:
                    model = build_model(unit.model, config)
                    model.fit(own, unit.fold, seed=recipe.seed_of(unit.model, unit.fold.index))
                else:
                    model = model_class(unit.model).restore(config, lent.files)
                return FittedUnit(outcome=_outcome(model, own, unit), files=model.dump())
        except SwiftBoltError as exc:
            return FittedUnit(outcome=Outcome(unit=unit, forecasts=None, failure=str(exc)), files={})


def _outcome(model: Model, own: Panel, unit: Unit) -> Outcome:
    return Outcome(unit=unit, forecasts=forecast_as_known(model, own, fold_origins(own, unit.fold)))


class _NetworksAsUnits(Recipe):
    """A recipe without networks that need a trainer of their own."""

    __slots__ = ()

    @property
    def networks(self) -> tuple[()]:
        """None."""
        return ()


def _with_networks_as_units(recipe: Recipe) -> Recipe:
    return _NetworksAsUnits(**{field.name: getattr(recipe, field.name) for field in fields(recipe)})
