"""A cohort's features in the store, so that serving reads the numbers research computed, and completes them day by day.

The cache holds the newest sessions of every symbol under the hash of the feature set, of the cohort, and of the data
they were made from: where a bar, an action or a finding of any of its symbols was changed since, nothing is found
and everything is made anew. Where sessions were only added, only they are computed, from the stored growth of each
symbol's price, so that they are bit for bit what a batch over the whole history gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TypedDict, TypeVar

import numpy as np
import polars as pl

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.errors import NotFound
from swiftbolt.features.engine import DEFAULT_SPEC, VIX_SPEC, WARMUP, build_features, build_panel, growth_of
from swiftbolt.features.series import DailySeries
from swiftbolt.features.spec import KEYS, Features, FeatureSpec
from swiftbolt.findings import Findings
from swiftbolt.panel import Panel
from swiftbolt.sessions import session_after
from swiftbolt.store import Store
from swiftbolt.universe import Cohort

# Sessions kept of each symbol: the longest window of a network and the warm-up of what is added later, with room.
KEPT = 320

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CohortHistory:
    """All that a cohort's features are made from, as the store held it at one moment.

    Attributes:
        vix: its closes within the sessions of ``bars``; None where the cohort has none.
        findings: those known at the newest session of ``bars``.
        revision: names the state of the data (``Store.data_revision``).
    """

    cohort: Cohort
    bars: Bars
    actions: CorporateActions
    findings: Findings
    revision: str
    vix: DailySeries | None = None

    @classmethod
    def of(cls, store: Store, cohort: Cohort, bars: Bars) -> CohortHistory:
        """``bars`` of ``cohort``, with what the store knows of them; to be called within ``read_steadily``."""
        findings = store.findings(symbols=cohort.symbols)
        return cls(
            cohort=cohort,
            bars=bars,
            actions=store.actions(symbols=cohort.symbols),
            findings=findings.select(known_at=bars.last_session) if len(bars) else Findings.none(),
            revision=store.data_revision(cohort.sources),
            vix=_vix(store, cohort, bars),
        )

    @classmethod
    def read(cls, store: Store, cohort: Cohort, start: date | None = None) -> CohortHistory:
        """Everything the store has of ``cohort`` from ``start`` on."""

        def read() -> CohortHistory:
            return cls.of(store, cohort, store.bars(symbols=cohort.symbols, start=start))

        return read_steadily(store, cohort.sources, read)

    def panel(self) -> Panel:
        """The panel models learn from."""
        return build_panel(self.bars, self.actions, self.findings, market=self.cohort.market, vix=self.vix)

    def features(self, last: int, base: pl.DataFrame | None = None) -> Features:
        """The features of each symbol's ``last`` rows; see ``build_features``."""
        return build_features(
            self.bars, self.actions, self.findings, market=self.cohort.market, vix=self.vix, last=last, base=base
        )

    def keep_features(self, store: Store) -> None:
        """Put the features of each symbol's newest ``KEPT`` sessions into the cache, replacing what is there."""
        built = self.features(last=KEPT)
        growth = growth_of(self.bars, self.actions, self.findings)
        _keep(store, self.cohort, self.revision, growth, built)


def read_steadily(store: Store, symbols: Sequence[str], read: Callable[[], Found]) -> Found:
    """What ``read`` finds while no bar, action or finding of ``symbols`` changes."""
    while True:
        before = store.data_revision(symbols)
        found = read()
        if store.data_revision(symbols) == before:
            return found


def read_panel(store: Store, symbol: str, cohort: Cohort) -> Panel:
    """The panel of ``symbol`` up to its newest sound bar: all its prices, and the features of its newest sessions.

    A symbol outside the cohort is looked at as if it had joined it; its features are not kept.

    Raises:
        NotFound: the store holds no bar of it, or it is the VIX that the cohort is looked at beside.
    """
    if symbol == cohort.vix:
        raise NotFound(f"{symbol} is the VIX that others are forecast with, and has no forecast itself")
    own = Cohort.of([symbol], vix=cohort.vix)
    history = CohortHistory.read(store, own)
    if not len(history.bars):
        raise NotFound(f"there are no bars of {symbol}")
    if symbol in cohort.symbols:
        features = _cached(store, symbol, cohort, history.bars.last_session)
    else:
        features = _of_an_outsider(store, symbol, cohort, history.bars.last_session)
    return _panel(history, features)


def _cached(store: Store, symbol: str, cohort: Cohort, newest: date) -> pl.DataFrame:
    """The cached features of ``symbol``, completed where they do not reach its session ``newest``."""
    found = _find(store, symbol, cohort)
    if len(found) and found["session"][-1] < newest:
        _add_new_sessions(store, cohort, found["session"][-1])
        found = _find(store, symbol, cohort)
    if not len(found) or found["session"][-1] < newest:
        CohortHistory.read(store, cohort).keep_features(store)
        found = _find(store, symbol, cohort)
    return found


def _find(store: Store, symbol: str, cohort: Cohort) -> pl.DataFrame:
    key = _key(cohort, store.data_revision(cohort.sources))
    return store.cached_features(**key, symbols=[symbol], columns=_spec(cohort).names)


def _add_new_sessions(store: Store, cohort: Cohort, cached_to: date) -> None:
    """Compute and keep what came after ``cached_to``, if the cache reaches back far enough to do it from there."""
    start = session_after(cached_to, 1 - KEPT)
    history = CohortHistory.read(store, cohort, start)
    base = store.cached_growth(**_key(cohort, history.revision), symbols=cohort.symbols, start=start)
    reached = base.select("symbol", "newest")
    base = base.drop("newest")
    # From each symbol's base on: what one share had become before that is not known.
    frame = history.bars.frame.join(base.select("symbol", since="session"), on="symbol", how="left")
    frame = frame.filter(pl.col("since").is_null() | (pl.col("session") >= pl.col("since"))).drop("since")
    sound = frame.join(history.findings.quarantining().frame, on=list(KEYS), how="anti")
    counts = (
        sound.join(reached, on="symbol", how="left")
        .group_by("symbol")
        .agg(before=(pl.col("session") <= pl.col("newest")).sum(), after=(pl.col("session") > pl.col("newest")).sum())
    )
    if set(frame["symbol"]) - set(base["symbol"]) or (counts["before"] < WARMUP).any():
        return
    history = replace(history, bars=Bars(frame=frame))
    added = frame.join(reached, on="symbol").filter(pl.col("session") > pl.col("newest"))
    if not len(added):
        return
    last = int(added["symbol"].value_counts()["count"].to_numpy().max())
    built = history.features(last, base)
    growth = growth_of(history.bars, history.actions, history.findings, base=base)
    _keep(store, cohort, history.revision, growth.join(added, on=list(KEYS), how="semi"), built)


def _of_an_outsider(store: Store, symbol: str, cohort: Cohort, newest: date) -> pl.DataFrame:
    """Features of a symbol of no cohort, beside those of ``cohort``; not kept."""
    joined = Cohort.of([*cohort.symbols, symbol], cohort.market, cohort.vix)
    history = CohortHistory.read(store, joined, session_after(newest, -2 * KEPT))
    return history.features(KEPT).frame.filter(symbol=symbol)


def _keep(store: Store, cohort: Cohort, revision: str, growth: pl.DataFrame, built: Features) -> None:
    frame = growth.join(built.frame, on=list(KEYS), how="inner")
    store.cache_features(**_key(cohort, revision), frame=frame)


class _Key(TypedDict):
    spec_hash: str
    universe_hash: str
    revision: str


def _key(cohort: Cohort, revision: str) -> _Key:
    return {"spec_hash": _spec(cohort).spec_hash, "universe_hash": cohort.cohort_hash, "revision": revision}


def _spec(cohort: Cohort) -> FeatureSpec:
    return DEFAULT_SPEC if cohort.vix is None else VIX_SPEC


def _vix(store: Store, cohort: Cohort, bars: Bars) -> DailySeries | None:
    """What the store holds of the cohort's VIX within the sessions of ``bars``."""
    if cohort.vix is None:
        return None
    first = bars.frame["session"].min()
    assert first is None or isinstance(first, date)
    last = bars.last_session if len(bars) else None
    return DailySeries.of_closes(store.bars(symbols=[cohort.vix], start=first, end=last), cohort.vix)


def _panel(history: CohortHistory, features: pl.DataFrame) -> Panel:
    """The panel of one symbol with ``features`` of its newest sessions instead of those it would have by itself."""
    panel = history.panel()
    features_RF = np.full(panel.features_RF.shape, np.nan, dtype=np.float32)
    day_R = panel.date_R
    known = features.filter(pl.col("session").is_in(pl.Series(day_R).implode()))
    rows = np.searchsorted(day_R, known["session"].to_numpy().astype("datetime64[D]"))
    features_RF[rows] = known.select(panel.feature_names).to_numpy()
    return replace(panel, features_RF=features_RF, doubted=())
