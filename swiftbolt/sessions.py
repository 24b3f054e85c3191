"""The exchange calendar: which days are sessions. Time is counted in sessions everywhere else."""

from __future__ import annotations

import warnings
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from swiftbolt.errors import MissingSessions

Sessions = NDArray[np.datetime64]

EXCHANGE = "XNYS"
FIRST_SESSION = date(1960, 1, 4)
LAST_SESSION = date(2039, 12, 30)
EXCHANGE_ZONE = ZoneInfo("America/New_York")
END_OF_DAY = timedelta(hours=20)  # after midnight of the exchange: after-hours trading is over


@lru_cache(maxsize=1)
def all_sessions() -> Sessions:
    """Every NYSE session from 1960 to 2039, ascending, dtype ``datetime64[D]``, read-only."""
    import exchange_calendars  # heavy: pandas and every exchange of the world

    with warnings.catch_warnings():
        # exchange_calendars 4.13 calls what pandas 3.1 deprecates; nobody who uses us can do anything about it.
        warnings.simplefilter("ignore", DeprecationWarning)
        calendar: Any = exchange_calendars.get_calendar(
            EXCHANGE, start=FIRST_SESSION.isoformat(), end=LAST_SESSION.isoformat()
        )
    sessions: Sessions = calendar.sessions.to_numpy().astype("datetime64[D]")
    sessions.flags.writeable = False
    return sessions


def as_day(day: date | np.datetime64) -> np.datetime64:
    """``day`` as ``datetime64[D]``."""
    day64: np.datetime64 = np.array([day], dtype="datetime64[D]")[0]
    return day64


def sessions_between(first: date | np.datetime64, last: date | np.datetime64) -> Sessions:
    """Sessions from ``first`` to ``last``, both included; neither need be a session itself.

    Raises:
        MissingSessions: there is none.
    """
    calendar = all_sessions()
    start = np.searchsorted(calendar, as_day(first), side="left")
    stop = np.searchsorted(calendar, as_day(last), side="right")
    if start >= stop:
        raise MissingSessions(f"no {EXCHANGE} session between {first} and {last}")
    return calendar[start:stop]


def is_session(days: NDArray[np.datetime64]) -> NDArray[np.bool_]:
    """True where a day is a session; same shape as ``days``."""
    calendar = all_sessions()
    position = np.searchsorted(calendar, days).clip(max=len(calendar) - 1)
    found: NDArray[np.bool_] = calendar[position] == days
    return found


def session_after(session: date | np.datetime64, count: int) -> date:
    """The ``count``-th session after ``session`` (which need not be a session itself)."""
    calendar = all_sessions()
    position = int(np.searchsorted(calendar, as_day(session), side="right")) - 1 + count
    if not 0 <= position < len(calendar):
        raise MissingSessions(f"no {EXCHANGE} session {count} after {session}")
    found: date = calendar[position].astype(object)
    return found


def last_closed_session(now: datetime) -> date:
    """The newest session that is over at ``now``, an aware time: after-hours trading included, so 20:00 in New York."""
    if now.tzinfo is None:
        raise ValueError("the last closed session needs an aware time")
    return session_after((now.astimezone(EXCHANGE_ZONE) - END_OF_DAY).date(), 0)
