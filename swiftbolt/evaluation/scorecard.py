"""The scorecard: what the forecasts of a walk-forward were worth, per model and horizon, as plain JSON.

It holds no clock time and no run id: equal forecasts give an equal scorecard. Every score is of rows
whose outcome is known; skill is of the rows that naive forecast too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from swiftbolt.ensemble.weights import ENSEMBLE
from swiftbolt.errors import DataError, SchemaError
from swiftbolt.evaluation import claims, curves
from swiftbolt.evaluation.conditions import Conditions
from swiftbolt.evaluation.equity import COST_PER_SIDE
from swiftbolt.evaluation.ledger import NO_LEDGER, Look, uncounted
from swiftbolt.evaluation.recipe import BASELINES
from swiftbolt.evaluation.scores import GOALS, KEYS, Scored, matured, reliability, scored
from swiftbolt.forecast import MODELS, QUANTILE_COLUMNS
from swiftbolt.models.explanations import Importance

BENCHMARK = "naive"
MODEL_ORDER = (BENCHMARK, "naive_drift", *MODELS, ENSEMBLE)
COLUMNS = [*KEYS, "horizon", "model", "mean", *QUANTILE_COLUMNS, "p_up", "realized"]

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
    "location_skill": "CRPS saved by where the distribution lies: as forecast against moved onto naive's centre",
    "scale_skill": "CRPS saved by how wide it is, moved onto naive's centre: volatility, never direction",
    "terciles": "rows of the lowest, middle and highest third of the symbol's volatility of 20 sessions at the origin",
    "after_breaks": "origins up to 60 sessions after the universe's median volatility first rose above 1.5 x its "
    "median of 250 sessions",
    "coverage_at_goal": "largest share of forecasts, the most confident first, of which 62 % are on the right side; "
    "found with the outcomes at hand, so it describes and promises nothing",
    "sharpe_ratio": "of the simple rule's daily returns after costs, annualised: long or short by the side of p_up "
    "where confident, equal amounts, bought at the next open and held to the horizon",
    "max_drawdown": "deepest fall of the simple rule's compounded wealth",
    "turnover": "bought and sold a session, as share of the wealth",
    "exposure": "mean amount held, as share of the wealth",
    "tests": "on means of sessions, one-sided: p is small when surely better than naive (Diebold-Mariano of the CRPS, "
    "location skill), than independent sides (Pesaran-Timmermann), than always the same side, than no order of "
    "symbols (rank IC), than cash (net Sharpe), than always long or always short (net alpha)",
    "importance": "mean over test folds, of validation rows: shap is the mean absolute contribution to the median, in "
    "units of the usual move over the horizon, gain the mean gain of the splits",
    "deflated_sharpe": "chance that the simple rule's true Sharpe ratio lies above the best that luck alone would show "
    "among all that was tried on any of these symbols in any of these years: trials much alike count as one cluster, "
    "those without daily returns as one each; Sharpe ratios of one session",
    "overfitting": "PBO: how often the best trial of half of the time is below the median in the other half; of the "
    "trials with at least three quarters of these sessions",
    "claims": "location skill, direction (Pesaran-Timmermann, best constant side), rank IC and net Sharpe (over cash "
    "and over always long) of every model but the baselines, at 5 % for all of them together (Holm)",
}
GOAL_SCORES = {
    "directional_accuracy": "directional_accuracy",
    "sharpe": "sharpe_ratio",
    "max_drawdown": "max_drawdown",
}
GOAL_FORMS = {
    "directional_accuracy": ("directional accuracy", ".1%", ".0%"),
    "sharpe": ("Sharpe ratio", ".2f", ".1f"),
    "max_drawdown": ("maximum drawdown", ".1%", ".0%"),
}


def build_scorecard(
    forecasts: pl.DataFrame,
    extra: Mapping[str, Any] | None = None,
    *,
    conditions: Conditions | None = None,
    importance: Mapping[str, Mapping[int, Importance]] | None = None,
    threshold: float = 0.5,
    seed: int = 0,
    look: Look | None = None,
) -> dict[str, Any]:
    """Score forecasts.

    Args:
        forecasts: rows of forecasts.parquet: ``symbol, origin, horizon, model, mean, q_..., p_up, realized``,
            the last null until matured; ``fold``, where there is one, dates the folds. More models or columns do
            no harm.
        extra: plain values about the run, kept under ``extra``; ``adjustment`` among them says how prices
            stood to splits and dividends.
        conditions: the market around the forecasts; without it, what needs it is null, with the reason.
        importance: of features, by model and horizon.
        threshold: confidence from which on the simple rule trades.
        seed: of the tests that resample.
        look: takes in every model but the baselines, and judges it among all that were tried.

    Raises:
        SchemaError: a column is missing.
        DataError: a model forecast a symbol, origin and horizon twice, or one that ``conditions`` do not know.
    """
    frame = _checked(forecasts)
    names = _in_order(frame["model"].unique())
    horizons = sorted(int(h) for h in frame["horizon"].unique())
    first = frame["origin"].min()
    if conditions is not None and isinstance(first, date):
        conditions = conditions.since(first)
    models: dict[str, dict[str, Any]] = {name: {} for name in names}
    selective: dict[str, dict[str, Any]] = {name: {} for name in names}
    of_ensemble: dict[int, Scored] = {}
    for horizon in horizons:
        at_horizon = frame.filter(pl.col("horizon") == horizon)
        benchmark = matured(at_horizon.filter(pl.col("model") == BENCHMARK))
        for name in names:
            found = scored(
                at_horizon.filter(pl.col("model") == name),
                benchmark,
                horizon,
                conditions=conditions,
                threshold=threshold,
                rng=np.random.default_rng([seed, horizon, *name.encode()]),  # no model's numbers depend on another
            )
            models[name][str(horizon)] = found.entry
            selective[name][str(horizon)] = curves.thinned(found.selective)
            if look is not None and name not in BASELINES:
                look.add(name, horizon, found.entry, found.equity)
            if name == ENSEMBLE and len(found.matured):
                of_ensemble[horizon] = found
    tested = claims.judged(
        (name, horizon, models[name][str(horizon)]["tests"])
        for name in names
        if name not in BASELINES
        for horizon in horizons
    )
    return {
        "format": 1,
        "symbols": frame["symbol"].n_unique(),
        "origins": {
            "first": None if frame.is_empty() else str(frame["origin"].min()),
            "last": None if frame.is_empty() else str(frame["origin"].max()),
            "sessions": frame["origin"].n_unique(),
        },
        "folds": _folds(forecasts),
        "horizons": horizons,
        "prices": str((extra or {}).get("adjustment", "not stated")),
        "survivorship": SURVIVORSHIP,
        "definitions": DEFINITIONS,
        "rule": {"threshold": threshold, "cost_per_side": COST_PER_SIDE},
        "models": models,
        "claims": claims.sentences(tested),
        "claims_tested": tested,
        "reliability": {str(h): [asdict(b) for b in reliability(found.matured)] for h, found in of_ensemble.items()},
        "curves": {
            "selective_accuracy": selective,
            "coverage_by_quarter": {str(h): curves.coverage_by_quarter(f.matured) for h, f in of_ensemble.items()},
            "skill_by_year": {str(h): curves.skill_by_year(f.common) for h, f in of_ensemble.items()},
            "equity": {str(h): curves.wealth(f.equity) for h, f in of_ensemble.items() if f.equity is not None},
        },
        "importance": {
            name: {str(h): of_horizon.ranked() for h, of_horizon in by_horizon.items()}
            for name, by_horizon in (importance or {}).items()
        },
        "goals": _goals(models.get(ENSEMBLE, {})),
        "trials": uncounted(NO_LEDGER) if look is None else look.judged(),
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
    """The scorecard for a terminal: what was scored, a line per model and horizon, the goals, the claims."""
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
    return [*lines, *goal_sentences(scorecard), *claim_sentences(scorecard), f"prices: {scorecard['prices']}"]


def span_sentence(scorecard: Mapping[str, Any]) -> str:
    """How much was forecast: symbols, and the sessions forecast from."""
    symbols, origins = scorecard["symbols"], scorecard["origins"]
    return (
        f"{symbols} symbol{'' if symbols == 1 else 's'}, "
        f"{origins['sessions']} sessions from {origins['first']} to {origins['last']}"
    )


def goal_sentences(scorecard: Mapping[str, Any]) -> list[str]:
    """What the ensemble measures at each horizon beside each of the roadmap's goals."""
    lines = []
    for name, (title, form, goal_form) in GOAL_FORMS.items():
        goal = scorecard["goals"][name]
        if not goal["measured"]:
            found = f"not measured ({goal['reason']})"
        else:
            by_horizon = sorted(goal["measured"].items(), key=lambda item: int(item[0]))
            found = ", ".join(f"{shown(value, form)} ({horizon})" for horizon, value in by_horizon)
        lines.append(f"{title} {found}; the roadmap's goal is {goal['goal']:{goal_form}}")
    return lines


def claim_sentences(scorecard: Mapping[str, Any]) -> list[str]:
    """What may be claimed, all claims tested considered."""
    tested, held = len(scorecard["claims_tested"]), scorecard["claims"]
    if not tested:
        return ["no claim could be tested: too few sessions"]
    verb = "hold" if len(held) > 1 else "holds"
    return [f"{len(held) or 'none'} of the {tested} claims tested {verb}", *(f"- {claim}" for claim in held)]


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


def _folds(forecasts: pl.DataFrame) -> list[dict[str, Any]]:
    """First and last origin of each fold; none where nothing is said of folds."""
    if "fold" not in forecasts.columns:
        return []
    spans = forecasts.group_by("fold").agg(first=pl.col("origin").min(), last=pl.col("origin").max()).sort("fold")
    return [{"fold": fold, "first": str(first), "last": str(last)} for fold, first, last in spans.iter_rows()]


def _goals(ensemble: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The roadmap's goals beside what was measured; what was not measured says why."""
    goals: dict[str, Any] = {}
    for name, goal in GOALS.items():
        measured = {horizon: scores[GOAL_SCORES[name]] for horizon, scores in ensemble.items()}
        if any(value is not None for value in measured.values()):
            reached = {horizon: value is not None and value >= goal for horizon, value in measured.items()}
            goals[name] = {"goal": goal, "measured": measured, "reached": reached}
        else:
            reasons = [scores["reasons"].get("trading") for scores in ensemble.values() if scores["n"]]
            goals[name] = {"goal": goal, "measured": None, "reason": next(iter(reasons), "no ensemble has an outcome")}
    goals["directional_accuracy"]["note"] = (
        "The direction of daily returns is close to a coin's; 51 to 53 % is what honest tests find, and over weeks "
        "it is always saying up that comes close to the goal"
    )
    return goals
