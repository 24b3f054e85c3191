"""The certificate's parts: where it cuts, what its noise leaves alone, and how a difference is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from support.by_hand import sessions_from
from support.certificates import LAST_OF_VALIDATION, SESSIONS, SYMBOLS, certificate_of, market_data, plan_of
from support.markets import make_bars
from support.recipes import TINY_MODELS, write_recipe

from swiftbolt.actions import CorporateAction, CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.errors import DataError, EnvironmentFault
from swiftbolt.evaluation import leakage
from swiftbolt.evaluation.cuts import Cut, Place, choose_cuts
from swiftbolt.evaluation.evaluate import Plan
from swiftbolt.evaluation.leakage import Certificate, Leak, _difference
from swiftbolt.evaluation.noise import NEWCOMER, RESCALED, History, another_future
from swiftbolt.evaluation.replay import NoProgress
from swiftbolt.evaluation.stages import STAGES
from swiftbolt.folds import FoldConfig, make_folds
from swiftbolt.forecast import MODELS
from swiftbolt.quality import inspect
from swiftbolt.universe import Universe
from swiftbolt.verbs.certify import certify

DATA = market_data()
DAYS: list[date] = DATA.bars.frame["session"].unique().sort().to_list()
CUT = DAYS[LAST_OF_VALIDATION]


def other(history: History, last: date = CUT, seed: int = 0) -> History:
    return another_future(history, last, np.random.default_rng(seed))


def test_cuts_are_the_last_sessions_of_each_range_and_some_inside_the_test() -> None:
    sessions = np.array(DAYS, dtype="datetime64[D]")
    config = FoldConfig(count=2, test_sessions=30, validation_sessions=40, min_train_sessions=260)
    folds = make_folds(sessions, config)
    cuts = choose_cuts(folds, sessions, 3, np.random.default_rng(0))
    assert [cut.fold for cut in cuts] == [0] * 7 + [1] * 7
    places = [Place.TRAIN, Place.PURGE, Place.VALIDATION, Place.EMBARGO, Place.TEST, Place.TEST, Place.TEST]
    assert [cut.place for cut in cuts] == places * 2
    first_test = len(DAYS) - 60
    edges = [DAYS.index(cut.session) - first_test for cut in cuts[:4]]
    assert edges == [-1 - 20 - 40 - 20, -1 - 20 - 40, -1 - 20, -1]
    inside = [cut.session for cut in cuts[4:7]]
    assert inside == sorted(set(inside))
    assert DAYS[first_test] <= inside[0]
    assert inside[-1] <= DAYS[first_test + 29]


def test_no_cut_is_made_after_the_last_session_for_nothing_comes_later() -> None:
    sessions = np.array(DAYS, dtype="datetime64[D]")
    config = FoldConfig(count=1, test_sessions=2, validation_sessions=40, min_train_sessions=260)
    cuts = choose_cuts(make_folds(sessions, config), sessions, 5, np.random.default_rng(0))
    assert [cut.session for cut in cuts if cut.place is Place.TEST] == [DAYS[-2]]


def test_another_future_leaves_every_bar_up_to_the_cut_and_no_later_one() -> None:
    history = History.of(DATA.bars, DATA.actions)
    changed = other(history)
    assert changed.bars.select(end=CUT) == history.bars.select(end=CUT)
    later = pl.col("session") > CUT
    both = history.bars.frame.filter(later).join(changed.bars.frame.filter(later), on=["symbol", "session"])
    assert len(both) > 50
    assert not (both["close"] == both["close_right"]).any()
    assert not (both["volume"] == both["volume_right"]).any()


def test_another_future_ends_one_symbol_begins_another_and_ends_earlier() -> None:
    changed = other(History.of(DATA.bars, DATA.actions)).bars
    last = dict(changed.frame.group_by("symbol").agg(pl.col("session").max()).iter_rows())
    assert sum(session == CUT for session in last.values()) == 1
    assert changed.frame.filter(pl.col("symbol") == NEWCOMER)["session"].min() > CUT  # type: ignore[operator]
    assert changed.last_session < DAYS[-1]


@pytest.mark.parametrize("seed", range(3))
def test_the_symbol_that_ends_is_the_youngest_of_those_that_go_on(seed: int) -> None:
    listed, gone = DAYS[LAST_OF_VALIDATION - 50], DAYS[LAST_OF_VALIDATION - 5]
    frame = make_bars(["AA", "BB", "CC", "DD"], 300, seed=1).frame.filter(
        (pl.col("symbol") != "BB") | (pl.col("session") >= listed),
        (pl.col("symbol") != "CC") | pl.col("session").is_between(listed, gone),
    )
    changed = other(History.of(Bars(frame=frame), CorporateActions.of()), seed=seed).bars
    assert [symbol for symbol in changed.symbols if symbol not in changed.select(start=DAYS[-20]).symbols] == ["BB"]


def test_a_dividend_declared_by_the_cut_stays_and_one_not_yet_declared_is_replaced() -> None:
    at = LAST_OF_VALIDATION
    declared, undeclared = (
        CorporateAction(symbol="AA", ex_date=DAYS[at + 5 + n], kind="dividend", value=0.4, known_at=known)
        for n, known in enumerate((DAYS[at], DAYS[at + 1]))
    )
    changed = other(History.of(DATA.bars, CorporateActions.of([declared, undeclared]))).actions
    assert declared in list(changed)
    assert undeclared not in list(changed)
    splits = changed.frame.filter(pl.col("kind") == "split")
    assert set(splits["ex_date"]) == {DAYS[at + 1]}
    assert set(splits["symbol"]) == set(SYMBOLS)


def test_adjusted_closes_are_rescaled_up_to_the_cut_and_the_factors_up_to_it_stay() -> None:
    history = History.of(DATA.bars, DATA.actions)
    changed = other(history)
    before, after = (part.adjusted_closes.filter(pl.col("session") <= CUT) for part in (history, changed))
    assert (after["adj_close"] == RESCALED * before["adj_close"]).all()
    is_known = (pl.col("kind") == "factor") & (pl.col("ex_date") <= CUT)
    assert len(history.actions.frame.filter(is_known)) == 5
    assert changed.actions.frame.filter(is_known).equals(history.actions.frame.filter(is_known))
    assert not changed.actions.frame.equals(history.actions.frame)


def test_factors_made_up_again_are_those_given_to_the_last_digits() -> None:
    given = DATA.actions.frame.filter(pl.col("kind") == "factor")
    again = History.of(DATA.bars, DATA.actions).actions.frame.filter(pl.col("kind") == "factor")
    assert again.select("symbol", "ex_date").equals(given.select("symbol", "ex_date"))
    assert np.allclose(again["value"], given["value"], rtol=1e-14, atol=0)


def test_equal_seeds_give_equal_noise_and_others_other() -> None:
    history = History.of(DATA.bars, DATA.actions)
    assert other(history).bars == other(history).bars
    assert other(history, seed=1).bars != other(history).bars


def test_a_difference_is_told_by_its_row_its_column_and_both_values() -> None:
    first, second = sessions_from(2)
    before = pl.DataFrame({"symbol": ["AA", "AA"], "session": [first, second], "x": [1.0, 2.0], "y": [3.0, np.nan]})
    after = before.with_columns(x=pl.Series([1.0, 2.5]))
    told = _difference(before, after, ["symbol", "session"])
    assert told == ({"symbol": "AA", "session": "2020-01-03"}, "x", "was 2.0, becomes 2.5")
    told = _difference(before, before.head(1), ["symbol", "session"])
    assert told == ({"symbol": "AA", "session": "2020-01-03"}, "row", "is there no longer")
    told = _difference(before.head(1), before, ["symbol", "session"])
    assert told == ({"symbol": "AA", "session": "2020-01-03"}, "row", "was not there before")
    told = _difference(before, pl.concat([before, before.tail(1)]), ["symbol", "session"])
    assert told == ({}, "rows", "were 2, become 3")


def leak_in(stage: str, session: date) -> Leak:
    cut = Cut(fold=0, place=Place.TEST, session=session)
    return Leak(stage=stage, cut=cut, where={"symbol": "AA"}, column="x", detail="was 1, becomes 2")


def certificate_with(leaks: Sequence[Leak], seconds: float = 1.0) -> Certificate:
    return Certificate(
        cuts=tuple(leak.cut for leak in leaks),
        compared={stage: 10 if stage != "positions" else 0 for stage in STAGES},
        leaks=tuple(leaks),
        seconds=seconds,
    )


def test_the_first_leak_is_that_of_the_earliest_stage_whatever_the_cut() -> None:
    first, second = sessions_from(2)
    certificate = certificate_with([leak_in("forecasts", first), leak_in("features", second)])
    assert not certificate.is_clean
    assert certificate.first is not None
    assert certificate.first.stage == "features"
    lines = {line.split()[0]: line for line in certificate.lines()}
    assert list(lines) == list(STAGES)
    assert "LEAK at 1 of 2 cuts; features: symbol AA: x was 1, becomes 2" in lines["features"]
    assert lines["prices"].endswith("clean")
    assert lines["positions"].endswith("nothing to compare")
    assert certificate.verdict().startswith("LEAK, first in features")
    assert json.loads(json.dumps(certificate.to_json()))["leaks"][1]["where"] == {"symbol": "AA"}


def test_certificates_are_equal_however_long_they_took() -> None:
    assert certificate_with([]) == certificate_with([], seconds=2.0)
    assert certificate_with([]).is_clean


def test_the_same_seed_gives_the_same_certificate_and_every_stage_is_compared() -> None:
    certificate = certificate_of("xgboost")
    assert certificate.leaks == ()
    assert all(count > 0 for count in certificate.compared.values())
    assert certificate == certificate_of("xgboost")


def test_a_bad_tick_where_a_range_ends_or_a_model_is_fitted_is_no_leak() -> None:
    certificate = certificate_of("arima", "xgboost")
    assert certificate.leaks == ()
    found = inspect(DATA.bars, DATA.actions).quarantining().frame
    known = found.group_by("session").agg(pl.col("known_from").min())
    in_doubt = set(known.filter(pl.col("known_from") > pl.col("session"))["session"])
    assert {cut.session for cut in certificate.cuts} <= in_doubt


def test_symbols_that_come_only_after_the_cut_are_no_leak() -> None:
    # The future of the first cuts is long enough for the newcomer to be forecast.
    certificate = certificate_of("xgboost", test_sessions=300, sessions=660)
    assert certificate.leaks == ()
    assert certificate.cuts[0].place is Place.TRAIN


def test_a_symbol_that_is_old_enough_only_after_some_cuts_is_no_leak() -> None:
    for models in (("xgboost",), ("arima",)):
        certificate = certificate_of(*models, young=True)
        assert certificate.leaks == ()
        assert all(count > 0 for count in certificate.compared.values())


def test_data_of_which_no_symbol_is_ever_old_enough_are_refused() -> None:
    plan = replace(plan_of("xgboost"), universe=Universe(symbols=SYMBOLS, min_sessions=SESSIONS + 1))
    with pytest.raises(DataError, match="no symbol has enough history for a certificate"):
        leakage.certify(plan, DATA, rng=np.random.default_rng(0), progress=NoProgress())


def test_with_a_first_origin_its_burn_in_is_certified_too() -> None:
    certificate = certificate_of("xgboost", start=DAYS[-30])
    assert certificate.leaks == ()
    assert {cut.fold for cut in certificate.cuts} == {0, 1}
    assert min(cut.session for cut in certificate.cuts if cut.place is Place.TEST) < DAYS[-30]


def test_a_burn_in_too_early_for_any_model_is_certified_without_one() -> None:
    certificate = certificate_of("xgboost", start=DAYS[-80])  # its first fold has 30 rows to learn from, and needs 50
    assert certificate.leaks == ()
    assert {cut.fold for cut in certificate.cuts if cut.place is Place.TEST} == {0, 1, 2, 3}


def test_the_projects_own_recipe_for_certificates_has_every_model() -> None:
    plan = Plan.read(Path(__file__).parents[2] / "configs" / "evaluate" / "certify.yaml")
    assert plan.recipe.members == MODELS


@pytest.fixture
def config(tmp_path: Path) -> Path:
    make_bars(["AA", "BB"], 470, seed=3).frame.write_parquet(tmp_path / "bars.parquet")
    return write_recipe(tmp_path, universe={}, xgboost=TINY_MODELS["xgboost"])


def run(config: Path, *more: str) -> int:
    """The verb alone, as the command line runs it."""
    app = typer.Typer()
    app.command()(certify)
    arguments = ["--bars", str(config.parent / "bars.parquet"), "--config", str(config), "--inside-test", "1", *more]
    status = typer.main.get_command(app).main(args=arguments, standalone_mode=False)
    return status if isinstance(status, int) else 0


def test_the_verb_prints_a_line_per_stage_and_writes_the_certificate(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = config.parent / "certificate.json"
    assert run(config, "--out", str(out)) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[:-1]] == list(STAGES)
    assert printed[-1].startswith("no leak: 5 cuts")
    assert json.loads(out.read_text())["clean"] is True


def test_a_place_that_cannot_be_written_is_refused_before_the_work(config: Path) -> None:
    with pytest.raises(EnvironmentFault, match="choose another --out"):
        run(config, "--out", str(config.parent / "nowhere" / "certificate.json"))


def test_the_verb_ends_with_status_1_and_names_the_stage_where_there_is_a_leak(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swiftbolt.evaluation.stages.panel_volatility", lambda panel: panel.log_price_R[::-1])
    assert run(config, "--json") == 1
    assert json.loads(capsys.readouterr().out)["first"] == "scaling"
