"""What travels over HTTP: requests, replies, and the one function that turns a forecast into a reply.

Nullable fields are always present. Knows forecasts and prices; knows nothing of routes, Ray or the store.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from serve.views import SymbolForecast
from swiftbolt.ensemble.confidence import Action, Direction, agreement, confidence, direction, signal
from swiftbolt.ensemble.weights import ENSEMBLE
from swiftbolt.features.engine import WITH_VIX
from swiftbolt.forecast import HORIZONS, LEVELS, MODELS, Float64, Forecast
from swiftbolt.models.explanations import covering

LOWER, MEDIAN, UPPER = (LEVELS.index(level) for level in (0.025, 0.5, 0.975))
FORMULAS = {feature.name: feature.formula for feature in WITH_VIX}

Symbol = Annotated[str, Field(min_length=1, max_length=64, description="Ticker, such as AAPL.")]
Horizon = Annotated[int, Field(ge=1, le=HORIZONS[-1], description="Sessions ahead.")]


class ForecastRequest(BaseModel):
    """Body of a forecast asked for by POST."""

    model_config = ConfigDict(extra="forbid")

    symbol: Symbol
    horizon: Horizon = 5
    live: bool = Field(False, description="Ask the models now instead of answering from the promoted release.")


class Components(BaseModel):
    """The median cumulative log return each model predicts over the horizon; null where it did not answer."""

    arima: float | None
    xgboost: float | None
    lstm: float | None
    transformer: float | None


class Reason(BaseModel):
    """What the value of one feature adds to a model's median."""

    feature: str = Field(description="Name in the feature catalogue.")
    value: float = Field(description="The feature's value at the close of as_of, in its own unit.")
    contribution: float = Field(description="Log return over horizon sessions that it adds: 0.01 is about 1 %.")
    horizon: int = Field(description="Sessions ahead: the shortest fitted horizon that covers the one asked for.")
    description: str | None = Field(description="The feature's formula; null where the catalogue has it no more.")


class ForecastReply(BaseModel):
    """A forecast of one symbol. Lists have ``horizon`` entries: entry i is for the session i + 1 ahead."""

    symbol: str
    current_price: float = Field(description="Raw close of session as_of, in dollars.")
    price_target: float = Field(description="current_price x exp(median log return), dividends reinvested.")
    lower_ci: float = Field(description="The 2.5 % quantile of that price.")
    upper_ci: float = Field(description="The 97.5 % quantile of that price.")
    confidence: float = Field(ge=0.5, le=1.0, description="Calibrated probability of direction.")
    direction: Direction
    components: Components
    timestamp: datetime = Field(description="When the forecast was made.")
    as_of: date = Field(description="The last session the models saw.")
    horizon: int
    signal: Action = Field(description="HOLD unless confidence and expected return both clear their thresholds.")
    agreement: float = Field(ge=0.0, le=1.0, description="Share of the models that answered on direction's side.")
    price_targets: list[float]
    lower_cis: list[float]
    upper_cis: list[float]
    volatility: list[float] = Field(description="Standard deviation of that one session's log return.")
    model_version: str = Field(description="Version of the release.")
    stale: bool = Field(description="The store holds a newer bar of the symbol, or cannot be reached.")
    missing: list[str] = Field(description="Models that did not answer and are left out.")
    why: list[Reason] = Field(
        description="What moves the median of xgboost most: its five largest contributions, by size. With a base and "
        "all smaller ones they add up to that median. Empty where xgboost did not answer or was not asked."
    )


class BarReply(BaseModel):
    """One session as traded."""

    session: date
    open: float
    high: float
    low: float
    close: float
    volume: float


class BarsReply(BaseModel):
    """Raw daily bars, oldest first."""

    symbol: str
    stale: bool = Field(description="The store cannot be reached: these are the bars kept with the release.")
    bars: list[BarReply]


class SymbolReply(BaseModel):
    """A symbol there are bars of."""

    symbol: str
    last_session: date
    has_forecast: bool = Field(description="The promoted release holds a forecast of it.")


class ReleaseReply(BaseModel):
    """One release; at most one is active."""

    version: str
    run: str
    active: bool
    release_digest: str
    origin: date
    created: datetime


class HealthReply(BaseModel):
    """The process runs."""

    status: Literal["ok"] = "ok"


class ReadyReply(BaseModel):
    """A release is loaded and answers."""

    status: Literal["ready"] = "ready"
    model_version: str
    as_of: date
    store_reachable: bool


def forecast_reply(view: SymbolForecast, model: str, horizon: int, *, stale: bool) -> ForecastReply:
    """The reply for ``model`` (or the ensemble) of ``view``, which must hold it.

    A reply for a single model has that model alone among its components.
    """
    state = view.release.state
    path = view.by_model[model].at_horizons(range(1, horizon + 1))
    asked = view.members if model == ENSEMBLE else (model,)
    medians = {name: _median(view.by_model[name], horizon) for name in asked}
    prices_HQ = view.close * np.exp(path.quantiles_HQ)
    p_up, median = float(path.p_up_H[-1]), float(path.quantiles_HQ[-1, MEDIAN])
    return ForecastReply(
        symbol=view.symbol,
        current_price=view.close,
        price_target=float(prices_HQ[-1, MEDIAN]),
        lower_ci=float(prices_HQ[-1, LOWER]),
        upper_ci=float(prices_HQ[-1, UPPER]),
        confidence=confidence(p_up),
        direction=direction(p_up),
        components=Components(**{name: medians.get(name) for name in MODELS}),
        timestamp=view.made_at,
        as_of=view.origin,
        horizon=horizon,
        signal=signal(p_up, median, threshold=state.confidence_threshold, cost=state.round_trip_cost),
        agreement=agreement(medians.values(), p_up),
        price_targets=prices_HQ[:, MEDIAN].tolist(),
        lower_cis=prices_HQ[:, LOWER].tolist(),
        upper_cis=prices_HQ[:, UPPER].tolist(),
        volatility=session_volatility(path).tolist(),
        model_version=view.release.version,
        stale=stale,
        missing=list(view.missing) if model == ENSEMBLE else [],
        why=[reason for name in asked for reason in _why(view, name, horizon)],
    )


def _why(view: SymbolForecast, model: str, horizon: int) -> list[Reason]:
    found = covering(view.explanations.get(model, ()), horizon)
    if found is None:
        return []
    return [
        Reason(
            feature=part.feature,
            value=part.value,
            contribution=part.log_return,
            horizon=found.horizon,
            description=FORMULAS.get(part.feature),
        )
        for part in found.largest
    ]


def session_volatility(path: Forecast) -> Float64:
    """Forecast standard deviation of each single session's log return.

    Args:
        path: a forecast at horizons 1, 2, ..., H; variances of cumulative returns add up session by session.

    Returns:
        H values; zero where a member's variance shrinks with the horizon, which no sum of returns can.
    """
    steps_H = np.diff(path.sd_H**2, prepend=0.0)
    return np.asarray(np.sqrt(np.maximum(steps_H, 0.0)))


def _median(forecast: Forecast, horizon: int) -> float:
    return float(forecast.at_horizons((horizon,)).quantiles_HQ[0, MEDIAN])
