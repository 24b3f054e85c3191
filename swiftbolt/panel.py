"""The panel: features, total-return prices and raw closes of a universe, row by row, ready to learn from.

A row is one bar of one symbol. Rows of a symbol are contiguous and ascending in session, so that a
look-back window is a slice. Knows nothing of how features are made nor of any model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from swiftbolt.errors import DataError
from swiftbolt.sessions import Sessions, as_day


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DoubtedBar:
    """A bar that is no row of its panel because of a finding made after its session; at its own close nobody knew.

    Attributes:
        symbol: position in the panel's symbols.
        session: position in the panel's sessions.
        close: raw, in dollars.
        log_price: log of the total-return price, as it was known at the bar's own close.
        features_F: float32, likewise; NaN during the symbol's warm-up.
    """

    symbol: int
    session: int
    close: float
    log_price: float
    features_F: NDArray[np.float32]


def _no_rows() -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Panel:
    """What models learn from. R rows, S symbols, T sessions, F features.

    Compared by identity: ``spec_hash`` and ``data_hash`` say whether two hold the same.

    Attributes:
        symbols: S names, ascending.
        sessions: T exchange sessions without gaps, from the universe's first to its last.
        offsets: S + 1 row numbers; symbol s owns rows ``offsets[s]:offsets[s + 1]``.
        session_R: position in ``sessions`` of each row, ascending within a symbol.
        close_R: raw close in dollars, as traded.
        log_price_R: log of the total-return price accumulated forwards; differences are log returns.
        features_RF: float32; NaN during a symbol's warm-up, finite after it.
        feature_names: F names.
        spec_hash: identifies the feature set; artifacts refuse another.
        data_hash: identifies the bars, actions and findings the panel was made from.
        doubted: bars that were left out on later knowledge; a forecast from their session knows them
            (``as_known_at``), whatever comes after does not.
        breaks: rows, ascending, whose price cannot be compared with the row before: something like a split came
            between, and no split is on file. Outcomes do not reach across.

    Raises:
        DataError: one of these promises is broken.
    """

    symbols: tuple[str, ...]
    sessions: Sessions
    offsets: NDArray[np.int64]
    session_R: NDArray[np.int64]
    close_R: NDArray[np.float64]
    log_price_R: NDArray[np.float64]
    features_RF: NDArray[np.float32]
    feature_names: tuple[str, ...]
    spec_hash: str
    data_hash: str
    doubted: tuple[DoubtedBar, ...] = ()
    breaks: NDArray[np.int64] = field(default_factory=_no_rows)

    def __post_init__(self) -> None:
        rows = len(self.session_R)
        if list(self.symbols) != sorted(set(self.symbols)):
            raise DataError("panel symbols must be ascending and distinct")
        if not len(self.sessions) or not (np.diff(self.sessions.astype(np.int64)) > 0).all():
            raise DataError("panel sessions must be ascending and at least one")
        if self.offsets.shape != (len(self.symbols) + 1,) or self.offsets[0] != 0 or self.offsets[-1] != rows:
            raise DataError("panel offsets do not span its rows")
        if (np.diff(self.offsets) < 0).any():
            raise DataError("panel offsets decrease")
        if self.close_R.shape != (rows,) or self.log_price_R.shape != (rows,):
            raise DataError("panel columns differ in length")
        if self.features_RF.shape != (rows, len(self.feature_names)):
            raise DataError(
                f"panel features have shape {self.features_RF.shape}, need ({rows}, {len(self.feature_names)})"
            )
        if not (np.isfinite(self.log_price_R).all() and np.isfinite(self.close_R).all() and (self.close_R > 0).all()):
            raise DataError("panel prices must be finite and positive")
        if rows and not (self.session_R.min() >= 0 and self.session_R.max() < len(self.sessions)):
            raise DataError("panel rows lie outside its sessions")
        warm_R = np.asarray(np.isfinite(self.features_RF).all(axis=1)).astype(np.int8)
        for s, symbol in enumerate(self.symbols):
            if (np.diff(self.session_R[self.rows(s)]) <= 0).any():
                raise DataError(f"{symbol}: panel sessions do not increase")
            if (np.diff(warm_R[self.rows(s)]) < 0).any():
                raise DataError(f"{symbol}: a feature is not finite after the warm-up")
        if np.isinf(self.features_RF).any():
            raise DataError("a panel feature is infinite")
        if not ((self.breaks > 0) & (self.breaks < rows)).all() or (np.diff(self.breaks) <= 0).any():
            raise DataError("panel breaks are not ascending rows")
        for bar in self.doubted:
            rows_of = self.session_R[self.rows(bar.symbol)]
            if bar.session in rows_of:
                raise DataError(f"{self.symbols[bar.symbol]}: a doubted bar is a row of the panel, too")

    def rows(self, symbol: int | str) -> slice:
        """Rows of a symbol, by position or name.

        Raises:
            DataError: the panel does not hold it.
        """
        if isinstance(symbol, str):
            if symbol not in self.symbols:
                raise DataError(f"{symbol} is not in the panel")
            symbol = self.symbols.index(symbol)
        elif not 0 <= symbol < len(self.symbols):
            raise DataError(f"no symbol {symbol} in a panel of {len(self.symbols)}")
        return slice(int(self.offsets[symbol]), int(self.offsets[symbol + 1]))

    @property
    def symbol_R(self) -> NDArray[np.int64]:
        """Position in ``symbols`` of each row."""
        return np.repeat(np.arange(len(self.symbols)), np.diff(self.offsets))

    @property
    def date_R(self) -> Sessions:
        """Session of each row."""
        return self.sessions[self.session_R]

    @property
    def last_session(self) -> date:
        """The newest session of the panel."""
        last: date = self.sessions[-1].astype(object)
        return last

    def log_returns(self, symbol: int | str) -> NDArray[np.float64]:
        """Total-return log returns from bar to bar; one fewer than the symbol has bars.

        Across a break nobody knows what was earned: that return is zero.
        """
        rows = self.rows(symbol)
        returns = np.diff(self.log_price_R[rows])
        of_symbol = self.breaks[(self.breaks > rows.start) & (self.breaks < rows.stop)]
        returns[of_symbol - rows.start - 1] = 0.0
        return returns

    def position(self, session: date | np.datetime64) -> int:
        """Position of the last session not after ``session``; -1 if all are later."""
        return int(np.searchsorted(self.sessions, as_day(session), side="right")) - 1

    def rows_at(self, origins: Sessions) -> NDArray[np.int64]:
        """Rows whose session is one of ``origins``, ascending."""
        return np.flatnonzero(np.isin(self.date_R, np.asarray(origins, dtype="datetime64[D]")))

    def select(self, symbols: Iterable[str]) -> Panel:
        """The panel of some of its symbols, on the same sessions."""
        wanted = sorted(set(symbols))
        slices = [self.rows(symbol) for symbol in wanted]
        rows = np.concatenate([np.arange(s.start, s.stop) for s in slices]) if slices else _no_rows()
        position = {self.symbols.index(symbol): new for new, symbol in enumerate(wanted)}
        return replace(
            self,
            symbols=tuple(wanted),
            offsets=np.concatenate(([0], np.cumsum([s.stop - s.start for s in slices]))).astype(np.int64),
            session_R=self.session_R[rows],
            close_R=self.close_R[rows],
            log_price_R=self.log_price_R[rows],
            features_RF=self.features_RF[rows],
            doubted=tuple(replace(bar, symbol=position[bar.symbol]) for bar in self.doubted if bar.symbol in position),
            breaks=np.flatnonzero(np.isin(rows, self.breaks)),
        )

    def as_known_at(self, session: int) -> Panel:
        """The symbols with a doubted bar at position ``session``, as they stood at its close, that bar included.

        Raises:
            DataError: no symbol has one there.
        """
        bars = {self.symbols[bar.symbol]: bar for bar in self.doubted if bar.session == session}
        if not bars:
            raise DataError(f"no doubted bar at {self.sessions[session]}")
        before = self.select(bars)
        counts, keep, is_break = [], [], []
        for symbol in before.symbols:
            rows = before.rows(symbol)
            stop = rows.start + int(np.searchsorted(before.session_R[rows], session))
            counts.append(stop - rows.start + 1)
            keep.append(np.arange(rows.start, stop))
            # The bar stands where the row behind it would: a jump before that one was a jump before the bar.
            is_break.append(np.isin(np.arange(rows.start, stop + 1), before.breaks))
        rows_R = np.concatenate(keep)
        # Where each symbol's bar goes: after the rows it has left.
        ends = np.cumsum([count - 1 for count in counts])
        added = [bars[symbol] for symbol in before.symbols]
        return replace(
            before,
            sessions=self.sessions[: session + 1],
            offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
            session_R=np.insert(before.session_R[rows_R], ends, session),
            close_R=np.insert(before.close_R[rows_R], ends, [bar.close for bar in added]),
            log_price_R=np.insert(before.log_price_R[rows_R], ends, [bar.log_price for bar in added]),
            features_RF=np.insert(before.features_RF[rows_R], ends, [bar.features_F for bar in added], axis=0),
            doubted=(),
            breaks=np.flatnonzero(np.concatenate(is_break)),
        )


def hash_arrays(*arrays: NDArray[np.generic] | str) -> str:
    """SHA-256 over dtypes, shapes and bytes, in order; strings are hashed as UTF-8.

    Raises:
        TypeError: an array holds objects, whose bytes are addresses.
    """
    digest = hashlib.sha256()
    for array in arrays:
        if isinstance(array, str):
            content = array.encode()
            digest.update(f"str{len(content)}:".encode() + content)  # the length keeps "ab", "c" from being "a", "bc"
        else:
            if array.dtype.hasobject:
                raise TypeError("arrays of objects cannot be hashed by their bytes")
            digest.update(f"{array.dtype.str}{array.shape}:".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
