"""Which bars of a symbol take part, and at what adjusted prices, as it was known at each of its sessions.

A finding that quarantines a bar may be made only after the bar's session. Until then the bar takes part, and from
then on it does not: a bar's features are made from one ``View`` of its symbol, the bars that were not known to be
faulty at its own close. Nearly all share the last view; the few bars between a doubtful one and its finding have views
of their own. Knows no feature.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import PRICES, Bars
from swiftbolt.errors import DataError, SchemaError
from swiftbolt.features.calendar import dividend_days
from swiftbolt.features.context import Context, weekdays_until
from swiftbolt.features.history import Columns
from swiftbolt.features.rolling import Float64, Int64
from swiftbolt.features.series import DailySeries
from swiftbolt.features.spec import KEYS
from swiftbolt.findings import Findings
from swiftbolt.sessions import Sessions, sessions_between

BASE_SCHEMA = {**KEYS, "price_growth": pl.Float64(), "share_growth": pl.Float64()}


@dataclass(frozen=True, kw_only=True, slots=True)
class SymbolActions:
    """The A actions of one symbol; days since 1970."""

    ex_A: Int64
    is_dividend_A: NDArray[np.bool_]
    is_factor_A: NDArray[np.bool_]
    value_A: Float64
    known_A: Float64  # infinite where not known

    def steps(self, after: int, session_T: Int64) -> tuple[Float64, Float64]:
        """What each bar's splits and factors multiply shares by, and its dividends in dollars.

        An action applies at the first bar on or after its ex-date, unless that is not after day ``after``.
        """
        share_T, factor_T = np.ones(len(session_T)), np.ones(len(session_T))
        dividend_T = np.zeros(len(session_T))
        row_A = np.searchsorted(session_T, self.ex_A, side="left")
        # Products and sums of the same numbers in the same order: sorted, as actions of one day are.
        order_A = np.lexsort((self.value_A, row_A))
        order_A = order_A[((self.ex_A > after) & (row_A < len(session_T)))[order_A]]
        row_A, value_A = row_A[order_A], self.value_A[order_A]
        dividend_A, is_factor_A = self.is_dividend_A[order_A], self.is_factor_A[order_A]
        split_A = ~dividend_A & ~is_factor_A
        np.multiply.at(share_T, row_A[split_A], value_A[split_A])
        np.multiply.at(factor_T, row_A[is_factor_A], value_A[is_factor_A])
        np.add.at(dividend_T, row_A[dividend_A], value_A[dividend_A])
        share_T *= factor_T
        return share_T, dividend_T

    def dividends(self) -> tuple[Float64, Float64]:
        """Ex-dates in weekdays, ascending and distinct, and the day each was first declared."""
        ex_A, known_A = self.ex_A[self.is_dividend_A], self.known_A[self.is_dividend_A]
        order_A = np.lexsort((known_A, ex_A))
        weekday_A, first_A = np.unique(weekdays_until(ex_A[order_A].astype("datetime64[D]")), return_index=True)
        return weekday_A, known_A[order_A][first_A]


NO_ACTIONS = SymbolActions(
    ex_A=np.empty(0, dtype=np.int64),
    is_dividend_A=np.empty(0, dtype=np.bool_),
    is_factor_A=np.empty(0, dtype=np.bool_),
    value_A=np.empty(0),
    known_A=np.empty(0),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """What one share had become at the close of ``day``, a sound bar's."""

    day: int
    price_growth: float
    share_growth: float


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """Bars of one symbol that were not known to be faulty at the sessions it is for.

    Attributes:
        symbol: position among the symbols.
        row_T: rows of the universe, ascending.
        first: the position in ``row_T`` from which on rows get their features from this view.
        price_growth_T, share_growth_T: what one share of the first session has become.
        log_return_T: total-return log return from the bar before, NaN into the first.
    """

    symbol: int
    row_T: Int64
    first: int
    price_growth_T: Float64
    share_growth_T: Float64
    log_return_T: Float64


class BarsAsKnown:
    """The R bars of a universe and the views of its symbols.

    Attributes:
        symbols: names, ascending; symbol s has rows ``offsets[s]:offsets[s + 1]``.
        sessions: the exchange's, from the first bar to the last.
        session_R: position of each row's session in them.
        sound_R: no finding was known at the last session.
        views: the last view of each symbol.
        earlier_views: those of the few rows that need another, which come later and overrule it.

    Raises:
        SchemaError, DataError: ``base`` is no frame of ``BASE_SCHEMA``, or does not precede the bars.
    """

    def __init__(
        self, bars: Bars, actions: CorporateActions, findings: Findings, base: pl.DataFrame | None = None
    ) -> None:
        frame = bars.frame
        runs = frame["symbol"].rle().struct.unnest()
        self.symbols = tuple(runs["value"])
        self.offsets = np.concatenate(([0], np.cumsum(runs["len"].to_numpy()))).astype(np.int64)
        self.raw = {name: np.ascontiguousarray(frame[name].to_numpy()) for name in (*PRICES, "volume")}
        self.day_R = frame["session"].to_physical().cast(pl.Int64).to_numpy()
        days = self.day_R.astype("datetime64[D]")
        self.sessions: Sessions = sessions_between(days.min(), days.max())
        self.session_R = _position(self.sessions, self.day_R)
        self._actions = dict(_by_symbol(actions.select(symbols=self.symbols)))
        bases = _bases(base)
        doubts = self._doubts(findings, bars.last_session)
        self.sound_R = np.ones(len(frame), dtype=np.bool_)
        self.sound_R[[row for found in doubts.values() for row, _ in found]] = False
        self.views: list[View] = []
        self.earlier_views: list[View] = []
        for s, symbol in enumerate(self.symbols):
            row_T = np.arange(self.offsets[s], self.offsets[s + 1])
            found, own_base = doubts.get(s, []), bases.get(symbol)
            sound_T = row_T[self.sound_R[row_T]] if found else row_T
            self.views.append(self._view(s, sound_T, 0, own_base))
            for earlier_T, first in self._earlier_rows(sound_T, found, own_base):
                self.earlier_views.append(self._view(s, earlier_T, first, own_base))

    def __len__(self) -> int:
        return len(self.session_R)

    @property
    def symbol_R(self) -> Int64:
        """Position of each row's symbol."""
        return np.repeat(np.arange(len(self.symbols)), np.diff(self.offsets))

    def doubted(self) -> Iterator[View]:
        """The earlier views whose first row is left out on later knowledge; each such row once."""
        # It turns up in no other view as the first row: its own session is where its first view begins.
        return (view for view in self.earlier_views if not self.sound_R[view.row_T[view.first]])

    def columns(self, view: View, context: Context, start: int, stop: int) -> Columns:
        """Adjusted bars ``start`` to ``stop`` of ``view``."""
        rows = _as_slice(view.row_T[start:stop])
        raw = {name: values_R[rows] for name, values_R in self.raw.items()}
        price_growth_T, share_growth_T = view.price_growth_T[start:stop], view.share_growth_T[start:stop]
        session_T = self.session_R[rows]
        with_previous_T = self.session_R[view.row_T[max(start - 1, 0) : stop]]
        actions = self._actions.get(self.symbols[view.symbol], NO_ACTIONS)
        age_T, wait_T = dividend_days(context.weekdays_S[session_T], self.day_R[rows], *actions.dividends())
        return Columns(
            **{f"{name}_T": raw[name] * price_growth_T for name in PRICES},
            volume_T=raw["volume"] / share_growth_T,
            dollars_T=raw["close"] * raw["volume"],
            market_T=context.market_return_between(with_previous_T)[min(start, 1) :],
            session_T=session_T,
            dividend_age_T=age_T,
            dividend_wait_T=wait_T,
        )

    def first_returns(self) -> Float64:
        """Log return into each row's session as it was known at its close; NaN where there was none."""
        return_R = np.full(len(self), np.nan)
        for view in (*self.views, *self.earlier_views):
            return_R[view.row_T[view.first :]] = view.log_return_T[view.first :]
        return return_R

    def context(self, market: str | DailySeries | None, vix: DailySeries | None = None) -> Context:
        """The calendar, the return of ``market``, or the mean return of all symbols where it is None, and the VIX.

        Raises:
            DataError: no bar is of ``market``.
        """
        vix_S = None if vix is None else vix.known_at(self.sessions)
        if isinstance(market, DailySeries):
            return Context(self.sessions, _returns(market.known_at(self.sessions)), vix_S)
        return_R = self.first_returns()
        known_R = ~np.isnan(return_R)
        if market is not None:
            if market not in self.symbols:
                raise DataError(f"the market symbol {market} has no bars; add it to the bars, or choose another")
            known_R &= self.symbol_R == self.symbols.index(market)
        session_R, count = self.session_R[known_R], len(self.sessions)
        total_S = np.bincount(session_R, weights=return_R[known_R], minlength=count)
        return Context(self.sessions, total_S / np.maximum(np.bincount(session_R, minlength=count), 1), vix_S)

    def _view(self, symbol: int, row_T: Int64, first: int, base: Base | None) -> View:
        rows = _as_slice(row_T)
        day_T, close_T = self.day_R[rows], self.raw["close"][rows]
        if base is None:
            base = Base(day=int(day_T[0]) if len(day_T) else 0, price_growth=1.0, share_growth=1.0)
        elif len(day_T) and day_T[0] < base.day:
            raise DataError(
                f"{self.symbols[symbol]}: its base is of {_date(base.day)}, after its first bar on"
                f" {_date(int(day_T[0]))}; hand in the growth at that bar or before it"
            )
        share_step_T, dividend_T = self._actions.get(self.symbols[symbol], NO_ACTIONS).steps(base.day, day_T)
        price_step_T = share_step_T * (1.0 + dividend_T / close_T)
        log_return_T = np.full(len(day_T), np.nan)
        np.log(price_step_T[1:] * close_T[1:] / close_T[:-1], out=log_return_T[1:])
        price_step_T[:1] *= base.price_growth
        share_step_T[:1] *= base.share_growth
        return View(
            symbol=symbol,
            row_T=row_T,
            first=first,
            price_growth_T=np.multiply.accumulate(price_step_T),
            share_growth_T=np.multiply.accumulate(share_step_T),
            log_return_T=log_return_T,
        )

    def _doubts(self, findings: Findings, last: date) -> dict[int, list[tuple[int, int]]]:
        """For each symbol with any: rows that are faulty, and the day from which that was known."""
        known = (
            findings.quarantining()
            .select(symbols=self.symbols, known_at=last)
            .frame.filter(pl.col("session").is_not_null())
            .group_by("symbol", "session")
            .agg(pl.col("known_from").fill_null(pl.col("session")).min())
            .sort("symbol", "session")
        )
        doubts: dict[int, list[tuple[int, int]]] = {}
        position = {symbol: s for s, symbol in enumerate(self.symbols)}
        columns = known.with_columns(pl.col("session", "known_from").to_physical())
        for symbol, day, known_from in columns.iter_rows():
            s = position[symbol]
            rows = slice(self.offsets[s], self.offsets[s + 1])
            row = int(self.offsets[s] + np.searchsorted(self.day_R[rows], day))
            if row < self.offsets[s + 1] and self.day_R[row] == day:
                doubts.setdefault(s, []).append((row, known_from))
        return doubts

    def _earlier_rows(
        self, sound_T: Int64, found: list[tuple[int, int]], base: Base | None
    ) -> Iterator[tuple[Int64, int]]:
        """Rows of each view that knows less than the last, and the position of the first it is for.

        Between two days on which a doubtful bar comes or is found out, what is known stays the same. A doubtful bar
        before the base has no growth, and takes no part.
        """
        late = [(row, int(self.day_R[row]), known) for row, known in found if known > self.day_R[row]]
        turns = sorted({day for _, day, _ in late} | {known for _, _, known in late})
        for start, stop in pairwise(turns):
            unknown = [row for row, day, known in late if day <= start < known]
            if unknown:
                row_T = np.sort(np.concatenate((sound_T, unknown)))
                row_T = row_T[self.day_R[row_T] < stop]
                if base is not None:
                    row_T = row_T[self.day_R[row_T] >= base.day]
                first = int(np.searchsorted(self.day_R[row_T], start))
                if first < len(row_T):
                    yield row_T, first


def _returns(level_S: Float64) -> Float64:
    """Log return into each session, 0 where there is no level, or was none before."""
    return np.nan_to_num(np.diff(np.log(level_S), prepend=np.nan), nan=0.0)


def growth_frame(bars: Bars, known: BarsAsKnown) -> pl.DataFrame:
    """``BASE_SCHEMA`` of every bar, NaN where it is quarantined."""
    price_R, share_R = np.full(len(bars), np.nan), np.full(len(bars), np.nan)
    for view in known.views:
        price_R[view.row_T], share_R[view.row_T] = view.price_growth_T, view.share_growth_T
    return bars.frame.select(*KEYS).with_columns(price_growth=price_R, share_growth=share_R)


def _bases(base: pl.DataFrame | None) -> dict[str, Base]:
    if base is None:
        return {}
    if dict(base.schema) != BASE_SCHEMA:
        raise SchemaError(f"a base has the columns {', '.join(BASE_SCHEMA)}; found {', '.join(base.columns)}")
    bases = {}
    for symbol, day, price, share in base.with_columns(pl.col("session").to_physical()).iter_rows():
        if not (np.isfinite(price) and np.isfinite(share) and price > 0 and share > 0):
            raise DataError(f"{symbol}: its base of {_date(day)} is no growth; take that of a bar not quarantined")
        bases[symbol] = Base(day=day, price_growth=price, share_growth=share)
    return bases


def _by_symbol(actions: CorporateActions) -> Iterator[tuple[str, SymbolActions]]:
    frame = actions.frame
    ex_A = frame["ex_date"].to_physical().cast(pl.Int64).to_numpy()
    known_A = frame["known_at"].to_physical().cast(pl.Float64).fill_null(np.inf).to_numpy()
    value_A = frame["value"].to_numpy()
    is_dividend_A, is_factor_A = ((frame["kind"] == kind).to_numpy() for kind in ("dividend", "factor"))
    start = 0
    for length, symbol in frame["symbol"].rle().struct.unnest().iter_rows():
        part = slice(start, start + length)
        yield (
            symbol,
            SymbolActions(
                ex_A=ex_A[part],
                is_dividend_A=is_dividend_A[part],
                is_factor_A=is_factor_A[part],
                value_A=value_A[part],
                known_A=known_A[part],
            ),
        )
        start += length


def _position(sessions: Sessions, day_R: Int64) -> Int64:
    """Position in ``sessions`` of each day, looked up: days are few and rows many."""
    first = int(sessions[0].astype(np.int64))
    table = np.searchsorted(sessions.astype(np.int64), np.arange(first, int(sessions[-1].astype(np.int64)) + 1))
    position_R: Int64 = table[day_R - first]
    return position_R


def _as_slice(row_T: Int64) -> slice | Int64:
    """The rows as a slice where they are contiguous: nothing is copied."""
    if len(row_T) and row_T[-1] - row_T[0] == len(row_T) - 1:
        return slice(int(row_T[0]), int(row_T[-1]) + 1)
    return row_T


def _date(day: int) -> np.datetime64:
    return np.datetime64(day, "D")
