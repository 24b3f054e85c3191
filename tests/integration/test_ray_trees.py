"""Trees grown by Ray Train's workers forecast as those grown in this process do."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from support.planted import planted_panel
from support.recipes import tiny_recipe

from cluster.storage import RunStorage
from cluster.trees import RayTreesTrainer
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.units import Outcome, SerialExecutor, Unit
from swiftbolt.folds import FoldConfig, make_folds
from swiftbolt.forecast import HORIZONS, crps_from_quantiles
from swiftbolt.models.boosted_trees import BoostedTrees, BoostedTreesConfig
from swiftbolt.panel import Panel
from swiftbolt.windows import outcomes

pytestmark = pytest.mark.ray

CONFIG = BoostedTreesConfig.model_validate({"rounds": 20, "learning_rate": 0.2, "min_child_weight": 50})
FOLDS = FoldConfig(count=2, test_sessions=60, validation_sessions=60, min_train_sessions=60)


def recipe_of(config: BoostedTreesConfig = CONFIG) -> Recipe:
    return replace(tiny_recipe("xgboost"), models={"xgboost": config})


def units_of(panel: Panel) -> list[Unit]:
    """Two test folds and the live one."""
    return [Unit(model="xgboost", fold=fold, symbol=None) for fold in make_folds(panel.sessions, FOLDS, live=True)]


def trainer(root: Path | str, workers: int | tuple[int, int] = 1) -> RayTreesTrainer:
    return RayTreesTrainer(num_workers=workers, cpus_per_worker=1, storage=RunStorage.of(root, "run"), run_name="trees")


def ignore(outcome: Outcome) -> None:
    pass


def grown_here(panel: Panel, config: BoostedTreesConfig = CONFIG) -> list[Outcome]:
    return SerialExecutor().run(panel, recipe_of(config), units_of(panel), ignore)


def left_by(found: list[Outcome]) -> list[tuple[object, ...]]:
    """All that outcomes hold, to the bit, but what they took."""
    return [
        (
            None if outcome.forecasts is None else outcome.forecasts.to_frame().rows(),
            outcome.files,
            outcome.importance,
            outcome.notes,
            outcome.failure,
        )
        for outcome in found
    ]


def crps_H(live: Outcome, config: BoostedTreesConfig, panel: Panel) -> NDArray[np.float64]:
    """Mean score of each horizon from all origins that have matured."""
    model = BoostedTrees.restore(config, live.files)
    origins = panel.sessions[20 : -HORIZONS[-1]]
    y_NH = outcomes(panel)[panel.rows_at(origins)]
    return crps_from_quantiles(model.forecast(panel, origins).quantiles_NHQ, y_NH).mean(axis=0)


def test_one_worker_leaves_to_the_byte_what_units_run_in_this_process_leave(ray_cluster: str, tmp_path: Path) -> None:
    panel = planted_panel(seed=5)
    told: list[Outcome] = []
    # Its training range is too short for so many rows: that fold fails, and no other.
    config = CONFIG.model_copy(update={"min_rows": 700})
    found = trainer(tmp_path).outcomes(panel, recipe_of(config), units_of(panel), told.append)
    alone = grown_here(panel, config)
    assert left_by(found) == left_by(alone)
    assert found[0].failure == alone[0].failure
    assert "needs 700" in str(found[0].failure)
    assert [outcome.failure for outcome in found[1:]] == [None, None]
    assert "1.ubj" in found[2].files  # else there would be nothing to compare
    assert {outcome.unit.key for outcome in told} == {unit.key for unit in units_of(panel)}
    assert all(outcome.cost.cpu_seconds > 0 and outcome.attempts == 1 for outcome in found)


@pytest.mark.long
def test_two_workers_score_as_one_process_does(ray_cluster: str, tmp_path: Path) -> None:
    # A leaf's quantile is the mean of those of the workers' shares: leaves are wide here, as they are on large panels.
    # All rows and features in every tree, since another draw of them would by itself move the score by half a percent.
    config = CONFIG.model_copy(update={"min_child_weight": 300.0, "subsample": 1.0, "colsample": 1.0})
    panel = planted_panel(symbols=10, sessions=1500, seed=5, strength=0.5)
    live = units_of(panel)[-1:]
    (together,) = trainer(tmp_path, workers=2).outcomes(panel, recipe_of(config), live, ignore)
    (alone,) = SerialExecutor().run(panel, recipe_of(config), live, ignore)
    single = config.model_copy(update={"rounds": 1})
    (untrained,) = SerialExecutor().run(panel, recipe_of(single), live, ignore)
    assert left_by([together]) != left_by([alone])
    assert crps_H(together, config, panel) == pytest.approx(crps_H(alone, config, panel), rel=1e-3)
    assert (crps_H(untrained, single, panel) > 1.01 * crps_H(alone, config, panel)).all()  # the trees matter


def test_units_of_one_symbol_or_another_model_are_refused(tmp_path: Path) -> None:
    panel = planted_panel(seed=5)
    for changes in ({"symbol": panel.symbols[0]}, {"model": "naive"}):
        with pytest.raises(ValueError, match="spread over trials"):
            trainer(tmp_path).outcomes(panel, recipe_of(), [replace(units_of(panel)[0], **changes)], ignore)


def test_more_threads_than_a_worker_has_cpus_are_refused(tmp_path: Path) -> None:
    panel, greedy = planted_panel(seed=5), CONFIG.model_copy(update={"threads": 2})
    with pytest.raises(ValueError, match="more threads than the 1 CPUs"):
        trainer(tmp_path).outcomes(panel, recipe_of(greedy), units_of(panel), ignore)


@pytest.mark.long
def test_a_killed_worker_changes_no_byte(ray_cluster: str, tmp_path: Path) -> None:
    panel = planted_panel(seed=5)
    slow = CONFIG.model_copy(update={"rounds": 500, "early_stopping_rounds": 500, "learning_rate": 0.001})
    killed: list[int] = []

    def kill_the_first_that_works() -> None:
        if killed or not any(tmp_path.glob("run/trees.begun/*")):
            return
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if not killed and "RayTrainWorker" in " ".join(process.cmdline()):
                    process.kill()
                    killed.append(process.pid)

    dogged = replace(trainer(tmp_path), on_poll=kill_the_first_that_works)
    found = dogged.outcomes(panel, recipe_of(slow), units_of(panel), ignore)
    assert killed
    assert max(outcome.attempts for outcome in found) == 2
    assert left_by(found) == left_by(grown_here(panel, slow))


DRIVER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
import ray
from support.planted import planted_panel
from test_ray_trees import recipe_of, trainer, units_of

ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False, configure_logging=False)
panel = planted_panel(seed=5)
trainer(sys.argv[1]).outcomes(
    panel, recipe_of(), units_of(panel), lambda outcome: Path(sys.argv[1], "first").touch()
)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="kills a driver with all its processes by their parentage")
def test_a_driver_that_was_killed_goes_on_where_it_stood(ray_cluster: str, tmp_path: Path) -> None:
    here = Path(__file__).resolve()
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), str(here.parent), str(here.parents[1]), str(here.parents[2])],
        env=os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
    )
    try:
        while not (tmp_path / "first").exists():
            assert driver.poll() is None, "the driver ended by itself"
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(timeout=0.05)
    finally:
        # All of its Ray dies with it, its raylet last: nothing is left that could go on.
        for process in [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        driver.wait()
    grown = {path: path.stat().st_mtime_ns for path in tmp_path.glob("run/trees-0/xgboost_00_*/*.ubj")}
    assert grown
    panel = planted_panel(seed=5)
    found = trainer(tmp_path).outcomes(panel, recipe_of(), units_of(panel), ignore)
    assert found[0].attempts == 1
    assert {path: path.stat().st_mtime_ns for path in grown} == grown
    assert left_by(found) == left_by(grown_here(panel))
