"""The scorecard: what the forecasts of a walk-forward were worth, per model and horizon, as plain JSON.

It holds no clock time and no run id: equal forecasts give an equal scorecard. Every score is of rows
whose outcome is known; skill is of the rows that naive forecast too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from swiftbolt.ensemble.weights import ENSEMBLE
from swiftbolt.errors import DataError, SchemaError
from swiftbolt.evaluation import metrics
from swiftbolt.forecast import LEVELS, MODELS, QUANTILE_COLUMNS

BENCHMARK = "naive"
MODEL_ORDER = (BENCHMARK, "naive_drift", *MODELS, ENSEMBLE)
KEYS = ["symbol", "origin"]
COLUMNS = [*KEYS, "horizon", "model", "mean", *QUANTILE_COLUMNS, "p_up", "realized"]
SCORES = (
    "crps",
    "skill",
    "coverage_95",
    "coverage_90",
    "coverage_50",
    "directional_accuracy",
    "rmse",
    "mae",
    "r2",
    "calibration_error",
)
GOALS = {"directional_accuracy": 0.62, "sharpe": 1.2, "max_drawdown": -0.15}

SURVIVORSHIP = (
    "The universe holds the companies that were handed in; those that were delisted, merged or went bankrupt "
    "before its end may be missing. Returns are flattered by that; compare models on the same rows only."
)
DEFINITIONS = {
    "crps": "twice the mean pinball loss over the seven published quantiles of the cumulative log return",
    "skill": "1 - mean CRPS / mean CRPS of naive, over the rows both forecast",
    "coverage": "share of outcomes inside the central 95 %, 90 % and 50 % intervals",
    "directional_accuracy": "share of outcomes on the side of p_up; an even chance counts half",
    "rmse": "of the mean",
    "mae": "of the median",
    "r2": "1 - squared error of the mean / squared return, out of sample, measured from zero",
    "calibration_error": "mean distance between p_up and the frequency of rises, 20 bins of equal width",
}


def build_scorecard(forecasts: pl.DataFrame, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Score forecasts.

    Args:
        forecasts: rows of forecasts.parquet: ``symbol, origin, horizon, model, mean, q_..., p_up, realized``,
            the last null until matured. More models or columns do no harm.
        extra: plain values about the run, kept under ``extra``; ``adjustment`` among them says how prices
            stood to splits and dividends.

    Raises:
        SchemaError: a column is missing.
        DataError: a model forecast a symbol, origin and horizon twice.
    """
    frame = _checked(forecasts)
    names = _in_order(frame["model"].unique())
    horizons = sorted(int(h) for h in frame["horizon"].unique())
    models: dict[str, dict[str, Any]] = {name: {} for name in names}
    curves: dict[str, list[dict[str, Any]]] = {}
    for horizon in horizons:
        at_horizon = frame.filter(pl.col("horizon") == horizon)
        benchmark = _matured(at_horizon, BENCHMARK)
        for name in names:
            matured = _matured(at_horizon, name)
            models[name][str(horizon)] = {
                "forecasts": len(at_horizon.filter(pl.col("model") == name)),
                **_scores(matured),
                **_against(matured, benchmark),
            }
            if name == ENSEMBLE and len(matured):
                curves[str(horizon)] = [asdict(b) for b in _reliability(matured)]
    return {
        "format": 1,
        "symbols": frame["symbol"].n_unique(),
        "origins": {
            "first": None if frame.is_empty() else str(frame["origin"].min()),
            "last": None if frame.is_empty() else str(frame["origin"].max()),
            "sessions": frame["origin"].n_unique(),
        },
        "horizons": horizons,
        "prices": str((extra or {}).get("adjustment", "not stated")),
        "survivorship": SURVIVORSHIP,
        "definitions": DEFINITIONS,
        "models": models,
        "reliability": curves,
        "goals": _goals(models.get(ENSEMBLE, {})),
        "extra": dict(extra or {}),
    }


def ordered_scores(scorecard: Mapping[str, Any]) -> list[tuple[str, int, dict[str, Any]]]:
    """``(model, horizon, scores)``, baselines first; the order of a scorecard read back from JSON means nothing."""
    return [
        (name, int(horizon), scorecard["models"][name][horizon])
        for name in _in_order(scorecard["models"])
        for horizon in sorted(scorecard["models"][name], key=int)
    ]


def summary_lines(scorecard: Mapping[str, Any]) -> list[str]:
    """The scorecard for a terminal: what was scored, one line per model and horizon, the roadmap's goal."""
    heads = f"{'model':<12} {'horizon':>7} {'scored':>8} {'CRPS':>9} {'skill':>8}"
    lines = [
        span_sentence(scorecard),
        f"{heads} {'in 95 %':>8} {'right side':>10} {'calib.':>7}",
    ]
    for name, horizon, scores in ordered_scores(scorecard):
        lines.append(
            f"{name:<12} {horizon:>7} {scores['n']:>8} {shown(scores['crps'], '.6f'):>9} "
            f"{shown(scores['skill'], '+.2%'):>8} {shown(scores['coverage_95'], '.1%'):>8} "
            f"{shown(scores['directional_accuracy'], '.1%'):>10} {shown(scores['calibration_error'], '.3f'):>7}"
        )
    return [*lines, goal_sentence(scorecard), f"prices: {scorecard['prices']}"]


def span_sentence(scorecard: Mapping[str, Any]) -> str:
    """How much was forecast: symbols, and the sessions forecast from."""
    symbols, origins = scorecard["symbols"], scorecard["origins"]
    return (
        f"{symbols} symbol{'' if symbols == 1 else 's'}, "
        f"{origins['sessions']} sessions from {origins['first']} to {origins['last']}"
    )


def goal_sentence(scorecard: Mapping[str, Any]) -> str:
    """The roadmap's directional accuracy beside the ensemble's."""
    goal = scorecard["goals"]["directional_accuracy"]
    measured = [
        f"{shown(value, '.1%')} (horizon {horizon})"
        for horizon, value in sorted(goal["measured"].items(), key=lambda item: int(item[0]))
    ]
    found = f"the ensemble measures {', '.join(measured)}" if measured else "no ensemble was measured"
    return f"directional accuracy: the roadmap's goal is {goal['goal']:.0%}, {found}"


def shown(value: float | None, form: str) -> str:
    """``value`` formatted, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def _in_order(names: Iterable[str]) -> list[str]:
    found = set(names)
    return [name for name in MODEL_ORDER if name in found] + sorted(found - set(MODEL_ORDER))


def _checked(forecasts: pl.DataFrame) -> pl.DataFrame:
    missing = [name for name in COLUMNS if name not in forecasts.columns]
    if missing:
        raise SchemaError(f"forecasts lack the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}")
    frame = forecasts.select(COLUMNS).with_columns(pl.col("realized").fill_nan(None))
    twice = frame.filter(frame.select(*KEYS, "horizon", "model").is_duplicated())
    if len(twice):
        row = twice.row(0, named=True)
        raise DataError(f"{row['model']} forecasts {row['symbol']} {row['origin']} {row['horizon']} twice")
    # One order of summation, whatever the order of the rows handed in.
    return frame.sort("model", "horizon", *KEYS)


def _matured(at_horizon: pl.DataFrame, name: str) -> pl.DataFrame:
    """A model's rows with an outcome, and their ``crps``."""
    rows = at_horizon.filter((pl.col("model") == name) & pl.col("realized").is_not_null())
    crps = metrics.crps(rows.select(QUANTILE_COLUMNS).to_numpy(), rows["realized"].to_numpy())
    return rows.with_columns(crps=pl.Series(crps, dtype=pl.Float64))


def _scores(matured: pl.DataFrame) -> dict[str, Any]:
    """Scores of a model on its own rows; null where there is no row."""
    if matured.is_empty():
        return {"n": 0, "sessions": 0, **dict.fromkeys(SCORES)}
    quantiles_NQ = matured.select(QUANTILE_COLUMNS).to_numpy()
    outcome_N = matured["realized"].to_numpy()
    mean_N, p_up_N = matured["mean"].to_numpy(), matured["p_up"].to_numpy()
    return {
        "n": len(matured),
        "sessions": matured["origin"].n_unique(),
        "crps": float(np.mean(matured["crps"].to_numpy())),
        "skill": None,
        "coverage_95": metrics.interval_coverage(quantiles_NQ, outcome_N, 0.95),
        "coverage_90": metrics.interval_coverage(quantiles_NQ, outcome_N, 0.90),
        "coverage_50": metrics.interval_coverage(quantiles_NQ, outcome_N, 0.50),
        "directional_accuracy": metrics.directional_accuracy(p_up_N, outcome_N),
        "rmse": metrics.rmse(mean_N, outcome_N),
        "mae": metrics.mae(quantiles_NQ[:, LEVELS.index(0.5)], outcome_N),
        "r2": metrics.out_of_sample_r2(mean_N, outcome_N) if np.any(outcome_N) else None,
        "calibration_error": metrics.calibration_error(_reliability(matured)),
    }


def _against(matured: pl.DataFrame, benchmark: pl.DataFrame) -> dict[str, Any]:
    """Skill on the rows both have, and how many those are."""
    common = matured.join(benchmark.select(*KEYS, benchmark_crps="crps"), on=KEYS, how="inner", maintain_order="left")
    own_N, benchmark_N = common["crps"].to_numpy(), common["benchmark_crps"].to_numpy()
    if not len(common) or not benchmark_N.any():
        return {"common": len(common), "skill": None}
    return {"common": len(common), "skill": metrics.skill(own_N, benchmark_N)}


def _reliability(matured: pl.DataFrame) -> list[metrics.ReliabilityBin]:
    return metrics.reliability(matured["p_up"].to_numpy(), matured["realized"].to_numpy())


def _goals(ensemble: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The roadmap's goals beside what was measured; what was not measured says why."""
    accuracy = {horizon: scores["directional_accuracy"] for horizon, scores in ensemble.items()}
    goal = GOALS["directional_accuracy"]
    untraded = {"measured": None, "reason": "no trading rule was run on these forecasts"}
    return {
        "directional_accuracy": {
            "goal": goal,
            "measured": accuracy,
            "reached": {horizon: value is not None and value >= goal for horizon, value in accuracy.items()},
            "note": "the direction of daily returns is close to a coin's; 51 to 53 % is what honest tests find",
        },
        "sharpe": {"goal": GOALS["sharpe"], **untraded},
        "max_drawdown": {"goal": GOALS["max_drawdown"], **untraded},
    }
