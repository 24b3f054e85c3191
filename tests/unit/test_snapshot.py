"""The snapshot of a release and its keeper: what is loaded, what is refused, what outlives the database."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from shutil import copytree, rmtree

import polars as pl
import pytest
from support.releases import ORIGIN, SYMBOLS, tiny_bars, write_tiny_release

from serve.snapshot import KEPT_SESSIONS, SnapshotKeeper, State, load_snapshot
from swiftbolt.actions import CorporateActions
from swiftbolt.errors import ArtifactMismatch, StoreUnavailable
from swiftbolt.features.engine import build_panel
from swiftbolt.forecast import Forecasts
from swiftbolt.release import (
    Release,
    read_ensemble,
    read_explanations,
    read_forecasts,
    read_manifest,
    read_member,
    release_digest,
)
from swiftbolt.store import ReleaseRow

BARS = tiny_bars()
CREATED = datetime(2013, 3, 2, 6, 0, tzinfo=UTC)


class ScriptedStore:
    """Stands where the store would: one active release at a time, or no answer at all."""

    def __init__(self, active: ReleaseRow | None = None) -> None:
        self.active = active
        self.away = False
        self.looks_at_newest = 0

    def active_release(self):
        if self.away:
            raise StoreUnavailable("the database went away")
        return self.active

    def bars(self, symbols=None, start=None, end=None):
        return BARS.select(symbols, start, end)

    def last_sessions(self):
        self.looks_at_newest += 1
        return dict.fromkeys(SYMBOLS, ORIGIN)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, Release]:
    """A folder of artifacts with one release in it, ``first``; its members are ARIMA-GARCH and XGBoost."""
    artifacts = tmp_path_factory.mktemp("artifacts")
    panel = build_panel(BARS, CorporateActions.of())
    return artifacts, write_tiny_release(artifacts, "first", panel, models=("arima", "xgboost"))


@pytest.fixture
def artifacts(written, tmp_path) -> Path:
    """A copy to damage."""
    copytree(written[0], tmp_path / "artifacts")
    return tmp_path / "artifacts"


def row_of(release: Release, version: int = 1, run: str = "first") -> ReleaseRow:
    return ReleaseRow(
        version=version,
        run=run,
        active=True,
        release_digest=release.release_digest,
        origin=release.origin,
        created=CREATED,
        directory="elsewhere",
        reproducible=True,
    )


def replace_in(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


def publish_again(artifacts: Path, run: str, forecasts: pl.DataFrame) -> Release:
    """A copy of the first release with other forecasts and the digest that goes with them."""
    directory = artifacts / run
    copytree(artifacts / "first", directory)
    forecasts.write_parquet(directory / "forecasts.parquet")
    release = Release.read(directory)
    manifests = {name: read_manifest(directory / name) for name in release.models}
    digest = release_digest(manifests, read_ensemble(directory), forecasts, read_explanations(directory))
    release = replace(release, run=run, release_digest=digest)
    (directory / "release.json").write_text(release.to_json())
    return release


def test_a_snapshot_holds_each_models_forecast_as_released(written):
    artifacts, release = written
    snapshot = load_snapshot(ScriptedStore(), row_of(release), artifacts)
    assert tuple(snapshot.views) == SYMBOLS
    view = snapshot.views["IBM"]
    assert (tuple(view.by_model), view.missing) == (("arima", "xgboost", "ensemble"), ())
    released = Forecasts.from_frame(read_forecasts(artifacts / "first").filter(model="ensemble", symbol="IBM"))
    assert (view.by_model["ensemble"].quantiles_HQ == released.quantiles_NHQ[0]).all()


def test_a_snapshot_prices_from_the_raw_close_of_the_origin(written):
    artifacts, release = written
    snapshot = load_snapshot(ScriptedStore(), row_of(release), artifacts)
    closes = BARS.frame.filter(session=ORIGIN).select("symbol", "close")
    assert {symbol: view.close for symbol, view in snapshot.views.items()} == dict(closes.iter_rows())
    assert {view.made_at for view in snapshot.views.values()} == {CREATED}
    assert snapshot.bars.last_session == ORIGIN
    assert max(snapshot.bars.sessions_per_symbol().values()) <= KEPT_SESSIONS


def test_a_snapshot_says_why_as_the_released_trees_do_on_the_panel_they_forecast_from(written):
    artifacts, release = written
    snapshot = load_snapshot(ScriptedStore(), row_of(release), artifacts)
    panel = build_panel(BARS, CorporateActions.of())
    trees = read_member(artifacts / "first", "xgboost", spec_hash=panel.spec_hash)
    said = trees.explain(panel, panel.rows_at(panel.sessions[-1:]))
    assert [one for view in snapshot.views.values() for one in view.explanations["xgboost"]] == said
    assert max(len(one.largest) for one in said) == 5
    assert {name for view in snapshot.views.values() for name in view.explanations} == {"xgboost"}


def test_a_release_made_before_models_could_say_why_is_loaded_and_says_nothing(artifacts):
    directory = artifacts / "first"
    (directory / "explanations.json").unlink()
    manifests = {name: read_manifest(directory / name) for name in ("arima", "xgboost")}
    digest = release_digest(manifests, read_ensemble(directory), read_forecasts(directory), {})
    old = replace(Release.read(directory), release_digest=digest)
    (directory / "release.json").write_text(old.to_json())
    snapshot = load_snapshot(ScriptedStore(), row_of(old), artifacts)
    assert [dict(view.explanations) for view in snapshot.views.values()] == [{}] * len(SYMBOLS)


def test_a_member_without_a_forecast_of_a_symbol_is_missing_there_alone(artifacts):
    frame = read_forecasts(artifacts / "first")
    release = publish_again(
        artifacts, "second", frame.filter(~((pl.col("model") == "arima") & (pl.col("symbol") == "IBM")))
    )
    snapshot = load_snapshot(ScriptedStore(), row_of(release, run="second"), artifacts)
    assert {symbol: view.missing for symbol, view in snapshot.views.items()} == {
        "AAPL": (),
        "IBM": ("arima",),
        "MSFT": (),
    }


def test_a_score_that_is_no_number_is_told_as_null(artifacts):
    (artifacts / "first" / "scorecard.json").write_text('{"models": {"arima": {"skill": NaN}}}')
    release = Release.read(artifacts / "first")
    snapshot = load_snapshot(ScriptedStore(), row_of(release), artifacts)
    assert json.dumps(dict(snapshot.scorecard), allow_nan=False) == '{"models": {"arima": {"skill": null}}}'


@pytest.mark.parametrize(
    "damage",
    [
        lambda directory: rmtree(directory),
        lambda directory: (directory / "ensemble.json").unlink(),
        lambda directory: (directory / "ensemble.json").write_text("{}"),
        lambda directory: (directory / "scorecard.json").write_text("{"),
        lambda directory: (directory / "forecasts.parquet").write_bytes(b"PAR1"),
        lambda directory: (directory / "forecasts.parquet").unlink(),
        lambda directory: (directory / "explanations.json").write_text("{"),
        lambda directory: (directory / "explanations.json").write_text("[]"),
        lambda directory: (directory / "explanations.json").write_text('{"xgboost": [{}]}'),
        lambda directory: (directory / "explanations.json").unlink(),
        lambda directory: replace_in(directory / "explanations.json", '"horizon": 5', '"horizon": 6'),
        lambda directory: (directory / "xgboost" / "manifest.json").write_text("{}"),
        lambda directory: (directory / "release.json").write_text("null"),
    ],
)
def test_a_damaged_release_is_refused(artifacts, damage):
    row = row_of(Release.read(artifacts / "first"))
    damage(artifacts / "first")
    with pytest.raises(ArtifactMismatch):
        load_snapshot(ScriptedStore(), row, artifacts)


def test_a_release_whose_digest_is_not_the_promoted_one_is_refused(written):
    artifacts, release = written
    with pytest.raises(ArtifactMismatch, match="digest"):
        load_snapshot(ScriptedStore(), replace(row_of(release), release_digest="f" * 64), artifacts)


def test_a_release_without_an_ensemble_forecast_is_refused(artifacts):
    release = publish_again(
        artifacts, "second", read_forecasts(artifacts / "first").filter(pl.col("model") != "ensemble")
    )
    with pytest.raises(ArtifactMismatch, match="no ensemble"):
        load_snapshot(ScriptedStore(), row_of(release, run="second"), artifacts)


def test_a_release_of_a_session_the_store_lacks_is_refused(written):
    artifacts, release = written
    store = ScriptedStore()
    store.bars = lambda symbols, start, end: BARS.select(symbols, start, date(2013, 2, 28))
    with pytest.raises(ArtifactMismatch, match="no bar"):
        load_snapshot(store, row_of(release), artifacts)


def test_the_keeper_waits_for_a_promotion_and_loads_it_once(written):
    artifacts, release = written
    store = ScriptedStore()
    keeper = SnapshotKeeper(lambda: store, artifacts)
    assert keeper.refresh() is False
    assert (keeper.state.snapshot, keeper.state.reachable) == (None, True)
    assert keeper.state.newest["AAPL"] == ORIGIN
    store.active = row_of(release)
    assert keeper.refresh() is True
    loaded = keeper.state.snapshot
    assert keeper.refresh() is False
    assert keeper.state.snapshot is loaded


def test_the_keeper_follows_promotions_and_rollbacks(artifacts):
    release = Release.read(artifacts / "first")
    again = publish_again(artifacts, "second", read_forecasts(artifacts / "first"))
    store = ScriptedStore(row_of(release))
    keeper = SnapshotKeeper(lambda: store, artifacts)
    seen = []
    for row in (row_of(release), row_of(again, version=2, run="second"), row_of(release)):
        store.active = row
        assert keeper.refresh() is True
        seen.append(keeper.state.snapshot.release.version)
    assert seen == ["1", "2", "1"]


def test_the_last_snapshot_answers_on_and_is_stale_while_the_database_is_away(written, caplog):
    artifacts, release = written
    store = ScriptedStore(row_of(release))
    keeper = SnapshotKeeper(lambda: store, artifacts)
    keeper.refresh()
    assert keeper.state.is_stale("AAPL", ORIGIN) is False
    store.away = True
    with caplog.at_level(logging.WARNING):
        assert [keeper.refresh() for _ in range(3)] == [False] * 3
    assert keeper.state.snapshot is not None
    assert keeper.state.is_stale("AAPL", ORIGIN) is True
    assert len(caplog.records) == 1  # said once, not at every poll
    store.away = False
    keeper.refresh()
    assert keeper.state.is_stale("AAPL", ORIGIN) is False


def test_a_database_that_cannot_even_be_connected_to_leaves_the_keeper_empty():
    def refuse():
        raise StoreUnavailable("cannot reach the database")

    keeper = SnapshotKeeper(refuse, Path("nowhere"))
    assert keeper.refresh() is False
    assert keeper.state == State()


def test_a_refused_release_leaves_the_old_one_and_is_taken_once_it_is_mended(artifacts, caplog):
    release = Release.read(artifacts / "first")
    again = publish_again(artifacts, "second", read_forecasts(artifacts / "first"))
    ensemble = artifacts / "second" / "ensemble.json"
    whole = ensemble.read_text()
    ensemble.write_text(whole.replace("0.55", "0.54"))
    store = ScriptedStore(row_of(release))
    keeper = SnapshotKeeper(lambda: store, artifacts)
    keeper.refresh()
    store.active = row_of(again, version=2, run="second")
    assert [keeper.refresh() for _ in range(3)] == [False] * 3
    assert (keeper.state.snapshot.release.version, keeper.state.refused) == ("1", 2)
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 1
    ensemble.write_text(whole)
    assert keeper.refresh() is True
    assert (keeper.state.snapshot.release.version, keeper.state.refused) == ("2", None)


def test_newest_sessions_are_looked_at_less_often_than_the_active_release(written):
    artifacts, _ = written
    store, now = ScriptedStore(), [0.0]
    keeper = SnapshotKeeper(lambda: store, artifacts, newest_every_s=15.0, clock=lambda: now[0])
    for now[0] in (0.0, 2.0, 14.9, 15.0, 17.0):
        keeper.refresh()
    assert store.looks_at_newest == 2


def test_a_symbol_is_stale_once_a_newer_bar_is_stored():
    state = State(newest={"AAPL": date(2013, 3, 4)}, reachable=True)
    assert state.is_stale("AAPL", ORIGIN)
    assert not state.is_stale("AAPL", date(2013, 3, 4))
    assert not state.is_stale("IBM", ORIGIN)  # its bars are gone: nothing newer is known
