"""Claims: tests that agree with those they are made of, Holm's correction, and reasons where nothing can be said."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from swiftbolt.evaluation.bootstrap import accuracy_over_constant, pesaran_timmermann
from swiftbolt.evaluation.claims import (
    CLAIMS,
    TESTS,
    direction_tests,
    earning_tests,
    gain_tests,
    judged,
    sentences,
    untold,
)
from swiftbolt.evaluation.significance import diebold_mariano, rank_ic

SESSIONS = np.repeat(np.arange("2012-01-01", "2012-04-30", dtype="datetime64[D]"), 4)


@pytest.fixture
def rows() -> pl.DataFrame:
    rng = np.random.default_rng(7)
    outcome_N = rng.standard_normal(len(SESSIONS))
    lean_N = 0.1 * outcome_N + 0.2 * rng.standard_normal(len(SESSIONS))
    return pl.DataFrame(
        {
            "origin": SESSIONS,
            "q_0.5": lean_N,
            "p_up": np.clip(0.5 + lean_N / 4, 0.01, 0.99),
            "realized": outcome_N,
            "naive_crps": np.abs(outcome_N),
            "crps": np.abs(outcome_N - lean_N),
        }
    ).with_columns(gain=pl.col("naive_crps") - pl.col("crps"), location_gain=pl.lit(-0.1))


def test_each_test_is_the_one_it_is_named_after(rows: pl.DataFrame):
    found = {**gain_tests(rows, 5), **direction_tests(rows, 5, np.random.default_rng(1))}
    columns = [rows[name].to_numpy() for name in ("origin", "p_up", "realized")]
    expected = [test(*columns, 5, np.random.default_rng(1)) for test in (pesaran_timmermann, accuracy_over_constant)]
    for name, test in zip(("pesaran_timmermann", "accuracy_over_constant"), expected, strict=True):
        assert (found[name]["value"], found[name]["p_value"]) == (test.excess, test.p_value)
    means = rows.group_by("origin").agg(pl.col("crps", "naive_crps").mean()).sort("origin")
    mariano = diebold_mariano(means["crps"].to_numpy(), means["naive_crps"].to_numpy(), 5)
    assert found["diebold_mariano"]["p_value"] == pytest.approx(mariano.p_less)
    assert found["diebold_mariano"]["statistic"] == pytest.approx(-mariano.statistic)
    ranks = rank_ic(columns[0], rows["q_0.5"].to_numpy(), columns[2], 5)
    assert (found["rank_ic"]["value"], found["rank_ic"]["p_value"]) == (ranks.mean, ranks.p_greater)
    assert found["location_skill"]["p_value"] > 0.999  # it lost everywhere


def test_what_rounding_leaves_of_a_centre_is_no_skill(rows: pl.DataFrame):
    rounded = rows.with_columns(location_gain=pl.col("naive_crps") * 1e-16)
    assert gain_tests(rounded, 1)["location_skill"]["p_value"] == 0.5
    small = rows.with_columns(location_gain=pl.col("naive_crps") * 1e-6)
    assert gain_tests(small, 1)["location_skill"]["p_value"] < 0.001


def test_too_few_sessions_or_symbols_are_a_reason_and_not_a_number(rows: pl.DataFrame):
    found = {**gain_tests(rows, 20), **direction_tests(rows, 20, np.random.default_rng(1))}
    for result in found.values():
        assert result["p_value"] is None
        assert "needs at least 200" in result["reason"]
    lonely = rows.unique("origin", keep="first", maintain_order=True)
    assert direction_tests(lonely, 1, np.random.default_rng(1))["rank_ic"]["reason"].startswith("0 sessions in which")


def test_what_the_market_gives_is_no_alpha_and_what_it_does_not_give_is():
    rng = np.random.default_rng(5)
    market_T = 0.002 + 0.01 * rng.standard_normal(750)
    for exposure in (1.0, 0.3, -1.0):
        found = earning_tests(exposure * market_T, market_T)
        assert found["net_alpha"]["p_value"] == 0.5
        assert found["net_sharpe"]["p_value"] < 0.001 or exposure < 0
    own_T = 0.001 + 0.005 * rng.standard_normal(750)
    mixed = earning_tests(own_T + 0.5 * market_T, market_T)
    assert mixed["net_alpha"]["value"] == pytest.approx(0.001, abs=0.0004)
    assert mixed["net_alpha"]["p_value"] < 0.001
    assert earning_tests(own_T, np.zeros(750))["net_alpha"] == earning_tests(own_T, own_T * 0)["net_sharpe"]


def test_who_is_always_short_has_no_alpha_though_nights_and_days_compound():
    rng = np.random.default_rng(6)
    night_T, day_T = 0.01 * rng.standard_normal((2, 750)) + 0.5 * 0.01 * rng.standard_normal(750) - 0.002
    long_T, short_T = ((1 + side * night_T) * (1 + side * day_T) - 1 for side in (1.0, -1.0))
    assert earning_tests(short_T, long_T)["net_alpha"]["p_value"] < 0.001  # the nights' moves go on by day
    found = earning_tests(short_T, long_T, short_T)
    assert found["net_alpha"]["p_value"] == 0.5
    assert found["net_sharpe"]["p_value"] < 0.001


def result(p_value: float) -> dict[str, object]:
    return {"value": 1.0, "statistic": 1.0, "p_value": p_value, "sessions": 100, "reason": None}


def test_a_claim_needs_all_of_its_tests_and_pays_for_the_others():
    tests = {**dict.fromkeys(TESTS, result(0.9)), "pesaran_timmermann": result(0.001), "rank_ic": result(0.012)}
    rows = judged([("arima", 5, tests)])
    assert {row["claim"]: row["p_value"] for row in rows} == {
        "location skill": 0.9,
        "direction": 0.9,  # the side is informative, and still no better than always saying the same
        "rank IC": 0.012,
        "net Sharpe": 0.9,
    }
    assert [(row["claim"], row["p_adjusted"]) for row in rows if row["holds"]] == [("rank IC", pytest.approx(0.048))]
    assert sentences(rows) == ["arima, 5 sessions: rank IC (p 0.05 among all)"]
    # The same p-value among twice as many claims holds no longer.
    assert not any(
        row["holds"] for row in judged([("arima", 5, tests), ("lstm", 5, dict.fromkeys(TESTS, result(0.9)))])
    )


def test_a_claim_that_could_not_be_tested_costs_the_others_nothing():
    tests = {**dict.fromkeys(TESTS, untold("too short")), "rank_ic": result(0.04)}
    (row,) = judged([("arima", 1, tests)])
    assert (row["claim"], row["p_adjusted"], row["holds"]) == ("rank IC", 0.04, True)
    assert judged([]) == []


def test_every_claim_rests_on_tests_that_are_made():
    assert {name for names in CLAIMS.values() for name in names} < set(TESTS)
