"""A walk-forward's part in the ledger: what it adds, how it is judged among all looks, and how that is told."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.panels import panel_from_returns
from support.recipes import tiny_recipe
from support.skill_market import Market
from support.trials import MemoryLedger, noise_of, returns_of, trial_of

from swiftbolt.ensemble.weights import EnsembleConfig
from swiftbolt.evaluation.equity import SESSIONS_PER_YEAR, sharpe_ratio, simple_rule
from swiftbolt.evaluation.ledger import NO_LEDGER, Ledger, Look, counted, uncounted
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.report import render_report
from swiftbolt.evaluation.report_trials import trial_lines, trial_sentence, trials_section
from swiftbolt.evaluation.scorecard import build_scorecard
from swiftbolt.evaluation.trials import backtest_overfitting, deflated_sharpe, expected_best_sharpe
from swiftbolt.folds import Fold, make_folds
from swiftbolt.models.registry import config_class
from swiftbolt.panel import Panel
from swiftbolt.trial import DailyReturns, Trial

SESSIONS = 700
ENTRY = {"crps": 0.01, "skill": 0.02, "reasons": {"trading": "the rule never traded"}}


@pytest.fixture(scope="module")
def panel() -> Panel:
    return panel_from_returns({name: np.full(SESSIONS - 1, 1e-4) for name in ("AA", "BB")})


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return tiny_recipe("arima", "xgboost")


def folds_of(panel: Panel, recipe: Recipe, first: int = 640, **how: bool) -> list[Fold]:
    return make_folds(panel.sessions, recipe.folds, start=panel.sessions[first].astype(object), **how)


def key_of(
    model: str,
    panel: Panel,
    recipe: Recipe,
    folds: list[Fold] | None = None,
    *,
    horizon: int = 1,
    least_history: int = 300,
    **entry: Any,
) -> str:
    walked = folds or folds_of(panel, recipe)
    look = Look(None, recipe, panel, walked, least_history=least_history, source="evaluate")
    look.add(model, horizon, {**ENTRY, **entry}, None)
    (trial,) = look.trials
    return trial.key


def with_model(recipe: Recipe, name: str, **settings: object) -> Recipe:
    changed = {**recipe.models[name].model_dump(), **settings}
    return replace(recipe, models={**recipe.models, name: config_class(name).model_validate(changed)})


def with_ensemble(recipe: Recipe, **settings: object) -> Recipe:
    return replace(recipe, ensemble=EnsembleConfig.model_validate({**recipe.ensemble.model_dump(), **settings}))


def with_folds(recipe: Recipe, **settings: object) -> Recipe:
    return replace(recipe, folds=recipe.folds.model_copy(update=settings))


# ---- what makes a configuration another one ---------------------------------------------------------------


@pytest.mark.parametrize("model", ["xgboost", "ensemble"])
@pytest.mark.parametrize(
    "change",
    [
        lambda recipe: with_model(recipe, "xgboost", rounds=11),
        lambda recipe: with_ensemble(recipe, confidence_threshold=0.6),
        lambda recipe: with_folds(recipe, test_sessions=20),
        lambda recipe: with_folds(recipe, max_train_sessions=260),
        lambda recipe: replace(recipe, seed=6),
    ],
    ids=["a setting", "the threshold", "length of a test", "length of training", "the seed"],
)
def test_what_a_recipe_chooses_for_a_model_changes_its_key(
    model: str, change: Callable[[Recipe], Recipe], panel: Panel, recipe: Recipe
):
    assert key_of(model, panel, change(recipe)) != key_of(model, panel, recipe)


@pytest.mark.parametrize("model", ["xgboost", "ensemble"])
def test_data_features_symbols_period_history_model_and_horizon_change_the_key(
    model: str, panel: Panel, recipe: Recipe
):
    only = panel_from_returns({"AA": np.full(SESSIONS - 1, 1e-4)})
    keys = [
        key_of(model, panel, recipe),
        key_of(model, panel, recipe, horizon=5),
        key_of("arima", panel, recipe),
        key_of(model, replace(panel, data_hash="other"), recipe),
        key_of(model, replace(panel, spec_hash="other"), recipe),
        key_of(model, replace(only, data_hash=panel.data_hash), recipe),
        key_of(model, panel, recipe, folds_of(panel, recipe, first=650)),
        key_of(model, panel, recipe, least_history=301),
    ]
    assert len(set(keys)) == len(keys)


def test_only_the_ensemble_depends_on_its_own_settings_and_on_its_members(panel: Panel, recipe: Recipe):
    for change in (
        with_model(recipe, "arima", max_history=300),
        with_ensemble(recipe, shrinkage_sessions=7.0),
        replace(recipe, models={"xgboost": recipe.models["xgboost"]}),
    ):
        assert key_of("ensemble", panel, change) != key_of("ensemble", panel, recipe)
        assert key_of("xgboost", panel, change) == key_of("xgboost", panel, recipe)


def test_burn_in_is_the_ensembles_and_the_live_fold_nobodys(panel: Panel, recipe: Recipe):
    plain = folds_of(panel, recipe)
    live = folds_of(panel, recipe, live=True)
    burnt = folds_of(panel, recipe, burn_in=True)
    assert len(live) == len(plain) + 1
    assert burnt[0].burn_in
    for model in ("xgboost", "ensemble"):
        assert key_of(model, panel, recipe, live) == key_of(model, panel, recipe, plain)
        # A burn-in fold moves the numbers of the later ones, and a fold's number decides its seed.
        assert key_of(model, panel, recipe, burnt) != key_of(model, panel, recipe, plain)
    unburnt = [fold for fold in burnt if not fold.burn_in]
    assert key_of("xgboost", panel, recipe, burnt) == key_of("xgboost", panel, recipe, unburnt)
    assert key_of("ensemble", panel, recipe, burnt) != key_of("ensemble", panel, recipe, unburnt)


def test_the_same_look_in_other_words_or_with_other_results_is_the_same(panel: Panel, recipe: Recipe):
    by_start = folds_of(panel, recipe)
    by_count = make_folds(panel.sessions, recipe.folds)
    assert key_of("xgboost", panel, recipe, by_start) == key_of("xgboost", panel, recipe, by_count)
    reordered = replace(recipe, models=dict(reversed(recipe.models.items())))
    assert key_of("ensemble", panel, reordered) == key_of("ensemble", panel, recipe)
    assert key_of("xgboost", panel, recipe, crps=0.5, skill=None) == key_of("xgboost", panel, recipe)


# ---- judged among all that was tried ----------------------------------------------------------------------


def own_trials(count: int = 3, sessions: int = 120) -> list[Trial]:
    return [
        trial_of(horizon=h + 1, returns=noise_of(h, sessions, mean=0.001), config={"of": "this run"})
        for h in range(count)
    ]


def others(count: int, **changes: Any) -> dict[str, DailyReturns | None]:
    return {f"{n:064x}": noise_of(100 + n, **changes) for n in range(count)}


def test_each_trial_is_deflated_by_all_of_them_and_the_odds_are_of_all_of_them():
    own, before = own_trials(), others(20)
    found = counted(own, before)
    keyed = dict(sorted({**before, **{trial.key: trial.returns for trial in own}}.items()))
    returns_NT = np.array([one.net_T for one in keyed.values() if one is not None])
    expected = deflated_sharpe(returns_NT, list(keyed).index(own[1].key))
    entry = found["deflated_sharpe"]["xgboost"]["2"]
    assert (found["tried"], found["without_returns"], found["reason"]) == (23, 0, None)
    assert {name: entry[name] for name in ("sharpe", "benchmark", "probability", "trials", "clusters", "sessions")} == {
        name: getattr(expected, name)
        for name in ("sharpe", "benchmark", "probability", "trials", "clusters", "sessions")
    }
    assert entry["trials"] == 23
    assert found["overfitting"]["probability"] == backtest_overfitting(returns_NT).probability
    assert (found["overfitting"]["trials"], found["overfitting"]["sessions"]) == (23, 120)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_more_was_tried_the_less_a_sharpe_ratio_is_worth():
    own = own_trials()
    chance = [
        counted(own, others(count))["deflated_sharpe"]["xgboost"]["1"]["probability"] for count in (0, 10, 40, 160)
    ]
    assert chance == sorted(chance, reverse=True)
    assert chance[0] > chance[-1] + 0.2


def test_a_look_that_left_no_returns_counts_as_one_of_its_own_kind():
    own = own_trials()
    seen = counted(own, {})["deflated_sharpe"]["xgboost"]["1"]
    found = counted(own, dict.fromkeys(f"{n:064x}" for n in range(7)))
    entry = found["deflated_sharpe"]["xgboost"]["1"]
    assert (found["tried"], found["without_returns"]) == (10, 7)
    assert (entry["trials"], entry["clusters"]) == (10, seen["clusters"] + 7)
    variance = np.var([sharpe_ratio(trial.returns.net_T) for trial in own if trial.returns is not None], ddof=1)
    assert entry["benchmark"] == pytest.approx(expected_best_sharpe(float(variance), seen["clusters"] + 7))


def test_trials_much_alike_are_one_cluster():
    own = own_trials(1)
    copies = {f"{n:064x}": own[0].returns for n in range(30)}
    entry = counted(own, copies)["deflated_sharpe"]["xgboost"]["1"]
    assert (entry["trials"], entry["clusters"], entry["benchmark"]) == (31, 1, 0.0)


def test_a_run_counts_the_same_whether_or_not_it_is_in_the_ledger_already():
    own, before = own_trials(), others(12)
    recorded = {**{trial.key: trial.returns for trial in own}, **before}
    assert json.dumps(counted(own, recorded)) == json.dumps(counted(own, before))
    stale = {**before, own[0].key: noise_of(999)}  # as code of that time had it
    assert json.dumps(counted(own, stale)) == json.dumps(counted(own, before))


def test_fewer_than_ten_trials_have_no_odds_but_a_reason():
    assert counted(own_trials(), others(6))["overfitting"] == {
        "probability": None,
        "trials": 9,
        "sessions": 120,
        "reason": "9 trials, needs at least 10",
    }
    assert counted(own_trials(), others(7))["overfitting"]["probability"] is not None


def test_the_odds_are_of_trials_with_most_of_these_sessions():
    own, before = own_trials(), others(9)
    others_too = {"f" * 64: noise_of(1, 80), "e" * 64: noise_of(2, 100), "d" * 64: noise_of(3, 900)}
    found = counted(own, {**before, **others_too})
    assert (found["overfitting"]["trials"], found["overfitting"]["sessions"]) == (14, 100)
    assert found["tried"] == 15
    assert found["deflated_sharpe"]["xgboost"]["1"]["trials"] == 15


def test_a_trial_that_never_traded_says_so_and_counts():
    never = trial_of(horizon=20, returns=None, reason="the rule never traded: no confidence reached 55%")
    found = counted([*own_trials(), never], {})
    entry = found["deflated_sharpe"]["xgboost"]["20"]
    assert (entry["probability"], entry["sharpe"], entry["reason"]) == (None, None, never.reason)
    assert (found["tried"], found["without_returns"]) == (4, 1)
    alone = counted([never], {})
    assert alone["overfitting"]["reason"] == "the simple rule never traded"
    flat = counted([trial_of(returns=returns_of(0.0, 0.0, 0.0))], {})["deflated_sharpe"]["xgboost"]["1"]
    assert flat["reason"] == "a Sharpe ratio to deflate needs at least 3 returns that vary, got 3"


def test_without_a_ledger_nothing_is_told_and_the_reason_stands_everywhere():
    section = uncounted("nobody asked", own_trials(1))
    assert (section["reason"], section["tried"]) == ("nobody asked", None)
    assert section["overfitting"]["reason"] == "nobody asked"
    entry = section["deflated_sharpe"]["xgboost"]["1"]
    assert set(entry) == set(counted(own_trials(1), {})["deflated_sharpe"]["xgboost"]["1"])
    assert (entry["probability"], entry["reason"]) == (None, "nobody asked")


# ---- the scorecard's section ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def market() -> Market:
    return Market.drawn(symbols=4, sessions=120, seed=2)


def look_at(
    market: Market, panel: Panel, recipe: Recipe, ledger: Ledger | None, **how: Any
) -> tuple[dict[str, Any], Look]:
    look = Look(ledger, recipe, panel, folds_of(panel, recipe), least_history=300, source="evaluate", **how)
    return build_scorecard(market.forecasts, conditions=market.conditions, threshold=0.55, look=look), look


def test_every_model_but_the_baselines_becomes_a_trial_with_what_the_rule_earned(
    market: Market, panel: Panel, recipe: Recipe
):
    book = MemoryLedger()
    card, look = look_at(market, panel, recipe, book)
    assert [(trial.model, trial.horizon) for trial in look.trials] == [("arima", 1), ("xgboost", 1), ("ensemble", 1)]
    assert book.held == {}  # nothing is kept before the results are
    assert look.record() == 3
    arima, _, ensemble = look.trials
    own = market.of("arima").select("symbol", "origin", "p_up")
    equity = simple_rule(own, market.conditions.prices, horizon=1, threshold=0.55)
    assert arima.returns is not None
    assert arima.returns.net_T.tolist() == equity.net_T.tolist()
    assert arima.returns.sessions_T.tolist() == equity.sessions_T.tolist()
    scores = card["models"]["arima"]["1"]
    assert (arima.crps, arima.skill) == (scores["crps"], scores["skill"])
    assert arima.sharpe is not None
    assert arima.sharpe * math.sqrt(SESSIONS_PER_YEAR) == pytest.approx(scores["sharpe_ratio"])
    assert (ensemble.returns, ensemble.reason) == (None, "the rule never traded: no confidence reached 55%")
    folds = folds_of(panel, recipe)
    assert folds[0].test is not None
    assert (arima.first, arima.last) == (folds[0].test.first, panel.last_session)
    assert (arima.symbols, arima.state, arima.source) == (("AA", "BB"), "complete", "evaluate")


def test_two_looks_at_the_same_thing_give_the_same_scorecard_and_a_third_thing_changes_it(
    market: Market, panel: Panel, recipe: Recipe
):
    book = MemoryLedger()
    first, look = look_at(market, panel, recipe, book)
    assert look.record() == 3
    again, look = look_at(market, panel, recipe, book)
    assert look.record() == 0
    assert json.dumps(first, sort_keys=True) == json.dumps(again, sort_keys=True)
    assert first["trials"]["tried"] == 3
    reseeded, look = look_at(market, panel, replace(recipe, seed=6), book)
    assert look.record() == 3
    assert reseeded["trials"]["tried"] == 6
    # What was tried on other years is no part of it.
    elsewhere = folds_of(panel, recipe, first=500)[:1]
    look = Look(book, recipe, panel, elsewhere, least_history=300, source="evaluate")
    apart = build_scorecard(market.forecasts, conditions=market.conditions, threshold=0.55, look=look)
    assert apart["trials"]["tried"] == 3


def test_a_ledger_that_does_not_answer_costs_the_count_and_nothing_else(market: Market, panel: Panel, recipe: Recipe):
    book = MemoryLedger()
    book.fault = "cannot reach the database at somewhere:5432"
    card, look = look_at(market, panel, recipe, book)
    assert look.record() == 0
    assert look.unrecorded == book.fault
    assert card["trials"]["reason"] == "the ledger of trials did not answer"
    assert card["models"] == build_scorecard(market.forecasts, conditions=market.conditions, threshold=0.55)["models"]
    book.fault = None
    card, look = look_at(market, panel, recipe, book)
    book.fault = "went away"
    assert (look.record(), look.unrecorded, card["trials"]["tried"]) == (0, "went away", 3)


def test_without_a_ledger_the_scorecard_says_why(market: Market, panel: Panel, recipe: Recipe):
    card, look = look_at(market, panel, recipe, None, without="--no-ledger was asked for")
    assert (look.record(), look.unrecorded) == (0, "--no-ledger was asked for")
    assert card["trials"]["deflated_sharpe"]["arima"]["1"]["reason"] == "--no-ledger was asked for"
    plain = build_scorecard(market.forecasts, conditions=market.conditions)
    assert plain["trials"] == uncounted(NO_LEDGER)


# ---- in words ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def card(market: Market, panel: Panel, recipe: Recipe) -> dict[str, Any]:
    before = [
        trial_of(
            symbols=("AA",),
            first=panel.sessions[600].astype(object),
            last=panel.last_session,
            config={"n": n},
            returns=DailyReturns(sessions_T=market.origins[1:], net_T=noise_of(n, len(market.origins) - 1).net_T),
        )
        for n in range(12)
    ]
    return look_at(market, panel, recipe, MemoryLedger(*before))[0]


def test_the_terminal_is_told_how_many_were_tried_and_each_deflated_sharpe(card: dict[str, Any]):
    lines = trial_lines(card)
    odds = card["trials"]["overfitting"]
    assert lines[0] == (
        "15 configurations tried on these symbols and years, 1 of them without daily returns; probability that the "
        f"best is overfitted (PBO): {odds['probability']:.0%}, of 14 trials and {odds['sessions']} sessions"
    )
    assert [line.split()[0] for line in lines[1:]] == ["model", "arima", "xgboost", "ensemble"]
    entry = card["trials"]["deflated_sharpe"]["arima"]["1"]
    annual = f"{entry['sharpe'] * math.sqrt(252):.2f} {entry['benchmark'] * math.sqrt(252):.2f}"
    shown = f"arima 1 {annual} {entry['probability']:.1%} {entry['clusters']} {entry['sessions']}"
    assert " ".join(lines[2].split()) == shown
    assert lines[4].split() == ["ensemble", "1", "-", "-", "-", "-", "-"]
    assert max(map(len, lines[1:])) <= 80


def test_where_nobody_knows_one_line_says_why(market: Market, panel: Panel, recipe: Recipe):
    untold, _ = look_at(market, panel, recipe, None, without="--no-ledger was asked for")
    assert trial_lines(untold) == ["how many were tried is not known: --no-ledger was asked for"]
    few, _ = look_at(market, panel, recipe, MemoryLedger())
    assert trial_sentence(few).endswith("(PBO): not told (2 trials, needs at least 10)")
    assert "<table>" not in trials_section(untold)


def test_the_report_has_a_section_of_it_with_the_reasons_at_hand(card: dict[str, Any]):
    page = render_report(card)
    section = trials_section(card)
    assert section in page
    assert "<h2>How many were tried</h2>" in section
    assert "15 configurations tried" in section
    assert 'title="the rule never traded: no confidence reached 55%"' in section
    assert render_report(json.loads(json.dumps(card, sort_keys=True))) == page
    rows = re.findall(r"<tr><td>(\w+)</td><td>1</td><td>([-\d.]+)", section)
    sharpe = card["trials"]["deflated_sharpe"]["arima"]["1"]["sharpe"] * math.sqrt(252)
    assert ("arima", f"{sharpe:.2f}") in rows


class Tags(HTMLParser):
    """Fails on a tag that is none of a table's, or closes what is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"h2", "p", "div", "table", "thead", "tbody", "tr", "th", "td"}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_section_escapes_what_it_is_told():
    hostile = '<script>"&'
    frame = pl.DataFrame(
        schema={
            "symbol": pl.String,
            "origin": pl.Date,
            "horizon": pl.Int32,
            "model": pl.String,
            **dict.fromkeys(
                ("mean", "q_0.025", "q_0.05", "q_0.25", "q_0.5", "q_0.75", "q_0.95", "q_0.975", "p_up", "realized"),
                pl.Float64,
            ),
        }
    )
    card = {
        **build_scorecard(frame),
        "models": {hostile: {"1": {}}},
        "trials": counted([trial_of(model=hostile, returns=None, reason=hostile)], {}),
    }
    for section in (trials_section(card), trials_section({**card, "trials": uncounted(hostile)})):
        tags = Tags()
        tags.feed(section)
        assert tags.open == []
        assert "&lt;script&gt;&quot;&amp;" in section
