"""Why trees forecast what they do: how much each feature matters overall, and what each adds to one forecast.

Contributions are additive: with the base, which depends on volatility alone, they sum to the forecast's median.
Knows nothing of the library that grew the trees.

Source:
    Lundberg, Erion and Lee (2018), "Consistent Individualized Feature Attribution for Tree Ensembles".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from swiftbolt.forecast import Float64
from swiftbolt.panel import Panel

LARGEST = 5
RANKED = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Importance:
    """How much each feature matters to one horizon's trees; features that no split uses are left out.

    Attributes:
        gain: mean gain of the splits on each feature.
        shap: mean absolute contribution of each to the median of rows not trained on, in units of the usual move.
    """

    gain: dict[str, float]
    shap: dict[str, float]

    def ranked(self) -> list[dict[str, str | float]]:
        """The ``RANKED`` features that add most, with both measures, as plain values."""
        order = sorted(self.shap, key=lambda name: (-self.shap[name], name))
        return [{"feature": name, "shap": self.shap[name], "gain": self.gain[name]} for name in order[:RANKED]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contribution:
    """What one feature's value adds to the median, as a log return."""

    feature: str
    value: float
    log_return: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Why one forecast has the median it has.

    Attributes:
        base: log return the trees expect at this volatility when they know nothing else.
        largest: the five largest contributions, by size.
        others: what all other features add together.
    """

    symbol: str
    origin: date
    horizon: int
    base: float
    largest: tuple[Contribution, ...]
    others: float

    @property
    def median(self) -> float:
        """The forecast's median: the base and all contributions."""
        return self.base + sum(part.log_return for part in self.largest) + self.others

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "origin": self.origin.isoformat()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read ``to_json`` back; it raises KeyError, TypeError or ValueError where that is something else."""
        largest = tuple(Contribution(**part) for part in data["largest"])
        return cls(**{**data, "origin": date.fromisoformat(data["origin"]), "largest": largest})


@runtime_checkable
class Explaining(Protocol):
    """A model that can say why."""

    def importance(self) -> dict[int, Importance]:
        """How much each feature matters, by horizon."""

    def explain(self, panel: Panel, rows: NDArray[np.int64]) -> list[Explanation]:
        """Why its forecasts from ``rows`` have the medians they have: by row, then horizon."""


def explain_newest(model: object, panel: Panel) -> list[Explanation]:
    """Why ``model`` forecasts what it does from the panel's newest session; empty where it cannot say."""
    return model.explain(panel, panel.rows_at(panel.sessions[-1:])) if isinstance(model, Explaining) else []


def covering(explanations: Iterable[Explanation], horizon: int) -> Explanation | None:
    """Of one forecast's explanations that of the shortest fitted horizon which covers ``horizon``, if any does."""
    reaching = [found for found in explanations if found.horizon >= horizon]
    return min(reaching, key=lambda found: found.horizon, default=None)


def importance_of(gain: Mapping[str, float], names: Sequence[str], contributions_NF: Float64) -> Importance:
    """Importance of the features that ``gain`` holds; column f of the contributions belongs to ``names[f]``."""
    size_F = np.abs(contributions_NF).mean(axis=0)
    return Importance(
        gain={name: float(gain[name]) for name in names if name in gain},
        shap={name: float(size) for name, size in zip(names, size_F, strict=True) if name in gain},
    )


def mean_importance(parts: Sequence[Importance]) -> Importance:
    """Importance over models fitted apart: a model that does not use a feature counts as zero."""

    def mean(of_parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
        names = dict.fromkeys(name for part in of_parts for name in part)
        return {name: sum(part.get(name, 0.0) for part in of_parts) / len(of_parts) for name in names}

    return Importance(gain=mean([part.gain for part in parts]), shap=mean([part.shap for part in parts]))


def mean_by_horizon(parts: Sequence[Mapping[int, Importance]]) -> dict[int, Importance]:
    """``mean_importance`` at each horizon, of models that have the same ones."""
    horizons = parts[0] if parts else {}
    return {horizon: mean_importance([part[horizon] for part in parts]) for horizon in horizons}


def explanation_of(
    parts_F: Float64, *, features: Mapping[str, float], symbol: str, origin: date, horizon: int
) -> Explanation:
    """Sort contributions by size; features that add nothing are no part.

    Args:
        parts_F: log returns, in the order of ``features``; the base comes last.
    """
    names, base = list(features), parts_F[-1]
    order = [f for f in np.argsort(-np.abs(parts_F[:-1]), kind="stable") if parts_F[f] != 0.0]
    return Explanation(
        symbol=symbol,
        origin=origin,
        horizon=horizon,
        base=float(base),
        largest=tuple(
            Contribution(feature=names[f], value=features[names[f]], log_return=float(parts_F[f]))
            for f in order[:LARGEST]
        ),
        others=float(sum(parts_F[f] for f in order[LARGEST:])),
    )
