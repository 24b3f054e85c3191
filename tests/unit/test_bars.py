"""Bars keep their promises, and screening names every row it sets aside."""

from __future__ import annotations

import math
import pickle
from datetime import date, datetime

import polars as pl
import pytest
from support.by_hand import flat_bars, flat_frame, sessions_from

from swiftbolt.bars import BAR_SCHEMA, FAULTS, Bars, Quarantine, empty_quarantine, screen_bars
from swiftbolt.errors import DataError, SchemaError

NAN, INF = math.nan, math.inf
SATURDAY = date(2020, 1, 4)


def with_value(column: str, value: object, row: int = 1) -> pl.DataFrame:
    """Three bars of AAA at 10 dollars, one cell changed."""
    frame = flat_frame("AAA", [10.0, 10.0, 10.0])
    cells = frame[column].to_list()
    cells[row] = value
    return frame.with_columns(pl.Series(column, cells, dtype=BAR_SCHEMA[column]))


# Every kind of row-level fault: (column, value, kind).
FAULTY = [
    ("symbol", None, "null"),
    ("session", None, "null"),
    ("close", None, "null"),
    ("open", NAN, "null"),
    ("volume", NAN, "null"),
    ("volume", None, "null"),
    ("low", 0.0, "not_positive"),
    ("close", -10.0, "not_positive"),
    ("high", INF, "not_positive"),
    ("volume", -1.0, "not_positive"),
    ("volume", INF, "not_positive"),
    ("high", 9.99, "high_low"),
    ("low", 10.01, "high_low"),
    ("open", 10.01, "high_low"),
    ("open", 9.99, "high_low"),
    ("close", 10.01, "high_low"),
    ("close", 9.99, "high_low"),
    ("session", SATURDAY, "not_a_session"),
    ("session", date(1950, 1, 3), "not_a_session"),
    ("session", date(2020, 1, 2), "duplicate"),
]
TWICE = flat_frame("AAA", [10.0])


@pytest.mark.parametrize(("column", "value", "kind"), FAULTY)
def test_bars_refuse_a_faulty_row_and_say_what_it_has(column, value, kind):
    frame = with_value(column, value).sort("symbol", "session", maintain_order=True)
    with pytest.raises(DataError, match=FAULTS[kind].split("(")[0]):
        Bars(frame=frame)


@pytest.mark.parametrize(("column", "value", "kind"), FAULTY)
def test_screening_sets_a_faulty_row_aside_and_keeps_the_others(column, value, kind):
    bars, quarantine = screen_bars(with_value(column, value))
    assert quarantine.frame["fault"].to_list() == [kind]
    assert len(bars) == 2


def test_a_volume_of_zero_and_a_bar_without_range_are_no_faults():
    bars, quarantine = screen_bars(with_value("volume", 0.0))
    assert (len(bars), len(quarantine)) == (3, 0)


def test_bars_refuse_rows_out_of_order():
    frame = flat_bars({"AAA": [1, 2], "BBB": [3, 4]}).frame
    for order in ([1, 0, 2, 3], [2, 3, 0, 1], [0, 2, 1, 3]):
        with pytest.raises(DataError, match="not sorted"):
            Bars(frame=frame[order])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda frame: frame.drop("volume"),
        lambda frame: frame.with_columns(extra=pl.lit(1)),
        lambda frame: frame.with_columns(pl.col("volume").cast(pl.Int64)),
        lambda frame: frame.with_columns(pl.col("session").cast(pl.Datetime)),
        lambda frame: frame.select(reversed(frame.columns)),
    ],
    ids=["column missing", "column too many", "integer volume", "times", "order of columns"],
)
def test_bars_refuse_any_other_schema_and_name_theirs(spoil):
    with pytest.raises(SchemaError, match="symbol String, session Date, open Float64"):
        Bars(frame=spoil(flat_frame("AAA", [10.0])))


def test_screening_counts_each_row_once_under_the_first_fault_that_fits():
    rows = pl.concat(
        [
            flat_frame("AAA", [10.0] * 6),
            # Null and off the calendar; negative and high below low; a repeat with a sound and an unsound row.
            pl.DataFrame(
                [
                    ["AAA", SATURDAY, None, 10.0, 10.0, 10.0, 1.0],
                    ["AAA", SATURDAY, 10.0, 10.0, -10.0, 10.0, 1.0],
                    ["AAA", SATURDAY, 10.0, 9.0, 10.0, 10.0, 1.0],
                    ["AAA", SATURDAY, 10.0, 10.0, 10.0, 10.0, 1.0],
                    ["AAA", date(2020, 1, 2), 11.0, 11.0, 11.0, 11.0, 1.0],
                    ["AAA", date(2020, 1, 2), 12.0, 12.0, 12.0, 12.0, 1.0],
                    ["AAA", date(2020, 1, 2), 13.0, 12.0, 13.0, 13.0, 1.0],
                ],
                schema=BAR_SCHEMA,
                orient="row",
            ),
        ]
    )
    bars, quarantine = screen_bars(rows)
    assert bars.frame.equals(flat_frame("AAA", [10.0] * 6))
    assert quarantine.frame["fault"].value_counts().sort("fault").rows() == [
        ("conflict", 2),
        ("high_low", 2),
        ("not_a_session", 1),
        ("not_positive", 1),
        ("null", 1),
    ]
    assert len(bars) + len(quarantine) == len(rows)


def test_the_summary_has_one_line_per_kind_with_its_count_and_first_row():
    frame = pl.concat([flat_frame("AAA", [10.0, 11.0]), flat_frame("AAA", [12.0, 13.0]), with_value("low", -1.0)[1:2]])
    _, quarantine = screen_bars(frame)
    assert quarantine.summary() == [
        "set aside 1 row with a price that is zero, negative or infinite, or a negative volume (first: AAA 2020-01-03)",
        "set aside 2 rows with a second row for the same symbol and session with other values (the first is kept)"
        " (first: AAA 2020-01-02)",
    ]


def test_an_empty_quarantine_says_nothing():
    assert empty_quarantine().summary() == []
    assert empty_quarantine() == screen_bars(flat_frame("AAA", [10.0]))[1]


def test_unsorted_rows_are_sorted():
    tidy = flat_bars({"AAA": [1, 2, 3], "BBB": [4, 5, 6]})
    bars, quarantine = screen_bars(tidy.frame[[5, 0, 3, 2, 4, 1]])
    assert bars == tidy
    assert len(quarantine) == 0


def test_of_two_rows_for_a_session_the_first_in_the_file_is_kept():
    frame = pl.concat([flat_frame("BBB", [1.0]), flat_frame("AAA", [7.0]), flat_frame("AAA", [8.0])])
    bars, quarantine = screen_bars(frame)
    assert bars.select(["AAA"]).frame["close"].to_list() == [7.0]
    assert quarantine.frame["close"].to_list() == [8.0]


def test_a_sound_row_is_kept_though_a_faulty_one_for_its_session_came_first():
    frame = pl.concat([with_value("high", 1.0, row=0)[:1], flat_frame("AAA", [8.0])])
    bars, quarantine = screen_bars(frame)
    assert bars.frame["close"].to_list() == [8.0]
    assert quarantine.frame["fault"].to_list() == ["high_low"]


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [(None, None, "duplicate"), ("volume", -0.0, "duplicate"), ("volume", 1.0, "conflict"), ("low", 9.99, "conflict")],
)
def test_a_second_row_is_a_repeat_where_every_value_is_the_same_and_else_a_conflict(column, value, kind):
    first = TWICE.with_columns(volume=pl.lit(0.0))
    second = first if column is None else first.with_columns(pl.lit(value).alias(column))
    bars, quarantine = screen_bars(pl.concat([first, second]))
    assert bars.frame.equals(first)
    assert quarantine.frame["fault"].to_list() == [kind]


def test_rows_are_compared_with_the_one_that_is_kept_not_with_each_other():
    other = TWICE.with_columns(volume=pl.lit(5.0))
    bars, quarantine = screen_bars(pl.concat([TWICE, other, other, TWICE, flat_frame("BBB", [1.0])]))
    assert quarantine.frame["fault"].to_list() == ["conflict", "conflict", "duplicate"]
    assert bars.sessions_per_symbol() == {"AAA": 1, "BBB": 1}


def test_faulty_rows_are_no_repeats_whatever_they_hold():
    nans = TWICE.with_columns(volume=pl.lit(NAN))
    bars, quarantine = screen_bars(pl.concat([nans, nans, TWICE]))
    assert quarantine.frame["fault"].to_list() == ["null", "null"]
    assert bars.frame.equals(TWICE)


def test_sessions_after_today_are_set_aside_also_where_they_are_none_and_today_itself_is_kept():
    frame = with_value("session", date(2120, 1, 3), row=2)
    bars, quarantine = screen_bars(frame, today=date(2020, 1, 2))
    assert bars.last_session == date(2020, 1, 2)
    assert quarantine.frame["fault"].to_list() == ["future", "future"]
    assert screen_bars(frame)[1].frame["fault"].to_list() == ["not_a_session"]


def test_screening_casts_and_drops_what_is_not_needed():
    frame = flat_frame("AAA", [10.0, 11.0]).with_columns(
        pl.col("volume").cast(pl.Int64),
        pl.col("open").cast(pl.Float32),
        pl.col("symbol").cast(pl.Categorical),
        session=pl.Series(["2020-01-02", "2020-01-03"]),
        note=pl.lit("x"),
    )
    bars, quarantine = screen_bars(frame)
    assert bars == flat_bars({"AAA": [10.0, 11.0]})
    assert len(quarantine) == 0


def test_a_time_of_day_is_dropped():
    frame = flat_frame("AAA", [10.0]).with_columns(session=pl.Series([datetime(2020, 1, 2, 16, 0)]))
    assert screen_bars(frame)[0].last_session == date(2020, 1, 2)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("close", ["ten"], "column 'close' must hold numbers, holds String"),
        ("volume", [True], "column 'volume' must hold numbers, holds Boolean"),
        ("session", [20200102], "column 'session' must hold dates, holds Int64"),
        ("session", ["soon"], "bars cannot be read"),
    ],
)
def test_a_column_of_something_else_is_a_schema_error(column, values, message):
    with pytest.raises(SchemaError, match=message):
        screen_bars(flat_frame("AAA", [10.0]).with_columns(pl.Series(column, values)))


def test_a_missing_column_is_named_beside_those_there_are():
    with pytest.raises(SchemaError, match="no column 'close'; found symbol, session, open, high, low, volume"):
        screen_bars(flat_frame("AAA", [10.0]).drop("close"))


def test_a_column_of_nulls_is_quarantined_not_refused():
    bars, quarantine = screen_bars(flat_frame("AAA", [10.0, 11.0]).with_columns(close=pl.lit(None)))
    assert (len(bars), len(quarantine)) == (0, 2)


def test_a_frame_without_rows_makes_bars_without_rows():
    bars, quarantine = screen_bars(pl.DataFrame(schema=BAR_SCHEMA))
    assert (len(bars), len(quarantine), bars.symbols) == (0, 0, ())
    with pytest.raises(DataError, match="no last session"):
        _ = bars.last_session


def test_a_quarantine_refuses_frames_that_are_none():
    with pytest.raises(SchemaError, match="fault"):
        Quarantine(frame=flat_frame("AAA", [10.0]))
    with pytest.raises(DataError, match="no such fault: ugly"):
        Quarantine(frame=flat_frame("AAA", [10.0]).with_columns(fault=pl.lit("ugly")))


def test_bars_and_quarantines_survive_pickling_and_are_equal_by_content():
    bars, quarantine = screen_bars(with_value("low", -1.0))
    assert pickle.loads(pickle.dumps(bars)) == bars
    assert pickle.loads(pickle.dumps(quarantine)) == quarantine
    assert bars != flat_bars({"AAA": [10.0, 10.0, 10.0]})
    assert bars != bars.frame


def test_bars_have_no_hash_because_they_are_equal_by_content():
    with pytest.raises(TypeError, match="unhashable type: 'Bars'"):
        hash(flat_bars({"AAA": [1.0]}))


def test_selecting_restricts_symbols_and_sessions_ends_included():
    bars = flat_bars({"AAA": [1, 2, 3], "BBB": [4, 5, 6]})
    first, second, third = sessions_from(3)
    assert bars.symbols == ("AAA", "BBB")
    assert bars.select(["BBB"], start=second, end=second).frame["close"].to_list() == [5.0]
    assert bars.select(start=second).sessions_per_symbol() == {"AAA": 2, "BBB": 2}
    assert bars.select(end=first).last_session == first
    assert bars.select(["CCC"]).symbols == ()
    assert bars.select() == bars
    assert bars.last_session == third
