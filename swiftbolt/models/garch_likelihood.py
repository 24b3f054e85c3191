"""Likelihood of an ARMA mean with GARCH innovations: recursions, density and the exact gradient.

    r_t       = mean + x_t,   x_t = sum_i ar_i x_{t-i} + e_t + sum_j ma_j e_{t-j}
    sigma2_t  = omega + (alpha + gamma 1[e_{t-1} < 0]) e_{t-1}^2 + beta sigma2_{t-1}
    e_t       = sqrt(sigma2_t) z_t,   z_t standard normal, or Student-t with nu degrees of freedom and variance one

Both recursions are linear filters, so a pass over a history is two calls of ``scipy.signal.lfilter``; the
gradient runs the same two filters backwards (the adjoint) and costs no more than the value itself.
Returns are in percent throughout. Knows arrays only: neither panels, nor optimisers.

Source:
    Bollerslev (1987), "A Conditionally Heteroskedastic Time Series Model for Speculative Prices and Rates of
    Return", Review of Economics and Statistics 69(3); Glosten, Jagannathan and Runkle (1993), "On the Relation
    between the Expected Value and the Volatility of the Nominal Excess Return on Stocks", Journal of Finance 48(5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import digamma, gammaln

Float64 = NDArray[np.float64]

BACKCAST_RETURNS = 75
_BACKCAST_DECAY = 0.94


@dataclass(frozen=True, kw_only=True, slots=True)
class ARMAGARCH:
    """Parameters of the model, for returns in percent.

    ``nu`` None means normal innovations; ``gamma`` zero means a symmetric GARCH(1,1).
    """

    mean: float
    ar: tuple[float, ...]
    ma: tuple[float, ...]
    omega: float
    alpha: float
    gamma: float
    beta: float
    nu: float | None

    @property
    def persistence(self) -> float:
        """Share of a variance shock left one session later."""
        return self.alpha + 0.5 * self.gamma + self.beta


def backcast_variance(returns: Float64) -> float:
    """Weighted mean square of the first ``BACKCAST_RETURNS`` returns about their mean: the variance before them.

    Uses nothing later, so that the recursion's start does not depend on how much history follows.
    """
    head = returns[:BACKCAST_RETURNS]
    weights = _BACKCAST_DECAY ** np.arange(len(head))
    return float(np.sum(weights * (head - np.mean(head)) ** 2) / np.sum(weights))


def innovations(returns: Float64, ar: tuple[float, ...], ma: tuple[float, ...], mean: float) -> Float64:
    """One-step errors ``e`` of the ARMA mean; deviations and errors before the first return count as zero."""
    deviations = returns - mean
    if not ar and not ma:
        return deviations
    return np.asarray(lfilter([1.0, *(-phi for phi in ar)], [1.0, *ma], deviations))


def conditional_variance(errors: Float64, parameters: ARMAGARCH, backcast: float) -> Float64:
    """``sigma2[t]``, the variance of ``errors[t]`` given those before it.

    Args:
        backcast: stands for both the squared error and the variance before the first error.

    Returns:
        One element more than ``errors``: the last is the variance of the next, unseen, error.
    """
    p = parameters
    sigma2 = np.empty(len(errors) + 1)
    sigma2[0] = p.omega + p.persistence * backcast
    shocks = p.omega + _news(errors, p) * errors**2
    sigma2[1:] = lfilter([1.0], [1.0, -p.beta], shocks, zi=[p.beta * sigma2[0]])[0]
    return sigma2


def log_density(errors: Float64, sigma2: Float64, nu: float | None) -> Float64:
    """Log density of each error under its variance; ``sigma2`` has the length of ``errors``."""
    if nu is None:
        return -0.5 * (math.log(2 * math.pi) + np.log(sigma2) + errors**2 / sigma2)
    tails = np.log1p(errors**2 / (sigma2 * (nu - 2)))
    return np.asarray(_t_constant(nu) - 0.5 * np.log(sigma2) - 0.5 * (nu + 1) * tails)


def log_likelihood(returns: Float64, parameters: ARMAGARCH, backcast: float) -> float:
    """Sum of the log densities of ``returns``, conditional on the recursions' start."""
    errors = innovations(returns, parameters.ar, parameters.ma, parameters.mean)
    sigma2 = conditional_variance(errors, parameters, backcast)
    return float(np.sum(log_density(errors, sigma2[:-1], parameters.nu)))


def log_likelihood_and_gradient(returns: Float64, parameters: ARMAGARCH, backcast: float) -> tuple[float, Float64]:
    """The log-likelihood and its derivatives.

    Returns:
        The value, and the gradient with respect to ``mean, *ar, *ma, omega, alpha, gamma, beta[, nu]``;
        ``nu`` only where it is not None. ``backcast`` is held fixed.
    """
    p = parameters
    deviations = returns - p.mean
    errors = innovations(returns, p.ar, p.ma, p.mean)
    sigma2 = conditional_variance(errors, p, backcast)[:-1]
    value = float(np.sum(log_density(errors, sigma2, p.nu)))
    by_sigma2, by_error, by_nu = _density_gradient(errors, sigma2, p.nu)

    # Every sigma2[t] feeds the later ones through beta: the adjoint of a filter is the filter run backwards.
    total_by_sigma2 = _backwards(by_sigma2, [1.0, -p.beta])
    squares = np.concatenate(([backcast], errors[:-1] ** 2))
    falls = np.concatenate(([0.5], (errors[:-1] < 0).astype(np.float64)))
    previous = np.concatenate(([backcast], sigma2[:-1]))
    variance_part = [
        np.sum(total_by_sigma2),
        np.sum(total_by_sigma2 * squares),
        np.sum(total_by_sigma2 * squares * falls),
        np.sum(total_by_sigma2 * previous),
    ]
    by_error[:-1] += 2 * total_by_sigma2[1:] * (_news(errors, p) * errors)[:-1]

    total_by_error = _backwards(by_error, [1.0, *p.ma])
    ar_part = [-np.sum(total_by_error[i:] * deviations[:-i]) for i in range(1, len(p.ar) + 1)]
    ma_part = [-np.sum(total_by_error[j:] * errors[:-j]) for j in range(1, len(p.ma) + 1)]
    mean_part = -np.sum(total_by_error) + sum(phi * np.sum(total_by_error[i:]) for i, phi in enumerate(p.ar, start=1))
    tail_part = [] if by_nu is None else [by_nu]
    return value, np.array([mean_part, *ar_part, *ma_part, *variance_part, *tail_part])


def _news(errors: Float64, parameters: ARMAGARCH) -> Float64 | float:
    """Weight of each squared error in the next variance."""
    if parameters.gamma == 0.0:
        return parameters.alpha
    return np.where(errors < 0, parameters.alpha + parameters.gamma, parameters.alpha)


def _backwards(values: Float64, denominator: list[float]) -> Float64:
    """``lfilter([1], denominator, .)`` from the last element to the first."""
    if len(denominator) == 1:
        return values
    return np.asarray(lfilter([1.0], denominator, values[::-1])[::-1])


def _density_gradient(errors: Float64, sigma2: Float64, nu: float | None) -> tuple[Float64, Float64, float | None]:
    """Derivatives of ``log_density``: by sigma2 and by error for each return, by nu summed."""
    squares = errors**2 / sigma2
    if nu is None:
        return 0.5 * (squares - 1) / sigma2, -errors / sigma2, None
    weight = (nu + 1) / (nu - 2 + squares)  # how little an outlying error counts: (nu + 1) / (nu - 2) at most
    tails = 0.5 * (weight * squares / (nu - 2) - np.log1p(squares / (nu - 2)))
    slope = 0.5 * (digamma((nu + 1) / 2) - digamma(nu / 2) - 1 / (nu - 2))
    by_nu = float(len(errors) * slope + np.sum(tails))
    return 0.5 * (weight * squares - 1) / sigma2, -weight * errors / sigma2, by_nu


def _t_constant(nu: float) -> float:
    """Log of the standardised Student-t density at zero."""
    return float(gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * math.log(math.pi * (nu - 2)))
