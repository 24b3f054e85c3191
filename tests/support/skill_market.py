"""A market in which it is known who has skill: forecasts of one session, with the conditions around them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from support.panels import panel_from_returns

from swiftbolt.bars import BAR_SCHEMA, Bars
from swiftbolt.evaluation.conditions import Conditions
from swiftbolt.forecast import Forecasts, normal_quantiles
from swiftbolt.sessions import Sessions

Float64 = NDArray[np.float64]

HISTORY = 260  # sessions before the first origin, so that a break can be told
CALM, WILD = 0.006, 0.018  # volatility in the first and in the second half
NAIVE = 0.012


@dataclass(frozen=True, kw_only=True)
class Market:
    """``return_ST`` is the log return of each of the sessions after ``origins``, earned between open and close.

    arima's centre leans to the side of the outcome more often than not; xgboost's leans anywhere; the ensemble is
    naive with the width that is right. Bars open at the close before.
    """

    origins: Sessions
    return_ST: Float64
    sigma_T: Float64
    conditions: Conditions
    forecasts: pl.DataFrame

    @property
    def shape(self) -> tuple[int, ...]:
        return self.return_ST.shape

    def of(self, model: str) -> pl.DataFrame:
        return self.forecasts.filter(pl.col("model") == model)

    @classmethod
    def drawn(cls, *, symbols: int, sessions: int, seed: int, drift: float = 0.0) -> Market:
        rng = np.random.default_rng(seed)
        sigma_T = np.where(np.arange(HISTORY + sessions) < HISTORY + sessions // 2, CALM, WILD)
        return_ST = drift + sigma_T * rng.standard_normal((symbols, HISTORY + sessions))
        names = [f"S{s:02d}" for s in range(symbols)]
        panel = panel_from_returns(dict(zip(names, return_ST, strict=True)))
        market = cls(
            origins=panel.sessions[HISTORY:-1],
            return_ST=return_ST[:, HISTORY:],
            sigma_T=sigma_T[HISTORY:],
            conditions=Conditions.of(panel, _bars(panel.date_R, panel.close_R, names)),
            forecasts=pl.DataFrame(),
        )
        right_ST = np.sign(market.return_ST) * np.where(rng.random(market.shape) < 0.75, 1.0, -1.0)
        lean_ST = rng.choice([-1.0, 1.0], market.shape) * rng.uniform(0.5, 1.5, market.shape)
        zero_ST = np.zeros(market.shape)
        frames = [
            forecasts_of("naive", market, zero_ST),
            forecasts_of("naive_drift", market, zero_ST + 1e-4),
            forecasts_of("arima", market, 0.004 * right_ST * rng.uniform(0.5, 1.5, market.shape)),
            forecasts_of("xgboost", market, 0.004 * lean_ST),
            forecasts_of("ensemble", market, zero_ST, market.sigma_T),
        ]
        return replace(market, forecasts=pl.concat(frames))


def forecasts_of(model: str, market: Market, centre: Float64, sigma_T: Float64 | None = None) -> pl.DataFrame:
    """Normal forecasts from every origin in two folds, as forecasts.parquet has them; the last has no outcome yet."""
    symbols, sessions = market.shape
    sd_ST = np.broadcast_to(NAIVE if sigma_T is None else sigma_T, market.shape)
    outcome_ST = market.return_ST.copy()
    outcome_ST[:, -1] = np.nan
    forecasts = Forecasts(
        model=model,
        horizons=(1,),
        symbol_N=np.repeat([f"S{s:02d}" for s in range(symbols)], sessions),
        origin_N=np.tile(market.origins, symbols),
        quantiles_NHQ=normal_quantiles(centre.ravel(), sd_ST.ravel())[:, None],
    )
    fold_T = (np.arange(sessions) >= sessions // 2).astype(np.int32)
    return forecasts.to_frame().with_columns(
        fold=pl.Series(np.tile(fold_T, symbols), dtype=pl.Int32),
        realized=pl.Series(outcome_ST.ravel(), dtype=pl.Float64).fill_nan(None),
    )


def _bars(date_R: Sessions, close_R: Float64, names: list[str]) -> Bars:
    """Bars whose day is all of the session: they open at the close before."""
    close_ST = close_R.reshape(len(names), -1)
    open_ST = np.concatenate((close_ST[:, :1], close_ST[:, :-1]), axis=1)
    return Bars(
        frame=pl.DataFrame(
            {
                "symbol": np.repeat(names, close_ST.shape[1]).tolist(),
                "session": pl.Series(date_R, dtype=pl.Date),
                "open": open_ST.ravel(),
                "high": np.maximum(open_ST, close_ST).ravel(),
                "low": np.minimum(open_ST, close_ST).ravel(),
                "close": close_R,
                "volume": np.full(close_R.shape, 1e6),
            },
            schema=BAR_SCHEMA,
        )
    )
