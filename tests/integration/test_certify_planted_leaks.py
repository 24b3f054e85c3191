"""Leaks planted in production code one at a time: the certificate finds each, and names the stage it was planted in."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from support.certificates import LEAST_YOUNG, SEED, SESSIONS, certificate_of, market_data, plan_of
from support.shared_data import shared_parquet

from swiftbolt import actions, folds, scaling, windows
from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.ensemble import conformal, weights
from swiftbolt.ensemble.weights import EnsembleConfig, EnsembleState
from swiftbolt.evaluation import equity, walk_forward
from swiftbolt.evaluation.cuts import Cut, Place
from swiftbolt.evaluation.evaluate import Plan
from swiftbolt.evaluation.leakage import certify
from swiftbolt.evaluation.noise import History
from swiftbolt.evaluation.replay import NoProgress, Pipeline
from swiftbolt.evaluation.stages import STAGES
from swiftbolt.evaluation.units import SerialExecutor
from swiftbolt.features import cross_section, engine, views
from swiftbolt.findings import Findings
from swiftbolt.folds import Fold, FoldConfig, SessionRange
from swiftbolt.forecast import HORIZONS, MODELS, Forecasts
from swiftbolt.models import arima_garch, boosted_trees, naive, training
from swiftbolt.models.boosted_trees import BoostedTrees
from swiftbolt.models.network_trainers import InProcessTrainer
from swiftbolt.models.trained import TrainingJob
from swiftbolt.panel import Panel
from swiftbolt.providers.files import read_market_data
from swiftbolt.quality import jumps, measures
from swiftbolt.scaling import Standardiser
from swiftbolt.sessions import Sessions
from swiftbolt.universe import Universe
from swiftbolt.windows import Labelled

Float64 = NDArray[np.float64]
Monkey = pytest.MonkeyPatch
DAY = timedelta(days=1)


def everywhere(monkeypatch: Monkey, original: Any, leaky: Any) -> None:
    """Put ``leaky`` in the place of a function in every module that imported it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("swiftbolt"):
            for attribute, value in list(vars(module).items()):
                if value is original:
                    monkeypatch.setattr(module, attribute, leaky)


def with_symbols(monkeypatch: Monkey, chosen: Callable[[Bars], Iterable[str]]) -> None:
    """Let the pipeline work on the symbols ``chosen`` of all its bars."""
    honest = Pipeline.__init__

    def leaky(pipeline: Pipeline, plan: Plan, history: History, *rest: Any, **named: Any) -> None:
        honest(pipeline, plan, replace(history, bars=history.bars.select(chosen(history.bars))), *rest, **named)

    monkeypatch.setattr(Pipeline, "__init__", leaky)


# Actions: what a vendor's adjusted closes say happened.


def factors_one_session_early(monkeypatch: Monkey) -> None:
    honest = actions.factors_from_adjusted_close

    def leaky(frame: pl.DataFrame) -> CorporateActions:
        following = pl.col("adj_close").shift(-1).over("symbol").fill_null(pl.col("adj_close"))
        same = pl.col("close").shift(-1).over("symbol").fill_null(pl.col("close"))
        return honest(frame.with_columns(adj_close=following * pl.col("close") / same))

    everywhere(monkeypatch, honest, leaky)


def factors_only_above_the_mean_of_all_time(monkeypatch: Monkey) -> None:
    honest = actions.factors_from_adjusted_close
    is_high = pl.col("adj_close") > pl.col("adj_close").mean().over("symbol")
    everywhere(monkeypatch, honest, lambda frame: honest(frame.filter(is_high)))


# Universe: which symbols are worked on.


def only_symbols_that_trade_to_the_end(monkeypatch: Monkey) -> None:
    def alive(bars: Bars) -> pl.Series:
        return bars.frame.filter(pl.col("session") == bars.last_session)["symbol"]

    with_symbols(monkeypatch, alive)


def only_the_two_symbols_that_gained_most(monkeypatch: Monkey) -> None:
    def winners(bars: Bars) -> pl.Series:
        gains = bars.frame.group_by("symbol").agg(gain=pl.col("close").last() / pl.col("close").first())
        return gains.top_k(2, by="gain")["symbol"]

    with_symbols(monkeypatch, winners)


def only_symbols_that_have_enough_sessions_in_the_end(monkeypatch: Monkey) -> None:
    def grown(bars: Bars) -> list[str]:
        return [symbol for symbol, count in bars.sessions_per_symbol().items() if count >= LEAST_YOUNG]

    with_symbols(monkeypatch, grown)


# Findings: what is found wrong with the data, and from when on that is known.


def a_bad_tick_is_known_at_its_own_session(monkeypatch: Monkey) -> None:
    honest = jumps.bad_ticks

    def leaky(measured: pl.DataFrame) -> Findings:
        return Findings.from_frame(honest(measured).frame.with_columns(known_from=pl.col("session")))

    everywhere(monkeypatch, honest, leaky)


def usual_moves_are_those_of_all_time(monkeypatch: Monkey) -> None:
    honest = measures.measure

    def leaky(bars: Bars, known: CorporateActions) -> pl.DataFrame:
        return honest(bars, known).with_columns(sigma=pl.col("log_return").std().over("symbol"))

    everywhere(monkeypatch, honest, leaky)


# Prices: total-return prices, and which bars count.


def prices_are_adjusted_backwards(monkeypatch: Monkey) -> None:
    def leaky(known: views.BarsAsKnown, view: views.View) -> Float64:
        return np.log(known.raw["close"][view.row_T] * view.price_growth_T / view.price_growth_T[-1])

    everywhere(monkeypatch, engine._log_price, leaky)


def actions_apply_the_session_before_their_ex_date(monkeypatch: Monkey) -> None:
    honest = views.SymbolActions.steps

    def leaky(own: views.SymbolActions, after: int, session_T: NDArray[np.int64]) -> tuple[Float64, Float64]:
        place_A = np.searchsorted(session_T, own.ex_A) - 1
        earlier_A = np.where(place_A >= 0, session_T[np.maximum(place_A, 0)], own.ex_A)
        return honest(replace(own, ex_A=earlier_A), after, session_T)

    monkeypatch.setattr(views.SymbolActions, "steps", leaky)


def findings_take_bars_out_before_they_are_known(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(views.BarsAsKnown, "_earlier_rows", lambda known, sound_T, found, base: iter(()))


# Features.


def with_feature(name: str, change: Callable[[Float64], Float64]) -> Callable[[Monkey], None]:
    """A leak in the values of one feature, along the sessions of a stretch."""

    def plant(monkeypatch: Monkey) -> None:
        (f,) = (f for f, feature in enumerate(engine.CATALOGUE) if feature.name == name)
        changed = [
            ((lambda history, compute=compute: change(compute(history))) if f in wanted else compute, wanted)
            for compute, wanted in engine._COMPUTED
        ]
        monkeypatch.setattr(engine, "_COMPUTED", changed)

    return plant


def shifted_back(values_T: Float64) -> Float64:
    return np.concatenate((values_T[..., 1:], values_T[..., -1:]), axis=-1)


def centred_mean(values_T: Float64) -> Float64:
    before_T = np.concatenate((values_T[..., :1], values_T[..., :-1]), axis=-1)
    return (before_T + values_T + shifted_back(values_T)) / 3.0


def ranks_are_those_of_the_next_session(monkeypatch: Monkey) -> None:
    honest = cross_section._rank_rows
    monkeypatch.setattr(cross_section, "_rank_rows", lambda values_NS: honest(np.roll(values_NS, -1, axis=0)))


def the_market_is_revised_by_later_findings(monkeypatch: Monkey) -> None:
    def leaky(known: views.BarsAsKnown) -> Float64:
        return_R = np.full(len(known), np.nan)
        for view in known.views:
            return_R[view.row_T] = view.log_return_T
        return return_R

    monkeypatch.setattr(views.BarsAsKnown, "first_returns", leaky)


def dividends_are_foreseen_before_they_are_declared(monkeypatch: Monkey) -> None:
    honest = views.SymbolActions.dividends

    def leaky(own: views.SymbolActions) -> tuple[Float64, Float64]:
        ex_A, known_A = honest(own)
        return ex_A, np.where(np.isfinite(known_A), known_A, 0.0)

    monkeypatch.setattr(views.SymbolActions, "dividends", leaky)


def a_target_stands_among_the_features(monkeypatch: Monkey) -> None:
    honest = engine.build_panel

    def leaky(*args: Any, **kwargs: Any) -> Panel:
        panel = honest(*args, **kwargs)
        features_RF = panel.features_RF.copy()
        is_warm_R = np.isfinite(features_RF).all(axis=1)
        features_RF[is_warm_R, 0] = np.nan_to_num(windows.outcomes(panel)[is_warm_R, 0])
        return replace(panel, features_RF=features_RF)

    everywhere(monkeypatch, honest, leaky)


# Folds.


def folds_are_counted_from_the_end(monkeypatch: Monkey) -> None:
    honest = folds.make_folds

    def leaky(sessions: Sessions, config: FoldConfig, start: date | None = None, **how: bool) -> list[Fold]:
        return honest(sessions, config, None, **how)

    everywhere(monkeypatch, honest, leaky)


def training_begins_a_number_of_sessions_before_the_end(monkeypatch: Monkey) -> None:
    honest = folds._fold

    def leaky(index: int, sessions: Sessions, *rest: Any, **how: Any) -> Fold:
        fold = honest(index, sessions, *rest, **how)
        return replace(fold, train=SessionRange(sessions[len(sessions) - 400].astype(object), fold.train.last))

    everywhere(monkeypatch, honest, leaky)


# Targets.


def training_labels_reach_into_validation(monkeypatch: Monkey) -> None:
    def leaky(panel: Panel, fold: Fold) -> Labelled:
        last = np.datetime64(fold.validation.first - DAY)
        return windows.labelled_rows(panel, np.datetime64(fold.train.first), last, np.datetime64(fold.known_through))

    everywhere(monkeypatch, windows.train_rows, leaky)


def validation_labels_reach_into_the_test(monkeypatch: Monkey) -> None:
    def leaky(panel: Panel, fold: Fold) -> Labelled:
        first, last = np.datetime64(fold.validation.first), np.datetime64(fold.known_through)
        return windows.labelled_rows(panel, first, last, panel.sessions[-1])

    everywhere(monkeypatch, windows.validation_rows, leaky)


def a_bar_counts_before_it_is_beyond_doubt(monkeypatch: Monkey) -> None:
    everywhere(monkeypatch, windows.settled, lambda panel: panel.session_R)


def outcomes_are_centred_by_their_mean_of_all_time(monkeypatch: Monkey) -> None:
    honest = windows.outcomes

    def leaky(panel: Panel, *horizons: Sequence[int]) -> Float64:
        y_RH = honest(panel, *horizons)
        return y_RH - np.nanmean(y_RH, axis=0)

    everywhere(monkeypatch, honest, leaky)


# Scaling.


def volatility_is_that_of_all_time(monkeypatch: Monkey) -> None:
    honest = scaling.panel_volatility

    def leaky(panel: Panel) -> Float64:
        sigma_R = honest(panel)
        for s in range(len(panel.symbols)):
            own_R = sigma_R[panel.rows(s)]
            own_R[np.isfinite(own_R)] = np.std(panel.log_returns(s))
        return sigma_R

    everywhere(monkeypatch, honest, leaky)


def volatility_is_smoothed_from_both_sides(monkeypatch: Monkey) -> None:
    honest = scaling.ewma_variance

    def leaky(returns: Float64, *alpha: float) -> Float64:
        ahead = honest(returns[::-1], *alpha)[::-1]
        return np.where(np.isfinite(ahead), (honest(returns, *alpha) + ahead) / 2, honest(returns, *alpha))

    monkeypatch.setattr(scaling, "ewma_variance", leaky)


def features_are_scaled_by_the_whole_panel(monkeypatch: Monkey) -> None:
    honest = training.prepare

    def leaky(panel: Panel, job: TrainingJob, device: Any) -> Any:
        _, *samples = honest(panel, job, device)
        is_warm_R = np.isfinite(panel.features_RF).all(axis=1)
        return (Standardiser.fit(panel.features_RF[is_warm_R]), *samples)

    everywhere(monkeypatch, honest, leaky)


# Fits.


def rows_of_the_test(panel: Panel, fold: Fold) -> Labelled:
    assert fold.test is not None
    first, last = np.datetime64(fold.test.first), np.datetime64(fold.test.last)
    return windows.labelled_rows(panel, first, last, last)


def trees_stop_early_on_the_test(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(boosted_trees, "validation_rows", rows_of_the_test)


def networks_stop_early_on_the_test(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(training, "validation_rows", rows_of_the_test)


def trees_are_grown_on_the_test_too(monkeypatch: Monkey) -> None:
    def leaky(panel: Panel, fold: Fold) -> Labelled:
        parts = zip(windows.train_rows(panel, fold), rows_of_the_test(panel, fold), strict=True)
        rows_B, y_BH = (np.concatenate(both) for both in parts)
        return rows_B, y_BH

    monkeypatch.setattr(boosted_trees, "train_rows", leaky)


def with_anchors_that_know_returns_earlier(sessions: int) -> Callable[[Monkey], None]:
    def plant(monkeypatch: Monkey) -> None:
        honest = arima_garch._estimate_anchors

        def leaky(returns: Float64, known_from: Sessions, *rest: Any) -> Any:
            return honest(returns, np.concatenate((known_from[:sessions], known_from[:-sessions])), *rest)

        monkeypatch.setattr(arima_garch, "_estimate_anchors", leaky)

    return plant


def a_symbol_that_is_old_enough_once_is_forecast_from_its_first_bar(monkeypatch: Monkey) -> None:
    honest = walk_forward.forecast_from

    def leaky(panel: Panel, least_history: int) -> dict[str, np.datetime64]:
        return {symbol: honest(panel, 1)[symbol] for symbol in honest(panel, least_history)}

    everywhere(monkeypatch, honest, leaky)


# Forecasts.


def a_forecast_knows_the_next_sessions_volatility(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(naive, "panel_volatility", lambda panel: shifted_back(scaling.panel_volatility(panel)))


def forecasts_are_centred_by_those_of_all_origins(monkeypatch: Monkey) -> None:
    honest = BoostedTrees.forecast

    def leaky(model: BoostedTrees, panel: Panel, origins: Sessions) -> Forecasts:
        found = honest(model, panel, origins)
        return replace(found, quantiles_NHQ=found.quantiles_NHQ - found.quantiles_NHQ[..., 3:4].mean(axis=0))

    monkeypatch.setattr(BoostedTrees, "forecast", leaky)


# The ensemble: weights, calibration and threshold, set when a fold starts.


def weights_are_learnt_from_what_has_not_matured(monkeypatch: Monkey) -> None:
    honest = walk_forward.realised_outcomes
    everywhere(monkeypatch, honest, lambda panel: honest(panel).with_columns(matured=pl.col("origin")))


def outcomes_count_before_they_are_beyond_doubt(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(
        walk_forward, "outcomes_known", lambda panel: panel.session_R[:, np.newaxis] + np.array(HORIZONS)
    )


def with_all_outcomes(monkeypatch: Monkey, leaky: Callable[[EnsembleState, EnsembleState, pl.DataFrame], Any]) -> None:
    """Let ``leaky`` make the state out of the honest one, the one that knew every outcome, and all outcomes."""
    honest_outcomes, honest_fit = walk_forward.realised_outcomes, weights.fit_ensemble
    stolen: dict[str, pl.DataFrame] = {}

    def steal(panel: Panel) -> pl.DataFrame:
        stolen["all"] = honest_outcomes(panel)
        return stolen["all"]

    def fit(members: Mapping[str, Forecasts], realized: pl.DataFrame, config: EnsembleConfig) -> EnsembleState:
        state: EnsembleState = leaky(
            honest_fit(members, realized, config), honest_fit(members, stolen["all"], config), stolen["all"]
        )
        return state

    everywhere(monkeypatch, honest_outcomes, steal)
    everywhere(monkeypatch, honest_fit, fit)


def the_calibration_knows_the_future(monkeypatch: Monkey) -> None:
    with_all_outcomes(monkeypatch, lambda state, knowing, _: replace(state, calibration=knowing.calibration))


def the_threshold_is_chosen_on_the_test(monkeypatch: Monkey) -> None:
    def leaky(state: EnsembleState, _: EnsembleState, realized: pl.DataFrame) -> EnsembleState:
        rises = float((realized["realized"] > 0).mean())  # type: ignore[arg-type]
        return replace(state, confidence_threshold=0.5 + abs(rises - 0.5))

    with_all_outcomes(monkeypatch, leaky)


# Combination: the members' forecasts made into one.


def combined_forecasts_are_centred_over_the_test(monkeypatch: Monkey) -> None:
    honest = weights.combine

    def leaky(members: Mapping[str, Forecasts], state: EnsembleState) -> Forecasts:
        found = honest(members, state)
        return replace(found, quantiles_NHQ=found.quantiles_NHQ - found.quantiles_NHQ[..., 3:4].mean(axis=0))

    everywhere(monkeypatch, honest, leaky)


def combined_forecasts_are_smoothed_with_the_next_origin(monkeypatch: Monkey) -> None:
    honest = weights.combine

    def leaky(members: Mapping[str, Forecasts], state: EnsembleState) -> Forecasts:
        found = honest(members, state)
        following_NHQ = np.concatenate((found.quantiles_NHQ[1:], found.quantiles_NHQ[-1:]))
        return replace(found, quantiles_NHQ=(found.quantiles_NHQ + following_NHQ) / 2)

    everywhere(monkeypatch, honest, leaky)


def interval_widths_know_outcomes_before_they_mature(monkeypatch: Monkey) -> None:
    honest = conformal.follow

    def leaky(forecasts: Forecasts, realized: pl.DataFrame, **how: Any) -> Any:
        return honest(forecasts, realized.with_columns(matured=pl.col("origin")), **how)

    everywhere(monkeypatch, honest, leaky)


# Positions.


def positions_are_taken_above_the_median_confidence_of_the_test(monkeypatch: Monkey) -> None:
    honest = equity._targets

    def leaky(p_up_ST: Float64, horizon: int, threshold: float) -> Float64:
        return honest(p_up_ST, horizon, float(np.nanmedian(np.maximum(p_up_ST, 1 - p_up_ST))))

    monkeypatch.setattr(equity, "_targets", leaky)


def positions_are_entered_a_session_before_their_origin(monkeypatch: Monkey) -> None:
    honest = equity._targets
    monkeypatch.setattr(equity, "_targets", lambda p_up_ST, *rest: shifted_back(shifted_back(honest(p_up_ST, *rest))))


@dataclass(frozen=True)
class Planted:
    """A leak, the stage it is in, and the smallest certificate that can show it."""

    plant: Callable[[Monkey], None]
    stage: str
    models: tuple[str, ...] = ("xgboost",)
    folds: int = 1
    long: bool = False
    young: bool = False


PLANTED = {
    "factors one session early": Planted(factors_one_session_early, "actions"),
    "factors above the mean of all time": Planted(factors_only_above_the_mean_of_all_time, "actions"),
    "survivors": Planted(only_symbols_that_trade_to_the_end, "universe"),
    "winners": Planted(only_the_two_symbols_that_gained_most, "universe"),
    "admitted by their length in the end": Planted(
        only_symbols_that_have_enough_sessions_in_the_end, "universe", young=True
    ),
    "known too early": Planted(a_bad_tick_is_known_at_its_own_session, "findings"),
    "usual moves of all time": Planted(usual_moves_are_those_of_all_time, "findings"),
    "backward adjustment": Planted(prices_are_adjusted_backwards, "prices"),
    "before the ex-date": Planted(actions_apply_the_session_before_their_ex_date, "prices"),
    "findings before they are known": Planted(findings_take_bars_out_before_they_are_known, "prices"),
    "a feature one session ahead": Planted(with_feature("return_1d", shifted_back), "features"),
    "a centred mean": Planted(with_feature("momentum_20d", centred_mean), "features"),
    "a feature scaled by its maximum": Planted(
        with_feature("volatility_20d", lambda v_T: v_T / np.nanmax(v_T, axis=-1, keepdims=True)), "features"
    ),
    "ranks of the next session": Planted(ranks_are_those_of_the_next_session, "features"),
    "the market revised": Planted(the_market_is_revised_by_later_findings, "features"),
    "undeclared dividends": Planted(dividends_are_foreseen_before_they_are_declared, "features"),
    "a target among the features": Planted(a_target_stands_among_the_features, "features"),
    "folds from the end": Planted(folds_are_counted_from_the_end, "folds"),
    "training from the end": Planted(training_begins_a_number_of_sessions_before_the_end, "folds"),
    "training labels in validation": Planted(training_labels_reach_into_validation, "targets"),
    "validation labels in the test": Planted(validation_labels_reach_into_the_test, "targets"),
    "labels in doubt": Planted(a_bar_counts_before_it_is_beyond_doubt, "targets"),
    "centred outcomes": Planted(outcomes_are_centred_by_their_mean_of_all_time, "targets"),
    "volatility of all time": Planted(volatility_is_that_of_all_time, "scaling"),
    "volatility from both sides": Planted(volatility_is_smoothed_from_both_sides, "scaling"),
    "a scaler of the whole panel": Planted(features_are_scaled_by_the_whole_panel, "scaling", ("lstm",), long=True),
    "trees stop on the test": Planted(trees_stop_early_on_the_test, "fits"),
    "networks stop on the test": Planted(networks_stop_early_on_the_test, "fits", ("transformer",), long=True),
    "trees grown on the test": Planted(trees_are_grown_on_the_test_too, "fits"),
    "anchors know the next return": Planted(with_anchors_that_know_returns_earlier(2), "fits", ("arima",)),
    "anchors know a return in doubt": Planted(with_anchors_that_know_returns_earlier(1), "fits", ("arima",)),
    "old enough once": Planted(a_symbol_that_is_old_enough_once_is_forecast_from_its_first_bar, "fits", young=True),
    "the next session's volatility": Planted(a_forecast_knows_the_next_sessions_volatility, "forecasts"),
    "centred forecasts": Planted(forecasts_are_centred_by_those_of_all_origins, "forecasts"),
    "unmatured weights": Planted(weights_are_learnt_from_what_has_not_matured, "ensemble", folds=2),
    "outcomes in doubt": Planted(outcomes_count_before_they_are_beyond_doubt, "ensemble"),
    "calibration on the future": Planted(the_calibration_knows_the_future, "ensemble", folds=2, long=True),
    "a threshold from the test": Planted(the_threshold_is_chosen_on_the_test, "ensemble"),
    "a centred combination": Planted(combined_forecasts_are_centred_over_the_test, "combination"),
    "a smoothed combination": Planted(combined_forecasts_are_smoothed_with_the_next_origin, "combination"),
    "widths before maturity": Planted(interval_widths_know_outcomes_before_they_mature, "combination"),
    "positions by the test's confidence": Planted(
        positions_are_taken_above_the_median_confidence_of_the_test, "positions", ("arima",), long=True
    ),
    "positions before their origin": Planted(positions_are_entered_a_session_before_their_origin, "positions"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * planted.long) for name, planted in PLANTED.items()]
)
def test_a_planted_leak_is_found_in_its_own_stage(monkeypatch: Monkey, name: str) -> None:
    planted = PLANTED[name]
    planted.plant(monkeypatch)
    certificate = certificate_of(*planted.models, count=planted.folds, young=planted.young)
    assert certificate.first is not None, "the leak was not found"
    assert certificate.first.stage == planted.stage, str(certificate.first)


def test_a_leak_is_told_by_symbol_session_and_feature(monkeypatch: Monkey) -> None:
    PLANTED["a feature one session ahead"].plant(monkeypatch)
    leak = certificate_of("xgboost").leaks[0]
    assert leak.column == "return_1d"
    # The value at the cut is the only one that looks across it.
    assert leak.where == {"symbol": "AA", "session": str(leak.cut.session)}


def test_every_stage_has_at_least_two_planted_leaks() -> None:
    counts = Counter(planted.stage for planted in PLANTED.values())
    assert set(counts) == set(STAGES)
    assert min(counts.values()) >= 2


def test_the_pipeline_as_it_is_has_no_leak() -> None:
    certificate = certificate_of("arima", "xgboost")
    assert certificate.leaks == ()


def test_what_is_certified_is_what_an_evaluation_forecasts() -> None:
    data = market_data()
    pipeline = Pipeline(plan_of("xgboost", "lstm"), History.of(data.bars, data.actions), None, burn_in=False)
    _, certified = pipeline.walk(Cut(fold=0, place=Place.EMBARGO, session=pipeline.folds[0].known_through))
    evaluated = walk_forward.walk_forward(
        pipeline.panel,
        pipeline.folds,
        plan_of("xgboost", "lstm").recipe,
        least_history=pipeline.least_history,
        executor=SerialExecutor(),
        trainer=InProcessTrainer(),
        progress=NoProgress(),
    )
    assert certified.forecasts.equals(evaluated.forecasts)
    assert certified.ensembles == evaluated.ensembles


@pytest.mark.long
def test_no_model_of_the_pipeline_as_it_is_has_a_leak_on_any_fold() -> None:
    certificate = certificate_of(*MODELS, count=3, sessions=SESSIONS + 60)
    assert certificate.leaks == ()
    assert all(count > 0 for count in certificate.compared.values())


@pytest.mark.long
def test_real_prices_with_dividends_splits_and_young_symbols_show_no_leak() -> None:
    symbols = ("AAPL", "EVRG", "GE", "KO", "PYPL", "XOM")
    data = read_market_data(shared_parquet("sp500_raw_1999_202104"), symbols, start=date(2013, 1, 1))
    plan = plan_of("arima", "xgboost", count=4, test_sessions=360)
    plan = replace(plan, universe=Universe(symbols=symbols, min_sessions=700))
    certificate = certify(plan, data, rng=np.random.default_rng(SEED), progress=NoProgress(), inside_test=1)
    assert certificate.leaks == ()
