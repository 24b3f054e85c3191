"""One symbol as it is answered: every model's forecast from one session, and what turns them into prices.

The promoted release's views lie in a snapshot; a live one is made on request. Both give the same reply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from swiftbolt.ensemble.weights import ENSEMBLE, EnsembleState
from swiftbolt.errors import DataError
from swiftbolt.forecast import Forecast
from swiftbolt.models.explanations import Explanation
from swiftbolt.universe import Cohort


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseRef:
    """Which release answers: what a live forecast needs to know of it.

    Attributes:
        run: names the directory of its artifacts.
        state: its ensemble's weights, calibration and thresholds.
        cohort: the symbols its features look across.
    """

    version: str
    run: str
    state: EnsembleState
    cohort: Cohort


@dataclass(frozen=True, kw_only=True, slots=True)
class SymbolForecast:
    """What every model says of a symbol after session ``origin``.

    Attributes:
        close: raw close of ``origin``, in dollars.
        made_at: when the forecasts were made; aware of its time zone.
        by_model: forecasts by model; ``ensemble`` is one of them unless a single model was asked for.
        missing: members of the ensemble that did not answer.
        explanations: why, horizon by horizon, of the models that can say.
    """

    symbol: str
    origin: date
    close: float
    made_at: datetime
    release: ReleaseRef
    by_model: Mapping[str, Forecast]
    missing: tuple[str, ...]
    explanations: Mapping[str, Sequence[Explanation]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.by_model or {(f.symbol, f.origin) for f in self.by_model.values()} != {(self.symbol, self.origin)}:
            raise DataError(f"{self.symbol} {self.origin}: forecasts of another symbol or session")
        if self.made_at.tzinfo is None:
            raise DataError(f"{self.symbol} {self.origin}: the time it was made at lacks its zone")

    @property
    def members(self) -> tuple[str, ...]:
        """Models that answered, without the ensemble."""
        return tuple(name for name in self.by_model if name != ENSEMBLE)
