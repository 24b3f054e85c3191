"""A retrain on a real Ray and a real PostgreSQL: what it leaves behind, and that it can be repeated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from support.markets import make_bars
from support.recipes import TINY_MODELS, tiny_recipe

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.config import load_config
from swiftbolt.ensemble.weights import combine
from swiftbolt.errors import ArtifactMismatch, ConfigError, DataError
from swiftbolt.evaluation.units import SerialExecutor, plan_units
from swiftbolt.features.engine import DEFAULT_SPEC, build_panel
from swiftbolt.folds import make_folds
from swiftbolt.forecast import MODELS
from swiftbolt.release import (
    Release,
    explain_members,
    read_ensemble,
    read_explanations,
    read_forecasts,
    read_member,
    verify_release,
)
from swiftbolt.settings import Settings
from swiftbolt.store import Store
from swiftbolt.universe import Cohort

pytestmark = pytest.mark.ray


@pytest.fixture
def settings(tmp_path: Path, migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SWIFTBOLT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    return Settings()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A retrain file with the files it names: four tiny models, two folds, three symbols of which one is too young."""
    files = {
        "universe.yaml": {"symbols": ["AA", "BB", "FB"], "min_sessions": 400},
        "ensemble.yaml": {"min_weight_sessions": 20, "min_calibration_sessions": 20},
        "retrain.yaml": {
            "universe": "universe.yaml",
            "folds": {"count": 2, "test_sessions": 30, "validation_sessions": 40, "min_train_sessions": 260},
            "models": {name: {"config": f"{name}.yaml"} for name in MODELS},
            "ensemble": "ensemble.yaml",
            "seed": 5,
            "resources": {"symbols_per_trial": 1, "cpus_per_train_worker": 1, "use_gpu": False},
        },
        **{f"{name}.yaml": options for name, options in TINY_MODELS.items()},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(content))
    return tmp_path / "retrain.yaml"


# FB has features by the end, and is too young to be forecast all the same.
BARS = Bars(frame=pl.concat([make_bars(["AA", "BB"], 760, seed=3).frame, make_bars(["FB"], 300, seed=3).frame]))


def ingest(url: str) -> None:
    with Store.connect(url) as store:
        store.upsert_bars(BARS, source="test")


def test_a_retrain_leaves_a_release_that_repeats_to_the_bit_and_a_damaged_one_is_found_out(
    ray_cluster: str, settings: Settings, config: Path, migrated_url: str
) -> None:
    from cluster.retrain import retrain

    ingest(migrated_url)
    lines: list[str] = []
    first = retrain(config, [], settings, lines.append)

    assert "skipped: FB: needs 400 sessions, has 300" in lines
    assert not any(line.startswith("not forecast") for line in lines)
    assert any("2/2 symbols" in line for line in lines)
    with Store.connect(migrated_url) as store:
        (run,) = store.runs()
        (row,) = store.releases()
        stored = store.forecasts(row.version)
        results = store.results(row.version)
        assert store.active_release() is None
    assert (run.state, run.failed) == ("succeeded", 0)
    assert run.done == run.total > 0
    assert row.release_digest == first.release_digest
    assert row.origin.isoformat() == "2013-03-01"
    assert set(results["model"]) == {"naive", "naive_drift", *MODELS, "ensemble"}
    assert set(stored["symbol"]) == {"AA", "BB"}

    directory = Path(row.directory)
    assert verify_release(directory) == first
    assert first.skipped == {"FB": "FB: needs 400 sessions, has 300"}
    assert first.symbols == ("AA", "BB")
    assert first.cohort == Cohort.of(["AA", "BB", "FB"])
    assert not list(directory.rglob("*.pkl"))
    assert read_forecasts(directory).equals(stored.sort("symbol", "origin", "horizon", "model"), null_equal=True)
    assert json.loads((directory / "scorecard.json").read_text())["symbols"] == 2
    assert not (settings.home / "ray" / f"{run.run}-models").exists()

    # The artifacts alone, on the bars alone, give the forecasts that were released.
    panel = build_panel(BARS, CorporateActions.of()).select(first.symbols)
    members = {
        name: read_member(directory, name, spec_hash=DEFAULT_SPEC.spec_hash).forecast(panel, panel.sessions[-1:])
        for name in first.models
    }
    again = combine(members, read_ensemble(directory)).to_frame()
    released = read_forecasts(directory).filter(pl.col("model") == "ensemble")
    assert again.sort("symbol", "horizon").equals(released.sort("symbol", "horizon"))

    # And say why, as the release does; contributions and base are the released medians.
    why = read_explanations(directory)
    assert why == explain_members(directory, first.models, panel)
    medians = read_forecasts(directory).filter(pl.col("model") == "xgboost").select("symbol", "horizon", "q_0.5")
    assert {(one.symbol, one.horizon): one.median for one in why["xgboost"]} == pytest.approx(
        {(symbol, horizon): median for symbol, horizon, median in medians.iter_rows()}, abs=1e-7
    )
    assert set(json.loads((directory / "scorecard.json").read_text())["importance"]) == {"xgboost"}

    second = retrain(config, [], settings, lambda line: None)
    assert second.run != first.run
    assert second.release_digest == first.release_digest

    victim = directory / "xgboost" / "1.ubj"
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactMismatch, match="not those that were saved"):
        read_member(directory, "xgboost", spec_hash=DEFAULT_SPEC.spec_hash)
    explanations = directory / "explanations.json"
    whole = explanations.read_text()
    explanations.write_text(whole.replace('"AA"', '"BB"', 1))
    with pytest.raises(ArtifactMismatch, match="digest"):
        verify_release(directory)
    explanations.write_text(whole)
    frame = read_forecasts(directory)
    frame.with_columns(pl.col("q_0.5") + 1e-9).write_parquet(directory / "forecasts.parquet")
    with pytest.raises(ArtifactMismatch, match="digest"):
        verify_release(directory)
    shutil.rmtree(directory)
    with pytest.raises(ArtifactMismatch, match=r"release\.json"):
        Release.read(directory)


def test_an_empty_store_is_a_data_error_and_leaves_no_release(
    ray_cluster: str, settings: Settings, config: Path, migrated_url: str
) -> None:
    from cluster.retrain import retrain

    with pytest.raises(DataError, match="AA: no bars in the store; run swiftbolt ingest"):
        retrain(config, [], settings, lambda line: None)
    with Store.connect(migrated_url) as store:
        assert store.releases() == []


def test_a_retrain_that_breaks_is_recorded_as_failed_and_publishes_nothing(
    ray_cluster: str, settings: Settings, config: Path, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cluster.retrain

    def broken(*arguments: object, **named: object) -> None:
        raise RuntimeError("the power went")

    ingest(migrated_url)
    monkeypatch.setattr(cluster.retrain, "walk_forward", broken)
    with pytest.raises(RuntimeError, match="the power went"):
        cluster.retrain.retrain(config, [], settings, lambda line: None)
    with Store.connect(migrated_url) as store:
        (run,) = store.runs()
        assert run.state == "failed"
        assert store.releases() == []
    assert not settings.artifacts.exists() or not list(settings.artifacts.iterdir())


def test_a_release_needs_every_member(settings: Settings, config: Path) -> None:
    from cluster.retrain import RetrainConfig
    from swiftbolt.evaluation.recipe import Recipe, require_members

    data = yaml.safe_load(config.read_text())
    del data["models"]["lstm"]
    config.write_text(yaml.safe_dump(data))
    recipe = Recipe.read(load_config(config, RetrainConfig), config)
    with pytest.raises(ConfigError, match="missing lstm"):
        require_members(recipe, config)


_INTERRUPTED = """
import signal, sys
from pathlib import Path
import ray
from support.markets import make_bars
from support.recipes import tiny_recipe
from cluster.fan_out import TuneExecutor
from cluster.resources import Resources
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
    TuneExecutor(Resources(symbols_per_trial=1), Path(sys.argv[2]), "interrupted").run(
        panel, recipe, units, lambda outcome: signal.raise_signal(signal.SIGINT)
    )
except KeyboardInterrupt:
    print("interrupted")
"""


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


def test_tune_gives_the_same_bits_as_a_plain_loop_and_tells_of_every_unit_once(
    ray_cluster: str, tmp_path: Path
) -> None:
    from cluster.fan_out import TuneExecutor
    from cluster.resources import Resources

    recipe = tiny_recipe("arima", "xgboost")
    panel = build_panel(make_bars(["AA", "BB"], 760, seed=3), CorporateActions.of())
    folds = make_folds(panel.sessions, recipe.folds, live=True)
    units = plan_units(panel, recipe, folds)
    told: list[str] = []
    executor = TuneExecutor(Resources(symbols_per_trial=1), tmp_path, "run")
    spread = executor.run(panel, recipe, units, lambda outcome: told.append(outcome.unit.key))
    plain = SerialExecutor().run(panel, recipe, units, lambda outcome: None)
    assert sorted(told) == sorted(unit.key for unit in units)
    for a, b in zip(spread, plain, strict=True):
        assert a.unit == b.unit
        assert a.files == b.files
        assert a.importance == b.importance
        assert a.forecasts is not None
        assert b.forecasts is not None
        assert np.array_equal(a.forecasts.quantiles_NHQ, b.forecasts.quantiles_NHQ)
