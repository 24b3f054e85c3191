"""From a finished walk-forward to a release: its directory written whole, then its rows in one transaction."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from cluster.run_records import Line
from swiftbolt.actions import CorporateActions
from swiftbolt.artifact import Manifest, write_artifact
from swiftbolt.ensemble.weights import ENSEMBLE
from swiftbolt.errors import ModelError, StoreUnavailable
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.scorecard import ordered_scores
from swiftbolt.evaluation.unit_keys import model_of
from swiftbolt.evaluation.walk_forward import WalkForward
from swiftbolt.feature_cache import CohortHistory
from swiftbolt.folds import Fold
from swiftbolt.panel import Panel
from swiftbolt.providers.base import Adjustment
from swiftbolt.release import Release, explain_members, write_release
from swiftbolt.store import ArtifactRow, ReleaseRow, Store

Result = TypeVar("Result")

STORE_PATIENCE_S = 300.0
_ASK_AGAIN_S = 2.0


def patiently(work: Callable[[], Result], write: Line, patience_s: float = STORE_PATIENCE_S) -> Result:
    """``work``, which asks the store, tried again while the store is away: hours of training wait for its restart.

    Raises:
        StoreUnavailable: it stayed away.
    """
    began, told = time.monotonic(), False
    while True:
        try:
            return work()
        except StoreUnavailable as exc:
            if time.monotonic() - began > patience_s:
                raise
            if not told:
                write(f"waiting for the store, up to {patience_s:.0f} s: {exc}")
                told = True
            time.sleep(_ASK_AGAIN_S)


def require_live(recipe: Recipe, result: WalkForward, skipped: Mapping[str, str]) -> None:
    """Refuse what would be no release.

    Raises:
        ModelError: a member failed on the live fold, or no symbol has a forecast.
    """
    absent = sorted(set(recipe.members) - set(result.live))
    if absent:
        reasons = {key: reason for key, reason in result.failures.items() if model_of(key) in absent}
        raise ModelError(f"no release: {', '.join(absent)} failed on the live fold: {reasons}")
    if ENSEMBLE not in result.live_forecasts["model"]:
        raise ModelError("no release: no symbol could be forecast: " + "; ".join(skipped.values()))


def not_forecast(panel: Panel, forecasts: pl.DataFrame, write: Line) -> dict[str, str]:
    """Symbols that were trained on but have no forecast by the ensemble, each with its reason."""
    answered = set(forecasts.filter(pl.col("model") == ENSEMBLE)["symbol"])
    reasons = {}
    for symbol in panel.symbols:
        if symbol not in answered:
            newest = panel.date_R[panel.rows(symbol)][-1]
            reasons[symbol] = (
                f"{symbol}: no model could forecast it"
                if newest == np.datetime64(panel.last_session)
                else f"{symbol}: its bars end on {newest}, those of the universe on {panel.last_session}"
            )
            write(f"not forecast: {reasons[symbol]}")
    return reasons


def publish(
    store: Store,
    artifacts: Path,
    run: str,
    history: CohortHistory,
    panel: Panel,
    fold: Fold,
    recipe: Recipe,
    result: WalkForward,
    scorecard: Mapping[str, Any],
    skipped: Mapping[str, str],
    reproducible: bool,
    write: Line,
) -> tuple[Release, int]:
    """Write the release directory and its rows, which make it visible all at once; returns its version, too.

    A run that died in here goes on in here: a directory that nobody released is written again, and a release that is in
    the store already stays the one there is.
    """
    directory = artifacts / run
    held = patiently(lambda: _release_of(store, run), write)
    if held is not None:
        return Release.read(Path(held.directory)), held.version
    staging = artifacts / f".{run}"
    for left in (staging, directory):
        shutil.rmtree(left, ignore_errors=True)
    try:
        manifests = _write_artifacts(staging, panel, fold, recipe, result, scorecard)
        release = write_release(
            directory,
            run=run,
            manifests=manifests,
            staging=staging,
            cohort=history.cohort,
            ensemble=result.ensembles[fold.index],
            forecasts=result.live_forecasts,
            explanations=explain_members(staging, manifests, panel.select(result.live_forecasts["symbol"])),
            scorecard=scorecard,
            skipped=skipped,
            reproducible=reproducible,
        )
    except BaseException:  # also an interrupt: nothing half written stays
        shutil.rmtree(staging, ignore_errors=True)
        raise
    patiently(lambda: history.keep_features(store), write)

    def insert() -> int:
        there = _release_of(store, run)  # where the answer to a commit was lost on its way
        return (
            there.version
            if there is not None
            else store.publish_release(
                run=run,
                digest=release.release_digest,
                origin=release.origin,
                directory=str(directory),
                reproducible=release.reproducible,
                forecasts=result.live_forecasts,
                results=_result_rows(scorecard),
                artifacts=[
                    ArtifactRow(model=name, manifest=json.loads(manifest.to_json()), directory=str(directory / name))
                    for name, manifest in manifests.items()
                ],
            )
        )

    return release, patiently(insert, write)


def _release_of(store: Store, run: str) -> ReleaseRow | None:
    return next((row for row in store.releases() if row.run == run), None)


def adjustment_of(actions: CorporateActions) -> Adjustment:
    """How the prices in the store stand to splits and dividends."""
    kinds = set(actions.frame["kind"])
    if "factor" in kinds:
        return Adjustment.RAW_WITH_FACTORS
    return Adjustment.RAW_WITH_ACTIONS if kinds else Adjustment.AS_GIVEN


def _write_artifacts(
    staging: Path, panel: Panel, fold: Fold, recipe: Recipe, result: WalkForward, scorecard: Mapping[str, Any]
) -> dict[str, Manifest]:
    scores = scorecard.get("models", {})
    return {
        name: write_artifact(
            staging / name,
            name,
            recipe.models[name].model_dump(mode="json"),
            live.files,
            panel=panel,
            fold=fold,
            seed=recipe.seed_of(name, fold.index),
            scores=scores.get(name, {}),
            notes=live.notes,
        )
        for name, live in result.live.items()
    }


def _result_rows(scorecard: Mapping[str, Any]) -> pl.DataFrame:
    """The scorecard as rows of ``model_results``."""
    period = {
        "test_period_start": scorecard["origins"]["first"],
        "test_period_end": scorecard["origins"]["last"],
    }
    rows = [
        {"model": name, "horizon": horizon, "metrics": json.dumps({**scores, **period}, sort_keys=True)}
        for name, horizon, scores in ordered_scores(scorecard)
    ]
    return pl.DataFrame(rows, schema={"model": pl.String, "horizon": pl.Int32, "metrics": pl.String})
