"""The market around the forecasts: how wild it was at their origins, and the prices at which they could be acted on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from swiftbolt.bars import Bars
from swiftbolt.evaluation.calibration_scores import after_breaks, breaks, universe_volatility
from swiftbolt.panel import Panel

VOLATILITY_SESSIONS = 20
ROW = ["symbol", "session"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Conditions:
    """What a scorecard needs to know of the market beside the forecasts.

    Attributes:
        states: ``symbol, origin, volatility, after_break``, one row per row of the panel. ``volatility`` is the
            standard deviation of the symbol's last 20 log returns, null before it has them; ``after_break`` is true
            in the 60 sessions after the universe's volatility broke out.
        prices: ``symbol, session, open, close`` with dividends reinvested, one row per bar; null where the bar is in
            doubt. Across a jump that no split on file explains they stand still: nobody earned it.
    """

    states: pl.DataFrame
    prices: pl.DataFrame

    @classmethod
    def of(cls, panel: Panel, bars: Bars) -> Conditions:
        """Those of ``panel``, which was made from ``bars``."""
        jump_R = np.zeros(len(panel.session_R), dtype=np.bool_)
        jump_R[panel.breaks] = True
        rows = pl.DataFrame(
            {
                "symbol": pl.Series(np.array(panel.symbols, dtype=np.str_)[panel.symbol_R].tolist(), dtype=pl.String),
                "session": pl.Series(panel.date_R, dtype=pl.Date),
                "log_price": panel.log_price_R,
                "jump": jump_R,
            }
        )
        after_T = after_breaks(breaks(universe_volatility(panel)))
        return cls(states=_states(rows).with_columns(after_break=after_T[panel.session_R]), prices=_prices(rows, bars))

    def since(self, first: date) -> Conditions:
        """Those of origins and sessions from ``first`` on."""
        return Conditions(
            states=self.states.filter(pl.col("origin") >= first), prices=self.prices.filter(pl.col("session") >= first)
        )


def _states(rows: pl.DataFrame) -> pl.DataFrame:
    step = pl.when(~pl.col("jump")).then(pl.col("log_price").diff().over("symbol"))
    return rows.with_columns(step=step).select(
        "symbol", origin="session", volatility=pl.col("step").rolling_std(VOLATILITY_SESSIONS).over("symbol")
    )


def _prices(rows: pl.DataFrame, bars: Bars) -> pl.DataFrame:
    known = bars.frame.select(*ROW, "open", raw_close="close").join(rows, on=ROW, how="left", maintain_order="left")
    close = pl.col("log_price").exp()
    held = pl.col("close").forward_fill().shift(1).over("symbol")
    level = pl.when(pl.col("jump")).then(held / pl.col("open")).otherwise(1.0)
    return (
        known.with_columns(open=pl.col("open") * close / pl.col("raw_close"), close=close)
        .with_columns(level=level.fill_null(1.0).cum_prod().over("symbol"))
        .select(*ROW, *(pl.col(price) * pl.col("level") for price in ("open", "close")))
    )
