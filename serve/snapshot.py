"""The promoted release, held in memory: what the hot path answers from.

A snapshot never changes; a keeper swaps it for the next one when another release is promoted. Where the
database is away or a release on disk is not what was released, the last good snapshot stays.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from serve.views import ReleaseRef, SymbolForecast
from swiftbolt.bars import Bars
from swiftbolt.ensemble.weights import ENSEMBLE, in_order
from swiftbolt.errors import ArtifactMismatch, DataError, ModelError, StoreError
from swiftbolt.forecast import MODELS, Forecast
from swiftbolt.models.explanations import Explanation
from swiftbolt.release import forecasts_by_model, read_ensemble, read_explanations, read_forecasts, verify_release
from swiftbolt.sessions import session_after
from swiftbolt.store import ReleaseRow, Store

log = logging.getLogger(__name__)

OpenStore = Callable[[], Store]
"""Gives the store, or raises ``StoreUnavailable``."""

KEPT_SESSIONS = 504  # two years of bars per symbol, for charts while the database is away


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A release ready to answer.

    Attributes:
        views: what is said of each symbol the release forecasts.
        bars: the last ``KEPT_SESSIONS`` sessions of those symbols, up to the release's origin.
        scorecard: the walk-forward evaluation behind the release, as it was written.
    """

    release: ReleaseRef
    release_digest: str
    origin: date
    views: Mapping[str, SymbolForecast]
    bars: Bars
    scorecard: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """All the ingress knows at one moment, swapped as a whole.

    Attributes:
        newest: last stored session of every symbol, as far as was seen.
        reachable: the database answered when last asked.
        refused: version of a promoted release that could not be loaded.
    """

    snapshot: Snapshot | None = None
    newest: Mapping[str, date] = field(default_factory=lambda: MappingProxyType({}))
    reachable: bool = False
    refused: int | None = None

    def is_stale(self, symbol: str, as_of: date) -> bool:
        """True if the store holds a bar after ``as_of``, or cannot be asked."""
        return not self.reachable or self.newest.get(symbol, as_of) > as_of


def load_snapshot(store: Store, row: ReleaseRow, artifacts: Path) -> Snapshot:
    """Read a release from its directory and the prices it was made from out of the store.

    Raises:
        ArtifactMismatch: the directory is missing, or is not what was released.
        StoreError: the store cannot be read, or lacks the bars of the release's origin.
    """
    directory = artifacts / row.run
    try:
        found = verify_release(directory)
        state = read_ensemble(directory)
        frame = read_forecasts(directory)
        explanations = _explanations_by_symbol(read_explanations(directory))
        text = (directory / "scorecard.json").read_text(encoding="utf-8")
        # A score that could not be computed may stand there as NaN, which JSON does not have.
        scorecard = json.loads(text, parse_constant=lambda _: None)
    except (OSError, ValueError, pl.exceptions.PolarsError) as exc:
        raise ArtifactMismatch(f"{directory}: cannot be read ({exc})") from exc
    if found.release_digest != row.release_digest:
        raise ArtifactMismatch(
            f"{directory}: has digest {found.release_digest[:12]}, release {row.version} is {row.release_digest[:12]}"
        )
    ref = ReleaseRef(version=str(row.version), run=row.run, state=state, cohort=found.cohort)
    bars = store.bars(symbols=found.symbols, start=session_after(found.origin, -KEPT_SESSIONS), end=found.origin)
    closes = dict(bars.frame.filter(pl.col("session") == found.origin).select("symbol", "close").iter_rows())
    views = {}
    for symbol, by_model in _by_symbol(frame, found.origin).items():
        if symbol not in closes:
            raise ArtifactMismatch(f"{directory}: forecasts {symbol} from {found.origin}, of which there is no bar")
        if ENSEMBLE not in by_model:
            raise ArtifactMismatch(f"{directory}: has no ensemble forecast of {symbol}")
        views[symbol] = SymbolForecast(
            symbol=symbol,
            origin=found.origin,
            close=closes[symbol],
            made_at=row.created,
            release=ref,
            by_model=MappingProxyType(by_model),
            missing=tuple(name for name in state.members if name not in by_model),
            explanations=MappingProxyType(explanations.get(symbol, {})),
        )
    if not views:
        raise ArtifactMismatch(f"{directory}: holds no forecast from {found.origin}")
    return Snapshot(
        release=ref,
        release_digest=row.release_digest,
        origin=found.origin,
        views=MappingProxyType(views),
        bars=bars,
        scorecard=MappingProxyType(scorecard),
    )


class SnapshotKeeper:
    """Follows the active release. ``state`` is read from any thread; only ``refresh`` replaces it.

    Args:
        open_store: gives the store, connecting when it has to.
        newest_every_s: seconds between two looks at each symbol's newest session, which cost more than the release's.
    """

    def __init__(
        self,
        open_store: OpenStore,
        artifacts: Path,
        *,
        newest_every_s: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_store = open_store
        self._artifacts = artifacts
        self._newest_every_s = newest_every_s
        self._clock = clock
        self._newest_due = -math.inf
        self.state = State()

    def refresh(self) -> bool:
        """Ask the store once; blocks. Returns True when another release answers from now on."""
        before = self.state
        try:
            store = self._open_store()
            snapshot, refused = self._snapshot_of(store, store.active_release())
            newest = self._newest(store)
        except StoreError as exc:
            if before.reachable or before == State():
                log.warning("the database cannot be asked, the last snapshot goes on answering: %s", exc)
            self._newest_due = -math.inf
            self.state = replace(before, reachable=False)
            return False
        self.state = State(snapshot=snapshot, newest=newest, reachable=True, refused=refused)
        return snapshot is not None and snapshot is not before.snapshot

    async def update(self, on_change: Callable[[Snapshot], None]) -> None:
        """``refresh`` off the event loop; ``on_change`` is told of a release that answers from now on."""
        if await asyncio.to_thread(self.refresh) and (snapshot := self.state.snapshot) is not None:
            on_change(snapshot)

    async def follow(self, poll_s: float, on_change: Callable[[Snapshot], None]) -> None:
        """Update every ``poll_s`` seconds until cancelled."""
        while True:
            await asyncio.sleep(poll_s)
            await self.update(on_change)

    def _newest(self, store: Store) -> Mapping[str, date]:
        now = self._clock()
        if now < self._newest_due:
            return self.state.newest
        self._newest_due = now + self._newest_every_s
        return MappingProxyType(store.last_sessions())

    def _snapshot_of(self, store: Store, row: ReleaseRow | None) -> tuple[Snapshot | None, int | None]:
        """The snapshot of the active release, or the one before it and the version that was refused."""
        if row is None:
            return None, None
        held, refused = self.state.snapshot, self.state.refused
        if held is not None and held.release.version == str(row.version):
            return held, None
        try:
            snapshot = load_snapshot(store, row, self._artifacts)
        except (ModelError, DataError) as exc:
            if refused != row.version:
                log.error("release %s is refused, what was served before stays: %s", row.version, exc)
            return held, row.version
        log.info("release %s (%s) answers now", row.version, row.run)
        return snapshot, None


def _by_symbol(frame: pl.DataFrame, origin: date) -> dict[str, dict[str, Forecast]]:
    """Forecasts from ``origin`` by symbol and model; members in their order, then the ensemble, no baseline."""
    by_model = forecasts_by_model(frame.filter(pl.col("origin") == origin))
    wanted = (*in_order(name for name in by_model if name in MODELS), ENSEMBLE)
    found: dict[str, dict[str, Forecast]] = {}
    for name in wanted:
        for forecast in by_model.get(name, ()):
            found.setdefault(forecast.symbol, {})[name] = forecast
    return found


def _explanations_by_symbol(by_model: Mapping[str, Sequence[Explanation]]) -> dict[str, dict[str, list[Explanation]]]:
    found: dict[str, dict[str, list[Explanation]]] = {}
    for name, explanations in by_model.items():
        for explanation in explanations:
            found.setdefault(explanation.symbol, {}).setdefault(name, []).append(explanation)
    return found
