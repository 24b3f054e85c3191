"""A panel with a signal of known size in it, and how much of it each model finds.

The best centre that anybody can forecast is known: the return to come is the shock, which nobody knows, plus ``phi``
times the last one. A model's own distribution moved there has the location skill, by the code that scores models, that
the model could have had with it: what there is to find. At one session that is about half of ``phi`` squared.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from noise.panels import Stopwatch, bars_of, evaluate_bars

from swiftbolt.bars import Bars
from swiftbolt.ensemble.weights import ENSEMBLE
from swiftbolt.evaluation.evaluate import Evaluation, Plan
from swiftbolt.evaluation.metrics import crps
from swiftbolt.evaluation.scorecard import claim_sentences
from swiftbolt.evaluation.skill_split import location_skill
from swiftbolt.forecast import HORIZONS, LEVELS, MODELS, QUANTILE_COLUMNS

PHI = 0.3


def evaluate_planted(plan: Plan, out: Path, phi: float = PHI) -> tuple[Evaluation, Bars]:
    """Evaluate a panel of independent shocks; with ``phi`` zero, of the same shocks and no signal."""
    bars = bars_of(plan, clustered=False, phi=phi)
    return evaluate_bars(plan, bars, out, Stopwatch()), bars


def planted_lines(plan: Plan) -> list[str]:
    """What each model found at each horizon, and what there was to find."""
    with tempfile.TemporaryDirectory() as folder:
        found, bars = evaluate_planted(plan, Path(folder) / "out")
        forecasts = pl.read_parquet(Path(folder) / "out" / "forecasts.parquet")
    lines = [f"planted: {PHI:g} of a session's return in the next; location skill found, and there with that known"]
    for model in (*MODELS, ENSEMBLE):
        cells = []
        for horizon in HORIZONS:
            skill = found.scorecard["models"][model][str(horizon)]["location_skill"]
            best = best_location_skill(forecasts, bars, model, horizon)
            cells.append(f"{skill:.2%} of {best:.2%} ({horizon})")
        lines.append(f"{model:<12} " + ", ".join(cells))
    return [*lines, *claim_sentences(found.scorecard)]


def best_location_skill(forecasts: pl.DataFrame, bars: Bars, model: str, horizon: int, phi: float = PHI) -> float:
    """Location skill of a model, had it known ``phi``, over the rows that naive forecast.

    Args:
        forecasts: forecasts.parquet of ``bars``.
    """
    last = bars.frame.select(
        "symbol", origin="session", last=(pl.col("close") / pl.col("close").shift(1)).log().over("symbol")
    )
    keys = ["symbol", "origin"]
    own, naive = (
        forecasts.filter(model=name, horizon=horizon)
        .drop_nulls("realized")
        .select(*keys, "realized", *QUANTILE_COLUMNS)
        for name in (model, "naive")
    )
    rows = own.join(naive, on=keys, suffix="_naive", maintain_order="left").join(last, on=keys, maintain_order="left")
    own_NQ = rows.select(QUANTILE_COLUMNS).to_numpy()
    naive_NQ = rows.select(f"{name}_naive" for name in QUANTILE_COLUMNS).to_numpy()
    outcome_N = rows["realized"].to_numpy()
    centre_N = rows["last"].to_numpy() * phi * (1 - phi**horizon) / (1 - phi)
    best_NQ = own_NQ + (centre_N - own_NQ[:, LEVELS.index(0.5)])[:, None]
    return float(np.sum(location_skill(best_NQ, naive_NQ, outcome_N)) / np.sum(crps(naive_NQ, outcome_N)))
