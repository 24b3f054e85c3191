"""Which class stands behind a model's name. Libraries are imported only when a model is asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Literal

from swiftbolt.config import Strict, load_config, parse_config
from swiftbolt.errors import ModelError
from swiftbolt.models.base import Model

# name: (module, class, configuration class)
_CLASSES: dict[str, tuple[str, str, str]] = {
    "naive": ("naive", "Naive", "NaiveConfig"),
    "naive_drift": ("naive", "NaiveDrift", "NaiveConfig"),
    "arima": ("arima_garch", "ARIMAGARCH", "ARIMAGARCHConfig"),
    "xgboost": ("boosted_trees", "BoostedTrees", "BoostedTreesConfig"),
    "lstm": ("lstm", "LSTM", "LSTMConfig"),
    "transformer": ("transformer", "Transformer", "TransformerConfig"),
}
NETWORKS: tuple[Literal["lstm", "transformer"], ...] = ("lstm", "transformer")


def model_class(name: str) -> type[Model]:
    """The class behind ``name``.

    Raises:
        ModelError: no such model.
    """
    module, cls, _ = _entry(name)
    found: type[Model] = getattr(import_module(f"swiftbolt.models.{module}"), cls)
    return found


def config_class(name: str) -> type[Strict]:
    """The configuration class behind ``name``."""
    module, _, cls = _entry(name)
    found: type[Strict] = getattr(import_module(f"swiftbolt.models.{module}"), cls)
    return found


def read_model_config(name: str, path: Path | None, overrides: tuple[str, ...] = ()) -> Strict:
    """Read a model's YAML, or its defaults where ``path`` is None."""
    if path is None:
        return parse_config({}, config_class(name), f"defaults of {name}")
    return load_config(path, config_class(name), overrides)


def build_model(name: str, config: Strict) -> Model:
    """An unfitted model."""
    return model_class(name)(config)


def _entry(name: str) -> tuple[str, str, str]:
    try:
        return _CLASSES[name]
    except KeyError:
        raise ModelError(f"no model {name!r}; known are {', '.join(_CLASSES)}") from None
