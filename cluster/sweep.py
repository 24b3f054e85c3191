"""Search a model's settings: ``python -m cluster.sweep --config configs/sweeps/lstm.yaml``.

Optuna suggests, ASHA ends what falls behind: a trial is one configuration over all folds, and tells its loss after
each. What a trial has shown lies in the sweep's folder as it goes, so that a sweep which was stopped or killed goes on
with ``--resume RUN``: finished trials are told to a new search, and those in flight are begun again.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from cluster.command import parser_of, run_program
from cluster.history import load_history, refuse_files
from cluster.lease import Lease
from cluster.resources import require_cpus
from cluster.run_records import Line, progress_recorder, reason_of, record_failure
from cluster.sweep_objective import Course, plan_courses
from swiftbolt.config import Strict, load_config
from swiftbolt.ensemble.weights import EnsembleConfig
from swiftbolt.errors import ConfigError, DataError, EnvironmentFault, LeaseLost, ModelError, StoreError
from swiftbolt.evaluation.recipe import ModelEntry, Recipe, beside
from swiftbolt.evaluation.search_space import Space, require_possible, settings_of, within
from swiftbolt.evaluation.sweep_report import render_sweep
from swiftbolt.evaluation.sweep_results import (
    OBJECTIVE,
    SweepFolder,
    SweepPlan,
    SweepTrial,
    counted,
    ledger_trials,
    table_lines,
    trial_frame,
    write_whole,
)
from swiftbolt.folds import FoldConfig, make_folds
from swiftbolt.local import use_token_authentication
from swiftbolt.models.registry import read_model_config
from swiftbolt.panel import Panel
from swiftbolt.settings import Settings
from swiftbolt.store import Store, resolve_url
from swiftbolt.universe import Universe


class SweepResources(Strict):
    """Shares of the cluster; as many trials run at once as it has room for."""

    cpus_per_trial: float = Field(1.0, gt=0, description="CPUs of a trial; no model may ask for more threads.")
    gpus_per_trial: float = Field(0.0, ge=0, description="GPUs of a trial; 0.25 lets four share one.")
    trial_retries: int = Field(1, ge=0, description="How often a trial whose worker died is started again.")


class SweepConfig(Strict):
    """``configs/sweeps/*.yaml``."""

    universe: Path = Field(description="Universe file, relative to this file.")
    symbols: int | None = Field(None, ge=1, description="Symbols to search on, drawn by the seed; null takes all.")
    end: date = Field(description="Last session that may be looked at; later ones are kept to judge the winner by.")
    folds: FoldConfig = FoldConfig()
    model: Literal["arima", "xgboost", "lstm", "transformer"] = Field(description="Model whose settings are searched.")
    base: ModelEntry = Field(description="The settings that the space varies.")
    space: Space = Field(min_length=1, description="What each key may be.")
    trials: int = Field(ge=2, description="Configurations to try.")
    grace_folds: int = Field(1, ge=1, description="Folds that every trial may finish.")
    reduction_factor: float = Field(3.0, gt=1, description="One of so many goes on from a stage to the next.")
    seed: int = Field(ge=0, lt=2**31, description="Source of all randomness.")
    resources: SweepResources = Field(default_factory=SweepResources, description="Shares of the cluster.")

    @model_validator(mode="after")
    def _grace_ends(self) -> SweepConfig:
        if self.grace_folds > self.folds.count:
            raise ValueError(f"grace_folds {self.grace_folds} is more than the {self.folds.count} folds there are")
        return self


def sweep(
    config_path: Path, overrides: Sequence[str], settings: Settings, write: Line, resume: str | None = None
) -> SweepFolder:
    """Search until as many trials have ended as the configuration says, and leave the results in a folder.

    Args:
        resume: a run that goes on; its configuration and data must be what they were, but for ``trials``. The base
            settings are those it began with.

    Raises:
        SwiftBoltError: the sweep failed; the trials that ended are kept.
    """
    use_token_authentication(settings)
    from cluster.session import ray_session

    # That it is there is worth knowing before all bars are read.
    begun = None if resume is None else SweepFolder(settings.home, resume).plan()
    config = load_config(config_path, SweepConfig, overrides)
    universe = sampled(load_config(beside(config_path, config.universe), Universe), config, config_path)
    refuse_files(universe, beside(config_path, config.universe))
    base = _base(config, config_path, begun, write)
    require_possible(config.space, base, config.model, str(config_path))
    _require_cpus(config, base, config_path)
    recipe = Recipe(folds=config.folds, models={config.model: base}, ensemble=EnsembleConfig(), seed=config.seed)
    url = resolve_url(settings)
    with Store.connect(url) as store:
        store.migrate()
        history, _ = load_history(store, universe, recipe, write)
        panel = history.panel()
        least = recipe.needed_sessions(universe)
        courses = plan_courses(panel, make_folds(panel.sessions, config.folds), recipe, least)
        plan = _plan(resume or "", config, base, panel, courses, least)
        if resume is None:
            plan = _begin(plan, config, settings, store, write)
        run = plan.run
        folder = SweepFolder(settings.home, run)
        with folder.held(), Lease(url, f"sweep:{run}", what=f"sweep {run}", write=write) as lease:
            lease.name_run(run)
            before = _take_up(folder, plan, store) if resume else 0.0
            started = time.monotonic()
            write(
                f"run {run}: {config.model}, {plan.trials} trials on {len(panel.symbols)} symbols and"
                f" {len(courses)} folds, {panel.sessions[0]} to {panel.last_session}"
            )
            try:
                with ray_session(settings, url):
                    _search(folder, plan, config, recipe, panel, courses, settings, store, lease, write)
                _finish(folder, store, write)
            except LeaseLost:
                raise  # the run is another driver's now, and so is its record
            except BaseException as exc:
                # Also when stopped: what was tried is a look, and the run must not stay "running".
                why = f"{reason_of(exc)}; continue it with --resume {run}"
                record_failure(store, run, before + time.monotonic() - started, {"run": why}, write)
                _keep(store, plan, folder.trials(), write)
                raise
            failed = {str(one.number): str(one.reason) for one in folder.trials() if one.state == "failed"}
            store.finish_run(run, "succeeded", before + time.monotonic() - started, failed)
    write(f"run {run}: results in {folder.path}")
    return folder


def _base(config: SweepConfig, file: Path, begun: SweepPlan | None, write: Line) -> Strict:
    """The settings that the space varies; those a sweep began with, whatever became of their file since.

    It may well hold the winner by now.
    """
    path = beside(file, config.base.config)
    changes = tuple(f"{key}={json.dumps(value)}" for key, value in config.base.set.items())
    base = read_model_config(config.model, path, changes)
    if begun is None or begun.model != config.model or begun.base == base.model_dump(mode="json"):
        return base
    write(f"{path} has changed since sweep {begun.run} began: it goes on with the settings it began with")
    return settings_of(base, begun.base, begun.run)


def _begin(plan: SweepPlan, config: SweepConfig, settings: Settings, store: Store, write: Line) -> SweepPlan:
    """Start the run of ``plan``, under its name.

    Raises:
        EnvironmentFault: its folder cannot be written.
    """
    run = store.start_run("sweep", config.model_dump(mode="json"), now=datetime.now(UTC))
    named, folder = replace(plan, run=run), SweepFolder(settings.home, run)
    try:
        with folder.held():  # which makes its lock too: nothing of the folder is missing once the run is under way
            folder.write_plan(named)
    except EnvironmentFault as exc:
        record_failure(store, run, 0.0, {"run": str(exc)}, write)
        raise
    return named


def sampled(universe: Universe, config: SweepConfig, file: Path) -> Universe:
    """The symbols that are searched on, up to the last session that may be looked at; a market symbol stays.

    Raises:
        ConfigError: ``end`` in ``file`` lies before the universe starts.
    """
    if universe.start is not None and config.end < universe.start:
        raise ConfigError(str(file), "end", f"{config.end} lies before the universe starts, {universe.start}")
    end = min(universe.end or config.end, config.end)
    symbols = universe.symbols
    if config.symbols is not None and config.symbols < len(symbols):
        others = sorted(symbol for symbol in symbols if symbol != universe.market)
        kept = [universe.market] if universe.market in symbols else []
        drawn = np.random.default_rng(config.seed).permutation(len(others))[: config.symbols - len(kept)]
        symbols = tuple(sorted([*(str(name) for name in kept), *(others[place] for place in drawn)]))
    return Universe.model_validate({**universe.model_dump(), "symbols": symbols, "end": end})


def _require_cpus(config: SweepConfig, base: Strict, file: Path) -> None:
    searched = config.space["threads"].examples() if "threads" in config.space else ()
    threads = max(getattr(base, "threads", 1), *searched, 1)
    cpus = config.resources.cpus_per_trial
    require_cpus(cpus, threads, key="resources.cpus_per_trial", model=config.model, file=file)


def _plan(
    run: str, config: SweepConfig, base: Strict, panel: Panel, courses: Sequence[Course], least_history: int
) -> SweepPlan:
    return SweepPlan(
        run=run,
        model=config.model,
        base=base.model_dump(mode="json"),
        space=config.space,
        symbols=panel.symbols,
        folds=tuple(course.fold.to_json() for course in courses),
        least_history=least_history,
        seed=config.seed,
        trials=config.trials,
        grace_folds=config.grace_folds,
        reduction_factor=config.reduction_factor,
        data_end=panel.last_session,
        data_hash=panel.data_hash,
        spec_hash=panel.spec_hash,
    )


def _take_up(folder: SweepFolder, plan: SweepPlan, store: Store) -> float:
    """Go on with a sweep that has the plan it had; returns the seconds it has taken so far, as far as is known.

    Raises:
        DataError: it was another one.
        NotFound: the store knows no such run.
    """
    changed = plan.differences(folder.plan())
    if changed:
        raise DataError(f"sweep {folder.run} was of other {', '.join(changed)}: start a new one without --resume")
    before = next((row.seconds for row in store.runs() if row.run == folder.run), None)
    folder.write_plan(plan)
    store.resume_run(folder.run)
    return before or 0.0


def _search(
    folder: SweepFolder,
    plan: SweepPlan,
    config: SweepConfig,
    recipe: Recipe,
    panel: Panel,
    courses: Sequence[Course],
    settings: Settings,
    store: Store,
    lease: Lease,
    write: Line,
) -> None:
    """Let Tune run the trials that are still wanted."""
    from cluster.sweep_search import Search

    begun = folder.trials()
    ended = [one for one in begun if one.state != "running"]
    in_flight = [one for one in begun if one.state == "running"]
    for one in in_flight:
        folder.drop_trial(one)
    base = within(plan.space, recipe.models[plan.model])
    # What was in flight when the sweep ended is begun again, and the settings to be beaten come before any suggestion.
    first = [*(one.parameters for one in in_flight), *([base] if base is not None else [])]
    known = [one.parameters for one in ended]
    first = [point for n, point in enumerate(first) if point not in known and point not in first[:n]]
    if len(ended) >= plan.trials:
        return
    record = progress_recorder(store, folder.run, write)

    def tell(trials: Sequence[SweepTrial]) -> None:
        failed = sum(one.state == "failed" for one in trials)
        record(len(trials) - failed, failed, plan.trials)

    def on_ended(trials: Sequence[SweepTrial]) -> None:
        one = trials[-1]
        told = f"{one.loss:.5f}" if one.state != "failed" else f"{one.reason}"
        came = f"{len(one.folds)} of {len(plan.folds)} folds"
        _keep(store, plan, [one], write)
        write(f"{len(trials)}/{plan.trials} trials: {one.number} {one.state} after {came}: {told}")
        tell(trials)

    tell(ended)
    storage = settings.home / "ray"
    try:
        Search(folder=folder, plan=plan, recipe=recipe, storage=storage, on_ended=on_ended, alive=lease.require).run(
            panel,
            courses,
            ended=ended,
            first=first,
            cpus=config.resources.cpus_per_trial,
            gpus=config.resources.gpus_per_trial,
            retries=config.resources.trial_retries,
        )
    finally:
        shutil.rmtree(storage / f"{folder.run}-trials", ignore_errors=True)


def _keep(store: Store, plan: SweepPlan, trials: Sequence[SweepTrial], write: Line) -> None:
    """Put what was looked at into the ledger.

    A store that is away does not end the sweep: it is asked again when that is done.
    """
    try:
        store.record_trials(row for one in trials for row in ledger_trials(plan, one))
    except StoreError as exc:
        write(f"not in the ledger of trials yet, the sweep goes on: {exc}")


def _finish(folder: SweepFolder, store: Store, write: Line) -> None:
    """Leave the results, and every trial in the ledger.

    Raises:
        ModelError: no trial shows anything.
    """
    plan, trials = folder.plan(), folder.trials()
    store.record_trials(row for one in trials for row in ledger_trials(plan, one))
    frame, page = trial_frame(trials, plan), render_sweep(plan, trials)
    with folder.writing():
        frame.write_parquet(folder.path / ".sweep.parquet")
        (folder.path / ".sweep.parquet").replace(folder.path / "sweep.parquet")
        write_whole(folder.path / "sweep.html", page)
    write(f"{OBJECTIVE}; lower is better:")
    for line in table_lines(trials, plan.space):
        write(line)
    if not any(one.is_scored for one in trials):
        raise ModelError(f"every trial failed, the first because: {trials[0].reason}")
    write(f"{counted(trials)}; write the best with: swiftbolt sweep best {folder.run} --write FILE")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and do what it says."""
    parser = parser_of("python -m cluster.sweep", __doc__.splitlines()[0], "configs/sweeps/")
    parser.add_argument("--resume", metavar="RUN", help="Go on with a sweep that ended before it was done.")
    parsed = parser.parse_args(arguments)
    return run_program(
        lambda write: sweep(parsed.config, parsed.set, Settings(), write, parsed.resume),
        "interrupted; go on with --resume",
    )


if __name__ == "__main__":
    sys.exit(main())
