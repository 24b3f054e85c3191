"""Sums, means, spreads and extremes over a fixed number of rows of one symbol.

Every function takes C-contiguous float64 arrays whose last axis is T rows of one symbol (an axis before it,
if any, is of symbols) and returns one of the same shape, NaN until its window is full. Windows are put
together by doubling (the sum of 8 rows is that of 4 and of the 4 before), never by adding what enters and
subtracting what leaves: so a row depends on the rows of its window alone, to the last bit, and a window of
zeros or of equal prices gives exactly zero. Exponential means are windows, too: their weights are cut after
a fixed number of rows and rescaled to sum to one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import talib
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class Sums:
    """Sums of a series over windows of any length, put together from those over 1, 2, 4, 8... rows.

    Args:
        decay: weight of a row relative to the row after it.
    """

    def __init__(self, x_T: Float64, decay: float = 1.0) -> None:
        self._decay = decay
        self._pieces = [x_T]  # the k-th has the sums over 2**k rows, T - 2**k + 1 of them

    def over(self, window: int) -> Float64:
        """Sum over k < ``window`` of decay^k x[t - k]; the caller may write into it."""
        while 2 ** len(self._pieces) <= window:
            last = self._pieces[-1]
            self._pieces.append(self._joined(last, last, 2 ** (len(self._pieces) - 1)))
        powers = [k for k in range(window.bit_length()) if window >> k & 1]
        total, covered = self._pieces[powers[0]], 2 ** powers[0]
        if len(powers) == 1:
            return _placed(total, window)
        for k in powers[1:-1]:
            total = self._joined(total, self._pieces[k], covered)
            covered += 2**k
        out_T = _unplaced(total, window, covered - 1)
        self._joined(total, self._pieces[powers[-1]], covered, out_T[..., window - 1 :])
        return out_T

    def _joined(self, recent: Float64, earlier: Float64, covered: int, out: Float64 | None = None) -> Float64:
        """``recent`` sums the ``covered`` rows up to t; add the sums that end where those begin."""
        before = earlier[..., :-covered]
        recent = recent[..., recent.shape[-1] - before.shape[-1] :]
        if self._decay == 1.0:
            return np.add(before, recent, out=out)
        out = np.multiply(before, self._decay**covered, out=out)
        out += recent
        return out


class Moments:
    """Means and standard deviations over windows of any length, put together as ``Sums`` are.

    Source:
        Chan, Golub, LeVeque (1983), "Algorithms for Computing the Sample Variance", The American
        Statistician 37(3): how two samples' moments are joined. Nothing cancels, so that prices a
        millionth apart keep their spread.
    """

    def __init__(self, x_T: Float64) -> None:
        # Means, and sums of squared distances from them; of a single row there is no distance.
        self._pieces: list[_Moments] = [(x_T, None)]

    def over(self, window: int) -> tuple[Float64, Float64]:
        """Mean of the last ``window`` rows and their standard deviation, with ``window`` below."""
        while 2 ** len(self._pieces) <= window:
            last, size = self._pieces[-1], 2 ** (len(self._pieces) - 1)
            self._pieces.append(_joined_moments(last, size, last, size))
        total, covered = None, 0
        for k in range(window.bit_length()):
            if window >> k & 1:
                piece = self._pieces[k]
                total = piece if total is None else _joined_moments(total, covered, piece, 2**k)
                covered += 2**k
        assert total is not None
        mean, squares = total
        spread = np.zeros_like(mean) if squares is None else np.sqrt(squares / window)
        return _placed(mean, window), _placed(spread, window)


def lag(x_T: Float64, rows: int) -> Float64:
    """The value ``rows`` rows earlier."""
    return _placed(x_T[..., :-rows], rows + 1)


def change(x_T: Float64, rows: int) -> Float64:
    """The value less that of ``rows`` rows earlier."""
    out_T = _unplaced(x_T, rows + 1)
    np.subtract(x_T[..., rows:], x_T[..., :-rows], out=out_T[..., rows:])
    return out_T


def growth(x_T: Float64, rows: int) -> Float64:
    """The value over that of ``rows`` rows earlier, less 1."""
    out_T = _unplaced(x_T, rows + 1)
    np.divide(x_T[..., rows:], x_T[..., :-rows], out=out_T[..., rows:])
    out_T -= 1.0
    return out_T


def ratio(numerator_T: Float64, denominator_T: Float64) -> Float64:
    """The quotient; NaN where the denominator is zero."""
    zero_T = denominator_T == 0
    if not zero_T.any():
        return numerator_T / denominator_T
    with np.errstate(divide="ignore", invalid="ignore"):
        out_T = numerator_T / denominator_T
    out_T[zero_T] = np.nan
    return out_T


def rolling_mean(x_T: Float64, window: int) -> Float64:
    """Mean of the last ``window`` rows."""
    out_T = Sums(x_T).over(window)
    out_T /= window
    return out_T


def exponential_mean(x_T: Float64, span: int, window: int) -> Float64:
    """Mean of the last ``window`` rows with weights that fall by (span - 1) / (span + 1) a row.

    Wilder's smoothing over n periods is a span of 2 n - 1.
    """
    decay = (span - 1) / (span + 1)
    out_T = Sums(x_T, decay).over(window)
    out_T *= (1 - decay) / (1 - decay**window)
    return out_T


def mean_absolute_deviation(x_T: Float64, mean_T: Float64, window: int) -> Float64:
    """Mean distance of the last ``window`` rows from their mean, which is given."""
    out_T = _unplaced(x_T, window)
    total, centre = out_T[..., window - 1 :], mean_T[..., window - 1 :]
    total[...] = 0.0
    distance = np.empty_like(total)
    count = x_T.shape[-1]
    for age in range(window):
        np.subtract(x_T[..., window - 1 - age : count - age], centre, out=distance)
        total += np.abs(distance, out=distance)
    total /= window
    return out_T


def maximum_drawdown(log_price_T: Float64, window: int) -> Float64:
    """Deepest fall, in the log, from one of the last ``window`` rows to a later one of them; 0 if there is none.

    Put together by doubling: the deepest within either part, or from the earlier part's top to the later's bottom.
    """
    size, pieces = 1, [(log_price_T, log_price_T, np.zeros_like(log_price_T))]
    while 2 * size <= window:
        pieces.append(_joined_falls(pieces[-1], pieces[-1], size))
        size *= 2
    total, covered = None, 0
    for k in range(window.bit_length()):
        if window >> k & 1:
            total = pieces[k] if total is None else _joined_falls(total, pieces[k], covered)
            covered += 2**k
    assert total is not None
    return _placed(total[2], window)


def rolling_max(x_T: Float64, window: int) -> Float64:
    """Largest of the last ``window`` rows."""
    return row_by_row(lambda row_T: talib.MAX(row_T, window), x_T)


def rolling_min(x_T: Float64, window: int) -> Float64:
    """Smallest of the last ``window`` rows."""
    return row_by_row(lambda row_T: talib.MIN(row_T, window), x_T)


def row_by_row(indicator: Callable[..., Any], *x_T: Float64) -> Float64:
    """TA-Lib takes one symbol at a time. Only for what it computes without rounding."""
    if x_T[0].ndim == 1:
        return np.asarray(indicator(*x_T))
    return np.stack([np.asarray(indicator(*rows)) for rows in zip(*x_T, strict=True)])


def _placed(values: Float64, window: int) -> Float64:
    """``values`` of windows that end at row ``window - 1`` and later, as one value per row."""
    out_T = _unplaced(values, window, window - 1)
    out_T[..., window - 1 :] = values
    return out_T


def _unplaced(like: Float64, window: int, more: int = 0) -> Float64:
    """Room for ``more`` rows than ``like`` has: NaN before row ``window - 1``, from there on to be filled."""
    out_T = np.empty((*like.shape[:-1], like.shape[-1] + more))
    out_T[..., : window - 1] = np.nan
    return out_T


_Moments = tuple[Float64, Float64 | None]
_Falls = tuple[Float64, Float64, Float64]  # largest, smallest, deepest fall


def _joined_moments(recent: _Moments, recent_size: int, earlier: _Moments, earlier_size: int) -> _Moments:
    """Moments of ``recent_size`` rows up to t and of the ``earlier_size`` rows before them."""
    size = recent_size + earlier_size
    recent_mean, earlier_mean = recent[0][..., earlier_size:], earlier[0][..., :-recent_size]
    apart = earlier_mean - recent_mean
    mean = apart * (earlier_size / size)
    mean += recent_mean
    squares = np.square(apart, out=apart)
    squares *= recent_size * earlier_size / size
    if recent[1] is not None:
        squares += recent[1][..., earlier_size:]
    if earlier[1] is not None:
        squares += earlier[1][..., :-recent_size]
    return mean, squares


def _joined_falls(recent: _Falls, earlier: _Falls, recent_size: int) -> _Falls:
    """The same of the ``recent_size`` rows up to t and of the rows of ``earlier`` before them."""
    before = [values[..., :-recent_size] for values in earlier]
    skipped = recent[0].shape[-1] - before[0].shape[-1]
    after = [values[..., skipped:] for values in recent]
    across = after[1] - before[0]
    np.minimum(across, after[2], out=across)
    np.minimum(across, before[2], out=across)
    return np.maximum(before[0], after[0]), np.minimum(before[1], after[1]), across
