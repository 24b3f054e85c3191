"""The certificate and the evaluation of a universe beside an index and a VIX: clean as they are, leaks found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from support.certificates import SEED, SESSIONS, market_data, plan_of
from support.recipes import TINY_MODELS, write_recipe
from support.vix import as_bars, make_vix, without

from swiftbolt import cli
from swiftbolt.bars import Bars
from swiftbolt.evaluation.backdrop import Backdrop
from swiftbolt.evaluation.leakage import Certificate, certify
from swiftbolt.evaluation.replay import NoProgress
from swiftbolt.features import DailySeries, views
from swiftbolt.features.context import Context
from swiftbolt.features.rolling import Float64
from swiftbolt.sessions import Sessions

Monkey = pytest.MonkeyPatch
DATA = market_data()
DAYS = DATA.bars.frame["session"].unique().sort()
INDEX = make_vix(SESSIONS, seed=2, name="index")
# It lacks the last session of training, where a cut is.
VIX = without(make_vix(SESSIONS, seed=1), DAYS[-30 - 20 - 40 - 20 - 1])
# Trees so deep that they look at every feature.
DEEP = {**TINY_MODELS["xgboost"], "max_depth": 6, "min_child_weight": 1, "rounds": 15, "early_stopping_rounds": 15}


def certificate(vix: DailySeries = VIX) -> Certificate:
    plan = replace(plan_of("xgboost"), backdrop=Backdrop(market=INDEX, vix=vix))
    return certify(plan, DATA, rng=np.random.default_rng(SEED), progress=NoProgress(), inside_test=1)


def the_vix_of_the_next_session(monkeypatch: Monkey) -> None:
    honest = views.BarsAsKnown.context

    def leaky(known: views.BarsAsKnown, market: DailySeries, vix: DailySeries) -> Context:
        context = honest(known, market, vix)
        ahead_S = np.append(context.vix_S[1:], context.vix_S[-1])
        return Context(context.sessions, context.market_return_S, ahead_S)

    monkeypatch.setattr(views.BarsAsKnown, "context", leaky)


def a_gap_is_filled_from_behind(monkeypatch: Monkey) -> None:
    def leaky(series: DailySeries, sessions: Sessions) -> Float64:
        next_S = np.searchsorted(series.session_N, sessions).clip(max=len(series.session_N) - 1)
        return series.value_N[next_S]

    monkeypatch.setattr(DailySeries, "known_at", leaky)


def the_index_of_the_next_session(monkeypatch: Monkey) -> None:
    monkeypatch.setattr(views, "_returns", lambda level_S: np.diff(np.log(level_S), append=level_S[-1]))


def the_vix_is_scaled_by_its_mean_of_all_time(monkeypatch: Monkey) -> None:
    honest = DailySeries.known_at
    monkeypatch.setattr(
        DailySeries, "known_at", lambda series, sessions: honest(series, sessions) / series.value_N.mean()
    )


def test_the_pipeline_beside_an_index_and_a_vix_has_no_leak() -> None:
    found = certificate()
    assert found.leaks == ()
    assert found.compared["features"] > 0


@pytest.mark.parametrize(
    ("plant", "column"),
    [
        (the_vix_of_the_next_session, "vix_level"),
        (a_gap_is_filled_from_behind, "vix_level"),
        (the_index_of_the_next_session, "market_return_1d"),
        (the_vix_is_scaled_by_its_mean_of_all_time, "vix_level"),
    ],
)
def test_a_leak_through_the_series_is_found_in_the_features_that_it_reaches(
    monkeypatch: Monkey, plant: Callable[[Monkey], None], column: str
) -> None:
    plant(monkeypatch)
    first = certificate().first
    assert first is not None, "the leak was not found"
    assert (first.stage, first.column) == ("features", column), str(first)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """An evaluation of bars that hold the VIX as a symbol."""
    path = write_recipe(tmp_path, universe={"vix": "VIX"}, xgboost=DEEP)
    bars = Bars(frame=pl.concat([DATA.bars.select(["AA", "BB"]).frame, as_bars(VIX).frame]))
    bars.frame.write_parquet(tmp_path / "bars.parquet")
    return path


def test_a_vix_among_the_bars_is_learnt_from_and_neither_forecast_nor_found_fault_with(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = config.parent / "out"
    arguments = ["--bars", str(config.parent / "bars.parquet"), "--config", str(config)]

    def evaluated() -> tuple[dict[str, Any], pl.DataFrame]:
        assert cli.run(["evaluate", *arguments, "--out", str(out), "--no-ledger"]) == 0
        return json.loads((out / "scorecard.json").read_text()), pl.read_parquet(out / "forecasts.parquet")

    card, beside = evaluated()
    assert card["symbols"] == 2
    assert "VIX" not in capsys.readouterr().err
    assert set(beside["symbol"]) == {"AA", "BB"}
    assert cli.run(["certify", *arguments, "--inside-test", "0"]) == 0
    (config.parent / "universe.yaml").write_text(yaml.safe_dump({"symbols": ["AA", "BB"], "min_sessions": 300}))
    _, alone = evaluated()
    assert not beside.equals(alone, null_equal=True)
