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
from swiftbolt.evaluation.recipe import EvaluateConfig
from swiftbolt.evaluation.replay import NoProgress
from swiftbolt.providers.base import Adjustment, MarketData
from swiftbolt.universe import Universe

SYMBOLS = ("AA", "BB", "CC")
SESSIONS = 470
LAST_OF_VALIDATION = SESSIONS - 30 - 20 - 1  # of one fold: 30 sessions to test after an embargo of 20
SEED = 7


def plan_of(*models: str, count: int = 1, test_sessions: int = 30) -> Plan:
    """A plan of tiny models, as if read from files; the files themselves are never looked at."""
    config = EvaluateConfig.model_validate(
        {"universe": "universe.yaml", "models": {"arima": {"config": ""}}, "ensemble": "", "seed": 1, "workers": 1}
    )
    recipe = tiny_recipe(*models, count=count)
    folds = recipe.folds.model_copy(update={"test_sessions": test_sessions, "burn_in_sessions": 40})
    universe = Universe(symbols=SYMBOLS, min_sessions=260)
    return Plan(config=config, recipe=replace(recipe, folds=folds), universe=universe)


def market_data(sessions: int = SESSIONS) -> MarketData:
    """Three symbols: one with splits and dividends, one with factors, one with mistaken closes.

    One of the mistakes is made at the last session of validation, and found out the session after.
    """
    bars = make_bars(SYMBOLS, sessions, seed=3)
    days = bars.frame["session"].unique().sort()
    mistaken = [days[LAST_OF_VALIDATION - 90], days[LAST_OF_VALIDATION]]
    is_mistaken = (pl.col("symbol") == "CC") & pl.col("session").is_in(mistaken)
    frame = bars.frame.with_columns(pl.when(is_mistaken).then(pl.col(name) * 3.0).otherwise(name) for name in PRICES)
    return MarketData(
        bars=Bars(frame=frame),
        actions=CorporateActions.of([*_events(days), *_factors(days)]),
        quarantine=empty_quarantine(),
        adjustment=Adjustment.RAW_WITH_ACTIONS,
    )


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
    *models: str, count: int = 1, test_sessions: int = 30, sessions: int = SESSIONS, start: date | None = None
) -> Certificate:
    """A certificate of the small universe with one cut inside each test range."""
    return certify(
        plan_of(*models, count=count, test_sessions=test_sessions),
        market_data(sessions),
        rng=np.random.default_rng(SEED),
        progress=NoProgress(),
        start=start,
        inside_test=1,
    )
