"""Sessions without a bar, and corporate actions the prices do not bear out: reported, no bar is left out for them."""

from __future__ import annotations

import math
from datetime import date

import polars as pl

from swiftbolt.actions import CorporateActions
from swiftbolt.findings import Findings
from swiftbolt.quality.measures import LONG_GAP, as_findings, text
from swiftbolt.sessions import all_sessions

FIRST_CERTAIN_SESSION = date(1970, 1, 1)  # the calendar has no holidays before

LARGE_DIVIDEND = 0.3  # of the close before
LARGE_RATIO = 100.0  # new shares for an old one, or old for a new one
# A split is missed in prices that made less than this part of its jump ...
MADE = 0.25
# ... if the jump is far outside usual moves; how far those go is not known of a young symbol.
SPLIT_SIGMAS, SMALLEST_SPLIT = 6.0, math.log(1.2)
YOUNG_SIGMA = 0.05


def missing_sessions(measured: pl.DataFrame) -> Findings:
    """Sessions between two bars of a symbol: one finding each, or one for all where more than ``LONG_GAP`` are missing.

    Known from the bar that ends the gap: until then the symbol may have ended.
    """
    long = pl.col("skipped") > LONG_GAP
    first, end = pl.col("position") - pl.col("skipped"), pl.col("position")
    listed = (
        measured.filter(pl.col("skipped") > 0)
        .select(
            "symbol",
            "skipped",
            next_bar="session",
            missing=pl.int_ranges(first, pl.when(long).then(first + 1).otherwise(end)),
        )
        .explode("missing")
    )
    sessions = pl.Series(all_sessions()[listed["missing"].to_numpy()], dtype=pl.Date)
    found = listed.with_columns(session=sessions).filter(pl.col("session") >= FIRST_CERTAIN_SESSION)
    detail = pl.when(long).then(pl.format("{} sessions in a row", "skipped")).otherwise(pl.lit(""))
    return as_findings(found, "missing_session", detail, known_from="next_bar")


def implausible_actions(measured: pl.DataFrame, actions: CorporateActions) -> Findings:
    """Dividends above ``LARGE_DIVIDEND`` of the close before them, splits and factors beyond ``LARGE_RATIO``."""
    value = pl.col("value")
    # The close before per share of today; of what actions did, the dividend's own part is taken back.
    growth = (pl.col("log_return") - pl.col("close_jump")).exp()
    before = pl.col("previous") * (1.0 + value / pl.col("close")) / growth
    paid = pl.col("kind") == "dividend"
    found = (
        _placed(measured, actions)
        .with_columns(part=pl.when(paid).then(value / before))
        .filter(
            pl.when(paid).then(pl.col("part") > LARGE_DIVIDEND).otherwise(value.log().abs() > math.log(LARGE_RATIO))
        )
    )
    detail = (
        pl.when(paid)
        .then(pl.format("dividend {}, {} of the close before", text(value, 4), text(pl.col("part"), 2)))
        .otherwise(pl.format("{} {}", "kind", text(value, 6)))
    )
    return as_findings(found, "implausible_action", detail)


def splits_without_jump(measured: pl.DataFrame, actions: CorporateActions) -> Findings:
    """Splits and factors on file at whose first bar neither open nor close jumped."""
    jump = pl.col("value").log().abs()
    made = pl.max_horizontal(pl.col("open_jump").abs(), pl.col("close_jump").abs())
    sigma = pl.col("sigma").fill_null(YOUNG_SIGMA)
    found = _placed(measured, actions).filter(
        (pl.col("kind") != "dividend") & (jump > SMALLEST_SPLIT) & (jump > SPLIT_SIGMAS * sigma) & (made < MADE * jump)
    )
    value, close, previous = (text(pl.col(name), 4) for name in ("value", "close", "previous"))
    return as_findings(
        found, "split_without_jump", pl.format("{} {}, close {} after {}", "kind", value, close, previous)
    )


def _placed(measured: pl.DataFrame, actions: CorporateActions) -> pl.DataFrame:
    """Actions beside the bar they first apply to; those without a bar before it to compare with are left out."""
    return (
        actions.frame.sort("ex_date", maintain_order=True)
        .join_asof(
            measured.sort("session"), left_on="ex_date", right_on="session", by="symbol", strategy="forward",
            coalesce=False, check_sortedness=False,
        )
        .filter(pl.col("previous").is_not_null())
    )  # fmt: skip
