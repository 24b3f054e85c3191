"""A recipe so small that a whole walk-forward takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from swiftbolt.ensemble.weights import EnsembleConfig
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.folds import FoldConfig
from swiftbolt.models.registry import config_class

TINY_MODELS: dict[str, dict[str, object]] = {
    "arima": {"orders": [[0, 1, 0]]},
    "xgboost": {"rounds": 10, "early_stopping_rounds": 3, "min_rows": 50},
    "lstm": {"look_back": 8, "units": [8, 4], "epochs": 1, "stride": 8},
    "transformer": {"look_back": 8, "width": 8, "patch": 4, "blocks": 1, "epochs": 1, "stride": 8},
}


def tiny_recipe(*models: str, seed: int = 5, count: int = 2) -> Recipe:
    """A recipe of the models named, two short folds and an ensemble that learns from little."""
    return Recipe(
        folds=FoldConfig(count=count, test_sessions=30, validation_sessions=40, min_train_sessions=260),
        models={name: config_class(name).model_validate(TINY_MODELS[name]) for name in models},
        ensemble=EnsembleConfig(min_weight_sessions=20, min_calibration_sessions=20),
        seed=seed,
    )


def write_recipe(
    folder: Path,
    *,
    universe: Mapping[str, Any],
    xgboost: Mapping[str, Any],
    test_sessions: int = 30,
    universe_file: str = "universe.yaml",
) -> Path:
    """An evaluation of AA and BB by XGBoost on one fold, with every file it names; returns its own."""
    files = {
        universe_file: {"symbols": ["AA", "BB"], "min_sessions": 300, **universe},
        "ensemble.yaml": {},
        "xgboost.yaml": dict(xgboost),
        "evaluate.yaml": {
            "universe": universe_file,
            "folds": {"count": 1, "test_sessions": test_sessions, "validation_sessions": 40, "min_train_sessions": 260},
            "models": {"xgboost": {"config": "xgboost.yaml"}},
            "ensemble": "ensemble.yaml",
            "seed": 5,
            "workers": 1,
        },
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
    return folder / "evaluate.yaml"
