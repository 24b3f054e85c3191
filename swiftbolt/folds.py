"""Walk-forward folds: train | purge | validation | embargo | test, in sessions.

Before a given first origin may lie burn-in folds: what they forecast is not published, it is what the ensemble
of the first published fold has learnt from.

Labels look up to the longest horizon ahead, so a training origin is used only if its label ends
before validation begins, and a validation origin only if its label ends before the test begins: purge
and embargo are at least the longest horizon. Look-back windows may cross an edge; labels may not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from swiftbolt.config import Strict
from swiftbolt.errors import DataError
from swiftbolt.forecast import HORIZONS
from swiftbolt.sessions import Sessions, as_day


class FoldConfig(Strict):
    """How the calendar is cut."""

    count: int = Field(4, ge=1, description="Test folds when no first origin is given: the newest ones.")
    test_sessions: int = Field(126, ge=1, description="Sessions forecast by one fit.")
    validation_sessions: int = Field(126, ge=20, description="Sessions for early stopping and weights.")
    min_train_sessions: int = Field(504, ge=60, description="Fewest sessions to train on or to forecast a symbol from.")
    max_train_sessions: int | None = Field(None, ge=60, description="Longest training range; None expands.")
    purge_sessions: int = Field(HORIZONS[-1], description="Sessions between train and validation.")
    embargo_sessions: int = Field(HORIZONS[-1], description="Sessions between validation and test.")
    burn_in_sessions: int = Field(
        500 + HORIZONS[-1], ge=0, description="Sessions forecast, not published, before a given first origin."
    )
    burn_in_fold_sessions: int = Field(260, ge=1, description="Most sessions of burn-in forecast by one fit.")

    @model_validator(mode="after")
    def _gaps_cover_the_longest_label(self) -> FoldConfig:
        for name in ("purge_sessions", "embargo_sessions"):
            if getattr(self, name) < HORIZONS[-1]:
                raise ValueError(f"{name} must be at least the longest horizon, {HORIZONS[-1]}")
        if self.max_train_sessions is not None and self.max_train_sessions < self.min_train_sessions:
            raise ValueError("max_train_sessions is below min_train_sessions")
        return self

    @property
    def needed_sessions(self) -> int:
        """Sessions before the first test origin."""
        return self.min_train_sessions + self.purge_sessions + self.validation_sessions + self.embargo_sessions


@dataclass(frozen=True, slots=True)
class SessionRange:
    """Sessions from ``first`` to ``last``, both included."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise DataError(f"range ends before it begins: {self.first} to {self.last}")

    def mask(self, days: Sessions) -> NDArray[np.bool_]:
        """True where ``days`` lie in the range."""
        return (days >= np.datetime64(self.first)) & (days <= np.datetime64(self.last))

    def to_json(self) -> list[str]:
        """``[first, last]`` in ISO form."""
        return [self.first.isoformat(), self.last.isoformat()]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fold:
    """One fit: where it may learn, where it stops early, what it forecasts.

    ``test`` is None for the live fold, which trains up to the newest session (its validation tail is
    matured by then) and forecasts from that session. ``known_through`` is the last session that may be
    used by anything set at fold start: the session before the first test origin, or the newest one.
    The forecasts of a ``burn_in`` fold only teach the ensemble. One that ``opens`` may find the ensemble without any
    earlier fold to learn from, and so forecasts its validation range, too.
    """

    index: int
    train: SessionRange
    validation: SessionRange
    test: SessionRange | None
    known_through: date
    burn_in: bool = False
    opens: bool = True

    def __post_init__(self) -> None:
        ordered = self.train.last < self.validation.first <= self.validation.last <= self.known_through
        if not ordered or (self.test is not None and self.known_through >= self.test.first):
            raise DataError(f"fold {self.index}: ranges overlap or are out of order")

    @property
    def is_live(self) -> bool:
        """True for the fold that makes tomorrow's forecasts."""
        return self.test is None

    @property
    def forecast_range(self) -> SessionRange:
        """Where it forecasts from: the test range, or the newest session alone."""
        return self.test or SessionRange(self.known_through, self.known_through)

    def to_json(self) -> dict[str, object]:
        """Plain values for a manifest."""
        return {
            "index": self.index,
            "train": self.train.to_json(),
            "validation": self.validation.to_json(),
            "test": None if self.test is None else self.test.to_json(),
            "known_through": self.known_through.isoformat(),
        }


def make_folds(
    sessions: Sessions, config: FoldConfig, start: date | None = None, live: bool = False, burn_in: bool = False
) -> list[Fold]:
    """Cut ``sessions`` into folds whose test ranges tile the calendar without gaps.

    Args:
        sessions: exchange sessions, ascending, without gaps.
        start: first test origin; by default the newest ``config.count`` whole test ranges are used.
        live: add the live fold at the end.
        burn_in: with a ``start``, put burn-in folds before it, as far as the history reaches.

    Raises:
        DataError: there is not enough history before the first test origin.
    """
    total = len(sessions)
    if start is None:
        first_test = total - config.count * config.test_sessions
    else:
        first_test = int(np.searchsorted(sessions, as_day(start), side="left"))
        if first_test >= total:
            raise DataError(f"--start {start} lies after the last session, {sessions[-1]}")
    if first_test < config.needed_sessions:
        raise DataError(
            f"the first test origin needs {config.needed_sessions} sessions before it, has {max(first_test, 0)}: "
            "use a longer history, a later --start or fewer folds"
        )
    edges = [(a, min(a + config.test_sessions, total)) for a in range(first_test, total, config.test_sessions)]
    early = _burn_in_edges(first_test, config) if burn_in and start is not None else []
    ranges: list[tuple[int, int | None]] = [*early, *edges]
    if live:
        ranges.append((total, None))
    return [
        _fold(i, sessions, config, first, end, burn_in=i < len(early), opens=i <= len(early))
        for i, (first, end) in enumerate(ranges)
    ]


def _burn_in_edges(first_test: int, config: FoldConfig) -> list[tuple[int, int]]:
    """Test ranges that end where the first published one begins, of equal length to a session.

    Less than one published test range of burn-in is not worth a fit of every model: then there is none.
    """
    length = min(config.burn_in_sessions, first_test - config.needed_sessions)
    if length < config.test_sessions:
        return []
    pieces = -(-length // config.burn_in_fold_sessions)
    return list(pairwise(first_test - length + length * piece // pieces for piece in range(pieces + 1)))


def _fold(
    index: int,
    sessions: Sessions,
    config: FoldConfig,
    test_first: int,
    test_end: int | None,
    *,
    burn_in: bool,
    opens: bool,
) -> Fold:
    """The fold whose first unseen session has position ``test_first``; ``test_end`` None makes it live."""
    validation_last = test_first - 1 - config.embargo_sessions
    validation_first = validation_last - config.validation_sessions + 1
    train_last = validation_first - 1 - config.purge_sessions
    longest = config.max_train_sessions
    train_first = 0 if longest is None else max(0, train_last - longest + 1)

    def day(position: int) -> date:
        found: date = sessions[position].astype(object)
        return found

    return Fold(
        index=index,
        train=SessionRange(day(train_first), day(train_last)),
        validation=SessionRange(day(validation_first), day(validation_last)),
        test=None if test_end is None else SessionRange(day(test_first), day(test_end - 1)),
        known_through=day(test_first - 1),
        burn_in=burn_in,
        opens=opens,
    )
