"""The exchange calendar."""

from __future__ import annotations

from datetime import date, datetime

import numpy as np
import pytest

from swiftbolt.errors import MissingSessions
from swiftbolt.sessions import all_sessions, as_day, is_session, last_closed_session, session_after, sessions_between

CLOSED = [
    "1968-06-12",  # paper crisis: closed on Wednesdays
    "1985-09-27",  # Hurricane Gloria
    "2001-09-11",
    "2001-09-12",
    "2001-09-13",
    "2001-09-14",
    "2004-06-11",  # mourning for President Reagan
    "2012-10-29",  # Hurricane Sandy
    "2012-10-30",
    "2018-12-05",  # mourning for President Bush
    "2020-04-10",  # Good Friday
    "2021-01-01",
    "2022-06-20",  # Juneteenth, observed on a Monday
    "2024-07-06",  # a Saturday
]
OPEN = ["2001-09-10", "2001-09-17", "2012-10-26", "2012-10-31", "2018-12-04", "2021-06-18", "2024-07-03"]


@pytest.mark.parametrize("day", CLOSED)
def test_the_exchange_was_closed_on(day):
    assert not is_session(np.array([day], dtype="datetime64[D]"))[0]


@pytest.mark.parametrize("day", OPEN)
def test_the_exchange_was_open_on(day):
    assert is_session(np.array([day], dtype="datetime64[D]"))[0]


def test_a_year_has_252_sessions_give_or_take_one():
    years = all_sessions().astype("datetime64[Y]").astype(int) + 1970
    counts = np.bincount(years)[1972:2026]
    assert counts.min() >= 248  # 2001
    assert counts.max() <= 254
    assert counts[2001 - 1972] == 248


def test_the_calendar_ascends_without_repeats_and_cannot_be_written_to():
    calendar = all_sessions()
    assert calendar.dtype == np.dtype("datetime64[D]")
    assert (np.diff(calendar).astype(int) > 0).all()
    with pytest.raises(ValueError, match="read-only"):
        calendar[0] = calendar[1]


def test_days_before_and_after_the_calendar_are_no_sessions():
    days = np.array(["1959-12-31", "1900-01-02", "2040-01-03", "NaT"], dtype="datetime64[D]")
    assert not is_session(days).any()


def test_is_session_keeps_the_shape_even_of_nothing():
    assert is_session(np.array([], dtype="datetime64[D]")).shape == (0,)


def test_sessions_between_includes_both_ends():
    found = sessions_between(date(2001, 9, 10), date(2001, 9, 18))
    assert found.astype(str).tolist() == ["2001-09-10", "2001-09-17", "2001-09-18"]


def test_sessions_between_takes_ends_that_are_no_sessions():
    found = sessions_between(date(2001, 9, 11), date(2001, 9, 17))
    assert found.astype(str).tolist() == ["2001-09-17"]


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (date(2001, 9, 11), date(2001, 9, 14)),
        (date(2020, 1, 3), date(2020, 1, 2)),
        (date(1950, 1, 1), date(1951, 1, 1)),
    ],
)
def test_a_range_without_a_session_raises(first, last):
    with pytest.raises(MissingSessions, match=f"between {first} and {last}"):
        sessions_between(first, last)


@pytest.mark.parametrize(
    ("day", "count", "expected"),
    [
        (date(2001, 9, 10), 1, date(2001, 9, 17)),
        (date(2001, 9, 10), 0, date(2001, 9, 10)),
        (date(2001, 9, 12), 1, date(2001, 9, 17)),  # itself no session
        (date(2012, 10, 26), 2, date(2012, 11, 1)),
        (date(2020, 1, 2), 20, date(2020, 1, 31)),  # Martin Luther King Day lies between
        (date(2001, 9, 17), -1, date(2001, 9, 10)),
    ],
)
def test_session_after_counts_sessions_not_days(day, count, expected):
    assert session_after(day, count) == expected
    assert session_after(np.datetime64(day), count) == expected


def test_a_session_beyond_the_calendar_raises():
    with pytest.raises(MissingSessions):
        session_after(date(2039, 12, 30), 1)
    with pytest.raises(MissingSessions):
        session_after(date(1960, 1, 4), -1)


def test_as_day_reads_dates_and_datetimes_of_any_unit():
    assert as_day(date(2020, 1, 2)) == as_day(np.datetime64("2020-01-02T15:30")) == np.datetime64("2020-01-02")
    assert as_day(date(2020, 1, 2)).dtype == np.dtype("datetime64[D]")


@pytest.mark.parametrize(
    ("now", "last"),
    [
        ("2020-01-03T00:59:00+00:00", date(2019, 12, 31)),  # 19:59 of the 2nd in New York; the 1st is no session
        ("2020-01-03T01:00:00+00:00", date(2020, 1, 2)),
        ("2020-01-05T12:00:00+00:00", date(2020, 1, 3)),  # a Sunday
        ("2020-07-01T00:00:00+00:00", date(2020, 6, 30)),  # summer time: 20:00 of the 30th
    ],
)
def test_a_session_is_over_at_eight_in_the_evening_in_new_york(now, last):
    assert last_closed_session(datetime.fromisoformat(now)) == last


def test_the_last_closed_session_needs_an_aware_time():
    with pytest.raises(ValueError, match="aware"):
        last_closed_session(datetime(2020, 1, 3))
