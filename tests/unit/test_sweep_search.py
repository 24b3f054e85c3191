"""The search of a sweep without a cluster: what Optuna draws from, what a resumed one knows, what a trial answers."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from support.panels import panel_from_returns
from support.sweeps import SPACE, fold_score, sweep_plan, sweep_trial

from cluster.sweep import SweepConfig, _finish, _require_cpus, sampled
from cluster.sweep_objective import plan_courses
from cluster.sweep_search import ConfigurationTrial, Recorder, Search, decoded, encoded, seed_of_trial, trials_at_once
from swiftbolt.config import load_config
from swiftbolt.ensemble.weights import EnsembleConfig
from swiftbolt.errors import ConfigError, EnvironmentFault, ModelError
from swiftbolt.evaluation.recipe import Recipe, beside
from swiftbolt.evaluation.search_space import Dimension, require_possible, within
from swiftbolt.evaluation.sweep_results import PENALTY, SweepFolder
from swiftbolt.folds import FoldConfig, make_folds
from swiftbolt.models.registry import config_class, read_model_config
from swiftbolt.universe import Universe

SWEEPS = Path(__file__).parents[2] / "configs" / "sweeps"
FOLDS = FoldConfig(count=2, test_sessions=40, validation_sessions=80, min_train_sessions=260)
ARIMA = config_class("arima").model_validate({"orders": [[0, 1, 0]], "refit_every": 63})
RECIPE = Recipe(folds=FOLDS, models={"arima": ARIMA}, ensemble=EnsembleConfig(), seed=5)
POINT = {"learning_rate": 0.01, "max_depth": 3, "scope": "symbol"}


def search(tmp_path: Path, **changes: Any) -> Search:
    plan = sweep_plan(**changes)
    folder = SweepFolder(tmp_path, plan.run)
    return Search(
        folder=folder, plan=plan, recipe=RECIPE, storage=tmp_path, on_ended=lambda trials: None, alive=lambda: None
    )


def test_what_optuna_draws_becomes_the_values_of_the_space_again() -> None:
    space = {"units": Dimension(choice=([64], [64, 32])), "on": Dimension(choice=(True, 1, None))}
    for point in ({"units": [64, 32], "on": 1}, {"units": [64], "on": True}, {"units": [64], "on": None}):
        back = decoded(space, encoded(space, point))
        assert back == point
        assert type(back["on"]) is type(point["on"])


def test_a_search_tries_first_what_it_is_told_to_then_draws_from_the_space(tmp_path: Path) -> None:
    searcher = search(tmp_path).searcher([], [POINT, {**POINT, "max_depth": 6}])
    drawn = [decoded(SPACE, searcher.suggest(f"trial-{n}") or {}) for n in range(6)]
    assert drawn[:2] == [POINT, {**POINT, "max_depth": 6}]
    assert all(SPACE[key].holds(value) for point in drawn for key, value in point.items())
    again = search(tmp_path).searcher([], [POINT, {**POINT, "max_depth": 6}])
    assert [decoded(SPACE, again.suggest(f"trial-{n}") or {}) for n in range(6)] == drawn


def test_a_resumed_search_knows_what_ended_and_does_not_begin_as_the_first_did(tmp_path: Path) -> None:
    # Losses grow with depth: a search that was told of twelve of them draws shallow trees.
    ended = [
        sweep_trial(n, 1.2 + (n % 5) / 10, parameters={**POINT, "max_depth": 2 + n % 5, "learning_rate": rate})
        for n, rate in enumerate(np.geomspace(0.001, 0.1, 12).tolist())
    ]
    told, fresh = search(tmp_path).searcher(ended, []), search(tmp_path).searcher([], [])
    depths = {
        name: np.mean([(one.suggest(f"trial-{n}") or {})["max_depth"] for n in range(12)])
        for name, one in (("told", told), ("fresh", fresh))
    }
    assert depths["told"] < depths["fresh"] - 0.5


def test_a_resumed_search_prunes_by_what_the_ended_trials_showed(tmp_path: Path) -> None:
    ended = [sweep_trial(n, 0.95, 0.96) for n in range(4)]

    def decision(loss: float, known: list[Any]) -> str:
        controller: Any = None
        trial: Any = SimpleNamespace(trial_id="new")
        halving = search(tmp_path).scheduler(known)
        halving.on_trial_add(controller, trial)
        return halving.on_trial_result(controller, trial, {"loss": loss, "folds_done": 1})

    assert decision(1.10, ended) == "STOP"
    assert decision(0.90, ended) == "CONTINUE"
    assert decision(1.10, []) == "CONTINUE"


def test_a_configuration_has_a_seed_of_its_own_wherever_it_is_tried() -> None:
    assert seed_of_trial(RECIPE, POINT) == seed_of_trial(RECIPE, dict(reversed(POINT.items())))
    assert seed_of_trial(RECIPE, POINT) != seed_of_trial(RECIPE, {**POINT, "max_depth": 4})


@pytest.mark.parametrize(
    ("granted", "cpus", "gpus", "room"),
    [
        ({"CPU": 8.0}, 1.0, 0.0, 8),
        ({"CPU": 8.0}, 3.0, 0.0, 2),
        ({"CPU": 8.0, "GPU": 1.0}, 1.0, 0.25, 4),
        ({"CPU": 1.0}, 2.0, 0.0, 1),
        ({}, 1.0, 0.0, 1),
    ],
)
def test_as_many_trials_run_at_once_as_there_is_room_for(
    granted: dict[str, float], cpus: float, gpus: float, room: int
) -> None:
    assert trials_at_once(granted, cpus, gpus) == room


def test_a_trial_tells_its_mean_after_each_fold_and_an_impossible_one_answers_with_the_penalty() -> None:
    panel = panel_from_returns({"AA": 0.01 * np.random.default_rng(3).standard_normal(479)})
    courses = plan_courses(panel, make_folds(panel.sessions, FOLDS), RECIPE, 1)
    plan = sweep_plan(model="arima", space={"outlier_limit": Dimension(choice=(5.0, 1.0))})
    trial = ConfigurationTrial.__new__(ConfigurationTrial)  # its own __init__ wants a worker's folders
    trial.setup({"outlier_limit": "5.0"}, panel=panel, recipe=RECIPE, plan=plan, courses=courses)
    first, second = trial.step(), trial.step()
    assert (first["folds_done"], first["done"], first["failure"]) == (1, False, None)
    assert (second["folds_done"], second["done"], second["failure"]) == (2, True, None)
    assert second["loss"] == pytest.approx(np.mean([score["loss"] for score in second["scores"]]))
    assert second["scores"][0] == first["scores"][0]
    assert trial.reset_config({"outlier_limit": "1.0"})
    failed = trial.step()
    assert (failed["loss"], failed["done"], failed["scores"]) == (PENALTY, True, [])
    assert "outlier_limit" in failed["failure"]


def test_what_trials_show_is_kept_as_they_show_it_and_their_end_is_told_once(tmp_path: Path) -> None:
    plan = sweep_plan()
    folder = SweepFolder(tmp_path, plan.run)
    folder.write_plan(plan)
    told: list[list[tuple[int, str, str | None]]] = []
    kept = Recorder(
        folder, plan, RECIPE, [sweep_trial(1, 1.0, 1.0)],
        lambda trials: told.append([(one.number, one.state, one.reason) for one in trials]),
    )  # fmt: skip

    def tune_trial(name: str) -> Any:
        error = "RayActorError: it broke\nthe node ran out of memory"
        return SimpleNamespace(trial_id=name, config=encoded(SPACE, POINT), get_error=lambda: error)

    def result(*losses: float, failure: str | None = None) -> dict[str, Any]:
        return {"scores": [asdict(fold_score(loss)) for loss in losses], "failure": failure, "seconds": 2.0}

    pruned, impossible, killed, whole = (tune_trial(name) for name in "abcd")
    for one in (pruned, impossible, killed, whole):
        kept.on_trial_start(0, [], one)
    kept.on_trial_result(1, [], pruned, result(1.2))
    assert [(one.number, one.state, len(one.folds)) for one in folder.trials()] == [
        (0, "running", 1), (2, "running", 0), (3, "running", 0), (4, "running", 0),
    ]  # fmt: skip
    kept.on_trial_complete(1, [], pruned)
    kept.on_trial_result(1, [], impossible, result(failure="cannot be"))
    kept.on_trial_complete(1, [], impossible)
    kept.on_trial_start(2, [], killed)  # its worker died once, and it began again
    kept.on_trial_error(2, [], killed)
    kept.on_trial_result(3, [], whole, result(0.9, 0.9))
    kept.on_trial_complete(3, [], whole)
    assert [len(trials) for trials in told] == [2, 3, 4, 5]
    assert told[-1] == [
        (1, "complete", None),
        (0, "pruned", "pruned after 1 of 2 folds"),
        (2, "failed", "cannot be"),
        (3, "failed", "its worker died: the node ran out of memory"),
        (4, "complete", None),
    ]
    assert {one.number: one.loss for one in folder.trials()} == {
        0: pytest.approx(1.2), 2: PENALTY, 3: PENALTY, 4: pytest.approx(0.9),
    }  # fmt: skip
    assert all(one.parameters == POINT for one in folder.trials())


def test_a_trial_whose_worker_died_before_it_began_is_a_failed_trial_like_any_other(tmp_path: Path) -> None:
    plan = sweep_plan()
    folder = SweepFolder(tmp_path, plan.run)
    folder.write_plan(plan)
    told: list[int] = []
    kept = Recorder(folder, plan, RECIPE, [], lambda trials: told.append(len(trials)))
    dead: Any = SimpleNamespace(trial_id="a", config=encoded(SPACE, POINT), get_error=lambda: "out of memory")
    kept.on_trial_error(0, [], dead)
    assert [(one.number, one.state, one.parameters) for one in folder.trials()] == [(0, "failed", POINT)]
    assert told == [1]


def test_a_folder_that_cannot_be_written_ends_the_search_at_its_next_step(tmp_path: Path) -> None:
    plan = sweep_plan()
    folder = SweepFolder(tmp_path, plan.run)  # it was never made
    steps: list[int] = []
    kept = Recorder(folder, plan, RECIPE, [], lambda trials: None, lambda: steps.append(1))
    kept.on_step_begin(0, [])
    kept.on_trial_start(0, [], SimpleNamespace(trial_id="a", config=encoded(SPACE, POINT)))
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        kept.on_step_begin(1, [])
    assert steps == [1, 1]


def test_no_trial_may_ask_for_more_threads_than_it_has_cpus_be_they_the_bases_or_searched() -> None:
    path = SWEEPS / "xgboost.yaml"
    base = config_class("xgboost")()

    def require(*overrides: str) -> None:
        _require_cpus(load_config(path, SweepConfig, ["resources.cpus_per_trial=2", *overrides]), base, path)

    require()
    require("space.threads={choice: [1, 2]}")
    with pytest.raises(ConfigError, match="is 2, but xgboost is told to use 4 threads"):
        require("space.threads={choice: [4, 1]}")


def test_a_sweep_that_ends_before_its_universe_starts_is_refused_by_name() -> None:
    path = SWEEPS / "arima.yaml"
    universe = Universe.model_validate({"symbols": ["AA"], "start": "2013-01-02"})
    with pytest.raises(ConfigError, match="2012-03-01 lies before the universe starts, 2013-01-02"):
        sampled(universe, load_config(path, SweepConfig), path)


def test_a_sweep_of_which_every_trial_failed_leaves_its_results_and_fails(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path, "sweep-1")
    folder.write_plan(sweep_plan())
    folder.write_trial(sweep_trial(0, state="failed", reason="the fit failed"))
    kept: list[Any] = []
    store: Any = SimpleNamespace(record_trials=kept.extend)
    with pytest.raises(ModelError, match="every trial failed, the first because: the fit failed"):
        _finish(folder, store, lambda line: None)
    assert [row.state for row in kept] == ["failed"] * 3
    assert {path.name for path in folder.path.iterdir()} == {"sweep.json", "trials", "sweep.parquet", "sweep.html"}


# The files that are shipped


@pytest.mark.parametrize("model", ["arima", "xgboost", "lstm", "transformer"])
def test_a_shipped_sweep_can_be_searched_holds_its_base_and_ends_before_the_sample_does(model: str) -> None:
    path = SWEEPS / f"{model}.yaml"
    config = load_config(path, SweepConfig)
    universe = load_config(beside(path, config.universe), Universe)
    changes = tuple(f"{key}={value}" for key, value in config.base.set.items())
    base = read_model_config(model, beside(path, config.base.config), changes)
    require_possible(config.space, base, model, str(path))
    assert config.model == model
    assert within(config.space, base) is not None
    assert universe.end is not None
    assert config.end < universe.end


def test_symbols_are_drawn_by_the_seed_and_the_market_is_always_among_them(tmp_path: Path) -> None:
    path = SWEEPS / "arima.yaml"
    names = [f"S{n:02d}" for n in range(40)]
    universe = Universe.model_validate({"symbols": names, "market": "S39", "end": "2020-01-02"})

    def draw(*overrides: str) -> Universe:
        return sampled(universe, load_config(path, SweepConfig, ["symbols=5", *overrides]), path)

    one = draw()
    assert len(one.symbols) == 5
    assert "S39" in one.symbols
    assert one.end == date(2012, 3, 1)
    assert draw() == one
    assert draw("seed=1").symbols != one.symbols
    assert draw("end=2021-01-04").end == date(2020, 1, 2)
    assert sampled(universe, load_config(path, SweepConfig, ["symbols=null"]), path).symbols == tuple(names)
    assert yaml.safe_load(path.read_text())["symbols"] == 40
