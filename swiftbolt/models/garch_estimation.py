"""Joint maximum likelihood of ARMA-GARCH parameters, by L-BFGS-B on coordinates that cannot leave the model.

The coordinates are, in order: the mean; partial autocorrelations of the AR and of the MA part (inside the
stationary and invertible region whatever their values in (-1, 1)); the log of the unconditional variance;
``-log(1 - persistence)``; the share of persistence that is news; with asymmetry, the share of the news that
is falls alone; with Student-t innovations, ``1 / nu``. Each has a box, and the box is the whole model.
Deterministic: no random starts.

Source:
    Monahan (1984), "A Note on Enforcing Stationarity in Autoregressive-Moving Average Models", Biometrika 71(2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from swiftbolt.models.garch_likelihood import (
    ARMAGARCH,
    backcast_variance,
    log_likelihood,
    log_likelihood_and_gradient,
)

Float64 = NDArray[np.float64]

MOST_PARTIAL_CORRELATION = 0.97
MOST_PERSISTENCE = 0.9999
LEAST_NU, MOST_NU = 3.0, 500.0
_VARIANCE_RANGE = math.log(1e3)  # the unconditional variance lies within this factor of the sample's
_START_PERSISTENCE = (0.9, 0.97, 0.99)
_START_NEWS = (0.04, 0.1, 0.2)
_START_NU = 6.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Which parameters a model has."""

    p: int
    q: int
    asymmetric: bool
    student_t: bool

    @property
    def size(self) -> int:
        """Number of free parameters."""
        return 1 + self.p + self.q + 3 + self.asymmetric + self.student_t


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Where the optimiser stopped. ``failure`` is its message if that is not an optimum, else None."""

    parameters: ARMAGARCH
    shape: Shape
    log_likelihood: float
    failure: str | None

    def information_criterion(self, penalty: float) -> float:
        """``-2 log L + penalty k``, less is better: penalty 2 is Akaike's, log(n) is Schwarz's (BIC)."""
        return -2 * self.log_likelihood + penalty * self.shape.size


def estimate(returns: Float64, shape: Shape, starts: Sequence[ARMAGARCH]) -> Estimate:
    """Maximise the likelihood from the most likely of ``starts``.

    Args:
        returns: in percent, not all equal.
        starts: at least one; each is moved into the box first.
    """
    backcast = backcast_variance(returns)
    bounds = _bounds(returns, shape)
    low, high = np.array(bounds).T
    points = [np.clip(_to_point(start, shape), low, high) for start in starts]
    values = [log_likelihood(returns, _from_point(point, shape)[0], backcast) for point in points]

    def objective(point: Float64) -> tuple[float, Float64]:
        parameters, jacobian = _from_point(point, shape)
        value, gradient = log_likelihood_and_gradient(returns, parameters, backcast)
        # Per return, so that the tolerances below mean the same for short and long histories.
        return -value / len(returns), -(gradient @ jacobian) / len(returns)

    found = minimize(
        objective,
        points[int(np.argmax(values))],
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 200, "ftol": 1e-10, "gtol": 1e-5},
    )
    return Estimate(
        parameters=_from_point(found.x, shape)[0],
        shape=shape,
        log_likelihood=float(-found.fun * len(returns)),
        failure=None if found.success and np.isfinite(found.fun) else str(found.message).strip().lower(),
    )


def garch_starts(returns: Float64, ar: Sequence[float], ma: Sequence[float], shape: Shape) -> list[ARMAGARCH]:
    """A grid of usual GARCH values around a given mean equation."""
    base = ARMAGARCH(
        mean=float(np.mean(returns)),
        ar=tuple(float(value) for value in ar),
        ma=tuple(float(value) for value in ma),
        omega=0.0,
        alpha=0.0,
        gamma=0.0,
        beta=0.0,
        nu=_START_NU if shape.student_t else None,
    )
    level = float(np.var(returns))
    return [
        replace(
            base,
            omega=level * (1 - rho),
            alpha=news * rho * (0.5 if shape.asymmetric else 1.0),
            gamma=news * rho if shape.asymmetric else 0.0,
            beta=(1 - news) * rho,
        )
        for rho in _START_PERSISTENCE
        for news in _START_NEWS
    ]


def _bounds(returns: Float64, shape: Shape) -> list[tuple[float, float]]:
    spread = float(np.std(returns))
    level = 2 * math.log(spread)
    centre = float(np.mean(returns))
    correlation = (-MOST_PARTIAL_CORRELATION, MOST_PARTIAL_CORRELATION)
    return [
        (centre - spread, centre + spread),
        *[correlation] * (shape.p + shape.q),
        (level - _VARIANCE_RANGE, level + _VARIANCE_RANGE),
        (0.0, -math.log(1 - MOST_PERSISTENCE)),
        (0.0, 1.0),
        *[(0.0, 1.0)] * shape.asymmetric,
        *[(1 / MOST_NU, 1 / LEAST_NU)] * shape.student_t,
    ]


def _from_point(point: Float64, shape: Shape) -> tuple[ARMAGARCH, Float64]:
    """Parameters at a point, and their derivatives: rows as in the likelihood's gradient, columns as in ``point``."""
    p, q = shape.p, shape.q
    ar, ar_jacobian = _from_partial(point[1 : 1 + p])
    ma, ma_jacobian = _from_partial(point[1 + p : 1 + p + q])
    k = 1 + p + q  # where the variance equation begins, in both
    level, rho, news = math.exp(point[k]), -math.expm1(-point[k + 1]), float(point[k + 2])
    falls = float(point[k + 3]) if shape.asymmetric else 0.0

    parameters = ARMAGARCH(
        mean=float(point[0]),
        ar=tuple(ar.tolist()),
        ma=tuple((-ma).tolist()),
        omega=level * (1 - rho),
        alpha=rho * news * (1 - falls),
        gamma=2 * rho * news * falls,
        beta=rho * (1 - news),
        nu=float(1 / point[-1]) if shape.student_t else None,
    )
    jacobian = np.zeros((k + 4 + shape.student_t, len(point)))
    jacobian[0, 0] = 1.0
    jacobian[1 : 1 + p, 1 : 1 + p] = ar_jacobian
    jacobian[1 + p : k, 1 + p : k] = -ma_jacobian
    slope = 1 - rho  # d rho / d point[k + 1]
    jacobian[k : k + 4, k] = [level * (1 - rho), 0, 0, 0]
    jacobian[k : k + 4, k + 1] = slope * np.array([-level, news * (1 - falls), 2 * news * falls, 1 - news])
    jacobian[k : k + 4, k + 2] = rho * np.array([0, 1 - falls, 2 * falls, -1])
    if shape.asymmetric:
        jacobian[k : k + 4, k + 3] = rho * news * np.array([0, -1, 2, 0])
    if shape.student_t:
        jacobian[-1, -1] = -1 / point[-1] ** 2
    return parameters, jacobian


def _to_point(parameters: ARMAGARCH, shape: Shape) -> Float64:
    """The point of given parameters; those outside the model come out at or beyond a bound."""
    p = parameters
    rho = min(max(p.persistence, 1e-6), MOST_PERSISTENCE)
    news = p.alpha + 0.5 * p.gamma
    return np.array(
        [
            p.mean,
            *_to_partial(np.array(p.ar)),
            *_to_partial(-np.array(p.ma)),
            math.log(max(p.omega, 1e-300) / (1 - rho)),
            -math.log(1 - rho),
            news / rho,
            *([0.5 * p.gamma / news if news > 0 else 0.0] if shape.asymmetric else []),
            *([1 / p.nu] if p.nu is not None else []),
        ]
    )


def _from_partial(partial: Float64) -> tuple[Float64, Float64]:
    """AR coefficients with the given partial autocorrelations (Durbin-Levinson), and their Jacobian."""
    k = len(partial)
    phi, jacobian = np.zeros(k), np.zeros((k, k))
    for n, r in enumerate(partial):
        previous, slope = phi[:n].copy(), jacobian[:n].copy()
        phi[:n] = previous - r * previous[::-1]
        jacobian[:n] = slope - r * slope[::-1]
        jacobian[:n, n] = -previous[::-1]
        phi[n], jacobian[n, n] = r, 1.0
    return phi, jacobian


def _to_partial(phi: Float64) -> list[float]:
    """Partial autocorrelations of AR coefficients; a root on or outside the stationary region is pulled inside."""
    partial: list[float] = []
    current = np.array(phi, dtype=np.float64)
    while len(current):
        r = float(np.clip(current[-1], -MOST_PARTIAL_CORRELATION, MOST_PARTIAL_CORRELATION))
        partial.append(r)
        current = (current[:-1] + r * current[:-1][::-1]) / (1 - r**2)
    return partial[::-1]
