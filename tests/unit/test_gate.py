"""The gate: what it compares, what it promotes, what is inconclusive and why, and whose certificate it asks for."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from support.by_hand import sessions_from
from support.certificates import SESSIONS, SYMBOLS, market_data, plan_of, with_a_young_symbol
from support.recipes import tiny_recipe

from swiftbolt.config import parse_config
from swiftbolt.errors import ConfigError, DataError
from swiftbolt.evaluation.backdrop import NO_BACKDROP, Backdrop
from swiftbolt.evaluation.cuts import Cut, Place
from swiftbolt.evaluation.evaluate import Plan
from swiftbolt.evaluation.gate import NOT_ASKED, GateConfig, Verdict, compare, judge, sample_to_certify
from swiftbolt.evaluation.leakage import Certificate, Leak, certify
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.replay import NoProgress
from swiftbolt.evaluation.stages import STAGES
from swiftbolt.features import cross_section
from swiftbolt.features.series import DailySeries
from swiftbolt.folds import make_folds
from swiftbolt.forecast import HORIZONS, MODELS, QUANTILE_COLUMNS, crps_from_quantiles, normal_quantiles
from swiftbolt.providers.base import MarketData
from swiftbolt.sessions import sessions_between
from swiftbolt.universe import Universe

CONFIG = GateConfig()
DATA = market_data()


def forecasts(
    stretch: float = 1.0, *, sessions: int = 300, symbols: int = 5, matured: int | None = None
) -> pl.DataFrame:
    """Normal forecasts whose sd is ``stretch`` times the true one; outcomes are the same whatever that is.

    Args:
        matured: sessions whose outcome is known; None is all.
    """
    rng = np.random.default_rng(3)
    days = sessions_between(date(2010, 1, 4), date(2015, 1, 2))[:sessions].astype(object)
    parts = []
    for horizon in HORIZONS:
        sd = 0.01 * np.sqrt(horizon)
        outcome_N = rng.normal(0, sd, sessions * symbols)
        outcomes = pl.Series(outcome_N).set(
            pl.int_range(len(outcome_N), eager=True) >= symbols * (matured or sessions), None
        )
        quantiles_NQ = normal_quantiles(np.zeros(len(outcome_N)), np.full(len(outcome_N), stretch * sd))
        keys = {
            "symbol": [f"S{s}" for s in range(symbols)] * sessions,
            "origin": np.repeat(days, symbols).tolist(),
            "horizon": np.full(len(outcome_N), horizon, dtype=np.int32),
        }
        quantiles = {name: quantiles_NQ[:, q] for q, name in enumerate(QUANTILE_COLUMNS)}
        parts.append(pl.DataFrame({**keys, **quantiles, "realized": outcomes}))
    return pl.concat(parts)


def certificate(*leaks: Leak, combined: int = 10) -> Certificate:
    compared = {stage: combined if stage == "combination" else 10 for stage in STAGES}
    return Certificate(cuts=(), compared=compared, leaks=leaks, seconds=1.0)


def verdict_on(
    challenger: pl.DataFrame, champion: pl.DataFrame, found: Certificate | str | None = None, **changes: object
) -> Verdict:
    config = CONFIG.model_copy(update=changes)
    return judge(challenger, champion, found or certificate(), config, against="release 3", certified=("AA", "BB"))


def test_a_loss_is_compared_on_common_rows_with_an_outcome_and_every_session_weighs_the_same() -> None:
    first, second, third = sessions_from(3)
    rows = [("AA", first, 0.0), ("BB", first, 0.02), ("AA", second, 0.01), ("BB", second, 0.0), ("AA", third, None)]
    keys = {"symbol": pl.String, "origin": pl.Date, "realized": pl.Float64}
    frame = pl.DataFrame(rows, schema=keys, orient="row").with_columns(horizon=pl.lit(5, dtype=pl.Int32))
    narrow, wide = (
        frame.with_columns(**{name: pl.lit(sd * z) for name, z in zip(QUANTILE_COLUMNS, UNIT, strict=True)})
        for sd in (0.01, 0.02)
    )
    there = wide.filter((pl.col("symbol") != "BB") | (pl.col("origin") != second))
    found = compare(narrow, there, 5)

    def crps(sd: float, outcome: float) -> float:
        return float(crps_from_quantiles(sd * UNIT[None], np.array([outcome]))[0])

    mine = (crps(0.01, 0.0) + crps(0.01, 0.02)) / 2 + crps(0.01, 0.01)
    theirs = (crps(0.02, 0.0) + crps(0.02, 0.02)) / 2 + crps(0.02, 0.01)
    assert found.sessions == 2
    assert found.loss == pytest.approx(mine / theirs - 1)
    assert found.bound is None
    assert found.coverage_95 == pytest.approx(3 / 4)  # its own rows: only 0.02 lies outside 1.96 x 0.01
    assert found.coverage_50 == pytest.approx(2 / 4)


UNIT = normal_quantiles(np.zeros(1), np.ones(1))[0]


def test_where_nothing_is_common_nothing_is_said_and_nothing_promoted() -> None:
    apart = forecasts().with_columns(symbol=pl.lit("else") + pl.col("symbol"))
    found = compare(forecasts(), apart, 1)
    assert (found.sessions, found.loss, found.bound) == (0, None, None)
    verdict = verdict_on(forecasts(), apart)
    assert not verdict.promotes
    assert verdict.reasons[0] == "horizon 1: 0 sessions that both have forecast have an outcome, needs 250"


def test_forecasts_equal_to_the_champions_are_promoted_with_a_bound_of_exactly_zero() -> None:
    verdict = verdict_on(forecasts(), forecasts())
    assert verdict.promotes
    assert verdict.outcome == "promote"
    assert [(found.loss, found.bound) for found in verdict.horizons] == [(0.0, 0.0)] * 3


def test_a_surely_better_challenger_is_promoted_and_the_other_way_round_every_horizon_is_a_reason() -> None:
    assert verdict_on(forecasts(), forecasts(1.6)).promotes
    worse = verdict_on(forecasts(1.6), forecasts(), coverage_95=(0.9, 1.0), coverage_50=(0.4, 0.9))
    assert worse.outcome == "inconclusive"
    assert [reason.split(":")[0] for reason in worse.reasons] == ["horizon 1", "horizon 5", "horizon 20"]
    assert all("promoted below 0.50% worse" in reason for reason in worse.reasons)


def leaning(seed: int) -> pl.DataFrame:
    """Forecasts that lean up or down together, session by session, for no reason."""
    lean_T = np.random.default_rng(seed).normal(0, 0.005, 300)
    frame = forecasts()
    lean_N = np.concatenate([np.repeat(lean_T * np.sqrt(horizon), 5) for horizon in HORIZONS])
    return frame.with_columns(pl.col(QUANTILE_COLUMNS) + pl.Series(lean_N))


def test_a_challenger_that_may_be_worse_by_more_than_allowed_is_not_promoted_even_if_it_did_better() -> None:
    verdict = verdict_on(leaning(1), leaning(4))
    assert len(verdict.reasons) == 3
    for found, reason in zip(verdict.horizons, verdict.reasons, strict=True):
        assert found.loss is not None
        assert found.loss < 0
        assert "better, at the worst " in reason
        assert reason.endswith("% worse; promoted below 0.50% worse")


def test_sessions_without_an_outcome_do_not_count_towards_the_least() -> None:
    verdict = verdict_on(forecasts(matured=249), forecasts(matured=249))
    assert [found.sessions for found in verdict.horizons] == [249] * 3
    assert len(verdict.reasons) == 3
    assert "249 sessions" in verdict.reasons[0]
    assert verdict_on(forecasts(matured=250), forecasts(matured=250)).promotes


def test_no_configuration_lets_fewer_sessions_pass_than_a_bound_needs() -> None:
    with pytest.raises(ConfigError, match="min_sessions"):
        parse_config({"min_sessions": 199}, GateConfig, "gate.yaml")
    assert compare(forecasts(matured=200), forecasts(1.1, matured=200), 1).bound is not None
    assert compare(forecasts(matured=199), forecasts(1.1, matured=199), 1).bound is None


def test_intervals_that_are_too_narrow_or_too_wide_are_a_reason_however_good_the_loss() -> None:
    narrow = verdict_on(forecasts(0.6), forecasts(3.0))
    assert [reason for reason in narrow.reasons if "CRPS" in reason] == []
    assert len(narrow.reasons) == 6
    assert "of outcomes lie in its 95 % intervals, must be 90.0% to 98.5%" in narrow.reasons[0]
    assert "of outcomes lie in its 50 % intervals, must be 40.0% to 60.0%" in narrow.reasons[1]
    assert len(verdict_on(forecasts(2.0), forecasts(3.0)).reasons) == 6


def test_a_leak_is_never_promoted_and_the_reason_names_where() -> None:
    cut = Cut(fold=0, place=Place.TEST, session=date(2013, 1, 2))
    leak = Leak(stage="features", cut=cut, where={"symbol": "AA"}, column="rsi_14", detail="was 1, becomes 2")
    verdict = verdict_on(forecasts(), forecasts(), certificate(leak))
    assert verdict.reasons == (f"it knows the future: {leak}",)
    assert "LEAK, first in features" in str(verdict.certificate)


def test_without_a_certificate_or_with_an_empty_one_nothing_is_promoted() -> None:
    without = verdict_on(forecasts(), forecasts(), "no leak certificate could be made: why")
    assert without.reasons == ("no leak certificate could be made: why",)
    assert without.certificate is None
    assert len(without.lines()) == 5
    assert "compared no forecast" in verdict_on(forecasts(), forecasts(), certificate(combined=0)).reasons[0]


def test_a_verdict_says_everything_to_people_and_as_json() -> None:
    verdict = verdict_on(forecasts(1.6), forecasts())
    lines = verdict.lines()
    assert lines[0] == "gate: inconclusive, against release 3"
    assert lines[1].startswith("  horizon  1: 300 sessions, CRPS ")
    assert "  certificate of AA, BB: no leak: 0 cuts" in lines[4]
    assert [line.removeprefix("  not promoted: ") for line in lines[5:]] == list(verdict.reasons)
    told = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert (told["outcome"], told["against"], told["reasons"]) == ("inconclusive", "release 3", list(verdict.reasons))
    assert told["horizons"][2]["horizon"] == 20
    assert NOT_ASKED.promotes
    assert NOT_ASKED.lines() == ["gate: not asked, to be promoted in any case"]
    assert NOT_ASKED.to_json()["against"] is None


@pytest.mark.parametrize("share", [[0.9, 0.4], [-0.1, 0.5], [0.5, 1.1], [0.5, 0.5]])
def test_bounds_of_coverage_must_be_two_shares_in_order(share: list[float]) -> None:
    with pytest.raises(ConfigError, match="coverage_95: must be two shares, the smaller first"):
        parse_config({"coverage_95": share}, GateConfig, "gate.yaml")


def test_every_key_of_the_gate_is_described() -> None:
    assert all(field.description for field in GateConfig.model_fields.values())


def sampled(
    *models: str, data: MarketData = DATA, count: int = 2, seed: int = 1, market: str | None = None, **changes: object
) -> tuple[Plan, MarketData]:
    plan = plan_of(*(models or ("xgboost",)), count=count)
    universe = Universe(symbols=SYMBOLS, min_sessions=260, market=market)
    config = CONFIG.model_copy(update={"inside_test": 1, **changes})
    return sample_to_certify(plan.recipe, universe, data, NO_BACKDROP, config, seed)


def test_the_sample_is_a_seeded_choice_with_all_that_belongs_to_it() -> None:
    plan, data = sampled(certificate_symbols=2)
    assert plan.universe.symbols == data.bars.symbols
    assert len(data.bars.symbols) == 2
    assert set(data.actions.frame["symbol"]) <= set(data.bars.symbols)
    choices = {sampled(certificate_symbols=2, seed=seed)[0].universe.symbols for seed in range(12)}
    assert choices == {("AA", "BB"), ("AA", "CC"), ("BB", "CC")}
    assert sampled(certificate_symbols=2)[0].universe == plan.universe


def test_the_markets_symbol_is_always_in_the_sample_beside_the_others() -> None:
    for seed in range(6):
        plan, _ = sampled(certificate_symbols=1, market="CC", seed=seed)
        assert plan.universe.market == "CC"
        assert plan.universe.symbols in (("AA", "CC"), ("BB", "CC"))
    alone = replace(DATA, bars=DATA.bars.select(["CC"]))
    assert sampled(data=alone, market="CC")[0].universe.symbols == ("CC",)


def test_the_sample_is_tested_on_the_newest_folds_of_the_whole_recipe() -> None:
    sessions = DATA.bars.frame["session"].unique().sort().to_numpy().astype("datetime64[D]")
    for folds in (1, 2, 5):
        plan, _ = sampled(certificate_folds=folds)
        whole, part = (
            make_folds(sessions, recipe.folds) for recipe in (plan_of("xgboost", count=2).recipe, plan.recipe)
        )
        kept = min(folds, 2)
        assert [fold.test for fold in part] == [fold.test for fold in whole][-kept:]
    assert plan.recipe.models == plan_of("xgboost").recipe.models


def test_a_symbol_too_young_or_gone_is_no_sample_and_without_any_other_there_is_none() -> None:
    plan, data = with_a_young_symbol(plan_of("xgboost"), DATA)
    config = CONFIG.model_copy(update={"certificate_symbols": 9})
    chosen, _ = sample_to_certify(plan.recipe, plan.universe, data, NO_BACKDROP, config, 1)
    assert chosen.universe.symbols == SYMBOLS
    old = replace(plan, universe=plan.universe.model_copy(update={"min_sessions": SESSIONS + 1}))
    with pytest.raises(DataError, match=f"no symbol has the {SESSIONS + 1} sessions"):
        sample_to_certify(old.recipe, old.universe, data, NO_BACKDROP, config, 1)


def certified(plan: Plan, data: MarketData) -> Certificate:
    return certify(plan, data, rng=np.random.default_rng(7), progress=NoProgress(), inside_test=1)


def test_the_certificate_of_a_sample_looks_at_the_vix_as_well() -> None:
    plan = plan_of("xgboost")
    days = DATA.bars.frame["session"].unique().sort().to_numpy().astype("datetime64[D]")
    level_N = 20 * np.exp(np.cumsum(np.random.default_rng(2).normal(0, 0.05, len(days))))
    universe = Universe(symbols=SYMBOLS, min_sessions=260, vix="VIX")
    backdrop = Backdrop(vix=DailySeries(name="VIX", session_N=days, value_N=level_N))
    config = CONFIG.model_copy(update={"certificate_symbols": 2})
    with_vix, data = sample_to_certify(plan.recipe, universe, DATA, backdrop, config, 1)
    without, same = sample_to_certify(plan.recipe, universe, DATA, NO_BACKDROP, config, 1)
    found = certified(with_vix, data)
    assert found.is_clean
    assert found.compared["features"] > certified(without, same).compared["features"]


def test_the_certificate_of_a_sample_is_clean_and_finds_a_planted_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, data = sampled("arima", "xgboost")
    clean = certified(plan, data)
    assert verdict_on(forecasts(), forecasts(), clean).promotes
    honest = cross_section._rank_rows
    monkeypatch.setattr(cross_section, "_rank_rows", lambda values_NS: honest(np.roll(values_NS, -1, axis=0)))
    verdict = verdict_on(forecasts(), forecasts(), certified(plan, data))
    assert not verdict.promotes
    assert verdict.reasons[0].startswith("it knows the future: features: ")


def test_a_recipe_comes_back_from_its_record_whatever_the_order_of_its_keys() -> None:
    recipe = tiny_recipe(*MODELS)
    recorded = json.loads(json.dumps(recipe.to_json(), sort_keys=True))
    assert list(recorded["models"]) != list(recipe.models)
    again = Recipe.from_json(recorded, "run 1")
    assert again == recipe
    assert list(again.models) == list(recipe.models)
    assert again.to_json() == recipe.to_json()


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("models", "prophet"), {}, "run 1: models: no model prophet; known are arima"),
        (("models", "xgboost", "tree_kind"), "oblique", "run 1: xgboost: tree_kind: unknown key"),
        (("models", "xgboost", "rounds"), "many", "run 1: xgboost: rounds: "),
        (("folds", "embargo_sessions"), 1, "run 1: folds: embargo_sessions must be at least"),
        (("ensemble", "prior"), {"arima": 1.0}, "run 1: ensemble.prior: has no weight for xgboost"),
        (("models",), {}, "run 1: models: "),
        (("anything",), 1, "run 1: anything: unknown key"),
    ],
)
def test_a_record_that_this_code_cannot_read_is_refused_by_its_key(
    path: tuple[str, ...], value: object, told: str
) -> None:
    recorded = json.loads(json.dumps(tiny_recipe("xgboost").to_json()))
    *parents, leaf = path
    node = recorded
    for parent in parents:
        node = node[parent]
    node[leaf] = value
    with pytest.raises(ConfigError) as caught:
        Recipe.from_json(recorded, "run 1")
    assert str(caught.value).startswith(told)


def test_a_record_of_no_recipe_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="run 1: folds"):
        Recipe.from_json({}, "run 1")
