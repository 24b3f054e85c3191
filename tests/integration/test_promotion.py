"""The decision about a retrain's release, on real forecasts, a real PostgreSQL and a real Ray."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

import polars as pl
import pytest
from support.markets import make_bars
from support.recipes import tiny_recipe

from cluster import promotion
from cluster.promotion import PromoteMode, decide
from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.config import Strict
from swiftbolt.ensemble.weights import ENSEMBLE
from swiftbolt.errors import EnvironmentFault, NotFound
from swiftbolt.evaluation.gate import NOT_ASKED, GateConfig, Verdict, compare
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.replay import NoProgress
from swiftbolt.evaluation.units import SerialExecutor
from swiftbolt.evaluation.walk_forward import WalkForward, walk_forward
from swiftbolt.feature_cache import CohortHistory
from swiftbolt.findings import Findings
from swiftbolt.folds import make_folds
from swiftbolt.models.network_trainers import InProcessTrainer
from swiftbolt.store import Store
from swiftbolt.store.rows import FORECAST_SCHEMA, RESULT_SCHEMA
from swiftbolt.universe import Cohort, Universe

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

SYMBOLS = ("AA", "BB", "CC")
UNIVERSE = Universe(symbols=SYMBOLS, min_sessions=260, market="CC")
BARS = make_bars(SYMBOLS, 660, seed=3)
HISTORY = CohortHistory(
    cohort=Cohort.of(SYMBOLS, "CC"),
    bars=BARS,
    actions=CorporateActions.of(),
    findings=Findings.none(),
    revision="1",
)
# Ten folds of 28 sessions: of the last 20 no outcome over 20 is known, which leaves 260 at that horizon.
RECIPE = tiny_recipe("xgboost", count=10)
RECIPE = replace(RECIPE, folds=RECIPE.folds.model_copy(update={"test_sessions": 28}))
# So few rows and rounds are no match for naive; what is judged here is who is compared with whom.
CONFIG = GateConfig(max_relative_loss=0.5, coverage_95=(0.5, 1.0), coverage_50=(0.1, 0.9), certificate_symbols=1)


def with_trees(**changes: object) -> Recipe:
    trees: Strict = RECIPE.models["xgboost"]
    return replace(RECIPE, models={"xgboost": trees.model_copy(update=changes)})


OTHER = with_trees(rounds=4)
TOO_DEMANDING = with_trees(min_rows=10**6)


def walk(recipe: Recipe) -> WalkForward:
    panel = HISTORY.panel()
    return walk_forward(
        panel,
        make_folds(panel.sessions, recipe.folds),
        recipe,
        least_history=recipe.needed_sessions(UNIVERSE),
        executor=SerialExecutor(),
        trainer=InProcessTrainer(),
        progress=NoProgress(),
    )


@pytest.fixture(scope="module")
def result() -> WalkForward:
    return walk(RECIPE)


def never(recipe: Recipe) -> WalkForward:
    raise AssertionError("nothing is to be walked")


def serve(store: Store, config: dict[str, object]) -> str:
    """Publish and promote a release of a run that was asked for ``config``; returns the run."""
    run = store.start_run("retrain", config, now=datetime(2026, 1, 2, tzinfo=UTC))
    store.publish_release(
        run=run,
        digest="0" * 64,
        origin=date(2013, 3, 1),
        directory="/nowhere",
        forecasts=pl.DataFrame(schema=FORECAST_SCHEMA),
        results=pl.DataFrame(schema=RESULT_SCHEMA),
        artifacts=[],
    )
    store.promote()
    return run


def asked(
    store: Store,
    result: WalkForward,
    walk: Callable[[Recipe], WalkForward] = never,
    *,
    mode: PromoteMode = "gate",
    recipe: Recipe = RECIPE,
    history: CohortHistory = HISTORY,
    config: GateConfig = CONFIG,
    lines: list[str] | None = None,
) -> Verdict | None:
    return decide(
        mode,
        store=store,
        recipe=recipe,
        result=result,
        walk=walk,
        history=history,
        universe=UNIVERSE,
        config=config,
        write=[].append if lines is None else lines.append,
    )


def test_never_says_nothing_and_always_promotes_without_asking(store: Store, result: WalkForward) -> None:
    serve(store, {})  # which the gate could not even read
    assert asked(store, result, mode="never") is None
    assert asked(store, result, mode="always") == NOT_ASKED


def test_the_first_release_is_held_against_naive_and_certified(store: Store, result: WalkForward) -> None:
    lines: list[str] = []
    verdict = asked(store, result, lines=lines)
    assert verdict is not None
    assert verdict.against == "naive"
    assert verdict.promotes, verdict.reasons
    assert [found.sessions for found in verdict.horizons] == [279, 275, 260]
    scored = result.forecasts.filter(pl.col("realized").is_not_null(), pl.col("horizon") == 20)
    assert set(scored["model"]) == {"naive", "xgboost", ENSEMBLE}
    assert verdict.certified in (("AA", "CC"), ("BB", "CC"))
    assert str(verdict.certificate).startswith("no leak: 6 cuts")
    assert lines == [f"gate: leak certificate of {', '.join(verdict.certified)}"]


def test_what_is_too_much_worse_than_naive_is_not_promoted(store: Store, result: WalkForward) -> None:
    verdict = asked(store, result, config=CONFIG.model_copy(update={"max_relative_loss": 1e-9, "min_sessions": 261}))
    assert verdict is not None
    assert not verdict.promotes
    assert "horizon 20: 260 sessions that both have forecast have an outcome, needs 261" in verdict.reasons


def test_a_champion_of_the_same_recipe_is_not_walked_again_and_cannot_be_worse(
    store: Store, result: WalkForward
) -> None:
    before = replace(RECIPE, folds=RECIPE.folds.model_copy(update={"count": 3, "test_sessions": 60}))
    serve(store, {"recipe": before.to_json(), "universe": {}})
    verdict = asked(store, result)
    assert verdict is not None
    assert verdict.against == "release 1"
    assert verdict.promotes, verdict.reasons
    assert [(found.loss, found.bound) for found in verdict.horizons] == [(0.0, 0.0)] * 3


def test_a_champion_of_another_recipe_walks_the_challengers_folds(store: Store, result: WalkForward) -> None:
    serve(store, OTHER.to_json())  # as runs were recorded before they had a universe beside the recipe
    walked: list[Recipe] = []

    def walk_again(recipe: Recipe) -> WalkForward:
        walked.append(recipe)
        return walk(recipe)

    lines: list[str] = []
    verdict = asked(store, result, walk_again, lines=lines)
    assert walked == [OTHER]
    assert lines[0] == "gate: the recipe of release 1 walks the same folds"
    assert verdict is not None
    assert verdict.promotes, verdict.reasons
    assert all(found.loss for found in verdict.horizons)
    turned = asked(store, walk(OTHER), never, recipe=OTHER)
    assert turned is not None
    assert [found.loss for found in turned.horizons] == [0.0] * 3


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "the recipe of release 1 cannot be read by this code: run retrain-20260102-000000-"),
        ({"recipe": {**RECIPE.to_json(), "models": {"prophet": {}}}}, "no model prophet"),
    ],
)
def test_a_champion_that_cannot_be_read_leaves_it_inconclusive(
    store: Store, result: WalkForward, config: dict[str, object], told: str
) -> None:
    serve(store, config)
    verdict = asked(store, result)
    assert verdict is not None
    assert (verdict.outcome, verdict.against, verdict.horizons) == ("inconclusive", "release 1", ())
    assert told in verdict.reasons[0]


def test_a_champion_that_forecasts_nothing_now_or_lost_a_pooled_model_is_no_measure(
    store: Store, result: WalkForward
) -> None:
    serve(store, TOO_DEMANDING.to_json())
    verdict = asked(store, result, walk)
    assert verdict is not None
    assert verdict.reasons[0].startswith("the recipe of release 1 forecasts nothing now: no model could be fitted")
    crippled = replace(result, failures={"lstm/universe/3": "lost its worker"})
    verdict = asked(store, result, lambda recipe: crippled)
    assert verdict is not None
    assert verdict.reasons == ("the recipe of release 1 lacks a model now: lstm/universe/3: lost its worker",)


def test_symbols_for_which_the_champion_lost_a_model_do_not_count(store: Store, result: WalkForward) -> None:
    serve(store, OTHER.to_json())
    of_two = walk(OTHER)
    lost = replace(of_two, failures={f"arima/{symbol}/{fold}": "died" for symbol in ("AA", "CC") for fold in (1, 2)})
    verdict = asked(store, result, lambda recipe: lost)
    assert verdict is not None
    mine, theirs = (walked.forecasts.filter(pl.col("symbol") == "BB") for walked in (result, of_two))
    is_ensemble = pl.col("model") == ENSEMBLE
    alone = compare(mine.filter(is_ensemble), theirs.filter(is_ensemble), 5)
    assert verdict.horizons[1].loss == alone.loss
    everyone = replace(of_two, failures={f"arima/{symbol}/1": "died" for symbol in SYMBOLS})
    verdict = asked(store, result, lambda recipe: everyone)
    assert verdict is not None
    assert [found.sessions for found in verdict.horizons] == [0] * 3


def test_a_machine_that_fails_the_champion_is_no_verdict(store: Store, result: WalkForward) -> None:
    def no_disk(recipe: Recipe) -> WalkForward:
        raise EnvironmentFault("the disk is full")

    serve(store, OTHER.to_json())
    with pytest.raises(EnvironmentFault, match="the disk is full"):
        asked(store, result, no_disk)


def test_without_a_certificate_the_reason_is_told_whoever_could_not_make_it(store: Store, result: WalkForward) -> None:
    short = replace(HISTORY, bars=Bars(frame=BARS.frame.filter(pl.col("session") > date(2012, 1, 3))))
    verdict = asked(store, result, history=short)
    assert verdict is not None
    assert verdict.reasons == ("no symbol has the 368 sessions that a leak certificate of the newest folds needs",)
    # Fitted in a worker of the cluster: the error there is a reason here.
    verdict = asked(store, result, recipe=TOO_DEMANDING, history=HISTORY)
    assert verdict is not None
    assert verdict.reasons[0].startswith("no leak certificate could be made: no model could be fitted on fold 0")


def test_a_run_that_is_not_there_has_no_recipe(store: Store) -> None:
    with pytest.raises(NotFound, match="no run 'retrain-1'"):
        store.run_config("retrain-1")
    run = serve(store, {"asked": "for this"})
    assert store.run_config(run) == {"asked": "for this"}
    with pytest.raises(NotFound, match="no run 'retrain-1'"):
        store.run_config("retrain-1")


def without_a_certificate(store: Store, result: WalkForward) -> str:
    """The one reason against what is as good as naive and could not be certified."""
    verdict = asked(store, result)
    assert verdict is not None
    assert verdict.horizons[0].bound is not None
    (reason,) = verdict.reasons
    return reason


def test_a_bug_in_the_certificate_is_a_reason_and_not_the_end(
    store: Store, result: WalkForward, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*arguments: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(promotion, "_certify", stumble)
    assert without_a_certificate(store, result) == "no leak certificate could be made: KeyError: 'a bug'"


@pytest.mark.long
def test_a_certificate_that_kills_its_workers_is_a_reason_and_not_the_end(
    store: Store, result: WalkForward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "_certify", lambda *arguments: os._exit(1))
    told = "no leak certificate could be made: The worker died unexpectedly"
    assert without_a_certificate(store, result).startswith(told)
