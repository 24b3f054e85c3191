"""How stored bars came to be: values replaced, findings, rows set aside, what was asked for, the data revision."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.database import MONDAY, THURSDAY, TUESDAY, WEDNESDAY, at_once, bars_of, until_blocked

from swiftbolt.actions import CorporateAction, CorporateActions
from swiftbolt.bars import Bars, Quarantine, empty_quarantine
from swiftbolt.findings import FINDING_SCHEMA, Findings
from swiftbolt.sessions import is_session
from swiftbolt.store import Store, UpsertCount
from swiftbolt.store.rows import REVISION_SCHEMA

ROOT = Path(__file__).resolve().parents[2]

FRIDAY, SATURDAY = date(2024, 1, 12), date(2024, 1, 13)
HOLIDAY = date(2024, 1, 15)  # Martin Luther King's day, a Monday
NEXT_TUESDAY, NEXT_WEDNESDAY = date(2024, 1, 16), date(2024, 1, 17)
SPLIT = CorporateAction(symbol="AAPL", ex_date=TUESDAY, kind="split", value=2.0)


@pytest.fixture
def sql(migrated_url: str) -> Iterator[psycopg.Connection]:
    """A second, plain connection to the store's database."""
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        yield connection


def findings_of(*rows: tuple[str | None, date | None, str, date | None]) -> Findings:
    """Findings of symbol, session, kind and the session they are known from."""
    return Findings.from_frame(pl.DataFrame([(*row, "as seen") for row in rows], schema=FINDING_SCHEMA, orient="row"))


def quarantine_of(*rows: tuple[object, ...]) -> Quarantine:
    """Rows of symbol, session, open, high, low, close, volume and fault."""
    return Quarantine(frame=pl.DataFrame(rows, schema=empty_quarantine().frame.schema, orient="row"))


# ---- revisions --------------------------------------------------------------------------------------------


def test_the_values_of_a_bar_that_is_replaced_are_kept_in_order_with_their_source(store):
    for close, source in ((185.0, "first"), (186.0, "second"), (187.0, "third")):
        store.upsert_bars(bars_of(("AAPL", MONDAY, close), ("AAPL", TUESDAY, 1.0), ("IBM", MONDAY, close)), source)
    assert store.bars(["AAPL"]) == bars_of(("AAPL", MONDAY, 187.0), ("AAPL", TUESDAY, 1.0))
    kept = store.revisions(["AAPL"])
    assert kept.select("session", "ordinal", "close", "volume", "source").rows() == [
        (MONDAY, 1, 185.0, 1000.0, "first"),
        (MONDAY, 2, 186.0, 1000.0, "second"),
    ]
    assert dict(kept.schema) == REVISION_SCHEMA
    assert len(store.revisions()) == 4
    assert len(store.revisions(["NOBODY"])) == 0


def test_replacements_are_told_in_utc_whatever_the_time_zone_of_the_database(migrated_url, sql):
    with Store.connect(make_conninfo(migrated_url, options="-c timezone=Asia/Tokyo")) as store:
        store.upsert_bars(bars_of(("AAPL", MONDAY, 1.0)), "test")
        count = store.upsert_bars(bars_of(("AAPL", MONDAY, 2.0)), "test")
        (at,) = sql.execute("SELECT replaced_at FROM bar_revisions").fetchone()
        assert store.revisions()["replaced_at"].to_list() == [at.astimezone(UTC)]
        assert count.findings.frame["known_from"].to_list() == [at.astimezone(UTC).date()]


def test_a_revision_is_counted_reported_and_recorded_as_a_finding(store):
    store.upsert_bars(bars_of(("AAPL", MONDAY, 185.0), ("AAPL", TUESDAY, 1.0)), "first")
    count = store.upsert_bars(bars_of(("AAPL", MONDAY, 186.5), ("AAPL", TUESDAY, 1.0)), "second")
    assert count == UpsertCount(inserted=0, revised=1, unchanged=1)
    (row,) = count.findings.frame.iter_rows(named=True)
    assert (row["symbol"], row["session"], row["kind"]) == ("AAPL", MONDAY, "revision")
    assert row["detail"] == "was open 185.0 high 185.0 low 185.0 close 185.0 volume 1000.0 from first"
    assert row["known_from"] == store.revisions()["replaced_at"][0].date()
    assert store.findings() == count.findings
    again = store.upsert_bars(bars_of(("AAPL", MONDAY, 186.5)), "third")
    assert len(again.findings) == 0
    assert len(store.findings()) == 1


def test_the_replaced_value_is_kept_whoever_replaces_it(store, sql):
    store.upsert_bars(bars_of(("AAPL", MONDAY, 185.0), ("AAPL", TUESDAY, 186.0)), "test")
    sql.execute("UPDATE bars SET volume = 7 WHERE session = '2024-01-08'")
    sql.execute("UPDATE bars SET source = 'renamed'")
    assert store.revisions().select("session", "volume").rows() == [(MONDAY, 1000.0)]


def test_two_ingests_at_once_that_disagree_leave_one_of_the_two_whole_and_keep_the_other(migrated_url):
    symbols = [f"S{number:02}" for number in range(20)]
    days = [day.item() for day in np.arange("2023-01-03", "2023-06-30", dtype="datetime64[D]")]
    days = [day for day in days if is_session(np.array([day], dtype="datetime64[D]"))[0]]
    versions = [bars_of(*((symbol, day, close) for symbol in symbols for day in days)) for close in (1.0, 2.0)]
    split = CorporateActions.of([CorporateAction(symbol=s, ex_date=days[5], kind="split", value=2.0) for s in symbols])

    def ingest(store: Store, bars: Bars) -> UpsertCount:
        # Batches in another order than the other's: within one the symbols are sorted.
        parts = [symbols[:10], symbols[5:]] if bars is versions[0] else [symbols[8:], symbols[:12]]
        total = UpsertCount(inserted=0, revised=0, unchanged=0)
        for part in parts:
            store.upsert_actions(split.select(part), "test")
            store.replace_findings(Findings.none(), part)
            count = store.upsert_bars(bars.select(part), "test")
            total = UpsertCount(
                inserted=total.inserted + count.inserted,
                revised=total.revised + count.revised,
                unchanged=total.unchanged + count.unchanged,
            )
        return total

    with Store.connect(migrated_url) as one, Store.connect(migrated_url) as other:
        counts = at_once(lambda: ingest(one, versions[0]), lambda: ingest(other, versions[1]))
        assert sum(count.inserted for count in counts) == len(versions[0])
        closes = one.bars().frame.group_by("symbol").agg(pl.col("close").n_unique())["close"]
        assert closes.unique().to_list() == [1]
        assert len(one.revisions()) == sum(count.revised for count in counts)
        assert len(one.actions()) == len(symbols)


WRITES: dict[str, Callable[[Store], object]] = {
    "bars": lambda store: store.upsert_bars(bars_of(("AAPL", MONDAY, 1.0)), "test"),
    "actions": lambda store: store.upsert_actions(CorporateActions.of([SPLIT]), "test"),
    "findings": lambda store: store.replace_findings(findings_of(), ["AAPL"]),
    "coverage": lambda store: store.record_coverage("AAPL", "test", MONDAY, MONDAY),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_whoever_writes_to_a_symbol_waits_until_nobody_else_does(store, migrated_url, sql, write):
    with psycopg.connect(migrated_url) as rival:
        rival.execute("INSERT INTO symbol_revisions (symbol) VALUES ('AAPL')")
        waiting = threading.Thread(target=write, args=[store])
        waiting.start()
        until_blocked(sql, waiting.is_alive)
    waiting.join()


KILLED = """
import sys
from datetime import date
from support.database import MONDAY, TUESDAY, WEDNESDAY, bars_of
from swiftbolt.store import Store
with Store.connect(sys.argv[1]) as store:
    for symbol in ("AAPL", "IBM"):
        store.upsert_bars(bars_of(*((symbol, day, 1.0) for day in (MONDAY, TUESDAY, WEDNESDAY))), "killed")
"""


def test_an_ingest_that_is_killed_leaves_whole_batches_and_can_be_done_again(store, migrated_url, sql):
    whole = bars_of(*((s, day, 1.0) for s in ("AAPL", "IBM") for day in (MONDAY, TUESDAY, WEDNESDAY)))
    with psycopg.connect(migrated_url) as rival:
        # The second batch has stored two of its bars when it comes to the one that we have not committed.
        rival.execute("INSERT INTO bars SELECT 'IBM', %s, 1, 1, 1, 1, 1, 'rival'", [WEDNESDAY])
        killed = subprocess.Popen(
            [sys.executable, "-c", KILLED, migrated_url], cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        )
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while sql.execute(waiting).fetchone() == (0,):
            assert killed.poll() is None
        killed.kill()
        killed.wait()
        rival.rollback()
    assert store.bars() == whole.select(["AAPL"])
    assert store.last_sessions() == {"AAPL": WEDNESDAY}
    assert store.upsert_bars(whole, "again") == UpsertCount(inserted=3, revised=0, unchanged=3)


def test_no_rows_are_no_change(store):
    assert store.upsert_bars(bars_of(), "test") == UpsertCount(inserted=0, revised=0, unchanged=0)
    assert store.upsert_actions(CorporateActions.of(), "test") == UpsertCount(inserted=0, revised=0, unchanged=0)
    store.set_aside(empty_quarantine(), "test")
    assert len(store.quarantine()) == len(store.findings()) == len(store.revisions()) == 0


# ---- findings and rows set aside --------------------------------------------------------------------------


def test_findings_of_the_named_symbols_are_replaced_and_those_of_others_stay(store):
    tick, jump = ("AAPL", MONDAY, "bad_tick", TUESDAY), ("AAPL", TUESDAY, "split_like_jump", TUESDAY)
    other = ("IBM", MONDAY, "stale_close", MONDAY)
    store.replace_findings(findings_of(tick, other), ["AAPL", "IBM"])
    store.replace_findings(findings_of(jump), ["AAPL"])
    assert store.findings() == findings_of(jump, other)
    assert store.findings(["IBM"]) == findings_of(other)
    store.replace_findings(findings_of(), ["AAPL", "IBM"])
    assert len(store.findings()) == 0


def test_findings_made_as_data_came_in_are_only_added_and_each_once(store):
    seen = findings_of(
        ("AAPL", MONDAY, "revision", TUESDAY),
        ("AAPL", MONDAY, "source_mismatch", MONDAY),
        ("AAPL", None, "null", None),
        (None, None, "null", None),
    )
    for _ in range(2):
        store.replace_findings(seen, symbols=[])
    store.replace_findings(findings_of(), ["AAPL"])
    assert store.findings() == seen
    assert len(store.findings(["AAPL"])) == 3


def test_findings_of_a_symbol_that_is_not_among_those_replaced_are_refused(store):
    with pytest.raises(ValueError, match="findings of IBM"):
        store.replace_findings(findings_of(("IBM", MONDAY, "bad_tick", TUESDAY)), ["AAPL"])


def test_many_findings_are_replaced_by_as_many_others(store):
    """Found by key: pair by pair this would take minutes."""
    days = [day.item() for day in np.arange("1990-01-01", "2039-12-31", dtype="datetime64[D]")]
    first, second = (
        findings_of(*(("AAPL", day, "missing_session", day + timedelta(late)) for day in days)) for late in (0, 1)
    )
    store.replace_findings(first, ["AAPL"])
    store.replace_findings(second, ["AAPL"])
    assert store.findings() == second


def test_rows_set_aside_come_back_with_their_values_and_each_once(store):
    nan = math.nan
    rows = quarantine_of(
        (None, None, None, None, None, None, None, "null"),
        (None, MONDAY, 1.0, 1.0, 1.0, 1.0, 5.0, "null"),
        ("AAPL", None, 1.0, 1.0, 1.0, 1.0, 5.0, "null"),
        ("AAPL", MONDAY, nan, 1.0, None, 1.0, 5.0, "null"),
        ("AAPL", TUESDAY, -1.0, math.inf, 1.0, 1.0, 5.0, "not_positive"),
    )
    for _ in range(2):
        store.set_aside(rows, "test")
    assert store.quarantine() == rows
    assert store.quarantine(["AAPL"]).frame.equals(rows.frame.filter(pl.col("symbol") == "AAPL"))
    assert store.findings() == Findings.of_quarantine(rows)


def test_a_faulty_row_that_comes_with_other_values_is_another_row(store):
    row = ("AAPL", MONDAY, None, 1.0, 1.0, 1.0, 5.0, "null")
    store.set_aside(quarantine_of(row), "test")
    store.set_aside(quarantine_of(row, (*row[:6], 6.0, "null")), "test")
    store.set_aside(quarantine_of(row), "another source")
    assert store.quarantine().frame["volume"].to_list() == [5.0, 6.0, 5.0]


# ---- coverage ---------------------------------------------------------------------------------------------


def test_what_was_never_asked_for_is_all_uncovered_and_what_was_is_not(store):
    assert store.uncovered("AAPL", "polygon", MONDAY, FRIDAY) == [(MONDAY, FRIDAY)]
    store.record_coverage("AAPL", "polygon", MONDAY, FRIDAY)
    assert store.uncovered("AAPL", "polygon", MONDAY, FRIDAY) == []
    assert store.uncovered("AAPL", "polygon", TUESDAY, WEDNESDAY) == []
    assert store.uncovered("AAPL", "alpaca", MONDAY, FRIDAY) == [(MONDAY, FRIDAY)]
    assert store.uncovered("IBM", "polygon", MONDAY, FRIDAY) == [(MONDAY, FRIDAY)]


def test_the_gaps_between_what_was_asked_for_are_named_in_order_by_their_sessions(store):
    store.record_coverage("AAPL", "polygon", NEXT_TUESDAY, NEXT_TUESDAY)
    store.record_coverage("AAPL", "polygon", TUESDAY, WEDNESDAY)
    gaps = [(MONDAY, MONDAY), (THURSDAY, FRIDAY), (NEXT_WEDNESDAY, NEXT_WEDNESDAY)]
    assert store.uncovered("AAPL", "polygon", date(2024, 1, 6), NEXT_WEDNESDAY) == gaps


def test_days_without_a_session_are_never_asked_for(store):
    store.record_coverage("AAPL", "polygon", MONDAY, FRIDAY)
    assert store.uncovered("AAPL", "polygon", MONDAY, HOLIDAY) == []
    assert store.uncovered("AAPL", "polygon", SATURDAY, HOLIDAY) == []
    assert store.uncovered("AAPL", "polygon", FRIDAY, MONDAY) == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_ranges_that_touch_over_a_long_weekend_or_overlap_become_one(store, sql, order):
    ranges = [(MONDAY, THURSDAY), (WEDNESDAY, FRIDAY), (NEXT_TUESDAY, NEXT_WEDNESDAY)]
    for place in order:
        store.record_coverage("AAPL", "polygon", *ranges[place])
    held = sql.execute("SELECT symbol, source, first, last FROM coverage").fetchall()
    assert held == [("AAPL", "polygon", MONDAY, NEXT_WEDNESDAY)]


def test_a_range_that_ends_before_it_begins_is_refused(store):
    with pytest.raises(ValueError, match="ends before it begins"):
        store.record_coverage("AAPL", "polygon", TUESDAY, MONDAY)


def test_random_ranges_cover_what_a_set_of_sessions_says(store, sql):
    rng = np.random.default_rng(7)
    days = np.arange("2024-01-01", "2024-03-01", dtype="datetime64[D]")
    sessions = days[is_session(days)].tolist()
    asked: set[date] = set()
    for _ in range(25):
        first, last = sorted(days[rng.integers(0, len(days), 2)].tolist())
        last = min(last, first + timedelta(6))
        store.record_coverage("AAPL", "polygon", first, last)
        asked.update(day for day in sessions if first <= day <= last)
        gaps = store.uncovered("AAPL", "polygon", sessions[0], sessions[-1])
        assert {day for day in sessions for first, last in gaps if first <= day <= last} == set(sessions) - asked
        assert gaps == sorted(gaps)
        (stored,) = sql.execute("SELECT count(*) FROM coverage").fetchone()
        assert len(gaps) - 1 <= stored <= len(gaps) + 1


# ---- the data revision ------------------------------------------------------------------------------------

TICK = ("AAPL", MONDAY, "bad_tick", TUESDAY)


def action(ex_date: date, value: float = 0.24, known_at: date | None = None) -> CorporateActions:
    return CorporateActions.of(
        [CorporateAction(symbol="AAPL", ex_date=ex_date, kind="dividend", value=value, known_at=known_at)]
    )


def fill(store: Store) -> None:
    """AAPL on Monday and Wednesday, IBM on Monday, a split and a finding of AAPL."""
    store.upsert_bars(bars_of(("AAPL", MONDAY, 1.0), ("AAPL", WEDNESDAY, 1.0), ("IBM", MONDAY, 1.0)), "test")
    store.upsert_actions(CorporateActions.of([SPLIT]), "test")
    store.replace_findings(findings_of(TICK), ["AAPL", "IBM"])


Change = Callable[[Store], object]

REWRITES: dict[str, Change] = {
    "a bar is replaced": lambda s: s.upsert_bars(bars_of(("AAPL", MONDAY, 2.0)), "test"),
    "a bar is inserted": lambda s: s.upsert_bars(bars_of(("AAPL", TUESDAY, 1.0)), "test"),
    "one is inserted, one appended": lambda s: s.upsert_bars(
        bars_of(("AAPL", TUESDAY, 1.0), ("AAPL", THURSDAY, 1.0)), "test"
    ),
    "a symbol's first bar": lambda s: s.upsert_bars(bars_of(("MSFT", THURSDAY, 1.0)), "test"),
    "an action is added": lambda s: s.upsert_actions(action(WEDNESDAY), "test"),
    "an action is corrected": lambda s: s.upsert_actions(
        CorporateActions.of([CorporateAction(symbol="AAPL", ex_date=TUESDAY, kind="split", value=3.0)]), "test"
    ),
    "a later dividend was announced": lambda s: s.upsert_actions(action(FRIDAY, known_at=WEDNESDAY), "test"),
    "a finding is withdrawn": lambda s: s.replace_findings(findings_of(), ["AAPL"]),
    "a finding is added": lambda s: s.replace_findings(
        findings_of(TICK, ("AAPL", WEDNESDAY, "stale_close", WEDNESDAY)), ["AAPL"]
    ),
    "a finding is known later": lambda s: s.replace_findings(
        findings_of(("AAPL", MONDAY, "bad_tick", WEDNESDAY)), ["AAPL"]
    ),
}
APPENDS: dict[str, Change] = {
    "nothing new": fill,
    "a later bar": lambda s: s.upsert_bars(bars_of(("AAPL", THURSDAY, 1.0), ("IBM", TUESDAY, 1.0)), "test"),
    "another source tells the same": lambda s: s.upsert_bars(bars_of(("AAPL", MONDAY, 1.0)), "another"),
    "a later action": lambda s: s.upsert_actions(action(THURSDAY), "test"),
    "one announced later": lambda s: s.upsert_actions(action(FRIDAY, known_at=THURSDAY), "test"),
    "a finding known later": lambda s: s.replace_findings(
        findings_of(TICK, ("AAPL", WEDNESDAY, "bad_tick", THURSDAY)), ["AAPL"]
    ),
    "a finding that leaves nothing out": lambda s: s.replace_findings(
        findings_of(TICK, ("AAPL", TUESDAY, "missing_session", WEDNESDAY)), ["AAPL"]
    ),
    "another symbol": lambda s: s.upsert_bars(bars_of(("GOOG", MONDAY, 1.0)), "test"),
}
SYMBOLS = ("AAPL", "IBM", "MSFT")


@pytest.mark.parametrize("change", REWRITES.values(), ids=REWRITES)
def test_a_change_of_history_changes_the_data_revision(store, change):
    fill(store)
    before, of_another = store.data_revision(SYMBOLS), store.data_revision(["IBM"])
    change(store)
    assert store.data_revision(SYMBOLS) != before
    assert store.data_revision(["IBM"]) == of_another


@pytest.mark.parametrize("change", APPENDS.values(), ids=APPENDS)
def test_what_only_goes_on_leaves_the_data_revision_as_it_is(store, change):
    fill(store)
    before = store.data_revision(SYMBOLS)
    change(store)
    assert store.data_revision(SYMBOLS) == before


def test_moving_an_announcement_out_of_history_changes_the_data_revision(store):
    fill(store)
    store.upsert_actions(action(FRIDAY, known_at=WEDNESDAY), "test")
    before = store.data_revision(SYMBOLS)
    store.upsert_actions(action(FRIDAY, known_at=THURSDAY), "test")
    assert store.data_revision(SYMBOLS) != before


def test_a_withdrawn_dividend_changes_the_data_revision(store):
    fill(store)
    both = CorporateActions.from_frame(pl.concat([action(TUESDAY).frame, action(TUESDAY, 1.0).frame]))
    store.upsert_actions(both, "test")
    before = store.data_revision(SYMBOLS)
    store.upsert_actions(action(TUESDAY), "test")
    assert store.data_revision(SYMBOLS) != before


def test_the_data_revision_depends_on_the_set_of_symbols_and_not_on_their_order(store):
    fill(store)
    assert store.data_revision(["AAPL", "IBM"]) == store.data_revision(["IBM", "AAPL", "IBM"])
    assert store.data_revision(["AAPL"]) != store.data_revision(["AAPL", "IBM"])


def test_a_database_with_bars_from_before_is_given_revisions(empty_url):
    with psycopg.connect(empty_url, autocommit=True) as connection, Store.connect(empty_url) as store:
        store.migrate()
        store.upsert_bars(bars_of(("AAPL", MONDAY, 1.0), ("AAPL", TUESDAY, 1.0)), "test")
        connection.execute("DROP TABLE symbol_revisions")
        connection.execute("DELETE FROM schema_migrations WHERE name LIKE '0004%'")
        store.migrate()
        before = store.data_revision(["AAPL"])
        store.upsert_bars(bars_of(("AAPL", WEDNESDAY, 1.0)), "test")
        assert store.data_revision(["AAPL"]) == before
        store.upsert_bars(bars_of(("AAPL", MONDAY, 2.0)), "test")
        assert store.data_revision(["AAPL"]) != before
