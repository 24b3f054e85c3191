"""swiftbolt ingest a second time, after its source was corrected: what is wrong no more is found no more."""

from __future__ import annotations

import json
from datetime import date

import polars as pl
import pytest
from support.by_hand import flat_frame, sessions_from
from support.markets import make_bars

from swiftbolt import cli
from swiftbolt.actions import CorporateAction, CorporateActions, forward_adjusted
from swiftbolt.bars import PRICES
from swiftbolt.store.findings import QUARANTINING

D = sessions_from(6)


@pytest.fixture(autouse=True)
def environment(monkeypatch, migrated_url, tmp_path):
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    monkeypatch.setenv("SWIFTBOLT_HOME", str(tmp_path / "home"))


@pytest.fixture
def ingest(tmp_path, capsys):
    def run(frame: pl.DataFrame, *options: str) -> dict:
        frame.write_parquet(tmp_path / "bars.parquet")
        path = str(tmp_path / "bars.parquet")
        assert cli.run(["ingest", "--provider", "files", "--path", path, "--json", *options]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def halving(split_on: date) -> pl.DataFrame:
    """AAA's price halves on the fourth session; the split stands on ``split_on``."""
    frame = flat_frame("AAA", [100.0, 100.0, 100.0, 50.0, 50.0, 50.0])
    return frame.with_columns(split=pl.when(pl.col("session") == split_on).then(2.0).otherwise(1.0))


def test_a_split_that_moved_is_withdrawn_where_it_was_reported_and_the_old_one_kept(store, ingest):
    ingest(halving(D[2]))
    summary = ingest(halving(D[3]))
    assert list(store.actions()) == [CorporateAction(symbol="AAA", ex_date=D[3], kind="split", value=2.0)]
    assert forward_adjusted(store.bars(), store.actions())["close"].to_list() == [100.0] * 6
    assert summary["revised_actions"] == 1
    kept = store.action_revisions().select("ex_date", "kind", "value", "is_withdrawn")
    assert kept.rows() == [(D[2], "split", 2.0, True)]
    (found,) = store.findings().frame.filter(kind="revision").to_dicts()
    assert (found["session"], found["detail"]) == (D[2], "split of 2.0 from files withdrawn")


def test_actions_outside_the_days_a_file_answers_for_stay(store, ingest):
    ingest(halving(D[3]))
    ingest(flat_frame("AAA", [51.0], first=D[5]).with_columns(split=1.0))
    assert [action.ex_date for action in store.actions()] == [D[3]]


def test_a_corrected_row_loses_its_finding_and_its_place_in_the_quarantine(store, ingest):
    frame = flat_frame("AAA", [10, 11, -1, 12])
    assert ingest(frame)["set_aside"] == {"not_positive": 1}
    assert len(store.quarantine()) == 1
    corrected = flat_frame("AAA", [10, 11, 11, 12])
    summary = ingest(corrected)
    assert (summary["set_aside"], summary["findings"]) == ({}, {})
    assert len(store.quarantine()) == 0


def test_ingesting_a_part_again_leaves_what_only_the_whole_can_tell(store, ingest):
    """On one session the bars of most symbols repeat: a stale day that no symbol shows by itself."""
    names = [f"S{number}" for number in range(8)]
    bars = make_bars(names, 120, seed=4).frame
    day = bars["session"].unique().sort()[100]
    before = bars["session"].unique().sort()[99]
    held = bars.filter(pl.col("session") == before).drop("session")
    stale = (pl.col("session") == day) & (pl.col("symbol") != "S7")
    repeated = bars.join(held, on="symbol", suffix="_before", maintain_order="left").with_columns(
        pl.when(stale).then(pl.col(f"{name}_before")).otherwise(name).alias(name) for name in (*PRICES, "volume")
    )
    frame = repeated.select(bars.columns)
    ingest(frame)
    whole = store.findings()
    assert set(whole.frame["kind"]) & set(QUARANTINING) == {"stale_close"}
    ingest(frame.filter(pl.col("symbol") == "S3"))
    assert store.findings() == whole


def test_without_actions_of_its_own_a_file_withdraws_none(store, ingest):
    store.upsert_actions(
        CorporateActions.of([CorporateAction(symbol="AAA", ex_date=date(2019, 6, 3), kind="split", value=2.0)]), "test"
    )
    ingest(flat_frame("AAA", [10, 11, 12]))
    assert len(store.actions()) == 1
