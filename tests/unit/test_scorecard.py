"""The scorecard and its report on a frame small enough to reckon."""

from __future__ import annotations

import json
import re

import numpy as np
import polars as pl
import pytest

from swiftbolt.errors import DataError, SchemaError
from swiftbolt.evaluation.report import render_report
from swiftbolt.evaluation.scorecard import build_scorecard, ordered_scores, summary_lines
from swiftbolt.forecast import Forecasts, crps_from_quantiles, normal_quantiles

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


def test_the_summary_has_a_line_per_model_and_horizon_and_the_goal():
    lines = summary_lines(build_scorecard(FRAME, {"adjustment": "as given"}))
    assert lines[0] == "1 symbol, 3 sessions from 2013-02-25 to 2013-02-27"
    assert [line.split()[0] for line in lines[2:5]] == ["naive", "arima", "ensemble"]
    assert lines[5] == "directional accuracy: the roadmap's goal is 62%, the ensemble measures 50.0% (horizon 1)"
    assert lines[6] == "prices: as given"


def test_the_report_is_one_page_that_fetches_nothing_and_is_the_same_each_time():
    card = build_scorecard(FRAME)
    page = render_report(card)
    assert page == render_report(json.loads(json.dumps(card, sort_keys=True)))
    assert not re.search(r"<script|https?:|src=|href=|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page
    assert page.count("<svg") == page.count("</svg>") == 3
    for name in ("naive", "arima", "ensemble"):
        assert f"<td>{name}</td>" in page


def test_the_report_escapes_whatever_a_name_or_a_sentence_holds():
    frame = FRAME.with_columns(model=pl.col("model").replace("arima", "<b>&"))
    page = render_report(build_scorecard(frame, {"adjustment": "<script>alert(1)</script>"}))
    assert "<b>" not in page
    assert "<script>" not in page
    assert "&lt;b&gt;&amp;" in page


def test_the_report_of_forecasts_without_outcomes_or_ensemble_still_stands():
    page = render_report(build_scorecard(rows("arima", [0.0], outcomes=[None])))
    assert "No forecast of an ensemble has an outcome yet." in page
    assert "nan" not in page
    empty = render_report(build_scorecard(FRAME.clear()))
    assert "0 symbols" in empty
