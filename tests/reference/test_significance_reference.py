"""Tests of significance, equity and trials against other people's formulas and plain loops."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr
from scipy.stats import t as student
from statsmodels.api import OLS
from statsmodels.stats.multitest import multipletests

from swiftbolt.evaluation import bootstrap, significance
from swiftbolt.evaluation.equity import max_drawdown, sharpe_ratio, trade
from swiftbolt.evaluation.trials import backtest_overfitting, deflated_sharpe, expected_best_sharpe

SEED = 42


def dependent(count: int, seed: int = SEED) -> np.ndarray:
    """Sums of 20 neighbours, as outcomes over 20 sessions are."""
    return np.convolve(np.random.default_rng(seed).standard_t(5, count + 19), np.ones(20), "valid")


@pytest.mark.parametrize("lag", [0, 1, 19, 100])
def test_long_run_variance_is_that_of_statsmodels(lag):
    series_T = dependent(500)
    fitted = OLS(series_T, np.ones(500)).fit(cov_type="HAC", cov_kwds={"maxlags": lag, "use_correction": False})
    found = significance.long_run_variance(series_T - series_T.mean(), lag)
    assert math.sqrt(found / 500) == pytest.approx(float(fitted.bse[0]))


@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_the_correction_with_unit_weights_is_that_of_harvey_leybourne_and_newbold(horizon):
    count = 120
    unit_T = (np.arange(count) < horizon).astype(float)
    published = (count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count
    assert significance.demeaning_bias(unit_T) == pytest.approx(published)


def test_critical_values_are_those_of_kiefer_and_vogelsang():
    # Their polynomials for Bartlett weights, in b = lag / sample; ours include the correction that theirs leave out.
    polynomials = {
        0.90: (1.2816, 1.3040, 0.5135, -0.3386),
        0.95: (1.6449, 2.1859, 0.3142, -0.3427),
        0.975: (1.9600, 2.9694, 0.4160, -0.5324),
    }
    count = 5000
    for share in (0.02, 0.05, 0.1, 0.2):
        weight_T = np.maximum(1 - np.arange(count) / (share * count), 0)
        freedom, bias = significance.degrees_of_freedom(weight_T), significance.demeaning_bias(weight_T)
        for level, coefficients in polynomials.items():
            published = sum(c * share**power for power, c in enumerate(coefficients))
            assert student.ppf(level, freedom) / math.sqrt(bias) == pytest.approx(published, rel=0.02)


def test_rank_correlations_are_scipys_session_by_session():
    rng = np.random.default_rng(SEED)
    session_N = rng.integers(0, 30, 400)
    forecast_N, outcome_N = rng.integers(0, 6, 400).astype(float), rng.integers(0, 6, 400).astype(float)
    sessions_T, ic_T = significance.session_rank_correlations(
        np.datetime64("2020-01-01") + session_N, forecast_N, outcome_N
    )
    for session, ic in zip(sessions_T, ic_T, strict=True):
        mine = np.datetime64("2020-01-01") + session_N == session
        assert ic == pytest.approx(spearmanr(forecast_N[mine], outcome_N[mine]).statistic)
    assert len(ic_T) == 30


def test_holm_is_that_of_statsmodels():
    p_values = np.random.default_rng(SEED).random(12) ** 3
    found = significance.holm({str(i): p for i, p in enumerate(p_values)})
    assert list(found.values()) == pytest.approx(multipletests(p_values, method="holm")[1])


def loop_sample(value_T: np.ndarray, block: int, rng: np.random.Generator) -> np.ndarray:
    """One stationary bootstrap sample, row by row, as Politis and Romano describe it."""
    at, rows = int(rng.integers(len(value_T))), []
    for _ in value_T:
        rows.append(at)
        at = int(rng.integers(len(value_T))) if rng.random() < 1 / block else (at + 1) % len(value_T)
    return value_T[rows]


def test_resampled_means_vary_like_those_of_a_loop_and_as_the_closed_form_says():
    value_T, block, draws = dependent(150), 25, 3000
    rng = np.random.default_rng(SEED)
    fast = bootstrap.resampled_means(value_T[:, None], block, draws, rng)[:, 0]
    slow = np.array([loop_sample(value_T, block, rng).mean() for _ in range(draws // 3)])
    centred_T, count = value_T - value_T.mean(), len(value_T)
    variance = centred_T @ centred_T / count
    for k in range(1, count):
        # Politis and Romano (1994), section 2: the weight of the k-th autocovariance.
        weight = (1 - k / count) * (1 - 1 / block) ** k + k / count * (1 - 1 / block) ** (count - k)
        variance += 2 * weight * (centred_T[k:] @ centred_T[:-k]) / count
    closed = math.sqrt(variance / count)
    assert fast.std() == pytest.approx(closed, rel=0.05)
    assert slow.std() == pytest.approx(closed, rel=0.08)
    assert fast.mean() == pytest.approx(value_T.mean(), abs=4 * closed / math.sqrt(draws))


def test_samples_are_of_whole_length_and_every_row_is_as_likely():
    found_DK = bootstrap.resampled_means(np.eye(40), 20, 4000, np.random.default_rng(SEED))
    np.testing.assert_allclose(found_DK.sum(axis=1), 1.0)
    np.testing.assert_allclose(found_DK.mean(axis=0), 1 / 40, rtol=0.1)


def test_pesaran_timmermann_is_the_published_statistic_on_independent_sessions():
    rng = np.random.default_rng(SEED)
    count = 1500
    forecast_N, outcome_N = rng.standard_normal(count), rng.standard_normal(count) + 0.2
    outcome_N += 0.1 * forecast_N
    p_up_N = 0.5 + 0.4 * np.tanh(forecast_N)
    right = np.mean((forecast_N > 0) == (outcome_N > 0))
    x, y = np.mean(forecast_N > 0), np.mean(outcome_N > 0)
    chance = x * y + (1 - x) * (1 - y)
    variance = chance * (1 - chance) / count
    variance_of_chance = (
        (2 * y - 1) ** 2 * x * (1 - x) / count
        + (2 * x - 1) ** 2 * y * (1 - y) / count
        + 4 * x * y * (1 - x) * (1 - y) / count**2
    )
    published = (right - chance) / math.sqrt(variance - variance_of_chance)
    found = bootstrap.pesaran_timmermann(np.datetime64("2010-01-01") + np.arange(count), p_up_N, outcome_N, 1, rng)
    assert found.excess == pytest.approx(right - chance)
    assert found.statistic == pytest.approx(published, rel=0.15)


def test_the_upper_bound_covers_the_true_ratio_as_often_as_it_says():
    rng = np.random.default_rng(SEED)
    covered = 0
    for _ in range(600):
        own, reference, both = np.exp(0.3 * np.array([dependent(1500, seed) / 6 for seed in rng.integers(0, 2**31, 3)]))
        loss_T, reference_T = both * own, both * reference  # equal in expectation
        covered += significance.relative_loss_upper_bound(loss_T, reference_T, 20) > 0
    assert 0.93 <= covered / 600 <= 0.97


def loop_equity(p_up_ST, open_ST, close_ST, *, horizon: int, threshold: float, cost: float) -> dict[int, float]:
    """The rule for prices without gaps, sleeve by sleeve: net return of each session."""
    symbols, sessions = p_up_ST.shape
    sleeves: dict[int, np.ndarray] = {}
    net, before = {}, np.zeros(symbols)
    for s in range(1, sessions):
        sides = np.zeros(symbols)
        for i in range(symbols):
            p_up = p_up_ST[i, s - 1]
            if p_up == p_up and max(p_up, 1 - p_up) >= threshold and p_up != 0.5:
                sides[i] = 1 if p_up > 0.5 else -1
        sleeves[s] = sides / max(1, np.abs(sides).sum()) / horizon
        sleeves.pop(s - horizon, None)
        held = sum(sleeves.values())
        night = 1 + sum(before * (open_ST[:, s] / close_ST[:, s - 1] - 1))
        day = 1 + sum(held * (close_ST[:, s] / open_ST[:, s] - 1))
        net[s] = night * (1 - cost * sum(abs(held - before))) * day - 1
        before = held
    return net


@pytest.mark.parametrize(("horizon", "threshold"), [(1, 0.5), (5, 0.6), (20, 0.55)])
def test_the_rule_is_what_a_loop_over_sleeves_earns(horizon, threshold):
    rng = np.random.default_rng(SEED)
    path = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (5, 120)), axis=1))
    p_up_ST = np.where(rng.random((5, 60)) < 0.1, np.nan, np.round(rng.random((5, 60)), 2))
    settings = {"horizon": horizon, "threshold": threshold, "cost": 0.0005}
    found = trade(
        np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]"), p_up_ST, path[:, ::2], path[:, 1::2], **settings
    )
    assert found.net_T == pytest.approx(list(loop_equity(p_up_ST, path[:, ::2], path[:, 1::2], **settings).values()))


def test_drawdown_is_the_worst_fall_between_any_two_sessions():
    net_T = 0.02 * np.random.default_rng(SEED).standard_normal(80)
    wealth = np.concatenate(([1.0], np.cumprod(1 + net_T)))
    worst = min(wealth[j] / wealth[i] - 1 for i in range(81) for j in range(i, 81))
    assert max_drawdown(net_T) == pytest.approx(worst)


def strategies(trials: int, sessions: int) -> np.ndarray:
    rng = np.random.default_rng(SEED)
    return 0.01 * rng.standard_t(5, (trials, sessions)) + 0.0005 * rng.standard_normal((trials, 1))


def test_overfitting_is_what_a_loop_over_the_halves_counts():
    returns_NT = strategies(12, 197)
    blocks = np.array_split(np.arange(197), 6)
    below = []
    for half in combinations(range(6), 3):
        inside = np.concatenate([blocks[b] for b in half])
        outside = np.setdiff1d(np.arange(197), inside)
        best = int(np.argmax([sharpe_ratio(row[inside]) for row in returns_NT]))
        rank = rankdata([sharpe_ratio(row[outside]) for row in returns_NT])[best]
        below.append(math.log(rank / (13 - rank)) <= 0)
    assert backtest_overfitting(returns_NT, blocks=6).probability == pytest.approx(np.mean(below))


def test_overfitting_and_deflation_are_those_of_purgedcv():
    purgedcv = pytest.importorskip("purgedcv", reason="the oracle purgedcv is not installed")
    returns_NT = strategies(20, 320)
    oracle = purgedcv.probability_of_backtest_overfitting(returns_NT, n_splits=8)
    assert backtest_overfitting(returns_NT, blocks=8).probability == pytest.approx(oracle.pbo)
    variance = float(np.var([sharpe_ratio(row) for row in returns_NT], ddof=1))
    best = int(np.argmax([sharpe_ratio(row) for row in returns_NT]))
    found = deflated_sharpe(returns_NT, best)
    full = purgedcv.deflated_sharpe_ratio_full(returns_NT[best], found.clusters, variance)
    assert found.clusters == 20
    assert (found.benchmark, found.benchmark) == (pytest.approx(full.sr_star), expected_best_sharpe(variance, 20))
    # The oracle divides by the number of returns where we divide by one less.
    assert found.probability == pytest.approx(full.dsr, abs=2e-3)
    assert 0.05 < found.probability < 0.95
