"""Strict YAML configuration: one file, one pydantic model, every unknown key an error that names it.

Knows how to read and check; the models themselves stand next to the code they configure.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

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
        data = yaml.load(text, _UniqueKeyLoader)
    except (yaml.YAMLError, ValueError) as exc:  # ValueError: a date such as 2020-02-30
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
        faults = exc.errors(include_url=False)
        # A misspelt required key is reported twice, as missing and as unknown: the second says what to mend.
        fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
        key = ".".join(str(part) for part in fault["loc"])
        problem = str(fault["msg"]).removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            problem = "unknown key" + _suggestion(model, fault["loc"])
        raise ConfigError(file, key, problem) from None


def _apply_override(data: dict[str, Any], override: str, file: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not all(key.split(".")):
        raise ConfigError(file, override, "--set takes dotted.key=value")
    *parents, leaf = key.split(".")
    node = data
    for parent in parents:
        if node.get(parent) is None:  # absent, or a group whose keys are all commented out
            node[parent] = {}
        child = node[parent]
        if not isinstance(child, dict):
            raise ConfigError(file, key, f"{parent!r} is not a group of keys")
        node = child
    try:
        node[leaf] = yaml.load(value, _UniqueKeyLoader)
    except (yaml.YAMLError, ValueError) as exc:
        raise ConfigError(file, key, f"value {value!r} is not YAML") from exc


def _suggestion(model: type[BaseModel], location: Sequence[int | str]) -> str:
    """`` (did you mean 'hidden'?)`` for the nearest known key beside the unknown one."""
    owners = [model]
    for part in location[:-1]:
        # A position in a list, a key of a dict or the tag of a union names no field: the owners stay.
        fields = [owner.model_fields[part] for owner in owners if isinstance(part, str) and part in owner.model_fields]
        owners = [found for field in fields for found in _models_in(field.annotation)] if fields else owners
    known = [name for owner in owners for name in owner.model_fields]
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models an annotation holds: ``Sub`` in ``Sub | None``, ``list[Sub]``, ``dict[str, Sub]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML says keys are unique; PyYAML silently keeps the last, and the edit above it is lost."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.composer.ComposerError(None, None, f"key {key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return node
