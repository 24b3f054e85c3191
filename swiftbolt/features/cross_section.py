"""The cross-section: where a symbol stands among all of the universe on a session, 0 (lowest) to 1 (highest).

Values are compared in single precision: closer ones tie. A session's ranks are made of what was known at its close,
a bar included that was found to be faulty later.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from swiftbolt.features import market, mean_reversion, momentum, volatility, volume
from swiftbolt.features.history import History
from swiftbolt.features.rolling import Float64, Int64
from swiftbolt.features.spec import Feature

MIDDLE = 0.5  # the rank of the only symbol of a session, and of one without a value
SESSIONS_AT_ONCE = 128


def mean_dollar_volume(history: History, window: int) -> Float64:
    """Mean of the dollars traded."""
    return history.dollar_sums.over(window) / window


def illiquidity(history: History, window: int) -> Float64:
    """Amihud's mean absolute log return per dollar traded; NaN where nothing was traded."""
    return history.price_impact(window)


class Cross:
    """Where R values, sorted by symbol and session, stand in a table of symbols by sessions.

    Args:
        session_R, symbol_R: position of the session and of the symbol.
    """

    def __init__(self, session_R: Int64, symbol_R: Int64) -> None:
        occurs_S = np.bincount(session_R) > 0
        column_R = (np.cumsum(occurs_S) - 1)[session_R]
        self._shape = (int(symbol_R.max(initial=-1)) + 1, int(occurs_S.sum()))
        # Runs of sessions that a symbol has without a gap are copied as slices: their rows and their cells.
        cell_R = symbol_R * self._shape[1] + column_R
        starts = np.flatnonzero(np.diff(cell_R, prepend=-2) != 1)
        starts = np.union1d(starts, np.flatnonzero(np.diff(symbol_R, prepend=-1)))
        stops = np.append(starts[1:], len(cell_R))
        self._runs = [
            (slice(start, stop), slice(cell, cell + stop - start))
            for start, stop, cell in zip(starts.tolist(), stops.tolist(), cell_R[starts].tolist(), strict=True)
        ]

    def rank(self, column_R: NDArray[np.floating]) -> None:
        """Put in the place of each value its rank in its session.

        Ties share their mean. NaN counts for nothing, and is in the middle.
        """
        table_SN = np.full(self._shape, np.nan, dtype=np.float32)
        flat = table_SN.reshape(-1)
        for rows, cells in self._runs:
            flat[cells] = column_R[rows]
        for start in range(0, self._shape[1], SESSIONS_AT_ONCE):
            part_SN = table_SN[:, start : start + SESSIONS_AT_ONCE]
            part_SN[...] = _rank_rows(part_SN.T.copy()).T
        for rows, cells in self._runs:
            column_R[rows] = flat[cells]


def _rank_rows(values_NS: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ranks within each of N rows."""
    rows, symbols = values_NS.shape
    unknown_NS = np.isnan(values_NS)
    values_NS += np.float32(0.0)  # minus zero is zero
    values_NS[unknown_NS] = np.nan  # any NaN is this one, which sorts last
    # A float's bits sort as an integer once those of negative ones are turned round. With the column in the lower
    # half, one sort of integers gives order and values at once.
    bits_NS = values_NS.view(np.int32)
    bits_NS ^= (bits_NS >> 31) & 0x7FFFFFFF
    keys_NS = bits_NS.astype(np.int64)
    keys_NS <<= 32
    keys_NS |= np.arange(symbols)
    keys_NS.sort(axis=1)
    cell_NS = keys_NS & 0xFFFFFFFF
    cell_NS += np.arange(0, rows * symbols, symbols)[:, np.newaxis]
    keys_NS >>= 32
    counts_N = symbols - unknown_NS.sum(axis=1)
    place_NS = np.empty((rows, symbols), dtype=np.float32)
    place_NS[...] = np.arange(symbols)
    ties_N = (keys_NS[:, 1:] == keys_NS[:, :-1]).sum(axis=1)
    ties = np.flatnonzero(ties_N > np.maximum(symbols - counts_N - 1, 0))  # the unknown tie with each other
    place_NS[ties] = _shared_places(keys_NS[ties])
    place_NS /= np.maximum(counts_N - 1, 1).astype(np.float32)[:, np.newaxis]
    place_NS[counts_N == 1] = MIDDLE
    ranks_NS = np.empty((rows, symbols), dtype=np.float32)
    ranks_NS.reshape(-1)[cell_NS] = place_NS
    ranks_NS[unknown_NS] = MIDDLE
    return ranks_NS


def _shared_places(sorted_NS: Int64) -> Float64:
    """The mean place of those that are equal, in each of N ascending rows."""
    symbols = sorted_NS.shape[1]
    differs_NS = sorted_NS[:, 1:] != sorted_NS[:, :-1]
    first_NS, last_NS = np.zeros_like(sorted_NS), np.full_like(sorted_NS, symbols - 1)
    first_NS[:, 1:] = np.where(differs_NS, np.arange(1, symbols), 0)
    last_NS[:, :-1] = np.where(differs_NS, np.arange(symbols - 1), symbols - 1)
    np.maximum.accumulate(first_NS, axis=1, out=first_NS)
    np.minimum.accumulate(last_NS[:, ::-1], axis=1, out=last_NS[:, ::-1])
    return (first_NS + last_NS) / 2


def _computed(features: tuple[Feature, ...], name: str) -> tuple[int, Callable[[History], Float64]]:
    """Look-back and values of a feature that is ranked."""
    (feature,) = (feature for feature in features if feature.name == name)
    return feature.look_back, feature.compute


_feature = partial(Feature, family="cross_section", scope="cross_section", range="0..1", degenerate=MIDDLE)


def _rank_of(features: tuple[Feature, ...], name: str) -> Feature:
    look_back, compute = _computed(features, name)
    return _feature(name=f"rank_{name}", look_back=look_back, formula=f"rank of {name}", compute=compute)


FEATURES = (
    *(_rank_of(momentum.FEATURES, f"momentum_{span}") for span in ("5d", "20d", "60d", "12_1")),
    _rank_of(momentum.FEATURES, "rsi_14"),
    _rank_of(volatility.FEATURES, "volatility_20d"),
    _rank_of(volume.FEATURES, "volume_ratio"),
    _rank_of(mean_reversion.FEATURES, "distance_from_high_250d"),
    _rank_of(market.FEATURES, "beta_250d"),
    _rank_of(market.FEATURES, "residual_momentum_12_1"),
    _feature(
        name="rank_dollar_volume_20d",
        look_back=19,
        formula="rank of mean_20(D)",
        in_dollars=True,
        compute=partial(mean_dollar_volume, window=20),
    ),
    _feature(
        name="rank_amihud_20d",
        look_back=20,
        formula="rank of mean_20(|r| / D), of sessions with D > 0",
        source="Amihud (2002)",
        in_dollars=True,
        compute=partial(illiquidity, window=20),
    ),
)
