"""Features beside a VIX and an index: the past alone decides, an old value runs out, and an update is the batch."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.markets import make_bars
from support.vix import as_bars, make_vix, without

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.features import (
    CATALOGUE,
    DEFAULT_SPEC,
    VIX_SPEC,
    WITH_VIX,
    DailySeries,
    build_features,
    build_panel,
    growth_of,
)
from swiftbolt.features.series import CARRIED

NO_ACTIONS = CorporateActions.of()
WARMUP = VIX_SPEC.warmup
SESSIONS = WARMUP + 60
SYMBOLS = ["AA", "BB"]
OF_VIX = VIX_SPEC.names[len(DEFAULT_SPEC.names) :]

few = settings(max_examples=8, deadline=None)
seeds = st.integers(0, 2**32 - 1)
cuts = st.integers(WARMUP + 1, SESSIONS - 8)


def gappy(seed: int, name: str = "VIX") -> DailySeries:
    """A series of which one day in ten is missing."""
    series = make_vix(SESSIONS, seed=seed, name=name)
    missing = np.random.default_rng(seed).random(SESSIONS) < 0.1
    return without(series, *series.session_N[missing].astype(object).tolist())


def rewritten(series: DailySeries, last: date, seed: int) -> DailySeries:
    """``series`` with other days and other values after ``last``."""
    noise = gappy(seed)
    later = noise.session_N > np.datetime64(last)
    known = series.up_to(last)
    return replace(
        known,
        session_N=np.concatenate((known.session_N, noise.session_N[later])),
        value_N=np.concatenate((known.value_N, 5.0 * noise.value_N[later])),
    )


def features_of(bars: Bars, market: DailySeries | None, vix: DailySeries | None) -> pl.DataFrame:
    return build_features(bars, NO_ACTIONS, market=market, vix=vix).frame


def day_at(bars: Bars, row: int) -> date:
    day = bars.frame["session"][row]
    assert isinstance(day, date)
    return day


def differing(left: pl.DataFrame, right: pl.DataFrame) -> list[str]:
    """Columns of which any bit differs."""
    assert left.select("symbol", "session").equals(right.select("symbol", "session"))
    return [name for name in left.columns[2:] if left[name].to_numpy().tobytes() != right[name].to_numpy().tobytes()]


@given(seed=seeds, cut=cuts)
@few
def test_no_feature_changes_a_bit_when_the_future_of_the_vix_and_the_index_is_replaced_or_cut_off(
    seed: int, cut: int
) -> None:
    bars = make_bars(SYMBOLS, SESSIONS, seed=seed)
    last = day_at(bars, cut)
    index, vix = gappy(seed + 1, "index"), gappy(seed + 2)
    upto = pl.col("session") <= last
    honest = features_of(bars, index, vix).filter(upto)
    others = features_of(bars, rewritten(index, last, seed + 3), rewritten(vix, last, seed + 4))
    assert differing(honest, others.filter(upto)) == []
    assert differing(honest, features_of(bars.select(end=last), index.up_to(last), vix.up_to(last))) == []
    later = pl.col("session") == day_at(bars, cut + CARRIED + 1)
    changed = differing(features_of(bars, index, vix).filter(later), others.filter(later))
    assert set(changed) >= {"market_momentum_20d", "vix_level", "vix_over_own_20d"}


@given(seed=seeds, last=st.sampled_from([1, 7]), dropped=st.integers(5, 40))
@few
def test_an_update_from_a_part_of_the_history_is_the_batch_to_the_last_bit(seed: int, last: int, dropped: int) -> None:
    bars = make_bars(SYMBOLS, SESSIONS, seed=seed)
    index, vix = gappy(seed + 1, "index"), gappy(seed + 2)
    batch = features_of(bars, index, vix).group_by("symbol", maintain_order=True).tail(last)
    start = day_at(bars, dropped)
    base = growth_of(bars, NO_ACTIONS).filter(pl.col("session") == start)
    recent = np.datetime64(start)  # and of the series nothing before it, either
    parts = [
        replace(series, session_N=series.session_N[kept], value_N=series.value_N[kept])
        for series in (index, vix)
        for kept in [series.session_N >= recent]
    ]
    update = build_features(
        bars.select(start=start), NO_ACTIONS, market=parts[0], vix=parts[1], last=last, base=base
    ).frame
    assert differing(batch, update) == []


@given(seed=seeds, scale=st.sampled_from([1e-3, 1e3]))
@few
def test_no_feature_depends_on_the_level_of_the_index(seed: int, scale: float) -> None:
    bars, index = make_bars(SYMBOLS, SESSIONS, seed=seed), gappy(seed, "index")
    plain = features_of(bars, index, None)
    scaled = features_of(bars, replace(index, value_N=scale * index.value_N), None)
    for name in DEFAULT_SPEC.names:
        np.testing.assert_allclose(plain[name].to_numpy(), scaled[name].to_numpy(), rtol=1e-6, atol=1e-9, err_msg=name)


def test_an_index_of_a_symbols_closes_is_the_market_that_the_symbol_would_be() -> None:
    bars = make_bars(SYMBOLS, SESSIONS, seed=4)
    by_symbol = build_features(bars, NO_ACTIONS, market="AA").frame
    by_index = build_features(bars, NO_ACTIONS, market=DailySeries.of_closes(bars, "AA")).frame
    for name in DEFAULT_SPEC.names:
        np.testing.assert_allclose(by_symbol[name].to_numpy(), by_index[name].to_numpy(), rtol=1e-9, atol=1e-9)


def test_only_the_features_of_the_vix_know_of_it() -> None:
    bars = make_bars(SYMBOLS, SESSIONS, seed=5)
    one, other = (features_of(bars, None, make_vix(SESSIONS, seed=seed)) for seed in (1, 2))
    assert differing(one, other) == list(OF_VIX)


def test_the_features_of_a_vix_that_ended_have_their_degenerate_values_after_five_sessions() -> None:
    bars = make_bars(["AA"], SESSIONS, seed=6)
    ended = make_vix(SESSIONS, seed=1).up_to(day_at(bars, SESSIONS - 2 - CARRIED))
    frame = features_of(bars, None, ended)
    carried, stale = frame[-2], frame[-1]
    assert carried["vix_level"].item() == pytest.approx(np.log(ended.value_N[-1] / 20))
    assert carried["vix_change_5d"].item() == 0.0
    for feature in WITH_VIX[len(CATALOGUE) :]:
        assert stale[feature.name].item() == feature.degenerate, feature.name
    assert features_of(bars, None, None)[-1].equals(stale.select(features_of(bars, None, None).columns))


def test_the_market_stands_still_where_its_index_is_missing_and_catches_up_after() -> None:
    bars = make_bars(["AA"], SESSIONS, seed=7)
    index = make_vix(SESSIONS, seed=1, name="index")
    missing = day_at(bars, SESSIONS - 3)
    returns = features_of(bars, without(index, missing), None)["market_return_1d"]
    assert returns[-3] == 0.0
    assert returns[-2] == pytest.approx(np.log(index.value_N[-2] / index.value_N[-4]))


def test_no_number_appears_where_there_is_no_volatility_to_compare_the_vix_with() -> None:
    bars = make_bars(["AA"], SESSIONS, seed=8)
    still = Bars(frame=bars.frame.with_columns(pl.lit(41.3).alias(name) for name in ("open", "high", "low", "close")))
    last = features_of(still, None, make_vix(SESSIONS, seed=1))[-1]
    assert last["vix_over_own_20d"].item() == last["vix_over_market_20d"].item() == 0.0
    assert last["vix_level"].item() != 0.0


def test_a_panel_of_a_handful_of_bars_beside_a_vix_is_all_warm_up() -> None:
    panel = build_panel(make_bars(["AA"], 4, seed=9), NO_ACTIONS, vix=make_vix(4, seed=1))
    assert panel.spec_hash == VIX_SPEC.spec_hash
    assert np.isnan(panel.features_RF).all()


def test_bars_of_a_series_have_its_values_for_closes() -> None:
    vix = make_vix(30, seed=1)
    np.testing.assert_array_equal(DailySeries.of_closes(as_bars(vix), "VIX").value_N, vix.value_N)
    assert len(DailySeries.of_closes(as_bars(vix), "VXO").value_N) == 0
