"""Strict YAML configuration: one file, one pydantic model, every unknown key an error that names it.

Knows how to read and check; the models themselves stand next to the code they configure.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from swiftbolt.errors import ConfigError


class Strict(BaseModel):
    """Base of every configuration model: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


ConfigT = TypeVar("ConfigT", bound=Strict)


def load_config(path: Path | str, model: type[ConfigT], overrides: Sequence[str] = ()) -> ConfigT:
    """Read ``path`` into ``model``.

    Args:
        overrides: ``dotted.key=value`` strings (the command line's ``--set``); the value is read as YAML.

    Raises:
        ConfigError: the file cannot be read, is not a mapping, or a key or value is wrong.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(str(path), "", "no such file") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(str(path), "", f"cannot be read ({exc})") from exc
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ConfigError(str(path), "", f"is not YAML ({' '.join(str(exc).split())})") from exc
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ConfigError(str(path), "", f"must be a mapping of keys, is a {type(data).__name__}")
    for override in overrides:
        _apply_override(data, override, str(path))
    return parse_config(data, model, str(path))


def parse_config(data: Mapping[str, Any], model: type[ConfigT], file: str) -> ConfigT:
    """Check ``data`` against ``model``; the first fault is named with ``file`` and its dotted key."""
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        fault = exc.errors(include_url=False)[0]
        key = ".".join(str(part) for part in fault["loc"])
        problem = str(fault["msg"])
        if fault["type"] == "extra_forbidden":
            problem = "unknown key" + _suggestion(model, fault["loc"])
        raise ConfigError(file, key, problem) from None


def _apply_override(data: dict[str, Any], override: str, file: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(file, override, "--set takes dotted.key=value")
    *parents, leaf = key.split(".")
    node = data
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(file, key, f"{parent!r} is not a group of keys")
        node = child
    try:
        node[leaf] = yaml.safe_load(value)
    except yaml.YAMLError as exc:
        raise ConfigError(file, key, f"value {value!r} is not YAML") from exc


def _suggestion(model: type[BaseModel], location: Sequence[int | str]) -> str:
    """`` (did you mean 'hidden'?)`` for the nearest known key beside the unknown one."""
    owner: Any = model
    for part in location[:-1]:
        field = getattr(owner, "model_fields", {}).get(part)
        if field is None:
            return ""
        owner = field.annotation
    close = difflib.get_close_matches(str(location[-1]), list(getattr(owner, "model_fields", {})), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
