"""Tune as an executor: the bits of a plain loop, nothing done twice, and an end where going on makes no sense."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.markets import make_bars
from support.recipes import tiny_recipe

from cluster.fan_out import TuneExecutor, make_shards
from cluster.resources import Resources
from cluster.storage import RunStorage
from swiftbolt.actions import CorporateActions
from swiftbolt.errors import EnvironmentFault
from swiftbolt.evaluation.outcomes import unit_ids
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.units import Outcome, SerialExecutor, Unit, plan_units
from swiftbolt.features.engine import build_panel
from swiftbolt.folds import make_folds
from swiftbolt.panel import Panel

pytestmark = pytest.mark.ray

ONE_SYMBOL = Resources(symbols_per_trial=1)
RECIPE = tiny_recipe("arima", "xgboost")


class Listed:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.plan: list[str] = []
        self.done: list[Outcome] = []

    def planned(self, units: Sequence[Unit]) -> None:
        self.plan += [unit.key for unit in units]

    def finished(self, outcomes: Sequence[Outcome]) -> None:
        self.done += outcomes


@pytest.fixture(scope="module")
def panel() -> Panel:
    return build_panel(make_bars(["AA", "BB"], 760, seed=3), CorporateActions.of())


@pytest.fixture(scope="module")
def units(panel: Panel) -> list[Unit]:
    return plan_units(panel, RECIPE, make_folds(panel.sessions, RECIPE.folds, live=True))


def files_of(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("units/*")}


def same(some: Sequence[Outcome], others: Sequence[Outcome]) -> bool:
    return all(
        a.unit == b.unit
        and a.files == b.files
        and a.importance == b.importance
        and a.failure == b.failure
        and a.forecasts is not None
        and b.forecasts is not None
        and np.array_equal(a.forecasts.quantiles_NHQ, b.forecasts.quantiles_NHQ)
        for a, b in zip(some, others, strict=True)
    )


def test_tune_gives_the_bits_of_a_plain_loop_and_what_is_kept_is_not_done_again(
    ray_cluster: str, panel: Panel, units: list[Unit], tmp_path: Path
) -> None:
    storage = RunStorage.of(tmp_path, "run")
    plain = SerialExecutor().run(panel, RECIPE, units, lambda outcome: None)
    told: list[str] = []
    ledger = Listed()
    first = TuneExecutor(ONE_SYMBOL, storage, ledger=ledger)
    spread = first.run(panel, RECIPE, units, lambda outcome: told.append(outcome.unit.key))
    keys = sorted(unit.key for unit in units)
    assert same(spread, plain)
    assert sorted(told) == sorted(ledger.plan) == sorted(outcome.unit.key for outcome in ledger.done) == keys
    assert all(outcome.attempts == 1 and outcome.cost.seconds > 0 for outcome in spread)

    before = files_of(tmp_path)
    told.clear()
    again = TuneExecutor(Resources(symbols_per_trial=2), storage, ledger=Listed())
    assert same(again.run(panel, RECIPE, units, lambda outcome: told.append(outcome.unit.key)), plain)
    assert sorted(told) == keys
    assert files_of(tmp_path) == before != {}

    # Another recipe shares what it does not change.
    fewer = RECIPE.models["xgboost"].model_copy(update={"rounds": 3})
    changed = Recipe(
        folds=RECIPE.folds, models={**RECIPE.models, "xgboost": fewer}, ensemble=RECIPE.ensemble, seed=RECIPE.seed
    )
    other = TuneExecutor(ONE_SYMBOL, storage).run(panel, changed, units, lambda outcome: None)
    assert same(other, SerialExecutor().run(panel, changed, units, lambda outcome: None))
    assert set(before) < set(files_of(tmp_path))


_INTERRUPTED = """
import signal, sys
from pathlib import Path
import ray
from support.markets import make_bars
from support.recipes import tiny_recipe
from cluster.fan_out import TuneExecutor
from cluster.resources import Resources
from cluster.storage import RunStorage
from swiftbolt.actions import CorporateActions
from swiftbolt.evaluation.units import plan_units
from swiftbolt.features.engine import build_panel
from swiftbolt.folds import make_folds

recipe = tiny_recipe("arima")
panel = build_panel(make_bars([f"S{i}" for i in range(9)], 760, seed=3), CorporateActions.of())
units = plan_units(panel, recipe, make_folds(panel.sessions, recipe.folds))
signal.signal(signal.SIGINT, signal.default_int_handler)
ray.init(address=sys.argv[1], log_to_driver=False)
try:
    TuneExecutor(Resources(symbols_per_trial=1), RunStorage.of(sys.argv[2], "interrupted")).run(
        panel, recipe, units, lambda outcome: signal.raise_signal(signal.SIGINT)
    )
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.long
def test_an_interrupt_ends_the_fan_out_at_once_rather_than_with_half_of_its_results(
    ray_cluster: str, tmp_path: Path
) -> None:
    import ray

    # A process of its own: its trials end with it.
    root = Path(__file__).parents[2]
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, address, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["interrupted"], done.stderr[-2000:]


def test_a_storage_that_cannot_be_written_ends_the_fan_out_with_its_reason(
    ray_cluster: str, panel: Panel, units: list[Unit], tmp_path: Path
) -> None:
    storage = RunStorage.of(tmp_path, "run")
    alone = units[-1:]
    name = hashlib.sha256(unit_ids(RECIPE, alone)[0].encode()).hexdigest()[:20]
    storage.write(f"units/{name}.zip/a folder where a file should be", b"")
    with pytest.raises(EnvironmentFault, match=f"{tmp_path}.* cannot be written"):
        TuneExecutor(ONE_SYMBOL, storage).run(panel, RECIPE, alone, lambda outcome: None)


def test_a_trial_too_large_for_the_cluster_is_not_waited_for_in_silence_nor_for_ever(
    ray_cluster: str, panel: Panel, units: list[Unit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.patience.WAITING_TOLD_S", 0.5)
    lines: list[str] = []
    executor = TuneExecutor(Resources(cpus_per_trial=64, wait_s=1), RunStorage.of(tmp_path, "run"), write=lines.append)
    with pytest.raises(EnvironmentFault, match=r"no worker could start for .*a trial asks for 64 CPUs"):
        executor.run(panel, RECIPE, units, lambda outcome: None)
    (line,) = lines
    assert line.startswith("waiting for workers: a trial asks for 64 CPUs, and the cluster's nodes have 2 CPUs")


def test_what_the_driver_raises_in_between_ends_the_fan_out(
    ray_cluster: str, panel: Panel, units: list[Unit], tmp_path: Path
) -> None:
    def lost() -> None:
        raise EnvironmentFault("the lease is another's")

    executor = TuneExecutor(ONE_SYMBOL, RunStorage.of(tmp_path, "run"), alive=lost)
    with pytest.raises(EnvironmentFault, match="another's"):
        executor.run(panel, RECIPE, units, lambda outcome: None)


def test_all_units_of_a_symbol_share_a_shard_and_a_pooled_one_has_its_own(units: list[Unit]) -> None:
    shards = make_shards({unit.key: unit for unit in units}, symbols_per_trial=1)
    assert sorted(name for shard in shards for name in shard) == sorted(unit.key for unit in units)
    pooled = [shard for shard in shards if len(shard) == 1]
    assert [{unit.symbol for unit in shard.values()} for shard in pooled] == [{None}] * 3
    assert sorted(str({unit.symbol for unit in shard.values()}) for shard in shards if len(shard) > 1) == [
        "{'AA'}",
        "{'BB'}",
    ]
    assert len(make_shards({unit.key: unit for unit in units}, symbols_per_trial=2)) == 1 + 3
