"""What a sweep is judged by: the later part of a validation range, against naive, on the same rows for every trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
import polars as pl
import pytest
from support.panels import panel_from_returns

import cluster.sweep_objective
import swiftbolt.evaluation.units
from cluster.sweep_objective import Course, choosing_fold, plan_courses, score_fold
from swiftbolt.config import Strict
from swiftbolt.ensemble.weights import EnsembleConfig
from swiftbolt.errors import DataError, ModelError
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.folds import Fold, FoldConfig, make_folds
from swiftbolt.forecast import Forecasts
from swiftbolt.models.base import Model, Scope
from swiftbolt.models.naive import Naive
from swiftbolt.models.registry import build_model, config_class
from swiftbolt.panel import Panel
from swiftbolt.sessions import Sessions
from swiftbolt.windows import outcomes

FOLDS = FoldConfig(count=2, test_sessions=40, validation_sessions=80, min_train_sessions=260)
ARIMA = config_class("arima").model_validate({"orders": [[0, 1, 0]], "refit_every": 63, "min_sessions": 250})
LEAST = 60  # bars before a symbol is forecast
RECIPE = Recipe(folds=FOLDS, models={"arima": ARIMA}, ensemble=EnsembleConfig(), seed=5)


def drawn(changed_from: int | None = None) -> Panel:
    """Two symbols of 480 sessions; other returns from session ``changed_from`` on."""
    returns = {}
    for n, name in enumerate(("AA", "BB")):
        return_T = 0.01 * np.random.default_rng([7, n]).standard_normal(479)
        if changed_from is not None:
            return_T[changed_from - 1 :] = 0.05 * np.random.default_rng([8, n]).standard_normal(480 - changed_from)
        returns[name] = return_T
    return panel_from_returns(returns)


PANEL = drawn()
FIRST, SECOND = make_folds(PANEL.sessions, FOLDS)


class Cheat(Model):
    """Knows the range it stops on by heart, and nothing else; forecasts as naive does, but for ``silent`` symbols."""

    name: ClassVar[str] = "arima"
    silent: ClassVar[str] = ""
    width: ClassVar[float] = 1.0

    @property
    def scope(self) -> Scope:
        return "universe"

    def fit(self, panel: Panel, fold: Fold, *, seed: int) -> None:
        self.known = fold.validation

    def forecast(self, panel: Panel, origins: Sessions) -> Forecasts:
        found = Naive(config_class("naive")()).forecast(panel, origins)
        y_NH = np.nan_to_num(outcomes(panel)[panel.rows_at(origins)])
        by_heart = self.known.mask(found.origin_N)[:, None, None]
        quantiles_NHQ = np.where(
            by_heart, y_NH[..., None] + 1e-6 * found.quantiles_NHQ, self.width * found.quantiles_NHQ
        )
        told = replace(found, model="arima", quantiles_NHQ=quantiles_NHQ)
        return told.take(told.symbol_N != self.silent)

    def dump(self) -> dict[str, bytes]:
        return {}

    @classmethod
    def restore(cls, config: Strict, files: Mapping[str, bytes]) -> Self:
        return cls(config)


def put_in_place_of_arima(monkeypatch: pytest.MonkeyPatch, kind: type[Model]) -> None:
    def build(name: str, config: Strict) -> Model:
        return kind(config) if name == "arima" else build_model(name, config)

    for module in (cluster.sweep_objective, swiftbolt.evaluation.units):
        monkeypatch.setattr(module, "build_model", build)


def test_a_validation_range_is_cut_in_two_with_the_embargo_between_and_the_test_range_is_left_out() -> None:
    own = choosing_fold(FIRST, PANEL.sessions, FOLDS)
    position = {day: n for n, day in enumerate(PANEL.sessions.tolist())}
    assert own.train == FIRST.train
    assert own.test is not None
    assert FIRST.test is not None
    stop, score = own.validation, own.test
    assert (stop.first, score.last) == (FIRST.validation.first, FIRST.validation.last)
    assert position[stop.last] - position[stop.first] == position[score.last] - position[score.first] == 29
    # The longest label of the last origin to stop on ends before the first that is scored.
    assert position[score.first] - position[stop.last] == 21
    assert position[own.known_through] == position[score.first] - 1
    assert position[FIRST.test.first] - position[score.last] == 21


def test_a_validation_range_too_short_to_be_cut_says_how_long_it_must_be() -> None:
    short = replace(FIRST, validation=replace(FIRST.validation, first=PANEL.sessions[330].astype(object)))
    with pytest.raises(DataError, match=r"set folds\.validation_sessions to at least 60"):
        choosing_fold(short, PANEL.sessions, FOLDS)


def test_nothing_from_the_folds_test_range_on_changes_a_score() -> None:
    fold = FIRST
    after = int(np.searchsorted(PANEL.sessions, np.datetime64(fold.known_through))) + 1
    scores = []
    for panel in (PANEL, drawn(changed_from=after)):
        (course,) = plan_courses(panel, [fold], RECIPE, LEAST)
        scores.append(score_fold(panel, RECIPE, "arima", course))
    assert scores[0] == scores[1]
    (course,) = plan_courses(drawn(changed_from=after - 25), [fold], RECIPE, LEAST)
    assert score_fold(drawn(changed_from=after - 25), RECIPE, "arima", course) != scores[0]


def test_a_model_that_knows_its_stopping_range_by_heart_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place_of_arima(monkeypatch, Cheat)
    for course in plan_courses(PANEL, [FIRST, SECOND], RECIPE, LEAST):
        score = score_fold(PANEL, RECIPE, "arima", course)
        assert score.loss == pytest.approx(1.0, abs=1e-12)
        assert score.share == 1.0


def test_a_row_that_is_not_forecast_counts_as_naives(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wide(Cheat):
        width = 3.0

    class Silent(Wide):
        silent = "BB"

    (course,) = plan_courses(PANEL, [FIRST], RECIPE, LEAST)
    put_in_place_of_arima(monkeypatch, Wide)
    everywhere = score_fold(PANEL, RECIPE, "arima", course)
    put_in_place_of_arima(monkeypatch, Silent)
    half = score_fold(PANEL, RECIPE, "arima", course)
    assert half.share == 0.5
    assert half.naive_H == everywhere.naive_H
    assert 1.0 < half.loss < everywhere.loss


def test_a_model_that_forecasts_nothing_or_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Cheat):
        def fit(self, panel: Panel, fold: Fold, *, seed: int) -> None:
            raise ModelError("the fit failed")

    class Mute(Cheat):
        def forecast(self, panel: Panel, origins: Sessions) -> Forecasts:
            return Forecasts.empty("arima")

    (course,) = plan_courses(PANEL, [FIRST], RECIPE, LEAST)
    put_in_place_of_arima(monkeypatch, Failing)
    with pytest.raises(ModelError, match="arima/universe/0: the fit failed"):
        score_fold(PANEL, RECIPE, "arima", course)
    put_in_place_of_arima(monkeypatch, Mute)
    # 2 symbols, 30 origins, 3 horizons; the bar that the last longest labels end on is not beyond doubt in time.
    with pytest.raises(ModelError, match="arima forecast none of 178 rows of fold 0"):
        score_fold(PANEL, RECIPE, "arima", course)


def test_a_loss_that_is_no_number_is_named() -> None:
    (course,) = plan_courses(PANEL, [FIRST], RECIPE, LEAST)
    perfect = Course(fold=course.fold, naive=course.naive.with_columns(crps=pl.lit(0.0)))
    with pytest.raises(ModelError, match="arima has a loss of inf on fold 0"):
        score_fold(PANEL, RECIPE, "arima", perfect)
