"""What a retrain does when something is amiss: a store that is away, a symbol without a newest bar, too few CPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from support.panels import panel_from_returns
from support.recipes import tiny_recipe

from cluster import publication, retrain, run_records
from cluster.publication import not_forecast, patiently
from cluster.resources import Resources
from cluster.retrain_run import require_few_failures
from swiftbolt.errors import ConfigError, ModelError, StoreUnavailable


class _StoreAway:
    """A database that has gone."""

    def progress(self) -> None:
        raise StoreUnavailable("the database went away")

    def progress_run(self, run: str, **counts: int) -> None:
        raise StoreUnavailable("the database went away")

    def finish_run(self, *arguments: Any, **named: Any) -> None:
        raise StoreUnavailable("the database went away")


def test_a_store_that_is_away_costs_a_line_and_not_the_run() -> None:
    lines: list[str] = []
    run_records.progress_recorder(_StoreAway(), "run", lines.append)(1, 0, 2)  # type: ignore[arg-type]
    assert lines == ["progress was not recorded, the run goes on: the database went away"]


def test_a_failure_that_cannot_be_recorded_is_said_and_does_not_hide_the_first_one() -> None:
    lines: list[str] = []
    run_records.record_failure(_StoreAway(), "run", 1.0, {}, lines.append)  # type: ignore[arg-type]
    assert lines == ["run run failed, and that was not recorded: the database went away"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(15)])
def test_a_run_that_was_stopped_says_so(stop: BaseException) -> None:
    assert run_records.reason_of(stop) == "stopped before it was done"


def test_a_symbol_without_a_forecast_is_named_with_its_reason() -> None:
    full = panel_from_returns({name: np.full(30, 0.01) for name in ("AA", "BB", "CC")})
    session_R = full.session_R.copy()
    session_R[full.rows("BB")] -= 1  # its bars end a session before the others'
    session_R[full.rows("BB").start] = 0
    keep = np.ones(len(session_R), dtype=bool)
    keep[full.rows("BB").start] = False
    panel = type(full)(
        symbols=full.symbols,
        sessions=full.sessions,
        offsets=np.array([0, 31, 61, 92]),
        session_R=session_R[keep],
        close_R=full.close_R[keep],
        log_price_R=full.log_price_R[keep],
        features_RF=full.features_RF[keep],
        feature_names=(),
        spec_hash="",
        data_hash="",
    )
    forecasts = pl.DataFrame({"symbol": ["AA", "CC"], "model": ["ensemble", "naive"]})
    lines: list[str] = []
    found = not_forecast(panel, forecasts, lines.append)
    assert found == {
        "BB": "BB: its bars end on 2013-02-28, those of the universe on 2013-03-01",
        "CC": "CC: no model could forecast it",
    }
    assert lines == [f"not forecast: {reason}" for reason in found.values()]


def test_a_network_with_more_threads_than_a_worker_has_cpus_is_refused_before_the_work() -> None:
    recipe = tiny_recipe("lstm")
    config = recipe.models["lstm"].model_copy(update={"threads": 2})
    recipe = type(recipe)(folds=recipe.folds, models={"lstm": config}, ensemble=recipe.ensemble, seed=1)
    retrain.require_shares(Resources(cpus_per_train_worker=2), recipe, Path("retrain.yaml"))
    with pytest.raises(ConfigError, match="cpus_per_train_worker: is 1, but lstm is told to use 2 threads"):
        retrain.require_shares(Resources(cpus_per_train_worker=1), recipe, Path("retrain.yaml"))


@pytest.mark.parametrize("workers", [0, [0, 2], [3, 2]])
def test_a_number_of_train_workers_that_cannot_be_is_refused(workers: object) -> None:
    with pytest.raises(ValidationError, match="least <= most"):
        Resources.model_validate({"train_workers": workers})


@pytest.mark.parametrize("key", ["storage_path", "trainings_at_once"])
def test_resources_that_cannot_be_are_refused(key: str) -> None:
    with pytest.raises(ValidationError, match=r"is neither an absolute folder|is a number from 1 on"):
        Resources.model_validate({key: {"storage_path": "runs", "trainings_at_once": 0}[key]})
    for value in ("/mnt/runs", "s3://bucket/runs"):
        assert Resources(storage_path=value).storage_path == value


def test_work_that_asks_the_store_waits_for_it_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publication, "_ASK_AGAIN_S", 0.0)
    answers = iter([StoreUnavailable("gone"), StoreUnavailable("gone"), 7])

    def ask() -> int:
        answer = next(answers)
        if isinstance(answer, StoreUnavailable):
            raise answer
        return answer

    lines: list[str] = []
    assert patiently(ask, lines.append) == 7
    assert lines == ["waiting for the store, up to 300 s: gone"]
    with pytest.raises(StoreUnavailable):
        patiently(_StoreAway().progress, lines.append, patience_s=0.0)


@pytest.mark.parametrize("allowed", [0.34, 0.33])
def test_a_run_with_more_failed_symbols_than_it_may_have_releases_nothing(allowed: float) -> None:
    panel = panel_from_returns({name: np.full(30, 0.01) for name in ("AA", "BB", "BF/B")})
    # One symbol with two failures is one symbol; a pooled fit is none.
    failures = {"arima/BF/B/0": "no", "arima/BF/B/live": "no", "lstm/universe/1": "no"}
    if allowed > 1 / 3:
        require_few_failures(panel, failures, allowed)
        return
    with pytest.raises(
        ModelError, match=r"1 of 3 symbols failed \(33.3%\), and max_failed_share is 33.0%.*arima/BF/B/"
    ):
        require_few_failures(panel, failures, allowed)


def test_gpus_that_nobody_would_use_are_refused_and_so_are_trees_on_a_gpu_without_one() -> None:
    recipe = tiny_recipe("xgboost")
    trees = recipe.models["xgboost"].model_copy(update={"scope": "symbol", "device": "cuda"})
    on_gpus = type(recipe)(folds=recipe.folds, models={"xgboost": trees}, ensemble=recipe.ensemble, seed=1)
    quarter = Resources(gpus_per_trial=0.25)
    retrain.require_shares(quarter, on_gpus, Path("retrain.yaml"))
    with pytest.raises(ConfigError, match="gpus_per_trial: is 0, but xgboost is told to grow its trees on cuda"):
        retrain.require_shares(Resources(), on_gpus, Path("retrain.yaml"))
    with pytest.raises(ConfigError, match=r"gpus_per_trial: is 0.25, and no model that is fitted in trials uses a GPU"):
        retrain.require_shares(quarter, recipe, Path("retrain.yaml"))
