"""The store on a real PostgreSQL."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import polars as pl
import psycopg
import pytest
from support.database import MONDAY, TUESDAY, WEDNESDAY, at_once, bars_of, named

from swiftbolt.actions import CorporateAction, CorporateActions
from swiftbolt.bars import BAR_SCHEMA, Bars, Quarantine
from swiftbolt.errors import NotFound, SchemaError, StoreError, StoreUnavailable
from swiftbolt.findings import Findings
from swiftbolt.forecast import Forecasts, normal_quantiles
from swiftbolt.sessions import sessions_between
from swiftbolt.store import ArtifactRow, Store, SymbolRow, UpsertCount
from swiftbolt.store.statements import migrations

NOON = datetime(2026, 11, 22, 14, 30, 0, tzinfo=UTC)


def random_bars(symbols: Sequence[str], first: date, last: date, rng: np.random.Generator) -> Bars:
    days = sessions_between(first, last)
    parts = []
    for symbol in sorted(symbols):
        low, other, high = np.sort(np.exp(rng.normal(3, 2, size=(3, len(days)))), axis=0)
        columns = {"open": other, "high": high, "low": low, "close": low, "volume": rng.uniform(0, 1e12, len(days))}
        parts.append(pl.DataFrame({"symbol": [symbol] * len(days), "session": days, **columns}, schema=BAR_SCHEMA))
    return Bars(frame=pl.concat(parts))


def forecasts_of(*models: str, symbols: Sequence[str] = ("AAPL", "IBM")) -> pl.DataFrame:
    """Normal forecasts with mean 0.01 and standard deviation 0.02 sqrt(h), from Monday."""
    horizons = (1, 5, 20)
    sd_NH = np.tile(0.02 * np.sqrt(horizons), (len(symbols), 1))
    return pl.concat(
        Forecasts(
            model=model,
            horizons=horizons,
            symbol_N=np.array(symbols),
            origin_N=np.array([MONDAY] * len(symbols), dtype="datetime64[D]"),
            quantiles_NHQ=normal_quantiles(np.full_like(sd_NH, 0.01), sd_NH),
        ).to_frame()
        for model in models
    )


def results_of(*metrics: str) -> pl.DataFrame:
    rows = [("arima", horizon, text) for horizon, text in zip((1, 5, 20), metrics, strict=False)]
    return pl.DataFrame(rows, schema={"model": pl.String, "horizon": pl.Int32, "metrics": pl.String}, orient="row")


ARIMA = ArtifactRow(model="arima", manifest={"seed": 7}, directory="/releases/r/arima")


def publish(store: Store, digest: str = "d1", **changes: object) -> int:
    """A complete release of a run of its own."""
    arguments: dict[str, object] = {
        "run": store.start_run("retrain", {"seed": 7}, now=NOON),
        "digest": digest,
        "origin": MONDAY,
        "directory": "/releases/r",
        "forecasts": forecasts_of("arima", "ensemble"),
        "results": results_of('{"rmse": 0.5}'),
        "artifacts": [ARIMA],
    }
    return store.publish_release(**arguments | changes)  # type: ignore[arg-type]


@pytest.fixture
def sql(migrated_url: str) -> Iterator[psycopg.Connection]:
    """A second, plain connection to the store's database."""
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        yield connection


# ---- migrations -------------------------------------------------------------------------------------------


def test_migrating_twice_applies_each_migration_once_and_in_order(empty_url):
    with Store.connect(empty_url) as store:
        assert store.migrate() == [name for name, _ in migrations()]
        assert store.migrate() == []


def test_two_migrating_at_once_apply_each_migration_once_between_them(empty_url):
    with Store.connect(empty_url) as one, Store.connect(empty_url) as other:
        first, second = at_once(one.migrate, other.migrate)
    assert sorted([*first, *second]) == [name for name, _ in migrations()]


def test_a_database_that_another_tool_migrated_is_taken_over(empty_url):
    with psycopg.connect(empty_url, autocommit=True) as connection:
        for _, text in migrations():
            connection.execute(text)
    with Store.connect(empty_url) as store:
        store.migrate()
        assert store.upsert_bars(bars_of(("AAPL", MONDAY, 1.0)), "test").inserted == 1


def test_migrations_are_numbered_from_one_without_a_gap():
    assert [int(name.split("_")[0]) for name, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_database_without_our_tables_says_that_it_must_be_migrated(empty_url):
    with Store.connect(empty_url) as store, pytest.raises(StoreError, match="must be migrated first") as caught:
        store.symbols()
    assert isinstance(caught.value.__cause__, psycopg.Error)


def test_the_web_roles_of_supabase_may_not_touch_our_tables(empty_url):
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE anon")
        try:
            connection.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon")
            with Store.connect(empty_url) as store:
                store.migrate()
            reachable = connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                " AND relkind IN ('r', 'p', 'v') AND has_table_privilege('anon', oid, 'SELECT, INSERT, UPDATE')"
            ).fetchall()
        finally:
            connection.execute("DROP OWNED BY anon")
            connection.execute("DROP ROLE anon")
    assert reachable == []


# ---- bars and actions -------------------------------------------------------------------------------------


def test_bars_come_back_bit_for_bit_and_in_the_order_of_their_bytes(store):
    symbols = ["AAPL", "BRK.B", "BRKA", "a", "É", "^GSPC"]
    bars = random_bars(symbols, date(2003, 12, 1), date(2005, 2, 1), np.random.default_rng(7))
    assert store.upsert_bars(bars, "test") == UpsertCount(inserted=len(bars), revised=0, unchanged=0)
    found = store.bars()
    assert found == bars
    for column in ("open", "high", "low", "close", "volume"):
        assert found.frame[column].to_numpy().tobytes() == bars.frame[column].to_numpy().tobytes()


def test_bars_are_chosen_by_symbol_and_by_both_ends_of_a_range(store):
    bars = random_bars(["AAPL", "IBM", "MSFT"], date(2023, 12, 1), date(2024, 2, 1), np.random.default_rng(7))
    store.upsert_bars(bars, "test")
    assert store.bars(["IBM", "AAPL"]) == bars.select(["AAPL", "IBM"])
    assert store.bars(["IBM"], start=MONDAY, end=TUESDAY) == bars.select(["IBM"], MONDAY, TUESDAY)
    assert len(store.bars(["IBM"], start=MONDAY, end=TUESDAY)) == 2
    assert len(store.bars(["NOBODY"])) == 0
    assert len(store.bars([])) == 0


def test_ingesting_the_same_bars_again_changes_nothing(store):
    bars = bars_of(("AAPL", MONDAY, 185.0), ("AAPL", TUESDAY, 186.0))
    store.upsert_bars(bars, "first")
    assert store.upsert_bars(bars, "second") == UpsertCount(inserted=0, revised=0, unchanged=2)
    assert store.bars() == bars


def test_a_batch_is_counted_as_inserted_revised_and_unchanged(store):
    store.upsert_bars(bars_of(("AAPL", MONDAY, 185.0), ("AAPL", TUESDAY, 186.0)), "test")
    batch = bars_of(("AAPL", MONDAY, 185.0), ("AAPL", TUESDAY, 186.5), ("AAPL", WEDNESDAY, 187.0), ("IBM", MONDAY, 1.0))
    assert store.upsert_bars(batch, "test") == UpsertCount(inserted=2, revised=1, unchanged=1)
    assert store.bars() == batch


def test_two_ingests_of_the_same_bars_at_once_insert_each_bar_once(migrated_url):
    bars = random_bars(["AAPL", "IBM", "MSFT"], date(2018, 1, 2), date(2023, 12, 29), np.random.default_rng(7))
    with Store.connect(migrated_url) as one, Store.connect(migrated_url) as other:
        counts = at_once(lambda: one.upsert_bars(bars, "one"), lambda: other.upsert_bars(bars, "other"))
        assert sorted(count.inserted for count in counts) == [0, len(bars)]
        assert sorted(count.unchanged for count in counts) == [0, len(bars)]
        assert one.bars() == bars


def test_two_threads_may_share_a_store(store):
    mine = random_bars(["AAPL"], date(2020, 1, 2), date(2023, 12, 29), np.random.default_rng(1))
    yours = random_bars(["IBM"], date(2020, 1, 2), date(2023, 12, 29), np.random.default_rng(2))
    counts = at_once(lambda: store.upsert_bars(mine, "test"), lambda: store.upsert_bars(yours, "test"))
    assert [count.inserted for count in counts] == [len(mine), len(yours)]
    assert store.bars(["AAPL"]) == mine
    assert store.bars(["IBM"]) == yours


@pytest.mark.parametrize("symbol", ["Robert'); DROP TABLE bars;--", '"', "%s", "a,b", "{x}", "\\", "' OR '1'='1"])
def test_a_symbol_made_to_look_like_sql_is_just_a_symbol(store, symbol):
    bars = bars_of((symbol, MONDAY, 1.0), ("AAPL", MONDAY, 2.0))
    store.upsert_bars(bars, symbol)
    assert store.bars([symbol]) == bars.select([symbol])
    assert store.last_sessions() == {symbol: MONDAY, "AAPL": MONDAY}


def test_a_batch_the_database_refuses_leaves_nothing_behind(store):
    with pytest.raises(StoreError, match="value too long"):
        store.upsert_bars(bars_of(("AAPL", MONDAY, 1.0)), "source" * 11)
    assert len(store.bars()) == 0


@pytest.mark.parametrize(
    ("symbol", "sentence"),
    [("X" * 65, f"symbol {'X' * 64}... has 65 characters and the store has room for 64"), ("A\0", "holds a NUL")],
)
def test_a_symbol_the_store_has_no_room_for_is_named(store, symbol, sentence):
    row = ("AAPL", MONDAY, 1.0), (symbol, MONDAY, 1.0)
    faulty = Quarantine(frame=bars_of(*row).frame.with_columns(fault=pl.lit("null")))
    split = CorporateAction(symbol=symbol, ex_date=MONDAY, kind="split", value=2.0)
    for write in (
        lambda: store.upsert_bars(bars_of(*row), "test"),
        lambda: store.upsert_actions(CorporateActions.of([split]), "test"),
        lambda: store.set_aside(faulty, "test"),
        lambda: store.replace_findings(Findings.of_quarantine(faulty), symbols=[]),
        lambda: store.record_coverage(symbol, "test", MONDAY, MONDAY),
    ):
        with pytest.raises(SchemaError, match=sentence):
            write()
    assert len(store.bars()) == 0


def test_a_symbol_may_be_as_long_as_there_is_room_whatever_its_letters(store):
    bars = bars_of(("É" * 64, MONDAY, 1.0))
    store.upsert_bars(bars, "test")
    assert store.bars() == bars


def test_symbols_are_listed_with_what_is_held_of_each(store):
    store.upsert_bars(bars_of(("IBM", MONDAY, 160.0), ("AAPL", TUESDAY, 186.0), ("AAPL", MONDAY, 185.0)), "test")
    assert store.symbols() == [
        SymbolRow(symbol="AAPL", first=MONDAY, last=TUESDAY, sessions=2, last_close=186.0),
        SymbolRow(symbol="IBM", first=MONDAY, last=MONDAY, sessions=1, last_close=160.0),
    ]
    assert store.last_sessions() == {"AAPL": TUESDAY, "IBM": MONDAY}


def dividend(value: float, known_at: date | None = None, symbol: str = "AAPL") -> CorporateAction:
    return CorporateAction(symbol=symbol, ex_date=TUESDAY, kind="dividend", value=value, known_at=known_at)


def test_actions_come_back_as_they_went_in_two_dividends_of_one_day_among_them(store):
    split = CorporateAction(symbol="IBM", ex_date=MONDAY, kind="split", value=1.0 / 3.0)
    actions = CorporateActions.of([dividend(0.24, MONDAY), dividend(1.0), split])
    assert store.upsert_actions(actions, "test") == UpsertCount(inserted=3, revised=0, unchanged=0)
    assert store.upsert_actions(actions, "test") == UpsertCount(inserted=0, revised=0, unchanged=3)
    assert store.actions() == actions
    assert store.actions(["IBM"]) == CorporateActions.of([split])
    assert len(store.actions(["NOBODY"])) == 0


def test_a_corrected_dividend_replaces_the_one_it_corrects(store):
    store.upsert_actions(CorporateActions.of([dividend(0.24), dividend(1.0), dividend(5.0, symbol="IBM")]), "test")
    corrected = CorporateActions.of([dividend(0.25)])
    assert store.upsert_actions(corrected, "test") == UpsertCount(inserted=0, revised=2, unchanged=0)
    assert store.actions(["AAPL"]) == corrected
    assert len(store.actions(["IBM"])) == 1


# ---- runs -------------------------------------------------------------------------------------------------


def test_a_run_is_followed_from_its_start_to_its_end(store):
    run = store.start_run("retrain", {"universe": ["AAPL"]}, now=NOON)
    assert run.startswith("retrain-20261122-143000-")
    store.progress_run(run, done=1, failed=1, total=3)
    (row,) = store.runs()
    assert (row.run, row.kind, row.state, row.done, row.failed, row.total) == (run, "retrain", "running", 1, 1, 3)
    assert (row.seconds, row.started, row.failures) == (None, NOON, {})

    store.finish_run(run, "succeeded", 12.5, {"FB": "needs 252 sessions, has 196"})
    (row,) = store.runs()
    assert (row.state, row.seconds, row.failures) == ("succeeded", 12.5, {"FB": "needs 252 sessions, has 196"})


def test_runs_are_named_in_utc_and_listed_newest_first(store):
    tokyo = timezone(timedelta(hours=9))
    older = store.start_run("sweep", {}, now=datetime(2026, 1, 1, 3, 0, 0, tzinfo=tokyo))
    newer = store.start_run("sweep", {}, now=NOON)
    assert older.startswith("sweep-20251231-180000-")
    assert [row.run for row in store.runs()] == [newer, older]


def test_a_run_must_start_at_an_aware_time(store):
    with pytest.raises(ValueError, match="aware"):
        store.start_run("sweep", {}, now=datetime(2026, 1, 1))


def test_an_unknown_run_is_not_found(store):
    with pytest.raises(NotFound, match="no run 'retrain-x'"):
        store.progress_run("retrain-x", 1, 0, 2)
    with pytest.raises(NotFound, match="no run 'retrain-x'"):
        store.finish_run("retrain-x", "failed", 1.0, {})


# ---- releases ---------------------------------------------------------------------------------------------


def test_a_release_is_published_whole_and_not_yet_promoted(store):
    run = store.start_run("retrain", {}, now=NOON)
    version = publish(store, run=run, reproducible=False)
    row = store.release(version)
    assert (row.version, row.run, row.active, row.release_digest) == (version, run, False, "d1")
    assert (row.origin, row.directory, row.reproducible) == (MONDAY, "/releases/r", False)
    assert store.releases() == [row]
    assert store.active_release() is None
    published = forecasts_of("arima", "ensemble").sort("symbol", "model", "horizon")
    assert store.forecasts(version).equals(published)
    assert store.forecasts(version, "IBM").equals(published.filter(pl.col("symbol") == "IBM"))
    assert Forecasts.from_frame(store.forecasts(version).filter(pl.col("model") == "arima")).model == "arima"
    assert len(store.forecasts(version, "NOBODY")) == 0
    assert [(m, h, json.loads(text)) for m, h, text in store.results(version).iter_rows()] == [
        ("arima", 1, {"rmse": 0.5})
    ]


@pytest.mark.parametrize(
    "fault",
    [
        {"forecasts": pl.concat([forecasts_of("arima"), forecasts_of("arima")])},
        {"forecasts": forecasts_of("arima").with_columns(p_up=pl.lit(None, dtype=pl.Float64))},
        {"results": results_of('{"rmse": 0.5}', "not json")},
        {"results": results_of('{"rmse": NaN}')},
        {"artifacts": [ARIMA, ARIMA]},
        {"artifacts": [ArtifactRow(model="arima", manifest={"loss": math.nan}, directory="d")]},
        {"run": "retrain-unknown"},
    ],
    ids=["row twice", "null", "bad json", "nan in metrics", "model twice", "nan in manifest", "unknown run"],
)
def test_a_release_that_cannot_be_published_whole_is_not_published_at_all(store, sql, fault):
    with pytest.raises(StoreError):
        publish(store, **fault)
    assert store.releases() == []
    for table in ("releases", "artifacts", "scores", "forecasts"):
        assert sql.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,)


def test_forecasts_without_a_column_are_refused_by_its_name(store):
    with pytest.raises(SchemaError, match=r"forecasts lack the columns q_0\.5"):
        publish(store, forecasts=forecasts_of("arima").drop("q_0.5"))


def test_a_run_publishes_once(store):
    run = store.start_run("retrain", {}, now=NOON)
    publish(store, run=run)
    with pytest.raises(StoreError, match="already exists"):
        publish(store, run=run)
    assert len(store.releases()) == 1


def test_what_was_forecast_cannot_be_rewritten_but_its_outcome_can_be_added(store, sql):
    publish(store)
    sql.execute("UPDATE forecasts SET realized = 0.01")
    for text in ("UPDATE forecasts SET mean = 0", 'UPDATE forecasts SET "q_0.5" = 0', "DELETE FROM forecasts"):
        with pytest.raises(psycopg.Error, match="append-only"):
            sql.execute(text.encode())


def test_promote_takes_the_newest_or_the_one_named_and_rollback_goes_back_step_by_step(store):
    first, second, third = (publish(store, digest) for digest in ("d1", "d2", "d3"))
    assert store.promote(first).active
    assert store.promote(second).version == second
    newest = store.promote()
    assert (newest.version, newest.active) == (third, True)
    assert store.active_release() == newest
    assert [row.active for row in store.releases()] == [True, False, False]

    assert store.rollback().version == second
    assert store.rollback().version == first
    with pytest.raises(NotFound, match=f"no release was served before release {first}"):
        store.rollback()
    assert store.active_release() == store.release(first)

    store.promote(third)
    assert store.rollback().version == first


def test_promoting_the_active_release_again_does_not_hide_the_one_before(store):
    first, second = publish(store, "d1"), publish(store, "d2")
    store.promote(first)
    store.promote(second)
    store.promote(second)
    assert store.rollback().version == first


def test_what_is_not_there_is_not_found_in_words_a_person_can_use(store):
    with pytest.raises(NotFound, match="there is no release yet: a retrain makes one"):
        store.promote()
    with pytest.raises(NotFound, match="no release was ever promoted"):
        store.rollback()
    first, second = publish(store, "d1"), publish(store, "d2")
    for ask in (store.promote, store.release, store.forecasts, store.results):
        with pytest.raises(NotFound, match=f"no release 99: there are {first}, {second}"):
            ask(99)
    assert store.active_release() is None


def test_promotions_at_once_leave_one_release_active_and_every_step_back(migrated_url):
    with Store.connect(migrated_url) as one, Store.connect(migrated_url) as other:
        first, second = publish(one, "d1"), publish(one, "d2")
        at_once(lambda: one.promote(first), lambda: other.promote(second))
        active = [row.version for row in one.releases() if row.active]
        assert len(active) == 1
        assert one.rollback().version == first + second - active[0]


def test_listeners_are_told_which_release_is_served(store, sql):
    first, second = publish(store, "d1"), publish(store, "d2")
    sql.execute("LISTEN swiftbolt_release")
    store.promote(first)
    store.promote(second)
    store.rollback()
    told = [int(notice.payload) for notice in sql.notifies(timeout=5, stop_after=3)]
    assert told == [first, second, first]


# ---- the roadmap's views ----------------------------------------------------------------------------------


def test_stock_prices_shows_bars_under_the_names_of_the_roadmap(store, sql):
    store.upsert_bars(bars_of(("AAPL", MONDAY, 185.5)), "test")
    row = sql.execute("SELECT symbol, date, open, high, low, close, volume FROM stock_prices").fetchone()
    assert row == ("AAPL", MONDAY, 185.5, 185.5, 185.5, 185.5, 1000)


def test_arima_predictions_are_prices_of_the_close_the_forecast_started_from(store, sql):
    store.upsert_bars(bars_of(("AAPL", MONDAY, 100.0), ("AAPL", TUESDAY, 300.0)), "test")
    version = publish(store)
    row = sql.execute(
        "SELECT prediction_date, current_price, price_target_1d, price_target_5d, price_target_20d, lower_ci, upper_ci,"
        " volatility, model_version FROM arima_predictions WHERE symbol = 'AAPL' AND forecast_horizon = 20"
    ).fetchone()
    assert row is not None
    spread = 1.959964 * 0.02 * math.sqrt(20)
    target = 100 * math.exp(0.01)
    assert row[0] == datetime(2024, 1, 8, tzinfo=UTC)
    assert row[1:5] == pytest.approx((100.0, target, target, target))
    assert row[5:7] == pytest.approx((100 * math.exp(0.01 - spread), 100 * math.exp(0.01 + spread)), rel=1e-6)
    assert row[7] == pytest.approx(0.02 * math.sqrt(20))
    assert row[8] == str(version)
    # IBM has no stored bar: its forecasts are there, their prices are not known.
    prices = sql.execute("SELECT current_price, price_target_1d FROM arima_predictions WHERE symbol = 'IBM'")
    assert prices.fetchall() == [(None, None)] * 3


def test_predictions_are_the_ensembles_with_the_four_members_beside_them(store, sql):
    store.upsert_bars(bars_of(("AAPL", MONDAY, 100.0)), "test")
    publish(store, forecasts=forecasts_of("naive", "arima", "lstm", "ensemble"))
    row = sql.execute(
        "SELECT price_target, confidence, direction, components FROM predictions WHERE symbol = 'AAPL' AND horizon = 1"
    ).fetchone()
    assert row is not None
    assert row[0] == pytest.approx(100 * math.exp(0.01))
    assert row[1] == pytest.approx(0.6914625)  # standard normal below 0.01 / 0.02
    assert row[2] == "UP"
    assert row[3] == pytest.approx({"arima": 0.01, "lstm": 0.01})


def test_model_results_shows_the_scorecard_under_the_names_of_the_roadmap(store, sql):
    publish(store, results=results_of('{"rmse": 0.5, "test_period_start": "2015-01-02", "skill": 0.03}'))
    row = sql.execute(
        "SELECT model_type, horizon, test_period_start, rmse, sharpe_ratio, metrics ->> 'skill' FROM model_results"
    ).fetchone()
    assert row == ("arima", 1, date(2015, 1, 2), 0.5, None, "0.03")


# ---- the connection ---------------------------------------------------------------------------------------


def test_an_unreachable_database_is_one_line_with_place_reason_and_remedy_and_no_password():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused
        port = taken.getsockname()[1]
        with pytest.raises(StoreUnavailable) as caught:
            Store.connect(f"postgresql://user:hunter2@127.0.0.1:{port}/swiftbolt")
    said = str(caught.value)
    assert f"cannot reach the database at 127.0.0.1:{port} (Connection refused)" in said
    assert "mend DATABASE_URL" in said
    assert "\n" not in said
    assert "hunter2" not in said
    assert isinstance(caught.value.__cause__, psycopg.Error)


@pytest.mark.parametrize(
    "url",
    ["mysql://user:hunter2@host/db", "postgresql://user:my hunter2@host/db", "hunter2", "postgresql://[hunter2/db"],
)
def test_an_address_that_is_none_is_refused_without_repeating_it(url):
    with pytest.raises(StoreUnavailable, match="DATABASE_URL is not a PostgreSQL address") as caught:
        Store.connect(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_database_that_does_not_exist_is_named(database_url):
    with pytest.raises(StoreUnavailable, match='database "nowhere" does not exist'):
        Store.connect(named(database_url, "nowhere"))


def test_a_connection_lost_between_two_operations_is_replaced(store, sql):
    store.upsert_bars(bars_of(("AAPL", MONDAY, 1.0)), "test")
    ended = sql.execute(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'swiftbolt'"
    ).fetchone()
    assert ended == (1,)
    assert store.last_sessions() == {"AAPL": MONDAY}


def test_a_closed_store_says_so(migrated_url):
    with Store.connect(migrated_url) as store:
        pass
    with pytest.raises(StoreError, match="closed"):
        store.symbols()
