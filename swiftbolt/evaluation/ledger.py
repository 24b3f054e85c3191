"""One walk-forward's part in the ledger of trials: what it adds, and how its results stand among all that was tried.

Knows what is asked of a ledger; knows nothing of where one is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any, Protocol

import numpy as np

from swiftbolt.artifact import code_version
from swiftbolt.ensemble.weights import ENSEMBLE
from swiftbolt.errors import StoreError
from swiftbolt.evaluation.equity import Equity, sharpe_ratio
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.trials import Attempts, Overfitting, backtest_overfitting, deflated_among
from swiftbolt.folds import Fold
from swiftbolt.forecast import Float64
from swiftbolt.panel import Panel
from swiftbolt.trial import DailyReturns, Trial, TrialSource

NO_LEDGER = "no ledger of trials was asked"
# Of this walk-forward's sessions, that a trial must have to be compared block by block: any two then share half.
COMPARED_SHARE = 0.75

Returns = Mapping[str, DailyReturns | None]
"""Daily returns by the trial's key, None where it left none."""


class Ledger(Protocol):
    """Where trials are kept for good. The store is one."""

    def overlapping_trials(self, symbols: Sequence[str], first: date, last: date) -> Returns:
        """What was looked at on any of ``symbols`` from an origin in the range."""

    def record_trials(self, trials: Sequence[Trial]) -> int:
        """Keep those that are new; returns how many that were."""


class Look:
    """A walk-forward as a look at its configurations: models and horizons are added, judged, then recorded.

    Args:
        ledger: None leaves the look uncounted, for the reason ``without``.
        folds: of the walk-forward; burn-in and live ones may be among them.
        least_history: bars a symbol had to have at an origin, as for ``walk_forward``.
    """

    def __init__(
        self,
        ledger: Ledger | None,
        recipe: Recipe,
        panel: Panel,
        folds: Sequence[Fold],
        *,
        least_history: int,
        source: TrialSource,
        without: str = NO_LEDGER,
    ) -> None:
        self._ledger, self._recipe, self._panel, self._source = ledger, recipe, panel, source
        self._least_history = least_history
        self._folds = [fold for fold in folds if fold.test is not None]
        tests = [fold.forecast_range for fold in self._folds if not fold.burn_in]
        self._first, self._last = tests[0].first, tests[-1].last
        self._trials: list[Trial] = []
        # What a scorecard says; not the error, which names a place on this machine.
        self._without = without if ledger is None else "the ledger of trials did not answer"
        self.unrecorded: str | None = without if ledger is None else None

    @property
    def trials(self) -> tuple[Trial, ...]:
        """What was added so far."""
        return tuple(self._trials)

    def add(self, model: str, horizon: int, scores: Mapping[str, Any], equity: Equity | None) -> None:
        """Take in one model at one horizon: its entry of the scorecard and what the simple rule earned by it."""
        self._trials.append(
            Trial(
                model=model,
                horizon=horizon,
                config=self._choices(model),
                symbols=self._panel.symbols,
                first=self._first,
                last=self._last,
                returns=None if equity is None else DailyReturns(sessions_T=equity.sessions_T, net_T=equity.net_T),
                reason=scores["reasons"]["trading"] if equity is None else None,
                sharpe=None if equity is None else sharpe_ratio(equity.net_T),
                crps=scores["crps"],
                skill=scores["skill"],
                source=self._source,
                code_version=code_version(),
            )
        )

    def judged(self) -> dict[str, Any]:
        """What was added, held against all that was ever tried on these symbols and years, as plain JSON."""
        if self._ledger is not None:
            try:
                tried = self._ledger.overlapping_trials(self._panel.symbols, self._first, self._last)
                return counted(self._trials, tried)
            except StoreError as exc:  # the forecasts are worth more than their bookkeeping
                self.unrecorded = str(exc)
        return uncounted(self._without, self._trials)

    def record(self) -> int:
        """Keep what was added, if there is a ledger that answers; ``unrecorded`` says why not."""
        if self._ledger is None or self.unrecorded is not None:
            return 0
        try:
            return self._ledger.record_trials(self._trials)
        except StoreError as exc:
            self.unrecorded = str(exc)
            return 0

    def _choices(self, model: str) -> dict[str, Any]:
        """All that decides a model's numbers here, as it was resolved, in whichever words it was asked for."""
        recipe, is_ensemble = self._recipe, model == ENSEMBLE
        members = {name: config.model_dump(mode="json") for name, config in recipe.models.items()}
        return {
            "settings": recipe.ensemble.model_dump(mode="json") if is_ensemble else members[model],
            "members": members if is_ensemble else {},
            # Only the ensemble learns from burn-in folds; nothing here from a live one.
            "folds": [fold.to_json() for fold in self._folds if is_ensemble or not fold.burn_in],
            "least_history": self._least_history,
            "threshold": recipe.ensemble.confidence_threshold,
            "seed": recipe.seed,
            "spec_hash": self._panel.spec_hash,
            "data_hash": self._panel.data_hash,
        }


def counted(own: Sequence[Trial], others: Returns) -> dict[str, Any]:
    """The section ``trials`` of a scorecard: each of ``own`` as one of all that were tried.

    Args:
        others: what overlaps with them in symbols and period; where it holds their own keys, their own returns count.
    """
    # In one order, whichever of them were in the ledger already: sums depend on it in their last bits.
    tried = dict(sorted({**others, **{trial.key: trial.returns for trial in own}}.items()))
    returns = {key: found for key, found in tried.items() if found is not None}
    table_NT = _table(list(returns.values()))
    row = {key: n for n, key in enumerate(returns)}
    attempts = Attempts.of(table_NT, unseen=len(tried) - len(returns))
    own_rows = [row[trial.key] for trial in own if trial.returns is not None]
    return {
        "reason": None,
        "tried": attempts.trials,
        "without_returns": len(tried) - len(returns),
        "deflated_sharpe": _by_model(
            own, {trial.key: _deflated(trial, attempts, table_NT, row.get(trial.key)) for trial in own}
        ),
        "overfitting": asdict(_overfitting(table_NT, own_rows)),
    }


def uncounted(reason: str, own: Sequence[Trial] = ()) -> dict[str, Any]:
    """The same section where nobody knows what else was tried."""
    return {
        "reason": reason,
        "tried": None,
        "without_returns": None,
        "deflated_sharpe": _by_model(own, {trial.key: _untold(reason) for trial in own}),
        "overfitting": {"probability": None, "trials": None, "sessions": None, "reason": reason},
    }


def _by_model(own: Sequence[Trial], entries: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Entries by model and horizon."""
    nested: dict[str, dict[str, Any]] = {}
    for trial in own:
        nested.setdefault(str(trial.model), {})[str(trial.horizon)] = entries[trial.key]
    return nested


def _deflated(trial: Trial, attempts: Attempts, table_NT: Float64, row: int | None) -> dict[str, Any]:
    if row is None:
        return _untold(str(trial.reason))
    try:
        return {**asdict(deflated_among(table_NT[row], attempts)), "reason": None}
    except ValueError as exc:  # returns that never vary
        return _untold(str(exc))


def _untold(reason: str) -> dict[str, Any]:
    names = ("sharpe", "benchmark", "trials", "clusters", "sessions", "skew", "kurtosis", "probability")
    return {**dict.fromkeys(names), "reason": reason}


def _overfitting(table_NT: Float64, own_rows: Sequence[int]) -> Overfitting:
    """Over this walk-forward's sessions, of the trials that have enough of them."""
    here_NT = table_NT[:, np.isfinite(table_NT[own_rows]).any(axis=0)]
    if not here_NT.size:
        return Overfitting(probability=None, trials=0, sessions=0, reason="the simple rule never traded")
    return backtest_overfitting(here_NT[np.isfinite(here_NT).mean(axis=1) >= COMPARED_SHARE])


def _table(returns: Sequence[DailyReturns]) -> Float64:
    """Returns on the sessions of them all, (N, T), NaN where one has none."""
    days = [one.sessions_T for one in returns]
    sessions_T = np.unique(np.concatenate(days)) if days else np.empty(0, dtype="datetime64[D]")
    table_NT = np.full((len(returns), len(sessions_T)), np.nan)
    for n, one in enumerate(returns):
        table_NT[n, np.searchsorted(sessions_T, one.sessions_T)] = one.net_T
    return table_NT
