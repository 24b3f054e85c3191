"""What a retrain does when something is amiss: a store that is away, a symbol without a newest bar, too few CPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.panels import panel_from_returns
from support.recipes import tiny_recipe

from cluster import retrain, run_records
from cluster.resources import Resources
from swiftbolt.errors import ConfigError, StoreUnavailable


class _StoreAway:
    """A database that has gone."""

    def progress_run(self, run: str, **counts: int) -> None:
        raise StoreUnavailable("the database went away")

    def finish_run(self, *arguments: Any) -> None:
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
    found = retrain._not_forecast(panel, forecasts, lines.append)
    assert found == {
        "BB": "BB: its bars end on 2013-02-28, those of the universe on 2013-03-01",
        "CC": "CC: no model could forecast it",
    }
    assert lines == [f"not forecast: {reason}" for reason in found.values()]


def test_a_network_with_more_threads_than_a_worker_has_cpus_is_refused_before_the_work() -> None:
    recipe = tiny_recipe("lstm")
    config = recipe.models["lstm"].model_copy(update={"threads": 2})
    recipe = type(recipe)(folds=recipe.folds, models={"lstm": config}, ensemble=recipe.ensemble, seed=1)
    retrain._require_cpus(Resources(cpus_per_train_worker=2), recipe, Path("retrain.yaml"))
    with pytest.raises(ConfigError, match="cpus_per_train_worker: is 1, but lstm is told to use 2 threads"):
        retrain._require_cpus(Resources(cpus_per_train_worker=1), recipe, Path("retrain.yaml"))
