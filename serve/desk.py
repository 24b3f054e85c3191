"""What is answered: from memory where the promoted release suffices, from the live graph or the store where not.

Plain asynchronous Python; knows neither routes nor Ray.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Protocol

from serve.schemas import BarReply, BarsReply, ReadyReply, ReleaseReply, SymbolReply, forecast_reply
from serve.snapshot import OpenStore, Snapshot, SnapshotKeeper
from serve.views import ReleaseRef, SymbolForecast
from swiftbolt.bars import Bars
from swiftbolt.errors import NoForecast, NoRelease, NotFound, StoreUnavailable

MAX_REPLIES = 20_000


class AskLive(Protocol):
    """The live graph, wherever it runs."""

    async def forecast(self, symbol: str, release: ReleaseRef, model: str) -> SymbolForecast:
        """A forecast from the newest stored session; see ``serve.ensemble.Ensemble``."""


class Desk:
    """Answers for the routes.

    Attributes:
        members: models of the ensemble that can be asked by name.
    """

    def __init__(self, keeper: SnapshotKeeper, live: AskLive, open_store: OpenStore, members: Sequence[str]) -> None:
        self.members = tuple(members)
        self._keeper = keeper
        self._live = live
        self._open_store = open_store
        self._replies: dict[tuple[str, str, int, bool], bytes] = {}
        self._replies_of: Snapshot | None = None

    async def forecast(self, model: str, symbol: str, horizon: int, *, live: bool) -> bytes:
        """A forecast reply as JSON.

        Raises:
            NoRelease: nothing is promoted.
            NotFound: there are no bars of ``symbol``.
            NoForecast: the release has none of it; live, it may have.
            NoMemberAnswered: live, and every model failed or was late.
        """
        snapshot = self._snapshot()
        symbol = self._known(symbol)
        if live:
            view = await self._live.forecast(symbol, snapshot.release, model)
            stale = self._keeper.state.is_stale(symbol, view.origin)
            return forecast_reply(view, model, horizon, stale=stale).model_dump_json().encode()
        return self._from_memory(snapshot, model, symbol, horizon)

    async def bars(self, symbol: str, start: date | None, end: date | None, limit: int) -> BarsReply:
        """The newest ``limit`` bars between two days, from the store or, while it is away, from memory."""
        symbol = self._known(symbol)
        state = self._keeper.state
        try:
            if not state.reachable:
                raise StoreUnavailable("the database did not answer when last asked")
            found, stale = await asyncio.to_thread(lambda: self._open_store().bars([symbol], start, end)), False
        except StoreUnavailable:
            if state.snapshot is None or symbol not in state.snapshot.views:
                raise
            found, stale = state.snapshot.bars.select([symbol], start, end), True
        return BarsReply(symbol=symbol, stale=stale, bars=_bar_replies(found, limit))

    def symbols(self) -> list[SymbolReply]:
        """Every symbol there are bars of, in order."""
        state = self._keeper.state
        if not state.newest and not state.reachable:
            raise StoreUnavailable("the database has not answered yet")
        forecast = state.snapshot.views if state.snapshot is not None else {}
        return [
            SymbolReply(symbol=symbol, last_session=last, has_forecast=symbol in forecast)
            for symbol, last in sorted(state.newest.items())
        ]

    async def releases(self) -> list[ReleaseReply]:
        """Every release, newest first."""
        return [
            ReleaseReply(
                version=str(row.version),
                run=row.run,
                active=row.active,
                release_digest=row.release_digest,
                origin=row.origin,
                created=row.created,
            )
            for row in await asyncio.to_thread(lambda: self._open_store().releases())
        ]

    def scorecard(self) -> Mapping[str, Any]:
        """The scorecard of the promoted release, as it was written."""
        return self._snapshot().scorecard

    def ready(self) -> ReadyReply:
        """Which release answers."""
        snapshot = self._snapshot()
        return ReadyReply(
            model_version=snapshot.release.version, as_of=snapshot.origin, store_reachable=self._keeper.state.reachable
        )

    def _from_memory(self, snapshot: Snapshot, model: str, symbol: str, horizon: int) -> bytes:
        """The encoded reply, made once per release, symbol, model, horizon and staleness."""
        if snapshot is not self._replies_of or len(self._replies) >= MAX_REPLIES:
            self._replies, self._replies_of = {}, snapshot
        stale = self._keeper.state.is_stale(symbol, snapshot.origin)
        key = (symbol, model, horizon, stale)
        reply = self._replies.get(key)
        if reply is None:
            view = snapshot.views.get(symbol)
            if view is None or model not in view.by_model:
                held = f"release {snapshot.release.version} holds no forecast of {symbol}"
                raise NoForecast(f"{held}{'' if view is None else f' by {model}'}; live=true asks the models")
            reply = forecast_reply(view, model, horizon, stale=stale).model_dump_json().encode()
            self._replies[key] = reply
        return reply

    def _snapshot(self) -> Snapshot:
        state = self._keeper.state
        if state.snapshot is not None:
            return state.snapshot
        if not state.reachable:
            raise StoreUnavailable("the database has not answered yet")
        if state.refused is not None:
            raise NoRelease(f"release {state.refused} could not be loaded, the log says why: swiftbolt rollback")
        raise NoRelease("nothing is promoted yet: swiftbolt promote")

    def _known(self, symbol: str) -> str:
        """``symbol`` as it is stored; tickers may be typed in lower case."""
        state = self._keeper.state
        for spelling in (symbol, symbol.upper()):
            if spelling in state.newest or (state.snapshot is not None and spelling in state.snapshot.views):
                return spelling
        if not state.newest and not state.reachable:
            raise StoreUnavailable("the database has not answered yet")
        raise NotFound(f"there are no bars of {symbol!r}; /api/symbols lists what there is")


def _bar_replies(bars: Bars, limit: int) -> list[BarReply]:
    rows = bars.frame.drop("symbol").tail(limit).iter_rows(named=True)
    return [BarReply(**row) for row in rows]
