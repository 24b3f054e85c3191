"""A retrain on a real Ray and a real PostgreSQL: what it leaves behind, and that it can be repeated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml
from support.markets import make_bars
from support.recipes import TINY_MODELS

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.config import load_config
from swiftbolt.ensemble.weights import combine
from swiftbolt.errors import ArtifactMismatch, ConfigError, DataError
from swiftbolt.features.engine import DEFAULT_SPEC, build_panel
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
            "promote": "never",
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


def broken(*arguments: object, **named: object) -> None:
    raise RuntimeError("the power went")


def test_a_retrain_leaves_a_release_that_repeats_to_the_bit_and_a_damaged_one_is_found_out(
    ray_cluster: str, settings: Settings, config: Path, migrated_url: str, monkeypatch: pytest.MonkeyPatch
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
    assert not list((settings.home / "runs").glob("*"))

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

    # Another run breaks at its last step, goes on when it is asked again, and ends in the same bits.
    with monkeypatch.context() as patched:
        patched.setattr("cluster.retrain_run.publish", broken)
        with pytest.raises(RuntimeError, match="the power went"):
            retrain(config, [], settings, lambda line: None)
    kept = {path: path.stat().st_mtime_ns for path in (settings.home / "runs").rglob("units/*")}
    with Store.connect(migrated_url) as store:
        died = store.runs()[0]
    assert (died.state, died.run != first.run, len(kept) > 0) == ("failed", True, True)
    assert died.failures["run"] == "the power went; the same command goes on with it"
    lines.clear()
    second = retrain(config, [], settings, lines.append)
    assert second.run == died.run
    assert second.release_digest == first.release_digest
    assert f"run {died.run} goes on with the bars it began with, to 2013-03-01" in lines
    assert not list((settings.home / "runs").glob("*"))
    with Store.connect(migrated_url) as store:
        units, receipt = store.units(second.run), store.receipt(second.run)
    assert {(unit.state, unit.attempts) for unit in units} == {("done", 1)}
    assert {unit.model for unit in units} == {"naive", "naive_drift", *MODELS}
    assert receipt is not None
    assert (receipt["starts"], receipt["release_digest"]) == (2, first.release_digest)

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

    ingest(migrated_url)
    monkeypatch.setattr("cluster.walks.walk_forward", broken)
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
