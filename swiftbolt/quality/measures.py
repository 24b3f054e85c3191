"""What the checks compare: every bar beside the one before it, and beside its symbol's usual moves.

A value at session t uses sessions up to and including t; ``later`` alone looks one bar ahead. A symbol's bars are
one run until more than ``LONG_GAP`` sessions in a row are missing. Nothing is measured across that: the bars after
it may be another company's.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from swiftbolt.actions import CorporateActions, forward_adjusted
from swiftbolt.bars import PRICES, Bars
from swiftbolt.findings import Findings
from swiftbolt.sessions import all_sessions

LONG_GAP = 5  # missing sessions in a row

USUAL_SESSIONS, MIN_USUAL_SESSIONS = 60, 20  # that a usual move is the median of
# Below this, cents and ticks decide on the median move rather than the market does.
MIN_SIGMA = 0.003
NORMAL_MEDIAN = 0.6745  # median of the absolute value of a standard normal variable


def measure(bars: Bars, actions: CorporateActions) -> pl.DataFrame:
    """The bars, with these columns beside their own:

    - ``position``: of the session in the calendar; ``skipped``: sessions missing since the bar before.
    - ``age``: bars of the run before this one.
    - ``previous``: raw close of the bar before. It and the next three are null for the first bar of a run.
    - ``open_jump``, ``close_jump``: log of raw open and close over ``previous``.
    - ``log_return``: of the total-return close; what it has beyond ``close_jump``, actions did.
    - ``sigma``: of the log return, from the median absolute one of the bars strictly before; null in a young run.
    - ``scale``: log of total-return over raw prices.
    """
    growth = forward_adjusted(bars, actions)
    frame = bars.frame.with_columns(
        position=pl.Series(np.searchsorted(all_sessions(), bars.frame["session"].to_numpy().astype("datetime64[D]"))),
        adjusted=growth["close"],
    )
    same = pl.col("symbol") == pl.col("symbol").shift(1)
    frame = frame.with_columns(skipped=pl.when(same).then(pl.col("position").diff() - 1))
    frame = frame.with_columns(run=(pl.col("skipped").fill_null(LONG_GAP + 1) > LONG_GAP).cum_sum())
    frame = frame.with_columns(age=pl.int_range(pl.len()).over("run"))
    frame = frame.with_columns(previous=earlier("close"), log_return=(pl.col("adjusted") / earlier("adjusted")).log())
    frame = frame.with_columns(
        open_jump=(pl.col("open") / pl.col("previous")).log(),
        close_jump=(pl.col("close") / pl.col("previous")).log(),
        scale=(pl.col("adjusted") / pl.col("close")).log(),
        usual=pl.col("log_return").abs().rolling_median(USUAL_SESSIONS, min_samples=MIN_USUAL_SESSIONS).over("run"),
    )
    sigma = pl.max_horizontal(earlier("usual") / NORMAL_MEDIAN, pl.lit(MIN_SIGMA))
    return frame.select(
        "symbol", "session", *PRICES, "volume", "position", "skipped", "run", "age", "previous",
        "open_jump", "close_jump", "log_return", "scale", sigma=pl.when(earlier("usual").is_not_null()).then(sigma),
    )  # fmt: skip


def earlier(name: str, bars: int = 1) -> pl.Expr:
    """The value of ``name`` some bars before in the same run; null where there is none."""
    return pl.when(pl.col("age") >= bars).then(pl.col(name).shift(bars))


def later(name: str) -> pl.Expr:
    """The value of ``name`` at the next bar of the same run; null where there is none."""
    return pl.when(pl.col("run") == pl.col("run").shift(-1)).then(pl.col(name).shift(-1))


def text(value: pl.Expr, digits: int) -> pl.Expr:
    """A number for a finding's detail."""
    return value.round(digits).cast(pl.String)


def as_findings(rows: pl.DataFrame, kind: str, detail: pl.Expr, known_from: str = "session") -> Findings:
    """A finding for every row of which ``detail`` is not null; ``known_from`` names the column to take it from."""
    # In one chunk: polars 2.1 panics when it formats columns that a shift has split differently.
    found = rows.rechunk().select("symbol", "session", kind=pl.lit(kind), known_from=pl.col(known_from), detail=detail)
    return Findings.from_frame(found.filter(pl.col("detail").is_not_null()))
