"""A signal: what a forecast suggests doing, with its target, its stop and its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

from swiftbolt.ensemble.confidence import Action, confidence, gain_of, obstacle, signal
from swiftbolt.errors import DataError
from swiftbolt.forecast import LEVELS, Forecast

MEDIAN, LOW, HIGH = LEVELS.index(0.5), LEVELS.index(0.05), LEVELS.index(0.95)
SIDES: dict[Action, float] = {"BUY": 1.0, "SELL": -1.0, "HOLD": 0.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """BUY, SELL or HOLD for ``horizon`` sessions after ``origin``.

    Attributes:
        confidence: calibrated probability of the forecast's direction, 0.5 to 1.
        target: median price at the horizon, in dollars.
        stop: price that the forecast gives 5 % or less in the wrong direction, in dollars; None for HOLD.
        reason: one sentence for a person.

    Raises:
        DataError: a field is out of range, or the stop lies on the side of the target.
    """

    symbol: str
    origin: date
    horizon: int
    action: Action
    confidence: float
    target: float
    stop: float | None
    reason: str

    def __post_init__(self) -> None:
        who = f"signal {self.symbol} {self.origin}"
        if self.action not in SIDES:
            raise DataError(f"{who}: action must be one of {', '.join(SIDES)}, is {self.action!r}")
        if self.horizon < 1 or not 0.5 <= self.confidence <= 1 or not self.reason:
            raise DataError(f"{who}: needs a horizon of at least 1, a confidence from 0.5 to 1 and a reason")
        prices = [self.target] if self.stop is None else [self.target, self.stop]
        if not all(math.isfinite(price) and price > 0 for price in prices):
            raise DataError(f"{who}: target and stop must be positive, are {self.target} and {self.stop}")
        if (self.action == "HOLD") != (self.stop is None):
            raise DataError(f"{who}: a {self.action} {'has no' if self.action == 'HOLD' else 'needs a'} stop")
        if self.stop is not None and (self.target - self.stop) * SIDES[self.action] <= 0:
            raise DataError(f"{who}: the stop {self.stop} of a {self.action} is beyond its target {self.target}")

    @classmethod
    def from_forecast(cls, forecast: Forecast, *, horizon: int, close: float, threshold: float, cost: float) -> Signal:
        """Judge a forecast.

        Args:
            horizon: sessions ahead, from 1 to the forecast's longest.
            close: last raw close, in dollars.
            threshold, cost: see ``ensemble.confidence.signal``.
        """
        if horizon not in forecast.horizons:
            forecast = forecast.at_horizons([horizon])
        h = forecast.horizons.index(horizon)
        p_up = float(forecast.p_up_H[h])
        low, median, high = (float(forecast.quantiles_HQ[h, q]) for q in (LOW, MEDIAN, HIGH))
        action = signal(p_up, median, threshold=threshold, cost=cost)
        # A whole interval on one side of the close must not put the stop there too.
        against = {"BUY": min(low, 0.0), "SELL": max(high, 0.0), "HOLD": None}[action]
        hindrance = obstacle(p_up, median, threshold=threshold, cost=cost)
        return cls(
            symbol=forecast.symbol,
            origin=forecast.origin,
            horizon=horizon,
            action=action,
            confidence=confidence(p_up),
            target=close * math.exp(median),
            stop=None if against is None else close * math.exp(against),
            reason=hindrance
            or f"confidence {confidence(p_up):.1%} reaches {threshold:.1%}, "
            f"expected gain {gain_of(median, p_up):.2%} exceeds the round-trip cost {cost:.2%}",
        )
