"""A trial: one configuration that was looked at, and the daily returns it can be judged by. Knows nothing of models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from swiftbolt.errors import DataError
from swiftbolt.sessions import Sessions

TrialState = Literal["complete", "pruned", "failed"]
TrialSource = Literal["evaluate", "sweep", "retrain", "note"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DailyReturns:
    """Simple returns after costs, one a session.

    Raises:
        DataError: there are none, one is not finite, or the sessions do not increase.
    """

    sessions_T: Sessions
    net_T: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.sessions_T.shape != self.net_T.shape or self.net_T.ndim != 1 or not len(self.net_T):
            raise DataError("daily returns need as many sessions as returns, and at least one")
        if not np.isfinite(self.net_T).all() or (np.diff(self.sessions_T.astype(np.int64)) <= 0).any():
            raise DataError("daily returns must be finite, their sessions ascending")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trial:
    """One configuration that was looked at; every look counts, whatever it showed.

    Attributes:
        model, horizon: None only where a note does not say.
        config: every choice besides them that decides the numbers, as JSON can hold it: settings, folds, seed, how
            much history a forecast takes, the hashes of features and data. What ended early holds how far it got.
        symbols: ascending; none only where a note does not say.
        first, last: origins looked at.
        returns: of the simple rule; None where ``reason`` says why.
        sharpe: of one session, not annualised.
        code_version: what made it. Not part of the key: new code is no new choice.

    Raises:
        DataError: one of these promises is broken.
    """

    model: str | None
    horizon: int | None
    config: Mapping[str, Any]
    symbols: tuple[str, ...]
    first: date
    last: date
    returns: DailyReturns | None
    reason: str | None = None
    sharpe: float | None = None
    crps: float | None = None
    skill: float | None = None
    state: TrialState = "complete"
    source: TrialSource
    code_version: str

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise DataError(f"a trial ends before it begins: {self.first} to {self.last}")
        if list(self.symbols) != sorted(set(self.symbols)):
            raise DataError("a trial's symbols must be ascending and distinct")
        if self.source != "note" and (self.model is None or self.horizon is None or not self.symbols):
            raise DataError("a trial that is no note names its model, horizon and symbols")
        if (self.returns is None) != (self.reason is not None):
            raise DataError("a trial has daily returns, or the reason why not")

    @property
    def key(self) -> str:
        """SHA-256 over all that was chosen: equal for what is the same configuration on the same data.

        Another seed is another look, as the best of five seeds is a choice among five; so are other data, as a file
        is chosen too. Results, code and who looked are not part of it.
        """
        chosen = {
            "model": self.model,
            "horizon": self.horizon,
            "config": self.config,
            "symbols": self.symbols,
            "origins": [self.first.isoformat(), self.last.isoformat()],
        }
        text = json.dumps(chosen, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()
