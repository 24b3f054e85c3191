"""Splits and dividends, and prices as they were known on a session.

An action applies from its ex-date on. The adjusted series is accumulated *forwards*: the first
session is raw and every action scales what comes after it, so that an action tomorrow changes no
bit of what was computed up to today.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Literal, get_args

import polars as pl

from swiftbolt.bars import PRICES, Bars
from swiftbolt.errors import DataError, SchemaError

Kind = Literal["split", "dividend", "factor"]

ACTION_SCHEMA = {
    "symbol": pl.String(),
    "ex_date": pl.Date(),
    "kind": pl.String(),
    "value": pl.Float64(),
    "known_at": pl.Date(),
}

# adj_close is often rounded to cents, so close/adj_close jitters from day to day by up to this
# relative amount without any action; larger moves are actions. Held levels keep it from adding up.
FACTOR_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class CorporateAction:
    """One split, cash dividend or vendor factor.

    Attributes:
        kind: ``split``: ``value`` new shares for each old one (2.0 is 2:1). ``dividend``: ``value``
            dollars per share held after any split of the same day. ``factor``: ``value`` is what the
            close must be multiplied by, from the ex-date on, to compare with the day before; a vendor's
            adjusted close gives it where events are not known.
        ex_date: first session that trades without it.
        known_at: session on which it was announced, where known.
    """

    symbol: str
    ex_date: date
    kind: Kind
    value: float
    known_at: date | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise DataError(f"{self.symbol} {self.ex_date}: action kind {self.kind!r} is none of {get_args(Kind)}")
        if not (math.isfinite(self.value) and self.value > 0):
            raise DataError(f"{self.symbol} {self.ex_date}: {self.kind} of {self.value} must be positive")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CorporateActions:
    """Actions of many symbols as a frame of ``ACTION_SCHEMA``, sorted by symbol, ex-date and kind.

    Raises:
        SchemaError: a column is missing or of another type.
        DataError: rows are unsorted, or one is not an action.
    """

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        if list(self.frame.schema.items()) != list(ACTION_SCHEMA.items()):
            raise SchemaError(f"actions must have the columns {', '.join(ACTION_SCHEMA)}")
        # A comparison with null is null, which a filter drops: say what is right, and take null for wrong.
        right = (
            pl.col("symbol").is_not_null()
            & pl.col("ex_date").is_not_null()
            & pl.col("kind").is_in(get_args(Kind))
            & pl.col("value").is_finite()
            & (pl.col("value") > 0)
        )
        bad = self.frame.filter(~right.fill_null(False))
        if len(bad):
            row = bad.row(0, named=True)
            raise DataError(f"{row['symbol']} {row['ex_date']}: {row['kind']} of {row['value']} is not an action")
        keys = self.frame.select("symbol", "ex_date", "kind")
        if not keys.equals(keys.sort("symbol", "ex_date", "kind")):
            raise DataError("actions are not sorted by symbol, ex-date and kind")

    def __len__(self) -> int:
        return len(self.frame)

    def __iter__(self) -> Iterator[CorporateAction]:
        for row in self.frame.iter_rows(named=True):
            yield CorporateAction(**row)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CorporateActions) and self.frame.equals(other.frame)

    @classmethod
    def of(cls, actions: Iterable[CorporateAction] = ()) -> CorporateActions:
        """Collect single actions."""
        rows = [
            {"symbol": a.symbol, "ex_date": a.ex_date, "kind": a.kind, "value": a.value, "known_at": a.known_at}
            for a in actions
        ]
        return cls.from_frame(pl.DataFrame(rows, schema=ACTION_SCHEMA))

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> CorporateActions:
        """Sort ``frame`` and drop exact repeats."""
        return cls(frame=frame.select(list(ACTION_SCHEMA)).unique().sort(list(ACTION_SCHEMA)))

    def select(self, symbols: Iterable[str] | None = None, as_of: date | None = None) -> CorporateActions:
        """Actions of ``symbols`` whose ex-date is not after ``as_of``.

        When one was announced does not matter here: on its ex-date the market trades without it, whoever knew.
        """
        frame = self.frame
        if symbols is not None:
            frame = frame.filter(pl.col("symbol").is_in(list(symbols)))
        if as_of is not None:
            frame = frame.filter(pl.col("ex_date") <= as_of)
        return CorporateActions(frame=frame)


def forward_adjusted(bars: Bars, actions: CorporateActions) -> pl.DataFrame:
    """Total-return bars accumulated forwards from each symbol's first session.

    The return on an ex-date is ``(close + dividend) * split / previous close - 1``. An action whose
    ex-date has no bar applies at the next bar; one on or before the first bar changes nothing.

    Returns:
        Frame ``symbol, session, open, high, low, close, volume, raw_close``, one row per bar in the
        order of ``bars``. Prices are those of one share bought on the first session with dividends
        reinvested; volume is scaled by splits (and vendor factors) only.
    """
    grown = _with_growth(bars, actions)
    return _scaled(grown, pl.col("price_growth"), pl.col("share_growth"))


def adjusted(bars: Bars, actions: CorporateActions, as_of: date) -> pl.DataFrame:
    """Total-return bars up to ``as_of``, scaled so that each symbol's last close and volume are the raw ones.

    This is what a chart shows on ``as_of``: only actions with ex-date up to then are applied.
    Columns as ``forward_adjusted``.
    """
    grown = _with_growth(bars.select(end=as_of), actions.select(as_of=as_of))
    # Growth over its own last value is exactly 1 on the last session, whatever was rounded before.
    price, share = (pl.col(name) / pl.col(name).last().over("symbol") for name in ("price_growth", "share_growth"))
    return _scaled(grown, price, share)


def factors_from_adjusted_close(frame: pl.DataFrame) -> CorporateActions:
    """Derive ``factor`` actions from a vendor's adjusted close.

    Walks each symbol forwards and holds the ratio adj_close / close until it leaves the held level by
    more than ``FACTOR_TOLERANCE``; only sessions seen so far decide.

    Args:
        frame: ``symbol, session, close, adj_close`` in any order; rows where their ratio is null, not
            finite or not positive are skipped.
    """
    found: list[CorporateAction] = []
    usable = (
        frame.sort("symbol", "session")
        .with_columns(ratio=pl.col("adj_close") / pl.col("close"))
        .filter(pl.col("ratio").is_finite() & (pl.col("ratio") > 0))  # finite first: NaN > 0 is true in polars
    )
    for (symbol,), rows in usable.group_by(["symbol"], maintain_order=True):
        held: float | None = None
        for session, ratio in rows.select("session", "ratio").iter_rows():
            if held is not None and abs(ratio / held - 1.0) > FACTOR_TOLERANCE:
                found.append(CorporateAction(symbol=str(symbol), ex_date=session, kind="factor", value=ratio / held))
                held = ratio
            elif held is None:
                held = ratio
    return CorporateActions.of(found)


def _with_growth(bars: Bars, actions: CorporateActions) -> pl.DataFrame:
    """The bars with ``price_growth`` and ``share_growth``: what one share of the first session has become."""
    steps = _steps_per_session(bars, actions)
    first = pl.int_range(pl.len()).over("symbol") == 0
    split = pl.when(first).then(1.0).otherwise(pl.col("split").fill_null(1.0) * pl.col("factor").fill_null(1.0))
    dividend = pl.when(first).then(0.0).otherwise(pl.col("dividend").fill_null(0.0))
    price_step = split * (1.0 + dividend / pl.col("close"))
    return bars.frame.join(steps, on=["symbol", "session"], how="left", maintain_order="left").with_columns(
        price_growth=price_step.cum_prod().over("symbol"), share_growth=split.cum_prod().over("symbol")
    )


def _scaled(grown: pl.DataFrame, price: pl.Expr, share: pl.Expr) -> pl.DataFrame:
    return grown.select(
        "symbol",
        "session",
        *(pl.col(name) * price for name in PRICES),
        volume=pl.col("volume") / share,
        raw_close=pl.col("close"),
    )


def _steps_per_session(bars: Bars, actions: CorporateActions) -> pl.DataFrame:
    """Products of splits and factors and sums of dividends, at the bar each first applies to."""
    keys = bars.frame.select("symbol", "session").with_columns(bar=pl.col("session"))
    placed = (
        actions.frame.sort("ex_date")
        .join_asof(
            keys.sort("session"), left_on="ex_date", right_on="session", by="symbol", strategy="forward",
            check_sortedness=False,
        )
        .filter(pl.col("bar").is_not_null())
    )  # fmt: skip

    def value_of(kind: str) -> pl.Expr:
        return pl.col("value").filter(pl.col("kind") == kind)

    return (
        placed.sort("symbol", "bar", "kind", "value")
        .group_by("symbol", "bar", maintain_order=True)
        .agg(
            split=value_of("split").product(),
            factor=value_of("factor").product(),
            dividend=value_of("dividend").sum(),
        )
        .rename({"bar": "session"})
    )
