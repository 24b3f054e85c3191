"""Units of a walk-forward: planned, run, and failing one at a time."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, replace
from multiprocessing import active_children

import numpy as np
import pytest
from support.markets import make_bars
from support.recipes import tiny_recipe

from swiftbolt.actions import CorporateActions
from swiftbolt.errors import DataError, EnvironmentFault
from swiftbolt.evaluation import units as units_module
from swiftbolt.evaluation.outcomes import pack_outcomes, read_index, unit_ids, unpack_outcomes
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.units import Outcome, ProcessExecutor, SerialExecutor, Unit, plan_units, run_unit
from swiftbolt.features.engine import build_panel
from swiftbolt.folds import Fold, make_folds
from swiftbolt.models.registry import build_model
from swiftbolt.panel import Panel

Work = tuple[Panel, Recipe, list[Fold]]


@pytest.fixture(scope="module")
def work() -> Work:
    recipe = tiny_recipe("arima", "xgboost")
    panel = build_panel(make_bars(["AA", "BB"], 760, seed=3), CorporateActions.of())
    return panel, recipe, make_folds(panel.sessions, recipe.folds, live=True)


def test_a_symbol_scoped_model_has_a_unit_per_symbol_and_fold_and_a_pooled_one_per_fold(work: Work) -> None:
    panel, recipe, folds = work
    units = plan_units(panel, recipe, folds)
    assert len(folds) == 3
    assert sum(unit.model == "arima" for unit in units) == 2 * 3
    assert sum(unit.model == "xgboost" for unit in units) == 3
    assert len({unit.key for unit in units}) == len(units)


def test_a_unit_keeps_the_fitted_files_of_the_live_fold_only(work: Work) -> None:
    panel, recipe, folds = work
    past = run_unit(panel, recipe, Unit(model="arima", fold=folds[0], symbol="AA"))
    live = run_unit(panel, recipe, Unit(model="arima", fold=folds[-1], symbol="AA"))
    assert past.failure is None
    assert live.failure is None
    assert not past.files
    assert live.files


def test_a_fault_in_one_unit_becomes_its_reason_and_stops_nothing(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    panel, recipe, folds = work
    honest = units_module.build_model

    def broken(name: str, config: object) -> object:
        if name == "arima":
            raise ZeroDivisionError("planted")
        return honest(name, config)  # type: ignore[arg-type]

    monkeypatch.setattr(units_module, "build_model", broken)
    wanted = [Unit(model=name, fold=folds[0], symbol="AA") for name in ("arima", "naive")]
    first, second = SerialExecutor().run(panel, recipe, wanted, lambda outcome: None)
    assert first.forecasts is None
    assert "ZeroDivisionError: planted" in (first.failure or "")
    assert second.failure is None
    assert second.forecasts is not None


def test_processes_and_this_process_give_the_same_bits(work: Work) -> None:
    panel, recipe, folds = work
    wanted = plan_units(panel, recipe, folds[:1])
    seen: list[str] = []
    here = SerialExecutor().run(panel, recipe, wanted, lambda outcome: None)
    there = ProcessExecutor(2).run(panel, recipe, wanted, lambda outcome: seen.append(outcome.unit.key))
    assert sorted(seen) == sorted(unit.key for unit in wanted)
    for a, b in zip(here, there, strict=True):
        assert a.unit == b.unit
        assert a.forecasts is not None
        assert b.forecasts is not None
        assert np.array_equal(a.forecasts.quantiles_NHQ, b.forecasts.quantiles_NHQ)


def test_an_interrupt_does_not_wait_for_what_is_queued(work: Work) -> None:
    panel, recipe, folds = work
    wanted = plan_units(panel, recipe, folds)
    seen: list[str] = []

    def interrupt(outcome: Outcome) -> None:
        seen.append(outcome.unit.key)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ProcessExecutor(1).run(panel, recipe, wanted * 200, interrupt)  # a minute of work
    assert len(seen) == 1


def test_a_killed_process_is_one_clear_sentence(work: Work) -> None:
    panel, recipe, folds = work

    def kill(outcome: Outcome) -> None:
        for child in active_children():
            os.kill(child.pid or 0, signal.SIGKILL)

    with pytest.raises(EnvironmentFault, match="for want of memory: run again with fewer"):
        ProcessExecutor(1).run(panel, recipe, plan_units(panel, recipe, folds) * 20, kill)


def test_a_symbol_apart_is_fitted_as_within_the_universe_and_with_the_seed_of_the_manifest() -> None:
    recipe = tiny_recipe("xgboost")
    config = recipe.models["xgboost"].model_copy(update={"scope": "symbol"})
    recipe = replace(recipe, models={"xgboost": config})
    panel = build_panel(make_bars(["AA", "BB"], 760, seed=3), CorporateActions.of())
    fold = make_folds(panel.sessions, recipe.folds, live=True)[-1]
    together = build_model("xgboost", config)
    together.fit(panel, fold, seed=recipe.seed_of("xgboost", fold.index))
    apart: dict[str, bytes] = {}
    for symbol in panel.symbols:
        apart |= run_unit(panel, recipe, Unit(model="xgboost", fold=fold, symbol=symbol)).files
    assert apart == together.dump()


def test_a_unit_tells_the_importance_that_its_artifact_holds_and_a_model_that_has_none_tells_none(work: Work) -> None:
    panel, recipe, folds = work
    trees = run_unit(panel, recipe, Unit(model="xgboost", fold=folds[-1], symbol=None))
    kept = json.loads(trees.files["importance.json"])
    assert {str(horizon): asdict(found) for horizon, found in trees.importance.items()} == kept
    assert any(found.shap for found in trees.importance.values())
    assert run_unit(panel, recipe, Unit(model="arima", fold=folds[0], symbol="AA")).importance == {}


def test_outcomes_survive_as_bytes_bit_for_bit(work: Work) -> None:
    panel, recipe, folds = work
    wanted = [Unit(model="arima", fold=folds[-1], symbol="AA"), Unit(model="xgboost", fold=folds[0], symbol=None)]
    failed = Outcome(unit=Unit(model="naive", fold=folds[0], symbol="AA"), forecasts=None, failure="why", attempts=3)
    outcomes = [*(run_unit(panel, recipe, unit) for unit in wanted), failed]
    ids = unit_ids(recipe, [outcome.unit for outcome in outcomes])
    packed, content = pack_outcomes(dict(zip(ids, outcomes, strict=True)))
    index = read_index(packed)
    again = list(
        unpack_outcomes(index, content, {name: o.unit for name, o in zip(ids, outcomes, strict=True)}).values()
    )
    assert again[0].files == outcomes[0].files != {}
    assert again[2] == failed
    assert again[1].importance == outcomes[1].importance != {}
    assert [one.cost for one in again] == [one.cost for one in outcomes]
    for a, b in zip(outcomes[:2], again[:2], strict=True):
        assert a.forecasts is not None
        assert b.forecasts is not None
        assert a.forecasts.to_frame().equals(b.forecasts.to_frame())


def test_a_unit_that_was_never_run_is_named_and_damaged_bytes_are_refused(work: Work) -> None:
    _, recipe, folds = work
    unit = Unit(model="naive", fold=folds[0], symbol="AA")
    (name,) = unit_ids(recipe, [unit])
    packed, content = pack_outcomes({})
    with pytest.raises(DataError, match="naive/AA/0"):
        unpack_outcomes(read_index(packed), content, {name: unit})
    with pytest.raises(DataError, match="--fresh"):
        unpack_outcomes(read_index(packed), content[:-9], {name: unit})
    with pytest.raises(DataError, match="--fresh"):
        read_index(packed[:-1])


def test_the_id_of_a_unit_says_what_its_outcome_depends_on(work: Work) -> None:
    _, recipe, folds = work
    units = [Unit(model=name, fold=fold, symbol=None) for name in ("naive", "xgboost") for fold in folds]
    ids = unit_ids(recipe, units)
    assert len(set(ids)) == len(units)
    fewer = recipe.models["xgboost"].model_copy(update={"rounds": 1})
    changed = unit_ids(replace(recipe, models={**recipe.models, "xgboost": fewer}), units)
    assert [a == b for a, b in zip(ids, changed, strict=True)] == [unit.model == "naive" for unit in units]
    assert not set(ids[len(folds) :]) & set(unit_ids(replace(recipe, seed=9), units))


def test_what_a_unit_took_is_measured(work: Work) -> None:
    panel, recipe, folds = work
    cost = run_unit(panel, recipe, Unit(model="xgboost", fold=folds[0], symbol=None)).cost
    assert cost.cpu_seconds > 0
    assert cost.seconds > 0
    assert 20 < cost.peak_mb < 10_000
