"""Findings as a noun: what it refuses, how it is selected from, and what it tells."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from swiftbolt.bars import BAR_SCHEMA, FAULTS, empty_quarantine, screen_bars
from swiftbolt.errors import DataError, SchemaError
from swiftbolt.findings import FINDING_SCHEMA, KINDS, Effect, Findings

MONDAY, TUESDAY = date(2020, 1, 6), date(2020, 1, 7)
ROWS = [
    ("AAA", MONDAY, "bad_tick", TUESDAY, "log return -2.3, then 2.3"),
    ("AAA", MONDAY, "zero_volume", MONDAY, "none"),
    ("BBB", TUESDAY, "missing_session", TUESDAY, ""),
]


def frame_of(*rows: tuple[object, ...]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=FINDING_SCHEMA, orient="row")


FINDINGS = Findings(frame=frame_of(*ROWS))


def test_findings_are_refused_with_other_columns_an_unknown_kind_or_out_of_order() -> None:
    with pytest.raises(SchemaError, match="must have the columns symbol, session, kind, known_from, detail"):
        Findings(frame=FINDINGS.frame.drop("detail"))
    with pytest.raises(DataError, match="no such kind of finding: hunch"):
        Findings(frame=frame_of(("AAA", MONDAY, "hunch", MONDAY, "")))
    with pytest.raises(DataError, match="not sorted"):
        Findings(frame=FINDINGS.frame.reverse())


def test_findings_from_a_frame_are_sorted_and_each_is_there_once() -> None:
    assert Findings.from_frame(frame_of(*reversed(ROWS), *ROWS)) == FINDINGS


def test_findings_that_differ_in_detail_alone_are_two() -> None:
    other = ("AAA", MONDAY, "bad_tick", TUESDAY, "another")
    assert len(Findings.concatenate([FINDINGS, FINDINGS, Findings(frame=frame_of(other))])) == 4


def test_a_concatenation_of_nothing_is_no_findings() -> None:
    assert Findings.concatenate([]) == Findings.none()
    assert len(Findings.none()) == 0
    assert Findings.none() != "none"


def test_a_selection_by_session_holds_what_was_known_at_its_close() -> None:
    assert FINDINGS.select(known_at=MONDAY).frame.rows() == ROWS[1:2]
    assert FINDINGS.select(known_at=TUESDAY) == FINDINGS
    assert FINDINGS.select(["BBB"], known_at=TUESDAY).frame.rows() == ROWS[2:]
    assert FINDINGS.select([]) == Findings.none()


def test_a_finding_of_a_row_without_a_session_is_known_at_once_and_of_no_named_symbol() -> None:
    nameless = Findings(frame=frame_of((None, None, "null", None, "")))
    assert nameless.select(known_at=MONDAY) == nameless
    assert nameless.select(["AAA"]) == Findings.none()


def test_only_some_kinds_leave_a_bar_out() -> None:
    assert FINDINGS.quarantining().counts() == {"bad_tick": 1, "zero_volume": 1}
    assert {kind for kind, what in KINDS.items() if what.effect is Effect.QUARANTINED} == {
        "bad_tick",
        "stale_close",
        "zero_volume",
        "split_like_jump",
        "absurd_rise",
    }


def test_findings_are_counted_by_kind() -> None:
    assert FINDINGS.counts() == {"bad_tick": 1, "missing_session": 1, "zero_volume": 1}
    assert Findings.none().counts() == {}


def test_the_summary_says_effect_count_meaning_first_row_and_remedy_of_each_kind() -> None:
    again = Findings.concatenate([FINDINGS, Findings(frame=frame_of(("CCC", TUESDAY, "zero_volume", TUESDAY, "")))])
    assert again.summary() == [
        "quarantined 1 row with a close that jumps away and back within one session (first: AAA 2020-01-06);"
        " compare with a second source; ingest the corrected bar",
        "quarantined 2 rows with no volume, of a symbol that otherwise trades (first: AAA 2020-01-06);"
        " compare with a second source; ingest the corrected bar",
        "reported 1 row with an exchange session without a bar between a symbol's first and last"
        " (first: BBB 2020-01-07); ask the source again, or a second one",
    ]


def test_every_fault_of_a_row_is_a_kind_that_sets_it_aside() -> None:
    assert {kind for kind, what in KINDS.items() if what.effect is Effect.SET_ASIDE} == set(FAULTS)


def test_rows_set_aside_are_findings_with_their_values() -> None:
    rows = pl.DataFrame(
        [
            ("AAA", MONDAY, 1.0, 2.0, 1.0, 2.0, 5.0),
            ("AAA", TUESDAY, 1.0, 2.0, 1.5, 2.0, 5.0),
            ("BBB", TUESDAY, None, 2.0, 1.5, 2.0, 5.0),
        ],
        schema=BAR_SCHEMA,
        orient="row",
    )
    assert Findings.of_quarantine(screen_bars(rows)[1]).frame.rows() == [
        ("AAA", TUESDAY, "high_low", TUESDAY, "open 1.0 high 2.0 low 1.5 close 2.0 volume 5.0"),
        ("BBB", TUESDAY, "null", TUESDAY, "open null high 2.0 low 1.5 close 2.0 volume 5.0"),
    ]
    assert Findings.of_quarantine(empty_quarantine()) == Findings.none()
