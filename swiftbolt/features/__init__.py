"""Features: what is known about a symbol at a session's close, free of any scale, from bars up to that session.

``engine`` holds the catalogue and computes it; ``momentum``, ``volatility``, ``trend``, ``volume`` and
``mean_reversion`` hold the formulas; ``spec`` says what a feature is; ``history`` and ``rolling`` are the
arithmetic they share. Levels are never features: a price or a moving average appears as a distance from the
close, an average true range as a share of it, a cumulated volume as its change over the volume traded.
"""

from swiftbolt.features.engine import CATALOGUE, DEFAULT_SPEC, build_features, build_panel, describe
from swiftbolt.features.spec import Feature, Features, FeatureSpec

__all__ = [
    "CATALOGUE",
    "DEFAULT_SPEC",
    "Feature",
    "FeatureSpec",
    "Features",
    "build_features",
    "build_panel",
    "describe",
]
