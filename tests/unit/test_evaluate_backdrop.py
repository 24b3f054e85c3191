"""``swiftbolt evaluate`` of a universe that names files for its market and its VIX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from support.markets import make_bars
from support.recipes import TINY_MODELS, write_recipe
from support.vix import make_vix

from swiftbolt.actions import CorporateActions
from swiftbolt.errors import ConfigError, SchemaError
from swiftbolt.evaluation.evaluate import Plan, evaluate
from swiftbolt.evaluation.replay import NoProgress
from swiftbolt.evaluation.units import SerialExecutor
from swiftbolt.evaluation.walk_forward import walk_forward
from swiftbolt.features import build_panel
from swiftbolt.folds import make_folds
from swiftbolt.models.network_trainers import InProcessTrainer
from swiftbolt.providers.files import read_market_data
from swiftbolt.quality import inspect

SESSIONS = 500
BARS = make_bars(["AA", "BB"], SESSIONS, seed=3)
VIX, INDEX = make_vix(SESSIONS, seed=1), make_vix(SESSIONS, seed=2)
Config = Callable[..., Path]
# Trees so deep that they look at every feature.
DEEP = {**TINY_MODELS["xgboost"], "max_depth": 6, "min_child_weight": 1, "rounds": 15, "early_stopping_rounds": 15}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Writes the files of an evaluation whose universe lies in a folder of its own."""

    def write(**universe: str) -> Path:
        (tmp_path / "universes").mkdir(exist_ok=True)
        for name, series in (("vix", VIX), ("index", INDEX)):
            frame = pl.DataFrame({"date": series.session_N, "value": series.value_N})
            frame.write_csv(tmp_path / "universes" / f"{name}.csv")
        path = write_recipe(
            tmp_path, universe=universe, xgboost=DEEP, test_sessions=20, universe_file="universes/two.yaml"
        )
        BARS.frame.write_parquet(tmp_path / "bars.parquet")
        return path

    return write


def forecasts_of(config: Path) -> pl.DataFrame:
    plan, out = Plan.read(config), config.parent / "out"
    evaluate(plan, read_market_data(config.parent / "bars.parquet"), out, start=None, progress=NoProgress())
    return pl.read_parquet(out / "forecasts.parquet")


def test_the_files_lie_beside_the_universe_and_models_learn_from_them(config: Config) -> None:
    path = config(market="index.csv", vix="vix.csv")
    recipe = Plan.read(path).recipe
    actions = CorporateActions.of()
    panel = build_panel(BARS, actions, inspect(BARS, actions), market=INDEX, vix=VIX)
    result = walk_forward(
        panel,
        make_folds(panel.sessions, recipe.folds, burn_in=True),
        recipe,
        least_history=300,
        executor=SerialExecutor(),
        trainer=InProcessTrainer(),
        progress=NoProgress(),
    )
    assert forecasts_of(path).equals(result.forecasts, null_equal=True)


def test_another_vix_or_none_gives_other_forecasts(config: Config) -> None:
    without, beside = forecasts_of(config()), forecasts_of(config(vix="vix.csv"))
    assert not beside.equals(without, null_equal=True)
    assert not beside.equals(forecasts_of(config(vix="index.csv")), null_equal=True)


def test_a_file_that_is_not_there_is_named_before_any_data_is_read(config: Config) -> None:
    with pytest.raises(SchemaError, match=r"universes/none\.parquet: no such file; check the path"):
        Plan.read(config(vix="none.parquet"))


def test_a_vix_among_the_symbols_is_refused_with_the_file_of_the_universe(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"two\.yaml: vix BB is no share to be forecast"):
        Plan.read(config(vix="BB"))
