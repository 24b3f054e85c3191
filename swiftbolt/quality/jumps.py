"""Prices that jump: away and back within a session, or by what looks like a split."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from swiftbolt.bars import PRICES
from swiftbolt.findings import Findings
from swiftbolt.quality.measures import as_findings, earlier, later, text

TICK_SIGMAS = 10.0  # of both legs of a round trip, and of a split-like jump
RETURNED = 0.25  # of the way out may be left after the way back
# A crash and its recovery overlap the sessions beside them; a mistaken bar stands clear of both by this much.
CLEAR_SIGMAS = 5.0
# A mistaken close alone lies between two opens that have not left the close before by more than this part of the way
# out. So do some days of a crash, hence it must also be far outside the moves of these last sessions.
STAYED = 0.3
RECENT_SESSIONS = 20

SPLIT_RATIOS = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 100.0)
# How far from the ratio the log jump may be: a night and a day after a split are no wilder than others.
OPEN_TOLERANCE, CLOSE_TOLERANCE = 0.035, 0.05
# A crash is traded at many times the usual dollars, a split at the usual ones.
CALM_TRADING = 2.5
USUAL_TRADING_SESSIONS, MIN_TRADING_SESSIONS = 20, 10
# An action of this size (log) in the last sessions explains a jump.
EXPLAINS = 0.1
EXPLAINING_SESSIONS = 4
# A rise to this multiple of the previous close in one session: a change of unit (dollars to cents), or a consolidation
# that is not on file. Falls as deep have been real.
ABSURD_RISE = 8.0
# The share of a jump that must remain over two bars: what only returns from a bad tick is no jump.
NEW_LEVEL = 0.75


def bad_ticks(measured: pl.DataFrame) -> Findings:
    """Closes that jump ``TICK_SIGMAS`` away and come back with the next bar, from which they are known.

    Either the whole bar stands clear of both beside it, or the close alone is out.
    """
    out = pl.col("log_return")
    beside = measured.with_columns(
        **{name: pl.col(name).log() + pl.col("scale") for name in PRICES},
        recent=(out**2).rolling_mean(RECENT_SESSIONS, min_samples=RECENT_SESSIONS).over("run").sqrt(),
        back=later("log_return"),
        back_at=later("session"),
    ).with_columns(
        above=pl.col("low") - pl.max_horizontal(earlier("high"), later("high")),
        below=pl.min_horizontal(earlier("low"), later("low")) - pl.col("high"),
        opened=(pl.col("open") - earlier("close")).abs(),
        opened_next=(later("open") - earlier("close")).abs(),
        recent=earlier("recent"),
    )
    sigma, back = pl.col("sigma"), pl.col("back")
    legs = pl.min_horizontal(out.abs(), back.abs())
    clear = pl.max_horizontal("above", "below") > CLEAR_SIGMAS * sigma
    alone = (pl.max_horizontal("opened", "opened_next") < STAYED * out.abs()) & (legs > TICK_SIGMAS * pl.col("recent"))
    found = beside.filter(
        (out * back < 0) & (legs > TICK_SIGMAS * sigma) & ((out + back).abs() < RETURNED * out.abs()) & (clear | alone)
    )
    detail = pl.format("log return {}, then {}; sigma {}", text(out, 3), text(back, 3), text(sigma, 4))
    return as_findings(found, "bad_tick", detail, known_from="back_at")


def split_like_jumps(measured: pl.DataFrame) -> Findings:
    """Opens and closes that both stand at a simple ratio to the close before, traded as on any other day.

    Ratios below 3:2 are left alone: an index has fallen that far in a night.
    """
    jump, smallest = pl.col("close_jump"), math.log(SPLIT_RATIOS[0]) - CLOSE_TOLERANCE
    done = (pl.col("log_return") - jump).abs()
    weighed = measured.with_columns(done=done, dollars=pl.col("close") * pl.col("volume")).with_columns(
        explained=pl.max_horizontal("done", *(earlier("done", bars) for bars in range(1, EXPLAINING_SESSIONS))),
        usual_dollars=pl.col("dollars")
        .rolling_median(USUAL_TRADING_SESSIONS, min_samples=MIN_TRADING_SESSIONS)
        .over("run"),
    )
    jumping = weighed.with_columns(
        multiple=pl.col("dollars") / earlier("usual_dollars"), over_two=(pl.col("close") / earlier("close", 2)).log()
    ).filter(
        (jump.abs() > smallest)
        & (jump.abs() > TICK_SIGMAS * pl.col("sigma"))
        & (pl.col("explained") < EXPLAINS)
        & (pl.col("over_two") / jump > NEW_LEVEL)
        & pl.col("multiple").is_finite()
        & (pl.col("multiple") < CALM_TRADING)
    )
    ratio_R, open_miss_R, close_miss_R = _nearest_split(jumping["open_jump"], jumping["close_jump"])
    found = jumping.with_columns(ratio=ratio_R, open_miss=open_miss_R, close_miss=close_miss_R).filter(
        (pl.col("open_miss") < OPEN_TOLERANCE) & (pl.col("close_miss") < CLOSE_TOLERANCE)
    )
    close, previous, ratio = (text(pl.col(name), 4) for name in ("close", "previous", "ratio"))
    return as_findings(
        found, "split_like_jump", pl.format("close {} after {}, like a split of {}", close, previous, ratio)
    )


def absurd_rises(measured: pl.DataFrame) -> Findings:
    """Closes at ``ABSURD_RISE`` times the close before or more, which no action on file explains."""
    rise = pl.col("close_jump")
    # What only returns from a bad tick is no rise.
    over_two = (pl.col("close") / earlier("close", 2)).log().fill_null(rise)
    found = measured.filter(
        (pl.min_horizontal("log_return", "close_jump") >= math.log(ABSURD_RISE)) & (over_two / rise > NEW_LEVEL)
    )
    detail = pl.format("close {} after {}", text(pl.col("close"), 4), text(pl.col("previous"), 4))
    return as_findings(found, "absurd_rise", detail)


def _nearest_split(open_jump: pl.Series, close_jump: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    """New shares for each old one nearest to the close's jump, and how far (log) open and close are from it."""
    log_ratios = np.log([*(1.0 / ratio for ratio in SPLIT_RATIOS), *SPLIT_RATIOS])
    open_R, close_R = open_jump.to_numpy(), close_jump.to_numpy()
    nearest_R = log_ratios[np.abs(-close_R[:, None] - log_ratios).argmin(axis=1)]
    return (
        pl.Series(np.exp(nearest_R)),
        pl.Series(np.abs(open_R + nearest_R)),
        pl.Series(np.abs(close_R + nearest_R)),
    )
