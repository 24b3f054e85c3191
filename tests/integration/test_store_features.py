"""The cache of features on a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl
import psycopg
import pytest
from support.database import MONDAY, THURSDAY, TUESDAY, WEDNESDAY, at_once, bars_of, until_blocked

from swiftbolt.errors import SchemaError
from swiftbolt.store import Store

NAMES = ["momentum_5d", "kdj_d", "É"]
KEY = {"spec_hash": "spec", "universe_hash": "universe", "revision": "r1"}


def features_of(
    symbols: Sequence[str] = ("AAPL", "IBM"),
    sessions: Sequence[date] = (MONDAY, TUESDAY, WEDNESDAY),
    *,
    names: Sequence[str] = NAMES,
    seed: int = 7,
) -> pl.DataFrame:
    """Random features, a tenth of them NaN, by symbol and session."""
    rng = np.random.default_rng(seed)
    count = len(symbols) * len(sessions)
    numbers = np.exp(rng.normal(0, 50, size=(2 + len(names), count)))
    numbers[2:][rng.random((len(names), count)) < 0.1] = np.nan
    return pl.DataFrame(
        {
            "symbol": np.repeat(sorted(symbols), len(sessions)),
            "session": pl.Series(list(sessions) * len(symbols), dtype=pl.Date),
            **dict(zip(["price_growth", "share_growth", *names], numbers, strict=True)),
        }
    )


def cached(store: Store, symbols: Sequence[str] = ("AAPL", "IBM"), **changes: object) -> pl.DataFrame:
    return store.cached_features(**{**KEY, "symbols": symbols, "columns": NAMES, **changes})  # type: ignore[arg-type]


def test_features_come_back_bit_for_bit_nan_infinity_and_minus_zero_among_them(store):
    frame = features_of(["AAPL", "É" * 64, "IBM"])
    odd = np.array([0x7FF8DEADBEEF0001, 0xFFF0000000000000, 0x8000000000000000, 1], dtype=np.uint64).view(np.float64)
    frame = frame.with_columns(kdj_d=pl.Series(np.concatenate([odd, frame["kdj_d"].to_numpy()[4:]])))
    store.cache_features(**KEY, frame=frame)
    found = cached(store, ["IBM", "É" * 64, "AAPL"])
    assert found.schema == frame.schema
    assert found.select("symbol", "session").equals(frame.select("symbol", "session"))
    for name in frame.columns[2:]:
        assert found[name].to_numpy().tobytes() == frame[name].to_numpy().tobytes()


def test_features_are_chosen_by_symbol_and_from_a_session_on(store):
    frame = features_of()
    store.cache_features(**KEY, frame=frame)
    assert cached(store, ["IBM", "NOBODY"], start=TUESDAY).equals(
        frame.filter((pl.col("symbol") == "IBM") & (pl.col("session") >= TUESDAY)), null_equal=True
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"spec_hash": "another"},
        {"universe_hash": "another"},
        {"revision": "another"},
        {"symbols": []},
        {"start": THURSDAY},
        {"columns": ["kdj_d", "momentum_5d", "É"]},
    ],
)
def test_features_are_not_found_under_another_key(store, changes):
    store.cache_features(**KEY, frame=features_of())
    found = cached(store, **changes)
    assert len(found) == 0
    columns = changes.get("columns", NAMES)
    assert found.schema == features_of().select("symbol", "session", "price_growth", "share_growth", *columns).schema


def test_sessions_are_added_to_those_cached_and_written_anew_where_they_come_again(store):
    old, new = features_of(seed=1), features_of(sessions=[WEDNESDAY, THURSDAY], seed=2)
    store.cache_features(**KEY, frame=old)
    store.cache_features(**KEY, frame=new)
    kept = old.filter(pl.col("session") < WEDNESDAY)
    assert cached(store).equals(pl.concat([kept, new]).sort("symbol", "session"))


def test_a_frame_may_be_in_any_order(store):
    frame = features_of()
    store.cache_features(**KEY, frame=frame.sample(fraction=1, shuffle=True, seed=7).select(reversed(frame.columns)))
    names = list(reversed(NAMES))
    assert cached(store, columns=names).equals(frame.select(*frame.columns[:4], *names))


def test_rows_of_another_revision_go_and_those_of_another_spec_or_universe_stay(store):
    frame = features_of()
    for change in ({}, {"spec_hash": "another"}, {"universe_hash": "another"}):
        store.cache_features(**KEY | change, frame=frame)
    store.cache_features(**KEY | {"revision": "r2"}, frame=features_of(["IBM"], seed=3))
    assert len(cached(store)) == 0
    assert cached(store, revision="r2").equals(features_of(["IBM"], seed=3))
    assert len(cached(store, spec_hash="another")) == len(cached(store, universe_hash="another")) == len(frame)


def test_a_bar_that_comes_late_to_its_session_withdraws_what_was_cached_from_there_on(store):
    store.upsert_bars(bars_of(("AAPL", WEDNESDAY, 1.0), ("IBM", MONDAY, 1.0)), "test")
    store.cache_features(**KEY, frame=features_of(["AAPL"]))
    store.upsert_bars(bars_of(("IBM", TUESDAY, 1.0)), "test")
    assert cached(store)["session"].to_list() == [MONDAY]


def test_a_bar_of_a_session_that_is_not_cached_yet_withdraws_nothing(store):
    store.upsert_bars(bars_of(("AAPL", WEDNESDAY, 1.0), ("IBM", WEDNESDAY, 1.0)), "test")
    frame = features_of()
    store.cache_features(**KEY, frame=frame)
    store.upsert_bars(bars_of(("AAPL", THURSDAY, 1.0), ("IBM", THURSDAY, 1.0)), "test")
    store.upsert_bars(bars_of(("MSFT", MONDAY, 1.0), ("MSFT", TUESDAY, 1.0)), "test")
    assert cached(store).equals(frame)


def test_what_is_being_cached_as_a_late_bar_comes_is_withdrawn_too(store, migrated_url):
    store.upsert_bars(bars_of(("AAPL", WEDNESDAY, 1.0), ("IBM", MONDAY, 1.0)), "test")
    store.cache_features(**KEY, frame=features_of(["AAPL"]))
    with psycopg.connect(migrated_url) as caching, psycopg.connect(migrated_url, autocommit=True) as sql:
        caching.execute("SELECT FROM feature_sets FOR UPDATE")
        caching.execute(
            "INSERT INTO feature_rows SELECT feature_set, 'IBM', %s, 1, 1, '{1,1,1}' FROM feature_sets", [TUESDAY]
        )
        late = threading.Thread(target=store.upsert_bars, args=[bars_of(("IBM", TUESDAY, 1.0)), "test"])
        late.start()
        until_blocked(sql, late.is_alive)
        caching.commit()
        late.join()
    assert cached(store)["session"].to_list() == [MONDAY]


def test_two_caching_at_once_leave_the_rows_of_both(migrated_url):
    with Store.connect(migrated_url) as one, Store.connect(migrated_url) as other:
        frames = features_of(["AAPL", "IBM"]), features_of(["IBM", "MSFT"], [*(MONDAY, TUESDAY, WEDNESDAY)])
        at_once(
            lambda: one.cache_features(**KEY, frame=frames[0]), lambda: other.cache_features(**KEY, frame=frames[1])
        )
        assert len(cached(one, ["AAPL", "IBM", "MSFT"])) == 9


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (features_of().drop("price_growth"), "features lack the columns price_growth"),
        (features_of(names=[]), "features lack columns besides those of their key"),
        (features_of().with_columns(kdj_d=pl.lit(1)), "features must be float64, kdj_d is Int32"),
        (features_of().with_columns(kdj_d=pl.lit(None, dtype=pl.Float64)), "features hold a null in kdj_d"),
        (features_of(["X" * 65]), "has 65 characters"),
    ],
    ids=["no growth", "no feature", "integers", "null", "long symbol"],
)
def test_what_are_no_features_is_refused_and_leaves_nothing(store, frame, sentence):
    with pytest.raises(SchemaError, match=sentence):
        store.cache_features(**KEY, frame=frame)
    assert len(cached(store)) == 0
