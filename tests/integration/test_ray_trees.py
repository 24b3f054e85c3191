"""Trees grown by Ray Train's workers forecast as those grown in this process do."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from support.planted import planted_fold, planted_panel

from cluster.trees import RayTreesTrainer
from swiftbolt.forecast import HORIZONS, crps_from_quantiles
from swiftbolt.models.boosted_trees import BoostedTrees, BoostedTreesConfig
from swiftbolt.panel import Panel
from swiftbolt.windows import outcomes

pytestmark = pytest.mark.ray

CONFIG = BoostedTreesConfig.model_validate({"rounds": 20, "learning_rate": 0.2, "min_child_weight": 50})


def grown_by(workers: int, folder: Path, panel: Panel, config: BoostedTreesConfig) -> BoostedTrees:
    trainer = RayTreesTrainer(num_workers=workers, cpus_per_worker=1, storage_path=folder, run_name=f"trees-{workers}")
    model = BoostedTrees(config)
    trainer.fit(model, panel, planted_fold(panel), seed=11)
    return model


def grown_here(panel: Panel, config: BoostedTreesConfig) -> BoostedTrees:
    model = BoostedTrees(config)
    model.fit(panel, planted_fold(panel), seed=11)
    return model


def crps_H(model: BoostedTrees, panel: Panel) -> NDArray[np.float64]:
    """Mean score of each horizon from all origins that have matured."""
    origins = panel.sessions[20 : -HORIZONS[-1]]
    y_NH = outcomes(panel)[panel.rows_at(origins)]
    return crps_from_quantiles(model.forecast(panel, origins).quantiles_NHQ, y_NH).mean(axis=0)


def test_one_worker_gives_the_bytes_that_growing_in_process_gives(ray_cluster: str, tmp_path: Path) -> None:
    panel = planted_panel(seed=5)
    files = grown_by(1, tmp_path, panel, CONFIG).dump()
    assert "1.ubj" in files  # else there would be nothing to compare
    assert files == grown_here(panel, CONFIG).dump()


def test_two_workers_score_as_one_process_does(ray_cluster: str, tmp_path: Path) -> None:
    # A leaf's quantile is the mean of those of the workers' shares: leaves are wide here, as they are on large panels.
    # All rows and features in every tree, since another draw of them would by itself move the score by half a percent.
    config = CONFIG.model_copy(update={"min_child_weight": 300.0, "subsample": 1.0, "colsample": 1.0})
    panel = planted_panel(symbols=10, sessions=1500, seed=5, strength=0.5)
    together, alone = grown_by(2, tmp_path, panel, config), grown_here(panel, config)
    assert together.dump() != alone.dump()
    assert crps_H(together, panel) == pytest.approx(crps_H(alone, panel), rel=1e-3)
    untrained = grown_here(panel, config.model_copy(update={"rounds": 1}))
    assert (crps_H(untrained, panel) > 1.01 * crps_H(alone, panel)).all()  # the trees matter


def test_symbols_fitted_apart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="spread over tasks"):
        grown_by(1, tmp_path, planted_panel(seed=5), CONFIG.model_copy(update={"scope": "symbol"}))


def test_more_threads_than_a_worker_has_cpus_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more threads than the 1 CPUs"):
        grown_by(1, tmp_path, planted_panel(seed=5), CONFIG.model_copy(update={"threads": 2}))


@pytest.mark.long
def test_a_killed_worker_changes_no_byte(ray_cluster: str, tmp_path: Path) -> None:
    panel = planted_panel(seed=5)
    slow = CONFIG.model_copy(update={"rounds": 1000, "early_stopping_rounds": 1000, "learning_rate": 0.001})
    stop, killed = threading.Event(), list[int]()

    def kill_the_first_that_works() -> None:
        while not killed and not stop.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "RayTrainWorker" in " ".join(process.cmdline()) and not killed:
                        process.kill()
                        killed.append(process.pid)

    killer = threading.Thread(target=kill_the_first_that_works)
    killer.start()
    try:
        files = grown_by(1, tmp_path, panel, slow).dump()
    finally:
        stop.set()
        killer.join()
    assert killed
    assert files == grown_here(panel, slow).dump()
