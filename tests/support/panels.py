"""Panels built straight from returns, for tests that need no bars and no features."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np
from numpy.typing import NDArray

from swiftbolt.panel import Panel, hash_arrays
from swiftbolt.sessions import all_sessions, as_day


def panel_from_returns(
    returns: Mapping[str, NDArray[np.float64]],
    *,
    end: date = date(2013, 3, 1),
    features: NDArray[np.float32] | None = None,
) -> Panel:
    """A panel whose symbols all have a bar on every session up to ``end`` and start at 100 dollars.

    Args:
        returns: log returns of each symbol, oldest first; n of them make n + 1 bars. Symbols may differ in length.
        end: last session; if it is none, the last session before it.
        features: features_RF in the panel's row order (symbols ascending); none by default.
    """
    symbols = sorted(returns)
    calendar = all_sessions()
    stop = int(np.searchsorted(calendar, as_day(end), side="right"))
    bars = [len(returns[symbol]) + 1 for symbol in symbols]
    longest = max(bars)
    log_price_R = np.concatenate([np.log(100.0) + np.cumsum([0.0, *returns[symbol]]) for symbol in symbols])
    if features is None:
        features = np.empty((len(log_price_R), 0), dtype=np.float32)
    return Panel(
        symbols=tuple(symbols),
        sessions=calendar[stop - longest : stop],
        offsets=np.cumsum([0, *bars]).astype(np.int64),
        session_R=np.concatenate([np.arange(longest - n, longest) for n in bars]).astype(np.int64),
        close_R=np.exp(log_price_R),
        log_price_R=log_price_R,
        features_RF=features.astype(np.float32),
        feature_names=tuple(f"f{f}" for f in range(features.shape[1])),
        spec_hash=f"test-{features.shape[1]}",
        data_hash=hash_arrays(log_price_R, *symbols),
    )
