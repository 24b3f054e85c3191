"""Features kept in the store: what serving reads is, to the bit, what research computed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from support.markets import make_bars
from support.vix import as_bars, make_vix

from swiftbolt.actions import CorporateAction, CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.errors import NotFound
from swiftbolt.feature_cache import KEPT, CohortHistory, read_panel
from swiftbolt.features import DEFAULT_SPEC, VIX_SPEC, build_panel
from swiftbolt.findings import FINDING_SCHEMA, Findings
from swiftbolt.sessions import session_after
from swiftbolt.store import Store
from swiftbolt.universe import Cohort

END = date(2013, 3, 1)
COHORT = Cohort.of(["AAA", "BBB", "CCC"])
ACTIONS = CorporateActions.of(
    [
        CorporateAction(symbol="AAA", ex_date=session_after(END, -400), kind="split", value=2.0),
        CorporateAction(symbol="AAA", ex_date=session_after(END, -3), kind="split", value=3.0),
        CorporateAction(symbol="BBB", ex_date=session_after(END, -60), kind="dividend", value=0.7),
        CorporateAction(symbol="BBB", ex_date=session_after(END, -2), kind="dividend", value=0.9),
    ]
)


@pytest.fixture(scope="module")
def bars() -> Bars:
    return make_bars([*COHORT.symbols, "OUT"], 700, seed=3, end=END)


def fill(store: Store, bars: Bars, end: date) -> None:
    store.upsert_actions(ACTIONS, source="test")
    store.upsert_bars(bars.select(end=end), source="test")


def same_panel(one, other, rows: int) -> None:
    """The last ``rows`` rows agree to the bit, in prices and in features."""
    np.testing.assert_array_equal(one.log_price_R[-rows:], other.log_price_R[-rows:])
    np.testing.assert_array_equal(one.features_RF[-rows:], other.features_RF[-rows:])
    assert np.isfinite(one.features_RF[-rows:]).all()


@pytest.mark.parametrize("behind", [0, 1, 3, 40])
def test_a_panel_read_for_serving_is_that_of_research_to_the_bit(store, bars, behind):
    """The cache was filled ``behind`` sessions ago; splits and dividends have come since."""
    fill(store, bars, session_after(END, -behind))
    CohortHistory.read(store, COHORT).keep_features(store)
    fill(store, bars, END)
    whole = CohortHistory.read(store, COHORT).panel()
    for symbol in COHORT.symbols:
        same_panel(read_panel(store, symbol, COHORT), whole.select([symbol]), rows=KEPT)


# Beside a VIX, which is a symbol of the store and none of the cohort.

VIX = make_vix(700, seed=1, end=END)
BESIDE = Cohort.of(COHORT.symbols, vix="VIX")


def fill_vix(store: Store, end: date) -> None:
    store.upsert_bars(as_bars(VIX.up_to(end)), source="test")


@pytest.mark.parametrize("behind", [0, 1, 40])
def test_beside_a_vix_a_panel_read_for_serving_is_that_of_research_to_the_bit(store, bars, behind):
    for end in (session_after(END, -behind), END):
        fill(store, bars, end)
        fill_vix(store, end)
        if end < END or not behind:
            CohortHistory.read(store, BESIDE).keep_features(store)
    whole = CohortHistory.read(store, BESIDE).panel()
    from_arrays = build_panel(bars.select(COHORT.symbols), ACTIONS, vix=VIX)
    np.testing.assert_array_equal(whole.features_RF, from_arrays.features_RF)
    for symbol in COHORT.symbols:
        served = read_panel(store, symbol, BESIDE)
        assert (served.spec_hash, served.feature_names) == (VIX_SPEC.spec_hash, VIX_SPEC.names)
        same_panel(served, whole.select([symbol]), rows=KEPT)
    assert _cached_rows(store) == (KEPT + behind) * len(COHORT.symbols)


def test_a_vix_that_comes_after_the_bars_of_its_session_makes_that_session_anew(store, bars):
    fill(store, bars, END)
    fill_vix(store, session_after(END, -1))
    before = read_panel(store, "AAA", BESIDE)
    fill_vix(store, END)
    after = read_panel(store, "AAA", BESIDE)
    same_panel(after, CohortHistory.read(store, BESIDE).panel().select(["AAA"]), rows=KEPT)
    level = VIX_SPEC.names.index("vix_level")
    assert before.features_RF[-1, level] == pytest.approx(np.log(VIX.value_N[-2] / 20))
    assert after.features_RF[-1, level] == pytest.approx(np.log(VIX.value_N[-1] / 20))


def test_a_revised_vix_makes_everything_anew_for_those_who_look_at_it_and_nothing_for_others(store, bars):
    fill(store, bars, END)
    fill_vix(store, END)
    for cohort in (COHORT, BESIDE):
        CohortHistory.read(store, cohort).keep_features(store)
    untouched = store.data_revision(COHORT.sources)
    store.upsert_bars(as_bars(replace(VIX, value_N=1.5 * VIX.value_N)), source="test")
    assert store.data_revision(COHORT.sources) == untouched
    same_panel(read_panel(store, "AAA", BESIDE), CohortHistory.read(store, BESIDE).panel().select(["AAA"]), rows=KEPT)


def test_a_symbol_outside_the_cohort_is_looked_at_beside_the_vix_too_and_the_vix_itself_is_not(store, bars):
    fill(store, bars, END)
    fill_vix(store, END)
    panel = read_panel(store, "OUT", BESIDE)
    assert panel.spec_hash == VIX_SPEC.spec_hash
    level = VIX_SPEC.names.index("vix_level")
    np.testing.assert_allclose(panel.features_RF[-KEPT:, level], np.log(VIX.value_N[-KEPT:] / 20), rtol=1e-6, atol=1e-6)
    with pytest.raises(NotFound, match="VIX is the VIX that others are forecast with, and has no forecast itself"):
        read_panel(store, "VIX", BESIDE)


def test_a_history_holds_no_vix_beyond_the_newest_session_of_its_bars(store, bars):
    fill(store, bars, session_after(END, -3))
    fill_vix(store, END)
    history = CohortHistory.read(store, BESIDE)
    assert history.vix is not None
    assert history.vix.last_session == history.bars.last_session == session_after(END, -3)


def test_a_vix_that_is_not_in_the_store_leaves_its_features_at_their_degenerate_values(store, bars):
    fill(store, bars, END)
    panel = read_panel(store, "AAA", BESIDE)
    added = panel.features_RF[-KEPT:, len(DEFAULT_SPEC.names) :]
    assert (added == 0.0).all()


def test_with_an_empty_cache_the_panel_is_the_same_and_the_next_reader_finds_it(store, bars):
    fill(store, bars, END)
    whole = CohortHistory.read(store, COHORT).panel()
    same_panel(read_panel(store, "BBB", COHORT), whole.select(["BBB"]), rows=KEPT)
    assert _cached_rows(store) == KEPT * len(COHORT.symbols)


def test_new_sessions_are_added_without_computing_the_old_ones_again(store, bars):
    fill(store, bars, session_after(END, -2))
    CohortHistory.read(store, COHORT).keep_features(store)
    fill(store, bars, END)
    read_panel(store, "AAA", COHORT)
    assert _cached_rows(store) == (KEPT + 2) * len(COHORT.symbols)


def test_a_revised_bar_of_any_symbol_of_the_cohort_makes_everything_anew(store, bars):
    fill(store, bars, END)
    CohortHistory.read(store, COHORT).keep_features(store)
    wrong = pl.when((pl.col("symbol") == "CCC") & (pl.col("session") == session_after(END, -10)))
    revised = bars.frame.with_columns(volume=wrong.then(pl.col("volume") * 3).otherwise("volume"))
    store.upsert_bars(Bars(frame=revised), source="test")
    whole = CohortHistory.read(store, COHORT).panel()
    same_panel(read_panel(store, "AAA", COHORT), whole.select(["AAA"]), rows=KEPT)


def test_a_bar_that_is_quarantined_is_no_row_and_takes_part_in_none(store, bars):
    fill(store, bars, END)
    CohortHistory.read(store, COHORT).keep_features(store)
    session = session_after(END, -5)
    row = {"symbol": "AAA", "session": session, "kind": "zero_volume", "known_from": session, "detail": "by hand"}
    store.replace_findings(Findings.from_frame(pl.DataFrame([row], schema=FINDING_SCHEMA)), COHORT.symbols)
    panel = read_panel(store, "AAA", COHORT)
    assert np.datetime64(session) not in panel.date_R
    same_panel(panel, CohortHistory.read(store, COHORT).panel().select(["AAA"]), rows=KEPT - 1)


def test_a_symbol_outside_the_cohort_is_looked_at_beside_it_and_not_kept(store, bars):
    fill(store, bars, END)
    CohortHistory.read(store, COHORT).keep_features(store)
    panel = read_panel(store, "OUT", COHORT)
    beside = CohortHistory.read(store, Cohort.of(bars.symbols)).panel().select(["OUT"])
    np.testing.assert_allclose(panel.features_RF[-KEPT:], beside.features_RF[-KEPT:], rtol=1e-5, atol=1e-6)
    assert _cached_rows(store) == KEPT * len(COHORT.symbols)


def test_a_symbol_without_bars_is_not_found(store):
    with pytest.raises(NotFound, match="there are no bars of ZZZ"):
        read_panel(store, "ZZZ", COHORT)


def _cached_rows(store: Store) -> int:
    with store._database.connection() as connection:
        (count,) = connection.execute("SELECT count(*) FROM feature_rows").fetchone()
    return count
