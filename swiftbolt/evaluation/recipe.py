"""What a walk-forward is made of: folds, models with their settings, ensemble, seed.

A recipe file names other files by paths relative to itself; ``Recipe.read`` follows them, so that the
rest of the code sees checked values only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from swiftbolt.config import Strict, load_config, parse_config
from swiftbolt.ensemble.weights import EnsembleConfig
from swiftbolt.errors import ConfigError
from swiftbolt.folds import FoldConfig
from swiftbolt.forecast import MODELS
from swiftbolt.models.registry import NETWORKS, config_class, read_model_config
from swiftbolt.universe import Universe

BASELINES: tuple[str, ...] = ("naive", "naive_drift")


class ModelEntry(Strict):
    """One model of a recipe."""

    config: Path = Field(description="The model's own YAML, relative to this file.")
    set: dict[str, Any] = Field(default_factory=dict, description="Keys of it that this recipe changes.")


class RecipeConfig(Strict):
    """Keys shared by evaluation and retrain files."""

    universe: Path = Field(description="Universe file, relative to this file.")
    folds: FoldConfig = FoldConfig()
    models: dict[str, ModelEntry] = Field(min_length=1, description="Models to run, by name.")
    ensemble: Path = Field(description="Ensemble file, relative to this file.")
    seed: int = Field(ge=0, lt=2**31, description="Source of all randomness.")

    @field_validator("models")
    @classmethod
    def _known(cls, value: dict[str, ModelEntry]) -> dict[str, ModelEntry]:
        _require_known(value)
        return value


class RecordedRecipe(Strict):
    """What ``Recipe.to_json`` leaves in a run's record."""

    folds: FoldConfig
    models: dict[str, dict[str, Any]] = Field(min_length=1)
    ensemble: EnsembleConfig
    seed: int

    @field_validator("models")
    @classmethod
    def _known(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        _require_known(value)
        return value


class EvaluateConfig(RecipeConfig):
    """``configs/evaluate/*.yaml``."""

    workers: int = Field(2, ge=1, le=256, description="Processes that fit models and train networks.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A recipe with every file read.

    Attributes:
        models: configuration of each model, in the order of ``MODELS``.
    """

    folds: FoldConfig
    models: Mapping[str, Strict]
    ensemble: EnsembleConfig
    seed: int

    @classmethod
    def read(cls, config: RecipeConfig, file: Path) -> Recipe:
        """Follow the paths in ``config``, which was read from ``file``.

        Raises:
            ConfigError: a file or key is wrong.
        """
        models = {}
        for name in MODELS:
            entry = config.models.get(name)
            if entry is not None:
                overrides = tuple(f"{key}={json.dumps(value)}" for key, value in entry.set.items())
                models[name] = read_model_config(name, beside(file, entry.config), overrides)
        ensemble = load_config(beside(file, config.ensemble), EnsembleConfig)
        _require_weights(models, ensemble, str(beside(file, config.ensemble)), "prior")
        return cls(folds=config.folds, models=models, ensemble=ensemble, seed=config.seed)

    @classmethod
    def from_json(cls, recorded: Mapping[str, Any], source: str) -> Recipe:
        """What ``to_json`` made of it, whatever order its keys have come back in.

        Args:
            source: where it was recorded, such as ``run retrain-20261122-143000-ab12``.

        Raises:
            ConfigError: this code does not know a model or a key of it, or lacks one.
        """
        known = parse_config(recorded, RecordedRecipe, source)
        models = {
            name: parse_config(known.models[name], config_class(name), f"{source}: {name}")
            for name in MODELS
            if name in known.models
        }
        _require_weights(models, known.ensemble, source, "ensemble.prior")
        return cls(folds=known.folds, models=models, ensemble=known.ensemble, seed=known.seed)

    @property
    def members(self) -> tuple[str, ...]:
        """Models the ensemble is made of."""
        return tuple(self.models)

    @property
    def networks(self) -> tuple[Literal["lstm", "transformer"], ...]:
        """Members trained by a ``NetworkTrainer``."""
        return tuple(name for name in NETWORKS if name in self.models)

    def needed_sessions(self, universe: Universe) -> int:
        """Sessions a symbol must have had by an origin, that of the origin included, to be forecast from there."""
        return max(universe.min_sessions, self.folds.min_train_sessions)

    def config_of(self, name: str) -> Strict:
        """Configuration of a member or a baseline."""
        return self.models[name] if name in self.models else read_model_config(name, None)

    def seed_of(self, *parts: str | int) -> int:
        """A seed of its own for each piece of work, from the recipe's seed and the piece's name."""
        text = "|".join(str(part) for part in (self.seed, *parts))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the run's record."""
        return {
            "folds": self.folds.model_dump(mode="json"),
            "models": {name: config.model_dump(mode="json") for name, config in self.models.items()},
            "ensemble": self.ensemble.model_dump(mode="json"),
            "seed": self.seed,
        }


def _require_known(names: Iterable[str]) -> None:
    unknown = sorted(set(names) - set(MODELS))
    if unknown:
        raise ValueError(f"no model {', '.join(unknown)}; known are {', '.join(MODELS)}")


def _require_weights(names: Iterable[str], ensemble: EnsembleConfig, file: str, key: str) -> None:
    unweighted = [name for name in names if name not in ensemble.prior]
    if unweighted:
        raise ConfigError(file, key, f"has no weight for {', '.join(unweighted)}")


def beside(file: Path, path: Path) -> Path:
    """``path`` as meant in ``file``: relative to its folder."""
    return path if path.is_absolute() else file.parent / path


def require_members(recipe: Recipe, file: Path, names: Sequence[str] = MODELS) -> None:
    """Refuse a recipe that lacks one of ``names``.

    Raises:
        ConfigError: one is missing.
    """
    missing = [name for name in names if name not in recipe.models]
    if missing:
        raise ConfigError(str(file), "models", f"a release needs every model; missing {', '.join(missing)}")
