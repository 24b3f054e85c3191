"""Returns simulated from an ARMA-GARCH by a plain loop: the model's definition, for tests to compare with."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from swiftbolt.models.garch_likelihood import ARMAGARCH

Float64 = NDArray[np.float64]


def make_parameters(
    *,
    mean: float = 0.0,
    ar: tuple[float, ...] = (),
    ma: tuple[float, ...] = (),
    omega: float = 0.05,
    alpha: float = 0.08,
    gamma: float = 0.0,
    beta: float = 0.9,
    nu: float | None = 6.0,
) -> ARMAGARCH:
    """Parameters like those of a share, in percent; by default unconditional variance 2.5."""
    return ARMAGARCH(mean=mean, ar=ar, ma=ma, omega=omega, alpha=alpha, gamma=gamma, beta=beta, nu=nu)


def simulate_returns(p: ARMAGARCH, count: int, rng: np.random.Generator, paths: int = 1) -> Float64:
    """Returns in percent, (paths, count), from a history at rest: no past deviations nor errors, mean variance."""
    variance = p.omega / (1 - p.persistence)
    return continue_paths(p, count, rng, paths, x=(0.0,) * len(p.ar), e=(0.0,) * len(p.ma), sigma2=variance)


def continue_paths(
    p: ARMAGARCH,
    count: int,
    rng: np.random.Generator,
    paths: int,
    *,
    x: tuple[float, ...],
    e: tuple[float, ...],
    sigma2: float,
) -> Float64:
    """Returns in percent, (paths, count), that follow deviations ``x`` and errors ``e``, newest first."""
    deviations = [np.full(paths, value) for value in x]
    errors = [np.full(paths, value) for value in e]
    variance = np.full(paths, sigma2)
    returns = np.empty((paths, count))
    for t in range(count):
        error = np.sqrt(variance) * _standard_innovations(p.nu, paths, rng)
        deviation = error + sum(phi * value for phi, value in zip(p.ar, deviations, strict=True))
        deviation = deviation + sum(theta * value for theta, value in zip(p.ma, errors, strict=True))
        deviations = [deviation, *deviations][: len(p.ar)]
        errors = [error, *errors][: len(p.ma)]
        variance = p.omega + (p.alpha + p.gamma * (error < 0)) * error**2 + p.beta * variance
        returns[:, t] = p.mean + deviation
    return returns


def _standard_innovations(nu: float | None, paths: int, rng: np.random.Generator) -> Float64:
    if nu is None:
        return rng.standard_normal(paths)
    return rng.standard_t(nu, paths) * math.sqrt((nu - 2) / nu)
