"""Findings and actions count from the session they were known on; rows asked for alone are those of the batch."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.markets import make_bars

from swiftbolt.actions import ACTION_SCHEMA, CorporateActions, forward_adjusted
from swiftbolt.bars import Bars
from swiftbolt.errors import DataError, SchemaError
from swiftbolt.features import CATALOGUE, DEFAULT_SPEC, NO_FINDINGS, build_features, build_panel, growth_of
from swiftbolt.findings import FINDING_SCHEMA, Findings

WARMUP = DEFAULT_SPEC.warmup
SESSIONS = WARMUP + 90
SYMBOLS = ["AA", "BB", "CC", "DD"]
OWN = [feature.name for feature in CATALOGUE if feature.scope in {"symbol", "calendar"}]

few = settings(max_examples=8, deadline=None)
seeds = st.integers(0, 2**32 - 1)
cuts = st.integers(WARMUP + 5, SESSIONS - 8)


def gappy_bars(seed: int, symbols: list[str] = SYMBOLS, sessions: int = SESSIONS) -> Bars:
    """Bars with some sessions missing; the last symbol ends ten sessions early, the one before starts ten late."""
    frame = make_bars(symbols, sessions, seed=seed, garch=True).frame
    days = frame["session"].unique().sort()
    rng = np.random.default_rng(seed)
    kept = pl.Series(rng.random(len(frame)) > 0.01)
    late = (pl.col("symbol") == symbols[-2]) & (pl.col("session") < days[10])
    early = (pl.col("symbol") == symbols[-1]) & (pl.col("session") > days[-11])
    return Bars(frame=frame.filter(kept & ~late & ~early))


def random_actions(rng: np.random.Generator, bars: Bars, rate: float = 0.03) -> CorporateActions:
    """Splits and dividends, these declared some days before or at no known time."""
    picked = bars.frame.filter(pl.Series(rng.random(len(bars)) < rate)).select("symbol", ex_date="session")
    count = len(picked)
    kind = rng.choice(["split", "dividend", "dividend", "dividend"], count)
    value = np.where(kind == "split", rng.choice([2.0, 0.1, 1.5], count), rng.uniform(0.1, 2.0, count))
    declared = pl.Series(rng.random(count) < 0.6)
    return CorporateActions.from_frame(
        picked.with_columns(kind=pl.Series(kind), value=value, ahead=rng.integers(1, 60, count)).select(
            "symbol",
            "ex_date",
            "kind",
            "value",
            known_at=pl.when(declared).then(pl.col("ex_date") - pl.duration(days="ahead")).cast(pl.Date),
        )
    )


def random_findings(rng: np.random.Generator, bars: Bars, rate: float = 0.02) -> Findings:
    """Faults known at once, on the next day, or a few days later, some of them together."""
    picked = bars.frame.filter(pl.Series(rng.random(len(bars)) < rate)).select("symbol", "session")
    count = len(picked)
    return Findings.from_frame(
        picked.with_columns(
            kind=pl.Series(rng.choice(["bad_tick", "stale_close", "zero_volume"], count)),
            known_from=pl.col("session") + pl.duration(days=pl.Series(rng.choice([0, 1, 4, 12], count))),
            detail=pl.lit(""),
        ).with_columns(pl.col("known_from").cast(pl.Date))
    )


def differing(
    left: pl.DataFrame, right: pl.DataFrame, names: tuple[str, ...] | list[str] = DEFAULT_SPEC.names
) -> list[str]:
    """Features of which any bit differs."""
    assert left.select("symbol", "session").equals(right.select("symbol", "session"))
    return [name for name in names if left[name].to_numpy().tobytes() != right[name].to_numpy().tobytes()]


def day_of(bars: Bars, row: int) -> date:
    day = bars.frame["session"].unique().sort()[row]
    assert isinstance(day, date)
    return day


@given(seed=seeds, cut=cuts, market=st.sampled_from([None, "AA"]))
@few
def test_noise_after_a_session_in_bars_actions_and_findings_changes_no_bit_up_to_it(
    seed: int, cut: int, market: str | None
) -> None:
    rng = np.random.default_rng(seed)
    bars = gappy_bars(seed)
    last = day_of(bars, cut)
    actions, findings = random_actions(rng, bars), random_findings(rng, bars)
    noise = gappy_bars(seed + 1)
    other = Bars(
        frame=pl.concat([bars.select(end=last).frame, noise.frame.filter(pl.col("session") > last)]).sort(
            "symbol", "session"
        )
    )
    known = (pl.col("ex_date") <= last) | ((pl.col("kind") == "dividend") & (pl.col("known_at") <= last))
    later = (pl.col("ex_date") > last) & pl.col("known_at").is_null()
    other_actions = CorporateActions.from_frame(
        pl.concat([actions.frame.filter(known), random_actions(rng, noise, 0.2).frame.filter(later)])
    )
    other_findings = Findings.concatenate(
        [
            findings.select(known_at=last),
            Findings.from_frame(random_findings(rng, bars, 0.3).frame.filter(pl.col("known_from") > last)),
        ]
    )
    upto = pl.col("session") <= last
    honest = build_features(bars, actions, findings, market=market).frame.filter(upto)
    assert (
        differing(honest, build_features(other, other_actions, other_findings, market=market).frame.filter(upto)) == []
    )
    cut_off = build_features(bars.select(end=last), actions, findings.select(known_at=last), market=market).frame
    assert differing(honest, cut_off) == []


@given(seed=seeds, cut=cuts)
@few
def test_features_of_a_bar_are_those_of_the_bars_not_known_to_be_faulty_at_its_close(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    bars = gappy_bars(seed)
    actions, findings = random_actions(rng, bars), random_findings(rng, bars, 0.05)
    built = build_features(bars, actions, findings).frame
    last = day_of(bars, cut)
    faulty = findings.select(known_at=last).frame.select("symbol", "session")
    known = Bars(
        frame=bars.select(end=last).frame.join(faulty, on=["symbol", "session"], how="anti", maintain_order="left")
    )
    at = pl.col("session") == last
    assert differing(
        built.join(faulty, on=["symbol", "session"], how="anti", maintain_order="left").filter(at),
        build_features(known, actions).frame.filter(at),
        OWN,
    ) == []  # fmt: skip
    quarantined = built.join(faulty, on=["symbol", "session"], how="semi").filter(at)
    assert not np.isfinite(quarantined.select(DEFAULT_SPEC.names).to_numpy()).any()


@given(seed=seeds, last=st.sampled_from([1, 2, 7]))
@few
def test_the_last_rows_alone_are_those_of_the_batch_to_the_last_bit(seed: int, last: int) -> None:
    rng = np.random.default_rng(seed)
    bars = gappy_bars(seed)
    actions, findings = random_actions(rng, bars), random_findings(rng, bars)
    batch = build_features(bars, actions, findings).frame.group_by("symbol", maintain_order=True).tail(last)
    update = build_features(bars, actions, findings, last=last).frame
    assert differing(batch, update) == []


@given(seed=seeds, dropped=st.integers(5, 40))
@few
def test_an_update_from_a_part_of_the_history_and_its_growth_is_that_of_the_whole(seed: int, dropped: int) -> None:
    rng = np.random.default_rng(seed)
    bars = gappy_bars(seed)
    actions, findings = random_actions(rng, bars), random_findings(rng, bars)
    growth = growth_of(bars, actions, findings)
    start = day_of(bars, dropped)
    window = bars.select(start=start)
    # The newest sound bar before the window, or the first in it.
    base = growth.filter(pl.col("price_growth").is_not_nan() & (pl.col("session") <= start))
    base = base.group_by("symbol", maintain_order=True).last()
    update = build_features(window, actions, findings, last=1, base=base).frame
    batch = build_features(bars, actions, findings).frame.group_by("symbol", maintain_order=True).tail(1)
    assert differing(batch, update) == []
    inside = growth.filter(pl.col("session") >= start)
    assert inside.equals(growth_of(window, actions, findings, base=base), null_equal=True)


def test_a_window_may_begin_with_a_bar_that_was_found_out_later() -> None:
    bars, findings, day = tick(known_after=1, row=20)
    growth = growth_of(bars, CorporateActions.of(), findings)
    window = bars.select(start=day)
    base = growth.filter((pl.col("session") >= day) & pl.col("price_growth").is_not_nan())
    base = base.group_by("symbol", maintain_order=True).first()
    update = build_features(window, CorporateActions.of(), findings, last=1, base=base).frame
    batch = build_features(bars, CorporateActions.of(), findings).frame
    assert differing(batch.group_by("symbol", maintain_order=True).tail(1), update) == []


def test_one_new_session_of_five_hundred_symbols_is_that_of_the_batch() -> None:
    symbols = [f"S{i:03}" for i in range(500)]
    bars = make_bars(symbols, WARMUP + 30, seed=1)
    rng = np.random.default_rng(2)
    actions = random_actions(rng, bars, 0.01)
    batch = build_features(bars, actions).frame.group_by("symbol", maintain_order=True).tail(1)
    assert differing(batch, build_features(bars, actions, last=1).frame) == []


@given(seed=seeds)
@few
def test_forward_growth_is_that_of_forward_adjustment_to_the_last_bit(seed: int) -> None:
    bars = gappy_bars(seed)
    actions = random_actions(np.random.default_rng(seed), bars, 0.2)
    growth, adjusted = growth_of(bars, actions), forward_adjusted(bars, actions)
    assert (bars.frame["close"] * growth["price_growth"]).equals(adjusted["close"])
    assert (bars.frame["volume"] / growth["share_growth"]).equals(adjusted["volume"])


def tick(known_after: int, row: int = SESSIONS - 2) -> tuple[Bars, Findings, date]:
    """Bars of which AA's are a tenth of their price on one session, the finding, and the session."""
    bars = make_bars(["AA", "BB"], SESSIONS, seed=3)
    day = day_of(bars, row)
    bad = (pl.col("symbol") == "AA") & (pl.col("session") == day)
    frame = bars.frame.with_columns(
        pl.when(bad).then(pl.col(name) / 10).otherwise(pl.col(name)) for name in ("open", "high", "low", "close")
    )
    found = {"symbol": "AA", "session": day, "kind": "bad_tick", "detail": ""}
    known_from = day_of(bars, row + known_after)
    return (
        Bars(frame=frame),
        Findings.from_frame(pl.DataFrame([found | {"known_from": known_from}], FINDING_SCHEMA)),
        day,
    )


def test_a_bad_tick_has_its_own_features_and_is_gone_from_those_of_the_next_session() -> None:
    bars, findings, day = tick(known_after=1)
    own = build_features(bars, CorporateActions.of(), findings).frame.filter(pl.col("symbol") == "AA")
    raw = bars.frame.filter(pl.col("symbol") == "AA")["close"].to_list()
    assert own.filter(pl.col("session") == day)["return_1d"].item() == pytest.approx(np.log(raw[-2] / raw[-3]))
    assert own["return_1d"][-1] == pytest.approx(np.log(raw[-1] / raw[-3]))


def test_a_fault_known_at_once_has_no_features_at_all() -> None:
    bars, findings, day = tick(known_after=0)
    own = build_features(bars, CorporateActions.of(), findings).frame.filter(pl.col("symbol") == "AA")
    assert not np.isfinite(own.filter(pl.col("session") == day).select(DEFAULT_SPEC.names).to_numpy()).any()
    raw = bars.frame.filter(pl.col("symbol") == "AA")["close"].to_list()
    assert own["return_1d"][-1] == pytest.approx(np.log(raw[-1] / raw[-3]))


def test_a_finding_that_nobody_knows_yet_changes_nothing() -> None:
    bars, findings, day = tick(known_after=1)
    upto = bars.select(end=day)
    assert build_features(upto, CorporateActions.of(), findings) == build_features(upto, CorporateActions.of())
    assert build_panel(upto, CorporateActions.of(), findings).doubted == ()


def test_an_action_on_a_doubtful_bar_applies_at_the_next_sound_one() -> None:
    bars, findings, day = tick(known_after=1)
    split = pl.DataFrame(
        {"symbol": ["AA"], "ex_date": [day], "kind": ["split"], "value": [10.0], "known_at": [None]}, ACTION_SCHEMA
    )
    growth = growth_of(bars, CorporateActions(frame=split), findings).filter(pl.col("symbol") == "AA")
    assert growth["price_growth"][-3:].to_list() == pytest.approx([1.0, float("nan"), 10.0], nan_ok=True)
    # At its own close nobody doubted the bar: a tenth of the price after ten for one is no move.
    built = build_features(bars, CorporateActions(frame=split), findings).frame
    raw = bars.frame.filter(pl.col("symbol") == "AA")["close"].to_list()
    found = built.filter((pl.col("symbol") == "AA") & (pl.col("session") == day))["return_1d"].item()
    assert found == pytest.approx(np.log(raw[-2] * 10 / raw[-3]))


def test_a_panel_holds_sound_bars_and_beside_them_the_doubted_one_as_it_looked() -> None:
    bars, findings, day = tick(known_after=1)
    panel = build_panel(bars, CorporateActions.of(), findings)
    assert panel.session_R[panel.rows("AA")].tolist() == [*range(SESSIONS - 2), SESSIONS - 1]
    (doubted,) = panel.doubted
    assert (panel.symbols[doubted.symbol], panel.sessions[doubted.session]) == ("AA", np.datetime64(day))
    own = bars.frame.filter((pl.col("symbol") == "AA") & (pl.col("session") == day))
    assert doubted.close == own["close"].item()
    assert doubted.log_price == np.log(doubted.close)
    then = build_features(bars.select(end=day), CorporateActions.of()).frame.filter(pl.col("symbol") == "AA")
    np.testing.assert_array_equal(
        doubted.features_F, then[-1].select(DEFAULT_SPEC.names).to_numpy()[0].astype(np.float32)
    )
    assert panel.as_known_at(doubted.session).last_session == day


def test_a_panel_has_no_trace_of_a_bar_whose_fault_was_known_at_once() -> None:
    bars, findings, _ = tick(known_after=0)
    panel = build_panel(bars, CorporateActions.of(), findings)
    assert panel.doubted == ()
    assert len(panel.session_R) == len(bars) - 1


@given(seed=seeds)
@few
def test_a_panel_of_bars_in_doubt_keeps_its_promises(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bars = gappy_bars(seed)
    actions, findings = random_actions(rng, bars), random_findings(rng, bars, 0.1)
    panel = build_panel(bars, actions, findings)
    faulty = findings.select(known_at=bars.last_session).frame
    left_out = faulty.group_by("symbol", "session").agg(pl.col("known_from").min())
    assert len(panel.session_R) == len(bars) - len(left_out)
    assert len(panel.doubted) == len(left_out.filter(pl.col("known_from") > pl.col("session")))


def test_the_row_after_an_unexplained_jump_is_a_break() -> None:
    bars, findings, _ = tick(known_after=1)
    jump = Findings.from_frame(findings.frame.with_columns(kind=pl.lit("split_like_jump")))
    panel = build_panel(bars, CorporateActions.of(), jump)
    assert panel.breaks.tolist() == [panel.rows("AA").stop - 1]
    first = jump.frame.with_columns(session=pl.lit(day_of(bars, 0)), known_from=pl.lit(day_of(bars, 0)))
    assert build_panel(bars, CorporateActions.of(), Findings.from_frame(first)).breaks.tolist() == []


def test_the_data_hash_covers_findings_known_by_the_end_declared_dividends_and_the_market() -> None:
    bars, findings, day = tick(known_after=1)

    def hash_of(*, actions: CorporateActions = CorporateActions.of(), findings: Findings = NO_FINDINGS) -> str:  # noqa: B008
        return build_panel(bars, actions, findings).data_hash

    reported = Findings.from_frame(findings.frame.with_columns(kind=pl.lit("missing_session")))
    later = Findings.from_frame(findings.frame.with_columns(known_from=pl.lit(bars.last_session + timedelta(days=3))))
    assert hash_of(findings=reported) == hash_of(findings=later) == hash_of()
    coming = pl.DataFrame(
        {
            "symbol": ["AA"],
            "ex_date": [bars.last_session + timedelta(days=10)],
            "kind": ["dividend"],
            "value": [1.0],
            "known_at": [day],
        },
        ACTION_SCHEMA,
    )
    hashes = {hash_of(), hash_of(findings=findings), hash_of(actions=CorporateActions(frame=coming))}
    hashes.add(build_panel(bars, CorporateActions.of(), market="AA").data_hash)
    assert len(hashes) == 4


def test_a_market_without_bars_is_refused_by_name() -> None:
    bars, _, _ = tick(known_after=1)
    with pytest.raises(DataError, match="market symbol SPY has no bars"):
        build_features(bars, CorporateActions.of(), market="SPY")


def test_a_base_that_begins_after_the_bars_or_holds_no_growth_is_refused() -> None:
    bars, _, _ = tick(known_after=1)
    growth = growth_of(bars, CorporateActions.of())
    with pytest.raises(DataError, match=r"AA: its base is of .* after its first bar"):
        build_features(bars, CorporateActions.of(), base=growth[1:2])
    with pytest.raises(DataError, match=r"AA: its base of .* is no growth"):
        build_features(bars, CorporateActions.of(), base=growth[:1].with_columns(price_growth=pl.lit(float("nan"))))
    with pytest.raises(SchemaError, match="a base has the columns symbol, session, price_growth, share_growth"):
        build_features(bars, CorporateActions.of(), base=growth.drop("session"))
    with pytest.raises(ValueError, match="at least 1"):
        build_features(bars, CorporateActions.of(), last=0)
