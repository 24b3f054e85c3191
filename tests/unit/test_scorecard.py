"""The scorecard: on a frame small enough to reckon, and on a market where it is known who has skill."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from support.skill_market import Market, forecasts_of

from swiftbolt.errors import DataError, SchemaError
from swiftbolt.evaluation.claims import TESTS
from swiftbolt.evaluation.equity import simple_rule
from swiftbolt.evaluation.scorecard import build_scorecard, ordered_scores, summary_lines
from swiftbolt.forecast import Forecasts, crps_from_quantiles, normal_quantiles
from swiftbolt.models.explanations import Importance

ORIGINS = np.array(["2013-02-25", "2013-02-26", "2013-02-27"], dtype="datetime64[D]")
OUTCOMES = [0.01, -0.02, None]  # the last has not matured


def rows(model: str, means, sd: float = 0.01, horizons=(1,), symbol: str = "IBM", outcomes=OUTCOMES) -> pl.DataFrame:
    quantiles_NQ = normal_quantiles(np.array(means), np.full(len(means), sd))
    forecasts = Forecasts(
        model=model,
        horizons=horizons,
        symbol_N=np.array([symbol] * len(means)),
        origin_N=ORIGINS[: len(means)],
        quantiles_NHQ=np.repeat(quantiles_NQ[:, None], len(horizons), axis=1),
    )
    realized = np.repeat(np.array(outcomes[: len(means)], dtype=np.float64), len(horizons))
    return forecasts.to_frame().with_columns(
        fold=pl.lit(0, dtype=pl.Int32), realized=pl.Series(realized, dtype=pl.Float64).fill_nan(None)
    )


FRAME = pl.concat(
    [
        rows("naive", [0.0, 0.0, 0.0]),
        rows("ensemble", [0.005, 0.005, 0.005]),
        rows("arima", [0.005, -0.005], sd=0.02),
    ]
)


def test_the_scorecard_scores_matured_rows_only():
    scores = build_scorecard(FRAME)["models"]["ensemble"]["1"]
    assert (scores["forecasts"], scores["n"], scores["sessions"], scores["common"]) == (3, 2, 2, 2)
    quantiles_NQ = normal_quantiles(np.array([0.005, 0.005]), np.array([0.01, 0.01]))
    assert scores["crps"] == pytest.approx(np.mean(crps_from_quantiles(quantiles_NQ, np.array([0.01, -0.02]))))
    assert scores["directional_accuracy"] == 0.5
    # Errors are 0.005 and -0.025: the second lies outside 95 % (2.5 sd), the first inside half (0.5 sd).
    assert scores["rmse"] == pytest.approx(np.sqrt((0.005**2 + 0.025**2) / 2))
    assert scores["mae"] == pytest.approx(0.015)
    assert (scores["coverage_95"], scores["coverage_90"], scores["coverage_50"]) == (0.5, 0.5, 0.5)
    assert scores["r2"] == pytest.approx(1 - (0.005**2 + 0.025**2) / (0.01**2 + 0.02**2))
    # p_up is Phi(1/2) = 0.6915 twice, and one of two rose.
    assert scores["calibration_error"] == pytest.approx(0.691462 - 0.5, abs=1e-6)


def test_skill_is_against_naive_on_the_rows_both_forecast():
    frame = pl.concat([FRAME.filter(pl.col("model") != "arima"), rows("arima", [0.01], sd=0.002)])
    scores = build_scorecard(frame)["models"]
    y = np.array([0.01])
    own = crps_from_quantiles(normal_quantiles(np.array([0.01]), np.array([0.002])), y)[0]
    naive = crps_from_quantiles(normal_quantiles(np.array([0.0]), np.array([0.01])), y)[0]
    assert scores["arima"]["1"]["skill"] == pytest.approx(1 - own / naive)
    assert scores["arima"]["1"]["common"] == 1
    assert scores["naive"]["1"]["skill"] == 0.0


def test_without_naive_there_is_no_skill_and_without_outcomes_no_score():
    alone = build_scorecard(rows("arima", [0.0, 0.0]))["models"]["arima"]["1"]
    assert (alone["skill"], alone["common"], alone["n"]) == (None, 0, 2)
    young = build_scorecard(rows("arima", [0.0], outcomes=[None]))["models"]["arima"]["1"]
    assert (young["forecasts"], young["n"], young["crps"], young["coverage_95"]) == (1, 0, None, None)


def test_the_scorecard_is_plain_json_that_does_not_depend_on_the_order_of_rows():
    card = build_scorecard(FRAME, {"adjustment": "raw prices", "skipped": {"FB": "too short"}})
    text = json.dumps(card, sort_keys=True, allow_nan=False)
    assert json.loads(text) == card
    shuffled = FRAME.sample(fraction=1.0, shuffle=True, seed=5)
    assert build_scorecard(shuffled, {"adjustment": "raw prices", "skipped": {"FB": "too short"}}) == card


def test_the_scorecard_says_what_it_rests_on_and_how_far_the_goals_are():
    card = build_scorecard(FRAME, {"adjustment": "raw prices with dividends and splits"})
    assert card["prices"] == "raw prices with dividends and splits"
    assert "delisted" in card["survivorship"]
    assert card["goals"]["directional_accuracy"]["goal"] == 0.62
    assert card["goals"]["directional_accuracy"]["measured"] == {"1": 0.5}
    assert card["goals"]["directional_accuracy"]["reached"] == {"1": False}
    for name, goal in (("sharpe", 1.2), ("max_drawdown", -0.15)):
        assert (card["goals"][name]["goal"], card["goals"][name]["measured"]) == (goal, None)
        assert card["goals"][name]["reason"]
    assert card["origins"] == {"first": "2013-02-25", "last": "2013-02-27", "sessions": 3}
    assert build_scorecard(FRAME)["prices"] == "not stated"


def test_models_come_baselines_first_and_horizons_ascending_even_after_json_sorted_them():
    frame = pl.concat([rows(m, [0.0, 0.0], horizons=(1, 5, 20)) for m in ("zebra", "ensemble", "naive", "arima")])
    card = json.loads(json.dumps(build_scorecard(frame), sort_keys=True))
    assert [(name, h) for name, h, _ in ordered_scores(card)] == [
        (name, h) for name in ("naive", "arima", "ensemble", "zebra") for h in (1, 5, 20)
    ]


def test_a_frame_that_is_not_one_of_forecasts_is_refused():
    with pytest.raises(SchemaError, match="lack the column realized"):
        build_scorecard(FRAME.drop("realized"))
    with pytest.raises(DataError, match="naive forecasts IBM 2013-02-25 1 twice"):
        build_scorecard(pl.concat([FRAME, rows("naive", [0.0])]))


def test_the_summary_has_a_line_per_model_and_horizon_the_goals_and_the_claims():
    lines = summary_lines(build_scorecard(FRAME, {"adjustment": "as given"}))
    assert lines[0] == "1 symbol, 3 sessions from 2013-02-25 to 2013-02-27"
    assert [line.split()[0] for line in lines[2:5]] == ["naive", "arima", "ensemble"]
    assert lines[5:] == [
        "directional accuracy 50.0% (1); the roadmap's goal is 62%",
        "Sharpe ratio not measured (no prices were handed in); the roadmap's goal is 1.2",
        "maximum drawdown not measured (no prices were handed in); the roadmap's goal is -15%",
        "no claim could be tested: too few sessions",
        "prices: as given",
    ]
    assert max(map(len, lines[:2])) <= 80


# ---- a market of 6 symbols and 300 sessions, where arima knows the direction and xgboost knows nothing -------------


@pytest.fixture(scope="module")
def market() -> Market:
    return Market.drawn(symbols=6, sessions=300, seed=11)


@pytest.fixture(scope="module")
def card(market: Market):
    return build_scorecard(market.forecasts, conditions=market.conditions, threshold=0.55, seed=3)


def test_skill_is_claimed_where_it_was_planted_and_nowhere_else(card):
    held = {(c["model"], c["claim"]) for c in card["claims_tested"] if c["holds"]}
    assert held == {("arima", claim) for claim in ("location skill", "direction", "rank IC", "net Sharpe")}
    assert {c["model"] for c in card["claims_tested"]} == {"arima", "xgboost", "ensemble"}
    assert len(card["claims"]) == 4
    assert card["claims"][0].startswith("arima, 1 session: location skill (p ")


def test_the_parts_of_skill_add_up_and_width_is_no_location(card):
    for name in ("arima", "xgboost", "ensemble", "naive_drift"):
        scores = card["models"][name]["1"]
        assert scores["location_skill"] + scores["scale_skill"] == pytest.approx(scores["skill"], abs=1e-12)
    # The ensemble is naive with honest widths: all it gains is of scale, and no test of location may take it for more.
    ensemble = card["models"]["ensemble"]["1"]
    assert ensemble["scale_skill"] > 0.005
    assert ensemble["location_skill"] == 0.0
    assert ensemble["tests"]["location_skill"]["p_value"] == 0.5
    assert ensemble["tests"]["diebold_mariano"]["p_value"] < 0.001


def test_a_models_numbers_do_not_depend_on_the_others_or_on_the_order_of_rows(card, market: Market):
    alone = market.forecasts.filter(pl.col("model").is_in(["naive", "arima"])).sample(
        fraction=1.0, shuffle=True, seed=1
    )
    again = build_scorecard(alone, conditions=market.conditions, threshold=0.55, seed=3)
    assert again["models"]["arima"] == card["models"]["arima"]
    reseeded = build_scorecard(alone, conditions=market.conditions, threshold=0.55, seed=4)["models"]["arima"]["1"]
    resampled = {"pesaran_timmermann", "accuracy_over_constant"}
    for name, result in card["models"]["arima"]["1"]["tests"].items():
        assert (reseeded["tests"][name] == result) == (name not in resampled), name


def test_a_rising_market_gives_a_sharpe_ratio_and_no_claim_to_who_is_always_long():
    market = Market.drawn(symbols=6, sessions=300, seed=12, drift=0.004)
    always = forecasts_of("lstm", market, centre=np.full(market.shape, 0.004))
    card = build_scorecard(pl.concat([market.of("naive"), always]), conditions=market.conditions, threshold=0.55)
    scores = card["models"]["lstm"]["1"]
    assert scores["sharpe_ratio"] > 3
    assert scores["tests"]["net_sharpe"]["p_value"] < 1e-4
    assert scores["tests"]["net_alpha"]["p_value"] >= 0.5
    assert scores["tests"]["accuracy_over_constant"]["p_value"] == 0.5
    assert [c["claim"] for c in card["claims_tested"] if c["holds"]] == ["location skill"]


def test_earnings_are_those_of_the_simple_rule_and_go_beside_the_goals(card, market: Market):
    own = market.forecasts.filter(pl.col("model") == "arima").select("symbol", "origin", "p_up")
    equity = simple_rule(own, market.conditions.prices, horizon=1, threshold=0.55)
    scores = card["models"]["arima"]["1"]
    assert scores["sharpe_ratio"] == equity.sharpe
    assert scores["max_drawdown"] == equity.max_drawdown
    assert scores["turnover"] == np.mean(equity.turnover_T)
    assert 0 < scores["exposure"] <= 1
    # The ensemble never leans to a side, so that it never trades, and the goals say so.
    assert card["goals"]["sharpe"] == {
        "goal": 1.2,
        "measured": None,
        "reason": "the rule never traded: no confidence reached 55%",
    }
    renamed = market.forecasts.filter(pl.col("model") != "ensemble").with_columns(
        pl.col("model").replace("arima", "ensemble")
    )
    goals = build_scorecard(renamed, conditions=market.conditions, threshold=0.55)["goals"]
    assert goals["sharpe"] == {"goal": 1.2, "measured": {"1": equity.sharpe}, "reached": {"1": equity.sharpe >= 1.2}}
    assert goals["max_drawdown"]["reached"] == {"1": equity.max_drawdown >= -0.15}


def test_coverage_is_given_by_volatility_and_after_breaks(card, market: Market):
    scores = card["models"]["naive"]["1"]
    calm, _, wild = scores["coverage_90_terciles"]
    # naive's width is the same in all of this market, half of which is three times as wild as the other.
    assert calm > 0.97
    assert wild < 0.85
    # One break, where the wild half begins: the 60 sessions after it are all in it.
    states = market.conditions.states.filter("after_break")
    assert states["origin"].n_unique() == 60
    rows = market.of("naive").join(states, on=["symbol", "origin"]).filter(pl.col("realized").is_not_null())
    inside = (rows["q_0.05"] <= rows["realized"]) & (rows["realized"] <= rows["q_0.95"])
    assert scores["coverage_90_after_breaks"] == pytest.approx(inside.mean())
    assert scores["coverage_95_after_breaks"] > scores["coverage_90_after_breaks"]


def test_what_cannot_be_told_is_null_and_says_why(market: Market):
    scores = build_scorecard(FRAME)["models"]["ensemble"]["1"]
    assert {name: result["p_value"] for name, result in scores["tests"].items()} == dict.fromkeys(TESTS)
    assert scores["tests"]["diebold_mariano"]["reason"] == "2 sessions with an outcome, needs at least 20"
    assert scores["tests"]["rank_ic"]["reason"].startswith("0 sessions in which both forecasts and outcomes differ")
    assert scores["tests"]["net_sharpe"]["reason"] == "no prices were handed in"
    for key in ("coverage_90_terciles", "coverage_95_after_breaks", "sharpe_ratio", "max_drawdown", "coverage_at_goal"):
        assert scores[key] is None
    assert set(scores["reasons"]) == {"terciles", "after_breaks", "trading", "coverage_at_goal"}
    first = market.forecasts.filter(pl.col("origin") <= market.origins[10])
    short = build_scorecard(first, conditions=market.conditions, threshold=0.55)["models"]["arima"]["1"]
    assert short["reasons"]["trading"] == "12 sessions to trade in, needs at least 20"
    assert short["reasons"]["terciles"] == "11 sessions with an outcome and a volatility, needs at least 20"
    assert short["reasons"]["after_breaks"] == "0 sessions with an outcome follow a break, needs at least 20"


def test_importance_is_ranked_by_contribution_and_is_plain_json():
    found = Importance(gain={"a": 1.0, "b": 9.0}, shap={"a": 0.2, "b": 0.1})
    card = build_scorecard(FRAME, importance={"xgboost": {1: found, 5: Importance(gain={}, shap={})}})
    ranked = [{"feature": "a", "shap": 0.2, "gain": 1.0}, {"feature": "b", "shap": 0.1, "gain": 9.0}]
    assert json.loads(json.dumps(card))["importance"] == {"xgboost": {"1": ranked, "5": []}}
    assert build_scorecard(FRAME)["importance"] == {}


def test_the_share_with_the_goals_accuracy_is_that_of_its_curve(card):
    curve = card["curves"]["selective_accuracy"]["arima"]["1"]
    assert len(curve) == 20
    assert [round(point["coverage"], 2) for point in curve] == sorted({round(p["coverage"], 2) for p in curve})
    assert curve[-1]["coverage"] == 1.0
    assert curve[-1]["accuracy"] == card["models"]["arima"]["1"]["directional_accuracy"]
    assert card["models"]["arima"]["1"]["coverage_at_goal"] == 1.0
    assert card["models"]["naive"]["1"]["coverage_at_goal"] is None


def test_the_curves_of_the_ensemble_tell_quarters_years_and_folds(card, market: Market):
    curves = card["curves"]
    assert [p["quarter"] for p in curves["coverage_by_quarter"]["1"]][:2] == ["2011 Q4", "2012 Q1"]
    assert sum(p["n"] for p in curves["coverage_by_quarter"]["1"]) == card["models"]["ensemble"]["1"]["n"]
    assert [p["year"] for p in curves["skill_by_year"]["1"]] == [2011, 2012, 2013]
    assert curves["equity"] == {}  # it never traded
    assert [fold["fold"] for fold in card["folds"]] == [0, 1]
    assert card["folds"][0]["first"] == str(market.origins[0])
    assert json.loads(json.dumps(card, allow_nan=False)) == card
