"""How scores change with time and with confidence, as short lists of plain values to draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from swiftbolt.evaluation import metrics
from swiftbolt.evaluation.calibration_scores import SelectivePoint
from swiftbolt.evaluation.equity import Equity
from swiftbolt.forecast import QUANTILE_COLUMNS

SELECTIVE_POINTS = 20
EQUITY_POINTS = 240

Point = dict[str, Any]


def coverage_by_quarter(matured: pl.DataFrame) -> list[Point]:
    """Share of outcomes inside the 95 % interval, by the quarter of the origin."""
    quarter = pl.format("{} Q{}", pl.col("origin").dt.year(), pl.col("origin").dt.quarter())
    return [
        {
            "quarter": name,
            "n": len(part),
            "coverage_95": metrics.interval_coverage(
                part.select(QUANTILE_COLUMNS).to_numpy(), part["realized"].to_numpy(), 0.95
            ),
        }
        for (name,), part in sorted(matured.group_by(quarter, maintain_order=True))
    ]


def skill_by_year(common: pl.DataFrame) -> list[Point]:
    """Skill against naive, by the year of the origin; ``common`` holds ``origin, crps, naive_crps``."""
    return [
        {"year": year, "n": len(part), "skill": skill_of(part)}
        for (year,), part in sorted(common.group_by(pl.col("origin").dt.year(), maintain_order=True))
    ]


def skill_of(common: pl.DataFrame) -> float | None:
    """Skill against naive on rows with ``crps, naive_crps``; None without rows, or if naive was perfect."""
    naive_N = common["naive_crps"].to_numpy()
    return metrics.skill(common["crps"].to_numpy(), naive_N) if naive_N.any() else None


def thinned(points: list[SelectivePoint]) -> list[Point]:
    """About twenty points of a curve of selective accuracy: the first that reaches each twentieth."""
    kept: list[SelectivePoint] = []
    for part in range(1, SELECTIVE_POINTS + 1):
        found = next((point for point in points if point.coverage >= part / SELECTIVE_POINTS), None)
        if found is not None and found not in kept:
            kept.append(found)
    return [{"threshold": p.threshold, "count": p.count, "coverage": p.coverage, "accuracy": p.accuracy} for p in kept]


def wealth(equity: Equity) -> list[Point]:
    """Compounded wealth at the end of each of at most 240 stretches, and the deepest drawdown within it."""
    wealth_T = np.cumprod(1.0 + equity.net_T)
    drawdown_T = wealth_T / np.maximum.accumulate(np.maximum(wealth_T, 1.0)) - 1.0
    stretches = np.array_split(np.arange(len(wealth_T)), min(EQUITY_POINTS, len(wealth_T)) or 1)
    return [
        {
            "session": str(equity.sessions_T[at[-1]]),
            "wealth": float(wealth_T[at[-1]]),
            "drawdown": float(np.min(drawdown_T[at])),
        }
        for at in stretches
        if len(at)
    ]
