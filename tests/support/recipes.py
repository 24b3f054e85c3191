"""A recipe so small that a whole walk-forward takes seconds."""

from __future__ import annotations

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
