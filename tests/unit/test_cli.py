"""The command line without a database: what it says, how it exits, what it starts."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from datetime import date
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from support.by_hand import flat_frame
from support.releases import tiny_bars, write_tiny_release

from swiftbolt import __version__, cli
from swiftbolt.actions import CorporateActions
from swiftbolt.errors import (
    ConfigError,
    EnvironmentFault,
    InsufficientHistory,
    ModelError,
    NotFound,
    QuarantinedRows,
    RateLimited,
    SchemaError,
    StoreError,
    StoreUnavailable,
)
from swiftbolt.features.engine import build_panel, describe
from swiftbolt.forecast import Forecasts, normal_quantiles
from swiftbolt.providers.sample import SAMPLE_PATH
from swiftbolt.release import read_explanations, read_forecasts
from swiftbolt.verbs import ingest as ingest_verb
from swiftbolt.verbs import releases, runs
from swiftbolt.verbs.releases import forecast_rows

ORIGIN = date(2013, 3, 1)


@pytest.fixture
def no_store(monkeypatch):
    """Fails the test when a verb opens the store."""

    def refuse():
        raise AssertionError("the store was opened")

    monkeypatch.setattr(ingest_verb, "open_store", refuse)


def open_raises(monkeypatch, error):
    @contextmanager
    def raising():
        raise error
        yield

    monkeypatch.setattr(releases, "open_store", raising)


def opens(monkeypatch, store):
    @contextmanager
    def opening():
        yield store

    for verbs in (releases, runs):
        monkeypatch.setattr(verbs, "open_store", opening)


def forecasts_of(model, mean, sd):
    mean_H, sd_H = np.array(mean), np.array(sd)
    return Forecasts(
        model=model,
        horizons=(1, 5, 20),
        symbol_N=np.array(["AAPL"]),
        origin_N=np.array([ORIGIN], dtype="datetime64[D]"),
        quantiles_NHQ=normal_quantiles(mean_H, sd_H)[None],
    ).to_frame()


KNOWN = pl.concat(
    [
        forecasts_of("arima", [-0.001, -0.005, -0.02], [0.01, 0.02, 0.04]),
        forecasts_of("ensemble", [0.001, 0.005, 0.02], [0.01, 0.02, 0.04]),
    ]
)


# Usage


def test_help_names_every_verb(capsys):
    assert cli.run(["--help"]) == 0
    shown = capsys.readouterr().out
    for verb in (*(verb.__name__ for verb in (*cli.VERBS, *cli.PASSING_ON)), *cli.GROUPS):
        assert f" {verb} " in shown


def test_without_a_verb_help_is_shown(capsys):
    assert cli.run([]) == 0
    assert "Usage" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys):
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"swiftbolt {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ingst"], "No such command 'ingst'"),
        (["ingest"], "Missing option '--provider'"),
        (["ingest", "--provider", "bloomberg"], "'bloomberg' is not one of"),
        (["ingest", "--provider", "sample", "--start", "2013-13-01"], "'2013-13-01' does not match"),
        (["ingest", "--provider", "sample", "--path", "x.parquet"], "--path: goes with --provider files only"),
        (["ingest", "--provider", "files"], "--path: name the parquet or CSV file"),
        (["ingest", "--provider", "files", "--path", "none.parquet"], "none.parquet: no such file"),
        (["ingest", "--provider", "sample", "--universe", "none.yaml"], "none.yaml: no such file"),
        (["ingest", "--provider", "sample", "--base-url", "http://x"], "--base-url: goes with a vendor only"),
        (["ingest", "--provider", "polygon"], "--universe: name a file with the symbols to ask for"),
        (["ingest", "--provider", "files", "--path", "x.csv", "--column", "close"], "'close' is not OURS=THEIRS"),
        (["ingest", "--provider", "sample", "--start", "2999-01-01"], "2999-01-01 is not over yet"),
        (["ingest", "--provider", "sample", "--start", "2013-01-02", "--end", "2012-01-02"], "is after --end"),
        (["findings", "--kind", "ugly"], "no kind 'ugly'; there are null, "),
        (["promote", "two"], "should be a valid integer"),
        (["features"], "needs --bars FILE and --out FILE, or --describe"),
        (["features", "--bars", str(SAMPLE_PATH), "--out", "/no/such/folder/f.parquet"], "no folder /no/such/folder"),
        (["retrain", "--config", "none.yaml"], "none.yaml: no such file"),
        (["retrain", "--config", "none.yaml", "--promote", "perhaps"], "'perhaps' is not one of 'never', 'gate'"),
        (["runs", "--json", "show", "x"], "--json: belongs behind show"),
        (["runs", "show"], "Missing argument 'run'"),
    ],
)
def test_a_wrong_command_line_is_one_line_on_stderr_and_exit_code_2(no_store, capsys, arguments, complaint):
    assert cli.run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert complaint in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("f.yaml", "key", "is wrong"), 2),
        (SchemaError("no column"), 2),
        (QuarantinedRows("three rows"), 2),
        (InsufficientHistory("FB", 750, 196), 2),
        (StoreUnavailable("cannot reach\nthe database"), 3),
        (EnvironmentFault("port taken"), 4),
        (StoreError("refused"), 1),
        (NotFound("no release"), 1),
        (ModelError("did not fit"), 1),
        (RateLimited("polygon", 12.0), 1),
    ],
)
def test_each_kind_of_error_is_one_line_and_has_its_exit_code(monkeypatch, capsys, error, code):
    open_raises(monkeypatch, error)
    assert cli.run(["releases"]) == code
    assert capsys.readouterr().err == f"error: {' '.join(str(error).split())}\n"


def test_an_interruption_exits_as_a_shell_reports_it(monkeypatch):
    open_raises(monkeypatch, KeyboardInterrupt())
    assert cli.run(["releases"]) == 130


def test_a_bug_is_not_dressed_up_as_an_error_of_the_user(monkeypatch):
    open_raises(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.run(["releases"])


# Ingest and features


def test_strict_refuses_faulty_rows_before_the_store_is_opened(no_store, tmp_path, capsys):
    faulty = flat_frame("AAA", [10, 10, -1])
    faulty.write_parquet(tmp_path / "bars.parquet")
    assert cli.run(["ingest", "--provider", "files", "--path", str(tmp_path / "bars.parquet"), "--strict"]) == 2
    shown = capsys.readouterr().err
    assert "set aside 1 row with a price that is zero, negative" in shown
    assert "nothing was written" in shown


def test_features_writes_one_row_per_bar(tmp_path, capsys):
    out = tmp_path / "features.parquet"
    assert cli.run(["features", "--bars", str(SAMPLE_PATH), "--out", str(out), "--json"]) == 0
    reply = json.loads(capsys.readouterr().out)
    written = pl.read_parquet(out)
    assert written.columns == ["symbol", "session", *reply["features"]]
    assert len(written) == reply["rows"] == 22_216
    assert [path.name for path in tmp_path.iterdir()] == ["features.parquet"]


def test_features_that_cannot_be_written_leave_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, capsys):
    out = tmp_path / "features.parquet"
    out.write_text("the old one")

    def full(frame, path, **options):
        path.write_text("half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    assert cli.run(["features", "--bars", str(SAMPLE_PATH), "--out", str(out)]) == 4
    assert "No space left on device" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("features.parquet", "the old one")]


def test_features_describes_each_feature(capsys):
    assert cli.run(["features", "--describe", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert {"name", "look_back", "formula"} <= set(described[0])


# Releases and forecasts


def test_lists_are_json_alone_on_stdout_even_when_empty(monkeypatch, capsys):
    opens(monkeypatch, SimpleNamespace(releases=list, runs=list))
    for verb in ("releases", "runs"):
        assert cli.run([verb, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == []
        assert cli.run([verb]) == 0
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "swiftbolt retrain" in shown.err


def test_forecast_rows_are_the_quantiles_in_dollars_the_ensemble_first():
    rows = forecast_rows(KNOWN, 200.0, None)
    assert [(row["model"], row["horizon"]) for row in rows] == [
        ("ensemble", 1), ("ensemble", 5), ("ensemble", 20), ("arima", 1), ("arima", 5), ("arima", 20),
    ]  # fmt: skip
    twenty = rows[2]
    assert twenty["price_target"] == pytest.approx(200 * math.exp(0.02))
    assert twenty["lower_ci"] == pytest.approx(200 * math.exp(0.02 - 1.959964 * 0.04))
    assert twenty["upper_ci"] == pytest.approx(200 * math.exp(0.02 + 1.959964 * 0.04))
    # Half a standard deviation above zero: Phi(0.5) = 0.6915.
    assert (twenty["direction"], twenty["confidence"]) == ("up", pytest.approx(0.6915, abs=1e-4))
    assert (rows[5]["direction"], rows[5]["confidence"]) == ("down", pytest.approx(0.6915, abs=1e-4))


def test_a_horizon_between_two_fitted_ones_has_a_variance_between_theirs():
    ten = forecast_rows(KNOWN, 200.0, 10)[0]
    assert ten["horizon"] == 10
    assert ten["mean"] == pytest.approx(0.01)
    assert ten["sd"] == pytest.approx(math.sqrt(0.02**2 + (0.04**2 - 0.02**2) / 3))


@pytest.mark.parametrize("horizon", [0, 21])
def test_a_horizon_out_of_reach_is_refused(horizon):
    with pytest.raises(ConfigError, match="--horizon: must lie between 1 and 20"):
        forecast_rows(KNOWN, 200.0, horizon)


def test_forecast_without_a_promoted_release_says_how_to_promote_one(monkeypatch, capsys):
    opens(monkeypatch, SimpleNamespace(active_release=lambda: None))
    assert cli.run(["forecast", "AAPL"]) == 1
    assert capsys.readouterr().err == "error: nothing is promoted yet; do it with: swiftbolt promote\n"


@pytest.fixture
def explained(monkeypatch, tmp_path):
    """An active release of three symbols whose trees say why, and its directory."""
    monkeypatch.setenv("SWIFTBOLT_HOME", str(tmp_path))
    bars = tiny_bars()
    release = write_tiny_release(tmp_path / "artifacts", "run", build_panel(bars, CorporateActions.of()), ["xgboost"])
    directory = tmp_path / "artifacts" / "run"
    known = read_forecasts(directory)
    row = SimpleNamespace(version=3, run="run", release_digest=release.release_digest)
    store = SimpleNamespace(
        active_release=lambda: row,
        forecasts=lambda version, symbol: known.filter(symbol=symbol),
        bars=lambda symbols, end: bars.select(symbols, end=end),
    )
    opens(monkeypatch, store)
    return directory


def test_forecast_says_why_with_sign_and_size(explained, capsys):
    said = [one for one in read_explanations(explained)["xgboost"] if one.symbol == "IBM"]
    assert cli.run(["forecast", "ibm", "--json"]) == 0
    why = json.loads(capsys.readouterr().out)["why"]
    assert [(row["horizon"], row["feature"], row["value"], row["contribution"]) for row in why] == [
        (one.horizon, part.feature, part.value, part.log_return) for one in said for part in one.largest
    ]
    formulas = {feature["name"]: feature["formula"] for feature in describe()}
    assert all((row["model"], row["description"]) == ("xgboost", formulas[row["feature"]]) for row in why)
    assert cli.run(["forecast", "ibm", "--horizon", "4"]) == 0
    shown = capsys.readouterr().out
    of_five = next(one for one in said if one.horizon == 5)
    assert of_five.largest
    for part in of_five.largest:
        assert part.feature in shown
        assert f"{part.log_return:+.3%}" in shown


def test_forecast_gives_no_reasons_that_are_not_those_released(explained, capsys):
    path = explained / "explanations.json"
    path.write_text(path.read_text().replace('"horizon": 5', '"horizon": 6', 1))
    assert cli.run(["forecast", "ibm", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["why"] == []
    assert len(json.loads(shown.out)["forecasts"]) == 6
    assert shown.err.startswith("no reasons can be given: ")
    assert "its content has digest" in shown.err


def test_forecast_gives_no_reasons_of_a_whole_release_that_is_not_the_active_one(explained, capsys):
    panel = build_panel(tiny_bars(), CorporateActions.of())
    shutil.rmtree(explained)
    write_tiny_release(explained.parent, "run", panel, ["xgboost"], seed=6)
    assert cli.run(["forecast", "ibm", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["why"] == []
    assert shown.err == f"no reasons can be given: {explained}: is not release 3\n"


# Programs that are started


def test_retrain_goes_on_as_the_cluster_program_with_its_overrides(monkeypatch, tmp_path):
    config = tmp_path / "retrain.yaml"
    config.write_text("")
    became = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: became.append(arguments))
    cli.run(["retrain", "--config", str(config), "--set", "seed=7", "--set", "folds.count=2"])
    command = [sys.executable, "-m", "cluster.retrain", "--config", str(config), "--set", "seed=7"]
    assert became == [[*command, "--set", "folds.count=2"]]
    cli.run(["retrain", "--config", str(config), "--set", "seed=7", "--fresh", "--promote", "never"])
    assert became[1] == [*command, "--fresh", "--promote", "never"]


def test_serve_passes_on_what_it_does_not_know(monkeypatch):
    became = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: became.append(arguments))
    cli.run(["serve", "--config", "configs/serve/local.yaml", "--port", "8001"])
    assert became == [[sys.executable, "-m", "serve", "--config", "configs/serve/local.yaml", "--port", "8001"]]


def run_program(*arguments, **environment):
    command = [sys.executable, "-m", "swiftbolt.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_the_program_exits_with_2_for_a_file_that_is_not_there(tmp_path):
    done = run_program("ingest", "--provider", "files", "--path", str(tmp_path / "none.parquet"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path / 'none.parquet'}: no such file; check the path\n"


def test_the_program_exits_with_3_for_a_database_that_is_not_there():
    done = run_program("releases", DATABASE_URL="postgresql://me:hunter2@127.0.0.1:1/nothing")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: cannot reach the database at 127.0.0.1:1")
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr


def test_importing_the_command_line_imports_nothing_heavy():
    heavy = ["torch", "xgboost", "talib", "ray", "statsmodels", "arch", "pandas", "polars", "psycopg", "scipy", "numpy"]
    program = f"import sys, swiftbolt.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_features_never_overwrite_the_bars_they_are_made_from(tmp_path, capsys):
    path = tmp_path / "bars.parquet"
    flat_frame("AAA", [100.0, 101.0]).write_parquet(path)
    before = path.read_bytes()
    assert cli.run(["features", "--bars", str(path), "--out", str(tmp_path / "." / "bars.parquet")]) == 2
    assert "itself; choose another" in capsys.readouterr().err
    assert path.read_bytes() == before
