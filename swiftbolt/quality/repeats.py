"""Bars in which nothing happened where something should have: stale closes and sessions without volume.

A close that merely repeats is no evidence. On real panels one of a hundred does, and of 265 that did so although the
universe's move was worth 1.5 to 4 of the symbol's own sigmas a second source confirmed 263. So it takes a stronger
sign. Where there was a second source, it bore out nine of ten closes or more by each; the last sign is for falls that
no panel held.
"""

from __future__ import annotations

import polars as pl

from swiftbolt.findings import Findings
from swiftbolt.quality.measures import MIN_SIGMA, as_findings, earlier, text

MIN_UNIVERSE = 5  # symbols with a bar on the session

SHARE_SESSIONS, MIN_SHARE_SESSIONS = 250, 60  # that the usual share of flat bars and repeated closes is taken from
# Where more of its bars are flat, or closes repeated, a symbol is thinly traded or its ticks are coarse.
RARELY_FLAT, RARELY_REPEATED = 0.02, 0.03
# As many symbols that repeat a whole bar at once, and as large a share of the universe, did not do so by chance.
TOGETHER, TOGETHER_SHARE = 5, 0.02
# So did closes when this many repeat, and this many times the share that repeated in the sessions before.
CROWD, CROWD_MULTIPLE, CROWD_SESSIONS = 20, 8.0, 60
# The universe's move, as the symbol follows it, over the sigma of what it does on its own.
EXPECTED_SIGMAS = 4.0
BETA_HALF_LIFE, MIN_BETA_SESSIONS = 60, 60
LARGEST_RETURN = 0.1  # that beta is taken from; larger ones are cut, lest one decides

USUAL_VOLUME_SESSIONS, MIN_VOLUME_SESSIONS = 60, 20
RARELY_WITHOUT_VOLUME = 0.1


def stale_closes(measured: pl.DataFrame) -> Findings:
    """Closes that repeat the one of the session before, without an action, and show one of four signs.

    In this order: the whole bar is that close, of a symbol whose bars are not flat; the whole bar is the one before;
    the closes of a crowd of symbols repeat at once; the universe's move should have moved it far.
    """
    repeating = beside_universe(measured).filter(pl.col("repeats") & (pl.col("bars") >= MIN_UNIVERSE))
    together = (pl.col("wholes") >= TOGETHER) & (pl.col("wholes") >= TOGETHER_SHARE * pl.col("bars"))
    usually = pl.col("usual_share") * pl.col("bars")
    signs = [
        (
            pl.col("flat") & (pl.col("flat_share") < RARELY_FLAT),
            pl.format("open, high and low are {}, the close before", text(pl.col("close"), 4)),
        ),
        (
            pl.col("whole") & (together | (pl.col("repeat_share") < RARELY_REPEATED)),
            pl.format("open, high, low and close repeat; so they do for {} of {} symbols", "wholes", "bars"),
        ),
        (
            (pl.col("repeated") >= CROWD) & (pl.col("repeated") > CROWD_MULTIPLE * usually),
            pl.format("{} of {} closes repeat, usually {} %", "repeated", "bars", text(pl.col("usual_share") * 100, 1)),
        ),
        (
            pl.col("expected").abs() > EXPECTED_SIGMAS * pl.col("own_sigma"),
            pl.format(
                "universe {}, expected {}, sigma {}",
                *(text(pl.col(name), 4) for name in ("market", "expected", "own_sigma")),
            ),
        ),
    ]
    return as_findings(repeating, "stale_close", pl.coalesce(pl.when(sign).then(told) for sign, told in signs))


def beside_universe(measured: pl.DataFrame) -> pl.DataFrame:
    """``measured`` with what a repeated close is judged by; as there, nothing is taken from later bars.

    - ``repeats``, ``flat``, ``whole``: the close repeats; the bar has no range; it has one, and all of it repeats.
    - ``flat_share``, ``repeat_share``: of the symbol's bars strictly before.
    - ``bars``, ``repeated``, ``wholes``, ``market``: per session, symbols with a bar, those whose close and whose
      whole bar repeat, and the median log return; ``usual_share``: repeated of the bars of the sessions before.
    - ``expected``, ``own_sigma``: the log return that ``market`` and beta lead to, and the sigma of the rest.
    """
    repeats = (pl.col("skipped") == 0) & (pl.col("close") == pl.col("previous")) & (pl.col("log_return") == 0.0)
    flat = pl.col("high") == pl.col("low")
    whole = repeats & ~flat & pl.all_horizontal(pl.col(name) == earlier(name) for name in ("open", "high", "low"))
    judged = measured.with_columns(repeats=repeats.fill_null(False), flat=flat, whole=whole.fill_null(False))
    judged = judged.join(_universe(judged), on="session", how="left", maintain_order="left")
    return _expected(_shares(judged))


def zero_volumes(measured: pl.DataFrame) -> Findings:
    """Bars without volume, of symbols that rarely had one without; indices never have any."""
    without = (pl.col("volume") == 0.0).cast(pl.Float64)
    share = without.rolling_mean(USUAL_VOLUME_SESSIONS, min_samples=MIN_VOLUME_SESSIONS).over("run")
    found = (
        measured.with_columns(share=share)
        .with_columns(share=earlier("share"))
        .filter((pl.col("volume") == 0.0) & (pl.col("share") < RARELY_WITHOUT_VOLUME))
    )
    detail = pl.format("{} % of the sessions before without volume", text(pl.col("share") * 100, 1))
    return as_findings(found, "zero_volume", detail)


def _universe(judged: pl.DataFrame) -> pl.DataFrame:
    # Counts and a median: a sum of floats would depend on the order of the symbols.
    per_session = (
        judged.group_by("session")
        .agg(
            bars=pl.len().cast(pl.Int64),
            repeated=pl.col("repeats").sum().cast(pl.Int64),
            wholes=pl.col("whole").sum().cast(pl.Int64),
            market=pl.col("log_return").filter(pl.col("skipped") == 0).median(),
        )
        .sort("session")
    )
    repeated, bars = (pl.col(name).rolling_sum(CROWD_SESSIONS).shift(1) for name in ("repeated", "bars"))
    return per_session.with_columns(
        market=pl.when(pl.col("bars") >= MIN_UNIVERSE).then("market"), usual_share=repeated / bars
    )


def _shares(judged: pl.DataFrame) -> pl.DataFrame:
    shares = {
        share: pl.col(name).cast(pl.Float64).rolling_mean(SHARE_SESSIONS, min_samples=MIN_SHARE_SESSIONS).over("run")
        for share, name in (("flat_share", "flat"), ("repeat_share", "repeats"))
    }
    return judged.with_columns(**shares).with_columns(**{name: earlier(name) for name in shares})


def _expected(judged: pl.DataFrame) -> pl.DataFrame:
    own, market = pl.col("log_return").clip(-LARGEST_RETURN, LARGEST_RETURN), pl.col("market")
    products = {
        name: product.ewm_mean(half_life=BETA_HALF_LIFE, min_samples=MIN_BETA_SESSIONS, ignore_nulls=True).over("run")
        for name, product in (("own_2", own**2), ("both", own * market), ("market_2", market**2))
    }
    rest = pl.col("own_2") - pl.col("both") ** 2 / pl.col("market_2")
    return (
        judged.with_columns(**products)
        .with_columns(**{name: earlier(name) for name in products})
        .with_columns(expected=pl.col("both") / pl.col("market_2") * market, own_sigma=rest.clip(MIN_SIGMA**2).sqrt())
    )
