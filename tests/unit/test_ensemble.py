"""Weights, calibration, confidence: each against numbers one can work out."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit, ndtri
from threadpoolctl import threadpool_limits

from swiftbolt.config import load_config, parse_config
from swiftbolt.ensemble.calibration import IDENTITY, CalibrationMap, calibrate, fit_calibration, shifted_to
from swiftbolt.ensemble.confidence import agreement, confidence, direction, obstacle, signal
from swiftbolt.ensemble.weights import (
    EnsembleConfig,
    EnsembleState,
    combine,
    fit_ensemble,
    fit_weights,
    prior_weights,
)
from swiftbolt.errors import ArtifactMismatch, ConfigError, DataError
from swiftbolt.forecast import HORIZONS, LEVELS, Forecasts, crps_from_quantiles, normal_quantiles, probability_of_rise
from swiftbolt.sessions import all_sessions

DAYS = all_sessions()[10_000:10_600]
MEDIAN = LEVELS.index(0.5)
EVEN = np.array([0.5, 0.5])


def forecasts(model: str, mean_N, sd: float = 0.01, *, symbol: str = "A", days=None) -> Forecasts:
    """Normal forecasts on successive sessions, the same at every horizon."""
    mean_N = np.asarray(mean_N, dtype=np.float64)
    quantiles_NQ = normal_quantiles(mean_N, np.full(len(mean_N), sd))
    return Forecasts(
        model=model,
        horizons=HORIZONS,
        symbol_N=np.array([symbol] * len(mean_N)),
        origin_N=DAYS[: len(mean_N)] if days is None else days,
        quantiles_NHQ=np.repeat(quantiles_NQ[:, None], len(HORIZONS), axis=1),
    )


def state(weights: dict[str, float], maps=(IDENTITY,) * 3) -> EnsembleState:
    return EnsembleState(
        horizons=HORIZONS,
        weights={name: (weight,) * 3 for name, weight in weights.items()},
        calibration=tuple(maps),
        calibrated=any(m != IDENTITY for m in maps),
        sessions=(0, 0, 0),
        confidence_threshold=0.55,
        round_trip_cost=0.001,
    )


def realized(y_N, days=DAYS, symbol: str = "A") -> pl.DataFrame:
    """Outcomes, the same at every horizon."""
    frame = pl.DataFrame({"symbol": symbol, "origin": pl.Series(days[: len(y_N)], dtype=pl.Date), "realized": y_N})
    return frame.join(pl.DataFrame({"horizon": pl.Series(HORIZONS, dtype=pl.Int32)}), how="cross")


# Weights


def test_fitted_weights_find_the_member_that_knows():
    y_N = np.random.default_rng(0).normal(0, 0.02, 400)
    noise_N = np.random.default_rng(1).normal(0, 0.02, 400)
    quantiles_MNQ = np.stack([normal_quantiles(y_N + 0.001 * noise_N, np.full(400, 0.001)),
                              normal_quantiles(noise_N, np.full(400, 0.02))])  # fmt: skip
    weights_M = fit_weights(quantiles_MNQ, y_N, EVEN, trust=1.0)
    assert weights_M[0] > 0.95
    assert weights_M.sum() == pytest.approx(1.0, abs=1e-12)
    assert (weights_M >= 0).all()


def test_two_members_wrong_in_opposite_directions_are_mixed_where_their_errors_cancel():
    y_N = np.random.default_rng(0).normal(0, 0.01, 4000)
    # Errors of +3 % and -1 % cancel at weights of one and three quarters.
    quantiles_MNQ = np.stack([normal_quantiles(np.full(4000, 0.03), np.full(4000, 0.01)),
                              normal_quantiles(np.full(4000, -0.01), np.full(4000, 0.01))])  # fmt: skip
    assert fit_weights(quantiles_MNQ, y_N, EVEN, trust=1.0) == pytest.approx([0.25, 0.75], abs=0.02)


def test_fitted_weights_score_no_worse_than_the_prior_or_any_single_member():
    rng = np.random.default_rng(3)
    y_N = rng.standard_t(4, 300) * 0.01
    quantiles_MNQ = normal_quantiles(rng.normal(0, 0.005, (4, 300)), rng.uniform(0.005, 0.02, (4, 300)))
    prior_M = np.array([0.2, 0.35, 0.25, 0.2])

    def score(weights_M):
        return np.mean(crps_from_quantiles(np.tensordot(weights_M, quantiles_MNQ, axes=1), y_N))

    best = score(fit_weights(quantiles_MNQ, y_N, prior_M, trust=1.0))
    grid = rng.dirichlet(np.ones(4), 300)
    assert best <= min(score(prior_M), *(score(row) for row in np.eye(4)), *(score(row) for row in grid)) + 1e-9


def test_without_trust_weights_are_the_prior_and_with_half_of_it_they_lie_half_way():
    y_N = np.linspace(-0.02, 0.02, 101)
    quantiles_MNQ = np.stack([normal_quantiles(y_N, np.full(101, 1e-4)), normal_quantiles(-y_N, np.full(101, 0.02))])
    prior_M = np.array([0.2, 0.8])
    assert fit_weights(quantiles_MNQ, y_N, prior_M, trust=0.0) == pytest.approx(prior_M, abs=1e-15)
    assert fit_weights(quantiles_MNQ, y_N, prior_M, trust=0.5) == pytest.approx([0.6, 0.4], abs=0.01)


def test_prior_weights_of_absent_members_are_shared_out_among_the_present():
    prior = EnsembleConfig().prior
    assert prior_weights(("arima", "xgboost"), prior) == pytest.approx([0.20 / 0.55, 0.35 / 0.55])
    with pytest.raises(ConfigError, match="no weight for oracle"):
        prior_weights(("oracle",), prior)


def test_an_ensemble_that_has_seen_too_few_sessions_keeps_the_prior_and_says_so():
    days = 499
    members = {"arima": forecasts("arima", np.zeros(days)), "lstm": forecasts("lstm", np.ones(days))}
    fitted = fit_ensemble(members, realized(np.zeros(days)), EnsembleConfig())
    assert fitted.weights["arima"] == pytest.approx([0.20 / 0.45] * 3)
    assert fitted.sessions == (499, 499, 499)
    assert not fitted.calibrated
    assert set(fitted.calibration) == {IDENTITY}


def test_an_ensemble_trusts_its_weights_by_independent_sessions():
    y_N = np.random.default_rng(0).normal(0, 0.01, 500)
    members = {"arima": forecasts("arima", y_N, 1e-3), "lstm": forecasts("lstm", -y_N, 0.03)}
    config = EnsembleConfig(prior={"arima": 0.0, "lstm": 1.0}, shrinkage_sessions=250)
    weights = fit_ensemble(members, realized(y_N), config).weights["arima"]
    # All trust would be 1; there are 500, 100 and 25 independent outcomes against 250.
    assert weights == pytest.approx([500 / 750, 100 / 350, 25 / 275], abs=0.01)


def test_a_wild_stretch_does_not_outvote_the_calm_one():
    # While it is calm the first hits to a hundredth of a percent and the second misses by 0.9; when wild, the reverse.
    y_N = np.tile([0.01, -0.01], 300)
    wild_N = np.arange(600) >= 400
    scale_N = np.where(wild_N, 100.0, 1.0)
    good, poor = 0.0001, 0.009
    parts = {"arima": np.where(wild_N, poor, good), "lstm": np.where(wild_N, good, poor)}
    members = {
        name: Forecasts(
            model=name,
            horizons=HORIZONS,
            symbol_N=np.full(600, "A"),
            origin_N=DAYS,
            quantiles_NHQ=np.repeat(normal_quantiles(scale_N * (y_N + miss_N), scale_N * 0.001)[:, None], 3, axis=1),
        )
        for name, miss_N in parts.items()
    }
    config = EnsembleConfig(prior={"arima": 0.5, "lstm": 0.5}, shrinkage_sessions=0)
    # Two thirds of the sessions are calm; in returns, the errors of the others are a hundred times as large.
    assert min(fit_ensemble(members, realized(scale_N * y_N), config).weights["arima"]) > 0.7


def test_only_rows_that_every_member_has_and_that_matured_teach_anything():
    members = {"arima": forecasts("arima", np.zeros(30)), "lstm": forecasts("lstm", np.zeros(20))}
    outcome = realized(np.zeros(30)).with_columns(
        realized=pl.when(pl.col("origin") < pl.lit(DAYS[5].astype(object)))
        .then(float("nan"))
        .otherwise(pl.col("realized"))
    )
    assert fit_ensemble(members, outcome, EnsembleConfig()).sessions == (15, 15, 15)


def test_what_an_ensemble_learns_does_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    days = DAYS[:500]
    members, outcomes = {"arima": [], "xgboost": [], "lstm": []}, []
    for s in range(40):  # enough rows for BLAS to share them out
        for name, parts in members.items():
            parts.append(forecasts(name, 0.002 * rng.standard_normal(500), 0.012, symbol=f"S{s:02d}", days=days))
        outcomes.append(realized(0.012 * rng.standard_normal(500), days, f"S{s:02d}"))
    joined = {name: Forecasts.concatenate(parts) for name, parts in members.items()}
    states = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            states.append(fit_ensemble(joined, pl.concat(outcomes), EnsembleConfig()))
    assert states[0].calibrated
    assert states[0].to_json() == states[1].to_json()


def test_the_calibration_of_an_ensemble_that_is_always_too_hopeful_lowers_the_chance_of_a_rise():
    y_N = np.where(np.arange(600) % 10 < 4, 0.01, -0.01)  # rises four times in ten
    members = {"arima": forecasts("arima", np.full(600, 0.002))}  # says 58 %
    fitted = fit_ensemble(members, realized(y_N), EnsembleConfig(calibration_shift_sd=10.0, calibration_slope_sd=0.01))
    assert fitted.calibrated
    assert combine(members, fitted).p_up_NH[0] == pytest.approx([0.4, 0.4, 0.4], abs=0.005)


# Combination


def test_combination_averages_quantiles():
    members = {"arima": forecasts("arima", [0.01], 0.01), "lstm": forecasts("lstm", [0.03], 0.02)}
    combined = combine(members, state({"arima": 0.25, "lstm": 0.75}))
    # Averaged normal quantiles are those of a normal with averaged mean and averaged spread.
    assert combined.model == "ensemble"
    assert combined.quantiles_NHQ[0, 0] == pytest.approx(normal_quantiles(np.float64(0.025), np.float64(0.0175)))


def test_a_linear_pool_averages_probabilities():
    members = {"arima": forecasts("arima", [-0.1], 0.01), "lstm": forecasts("lstm", [0.1], 0.01)}
    combined = combine(members, replace(state({"arima": 0.3, "lstm": 0.7}), pool="linear"))
    # Far apart, each member is alone on its side: the 25 % quantile of the whole is the first's at 25/30.
    found_Q = combined.quantiles_NHQ[0, 0]
    assert found_Q[0] == pytest.approx(-0.1 + 0.01 * ndtri(0.025 / 0.3), abs=1e-6)
    assert found_Q[2] == pytest.approx(-0.1 + 0.01 * ndtri(0.25 / 0.3), abs=1e-6)
    assert found_Q[5] == pytest.approx(0.1 + 0.01 * ndtri(1 - 0.05 / 0.7), abs=1e-6)


def test_a_linear_pool_of_equal_members_or_of_one_is_that_member():
    one = forecasts("arima", [0.01, 0.02])
    members = {"arima": one, "lstm": forecasts("lstm", [0.01], days=DAYS[:1])}
    found = combine(members, replace(state({"arima": 0.3, "lstm": 0.7}), pool="linear"))
    assert found.quantiles_NHQ == pytest.approx(one.quantiles_NHQ, abs=1e-15)


def test_combination_stretches_the_intervals_after_calibration_and_keeps_its_probability():
    members = {"arima": forecasts("arima", [0.004], 0.01)}
    maps = [CalibrationMap(intercept=0.1, slope=0.5)] * 3
    plain = combine(members, state({"arima": 1.0}, maps))
    wider = combine(members, replace(state({"arima": 1.0}, maps), widths=((1.0, 1.2, 1.5),) * 3))
    assert wider.p_up_NH == pytest.approx(plain.p_up_NH, abs=1e-9)
    before_Q, after_Q = plain.quantiles_NHQ[0, 0], wider.quantiles_NHQ[0, 0]
    for (low, high), factor in (((2, 4), 1.0), ((1, 5), 1.2), ((0, 6), 1.5)):
        assert after_Q[high] - after_Q[low] == pytest.approx(factor * (before_Q[high] - before_Q[low]))


def test_a_missing_member_leaves_its_weight_to_the_others_row_by_row():
    members = {
        "arima": forecasts("arima", [0.01, 0.01, 0.01]),
        "xgboost": forecasts("xgboost", [0.02], days=DAYS[1:2]),
        "lstm": forecasts("lstm", [0.04, 0.04], days=DAYS[1:3]),
    }
    combined = combine(members, state({"arima": 0.5, "xgboost": 0.25, "lstm": 0.25}))
    assert combined.origin_N.tolist() == DAYS[:3].tolist()
    expected = [0.01, 0.5 * 0.01 + 0.25 * 0.02 + 0.25 * 0.04, (0.5 * 0.01 + 0.25 * 0.04) / 0.75]
    assert combined.quantiles_NHQ[:, 0, MEDIAN] == pytest.approx(expected)


@pytest.mark.parametrize("pool", ["quantiles", "linear"])
def test_a_row_combined_alone_has_the_bits_it_has_among_many(pool):
    rng = np.random.default_rng(0)
    members = {name: forecasts(name, rng.normal(0, 0.01, 50)) for name in ("transformer", "arima", "lstm")}
    weights = state({"lstm": 0.3, "arima": 0.5, "transformer": 0.2}, [CalibrationMap(intercept=0.05, slope=0.8)] * 3)
    weights = replace(weights, pool=pool, widths=((1.1, 0.9, 1.2),) * 3)
    many = combine(members, weights)
    alone = combine({name: part.take(np.array([17])) for name, part in reversed(members.items())}, weights)
    assert np.array_equal(alone.quantiles_NHQ[0], many.quantiles_NHQ[17])


def test_combination_comes_sorted_and_leaves_unknown_members_aside():
    both = Forecasts.concatenate([forecasts("arima", [0.0], symbol="B"), forecasts("arima", [0.0], symbol="A")])
    stranger = forecasts("oracle", [0.5], symbol="C")
    combined = combine({"arima": both, "oracle": stranger}, state({"arima": 1.0}))
    assert combined.symbol_N.tolist() == ["A", "B"]
    assert len(combine({"oracle": stranger}, state({"arima": 1.0}))) == 0
    assert len(combine({"arima": Forecasts.empty("arima")}, state({"arima": 1.0}))) == 0


def test_combination_refuses_other_horizons_and_double_rows():
    one = forecasts("arima", [0.0])
    short = Forecasts(model="arima", horizons=(1,), symbol_N=one.symbol_N, origin_N=one.origin_N,
                      quantiles_NHQ=one.quantiles_NHQ[:, :1])  # fmt: skip
    with pytest.raises(DataError, match="horizons"):
        combine({"arima": short}, state({"arima": 1.0}))
    with pytest.raises(DataError, match="twice"):
        combine({"arima": Forecasts.concatenate([one, one])}, state({"arima": 1.0}))


# State


def test_the_state_survives_json_and_pickling_bit_for_bit():
    odd = EnsembleState(
        horizons=HORIZONS,
        weights={"lstm": (1 / 3, 0.1, 0.2), "arima": (2 / 3, 0.9, 0.8)},
        calibration=(CalibrationMap(intercept=0.1 + 0.2, slope=1 / 7), IDENTITY, IDENTITY),
        calibrated=True,
        sessions=(610, 606, 591),
        confidence_threshold=0.55,
        round_trip_cost=0.001,
        pool="linear",
        widths=((0.1 + 0.2, 1.0, 1 / 7), (1.0, 1.1, 1.2), (1.0, 1.0, 1.0)),
    )
    assert EnsembleState.from_json(odd.to_json()) == odd
    assert EnsembleState.from_json(odd.to_json()).to_json() == odd.to_json()
    assert pickle.loads(pickle.dumps(odd)) == odd
    assert odd.members == ("arima", "lstm")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"horizons": 3}'])
def test_what_is_not_a_state_is_refused(text):
    with pytest.raises(ArtifactMismatch, match="not the state of an ensemble"):
        EnsembleState.from_json(text)


@pytest.mark.parametrize("weights", [{"arima": 0.9}, {"arima": 1.5, "lstm": -0.5}, {}])
def test_weights_off_the_simplex_are_refused(weights):
    with pytest.raises(DataError):
        state(weights)


@pytest.mark.parametrize(
    "changes",
    [
        {"widths": ((1.0, 1.0, 1.0),) * 2},
        {"widths": ((1.0, 1.0),) * 3},
        {"widths": ((1.0, 1.0, 0.0),) * 3},
        {"widths": ((1.0, 1.0, float("inf")),) * 3},
        {"pool": "median"},
    ],
)
def test_widths_that_are_not_positive_factors_for_every_horizon_and_unknown_pools_are_refused(changes):
    with pytest.raises(DataError, match="ensemble: "):
        replace(state({"arima": 1.0}), **changes)


def test_a_state_that_was_told_no_widths_leaves_intervals_as_they_are():
    assert state({"arima": 1.0}).widths == ((1.0, 1.0, 1.0),) * 3


def test_the_shipped_ensemble_configuration_is_the_default_one():
    assert load_config(Path(__file__).parents[2] / "configs/ensemble.yaml", EnsembleConfig) == EnsembleConfig()
    with pytest.raises(ConfigError, match="must not be negative"):
        parse_config({"prior": {"arima": -1.0}}, EnsembleConfig, "ensemble.yaml")


# Calibration


@pytest.mark.parametrize("p_up", [0.001, 0.3, 0.5, 0.62, 0.999])
def test_a_shift_gives_exactly_the_probability_asked_for_and_keeps_the_shape(p_up):
    quantiles_NQ = np.array(
        [[-0.05, -0.03, -0.01, 0.002, 0.012, 0.04, 0.07], [0.001, 0.002, 0.004, 0.01, 0.02, 0.05, 0.09]]
    )
    moved_NQ = shifted_to(quantiles_NQ, np.full(2, p_up))
    assert probability_of_rise(moved_NQ) == pytest.approx([p_up, p_up], abs=1e-12)
    assert np.diff(moved_NQ, axis=1) == pytest.approx(np.diff(quantiles_NQ, axis=1), abs=1e-15)


def test_calibration_maps_the_odds_of_the_horizon_it_is_for_and_touches_no_other():
    before = forecasts("ensemble", [0.005, -0.002])
    maps = [IDENTITY, CalibrationMap(intercept=0.1, slope=0.5), IDENTITY]
    after = calibrate(before, maps)
    expected_N = expit(0.1 + 0.5 * logit(before.p_up_NH[:, 1]))
    assert after.p_up_NH[:, 1] == pytest.approx(expected_N, abs=1e-12)
    assert np.array_equal(after.quantiles_NHQ[:, [0, 2]], before.quantiles_NHQ[:, [0, 2]])


def test_a_fitted_map_finds_the_odds_behind_the_outcomes():
    rng = np.random.default_rng(0)
    p_N = rng.uniform(0.2, 0.8, 20_000)
    rose_N = rng.random(20_000) < expit(-0.2 + 0.5 * logit(p_N))
    found = fit_calibration(p_N, np.where(rose_N, 1.0, -1.0), independent=20_000, shift_sd=1.0, slope_sd=1.0)
    assert (found.intercept, found.slope) == (pytest.approx(-0.2, abs=0.05), pytest.approx(0.5, abs=0.06))


def test_a_map_from_few_independent_outcomes_stays_near_the_identity():
    p_N, rose_N = np.full(5000, 0.5), np.ones(5000)
    # One independent outcome, always a rise: half a unit of log likelihood per unit of odds, against a spread of 0.1.
    found = fit_calibration(p_N, rose_N, independent=1.0, shift_sd=0.1, slope_sd=0.5)
    assert found.intercept == pytest.approx(0.5 * 0.1**2, rel=0.01)
    assert found.slope == pytest.approx(1.0)


def test_a_map_never_turns_forecasts_round():
    p_N = np.array([0.3, 0.7] * 500)
    found = fit_calibration(p_N, np.where(p_N > 0.5, -1.0, 1.0), independent=1000, shift_sd=1.0, slope_sd=1.0)
    assert found.slope == 0.0


# Confidence and signal


def test_confidence_is_the_probability_of_the_direction():
    assert (direction(0.6), confidence(0.6)) == ("UP", 0.6)
    assert (direction(0.4), confidence(0.4)) == ("DOWN", 0.6)
    assert (direction(0.5), confidence(0.5)) == ("UP", 0.5)


def test_agreement_counts_the_members_on_the_side_of_the_ensemble():
    assert agreement([0.01, 0.02, -0.01, 0.0], p_up=0.7) == 0.5
    assert agreement([0.01, 0.02, -0.01, 0.0], p_up=0.3) == 0.25
    with pytest.raises(ValueError, match="at least one member"):
        agreement([], p_up=0.5)


@pytest.mark.parametrize(
    ("p_up", "median", "expected"),
    [
        (0.60, 0.02, "BUY"),
        (0.40, -0.02, "SELL"),
        (0.55, 0.02, "BUY"),  # the threshold itself suffices
        (0.54, 0.02, "HOLD"),  # not confident enough
        (0.60, 0.0009, "HOLD"),  # 9 bp do not pay for 10
        (0.40, -0.0009, "HOLD"),
        (0.40, -0.0011, "SELL"),
    ],
)
def test_a_signal_needs_confidence_and_a_gain_above_its_cost(p_up, median, expected):
    assert signal(p_up, median, threshold=0.55, cost=0.001) == expected
    assert (obstacle(p_up, median, threshold=0.55, cost=0.001) is None) == (expected != "HOLD")
