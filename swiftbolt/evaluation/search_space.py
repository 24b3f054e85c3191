"""What a sweep may choose from: a range or a list for each key of a model's settings. Knows no search algorithm."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from swiftbolt.config import Strict, parse_config
from swiftbolt.errors import ConfigError

Whole = int  # by another name, as a field is called int
KINDS = ("uniform", "loguniform", "int", "choice")
Parameters = dict[str, Any]
"""Chosen values, by key of the model's settings."""


class Dimension(Strict):
    """One key: exactly one of ``uniform``, ``loguniform``, ``int`` and ``choice``; ranges include both ends."""

    uniform: tuple[float, float] | None = Field(None, description="Lowest and highest real number.")
    loguniform: tuple[float, float] | None = Field(None, description="The same, each factor as likely as any other.")
    int: tuple[Whole, Whole] | None = Field(None, description="Lowest and highest whole number.")
    step: Whole = Field(1, ge=1, description="Between whole numbers.")
    choice: tuple[Any, ...] | None = Field(None, min_length=1, description="Values of any kind, in no order.")

    @model_validator(mode="after")
    def _is_one_kind(self) -> Dimension:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(KINDS)}, has {' and '.join(given) or 'none'}")
        if self.int is None and self.step != 1:
            raise ValueError(f"step {self.step} is for int alone, not for {given[0]}")
        if self.choice is not None:
            texts = [written(option) for option in self.choice]
            if len(set(texts)) < len(texts):
                raise ValueError("an option stands there twice")
            return self
        low, high = self.bounds
        if low >= high:
            raise ValueError(f"{given[0]} needs its lower end first, has {low:g} and {high:g}")
        if self.loguniform is not None and low <= 0:
            raise ValueError(f"loguniform needs ends above zero, has {low:g}")
        if self.int is not None and (high - low) % self.step:
            raise ValueError(f"int must go from {low:g} to {high:g} in whole steps of {self.step}")
        return self

    @property
    def kind(self) -> str:
        """Which of ``KINDS`` it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def bounds(self) -> tuple[float, float]:
        """Both ends of a range."""
        found = self.uniform or self.loguniform or self.int
        assert found is not None
        return found

    def holds(self, value: object) -> bool:
        """Whether it could be chosen."""
        if self.choice is not None:
            return written(value) in {written(option) for option in self.choice}
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        low, high = self.bounds
        return low <= value <= high and (self.int is None or (value - low) % self.step == 0)

    def place(self, value: Any) -> float:
        """Where a value lies between the ends, from 0 to 1; options lie evenly, in their order."""
        if self.choice is not None:
            options = [written(option) for option in self.choice]
            return options.index(written(value)) / max(len(options) - 1, 1)
        low, high = self.bounds
        if self.loguniform is not None:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return float((value - low) / (high - low))

    def examples(self) -> tuple[Any, ...]:
        """Values that must all be possible: every option, or the ends and one between them."""
        if self.choice is not None:
            return self.choice
        low, high = self.bounds
        # A third of the way lies no whole number that would hide that real numbers are not possible.
        return (low, high) if self.int is not None else (low, low + (high - low) / math.pi, high)


Space = dict[str, Dimension]


def written(value: object) -> str:
    """A value as JSON: equal for what is the same option."""
    return json.dumps(value, sort_keys=True)


def require_possible(space: Mapping[str, Dimension], base: Strict, model: str, file: str) -> None:
    """Refuse a space that leaves the model's settings.

    What two keys must be to each other is not judged here: a trial of an impossible pair fails alone.

    Args:
        base: the settings that the space varies.

    Raises:
        ConfigError: a key is unknown, or one of its values impossible.
    """
    known = type(base).model_fields
    for key, dimension in space.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ConfigError(file, f"space.{key}", f"unknown key of {model}{hint}")
        for value in dimension.examples():
            try:
                settings_of(base, {key: value}, file)
            except ConfigError as exc:
                if exc.key.split(".")[0] == key:
                    raise ConfigError(file, f"space.{key}", f"{written(value)}: {exc.problem}") from None


def settings_of(base: Strict, parameters: Mapping[str, Any], file: str) -> Strict:
    """``base`` with the values chosen.

    Raises:
        ConfigError: they do not go together.
    """
    return parse_config({**base.model_dump(mode="json"), **parameters}, type(base), file)


def within(space: Mapping[str, Dimension], base: Strict) -> Parameters | None:
    """The values of ``base`` itself, or None where the space does not hold one of them."""
    values = base.model_dump(mode="json")
    found = {key: values[key] for key in space}
    return found if all(space[key].holds(value) for key, value in found.items()) else None
