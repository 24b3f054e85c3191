"""One hostile symbol among five ordinary ones, through every model: never nonsense, and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from support.markets import make_bars
from support.recipes import tiny_recipe

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import PRICES, Bars
from swiftbolt.evaluation.replay import NoProgress
from swiftbolt.evaluation.units import SerialExecutor
from swiftbolt.evaluation.walk_forward import WalkForward, walk_forward
from swiftbolt.features.engine import build_panel
from swiftbolt.findings import Findings
from swiftbolt.folds import make_folds
from swiftbolt.forecast import MODELS, QUANTILE_COLUMNS
from swiftbolt.models.network_trainers import InProcessTrainer
from swiftbolt.panel import Panel
from swiftbolt.quality import inspect
from swiftbolt.scaling import VOLATILITY_FLOOR

ORDINARY, HOSTILE = ("AA", "BB", "CC", "DD", "EE"), "HH"
SESSIONS = 520
FIRST_TEST, KNOWN_THROUGH = SESSIONS - 30, SESSIONS - 31
LAST_OF_TRAINING = KNOWN_THROUGH - 20 - 40 - 20
OWN_PAST_ONLY = ("naive", "naive_drift", "arima")  # no other symbol can touch these

Spoil = Callable[[pl.DataFrame], pl.DataFrame]
AT = pl.int_range(pl.len())


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is done to the bars of the hostile symbol, and what may be expected.

    Attributes:
        widest: most times its usual move that a session's standard deviation may be.
        forecast: models that forecast it; all by default.
        told: what must be said of it.
        inspected: findings are made and used.
    """

    spoil: Spoil
    widest: float = 3.0
    forecast: tuple[str, ...] = ("naive", "naive_drift", *MODELS, "ensemble")
    told: tuple[str, ...] = ()
    inspected: bool = True


def priced(factor: pl.Expr) -> Spoil:
    """Prices times ``factor``."""
    return lambda frame: frame.with_columns(pl.col(*PRICES) * factor)


def kept(condition: pl.Expr) -> Spoil:
    """Only the bars at which ``condition`` holds."""
    return lambda frame: frame.filter(condition)


def constant(condition: pl.Expr, at: int) -> Spoil:
    """The close of session ``at`` for every price wherever ``condition`` holds."""
    return lambda frame: frame.with_columns(
        pl.when(condition).then(frame["close"][at]).otherwise(name).alias(name) for name in PRICES
    )


def traded(volume: pl.Expr) -> Spoil:
    """Other volumes."""
    return lambda frame: frame.with_columns(volume=volume)


def tenth_from(at: int) -> Spoil:
    """A split of ten for one, not on file."""
    return priced(pl.when(at <= AT).then(0.1).otherwise(1.0))


UNFEATURED = ("naive", "naive_drift", "arima", "ensemble")  # the others need features, and they 260 bars
CASES = {
    "60 sessions": Case(spoil=kept(SESSIONS - 60 <= AT), forecast=UNFEATURED, told=("HH: needs 250 sessions, has 12",)),
    "200 sessions": Case(
        spoil=kept(SESSIONS - 200 <= AT), forecast=UNFEATURED, told=("HH: needs 250 sessions, has 89",)
    ),
    "300 sessions": Case(
        spoil=kept(SESSIONS - 300 <= AT),
        told=("HH: needs 250 sessions, has 189",),
    ),
    "constant": Case(
        spoil=constant(pl.lit(True), 0),
        told=("HH: constant for 489 sessions", "HH: prices do not move", "EWMA volatility used"),
    ),
    "constant of late": Case(
        # Volatility is forgotten by 3 % a session, the usual move at once.
        spoil=constant(SESSIONS - 120 <= AT, SESSIONS - 121),
        widest=20.0,
        told=("HH: constant for",),
    ),
    "constant, then alive": Case(
        spoil=constant(AT < LAST_OF_TRAINING, LAST_OF_TRAINING), told=("HH: prices do not move",)
    ),
    "a gap of 60 sessions": Case(spoil=kept((AT < 380) | (AT >= 440))),
    "a gap up to the test": Case(spoil=kept((AT < FIRST_TEST - 60) | (FIRST_TEST <= AT))),
    "an unadjusted split in training": Case(spoil=tenth_from(380)),
    "an unadjusted split in the test": Case(spoil=tenth_from(FIRST_TEST + 5)),
    "an unadjusted split, not inspected": Case(spoil=tenth_from(380), inspected=False),
    "an unadjusted split in the test, not inspected": Case(
        # Nobody tells a jump of ten sigmas from a crash: only ARIMA-GARCH limits it.
        spoil=tenth_from(FIRST_TEST + 5),
        inspected=False,
        widest=50.0,
    ),
    "a crash of 95 %": Case(spoil=priced(pl.when(AT >= 380).then(0.05).otherwise(1.0))),
    "a penny of a penny": Case(spoil=priced(1e-4 / pl.col("close").first())),
    "one huge volume": Case(spoil=traded(pl.when(AT == KNOWN_THROUGH).then(1e15).otherwise("volume"))),
    "no volume for a year": Case(spoil=traded(pl.when(SESSIONS - 252 <= AT).then(0.0).otherwise("volume"))),
    "never any volume": Case(spoil=traded(pl.lit(0.0))),
    "half as much again and back": Case(
        spoil=lambda frame: priced(pl.when(AT % 2 == 0).then(1.0).otherwise(1.5))(constant(pl.lit(True), 0)(frame))
    ),
    "listed inside the test": Case(
        spoil=kept(FIRST_TEST + 5 <= AT), forecast=UNFEATURED, told=("HH: needs 250 sessions, has 19",)
    ),
    "ended before the test": Case(spoil=kept(AT <= KNOWN_THROUGH - 10), forecast=()),
}


def panel_with(case: Case | None) -> Panel:
    """The ordinary symbols, and with a case the hostile one."""
    bars = make_bars(ORDINARY, SESSIONS, seed=3)
    if case is not None:
        hostile = case.spoil(make_bars([HOSTILE], SESSIONS, seed=3).frame)
        bars = Bars(frame=pl.concat([bars.frame, hostile]))
    actions = CorporateActions.of()
    findings = inspect(bars, actions) if case is None or case.inspected else Findings.none()
    return build_panel(bars, actions, findings)


def walked(panel: Panel, *models: str) -> WalkForward:
    """One fold of thirty sessions."""
    recipe = tiny_recipe(*models, count=1)
    return walk_forward(
        panel,
        make_folds(panel.sessions, recipe.folds),
        recipe,
        least_history=1,
        executor=SerialExecutor(),
        trainer=InProcessTrainer(),
        progress=NoProgress(),
    )


def all_forecasts(result: WalkForward) -> pl.DataFrame:
    return pl.concat([result.forecasts, result.drift])


@pytest.fixture(scope="module")
def undisturbed() -> pl.DataFrame:
    return all_forecasts(walked(panel_with(None), "arima"))


def usual_moves(panel: Panel) -> pl.DataFrame:
    """The standard deviation that the median of the last 60 moves has, which no single event changes."""
    usual = pl.Series(panel.log_returns(HOSTILE)).abs().rolling_median(60, min_samples=5) / 0.6745
    usual = usual.clip(VOLATILITY_FLOOR)
    return pl.DataFrame({"origin": pl.Series(panel.date_R[panel.rows(HOSTILE)][1:], dtype=pl.Date), "usual": usual})


@pytest.mark.parametrize("name", CASES)
def test_no_model_talks_nonsense_of_a_hostile_symbol_and_the_others_go_on(name: str, undisturbed: pl.DataFrame) -> None:
    case = CASES[name]
    panel = panel_with(case)
    result = walked(panel, *MODELS)
    every = all_forecasts(result)
    of_it = every.filter(pl.col("symbol") == HOSTILE)
    assert set(of_it["model"]) == set(case.forecast)

    numbers = every.select("mean", "sd", *QUANTILE_COLUMNS, "p_up").to_numpy()
    assert np.isfinite(numbers).all()
    quantiles = every.select(QUANTILE_COLUMNS).to_numpy()
    assert (np.diff(quantiles, axis=1) > 0).all()
    assert (every["sd"] > 0).all()
    assert every["p_up"].is_between(0, 1).all()

    told = [*result.notes, *result.failures.values()]
    for sentence in case.told:
        assert any(sentence in said for said in told), told

    widths = of_it.join(usual_moves(panel), on="origin").select(
        pl.col("sd") / pl.col("horizon").sqrt() / pl.col("usual")
    )["sd"]
    assert widths.len() == of_it.height
    assert widths.is_between(0.4, case.widest).all()

    apart = (pl.col("symbol") != HOSTILE) & pl.col("model").is_in(OWN_PAST_ONLY)
    assert every.filter(apart).equals(undisturbed.filter(apart))
