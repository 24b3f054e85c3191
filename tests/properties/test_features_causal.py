"""For every feature: the past alone decides, no more of it than declared, and no scale or neighbour does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.markets import make_bars
from support.vix import make_vix

from swiftbolt.actions import CorporateAction, CorporateActions
from swiftbolt.bars import PRICES, Bars
from swiftbolt.features import CATALOGUE, DEFAULT_SPEC, WITH_VIX, Feature, build_features
from swiftbolt.features.context import Context
from swiftbolt.features.history import Columns, History
from swiftbolt.sessions import sessions_between

NO_ACTIONS = CorporateActions.of()
WARMUP = DEFAULT_SPEC.warmup
SESSIONS = WARMUP + 120

few = settings(max_examples=10, deadline=None)
seeds = st.integers(0, 2**32 - 1)
cuts = st.integers(WARMUP + 1, SESSIONS - 2)

Float64 = NDArray[np.float64]


def features_of(bars: Bars, actions: CorporateActions = NO_ACTIONS, market: str | None = None) -> pl.DataFrame:
    return build_features(bars, actions, market=market).frame


def differing(left: pl.DataFrame, right: pl.DataFrame) -> list[str]:
    """Features of which any bit differs."""
    assert left.select("symbol", "session").equals(right.select("symbol", "session"))
    return [
        name
        for name in DEFAULT_SPEC.names
        if left[name].to_numpy().tobytes() != right[name].to_numpy().tobytes()
    ]  # fmt: skip


def far_apart(left: pl.DataFrame, right: pl.DataFrame, tolerance: float = 1e-9) -> list[str]:
    """Features that differ by more than rounding, NaN being equal to NaN."""
    assert left.select("symbol", "session").equals(right.select("symbol", "session"))
    return [
        name
        for name in DEFAULT_SPEC.names
        if not np.allclose(
            left[name].to_numpy(), right[name].to_numpy(), rtol=tolerance, atol=tolerance, equal_nan=True
        )
    ]


def session_at(bars: Bars, row: int) -> date:
    """Session of a row of the first symbol."""
    found = bars.frame["session"][row]
    assert isinstance(found, date)
    return found


@given(seed=seeds, cut=cuts)
@few
def test_no_feature_changes_a_bit_when_the_future_is_cut_off(seed: int, cut: int) -> None:
    bars = make_bars(["AA", "BB"], SESSIONS, seed=seed, garch=True)
    last = session_at(bars, cut)
    whole = features_of(bars).filter(pl.col("session") <= last)
    assert differing(whole, features_of(bars.select(end=last))) == []


@given(seed=seeds, cut=cuts, scale=st.sampled_from([1e-3, 1.0, 1e3]))
@few
def test_no_feature_changes_a_bit_when_the_future_is_replaced_by_noise(seed: int, cut: int, scale: float) -> None:
    bars = make_bars(["AA", "BB"], SESSIONS, seed=seed)
    last = session_at(bars, cut)
    noise = make_bars(["AA", "BB"], SESSIONS, seed=seed + 1, volatility=0.2)
    later = noise.frame.filter(pl.col("session") > last).with_columns(pl.col(PRICES) * scale, volume=1.0 / scale)
    other = Bars(frame=pl.concat([bars.select(end=last).frame, later]).sort("symbol", "session"))
    split = CorporateAction(symbol="AA", ex_date=session_at(bars, cut + 1), kind="split", value=7.0)
    before = pl.col("session") <= last
    assert (
        differing(features_of(bars).filter(before), features_of(other, CorporateActions.of([split])).filter(before))
        == []
    )


@given(seed=seeds, dropped=st.integers(1, 100))
@few
def test_no_feature_depends_on_how_long_a_history_was_handed_in(seed: int, dropped: int) -> None:
    bars = make_bars(["AA"], SESSIONS, seed=seed, garch=True)
    short = features_of(bars.select(start=session_at(bars, dropped)))
    assert far_apart(features_of(bars)[dropped + WARMUP :], short[WARMUP:]) == []


def named(*scopes: str) -> set[str]:
    return {feature.name for feature in CATALOGUE if feature.scope in scopes}


@given(seed=seeds)
@few
def test_no_feature_depends_on_the_other_symbols_unless_it_is_declared_to(seed: int) -> None:
    bars = make_bars(["AA", "BB", "CC"], SESSIONS, seed=seed)
    together = features_of(bars).filter(pl.col("symbol") == "BB")
    changed = set(differing(together, features_of(bars.select(["BB"]))))
    assert named("market") <= changed <= named("market", "cross_section")


@given(seed=seeds)
@few
def test_with_a_symbol_for_the_market_only_ranks_depend_on_the_others(seed: int) -> None:
    bars = make_bars(["AA", "BB", "CC"], SESSIONS, seed=seed)
    together = features_of(bars, market="AA").filter(pl.col("symbol") == "BB")
    two = features_of(bars.select(["AA", "BB"]), market="AA").filter(pl.col("symbol") == "BB")
    assert set(differing(together, two)) <= named("cross_section")


@given(seed=seeds, price=st.sampled_from([10.0, 0.1, 1 / 3]), volume=st.sampled_from([10.0, 0.1, 1 / 3]))
@few
def test_no_feature_depends_on_the_unit_of_price_or_volume(seed: int, price: float, volume: float) -> None:
    bars = make_bars(["AA", "BB"], SESSIONS, seed=seed)
    scaled = bars.frame.with_columns(pl.col(PRICES) * price, pl.col("volume") * volume)
    assert far_apart(features_of(bars), features_of(Bars(frame=scaled))) == []


@given(seed=seeds, price=st.sampled_from([10.0, 0.1, 1 / 3]))
@few
def test_no_feature_depends_on_the_unit_of_one_symbols_price_unless_it_is_declared_to(seed: int, price: float) -> None:
    bars = make_bars(["AA", "BB", "CC"], SESSIONS, seed=seed)
    scaled = pl.when(pl.col("symbol") == "BB").then(pl.col(PRICES) * price).otherwise(pl.col(PRICES))
    changed = far_apart(features_of(bars), features_of(Bars(frame=bars.frame.with_columns(scaled))))
    assert set(changed) <= {feature.name for feature in CATALOGUE if feature.in_dollars}


@given(seed=seeds, cut=cuts, ratio=st.sampled_from([2.0, 3.0, 0.1]))
@few
def test_no_feature_notices_a_split(seed: int, cut: int, ratio: float) -> None:
    bars = make_bars(["AA"], SESSIONS, seed=seed)
    ex_date = session_at(bars, cut)
    after = pl.col("session") >= ex_date
    split = bars.frame.with_columns(
        *(pl.when(after).then(pl.col(name) / ratio).otherwise(pl.col(name)) for name in PRICES),
        volume=pl.when(after).then(pl.col("volume") * ratio).otherwise(pl.col("volume")),
    )
    actions = CorporateActions.of([CorporateAction(symbol="AA", ex_date=ex_date, kind="split", value=ratio)])
    assert far_apart(features_of(bars), features_of(Bars(frame=split), actions)) == []


def history_of(bars: Bars) -> History:
    """The bars as they are, on a market of noise and a VIX, between dividends."""
    frame = bars.frame
    sessions = sessions_between(frame["session"][0], frame["session"][-1])
    market_T = 0.01 * np.random.default_rng(0).standard_normal(SESSIONS)
    columns = Columns(
        **{f"{name}_T": frame[name].to_numpy() for name in (*PRICES, "volume")},
        dollars_T=(frame["close"] * frame["volume"]).to_numpy(),
        market_T=np.concatenate(([np.nan], market_T[1:])),
        session_T=np.arange(SESSIONS),
        dividend_age_T=np.arange(SESSIONS) % 63.0,
        dividend_wait_T=np.arange(SESSIONS) % 61.0,
    )
    return History(columns, Context(sessions, market_T, make_vix(SESSIONS, seed=0).value_N))


# Of the others a value stands on the session alone, or on days instead of rows.
ROLLING = [feature for feature in WITH_VIX if feature.family != "calendar" and feature.name != "market_return_1d"]


@pytest.mark.parametrize("feature", ROLLING, ids=lambda feature: feature.name)
def test_a_feature_starts_right_after_its_look_back_and_has_no_gap(feature: Feature) -> None:
    values_T = feature.compute(history_of(make_bars(["AA"], SESSIONS, seed=5)))
    # What the market does over 20 sessions is counted from the first of them, not from a row before.
    market_only = {"market_momentum_20d", "market_volatility_20d", "vix_over_market_20d"}
    start = feature.look_back - (feature.name in market_only)
    np.testing.assert_array_equal(np.isfinite(values_T), np.arange(SESSIONS) >= start)


@pytest.mark.parametrize("feature", WITH_VIX, ids=lambda feature: feature.name)
def test_a_feature_ignores_rows_before_its_look_back(feature: Feature) -> None:
    bars = make_bars(["AA"], SESSIONS, seed=6)
    start = session_at(bars, SESSIONS - 1 - feature.look_back)
    other = make_bars(["AA"], SESSIONS, seed=7, volatility=0.1)
    replaced = Bars(frame=pl.concat([other.frame.filter(pl.col("session") < start), bars.select(start=start).frame]))
    assert feature.compute(history_of(replaced))[-1] == feature.compute(history_of(bars))[-1]


def flat(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.with_columns(pl.lit(41.3).alias(name) for name in PRICES)


def untraded(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.with_columns(volume=0.0)


def rangeless(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.with_columns(pl.col("close").alias(name) for name in PRICES)


def from_row(row: int, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda bars: pl.concat([bars[:row], change(bars[row:])])


def until_row(row: int, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda bars: pl.concat([change(bars[:row]), bars[row:]])


def growing(bars: pl.DataFrame) -> pl.DataFrame:
    price = 20.0 * 1.01 ** np.arange(len(bars))
    return bars.with_columns(pl.Series(name, price) for name in PRICES)


def ticking(bars: pl.DataFrame) -> pl.DataFrame:
    price = 50.0 + 0.01 * (np.arange(len(bars)) % 97 == 0)
    return bars.with_columns(pl.Series(name, price) for name in PRICES)


DEGENERATE = {
    "flat prices": flat,
    "no volume": untraded,
    "flat prices without volume": lambda bars: untraded(flat(bars)),
    "no range": rangeless,
    "constant growth": growing,
    "a tick now and then": ticking,
    "flat from row 300": from_row(300, flat),
    "flat until row 300": until_row(300, flat),
    "untraded from row 300": from_row(300, untraded),
    "untraded until row 300": until_row(300, untraded),
}


@pytest.mark.parametrize("change", DEGENERATE.values(), ids=DEGENERATE.keys())
def test_every_feature_is_finite_after_the_warm_up_on_degenerate_bars(
    change: Callable[[pl.DataFrame], pl.DataFrame],
) -> None:
    bars = Bars(frame=change(make_bars(["AA"], 2 * SESSIONS, seed=8).frame))
    values = features_of(bars)[WARMUP:].select(DEFAULT_SPEC.names).to_numpy()
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 1e4


def test_every_feature_has_its_declared_value_where_nothing_moves_and_nothing_trades() -> None:
    frame = from_row(100, lambda bars: untraded(flat(bars)))(make_bars(["AA"], 2 * SESSIONS, seed=9).frame)
    still = features_of(Bars(frame=frame)).tail(1)
    for feature in (feature for feature in CATALOGUE if feature.scope != "calendar"):
        assert still[feature.name].item() == pytest.approx(feature.degenerate, abs=1e-12), feature.name


@given(
    seed=seeds,
    steps=st.lists(st.sampled_from([-0.05, -0.01, 0.0, 0.0, 0.0, 0.01, 0.3]), min_size=40, max_size=40),
    volumes=st.lists(st.sampled_from([0.0, 0.0, 1.0, 1e9]), min_size=40, max_size=40),
)
@few
def test_every_feature_is_finite_and_of_one_unit_on_bars_full_of_ties(
    seed: int, steps: list[float], volumes: list[float]
) -> None:
    bars = make_bars(["AA"], SESSIONS, seed=seed)
    pick = np.random.default_rng(seed).integers(0, 40, size=(5, SESSIONS))
    log_price = np.cumsum(np.array(steps)[pick[0]] * np.tile([1, -1], SESSIONS // 2))
    close = np.round(np.exp(3 + log_price - log_price.mean()), 2) + 0.01
    open_, wick = np.roll(close, 1), np.abs(np.array(steps)[pick[1]])
    frame = bars.frame.with_columns(
        open=open_,
        high=np.maximum(open_, close) * (1 + wick),
        low=np.minimum(open_, close) * (1 - wick / 2),
        close=close,
        volume=np.array(volumes)[pick[2]],
    )
    plain = features_of(Bars(frame=frame))
    assert np.isfinite(plain[WARMUP:].select(DEFAULT_SPEC.names).to_numpy()).all()
    scaled = features_of(Bars(frame=frame.with_columns(pl.col(PRICES) * 10.0)))
    assert far_apart(plain, scaled) == []
