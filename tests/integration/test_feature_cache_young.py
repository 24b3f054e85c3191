"""A symbol of the cohort that is too young for features is looked at by others, and has none itself."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from support.markets import make_bars

from swiftbolt.bars import Bars
from swiftbolt.feature_cache import CohortHistory, read_panel
from swiftbolt.store import Store
from swiftbolt.universe import Cohort

BARS = Bars(frame=pl.concat([make_bars(["AAA", "BBB"], 700, seed=3).frame, make_bars(["YNG"], 150, seed=3).frame]))
COHORT = Cohort.of(BARS.symbols)
DAYS = BARS.frame["session"].unique().sort()


@pytest.mark.parametrize("behind", [0, 2])
def test_beside_a_young_symbol_what_serving_reads_is_what_research_computed(store: Store, behind: int) -> None:
    store.upsert_bars(BARS.select(end=DAYS[-1 - behind]), source="test")
    CohortHistory.read(store, COHORT).keep_features(store)
    store.upsert_bars(BARS, source="test")
    whole = CohortHistory.read(store, COHORT).panel()
    for symbol in COHORT.symbols:
        expected = whole.select([symbol])
        rows = min(300, len(expected.session_R))
        found = read_panel(store, symbol, COHORT)
        np.testing.assert_array_equal(found.log_price_R[-rows:], expected.log_price_R[-rows:])
        np.testing.assert_array_equal(found.features_RF[-rows:], expected.features_RF[-rows:])
    assert np.isnan(read_panel(store, "YNG", COHORT).features_RF).any(axis=1).all()
