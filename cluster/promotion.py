"""Whether a retrain's release is to be served: its configuration against that of the release which is served now.

Both walk the same folds of the same data with the same code. What is served was made from older data; which of two
configurations is the better one only such a pair can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import ray
import ray.exceptions

from cluster.publication import adjustment_of, patiently
from cluster.run_records import Line, last_line
from swiftbolt.bars import empty_quarantine
from swiftbolt.ensemble.weights import ENSEMBLE
from swiftbolt.errors import ConfigError, DataError, ModelError, SwiftBoltError
from swiftbolt.evaluation.backdrop import Backdrop
from swiftbolt.evaluation.evaluate import Plan
from swiftbolt.evaluation.gate import NOT_ASKED, GateConfig, PromoteMode, Verdict, judge, sample_to_certify
from swiftbolt.evaluation.leakage import Certificate, certify
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.replay import NoProgress
from swiftbolt.evaluation.unit_keys import UNIVERSE, failures_by_symbol
from swiftbolt.evaluation.walk_forward import WalkForward
from swiftbolt.feature_cache import CohortHistory
from swiftbolt.providers.base import MarketData
from swiftbolt.store import Store
from swiftbolt.universe import Universe

FIRST_CHAMPION = "naive"


def decide(
    mode: PromoteMode,
    *,
    store: Store,
    recipe: Recipe,
    result: WalkForward,
    walk: Callable[[Recipe], WalkForward],
    history: CohortHistory,
    universe: Universe,
    config: GateConfig,
    write: Line,
) -> Verdict | None:
    """The verdict on what ``recipe`` made of ``history``; None where it is not to be promoted in any case.

    Args:
        result: the walk-forward of ``recipe``.
        walk: walks the same test folds by another recipe.

    Raises:
        StoreUnavailable: the store stayed away.
        EnvironmentFault: the champion could not be walked for want of a machine.
    """
    if mode == "never":
        return None
    if mode == "always":
        return NOT_ASKED
    against, champion = _champion(store, recipe, result, walk, write)
    if isinstance(champion, str):
        return Verdict(against=against, reasons=(champion,))
    symbols, certificate = _certificate(recipe, universe, history, config, write)
    challenger = result.forecasts.filter(pl.col("model") == ENSEMBLE)
    return judge(challenger, champion, certificate, config, against=against, certified=symbols)


def _champion(
    store: Store, recipe: Recipe, result: WalkForward, walk: Callable[[Recipe], WalkForward], write: Line
) -> tuple[str, pl.DataFrame | str]:
    """What the challenger is held against, and its forecasts, or why there are none."""
    active = patiently(store.active_release, write)
    if active is None:
        return FIRST_CHAMPION, result.forecasts.filter(pl.col("model") == FIRST_CHAMPION)
    against = f"release {active.version}"
    recorded = patiently(lambda: store.run_config(active.run), write)
    try:
        champion = Recipe.from_json(recorded.get("recipe", recorded), f"run {active.run}")
    except ConfigError as exc:
        return against, f"the recipe of {against} cannot be read by this code: {exc}"
    # Its folds are not its own: both forecast from the same origins, of which both have the same history.
    champion = replace(champion, folds=recipe.folds)
    if champion == recipe:
        return against, result.forecasts.filter(pl.col("model") == ENSEMBLE)
    write(f"gate: the recipe of {against} walks the same folds")
    try:
        walked = walk(champion)
    except ModelError as exc:
        return against, f"the recipe of {against} forecasts nothing now: {exc}"
    # Where it lost a model it is easily beaten: such a symbol does not count, and a pooled model is a loss for all.
    failed = failures_by_symbol(walked.failures)
    if UNIVERSE in failed:
        return against, f"the recipe of {against} lacks a model now: {failed[UNIVERSE]}"
    is_whole = ~pl.col("symbol").is_in(list(failed))
    return against, walked.forecasts.filter(pl.col("model") == ENSEMBLE, is_whole)


def _certificate(
    recipe: Recipe, universe: Universe, history: CohortHistory, config: GateConfig, write: Line
) -> tuple[tuple[str, ...], Certificate | str]:
    """The symbols of a leak certificate made on the cluster, and the certificate, or why there is none."""
    data = MarketData(
        bars=history.bars,
        actions=history.actions,
        quarantine=empty_quarantine(),
        adjustment=adjustment_of(history.actions),
    )
    seed = recipe.seed_of("certificate", history.bars.last_session.isoformat())  # other symbols every month
    try:
        plan, sample = sample_to_certify(recipe, universe, data, Backdrop(vix=history.vix), config, seed)
    except DataError as exc:
        return (), str(exc)
    symbols = plan.universe.symbols
    write(f"gate: leak certificate of {', '.join(symbols)}")
    task = ray.remote(num_cpus=1)(_certify)
    try:
        return symbols, ray.get(task.remote(plan, sample, config.inside_test, seed))
    except ray.exceptions.RayError as exc:  # its worker died, or a bug of ours: hours of training are not lost for it
        return symbols, f"no leak certificate could be made: {last_line(exc)}"


def _certify(plan: Plan, data: MarketData, inside_test: int, seed: int) -> Certificate | str:
    rng = np.random.default_rng(seed)
    try:
        return certify(plan, data, rng=rng, progress=NoProgress(), inside_test=inside_test)
    except SwiftBoltError as exc:
        return f"no leak certificate could be made: {exc}"
