"""The ledger of trials on a real PostgreSQL, and the verbs that write and read it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pytest
import yaml
from support.database import at_once
from support.markets import make_bars
from support.recipes import TINY_MODELS
from support.trials import FIRST, LAST, noise_of, trial_of

from swiftbolt import cli
from swiftbolt.errors import StoreError
from swiftbolt.evaluation.ledger import Ledger
from swiftbolt.store import Store, TrialRow
from swiftbolt.trial import DailyReturns, Trial

DAY = timedelta(days=1)
SYMBOLS = ("AAPL", "IBM")


@pytest.fixture
def sql(migrated_url: str) -> Iterator[psycopg.Connection]:
    """A second, plain connection to the store's database."""
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        yield connection


def noted(**changes: Any) -> Trial:
    values = {"model": None, "horizon": None, "symbols": (), "returns": None, "reason": "elsewhere", "source": "note"}
    return trial_of(**{**values, "config": {"note": "in a notebook"}, **changes})


# ---- recorded once and for good ---------------------------------------------------------------------------


def test_a_trial_comes_back_as_it_was_recorded(store: Store):
    before = datetime.now(UTC)
    trial = trial_of(sharpe=0.1 + 0.2, crps=1e-300, skill=-math.pi, config={"rate": 1e-5, "of": {"é": [None, True]}})
    assert store.record_trials([trial]) == 1
    (row,) = store.trials()
    assert before <= row.recorded_at <= datetime.now(UTC)
    assert row == TrialRow(
        key=trial.key,
        recorded_at=row.recorded_at,
        source="evaluate",
        state="complete",
        model="xgboost",
        horizon=1,
        config={"rate": 1e-5, "of": {"é": [None, True]}},
        symbols=["AAPL", "IBM"],
        first=FIRST,
        last=LAST,
        sessions=3,
        sharpe=0.1 + 0.2,
        crps=1e-300,
        skill=-math.pi,
        reason=None,
        code_version="1.0.0",
    )


def test_daily_returns_come_back_bit_for_bit(store: Store):
    trial = trial_of(returns=noise_of(3, sessions=900))
    store.record_trials([trial])
    found = store.overlapping_trials(SYMBOLS, FIRST, LAST)[trial.key]
    assert found is not None
    assert trial.returns is not None
    assert found.net_T.tobytes() == trial.returns.net_T.tobytes()
    assert found.net_T.dtype == np.float64
    assert found.sessions_T.dtype == np.dtype("datetime64[D]")
    assert np.array_equal(found.sessions_T, trial.returns.sessions_T)


def test_a_configuration_is_recorded_once_whoever_looks_again(store: Store):
    assert store.record_trials([trial_of(), trial_of(horizon=5)]) == 2
    assert store.record_trials([trial_of(), trial_of(horizon=20), trial_of(source="sweep", code_version="2")]) == 1
    assert [(row.horizon, row.source, row.code_version) for row in store.trials()] == [
        (1, "evaluate", "1.0.0"),
        (5, "evaluate", "1.0.0"),
        (20, "evaluate", "1.0.0"),
    ]
    assert [row.horizon for row in store.trials("xgboost")] == [1, 5, 20]
    assert store.trials("lstm") == []


def test_two_that_record_the_same_at_once_record_it_once(migrated_url: str):
    mine = [trial_of(horizon=h, returns=noise_of(h)) for h in range(1, 30)]
    with Store.connect(migrated_url) as one, Store.connect(migrated_url) as other:
        counts = at_once(lambda: one.record_trials(mine), lambda: other.record_trials(mine))
        assert sorted(str(count) for count in counts) == ["0", "29"]
        assert len(one.trials()) == 29


def test_trials_are_recorded_all_or_none(store: Store):
    with pytest.raises(StoreError, match="horizon"):
        store.record_trials([trial_of(), trial_of(horizon=0)])
    assert store.trials() == []


@pytest.mark.parametrize("ended", ["pruned", "failed"])
def test_what_ended_early_is_completed_beside_and_counts_once(store: Store, ended: str):
    early = trial_of(state=ended, returns=None, reason="stopped after 2 of 9 epochs")
    assert store.record_trials([early]) == 1
    assert store.record_trials([early]) == 0
    assert [row.state for row in store.trials()] == [ended]
    assert store.record_trials([trial_of()]) == 1
    assert store.record_trials([early, trial_of()]) == 0
    assert [(row.state, row.sessions) for row in store.trials()] == [("complete", 3)]
    (returns,) = store.overlapping_trials(SYMBOLS, FIRST, LAST).values()
    assert returns is not None


@pytest.mark.parametrize(
    "attempt",
    ["UPDATE trials SET sharpe = 9", "DELETE FROM trials", "UPDATE trials SET state = 'failed' WHERE horizon = 1"],
)
def test_what_was_looked_at_stays_looked_at(store: Store, sql: psycopg.Connection, attempt: str):
    store.record_trials([trial_of(sharpe=0.1)])
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        sql.execute(attempt.encode())
    assert [(row.sharpe, row.state) for row in store.trials()] == [(0.1, "complete")]


@pytest.mark.parametrize(
    "wrong",
    [
        "key = 'abc'",
        "state = 'lost'",
        "source = 'hearsay'",
        "model = NULL",
        "symbols = '{}'",
        "last_origin = '2020-01-01'",
        "net = NULL",
        "net = '{0.1}'",
        "net = '{}', sessions = '{}'",
        "reason = 'beside its returns'",
        "config = '[]'",
    ],
)
def test_the_table_refuses_a_row_that_contradicts_itself(store: Store, sql: psycopg.Connection, wrong: str):
    store.record_trials([trial_of()])
    # A copy of its own number and key, so that it is not refused for being there already.
    sql.execute("CREATE TEMPORARY TABLE changed AS SELECT * FROM trials")
    sql.execute("UPDATE changed SET number = 7, key = repeat('a', 64)")
    copied = "INSERT INTO trials OVERRIDING SYSTEM VALUE SELECT * FROM changed"
    with sql.transaction(force_rollback=True):
        assert sql.execute(copied).rowcount == 1
    sql.execute(f"UPDATE changed SET {wrong}".encode())
    with pytest.raises(psycopg.errors.CheckViolation):
        sql.execute(copied)


def test_a_request_of_a_user_neither_reads_nor_writes_the_ledger(store: Store):
    store.record_trials([trial_of()])
    with pytest.raises(StoreError, match="permission denied"), store.as_user({"sub": "ann"}):
        store.trials()
    with pytest.raises((StoreError, AssertionError)), store.as_user({"sub": "ann"}):
        store.record_trials([trial_of(horizon=5)])
    assert len(store.trials()) == 1


# ---- which looks count together ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "is_counted"),
    [
        ({}, True),
        ({"symbols": ("IBM", "MSFT")}, True),
        ({"symbols": ("MSFT",)}, False),
        ({"symbols": ("AAP",)}, False),
        ({"first": LAST, "last": LAST + 365 * DAY}, True),
        ({"first": LAST + DAY, "last": LAST + 365 * DAY}, False),
        ({"first": FIRST - 365 * DAY, "last": FIRST}, True),
        ({"first": FIRST - 365 * DAY, "last": FIRST - DAY}, False),
        ({"first": FIRST - DAY, "last": LAST + DAY}, True),
        ({"state": "pruned", "returns": None, "reason": "too slow"}, True),
        ({"state": "failed", "returns": None, "reason": "out of memory"}, False),
        ({"model": "lstm", "horizon": 20, "source": "sweep"}, True),
    ],
)
def test_trials_count_together_where_symbols_and_years_overlap(store: Store, changes: dict[str, Any], is_counted: bool):
    store.record_trials([trial_of(**changes)])
    assert len(store.overlapping_trials(SYMBOLS, FIRST, LAST)) == is_counted


def test_a_note_counts_for_its_symbols_or_without_any_for_all_of_its_years(store: Store):
    notes = [noted(), noted(symbols=("IBM",)), noted(symbols=("GE",)), noted(last=FIRST - DAY, first=FIRST - 9 * DAY)]
    assert store.record_trials(notes) == 4
    assert store.overlapping_trials(SYMBOLS, FIRST, LAST) == dict.fromkeys(sorted(note.key for note in notes[:2]))


def test_the_store_is_a_ledger(store: Store):
    ledger: Ledger = store
    assert ledger.overlapping_trials([], FIRST, LAST) == {}


# ---- the verbs --------------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, migrated_url: str, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    monkeypatch.setenv("SWIFTBOLT_HOME", str(tmp_path / "home"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of one small model on two symbols whose rule always trades, and the bars beside it."""
    bars = make_bars(["AA", "BB"], 620, seed=3).frame
    bars.rename({"session": "date"}).write_parquet(tmp_path / "bars.parquet")
    files = {
        "universe.yaml": {"symbols": ["AA", "BB"], "min_sessions": 400},
        "ensemble.yaml": {"confidence_threshold": 0.5},
        "xgboost.yaml": TINY_MODELS["xgboost"],
        "evaluate.yaml": {
            "universe": "universe.yaml",
            "folds": {"count": 1, "test_sessions": 90, "validation_sessions": 40, "min_train_sessions": 440},
            "models": {"xgboost": {"config": "xgboost.yaml", "set": {"rounds": 3}}},
            "ensemble": "ensemble.yaml",
            "seed": 5,
            "workers": 1,
        },
    }
    for name, content in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(content))
    return tmp_path / "evaluate.yaml"


def evaluate(recipe: Path, *more: str) -> dict[str, bytes]:
    """The files of an evaluation, by name."""
    out = recipe.parent / "out"
    bars = str(recipe.parent / "bars.parquet")
    assert cli.run(["evaluate", "--bars", bars, "--config", str(recipe), "--out", str(out), *more]) == 0
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.usefixtures("environment")
def test_evaluate_records_each_model_and_horizon_once_and_writes_the_same_bytes_twice(
    store: Store, recipe: Path, capsys: pytest.CaptureFixture[str]
):
    first = evaluate(recipe)
    assert "6 configurations tried on these symbols and years; probability" in capsys.readouterr().out
    rows = store.trials()
    assert {(row.model, row.horizon) for row in rows} == {(m, h) for m in ("xgboost", "ensemble") for h in (1, 5, 20)}
    assert evaluate(recipe, "--json") == first
    assert json.loads(capsys.readouterr().out)["recorded"] == 0
    assert store.trials() == rows

    card = json.loads(first["scorecard.json"])
    (row,) = (row for row in rows if (row.model, row.horizon) == ("xgboost", 5))
    entry = card["trials"]["deflated_sharpe"]["xgboost"]["5"]
    assert (row.sharpe, row.sessions) == (entry["sharpe"], entry["sessions"])
    assert (row.crps, row.skill) == tuple(card["models"]["xgboost"]["5"][name] for name in ("crps", "skill"))
    assert (str(row.first), str(row.last)) == (card["origins"]["first"], card["origins"]["last"])
    assert (row.symbols, row.source, row.reason) == (["AA", "BB"], "evaluate", None)
    forecasts = pl.read_parquet(recipe.parent / "out" / "forecasts.parquet")
    assert row.first == forecasts["origin"].min()


@pytest.mark.usefixtures("environment")
def test_another_setting_is_another_look_and_all_of_them_count(
    store: Store, recipe: Path, capsys: pytest.CaptureFixture[str]
):
    evaluate(recipe)
    card = json.loads(evaluate(recipe, "--set", "models.xgboost.set.rounds=4")["scorecard.json"])
    assert (card["trials"]["tried"], len(store.trials())) == (12, 12)
    assert card["trials"]["deflated_sharpe"]["xgboost"]["1"]["trials"] == 12
    odds = card["trials"]["overfitting"]
    assert (odds["trials"], odds["sessions"], odds["reason"]) == (12, 89, None)
    assert 0 <= odds["probability"] <= 1
    # Without the ledger nothing is counted and nothing kept.
    uncounted = json.loads(evaluate(recipe, "--no-ledger", "--set", "seed=9")["scorecard.json"])
    assert (uncounted["trials"]["reason"], len(store.trials())) == ("--no-ledger was asked for", 12)
    capsys.readouterr()
    assert cli.run(["trials", "--model", "xgboost"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("evaluate") == 6
    assert "AA, BB" in shown
    assert shown.splitlines()[-1] == "6 looks in the ledger, 6 with daily returns"


@pytest.mark.usefixtures("environment")
def test_what_cannot_be_kept_after_all_is_told_and_the_results_stay(
    store: Store, sql: psycopg.Connection, recipe: Path, capsys: pytest.CaptureFixture[str]
):
    sql.execute("ALTER TABLE trials ADD CONSTRAINT full_up CHECK (false) NOT VALID")
    try:
        files = evaluate(recipe)
    finally:
        sql.execute("ALTER TABLE trials DROP CONSTRAINT full_up")
    printed = capsys.readouterr()
    assert "this look was not recorded: " in printed.err
    assert "full_up" in printed.err
    assert set(files) == {"forecasts.parquet", "scorecard.json", "report.html"}
    assert json.loads(files["scorecard.json"])["trials"]["tried"] == 6
    assert store.trials() == []


@pytest.mark.usefixtures("environment")
def test_the_trials_are_kept_only_once_the_results_are_written(
    store: Store, recipe: Path, monkeypatch: pytest.MonkeyPatch
):
    record, written = Store.record_trials, []

    def recording(self: Store, trials: Sequence[Trial]) -> int:
        written.append({path.name for path in (recipe.parent / "out").iterdir()})
        return record(self, trials)

    monkeypatch.setattr(Store, "record_trials", recording)
    evaluate(recipe)
    assert written == [{"forecasts.parquet", "scorecard.json", "report.html"}]
    assert len(store.trials()) == 6


@pytest.mark.usefixtures("environment")
def test_certify_records_nothing(store: Store, recipe: Path, capsys: pytest.CaptureFixture[str]):
    bars = str(recipe.parent / "bars.parquet")
    assert cli.run(["certify", "--bars", bars, "--config", str(recipe)]) == 0
    assert store.trials() == []


@pytest.mark.usefixtures("environment")
def test_a_look_taken_elsewhere_is_entered_by_hand_and_counts(
    store: Store, recipe: Path, capsys: pytest.CaptureFixture[str]
):
    note = ["trials", "--note", "moving averages, 3 windows", "--start", "2012-01-01", "--end", "2013-02-28"]
    assert cli.run([*note, "--model", "arima", "--horizon", "5", "--symbol", "bb", "--symbol", "AA"]) == 0
    assert capsys.readouterr().out == "the look is in the ledger\n"
    assert cli.run([*note, "--model", "arima", "--horizon", "5", "--symbol", "AA", "--symbol", "BB"]) == 0
    assert capsys.readouterr().out == "the ledger holds that look already\n"
    assert cli.run([*note, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] is True
    one, other = store.trials()
    assert (one.model, one.horizon, one.symbols, one.source) == ("arima", 5, ["AA", "BB"], "note")
    assert (one.first, one.last, one.sessions) == (date(2012, 1, 1), date(2013, 2, 28), None)
    assert (one.config, one.reason) == ({"note": "moving averages, 3 windows"}, "looked at elsewhere")
    assert (other.model, other.symbols) == (None, [])
    card = json.loads(evaluate(recipe)["scorecard.json"])
    assert (card["trials"]["tried"], card["trials"]["without_returns"]) == (8, 2)
    capsys.readouterr()
    assert cli.run(["trials", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(row["source"], row["key"]) for row in listed[:2]] == [("note", one.key), ("note", other.key)]
    assert cli.run(["trials"]) == 0
    table = capsys.readouterr().out
    assert "moving averages, 3 windows" in table
    assert table.splitlines()[-1] == "8 looks in the ledger, 6 with daily returns"


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--note", "tried"], "--note: needs --start and --end"),
        (["--note", " ", "--start", "2012-01-01", "--end", "2012-02-01"], "--note: says nothing"),
        (["--note", "tried", "--start", "2012-02-02", "--end", "2012-02-01"], "--start: lies after --end"),
        (
            ["--note", "tried", "--start", "2012-01-01", "--end", "2012-02-01", "--symbol", " "],
            "--symbol: names nothing",
        ),
        (["--horizon", "5"], "--horizon: belongs to --note"),
        (["--symbol", "AA"], "--symbol: belongs to --note"),
        (["--start", "2012-01-01"], "--start: belongs to --note"),
    ],
)
def test_a_note_that_says_too_little_and_options_without_one_are_refused(
    store: Store, options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
):
    assert cli.run(["trials", *options]) == 2
    assert reason in capsys.readouterr().err
    assert store.trials() == []


@pytest.mark.usefixtures("environment", "store")
def test_an_empty_ledger_says_how_to_fill_it(capsys: pytest.CaptureFixture[str]):
    assert cli.run(["trials"]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "no look yet; swiftbolt evaluate records each of its models\n")
    assert cli.run(["trials", "--model", "arima"]) == 0
    assert capsys.readouterr().err == "no look at arima yet; swiftbolt evaluate records each of its models\n"
    assert cli.run(["trials", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_returns_array_of_one_session_comes_back(store: Store):
    trial = trial_of(returns=DailyReturns(sessions_T=np.array([FIRST], dtype="datetime64[D]"), net_T=np.array([0.25])))
    store.record_trials([trial])
    found = store.overlapping_trials(SYMBOLS, FIRST, LAST)[trial.key]
    assert found is not None
    assert (found.net_T.tolist(), found.sessions_T.tolist()) == ([0.25], [FIRST])
