"""A small universe with everything in it that a leak could go through, and certificates of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
from support.markets import make_bars
from support.recipes import tiny_recipe

from swiftbolt.actions import CorporateAction, CorporateActions
from swiftbolt.bars import PRICES, Bars, empty_quarantine
from swiftbolt.evaluation.evaluate import Plan
from swiftbolt.evaluation.leakage import Certificate, certify
from swiftbolt.evaluation.replay import NoProgress
from swiftbolt.providers.base import Adjustment, MarketData
from swiftbolt.universe import Universe

SYMBOLS = ("AA", "BB", "CC")
SESSIONS = 470
# Of one fold: 260 sessions or more to train on, 20 of purge, 40 to validate on, 20 of embargo, 30 to test.
KNOWN_THROUGH = SESSIONS - 30 - 1
LAST_OF_VALIDATION = KNOWN_THROUGH - 20
LAST_OF_PURGE = LAST_OF_VALIDATION - 40
LAST_OF_TRAINING = LAST_OF_PURGE - 20
CUT_INSIDE_TEST = KNOWN_THROUGH + 28  # where the seed puts it
MISTAKE = 2.2  # times the price, which is like no split: those would be found at once
MISTAKEN = {
    "AA": (LAST_OF_PURGE, CUT_INSIDE_TEST),
    "BB": (LAST_OF_TRAINING, KNOWN_THROUGH),
    "CC": (LAST_OF_TRAINING - 30, LAST_OF_VALIDATION),
}
YOUNG, LEAST_YOUNG = "YY", 300
LISTED = SESSIONS - 10 - LEAST_YOUNG  # the young symbol is old enough for the last eleven sessions
SEED = 7


def plan_of(*models: str, count: int = 1, test_sessions: int = 30) -> Plan:
    """A plan of tiny models, as if read from files."""
    recipe = tiny_recipe(*models, count=count)
    folds = recipe.folds.model_copy(update={"test_sessions": test_sessions, "burn_in_sessions": 40})
    universe = Universe(symbols=SYMBOLS, min_sessions=260)
    return Plan(recipe=replace(recipe, folds=folds), universe=universe)


def market_data(sessions: int = SESSIONS) -> MarketData:
    """Three symbols: one with splits and dividends, one with factors, all with two mistaken closes.

    But for one the mistakes are made where the cuts are, and found out the session after.
    """
    bars = make_bars(SYMBOLS, sessions, seed=3)
    days = bars.frame["session"].unique().sort()
    mistaken = pl.DataFrame(
        [(symbol, days[at]) for symbol, places in MISTAKEN.items() for at in places],
        schema={"symbol": pl.String, "session": pl.Date},
        orient="row",
    ).with_columns(factor=pl.lit(MISTAKE))
    frame = bars.frame.join(mistaken, on=["symbol", "session"], how="left", maintain_order="left")
    frame = frame.with_columns(pl.col(*PRICES) * pl.col("factor").fill_null(1.0)).drop("factor")
    return MarketData(
        bars=Bars(frame=frame),
        actions=CorporateActions.of([*_events(days), *_factors(days)]),
        quarantine=empty_quarantine(),
        adjustment=Adjustment.RAW_WITH_ACTIONS,
    )


def with_a_young_symbol(plan: Plan, data: MarketData) -> tuple[Plan, MarketData]:
    """Both with one symbol more, which is old enough to be forecast late in the last test range only."""
    later = make_bars([YOUNG], SESSIONS - LISTED, seed=3).frame
    universe = Universe(symbols=(*SYMBOLS, YOUNG), min_sessions=LEAST_YOUNG)
    return replace(plan, universe=universe), replace(data, bars=Bars(frame=pl.concat([data.bars.frame, later])))


def _events(days: pl.Series) -> list[CorporateAction]:
    """Dividends every 60 sessions, every second one declared ten sessions before."""
    places = range(50, len(days) - 10, 60)
    return [
        CorporateAction(
            symbol="AA",
            ex_date=days[at],
            kind="dividend",
            value=0.4,
            known_at=days[at - 10] if number % 2 else None,
        )
        for number, at in enumerate(places)
    ]


def _factors(days: pl.Series) -> list[CorporateAction]:
    return [
        CorporateAction(symbol="BB", ex_date=days[at], kind="factor", value=1.01) for at in range(40, len(days), 90)
    ]


def certificate_of(
    *models: str,
    count: int = 1,
    test_sessions: int = 30,
    sessions: int = SESSIONS,
    start: date | None = None,
    young: bool = False,
) -> Certificate:
    """A certificate of the small universe with one cut inside each test range.

    Args:
        young: with a symbol that is old enough only after most of the cuts.
    """
    plan, data = plan_of(*models, count=count, test_sessions=test_sessions), market_data(sessions)
    if young:
        plan, data = with_a_young_symbol(plan, data)
    return certify(
        plan,
        data,
        rng=np.random.default_rng(SEED),
        progress=NoProgress(),
        start=start,
        inside_test=1,
    )
