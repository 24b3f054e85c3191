"""A forecast: the distribution of the cumulative log return after an origin, per horizon.

The distribution is given by seven quantiles. Between them it is linear in the standard normal score
z (q is a piecewise linear function of z), and beyond the outermost two the outermost pieces go on:
normal tails with the slope found between the 2.5 % and 5 % (95 % and 97.5 %) quantiles. For a normal
distribution this is exact. Mean, standard deviation and the probability of a rise are those of this
one function, in closed form, so that no two published numbers can disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from swiftbolt.errors import DataError

Float64 = NDArray[np.float64]

LEVELS: tuple[float, ...] = (0.025, 0.05, 0.25, 0.5, 0.75, 0.95, 0.975)
HORIZONS: tuple[int, ...] = (1, 5, 20)
MODELS: tuple[str, ...] = ("arima", "xgboost", "lstm", "transformer")
QUANTILE_COLUMNS: tuple[str, ...] = tuple(f"q_{level:g}" for level in LEVELS)

Z_Q: Float64 = ndtri(np.array(LEVELS))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Forecast:
    """One symbol's distribution of the cumulative log return after ``origin``, the last session seen.

    Row h of each array belongs to ``horizons[h]``, in sessions; column q of ``quantiles_HQ`` to ``LEVELS[q]``.
    Equal when every field is, bit for bit.

    Raises:
        DataError: quantiles are not finite, cross or coincide; or mean, sd and p_up are not those of the quantiles.
    """

    symbol: str
    origin: date
    model: str
    horizons: tuple[int, ...]
    quantiles_HQ: Float64
    mean_H: Float64
    sd_H: Float64
    p_up_H: Float64

    def __post_init__(self) -> None:
        who = f"{self.model} {self.symbol} {self.origin}"
        _check(self.quantiles_HQ[None], self.horizons, who)
        if {self.mean_H.shape, self.sd_H.shape, self.p_up_H.shape} != {(len(self.horizons),)}:
            raise DataError(f"{who}: mean, sd and p_up must have one value for each of {len(self.horizons)} horizons")
        if not (self.sd_H > 0).all():
            raise DataError(f"{who}: sd is not positive")
        mean_H, sd_H = quantile_moments(self.quantiles_HQ)
        if not (np.maximum(np.abs(self.mean_H - mean_H), np.abs(self.sd_H - sd_H)) <= 1e-6 * sd_H).all():
            raise DataError(f"{who}: mean and sd are not those of the quantiles")
        if not np.allclose(self.p_up_H, probability_of_rise(self.quantiles_HQ), atol=1e-6, rtol=0):
            raise DataError(f"{who}: p_up is not 1 - F(0)")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Forecast) and _same_fields(self, other)

    @classmethod
    def from_quantiles(
        cls, *, symbol: str, origin: date, model: str, horizons: Sequence[int], quantiles_HQ: Float64
    ) -> Forecast:
        """Derive mean, standard deviation and p_up from the quantiles."""
        _check(quantiles_HQ[None], tuple(horizons), f"{model} {symbol} {origin}")
        mean_H, sd_H = quantile_moments(quantiles_HQ)
        return cls(
            symbol=symbol,
            origin=origin,
            model=model,
            horizons=tuple(horizons),
            quantiles_HQ=quantiles_HQ,
            mean_H=mean_H,
            sd_H=sd_H,
            p_up_H=probability_of_rise(quantiles_HQ),
        )

    def at_horizons(self, horizons: Sequence[int]) -> Forecast:
        """The same forecast at other horizons, interpolated; at fitted horizons it is the fitted one, bit for bit.

        Mean and variance are linear in the horizon, and so are the standardised quantiles up to the scale that
        keeps their variance at one; p_up follows. Below the shortest fitted horizon mean and variance go to zero
        linearly.

        Raises:
            ValueError: a horizon is below 1 or beyond the longest fitted one.
        """
        if min(horizons) < 1 or max(horizons) > self.horizons[-1]:
            raise ValueError(f"horizons must lie between 1 and {self.horizons[-1]}, got {list(horizons)}")
        known = np.array([0, *self.horizons], dtype=np.float64)
        wanted = np.asarray(horizons, dtype=np.float64)
        mean_K = np.interp(wanted, known, np.array([0.0, *self.mean_H]))
        var_K = np.interp(wanted, known, np.array([0.0, *self.sd_H**2]))
        standard_HQ = (self.quantiles_HQ - self.mean_H[:, None]) / self.sd_H[:, None]
        standard_KQ = np.stack([np.interp(wanted, known[1:], standard_HQ[:, q]) for q in range(len(LEVELS))], axis=1)
        # Between two shapes the blend's own variance is a little below one: two variables of unit variance
        # that are not perfectly correlated have an average of less.
        centre_K, spread_K = quantile_moments(standard_KQ)
        standard_KQ = (standard_KQ - centre_K[:, None]) / spread_K[:, None]
        quantiles_KQ = mean_K[:, None] + np.sqrt(var_K)[:, None] * standard_KQ
        for k, horizon in enumerate(horizons):
            if horizon in self.horizons:
                quantiles_KQ[k] = self.quantiles_HQ[self.horizons.index(horizon)]
        return Forecast.from_quantiles(
            symbol=self.symbol,
            origin=self.origin,
            model=self.model,
            horizons=tuple(int(h) for h in horizons),
            quantiles_HQ=quantiles_KQ,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Forecasts:
    """Many forecasts of one model, columnar: row n is ``symbol_N[n]`` seen at ``origin_N[n]``.

    Equal when every field is, bit for bit and in the same order.

    Raises:
        DataError: fields differ in length, or quantiles are not finite, cross or coincide.
    """

    model: str
    horizons: tuple[int, ...]
    symbol_N: NDArray[np.str_]
    origin_N: NDArray[np.datetime64]
    quantiles_NHQ: Float64

    def __post_init__(self) -> None:
        n = len(self.symbol_N)
        if self.origin_N.shape != (n,) or self.quantiles_NHQ.shape[:1] != (n,):
            raise DataError(f"{self.model}: symbols, origins and quantiles differ in length")
        if self.origin_N.dtype != np.dtype("datetime64[D]"):
            raise DataError(f"{self.model}: origins must be days, are {self.origin_N.dtype}")
        _check(self.quantiles_NHQ, self.horizons, self.model)

    def __len__(self) -> int:
        return len(self.symbol_N)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Forecasts) and _same_fields(self, other)

    def __iter__(self) -> Iterator[Forecast]:
        for n in range(len(self)):
            yield Forecast.from_quantiles(
                symbol=str(self.symbol_N[n]),
                origin=self.origin_N[n].astype(object),
                model=self.model,
                horizons=self.horizons,
                quantiles_HQ=self.quantiles_NHQ[n],
            )

    @property
    def mean_NH(self) -> Float64:
        """Mean of each distribution."""
        return quantile_moments(self.quantiles_NHQ)[0]

    @property
    def sd_NH(self) -> Float64:
        """Standard deviation of each distribution."""
        return quantile_moments(self.quantiles_NHQ)[1]

    @property
    def p_up_NH(self) -> Float64:
        """Probability of a positive cumulative return."""
        return probability_of_rise(self.quantiles_NHQ)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Forecasts:
        """The forecasts at ``rows`` (a mask or positions)."""
        return Forecasts(
            model=self.model,
            horizons=self.horizons,
            symbol_N=self.symbol_N[rows],
            origin_N=self.origin_N[rows],
            quantiles_NHQ=self.quantiles_NHQ[rows],
        )

    def sorted(self) -> Forecasts:
        """The same forecasts by symbol, then origin: the canonical order."""
        return self.take(np.lexsort((self.origin_N, self.symbol_N)))

    @classmethod
    def concatenate(cls, parts: Sequence[Forecasts]) -> Forecasts:
        """Join forecasts of one model and the same horizons, in the canonical order."""
        if not parts:
            raise ValueError("nothing to concatenate")
        if len({(part.model, part.horizons) for part in parts}) > 1:
            raise ValueError("only forecasts of one model and the same horizons can be joined")
        return cls(
            model=parts[0].model,
            horizons=parts[0].horizons,
            symbol_N=np.concatenate([part.symbol_N for part in parts]),
            origin_N=np.concatenate([part.origin_N for part in parts]),
            quantiles_NHQ=np.concatenate([part.quantiles_NHQ for part in parts]),
        ).sorted()

    @classmethod
    def empty(cls, model: str, horizons: Sequence[int] = HORIZONS) -> Forecasts:
        """No forecasts."""
        return cls(
            model=model,
            horizons=tuple(horizons),
            symbol_N=np.array([], dtype=np.str_),
            origin_N=np.array([], dtype="datetime64[D]"),
            quantiles_NHQ=np.empty((0, len(horizons), len(LEVELS))),
        )

    def to_frame(self) -> pl.DataFrame:
        """One row per symbol, origin and horizon: ``symbol, origin, horizon, model, mean, sd, q_..., p_up``."""
        n, h = len(self), len(self.horizons)
        mean_NH, sd_NH = quantile_moments(self.quantiles_NHQ)
        return pl.DataFrame(
            {
                "symbol": pl.Series(np.repeat(self.symbol_N, h).tolist(), dtype=pl.String),
                "origin": pl.Series(np.repeat(self.origin_N, h), dtype=pl.Date),
                "horizon": pl.Series(np.tile(np.array(self.horizons), n), dtype=pl.Int32),
                "model": pl.Series([self.model] * (n * h), dtype=pl.String),
                "mean": mean_NH.ravel(),
                "sd": sd_NH.ravel(),
                **{name: self.quantiles_NHQ[..., q].ravel() for q, name in enumerate(QUANTILE_COLUMNS)},
                "p_up": self.p_up_NH.ravel(),
            }
        )

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> Forecasts:
        """Read back what ``to_frame`` wrote: one model, every horizon of every origin present."""
        models = frame["model"].unique().to_list()
        if len(models) != 1:
            raise DataError(f"expected one model, found {models}")
        horizons = tuple(sorted(int(h) for h in frame["horizon"].unique()))
        ordered = frame.sort("symbol", "origin", "horizon")
        first = ordered.filter(pl.col("horizon") == horizons[0])
        if ordered["horizon"].to_list() != list(horizons) * len(first):
            raise DataError(f"{models[0]}: a horizon is missing for some origin, or stands twice")
        return cls(
            model=str(models[0]),
            horizons=horizons,
            symbol_N=np.array(first["symbol"].to_list(), dtype=np.str_),
            origin_N=first["origin"].to_numpy().astype("datetime64[D]"),
            quantiles_NHQ=np.ascontiguousarray(
                ordered.select(QUANTILE_COLUMNS).to_numpy().reshape(len(first), len(horizons), len(LEVELS))
            ),
        )


def normal_quantiles(mean: Float64, sd: Float64) -> Float64:
    """Quantiles at ``LEVELS`` of normal distributions: the shape of ``mean`` with a last axis Q."""
    return np.asarray(mean)[..., None] + np.asarray(sd)[..., None] * Z_Q


def uncrossed(quantiles: Float64) -> Float64:
    """Sort the last axis and part equal neighbours, so that quantiles increase strictly.

    Args:
        quantiles: (..., Q) at ``LEVELS``.
    """
    ordered = np.sort(quantiles, axis=-1)
    spread = np.maximum(ordered[..., -1:] - ordered[..., :1], 1e-6)
    # 1e-6 of the spread per unit of z: far below anything published, far above rounding.
    return np.asarray(ordered + 1e-6 * spread * Z_Q)


def quantile_moments(quantiles: Float64) -> tuple[Float64, Float64]:
    """Mean and standard deviation of the piecewise distribution.

    Args:
        quantiles: (..., Q) increasing, at ``LEVELS``.

    Returns:
        Two arrays of shape (...).
    """
    edges = np.concatenate(([-np.inf], Z_Q[1:-1], [np.inf]))
    density = np.exp(-0.5 * np.square(np.where(np.isinf(edges), 0.0, edges))) / np.sqrt(2 * np.pi)
    density[np.isinf(edges)] = 0.0
    z_density = np.where(np.isinf(edges), 0.0, edges) * density
    mass = np.diff(ndtr(edges))  # integral of phi over each piece
    first = -np.diff(density)  # integral of z phi
    second = mass - np.diff(z_density)  # integral of z^2 phi
    # Centre first: the second moment would otherwise cancel when |mean| >> sd.
    centre = quantiles[..., 3:4]
    slope = np.diff(quantiles, axis=-1) / np.diff(Z_Q)
    level = quantiles[..., :-1] - centre - slope * Z_Q[:-1]
    mean = np.sum(level * mass + slope * first, axis=-1)
    square = np.sum(level**2 * mass + 2 * level * slope * first + slope**2 * second, axis=-1)
    return mean + centre[..., 0], np.sqrt(np.maximum(square - mean**2, 0.0))


def probability_of_rise(quantiles: Float64) -> Float64:
    """1 - F(0) of the piecewise distribution; (..., Q) to (...)."""
    piece = np.sum(quantiles[..., 1:-1] < 0, axis=-1, keepdims=True)
    left = np.take_along_axis(quantiles, piece, axis=-1)
    right = np.take_along_axis(quantiles, piece + 1, axis=-1)
    z_left, z_right = Z_Q[piece], Z_Q[piece + 1]
    z_zero = z_left - left * (z_right - z_left) / (right - left)
    return np.asarray(ndtr(-z_zero[..., 0]))


def quantile_at(quantiles: Float64, probability: Float64) -> Float64:
    """The quantile function at ``probability`` (shape (...)) of distributions (..., Q)."""
    z = ndtri(np.asarray(probability))[..., None]
    piece = np.sum(Z_Q[1:-1] < z, axis=-1, keepdims=True)
    left = np.take_along_axis(quantiles, piece, axis=-1)
    right = np.take_along_axis(quantiles, piece + 1, axis=-1)
    z_left, z_right = Z_Q[piece], Z_Q[piece + 1]
    return np.asarray((left + (right - left) * (z - z_left) / (z_right - z_left))[..., 0])


def pinball(quantiles: Float64, outcome: Float64) -> Float64:
    """Pinball loss of each quantile, in units of the outcome.

    Args:
        quantiles: (..., Q) at ``LEVELS``.
        outcome: (...).

    Returns:
        (..., Q): ``level * u`` where ``u = outcome - quantile`` is positive, ``(level - 1) * u`` where it is not.

    Source:
        Koenker and Bassett (1978), "Regression Quantiles", Econometrica 46(1).
    """
    above = np.asarray(outcome)[..., None] - quantiles
    levels_Q = np.array(LEVELS)
    return np.asarray(np.maximum(levels_Q * above, (levels_Q - 1.0) * above))


def crps_from_quantiles(quantiles: Float64, outcome: Float64) -> Float64:
    """Continuous ranked probability score: twice the mean pinball loss over ``LEVELS``; (..., Q) to (...).

    The one definition used to fit, to stop early, to weigh and to score. Lower is better.

    Source:
        Gneiting and Ranjan (2011), "Comparing Density Forecasts Using Threshold- and Quantile-Weighted
        Scoring Rules", Journal of Business & Economic Statistics 29(3), section 3.
    """
    return np.asarray(2.0 * np.mean(pinball(quantiles, outcome), axis=-1))


def _same_fields(one: Forecast | Forecasts, other: Forecast | Forecasts) -> bool:
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))


def _check(quantiles_NHQ: Float64, horizons: tuple[int, ...], who: str) -> None:
    if list(horizons) != sorted(set(horizons)) or not horizons or horizons[0] < 1:
        raise DataError(f"{who}: horizons must increase from at least 1, are {horizons}")
    if quantiles_NHQ.shape[1:] != (len(horizons), len(LEVELS)):
        raise DataError(f"{who}: quantiles have shape {quantiles_NHQ.shape}, need (N, {len(horizons)}, {len(LEVELS)})")
    if quantiles_NHQ.dtype != np.float64:
        raise DataError(f"{who}: quantiles must be float64, are {quantiles_NHQ.dtype}")
    if not np.isfinite(quantiles_NHQ).all():
        raise DataError(f"{who}: a quantile is not finite")
    if not (np.diff(quantiles_NHQ, axis=-1) > 0).all():
        raise DataError(f"{who}: quantiles cross or coincide")
