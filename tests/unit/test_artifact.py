"""Artifacts: what is written is what is read, and nothing else is accepted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.markets import make_bars
from support.recipes import tiny_recipe

from swiftbolt.actions import CorporateActions
from swiftbolt.artifact import Manifest, code_version, read_artifact, read_manifest, write_artifact
from swiftbolt.errors import ArtifactMismatch
from swiftbolt.features.engine import build_panel
from swiftbolt.folds import Fold, make_folds
from swiftbolt.models.base import Model
from swiftbolt.models.registry import build_model
from swiftbolt.panel import Panel


@pytest.fixture(scope="module")
def fitted() -> tuple[Model, Panel, Fold]:
    recipe = tiny_recipe("arima")
    panel = build_panel(make_bars(["AA", "BB"], 760, seed=3), CorporateActions.of())
    fold = make_folds(panel.sessions, recipe.folds, live=True)[-1]
    model = build_model("arima", recipe.models["arima"])
    model.fit(panel, fold, seed=1)
    return model, panel, fold


def write(directory: Path, fitted: tuple[Model, Panel, Fold]) -> Manifest:
    model, panel, fold = fitted
    return write_artifact(
        directory,
        "arima",
        model.config.model_dump(mode="json"),
        model.dump(),
        panel=panel,
        fold=fold,
        seed=1,
        scores={"5": {"crps": 0.01}},
        notes=("a note",),
    )


def test_a_loaded_model_forecasts_bit_for_bit_what_the_saved_one_did(
    tmp_path: Path, fitted: tuple[Model, Panel, Fold]
) -> None:
    model, panel, _ = fitted
    manifest = write(tmp_path / "arima", fitted)
    loaded, read = read_artifact(tmp_path / "arima", spec_hash=panel.spec_hash)
    assert read == manifest
    origins = panel.sessions[-3:]
    assert np.array_equal(model.forecast(panel, origins).quantiles_NHQ, loaded.forecast(panel, origins).quantiles_NHQ)


def test_a_manifest_says_what_the_model_was_made_from(tmp_path: Path, fitted: tuple[Model, Panel, Fold]) -> None:
    _, panel, fold = fitted
    write(tmp_path / "arima", fitted)
    data = json.loads((tmp_path / "arima" / "manifest.json").read_text())
    assert data["spec_hash"] == panel.spec_hash
    assert data["data_hash"] == panel.data_hash
    assert data["fold"]["known_through"] == fold.known_through.isoformat()
    assert data["symbols"] == ["AA", "BB"]
    assert data["seed"] == 1
    assert data["code_version"] == code_version()
    assert len(data["files"]) == 2
    assert data["notes"] == ["a note"]


def test_an_artifact_of_other_features_is_refused(tmp_path: Path, fitted: tuple[Model, Panel, Fold]) -> None:
    write(tmp_path / "arima", fitted)
    with pytest.raises(ArtifactMismatch, match="retrain"):
        read_artifact(tmp_path / "arima", spec_hash="another")


def test_one_changed_byte_is_refused(tmp_path: Path, fitted: tuple[Model, Panel, Fold]) -> None:
    manifest = write(tmp_path / "arima", fitted)
    victim = tmp_path / "arima" / next(iter(manifest.files))
    victim.write_bytes(victim.read_bytes()[:-1] + b" ")
    with pytest.raises(ArtifactMismatch, match="its bytes are not those that were saved"):
        read_artifact(tmp_path / "arima", spec_hash=manifest.spec_hash)


def test_a_lost_file_and_a_broken_manifest_are_refused(tmp_path: Path, fitted: tuple[Model, Panel, Fold]) -> None:
    manifest = write(tmp_path / "arima", fitted)
    (tmp_path / "arima" / next(iter(manifest.files))).unlink()
    with pytest.raises(ArtifactMismatch, match="cannot be read"):
        read_artifact(tmp_path / "arima", spec_hash=manifest.spec_hash)
    (tmp_path / "arima" / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactMismatch, match="not a manifest"):
        read_manifest(tmp_path / "arima")
    with pytest.raises(ArtifactMismatch, match="cannot be read"):
        read_manifest(tmp_path / "nowhere")


def test_a_configuration_that_no_longer_fits_is_refused(tmp_path: Path, fitted: tuple[Model, Panel, Fold]) -> None:
    manifest = write(tmp_path / "arima", fitted)
    path = tmp_path / "arima" / "manifest.json"
    data = json.loads(path.read_text())
    data["config"]["no_such_key"] = 1
    path.write_text(json.dumps(data))
    with pytest.raises(ArtifactMismatch, match="no longer fits this code"):
        read_artifact(tmp_path / "arima", spec_hash=manifest.spec_hash)
