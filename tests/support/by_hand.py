"""Bars and panels small enough to reckon with on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np
import polars as pl

from swiftbolt.bars import BAR_SCHEMA, Bars
from swiftbolt.panel import Panel
from swiftbolt.sessions import all_sessions, as_day

FIRST = date(2020, 1, 2)  # the first session of 2020, a Thursday


def sessions_from(count: int, first: date = FIRST) -> list[date]:
    """``count`` exchange sessions, the first being ``first``."""
    calendar = all_sessions()
    start = int(np.searchsorted(calendar, as_day(first)))
    days: list[date] = calendar[start : start + count].astype(object).tolist()
    return days


def flat_frame(symbol: str, closes: Sequence[float], *, first: date = FIRST, volume: float = 1000.0) -> pl.DataFrame:
    """Bars on consecutive sessions whose open, high, low and close are one number."""
    prices = {name: [float(close) for close in closes] for name in ("open", "high", "low", "close")}
    return pl.DataFrame(
        {
            "symbol": [symbol] * len(closes),
            "session": sessions_from(len(closes), first),
            **prices,
            "volume": [volume] * len(closes),
        },
        schema=BAR_SCHEMA,
    )


def flat_bars(closes: Mapping[str, Sequence[float]], *, first: date = FIRST) -> Bars:
    """``flat_frame`` of several symbols."""
    return Bars(frame=pl.concat([flat_frame(symbol, closes[symbol], first=first) for symbol in sorted(closes)]))


def panel_at(
    rows: Mapping[str, Mapping[int, float]],
    *,
    sessions: int,
    features: Sequence[Sequence[float]] | None = None,
    first: date = FIRST,
) -> Panel:
    """A panel whose rows are ``rows[symbol][position in sessions] = log price``; other sessions have no bar.

    Args:
        features: one list of F values per row, in the panel's row order; a constant 0 by default.
    """
    symbols = sorted(rows)
    log_price_R = np.array([price for symbol in symbols for price in rows[symbol].values()], dtype=np.float64)
    features_RF = np.zeros((len(log_price_R), 1)) if features is None else np.array(features)
    return Panel(
        symbols=tuple(symbols),
        sessions=np.array(sessions_from(sessions, first), dtype="datetime64[D]"),
        offsets=np.cumsum([0, *(len(rows[symbol]) for symbol in symbols)]).astype(np.int64),
        session_R=np.array([at for symbol in symbols for at in rows[symbol]], dtype=np.int64),
        close_R=np.exp(log_price_R),
        log_price_R=log_price_R,
        features_RF=features_RF.astype(np.float32),
        feature_names=tuple(f"f{f}" for f in range(features_RF.shape[1])),
        spec_hash="spec",
        data_hash="data",
    )
