"""The names of fits in ledgers and logs: ``model/symbol/fold``. Commands that only read them need no model for it."""

from __future__ import annotations

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
