"""``swiftbolt evaluate``: walk any panel forward and write forecasts.parquet, scorecard.json and report.html.

The three files hold no clock time and no path, so that two runs of the same command give the same bytes, unless
something else was tried on the same symbols and years in between: the scorecard counts what its ledger holds.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from swiftbolt.artifact import code_version
from swiftbolt.bars import Bars
from swiftbolt.config import load_config
from swiftbolt.errors import DataError, EnvironmentFault
from swiftbolt.evaluation.backdrop import NO_BACKDROP, Backdrop
from swiftbolt.evaluation.conditions import Conditions
from swiftbolt.evaluation.ledger import NO_LEDGER, Ledger, Look
from swiftbolt.evaluation.recipe import EvaluateConfig, Recipe, beside
from swiftbolt.evaluation.report import render_report
from swiftbolt.evaluation.scorecard import build_scorecard
from swiftbolt.evaluation.units import ProcessExecutor, SerialExecutor
from swiftbolt.evaluation.walk_forward import Progress, WalkForward, short_of_history, walk_forward
from swiftbolt.features.engine import build_panel
from swiftbolt.findings import Findings
from swiftbolt.folds import make_folds
from swiftbolt.models.network_trainers import InProcessTrainer, ProcessTrainer
from swiftbolt.panel import Panel
from swiftbolt.providers.base import Adjustment, MarketData
from swiftbolt.quality import inspect
from swiftbolt.universe import Universe, is_file


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """An evaluation with every file read and checked, before any data is.

    Attributes:
        workers: processes that fit models and train networks.
    """

    recipe: Recipe
    universe: Universe
    backdrop: Backdrop = NO_BACKDROP
    workers: int = 1

    @classmethod
    def read(cls, path: Path, overrides: tuple[str, ...] = ()) -> Plan:
        """Read ``path`` and the files it names.

        Raises:
            ConfigError: a file or key is wrong.
            DataError: a file that the universe names holds no daily series.
        """
        config = load_config(path, EvaluateConfig, overrides)
        universe_path = beside(path, config.universe)
        universe = load_config(universe_path, Universe)
        return cls(
            recipe=Recipe.read(config, path),
            universe=universe,
            backdrop=Backdrop.read(universe.market, universe.vix, universe_path.parent),
            workers=config.workers,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What an evaluation leaves behind.

    Attributes:
        recorded: configurations new to the ledger.
        unrecorded: why this look is not in the ledger, if it is not.
    """

    directory: Path
    scorecard: dict[str, Any]
    forecasts: int
    findings: Findings
    skipped: Mapping[str, str]
    failures: Mapping[str, str]
    recorded: int
    unrecorded: str | None


def evaluate(
    plan: Plan,
    data: MarketData,
    out: Path,
    *,
    start: date | None,
    progress: Progress,
    ledger: Ledger | None = None,
    without_ledger: str = NO_LEDGER,
) -> Evaluation:
    """Walk ``data`` forward and write the results into ``out``, which is created or replaced as a whole.

    Args:
        start: first origin to forecast; earlier sessions are history to learn from.
        ledger: counts this look among all others, and keeps it once the results are written; one that fails costs
            the count, never the results.
        without_ledger: why there is none.

    Raises:
        DataError: no symbol has enough history, or ``out`` holds something else.
        EnvironmentFault: ``out`` cannot be written.
    """
    _require_usable(out)
    bars, backdrop = plan.backdrop.set_apart(data.bars, plan.universe.vix)
    least_history = plan.recipe.needed_sessions(plan.universe)
    short = short_of_history(bars, least_history)
    skipped = {**{symbol: f"{symbol}: no usable row" for symbol in data.missing}, **short}
    if len(short) == len(bars.symbols):
        raise DataError("no symbol can be evaluated: " + "; ".join(skipped.values()))
    actions = data.actions.select(symbols=bars.symbols)
    findings = inspect(bars, actions)
    market = backdrop.market or market_of(plan.universe, bars, short)
    panel = build_panel(bars, actions, findings, market=market, vix=backdrop.vix)
    folds = make_folds(panel.sessions, plan.recipe.folds, start=start, burn_in=True)
    workers = plan.workers
    result = walk_forward(
        panel,
        folds,
        plan.recipe,
        least_history=least_history,
        executor=SerialExecutor() if workers == 1 else ProcessExecutor(workers),
        trainer=InProcessTrainer() if workers == 1 else ProcessTrainer(workers),
        progress=progress,
    )
    look = Look(
        ledger,
        plan.recipe,
        panel,
        folds,
        least_history=least_history,
        source="evaluate",
        without=without_ledger,
    )
    scorecard = scorecard_of(result, plan.recipe, panel, bars, data.adjustment, findings, skipped, look)
    _write(out, result, scorecard)
    recorded = look.record()
    return Evaluation(
        directory=out,
        scorecard=scorecard,
        forecasts=len(result.forecasts),
        findings=findings,
        skipped=skipped,
        failures=result.failures,
        recorded=recorded,
        unrecorded=look.unrecorded,
    )


def market_of(universe: Universe, bars: Bars, short: Collection[str] = ()) -> str | None:
    """The symbol that stands for the market, or None for an index or the mean of all.

    Args:
        short: symbols with too little history.

    Raises:
        DataError: it has too little history.
    """
    if universe.market is None or is_file(universe.market):
        return None
    if universe.market not in bars.symbols or universe.market in short:
        raise DataError(f"market {universe.market} has too little history; choose another, or leave `market` out")
    return universe.market


def scorecard_of(
    result: WalkForward,
    recipe: Recipe,
    panel: Panel,
    bars: Bars,
    adjustment: Adjustment,
    findings: Findings,
    skipped: Mapping[str, str],
    look: Look | None = None,
) -> dict[str, Any]:
    """The scorecard of a walk-forward over ``panel``, which was made from ``bars``, and what its numbers rest on."""
    context = {
        "adjustment": str(adjustment),
        "code_version": code_version(),
        "data_hash": panel.data_hash,
        "spec_hash": panel.spec_hash,
        "recipe": recipe.to_json(),
        "symbols": list(panel.symbols),
        "findings": findings.counts(),
        "skipped": dict(sorted(skipped.items())),
        "failures": dict(sorted(result.failures.items())),
        "notes": list(result.notes),
        "weights": {str(fold): dict(state.weights) for fold, state in sorted(result.ensembles.items())},
    }
    return build_scorecard(
        pl.concat([result.forecasts, result.drift]),
        context,
        conditions=Conditions.of(panel, bars),
        importance=result.importance,
        threshold=recipe.ensemble.confidence_threshold,
        seed=recipe.seed,
        look=look,
    )


def _require_usable(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not (out.is_dir() and _is_ours(out))):
        raise DataError(f"{out} exists and is not the result of an evaluation: choose another --out")
    parent = out.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise EnvironmentFault(f"{parent} cannot be made ({exc.strerror}): choose another --out") from exc
    if not os.access(parent, os.W_OK):
        raise EnvironmentFault(f"{parent} cannot be written: choose another --out")


def _is_ours(directory: Path) -> bool:
    names = {path.name for path in directory.iterdir()}
    return not names or names <= {"forecasts.parquet", "scorecard.json", "report.html"}


def _write(out: Path, result: WalkForward, scorecard: dict[str, Any]) -> None:
    """Write beside ``out`` and move into place, so that a killed run leaves nothing half written."""
    out = out.absolute()
    staging = out.parent / f".{out.name}.{os.getpid()}"
    try:
        staging.mkdir()
        result.forecasts.write_parquet(staging / "forecasts.parquet")
        text = json.dumps(scorecard, sort_keys=True, indent=1, allow_nan=False) + "\n"
        (staging / "scorecard.json").write_text(text, encoding="utf-8")
        (staging / "report.html").write_text(render_report(scorecard), encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        os.replace(staging, out)
    except OSError as exc:
        raise EnvironmentFault(f"{out} cannot be written ({exc.strerror or exc}): choose another --out") from exc
    finally:
        shutil.rmtree(staging, ignore_errors=True)
