"""Features: what is known about a symbol at a session's close, free of any scale, from bars up to that session.

``engine`` holds the catalogue and computes it; ``momentum``, ``volatility``, ``trend``, ``volume``,
``mean_reversion``, ``market``, ``implied``, ``calendar`` and ``cross_section`` hold the formulas; ``spec`` says what a
feature is; ``views`` and ``series`` say which bars, and what beside them, it is made from, as it was known;
``context``, ``history`` and ``rolling`` are the arithmetic they share. Levels are never features: a price or a moving
average appears as a distance from the close, an average true range as a share of it, a cumulated volume as its change
over the volume traded.
"""

from swiftbolt.features.engine import (
    CATALOGUE,
    DEFAULT_SPEC,
    NO_FINDINGS,
    VIX_SPEC,
    WITH_VIX,
    build_features,
    build_panel,
    describe,
    growth_of,
)
from swiftbolt.features.series import DailySeries
from swiftbolt.features.spec import Feature, Features, FeatureSpec

__all__ = [
    "CATALOGUE",
    "DEFAULT_SPEC",
    "NO_FINDINGS",
    "VIX_SPEC",
    "WITH_VIX",
    "DailySeries",
    "Feature",
    "FeatureSpec",
    "Features",
    "build_features",
    "build_panel",
    "describe",
    "growth_of",
]
