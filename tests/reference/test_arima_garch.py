"""ARMA-GARCH numerics against plain loops, arch, statsmodels and simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from arch import arch_model
from numpy.typing import NDArray
from scipy import stats
from statsmodels.tsa.arima.model import ARIMA
from support.garch import continue_paths, make_parameters, simulate_returns

from swiftbolt.forecast import HORIZONS, LEVELS
from swiftbolt.models.garch_estimation import Shape, estimate, garch_starts
from swiftbolt.models.garch_horizons import HorizonCoefficients, student_t_quantiles
from swiftbolt.models.garch_likelihood import (
    ARMAGARCH,
    backcast_variance,
    conditional_variance,
    innovations,
    log_density,
    log_likelihood,
    log_likelihood_and_gradient,
)

Float64 = NDArray[np.float64]
GJR = make_parameters(mean=0.05, ar=(0.3, -0.2), ma=(0.25,), alpha=0.04, gamma=0.09, beta=0.88)


def simulated(p: ARMAGARCH, count: int, seed: int = 7) -> Float64:
    return simulate_returns(p, count, np.random.default_rng(seed))[0]


def arch_log_likelihood(returns: Float64, p: ARMAGARCH, backcast: float) -> float:
    """Ours as arch defines it: an AR(1) has no first error."""
    errors = innovations(returns, p.ar, p.ma, p.mean)[len(p.ar) :]
    sigma2 = conditional_variance(errors, p, backcast)[:-1]
    return float(np.sum(log_density(errors, sigma2, p.nu)))


def test_arma_errors_as_a_filter_equal_those_of_a_plain_loop():
    p = replace(GJR, ma=(0.25, 0.4))
    returns = simulated(p, 300)
    x = returns - p.mean
    e = np.zeros(300)
    for t in range(300):
        ar = sum(p.ar[i - 1] * x[t - i] for i in (1, 2) if t >= i)
        ma = sum(p.ma[j - 1] * e[t - j] for j in (1, 2) if t >= j)
        e[t] = x[t] - ar - ma
    np.testing.assert_allclose(innovations(returns, p.ar, p.ma, p.mean), e, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("p", [make_parameters(), GJR], ids=["garch", "gjr"])
def test_conditional_variance_as_a_filter_equals_that_of_a_plain_loop(p):
    errors = np.random.default_rng(1).standard_normal(500)
    expected = [p.omega + (p.alpha + p.gamma / 2 + p.beta) * 1.7]
    for e in errors:
        expected.append(p.omega + (p.alpha + (p.gamma if e < 0 else 0.0)) * e**2 + p.beta * expected[-1])
    np.testing.assert_allclose(conditional_variance(errors, p, backcast=1.7), expected, rtol=1e-12)


@pytest.mark.parametrize("nu", [3.5, 8.0, None])
def test_innovations_have_the_density_of_a_variable_with_that_variance(nu):
    errors, sigma2 = np.array([-4.0, -0.3, 0.0, 2.5]), np.array([0.5, 1.0, 2.0, 9.0])
    sd = np.sqrt(sigma2)
    expected = stats.norm.logpdf(errors, scale=sd) if nu is None else stats.t.logpdf(
        errors, nu, scale=sd * math.sqrt((nu - 2) / nu)
    )  # fmt: skip
    np.testing.assert_allclose(log_density(errors, sigma2, nu), expected, rtol=1e-12)


@pytest.mark.parametrize("p", [GJR, replace(GJR, nu=None), make_parameters(ma=(0.2, 0.1))], ids=["t", "normal", "ma"])
def test_likelihood_gradient_equals_finite_differences(p):
    returns = simulated(replace(p, nu=p.nu or None), 400)
    names = ["mean", *(("ar", i) for i in range(len(p.ar))), *(("ma", j) for j in range(len(p.ma)))]
    names += ["omega", "alpha", "gamma", "beta"] + (["nu"] if p.nu is not None else [])

    def moved(name, step):
        if isinstance(name, tuple):
            field, at = name
            values = list(getattr(p, field))
            values[at] += step
            return replace(p, **{field: tuple(values)})
        return replace(p, **{name: getattr(p, name) + step})

    value, gradient = log_likelihood_and_gradient(returns, p, backcast=2.0)
    step = 1e-6
    expected = [
        (log_likelihood(returns, moved(name, step), 2.0) - log_likelihood(returns, moved(name, -step), 2.0))
        / (2 * step)
        for name in names
    ]
    assert value == log_likelihood(returns, p, 2.0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("nu", [6.0, None], ids=["t", "normal"])
@pytest.mark.parametrize("gamma", [0.0, 0.1], ids=["garch", "gjr"])
def test_likelihood_equals_that_of_arch_at_the_same_parameters(gamma, nu):
    p = make_parameters(mean=0.06, ar=(0.15,), gamma=gamma, beta=0.88 - gamma / 2, nu=nu)
    returns = simulated(p, 1200)
    dist = "normal" if nu is None else "t"
    oracle = arch_model(returns, mean="AR", lags=1, vol="GARCH", o=int(gamma > 0), dist=dist)
    variance = [p.omega, p.alpha, *([p.gamma] if gamma else []), p.beta]
    fixed = oracle.fix([p.mean * (1 - p.ar[0]), p.ar[0], *variance, *([] if nu is None else [nu])])
    backcast = oracle.volatility.backcast(oracle.resids(oracle.starting_values()))
    assert arch_log_likelihood(returns, p, backcast) == pytest.approx(fixed.loglikelihood, abs=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.1], ids=["garch", "gjr"])
def test_variance_of_a_sum_without_a_mean_equation_is_the_sum_of_those_arch_forecasts(gamma):
    p = make_parameters(gamma=gamma, beta=0.88 - gamma / 2)
    returns = simulated(p, 600)
    oracle = arch_model(returns, mean="Zero", vol="GARCH", o=int(gamma > 0), dist="t")
    fixed = oracle.fix([p.omega, p.alpha, *([p.gamma] if gamma else []), p.beta, p.nu])
    ahead = fixed.forecast(horizon=20).variance.to_numpy()[-1]
    found = HorizonCoefficients.of(p, HORIZONS).variance(ahead[:1])
    np.testing.assert_allclose(found[0], np.cumsum(ahead)[np.array(HORIZONS) - 1], rtol=1e-9)


def test_an_estimate_from_the_last_one_is_as_likely_as_one_from_the_grid():
    """What a refit starts from decides how long it takes, not where it ends."""
    p = replace(GJR, ar=(0.2,), ma=())
    returns = simulated(p, 1300)
    shape = Shape(p=1, q=0, asymmetric=True, student_t=True)
    previous = estimate(returns[:1000], shape, garch_starts(returns[:1000], [0.0], [], shape))
    for known in range(1021, 1300, 84):
        window = returns[:known]
        cold = estimate(window, shape, garch_starts(window, [0.0], [], shape))
        warm = estimate(window, shape, [previous.parameters])
        assert warm.failure is cold.failure is None
        assert warm.log_likelihood == pytest.approx(cold.log_likelihood, abs=0.01)
        previous = warm


@pytest.mark.parametrize("gamma", [0.0, 0.1], ids=["garch", "gjr"])
def test_joint_estimate_reaches_the_optimum_of_arch(gamma):
    returns = simulated(make_parameters(mean=0.06, ar=(0.15,), gamma=gamma, beta=0.88 - gamma / 2), 1500)
    oracle = arch_model(returns, mean="AR", lags=1, vol="GARCH", o=int(gamma > 0), dist="t")
    best = oracle.fit(disp="off")
    backcast = oracle.volatility.backcast(oracle.resids(oracle.starting_values()))
    shape = Shape(p=1, q=0, asymmetric=gamma > 0, student_t=True)
    found = estimate(returns, shape, garch_starts(returns, [0.0], [], shape))
    assert found.failure is None
    # Ours also counts the first return and starts its variance a little differently.
    assert arch_log_likelihood(returns, found.parameters, backcast) > best.loglikelihood - 0.05
    p = found.parameters
    ours = [p.mean * (1 - p.ar[0]), p.ar[0], p.omega, p.alpha, *([p.gamma] if gamma else []), p.beta, p.nu]
    assert (np.abs(ours - best.params) < 0.2 * best.std_err).all()


def test_no_small_step_from_the_estimate_raises_the_likelihood():
    returns = simulated(GJR, 1500)
    shape = Shape(p=2, q=1, asymmetric=True, student_t=True)
    p = estimate(returns, shape, garch_starts(returns, [0.0, 0.0], [0.0], shape)).parameters
    backcast = backcast_variance(returns)
    best = log_likelihood(returns, p, backcast)
    for name in ("mean", "omega", "alpha", "gamma", "beta", "nu"):
        for factor in (0.98, 1.02):
            assert log_likelihood(returns, replace(p, **{name: getattr(p, name) * factor}), backcast) < best + 1e-3
    for step in (-0.01, 0.01):
        assert log_likelihood(returns, replace(p, ma=(p.ma[0] + step,)), backcast) < best + 1e-3
        assert log_likelihood(returns, replace(p, ar=(p.ar[0] + step, p.ar[1])), backcast) < best + 1e-3


def test_estimates_under_constant_variance_agree_with_statsmodels_arima():
    returns = simulated(make_parameters(mean=0.1, ar=(0.6,), ma=(-0.3,), omega=2.0, alpha=0.0, beta=0.0, nu=None), 3000)
    oracle = ARIMA(returns, order=(1, 0, 1)).fit()  # const is the mean
    shape = Shape(p=1, q=1, asymmetric=False, student_t=False)
    p = estimate(returns, shape, garch_starts(returns, [0.5], [-0.2], shape)).parameters
    mean, ar, ma, sigma2 = oracle.params
    np.testing.assert_allclose([p.mean, p.ar[0], p.ma[0]], [mean, ar, ma], atol=0.02)
    errors = innovations(returns, p.ar, p.ma, p.mean)
    assert conditional_variance(errors, p, backcast_variance(returns)).mean() == pytest.approx(sigma2, rel=0.02)


def test_variance_of_a_sum_equals_that_of_simulated_sums():
    p = replace(GJR, ar=(0.2,), ma=(0.15,), nu=8.0)
    paths = continue_paths(p, 20, np.random.default_rng(3), 400_000, x=(1.5,), e=(1.2,), sigma2=6.0)
    coefficients = HorizonCoefficients.of(p, HORIZONS)
    sums = np.cumsum(paths, axis=1)[:, np.array(HORIZONS) - 1]
    variance = coefficients.variance(np.array([6.0]))[0]
    np.testing.assert_allclose(variance, sums.var(axis=0), rtol=0.01)
    mean = coefficients.mean(np.array([[1.5, 1.2]]))[0]
    np.testing.assert_allclose(mean, sums.mean(axis=0), atol=5 * np.sqrt(variance / 400_000).max())


def test_variance_of_a_sum_counts_how_the_mean_equation_carries_errors_on():
    """With psi weights 1, 0.5 the sum of two is 1.5 e1 + e2: variance 3.25 times that of one error, not 2 nor 2.25."""
    p = make_parameters(ma=(0.5,), omega=1.0, alpha=0.0, beta=0.0)
    assert HorizonCoefficients.of(p, (2,)).variance(np.array([1.0]))[0, 0] == pytest.approx(3.25)


def test_variance_of_a_sum_equals_the_arima_forecast_of_log_price_when_variance_is_constant():
    p = make_parameters(mean=0.05, ar=(0.5,), ma=(0.3,), omega=1.7, alpha=0.0, beta=0.0, nu=None)
    returns = simulated(p, 600)
    log_price = np.cumsum(returns)
    oracle = ARIMA(log_price, order=(1, 1, 1), trend="t").filter([p.mean, p.ar[0], p.ma[0], 1.7]).get_forecast(20)
    coefficients = HorizonCoefficients.of(p, tuple(range(1, 21)))
    np.testing.assert_allclose(coefficients.variance(np.array([1.7]))[0], oracle.se_mean**2, rtol=1e-4)
    state = np.array([[returns[-1] - p.mean, innovations(returns, p.ar, p.ma, p.mean)[-1]]])
    np.testing.assert_allclose(log_price[-1] + coefficients.mean(state)[0], oracle.predicted_mean, atol=1e-3)


def test_intervals_grow_like_the_root_of_the_horizon():
    p = make_parameters()
    sigma2 = np.array([p.omega / (1 - p.persistence)])
    coefficients = HorizonCoefficients.of(p, HORIZONS)
    quantiles = student_t_quantiles(np.zeros((1, 3)), coefficients.variance(sigma2), np.full((1, 3), 8.0))
    width = quantiles[0, :, -1] - quantiles[0, :, 0]
    np.testing.assert_allclose(width / width[0], np.sqrt(HORIZONS), rtol=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.06], ids=["garch", "gjr"])
def test_kurtosis_of_a_sum_of_normal_garch_returns_equals_that_of_simulated_sums(gamma):
    p = make_parameters(ar=(0.2,), alpha=0.1 - gamma / 2, gamma=gamma, beta=0.85, nu=None)
    paths = continue_paths(p, 20, np.random.default_rng(5), 200_000, x=(0.0,), e=(), sigma2=1.0)
    s = np.array([1.0])
    coefficients = HorizonCoefficients.of(p, HORIZONS)
    fourth = coefficients.fourth_H3.sum(axis=1)  # the polynomial at sigma2 = 1
    kurtosis = fourth / coefficients.variance(s)[0] ** 2
    sums = np.cumsum(paths, axis=1)[:, np.array(HORIZONS) - 1]
    np.testing.assert_allclose(kurtosis, stats.kurtosis(sums, fisher=False), rtol=0.04)


@pytest.mark.parametrize(("nu", "tolerance"), [(4.0, 0.04), (5.0, 0.025), (8.0, 0.015)])
@pytest.mark.parametrize("sigma2", [1.0, 6.0], ids=["calm", "stressed"])
def test_quantiles_of_a_sum_are_near_those_of_simulated_sums(nu, tolerance, sigma2):
    p = make_parameters(ar=(0.1,), alpha=0.07, beta=0.9, omega=0.075, nu=nu)
    paths = continue_paths(p, 20, np.random.default_rng(11), 200_000, x=(0.0,), e=(), sigma2=sigma2)
    coefficients, s = HorizonCoefficients.of(p, HORIZONS), np.array([sigma2])
    variance = coefficients.variance(s)
    quantiles = student_t_quantiles(np.zeros((1, 3)), variance, coefficients.degrees_of_freedom(s))[0]
    sums = np.cumsum(paths, axis=1)[:, np.array(HORIZONS) - 1]
    simulated_quantiles = np.quantile(np.concatenate([sums, -sums]), LEVELS, axis=0).T
    error_in_sds = np.abs(quantiles - simulated_quantiles) / np.sqrt(variance[0])[:, None]
    assert error_in_sds.max() < tolerance


def test_quantiles_of_a_sum_leave_out_the_skew_of_an_asymmetric_model_and_little_else():
    """Falls that raise variance make the left tail of a sum longer; what the symmetric law makes of it is stated."""
    p = replace(GJR, ar=(0.2,), ma=(0.15,), nu=6.0)
    paths = continue_paths(p, 20, np.random.default_rng(13), 200_000, x=(0.0,), e=(0.0,), sigma2=2.0)
    coefficients, s = HorizonCoefficients.of(p, HORIZONS), np.array([2.0])
    variance = coefficients.variance(s)
    mean = coefficients.mean(np.zeros((1, 2)))
    quantiles = student_t_quantiles(mean, variance, coefficients.degrees_of_freedom(s))[0]
    sums = np.cumsum(paths, axis=1)[:, np.array(HORIZONS) - 1]
    error_in_sds = np.abs(quantiles - np.quantile(sums, LEVELS, axis=0).T) / np.sqrt(variance[0])[:, None]
    assert (error_in_sds.max(axis=1) < [0.02, 0.08, 0.18]).all()
    symmetric = np.concatenate([sums - mean, mean - sums]) + mean
    error_in_sds = np.abs(quantiles - np.quantile(symmetric, LEVELS, axis=0).T) / np.sqrt(variance[0])[:, None]
    assert error_in_sds.max() < 0.04


def test_one_session_ahead_keeps_the_degrees_of_freedom_of_the_innovations():
    coefficients = HorizonCoefficients.of(make_parameters(nu=5.0), (1,))
    np.testing.assert_allclose(coefficients.degrees_of_freedom(np.array([0.3, 4.0])), 5.0, rtol=1e-9)
