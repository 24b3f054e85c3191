"""The costs that ``benchmarks.capacity`` reckons with, measured on this machine; a few minutes on two idle cores.

Fits are those of ``configs/retrain/universe.yaml`` over twelve years. What the driver does alone is
measured with fits of the same shape that cost next to nothing, for two numbers of symbols: their difference is that of
so many symbols, the rest is paid once. Starting an actor, or a run of Train, is one that has hardly anything to do.
Without the shared prices synthetic ones are used.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import ray
import yaml
from benchmarks.capacity_costs import Costs, DriverCosts, FanOutCosts, TrainCosts
from benchmarks.features import load
from benchmarks.retrain import local_ray, tune_executor
from ray import tune
from support.database import temporary_server
from support.markets import make_bars

from cluster.fan_out import make_shards, set_up_tune
from cluster.history import load_history
from cluster.kept_outcomes import KeptOutcomes, keep_outcomes
from cluster.networks import RayNetworkTrainer
from cluster.publication import adjustment_of, publish
from cluster.storage import RunStorage
from cluster.trees import RayTreesTrainer
from cluster.unit_ledger import UnitLedger
from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.ensemble.weights import EnsembleConfig
from swiftbolt.evaluation.evaluate import scorecard_of
from swiftbolt.evaluation.ledger import Look
from swiftbolt.evaluation.outcomes import unit_ids
from swiftbolt.evaluation.recipe import Recipe, RecipeConfig
from swiftbolt.evaluation.replay import NoProgress
from swiftbolt.evaluation.units import OnOutcome, Outcome, SerialExecutor, Unit, plan_units, run_unit
from swiftbolt.evaluation.walk_forward import walk_forward
from swiftbolt.features import build_panel
from swiftbolt.folds import Fold, FoldConfig, make_folds
from swiftbolt.models.network_trainers import Fit, InProcessTrainer, NetworkForecasts, OnTrained, Trained
from swiftbolt.models.trained import NetworkName, TrainedNetwork, TrainingJob
from swiftbolt.models.training import train_network
from swiftbolt.panel import Panel
from swiftbolt.processes import Cost, Meter
from swiftbolt.store import Store
from swiftbolt.universe import Universe

CONFIG = Path("configs/retrain/universe.yaml")
START, END = date(2003, 1, 2), date(2014, 12, 31)
FITTED = 8
FEW, MANY, SYMBOLS_PER_TRIAL = 8, 24, 8
TRIALS, TICKS, ACTORS = 100, 1000, 8
# The same forecasts from fits that cost next to nothing.
CHEAP: dict[str, dict[str, Any]] = {
    "arima": {"orders": [[0, 1, 0]], "refit_every": 252, "max_history": 504},
    "xgboost": {"rounds": 2, "early_stopping_rounds": 1},
    "lstm": {"epochs": 1, "stride": 512},
    "transformer": {"epochs": 1, "stride": 512},
}
# Not measured, with one machine: five gigabits a second, which cloud machines of sixteen CPUs sustain.
NETWORK_MB_S = 600.0


def measure() -> Costs:
    """All costs, a line for each as soon as it is known."""
    recipe = the_recipe()
    bars, actions = the_bars(MANY)
    whole, panel = (panel_of(bars, actions, count) for count in (MANY, FITTED))
    folds = make_folds(panel.sessions, recipe.folds, live=True)
    own = [unit for unit in plan_units(whole, recipe, folds) if unit.symbol is not None]
    seconds_of = seconds_by_symbol(whole, recipe, own)
    print(f"  units of a symbol: {seconds_of}", flush=True)
    started = time.perf_counter()
    with local_ray(2), tempfile.TemporaryDirectory() as folder:
        cluster = time.perf_counter() - started
        fan_out = fan_out_costs(Path(folder))
        print(f"  {fan_out}", flush=True)
        trees = tree_costs(panel, recipe, folds, Path(folder))
        print(f"  trees: {trees}", flush=True)
        networks = network_costs(panel, recipe, folds, Path(folder))
        print(f"  networks: {networks}", flush=True)
        driver, forecast, driver_mb = driver_costs(bars, actions, Path(folder))
        print(f"  {driver}", flush=True)
    columns = (panel.features_RF, panel.log_price_R, panel.close_R, panel.session_R)
    return Costs(
        fan_out=fan_out,
        trees=trees,
        networks=networks,
        driver=replace(driver, fixed=driver.fixed + cluster),
        symbols=tuple(sorted(seconds_of.values())),
        units=len(own) // MANY,
        panel_mb=sum(column.nbytes for column in columns) / 1e6 / FITTED,
        forecast=forecast,
        driver_mb=driver_mb,
        network_mb_s=NETWORK_MB_S,
    )


def the_recipe(*, cheap: bool = False) -> Recipe:
    """That of the configuration, or one of the same shape whose fits cost next to nothing."""
    content = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    read = RecipeConfig.model_validate({name: content[name] for name in RecipeConfig.model_fields if name in content})
    if not cheap:
        return Recipe.read(read, CONFIG)
    models = {name: entry.model_copy(update={"set": CHEAP[name]}) for name, entry in read.models.items()}
    return Recipe.read(read.model_copy(update={"models": models}), CONFIG)


def the_bars(count: int) -> tuple[Bars, CorporateActions]:
    """Symbols that were there from START to END."""
    bars, actions = load()
    bars = bars.select(start=START, end=min(END, bars.last_session))
    rows = bars.sessions_per_symbol()
    names = [name for name in bars.symbols if rows[name] == max(rows.values())]
    chosen = [names[len(names) * k // count] for k in range(count)]
    return bars.select(chosen), actions.select(symbols=chosen)


def panel_of(bars: Bars, actions: CorporateActions, count: int) -> Panel:
    """The first ``count`` symbols."""
    names = bars.symbols[:count]
    return build_panel(bars.select(names), actions.select(symbols=names))


def seconds_by_symbol(panel: Panel, recipe: Recipe, units: Sequence[Unit]) -> dict[str, float]:
    """CPU-seconds of each symbol's own units; the first symbol's are done once before, for the imports."""
    for unit in units:
        if unit.symbol == panel.symbols[0]:
            run_unit(panel, recipe, unit)
    spent = dict.fromkeys(panel.symbols, 0.0)
    for unit in units:
        assert unit.symbol is not None
        spent[unit.symbol] += run_unit(panel, recipe, unit).cost.cpu_seconds
    return {symbol: round(seconds, 2) for symbol, seconds in spent.items()}


class _Ticks(tune.Trainable):
    """Reports so often, and does nothing."""

    def setup(self, config: dict[str, Any]) -> None:
        self._left = config["ticks"]

    def step(self) -> dict[str, Any]:
        self._left -= 1
        return {"done": not self._left}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save."""


def fan_out_costs(folder: Path) -> FanOutCosts:
    """From trials that have hardly anything to do. The driver's are its CPU-seconds, of all its threads."""
    few, many = _ticked(1, 1), _ticked(1, TICKS)
    result = (many - few) / (TICKS - 1)
    panel = build_panel(make_bars([f"S{i:03}" for i in range(TRIALS)], 320, seed=1), CorporateActions.of())
    recipe = Recipe(
        folds=FoldConfig(count=1, test_sessions=20, validation_sessions=20, min_train_sessions=200),
        models={},
        ensemble=EnsembleConfig(),
        seed=1,
    )
    units = plan_units(panel, recipe, make_folds(panel.sessions, recipe.folds))
    first = [unit for unit in units if unit.symbol == panel.symbols[0]]
    _trials("warm", first, panel, recipe, folder)
    one, all_of_them = (_trials(name, part, panel, recipe, folder) for name, part in (("one", first), ("all", units)))
    # Two workers share the trials: a worker's time for each is that of two.
    each = (2 * (all_of_them[0] - one[0]) - all_of_them[2]) / (TRIALS - 1)
    driver = (all_of_them[1] - one[1]) / (TRIALS - 1)
    return FanOutCosts(
        launch=max(0.0, (_ticked(ACTORS, 1) - few) / (ACTORS - 1) - driver),
        actor=one[0],
        result=result,
        trial=max(0.0, driver - result),
        switch=max(0.0, each - driver),
    )


def _trials(name: str, units: Sequence[Unit], panel: Panel, recipe: Recipe, folder: Path) -> tuple[float, float, float]:
    """Seconds, CPU-seconds of the driver, and seconds within the units of a fan-out with a symbol a shard."""
    started, cpu = time.perf_counter(), time.process_time()
    outcomes = tune_executor(folder / name, 1).run(panel, recipe, units, lambda outcome: None)
    return (
        time.perf_counter() - started,
        time.process_time() - cpu,
        sum(outcome.cost.seconds for outcome in outcomes),
    )


def _ticked(actors: int, ticks: int) -> float:
    """CPU-seconds of the driver while so many actors report so often each."""
    set_up_tune()
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(_Ticks, {"cpu": 1 / ACTORS}),
            param_space={"ticks": ticks, "actor": tune.grid_search(list(range(actors)))},
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        started = time.process_time()
        tuner.fit()
        return time.process_time() - started


def tree_costs(panel: Panel, recipe: Recipe, folds: Sequence[Fold], folder: Path) -> TrainCosts:
    """Of the pooled trees; the fold in the middle stands for all, as folds grow evenly."""
    unit = Unit(model="xgboost", fold=folds[len(folds) // 2], symbol=None)

    def run(workers: int) -> float:
        trainer = RayTreesTrainer(
            num_workers=workers, cpus_per_worker=1, storage=RunStorage.of(folder, f"trees-{workers}"), run_name="trees"
        )
        (outcome,) = trainer.outcomes(panel, recipe, [unit], lambda outcome: None)
        return outcome.cost.seconds

    start, alone, sync = _train(run)
    count = len(folds)
    return TrainCosts(pieces=count, start=start, symbol=count * alone / FITTED, sync=count * sync)


def network_costs(panel: Panel, recipe: Recipe, folds: Sequence[Fold], folder: Path) -> TrainCosts:
    """Of both networks; their steps, and so what their workers tell each other, are as many as there are samples."""
    fold = folds[len(folds) // 2]
    jobs = [TrainingJob(name=name, config=recipe.models[name], fold=fold, seed=1) for name in recipe.networks]

    def run(workers: int) -> float:
        costs: list[Cost] = []
        RayNetworkTrainer(
            num_workers=workers,
            cpus_per_worker=1,
            use_gpu=False,
            storage=RunStorage.of(folder, f"networks-{workers}"),
            run_name="networks",
            on_end=lambda job, mark: costs.append(mark.cost),
        ).train(panel, jobs, lambda job, failure: None)
        return sum(cost.seconds for cost in costs)

    start, alone, sync = _train(run)
    count = len(folds)
    return TrainCosts(
        pieces=count * len(jobs), start=start, symbol=count * alone / FITTED, symbol_sync=count * sync / FITTED
    )


def _train(run: Callable[[int], float]) -> tuple[float, float, float]:
    """Seconds beside the work, those of one worker's work, and those that a second one costs beside half of them.

    Args:
        run: by so many workers; gives the seconds within its pieces.
    """
    started = time.perf_counter()
    alone = run(1)
    start = time.perf_counter() - started - alone
    return start, alone, max(0.0, run(2) - alone / 2)


@dataclass(frozen=True)
class _Lent:
    """Stands for an executor and a trainer that have done everything already."""

    outcomes: dict[str, Outcome]
    networks: dict[NetworkName, TrainedNetwork]
    forecasts: list[NetworkForecasts]

    def run(self, panel: Panel, recipe: Recipe, units: Sequence[Unit], on_done: OnOutcome) -> list[Outcome]:
        """See ``Executor``."""
        return [self.outcomes[unit.key] for unit in units]

    def train(self, panel: Panel, jobs: Sequence[TrainingJob], on_done: OnTrained) -> list[Trained]:
        """See ``NetworkTrainer``."""
        return [self.networks[job.name] for job in jobs]

    def forecast(self, panel: Panel, fits: Sequence[Fit]) -> list[NetworkForecasts]:
        """See ``NetworkTrainer``."""
        return self.forecasts


def driver_costs(bars: Bars, actions: CorporateActions, folder: Path) -> tuple[DriverCosts, float, float]:
    """What the driver does alone, by symbol and once; CPU-seconds of a symbol's network forecasts; its megabytes."""
    with temporary_server() as url, Store.connect(url) as store:
        store.migrate()
        store.upsert_bars(bars, source="bench")
        store.upsert_actions(actions, source="bench")
        few, few_mb = _driver(store, bars.symbols[:FEW], folder)
        many, many_mb = _driver(store, bars.symbols, folder)
    of_symbol = {name: max(0.0, (many[name] - few[name]) / (MANY - FEW)) for name in many}
    once = sum(many.values()) - MANY * sum(of_symbol.values())
    forecast = of_symbol.pop("forecast")
    return DriverCosts(fixed=max(0.0, once), **of_symbol), forecast, (many_mb - few_mb) / (MANY - FEW)


def _driver(store: Store, symbols: Sequence[str], folder: Path) -> tuple[dict[str, float], float]:
    """Seconds of each part for these symbols, and the most memory that ensemble and scorecard took."""
    recipe, universe = the_recipe(cheap=True), Universe(symbols=tuple(symbols))
    storage = RunStorage.of(folder, f"driver-{len(symbols)}")
    with Meter() as history_meter:
        history, skipped = load_history(store, universe, recipe, lambda line: None)
        panel = history.panel()
        ray.put(panel)
    folds = make_folds(panel.sessions, recipe.folds, live=True)
    run = store.start_run("retrain", recipe.to_json(), now=datetime.now(UTC))
    ledger = UnitLedger(store, run, lambda line: None)
    with Meter() as plan_meter:
        units = plan_units(panel, recipe, folds)
        ledger.planned(units)
        by_id = dict(zip(unit_ids(recipe, units), units, strict=True))
        shards = make_shards(by_id, SYMBOLS_PER_TRIAL)
        held = [ray.put(shard) for shard in shards]
    del held
    outcomes = dict(zip(by_id, SerialExecutor().run(panel, recipe, units, lambda outcome: None), strict=True))
    for shard in shards:
        keep_outcomes(storage, {name: outcomes[name] for name in shard})
    with Meter() as collect_meter:
        kept = KeptOutcomes(storage, by_id)
        ledger.finished(list(kept.look().values()))
        ledger.flush()
        collected = kept.read()
    networks = {
        name: train_network(panel, TrainingJob(name=name, config=recipe.models[name], fold=folds[0], seed=1))
        for name in recipe.networks
    }
    jobs = [
        TrainingJob(name=name, config=recipe.models[name], fold=fold, seed=1)
        for name in recipe.networks
        for fold in folds
    ]
    with Meter() as forecast_meter:
        forecasts = InProcessTrainer().forecast(panel, [(job, networks[job.name]) for job in jobs])
    lent = _Lent({outcome.unit.key: outcome for outcome in collected.values()}, networks, forecasts)
    least = recipe.needed_sessions(universe)
    with Meter() as combine_meter:
        result = walk_forward(
            panel, folds, recipe, least_history=least, executor=lent, trainer=lent, progress=NoProgress()
        )
        look = Look(store, recipe, panel, folds, least_history=least, source="retrain")
        adjustment = adjustment_of(history.actions)
        scorecard = scorecard_of(result, recipe, panel, history.bars, adjustment, history.findings, skipped, look)
    with Meter() as publish_meter:
        publish(
            store, folder / "artifacts", run, history, panel, folds[-1], recipe, result, scorecard, skipped, True,
            lambda line: None,
        )  # fmt: skip
    return {
        "history": history_meter.cost.seconds,
        "plan": plan_meter.cost.seconds,
        "collect": collect_meter.cost.seconds,
        "forecast": forecast_meter.cost.cpu_seconds,
        "combine": combine_meter.cost.seconds,
        "publish": publish_meter.cost.seconds,
    }, combine_meter.cost.peak_mb
