"""Every feature of every symbol, as it was known at each session, and the panel models learn from.

Goes over blocks of contiguous arrays, one long history or several short ones of equal length, so that no window and
no indicator ever crosses from one symbol into the next; ranks come last. Whatever rows are asked for, each is made
from the ``WARMUP`` rows before it by the same steps, and so is the same to the last bit. Knows the catalogue; the
formulas stand in the files of the families.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from swiftbolt.actions import ACTION_SCHEMA, CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.errors import DataError
from swiftbolt.features import (
    calendar,
    cross_section,
    implied,
    market,
    mean_reversion,
    momentum,
    trend,
    volatility,
    volume,
)
from swiftbolt.features.context import Context
from swiftbolt.features.cross_section import Cross
from swiftbolt.features.history import Columns, History
from swiftbolt.features.rolling import Float64
from swiftbolt.features.series import DailySeries
from swiftbolt.features.spec import KEYS, Feature, Features, FeatureSpec
from swiftbolt.features.views import BarsAsKnown, View, growth_frame
from swiftbolt.findings import BREAKS, FINDING_SCHEMA, Findings
from swiftbolt.panel import DoubtedBar, Panel, hash_arrays
from swiftbolt.sessions import Sessions

WARMUP = 260
VERSION = 2

CATALOGUE: tuple[Feature, ...] = (
    *momentum.FEATURES,
    *volatility.FEATURES,
    *trend.FEATURES,
    *volume.FEATURES,
    *mean_reversion.FEATURES,
    *market.FEATURES,
    *calendar.FEATURES,
    *cross_section.FEATURES,
)
WITH_VIX: tuple[Feature, ...] = (*CATALOGUE, *implied.FEATURES)
DEFAULT_SPEC = FeatureSpec.of(CATALOGUE, warmup=WARMUP, version=VERSION)
VIX_SPEC = FeatureSpec.of(WITH_VIX, warmup=WARMUP, version=VERSION)
NO_FINDINGS = Findings.none()

BLOCK_BARS = 16384  # several short histories are computed together up to about this many bars
ROWS_AT_ONCE = 4096  # turned from columns into rows

Floating = NDArray[np.floating]


def describe() -> list[dict[str, str | int | float]]:
    """The catalogue for people, in order: what each feature is, and which names of the roadmap it stands for.

    Those of the VIX stand last, marked with what they need.
    """
    return [
        {
            "name": feature.name,
            "family": feature.family,
            "scope": feature.scope,
            "look_back": feature.look_back,
            "range": feature.range,
            "degenerate": feature.degenerate,
            "rescaled": "changes" if feature.in_dollars else "",
            "formula": feature.formula,
            "source": feature.source,
            "roadmap": ", ".join(feature.roadmap),
            "with": "" if f < len(CATALOGUE) else "vix:",
        }
        for f, feature in enumerate(WITH_VIX)
    ]


def build_features(
    bars: Bars,
    actions: CorporateActions,
    findings: Findings = NO_FINDINGS,
    *,
    market: str | DailySeries | None = None,
    vix: DailySeries | None = None,
    last: int | None = None,
    base: pl.DataFrame | None = None,
) -> Features:
    """Compute the catalogue for every bar, or for each symbol's ``last`` ones, from what was known at its close.

    A bar that a finding quarantines has no features and takes part in none, from the session on from which the
    finding was known.

    Args:
        bars: prices as traded. For the ``last`` rows alone, ``WARMUP + last`` bars of each symbol that are not
            quarantined, and all symbols' bars of the sessions these span, give the same bits as the whole history.
        market: the symbol or the index whose return is the market's; the mean of all symbols' returns where it is
            None.
        vix: in percent; with it the features are those of ``VIX_SPEC``.
        base: where ``bars`` do not begin with the history, what one share had become by each symbol's first bar
            (``growth_of`` the whole history gives it).

    Returns:
        One row per bar, or ``last`` per symbol. A row with fewer than ``WARMUP`` sound bars before it has no value.

    Raises:
        DataError: ``market`` is none of the symbols, or ``base`` does not precede the bars.
    """
    if last is not None and last < 1:
        raise ValueError(f"last must be at least 1, is {last}")
    spec = DEFAULT_SPEC if vix is None else VIX_SPEC
    if not len(bars):
        columns = [pl.Series(name, [], dtype=pl.Float64) for name in spec.names]
        return Features(frame=bars.frame.select(*KEYS).with_columns(columns), spec=spec)
    known = BarsAsKnown(bars, actions, findings, base)
    keys = bars.frame.select(*KEYS)
    if last is None:
        values = _compute(known, market, vix, np.ones(len(known), dtype=np.bool_), np.float64)
    else:
        wanted_R = _last_rows(known, last)
        # A rank needs every symbol's value on its session, and some symbols may have ended long ago.
        computed_R = np.isin(known.session_R, np.unique(known.session_R[wanted_R]))
        values = _compute(known, market, vix, computed_R, np.float64)
        values = [column[wanted_R[computed_R]] for column in values]
        keys = keys.filter(pl.Series(wanted_R))
    columns = [pl.Series(name, column) for name, column in zip(spec.names, values, strict=True)]
    return Features(frame=keys.with_columns(columns), spec=spec)


def growth_of(
    bars: Bars, actions: CorporateActions, findings: Findings = NO_FINDINGS, *, base: pl.DataFrame | None = None
) -> pl.DataFrame:
    """What one share of each symbol's first session has become, with dividends reinvested and without.

    Returns:
        ``symbol, session, price_growth, share_growth``, one row per bar; NaN where it is quarantined. One row per
        symbol of it is a ``base`` for ``build_features`` on the bars from there on.
    """
    if not len(bars):
        return bars.frame.select(*KEYS).with_columns(price_growth=pl.lit(0.0), share_growth=pl.lit(0.0))
    return growth_frame(bars, BarsAsKnown(bars, actions, findings, base))


def build_panel(
    bars: Bars,
    actions: CorporateActions,
    findings: Findings = NO_FINDINGS,
    *,
    market: str | DailySeries | None = None,
    vix: DailySeries | None = None,
) -> Panel:
    """Features, total-return prices and raw closes of ``bars``, whose prices are as traded.

    Its rows are the bars that no finding known by the last session quarantines; those that were in doubt only
    later are its ``doubted`` bars. ``market`` and ``vix`` as for ``build_features``.

    Raises:
        DataError: there are no bars, or ``market`` is none of the symbols.
    """
    if not len(bars):
        raise DataError("no bars to make a panel of")
    known = BarsAsKnown(bars, actions, findings)
    spec = DEFAULT_SPEC if vix is None else VIX_SPEC
    values = _compute(known, market, vix, np.ones(len(known), dtype=np.bool_), np.float32)
    counts = [len(view.row_T) for view in known.views]
    row_N = np.concatenate([view.row_T for view in known.views])
    features_NF = _as_rows(values, row_N)
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    for start, count in zip(offsets, counts, strict=False):
        # A row may have had its warm-up with a bar that has been taken out since.
        features_NF[start : start + min(count, WARMUP)] = np.nan
    return Panel(
        symbols=known.symbols,
        sessions=known.sessions,
        offsets=offsets,
        session_R=known.session_R[row_N],
        close_R=known.raw["close"][row_N],
        log_price_R=np.concatenate([_log_price(known, view) for view in known.views]),
        features_RF=features_NF,
        feature_names=spec.names,
        spec_hash=spec.spec_hash,
        data_hash=_data_hash(bars, actions, findings, market, vix, known.sessions),
        doubted=tuple(_doubted_bars(known, values)),
        breaks=_breaks(known, findings, row_N, bars),
    )


def _doubted_bars(known: BarsAsKnown, values: list[Floating]) -> Iterator[DoubtedBar]:
    """Bars that were found to be faulty only after their own session, as they looked then."""
    for view in known.doubted():
        row = int(view.row_T[view.first])
        yield DoubtedBar(
            symbol=view.symbol,
            session=int(known.session_R[row]),
            close=float(known.raw["close"][row]),
            log_price=float(_log_price(known, view)[view.first]),
            features_F=np.array([column[row] for column in values], dtype=np.float32),
        )


def _breaks(known: BarsAsKnown, findings: Findings, row_N: NDArray[np.int64], bars: Bars) -> NDArray[np.int64]:
    """Panel rows right after a jump that no split on file explains."""
    known_now = findings.select(known_at=bars.last_session).frame
    # What came back with the next bar is no other level.
    ticks = known_now.filter(pl.col("kind") == "bad_tick")
    jumps = known_now.filter(pl.col("kind").is_in(BREAKS)).join(ticks, on=[*KEYS], how="anti")
    found = set()
    for symbol, day in jumps.select("symbol", pl.col("session").to_physical()).drop_nulls().iter_rows():
        if symbol in known.symbols:
            own = known.views[known.symbols.index(symbol)].row_T
            after = own[np.searchsorted(known.day_R[own], day) :]
            if len(after) and after[0] != own[0]:
                found.add(int(np.searchsorted(row_N, after[0])))
    return np.array(sorted(found), dtype=np.int64)


def _log_price(known: BarsAsKnown, view: View) -> Float64:
    return np.log(known.raw["close"][view.row_T] * view.price_growth_T)


def _last_rows(known: BarsAsKnown, last: int) -> NDArray[np.bool_]:
    wanted_R = np.zeros(len(known), dtype=np.bool_)
    for start, stop in zip(known.offsets, known.offsets[1:], strict=False):
        wanted_R[max(start, stop - last) : stop] = True
    return wanted_R


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stretch:
    """Bars ``start`` to ``stop`` of a view; all but the first ``WARMUP`` of them get features, at ``places``."""

    view: View
    start: int
    stop: int
    places: slice


def _compute(
    known: BarsAsKnown,
    market: str | DailySeries | None,
    vix: DailySeries | None,
    computed_R: NDArray[np.bool_],
    dtype: type[np.floating],
) -> list[Floating]:
    """A column per feature, with one value for each row of ``computed_R``."""
    context = known.context(market, vix)
    features = CATALOGUE if vix is None else WITH_VIX
    count = int(computed_R.sum())
    columns: list[Floating] = [np.empty(count, dtype=dtype) for _ in features]
    place_R = np.cumsum(computed_R) - 1
    without_C = np.ones(count, dtype=np.bool_)
    # Earlier views overrule the last one: they are written after it.
    for views in (known.views, known.earlier_views):
        stretches = [stretch for view in views for stretch in _stretches(view, computed_R, place_R)]
        for stretch in stretches:
            without_C[stretch.places] = False
        for block in _blocks(stretches):
            _fill(known, context, columns, block)
    places_without = np.flatnonzero(without_C)
    cross = Cross(known.session_R[computed_R], known.symbol_R[computed_R])
    for feature, column in zip(features, columns, strict=True):
        _finish(cross, places_without, feature, column)
    return columns


def _stretches(view: View, computed_R: NDArray[np.bool_], place_R: NDArray[np.int64]) -> Iterator[_Stretch]:
    """The rows to compute from ``view``, in runs that lie side by side in the view and in the columns."""
    first = max(view.first, WARMUP)
    wanted_T = first + np.flatnonzero(computed_R[view.row_T[first:]])
    if not len(wanted_T):
        return
    place_T = place_R[view.row_T[wanted_T]]
    ends = np.flatnonzero((np.diff(wanted_T) != 1) | (np.diff(place_T) != 1)) + 1
    for run in np.split(np.arange(len(wanted_T)), ends):
        start, stop = int(wanted_T[run[0]]), int(wanted_T[run[-1]]) + 1
        yield _Stretch(
            view=view, start=start - WARMUP, stop=stop, places=slice(int(place_T[run[0]]), int(place_T[run[-1]]) + 1)
        )


def _blocks(stretches: Iterable[_Stretch]) -> Iterator[list[_Stretch]]:
    """Stretches of equal length together, as many as make a block."""
    by_length: dict[int, list[_Stretch]] = defaultdict(list)
    for stretch in stretches:
        by_length[stretch.stop - stretch.start].append(stretch)
    for length, equal in by_length.items():
        count = max(BLOCK_BARS // length, 1)
        for start in range(0, len(equal), count):
            yield equal[start : start + count]


def _fill(known: BarsAsKnown, context: Context, columns: list[Floating], block: list[_Stretch]) -> None:
    """Write the features of a block, and what is ranked for those that are ranks."""
    parts = [known.columns(stretch.view, context, stretch.start, stretch.stop) for stretch in block]
    history = History(parts[0] if len(parts) == 1 else Columns.stack(parts), context)
    with np.errstate(divide="ignore", invalid="ignore"):
        for compute, wanted in _COMPUTED:
            if wanted[0] >= len(columns):  # of a VIX that is not there
                continue
            values_T = compute(history)[..., WARMUP:]
            is_finite = math.isfinite(float(values_T.sum()))
            for f in wanted:
                filled_T = values_T if is_finite else _without_gaps(WITH_VIX[f], values_T, known, block)
                for stretch, row_T in zip(block, filled_T.reshape(len(block), -1), strict=True):
                    columns[f][stretch.places] = row_T


def _without_gaps(feature: Feature, values_T: Float64, known: BarsAsKnown, block: list[_Stretch]) -> Float64:
    """What degenerate bars leave open takes its declared value, unless it is to be ranked."""
    infinite = np.isinf(values_T.reshape(len(block), -1)).any(axis=1)
    if infinite.any():
        symbol = known.symbols[block[int(np.argmax(infinite))].view.symbol]
        raise DataError(f"{symbol}: {feature.name} is infinite; are its prices in order?")
    if feature.scope == "cross_section":
        return values_T
    return np.where(np.isnan(values_T), feature.degenerate, values_T)


def _finish(cross: Cross, places_without: NDArray[np.int64], feature: Feature, column: Floating) -> None:
    """Turn values into ranks where the feature is one; NaN where there are no features."""
    column[places_without] = np.nan
    if feature.scope == "cross_section":
        cross.rank(column)
        column[places_without] = np.nan


def _computations() -> list[tuple[Callable[[History], Float64], list[int]]]:
    """Each function once, with the features it is for: its own, and a rank of it."""
    wanted: dict[Callable[[History], Float64], list[int]] = defaultdict(list)
    for f, feature in enumerate(WITH_VIX):
        wanted[feature.compute].append(f)
    return list(wanted.items())


_COMPUTED = _computations()


def _as_rows(columns: list[Floating], row_N: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows ``row_N`` of the columns, a few at a time: a whole second copy would not fit beside them."""
    rows_NF = np.empty((len(row_N), len(columns)), dtype=np.float32)
    for start in range(0, len(row_N), ROWS_AT_ONCE):
        part_N = row_N[start : start + ROWS_AT_ONCE]
        rows_NF[start : start + ROWS_AT_ONCE] = np.stack([column[part_N] for column in columns], axis=1)
    return rows_NF


def _data_hash(
    bars: Bars,
    actions: CorporateActions,
    findings: Findings,
    market: str | DailySeries | None,
    vix: DailySeries | None,
    sessions: Sessions,
) -> str:
    """SHA-256 over the bars, the actions and findings that bear on them, each in its noun's order, and what stands
    beside them, as known at each of ``sessions``."""
    last = bars.last_session
    acting = actions.select(symbols=bars.symbols).frame.filter(
        (pl.col("ex_date") <= last) | ((pl.col("kind") == "dividend") & (pl.col("known_at") <= last))
    )
    found = findings.select(symbols=bars.symbols, known_at=last).quarantining().frame
    parts: list[NDArray[np.generic] | str] = [market if isinstance(market, str) else ""]
    for frame in (bars.frame, acting.sort(*ACTION_SCHEMA), found.select(list(FINDING_SCHEMA)).drop("detail")):
        for name, dtype in frame.schema.items():
            column = frame[name]
            if dtype == pl.String:
                runs = column.rle().struct.unnest()
                parts.append("\n".join(f"{count} {text}" for count, text in runs.iter_rows()))
            elif dtype == pl.Date:
                parts.append(column.cast(pl.Int32).fill_null(0).to_numpy())
            else:
                parts.append(column.to_numpy())
    if isinstance(market, DailySeries):
        parts += ["market", market.known_at(sessions)]
    if vix is not None:
        parts += ["vix", vix.known_at(sessions)]
    return hash_arrays(*parts)
