"""What a retrain reads beside its symbols: the VIX of the store, and no file: serving has the store only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from support.markets import make_bars
from support.recipes import tiny_recipe
from support.vix import as_bars, make_vix

from cluster.history import load_history, refuse_files
from swiftbolt.actions import CorporateActions
from swiftbolt.config import load_config
from swiftbolt.errors import ConfigError, DataError
from swiftbolt.features import VIX_SPEC, build_panel
from swiftbolt.store import Store
from swiftbolt.universe import Cohort, Universe

SESSIONS = 500
BARS = make_bars(["AA", "BB"], SESSIONS, seed=3)
VIX = make_vix(SESSIONS, seed=1)
UNIVERSE = Universe(symbols=("AA", "BB"), min_sessions=300, vix="VIX")


def test_the_vix_is_learnt_from_and_neither_trained_on_nor_skipped(store: Store) -> None:
    store.upsert_bars(BARS, source="test")
    store.upsert_bars(as_bars(VIX), source="test")
    lines: list[str] = []
    history, skipped = load_history(store, UNIVERSE, tiny_recipe("xgboost"), lines.append)
    assert history.cohort == Cohort.of(["AA", "BB"], vix="VIX")
    assert (skipped, lines) == ({}, [])
    panel = history.panel()
    assert (panel.symbols, panel.spec_hash) == (("AA", "BB"), VIX_SPEC.spec_hash)
    expected = build_panel(BARS, CorporateActions.of(), vix=VIX)
    np.testing.assert_array_equal(panel.features_RF, expected.features_RF)
    assert panel.data_hash == expected.data_hash


def test_a_vix_that_lags_behind_is_told_and_one_that_is_not_there_is_refused(store: Store) -> None:
    store.upsert_bars(BARS, source="test")
    with pytest.raises(DataError, match=r"VIX: has no value between .* and 2013-03-01, the sessions of the bars"):
        load_history(store, UNIVERSE, tiny_recipe("xgboost"), lambda _: None)
    store.upsert_bars(as_bars(VIX.up_to(VIX.session_N[-3].astype(object))), source="test")
    lines: list[str] = []
    load_history(store, UNIVERSE, tiny_recipe("xgboost"), lines.append)
    assert lines == ["VIX: its newest value is of 2013-02-27, not of the newest session"]


@pytest.mark.parametrize("key", ["market", "vix"])
def test_a_file_is_refused_with_what_to_do_instead(tmp_path: Path, key: str) -> None:
    path = tmp_path / "universe.yaml"
    path.write_text(yaml.safe_dump({"symbols": ["AA"], key: "series.parquet"}))
    with pytest.raises(ConfigError, match=rf"universe\.yaml: {key}: series\.parquet is a file, .* name its symbol"):
        refuse_files(load_config(path, Universe), path)
