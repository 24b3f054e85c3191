"""Retrain a universe and leave a release: ``python -m cluster.retrain --config configs/retrain/demo.yaml``.

Bars from the store become a panel; Tune fans the per-symbol walk-forward out, Train runs the networks;
the live fold's artifacts and forecasts become a release with its digest. Promotion is a verb of its own.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from cluster.command import parser_of, run_program
from cluster.history import load_history, refuse_files
from cluster.progress import LineProgress
from cluster.resources import Resources, require_cpus
from cluster.run_records import Line, progress_recorder, reason_of, record_failure
from swiftbolt.actions import CorporateActions
from swiftbolt.artifact import Manifest, write_artifact
from swiftbolt.config import load_config
from swiftbolt.ensemble.weights import ENSEMBLE
from swiftbolt.errors import ModelError
from swiftbolt.evaluation.evaluate import scorecard_of
from swiftbolt.evaluation.ledger import Look
from swiftbolt.evaluation.recipe import Recipe, RecipeConfig, beside, require_members
from swiftbolt.evaluation.scorecard import ordered_scores, summary_lines
from swiftbolt.evaluation.walk_forward import WalkForward, walk_forward
from swiftbolt.feature_cache import CohortHistory
from swiftbolt.folds import Fold, make_folds
from swiftbolt.local import use_token_authentication
from swiftbolt.models.trained import NetworkConfig
from swiftbolt.panel import Panel
from swiftbolt.providers.base import Adjustment
from swiftbolt.release import Release, explain_members, write_release
from swiftbolt.settings import Settings
from swiftbolt.store import ArtifactRow, Store, resolve_url
from swiftbolt.universe import Universe


class RetrainConfig(RecipeConfig):
    """``configs/retrain/*.yaml``."""

    resources: Resources = Field(default_factory=Resources, description="Shares of the cluster.")


def retrain(config_path: Path, overrides: Sequence[str], settings: Settings, write: Line) -> Release:
    """Do one retrain, from bars in the store to a release in the store.

    Raises:
        SwiftBoltError: the run failed; nothing was published, and the run is recorded as failed.
    """
    use_token_authentication(settings)
    from cluster.fan_out import TuneExecutor
    from cluster.networks import RayNetworkTrainer
    from cluster.session import ray_session

    config = load_config(config_path, RetrainConfig, overrides)
    recipe = Recipe.read(config, config_path)
    require_members(recipe, config_path)
    _require_cpus(config.resources, recipe, config_path)
    universe_path = beside(config_path, config.universe)
    universe = load_config(universe_path, Universe)
    refuse_files(universe, universe_path)
    url = resolve_url(settings)
    with Store.connect(url) as store:
        store.migrate()
        history, skipped = load_history(store, universe, recipe, write)
        panel = history.panel()
        folds = make_folds(panel.sessions, recipe.folds, live=True)
        started = time.monotonic()
        with ray_session(settings, url):
            run = store.start_run("retrain", recipe.to_json(), now=datetime.now(UTC))
            write(
                f"run {run}: {len(panel.symbols)} symbols, {len(folds) - 1} test folds and the live one,"
                f" {panel.sessions[0]} to {panel.last_session}"
            )
            storage = settings.home / "ray"
            try:
                least_history = recipe.needed_sessions(universe)
                result = walk_forward(
                    panel,
                    folds,
                    recipe,
                    least_history=least_history,
                    executor=TuneExecutor(config.resources, storage, run),
                    trainer=RayNetworkTrainer(
                        num_workers=config.resources.train_workers,
                        cpus_per_worker=config.resources.cpus_per_train_worker,
                        use_gpu=config.resources.use_gpu,
                        storage_path=storage,
                        run_name=f"{run}-networks",
                    ),
                    progress=LineProgress(write=write, on_change=progress_recorder(store, run, write)),
                )
                old_enough = panel.select(symbol for symbol in panel.symbols if symbol not in skipped)
                skipped.update(_not_forecast(old_enough, result.live_forecasts, write))
                look = Look(store, recipe, panel, folds, least_history=least_history, source="retrain")
                release = _publish(
                    store, settings, run, history, panel, folds[-1], recipe, result, skipped, look, write
                )
            except BaseException as exc:
                # Also when stopped, and before Ray is left: that takes seconds, and a stopped job has three of them.
                record_failure(store, run, time.monotonic() - started, {**skipped, "run": reason_of(exc)}, write)
                raise
            finally:
                for name in ("models", "networks"):
                    shutil.rmtree(storage / f"{run}-{name}", ignore_errors=True)
            store.finish_run(run, "succeeded", time.monotonic() - started, {**skipped, **result.failures})
    write(f"run {run}: done in {time.monotonic() - started:.0f} s, release_digest {release.release_digest}")
    return release


def _require_cpus(resources: Resources, recipe: Recipe, file: Path) -> None:
    for name in recipe.networks:
        network = recipe.models[name]
        assert isinstance(network, NetworkConfig)
        require_cpus(
            resources.cpus_per_train_worker,
            network.threads,
            key="resources.cpus_per_train_worker",
            model=name,
            file=file,
        )


def _not_forecast(panel: Panel, forecasts: pl.DataFrame, write: Line) -> dict[str, str]:
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


def _publish(
    store: Store,
    settings: Settings,
    run: str,
    history: CohortHistory,
    panel: Panel,
    fold: Fold,
    recipe: Recipe,
    result: WalkForward,
    skipped: Mapping[str, str],
    look: Look,
    write: Line,
) -> Release:
    """Write the release directory and its rows; the rows make it visible, all at once."""
    absent = sorted(set(recipe.members) - set(result.live))
    if absent:
        raise ModelError(f"no release: {', '.join(absent)} failed on the live fold: {result.failures}")
    if ENSEMBLE not in result.live_forecasts["model"]:
        raise ModelError("no release: no symbol could be forecast: " + "; ".join(skipped.values()))
    scorecard = scorecard_of(
        result, recipe, panel, history.bars, _adjustment(history.actions), history.findings, skipped, look
    )
    directory = settings.artifacts / run
    staging = settings.artifacts / f".{run}"
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
        )
    except BaseException:  # also an interrupt: nothing half written stays
        shutil.rmtree(staging, ignore_errors=True)
        raise
    history.keep_features(store)
    version = store.publish_release(
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
    look.record()
    if look.unrecorded:
        write(f"this look was not recorded: {look.unrecorded}")
    for line in summary_lines(scorecard):
        write(line)
    write(f"release {version}: {len(release.symbols)} symbols from {release.origin}, not promoted yet")
    return release


def _write_artifacts(
    staging: Path, panel: Panel, fold: Fold, recipe: Recipe, result: WalkForward, scorecard: Mapping[str, object]
) -> dict[str, Manifest]:
    scores = scorecard.get("models", {})
    assert isinstance(scores, dict)
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


def _adjustment(actions: CorporateActions) -> Adjustment:
    """How the prices in the store stand to splits and dividends."""
    kinds = set(actions.frame["kind"])
    if "factor" in kinds:
        return Adjustment.RAW_WITH_FACTORS
    return Adjustment.RAW_WITH_ACTIONS if kinds else Adjustment.AS_GIVEN


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and do what it says."""
    parser = parser_of("python -m cluster.retrain", __doc__.splitlines()[0], "configs/retrain/")
    parsed = parser.parse_args(arguments)
    return run_program(lambda write: retrain(parsed.config, parsed.set, Settings(), write))


if __name__ == "__main__":
    sys.exit(main())
