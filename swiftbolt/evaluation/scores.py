"""One model at one horizon: its scores, what they are under which conditions, what it would have earned, its tests.

Every score is of rows whose outcome is known; skill is of the rows that naive forecast too. What cannot be told is
null, and ``reasons`` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from swiftbolt.evaluation import claims, metrics
from swiftbolt.evaluation.calibration_scores import (
    SelectivePoint,
    coverage_by_tercile,
    coverage_reaching,
    selective_accuracy,
)
from swiftbolt.evaluation.conditions import Conditions
from swiftbolt.evaluation.curves import skill_of
from swiftbolt.evaluation.equity import Equity, simple_rule
from swiftbolt.evaluation.significance import MIN_SESSIONS
from swiftbolt.evaluation.skill_split import location_skill, scale_skill
from swiftbolt.forecast import LEVELS, QUANTILE_COLUMNS, Float64

KEYS = ["symbol", "origin"]
SCORES = (
    "crps",
    "coverage_95",
    "coverage_90",
    "coverage_50",
    "directional_accuracy",
    "rmse",
    "mae",
    "r2",
    "calibration_error",
)
INTERVALS = (("90", 0.90), ("95", 0.95))
GOALS = {"directional_accuracy": 0.62, "sharpe": 1.2, "max_drawdown": -0.15}
NO_MARKET = "no prices were handed in"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scored:
    """What is known of one model at one horizon.

    Attributes:
        entry: plain values for the scorecard.
        matured: its rows with an outcome, and their ``crps``.
        common: those that naive forecast too, with ``naive_crps``, ``gain``, ``location_gain`` and ``scale_gain``.
        selective: accuracy against coverage.
        equity: of the simple rule; None where it was not run, or never traded.
    """

    entry: dict[str, Any]
    matured: pl.DataFrame
    common: pl.DataFrame
    selective: list[SelectivePoint]
    equity: Equity | None


def scored(
    rows: pl.DataFrame,
    benchmark: pl.DataFrame,
    horizon: int,
    *,
    conditions: Conditions | None,
    threshold: float,
    rng: np.random.Generator,
) -> Scored:
    """Score one model.

    Args:
        rows: its forecasts from ``horizon``, sorted by symbol and origin.
        benchmark: naive's of that horizon with an outcome, and their ``crps``.
        conditions: the market around them, where known.
        threshold: confidence from which on the simple rule trades.
    """
    mature = matured(rows)
    common = _common(mature, benchmark)
    selective = selective_accuracy(mature["p_up"].to_numpy(), mature["realized"].to_numpy()) if len(mature) else []
    around, reasons = _coverage_around(mature, conditions)
    equity, untraded = _traded(rows, horizon, conditions, threshold)
    at_goal = coverage_reaching(selective, GOALS["directional_accuracy"])
    if at_goal is None:
        reasons["coverage_at_goal"] = f"no share of {len(mature)} outcomes is right often enough"
    if untraded is not None:
        reasons["trading"] = untraded
    entry = {
        "forecasts": len(rows),
        **_scores(mature),
        **_skill(common),
        **around,
        "coverage_at_goal": at_goal,
        **_earnings(equity),
        "tests": {
            **claims.gain_tests(common, horizon),
            **claims.direction_tests(mature, horizon, rng),
            **_earning_tests(rows, horizon, conditions, equity, untraded),
        },
        "reasons": reasons,
    }
    return Scored(entry=entry, matured=mature, common=common, selective=selective, equity=equity)


def matured(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with an outcome, and their ``crps``."""
    known = rows.filter(pl.col("realized").is_not_null())
    crps = metrics.crps(known.select(QUANTILE_COLUMNS).to_numpy(), known["realized"].to_numpy())
    return known.with_columns(crps=pl.Series(crps, dtype=pl.Float64))


def reliability(mature: pl.DataFrame) -> list[metrics.ReliabilityBin]:
    """How often it rose, by the probability given."""
    return metrics.reliability(mature["p_up"].to_numpy(), mature["realized"].to_numpy())


def _scores(mature: pl.DataFrame) -> dict[str, Any]:
    """Scores of a model on its own rows; null where there is no row."""
    if mature.is_empty():
        return {"n": 0, "sessions": 0, **dict.fromkeys(SCORES)}
    quantiles_NQ, outcome_N = _arrays(mature)
    mean_N, p_up_N = mature["mean"].to_numpy(), mature["p_up"].to_numpy()
    return {
        "n": len(mature),
        "sessions": mature["origin"].n_unique(),
        "crps": float(np.mean(mature["crps"].to_numpy())),
        "coverage_95": metrics.interval_coverage(quantiles_NQ, outcome_N, 0.95),
        "coverage_90": metrics.interval_coverage(quantiles_NQ, outcome_N, 0.90),
        "coverage_50": metrics.interval_coverage(quantiles_NQ, outcome_N, 0.50),
        "directional_accuracy": metrics.directional_accuracy(p_up_N, outcome_N),
        "rmse": metrics.rmse(mean_N, outcome_N),
        "mae": metrics.mae(quantiles_NQ[:, LEVELS.index(0.5)], outcome_N),
        "r2": metrics.out_of_sample_r2(mean_N, outcome_N) if np.any(outcome_N) else None,
        "calibration_error": metrics.calibration_error(reliability(mature)),
    }


def _common(mature: pl.DataFrame, benchmark: pl.DataFrame) -> pl.DataFrame:
    """Rows that naive forecast too, and what they gained over it in units of the return."""
    naive = benchmark.select(*KEYS, pl.col("crps", *QUANTILE_COLUMNS).name.prefix("naive_"))
    both = mature.join(naive, on=KEYS, how="inner", maintain_order="left")
    quantiles_NQ, outcome_N = _arrays(both)
    naive_NQ = both.select(pl.col("^naive_q_.*$")).to_numpy()
    return both.select(
        *KEYS,
        "crps",
        "naive_crps",
        gain=pl.col("naive_crps") - pl.col("crps"),
        location_gain=pl.Series(location_skill(quantiles_NQ, naive_NQ, outcome_N), dtype=pl.Float64),
        scale_gain=pl.Series(scale_skill(quantiles_NQ, naive_NQ, outcome_N), dtype=pl.Float64),
    )


def _skill(common: pl.DataFrame) -> dict[str, Any]:
    """Skill on the rows both have, how many those are, and its two parts, which add up to it."""
    skill = skill_of(common)
    naive = float(common["naive_crps"].sum())
    return {
        "common": len(common),
        "skill": skill,
        "location_skill": None if skill is None else float(common["location_gain"].sum()) / naive,
        "scale_skill": None if skill is None else float(common["scale_gain"].sum()) / naive,
    }


def _coverage_around(mature: pl.DataFrame, conditions: Conditions | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Coverage of the intervals in calm, middling and wild rows, and after breaks; and why it is null."""
    found: dict[str, Any] = dict.fromkeys(
        f"coverage_{n}_{k}" for n, _ in INTERVALS for k in ("terciles", "after_breaks")
    )
    if conditions is None:
        return found, dict.fromkeys(("terciles", "after_breaks"), NO_MARKET)
    known = mature.join(conditions.states, on=KEYS, how="inner", maintain_order="left")
    reasons = {}
    warm = known.filter(pl.col("volatility").is_not_null())
    sessions = warm["origin"].n_unique()
    if sessions < MIN_SESSIONS:
        reasons["terciles"] = f"{sessions} sessions with an outcome and a volatility, needs at least {MIN_SESSIONS}"
    else:
        try:
            for name, nominal in INTERVALS:
                found[f"coverage_{name}_terciles"] = list(
                    coverage_by_tercile(*_arrays(warm), warm["volatility"].to_numpy(), nominal)
                )
        except ValueError as exc:  # volatilities that are all but equal have no terciles
            reasons["terciles"] = str(exc)
    after = known.filter("after_break")
    sessions = after["origin"].n_unique()
    if sessions < MIN_SESSIONS:
        reasons["after_breaks"] = f"{sessions} sessions with an outcome follow a break, needs at least {MIN_SESSIONS}"
    else:
        for name, nominal in INTERVALS:
            found[f"coverage_{name}_after_breaks"] = metrics.interval_coverage(*_arrays(after), nominal)
    return found, reasons


def _traded(
    rows: pl.DataFrame, horizon: int, conditions: Conditions | None, threshold: float
) -> tuple[Equity | None, str | None]:
    """What the simple rule earned, or why it cannot be said."""
    if conditions is None:
        return None, NO_MARKET
    equity = simple_rule(rows.select(*KEYS, "p_up"), conditions.prices, horizon=horizon, threshold=threshold)
    if not equity.gross_T.any():
        return None, f"the rule never traded: no confidence reached {threshold:.0%}"
    if len(equity.net_T) < MIN_SESSIONS:
        return None, f"{len(equity.net_T)} sessions to trade in, needs at least {MIN_SESSIONS}"
    return equity, None


def _earning_tests(
    rows: pl.DataFrame, horizon: int, conditions: Conditions | None, equity: Equity | None, untraded: str | None
) -> dict[str, claims.Result]:
    if equity is None or conditions is None:
        return dict.fromkeys(("net_sharpe", "net_alpha"), claims.untold(str(untraded)))
    always = (rows.select(*KEYS, p_up=pl.lit(p_up)) for p_up in (1.0, 0.0))
    rivals = (simple_rule(side, conditions.prices, horizon=horizon, threshold=0.5).net_T for side in always)
    return claims.earning_tests(equity.net_T, *rivals)


def _arrays(rows: pl.DataFrame) -> tuple[Float64, Float64]:
    """Quantiles and outcomes."""
    return rows.select(QUANTILE_COLUMNS).to_numpy(), rows["realized"].to_numpy()


def _earnings(equity: Equity | None) -> Mapping[str, float | None]:
    """Sharpe annualised, the deepest drawdown, and shares of the wealth: traded a session, and held on average."""
    if equity is None:
        return dict.fromkeys(("sharpe_ratio", "max_drawdown", "turnover", "exposure"))
    return {
        "sharpe_ratio": equity.sharpe,
        "max_drawdown": equity.max_drawdown,
        "turnover": float(np.mean(equity.turnover_T)),
        "exposure": float(np.mean(equity.gross_T)),
    }
