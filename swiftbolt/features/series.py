"""A daily series that stands beside the bars, such as an index or the VIX, as it was known at each session's close."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from swiftbolt.bars import Bars
from swiftbolt.errors import DataError
from swiftbolt.features.rolling import Float64
from swiftbolt.sessions import Sessions, all_sessions, as_day, is_session

CARRIED = 5  # sessions that a value goes on standing for while the series has no newer one


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DailySeries:
    """N positive values, each known from the close of its session on and never revised.

    Attributes:
        name: what errors call it: its file, or the symbol whose closes it is.
        session_N: ascending, each once.
        value_N: finite.

    Raises:
        DataError: one of these promises is broken.
    """

    name: str
    session_N: Sessions
    value_N: Float64

    def __post_init__(self) -> None:
        if self.session_N.shape != self.value_N.shape:
            raise DataError(f"{self.name}: {len(self.session_N)} sessions have {len(self.value_N)} values")
        if not is_session(self.session_N).all():
            raise DataError(f"{self.name}: holds a day on which the exchange was closed; leave it out")
        if (np.diff(self.session_N.astype(np.int64)) <= 0).any():
            raise DataError(f"{self.name}: its sessions are not ascending, each once; sort them")
        sound_N = np.isfinite(self.value_N) & (self.value_N > 0)
        if not sound_N.all():
            at = int(np.argmin(sound_N))
            raise DataError(
                f"{self.name}: {self.value_N[at]:g} on {self.session_N[at]} is not positive and finite;"
                " correct or remove it"
            )

    @classmethod
    def of_closes(cls, bars: Bars, symbol: str) -> DailySeries:
        """The closes of ``symbol``; empty where there is no bar of it."""
        own = bars.select([symbol]).frame
        return cls(
            name=symbol,
            session_N=own["session"].to_numpy().astype("datetime64[D]"),
            value_N=own["close"].to_numpy().copy(),
        )

    @property
    def last_session(self) -> date | None:
        """The newest session; None where there is none."""
        last: date | None = self.session_N[-1].astype(object) if len(self.session_N) else None
        return last

    def up_to(self, last: date) -> DailySeries:
        """What was known at the close of ``last``."""
        known = self.session_N <= as_day(last)
        return DailySeries(name=self.name, session_N=self.session_N[known], value_N=self.value_N[known])

    def known_at(self, sessions: Sessions) -> Float64:
        """The value at the close of each of S sessions: its own, or the newest one before it.

        NaN where that is more than ``CARRIED`` sessions old.
        """
        newest_S = np.searchsorted(self.session_N, sessions, side="right") - 1
        out_S = np.full(len(sessions), np.nan)
        found_S = np.flatnonzero(newest_S >= 0)
        newest_S = newest_S[found_S]
        calendar = all_sessions()
        age_S = np.searchsorted(calendar, sessions[found_S]) - np.searchsorted(calendar, self.session_N[newest_S])
        fresh_S = age_S <= CARRIED
        out_S[found_S[fresh_S]] = self.value_N[newest_S[fresh_S]]
        return out_S

    def require_within(self, bars: Bars) -> None:
        """Refuse a series that says nothing about the sessions of ``bars``.

        Raises:
            DataError: no session of it lies between the first and the last of theirs.
        """
        first, last = bars.frame["session"].min(), bars.last_session
        assert isinstance(first, date)
        if not ((self.session_N >= as_day(first)) & (self.session_N <= as_day(last))).any():
            raise DataError(
                f"{self.name}: has no value between {first} and {last}, the sessions of the bars; use a series of these"
            )
