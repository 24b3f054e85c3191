"""``swiftbolt evaluate``: three files, the same bytes twice, and nothing half written."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest
import yaml
from support.markets import make_bars
from support.recipes import TINY_MODELS

from swiftbolt import cli
from swiftbolt.errors import ConfigError
from swiftbolt.evaluation.evaluate import Plan

Run = Callable[..., int]


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    path = tmp_path / "bars.parquet"
    frames = [make_bars(["AA", "BB"], 700, seed=3).frame, make_bars(["FB"], 196, seed=3).frame]
    pl.concat(frames).rename({"session": "date"}).write_parquet(path)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    files = {
        "universe.yaml": {"symbols": ["AA", "BB", "FB"], "min_sessions": 400},
        "ensemble.yaml": {},
        "xgboost.yaml": TINY_MODELS["xgboost"],
        "transformer.yaml": TINY_MODELS["transformer"],
        "evaluate.yaml": {
            "universe": "universe.yaml",
            "folds": {"count": 1, "test_sessions": 30, "validation_sessions": 40, "min_train_sessions": 260},
            "models": {
                "xgboost": {"config": "xgboost.yaml", "set": {"rounds": 3}},
                "transformer": {"config": "transformer.yaml"},
            },
            "ensemble": "ensemble.yaml",
            "seed": 5,
            "workers": 1,
        },
    }
    for name, content in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(content))
    return tmp_path / "evaluate.yaml"


def run(bars: Path, config: Path, out: Path, *more: str) -> int:
    paths = ["--bars", str(bars), "--config", str(config), "--out", str(out)]
    return cli.run(["evaluate", *paths, "--no-ledger", *more])


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(
    bars: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / ("x" * 255)  # what is written beside it first has a longer name than a file system takes
    assert run(bars, config, out, "--set", 'models={"xgboost":{"config":"xgboost.yaml","set":{"rounds":1}}}') == 4
    assert f"{out.name} cannot be written (" in capsys.readouterr().err
    assert not out.exists()


def test_it_writes_the_same_bytes_twice_and_replaces_what_it_wrote_before(
    bars: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(bars, config, out) == 0
    printed = capsys.readouterr()
    assert "skipped: FB: needs 400 sessions, has 196" in printed.err
    assert "ensemble" in printed.out
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(first) == {"forecasts.parquet", "scorecard.json", "report.html"}
    assert run(bars, config, out) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    frame = pl.read_parquet(out / "forecasts.parquet")
    assert set(frame["model"]) == {"naive", "xgboost", "transformer", "ensemble"}
    assert frame.schema["origin"] == pl.Date
    assert not frame["q_0.5"].is_nan().any()


def test_the_scorecard_is_told_of_the_market_the_folds_and_the_rule(bars: Path, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(bars, config, out) == 0
    card = json.loads((out / "scorecard.json").read_text())
    origins = pl.read_parquet(out / "forecasts.parquet")["origin"]
    assert card["folds"] == [{"fold": 0, "first": str(origins.min()), "last": str(origins.max())}]
    assert card["rule"] == {"threshold": 0.55, "cost_per_side": 0.0005}
    naive, drift = (card["models"][name]["1"] for name in ("naive", "naive_drift"))
    assert len(naive["coverage_90_terciles"]) == 3
    assert naive["reasons"]["trading"] == "the rule never traded: no confidence reached 55%"
    assert naive["reasons"]["after_breaks"] == "0 sessions with an outcome follow a break, needs at least 20"
    assert drift["tests"]["rank_ic"]["p_value"] is not None
    assert {claim["model"] for claim in card["claims_tested"]} == {"xgboost", "transformer", "ensemble"}
    assert card["importance"]["xgboost"].keys() == {"1", "5", "20"}
    assert any(card["importance"]["xgboost"].values())
    page = (out / "report.html").read_text()
    for title in ("Weights", "Coverage over time", "Importance", "Tests"):
        assert f"<h2>{title}</h2>" in page


def test_without_a_ledger_the_results_are_whole_and_say_that_this_look_was_not_counted(
    bars: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(bars, config, tmp_path / "out") == 0
    assert "how many were tried is not known: --no-ledger was asked for" in capsys.readouterr().out
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:secret@127.0.0.1:1/none")
    arguments = ["evaluate", "--bars", str(bars), "--config", str(config), "--out", str(tmp_path / "other")]
    assert cli.run(arguments) == 0
    printed = capsys.readouterr()
    (said,) = [line for line in printed.err.splitlines() if "look" in line]
    assert said.startswith("this look will not be recorded: cannot reach the database at 127.0.0.1:1 (")
    assert "secret" not in printed.err
    assert "how many were tried is not known: no ledger of trials could be reached" in printed.out
    one, other = (json.loads((tmp_path / name / "scorecard.json").read_text()) for name in ("out", "other"))
    assert other["models"] == one["models"]
    entry = other["trials"]["deflated_sharpe"]["ensemble"]["1"]
    assert (entry["probability"], entry["reason"]) == (None, "no ledger of trials could be reached")


def test_start_is_the_first_origin_and_a_start_too_early_or_late_says_what_is_needed(
    bars: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(bars, config, out, "--start", "2013-01-22") == 0
    assert pl.read_parquet(out / "forecasts.parquet")["origin"].min() == date(2013, 1, 22)
    assert run(bars, config, out, "--start", "2010-06-01") == 2
    assert "needs 340 sessions before it" in capsys.readouterr().err
    assert run(bars, config, out, "--start", "2019-01-02") == 2
    assert "lies after the last session" in capsys.readouterr().err
    # A refused run leaves the earlier result as it was.
    assert pl.read_parquet(out / "forecasts.parquet")["origin"].min() == date(2013, 1, 22)


def test_a_folder_that_is_not_an_evaluation_is_not_touched(
    bars: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    assert run(bars, config, precious) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert (precious / "thesis.txt").read_text() == "years of work"


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    bars: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run(bars, config, tmp_path / "file" / "out") == 4
    assert "choose another --out" in capsys.readouterr().err


def test_a_market_that_is_too_young_is_refused_and_so_are_symbols_that_all_are(
    bars: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    universe = config.parent / "universe.yaml"
    universe.write_text(yaml.safe_dump({"symbols": ["AA", "FB"], "min_sessions": 400, "market": "FB"}))
    assert run(bars, config, tmp_path / "out") == 2
    assert "market FB has too little history; choose another" in capsys.readouterr().err
    universe.write_text(yaml.safe_dump({"symbols": ["AA", "FB"], "min_sessions": 701}))
    assert run(bars, config, tmp_path / "out") == 2
    said = "no symbol can be evaluated: AA: needs 701 sessions, has 700; FB: needs 701 sessions, has 196"
    assert said in capsys.readouterr().err


def test_an_ensemble_without_a_weight_for_a_model_is_refused_before_the_work(config: Path) -> None:
    (config.parent / "ensemble.yaml").write_text("prior: {xgboost: 1.0}")
    with pytest.raises(ConfigError, match=r"ensemble\.yaml: prior: has no weight for transformer"):
        Plan.read(config)


def test_a_misspelt_key_of_a_named_file_is_named_with_it(config: Path) -> None:
    (config.parent / "xgboost.yaml").write_text("max_deph: 3")
    with pytest.raises(ConfigError, match=r"xgboost\.yaml.*max_deph.*did you mean 'max_depth'"):
        Plan.read(config)


def test_a_model_nobody_knows_is_named(config: Path) -> None:
    data = yaml.safe_load(config.read_text())
    data["models"]["prophet"] = {"config": "prophet.yaml"}
    config.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match="no model prophet"):
        Plan.read(config)


def test_the_projects_own_recipes_can_all_be_read() -> None:
    configs = Path(__file__).parents[2] / "configs"
    for name in ("smoke", "default"):
        plan = Plan.read(configs / "evaluate" / f"{name}.yaml")
        assert len(plan.recipe.models) == 4
