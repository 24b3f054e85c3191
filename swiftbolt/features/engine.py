"""Every feature of every symbol, and the panel models learn from.

Goes symbol by symbol over contiguous arrays, so that no window and no indicator ever crosses from one
symbol into the next. Knows the catalogue; the formulas stand in the files of the families.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from swiftbolt.actions import ACTION_SCHEMA, CorporateActions, forward_adjusted
from swiftbolt.bars import PRICES, Bars
from swiftbolt.errors import DataError, SchemaError
from swiftbolt.features import mean_reversion, momentum, trend, volatility, volume
from swiftbolt.features.history import History
from swiftbolt.features.rolling import Float64
from swiftbolt.features.spec import KEYS, Feature, Features, FeatureSpec
from swiftbolt.panel import Panel, hash_arrays
from swiftbolt.sessions import sessions_between

WARMUP = 260
VERSION = 1

CATALOGUE: tuple[Feature, ...] = (
    *momentum.FEATURES,
    *volatility.FEATURES,
    *trend.FEATURES,
    *volume.FEATURES,
    *mean_reversion.FEATURES,
)
DEFAULT_SPEC = FeatureSpec.of(CATALOGUE, warmup=WARMUP, version=VERSION)


def describe() -> list[dict[str, str | int | float]]:
    """The catalogue for people: name, family, look-back, formula and degenerate value of each feature, in order."""
    return [
        {
            "name": feature.name,
            "family": feature.family,
            "look_back": feature.look_back,
            "formula": feature.formula,
            "degenerate": feature.degenerate,
        }
        for feature in CATALOGUE
    ]


def build_features(adjusted: pl.DataFrame) -> Features:
    """Compute the catalogue for every bar.

    Args:
        adjusted: what ``swiftbolt.actions.forward_adjusted`` returns, sorted by symbol and session.

    Returns:
        One row per row of ``adjusted``. A symbol of no more than ``WARMUP`` rows has no value at all.

    Raises:
        SchemaError: a column is missing.
        DataError: rows are unsorted or double, or a price or volume is not finite.
    """
    values_FR = np.empty((len(CATALOGUE), len(adjusted)))
    for rows, symbol, history in _histories(adjusted):
        _fill(values_FR[:, rows], symbol, history)
    columns = (pl.Series(feature.name, values_R) for feature, values_R in zip(CATALOGUE, values_FR, strict=True))
    return Features(frame=adjusted.select(*KEYS).with_columns(*columns), spec=DEFAULT_SPEC)


def build_panel(bars: Bars, actions: CorporateActions) -> Panel:
    """Features, total-return prices and raw closes of ``bars``, whose prices are as traded.

    Raises:
        DataError: there are no bars.
    """
    if not len(bars):
        raise DataError("no bars to make a panel of")
    adjusted = forward_adjusted(bars, actions)
    counts = bars.sessions_per_symbol()
    features_RF = np.empty((len(adjusted), len(CATALOGUE)), dtype=np.float32)
    scratch_FT = np.empty((len(CATALOGUE), max(counts.values())))
    for rows, symbol, history in _histories(adjusted):
        values_FT = scratch_FT[:, : len(history)]
        _fill(values_FT, symbol, history)
        features_RF[rows] = values_FT.T
    session_days_R = adjusted["session"].to_numpy().astype("datetime64[D]")
    sessions = sessions_between(session_days_R.min(), session_days_R.max())
    return Panel(
        symbols=tuple(counts),
        sessions=sessions,
        offsets=np.concatenate(([0], np.cumsum(list(counts.values())))).astype(np.int64),
        session_R=np.searchsorted(sessions, session_days_R).astype(np.int64),
        close_R=adjusted["raw_close"].to_numpy(),
        log_price_R=np.log(adjusted["close"].to_numpy()),
        features_RF=features_RF,
        feature_names=DEFAULT_SPEC.names,
        spec_hash=DEFAULT_SPEC.spec_hash,
        data_hash=_data_hash(bars, actions),
    )


def _histories(adjusted: pl.DataFrame) -> Iterator[tuple[slice, str, History]]:
    """Rows, name and bars of each symbol."""
    for name in (*KEYS, *PRICES, "volume"):
        if name not in adjusted.columns:
            raise SchemaError(f"no column {name!r} in the adjusted bars; found {', '.join(adjusted.columns)}")
    columns = {}
    for name in (*PRICES, "volume"):
        values_R = np.ascontiguousarray(adjusted[name].cast(pl.Float64).to_numpy())
        # A NaN would pass for a degenerate bar, and TA-Lib turns one into zeros or NaN for ever after.
        if not np.isfinite(values_R).all():
            raise DataError(f"the adjusted bars hold a {name} that is not a finite number")
        columns[f"{name}_T"] = values_R
    start = 0
    for count, symbol in _runs(adjusted["symbol"]):
        rows = slice(start, start + count)
        yield rows, symbol, History(**{name: column[rows] for name, column in columns.items()})
        start += count


def _fill(values_FT: Float64, symbol: str, history: History) -> None:
    """Write the features of one symbol: NaN in its warm-up, then finite values.

    What degenerate bars leave open takes its declared value.
    """
    values_FT[:, :WARMUP] = np.nan
    if len(history) <= WARMUP:
        return
    for feature, values_T in zip(CATALOGUE, values_FT, strict=True):
        values_T[WARMUP:] = feature.compute(history)[WARMUP:]
    if np.isfinite(values_FT[:, WARMUP:]).all():
        return
    for feature, values_T in zip(CATALOGUE, values_FT, strict=True):
        known_T = values_T[WARMUP:]
        known_T[np.isnan(known_T)] = feature.degenerate
        if np.isinf(known_T).any():
            raise DataError(f"{symbol}: {feature.name} is infinite; are its prices in order?")


def _runs(symbols: pl.Series) -> list[tuple[int, str]]:
    """Length and name of each run of equal symbols."""
    return [(int(count), str(symbol)) for count, symbol in symbols.rle().struct.unnest().iter_rows()]


def _data_hash(bars: Bars, actions: CorporateActions) -> str:
    """SHA-256 over the bars and the actions that bear on them, both in the order their nouns keep."""
    relevant = actions.select(symbols=bars.symbols).frame.filter(pl.col("ex_date") <= bars.last_session)
    parts: list[NDArray[np.generic] | str] = []
    for frame in (bars.frame, relevant.sort(*ACTION_SCHEMA)):
        for name, dtype in frame.schema.items():
            column = frame[name]
            if dtype == pl.String:
                parts.append("\n".join(f"{count} {text}" for count, text in _runs(column)))
            elif dtype == pl.Date:
                parts.append(column.cast(pl.Int32).fill_null(0).to_numpy())
            else:
                parts.append(column.to_numpy())
    return hash_arrays(*parts)
