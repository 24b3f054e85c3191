"""ARIMA-GARCH: one symbol's own past, its mean an ARIMA(p, 1, q) of log price, its variance a GARCH(1,1).

The difference belongs to the log price, so returns are an ARMA(p, q) with a constant and are not differenced
again. Mean and variance are estimated together, on a schedule (the anchors); between two anchors new
returns only pass through the filters, which is what makes a walk-forward cheap. An anchor is a function of
the returns whose bars are beyond doubt by its session (``windows.settled``), a forecast of those up to its origin.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self
from urllib.parse import quote

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator
from statsmodels.tsa.arima.estimators.hannan_rissanen import hannan_rissanen

from swiftbolt.config import Strict
from swiftbolt.errors import ArtifactMismatch, InsufficientHistory
from swiftbolt.folds import Fold
from swiftbolt.forecast import HORIZONS, LEVELS, Forecasts, normal_quantiles
from swiftbolt.models.base import Model, Scope
from swiftbolt.models.garch_estimation import Estimate, Shape, estimate, garch_starts
from swiftbolt.models.garch_horizons import HorizonCoefficients, student_t_quantiles
from swiftbolt.models.garch_likelihood import ARMAGARCH, backcast_variance, conditional_variance, innovations
from swiftbolt.panel import Panel
from swiftbolt.scaling import EWMA_WARMUP, VOLATILITY_FLOOR, ewma_variance
from swiftbolt.sessions import Sessions
from swiftbolt.windows import settled

Float64 = NDArray[np.float64]

# At and beyond this persistence the unconditional variance means nothing, and EWMA says the same with less.
UNIT_PERSISTENCE = 0.9995
PERCENT = 100.0  # the likelihood is badly scaled for returns near 0.01
NEVER = np.datetime64("9999-12-31")
_MEDIAN_TO_SD = 0.6745
_MEDIAN_RETURNS, _LEAST_MEDIAN_RETURNS = 250, 20
_LEAST_USUAL_SD = 1.0  # percent a session; a quiet index may still fall by 10 % in a day


class ARIMAGARCHConfig(Strict):
    """What is estimated, on how much history and how often."""

    orders: tuple[tuple[int, int, int], ...] = Field(
        ((0, 1, 0), (1, 1, 0), (0, 1, 1), (1, 1, 1), (3, 1, 2)),
        min_length=1,
        description="ARIMA orders (p, d, q) of log price to choose from; d is 1.",
    )
    criterion: Literal["bic", "aic"] = Field("bic", description="What chooses among the orders.")
    distribution: Literal["t", "normal"] = Field("t", description="Law of the innovations.")
    asymmetric: bool = Field(True, description="Let falls raise variance more than rises do (GJR).")
    refit_every: int = Field(21, ge=1, description="Sessions between two estimations.")
    max_history: int | None = Field(2520, ge=250, description="Newest returns estimated on; None takes all.")
    min_sessions: int = Field(
        250, ge=100, description="Fewest sessions with a price to estimate on; EWMA volatility before."
    )
    outlier_limit: float = Field(
        5.0, ge=3, description="Returns count as at most this many usual standard deviations of the past year."
    )

    @field_validator("orders")
    @classmethod
    def _orders_are_possible(cls, orders: tuple[tuple[int, int, int], ...]) -> tuple[tuple[int, int, int], ...]:
        for p, d, q in orders:
            if d != 1:
                raise ValueError(f"order ({p}, {d}, {q}): d must be 1, it differences the log price")
            if not (0 <= p <= 5 and 0 <= q <= 5):
                raise ValueError(f"order ({p}, {d}, {q}): p and q must lie between 0 and 5")
        return orders


@dataclass(frozen=True, kw_only=True, slots=True)
class Anchor:
    """Parameters in force from ``session`` on. ``parameters`` None: EWMA volatility, for the reason ``fallback``."""

    session: np.datetime64
    parameters: ARMAGARCH | None
    fallback: str | None


class ARIMAGARCH(Model):
    """Each symbol's own ARIMA-GARCH, re-estimated every ``config.refit_every`` sessions."""

    name: ClassVar[str] = "arima"
    config: ARIMAGARCHConfig

    def __init__(self, config: ARIMAGARCHConfig) -> None:
        super().__init__(config)
        self._anchors: dict[str, tuple[Anchor, ...]] = {}

    @property
    def scope(self) -> Scope:
        return "symbol"

    def fit(self, panel: Panel, fold: Fold, *, seed: int) -> None:
        """Estimate every symbol at every anchor from the end of ``fold.train`` to the fold's last session.

        Each anchor uses only returns beyond doubt by its session, later ones of the fold as their turn comes.

        Args:
            seed: unused; nothing here is random.

        Raises:
            InsufficientHistory: no symbol has a return by the last anchor; where some have, the others are noted.
        """
        del seed
        self._anchors, self.notes = {}, []
        schedule = _schedule(panel, fold, self.config.refit_every)
        settled_R = settled(panel)
        without: list[InsufficientHistory] = []
        for symbol in panel.symbols:
            _, returns = _history(panel, symbol, self.config.outlier_limit)
            known_from = np.append(panel.sessions, NEVER)[settled_R[panel.rows(symbol)]][1:]
            anchors = _estimate_anchors(returns, known_from, schedule, self.config)
            if anchors:
                self._anchors[symbol] = anchors
            else:
                bars = int(np.sum(settled_R[panel.rows(symbol)] <= panel.position(schedule[-1])))
                without.append(InsufficientHistory(symbol, EWMA_WARMUP + 1, bars))
        if without and not self._anchors:
            raise without[0]
        self.notes = [f"{fault}, left out" for fault in without] + self._fallback_notes()

    def forecast(self, panel: Panel, origins: Sessions) -> Forecasts:
        """See ``Model.forecast``; the parameters are those of the newest anchor not after each origin."""
        parts = [
            self._forecast_symbol(panel, symbol, self._anchors[symbol], origins)
            for symbol in panel.symbols
            if symbol in self._anchors
        ]
        return Forecasts.concatenate([Forecasts.empty(self.name), *parts])

    def dump(self) -> dict[str, bytes]:
        """One JSON per symbol; Python writes floats so that they read back as the same bits."""
        return {
            f"{quote(symbol, safe='')}.json": _to_json(symbol, anchors) for symbol, anchors in self._anchors.items()
        }

    @classmethod
    def restore(cls, config: Strict, files: Mapping[str, bytes]) -> Self:
        """Rebuild what ``dump`` wrote.

        Raises:
            ArtifactMismatch: a file is not one of this model's.
        """
        model = cls(ARIMAGARCHConfig.model_validate(config.model_dump()))
        for name, content in sorted(files.items()):
            symbol, anchors = _from_json(name, content)
            model._anchors[symbol] = anchors
        model.notes = model._fallback_notes()
        return model

    def _forecast_symbol(self, panel: Panel, symbol: str, anchors: tuple[Anchor, ...], origins: Sessions) -> Forecasts:
        days, returns = _history(panel, symbol, self.config.outlier_limit)
        wanted = np.isin(days, np.asarray(origins, dtype="datetime64[D]"))
        in_force = np.searchsorted([anchor.session for anchor in anchors], days, side="right") - 1
        # The first return already knows two sessions.
        least = np.array([EWMA_WARMUP - 1 if a.parameters is None else self.config.min_sessions - 2 for a in anchors])
        enough = np.arange(len(days)) >= least[in_force]
        last_N = np.flatnonzero(wanted & (in_force >= 0) & enough)  # position of the newest return each origin knows
        quantiles_NHQ = np.empty((len(last_N), len(HORIZONS), len(LEVELS)))
        for k in np.unique(in_force[last_N]):
            of_anchor = in_force[last_N] == k
            parameters = anchors[k].parameters
            forecast_from = _ewma_quantiles if parameters is None else _arma_garch_quantiles
            known = returns[: last_N[of_anchor][-1] + 1]
            quantiles_NHQ[of_anchor] = forecast_from(known, last_N[of_anchor], parameters)
        return Forecasts(
            model=self.name,
            horizons=HORIZONS,
            symbol_N=np.full(len(last_N), symbol),
            origin_N=days[last_N],
            quantiles_NHQ=quantiles_NHQ,
        )

    def _fallback_notes(self) -> list[str]:
        """One sentence per symbol: its first fallback, and how many of its estimations fell back."""
        notes = []
        for symbol, anchors in self._anchors.items():
            fallen = [anchor for anchor in anchors if anchor.fallback is not None]
            if fallen:
                share = f"{len(fallen)} of {len(anchors)} estimations"
                notes.append(f"{symbol}: {fallen[0].fallback} at {fallen[0].session}, EWMA volatility used ({share})")
        return notes


def _schedule(panel: Panel, fold: Fold, every: int) -> Sessions:
    """Sessions after which parameters are estimated, ascending."""
    last_day = fold.known_through if fold.test is None else fold.test.last
    first, last = max(panel.position(fold.train.last), 0), panel.position(last_day)
    positions = np.arange(first, last + 1, every)
    if fold.is_live:  # tomorrow's forecast deserves parameters of today
        positions = np.union1d(positions, [last])
    schedule: Sessions = panel.sessions[positions]
    return schedule


def _history(panel: Panel, symbol: str, outlier_limit: float) -> tuple[Sessions, Float64]:
    """Days and returns of a symbol, in percent, outliers limited; a return belongs to the later of its two bars."""
    days: Sessions = panel.sessions[panel.session_R[panel.rows(symbol)][1:]]
    return days, limited_returns(PERCENT * panel.log_returns(symbol), outlier_limit)


def limited_returns(returns: Float64, limit: float) -> Float64:
    """Bring returns beyond ``limit`` usual standard deviations back to it, by what was known before each.

    A missed split, a bad tick or the jump of an announcement says little about the variance to come, and would
    dominate the likelihood for years. The usual deviation is taken from the median absolute return of the 250
    returns before, which a few outliers do not move; it is at least 1 %.

    Args:
        returns: in percent, oldest first; the first 20 are judged by their own median.
    """
    median = pl.Series(np.abs(returns)).rolling_median(_MEDIAN_RETURNS, min_samples=_LEAST_MEDIAN_RETURNS)
    before = median.shift(1).fill_null(strategy="backward").fill_null(math.inf).to_numpy()
    most = limit * np.maximum(before / _MEDIAN_TO_SD, _LEAST_USUAL_SD)
    return np.clip(returns, -most, most)


def _estimate_anchors(
    returns: Float64, known_from: Sessions, schedule: Sessions, config: ARIMAGARCHConfig
) -> tuple[Anchor, ...]:
    """One anchor per scheduled session that brought a new return; the order is that of the first success.

    Args:
        known_from: session from which each return is beyond doubt.
    """
    anchors: list[Anchor] = []
    previous: Estimate | None = None
    seen = 0
    for session in schedule:
        known = int(np.searchsorted(known_from, session, side="right"))
        if known == seen:
            continue
        seen = known
        window = returns[max(0, known - (config.max_history or known)) : known]
        if known + 1 < config.min_sessions:
            found: Estimate | str = f"needs {config.min_sessions} sessions, has {known + 1}"
        else:
            found = _estimate_window(window, previous, config)
        if isinstance(found, str):
            anchors.append(Anchor(session=session, parameters=None, fallback=found))
        else:
            anchors.append(Anchor(session=session, parameters=found.parameters, fallback=None))
            previous = found
    return tuple(anchors)


def _estimate_window(window: Float64, previous: Estimate | None, config: ARIMAGARCHConfig) -> Estimate | str:
    """The estimate on a window, or the reason why there is none to be trusted."""
    if float(np.std(window)) <= PERCENT * VOLATILITY_FLOOR:
        return "prices do not move"
    if previous is None:
        found = _choose_order(window, config)
    else:
        p = previous.parameters
        starts = [p, *garch_starts(window, p.ar, p.ma, previous.shape)]
        found = estimate(window, previous.shape, starts)
    if found.failure is not None:
        return f"did not converge ({found.failure})"
    if found.parameters.persistence >= UNIT_PERSISTENCE:
        terms = "alpha+gamma/2+beta" if config.asymmetric else "alpha+beta"
        return f"{terms} {found.parameters.persistence:.4f} >= {UNIT_PERSISTENCE}"
    return found


def _choose_order(window: Float64, config: ARIMAGARCHConfig) -> Estimate:
    """The order of the least information criterion among those that converged, or the first if none did.

    Schwarz's penalty also settles AR and MA roots that nearly cancel: two parameters that explain nothing lose.
    """
    penalty = math.log(len(window)) if config.criterion == "bic" else 2.0
    found = []
    for p, _, q in config.orders:
        shape = Shape(p=p, q=q, asymmetric=config.asymmetric, student_t=config.distribution == "t")
        ar, ma = _mean_start(window, p, q)
        found.append(estimate(window, shape, garch_starts(window, ar, ma, shape)))
    converged = [candidate for candidate in found if candidate.failure is None]
    return min(converged or found[:1], key=lambda candidate: candidate.information_criterion(penalty))


def _mean_start(window: Float64, p: int, q: int) -> tuple[list[float], list[float]]:
    """AR and MA coefficients by the Hannan-Rissanen regressions.

    Rounded: the regressions' last digits depend on how many threads BLAS uses, and an estimate must not.
    """
    if p == q == 0:
        return [], []
    found, _ = hannan_rissanen(window, ar_order=p, ma_order=q, demean=True, unbiased=False)
    return np.round(found.ar_params, 2).tolist(), np.round(found.ma_params, 2).tolist()


def _arma_garch_quantiles(returns: Float64, last_N: NDArray[np.int64], parameters: ARMAGARCH) -> Float64:
    """Quantiles (N, H, Q) of summed log returns after the returns at positions ``last_N``, not in percent."""
    p = parameters
    errors = innovations(returns, p.ar, p.ma, p.mean)
    sigma2 = conditional_variance(errors, p, backcast_variance(returns))
    states = [returns[last_N - i] - p.mean for i in range(len(p.ar))] + [errors[last_N - j] for j in range(len(p.ma))]
    state_NK = np.stack(states, axis=1) if states else np.empty((len(last_N), 0))
    coefficients = HorizonCoefficients.of(p, HORIZONS)
    next_sigma2_N = sigma2[last_N + 1]
    floor_H = np.array(HORIZONS) * (PERCENT * VOLATILITY_FLOOR) ** 2
    variance_NH = np.maximum(coefficients.variance(next_sigma2_N), floor_H)
    nu_NH = coefficients.degrees_of_freedom(next_sigma2_N)
    return student_t_quantiles(coefficients.mean(state_NK), variance_NH, nu_NH) / PERCENT


def _ewma_quantiles(returns: Float64, last_N: NDArray[np.int64], _: None) -> Float64:
    """The same from no drift and a constant EWMA volatility, normal."""
    sd_N = np.sqrt(ewma_variance(returns)[last_N]) / PERCENT
    sd_NH = np.maximum(sd_N, VOLATILITY_FLOOR)[:, None] * np.sqrt(HORIZONS)
    return normal_quantiles(np.zeros_like(sd_NH), sd_NH)


def _to_json(symbol: str, anchors: tuple[Anchor, ...]) -> bytes:
    plain = [
        {
            "session": str(anchor.session),
            "parameters": None if anchor.parameters is None else asdict(anchor.parameters),
            "fallback": anchor.fallback,
        }
        for anchor in anchors
    ]
    return json.dumps({"symbol": symbol, "anchors": plain}, allow_nan=False, indent=1).encode()


def _from_json(name: str, content: bytes) -> tuple[str, tuple[Anchor, ...]]:
    try:
        plain: dict[str, Any] = json.loads(content)
        anchors = tuple(_read_anchor(entry) for entry in plain["anchors"])
        return str(plain["symbol"]), anchors
    except (ValueError, KeyError, TypeError) as exc:
        raise ArtifactMismatch(f"{name} is not an ARIMA-GARCH file: {exc}") from exc


def _read_anchor(entry: dict[str, Any]) -> Anchor:
    values = entry["parameters"]
    if values is not None:
        values = ARMAGARCH(**{**values, "ar": tuple(values["ar"]), "ma": tuple(values["ma"])})
    return Anchor(session=np.datetime64(entry["session"], "D"), parameters=values, fallback=entry["fallback"])
