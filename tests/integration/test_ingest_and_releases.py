"""The verbs of the command line against a real database."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from support.by_hand import flat_frame

from swiftbolt import cli, doctor
from swiftbolt import ingest as ingesting
from swiftbolt.forecast import Forecasts, normal_quantiles
from swiftbolt.providers.sample import SampleProvider
from swiftbolt.settings import Settings
from swiftbolt.store import Store, embedded

UNIVERSE = "symbols: [AAPL, FB]\nend: 2013-03-01\nmin_sessions: 750\n"
NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def environment(monkeypatch, migrated_url, tmp_path):
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    monkeypatch.setenv("SWIFTBOLT_HOME", str(tmp_path / "home"))


@pytest.fixture
def universe(tmp_path):
    path = tmp_path / "universe.yaml"
    path.write_text(UNIVERSE)
    return str(path)


def ingest_file(path, frame, *options):
    frame.write_parquet(path)
    return cli.run(["ingest", "--provider", "files", "--path", str(path), *options])


# Ingest


def test_the_sample_comes_into_the_store_once(store, universe, capsys):
    arguments = ["ingest", "--provider", "sample", "--universe", universe, "--json"]
    assert cli.run(arguments) == 0
    shown = capsys.readouterr()
    first = json.loads(shown.out)
    assert (first["inserted"], first["revised"], first["unchanged"]) == (3270 + 196, 0, 0)
    assert first["too_short"] == ["FB"]
    assert "FB: needs 750 sessions, has 196" in shown.err
    expected = SampleProvider().fetch(["AAPL", "FB"])
    assert store.bars() == expected.bars
    assert store.actions() == expected.actions
    assert cli.run(arguments) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["inserted"], again["revised"], again["unchanged"]) == (0, 0, 3270 + 196)


def test_options_narrow_the_range_of_the_universe(store, universe):
    options = ["--start", "2013-01-02", "--end", "2013-01-31"]
    assert cli.run(["ingest", "--provider", "sample", "--universe", universe, *options]) == 0
    assert [(row.symbol, row.first, row.last, row.sessions) for row in store.symbols()] == [
        ("AAPL", date(2013, 1, 2), date(2013, 1, 31), 21),
        ("FB", date(2013, 1, 2), date(2013, 1, 31), 21),
    ]


def test_faulty_rows_are_named_on_stderr_and_never_stored(store, tmp_path, capsys):
    frame = flat_frame("AAA", [10, 11, -1, 12])
    assert ingest_file(tmp_path / "bars.parquet", frame, "--json") == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("set aside 1 row with a price that is zero, negative")
    assert json.loads(shown.out)["findings"] == {"not_positive": 1}
    assert store.bars().frame["close"].to_list() == [10, 11, 12]


@pytest.mark.parametrize("events", [{"dividend": 0.1}, {}], ids=["raw with dividends", "taken as adjusted"])
def test_a_source_that_would_adjust_twice_is_refused_and_nothing_is_written(store, universe, tmp_path, capsys, events):
    assert cli.run(["ingest", "--provider", "sample", "--universe", universe]) == 0
    before = store.bars()
    during = flat_frame("AAPL", [60.0] * 200, first=date(2012, 6, 1)).with_columns(
        pl.lit(value).alias(name) for name, value in events.items()
    )
    assert ingest_file(tmp_path / "bars.parquet", during) == 2
    assert "AAPL: the store holds factor actions for these sessions" in capsys.readouterr().err
    assert store.bars() == before


def test_a_source_may_continue_another_whose_sessions_end_before(store, universe, tmp_path):
    assert cli.run(["ingest", "--provider", "sample", "--universe", universe]) == 0
    after = flat_frame("AAPL", [60.0] * 20, first=date(2013, 3, 4)).with_columns(dividend=0.1)
    assert ingest_file(tmp_path / "bars.parquet", after) == 0
    assert store.last_sessions()["AAPL"] > date(2013, 3, 1)


def test_an_interrupted_ingest_leaves_whole_symbols_and_the_next_one_completes_it(store, monkeypatch, capsys):
    monkeypatch.setattr(ingesting, "SYMBOLS_PER_WRITE", 1)
    upsert, calls = Store.upsert_bars, []

    def interrupted(self, bars, source):
        calls.append(bars.symbols)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return upsert(self, bars, source)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "upsert_bars", interrupted)
        assert cli.run(["ingest", "--provider", "sample"]) == 130
    assert [(row.symbol, row.sessions) for row in store.symbols()] == [("AAPL", 3270), ("FB", 196)]
    capsys.readouterr()
    assert cli.run(["ingest", "--provider", "sample", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["inserted"], summary["unchanged"]) == (22_216 - 3270 - 196, 3270 + 196)


# Releases


@pytest.fixture
def two_releases(store, universe):
    """AAPL's bars, and two releases that forecast it from its last session."""
    assert cli.run(["ingest", "--provider", "sample", "--universe", universe]) == 0
    for mean in (0.01, 0.02):
        run = store.start_run("retrain", {}, now=NOW)
        forecasts = Forecasts(
            model="ensemble",
            horizons=(1, 5, 20),
            symbol_N=np.array(["AAPL"]),
            origin_N=np.array(["2013-03-01"], dtype="datetime64[D]"),
            quantiles_NHQ=normal_quantiles(np.full((1, 3), mean), np.full((1, 3), 0.05)),
        )
        store.publish_release(
            run=run,
            digest=f"{mean}",
            origin=date(2013, 3, 1),
            directory="nowhere",
            forecasts=forecasts.to_frame(),
            results=pl.DataFrame(schema={"model": pl.String, "horizon": pl.Int32, "metrics": pl.String}),
            artifacts=[],
        )
        store.finish_run(run, "succeeded", 12.5, {})
    return [row.version for row in reversed(store.releases())]


def result_of(capsys, *arguments):
    capsys.readouterr()
    assert cli.run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_release_is_promoted_rolled_back_and_asked(two_releases, capsys):
    older, newer = two_releases
    assert [row["active"] for row in result_of(capsys, "releases")] == [False, False]
    assert result_of(capsys, "promote", str(older))["version"] == older
    assert result_of(capsys, "promote")["version"] == newer
    reply = result_of(capsys, "forecast", "aapl")
    assert (reply["release"], reply["origin"], reply["current_price"]) == (newer, "2013-03-01", 430.47)
    assert reply["forecasts"][0]["price_target"] == pytest.approx(430.47 * math.exp(0.02))
    assert reply["why"] == []  # the releases' directories are not here
    rolled_back = result_of(capsys, "rollback")
    assert (rolled_back["version"], rolled_back["active"]) == (older, True)
    assert [(row["version"], row["active"]) for row in result_of(capsys, "releases")] == [(newer, False), (older, True)]


def test_lists_hold_the_published_fields(two_releases, capsys):
    for row in result_of(capsys, "releases"):
        assert list(row) == ["version", "run", "active", "release_digest", "origin", "created"]
    for row in result_of(capsys, "runs"):
        assert list(row) == ["run", "kind", "state", "done", "failed", "total", "seconds"]


def test_the_forecast_is_a_table_for_people(two_releases, capsys):
    assert cli.run(["promote"]) == 0
    capsys.readouterr()
    assert cli.run(["forecast", "AAPL", "--horizon", "10"]) == 0
    shown = capsys.readouterr().out
    assert "AAPL, 430.47 on 2013-03-01" in shown
    assert "ensemble" in shown
    assert f"{430.47 * math.exp(0.02):,.2f}" in shown


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["forecast", "ZZZ"], "holds no forecast of ZZZ; it holds AAPL"),
        (["promote", "999"], "no release 999"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(two_releases, capsys, arguments, complaint):
    assert cli.run(["promote"]) == 0
    capsys.readouterr()
    assert cli.run(arguments) == 1
    assert complaint in capsys.readouterr().err


# Doctor


def test_the_doctor_stops_the_embedded_database_it_had_to_start(monkeypatch, tmp_path):
    monkeypatch.delenv("DATABASE_URL")
    settings = Settings(home=tmp_path)
    found = doctor.check_database(settings)
    assert found.ok, found.line()
    assert embedded.running_url(settings.postgres_data) is None


def test_the_doctor_leaves_a_server_alone(migrated_url):
    assert doctor.check_database(Settings()).found == "the server of DATABASE_URL answers"
    with Store.connect(migrated_url) as store:
        assert store.symbols() == []
