"""The catalogue, the spec, the Features noun, and the panel made from bars."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from dataclasses import replace
from datetime import date
from typing import get_args

import numpy as np
import polars as pl
import pytest
from support.markets import make_bars
from support.vix import make_vix

from swiftbolt.actions import CorporateAction, CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.errors import DataError, SchemaError
from swiftbolt.features import (
    CATALOGUE,
    DEFAULT_SPEC,
    VIX_SPEC,
    WITH_VIX,
    DailySeries,
    Features,
    FeatureSpec,
    build_features,
    build_panel,
    describe,
)
from swiftbolt.features.spec import Family

NO_ACTIONS = CorporateActions.of()
WARMUP = DEFAULT_SPEC.warmup
VIX = make_vix(WARMUP + 40, seed=1)

# Every column the roadmap's second week computes.
ROADMAP = {
    "momentum_5d", "momentum_20d", "momentum_60d", "rsi_14", "rsi_20", "macd", "macd_signal", "macd_histogram",
    "volatility_10d", "volatility_20d", "volatility_60d", "bb_upper", "bb_middle", "bb_lower", "bb_width",
    "bb_position", "atr_14", "atr_ratio", "ema_5", "ema_20", "ema_50", "ema_200", "distance_from_ema_20",
    "distance_from_ema_50", "ema_angle_5", "ema_angle_20", "adx", "cci_20", "volume_ratio", "obv", "obv_ema",
    "mfi_14", "ad", "ad_ema", "zscore_50d", "pct_above_sma_50", "pct_above_sma_200", "kdj_k", "kdj_d",
}  # fmt: skip
# Those that are levels, and so have a scale.
LEVELS = {"bb_upper", "bb_middle", "bb_lower", "atr_14", "ema_5", "ema_20", "ema_50", "ema_200"}


@pytest.fixture(scope="module")
def bars() -> Bars:
    return make_bars(["AA", "BB"], WARMUP + 40, seed=1)


@pytest.fixture(scope="module")
def features(bars: Bars) -> Features:
    return build_features(bars, NO_ACTIONS)


def small_spec(**changes: object) -> FeatureSpec:
    fields = {"names": ("a", "b"), "look_backs": (1, 2), "degenerate": (0.0, 50.0), "warmup": 2, "version": 1}
    return FeatureSpec(**(fields | changes))  # type: ignore[arg-type]


def small_features(**changes: object) -> Features:
    columns = {
        "symbol": ["X", "X", "X", "Y"],
        "session": [date(2020, 1, day) for day in (2, 3, 6, 2)],
        "a": [math.nan, math.nan, 1.0, math.nan],
        "b": [math.nan, math.nan, 2.0, math.nan],
    }
    return Features(frame=pl.DataFrame(columns | changes), spec=small_spec())


def test_every_name_of_the_roadmap_is_a_feature_or_stands_beside_the_feature_that_stands_for_it() -> None:
    assert set(DEFAULT_SPEC.names) >= ROADMAP - LEVELS
    assert {name for feature in CATALOGUE for name in feature.roadmap} == ROADMAP
    for feature in CATALOGUE:
        assert (feature.name in feature.roadmap) == (feature.name in ROADMAP)


def test_the_catalogue_holds_at_least_66_features_of_every_family() -> None:
    assert len(CATALOGUE) >= 66
    families = {feature.family for feature in CATALOGUE}
    assert families == set(get_args(Family))


def test_no_two_features_are_the_same(features: Features) -> None:
    values = features.frame.filter(pl.col("symbol") == "AA")[WARMUP:]
    columns = {name: tuple(values[name].to_list()) for name in DEFAULT_SPEC.names if not name.startswith("rank_")}
    assert len({values for values in columns.values() if len(set(values)) > 1}) == len(
        [values for values in columns.values() if len(set(values)) > 1]
    )


def test_every_range_holds_what_is_computed_and_the_degenerate_value(bars: Bars) -> None:
    features = build_features(bars, NO_ACTIONS, vix=VIX)
    for feature in WITH_VIX:
        values = features.frame[feature.name].to_numpy()
        values = np.append(values[np.isfinite(values)], feature.degenerate)
        low, high = bounds(feature.range)
        assert low <= values.min() <= values.max() <= high, feature.name


def bounds(text: str) -> tuple[float, float]:
    """What a feature's declared range says: "any", "at least 0", "above -1" or "0..100"."""
    if text == "any":
        return -math.inf, math.inf
    if text.startswith(("at least ", "above ")):
        return float(text.split()[-1]), math.inf
    low, high = text.split("..")
    return float(low), float(high)


def test_describe_lists_the_features_in_the_order_of_the_spec_and_is_json() -> None:
    rows = json.loads(json.dumps(describe()))
    assert [row["name"] for row in rows] == list(VIX_SPEC.names)
    assert [row["name"] for row in rows if row["with"] == ""] == list(DEFAULT_SPEC.names)
    assert {row["with"] for row in rows} == {"", "vix:"}
    assert all(row["formula"] and row["family"] and row["range"] and row["look_back"] <= WARMUP for row in rows)
    assert next(row["name"] for row in rows if "ema_20" in row["roadmap"].split(", ")) == "distance_from_ema_20"


@pytest.mark.parametrize(
    "change",
    [
        {"names": ("b", "a")},
        {"look_backs": (1, 1)},
        {"degenerate": (0.0, 49.0)},
        {"warmup": 3},
        {"version": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_spec_hash_changes_with_every_field(change: dict[str, object]) -> None:
    assert small_spec(**change).spec_hash != small_spec().spec_hash


def test_the_spec_hash_is_that_of_the_fields_as_json() -> None:
    fields = b'[["a", "b"], [1, 2], [0.0, 50.0], 2, 1]'
    assert small_spec().spec_hash == hashlib.sha256(fields).hexdigest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("a", "a")}, "distinct"),
        ({"look_backs": (1,)}, "one look-back"),
        ({"degenerate": (0.0, math.nan)}, "finite"),
        ({"warmup": 1}, "b looks back 2 rows, the warm-up is only 1"),
    ],
)
def test_a_spec_refuses_what_cannot_be_computed(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_spec(**change)


def test_features_that_keep_every_promise_are_accepted_and_survive_pickling() -> None:
    features = small_features()
    assert len(features) == 4
    assert pickle.loads(pickle.dumps(features)) == features


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"symbol": ["Y", "Y", "Y", "X"]}, "not sorted"),
        ({"symbol": ["X", "X", "Y", "X"]}, "not sorted"),
        ({"session": [date(2020, 1, day) for day in (2, 2, 6, 2)]}, "not sorted"),
        ({"a": [math.nan, math.nan, math.nan, math.nan]}, "b must be finite where a is"),
        ({"b": [math.nan, math.nan, math.inf, math.nan]}, "b must be finite where a is"),
        ({"b": [math.nan, 0.0, 2.0, math.nan]}, "NaN elsewhere"),
        ({"b": [math.nan, math.nan, 2.0, 0.0]}, "NaN elsewhere"),
        ({"b": [math.nan, -math.inf, 2.0, math.nan]}, "NaN elsewhere"),
    ],
)
def test_features_refuse_rows_out_of_order_and_values_out_of_place(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        small_features(**change)


@pytest.mark.parametrize("change", [{"a": [1, 2, 3, 4]}, {"c": [0.0, 0.0, 0.0, 0.0]}])
def test_features_refuse_columns_that_are_not_the_specs(change: dict[str, object]) -> None:
    with pytest.raises(SchemaError, match="symbol, session, a, b"):
        small_features(**change)


def test_features_refuse_columns_in_another_order_than_the_specs() -> None:
    with pytest.raises(SchemaError, match="in this order"):
        Features(frame=small_features().frame.select("symbol", "session", "b", "a"), spec=small_spec())


def test_every_bar_has_one_row_of_features(bars: Bars, features: Features) -> None:
    assert features.frame.columns == ["symbol", "session", *DEFAULT_SPEC.names]
    assert features.frame.select("symbol", "session").equals(bars.frame.select("symbol", "session"))


def test_a_symbol_as_long_as_the_warm_up_has_no_value_and_one_row_more_has_one() -> None:
    bars = Bars(frame=pl.concat([make_bars(["AA"], WARMUP, seed=1).frame, make_bars(["BB"], WARMUP + 1, seed=1).frame]))
    frame = build_features(bars, NO_ACTIONS).frame
    known = frame.filter(pl.all_horizontal(pl.col(DEFAULT_SPEC.names).is_finite()))
    assert known.select("symbol", "session").rows() == [("BB", bars.last_session)]


def test_no_bars_give_no_features(bars: Bars) -> None:
    assert len(build_features(bars.select(symbols=[]), NO_ACTIONS)) == 0


def test_the_spec_without_a_vix_is_what_it_was_before_there_was_any() -> None:
    assert DEFAULT_SPEC.spec_hash == "2bd1717ba16125d649f4f98d00c9a89b2f19db90d64641ce740eeb4643a610d1"
    assert VIX_SPEC.spec_hash != DEFAULT_SPEC.spec_hash


def test_with_a_vix_there_are_its_features_and_no_other_changes(bars: Bars, features: Features) -> None:
    beside = build_features(bars, NO_ACTIONS, vix=VIX)
    assert beside.spec == VIX_SPEC
    assert VIX_SPEC.names[: len(DEFAULT_SPEC.names)] == DEFAULT_SPEC.names
    assert beside.frame.select(features.frame.columns).equals(features.frame, null_equal=True)
    added = beside.frame[WARMUP:].select(VIX_SPEC.names[len(DEFAULT_SPEC.names) :])
    assert all(column.n_unique() > 1 for column in added)
    assert len(build_features(bars.select(symbols=[]), NO_ACTIONS, vix=VIX)) == 0


def test_a_panel_with_a_vix_has_its_features_and_its_spec(bars: Bars) -> None:
    panel = build_panel(bars, NO_ACTIONS, vix=VIX)
    assert (panel.feature_names, panel.spec_hash) == (VIX_SPEC.names, VIX_SPEC.spec_hash)
    np.testing.assert_array_equal(
        panel.features_RF,
        build_features(bars, NO_ACTIONS, vix=VIX).frame.select(VIX_SPEC.names).to_numpy().astype(np.float32),
    )


def test_a_panel_holds_the_features_in_single_precision(bars: Bars, features: Features) -> None:
    panel = build_panel(bars, NO_ACTIONS)
    assert panel.symbols == ("AA", "BB")
    assert panel.feature_names == DEFAULT_SPEC.names
    assert panel.spec_hash == DEFAULT_SPEC.spec_hash
    assert panel.features_RF.dtype == np.float32
    np.testing.assert_array_equal(
        panel.features_RF, features.frame.select(DEFAULT_SPEC.names).to_numpy().astype(np.float32)
    )


def test_a_panel_spans_the_sessions_from_the_first_bar_of_any_symbol_to_the_last() -> None:
    long, short = make_bars(["AA"], 8, seed=1), make_bars(["BB"], 5, seed=1, end=date(2013, 2, 27))
    panel = build_panel(Bars(frame=pl.concat([long.frame, short.frame])), NO_ACTIONS)
    assert len(panel.sessions) == 8
    assert panel.session_R[panel.rows("BB")].tolist() == [1, 2, 3, 4, 5]


def test_a_panel_keeps_the_raw_close_and_counts_a_dividend_as_return() -> None:
    days = [date(2013, 2, 27), date(2013, 2, 28), date(2013, 3, 1)]
    price = [100.0, 99.0, 49.5]
    frame = pl.DataFrame({"symbol": ["AA"] * 3, "session": days})
    frame = frame.with_columns(*(pl.Series(name, price) for name in ("open", "high", "low", "close")), volume=1e6)
    # 99 and one dollar of dividend are worth 100; then two shares at 49.5 are worth one at 99.
    actions = CorporateActions.of(
        [
            CorporateAction(symbol="AA", ex_date=days[1], kind="dividend", value=1.0),
            CorporateAction(symbol="AA", ex_date=days[2], kind="split", value=2.0),
        ]
    )
    panel = build_panel(Bars(frame=frame), actions)
    assert panel.close_R.tolist() == price
    assert panel.log_price_R == pytest.approx(np.log(100.0))
    assert np.isnan(panel.features_RF).all()


def test_a_panel_of_no_bars_is_refused(bars: Bars) -> None:
    with pytest.raises(DataError, match="no bars"):
        build_panel(bars.select(symbols=[]), NO_ACTIONS)


def dividend(symbol: str, day: date) -> CorporateActions:
    return CorporateActions.of([CorporateAction(symbol=symbol, ex_date=day, kind="dividend", value=0.5)])


def test_the_data_hash_is_that_of_the_same_bars_whatever_the_order_symbols_came_in(bars: Bars) -> None:
    reordered = Bars(
        frame=pl.concat([bars.select(["BB"]).frame, bars.select(["AA"]).frame]).sort("symbol", "session").rechunk()
    )
    assert build_panel(reordered, NO_ACTIONS).data_hash == build_panel(bars, NO_ACTIONS).data_hash


def test_the_data_hash_changes_with_any_bar_and_with_an_action_that_bears_on_them(bars: Bars) -> None:
    hashes = {build_panel(bars, NO_ACTIONS).data_hash, build_panel(bars, dividend("AA", date(2013, 2, 1))).data_hash}
    one_share_more = bars.frame.with_columns(volume=pl.col("volume") + (pl.int_range(pl.len()) == 17))
    hashes.add(build_panel(Bars(frame=one_share_more), NO_ACTIONS).data_hash)
    renamed = bars.frame.with_columns(symbol=pl.col("symbol").replace("BB", "CC"))
    hashes.add(build_panel(Bars(frame=renamed), NO_ACTIONS).data_hash)
    assert len(hashes) == 4


def test_the_data_hash_covers_the_vix_and_an_index_as_they_were_known_by_the_last_session(bars: Bars) -> None:
    def hash_of(**beside: DailySeries) -> str:
        return build_panel(bars, NO_ACTIONS, **beside).data_hash  # type: ignore[arg-type]

    revised = replace(VIX, value_N=np.where(np.arange(len(VIX.value_N)) == 100, 50.0, VIX.value_N))
    hashes = {hash_of(), hash_of(vix=VIX), hash_of(market=VIX), hash_of(market=VIX, vix=VIX), hash_of(vix=revised)}
    assert len(hashes) == 5
    longer = make_vix(len(VIX.value_N) + 50, seed=1, end=date(2013, 4, 1))
    known = replace(
        longer,
        session_N=np.concatenate((VIX.session_N, longer.session_N[longer.session_N > VIX.session_N[-1]])),
        value_N=np.concatenate((VIX.value_N, longer.value_N[longer.session_N > VIX.session_N[-1]])),
    )
    assert len(known.value_N) > len(VIX.value_N)
    assert hash_of(vix=known) == hash_of(vix=VIX)


def test_the_data_hash_ignores_actions_of_other_symbols_and_of_later_days(bars: Bars) -> None:
    for actions in (dividend("ZZ", date(2013, 2, 1)), dividend("AA", date(2013, 3, 4))):
        assert build_panel(bars, actions).data_hash == build_panel(bars, NO_ACTIONS).data_hash


def test_a_panel_survives_pickling(bars: Bars) -> None:
    panel = build_panel(bars, NO_ACTIONS)
    copy = pickle.loads(pickle.dumps(panel))
    np.testing.assert_array_equal(copy.features_RF, panel.features_RF)
    assert copy.data_hash == panel.data_hash
