"""The one loop: what it publishes, what it may know, and that where it runs changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from support.markets import make_bars
from support.panels import panel_from_returns
from support.recipes import tiny_recipe

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.ensemble.weights import combine
from swiftbolt.errors import ModelError
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.units import OnOutcome, Outcome, SerialExecutor, Unit
from swiftbolt.evaluation.walk_forward import (
    WalkForward,
    forecast_from,
    realised_outcomes,
    short_of_history,
    walk_forward,
)
from swiftbolt.features.engine import build_panel
from swiftbolt.folds import Fold, make_folds
from swiftbolt.forecast import QUANTILE_COLUMNS, Forecasts
from swiftbolt.models.network_trainers import InProcessTrainer, OnTrained, Trained
from swiftbolt.models.trained import TrainingJob
from swiftbolt.models.training import train_network
from swiftbolt.panel import DoubtedBar, Panel

MEMBERS = ("arima", "xgboost", "lstm", "transformer")


class Silent:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.ended: list[str] = []

    def planned(self, stage: str, pieces: Sequence[str]) -> None:
        self.pieces += pieces

    def done(self, stage: str, piece: str, failure: str | None = None) -> None:
        self.ended.append(piece)


def run(
    panel: Panel,
    recipe: Recipe,
    live: bool = True,
    executor: SerialExecutor | None = None,
    least_history: int = 260,
    progress: Silent | None = None,
) -> WalkForward:
    return walk_forward(
        panel,
        make_folds(panel.sessions, recipe.folds, live=live),
        recipe,
        least_history=least_history,
        executor=executor or SerialExecutor(),
        trainer=InProcessTrainer(),
        progress=progress or Silent(),
    )


@pytest.fixture(scope="module")
def panel() -> Panel:
    return build_panel(make_bars(["AA", "BB"], 760, seed=3), CorporateActions.of())


@pytest.fixture(scope="module")
def result(panel: Panel) -> WalkForward:
    return run(panel, tiny_recipe(*MEMBERS))


def test_every_model_forecasts_every_test_session_of_every_symbol(panel: Panel, result: WalkForward) -> None:
    assert not result.failures
    counts = result.forecasts.group_by("model").len()
    assert set(counts["model"]) == {"naive", *MEMBERS, "ensemble"}
    assert set(counts["len"]) == {2 * 60 * 3}  # two symbols, two folds of thirty sessions, three horizons
    assert set(result.drift["model"]) == {"naive_drift"}


def test_forecasts_have_the_published_columns_in_the_published_order(result: WalkForward) -> None:
    assert result.forecasts.columns == [
        *("symbol", "origin", "horizon", "model", "fold", "mean", "sd"),
        *QUANTILE_COLUMNS,
        *("p_up", "realized"),
    ]
    assert result.forecasts.schema["horizon"] == pl.Int32
    assert result.forecasts.schema["fold"] == pl.Int32
    keys = result.forecasts.select("symbol", "origin", "horizon")
    assert keys.equals(keys.sort("symbol", "origin", "horizon"))


def test_realized_is_the_cumulative_return_and_null_until_it_matured(panel: Panel, result: WalkForward) -> None:
    rows = result.forecasts.filter((pl.col("symbol") == "AA") & (pl.col("model") == "naive") & (pl.col("horizon") == 5))
    log_price = panel.log_price_R[panel.rows("AA")]
    at = panel.position(rows["origin"][0])
    assert rows["realized"][0] == pytest.approx(log_price[at + 5] - log_price[at], abs=1e-12)
    assert rows["realized"].null_count() == 5
    assert rows["realized"][-5:].null_count() == 5


def test_the_live_fold_leaves_a_forecast_from_the_newest_session_and_the_files_to_repeat_it(
    panel: Panel, result: WalkForward
) -> None:
    assert set(result.live) == set(MEMBERS)
    assert all(member.files for member in result.live.values())
    assert result.live_forecasts["origin"].unique().to_list() == [panel.last_session]
    assert set(result.live_forecasts["model"]) == {"naive", *MEMBERS, "ensemble"}


def test_the_first_fold_weighs_by_its_validation_range_and_later_ones_by_all_that_matured(result: WalkForward) -> None:
    first, second, live = (result.ensembles[i] for i in range(3))
    assert first.sessions[0] == 40
    # The last test session's next return is not known at the next fold's start, and the one before not beyond doubt.
    assert second.sessions[0] == 40 + 30 - 2
    assert live.sessions[2] == 40 + 60 - 21
    for state in (first, second, live):
        assert sum(row[0] for row in state.weights.values()) == pytest.approx(1.0)


def test_nothing_after_a_fold_starts_changes_its_weights_and_nothing_after_an_origin_its_forecast() -> None:
    recipe = tiny_recipe("arima", "xgboost", "lstm")
    bars = make_bars(["AA", "BB"], 760, seed=3)
    folds = make_folds(build_panel(bars, CorporateActions.of()).sessions, recipe.folds)
    assert folds[1].test is not None
    cut = folds[1].test.first
    honest = run(build_panel(bars, CorporateActions.of()), recipe, live=False)
    changed = run(build_panel(_noise_after(bars, cut), CorporateActions.of()), recipe, live=False)
    known = pl.col("origin") <= cut
    columns = ["symbol", "origin", "horizon", "model", "fold", "mean", "sd", *QUANTILE_COLUMNS, "p_up"]
    assert honest.forecasts.filter(known).select(columns).equals(changed.forecasts.filter(known).select(columns))
    assert not honest.forecasts.select(columns).equals(changed.forecasts.select(columns))
    assert honest.ensembles == changed.ensembles


@pytest.fixture(scope="module")
def burnt(panel: Panel) -> tuple[WalkForward, list[Fold]]:
    recipe = tiny_recipe("arima")
    config = recipe.folds.model_copy(update={"burn_in_sessions": 60, "burn_in_fold_sessions": 30})
    folds = make_folds(panel.sessions, config, panel.sessions[700].astype(object), live=True, burn_in=True)
    result = walk_forward(
        panel,
        folds,
        recipe,
        least_history=260,
        executor=SerialExecutor(),
        trainer=InProcessTrainer(),
        progress=Silent(),
    )
    return result, folds


def test_burn_in_folds_teach_the_ensemble_and_are_not_published(
    panel: Panel, burnt: tuple[WalkForward, list[Fold]]
) -> None:
    result, folds = burnt
    assert [fold.burn_in for fold in folds] == [True, True, False, False, False]
    assert result.forecasts["origin"].min() == panel.sessions[700].astype(object)
    assert sorted(result.forecasts["fold"].unique()) == [2, 3]
    # Forty sessions of validation and sixty of burn-in, of which the last two do not count yet.
    assert result.ensembles[2].sessions[0] == 40 + 60 - 2
    assert result.ensembles[2].calibrated


def test_widths_follow_the_misses_from_session_to_session_and_a_fold_starts_from_what_had_matured(
    panel: Panel, burnt: tuple[WalkForward, list[Fold]]
) -> None:
    result, _ = burnt
    first, second, third = (result.ensembles[i].widths for i in (0, 1, 2))
    assert first == ((1.0, 1.0, 1.0),) * 3
    assert first != second != third
    # ARIMA-GARCH alone: but for calibration and widths the ensemble is that member.
    by_model = result.forecasts.filter((pl.col("symbol") == "AA") & (pl.col("horizon") == 1) & (pl.col("fold") == 2))
    spread = {
        name: (part["q_0.975"] - part["q_0.025"]).to_numpy()
        for (name,), part in by_model.group_by("model", maintain_order=True)
    }
    factors = spread["ensemble"] / spread["arima"]
    # The first session of the fold has learnt one outcome more than the fold's state.
    assert factors[0] != pytest.approx(third[0][2], abs=1e-9)
    assert factors[0] == pytest.approx(third[0][2], abs=0.1)
    assert (np.abs(np.diff(factors)) > 1e-5).all()


def test_the_state_of_the_live_fold_makes_the_live_forecasts(burnt: tuple[WalkForward, list[Fold]]) -> None:
    result, folds = burnt
    again = combine({name: model.forecasts for name, model in result.live.items()}, result.ensembles[folds[-1].index])
    published = Forecasts.from_frame(result.live_forecasts.filter(pl.col("model") == "ensemble"))
    assert again == published
    assert result.ensembles[folds[-1].index].widths != ((1.0, 1.0, 1.0),) * 3


def _noise_after(bars: Bars, cut: date) -> Bars:
    rng = np.random.default_rng(0)
    later = (bars.frame["session"] > cut).to_numpy()
    factor = pl.Series(np.where(later, np.exp(rng.normal(0, 0.3, len(bars))), 1.0))
    return Bars(frame=bars.frame.with_columns(pl.col("open", "high", "low", "close") * factor))


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(panel: Panel, result: WalkForward) -> None:
    again = run(panel, tiny_recipe(*MEMBERS))
    assert again.forecasts.equals(result.forecasts)
    assert again.live_forecasts.equals(result.live_forecasts)
    assert {name: m.files for name, m in again.live.items()} == {name: m.files for name, m in result.live.items()}
    other = run(panel, tiny_recipe("lstm", seed=6), live=False).forecasts.filter(pl.col("model") == "lstm")
    assert not other.equals(result.forecasts.filter(pl.col("model") == "lstm"))


class _Losing(SerialExecutor):
    """Loses every unit of a model."""

    def __init__(self, lost: str) -> None:
        self._lost = lost

    def run(self, panel: Panel, recipe: Recipe, units: Sequence[Unit], on_done: OnOutcome) -> list[Outcome]:
        return [
            Outcome(unit=o.unit, forecasts=None, failure="lost") if o.unit.model == self._lost else o
            for o in super().run(panel, recipe, units, on_done)
        ]


def test_a_member_that_fails_everywhere_leaves_an_ensemble_of_the_others(panel: Panel) -> None:
    found = run(panel, tiny_recipe("arima", "xgboost"), executor=_Losing("arima"))
    assert set(found.forecasts["model"]) == {"naive", "xgboost", "ensemble"}
    assert found.failures["arima/AA/0"] == "lost"
    assert all(set(state.weights) == {"xgboost"} for state in found.ensembles.values())


def test_importance_is_the_mean_over_the_folds_that_are_published(panel: Panel, result: WalkForward) -> None:
    recipe = tiny_recipe("xgboost")
    folds = make_folds(panel.sessions, recipe.folds)
    units = [Unit(model="xgboost", fold=fold, symbol=None) for fold in folds]
    first, second = (o.importance for o in SerialExecutor().run(panel, recipe, units, lambda outcome: None))
    assert set(result.importance) == {"xgboost"}
    assert first != second
    for horizon, found in result.importance["xgboost"].items():
        shap = [of_fold[horizon].shap for of_fold in (first, second)]
        assert set(found.shap) == {name for of_fold in shap for name in of_fold}
        for name, size in found.shap.items():
            assert size == pytest.approx(sum(of_fold.get(name, 0.0) for of_fold in shap) / 2)


class _LosingFold(SerialExecutor):
    """Loses each model on the fold given for it."""

    def __init__(self, lost: dict[str, int]) -> None:
        self._lost = lost

    def run(self, panel: Panel, recipe: Recipe, units: Sequence[Unit], on_done: OnOutcome) -> list[Outcome]:
        return [
            Outcome(unit=o.unit, forecasts=None, failure="lost")
            if self._lost.get(o.unit.model) == o.unit.fold.index
            else o
            for o in super().run(panel, recipe, units, on_done)
        ]


def test_a_member_that_failed_on_every_fold_before_takes_part_with_its_prior_weight(panel: Panel) -> None:
    found = run(panel, tiny_recipe("arima", "xgboost"), live=False, executor=_LosingFold({"arima": 0}))
    assert set(found.ensembles[0].weights) == {"xgboost"}
    assert found.ensembles[1].weights["arima"][0] == pytest.approx(0.20 / 0.55)
    assert not found.ensembles[1].calibrated


def test_folds_without_a_member_in_common_are_each_combined_from_what_they_have(panel: Panel) -> None:
    executor = _LosingFold({"arima": 0, "xgboost": 1})
    found = run(panel, tiny_recipe("arima", "xgboost"), live=False, executor=executor)
    assert [set(state.weights) for state in found.ensembles.values()] == [{"xgboost"}, {"arima"}]
    assert len(found.forecasts.filter(pl.col("model") == "ensemble")) == 2 * 60 * 3


def test_a_symbol_that_starts_late_or_stops_early_is_forecast_where_it_has_bars() -> None:
    frame = make_bars(["AA", "BF/B", "BRK.B"], 760, seed=3).frame
    days = frame["session"].unique().sort()
    kept = (
        pl.when(pl.col("symbol") == "BF/B").then(pl.col("session") >= days[440])
        .when(pl.col("symbol") == "BRK.B").then(pl.col("session") <= days[-5])
        .otherwise(True)
    )  # fmt: skip
    panel = build_panel(Bars(frame=frame.filter(kept)), CorporateActions.of())
    found = run(panel, tiny_recipe(*MEMBERS), least_history=1)
    assert not found.failures
    assert any(note.startswith("BF/B: needs 250 sessions, has ") for note in found.notes)
    ensemble = found.live_forecasts.filter(pl.col("model") == "ensemble")
    assert set(ensemble["symbol"]) == {"AA", "BF/B"}
    last = found.forecasts.filter(pl.col("symbol") == "BRK.B")["origin"].max()
    assert last == days[-5]


def test_no_member_at_all_is_an_error_that_gives_a_reason(panel: Panel) -> None:
    with pytest.raises(ModelError, match="lost"):
        run(panel, tiny_recipe("arima"), executor=_Losing("arima"))


class _FailingOnTheFirstFold(InProcessTrainer):
    def train(self, panel: Panel, jobs: Sequence[TrainingJob], on_done: OnTrained) -> list[Trained]:
        reasons = ["no worker came" if job.fold.index == 0 else None for job in jobs]
        for job, reason in zip(jobs, reasons, strict=True):
            on_done(job, reason)
        return [reason or train_network(panel, job) for job, reason in zip(jobs, reasons, strict=True)]


def test_a_network_that_cannot_be_trained_on_one_fold_is_a_failure_of_that_fold_with_its_reason(panel: Panel) -> None:
    recipe = tiny_recipe("arima", "lstm")
    folds = make_folds(panel.sessions, recipe.folds)
    found = walk_forward(
        panel,
        folds,
        recipe,
        least_history=260,
        executor=SerialExecutor(),
        trainer=_FailingOnTheFirstFold(),
        progress=Silent(),
    )
    assert found.failures == {"lstm/universe/0": "no worker came"}
    assert [set(found.ensembles[index].weights) for index in (0, 1)] == [{"arima"}, {"arima", "lstm"}]


def test_an_outcome_counts_only_a_session_after_its_label_ended(panel: Panel) -> None:
    end = panel.sessions[500].astype(object)
    realised = realised_outcomes(panel)
    latest = realised.filter(pl.col("matured") <= end).group_by("horizon").agg(pl.col("origin").max()).sort("horizon")
    assert [panel.position(day) for day in latest["origin"]] == [498, 494, 479]
    newest = realised.filter(pl.col("matured").is_null())
    assert newest.height == 2 * 3  # what ends with the last bar of each symbol is realised, and counts for nothing yet
    assert newest["realized"].is_finite().all()


def test_symbols_too_short_are_told_with_a_sentence() -> None:
    bars = Bars(frame=pl.concat([make_bars(["AA"], 300, seed=1).frame, make_bars(["FB"], 196, seed=1).frame]))
    assert short_of_history(bars, 250) == {"FB": "FB: needs 250 sessions, has 196"}
    assert short_of_history(bars, 196) == {}


def test_a_symbol_is_old_enough_at_the_session_of_the_bar_that_makes_it_so_whatever_comes_later() -> None:
    full = panel_from_returns({"AA": np.full(29, 0.01), "BB": np.full(29, 0.01)})
    assert forecast_from(full, 10) == {"AA": full.sessions[9], "BB": full.sessions[9]}
    assert forecast_from(full, 31) == {}
    assert set(forecast_from(full, 30)) == {"AA", "BB"}


def test_a_bar_found_faulty_later_counts_at_its_own_session_and_no_more_after_it() -> None:
    full = panel_from_returns({"AA": np.full(29, 0.01)})
    keep = np.arange(30) != 9
    bar = DoubtedBar(symbol=0, session=9, close=1.0, log_price=0.0, features_F=np.empty(0, np.float32))
    panel = replace(
        full,
        offsets=np.array([0, 29]),
        session_R=full.session_R[keep],
        close_R=full.close_R[keep],
        log_price_R=full.log_price_R[keep],
        features_RF=full.features_RF[keep],
        doubted=(bar,),
    )
    assert forecast_from(panel, 10) == {"AA": full.sessions[9]}
    assert forecast_from(panel, 11) == {"AA": full.sessions[11]}
    assert forecast_from(panel, 30) == {}


# Position of the session from which YOUNG is old enough, inside the second test fold; it has had features for long.
OLD_ENOUGH, LEAST = 745, 601


@pytest.fixture(scope="module")
def with_young() -> tuple[Panel, WalkForward, Silent]:
    """Beside an old symbol one that is old enough from ``OLD_ENOUGH`` on, and one that never is."""
    frame = make_bars(["AA", "NEVER", "YOUNG"], 760, seed=3).frame
    days = frame["session"].unique().sort()
    listed = {"AA": days[0], "YOUNG": days[OLD_ENOUGH + 1 - LEAST], "NEVER": days[761 - LEAST]}
    bars = Bars(frame=frame.filter(pl.col("session") >= pl.col("symbol").replace_strict(listed)))
    panel, progress = build_panel(bars, CorporateActions.of()), Silent()
    return panel, run(panel, tiny_recipe(*MEMBERS), least_history=LEAST, progress=progress), progress


def test_a_young_symbol_has_no_forecast_of_any_model_from_an_origin_at_which_it_was_too_young(
    with_young: tuple[Panel, WalkForward, Silent],
) -> None:
    panel, result, _ = with_young
    every = pl.concat([result.forecasts, result.drift])
    since = every.group_by("symbol", "model").agg(pl.col("origin").min(), sessions=pl.col("origin").n_unique())
    assert set(every["symbol"]) == {"AA", "YOUNG"}
    young = since.filter(symbol="YOUNG")
    assert set(young["model"]) == {"naive", "naive_drift", *MEMBERS, "ensemble"}
    assert set(young["origin"]) == {panel.sessions[OLD_ENOUGH].astype(object)}
    assert set(young["sessions"]) == {760 - OLD_ENOUGH}
    assert set(result.live_forecasts["symbol"]) == {"AA", "YOUNG"}
    assert {symbol for model in result.live.values() for symbol in model.forecasts.symbol_N} == {"AA", "YOUNG"}


def test_a_symbol_too_young_throughout_a_fold_is_not_fitted_there_and_that_is_no_failure(
    with_young: tuple[Panel, WalkForward, Silent],
) -> None:
    _, result, progress = with_young
    assert result.failures == {}
    fitted = {piece for piece in progress.pieces if piece.startswith("arima/")}
    assert fitted == {"arima/AA/0", "arima/AA/1", "arima/AA/live", "arima/YOUNG/1", "arima/YOUNG/live"}
    assert set(progress.ended) == set(progress.pieces)


def test_others_learn_from_a_symbol_while_it_is_too_young(with_young: tuple[Panel, WalkForward, Silent]) -> None:
    panel, result, _ = with_young
    without = run(panel.select(["AA"]), tiny_recipe("xgboost"), live=False).forecasts
    first = (pl.col("fold") == 0) & (pl.col("symbol") == "AA")
    ours, theirs = (frame.filter(first, model="xgboost")["q_0.5"] for frame in (result.forecasts, without))
    assert len(ours) == len(theirs) == 30 * 3
    assert not ours.equals(theirs)


def test_a_fold_in_which_nobody_is_old_enough_has_no_forecast_and_teaches_nothing(panel: Panel) -> None:
    found = run(panel, tiny_recipe("arima", "xgboost"), live=False, least_history=735)
    assert found.failures == {}
    assert set(found.forecasts["fold"]) == {1}
    assert found.forecasts["origin"].min() == panel.sessions[734].astype(object)
    assert [state.sessions for state in found.ensembles.values()] == [(0, 0, 0)] * 2
