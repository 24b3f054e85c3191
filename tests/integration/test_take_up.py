"""Which run a retrain is: one that died goes on with the bars it began with; otherwise a new one begins."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.markets import make_bars
from support.recipes import tiny_recipe

from cluster.kept_history import keep_history, kept_to, read_history
from cluster.storage import RunStorage
from cluster.take_up import Work, forget_others, identity_of, take_up
from swiftbolt.bars import Bars
from swiftbolt.errors import DataError
from swiftbolt.store import Store
from swiftbolt.universe import Universe

RECIPE = tiny_recipe("xgboost")
UNIVERSE = Universe(symbols=("AA", "BB"), min_sessions=300)
NOW = datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC)
WHOLE = make_bars(["AA", "BB"], 400, seed=3)


def up_to(sessions_left_out: int) -> Bars:
    days = np.unique(WHOLE.frame["session"].to_numpy())
    return Bars(frame=WHOLE.frame.filter(pl.col("session") <= days[-1 - sessions_left_out]))


@pytest.fixture
def begin(store: Store, tmp_path: Path) -> Any:
    """Take a retrain up as its driver does; lines it wrote are in ``begin.lines``."""

    def take(**changes: Any) -> Work:
        lines.clear()
        return take_up(
            store,
            lambda run: RunStorage.of(tmp_path, run),
            changes.pop("recipe", RECIPE),
            UNIVERSE,
            {"recipe": RECIPE.to_json(), "universe": UNIVERSE.model_dump(mode="json")},
            identity_of(changes.pop("identity", RECIPE), UNIVERSE, 1),
            fresh=changes.pop("fresh", False),
            resume_within_sessions=2,
            now=NOW,
            named=names.append,
            write=lines.append,
        )

    lines: list[str] = []
    names: list[str] = []
    take.names = names  # type: ignore[attr-defined]
    take.lines = lines  # type: ignore[attr-defined]
    return take


def test_a_run_that_died_goes_on_with_the_bars_it_began_with(store: Store, begin: Any) -> None:
    store.upsert_bars(up_to(2), source="test")
    first = begin()
    assert (first.starts, first.run) == (1, store.runs()[0].run)
    store.upsert_bars(up_to(0), source="test")
    again = begin()
    assert (again.run, again.starts) == (first.run, 2)
    assert again.history.bars.frame.equals(first.history.bars.frame)
    assert again.history.panel().data_hash == first.history.panel().data_hash
    assert begin.lines == [f"run {first.run} goes on with the bars it began with, to {up_to(2).last_session}"]
    assert begin.names == [first.run, first.run]
    assert len(store.runs()) == 1


def test_a_run_whose_bars_have_become_old_is_given_up_for_a_new_one(store: Store, begin: Any, tmp_path: Path) -> None:
    store.upsert_bars(up_to(3), source="test")
    first = begin()
    store.upsert_bars(up_to(0), source="test")
    second = begin()
    assert second.run != first.run
    assert second.history.bars.last_session == WHOLE.last_session
    (line,) = begin.lines
    assert "is given up: its bars end on 2013-02-26, and the store has 3 sessions more, to 2013-03-01" in line
    old = next(row for row in store.runs() if row.run == first.run)
    assert old.state == "failed"
    assert "given up" in old.failures["run"]
    assert not (tmp_path / first.run).exists()


def test_fresh_begins_anew_and_another_recipe_is_another_run(store: Store, begin: Any) -> None:
    store.upsert_bars(WHOLE, source="test")
    first = begin()
    assert begin().run == first.run
    other = begin(identity=replace(RECIPE, seed=6))
    assert other.run != first.run
    assert begin().run == first.run
    assert begin(fresh=True).run not in (first.run, other.run)


def test_a_run_that_is_done_is_not_taken_up_again(store: Store, begin: Any) -> None:
    store.upsert_bars(WHOLE, source="test")
    first = begin()
    store.finish_run(first.run, "succeeded", 1.0, {})
    assert begin().run != first.run


def test_a_run_that_died_before_it_had_its_bars_reads_them_again(store: Store, begin: Any, tmp_path: Path) -> None:
    store.upsert_bars(WHOLE, source="test")
    first = begin()
    (tmp_path / first.run / "history" / "about.json").unlink()
    again = begin()
    assert again.run == first.run
    assert again.history.bars.frame.equals(WHOLE.frame)


def test_a_history_survives_to_the_bit_with_its_vix_and_a_damaged_one_is_refused(
    begin: Any, store: Store, tmp_path: Path
) -> None:
    from swiftbolt.features.series import DailySeries

    store.upsert_bars(WHOLE, source="test")
    history = begin().history
    vix = DailySeries.of_closes(make_bars(["VIX"], 400, seed=4), "VIX")
    history = replace(history, vix=vix, cohort=replace(history.cohort, vix="VIX"))
    storage = RunStorage.of(tmp_path, "copy")
    assert kept_to(storage) is None
    keep_history(storage, history, {"CC": "no bars"})
    again, skipped = read_history(storage)
    assert skipped == {"CC": "no bars"}
    assert again.cohort == history.cohort
    assert again.panel().data_hash == history.panel().data_hash
    assert np.array_equal(again.panel().features_RF, history.panel().features_RF, equal_nan=True)
    assert kept_to(storage) == WHOLE.last_session
    (tmp_path / "copy" / "history" / "bars.parquet").write_bytes(b"half")
    with pytest.raises(DataError, match="start over with --fresh"):
        read_history(storage)


def test_a_run_that_is_done_gives_up_the_others_of_its_universe_alone(store: Store, begin: Any, tmp_path: Path) -> None:
    store.upsert_bars(WHOLE, source="test")
    lost, done = begin(), begin(identity=replace(RECIPE, seed=6))
    elsewhere = store.start_run("retrain", {"universe": {"symbols": ["CC"]}}, now=NOW, identity="other")
    forget_others(store, lambda run: RunStorage.of(tmp_path, run), UNIVERSE, done.run)
    rows = {row.run: row for row in store.runs()}
    assert rows[lost.run].state == "failed"
    assert rows[lost.run].failures == {"run": f"given up: {done.run} was done since"}
    assert not (tmp_path / lost.run).exists()
    assert (tmp_path / done.run).exists()
    assert rows[elsewhere].state == "lost"
