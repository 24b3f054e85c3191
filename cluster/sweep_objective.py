"""What a sweep is judged by: the CRPS of a fold's validation range relative to naive's. No Ray here, and no test range.

A model stops early on its validation range; scored on the same range, the configuration that overfits the stopping
would win. So the range is cut in two: the model stops on the earlier part and is scored on the later one, with the
fold's embargo between them, so that no label reaches across. On no fold is its own test range looked at; but where
folds follow each other, the validation range of one lies in the test range of another, so the winner must be judged on
sessions after the sweep's ``end``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl

from swiftbolt.errors import DataError, ModelError
from swiftbolt.evaluation.metrics import crps
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.sweep_results import FoldScore
from swiftbolt.evaluation.units import SerialExecutor, Unit
from swiftbolt.evaluation.walk_forward import forecast_from, realised_outcomes
from swiftbolt.folds import Fold, FoldConfig, SessionRange
from swiftbolt.forecast import HORIZONS, QUANTILE_COLUMNS, Forecasts
from swiftbolt.models.registry import build_model
from swiftbolt.panel import Panel
from swiftbolt.sessions import Sessions

KEYS = ["symbol", "origin", "horizon"]
LEAST_PART = 20  # sessions to stop on, and to score


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Course:
    """A fold as the sweep walks it, and what there is to be beaten.

    Attributes:
        fold: stops early on the earlier part of the validation range; its ``test`` is the later part.
        naive: symbol, origin, horizon, outcome and naive's ``crps`` of every row that is scored.
    """

    fold: Fold
    naive: pl.DataFrame


def choosing_fold(fold: Fold, sessions: Sessions, config: FoldConfig) -> Fold:
    """``fold`` with the later part of its validation range in the place of its test range.

    Raises:
        DataError: the validation range is too short to be cut.
    """
    days = sessions[fold.validation.mask(sessions)]
    part = (len(days) - config.embargo_sessions) // 2
    if part < LEAST_PART:
        needed = 2 * LEAST_PART + config.embargo_sessions
        raise DataError(
            f"a validation range of {len(days)} sessions cannot be cut into one to stop on and one to score: "
            f"set folds.validation_sessions to at least {needed}"
        )

    def day(position: int) -> date:
        found: date = days[position].astype(object)
        return found

    return replace(
        fold,
        validation=SessionRange(day(0), day(part - 1)),
        known_through=day(-part - 1),
        test=SessionRange(day(-part), day(-1)),
    )


def plan_courses(panel: Panel, folds: Sequence[Fold], recipe: Recipe, least_history: int) -> list[Course]:
    """Every fold as the sweep walks it, with naive's scores.

    Only outcomes that count by the last session before the fold's own test range are among them, and none from origins
    at which a symbol had fewer than ``least_history`` bars.

    Raises:
        DataError: nothing on a fold can be scored, or its validation range is too short.
    """
    realised = realised_outcomes(panel)
    since = forecast_from(panel, least_history)
    old_enough = pl.DataFrame(
        {
            "symbol": pl.Series(list(since), dtype=pl.String),
            "since": pl.Series(np.array(list(since.values()), dtype="datetime64[D]"), dtype=pl.Date),
        }
    )
    courses = []
    for fold in folds:
        own = choosing_fold(fold, panel.sessions, recipe.folds)
        known = realised.filter(pl.col("matured") <= fold.known_through).drop("matured")
        rows = (
            _forecast(panel, recipe, "naive", own)
            .join(known, on=KEYS, how="inner", maintain_order="left")
            .join(old_enough, on="symbol", how="inner", maintain_order="left")
            .filter(pl.col("origin") >= pl.col("since"))
        )
        if set(rows["horizon"]) != set(HORIZONS):
            raise DataError(f"fold {fold.index}: naive has nothing to be scored by; use a later fold or more symbols")
        naive = rows.select(*KEYS, "realized", crps=_crps(rows))
        courses.append(Course(fold=own, naive=naive))
    return courses


def score_fold(panel: Panel, recipe: Recipe, model: str, course: Course) -> FoldScore:
    """Fit ``model`` as ``recipe`` says, and score it; a row it does not forecast counts as naive's own.

    So every configuration is scored by the same rows, and none wins by keeping silent where it is hard.

    Raises:
        ModelError: it forecast nothing, or what is no number.
    """
    forecasts = _forecast(panel, recipe, model, course.fold)
    rows = course.naive.rename({"crps": "naive"}).join(forecasts, on=KEYS, how="left", maintain_order="left")
    told = rows["q_0.5"].is_not_null()
    if not told.any():
        raise ModelError(f"{model} forecast none of {len(rows)} rows of fold {course.fold.index}")
    scored = rows.filter(told).select(*KEYS, own=_crps(rows.filter(told)))
    both = rows.select(*KEYS, "naive").join(scored, on=KEYS, how="left", maintain_order="left")
    means = both.group_by("horizon").agg(pl.col("own").fill_null(pl.col("naive")).mean(), pl.col("naive").mean())
    own_H, naive_H = (means.sort("horizon")[name].to_numpy() for name in ("own", "naive"))
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = float(np.mean(own_H / naive_H))
    if not math.isfinite(loss):
        raise ModelError(f"{model} has a loss of {loss} on fold {course.fold.index}")
    return FoldScore(
        loss=loss,
        crps_H=tuple(own_H.tolist()),
        naive_H=tuple(naive_H.tolist()),
        share=int(told.sum()) / len(told),
    )


def _forecast(panel: Panel, recipe: Recipe, model: str, fold: Fold) -> pl.DataFrame:
    """Forecasts from the later part of the validation range, a row for each symbol, origin and horizon.

    Raises:
        ModelError: every unit of it failed.
    """
    pooled = build_model(model, recipe.config_of(model)).scope == "universe"
    scopes = (None,) if pooled else panel.symbols
    units = [Unit(model=model, fold=fold, symbol=symbol) for symbol in scopes]
    outcomes = SerialExecutor().run(panel, recipe, units, lambda outcome: None)
    found = [one.forecasts for one in outcomes if one.forecasts is not None]
    if not found:
        raise ModelError(f"{outcomes[0].unit.key}: {outcomes[0].failure}")
    forecasts = Forecasts.concatenate(found)
    return forecasts.take(fold.forecast_range.mask(forecasts.origin_N)).to_frame()


def _crps(rows: pl.DataFrame) -> pl.Series:
    return pl.Series(crps(rows.select(QUANTILE_COLUMNS).to_numpy(), rows["realized"].to_numpy()), dtype=pl.Float64)
