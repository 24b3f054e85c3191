"""The names of fits in ledgers and logs: ``model/symbol/fold``. Commands that only read them need no model for it."""

from __future__ import annotations

from collections.abc import Mapping

UNIVERSE = "universe"
"""Stands for the symbol of a fit of all symbols together."""


def unit_key(model: str, symbol: str | None, fold: int | str) -> str:
    """The name of a fit; ``symbol`` is None for one of all symbols together."""
    return f"{model}/{symbol or UNIVERSE}/{fold}"


def model_of(key: str) -> str:
    """The model in a unit's key."""
    return key.split("/", 1)[0]


def symbol_of(key: str) -> str:
    """The symbol in a unit's key, or ``UNIVERSE``."""
    return key.split("/", 1)[1].rsplit("/", 1)[0]  # a symbol may hold a stroke itself: BF/B


def failures_by_symbol(failures: Mapping[str, str]) -> dict[str, str]:
    """A failure of each symbol that has one, with the unit it is of; under ``UNIVERSE`` one of all symbols together.

    Args:
        failures: reasons by the unit's key.
    """
    return {symbol_of(key): f"{key}: {reason}" for key, reason in failures.items()}
