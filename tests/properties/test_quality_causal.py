"""For every market with faults in it: what is known by a session does not depend on what comes later, or on order."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from support.markets import make_bars

from swiftbolt.actions import CorporateAction, CorporateActions
from swiftbolt.bars import PRICES, Bars
from swiftbolt.findings import KINDS, Effect, Findings
from swiftbolt.quality import inspect
from swiftbolt.quality.measures import measure
from swiftbolt.quality.repeats import beside_universe

SYMBOLS = tuple("ABCDEFG")
SESSIONS = 130
FOUND_HERE = {
    "bad_tick",
    "stale_close",
    "zero_volume",
    "split_like_jump",
    "absurd_rise",
    "split_without_jump",
    "implausible_action",
}

QUICK = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)
cuts = st.integers(75, SESSIONS - 2)

NO_ACTIONS = CorporateActions.of()


def faulty_market(seed: int) -> tuple[Bars, CorporateActions]:
    """Seven symbols with about one fault a symbol in ten sessions, and actions that mostly have no effect."""
    rng = np.random.default_rng(seed)
    bars = make_bars(SYMBOLS, SESSIONS, seed=int(rng.integers(2**31)))
    columns = {name: bars.frame[name].to_numpy().copy() for name in (*PRICES, "volume")}
    kept = np.ones(len(bars), dtype=bool)
    for row in rng.choice(len(bars), size=len(bars) // 10, replace=False):
        if row % SESSIONS == 0:
            continue
        match rng.integers(6):
            case 0:
                for name in PRICES:
                    columns[name][row] /= 10.0
            case 1:
                for name in PRICES:
                    columns[name][row] = columns[name][row - 1]
            case 2:
                for name in PRICES:
                    columns[name][row] = columns["close"][row - 1]
            case 3:
                columns["volume"][row] = 0.0
            case 4:
                end = row - row % SESSIONS + SESSIONS
                for name in PRICES:
                    columns[name][row:end] /= 2.0
            case 5:
                kept[row : row + int(rng.integers(1, 9))] = False
    # On one session a vendor repeats itself for all symbols but one.
    at_once = np.arange(int(rng.integers(1, SESSIONS)), (len(SYMBOLS) - 1) * SESSIONS, SESSIONS)
    for name in PRICES:
        columns[name][at_once] = columns[name][at_once - 1]
    frame = bars.frame.with_columns(**{name: pl.Series(values) for name, values in columns.items()})
    days = bars.frame["session"].unique().sort()
    actions = [
        CorporateAction(
            symbol=str(rng.choice(SYMBOLS)),
            ex_date=days[int(rng.integers(SESSIONS))],
            kind=rng.choice(["split", "dividend", "factor"]),
            value=float(np.exp(rng.normal(0.0, 3.0))),
        )
        for _ in range(8)
    ]
    return Bars(frame=frame.filter(kept)), CorporateActions.of(actions)


def with_another_future(seed: int, cut: int) -> tuple[Bars, CorporateActions, date]:
    """The faulty market of a seed up to a session, that session, and then the one of the next seed without C."""
    (bars, actions), (others, other_actions) = faulty_market(seed), faulty_market(seed + 1)
    last = session_at(bars, cut)
    later = others.frame.filter((pl.col("session") > last) & (pl.col("symbol") != "C"))
    frame = pl.concat([bars.select(end=last).frame, later]).sort("symbol", "session")
    later_actions = other_actions.frame.filter(pl.col("ex_date") > last)
    changed = pl.concat([actions.select(as_of=last).frame, later_actions])
    return Bars(frame=frame), CorporateActions.from_frame(changed), last


def session_at(bars: Bars, cut: int) -> date:
    session = bars.frame["session"].unique().sort()[cut]
    assert isinstance(session, date)
    return session


def test_the_faulty_markets_show_every_kind_that_is_looked_for() -> None:
    kinds = {kind for seed in range(6) for kind in inspect(*faulty_market(seed)).counts()}
    assert kinds == {*FOUND_HERE, "missing_session"}
    assert kinds >= {kind for kind, what in KINDS.items() if what.effect is Effect.QUARANTINED}


@QUICK
@given(seeds, cuts)
def test_findings_known_by_a_session_are_the_same_when_all_that_comes_later_is_another(seed: int, cut: int) -> None:
    changed, changed_actions, last = with_another_future(seed, cut)
    assert inspect(*faulty_market(seed)).select(known_at=last) == inspect(changed, changed_actions).select(
        known_at=last
    )


@QUICK
@given(seeds, cuts)
def test_nothing_that_bars_are_judged_by_changes_a_bit_with_what_comes_later(seed: int, cut: int) -> None:
    def known(bars: Bars, actions: CorporateActions, last: date) -> pl.DataFrame:
        judged = beside_universe(measure(bars, actions)).drop("run")  # only counts the runs of all symbols
        return judged.filter(pl.col("session") <= last)

    changed, changed_actions, last = with_another_future(seed, cut)
    assert known(*faulty_market(seed), last).equals(known(changed, changed_actions, last))


@QUICK
@given(seeds, cuts)
def test_findings_known_by_a_session_are_those_of_the_bars_up_to_it(seed: int, cut: int) -> None:
    bars, actions = faulty_market(seed)
    last = session_at(bars, cut)
    assert inspect(bars, actions).select(known_at=last) == inspect(bars.select(end=last), actions)


@QUICK
@given(seeds, st.permutations(SYMBOLS))
def test_findings_do_not_depend_on_the_order_of_the_symbols(seed: int, names: list[str]) -> None:
    bars, actions = faulty_market(seed)
    name_of = dict(zip(SYMBOLS, names, strict=True))
    renamed = Bars(frame=bars.frame.with_columns(pl.col("symbol").replace_strict(name_of)).sort("symbol", "session"))
    other_actions = CorporateActions.from_frame(
        actions.frame.with_columns(pl.col("symbol").replace_strict(name_of))
    )  # fmt: skip
    expected = inspect(bars, actions).frame.with_columns(pl.col("symbol").replace_strict(name_of))
    assert inspect(renamed, other_actions) == Findings.from_frame(expected)


@QUICK
@given(seeds, st.sets(st.sampled_from(SYMBOLS), min_size=1))
def test_only_stale_closes_depend_on_the_other_symbols(seed: int, symbols: set[str]) -> None:
    bars, actions = faulty_market(seed)

    def own(findings: Findings) -> pl.DataFrame:
        return findings.select(symbols).frame.filter(pl.col("kind") != "stale_close")

    assert own(inspect(bars, actions)).equals(own(inspect(bars.select(symbols), actions)))


@QUICK
@given(seeds)
def test_every_finding_is_of_a_symbol_of_the_bars_and_known_no_sooner_than_its_session(seed: int) -> None:
    bars, actions = faulty_market(seed)
    frame = inspect(bars, actions).frame
    assert set(frame["symbol"]) <= set(bars.symbols)
    assert frame.filter(pl.col("known_from") < pl.col("session")).is_empty()
    present = frame.join(bars.frame, on=["symbol", "session"], how="semi")["kind"].unique()
    absent = frame.join(bars.frame, on=["symbol", "session"], how="anti")["kind"].unique()
    assert set(absent) <= {"missing_session"}
    assert "missing_session" not in set(present)


@QUICK
@given(seeds)
def test_a_sound_market_is_left_alone(seed: int) -> None:
    assert inspect(make_bars(SYMBOLS, SESSIONS, seed=seed, garch=True), NO_ACTIONS).counts() == {}
