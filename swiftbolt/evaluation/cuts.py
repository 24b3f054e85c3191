"""Where the leak certificate cuts time: at the last session of each range of a fold, and at some inside its test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np

from swiftbolt.folds import Fold
from swiftbolt.sessions import Sessions, session_after


class Place(StrEnum):
    """The range of a fold that a cut lies in; each but ``TEST`` is cut at its last session."""

    TRAIN = "train"
    PURGE = "purge"
    VALIDATION = "validation"
    EMBARGO = "embargo"
    TEST = "test"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Everything after ``session`` is replaced, and what ``fold`` knew by then must stay."""

    fold: int
    place: Place
    session: date

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {"fold": self.fold, "place": str(self.place), "session": self.session.isoformat()}


def choose_cuts(folds: Sequence[Fold], sessions: Sessions, inside_test: int, rng: np.random.Generator) -> list[Cut]:
    """Cuts of every fold in the order of time, ``inside_test`` of them within its test range where that is as long."""
    return [cut for fold in folds for cut in _cuts_of(fold, sessions, inside_test, rng)]


def _cuts_of(fold: Fold, sessions: Sessions, inside_test: int, rng: np.random.Generator) -> Iterator[Cut]:
    edges = {
        Place.TRAIN: fold.train.last,
        Place.PURGE: session_after(fold.validation.first, -1),
        Place.VALIDATION: fold.validation.last,
        Place.EMBARGO: fold.known_through,
    }
    for place, session in edges.items():
        yield Cut(fold=fold.index, place=place, session=session)
    if fold.test is not None:
        within = sessions[fold.test.mask(sessions) & (sessions < sessions[-1])]  # nothing comes after the last
        for day in np.sort(rng.choice(within, size=min(inside_test, len(within)), replace=False)):
            yield Cut(fold=fold.index, place=Place.TEST, session=day.astype(object))
