"""Sums, means, spreads and extremes over a fixed number of rows of one symbol.

Every function takes a contiguous float64 array of T rows and returns one of T rows, NaN until its window
is full. Windows are put together by doubling (the sum of 8 rows is that of 4 and of the 4 before), never
by adding what enters and subtracting what leaves: so a row depends on the rows of its window alone, to
the last bit, and a window of zeros or of equal prices gives exactly zero. Exponential means are windows,
too: their weights are cut after a fixed number of rows and rescaled to sum to one.
"""

from __future__ import annotations

import numpy as np
import talib
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


class Sums:
    """Sums of a series over windows of any length, put together from those over 1, 2, 4, 8... rows.

    Args:
        decay: weight of a row relative to the row after it.
    """

    def __init__(self, x_T: Float64, decay: float = 1.0) -> None:
        self._decay = decay
        self._pieces = [x_T]  # the k-th has the sums over 2**k rows, T - 2**k + 1 of them

    def over(self, window: int) -> Float64:
        """Sum over k < ``window`` of decay^k x[t - k]."""
        while 2 ** len(self._pieces) <= window:
            last = self._pieces[-1]
            self._pieces.append(self._joined(last, last, 2 ** (len(self._pieces) - 1)))
        total, covered = None, 0
        for k in range(window.bit_length()):
            if window >> k & 1:
                total = self._pieces[k] if total is None else self._joined(total, self._pieces[k], covered)
                covered += 2**k
        assert total is not None
        return _placed(total, window)

    def _joined(self, recent: Float64, earlier: Float64, covered: int) -> Float64:
        """``recent`` sums the ``covered`` rows up to t; add the sums that end where those begin."""
        before = earlier[:-covered]
        out = before * self._decay**covered if self._decay != 1.0 else before.copy()
        out += recent[len(recent) - len(out) :]
        return out


class Moments:
    """Means and standard deviations over windows of any length, put together as ``Sums`` are.

    Source:
        Chan, Golub, LeVeque (1983), "Algorithms for Computing the Sample Variance", The American
        Statistician 37(3): how two samples' moments are joined. Nothing cancels, so that prices a
        millionth apart keep their spread.
    """

    def __init__(self, x_T: Float64) -> None:
        self._pieces = [(x_T, np.zeros_like(x_T))]  # means, and sums of squared distances from them

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
        return _placed(total[0], window), _placed(np.sqrt(total[1] / window), window)


def lag(x_T: Float64, rows: int) -> Float64:
    """The value ``rows`` rows earlier."""
    return _placed(x_T[:-rows], rows + 1)


def ratio(numerator_T: Float64, denominator_T: Float64) -> Float64:
    """The quotient; NaN where the denominator is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        out_T = numerator_T / denominator_T
    out_T[denominator_T == 0] = np.nan
    return out_T


def rolling_mean(x_T: Float64, window: int) -> Float64:
    """Mean of the last ``window`` rows."""
    return Sums(x_T).over(window) / window


def exponential_mean(x_T: Float64, span: int, window: int) -> Float64:
    """Mean of the last ``window`` rows with weights that fall by (span - 1) / (span + 1) a row.

    Wilder's smoothing over n periods is a span of 2 n - 1.
    """
    decay = (span - 1) / (span + 1)
    return Sums(x_T, decay).over(window) * ((1 - decay) / (1 - decay**window))


def rolling_max(x_T: Float64, window: int) -> Float64:
    """Largest of the last ``window`` rows."""
    return np.asarray(talib.MAX(x_T, window))


def rolling_min(x_T: Float64, window: int) -> Float64:
    """Smallest of the last ``window`` rows."""
    return np.asarray(talib.MIN(x_T, window))


_Moments = tuple[Float64, Float64]


def _joined_moments(recent: _Moments, recent_size: int, earlier: _Moments, earlier_size: int) -> _Moments:
    """Moments of ``recent_size`` rows up to t and of the ``earlier_size`` rows before them."""
    size = recent_size + earlier_size
    recent_mean, recent_squares = (values[earlier_size:] for values in recent)
    earlier_mean, earlier_squares = (values[:-recent_size] for values in earlier)
    apart = earlier_mean - recent_mean
    mean = apart * (earlier_size / size)
    mean += recent_mean
    squares = np.square(apart, out=apart)
    squares *= recent_size * earlier_size / size
    squares += recent_squares
    squares += earlier_squares
    return mean, squares


def _placed(values: Float64, window: int) -> Float64:
    """``values`` of windows that end at row ``window - 1`` and later, as one value per row."""
    out_T = np.empty(len(values) + window - 1)
    out_T[: window - 1] = np.nan
    out_T[window - 1 :] = values
    return out_T
