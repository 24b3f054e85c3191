"""One forecast out of several: pooled with weights learnt from matured forecasts, calibrated, then widened.

Weights minimise the CRPS of the averaged quantiles, whichever pool they then serve. Each row counts in units of its
own forecast's spread, so that a wild year does not outvote the calm ones. They are then drawn towards a prior, the
more so the fewer independent outcomes there are. What was learnt is an ``EnsembleState``, a value that travels with a
release. Knows nothing of folds: the caller hands in only what had matured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import polars as pl
from pydantic import Field, field_validator
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from swiftbolt.config import Strict
from swiftbolt.ensemble.calibration import IDENTITY, CalibrationMap, calibrate, fit_calibration
from swiftbolt.ensemble.conformal import CENTRAL, Widths, stretch, unchanged
from swiftbolt.ensemble.pooling import Pool, pooled
from swiftbolt.errors import ArtifactMismatch, ConfigError, DataError
from swiftbolt.forecast import LEVELS, MODELS, Z_Q, Float64, Forecasts, crps_from_quantiles, probability_of_rise

ENSEMBLE = "ensemble"
KEYS = ["symbol", "origin"]


class EnsembleConfig(Strict):
    """How members are weighed and pooled, what is calibrated, and what makes a signal."""

    pool: Pool = Field("quantiles", description="What is averaged: the members' quantiles, or (linear) probabilities.")
    prior: dict[str, float] = Field(
        default={"arima": 0.20, "xgboost": 0.35, "lstm": 0.25, "transformer": 0.20},
        description="Weights before anything has matured; those of absent members are shared out.",
    )
    min_weight_sessions: int = Field(500, ge=1, description="Matured sessions below which weights are the prior.")
    shrinkage_sessions: float = Field(
        50.0, ge=0, description="Independent sessions at which fitted and prior weights count alike."
    )
    min_calibration_sessions: int = Field(500, ge=1, description="Matured sessions below which p_up stays as it is.")
    calibration_shift_sd: float = Field(0.1, gt=0, description="Prior spread of the map's intercept, in log odds.")
    calibration_slope_sd: float = Field(0.5, gt=0, description="Prior spread of the map's slope about one.")
    conformal_gain: float = Field(
        0.005, ge=0, description="Share of a gap in coverage that one session's outcomes close, over the horizon."
    )
    confidence_threshold: float = Field(0.55, ge=0.5, le=1, description="Confidence below which a signal is HOLD.")
    round_trip_cost: float = Field(0.001, ge=0, lt=1, description="Cost of entering and leaving, as simple return.")

    @field_validator("prior")
    @classmethod
    def _is_a_weighting(cls, value: dict[str, float]) -> dict[str, float]:
        if any(weight < 0 for weight in value.values()) or sum(value.values()) <= 0:
            raise ValueError("prior weights must not be negative, and one must be positive")
        return value


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsembleState:
    """What the ensemble learnt, and the two numbers that turn its forecasts into signals.

    Attributes:
        weights: weight of each member at each of ``horizons``; every horizon sums to one.
        calibration: map of p_up at each horizon; the identity where nothing was learnt.
        calibrated: True if the maps were fitted.
        sessions: matured sessions seen per horizon.
        pool: what the weights average.
        widths: factors on the central intervals of each horizon; by default they stay as they are.
    """

    horizons: tuple[int, ...]
    weights: dict[str, tuple[float, ...]]
    calibration: tuple[CalibrationMap, ...]
    calibrated: bool
    sessions: tuple[int, ...]
    confidence_threshold: float
    round_trip_cost: float
    pool: Pool = "quantiles"
    widths: Widths = ()

    def __post_init__(self) -> None:
        if not self.widths:
            object.__setattr__(self, "widths", unchanged(self.horizons))
        each = (self.calibration, self.sessions, self.widths, *self.weights.values())
        if not self.weights or {len(entries) for entries in each} != {len(self.horizons)}:
            raise DataError(f"ensemble: needs members, and one entry for each of the horizons {self.horizons}")
        factors = [factor for row in self.widths for factor in row]
        if {len(row) for row in self.widths} != {len(CENTRAL)} or not all(0 < f < math.inf for f in factors):
            raise DataError(f"ensemble: widths must be {len(CENTRAL)} positive factors for every horizon")
        if self.pool not in get_args(Pool):
            raise DataError(f"ensemble: pool is {self.pool!r}, must be one of {', '.join(get_args(Pool))}")
        table_MH = np.array(list(self.weights.values()))
        if not (table_MH >= 0).all() or not np.allclose(table_MH.sum(axis=0), 1.0, rtol=0, atol=1e-9):
            raise DataError("ensemble: weights must not be negative and must sum to one at every horizon")

    @property
    def members(self) -> tuple[str, ...]:
        """Members in the one order in which they are summed, so that equal states give equal bits."""
        return in_order(self.weights)

    def to_json(self) -> str:
        """Canonical JSON; floats are written so that they read back bit for bit."""
        data = {
            "horizons": self.horizons,
            "weights": self.weights,
            "calibration": [{"intercept": m.intercept, "slope": m.slope} for m in self.calibration],
            "calibrated": self.calibrated,
            "sessions": self.sessions,
            "confidence_threshold": self.confidence_threshold,
            "round_trip_cost": self.round_trip_cost,
            "pool": self.pool,
            "widths": self.widths,
        }
        return json.dumps(data, sort_keys=True, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> EnsembleState:
        """Read ``to_json`` back.

        Raises:
            ArtifactMismatch: not an ensemble's state.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            return cls(
                horizons=tuple(int(h) for h in data["horizons"]),
                weights={str(name): tuple(map(float, row)) for name, row in data["weights"].items()},
                calibration=tuple(CalibrationMap(**entry) for entry in data["calibration"]),
                calibrated=bool(data["calibrated"]),
                sessions=tuple(int(count) for count in data["sessions"]),
                confidence_threshold=float(data["confidence_threshold"]),
                round_trip_cost=float(data["round_trip_cost"]),
                pool=data["pool"],
                widths=tuple(tuple(map(float, row)) for row in data["widths"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, DataError) as exc:
            raise ArtifactMismatch(f"not the state of an ensemble ({exc})") from exc


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The order of ``MODELS``, then names it does not know."""
    return tuple(sorted(names, key=lambda name: (MODELS.index(name) if name in MODELS else len(MODELS), name)))


def combine(members: Mapping[str, Forecasts], state: EnsembleState) -> Forecasts:
    """Pool the members' distributions, calibrate, and stretch the intervals.

    A row is made for every symbol and origin that a weighted member has; where others lack it, the
    weights of those present are scaled up to one. Members the state does not know are left aside.

    Returns:
        Forecasts of the model ``ensemble`` in the canonical order.

    Raises:
        DataError: a member has other horizons than the state, or a symbol and origin twice.
    """
    used = [(name, members[name]) for name in state.members if name in members and len(members[name])]
    for name, part in used:
        if part.horizons != state.horizons:
            raise DataError(f"{name}: horizons {part.horizons} are not the ensemble's, {state.horizons}")
    if not used:
        return Forecasts.empty(ENSEMBLE, state.horizons)
    frames = [_numbered(name, part) for name, part in used]
    keys = pl.concat([frame.select(KEYS) for frame in frames]).unique().sort(KEYS)
    for frame in frames:
        keys = keys.join(frame, on=KEYS, how="left", maintain_order="left")

    quantiles_MNHQ = np.broadcast_to(Z_Q, (len(used), len(keys), len(state.horizons), len(LEVELS))).copy()
    weights_MNH = np.zeros(quantiles_MNHQ.shape[:-1])
    for m, (name, part) in enumerate(used):
        found = keys[name].is_not_null().to_numpy()
        quantiles_MNHQ[m, found] = part.quantiles_NHQ[keys[name].drop_nulls().to_numpy()]
        weights_MNH[m, found] = state.weights[name]
    # Only members without any weight had the other rows: there is nothing to average.
    answered = (weights_MNH.sum(axis=0) > 0).all(axis=1)
    quantiles_MNHQ, weights_MNH = quantiles_MNHQ[:, answered], weights_MNH[:, answered]
    weights_MNH = weights_MNH / weights_MNH.sum(axis=0)
    averaged = Forecasts(
        model=ENSEMBLE,
        horizons=state.horizons,
        symbol_N=np.array(keys["symbol"].to_list(), dtype=np.str_)[answered],
        origin_N=keys["origin"].to_numpy().astype("datetime64[D]")[answered],
        quantiles_NHQ=np.stack(
            [pooled(quantiles_MNHQ[:, :, h], weights_MNH[..., h], state.pool) for h in range(len(state.horizons))],
            axis=1,
        ),
    )
    return stretch(calibrate(averaged, state.calibration), state.widths)


def fit_ensemble(members: Mapping[str, Forecasts], realized: pl.DataFrame, config: EnsembleConfig) -> EnsembleState:
    """Learn weights and calibration from forecasts whose outcome is known.

    One thread computes them: BLAS adds in an order that goes by the number of its threads, and a last bit of a
    weight is a last bit of every forecast.

    Args:
        members: past out-of-sample forecasts of each member, all of the same horizons.
        realized: ``symbol, origin, horizon, realized`` of what has matured; a forecast without a row here,
            or that another member lacks, teaches nothing.

    Raises:
        ConfigError: the prior has no weight for a member.
        DataError: no member, or members differ in horizons.
    """
    with threadpool_limits(limits=1):
        return _fit_ensemble(members, realized, config)


def _fit_ensemble(members: Mapping[str, Forecasts], realized: pl.DataFrame, config: EnsembleConfig) -> EnsembleState:
    horizons = _shared_horizons(members)
    names = in_order(members)
    prior_M = prior_weights(names, config.prior)
    matured = [_matured(names, members, realized, h, horizon) for h, horizon in enumerate(horizons)]
    sessions = tuple(part.sessions for part in matured)
    weights_MH = np.repeat(prior_M[:, None], len(horizons), axis=1)
    if min(sessions) >= config.min_weight_sessions:
        for h, part in enumerate(matured):
            independent = part.sessions / horizons[h]
            trust = independent / (independent + config.shrinkage_sessions)
            spread_N = _spread(pooled(part.quantiles_MNQ, prior_M[:, None], "quantiles"))
            weights_MH[:, h] = fit_weights(
                part.quantiles_MNQ / spread_N[:, None], part.realized_N / spread_N, prior_M, trust
            )
    calibrated = min(sessions) >= config.min_calibration_sessions
    maps = [IDENTITY] * len(horizons)
    if calibrated:
        for h, part in enumerate(matured):
            maps[h] = fit_calibration(
                probability_of_rise(pooled(part.quantiles_MNQ, weights_MH[:, h, None], config.pool)),
                part.realized_N,
                independent=part.sessions / horizons[h],
                shift_sd=config.calibration_shift_sd,
                slope_sd=config.calibration_slope_sd,
            )
    return EnsembleState(
        horizons=horizons,
        weights={name: tuple(weights_MH[m].tolist()) for m, name in enumerate(names)},
        calibration=tuple(maps),
        calibrated=calibrated,
        sessions=sessions,
        confidence_threshold=config.confidence_threshold,
        round_trip_cost=config.round_trip_cost,
        pool=config.pool,
    )


def prior_weights(names: Iterable[str], prior: Mapping[str, float]) -> Float64:
    """The prior of the members named, scaled to sum to one.

    Raises:
        ConfigError: a member has no prior, or all of theirs are zero.
    """
    names = tuple(names)
    missing = [name for name in names if name not in prior]
    if missing:
        raise ConfigError("ensemble", "prior", f"has no weight for {', '.join(missing)}")
    prior_M = np.array([prior[name] for name in names])
    if prior_M.sum() <= 0:
        raise ConfigError("ensemble", "prior", f"gives no weight to any of {', '.join(names)}")
    return np.asarray(prior_M / prior_M.sum())


def _spread(quantiles_NQ: Float64) -> Float64:
    """Width of the central 90 % interval."""
    return np.asarray(quantiles_NQ[:, LEVELS.index(0.95)] - quantiles_NQ[:, LEVELS.index(0.05)])


def fit_weights(quantiles_MNQ: Float64, realized_N: Float64, prior_M: Float64, trust: float) -> Float64:
    """Weights on the simplex that minimise the CRPS of the averaged quantiles, drawn towards the prior.

    Args:
        trust: share of the fitted weights in the result; the rest is the prior's.
    """
    reference = float(np.mean(crps_from_quantiles(np.tensordot(prior_M, quantiles_MNQ, axes=1), realized_N)))
    if len(prior_M) == 1 or reference == 0.0:
        return prior_M
    levels_Q = np.array(LEVELS)

    def score_and_gradient(weights_M: Float64) -> tuple[float, Float64]:
        averaged_NQ = np.tensordot(weights_M, quantiles_MNQ, axes=1)
        slope_NQ = (realized_N[:, None] < averaged_NQ) - levels_Q
        gradient_M = 2.0 * np.tensordot(quantiles_MNQ, slope_NQ, axes=2) / slope_NQ.size
        # In units of the prior's score: daily returns would otherwise lie below SLSQP's tolerances.
        return float(np.mean(crps_from_quantiles(averaged_NQ, realized_N))) / reference, gradient_M / reference

    found = minimize(
        score_and_gradient,
        prior_M,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * len(prior_M),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": np.ones_like},
        options={"maxiter": 100, "ftol": 1e-9},
    )
    fitted_M = np.clip(found.x, 0.0, 1.0)
    # SLSQP may stop at a kink of the piecewise linear score, or at a point that is no better: keep the best known.
    candidates = [prior_M, fitted_M / fitted_M.sum(), *np.eye(len(prior_M))]
    best_M = min(candidates, key=lambda weights_M: score_and_gradient(weights_M)[0])
    mixed_M = trust * best_M + (1.0 - trust) * prior_M
    return np.asarray(mixed_M / mixed_M.sum())


@dataclass(frozen=True, slots=True)
class _Matured:
    """Rows of one horizon that every member forecast and whose outcome is known."""

    quantiles_MNQ: Float64
    realized_N: Float64
    sessions: int


def _matured(
    names: tuple[str, ...], members: Mapping[str, Forecasts], realized: pl.DataFrame, h: int, horizon: int
) -> _Matured:
    known = (pl.col("horizon") == horizon) & pl.col("realized").is_finite()
    joined = realized.filter(known).select(*KEYS, "realized").sort(KEYS)
    for name in names:
        joined = joined.join(_numbered(name, members[name]), on=KEYS, how="inner", maintain_order="left")
    return _Matured(
        quantiles_MNQ=np.stack([members[name].quantiles_NHQ[joined[name].to_numpy(), h] for name in names]),
        realized_N=joined["realized"].to_numpy(),
        sessions=joined["origin"].n_unique(),
    )


def _numbered(name: str, part: Forecasts) -> pl.DataFrame:
    """``symbol, origin`` and, in a column called ``name``, the row of ``part``."""
    frame = pl.DataFrame(
        {
            "symbol": pl.Series(part.symbol_N.tolist(), dtype=pl.String),
            "origin": pl.Series(part.origin_N, dtype=pl.Date),
            name: np.arange(len(part)),
        }
    )
    if frame.select(KEYS).is_duplicated().any():
        raise DataError(f"{name}: forecasts a symbol twice from one origin")
    return frame


def _shared_horizons(members: Mapping[str, Forecasts]) -> tuple[int, ...]:
    found = {part.horizons for part in members.values()}
    if len(found) != 1:
        raise DataError(f"an ensemble needs members of the same horizons, got {sorted(found) or 'no member'}")
    return found.pop()
